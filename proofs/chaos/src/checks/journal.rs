//! The ledger against the exchange's own record, which lies outside the database.

use std::collections::BTreeMap;
use std::path::Path;

use domain::order::Side;
use rust_decimal::Decimal;
use sha2::{Digest, Sha256};
use sqlx::Row;
use store::Db;
use venues::paper::Effect;

use super::Finding;
use crate::Trouble;

/// One order as the exchange knows it.
#[derive(Debug, Default)]
struct AtVenue {
    taken: usize,
    refused: usize,
    side: Option<Side>,
    symbol: String,
    filled: Decimal,
    quantity: Decimal,
    ended: bool,
}

/// What the journal says.
#[derive(Debug, Default)]
struct Record {
    orders: BTreeMap<String, AtVenue>,
    /// Trade id: client order id, price, quantity, fee.
    trades: BTreeMap<String, (String, Decimal, Decimal, Decimal)>,
    repeated_trades: Vec<String>,
    /// Base quantity by symbol.
    held: BTreeMap<String, Decimal>,
    cash: Decimal,
}

/// Compares journal and tables exactly.
///
/// # Errors
/// [`Trouble`] when one of the two can't be read.
pub async fn check(db: &Db, path: &Path) -> Result<Vec<Finding>, Trouble> {
    let record = read(path)?;
    let mut twice: Vec<String> = record.repeated_trades.clone();
    for (id, order) in &record.orders {
        if order.taken + order.refused != 1 {
            twice.push(format!("{id}: taken {} and refused {} times", order.taken, order.refused));
        }
        if order.filled > order.quantity {
            twice.push(format!("{id}: filled {} of {}", order.filled, order.quantity));
        }
    }
    let seen = format!("{} orders, {} trades in the journal", record.orders.len(), record.trades.len());
    let twice = Finding::new("no order is at the venue twice, none is overfilled", "doubled", seen.clone(), twice);
    let mut wrong = orders(db, &record).await?;
    wrong.extend(trades(db, &record).await?);
    wrong.extend(sums(db, &record).await?);
    let equal = Finding::new("the ledger is the venue's record: orders, trades, cash, positions", "other", seen, wrong);
    Ok(vec![twice, equal])
}

fn read(path: &Path) -> Result<Record, Trouble> {
    let text = std::fs::read_to_string(path).map_err(|error| Trouble::file(path, error))?;
    let mut record = Record::default();
    let mut head = [0_u8; 32];
    for (at, line) in text.lines().enumerate() {
        let bad = |why: &str| Trouble::file(path, format!("line {}: {why}", at + 1));
        let (sum, json) = line.split_once(' ').ok_or_else(|| bad("no checksum"))?;
        let mut hash = Sha256::new();
        hash.update(head);
        hash.update(json.as_bytes());
        head = hash.finalize().into();
        if !hex::encode(head).starts_with(sum) || sum.len() < 16 {
            return Err(bad("the checksum does not match"));
        }
        let effects: Vec<Effect> = serde_json::from_str(json).map_err(|error| bad(&error.to_string()))?;
        effects.into_iter().for_each(|effect| record.apply(effect));
    }
    Ok(record)
}

impl Record {
    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Opened { .. } => {}
            // A run is far shorter than what is kept; if not, what this check compares would be missing from the start on.
            Effect::Resumed { .. } => self.repeated_trades.push("the journal was begun anew within the run".to_owned()),
            Effect::Accepted { request, .. } => {
                let order = self.orders.entry(request.client_order_id.clone()).or_default();
                order.taken += 1;
                order.side = Some(request.side);
                order.symbol = request.instrument.symbol.to_string();
                order.quantity = request.quantity.value();
            }
            Effect::Rejected { request, .. } => {
                let order = self.orders.entry(request.client_order_id.clone()).or_default();
                order.refused += 1;
                order.quantity = request.quantity.value();
            }
            Effect::Filled { client_order_id, trade_id, price, quantity, fee, .. } => {
                let order = self.orders.entry(client_order_id.clone()).or_default();
                order.filled += quantity.value();
                let sold = order.side == Some(Side::Sell);
                let usd = price.value() * quantity.value();
                self.cash += if sold { usd } else { -usd } - fee.value();
                *self.held.entry(order.symbol.clone()).or_default() +=
                    if sold { -quantity.value() } else { quantity.value() };
                let id = trade_id.to_string();
                let trade = (client_order_id, price.value(), quantity.value(), fee.value());
                if self.trades.insert(id.clone(), trade).is_some() {
                    self.repeated_trades.push(format!("trade {id} is in the journal twice"));
                }
            }
            Effect::Ended { client_order_id, .. } => self.orders.entry(client_order_id).or_default().ended = true,
        }
    }
}

async fn orders(db: &Db, record: &Record) -> Result<Vec<String>, Trouble> {
    let mut wrong = Vec::new();
    let mut ours: BTreeMap<String, (String, Decimal, Option<String>)> = BTreeMap::new();
    // Of a sliced order the venue knows the children only, and their fills are its.
    let rows = sqlx::query(
        "SELECT client_order_id, state, filled, code FROM orders WHERE NOT envelope ? 'slicing'
         UNION ALL
         SELECT child ->> 'client_order_id', child ->> 'state', (child ->> 'filled')::numeric, child ->> 'code'
         FROM orders, jsonb_array_elements(children) child",
    );
    for row in rows.fetch_all(db.pool()).await? {
        ours.insert(row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?));
    }
    let sums = sqlx::query(
        "SELECT order_id::text, filled, (SELECT sum((child ->> 'filled')::numeric) FROM jsonb_array_elements(children) child),
                (envelope ->> 'quantity')::numeric
         FROM orders WHERE envelope ? 'slicing'",
    );
    for row in sums.fetch_all(db.pool()).await? {
        let (id, filled, children): (String, Decimal, Option<Decimal>) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let quantity: Decimal = row.try_get(3)?;
        if filled != children.unwrap_or_default() || filled > quantity {
            wrong.push(format!("sliced order {id}: filled {filled}, its children {children:?}, permitted {quantity}"));
        }
    }
    for (id, order) in &record.orders {
        let Some((state, filled, _)) = ours.get(id) else {
            wrong.push(format!("order {id} is at the venue and not in the ledger"));
            continue;
        };
        let theirs = match order {
            order if order.refused > 0 => "rejected",
            order if order.filled == order.quantity => "filled",
            order if order.ended => "cancelled",
            _ => "open",
        };
        if theirs != state || *filled != order.filled {
            wrong.push(format!("order {id}: {state} {filled} here, {theirs} {} at the venue", order.filled));
        }
    }
    for (id, (state, _, code)) in &ours {
        let unsent = state == "rejected" && code.is_some();
        if !record.orders.contains_key(id) && !unsent {
            wrong.push(format!("order {id} is {state} here and unknown at the venue"));
        }
    }
    Ok(wrong)
}

async fn trades(db: &Db, record: &Record) -> Result<Vec<String>, Trouble> {
    let mut wrong = Vec::new();
    let mut left = record.trades.clone();
    let rows = sqlx::query(
        "SELECT f.venue_trade_id, f.price, f.quantity, f.fee,
                ARRAY[o.client_order_id]
                || ARRAY(SELECT child ->> 'client_order_id' FROM jsonb_array_elements(o.children) child)
         FROM fills f JOIN orders o USING (user_id, order_id)",
    )
    .fetch_all(db.pool())
    .await?;
    for row in rows {
        let id: String = row.try_get(0)?;
        let ours: (Decimal, Decimal, Decimal) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let names: Vec<String> = row.try_get(4)?;
        match left.remove(&id) {
            Some((name, price, quantity, fee)) if names.contains(&name) && (price, quantity, fee) == ours => {}
            theirs => wrong.push(format!("trade {id}: {ours:?} here, {theirs:?} at the venue")),
        }
    }
    wrong.extend(left.keys().map(|id| format!("trade {id} is at the venue and not in the ledger")));
    Ok(wrong)
}

async fn sums(db: &Db, record: &Record) -> Result<Vec<String>, Trouble> {
    let cash: Decimal =
        sqlx::query_scalar("SELECT coalesce(sum(cash - opening), 0) FROM accounts").fetch_one(db.pool()).await?;
    let mut held: BTreeMap<String, Decimal> = BTreeMap::new();
    for row in sqlx::query("SELECT symbol, sum(quantity) FROM positions GROUP BY symbol").fetch_all(db.pool()).await? {
        held.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let mut wrong = Vec::new();
    if cash != record.cash {
        wrong.push(format!("cash moved by {cash} here and by {} at the venue", record.cash));
    }
    let symbols: std::collections::BTreeSet<&String> = held.keys().chain(record.held.keys()).collect();
    for symbol in symbols {
        let of = |sums: &BTreeMap<String, Decimal>| sums.get(symbol).copied().unwrap_or_default();
        if of(&held) != of(&record.held) {
            wrong.push(format!("{} {symbol} are held here and {} at the venue", of(&held), of(&record.held)));
        }
    }
    Ok(wrong)
}
