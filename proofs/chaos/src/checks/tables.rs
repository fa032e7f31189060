//! The tables against themselves, once everything is over, asked by the administrator.

use sqlx::Row;
use store::Db;

use super::Finding;
use crate::Trouble;

/// Each query names what it finds wrong: rule, what it counts as, query.
const RULES: [(&str, &str, &str); 13] = [
    ("no money is reserved when no order is open", "other",
     "SELECT format('%s reserves %s %s', order_id, remaining, symbol) FROM reservations"),
    ("no order is open or unposted", "lost",
     "SELECT format('%s is %s', order_id, state) FROM orders WHERE NOT outcome_posted OR state IN ('pending', 'open', 'unknown')"),
    ("no permit waits", "lost", "SELECT format('%s is signed', permit_id) FROM permits WHERE state = 'signed'"),
    ("no question waits", "lost",
     "SELECT format('%s is %s', approval_id, status) FROM approval_requests WHERE status IN ('pending', 'allowed')"),
    ("every fill is posted, and once", "lost",
     "SELECT format('%s: %s times', coalesce(f.venue_trade_id, a.id), coalesce(a.n, 0)) FROM fills f
      FULL JOIN (SELECT body ->> 'venue_trade_id' AS id, count(*) AS n FROM trade_audit WHERE kind = 'fill_posted' GROUP BY 1) a
        ON a.id = f.venue_trade_id WHERE a.n IS DISTINCT FROM 1 OR f.posted_at IS NULL"),
    ("the outbox is empty", "lost", "SELECT format('%s %s', agent, subject) FROM outbox"),
    ("a signal was decided once", "doubled",
     "SELECT format('%s: %s decisions', signal_id, count(*)) FROM policy_decisions GROUP BY user_id, signal_id HAVING count(*) > 1"),
    ("a permit is spent on one order and an order has a spent permit", "doubled",
     "SELECT format('%s: %s', coalesce(p.order_id, o.order_id), p.state) FROM permits p FULL JOIN orders o USING (user_id, permit_id)
      WHERE (p.state = 'spent') IS DISTINCT FROM (o.order_id IS NOT NULL)"),
    ("every permit has one yes: a decision, or a decision and a used approval", "over a limit",
     "SELECT format('%s: %s %s', p.order_id, d.outcome, a.status) FROM permits p
      LEFT JOIN policy_decisions d USING (user_id, order_id) LEFT JOIN approval_requests a USING (user_id, order_id)
      WHERE (d.outcome = 'permitted' AND a.order_id IS NULL) IS NOT TRUE
        AND (d.outcome = 'needs_human' AND a.status = 'consumed') IS NOT TRUE"),
    ("cash is the opening balance and the posted fills", "other",
     "SELECT format('%s: %s', a.user_id, a.cash) FROM accounts a WHERE a.cash <> a.opening + (SELECT coalesce(sum(
        CASE side WHEN 'buy' THEN -price * quantity - fee ELSE price * quantity - fee END), 0)
        FROM fills f WHERE f.user_id = a.user_id AND posted_at IS NOT NULL)"),
    ("positions are the posted fills", "other",
     "SELECT format('%s %s', user_id, symbol) FROM (SELECT user_id, symbol, quantity AS q FROM positions UNION ALL
        SELECT user_id, symbol, CASE side WHEN 'buy' THEN -quantity ELSE quantity END FROM fills WHERE posted_at IS NOT NULL) x
      GROUP BY user_id, symbol HAVING sum(q) <> 0"),
    ("no agent is left in quarantine", "other",
     "SELECT format('%s: %s', agent, reason) FROM declared_state WHERE state = 'quarantined'"),
    ("new risk was permitted at kill level 0, and that is the level now", "over a limit",
     "SELECT p.order_id::text FROM permits p LEFT JOIN kill_levels k ON k.epoch = (p.body ->> 'kill_epoch')::bigint
      WHERE p.body -> 'envelope' ->> 'side' = 'buy' AND k.level IS DISTINCT FROM 0
      UNION ALL SELECT format('level %s: %s', level, reason) FROM (SELECT * FROM kill_levels ORDER BY epoch DESC LIMIT 1) k
      WHERE level <> 0"),
];

/// Asks every rule.
///
/// # Errors
/// [`Trouble::Query`].
pub async fn check(db: &Db) -> Result<Vec<Finding>, Trouble> {
    let counts = sqlx::query(
        "SELECT (SELECT count(*) FROM policy_decisions) AS decisions, (SELECT count(*) FROM permits) AS permits,
                (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM fills) AS fills",
    )
    .fetch_one(db.pool())
    .await?;
    let count = |name: &str| counts.try_get::<i64, _>(name);
    let seen = format!(
        "{} decisions, {} permits, {} orders, {} fills",
        count("decisions")?,
        count("permits")?,
        count("orders")?,
        count("fills")?
    );
    let mut findings = Vec::new();
    for (rule, counts, query) in RULES {
        let wrong: Vec<String> = sqlx::query_scalar(query).fetch_all(db.pool()).await?;
        findings.push(Finding::new(rule, counts, seen.clone(), wrong));
    }
    Ok(findings)
}
