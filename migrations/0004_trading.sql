-- From decision to fill. Each table's states move one way only, by trigger too: a second line behind the
-- compare-and-set of the code.
SET LOCAL ROLE swarm_owner;

CREATE TABLE policy_decisions (
    user_id uuid NOT NULL,
    order_id uuid NOT NULL,
    intent_id uuid NOT NULL,
    signal_id uuid NOT NULL,
    leg integer NOT NULL CHECK (leg BETWEEN 0 AND 65535),
    outcome text NOT NULL CHECK (outcome IN ('permitted', 'refused', 'needs_human')),
    code text CHECK ((outcome = 'refused') = (code IS NOT NULL)),
    numbers jsonb NOT NULL,
    envelope jsonb,
    digest bytea CHECK (octet_length(digest) = 32),
    policy_version text NOT NULL,
    at timestamptz NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (user_id, order_id),
    UNIQUE (user_id, signal_id, leg),
    CHECK (outcome = 'refused' OR (envelope IS NOT NULL AND digest IS NOT NULL))
);
CREATE INDEX policy_decisions_recent ON policy_decisions (user_id, position);
SELECT make_append_only('policy_decisions');

CREATE TABLE approval_requests (
    user_id uuid NOT NULL REFERENCES users,
    approval_id uuid NOT NULL,
    order_id uuid NOT NULL,
    envelope jsonb NOT NULL,
    intent jsonb NOT NULL,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    tier smallint NOT NULL CHECK (tier BETWEEN 1 AND 3),
    status text NOT NULL CHECK (status IN
        ('pending', 'allowed', 'denied', 'expired', 'cancelled', 'superseded', 'consumed', 'revoked')),
    policy_version text NOT NULL,
    requested_by text NOT NULL,
    reasoning text NOT NULL CHECK (char_length(reasoning) <= 500),
    requested_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, approval_id),
    UNIQUE (approval_id)
);
CREATE INDEX approval_requests_by_order ON approval_requests (user_id, order_id);
CREATE INDEX approval_requests_open ON approval_requests (expires_at) WHERE status IN ('pending', 'allowed');
CREATE INDEX approval_requests_asked ON approval_requests (user_id, requested_at);

CREATE FUNCTION approval_moves_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status = OLD.status
        OR (OLD.status = 'pending' AND NEW.status IN ('allowed', 'denied', 'expired', 'cancelled', 'superseded'))
        OR (OLD.status = 'allowed' AND NEW.status IN ('consumed', 'expired', 'revoked'))
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'approval can not go from % to %', OLD.status, NEW.status USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER approval_moves_on BEFORE UPDATE ON approval_requests FOR EACH ROW EXECUTE FUNCTION approval_moves_on();
CREATE TRIGGER approval_starts_pending BEFORE INSERT ON approval_requests FOR EACH ROW
    WHEN (NEW.status <> 'pending') EXECUTE FUNCTION forbid_change();

-- One word a person.
CREATE TABLE approval_entries (
    user_id uuid NOT NULL,
    approval_id uuid NOT NULL,
    person_id text NOT NULL REFERENCES approvers,
    decision text NOT NULL CHECK (decision IN ('approve', 'reject', 'modify')),
    channel text NOT NULL,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    reason text NOT NULL,
    signature text NOT NULL CHECK (signature ~ '^[0-9a-f]{128}$'),
    signed_at timestamptz NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, approval_id, person_id),
    FOREIGN KEY (user_id, approval_id) REFERENCES approval_requests
);
SELECT make_append_only('approval_entries');

-- Every step of every request.
CREATE TABLE approval_resolutions (
    user_id uuid NOT NULL,
    approval_id uuid NOT NULL,
    status text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, approval_id, status),
    FOREIGN KEY (user_id, approval_id) REFERENCES approval_requests
);
SELECT make_append_only('approval_resolutions');

CREATE TABLE permits (
    user_id uuid NOT NULL REFERENCES users,
    permit_id uuid NOT NULL,
    order_id uuid NOT NULL,
    body jsonb NOT NULL,
    signature text NOT NULL CHECK (signature ~ '^[0-9a-f]{128}$'),
    state text NOT NULL CHECK (state IN ('signed', 'spent', 'void')),
    signed_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, permit_id),
    UNIQUE (user_id, order_id),
    UNIQUE (permit_id)
);
CREATE INDEX permits_unspent ON permits (expires_at) WHERE state = 'signed';

CREATE FUNCTION permit_moves_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> 'signed' OR NEW.body <> OLD.body OR NEW.signature <> OLD.signature OR NEW.user_id <> OLD.user_id THEN
        RAISE EXCEPTION 'permit % is % and can not change', OLD.permit_id, OLD.state USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER permit_moves_on BEFORE UPDATE ON permits FOR EACH ROW EXECUTE FUNCTION permit_moves_on();

CREATE TABLE orders (
    user_id uuid NOT NULL,
    order_id uuid NOT NULL,
    client_order_id text NOT NULL,
    permit_id uuid NOT NULL,
    venue text NOT NULL CHECK (venue IN ('paper', 'paper_dex', 'binance', 'jupiter')),
    symbol text NOT NULL CHECK (symbol ~ '^[A-Za-z0-9]{1,48}$'),
    envelope jsonb NOT NULL,
    venue_order_id text,
    state text NOT NULL CHECK (state IN ('pending', 'open', 'filled', 'rejected', 'cancelled', 'unknown')),
    filled numeric(38, 18) NOT NULL CHECK (filled >= 0),
    code text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    sent_at timestamptz,
    outcome_posted boolean NOT NULL DEFAULT false,
    position bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (user_id, order_id),
    UNIQUE (user_id, permit_id),
    UNIQUE (venue, client_order_id),
    FOREIGN KEY (user_id, permit_id) REFERENCES permits
);
CREATE UNIQUE INDEX orders_by_id ON orders (order_id);
CREATE INDEX orders_recent ON orders (user_id, position);
CREATE INDEX orders_open ON orders (venue, position) WHERE state IN ('pending', 'open', 'unknown');
CREATE INDEX orders_unposted ON orders (position) WHERE NOT outcome_posted;

CREATE FUNCTION order_moves_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.state IN ('filled', 'rejected', 'cancelled') AND NEW.state <> OLD.state) OR NEW.filled < OLD.filled
        OR (OLD.outcome_posted AND NOT NEW.outcome_posted)
    THEN
        RAISE EXCEPTION 'order % is % and can not go back', OLD.order_id, OLD.state USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER order_moves_on BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION order_moves_on();

CREATE TABLE fills (
    user_id uuid NOT NULL,
    venue text NOT NULL,
    symbol text NOT NULL,
    venue_trade_id text NOT NULL CHECK (venue_trade_id <> ''),
    order_id uuid NOT NULL,
    side text NOT NULL CHECK (side IN ('buy', 'sell')),
    quantity numeric(38, 18) NOT NULL CHECK (quantity > 0),
    price numeric(38, 18) NOT NULL CHECK (price > 0),
    fee numeric(38, 18) NOT NULL,
    at timestamptz NOT NULL,
    posted_at timestamptz,
    position bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (user_id, venue, symbol, venue_trade_id),
    UNIQUE (venue, symbol, venue_trade_id),
    FOREIGN KEY (user_id, order_id) REFERENCES orders
);
CREATE INDEX fills_by_order ON fills (user_id, order_id);
CREATE INDEX fills_recent ON fills (user_id, position);
CREATE INDEX fills_unposted ON fills (position) WHERE posted_at IS NULL;

CREATE FUNCTION fill_only_gets_posted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.posted_at IS NOT NULL
        OR (NEW.quantity, NEW.price, NEW.fee, NEW.order_id, NEW.side) IS DISTINCT FROM
           (OLD.quantity, OLD.price, OLD.fee, OLD.order_id, OLD.side)
    THEN
        RAISE EXCEPTION 'fill % can not change', OLD.venue_trade_id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER fill_only_gets_posted BEFORE UPDATE ON fills FOR EACH ROW EXECUTE FUNCTION fill_only_gets_posted();
