-- What timers look for, found at a cost that does not grow with the number of accounts.
SET LOCAL ROLE swarm_owner;

-- The transaction that moved a head last. Whoever signs heads asks for those of all transactions that were not over at the
-- look before, so none is missed however commits overtake each other.
ALTER TABLE audit_heads ADD COLUMN moved_in xid8 NOT NULL DEFAULT '0';
CREATE INDEX audit_heads_moved ON audit_heads (moved_in);

CREATE OR REPLACE FUNCTION audit_head_moves_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.user_id <> OLD.user_id OR NEW.seq <> OLD.seq + 1 OR NOT EXISTS
        (SELECT FROM trade_audit a WHERE a.user_id = NEW.user_id AND a.seq = NEW.seq AND a.hash = NEW.hash) THEN
        RAISE EXCEPTION 'audit head moves only to the next row' USING ERRCODE = 'restrict_violation';
    END IF;
    NEW.moved_in := pg_current_xact_id();
    RETURN NEW;
END
$$;

-- Ends that treasury has not posted. An order that is not over has none, however long it stays open.
DROP INDEX orders_unposted;
CREATE INDEX orders_unposted ON orders (position)
    WHERE NOT outcome_posted AND state IN ('filled', 'rejected', 'cancelled');
