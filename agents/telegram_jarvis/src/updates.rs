//! Deals with each stored update, once it is a row and until its row says how.
//!
//! A crash in between repeats the handling: a decision counts once whatever is asked again, an exit has an id made of the
//! update's, a halt only rises. What a crash can repeat is an answer that a person reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use runtime::{HandleError, Work};
use store::telegram::Update as Row;
use teloxide_core::types::{CallbackQuery, Chat, Message, User};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, timeout_at};

use crate::line::Line;
use crate::{commands, nobody, presses};

/// How often rows are looked at without being told of.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Updates dealt with at once: a slow answer to one person must not hold up the press of another.
const AT_ONCE: usize = 16;
/// Rows read at once.
const BATCH: i64 = 64;
/// Tries of one update, with [`TRY_AGAIN`] in between; then its row says that it was given up.
const TRIES: u32 = 30;
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What failed, how often, and when it is tried again.
type Failures = BTreeMap<i64, (u32, Instant)>;

/// Works until the process drains.
///
/// # Errors
/// [`HandleError::Fatal`].
pub async fn run(line: Arc<Line>, work: Work) -> Result<(), HandleError> {
    let mut tasks: JoinSet<(i64, Result<(), HandleError>)> = JoinSet::new();
    let mut in_hand: BTreeMap<i64, ()> = BTreeMap::new();
    let mut failures = Failures::new();
    while !work.shutdown.is_cancelled() {
        match unhandled(&work).await {
            Ok(rows) => {
                let now = Instant::now();
                for row in rows {
                    let waits = failures.get(&row.update_id).is_some_and(|(_, at)| *at > now);
                    if waits || in_hand.len() >= AT_ONCE || in_hand.insert(row.update_id, ()).is_some() {
                        continue;
                    }
                    let tries = failures.get(&row.update_id).map_or(0, |(tries, _)| *tries);
                    let (line, work) = (Arc::clone(&line), work.clone());
                    tasks.spawn(async move { (row.update_id, settle(&line, &work, &row, tries).await) });
                }
            }
            Err(error) => tracing::warn!(%error, "updates can't be read"),
        }
        work.progress();
        let until = Instant::now() + if failures.is_empty() { LOOK_EVERY } else { TRY_AGAIN };
        tokio::select! {
            () = work.shutdown.cancelled() => {}
            () = line.stored.notified() => {}
            ended = timeout_at(until, tasks.join_next()), if !tasks.is_empty() => {
                if let Ok(Some(Ok((id, settled)))) = ended {
                    in_hand.remove(&id);
                    settled_or_again(&mut failures, id, settled)?;
                }
            }
            () = tokio::time::sleep_until(until), if tasks.is_empty() => {}
        }
    }
    // What is in hand is finished within the drain, or done again by the next start.
    let _ =
        timeout_at(Instant::now() + Duration::from_secs(5), async { while tasks.join_next().await.is_some() {} }).await;
    Ok(())
}

fn settled_or_again(failures: &mut Failures, id: i64, settled: Result<(), HandleError>) -> Result<(), HandleError> {
    match settled {
        Ok(()) => drop(failures.remove(&id)),
        Err(HandleError::Fatal(text)) => return Err(HandleError::Fatal(text)),
        Err(error) => {
            let (tries, at) = failures.entry(id).or_insert((0, Instant::now()));
            *tries += 1;
            *at = Instant::now() + TRY_AGAIN;
            tracing::warn!(%error, update_id = id, tries, "an update is tried again");
        }
    }
    Ok(())
}

async fn unhandled(work: &Work) -> Result<Vec<Row>, HandleError> {
    let mut unit = work.begin(nobody()).await?;
    let rows = store::telegram::unhandled(&mut unit, BATCH).await?;
    unit.rollback().await?;
    Ok(rows)
}

/// Deals with one update and writes down how.
async fn settle(line: &Line, work: &Work, row: &Row, tries: u32) -> Result<(), HandleError> {
    let outcome = match handle(line, work, row, tries).await {
        Err(error) if tries + 1 >= TRIES => format!("given up: {error}"),
        outcome => outcome?,
    };
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    store::telegram::set_handled(&mut unit, row.update_id, &outcome, now).await?;
    unit.commit().await?;
    let kind = outcome.split(':').next().unwrap_or_default().to_owned();
    metrics::counter!("swarm_telegram_handled_total", "outcome" => kind).increment(1);
    tracing::info!(update_id = row.update_id, outcome, "an update was dealt with");
    Ok(())
}

async fn handle(line: &Line, work: &Work, row: &Row, tries: u32) -> Result<String, HandleError> {
    // By the payload itself: teloxide's `Update` reads only keys that are borrowed from a text.
    let payload = row.raw.get(&row.kind).cloned().unwrap_or_default();
    match row.kind.as_str() {
        "callback_query" => match serde_json::from_value::<CallbackQuery>(payload) {
            Ok(query) => presses::press(line, work, row.update_id, &query, tries == 0).await,
            Err(error) => Ok(unreadable(row, &error)),
        },
        "message" => match serde_json::from_value::<Message>(payload) {
            Ok(message) => commands::said(line, work, row.update_id, &message).await,
            Err(error) => Ok(unreadable(row, &error)),
        },
        _ => Ok("ignored: of no kind that is asked for".to_owned()),
    }
}

fn unreadable(row: &Row, error: &serde_json::Error) -> String {
    tracing::warn!(update_id = row.update_id, %error, "an update can't be read");
    "unreadable".to_owned()
}

/// A person as the record knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub person_id: String,
    /// Their Telegram account, which is their private chat with the bot too.
    pub telegram_id: i64,
    /// Their own account with the house, when they have one.
    pub handle: Option<String>,
}

/// Who speaks here: a person of the house, by an account that is theirs, in the private chat it was linked in. Everybody
/// else gets silence, and is counted by the reason that is given here.
///
/// # Errors
/// The store's.
pub async fn person(work: &Work, from: &User, chat: &Chat) -> Result<Result<Person, &'static str>, HandleError> {
    let id = i64::try_from(from.id.0).unwrap_or(0);
    if from.is_bot {
        return Ok(Err("silence: a bot"));
    }
    if !chat.is_private() || chat.id.0 != id {
        return Ok(Err("silence: not a private chat"));
    }
    let mut unit = work.begin(nobody()).await?;
    let account = store::telegram::account(&mut unit, id).await?;
    let Some(account) = account.filter(|account| account.active && account.chat_id == chat.id.0) else {
        return Ok(Err("silence: a stranger"));
    };
    let approver = store::approvals::approver(&mut unit, &account.person_id).await?;
    unit.rollback().await?;
    Ok(match approver.filter(|approver| approver.active) {
        Some(approver) => Ok(Person { person_id: account.person_id, telegram_id: id, handle: approver.handle }),
        None => Err("silence: no active approver"),
    })
}

/// Counts somebody who gets no answer.
#[must_use]
pub fn silence(why: &'static str) -> String {
    metrics::counter!("swarm_telegram_strangers_total", "why" => why).increment(1);
    why.to_owned()
}
