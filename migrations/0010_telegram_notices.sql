-- What people are to be told in Telegram: taken from the stream in one transaction, told from here, gone when it was told.
SET LOCAL ROLE swarm_owner;

CREATE TABLE telegram_notices (
    message_id uuid NOT NULL,
    chat_id bigint NOT NULL,
    text text NOT NULL CHECK (text <> ''),
    made_at timestamptz NOT NULL,
    PRIMARY KEY (message_id, chat_id)
);
CREATE INDEX telegram_notices_in_order ON telegram_notices (made_at);
