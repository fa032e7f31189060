//! Commands about dead letters. What changes one is signed over the letter as it was seen.

use clap::Subcommand;
use domain::person::Act;
use domain::time::UnixMs;
use serde_json::{Value, json};

use super::{Connection, Files, PeopleError, act};

/// Commands about dead letters.
#[derive(Debug, Clone, Subcommand)]
pub enum DlqCommand {
    /// Letters that wait for a person, the oldest first.
    List {
        /// Those that were redriven or dropped too.
        #[arg(long)]
        all: bool,
    },
    /// One letter, with its message.
    Show {
        /// Its id, such as `TRADING_HIGH:17`.
        letter: String,
    },
    /// Put its message back on its subject, inside its time; signs with your key. It passes every check again.
    Redrive {
        /// Its id.
        letter: String,
        /// Why it may be handled now.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Leave letters dead; signs each with your key.
    Drop {
        /// Their ids.
        #[arg(required = true)]
        letters: Vec<String>,
        /// Why they may stay dead.
        #[arg(long)]
        reason: String,
    },
}

pub(super) async fn perform(
    connection: &Connection,
    files: &Files,
    command: &DlqCommand,
) -> Result<Value, PeopleError> {
    match command {
        DlqCommand::List { all } => connection.request("swarm.dlq.list", &json!({ "all": all })).await,
        DlqCommand::Show { letter } => connection.request("swarm.dlq.show", &json!({ "letter": letter })).await,
        DlqCommand::Redrive { letter, reason } => {
            let (died_at, number) = match seen(connection, letter).await? {
                Ok(seen) => seen,
                Err(no) => return Ok(no),
            };
            let what = Act::RedriveLetter { letter: letter.clone(), died_at, number };
            act(connection, files, "swarm.dlq.redrive", what, reason).await
        }
        DlqCommand::Drop { letters, reason } => {
            let mut rows = Vec::new();
            for letter in letters {
                let mut row = drop_one(connection, files, letter, reason).await?;
                row["letter"] = json!(letter);
                rows.push(row);
            }
            let good = rows.iter().all(|row| row["ok"] == true);
            // The text of one no is the answer; of several, each stands beside its letter.
            match rows.as_slice() {
                [row] if !good => Ok(row.clone()),
                _ if good => Ok(json!({ "ok": true, "letters": rows })),
                _ => Ok(json!({ "ok": false, "code": "NOT_ALL", "detail": no_of(&rows), "letters": rows })),
            }
        }
    }
}

async fn drop_one(connection: &Connection, files: &Files, letter: &str, reason: &str) -> Result<Value, PeopleError> {
    match seen(connection, letter).await? {
        Ok((died_at, _)) => {
            act(connection, files, "swarm.dlq.drop", Act::DropLetter { letter: letter.to_owned(), died_at }, reason)
                .await
        }
        // It fell out of its stream, or never was.
        Err(no) => Ok(no),
    }
}

fn no_of(rows: &[Value]) -> String {
    let no = rows.iter().filter(|row| row["ok"] != true);
    let no: Vec<String> = no
        .map(|row| format!("{} {}", row["letter"].as_str().unwrap_or("-"), row["code"].as_str().unwrap_or("-")))
        .collect();
    no.join(", ")
}

/// A letter as it is now: since when it is dead, and the number of its next redrive; or the swarm's no.
async fn seen(connection: &Connection, letter: &str) -> Result<Result<(UnixMs, u32), Value>, PeopleError> {
    let shown = connection.request("swarm.dlq.show", &json!({ "letter": letter })).await?;
    if shown["ok"] == false {
        return Ok(Err(shown));
    }
    let number = shown["redrive_number"].as_u64().and_then(|number| u32::try_from(number).ok());
    match (shown["died_at_ms"].as_i64(), number) {
        (Some(died_at), Some(number)) => Ok(Ok((UnixMs(died_at), number))),
        _ => Err(PeopleError::Unreachable("its answer names no letter".to_owned())),
    }
}
