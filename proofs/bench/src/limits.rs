//! Whether the limits held exactly, asked of the tables after a run, by none of the product's code but the audit.

use store::Db;

use crate::bench_error::BenchError;

/// Each query names what it finds wrong; none may find anything. Two numbers are put in: the trades an hour that pass,
/// and the signals that each user sent.
const RULES: [(&str, &str); 8] = [
    (
        "each user has exactly as many permits as the rate allows",
        "SELECT format('%s: %s', user_id, n) FROM (SELECT user_id, count(*) AS n FROM permits GROUP BY 1) p WHERE n <> $1",
    ),
    (
        "each user's other signals were refused for the rate",
        "SELECT format('%s: %s', user_id, n) FROM
           (SELECT user_id, count(*) FILTER (WHERE outcome = 'refused' AND code = 'RATE') AS n FROM policy_decisions GROUP BY 1) d
         WHERE n <> $2 - $1",
    ),
    (
        "every permit is stamped, counted and reserved, once",
        "SELECT format('%s', p.order_id) FROM permits p
         LEFT JOIN permit_stamps s USING (user_id, order_id) LEFT JOIN unapproved_notionals u USING (user_id, order_id)
         LEFT JOIN reservations r USING (user_id, order_id)
         GROUP BY p.order_id HAVING count(s.order_id) <> 1 OR count(u.order_id) <> 1 OR count(r.order_id) <> 1",
    ),
    (
        "nothing is reserved without a permit",
        "SELECT r.order_id::text FROM reservations r LEFT JOIN permits p USING (user_id, order_id) WHERE p.order_id IS NULL",
    ),
    (
        "at most $1,000 a user passed without a human",
        "SELECT format('%s: %s', user_id, sum(notional)) FROM unapproved_notionals GROUP BY user_id HAVING sum(notional) > 1000",
    ),
    (
        "at most $10,000 is reserved in one instrument",
        "SELECT format('%s: %s', user_id, sum(remaining * worst_price)) FROM reservations
         GROUP BY user_id, symbol HAVING sum(remaining * worst_price) > 10000",
    ),
    (
        "a permit has a decision that permitted it",
        "SELECT p.order_id::text FROM permits p LEFT JOIN policy_decisions d USING (user_id, order_id)
         WHERE d.outcome IS DISTINCT FROM 'permitted'",
    ),
    (
        "decisions and permits are in the chain, once",
        "SELECT format('%s: %s', user_id, n) FROM
           (SELECT user_id, count(*) FILTER (WHERE kind = 'decision') - $2 AS n FROM trade_audit GROUP BY 1
            UNION ALL SELECT user_id, count(*) FILTER (WHERE kind = 'permit_signed') - $1 FROM trade_audit GROUP BY 1) a
         WHERE n <> 0",
    ),
];

/// Every rule that does not hold, with what was found.
///
/// # Errors
/// [`BenchError`].
pub async fn violated(admin: &Db, allowed: i64, sent: i64) -> Result<Vec<String>, BenchError> {
    let mut wrong = Vec::new();
    for (rule, query) in RULES {
        // Every rule is given both numbers, whether it asks for them or not.
        let query = format!("SELECT * FROM ({query}) found (text) WHERE ($1::bigint, $2::bigint) IS NOT NULL");
        let found: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(query)).bind(allowed).bind(sent).fetch_all(admin.pool()).await?;
        if let Some(first) = found.first() {
            wrong.push(format!("{rule}: {} times, as {first}", found.len()));
        }
    }
    let keys = store::audit::Keys::default();
    let report = store::audit::verify(admin, &store::audit::Anchors::default(), &keys, domain::time::UnixMs(0)).await?;
    if !report.valid {
        wrong.push(format!("the audit chains hold together: {:?}", report.faults));
    }
    Ok(wrong)
}

/// How many rules are asked, the audit's own verification included.
pub const fn count() -> usize {
    RULES.len() + 1
}
