//! What must hold at every moment, asked of one snapshot by the superuser: the tables alone, none of the product's code.

use domain::money::Usd;
use rails::book::Book;
use sqlx::Row;

use crate::world::{OPENING, World};

/// Each query names what it finds wrong; none may find anything.
const RULES: [(&str, &str); 16] = [
    ("cash is never negative, nor less than what open buys need with their fee",
     "SELECT format('%s: %s', a.user_id, a.cash) FROM accounts a
      WHERE a.cash < (SELECT coalesce(sum(remaining * worst_price), 0) * 1.001 FROM reservations r
                      WHERE r.user_id = a.user_id AND r.side = 'buy')"),
    ("position and open buys at the worse price are at most $10,000",
     "SELECT format('%s %s: %s', user_id, symbol, sum(usd)) FROM exposure GROUP BY user_id, symbol HAVING sum(usd) > 10000"),
    ("all of them are at most the equity",
     "SELECT format('%s: %s of %s', e.user_id, sum(e.usd), q.usd) FROM exposure e JOIN equity q USING (user_id)
      GROUP BY e.user_id, q.usd HAVING sum(e.usd) > q.usd"),
    ("at most 20 permits of new risk and 60 exits in any hour",
     "SELECT format('%s %s: %s', user_id, at, n) FROM
        (SELECT user_id, at, risk_increasing, count(*) OVER (PARTITION BY user_id, risk_increasing ORDER BY at
           RANGE BETWEEN interval '3599.999 seconds' PRECEDING AND CURRENT ROW) AS n FROM permit_stamps) w
      WHERE n > CASE WHEN risk_increasing THEN 20 ELSE 60 END"),
    ("at most $1,000 passes without a human in any 5 minutes",
     "SELECT format('%s %s %s: %s', user_id, symbol, at, usd) FROM
        (SELECT user_id, symbol, at, sum(notional) OVER (PARTITION BY user_id, symbol, side ORDER BY at
           RANGE BETWEEN interval '299.999 seconds' PRECEDING AND CURRENT ROW) AS usd FROM unapproved_notionals) w
      WHERE usd > 1000"),
    ("every buy without a human is counted, and none with one",
     "SELECT format('%s: %s', p.order_id, d.outcome) FROM permits p JOIN policy_decisions d USING (user_id, order_id)
      LEFT JOIN unapproved_notionals u USING (user_id, order_id)
      WHERE (d.outcome = 'permitted' AND p.body -> 'envelope' ->> 'side' = 'buy') <> (u.order_id IS NOT NULL)"),
    ("what holds money is reserved",
     "SELECT format('%s: %s', h.order_id, h.why) FROM holding h LEFT JOIN reservations r USING (user_id, order_id)
      WHERE h.must AND (r.order_id IS NULL OR r.state <> h.state)"),
    ("what is reserved holds money",
     "SELECT r.order_id::text FROM reservations r LEFT JOIN holding h USING (user_id, order_id) WHERE h.order_id IS NULL"),
    ("a reservation is what is not yet posted of its order",
     "SELECT format('%s: %s', r.order_id, r.remaining) FROM reservations r JOIN permits p USING (user_id, order_id)
      WHERE r.state = 'permitted' AND r.remaining <> (p.body -> 'envelope' ->> 'quantity')::numeric
        - (SELECT coalesce(sum(quantity), 0) FROM fills f WHERE f.order_id = r.order_id AND f.posted_at IS NOT NULL)"),
    ("cash is the opening balance and the posted fills",
     "SELECT format('%s: %s', a.user_id, a.cash) FROM accounts a WHERE a.cash <> a.opening + (SELECT coalesce(sum(
        CASE side WHEN 'buy' THEN -price * quantity - fee ELSE price * quantity - fee END), 0)
        FROM fills f WHERE f.user_id = a.user_id AND posted_at IS NOT NULL)"),
    ("positions are the posted fills",
     "SELECT format('%s %s', user_id, symbol) FROM (SELECT user_id, symbol, quantity AS q FROM positions UNION ALL
        SELECT user_id, symbol, CASE side WHEN 'buy' THEN -quantity ELSE quantity END FROM fills WHERE posted_at IS NOT NULL) x
      GROUP BY user_id, symbol HAVING sum(q) <> 0"),
    ("a fill is posted once, and what is posted is in the chain",
     "SELECT format('%s: %s', coalesce(f.venue_trade_id, a.id), a.n) FROM (SELECT * FROM fills WHERE posted_at IS NOT NULL) f
      FULL JOIN (SELECT body ->> 'venue_trade_id' AS id, count(*) AS n FROM trade_audit WHERE kind = 'fill_posted' GROUP BY 1) a
        ON a.id = f.venue_trade_id WHERE a.n IS DISTINCT FROM 1 OR f.venue_trade_id IS NULL"),
    ("an end is posted after its fills",
     "SELECT o.order_id::text FROM orders o WHERE o.outcome_posted AND o.filled <>
        (SELECT coalesce(sum(quantity), 0) FROM fills f WHERE f.order_id = o.order_id AND posted_at IS NOT NULL)"),
    ("every permit has one yes: a decision, or a decision and a used approval",
     "SELECT format('%s: %s %s', p.order_id, d.outcome, a.status) FROM permits p
      LEFT JOIN policy_decisions d USING (user_id, order_id) LEFT JOIN approval_requests a USING (user_id, order_id)
      WHERE (d.outcome = 'permitted' AND a.order_id IS NULL) IS NOT TRUE
        AND (d.outcome = 'needs_human' AND a.status = 'consumed') IS NOT TRUE
      UNION ALL SELECT format('%s: consumed for nothing', a.order_id) FROM approval_requests a
      LEFT JOIN permits p USING (user_id, order_id) WHERE a.status = 'consumed' AND p.order_id IS NULL"),
    ("a permit is spent on one order and an order has a spent permit",
     "SELECT format('%s: %s', coalesce(p.order_id, o.order_id), p.state) FROM permits p FULL JOIN orders o USING (user_id, permit_id)
      WHERE (p.state = 'spent') IS DISTINCT FROM (o.order_id IS NOT NULL)"),
    ("new risk was permitted at kill level 0 only",
     "SELECT p.order_id::text FROM permits p LEFT JOIN kill_levels k ON k.epoch = (p.body ->> 'kill_epoch')::bigint
      WHERE p.body -> 'envelope' ->> 'side' = 'buy' AND k.level IS DISTINCT FROM 0"),
];

/// What holds money: an order whose end is not posted, an unspent permit, a question; `must` is false for what was
/// decided and waits for treasury to give the money back.
const HOLDING: &str = "CREATE OR REPLACE VIEW holding AS
    SELECT user_id, order_id, 'order' AS why, 'permitted' AS state, true AS must FROM orders WHERE NOT outcome_posted
    UNION ALL SELECT user_id, order_id, 'permit', 'permitted', true FROM permits WHERE state = 'signed'
    UNION ALL SELECT user_id, order_id, status, 'pending', status IN ('pending', 'allowed') FROM approval_requests
      WHERE status IN ('pending', 'allowed', 'denied')";
const EXPOSURE: &str = "CREATE OR REPLACE VIEW exposure AS
    SELECT user_id, symbol, quantity * cents / 100 AS usd FROM positions JOIN marks USING (symbol)
    UNION ALL SELECT user_id, symbol, remaining * greatest(worst_price, cents / 100) FROM reservations JOIN marks USING (symbol)
      WHERE side = 'buy'";
const EQUITY: &str = "CREATE OR REPLACE VIEW equity AS
    SELECT user_id, cash + coalesce((SELECT sum(quantity * cents / 100) FROM positions p JOIN marks USING (symbol)
      WHERE p.user_id = a.user_id), 0) AS usd FROM accounts a";

/// Makes the views that the rules are written with.
pub async fn prepare(world: &World) {
    let pool = world.bank.admin.pool();
    sqlx::query("CREATE TABLE marks (symbol text PRIMARY KEY, cents numeric NOT NULL)").execute(pool).await.unwrap();
    for (id, cents) in &world.instruments {
        let insert = sqlx::query("INSERT INTO marks VALUES ($1, $2)")
            .bind(id.symbol.as_str())
            .bind(rust_decimal::Decimal::from(*cents));
        insert.execute(pool).await.unwrap();
    }
    for view in [HOLDING, EXPOSURE, EQUITY] {
        sqlx::query(view).execute(pool).await.unwrap();
    }
}

/// Asks every rule of one snapshot.
pub async fn check(world: &World) {
    let mut look = world.bank.unit().await;
    sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL statement_timeout = 0")
        .execute(look.conn().unwrap())
        .await
        .unwrap();
    for (rule, query) in RULES {
        let wrong: Vec<String> = sqlx::query_scalar(query).fetch_all(look.conn().unwrap()).await.unwrap();
        assert!(wrong.is_empty(), "after {} operations: {rule}: {wrong:?}", world.done());
    }
}

/// The posted fills, in the order of the chain, through the pure ledger: the same cash and the same positions.
pub async fn check_history(world: &World) {
    for user in &world.users {
        let limits = &world.treasuries[0].config.house;
        let mut unit = world.bank.unit_of(*user).await;
        let stored =
            store::ledger::read_book(&mut unit, *user, world.now(), limits.rate_window_ms, limits.approval_window_ms);
        let stored = stored.await.unwrap().unwrap();
        let mut replayed = Book::open(*user, Usd::parse(OPENING).unwrap(), world.now());
        let bodies =
            sqlx::query("SELECT body FROM trade_audit WHERE user_id = $1 AND kind = 'fill_posted' ORDER BY seq")
                .bind(user.0)
                .fetch_all(unit.conn().unwrap())
                .await
                .unwrap();
        for row in bodies {
            let body: serde_json::Value = row.get("body");
            let fill = serde_json::from_value(body["fill"].clone()).unwrap();
            replayed.post_fill(&fill, limits.breaker, world.now()).unwrap();
        }
        assert_eq!(replayed.cash, stored.cash, "{user}");
        assert_eq!(replayed.positions, stored.positions, "{user}");
    }
    world.bank.assert_audit_valid().await;
}

/// How much happened, so that a run that did nothing is seen.
pub async fn tally(world: &World) -> String {
    let row = sqlx::query(
        "SELECT (SELECT string_agg(format('%s %s', n, what), ', ' ORDER BY what) FROM
           (SELECT coalesce(code, outcome) AS what, count(*) AS n FROM policy_decisions GROUP BY 1
            UNION ALL SELECT 'approval ' || status, count(*) FROM approval_requests GROUP BY 1
            UNION ALL SELECT 'permit ' || state, count(*) FROM permits GROUP BY 1
            UNION ALL SELECT 'order ' || state, count(*) FROM orders GROUP BY 1
            UNION ALL SELECT 'fills', count(*) FROM fills
            UNION ALL SELECT 'audit ' || kind, count(*) FROM trade_audit
              WHERE kind IN ('day_started', 'breaker_latched', 'breaker_reset') GROUP BY 1) x) AS text,
         (SELECT count(*) FROM fills WHERE posted_at IS NOT NULL) AS posted",
    )
    .fetch_one(world.bank.admin.pool())
    .await
    .unwrap();
    let (posted, text): (i64, String) = (row.get("posted"), row.get("text"));
    assert!(posted > 0, "nothing was traded: {text}");
    text
}
