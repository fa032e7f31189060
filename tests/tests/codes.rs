//! The codes that users see are all explained in `docs/codes.md`, each in its table and once, and none that is not there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use domain::reject::RejectCode;
use rails::refusal::RefusalCode;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Codes of the table under the heading that starts with `heading`; each row must say what to do.
fn explained(heading: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("docs/codes.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).expect(heading);
    let mut found = BTreeSet::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 3 && cells.iter().all(|cell| !cell.is_empty()), "{row}");
        assert!(found.insert(cells[0].trim_matches('`').to_owned()), "twice: {row}");
    }
    found
}

#[test]
fn every_reject_code_is_explained() {
    let codes: BTreeSet<String> = RejectCode::ALL.iter().map(|code| code.code().to_owned()).collect();
    assert_eq!(explained("Rejected at the door"), codes);
}

#[test]
fn every_refusal_code_is_explained() {
    let codes: BTreeSet<String> = RefusalCode::ALL.iter().map(|code| code.code().to_owned()).collect();
    assert_eq!(explained("Refused by a rail"), codes);
}

#[test]
fn every_reason_for_which_an_idea_is_held_is_explained() {
    let words: BTreeSet<String> = buy_bot::review::Held::words().into_iter().map(str::to_owned).collect();
    assert_eq!(explained("Held after a review"), words);
}

#[test]
fn every_code_a_service_answers_is_explained() {
    let mut codes = BTreeSet::new();
    let mut folders = vec![root().join("agents/supervisor/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            // Tests may refuse with words of their own.
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            // What stands between two quotation marks and is a code is a literal: code has more than capitals in it.
            codes.extend(text.split('"').filter(|word| is_code(word)).map(str::to_owned));
        }
    }
    assert!(codes.len() > 10, "the sources were not read: {codes:?}");
    assert_eq!(explained("Answers of the services"), codes);
}

/// A word in capitals that is no name of a variable, no order's side and no word of a protocol.
fn is_code(word: &str) -> bool {
    let others = ["ACK", "CARGO_PKG_VERSION", "PATH", "SELL"];
    word.len() > 2
        && word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        && !word.starts_with("SWARM_")
        && !others.contains(&word)
}
