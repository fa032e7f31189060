//! Long polling. An update is a row before Telegram hears that we have it: the offset is moved in the transaction that
//! stores a batch, and only the next poll, which carries it, confirms.

use std::sync::Arc;

use domain::message::{Alert, Message, Payload, Severity};
use domain::subject::{Route, Subject};
use runtime::{HandleError, Work};
use serde_json::{Value, json};
use teloxide_core::ApiError;
use teloxide_core::payloads::{DeleteWebhook, SetMyCommands};
use teloxide_core::types::BotCommand;
use tokio::time::{Duration, Instant};

use crate::api::ApiFault;
use crate::commands::COMMANDS;
use crate::line::{Backoff, Line};
use crate::nobody;

/// After a week without updates the next id is a random one, which may be lower than the last: before that week is over
/// the offset is let go, so that no update is taken for one that was confirmed.
const OFFSET_HOLDS_MS: i64 = 6 * 24 * 3_600_000;
/// How often the silence is looked at.
const LISTEN_EVERY: Duration = Duration::from_millis(500);

/// When Telegram last answered well.
#[derive(Debug)]
pub struct Heard(std::sync::Mutex<Instant>);

impl Heard {
    /// From now on.
    #[must_use]
    pub fn new() -> Self {
        Self(std::sync::Mutex::new(Instant::now()))
    }

    /// It did.
    pub fn now(&self) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
    }

    fn since(&self) -> Duration {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).elapsed()
    }
}

impl Default for Heard {
    fn default() -> Self {
        Self::new()
    }
}

/// Polls until the process drains.
///
/// # Errors
/// [`HandleError`]: started again.
pub async fn run(line: Arc<Line>, work: Work) -> Result<(), HandleError> {
    let heard = Heard::new();
    tokio::try_join!(poll(&line, &work, &heard), watch(&line, &work, &heard))?;
    Ok(())
}

async fn poll(line: &Line, work: &Work, heard: &Heard) -> Result<(), HandleError> {
    let mut backoff = Backoff::new();
    let mut greeted = false;
    while !work.shutdown.is_cancelled() {
        let polled = tokio::select! {
            () = work.shutdown.cancelled() => return Ok(()),
            polled = poll_once(line, work) => polled,
        };
        work.progress();
        match polled {
            Ok(count) => {
                heard.now();
                work.dependency_answered("telegram");
                backoff.reset();
                if count > 0 {
                    line.stored.notify_one();
                }
                if !std::mem::replace(&mut greeted, true) {
                    tell_commands(line).await;
                }
            }
            Err(error) => {
                let pause = after(line, &error).await.unwrap_or_else(|| backoff.pause());
                tracing::warn!(%error, pause_ms = pause.as_millis(), "a poll failed");
                tokio::select! { () = work.shutdown.cancelled() => {} () = tokio::time::sleep(pause) => {} }
            }
        }
    }
    Ok(())
}

/// Why a poll brought nothing.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    Api(#[from] ApiFault),
    #[error("the store: {0}")]
    Handle(#[from] HandleError),
    #[error("the store: {0}")]
    Store(#[from] store::StoreError),
}

/// One poll; gives how many updates it brought.
async fn poll_once(line: &Line, work: &Work) -> Result<usize, PollError> {
    let offset = offset(work).await?;
    let updates = line.api.updates(offset, line.config.poll).await?;
    metrics::counter!("swarm_telegram_polls_total").increment(1);
    if !updates.is_empty() {
        keep(work, &updates, true).await?;
    }
    Ok(updates.len())
}

/// Where to go on; `None` at the first poll, and when the last update is so old that the next id may be any.
async fn offset(work: &Work) -> Result<Option<i64>, PollError> {
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    let offset = store::telegram::offset(&mut unit).await?;
    let last = match offset {
        Some(offset) => store::telegram::update(&mut unit, offset - 1).await?,
        None => None,
    };
    unit.rollback().await?;
    let is_stale = last.is_some_and(|update| now.since_ms(update.received_at) > OFFSET_HOLDS_MS);
    Ok(offset.filter(|_| !is_stale))
}

/// Stores updates, and with `confirm` where the next poll goes on. Stored before is as good as stored.
///
/// # Errors
/// The store's: nothing is confirmed then.
pub async fn keep(work: &Work, updates: &[Value], confirm: bool) -> Result<(), HandleError> {
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    let mut last = None;
    for update in updates {
        let Some(id) = update["update_id"].as_i64() else {
            tracing::error!("an update without a number can't be kept");
            continue;
        };
        let fresh = store::telegram::put_update(&mut unit, id, update, now).await?;
        metrics::counter!("swarm_telegram_updates_total", "fresh" => if fresh { "yes" } else { "no" }).increment(1);
        last = last.max(Some(id));
    }
    if let (true, Some(last)) = (confirm, last) {
        store::telegram::set_offset(&mut unit, last + 1).await?;
    }
    Ok(unit.commit().await?)
}

/// What an error asks for; gives the pause when it is not the usual one.
async fn after(line: &Line, error: &PollError) -> Option<Duration> {
    match error {
        PollError::Api(ApiFault::TooMany { retry_after }) => Some(*retry_after + Duration::from_millis(50)),
        PollError::Api(ApiFault::Refused(ApiError::TerminatedByOtherGetUpdates)) => {
            metrics::counter!("swarm_telegram_conflicts_total").increment(1);
            None
        }
        PollError::Api(ApiFault::Refused(refused)) if is_webhook_set(refused) => {
            // Another build, or we ourselves with another configuration, asked for deliveries.
            match line.api.call(&DeleteWebhook::new()).await {
                Ok(_) => tracing::warn!("a webhook was set; it is removed, this build polls"),
                Err(error) => tracing::warn!(%error, "a webhook is set and was not removed"),
            }
            None
        }
        _ => None,
    }
}

fn is_webhook_set(error: &ApiError) -> bool {
    matches!(error, ApiError::CantGetUpdates)
        || matches!(error, ApiError::Unknown(words) if words.contains("webhook is active"))
}

/// Shows the commands in the app's menu. Nothing depends on it.
pub async fn tell_commands(line: &Line) {
    let commands = COMMANDS.iter().map(|(name, purpose)| BotCommand::new(*name, *purpose));
    if let Err(error) = line.api.call(&SetMyCommands::new(commands.collect::<Vec<_>>())).await {
        tracing::info!(%error, "the menu of commands was not set");
    }
}

/// Raises an alert when Telegram was not heard for too long, and tells when it is again.
async fn watch(line: &Line, work: &Work, heard: &Heard) -> Result<(), HandleError> {
    let mut silent_since: Option<Instant> = None;
    loop {
        tokio::select! { () = work.shutdown.cancelled() => return Ok(()), () = tokio::time::sleep(LISTEN_EVERY) => {} }
        let quiet = heard.since();
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("swarm_telegram_quiet_seconds").set(quiet.as_millis() as f64 / 1_000.0);
        let is_silent = quiet > line.config.silent_after;
        let told = match (silent_since, is_silent) {
            (None, true) => {
                let text =
                    format!("Telegram gave no good answer for {} s: decide with `swarm approve`", quiet.as_secs());
                tell(work, Severity::Warning, text).await
            }
            (Some(since), false) => {
                tell(work, Severity::Info, format!("Telegram answers again after {} s", since.elapsed().as_secs()))
                    .await
            }
            _ => continue,
        };
        match told {
            Ok(()) => silent_since = is_silent.then(Instant::now),
            Err(error) => tracing::warn!(%error, "an alert was not sent"),
        }
    }
}

async fn tell(work: &Work, severity: Severity, text: String) -> Result<(), HandleError> {
    let key = json!([text, work.now().0]).to_string();
    let alert = Alert { name: "telegram_silent".to_owned(), severity, text };
    let message = Message::fact(Subject::fact(Route::Alert), nobody(), key, Payload::Alert(alert));
    work.emit(&work.root_header(nobody()), vec![message]).await
}
