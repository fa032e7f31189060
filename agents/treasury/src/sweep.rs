//! What treasury does without being asked: post unposted facts, end overdue questions, void unspent permits, start the
//! day, and watch today's loss. Start-up and recovery are this same loop.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::ids::UserId;
use domain::message::Message;
use rails::book::Marks;
use rails::limits::Limits;
use runtime::{HandleError, Means, Work};
use store::Unit;

use crate::decide::{Sight, lock};
use crate::{Treasury, approval, facts, nil_user, settle};

/// How often the sweep looks.
const EVERY: Duration = Duration::from_millis(500);
/// Facts, questions and permits taken up in one turn.
const BATCH: i64 = 200;
/// Turns between two rounds over the users who hold something (5 s); a user without a position has no loss to watch,
/// and their day starts with their next order.
const ROUND_EVERY_TURNS: u64 = 10;
/// Users looked at in one turn: posting must not wait for the watching.
const WATCHED_A_TURN: i64 = 50;

/// Where the round over the holders stands, and who was told of today's loss.
#[derive(Debug, Default)]
pub struct Round {
    /// A whole sweep went through.
    started: bool,
    told: BTreeMap<UserId, i64>,
    after: Option<UserId>,
    pause_turns: u64,
}

/// Sweeps until shutdown. A failing turn is logged and tried again with the next; a fatal one ends the process.
///
/// # Errors
/// [`HandleError::Fatal`].
pub async fn run(treasury: &Treasury, work: &Work) -> Result<(), HandleError> {
    let mut round = Round::default();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
    let unposted = store::orders::unposted(&mut looker, BATCH).await?;
    let mut due = store::approvals::due(&mut looker, now).await?;
    if !round.started {
        // Limits may have changed while we were down: what was asked under others is over.
        let waiting = store::approvals::pending(&mut looker, None).await?;
        due.extend(waiting.iter().map(|row| (row.user_id, row.approval_id)));
    }
    let unspent = store::permits::unspent_due(&mut looker, now).await?;
    let users = round.next(&mut looker, now.day()).await?;
    looker.rollback().await?;

    let config = treasury.config();
    for (user, order_id) in unposted {
        each(treasury, work, user, async |unit, sight| settle::post(unit, config, user, order_id, sight).await).await?;
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
    for user in users {
        let last = round.told.get(&user).copied();
        let mut loss_day = None;
        each(treasury, work, user, async |unit, sight| {
            let Some(locked) = lock(unit, config, user, sight).await? else { return Ok(Vec::new()) };
            if is_over_daily_loss(&locked.book, &locked.limits, sight.marks, sight) && last != Some(sight.now.day()) {
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

impl Round {
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

/// One user's piece of work in a transaction of its own. A piece that fails, however badly, does not hold up the others:
/// a row of one user that can't be read must not stop the settling of everybody's trades.
async fn each(
    treasury: &Treasury,
    work: &impl Means,
    user: UserId,
    act: impl AsyncFnOnce(&mut Unit, Sight<'_>) -> Result<Vec<Message>, HandleError>,
) -> Result<(), HandleError> {
    let mut unit = work.begin(user).await?;
    let now = unit.now().await?;
    let skew = work.now().since_ms(now);
    let marks = work.marks();
    let done = treasury.with_sight(&marks, now, skew, async |sight| act(&mut unit, sight).await).await;
    match done {
        Ok(out) => work.commit(unit, user, out).await,
        Err(error) => {
            tracing::error!(%error, user_id = %user, "left for the next sweep");
            metrics::counter!("swarm_sweep_left_total").increment(1);
            unit.rollback().await?;
            Ok(())
        }
    }
}

fn is_over_daily_loss(book: &rails::book::Book, limits: &Limits, marks: &Marks, sight: Sight<'_>) -> bool {
    let Some(equity) = book.equity(marks, sight.now, limits.mark_max_age_ms) else {
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
