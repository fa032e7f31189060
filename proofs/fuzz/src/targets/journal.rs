//! The paper exchange's journal: reading it, and building the account out of it.

use std::fmt::Write as _;
use std::path::Path;

use domain::market::Venue;
use domain::order::OrderState;
use sha2::{Digest, Sha256};
use venues::VenueError;
use venues::paper::journal::parse;
use venues::paper::{Effect, State};

use crate::memory::bounded;

/// What begins with `!` is a file as it is; anything else is the lines without their checksums, which are made here: no
/// fuzzer finds a hash.
pub fn journal(data: &[u8]) {
    if let Some(file) = data.strip_prefix(b"!") {
        let _ = read(file);
        return;
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let file = framed(text.lines());
    let Ok(decisions) = read(&file) else { return };
    let again = decisions.iter().map(|decision| serde_json::to_string(decision).expect("effects have a JSON form"));
    let again = framed(again.collect::<Vec<_>>().iter().map(String::as_str));
    assert_eq!(read(&again).ok().as_ref(), Some(&decisions), "what is written reads back");
    // One bit anywhere is found: a digit of the first checksum stands for all of them.
    if let Some(first) = file.first() {
        let mut changed = file.clone();
        changed[0] = if *first == b'0' { b'1' } else { b'0' };
        assert!(matches!(read(&changed), Err(VenueError::JournalCorrupt { line: 1, .. })), "a changed checksum passed");
    }
    account(&decisions);
}

fn read(file: &[u8]) -> Result<Vec<Vec<Effect>>, VenueError> {
    bounded(file.len(), || parse(file, Path::new("journal"))).map(|(decisions, _)| decisions)
}

/// The lines with their checksums: the first 16 hex digits of the SHA-256 of the hash before and the line.
fn framed<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut head = [0u8; 32];
    let mut out = String::new();
    for line in lines {
        head = Sha256::new().chain_update(head).chain_update(line).finalize().into();
        let _ = writeln!(out, "{} {line}", hex::encode(&head[..8]));
    }
    out.into_bytes()
}

/// The account is a function of its effects: no effect makes it less than nothing, and one that does not fit changes
/// nothing.
fn account(decisions: &[Vec<Effect>]) {
    let mut state = State::new(Venue::Paper);
    for effect in decisions.iter().flatten() {
        let before = state.clone();
        if state.apply(effect).is_err() {
            assert_eq!(state, before, "an effect that does not fit changed the account: {effect:?}");
        }
    }
    for balance in state.balances() {
        assert!(!balance.locked.is_sign_negative() || balance.locked.is_zero(), "{balance:?}");
    }
    let _ = (state.free("USDT"), state.free("BTC"), state.positions());
    for fill in state.fills() {
        assert!(!fill.quantity.is_zero() && !state.fills_of(fill.order_id).is_empty());
    }
    let _ = OrderState::ALL;
}
