//! What treasury does without being asked: post unposted facts, end overdue questions, void unspent permits, start the
//! day, watch today's loss, and sell what is held at kill level 3. Start-up and recovery are this same loop.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::ids::{OrderId, UserId};
use domain::message::Message;
use domain::time::UnixMs;
use rails::book::Marks;
use rails::check::KillReading;
use rails::limits::Limits;
use runtime::evidence::Panel;
use runtime::kill::KillSwitch;
use runtime::{HandleError, Means, Work};
use store::Unit;

use crate::config::Config;
use crate::decide::{Sight, limits_of, lock};
use crate::{Treasury, approval, facts, flatten, nil_user, settle};

/// How often the sweep looks.
const EVERY: Duration = runtime::USUALLY;
/// Facts, questions and permits taken up in one turn.
const BATCH: i64 = 200;
/// Turns between two rounds over the users who hold something (6 s); a user without a position has no loss to watch,
/// and their day starts with their next order.
const ROUND_EVERY_TURNS: u64 = 3;
/// Turns between two looks at whether the limits are still those a question was asked under (20 s).
const LIMITS_EVERY_TURNS: u64 = 10;
/// Users looked at in one turn: posting must not wait for the watching.
const WATCHED_A_TURN: i64 = 50;

/// The first pause of a piece of work that failed, ms; it doubles with each further failure.
const PAUSE_MS: i64 = 1_000;
/// The longest.
const LONGEST_PAUSE_MS: i64 = 300_000;

/// Where the round over the holders stands, who was told of today's loss, and what waits because it failed.
#[derive(Debug, Default)]
pub struct Round {
    put_off: PutOff,
    /// A whole sweep went through.
    started: bool,
    told: BTreeMap<UserId, i64>,
    after: Option<UserId>,
    pause_turns: u64,
    /// Sweeps so far.
    turns: u64,
    /// What is sold at kill level 3, and after whom the next sweep goes on.
    attempts: flatten::Attempts,
    sold_after: Option<UserId>,
}

/// Sweeps until shutdown. A failing turn is logged and tried again with the next; a fatal one ends the process.
///
/// # Errors
/// [`HandleError::Fatal`].
pub async fn run(treasury: &Treasury, work: &Work) -> Result<(), HandleError> {
    let mut round = Round::default();
    let mut ticks = runtime::grid(EVERY);
    loop {
        tokio::select! {
            () = work.shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        match sweep(treasury, work, &mut round).await {
            Ok(()) => work.progress(),
            Err(HandleError::Fatal(text)) => return Err(HandleError::Fatal(text)),
            Err(error) => tracing::warn!(%error, "sweep will be tried again"),
        }
    }
}

/// Looks once at everything that is due.
///
/// # Errors
/// Store failures; what one user's piece of work fails with is left for the next sweep.
pub async fn sweep(treasury: &Treasury, work: &impl Means, round: &mut Round) -> Result<(), HandleError> {
    treasury.watch_midnight(&work.marks(), work.now().day());
    let mut looker = work.begin(nil_user()).await?;
    let now = looker.now().await?;
    let besides = round.put_off.waiting(now);
    let unposted = store::orders::unposted(&mut looker, BATCH, &besides).await?;
    let mut due = store::approvals::due(&mut looker, now).await?;
    // What was asked of other approvers is over. Limits may have changed while we were down, or a user's own at any time.
    let panel = Panel::read(&mut looker).await?;
    let all = !round.started || round.turns.is_multiple_of(LIMITS_EVERY_TURNS);
    let waiting = store::approvals::pending(&mut looker, None).await?;
    let outdated = waiting.iter().filter(|row| all || row.approvers_version != panel.version());
    due.extend(outdated.map(|row| (row.user_id, row.approval_id)));
    due.sort_unstable();
    due.dedup();
    round.turns = round.turns.wrapping_add(1);
    let unspent = store::permits::unspent_due(&mut looker, now).await?;
    let users = round.next(&mut looker, now.day()).await?;
    let kill = KillSwitch::read_with(&mut looker, &treasury.kill.copies()).await?;
    let sellers = round.holders_to_sell(&mut looker, kill).await?;
    looker.rollback().await?;

    let config = treasury.config();
    for (user, order_id) in unposted {
        let act = async |unit: &mut Unit, sight: Sight<'_>| settle::post(unit, config, user, order_id, sight).await;
        round.put_off.note(order_id, each(treasury, work, user, act).await?, now);
    }
    for (user, approval_id) in due {
        each(treasury, work, user, async |unit, sight| approval::settle(unit, config, user, approval_id, sight).await)
            .await?;
    }
    for due in unspent {
        each(treasury, work, due.user_id, async |unit, sight| {
            settle::void_unspent(unit, config, due.user_id, due.permit_id, due.order_id, sight).await
        })
        .await?;
    }
    if let KillReading::Level { epoch, .. } = kill {
        for user in sellers {
            let attempts = &mut round.attempts;
            each(treasury, work, user, async |unit, sight| {
                flatten::exits(unit, config, user, epoch, attempts, sight).await
            })
            .await?;
        }
    }
    for user in to_look_at(treasury, work, users).await? {
        let last = round.told.get(&user).copied();
        let mut loss_day = None;
        each(treasury, work, user, async |unit, sight| {
            let Some(locked) = lock(unit, config, user, sight).await? else { return Ok(Vec::new()) };
            if is_over_daily_loss(&locked.book, &locked.limits, sight.marks, sight.now) && last != Some(sight.now.day())
            {
                loss_day = Some(sight.now.day());
                return Ok(vec![daily_loss_notice(user, sight.now.day())]);
            }
            Ok(Vec::new())
        })
        .await?;
        if let Some(day) = loss_day {
            round.told.insert(user, day);
        }
    }
    round.started = true;
    Ok(())
}

/// Those of `users` whose ledger has to be looked at under its lock: their day must start, or today's loss is at its limit.
/// Whom nothing is to be done for costs two reads, no lock and no write: a round of locks and commits over everybody would
/// stand in the way of those who trade.
async fn to_look_at(treasury: &Treasury, work: &impl Means, users: Vec<UserId>) -> Result<Vec<UserId>, HandleError> {
    let (config, marks) = (treasury.config(), work.marks());
    let mut found = Vec::new();
    let mut unit = work.begin(nil_user()).await?;
    let now = unit.now().await?;
    for user in users {
        match is_to_look_at(&mut unit, config, user, &marks, now).await {
            Ok(true) => found.push(user),
            Ok(false) => {}
            Err(error) => {
                // The look under the lock says what is wrong. A transaction in which something failed is over.
                tracing::debug!(%error, user_id = %user, "looked at under the lock");
                found.push(user);
                unit.rollback().await?;
                unit = work.begin(nil_user()).await?;
            }
        }
    }
    unit.rollback().await?;
    Ok(found)
}

async fn is_to_look_at(
    unit: &mut Unit,
    config: &Config,
    user: UserId,
    marks: &Marks,
    now: UnixMs,
) -> Result<bool, HandleError> {
    unit.set_tenant(user).await?;
    let Some(account) = store::users::user(unit, user).await? else { return Ok(false) };
    let (limits, _) = limits_of(config, &account);
    let book = store::ledger::read_book(unit, user, now, limits.rate_window_ms, limits.approval_window_ms).await?;
    Ok(book.is_some_and(|book| book.day.day < now.day() || is_over_daily_loss(&book, &limits, marks, now)))
}

/// Orders whose facts could not be posted: how often in a row, and when they are tried again. A fact that the ledger
/// can't hold stays so until somebody has looked; asked for at full speed it would take the place of all others.
#[derive(Debug, Default)]
struct PutOff(BTreeMap<OrderId, (u32, UnixMs)>);

impl PutOff {
    /// Those whose time has not come.
    fn waiting(&self, now: UnixMs) -> Vec<OrderId> {
        self.0.iter().filter(|(_, (_, until))| *until > now).map(|(order_id, _)| *order_id).collect()
    }

    fn note(&mut self, order_id: OrderId, is_done: bool, now: UnixMs) {
        if is_done {
            self.0.remove(&order_id);
            return;
        }
        let failed = self.0.get(&order_id).map_or(0, |(failed, _)| *failed);
        let pause =
            PAUSE_MS.saturating_mul(1_i64.checked_shl(failed).unwrap_or(i64::MAX)).clamp(PAUSE_MS, LONGEST_PAUSE_MS);
        self.0.insert(order_id, (failed.saturating_add(1), now.plus_ms(pause)));
    }
}

impl Round {
    /// The next of those who hold something while everything is to be sold.
    async fn holders_to_sell(&mut self, looker: &mut Unit, kill: KillReading) -> Result<Vec<UserId>, HandleError> {
        if kill.level() < flatten::FROM_LEVEL {
            self.attempts.forget();
            self.sold_after = None;
            return Ok(Vec::new());
        }
        let users = store::ledger::holders(looker, self.sold_after, WATCHED_A_TURN).await?;
        let is_last = i64::try_from(users.len()).is_ok_and(|found| found < WATCHED_A_TURN);
        self.sold_after = if is_last { None } else { users.last().copied() };
        Ok(users)
    }

    /// The next holders to look at; none between two rounds.
    async fn next(&mut self, looker: &mut Unit, today: i64) -> Result<Vec<UserId>, HandleError> {
        if self.pause_turns > 0 {
            self.pause_turns -= 1;
            return Ok(Vec::new());
        }
        self.told.retain(|_, day| *day >= today);
        let users = store::ledger::holders(looker, self.after, WATCHED_A_TURN).await?;
        let is_last = i64::try_from(users.len()).is_ok_and(|found| found < WATCHED_A_TURN);
        self.after = if is_last { None } else { users.last().copied() };
        self.pause_turns = if is_last { ROUND_EVERY_TURNS - 1 } else { 0 };
        Ok(users)
    }
}

/// One user's piece of work in a transaction of its own, and whether it could be done. A piece that fails, however badly, does not hold up the others:
/// a row of one user that can't be read must not stop the settling of everybody's trades.
async fn each(
    treasury: &Treasury,
    work: &impl Means,
    user: UserId,
    act: impl AsyncFnOnce(&mut Unit, Sight<'_>) -> Result<Vec<Message>, HandleError>,
) -> Result<bool, HandleError> {
    let mut unit = work.begin(user).await?;
    let now = unit.now().await?;
    let skew = work.now().since_ms(now);
    let marks = work.marks();
    let is_as_declared = treasury.is_as_declared(&mut unit).await?;
    let done = treasury.with_sight(&marks, now, skew, is_as_declared, async |sight| act(&mut unit, sight).await).await;
    match done {
        Ok(out) => work.commit(unit, user, out).await.map(|()| true),
        Err(error) => {
            tracing::error!(%error, user_id = %user, "left for the next sweep");
            metrics::counter!("swarm_sweep_left_total").increment(1);
            unit.rollback().await?;
            Ok(false)
        }
    }
}

fn is_over_daily_loss(book: &rails::book::Book, limits: &Limits, marks: &Marks, now: UnixMs) -> bool {
    let Some(equity) = book.equity(marks, now, limits.mark_max_age_ms) else {
        return false;
    };
    rails::check::daily_loss_reached(limits, book, equity)
}

fn daily_loss_notice(user: UserId, day: i64) -> Message {
    facts::notice(
        user,
        format!("daily_loss:{day}"),
        "DAILY_LOSS",
        "today's loss is at its limit: only exits pass until 00:00 UTC".to_owned(),
        BTreeMap::new(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_cant_be_posted_waits_ever_longer_and_not_once_it_was() {
        let order_id = OrderId(uuid::Uuid::from_u128(1));
        let (mut put_off, mut now) = (PutOff::default(), UnixMs(0));
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            put_off.note(order_id, false, now);
            now = now.plus_ms(seconds * 1_000 - 1);
            assert_eq!(put_off.waiting(now), [order_id], "{seconds}");
            now = now.plus_ms(1);
            assert_eq!(put_off.waiting(now), [], "{seconds}");
        }
        put_off.0.insert(order_id, (u32::MAX, now));
        put_off.note(order_id, false, now);
        assert_eq!(put_off.waiting(now.plus_ms(299_999)), [order_id]);
        put_off.note(order_id, true, now);
        assert!(put_off.0.is_empty());
    }
}
