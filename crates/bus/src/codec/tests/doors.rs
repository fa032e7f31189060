//! People at the door: whose money, which id, until when.

use domain::ids::{MessageId, UserId};
use domain::message::{Payload, SignalSize};
use domain::order::Origin;

use super::*;

const BUY: &str = r#"{"action":"BUY","token_address":"BTCUSDT","amount":"0.01"}"#;

#[test]
fn each_door_belongs_to_one_person() {
    for (subject, handle) in [
        (DOOR, "operator"),
        ("trading.signal.urgent", "operator"),
        ("trading.anything.low", "operator"),
        ("trading.buy_bot.signal-alice.high", "alice"),
    ] {
        let got = read(&json(subject, BUY)).unwrap();
        assert_eq!(got.header.user_id, UserId::of_handle(handle), "{subject}");
        assert_eq!(got.header.source_agent, handle);
        assert_eq!(got.header.correlation_id.0, got.header.message_id.0);
        assert_eq!(i32::from(got.header.priority), got.subject.priority().number());
        let Payload::TradingSignal(signal) = got.payload else { panic!("no signal") };
        assert_eq!(signal.origin, Origin::Person { handle: handle.into() });
    }
}

#[test]
fn a_redelivered_bare_signal_is_the_same_message_and_its_neighbour_is_not() {
    let raw = json(DOOR, BUY);
    let at = |stream_seq| Arrival { stream: "TRADING_CRITICAL", stream_seq, published_at: NOW };
    let first = decode(&raw, &at(7), NOW).unwrap().header.message_id;
    assert_eq!(decode(&raw, &at(7), NOW.plus_ms(5_000)).unwrap().header.message_id, first);
    assert_ne!(decode(&raw, &at(8), NOW).unwrap().header.message_id, first);
    let reborn = Arrival { published_at: NOW.plus_ms(1), ..at(7) };
    assert_ne!(
        decode(&raw, &reborn, NOW).unwrap().header.message_id,
        first,
        "a stream made anew counts from one again"
    );
}

#[test]
fn ids_of_people_are_scoped_by_user_so_that_nobody_takes_an_agents_id() {
    let with_id = |subject: &str| Raw { headers: vec![("Nats-Msg-Id".into(), "mine".into())], ..json(subject, BUY) };
    let mine = read(&with_id(DOOR)).unwrap().header.message_id;
    let hers = read(&with_id("trading.buy_bot.signal-alice.urgent")).unwrap().header.message_id;
    assert_ne!(mine, hers);

    let id = "0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a11";
    let whole =
        read(&json(DOOR, &format!(r#"{{"messageId":"{id}","tradingSignal":{BUY}}}"#))).unwrap().header.message_id;
    assert_eq!(whole, MessageId::of_person(UserId::of_handle("operator"), id));
    assert_ne!(whole, id.parse().unwrap());
}

#[test]
fn a_signal_lives_a_minute_from_its_arrival_unless_it_says_less() {
    let soon = NOW.0 + 1_000;
    for (rest, left_ms) in [
        (String::new(), 60_000),
        (format!(r#","expiry_timestamp":"{soon}""#), 1_000),
        (format!(r#","expiryTimestamp":{soon}"#), 1_000),
    ] {
        let text = format!(r#"{{"action":"SELL","token_address":"BTCUSDT","amount":"all"{rest}}}"#);
        assert_eq!(read(&json(DOOR, &text)).unwrap().header.valid_until, Some(NOW.plus_ms(left_ms)), "{text}");
    }
    let id = "0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a11";
    let text = format!(
        r#"{{"messageId":"{id}","timestampNs":"{}","ttlMs":3000,"validUntilMs":"{}","tradingSignal":{BUY}}}"#,
        NOW.plus_ms(-1_000).as_ns(),
        NOW.0 + 9_000
    );
    assert_eq!(
        read(&json(DOOR, &text)).unwrap().header.valid_until,
        Some(NOW.plus_ms(2_000)),
        "the earliest end counts"
    );
}

#[test]
fn a_late_arrival_does_not_make_a_default_life_longer() {
    let at = Arrival { stream: "TRADING_CRITICAL", stream_seq: 7, published_at: NOW };
    let code = decode(&json(DOOR, BUY), &at, NOW.plus_ms(60_000)).unwrap_err().code;
    assert_eq!(code, domain::reject::RejectCode::Expired);
}

#[test]
fn prose_is_cleaned_and_cut_and_numbers_are_not_touched() {
    let long = "x".repeat(1_000);
    let text = format!(
        r#"{{"action":"BUY","token_address":"BTCUSDT","notional_usd":"0600.50","confidence":0.5,"reasoning":"a\n\u202eb{long}"}}"#
    );
    let Payload::TradingSignal(signal) = read(&json(DOOR, &text)).unwrap().payload else { panic!("no signal") };
    assert_eq!(signal.reasoning.chars().count(), 500);
    assert!(signal.reasoning.starts_with("abx"));
    assert_eq!(signal.confidence_bps, Some(5_000));
    let SignalSize::Notional(usd) = signal.size else { panic!("no notional") };
    assert_eq!(usd.to_string(), "600.5");
}
