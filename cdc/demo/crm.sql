CREATE TABLE customers (
    id bigint PRIMARY KEY,
    customer_no text NOT NULL UNIQUE,
    full_name text NOT NULL,
    email text,
    phone text,
    segment text NOT NULL DEFAULT 'consumer',
    birth_date date,
    preferences jsonb NOT NULL DEFAULT '{}',
    notes text,
    credit_limit numeric(12,2) DEFAULT 100.00,
    street text,
    postcode text,
    city text,
    interests text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
COMMENT ON TABLE customers IS 'people and companies with a contract';
COMMENT ON COLUMN customers.customer_no IS 'the number that billing and the portal know as well';
-- The golden customer is found by customer_no: changes and deletes must bring the whole old row along.
ALTER TABLE customers REPLICA IDENTITY FULL;

CREATE TABLE contacts (
    id bigint PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers,
    kind text NOT NULL,
    value text NOT NULL,
    is_primary boolean NOT NULL DEFAULT false
);
CREATE INDEX ON contacts (customer_id);
COMMENT ON TABLE contacts IS 'ways to reach a customer';

CREATE TABLE subscriptions (
    customer_id bigint NOT NULL,
    line_no int NOT NULL,
    msisdn text NOT NULL,
    plan text NOT NULL,
    monthly_fee numeric(10,2) NOT NULL,
    status text NOT NULL DEFAULT 'active',
    activated_on date,
    ended_on date,
    PRIMARY KEY (customer_id, line_no)
);
COMMENT ON TABLE subscriptions IS 'telephone lines';

CREATE TABLE interactions (
    id uuid PRIMARY KEY,
    customer_id bigint,
    channel text NOT NULL,
    started_at timestamptz NOT NULL,
    duration interval,
    transcript text
);
CREATE INDEX ON interactions (customer_id);
COMMENT ON TABLE interactions IS 'calls, chats and letters';

CREATE TABLE tickets (
    ticket_no text PRIMARY KEY,
    customer_id bigint,
    subject text NOT NULL,
    body text,
    priority smallint NOT NULL DEFAULT 3,
    status text NOT NULL DEFAULT 'open',
    tags text[] NOT NULL DEFAULT '{}',
    opened_at timestamp NOT NULL,
    closed_at timestamp
);
CREATE INDEX ON tickets (customer_id);
COMMENT ON TABLE tickets IS 'complaints and requests; a re-opened one gets a new number';

CREATE TABLE debezium_signal (
    id varchar(42) PRIMARY KEY,
    type varchar(32) NOT NULL,
    data varchar(2048)
);
COMMENT ON TABLE debezium_signal IS 'commands to the connector, such as snapshots of single tables';
