//! Bytes made to break a reader: whatever comes, the answer is a message or a rejection.

use proptest::prelude::*;

use super::samples::{KINDS, dice};
use super::*;
use crate::CONTENT_TYPE;
use crate::codec::encode;

const SUBJECTS: [&str; 6] = [
    DOOR,
    "trading.signal.low",
    "trading.buy_bot.signal-alice.high",
    "trading.treasury.intent.high",
    "market.paper.tick.BTCUSDT",
    "system.monitor.command.low",
];

fn with_type(subject: &str, typed: bool, payload: Vec<u8>) -> Raw {
    let headers = if typed { vec![("content-type".to_owned(), CONTENT_TYPE.to_owned())] } else { Vec::new() };
    Raw { subject: subject.to_owned(), headers, payload }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        subject in 0..SUBJECTS.len(),
        typed: bool,
    ) {
        let _ = read(&with_type(SUBJECTS[subject], typed, bytes));
    }

    #[test]
    fn a_mutated_message_never_panics(
        dice in dice(),
        kind in 0..KINDS,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..6),
    ) {
        let encoded = encode(&dice.message(kind));
        let mut bytes = encoded.payload;
        for (at, byte, what) in edits {
            if bytes.is_empty() { break }
            let at = at.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => { bytes.remove(at); }
                _ => bytes.insert(at, byte),
            }
        }
        let _ = read(&with_type(&encoded.subject, true, bytes));
    }

    #[test]
    fn json_like_text_never_panics(text in r#"[\{\}\[\]":,\\a-z0-9.eE+\- ]{0,200}"#, subject in 0..SUBJECTS.len()) {
        let _ = read(&with_type(SUBJECTS[subject], false, format!("{{{text}").into_bytes()));
    }
}

#[test]
fn nesting_of_any_kind_is_answered_without_recursion() {
    for piece in ["[", "{\"a\":", "[{\"a\":", "{\"a\":[\"\\\"[\","] {
        let count = 60_000 / piece.len();
        let text = format!("{{\"action\":{}", piece.repeat(count));
        let code = read(&json(DOOR, &text)).unwrap_err().code;
        assert_eq!(code, domain::reject::RejectCode::TooDeep, "{piece}");
    }
}

#[test]
fn brackets_inside_text_are_no_nesting() {
    let text =
        format!(r#"{{"action":"BUY","token_address":"BTCUSDT","amount":"1","reasoning":"\"{}"}}"#, "[{".repeat(500));
    assert!(read(&json(DOOR, &text)).is_ok());
}
