//! The planner: one signal becomes zero or one order intent, purely.
//!
//! It only ever asks for less: quantities are rounded down to the venue's step, a buy is sized at its worst price, and
//! the worst price is rounded towards the safe side (a buy pays no more, a sale takes no less). Limits of money are not
//! its business: the rails judge every intent afterwards.
//!
//! | signal | quantity | worst price |
//! |---|---|---|
//! | BUY notional | dollars / worst price, down to the step | limit down to the tick, else mark + slippage down to the tick |
//! | BUY amount | amount, down to the step | the same |
//! | SELL notional | dollars / the larger of mark and worst price, down to the step | limit up to the tick, else mark - slippage up to the tick |
//! | SELL amount | amount, down to the step | the same |
//! | SELL all | decided by treasury: position less open exits | the same |
//! | HOLD | none: no intent | - |
//!
//! A sale for dollars is divided by the larger price, so that at today's mark it never brings more than was asked. Every
//! sale is reduce-only: this is spot. One signal makes one leg (leg 0); an amount over the venue's maximum is left for
//! the rails to refuse, never split behind the back of the one who asked. Slices that the signal asks for stay one leg and
//! one order: they are a way to work it, and must fit before its end.

use std::collections::BTreeMap;

use domain::ids::IntentId;
use domain::market::{Instrument, InstrumentId, Mark, Symbol, Venue};
use domain::message::{Header, SignalAction, SignalSize, TradingSignal, clean_text};
use domain::money::{MoneyError, Price, Quantity, USD_DECIMALS, Usd};
use domain::order::{Amount, OrderIntent, OrderType, Side, TimeInForce};
use domain::reject::{Reject, RejectCode};
use domain::review::Opinion;
use domain::time::UnixMs;
use rust_decimal::{Decimal, RoundingStrategy};

use crate::config::PlannerConfig;
use crate::mint;

/// Everything besides the signal that a plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct PlanInputs<'a> {
    /// Instruments known to the desks.
    pub instruments: &'a BTreeMap<InstrumentId, Instrument>,
    /// Latest marks.
    pub marks: &'a BTreeMap<InstrumentId, Mark>,
    /// Now.
    pub now: UnixMs,
    /// Venues, slippage and lifetimes.
    pub config: &'a PlannerConfig,
}

/// What a token address stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// An instrument whose rules are known.
    Listed(Instrument),
    /// A mint address of the DEX venue without rules of its own: the governor and the rails decide whether it exists.
    UnlistedMint(InstrumentId),
}

impl Resolved {
    /// Venue and symbol.
    #[must_use]
    pub const fn id(&self) -> &InstrumentId {
        match self {
            Self::Listed(instrument) => &instrument.id,
            Self::UnlistedMint(id) => id,
        }
    }

    fn rule(&self, pick: impl Fn(&Instrument) -> Decimal) -> Decimal {
        match self {
            Self::Listed(instrument) => pick(instrument),
            Self::UnlistedMint(_) => Decimal::ZERO,
        }
    }
}

/// Finds the instrument of `token_address`: a symbol of the configured exchange venue first, else a mint address of the
/// configured DEX venue.
///
/// # Errors
/// [`RejectCode::UnknownInstrument`] when it is neither.
pub fn resolve(token_address: &str, around: PlanInputs<'_>) -> Result<Resolved, Reject> {
    let unknown =
        || Reject::new(RejectCode::UnknownInstrument, "token_address is no symbol of the exchange and no mint address");
    let symbol = Symbol::parse(token_address).ok_or_else(unknown)?;
    let at = |venue: Venue| InstrumentId { venue, symbol: symbol.clone() };
    if let Some(instrument) = around.instruments.get(&at(around.config.cex_venue)) {
        return Ok(Resolved::Listed(instrument.clone()));
    }
    if !mint::is_mint(token_address) {
        return Err(unknown());
    }
    let id = at(around.config.dex_venue);
    Ok(around
        .instruments
        .get(&id)
        .map_or(Resolved::UnlistedMint(id), |instrument| Resolved::Listed(instrument.clone())))
}

/// Plans one signal. The answer has no intent for a HOLD and one for everything else.
///
/// # Errors
/// [`RejectCode::Expired`] (also when its slices would end too late), [`RejectCode::UnknownInstrument`], [`RejectCode::NoMark`], [`RejectCode::TooSmall`],
/// [`RejectCode::MissingField`] (no size), [`RejectCode::AmbiguousAmount`] (BUY all), [`RejectCode::BadDecimal`] (an
/// amount out of range).
pub fn plan(signal: &TradingSignal, header: &Header, around: PlanInputs<'_>) -> Result<Vec<OrderIntent>, Reject> {
    let side = match signal.action {
        SignalAction::Hold => return Ok(Vec::new()),
        SignalAction::Buy => Side::Buy,
        SignalAction::Sell => Side::Sell,
    };
    let valid_until = header.valid_until.unwrap_or_else(|| header.made_at.plus_ms(around.config.signal_ttl_ms));
    if around.now >= valid_until {
        return Err(Reject::new(RejectCode::Expired, format!("valid_until={valid_until} now={}", around.now)));
    }
    if let Some(slices) = signal.slices
        && around.now.plus_ms(slices.lasts_ms()) >= valid_until
    {
        let detail = format!(
            "{} slices {} ms apart end after valid_until={valid_until}: ask for fewer, closer ones or a later end",
            slices.count(),
            slices.every_ms()
        );
        return Err(Reject::new(RejectCode::Expired, detail));
    }
    let resolved = resolve(&signal.token_address, around)?;
    let mark = fresh_mark(resolved.id(), around);
    let worst_price = worst_price(side, signal.price_limit, mark, &resolved, around)?;
    let amount = amount(side, signal.size, worst_price, mark, &resolved)?;
    let (order_type, time_in_force) = match signal.price_limit {
        Some(_) => (OrderType::Limit, signal.time_in_force.unwrap_or(around.config.limit_time_in_force)),
        None => (OrderType::Market, TimeInForce::ImmediateOrCancel),
    };
    let leg = 0;
    Ok(vec![OrderIntent {
        intent_id: IntentId::of_leg(header.message_id, leg),
        signal_id: header.message_id,
        leg,
        user_id: header.user_id,
        origin: signal.origin.clone(),
        instrument: resolved.id().clone(),
        side,
        order_type,
        time_in_force,
        amount,
        worst_price,
        reduce_only: side == Side::Sell,
        valid_until,
        slices: signal.slices,
        reasoning: clean_text(&signal.reasoning),
        opinion: Opinion::NotAsked,
    }])
}

fn fresh_mark(id: &InstrumentId, around: PlanInputs<'_>) -> Option<Mark> {
    let fresh = |mark: &Mark| around.now.since_ms(mark.received_at) <= around.config.mark_max_age_ms;
    around.marks.get(id).copied().filter(fresh)
}

fn worst_price(
    side: Side,
    limit: Option<Price>,
    mark: Option<Mark>,
    resolved: &Resolved,
    around: PlanInputs<'_>,
) -> Result<Price, Reject> {
    let bound = match (limit, mark) {
        (Some(limit), _) => limit,
        (None, Some(mark)) => slipped(side, mark.price, around.config.default_slippage_percent).map_err(bad_decimal)?,
        (None, None) => {
            let detail = format!(
                "no mark of {} younger than {} ms; give a price_limit",
                resolved.id(),
                around.config.mark_max_age_ms
            );
            return Err(Reject::new(RejectCode::NoMark, detail));
        }
    };
    let tick = resolved.rule(|instrument| instrument.tick);
    let rounded = match side {
        Side::Buy => bound.floor_to(tick),
        Side::Sell => bound.ceil_to(tick),
    };
    rounded
        .ok_or_else(|| Reject::new(RejectCode::TooSmall, format!("worst price {bound} leaves nothing on tick {tick}")))
}

/// `mark` made worse by `percent` for `side`.
fn slipped(side: Side, mark: Price, percent: Decimal) -> Result<Price, MoneyError> {
    let part = percent.checked_div(Decimal::ONE_HUNDRED).ok_or(MoneyError::OutOfRange)?;
    let factor = match side {
        Side::Buy => Decimal::ONE + part,
        Side::Sell => Decimal::ONE - part,
    };
    Price::new(mark.value().checked_mul(factor).ok_or(MoneyError::OutOfRange)?)
}

fn amount(
    side: Side,
    size: SignalSize,
    worst: Price,
    mark: Option<Mark>,
    resolved: &Resolved,
) -> Result<Amount, Reject> {
    let asked = match (side, size) {
        (Side::Sell, SignalSize::All) => return Ok(Amount::All),
        (Side::Buy, SignalSize::All) => {
            return Err(Reject::new(RejectCode::AmbiguousAmount, "amount=all is for a SELL only"));
        }
        (_, SignalSize::None) => return Err(Reject::new(RejectCode::MissingField, "amount or notional_usd")),
        (_, SignalSize::Base(quantity)) => quantity,
        (_, SignalSize::Notional(dollars)) => {
            let reference = match side {
                Side::Buy => worst,
                Side::Sell => mark.map_or(worst, |mark| mark.price.max(worst)),
            };
            affordable(dollars, reference).map_err(bad_decimal)?
        }
    };
    let quantity = asked.floor_to(resolved.rule(|instrument| instrument.step));
    big_enough(quantity, asked, worst, resolved).map(Amount::Exactly)
}

/// The dollars are cut to cents of the ledger (8 decimals) first, so that a notional rounded up to them never passes
/// what was asked.
fn affordable(dollars: Usd, price: Price) -> Result<Quantity, MoneyError> {
    if dollars.is_negative() {
        return Err(MoneyError::Negative);
    }
    let cut = Usd::new(dollars.value().round_dp_with_strategy(USD_DECIMALS, RoundingStrategy::ToZero))?;
    Quantity::affordable(cut, price)
}

fn big_enough(quantity: Quantity, asked: Quantity, worst: Price, resolved: &Resolved) -> Result<Quantity, Reject> {
    let min_quantity = resolved.rule(|instrument| instrument.min_quantity);
    let min_notional = resolved.rule(|instrument| instrument.min_notional);
    let notional = worst.notional_down(quantity).map_err(bad_decimal)?;
    if quantity.is_zero() || quantity.value() < min_quantity || notional.value() < min_notional {
        let step = resolved.rule(|instrument| instrument.step);
        let detail = format!(
            "asked={asked} quantity={quantity} step={step} min_quantity={min_quantity} \
             notional_usd={notional} min_notional_usd={min_notional}"
        );
        return Err(Reject::new(RejectCode::TooSmall, detail));
    }
    Ok(quantity)
}

fn bad_decimal(error: MoneyError) -> Reject {
    Reject::new(RejectCode::BadDecimal, error.to_string())
}
