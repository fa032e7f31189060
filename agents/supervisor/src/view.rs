//! What people see: status, positions, approvals, agents. Read only.

use domain::ids::{ApprovalId, UserId};
use domain::market::Mark;
use domain::money::canonical_text;
use domain::time::UnixMs;
use rails::book::Book;
use runtime::{HandleError, Means};
use serde_json::{Value, json};
use store::kill::Kill;

use crate::answer::Refused;
use crate::services::nobody;
use crate::{NAME, Shared, curve, gateway, halt, letters};

/// Windows that a look at the ledger asks for, ms.
const RATE_WINDOW_MS: i64 = 3_600_000;
const APPROVAL_WINDOW_MS: i64 = 300_000;
/// Accounts shown at a glance; `swarm positions --user` shows any.
const MOST_ACCOUNTS: i64 = 16;
/// Fills that a curve goes back over.
const MOST_POINTS: i64 = 1_000;

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
    let dead_letters = letters::glance(&mut unit, now).await?;
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
        "kill": kill_level(shared, kill),
        "supervisor_pid": std::process::id(),
        "pending_approvals": pending,
        "dead_letters": dead_letters,
        "market": work.marks().iter().map(|(id, mark)| mark_json(&id.to_string(), *mark, now.0)).collect::<Vec<_>>(),
        "agents": agents(shared, now.0),
        "operator": ledger,
        "accounts": accounts,
    }))
}

/// The level that is in force, with who raised it and why. A raise that is not written down yet is in force all the same, and
/// the file says whose it is.
fn kill_level(shared: &Shared, stored: Option<Kill>) -> Value {
    let in_force = halt::standing(&shared.kill_file, &shared.lever).level;
    let Some(stored) = stored else {
        return json!({ "level": in_force.max(1), "reason": "no kill level is stored" });
    };
    if in_force <= stored.level {
        let Kill { level, epoch, by, reason, .. } = stored;
        return json!({ "level": level, "epoch": epoch, "by": by, "reason": reason });
    }
    let raise = runtime::kill::read_whole(&shared.kill_file).and_then(|file| file.unrecorded.last().cloned());
    let (by, reason) = raise.map_or_else(
        || (NAME.to_owned(), "raised, and not written down yet".to_owned()),
        |raise| (raise.by, raise.reason),
    );
    json!({ "level": in_force, "epoch": stored.epoch, "by": by, "reason": reason })
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
pub fn agents(shared: &Shared, now_ms: i64) -> Value {
    shared.registry.view(tokio::time::Instant::now(), now_ms)
}

/// Requests that wait for a human.
///
/// # Errors
/// Store failures.
pub async fn approvals(work: &impl Means) -> Result<Value, HandleError> {
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    let mut waiting = Vec::new();
    // One that is out of time waits no more, whether or not that is written down already.
    for row in store::approvals::pending(&mut unit, None).await?.iter().filter(|row| now <= row.expires_at) {
        let told = gateway::told_of(&mut unit, row).await?;
        waiting.push(gateway::shown(row, &told, now));
    }
    unit.rollback().await?;
    Ok(json!({ "approvals": waiting, "now_ms": now }))
}

/// One request, however far it is.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn approval(work: &impl Means, approval_id: ApprovalId) -> Result<Result<Value, Refused>, HandleError> {
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    let Some(row) = store::approvals::get(&mut unit, approval_id).await? else {
        return Ok(Err(Refused::new("UNKNOWN_REQUEST", "no approval request of that id")));
    };
    let told = gateway::told_of(&mut unit, &row).await?;
    unit.rollback().await?;
    Ok(Ok(json!({ "approvals": [gateway::shown(&row, &told, now)], "now_ms": now })))
}

/// Equity over time: before the first fill, after each, and now; at most the last thousand fills.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn equity(work: &impl Means, handle: &str) -> Result<Result<Value, Refused>, HandleError> {
    let user = UserId::of_handle(handle);
    let mut unit = work.begin(user).await?;
    let now = unit.now().await?;
    let book = store::ledger::read_book(&mut unit, user, now, RATE_WINDOW_MS, APPROVAL_WINDOW_MS).await?;
    let fills = store::orders::fills(&mut unit, user, MOST_POINTS).await?;
    unit.rollback().await?;
    let Some(book) = book else { return Ok(Err(unknown_user())) };
    let day = UnixMs::start_of_day(book.day.day);
    let points = curve::points(&book, &fills, &work.marks(), Some(day), now).unwrap_or_default();
    let points = points.iter().map(|p| json!({ "at_ms": p.at, "equity_usd": canonical_text(p.equity) }));
    Ok(Ok(json!({ "user": handle, "now_ms": now, "points": points.collect::<Vec<_>>() })))
}

/// Fills, newest first.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn trades(work: &impl Means, handle: &str, limit: i64) -> Result<Result<Value, Refused>, HandleError> {
    let user = UserId::of_handle(handle);
    let mut unit = work.begin(user).await?;
    if store::users::user(&mut unit, user).await?.is_none() {
        return Ok(Err(unknown_user()));
    }
    let fills = store::orders::fills(&mut unit, user, limit).await?;
    unit.rollback().await?;
    let rows = fills.iter().map(|fill| {
        json!({
            "at": fill.at.to_string(),
            "at_ms": fill.at,
            "instrument": fill.instrument.to_string(),
            "side": fill.side,
            "quantity": fill.quantity,
            "price": fill.price,
            "notional_usd": fill.price.notional_down(fill.quantity).ok(),
            "fee_usd": fill.fee,
            "order_id": fill.order_id,
            "venue_trade_id": fill.venue_trade_id,
        })
    });
    Ok(Ok(json!({ "user": handle, "trades": rows.collect::<Vec<_>>() })))
}

/// The limits that hold for a user, and how much of them is used.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn limits(shared: &Shared, work: &impl Means, handle: &str) -> Result<Result<Value, Refused>, HandleError> {
    let user_id = UserId::of_handle(handle);
    let mut unit = work.begin(user_id).await?;
    let now = unit.now().await?;
    let Some(user) = store::users::user(&mut unit, user_id).await? else { return Ok(Err(unknown_user())) };
    let Ok(limits) = shared.house.tightened_by(&user.trading_constraints) else {
        return Ok(Err(Refused::new("BAD_LIMITS", "the user's own limits can't be read: they get no permit")));
    };
    let (rate, sum) = (limits.rate_window_ms, limits.approval_window_ms);
    let book = store::ledger::read_book(&mut unit, user_id, now, rate, sum).await?;
    let asked = store::approvals::prompts_since(&mut unit, user_id, now.plus_ms(-RATE_WINDOW_MS)).await?;
    unit.rollback().await?;
    let Some(book) = book else { return Ok(Err(unknown_user())) };
    let equity = book.equity(&work.marks(), now, i64::MAX);
    let named: serde_json::Map<String, Value> =
        limits.named().into_iter().map(|(name, value)| (name.to_owned(), json!(canonical_text(value)))).collect();
    Ok(Ok(json!({
        "user": handle,
        "policy_version": limits.version(),
        "limits": named,
        "used": {
            "risk_permits": book.permits.iter().filter(|p| p.risk_increasing).count(),
            "exit_permits": book.permits.iter().filter(|p| !p.risk_increasing).count(),
            "approval_prompts": asked,
            "losses_in_a_row": book.breaker.losses_in_a_row,
            "breaker_latched_at": book.breaker.latched_at,
            "day_profit_usd": equity.and_then(|equity| equity.minus(book.day.equity).ok()),
            "day_baseline_usd": book.day.equity,
        },
    })))
}

fn unknown_user() -> Refused {
    Refused::new("UNKNOWN_USER", "no account of that name; `swarm up` opens the operator's")
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
        return Ok(Err(unknown_user()));
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
