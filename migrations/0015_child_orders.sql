-- Sliced orders: one permit, child orders inside of it. They are kept in the row of their order.
SET LOCAL ROLE swarm_owner;

ALTER TABLE orders ADD COLUMN children jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(children) = 'array');

-- Whatever a desk writes: children only grow in number, what one is stays, its end and its fills do not go back, and all of
-- them together are never more than their order.
CREATE FUNCTION children_stay_inside() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before jsonb := coalesce(OLD.children, '[]');
    was jsonb;
    is_now jsonb;
BEGIN
    IF NEW.children = before THEN
        RETURN NEW;
    END IF;
    FOR n IN 0 .. jsonb_array_length(before) - 1 LOOP
        was := before -> n;
        is_now := NEW.children -> n;
        IF is_now IS NULL
            OR (is_now -> 'client_order_id', is_now -> 'quantity', is_now -> 'sent_at', is_now -> 'kill_epoch')
               IS DISTINCT FROM (was -> 'client_order_id', was -> 'quantity', was -> 'sent_at', was -> 'kill_epoch')
            OR (was ->> 'state' IN ('filled', 'rejected', 'cancelled') AND is_now ->> 'state' <> was ->> 'state')
            OR (is_now ->> 'filled')::numeric < (was ->> 'filled')::numeric
        THEN
            RAISE EXCEPTION 'child % of order % can not go back', n, NEW.order_id USING ERRCODE = 'restrict_violation';
        END IF;
    END LOOP;
    IF (SELECT coalesce(sum((child ->> 'quantity')::numeric), 0) FROM jsonb_array_elements(NEW.children) child)
        > (NEW.envelope ->> 'quantity')::numeric
    THEN
        RAISE EXCEPTION 'the children of order % are more than the order', NEW.order_id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER children_stay_inside BEFORE INSERT OR UPDATE ON orders
    FOR EACH ROW EXECUTE FUNCTION children_stay_inside();
