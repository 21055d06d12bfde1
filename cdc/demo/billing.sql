CREATE TABLE IF NOT EXISTS accounts (
    id bigint unsigned NOT NULL PRIMARY KEY,
    customer_no varchar(20) NOT NULL,
    currency char(3) NOT NULL DEFAULT 'EUR',
    balance decimal(14,2) NOT NULL DEFAULT 0,
    status enum('active','suspended','closed') NOT NULL DEFAULT 'active',
    opened date,
    KEY (customer_no)
) COMMENT 'who pays; customer_no is the CRM''s';

CREATE TABLE IF NOT EXISTS invoices (
    id bigint unsigned NOT NULL PRIMARY KEY,
    account_id bigint unsigned NOT NULL,
    number varchar(30) NOT NULL UNIQUE,
    issued date,
    due date,
    total decimal(14,2) NOT NULL DEFAULT 0,
    state enum('draft','open','paid','void') NOT NULL DEFAULT 'draft',
    updated datetime(6) NOT NULL,
    KEY (account_id)
);

CREATE TABLE IF NOT EXISTS invoice_lines (
    invoice_id bigint unsigned NOT NULL,
    line_no int NOT NULL,
    description varchar(400),
    quantity decimal(10,3) NOT NULL,
    unit_price decimal(12,4) NOT NULL,
    amount decimal(14,2) NOT NULL,
    PRIMARY KEY (invoice_id, line_no)
);

CREATE TABLE IF NOT EXISTS payments (
    id bigint unsigned NOT NULL PRIMARY KEY,
    account_id bigint unsigned NOT NULL,
    invoice_id bigint unsigned NULL,
    amount decimal(14,2) NOT NULL,
    method enum('card','transfer','cash') NOT NULL,
    reference varchar(60),
    received timestamp(3) NULL DEFAULT NULL,
    raw json,
    KEY (account_id)
) COMMENT 'what came in; raw is the bank''s own message';

CREATE TABLE IF NOT EXISTS debezium_signal (
    id varchar(42) NOT NULL PRIMARY KEY,
    type varchar(32) NOT NULL,
    data varchar(2048)
);
