-- What belongs to no single user, and the two functions that guard append-only tables.
SET LOCAL ROLE swarm_owner;

CREATE FUNCTION forbid_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is not possible: rows are only added', TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

-- Run for the last time by the migration that makes a table append-only. The triggers fire always, also for a session
-- that plays a replica, and also for the owner.
CREATE FUNCTION make_append_only(target regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER only_added_rows BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION forbid_change()', target);
    EXECUTE format('CREATE TRIGGER only_added_table BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION forbid_change()', target);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER only_added_rows', target);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER only_added_table', target);
END
$$;

CREATE TABLE users (
    user_id uuid PRIMARY KEY,
    handle text NOT NULL UNIQUE CHECK (handle ~ '^[a-z0-9][a-z0-9_-]{0,31}$'),
    trading_constraints jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(trading_constraints) = 'object'),
    created_at timestamptz NOT NULL
);

CREATE TABLE approvers (
    person_id text PRIMARY KEY CHECK (person_id <> ''),
    handle text,
    public_key text NOT NULL CHECK (public_key ~ '^[0-9a-f]{64}$'),
    active boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE instruments (
    venue text NOT NULL CHECK (venue IN ('paper', 'paper_dex', 'binance', 'jupiter')),
    symbol text NOT NULL CHECK (symbol ~ '^[A-Za-z0-9]{1,48}$'),
    base text NOT NULL,
    quote text NOT NULL,
    tick numeric(38, 18) NOT NULL CHECK (tick >= 0),
    step numeric(38, 18) NOT NULL CHECK (step >= 0),
    min_quantity numeric(38, 18) NOT NULL CHECK (min_quantity >= 0),
    max_quantity numeric(38, 18) NOT NULL CHECK (max_quantity >= 0),
    min_notional numeric(38, 18) NOT NULL CHECK (min_notional >= 0),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (venue, symbol)
);

-- A message is handled once by each agent. Kept longer than any redelivery.
CREATE TABLE inbox (
    agent text NOT NULL,
    message_id uuid NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (agent, message_id)
);
CREATE INDEX inbox_by_age ON inbox (agent, received_at);

-- Messages committed with the rows they speak of; gone once the broker has them.
CREATE TABLE outbox (
    agent text NOT NULL,
    message_id uuid NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    subject text NOT NULL CHECK (subject <> ''),
    headers jsonb NOT NULL CHECK (jsonb_typeof(headers) = 'object'),
    payload bytea NOT NULL,
    valid_until timestamptz,
    put_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (agent, message_id)
);
CREATE INDEX outbox_in_order ON outbox (agent, position);

CREATE TABLE kill_levels (
    epoch bigint PRIMARY KEY CHECK (epoch > 0),
    level smallint NOT NULL CHECK (level BETWEEN 0 AND 4),
    by_whom text NOT NULL CHECK (by_whom <> ''),
    reason text NOT NULL,
    at timestamptz NOT NULL
);
SELECT make_append_only('kill_levels');

CREATE TABLE restarts (
    agent text NOT NULL,
    boot_id uuid NOT NULL,
    at timestamptz NOT NULL,
    cause text NOT NULL,
    PRIMARY KEY (agent, boot_id)
);
CREATE INDEX restarts_by_time ON restarts (agent, at);

CREATE TABLE declared_state (
    agent text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('running', 'stopped', 'quarantined')),
    config_hash text NOT NULL,
    binary_hash text NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL
);
