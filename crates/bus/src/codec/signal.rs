//! Signals: the one message that people and language models write by hand.

use domain::message::{SignalAction, SignalSize, TradingSignal};
use domain::order::{Origin, Slices, TimeInForce};
use domain::reject::{Reject, RejectCode};
use proto::v1;

use super::fields::{name, positive_quantity, positive_usd, price, prose, reject};
use super::header::Door;

/// Time between two slices when the sender names none, ms.
const DEFAULT_SLICE_INTERVAL_MS: u32 = 5_000;

pub(super) fn read(signal: &v1::TradingSignal, source_agent: &str, door: &Door) -> Result<TradingSignal, Reject> {
    let action = match signal.action.as_str() {
        "BUY" => SignalAction::Buy,
        "SELL" => SignalAction::Sell,
        "HOLD" => SignalAction::Hold,
        "" => return Err(reject(RejectCode::MissingField, "action", "empty")),
        _ => return Err(reject(RejectCode::BadEnum, "action", "not BUY, SELL or HOLD")),
    };
    let price_limit = match signal.price_limit.as_str() {
        "" => None,
        text => Some(price(text, "price_limit")?),
    };
    Ok(TradingSignal {
        action,
        token_address: name(&signal.token_address, "token_address")?,
        size: size(signal, action)?,
        price_limit,
        time_in_force: time_in_force(signal, price_limit.is_some())?,
        slices: slices(signal, action)?,
        confidence_bps: signal.confidence.map(confidence_bps).transpose()?,
        reasoning: prose(&signal.reasoning, "reasoning")?,
        origin: origin(signal, source_agent, door)?,
    })
}

fn size(signal: &v1::TradingSignal, action: SignalAction) -> Result<SignalSize, Reject> {
    let ambiguous = |why| Err(reject(RejectCode::AmbiguousAmount, "amount, notional_usd", why));
    match (signal.amount.as_str(), signal.notional_usd.as_str()) {
        ("", "") if action == SignalAction::Hold => Ok(SignalSize::None),
        _ if action == SignalAction::Hold => ambiguous("a HOLD has neither"),
        ("", "") => ambiguous("neither"),
        ("all", "") if action == SignalAction::Sell => Ok(SignalSize::All),
        (amount, "") => positive_quantity(amount, "amount").map(SignalSize::Base),
        ("", notional) => positive_usd(notional, "notional_usd").map(SignalSize::Notional),
        _ => ambiguous("both"),
    }
}

fn time_in_force(signal: &v1::TradingSignal, has_limit: bool) -> Result<Option<TimeInForce>, Reject> {
    match signal.time_in_force.as_str() {
        "" => Ok(None),
        _ if !has_limit => Err(reject(RejectCode::NotSupported, "time_in_force", "only with a price_limit")),
        word => match TimeInForce::parse(word) {
            Some(time_in_force) => Ok(Some(time_in_force)),
            None => Err(reject(RejectCode::BadEnum, "time_in_force", "not ioc or gtc")),
        },
    }
}

fn slices(signal: &v1::TradingSignal, action: SignalAction) -> Result<Option<Slices>, Reject> {
    match (signal.slices, signal.slice_interval_ms) {
        (0, 0) => Ok(None),
        (0, _) => Err(reject(RejectCode::MissingField, "slices", "slice_interval_ms says how far apart they are")),
        _ if action == SignalAction::Hold => Err(reject(RejectCode::NotSupported, "slices", "a HOLD has none")),
        (count, 0) => super::read::slices(count, DEFAULT_SLICE_INTERVAL_MS).map(Some),
        (count, every_ms) => super::read::slices(count, every_ms).map(Some),
    }
}

fn confidence_bps(confidence: f64) -> Result<u16, Reject> {
    if !(0.0..=1.0).contains(&confidence) {
        return Err(reject(RejectCode::BadDecimal, "confidence", "not within 0 and 1"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10,000 by the check above")]
    Ok((confidence * 10_000.0).round() as u16)
}

fn origin(signal: &v1::TradingSignal, source_agent: &str, door: &Door) -> Result<Origin, Reject> {
    match (door, signal.strategy.as_str()) {
        (Door::Person { handle, .. }, "") => Ok(Origin::Person { handle: handle.clone() }),
        (Door::Person { .. }, _) => Err(reject(RejectCode::NotSupported, "strategy", "people have none")),
        (Door::Agent, "") => Ok(Origin::Agent { name: source_agent.to_owned() }),
        (Door::Agent, strategy) => {
            Ok(Origin::Agent { name: format!("{source_agent}/{}", name(strategy, "strategy")?) })
        }
    }
}
