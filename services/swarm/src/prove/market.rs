//! Replay: the book agrees with the exchange, and the same seed gives the same bytes.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::{Doubt, Ground};

/// Points at which the book agreed with the exchange when the recording was made (its README): the least that counts.
const AGREED: [(&str, u64); 2] = [("BTCUSDT", 6_491), ("ETHUSDT", 6_468)];

pub(super) fn prove(ground: &mut Ground) {
    let (source, recorded) = match recording(ground) {
        Ok(found) => found,
        Err(doubt) => return ground.claim("replay", "there is a recording", Err(doubt)),
    };
    let runs = (replay(ground, &source, "first"), replay(ground, &source, "second"));
    let (first, second) = match runs {
        (Ok(first), Ok(second)) => (first, second),
        (Err(doubt), _) | (_, Err(doubt)) => return ground.claim("replay", "a recording can be replayed", Err(doubt)),
    };
    let bytes = |name: &str| std::fs::read(ground.folder.join(format!("{name}.jsonl"))).unwrap_or_default();
    let (a, b) = (bytes("first"), bytes("second"));
    let same = if !a.is_empty() && a == b {
        Ok(format!(
            "{} bytes of decisions, {} events at {} a second",
            a.len(),
            first["events"],
            first["events_per_second"]
        ))
    } else {
        Err(format!("{} and {} bytes differ", a.len(), b.len()))
    };
    ground.claim("replay", "the same seed gives byte-equal decisions twice", same);
    let agreement = agreement(&second, recorded);
    ground.claim("book", "the book agrees with the exchange's own best bid and ask", agreement);
}

/// The recorded market where there is one, else one that the built-in market makes.
fn recording(ground: &Ground) -> Result<(PathBuf, bool), Doubt> {
    if ground.recorded.is_dir() {
        return Ok((ground.recorded.clone(), true));
    }
    let made = ground.folder.join("builtin.gz");
    let status = Command::new(&ground.program)
        .args(["record", "--market", "builtin", "--seconds", "660", "--config"])
        .arg(&ground.config_dir)
        .arg("--out")
        .arg(&made)
        .output()
        .map_err(|error| error.to_string())?;
    if status.status.success() { Ok((made, false)) } else { Err(String::from_utf8_lossy(&status.stderr).into_owned()) }
}

fn replay(ground: &Ground, source: &PathBuf, name: &str) -> Result<Value, Doubt> {
    let mut command = Command::new(&ground.program);
    command.args(["replay", "--json", "--config"]).arg(&ground.config_dir);
    command.arg("--out").arg(ground.folder.join(format!("{name}.jsonl")));
    if source.is_dir() {
        command.arg("--data").arg(source)
    } else {
        command.arg(source)
    };
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

fn agreement(summary: &Value, recorded: bool) -> Result<String, Doubt> {
    let books = summary["books"].as_object().cloned().unwrap_or_default();
    let mut figures = Vec::new();
    let mut good = !books.is_empty();
    for (symbol, book) in &books {
        let (agreed, points) = (book["agreed"].as_u64().unwrap_or(0), book["compared"].as_u64().unwrap_or(0));
        figures.push(format!("{symbol} at {agreed} of {points} points"));
        let least = AGREED.iter().find(|(name, _)| name == symbol).map_or(0, |(_, least)| *least);
        good &= if recorded { agreed >= least } else { agreed == points && points > 0 };
    }
    let source = if recorded { "recorded market" } else { "generated recording: no recorded market here" };
    let text = format!("{} ({source})", figures.join(", "));
    if good { Ok(text) } else { Err(text) }
}
