//! Commands that do something: link an account, halt, close. And the one that does not: resume.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use domain::link_code;
use runtime::{HandleError, Work};
use serde_json::{Value, json};
use teloxide_core::types::{Chat, User};
use tokio::time::{Duration, Instant};

use super::CommandError;
use crate::doors;
use crate::line::Line;
use crate::nobody;
use crate::text::{escape, line as one_line};
use crate::updates::{Person, silence};

/// Codes tried by strangers within [`GUESSING_WINDOW`], all of them together: 40 random bits that live for ten minutes are
/// then out of reach.
const GUESSES: usize = 30;
const GUESSING_WINDOW: Duration = Duration::from_secs(600);

/// When codes were tried.
static TRIED: Mutex<VecDeque<Instant>> = Mutex::new(VecDeque::new());

/// Binds a Telegram account to the person whom a one-time code was made for. A wrong code gets silence, as every stranger.
pub(super) async fn link(
    line: &Line,
    work: &Work,
    from: &User,
    chat: &Chat,
    code: &str,
) -> Result<String, HandleError> {
    let id = i64::try_from(from.id.0).unwrap_or(0);
    if chat.id.0 != id {
        return Ok(silence("silence: not a private chat"));
    }
    let Some(hash) = link_code::hash(code).filter(|_| may_guess(&TRIED, Instant::now())) else {
        return Ok(silence("silence: no code"));
    };
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    let person = store::telegram::use_link(&mut unit, hash, id, id, now).await?;
    let Some(person) = person else {
        unit.rollback().await?;
        return Ok(silence("silence: a wrong code"));
    };
    unit.commit().await?;
    tracing::info!(person, "a Telegram account was linked");
    line.look.notify_one();
    let text = format!(
        "This account now speaks for <b>{}</b>. Requests that wait for a human come here. /help lists what I know.",
        escape(&person)
    );
    if let Err(error) = line.say(id, &text).await {
        tracing::warn!(%error, "the greeting was not sent");
    }
    Ok(format!("linked: {person}"))
}

fn may_guess(tried: &Mutex<VecDeque<Instant>>, now: Instant) -> bool {
    let mut tried = tried.lock().unwrap_or_else(PoisonError::into_inner);
    while tried.front().is_some_and(|at| now.duration_since(*at) > GUESSING_WINDOW) {
        tried.pop_front();
    }
    if tried.len() >= GUESSES {
        return false;
    }
    tried.push_back(now);
    true
}

/// Raises the kill level at once: `/halt`, `/halt 3`, with a reason behind it or without.
pub(super) async fn halt(work: &Work, person: &Person, rest: &str) -> Result<String, CommandError> {
    let (first, behind) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let (level, reason) = match first {
        "1" => (1, behind),
        "2" => (2, behind),
        "3" => (3, behind),
        "4" => (4, behind),
        _ => (1, rest),
    };
    let reason = if reason.trim().is_empty() { "asked in Telegram".to_owned() } else { one_line(reason, 200) };
    let body = json!({ "level": level, "reason": reason, "by": person.person_id, "way": "telegram" });
    let answer = doors::ask(work, "swarm.halt", &body).await?;
    let level = answer["level"].as_u64().unwrap_or(1);
    let follows = if answer["recorded"] == false { " The database does not answer; the record follows." } else { "" };
    Ok(format!("🛑 Kill level <b>{level}</b>. {}{follows}\n/resume tells how to go on.", what_of(level)))
}

/// What a level does, in a sentence.
const fn what_of(level: u64) -> &'static str {
    match level {
        0 | 1 => "No new risk. Exits still pass.",
        2 => "No new risk, and open orders are cancelled.",
        3 => "No new risk, open orders are cancelled, and everything that is held is sold within the price collar.",
        _ => {
            "No new risk, open orders are cancelled, everything that is held is sold within the price collar, and the agents \
             stop: when nothing is held any more, and after 30 s in any case."
        }
    }
}

/// Lowering the level takes a person's signature, which no chat can give: says what to type.
pub(super) async fn resume(work: &Work) -> Result<String, CommandError> {
    let status = doors::ask(work, "swarm.status", &Value::Null).await?;
    let level = status["kill"]["level"].as_u64().unwrap_or(1);
    if level == 0 {
        return Ok("The kill level is 0: nothing to resume.".to_owned());
    }
    let by = escape(&one_line(status["kill"]["by"].as_str().unwrap_or("?"), 64));
    let why = escape(&one_line(status["kill"]["reason"].as_str().unwrap_or("?"), 200));
    Ok(format!(
        "Kill level <b>{level}</b>, by {by}: {why}\n\nLowering it is signed with your own key, which is not here. On the \
         machine of the swarm:\n<pre>swarm resume --reason \"why it is safe to go on\"</pre>"
    ))
}

/// Sells a whole position of the operator's account, reduce-only and under the rails as always.
pub(super) async fn close(work: &Work, update_id: i64, rest: &str) -> Result<String, CommandError> {
    let symbol = rest.to_ascii_uppercase();
    if symbol.is_empty() || !symbol.chars().all(|c| c.is_ascii_alphanumeric()) || symbol.len() > 48 {
        return Ok("Say which: <code>/close BTCUSDT</code>. /positions lists what is held.".to_owned());
    }
    let answer = doors::ask(work, "swarm.close", &json!({ "update_id": update_id })).await?;
    let id = escape(&one_line(answer["id"].as_str().unwrap_or("?"), 64));
    Ok(format!("Sale of all {symbol} is on its way, signal <code>{id}</code>. What comes of it is told here."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_have_thirty_guesses_in_ten_minutes() {
        let (tried, start) = (Mutex::new(VecDeque::new()), Instant::now());
        assert!((0..30).all(|_| may_guess(&tried, start)));
        assert!(!may_guess(&tried, start + Duration::from_secs(600)));
        assert!(may_guess(&tried, start + Duration::from_secs(601)));
    }
}
