//! What people see: status, positions, approvals, agents. Read only.

use domain::ids::UserId;
use domain::market::Mark;
use rails::book::Book;
use runtime::{HandleError, Means};
use serde_json::{Value, json};

use crate::answer::Refused;
use crate::services::nobody;
use crate::{Shared, gateway};

/// Windows that a look at the ledger asks for, ms.
const RATE_WINDOW_MS: i64 = 3_600_000;
const APPROVAL_WINDOW_MS: i64 = 300_000;
/// Accounts shown at a glance; `swarm positions --user` shows any.
const MOST_ACCOUNTS: i64 = 16;

/// Everything at a glance.
///
/// # Errors
/// Store failures.
pub async fn status(shared: &Shared, work: &impl Means) -> Result<Value, HandleError> {
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    let kill = store::kill::current(&mut unit).await?;
    let pending = store::approvals::pending(&mut unit, None).await?.len();
    let users = store::users::user_ids(&mut unit, MOST_ACCOUNTS).await?;
    unit.rollback().await?;
    let mut accounts = Vec::new();
    for user in users {
        accounts.extend(account(work, user).await?);
    }
    let ledger = match positions(work, "operator").await? {
        Ok(ledger) => ledger,
        Err(refused) => refused.json(),
    };
    Ok(json!({
        "now": now.to_string(),
        "kill": kill.map_or_else(
            || json!({ "level": 1, "reason": "no kill level is stored" }),
            |k| json!({ "level": k.level, "epoch": k.epoch, "by": k.by, "reason": k.reason }),
        ),
        "supervisor_pid": std::process::id(),
        "pending_approvals": pending,
        "market": work.marks().iter().map(|(id, mark)| mark_json(&id.to_string(), *mark, now.0)).collect::<Vec<_>>(),
        "agents": agents(shared),
        "operator": ledger,
        "accounts": accounts,
    }))
}

/// One account in short.
async fn account(work: &impl Means, user: UserId) -> Result<Option<Value>, HandleError> {
    let mut unit = work.begin(user).await?;
    let now = unit.now().await?;
    let handle = store::users::user(&mut unit, user).await?.map(|user| user.handle);
    let book = store::ledger::read_book(&mut unit, user, now, RATE_WINDOW_MS, APPROVAL_WINDOW_MS).await?;
    unit.rollback().await?;
    let Some(book) = book else { return Ok(None) };
    let equity = book.equity(&work.marks(), now, i64::MAX);
    Ok(Some(json!({
        "user": handle,
        "equity_usd": equity,
        "day_profit_usd": equity.and_then(|equity| equity.minus(book.day.equity).ok()),
        "open_positions": book.positions.len(),
        "trades_last_hour": book.permits.len(),
        "breaker_latched": book.breaker.latched_at.is_some(),
    })))
}

fn mark_json(name: &str, mark: Mark, now_ms: i64) -> Value {
    json!({ "instrument": name, "mark": mark.price, "age_ms": now_ms - mark.received_at.0 })
}

/// The processes: verdict, progress, memory, and what each lacks.
#[must_use]
pub fn agents(shared: &Shared) -> Value {
    shared.registry.view(tokio::time::Instant::now())
}

/// Requests that wait for a human.
///
/// # Errors
/// Store failures.
pub async fn approvals(work: &impl Means) -> Result<Value, HandleError> {
    let mut unit = work.begin(nobody()).await?;
    let rows = store::approvals::pending(&mut unit, None).await?;
    unit.rollback().await?;
    Ok(json!({ "approvals": rows.iter().map(gateway::shown).collect::<Vec<_>>() }))
}

/// Cash, positions and profit of one user.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn positions(work: &impl Means, handle: &str) -> Result<Result<Value, Refused>, HandleError> {
    let user = UserId::of_handle(handle);
    let mut unit = work.begin(user).await?;
    let now = unit.now().await?;
    let book = store::ledger::read_book(&mut unit, user, now, RATE_WINDOW_MS, APPROVAL_WINDOW_MS).await?;
    let decisions = store::decisions::recent(&mut unit, user, 10).await?;
    let (fills, fees) = store::orders::fill_totals(&mut unit, user).await?;
    unit.rollback().await?;
    let Some(book) = book else {
        return Ok(Err(Refused::new("UNKNOWN_USER", "no account of that name; `swarm up` opens the operator's")));
    };
    let marks = work.marks();
    let equity = book.equity(&marks, now, i64::MAX);
    let day_profit = equity.and_then(|e| e.minus(book.day.equity).ok());
    Ok(Ok(json!({
        "user": handle,
        "user_id": user,
        "cash_usd": book.cash,
        "equity_usd": equity,
        "day": { "baseline_equity_usd": book.day.equity, "profit_usd": day_profit },
        "fees_usd": fees,
        "fills": fills,
        "positions": position_rows(&book, &marks),
        "open_reservations": book.reservations.len(),
        "risk_permits_last_hour": book.permits.iter().filter(|p| p.risk_increasing).count(),
        "breaker": {
            "losses_in_a_row": book.breaker.losses_in_a_row,
            "latched_at": book.breaker.latched_at,
        },
        "recent_decisions": decisions
            .iter()
            .map(|d| json!({
                "at": d.at.to_string(), "signal_id": d.signal_id, "order_id": d.order_id,
                "outcome": d.outcome.word(), "code": d.code, "numbers": d.numbers,
            }))
            .collect::<Vec<_>>(),
    })))
}

fn position_rows(book: &Book, marks: &rails::book::Marks) -> Vec<Value> {
    book.positions
        .iter()
        .map(|(id, p)| {
            let mark = marks.get(id).map(|m| m.price);
            let value = mark.and_then(|m| m.notional_down(p.quantity).ok());
            json!({
                "instrument": id.to_string(),
                "quantity": p.quantity,
                "cost_usd": p.cost,
                "mark": mark,
                "value_usd": value,
                "unrealised_usd": value.and_then(|v| v.minus(p.cost).ok()),
                "trade_realised_usd": p.trade_realised,
            })
        })
        .collect()
}
