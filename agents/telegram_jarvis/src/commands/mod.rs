//! What people say to the bot. It reads and reports; it halts at once; what would weaken a rule it leaves to the command
//! line, where a person signs.

mod acts;
mod reads;

use runtime::{HandleError, Work};
use teloxide_core::types::Message;

use crate::api::ApiFault;
use crate::doors::DoorFault;
use crate::line::Line;
use crate::nobody;
use crate::text::{LONGEST, escape, line as one_line};
use crate::updates::{Person, person, silence};

/// The commands, each with what it is for.
pub const COMMANDS: &[(&str, &str)] = &[
    ("status", "everything at a glance, with the equity curve"),
    ("positions", "what is held"),
    ("balance", "cash and equity"),
    ("profit", "profit so far, with the equity curve"),
    ("daily", "profit by day"),
    ("trades", "the latest fills"),
    ("performance", "profit by instrument"),
    ("signals", "what became of the latest signals"),
    ("approvals", "what waits for a human"),
    ("limits", "the limits in force"),
    ("risk", "how much of them is used"),
    ("agents", "the processes"),
    ("logs", "the latest notices and alerts"),
    ("halt", "no new risk, now: /halt; /halt 2 cancels open orders too, 3 sells all, 4 stops"),
    ("resume", "how to go on after a halt"),
    ("close", "sell a whole position: /close BTCUSDT"),
    ("help", "this list"),
];

/// A command said longer ago is not done any more; a halt is, however late it comes, s.
const FRESH_S: i64 = 120;

/// What a command answers with.
enum Reply {
    /// HTML.
    Text(String),
    /// A picture, and HTML under it.
    Picture(Vec<u8>, String),
}

/// Why a command has no answer of its own.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Door(#[from] DoorFault),
    #[error(transparent)]
    Handle(#[from] HandleError),
}

/// Deals with one message; gives what the row of its update will say.
///
/// # Errors
/// The store's, and a door's that did not answer to something that must not be lost.
pub async fn said(line: &Line, work: &Work, update_id: i64, message: &Message) -> Result<String, HandleError> {
    let (Some(from), Some(text)) = (&message.from, message.text()) else {
        return Ok(silence("silence: no text of a person"));
    };
    // Somebody else's words in a person's hand are not that person's.
    if message.forward_origin().is_some() || message.via_bot.is_some() || message.sender_chat.is_some() {
        return Ok(silence("silence: not their own words"));
    }
    let (name, rest) = parse(text);
    let now = now(work).await?;
    let age_s = now.0 / 1_000 - message.date.timestamp();
    let is_late = age_s > FRESH_S && name != "halt";
    if name == "start" && !rest.is_empty() && !from.is_bot && message.chat.is_private() {
        return acts::link(line, work, from, &message.chat, rest).await;
    }
    let person = match person(work, from, &message.chat).await? {
        Ok(person) => person,
        Err(why) => return Ok(silence(why)),
    };
    let reply = if is_late {
        Ok(Reply::Text(format!("/{} came {age_s} s after you sent it and was not done. Send it again.", escape(&name))))
    } else {
        answer(line, work, update_id, &person, &name, rest).await
    };
    let reply = match reply {
        Ok(reply) => reply,
        // A halt is tried until somebody hears it.
        Err(CommandError::Door(DoorFault::Unanswered { subject, text })) if name == "halt" => {
            return Err(HandleError::Retry(format!("{subject}: {text}")));
        }
        Err(CommandError::Door(error)) => Reply::Text(format!("❌ {}", escape(&error.to_string()))),
        Err(CommandError::Handle(error)) => return Err(error),
    };
    let sent = send(line, person.telegram_id, reply).await;
    Ok(match sent {
        Ok(()) if is_late => format!("late: /{}", one_line(&name, 32)),
        Ok(()) => format!("answered: /{}", one_line(&name, 32)),
        Err(error) => format!("not answered: /{} {error}", one_line(&name, 32)),
    })
}

/// A command and what follows it. `/status@bot` is `/status`; what is no command is `help`.
fn parse(text: &str) -> (String, &str) {
    let text = text.trim();
    let Some(command) = text.strip_prefix('/') else { return ("help".to_owned(), "") };
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let name = name.split('@').next().unwrap_or_default().to_ascii_lowercase();
    (name, rest.trim())
}

async fn answer(
    line: &Line,
    work: &Work,
    update_id: i64,
    person: &Person,
    name: &str,
    rest: &str,
) -> Result<Reply, CommandError> {
    Ok(match name {
        "status" => reads::status(work, person).await?,
        "profit" => reads::profit(work, person).await?,
        "positions" => Reply::Text(reads::positions(work, person).await?),
        "balance" => Reply::Text(reads::balance(work, person).await?),
        "daily" => Reply::Text(reads::daily(work, person).await?),
        "trades" => Reply::Text(reads::trades(work, person).await?),
        "performance" => Reply::Text(reads::performance(work, person).await?),
        "signals" => Reply::Text(reads::signals(work, person).await?),
        "approvals" => Reply::Text(reads::approvals(work).await?),
        "limits" => Reply::Text(reads::limits(work, person).await?),
        "risk" => Reply::Text(reads::risk(work, person).await?),
        "agents" => Reply::Text(reads::agents(work).await?),
        "logs" => Reply::Text(reads::logs(line)),
        "halt" => Reply::Text(acts::halt(work, person, rest).await?),
        "resume" => Reply::Text(acts::resume(work).await?),
        "close" => Reply::Text(acts::close(work, update_id, rest).await?),
        "help" | "start" => Reply::Text(help()),
        _ => Reply::Text(format!("I don't know /{}. /help lists what I know.", escape(&one_line(name, 32)))),
    })
}

fn help() -> String {
    let mut out = String::from("<b>What I know</b>\n");
    for (name, purpose) in COMMANDS {
        out.push_str(&format!("/{name} {}\n", escape(purpose)));
    }
    out.push_str("\nWhat needs a human is asked here with buttons. I never lower a limit or the kill level.");
    out
}

async fn send(line: &Line, chat: i64, reply: Reply) -> Result<(), ApiFault> {
    match reply {
        Reply::Text(html) => line.say(chat, &html).await.map(drop),
        Reply::Picture(png, caption) => match line.picture(chat, &png, &caption).await {
            // The words matter more than the picture.
            Err(ApiFault::Refused(error)) => {
                tracing::warn!(%error, "a picture was refused");
                line.say(chat, &caption).await.map(drop)
            }
            sent => sent.map(drop),
        },
    }
}

async fn now(work: &Work) -> Result<domain::time::UnixMs, HandleError> {
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    unit.rollback().await?;
    Ok(now)
}

/// Whole lines of HTML up to what one message takes.
fn fitting(html: String) -> String {
    if html.chars().count() <= LONGEST {
        return html;
    }
    let mut out = String::new();
    for row in html.lines() {
        if out.chars().count() + row.chars().count() + 16 > LONGEST {
            break;
        }
        out.push_str(row);
        out.push('\n');
    }
    if out.contains("<pre>") && !out.contains("</pre>") { format!("{}…</pre>", out) } else { format!("{out}…") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_people_type_it() {
        for (text, name, rest) in [
            ("/status", "status", ""),
            ("  /Halt  2 fire! ", "halt", "2 fire!"),
            ("/close@swarm_bot BTCUSDT", "close", "BTCUSDT"),
            ("/start\nABCD", "start", "ABCD"),
            ("hello", "help", ""),
            ("/", "", ""),
        ] {
            assert_eq!(parse(text), (name.to_owned(), rest), "{text:?}");
        }
    }

    #[test]
    fn the_menu_is_one_that_telegram_takes() {
        for (name, purpose) in COMMANDS {
            assert!(name.len() <= 32 && name.chars().all(|c| c.is_ascii_lowercase()), "{name}");
            assert!((1..=256).contains(&purpose.chars().count()), "{purpose}");
        }
    }

    #[test]
    fn a_long_table_is_cut_at_a_line_and_closed() {
        let rows = vec![vec!["x".repeat(30)]; 500];
        let cut = fitting(crate::text::table(&[("head", crate::text::Align::Left)], &rows));
        assert!(cut.chars().count() <= LONGEST && cut.ends_with("…</pre>"), "{}", cut.len());
        assert_eq!(fitting("short".to_owned()), "short");
    }
}
