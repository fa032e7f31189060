//! The whole chain of one order, for people.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{StoreError, Unit};

/// Finds whose order an id names. Postgres writes the rows as JSON itself: amounts as text, so that nothing is rounded.
const FIND: &str = "
    SELECT user_id, order_id FROM policy_decisions WHERE order_id = $1 OR intent_id = $1 OR signal_id = $1
    UNION SELECT user_id, order_id FROM permits WHERE permit_id = $1 OR order_id = $1
    UNION SELECT user_id, order_id FROM approval_requests WHERE approval_id = $1
    UNION SELECT user_id, order_id FROM orders WHERE order_id = $1 OR client_order_id = $2 OR venue_order_id = $2
      OR children @> jsonb_build_array(jsonb_build_object('client_order_id', $2::text))
      OR children @> jsonb_build_array(jsonb_build_object('venue_order_id', $2::text))
    UNION SELECT user_id, order_id FROM fills WHERE venue_trade_id = $2
    ORDER BY user_id, order_id LIMIT 16";

const CHAIN: &str = "
    SELECT jsonb_build_object(
      'decision', (SELECT to_jsonb(d) - 'digest' - 'position' || jsonb_build_object('digest', encode(d.digest, 'hex'))
                   FROM policy_decisions d WHERE d.user_id = $1 AND d.order_id = $2),
      'approvals', (SELECT coalesce(jsonb_agg(to_jsonb(a) - 'digest' || jsonb_build_object(
                      'digest', encode(a.digest, 'hex'),
                      'entries', (SELECT coalesce(jsonb_agg(to_jsonb(e) - 'digest' || jsonb_build_object(
                                    'digest', encode(e.digest, 'hex')) ORDER BY e.stored_at), '[]')
                                  FROM approval_entries e
                                  WHERE e.user_id = a.user_id AND e.approval_id = a.approval_id),
                      'steps', (SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY r.at), '[]')
                                FROM approval_resolutions r
                                WHERE r.user_id = a.user_id AND r.approval_id = a.approval_id))
                      ORDER BY a.requested_at), '[]')
                    FROM approval_requests a WHERE a.user_id = $1 AND a.order_id = $2),
      'permit', (SELECT to_jsonb(p) FROM permits p WHERE p.user_id = $1 AND p.order_id = $2),
      'order', (SELECT to_jsonb(o) - 'position' || jsonb_build_object('filled', trim_scale(o.filled)::text)
                FROM orders o WHERE o.user_id = $1 AND o.order_id = $2),
      'fills', (SELECT coalesce(jsonb_agg(to_jsonb(f) - 'position' || jsonb_build_object(
                  'quantity', trim_scale(f.quantity)::text, 'price', trim_scale(f.price)::text,
                  'fee', trim_scale(f.fee)::text) ORDER BY f.position), '[]')
                FROM fills f WHERE f.user_id = $1 AND f.order_id = $2))";

/// Rows that speak of the order, or of the intent or signal it came from and of no other order.
const AUDIT: &str = "
    SELECT coalesce(jsonb_agg(jsonb_build_object('seq', t.seq, 'at', t.at, 'kind', t.kind, 'agent', t.agent,
             'body', t.body, 'hash', encode(t.hash, 'hex')) ORDER BY t.seq), '[]')
    FROM trade_audit t
    LEFT JOIN policy_decisions d ON d.user_id = $1 AND d.order_id = $2
    WHERE t.user_id = $1
      AND (t.body ->> 'order_id' = $2::text
           OR (t.body ->> 'order_id' IS NULL
               AND (t.body ->> 'intent_id' = d.intent_id::text
                    OR (t.body ->> 'intent_id' IS NULL AND t.body ->> 'signal_id' = d.signal_id::text))))";

/// What a model said of the order before it was judged, taken from its decision row and marked as what it is: prose of a
/// stranger that no rail has read. `null` when no row says.
fn opinion(audit: &Value) -> Value {
    let rows = audit.as_array().map(Vec::as_slice).unwrap_or_default();
    let row = rows.iter().find(|row| row["kind"] == "decision");
    match row.and_then(|row| row["body"]["intent"]["opinion"].as_object()) {
        Some(said) => json!({ "untrusted": true, "authorises": false, "said": said }),
        None => Value::Null,
    }
}

/// Everything stored about an order: its audit rows in order, decision, approvals with entries, permit, order and
/// fills. `id` is an order, intent, signal, permit or approval id, a client order id, or the venue's id of the order or
/// of a trade. `None` when nothing that this role may see has it. A signal of several legs has several orders.
///
/// # Errors
/// [`StoreError`]; [`StoreError::NotPostgres`] where Postgres can't write the rows.
pub async fn explain(unit: &mut Unit, id: &str) -> Result<Option<Value>, StoreError> {
    let named: Vec<(Uuid, Uuid)> =
        sqlx::query_as(FIND).bind(Uuid::parse_str(id).ok()).bind(id).fetch_all(unit.conn()?).await?;
    let mut orders = Vec::with_capacity(named.len());
    for (user, order) in named {
        let mut chain: Value = sqlx::query_scalar(CHAIN).bind(user).bind(order).fetch_one(unit.conn()?).await?;
        let audit: Value = sqlx::query_scalar(AUDIT).bind(user).bind(order).fetch_one(unit.conn()?).await?;
        if let Some(chain) = chain.as_object_mut() {
            chain.insert("user_id".to_owned(), json!(user));
            chain.insert("order_id".to_owned(), json!(order));
            chain.insert("model_opinion".to_owned(), opinion(&audit));
            chain.insert("audit".to_owned(), audit);
        }
        orders.push(chain);
    }
    Ok((!orders.is_empty()).then(|| json!({ "asked": id, "orders": orders })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_opinion_is_shown_apart_and_marked() {
        let said = json!({ "kind": "reviewed", "verdict": "object", "confidence_percent": 72, "reasoning": "wide" });
        let row = |kind: &str| json!({ "kind": kind, "body": { "intent": { "opinion": said } } });
        let want = json!({ "untrusted": true, "authorises": false, "said": said });
        assert_eq!(opinion(&json!([{ "kind": "permit_signed" }, row("decision")])), want);
        // Rows from before there were reviews.
        assert_eq!(opinion(&json!([{ "kind": "decision", "body": { "intent": {} } }])), Value::Null);
        assert_eq!(opinion(&json!([row("permit_signed")])), Value::Null);
        assert_eq!(opinion(&json!([])), Value::Null);
    }
}
