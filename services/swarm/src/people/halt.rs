//! `swarm halt`: over the supervisor, and without it.

use std::path::Path;
use std::time::Duration;

use domain::time::Clock;
use runtime::kill::{Way, Wish, file_path, latch};
use serde_json::{Value, json};

use super::{Connection, Files, PeopleError};

/// How long the supervisor has. It answers at once also when its database is away.
const WITHIN: Duration = Duration::from_secs(2);

/// What is asked of the supervisor.
pub(super) fn body(level: u8, reason: &str, by: &str) -> Value {
    json!({ "level": level, "reason": reason, "by": by, "way": "cli" })
}

/// Raises the level; by the kill file when nobody answers.
///
/// # Errors
/// [`PeopleError::Files`] when neither way is open.
pub(super) async fn halt(data_dir: &Path, level: u8, reason: &str) -> Result<Value, PeopleError> {
    let asked = tokio::time::timeout(WITHIN, ask(data_dir, level, reason)).await;
    let why = match asked {
        Ok(Ok(answer)) if answer["ok"] == true || answer["code"] == "BAD_LEVEL" => return Ok(answer),
        Ok(Ok(answer)) => format!("the supervisor answered {}", answer["code"]),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", WITHIN.as_secs()),
    };
    by_file(data_dir, level, reason, &why)
}

async fn ask(data_dir: &Path, level: u8, reason: &str) -> Result<Value, PeopleError> {
    let files = Files::load(data_dir)?;
    let connection = Connection::open(&files).await?;
    connection.request("swarm.halt", &body(level, reason, &files.person_id)).await
}

/// Latches the level in the kill file. The desk looks there ten times a second; the supervisor writes it down when it can.
fn by_file(data_dir: &Path, level: u8, reason: &str, why: &str) -> Result<Value, PeopleError> {
    let by = Files::load(data_dir).map_or_else(|_| "operator".to_owned(), |files| files.person_id);
    let file = file_path(&data_dir.join("data"));
    let reason = domain::message::clean_text(reason);
    let wish = Wish { level, by: by.clone(), way: Way::Cli, reason: reason.clone() };
    let latched = latch(&file, &wish, None, &[], runtime::clock::SystemClock.now());
    latched.written.map_err(|error| {
        PeopleError::Files(format!(
            "NOT halted: {why}, and {} can't be written: {error}. End `swarm up` (Ctrl-C), or name the data folder with \
             --data-dir",
            file.display()
        ))
    })?;
    Ok(json!({
        "ok": true, "level": latched.copy.level, "epoch": latched.copy.epoch, "by": by, "reason": reason,
        "changed": latched.is_new, "recorded": false, "by_file": true,
        "detail": format!(
            "{why}: written to {}. The desk follows it within a second when it runs; the record follows when the supervisor \
             and the database answer. Without the supervisor nothing is sold at level 3, and no agent is stopped at level 4",
            file.display()
        ),
    }))
}

#[cfg(test)]
mod tests {
    use runtime::kill::{read_whole, write_file};

    use super::*;

    #[tokio::test]
    async fn a_halt_that_nobody_answers_is_latched_in_the_file_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        let file = file_path(&data);
        write_file(&file, 0, 4).unwrap();
        let answer = halt(folder.path(), 2, "fire\u{7}").await.unwrap();
        assert_eq!((&answer["ok"], &answer["level"], &answer["by_file"]), (&json!(true), &json!(2), &json!(true)));
        assert_eq!(answer["recorded"], false);
        let read = read_whole(&file).unwrap();
        assert_eq!((read.copy.level, read.copy.epoch), (2, 5));
        let says: Vec<_> = read.unrecorded.iter().map(|r| (r.by.as_str(), r.way, r.reason.as_str())).collect();
        assert_eq!(says, [("operator", Way::Cli, "fire")]);
    }

    #[tokio::test]
    async fn a_halt_that_can_be_latched_nowhere_says_that_nothing_was_halted() {
        let folder = tempfile::tempdir().unwrap();
        let Err(PeopleError::Files(text)) = halt(&folder.path().join("not there"), 1, "").await else {
            panic!("it said that it was done")
        };
        assert!(text.starts_with("NOT halted") && text.contains("--data-dir"), "{text}");
    }
}
