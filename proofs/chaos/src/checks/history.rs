//! Every limit at every decision, computed again from the audit chain of each user: positions, reservations, cash and
//! stamps are carried forward row by row with code of its own, and each permit is held against the shipped numbers.

use std::collections::BTreeMap;

use domain::ids::{ApprovalId, UserId};
use domain::order::{OrderEnvelope, Side};
use domain::person::{Act, Vote};
use domain::time::UnixMs;
use rails::limits::Limits;
use rails::signature::verify_act;
use rust_decimal::Decimal;
use serde_json::Value;
use sqlx::Row;
use sqlx::types::Json;
use store::Db;
use uuid::Uuid;

use super::Finding;
use crate::Trouble;

/// What a user holds and has open, at one row of their chain.
#[derive(Debug, Default)]
struct Account {
    cash: Decimal,
    held: BTreeMap<String, Decimal>,
    open: BTreeMap<String, Open>,
    stamps: Vec<(UnixMs, Side)>,
    unapproved: Vec<(UnixMs, String, Decimal)>,
    latched: bool,
}

#[derive(Debug)]
struct Open {
    symbol: String,
    side: Side,
    worst: Decimal,
    left: Decimal,
}

/// Counts and wrongs of a replay.
#[derive(Debug, Default)]
struct Replay {
    rows: usize,
    permits: usize,
    wrong: Vec<String>,
}

/// Replays every user's chain.
///
/// # Errors
/// [`Trouble`].
pub async fn check(db: &Db, limits: &Limits) -> Result<Vec<Finding>, Trouble> {
    let mut replay = Replay::default();
    let users = sqlx::query("SELECT user_id, opening FROM accounts").fetch_all(db.pool()).await?;
    for user in users {
        let (user, opening): (Uuid, Decimal) = (user.try_get(0)?, user.try_get(1)?);
        let mut account = Account { cash: opening, ..Account::default() };
        let rows = sqlx::query(
            "SELECT t.seq, (extract(epoch FROM t.at) * 1000)::bigint AS at_ms, t.kind, t.body, a.envelope AS asked
             FROM trade_audit t
             LEFT JOIN approval_requests a ON t.kind = 'approval_requested' AND a.user_id = t.user_id
               AND a.order_id::text = t.body ->> 'order_id'
             WHERE t.user_id = $1 ORDER BY t.seq",
        )
        .bind(user)
        .fetch_all(db.pool())
        .await?;
        for row in rows {
            replay.rows += 1;
            let seq: i64 = row.try_get("seq")?;
            let at = UnixMs(row.try_get("at_ms")?);
            let kind: String = row.try_get("kind")?;
            let Json(body): Json<Value> = row.try_get("body")?;
            let asked: Option<Json<Value>> = row.try_get("asked")?;
            let wrong = account.follow(&kind, &body, asked.map(|Json(asked)| asked), at, limits, &mut replay.permits);
            replay.wrong.extend(wrong.into_iter().map(|wrong| format!("user {user} row {seq}: {wrong}")));
        }
    }
    let seen = format!("{} rows of the chains, {} permits", replay.rows, replay.permits);
    let limits = Finding::new("no limit was passed at any permit", "over a limit", seen, replay.wrong);
    Ok(vec![limits, approvals(db).await?])
}

impl Account {
    fn follow(
        &mut self,
        kind: &str,
        body: &Value,
        asked: Option<Value>,
        at: UnixMs,
        limits: &Limits,
        permits: &mut usize,
    ) -> Vec<String> {
        let order_id = body["order_id"].as_str().unwrap_or_default().to_owned();
        match kind {
            "approval_requested" => {
                let Some(envelope) = asked.and_then(envelope) else {
                    return vec!["a question without its order".into()];
                };
                let mut wrong = self.exposures(&envelope, limits);
                self.reserve(&envelope);
                wrong.retain(|_| envelope.side == Side::Buy);
                wrong
            }
            "permit_signed" => {
                *permits += 1;
                let Some(envelope) = envelope(body["envelope"].clone()) else {
                    return vec!["a permit without its order".into()];
                };
                self.permit(&envelope, body["by_human"] == true, at, limits)
            }
            "fill_posted" => self.fill(&body["fill"], &order_id).err().into_iter().collect(),
            "order_outcome" | "permit_voided" | "approval_ended" => {
                self.open.remove(&order_id);
                Vec::new()
            }
            "breaker_latched" => {
                self.latched = true;
                Vec::new()
            }
            "breaker_reset" => {
                self.latched = false;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn permit(&mut self, order: &OrderEnvelope, by_human: bool, at: UnixMs, limits: &Limits) -> Vec<String> {
        let mut wrong = Vec::new();
        let within = |then: UnixMs, window_ms: i64| at.since_ms(then) < window_ms;
        let count =
            self.stamps.iter().filter(|(t, side)| *side == order.side && within(*t, limits.rate_window_ms)).count();
        let most = if order.side == Side::Buy { limits.rate_risk_increasing } else { limits.rate_exits };
        if u32::try_from(count).unwrap_or(u32::MAX) >= most {
            wrong.push(format!("{} permits of {} within the hour before", count, order.side));
        }
        if order.side == Side::Buy {
            wrong.extend(self.exposures(order, limits));
            if self.latched {
                wrong.push("new risk while the breaker is latched".to_owned());
            }
            if Decimal::from(order.max_slippage_bps) > limits.price_collar_percent * Decimal::ONE_HUNDRED {
                wrong.push(format!("{} bps from the mark", order.max_slippage_bps));
            }
            let symbol = order.symbol.to_string();
            let notional = order.max_notional_usd.value();
            if !by_human {
                let before =
                    self.unapproved.iter().filter(|(t, s, _)| *s == symbol && within(*t, limits.approval_window_ms));
                let sum = notional + before.map(|(_, _, usd)| *usd).sum::<Decimal>();
                if sum > limits.approval_over_usd.value() {
                    wrong.push(format!("${sum} without a human within {} ms", limits.approval_window_ms));
                }
                self.unapproved.push((at, symbol, notional));
            }
        } else {
            let held = self.held.get(order.symbol.as_str()).copied().unwrap_or_default();
            if order.quantity.value() > held {
                wrong.push(format!("sells {} of {held}", order.quantity));
            }
        }
        self.stamps.push((at, order.side));
        self.reserve(order);
        wrong
    }

    /// Position and total of a buy. The mark of the decision is not stored, but how far the worst price lies from it is,
    /// rounded up to a hundredth of a percent: the lowest mark that fits is taken, so what is found is certain.
    fn exposures(&self, order: &OrderEnvelope, limits: &Limits) -> Vec<String> {
        if order.side != Side::Buy {
            return Vec::new();
        }
        let symbol = order.symbol.to_string();
        let worst = order.worst_price.value();
        let mark = worst * Decimal::from(10_000) / Decimal::from(10_000 + order.max_slippage_bps);
        let own = order.max_notional_usd.value();
        let others =
            || self.open.iter().filter(|(id, open)| **id != order.order_id.to_string() && open.side == Side::Buy);
        let usd = |open: &Open| open.left * open.worst;
        let position = own
            + self.held.get(&symbol).copied().unwrap_or_default() * mark
            + others().filter(|(_, open)| open.symbol == symbol).map(|(_, open)| usd(open)).sum::<Decimal>();
        let mut wrong = Vec::new();
        if position > limits.position_usd.value() {
            wrong.push(format!("${position} in {symbol}"));
        }
        // Holdings count the same in exposure and equity: what is left of the rule is that open buys fit into the cash.
        let buys = own + others().map(|(_, open)| usd(open)).sum::<Decimal>();
        if buys > self.cash {
            wrong.push(format!("${buys} of open buys with ${} of cash", self.cash));
        }
        wrong
    }

    fn reserve(&mut self, order: &OrderEnvelope) {
        let open = Open {
            symbol: order.symbol.to_string(),
            side: order.side,
            worst: order.worst_price.value(),
            left: order.quantity.value(),
        };
        self.open.insert(order.order_id.to_string(), open);
    }

    fn fill(&mut self, fill: &Value, order_id: &str) -> Result<(), String> {
        let fill: domain::order::Fill =
            serde_json::from_value(fill.clone()).map_err(|error| format!("a fill: {error}"))?;
        let (quantity, usd) = (fill.quantity.value(), fill.quantity.value() * fill.price.value());
        let held = self.held.entry(fill.instrument.symbol.to_string()).or_default();
        match fill.side {
            Side::Buy => {
                *held += quantity;
                self.cash -= usd + fill.fee.value();
            }
            Side::Sell => {
                *held -= quantity;
                self.cash += usd - fill.fee.value();
            }
        }
        if *held < Decimal::ZERO || self.cash < Decimal::ZERO {
            return Err(format!("{held} held and ${} of cash after a fill", self.cash));
        }
        let open =
            self.open.get_mut(order_id).ok_or_else(|| format!("a fill of {order_id}, which reserves nothing"))?;
        open.left -= quantity;
        if open.left < Decimal::ZERO { Err(format!("{order_id} traded more than it asked for")) } else { Ok(()) }
    }
}

fn envelope(value: Value) -> Option<OrderEnvelope> {
    serde_json::from_value(value).ok()
}

/// Every used approval has a yes whose signature verifies over its digest.
async fn approvals(db: &Db) -> Result<Finding, Trouble> {
    let mut unit = db.begin().await?;
    let approvers = store::approvals::approvers(&mut unit).await?;
    let used: Vec<(Uuid, Uuid)> =
        sqlx::query_as("SELECT user_id, approval_id FROM approval_requests WHERE status = 'consumed'")
            .fetch_all(unit.conn()?)
            .await?;
    let mut wrong = Vec::new();
    for (user, id) in &used {
        unit.set_tenant(UserId(*user)).await?;
        let id = ApprovalId(*id);
        let row = store::approvals::get(&mut unit, id).await?;
        let entries = store::approvals::entries(&mut unit, id).await?;
        let good = entries.iter().any(|entry| {
            let Some(signed) = entry.signed_act() else { return false };
            let is_yes = matches!(&signed.act.what, Act::Vote { approval_id, digest, vote: Vote::Approve }
                if *approval_id == id && row.as_ref().is_some_and(|row| row.digest == *digest));
            let key = approvers.iter().find(|a| a.active && a.person_id == entry.person_id);
            is_yes && key.is_some_and(|key| verify_act(&signed, &key.public_key).is_ok())
        });
        if !good {
            wrong.push(format!("approval {id} was used without a signed yes"));
        }
    }
    unit.rollback().await?;
    let seen = format!("{} approvals used", used.len());
    Ok(Finding::new("every used approval is signed by an approver", "over a limit", seen, wrong))
}
