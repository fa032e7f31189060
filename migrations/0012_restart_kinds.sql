-- Why a process was started again, so that each kind is counted against its own bounds. Rows of before are taken for the worst.
SET LOCAL ROLE swarm_owner;

ALTER TABLE restarts
    ADD COLUMN kind text NOT NULL DEFAULT 'crash'
    CHECK (kind IN ('crash', 'hang', 'memory', 'recycle', 'config', 'outage'));
ALTER TABLE restarts ALTER COLUMN kind DROP DEFAULT;
