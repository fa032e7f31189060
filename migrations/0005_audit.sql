-- Hash chains: one per user and one for governance. The hash itself is made and checked by the program (canonical JSON
-- has no SQL form); what SQL can hold is that a row follows its head, that the head only ever moves to a row that is
-- there, and that nothing is changed or taken away.
SET LOCAL ROLE swarm_owner;

CREATE TABLE audit_heads (
    user_id uuid PRIMARY KEY,
    seq bigint NOT NULL CHECK (seq >= 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);

CREATE TABLE trade_audit (
    user_id uuid NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    at timestamptz NOT NULL,
    kind text NOT NULL CHECK (kind <> ''),
    agent text NOT NULL CHECK (agent <> ''),
    body jsonb NOT NULL,
    prev_hash bytea NOT NULL CHECK (octet_length(prev_hash) = 32),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (user_id, seq)
);
CREATE INDEX trade_audit_by_order ON trade_audit (user_id, (body ->> 'order_id'));

CREATE TABLE governance_head (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    seq bigint NOT NULL CHECK (seq >= 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);
INSERT INTO governance_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

CREATE TABLE governance_audit (
    seq bigint PRIMARY KEY CHECK (seq > 0),
    at timestamptz NOT NULL,
    kind text NOT NULL CHECK (kind <> ''),
    agent text NOT NULL CHECK (agent <> ''),
    body jsonb NOT NULL,
    prev_hash bytea NOT NULL CHECK (octet_length(prev_hash) = 32),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);

CREATE FUNCTION trade_audit_follows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM audit_heads h
                   WHERE h.user_id = NEW.user_id AND h.seq + 1 = NEW.seq AND h.hash = NEW.prev_hash) THEN
        RAISE EXCEPTION 'audit row does not follow the head' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE FUNCTION audit_head_moves_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.user_id <> OLD.user_id OR NEW.seq <> OLD.seq + 1 OR NOT EXISTS
        (SELECT FROM trade_audit a WHERE a.user_id = NEW.user_id AND a.seq = NEW.seq AND a.hash = NEW.hash) THEN
        RAISE EXCEPTION 'audit head moves only to the next row' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE FUNCTION audit_head_starts_empty() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq <> 0 OR NEW.hash <> decode(repeat('00', 32), 'hex') THEN
        RAISE EXCEPTION 'audit head starts empty' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE FUNCTION governance_audit_follows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM governance_head h WHERE h.seq + 1 = NEW.seq AND h.hash = NEW.prev_hash) THEN
        RAISE EXCEPTION 'audit row does not follow the head' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE FUNCTION governance_head_moves_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq <> OLD.seq + 1 OR NOT EXISTS
        (SELECT FROM governance_audit a WHERE a.seq = NEW.seq AND a.hash = NEW.hash) THEN
        RAISE EXCEPTION 'audit head moves only to the next row' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER follows BEFORE INSERT ON trade_audit FOR EACH ROW EXECUTE FUNCTION trade_audit_follows();
CREATE TRIGGER follows BEFORE INSERT ON governance_audit FOR EACH ROW EXECUTE FUNCTION governance_audit_follows();
CREATE TRIGGER starts_empty BEFORE INSERT ON audit_heads FOR EACH ROW EXECUTE FUNCTION audit_head_starts_empty();
CREATE TRIGGER moves_on BEFORE UPDATE ON audit_heads FOR EACH ROW EXECUTE FUNCTION audit_head_moves_on();
CREATE TRIGGER moves_on BEFORE UPDATE ON governance_head FOR EACH ROW EXECUTE FUNCTION governance_head_moves_on();
CREATE TRIGGER never_gone BEFORE DELETE ON audit_heads FOR EACH ROW EXECUTE FUNCTION forbid_change();
CREATE TRIGGER never_gone BEFORE DELETE ON governance_head FOR EACH ROW EXECUTE FUNCTION forbid_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON audit_heads FOR EACH STATEMENT EXECUTE FUNCTION forbid_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON governance_head FOR EACH STATEMENT EXECUTE FUNCTION forbid_change();
ALTER TABLE trade_audit ENABLE ALWAYS TRIGGER follows;
ALTER TABLE governance_audit ENABLE ALWAYS TRIGGER follows;
ALTER TABLE audit_heads ENABLE ALWAYS TRIGGER moves_on;
ALTER TABLE governance_head ENABLE ALWAYS TRIGGER moves_on;
SELECT make_append_only('trade_audit');
SELECT make_append_only('governance_audit');
