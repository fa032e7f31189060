-- What became of dead letters. The letters themselves lie in the stream DLQ, which nobody may delete from; here is which of them
-- wait for a person, and what a person did. A row goes when its letter has fallen out of the stream.
SET LOCAL ROLE swarm_owner;

CREATE TABLE dead_letters (
    -- <stream>:<sequence> of the message that died.
    letter text PRIMARY KEY CHECK (octet_length(letter) BETWEEN 1 AND 128),
    -- Where the letter lies in DLQ. A place can be taken again when a stream was made anew, so a letter is both.
    dlq_seq bigint NOT NULL CHECK (dlq_seq > 0),
    died_at timestamptz NOT NULL,
    subject text NOT NULL CHECK (octet_length(subject) <= 256),
    code text NOT NULL CHECK (octet_length(code) <= 64),
    -- Null where the message could not be read, or is nobody's.
    message_id uuid,
    user_id uuid,
    valid_until timestamptz,
    state text NOT NULL CHECK (state IN ('open', 'redriven', 'dropped')),
    -- How often the message was put back, as an earlier letter too.
    attempts integer NOT NULL CHECK (attempts >= 0),
    -- Under which id it was put back the last time, and where the stream said that it took it.
    sent_as uuid,
    stored_seq bigint,
    by_whom text,
    reason text,
    at timestamptz,
    CHECK ((state = 'open') = (by_whom IS NULL)),
    CHECK ((state = 'open') = (at IS NULL)),
    CHECK ((state = 'redriven') = (sent_as IS NOT NULL)),
    CHECK (stored_seq IS NULL OR state = 'redriven')
);
CREATE INDEX dead_letters_in_order ON dead_letters (dlq_seq);
CREATE INDEX dead_letters_open ON dead_letters (died_at) WHERE state = 'open' OR (state = 'redriven' AND stored_seq IS NULL);

-- The supervisor's own: not even a login that was granted the table by mistake sees or writes a row.
ALTER TABLE dead_letters ENABLE ROW LEVEL SECURITY;
ALTER TABLE dead_letters FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON dead_letters TO swarm_supervisor USING (true) WITH CHECK (true);
