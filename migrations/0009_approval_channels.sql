-- How people are asked and heard: what Telegram sent, as it came and before anything else is done with it; which account is
-- whose; what was shown to whom; one-time codes; and on what evidence each word of a person rests.
SET LOCAL ROLE swarm_owner;

-- A question names the set of approvers it was asked under, how many of them it needs, and the question it took the place of.
ALTER TABLE approval_requests
    ADD COLUMN approvers_version text NOT NULL DEFAULT '',
    ADD COLUMN needed smallint NOT NULL DEFAULT 1 CHECK (needed BETWEEN 1 AND 100),
    ADD COLUMN replaces uuid;
CREATE UNIQUE INDEX approval_requests_replace ON approval_requests (replaces) WHERE replaces IS NOT NULL;

-- One word a person, and besides it one taking back.
ALTER TABLE approval_entries
    ADD COLUMN assurance text NOT NULL DEFAULT 'cli_key' CHECK (assurance IN ('cli_key', 'telegram', 'web_totp')),
    ADD COLUMN evidence jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(evidence) = 'object'),
    ADD COLUMN shown_digest bytea CHECK (octet_length(shown_digest) = 32),
    ADD COLUMN change jsonb CHECK (jsonb_typeof(change) = 'object'),
    ALTER COLUMN signature DROP NOT NULL,
    DROP CONSTRAINT approval_entries_decision_check,
    ADD CONSTRAINT approval_entries_decision_check CHECK (decision IN ('approve', 'reject', 'modify', 'revoke')),
    ADD CONSTRAINT approval_entries_signed CHECK (assurance <> 'cli_key' OR signature IS NOT NULL),
    ADD CONSTRAINT approval_entries_changed CHECK ((decision = 'modify') = (change IS NOT NULL)),
    DROP CONSTRAINT approval_entries_pkey,
    ADD PRIMARY KEY (user_id, approval_id, person_id, decision);
CREATE UNIQUE INDEX approval_entries_one_word ON approval_entries (user_id, approval_id, person_id)
    WHERE decision <> 'revoke';

CREATE TABLE telegram_updates (
    update_id bigint PRIMARY KEY,
    received_at timestamptz NOT NULL,
    raw jsonb NOT NULL CHECK (jsonb_typeof(raw) = 'object'),
    kind text NOT NULL,
    handled_at timestamptz,
    outcome text,
    CHECK ((handled_at IS NULL) = (outcome IS NULL))
);
CREATE INDEX telegram_updates_unhandled ON telegram_updates (update_id) WHERE handled_at IS NULL;

CREATE FUNCTION telegram_update_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.update_id, NEW.received_at, NEW.raw, NEW.kind) IS DISTINCT FROM
       (OLD.update_id, OLD.received_at, OLD.raw, OLD.kind) THEN
        RAISE EXCEPTION 'update % can not change', OLD.update_id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER telegram_update_stays BEFORE UPDATE ON telegram_updates
    FOR EACH ROW EXECUTE FUNCTION telegram_update_stays();

-- A code that binds a Telegram account to a person, once. `act` is the document the person signed for it.
CREATE TABLE telegram_links (
    code_hash bytea PRIMARY KEY CHECK (octet_length(code_hash) = 32),
    person_id text NOT NULL REFERENCES approvers,
    act jsonb NOT NULL CHECK (jsonb_typeof(act) = 'object'),
    made_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_by bigint,
    used_at timestamptz,
    CHECK ((used_by IS NULL) = (used_at IS NULL))
);
CREATE INDEX telegram_links_used ON telegram_links (used_by) WHERE used_by IS NOT NULL;

CREATE FUNCTION telegram_link_is_used_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.used_by IS NOT NULL OR (NEW.code_hash, NEW.person_id, NEW.act, NEW.made_at, NEW.expires_at) IS DISTINCT FROM
       (OLD.code_hash, OLD.person_id, OLD.act, OLD.made_at, OLD.expires_at) THEN
        RAISE EXCEPTION 'a link is used once and never changed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER telegram_link_is_used_once BEFORE UPDATE ON telegram_links
    FOR EACH ROW EXECUTE FUNCTION telegram_link_is_used_once();

CREATE TABLE telegram_accounts (
    telegram_user_id bigint PRIMARY KEY,
    person_id text NOT NULL REFERENCES approvers,
    chat_id bigint NOT NULL,
    linked_at timestamptz NOT NULL,
    active boolean NOT NULL
);
CREATE INDEX telegram_accounts_of ON telegram_accounts (person_id);

CREATE TABLE telegram_prompts (
    approval_id uuid NOT NULL,
    person_id text NOT NULL REFERENCES approvers,
    chat_id bigint NOT NULL,
    message_id bigint NOT NULL,
    sent_at timestamptz NOT NULL,
    edited_at timestamptz,
    final boolean NOT NULL DEFAULT false,
    PRIMARY KEY (approval_id, person_id, chat_id, message_id)
);
CREATE INDEX telegram_prompts_open ON telegram_prompts (sent_at) WHERE NOT final;

CREATE TABLE telegram_state (
    key text PRIMARY KEY CHECK (key <> ''),
    value text NOT NULL
);

-- The secret of a person's authenticator, and the 30-second steps whose code was used, each for one request.
CREATE TABLE approver_totp (
    person_id text PRIMARY KEY REFERENCES approvers,
    secret bytea NOT NULL CHECK (octet_length(secret) BETWEEN 16 AND 64),
    enrolled_at timestamptz NOT NULL
);
CREATE TABLE approver_totp_used (
    person_id text NOT NULL REFERENCES approvers,
    step bigint NOT NULL CHECK (step >= 0),
    approval_id uuid NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (person_id, step)
);
SELECT make_append_only('approver_totp_used');
