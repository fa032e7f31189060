-- What each request to the LLM router used and cost: written by the router alone, and read by it to know after a start what of
-- its quotas and budgets is spent.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'swarm_llm_router') THEN
        CREATE ROLE swarm_llm_router NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;
SET LOCAL ROLE swarm_owner;

-- Names come from callers, so each has a bound. `tenant` keeps callers' cached answers apart: it is no user of the ledger.
-- Money is counted in millionths of a US dollar.
CREATE TABLE llm_usage (
    request_id text PRIMARY KEY CHECK (octet_length(request_id) BETWEEN 1 AND 128),
    at timestamptz NOT NULL,
    agent text NOT NULL CHECK (octet_length(agent) BETWEEN 1 AND 128),
    tenant text CHECK (octet_length(tenant) BETWEEN 1 AND 128),
    correlation_id text CHECK (octet_length(correlation_id) BETWEEN 1 AND 128),
    alias text NOT NULL CHECK (octet_length(alias) BETWEEN 1 AND 128),
    tier text CHECK (octet_length(tier) BETWEEN 1 AND 128),
    model text NOT NULL CHECK (octet_length(model) <= 128),
    priority smallint NOT NULL CHECK (priority BETWEEN 0 AND 9),
    outcome text NOT NULL CHECK (octet_length(outcome) BETWEEN 1 AND 128),
    cache text CHECK (octet_length(cache) BETWEEN 1 AND 128),
    prompt_tokens bigint NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens bigint NOT NULL CHECK (completion_tokens >= 0),
    estimated boolean NOT NULL,
    cost_micros bigint NOT NULL CHECK (cost_micros >= 0),
    took_ms bigint NOT NULL CHECK (took_ms >= 0),
    attempts text NOT NULL CHECK (octet_length(attempts) <= 4096)
);
-- Sums of a day, or of a month among many, are read from the index alone; the oldest rows are found by it.
CREATE INDEX llm_usage_by_time ON llm_usage (at)
    INCLUDE (tier, agent, alias, cache, outcome, prompt_tokens, completion_tokens, cost_micros);

-- The router's own: not even a login that was granted the table by mistake sees or writes a row.
ALTER TABLE llm_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE llm_usage FORCE ROW LEVEL SECURITY;
-- By a group and not by comparing names in a condition, whose share of the rows the planner would have to guess.
CREATE POLICY own ON llm_usage TO swarm_llm_router USING (true) WITH CHECK (true);
