-- Who sees whose rows, on one page. Grants say which tables a process may touch at all; these say which rows.
SET LOCAL ROLE swarm_owner;

-- Every table with a user: the rows of the tenant that the transaction named, and none when it named nobody.
DO $$
DECLARE
    target text;
    tenant text := $q$user_id = nullif(current_setting('app.tenant', true), '')::uuid$q$;
BEGIN
    FOREACH target IN ARRAY ARRAY[
        'users', 'rails_state', 'accounts', 'positions', 'reservations', 'permit_stamps', 'unapproved_notionals',
        'equity_daily', 'policy_decisions', 'approval_requests', 'approval_entries', 'approval_resolutions', 'permits',
        'orders', 'fills', 'audit_heads', 'trade_audit'
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', target);
        EXECUTE format('CREATE POLICY tenant ON %I USING (%s) WITH CHECK (%s)', target, tenant, tenant);
        -- Verifying and explaining reads everyone's rows and writes none.
        EXECUTE format('CREATE POLICY audit_verify_reads ON %I FOR SELECT TO swarm_audit_verify USING (true)', target);
    END LOOP;

    -- Timers of treasury look for work of all users, then name each as tenant to do it.
    FOREACH target IN ARRAY ARRAY['users', 'rails_state', 'orders', 'fills', 'permits', 'approval_requests'] LOOP
        EXECUTE format('CREATE POLICY treasury_timers ON %I FOR SELECT TO swarm_treasury USING (true)', target);
    END LOOP;

    -- The supervisor shows and stores approvals, and signs audit heads after checking the rows below them.
    FOREACH target IN ARRAY ARRAY['users', 'approval_requests', 'approval_entries', 'audit_heads', 'trade_audit'] LOOP
        EXECUTE format('CREATE POLICY supervisor_reads ON %I FOR SELECT TO swarm_supervisor USING (true)', target);
    END LOOP;

    -- Inbox and outbox belong to the agent whose login it is: nobody speaks through another's outbox.
    FOREACH target IN ARRAY ARRAY['inbox', 'outbox'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', target);
        EXECUTE format('CREATE POLICY own ON %I USING (agent = current_user) WITH CHECK (agent = current_user)', target);
    END LOOP;
END
$$;

-- Desks reconcile their own venues' orders of all users.
CREATE POLICY online_trading_reconciles ON orders FOR SELECT TO swarm_online_trading USING (venue IN ('paper', 'binance'));
CREATE POLICY dexter_reconciles ON orders FOR SELECT TO swarm_dexter USING (venue IN ('paper_dex', 'jupiter'));
