//! What people are told without asking: fills, refusals with their code, alerts, the kill level.
//!
//! A fact becomes a row for each person's chat in the transaction that takes it from the stream, and is told from there:
//! none is lost by a crash. Telegram knows no id of a message that we could repeat, so a crash, or an answer that was lost,
//! between sending and the end of the row tells it twice. More than a chat can take is grouped into one message, and
//! what is too much even then is counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::ids::UserId;
use domain::message::{Envelope, Header, Payload, Severity};
use domain::time::UnixMs;
use runtime::{HandleError, Work};
use store::Unit;
use store::telegram_notices::Queued;
use tokio::time::Duration;

use crate::line::{Backoff, Line};
use crate::nobody;
use crate::text::{LONGEST, clock, escape, line as one_line, quantity, symbol, usd};

/// Between two messages of notices: what comes meanwhile goes into the next, and prompts and answers find room.
const EVERY: Duration = Duration::from_secs(3);
/// How often the queue is looked at without being told of.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Rows read at once.
const BATCH: i64 = 500;
/// Lines of one message; the newest are told, older ones counted.
const LINES: usize = 40;

/// A fact in one line of HTML; `None` when it is nothing for people, or shown elsewhere.
#[must_use]
pub fn told(input: &Envelope) -> Option<String> {
    let mut text = match &input.payload {
        // The prompt itself shows how its request ended.
        Payload::Notice(notice) if notice.code == "APPROVAL_ENDED" => return None,
        Payload::Notice(notice) => {
            let (code, said) = (one_line(&notice.code, 48), one_line(&notice.text, 300));
            format!("📣 <b>{}</b> {}", escape(&code), escape(&said))
        }
        Payload::Alert(alert) => {
            let sign = match alert.severity {
                Severity::Info => "ℹ️",
                Severity::Warning => "⚠️",
                Severity::Critical => "🚨",
            };
            format!("{sign} <b>{}</b> {}", escape(&one_line(&alert.name, 64)), escape(&one_line(&alert.text, 300)))
        }
        Payload::PositionChanged(change) => {
            let amount = |value: String| usd(&serde_json::Value::String(value));
            let held = quantity(&serde_json::Value::String(change.quantity.to_string()));
            format!(
                "💱 <b>Fill</b> {}: {held} held, cost ${}, realised ${}",
                escape(&symbol(&change.instrument.to_string())),
                amount(change.cost.to_string()),
                amount(change.realised.to_string()),
            )
        }
        Payload::HaltChanged(halt) => {
            let sign = if halt.level == 0 { "🟢" } else { "🛑" };
            let (by, why) = (one_line(&halt.by, 64), one_line(&halt.reason, 200));
            format!("{sign} <b>Kill level {}</b> by {}: {}", halt.level, escape(&by), escape(&why))
        }
        _ => return None,
    };
    text.truncate(text.floor_char_boundary(1_500));
    Some(text)
}

/// Queues a fact for everybody whom it concerns: a user's facts for that user and for the operator, all others for all.
///
/// # Errors
/// The store's.
pub async fn queue(unit: &mut Unit, text: &str, input: &Header, now: UnixMs) -> Result<(), HandleError> {
    let user = input.user_id;
    for approver in store::approvals::approvers(unit).await?.into_iter().filter(|approver| approver.active) {
        let is_own = approver.handle.as_deref().is_some_and(|handle| UserId::of_handle(handle) == user);
        if !(user.0.is_nil() || is_own || approver.person_id == "operator") {
            continue;
        }
        for account in store::telegram::accounts_of(unit, &approver.person_id).await? {
            if account.active {
                let (message_id, chat_id) = (input.message_id, account.chat_id);
                let line = Queued { message_id, chat_id, text: text.to_owned(), made_at: now };
                store::telegram_notices::put(unit, &line).await?;
            }
        }
    }
    Ok(())
}

/// Tells what is queued until the process drains.
///
/// # Errors
/// [`HandleError::Fatal`].
pub async fn run(line: Arc<Line>, work: Work) -> Result<(), HandleError> {
    let mut backoff = Backoff::new();
    while !work.shutdown.is_cancelled() {
        let pause = match tell(&line, &work).await {
            Ok(0) => {
                backoff.reset();
                None
            }
            Ok(_) => {
                backoff.reset();
                Some(EVERY)
            }
            Err(error) => {
                tracing::warn!(%error, "notices are told later");
                Some(backoff.pause().max(EVERY))
            }
        };
        work.progress();
        match pause {
            Some(pause) => tokio::select! { () = work.shutdown.cancelled() => {} () = tokio::time::sleep(pause) => {} },
            None => tokio::select! {
                () = work.shutdown.cancelled() => {}
                () = line.queued.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            },
        }
    }
    Ok(())
}

/// One message to each chat for which something is queued; says to how many.
async fn tell(line: &Line, work: &Work) -> Result<usize, NoticeError> {
    let mut unit = work.begin(nobody()).await?;
    let queued = store::telegram_notices::queued(&mut unit, BATCH).await?;
    unit.rollback().await?;
    let mut chats: BTreeMap<i64, Vec<Queued>> = BTreeMap::new();
    for row in queued {
        chats.entry(row.chat_id).or_default().push(row);
    }
    let mut failed = None;
    let count = chats.len();
    for (chat, rows) in chats {
        let text = grouped(&rows);
        match line.tell(chat, &text).await {
            // What is refused would be refused again: a person who blocked the bot is not written to later.
            Ok(_) | Err(crate::api::ApiFault::Refused(_)) => {
                let mut unit = work.begin(nobody()).await?;
                store::telegram_notices::end(&mut unit, &rows).await?;
                unit.commit().await?;
                metrics::counter!("swarm_telegram_notices_total").increment(u64::try_from(rows.len()).unwrap_or(0));
            }
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(count), |error| Err(error.into()))
}

/// Why notices were not told.
#[derive(Debug, thiserror::Error)]
enum NoticeError {
    #[error(transparent)]
    Api(#[from] crate::api::ApiFault),
    #[error(transparent)]
    Handle(#[from] HandleError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

/// One message for rows, oldest first: equal ones are told once with their number, and when
/// there are too many, older ones are only counted.
fn grouped(rows: &[Queued]) -> String {
    let mut lines: Vec<(UnixMs, &str, usize)> = Vec::new();
    for row in rows {
        match lines.iter_mut().find(|(_, text, _)| *text == row.text) {
            Some(line) => line.2 += 1,
            None => lines.push((row.made_at, &row.text, 1)),
        }
    }
    let mut told = Vec::new();
    let mut length = 64;
    for (at, text, times) in lines.iter().rev() {
        let times = if *times > 1 { format!(" (×{times})") } else { String::new() };
        let line = format!("<code>{}</code> {text}{times}", clock(*at));
        length += line.chars().count() + 1;
        if told.len() >= LINES || length > LONGEST {
            break;
        }
        told.push(line);
    }
    let left_out = lines.len() - told.len();
    if left_out > 0 {
        told.push(format!("… and {left_out} earlier ones: /logs, /trades, /signals"));
    }
    told.reverse();
    told.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: &[String]) -> Vec<Queued> {
        let row = |(at, text): (usize, &String)| Queued {
            message_id: domain::ids::MessageId(uuid::Uuid::from_u128(at as u128)),
            chat_id: 1,
            text: text.clone(),
            made_at: UnixMs(i64::try_from(at).unwrap() * 1_000),
        };
        texts.iter().enumerate().map(row).collect()
    }

    #[test]
    fn what_comes_together_is_one_message_and_equal_lines_are_counted() {
        let text = grouped(&rows(&["a".into(), "b".into(), "a".into()]));
        assert_eq!(text, "<code>00:00:00</code> a (×2)\n<code>00:00:01</code> b");
    }

    #[test]
    fn a_flood_is_one_message_that_fits_and_says_what_it_leaves_out() {
        let many: Vec<String> = (0..300).map(|n| format!("{n} {}", "x".repeat(200))).collect();
        let text = grouped(&rows(&many));
        assert!(text.chars().count() <= LONGEST, "{}", text.len());
        assert!(text.contains("299 xxx") && text.starts_with("… and 28"), "{}", &text[..60]);
    }
}
