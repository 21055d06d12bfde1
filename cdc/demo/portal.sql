CREATE TABLE profiles (
    id bigint PRIMARY KEY,
    customer_no text NOT NULL UNIQUE,
    email text,
    phone text,
    language text,
    street text,
    postcode text,
    city text,
    marketing_consent boolean,
    interests text[] NOT NULL DEFAULT '{}',
    preferences jsonb NOT NULL DEFAULT '{}',
    last_login timestamptz,
    updated_at timestamptz NOT NULL
);
COMMENT ON TABLE profiles IS 'what customers say of themselves; customer_no is the CRM''s';
-- The golden customer is found by customer_no: changes and deletes must bring the whole old row along.
ALTER TABLE profiles REPLICA IDENTITY FULL;

CREATE TABLE debezium_signal (
    id varchar(42) PRIMARY KEY,
    type varchar(32) NOT NULL,
    data varchar(2048)
);
COMMENT ON TABLE debezium_signal IS 'commands to the connector, such as snapshots of single tables';
