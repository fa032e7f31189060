-- The book of each user. Treasury is its one writer, under the row lock of `rails_state`.
SET LOCAL ROLE swarm_owner;

CREATE TABLE rails_state (
    user_id uuid PRIMARY KEY REFERENCES users,
    losses_in_a_row integer NOT NULL CHECK (losses_in_a_row >= 0),
    latched_at timestamptz,
    updated_at timestamptz NOT NULL
);

CREATE TABLE accounts (
    user_id uuid PRIMARY KEY REFERENCES users,
    cash numeric(38, 18) NOT NULL,
    opening numeric(38, 18) NOT NULL CHECK (opening >= 0),
    updated_at timestamptz NOT NULL
);

CREATE TABLE positions (
    user_id uuid NOT NULL REFERENCES users,
    venue text NOT NULL CHECK (venue IN ('paper', 'paper_dex', 'binance', 'jupiter')),
    symbol text NOT NULL CHECK (symbol ~ '^[A-Za-z0-9]{1,48}$'),
    quantity numeric(38, 18) NOT NULL CHECK (quantity >= 0),
    cost numeric(38, 18) NOT NULL,
    trade_cost numeric(38, 18) NOT NULL,
    trade_realised numeric(38, 18) NOT NULL,
    opened_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, venue, symbol)
);

CREATE TABLE reservations (
    user_id uuid NOT NULL REFERENCES users,
    order_id uuid NOT NULL,
    venue text NOT NULL CHECK (venue IN ('paper', 'paper_dex', 'binance', 'jupiter')),
    symbol text NOT NULL CHECK (symbol ~ '^[A-Za-z0-9]{1,48}$'),
    side text NOT NULL CHECK (side IN ('buy', 'sell')),
    reduce_only boolean NOT NULL,
    remaining numeric(38, 18) NOT NULL CHECK (remaining >= 0),
    worst_price numeric(38, 18) NOT NULL CHECK (worst_price > 0),
    state text NOT NULL CHECK (state IN ('pending', 'permitted')),
    expires_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, order_id)
);

-- One row a counted permit, for the rate rail; `position` keeps the order of equal times.
CREATE TABLE permit_stamps (
    user_id uuid NOT NULL REFERENCES users,
    order_id uuid NOT NULL,
    at timestamptz NOT NULL,
    risk_increasing boolean NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (user_id, order_id)
);
CREATE INDEX permit_stamps_window ON permit_stamps (user_id, at);

-- Notional that passed without a human, for the rolling sum.
CREATE TABLE unapproved_notionals (
    user_id uuid NOT NULL REFERENCES users,
    order_id uuid NOT NULL,
    venue text NOT NULL CHECK (venue IN ('paper', 'paper_dex', 'binance', 'jupiter')),
    symbol text NOT NULL CHECK (symbol ~ '^[A-Za-z0-9]{1,48}$'),
    side text NOT NULL CHECK (side IN ('buy', 'sell')),
    notional numeric(38, 18) NOT NULL CHECK (notional >= 0),
    at timestamptz NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (user_id, order_id)
);
CREATE INDEX unapproved_notionals_window ON unapproved_notionals (user_id, at);

-- `day` is the number of the UTC day since the epoch.
CREATE TABLE equity_daily (
    user_id uuid NOT NULL REFERENCES users,
    day bigint NOT NULL,
    equity numeric(38, 18) NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, day)
);
