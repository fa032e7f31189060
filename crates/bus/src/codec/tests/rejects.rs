//! One table: what is wrong, and the code it gets.

use std::collections::BTreeSet;

use domain::ids::UserId;
use domain::reject::RejectCode::{self, *};
use prost::Message as _;
use proto::v1;

use super::*;
use crate::CONTENT_TYPE;

const ID: &str = "0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a11";
const IDEA: &str = "trading.buy_bot.idea.high";
const INTENT: &str = "trading.treasury.intent.high";

fn signal(fields: &str) -> Raw {
    json(DOOR, &format!(r#"{{"action":"BUY","token_address":"BTCUSDT",{fields}}}"#))
}

/// A whole message of an agent with a good signal, and `fields` before it.
fn idea(fields: &str) -> Raw {
    let user = UserId::of_handle("operator");
    json(
        IDEA,
        &format!(
            r#"{{{fields}"correlationId":"{ID}","sourceAgent":"reflector","userId":"{user}","timestampNs":"{}","priority":7,"tradingSignal":{{"action":"HOLD","tokenAddress":"BTCUSDT"}}}}"#,
            NOW.as_ns()
        ),
    )
}

fn protobuf(subject: &str, payload: Vec<u8>) -> Raw {
    Raw { subject: subject.into(), headers: vec![("Content-Type".into(), CONTENT_TYPE.into())], payload }
}

fn message(subject: &str, payload: v1::agent_message::Payload) -> Raw {
    let message = v1::AgentMessage {
        message_id: ID.into(),
        correlation_id: ID.into(),
        source_agent: "tester".into(),
        user_id: UserId::of_handle("operator").to_string(),
        timestamp_ns: NOW.as_ns(),
        payload: Some(payload),
        ..Default::default()
    };
    protobuf(subject, message.encode_to_vec())
}

fn nested(depth: usize) -> Raw {
    json(DOOR, &format!(r#"{{"action":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1)))
}

fn form() -> Vec<(Raw, RejectCode)> {
    let good = r#"{"action":"BUY","token_address":"BTCUSDT","amount":"1"}"#;
    vec![
        (json(DOOR, ""), Empty),
        (json(DOOR, &format!("{}{good}", " ".repeat(65_536))), Oversized),
        (json(DOOR, "BUY 1 BTCUSDT"), UnknownContentType),
        (json(DOOR, "[]"), UnknownContentType),
        (json(DOOR, "   "), UnknownContentType),
        (Raw { headers: vec![("content-type".into(), "text/plain".into())], ..json(DOOR, good) }, UnknownContentType),
        (protobuf(DOOR, b"\xff\xff\xff".to_vec()), BadProtobuf),
        (protobuf(DOOR, good.as_bytes().to_vec()), BadProtobuf),
        (json(DOOR, r#"{"action":"#), BadJson),
        (json(DOOR, &format!("{good} {good}")), BadJson),
        (Raw { payload: b"{\"action\":\"\xff\"}".to_vec(), ..json(DOOR, "") }, BadJson),
        (json(DOOR, r#"{"action":"BUY","action":"SELL","token_address":"BTCUSDT","amount":"1"}"#), BadJson),
        (json(DOOR, r#"{"action":"BUY","act\u0069on":"SELL","token_address":"BTCUSDT","amount":"1"}"#), BadJson),
        (signal(r#""amount":"1","tokenAddress":"ETHUSDT""#), BadJson),
        (signal(r#""amount":1"#), BadJson),
        (signal(r#""amount":"1","confidence":NaN"#), BadJson),
        (nested(33), TooDeep),
        (nested(20_000), TooDeep),
        (signal(r#""amount":"1","leverage":"20""#), UnknownField),
        (idea(r#""admin":true,"#), UnknownField),
        (json("trading.buy_bot.signal.now", good), UnknownSubject),
        (json("trading.treasury.transfer.high", good), UnknownSubject),
    ]
}

fn head() -> Vec<(Raw, RejectCode)> {
    let with_id = |more: &str| idea(&format!(r#""messageId":"{ID}",{more}"#));
    let stranger = UserId::of_handle("stranger");
    vec![
        (json(DOOR, "{}"), WrongPayload),
        (json(IDEA, r#"{"action":"HOLD","token_address":"BTCUSDT"}"#), WrongPayload),
        (Raw { subject: INTENT.into(), ..with_id("") }, WrongPayload),
        (message(DOOR, v1::agent_message::Payload::HealthCheck(v1::HealthCheck {})), WrongPayload),
        (with_id(r#""topic":"trading.buy_bot.idea.low","#), WrongPayload),
        (with_id(r#""targetAgent":"treasury","#), WrongPayload),
        (idea(""), BadId),
        (idea(r#""messageId":"7","#), BadId),
        (idea(r#""messageId":"00000000-0000-0000-0000-000000000000","#), BadId),
        (Raw { headers: vec![("nats-msg-id".into(), String::new())], ..signal(r#""amount":"1""#) }, BadId),
        (json(DOOR, &format!(r#"{{"messageId":"{ID}","userId":"me","tradingSignal":{{"action":"HOLD"}}}}"#)), BadId),
        (
            json(DOOR, &format!(r#"{{"messageId":"{ID}","userId":"{stranger}","tradingSignal":{{"action":"HOLD"}}}}"#)),
            WrongUser,
        ),
        (with_id(r#""schemaVersion":2,"#), UnknownVersion),
        (with_id(&format!(r#""validUntilMs":"{}","#, NOW.0)), Expired),
        (with_id(r#""validUntilMs":"-1","#), Expired),
        (with_id(r#""ttlMs":-1,"#), Expired),
        (signal(&format!(r#""amount":"1","expiry_timestamp":{}"#, NOW.0 / 1000)), Expired),
        (signal(&format!(r#""amount":"1","expiry_timestamp":{}"#, NOW.as_ns())), FromTheFuture),
        (
            json(
                DOOR,
                &format!(
                    r#"{{"messageId":"{ID}","timestampNs":"{}","tradingSignal":{{"action":"BUY","token_address":"BTCUSDT","amount":"1"}}}}"#,
                    NOW.plus_ms(5_001).as_ns()
                ),
            ),
            FromTheFuture,
        ),
        (json(DOOR, &format!(r#"{{"messageId":"{ID}","timestampNs":"-1","tradingSignal":{{}}}}"#)), MissingField),
        (json(DOOR, &format!(r#"{{"messageId":"{ID}","priority":10,"tradingSignal":{{}}}}"#)), BadEnum),
    ]
}

fn content() -> Vec<(Raw, RejectCode)> {
    let decimals =
        ["-1", "+1", "1e3", "1e400", "NaN", "Infinity", "0", "0.000", "1,5", "0x10", "all", "1000000000001", "１"];
    let mut rows: Vec<_> = decimals.iter().map(|text| (signal(&format!(r#""amount":"{text}""#)), BadDecimal)).collect();
    rows.extend([
        (signal(r#""amount":"0.1234567890123456789""#), BadDecimal),
        (signal(r#""amount":"1","price_limit":"0""#), BadDecimal),
        (signal(r#""notional_usd":"0""#), BadDecimal),
        (signal(r#""amount":"1","confidence":1.01"#), BadDecimal),
        (signal(r#""amount":"1","price_limit":"1","time_in_force":"day""#), BadEnum),
        (signal(r#""amount":"1","time_in_force":"gtc""#), NotSupported),
        (signal(r#""amount":"1","slices":1"#), BadDecimal),
        (signal(r#""amount":"1","slices":51"#), BadDecimal),
        (signal(r#""amount":"1","slices":65538"#), BadDecimal),
        (signal(r#""amount":"1","slices":2,"slice_interval_ms":99"#), BadDecimal),
        (signal(r#""amount":"1","slices":2,"slice_interval_ms":300001"#), BadDecimal),
        (signal(r#""amount":"1","slice_interval_ms":1000"#), MissingField),
        (json(DOOR, r#"{"action":"HOLD","token_address":"BTCUSDT","slices":2}"#), NotSupported),
        (signal(r#""amount":"1","confidence":-0.1"#), BadDecimal),
        (signal(r#""amount":"1","confidence":"NaN""#), BadDecimal),
        (signal(r#""amount":"1","confidence":1e400"#), BadDecimal),
        (signal(r#""reasoning":"""#), AmbiguousAmount),
        (signal(r#""amount":"1","notional_usd":"1""#), AmbiguousAmount),
        (json(DOOR, r#"{"action":"HOLD","token_address":"BTCUSDT","amount":"1"}"#), AmbiguousAmount),
        (json(DOOR, r#"{"action":"buy","token_address":"BTCUSDT","amount":"1"}"#), BadEnum),
        (json(DOOR, r#"{"action":"","token_address":"BTCUSDT","amount":"1"}"#), MissingField),
        (json(DOOR, r#"{"action":"BUY","amount":"1"}"#), MissingField),
        (json(DOOR, r#"{"action":"BUY","token_address":"BTC\nUSDT","amount":"1"}"#), BadText),
        (signal(&format!(r#""amount":"1","reasoning":"{}""#, "x".repeat(4_097))), BadText),
        (signal(r#""amount":"1","strategy":"momentum""#), NotSupported),
    ]);
    let response = |decision| {
        let response = v1::ApprovalResponse {
            decision,
            approval_id: ID.into(),
            approver_id: "operator".into(),
            approved_at: NOW.0,
            ..Default::default()
        };
        message("trading.treasury.approval.high", v1::agent_message::Payload::ApprovalResponse(response))
    };
    rows.extend([(response(0), BadEnum), (response(4), BadEnum), (response(-1), BadEnum)]);
    rows
}

#[test]
fn every_fault_has_its_code() {
    let rows: Vec<_> = [form(), head(), content()].concat();
    for (raw, code) in &rows {
        let shown = String::from_utf8_lossy(&raw.payload[..raw.payload.len().min(160)]).into_owned();
        assert_eq!(read(raw).map_err(|r| r.code).err(), Some(*code), "{} {shown}", raw.subject);
    }
    let seen: BTreeSet<_> = rows.iter().map(|(_, code)| *code).collect();
    // These are said by the planner and the runtime, which know prices and attempts.
    let elsewhere = BTreeSet::from([UnknownInstrument, NoMark, TooSmall, AttemptsExhausted]);
    let missing: Vec<_> = RejectCode::ALL.into_iter().filter(|c| !seen.contains(c) && !elsewhere.contains(c)).collect();
    assert_eq!(missing, [], "codes without a row");
}

#[test]
fn a_message_of_exactly_the_limit_is_taken() {
    let good = r#"{"action":"BUY","token_address":"BTCUSDT","amount":"1"}"#;
    let raw = json(DOOR, &format!("{}{good}", " ".repeat(65_536 - good.len())));
    assert_eq!(raw.payload.len(), 65_536);
    assert!(read(&raw).is_ok());
}

#[test]
fn a_body_of_another_user_is_not_taken_under_this_ones_head() {
    let intent = v1::OrderIntent {
        intent_id: ID.into(),
        signal_id: ID.into(),
        user_id: UserId::of_handle("alice").to_string(),
        ..Default::default()
    };
    let code = read(&message(INTENT, v1::agent_message::Payload::OrderIntent(intent))).unwrap_err().code;
    assert_eq!(code, WrongUser);
}

#[test]
fn an_opinion_outside_of_its_type_is_refused_with_its_intent() {
    use v1::order_intent::Opinion as Said;
    let review = |verdict, confidence_percent| v1::Review { verdict, confidence_percent, ..Default::default() };
    for (said, want) in [
        (Said::Review(review(0, 50)), BadEnum),
        (Said::Review(review(3, 50)), BadEnum),
        (Said::Review(review(1, 101)), BadDecimal),
        (Said::Review(v1::Review { reasoning: "x".repeat(4_097), ..review(1, 50) }), BadText),
        (Said::NoReview(0), BadEnum),
        (Said::NoReview(99), BadEnum),
    ] {
        let intent = v1::OrderIntent {
            intent_id: ID.into(),
            signal_id: ID.into(),
            user_id: UserId::of_handle("operator").to_string(),
            origin: Some(v1::order_intent::Origin::Agent("a".into())),
            instrument: Some(v1::Instrument { venue: 1, symbol: "BTCUSDT".into() }),
            side: 1,
            order_type: 1,
            time_in_force: 1,
            amount: Some(v1::order_intent::Amount::Quantity("1".into())),
            worst_price: "1".into(),
            valid_until_ms: 1,
            opinion: Some(said.clone()),
            ..Default::default()
        };
        let read = read(&message(INTENT, v1::agent_message::Payload::OrderIntent(intent)));
        assert_eq!(read.unwrap_err().code, want, "{said:?}");
    }
}
