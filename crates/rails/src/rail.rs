//! The rails, one function each. A rail says `Ok` or refuses with its numbers; its code is its place in [`RAILS`], so a
//! rail can neither return the code of another nor run out of order.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt::Display;

use domain::ids::OrderId;
use domain::market::{Instrument, InstrumentId, Mark};
use domain::money::{MoneyError, Usd};
use domain::order::{OrderEnvelope, OrderType, Side};
use rust_decimal::{Decimal, RoundingStrategy};

use crate::book::{is_fresh, judged_notional};
use crate::check::{HumanApproval, Surroundings};
use crate::exposure::{Held, percent_of};
use crate::refusal::RefusalCode;

/// One order and everything it is judged by.
pub(crate) struct Case<'a> {
    pub order: &'a OrderEnvelope,
    pub approval: Option<&'a HumanApproval>,
    pub around: Surroundings<'a>,
    /// The order's instrument.
    pub id: InstrumentId,
    /// What is held, summed when the first rail asks.
    held: OnceCell<Held<'a>>,
}

/// Why a rail does not say `Ok`.
pub(crate) enum Stop {
    /// No, and what was compared with what.
    Refused(BTreeMap<String, String>),
    /// The rail could not be computed.
    OutOfRange,
}

impl From<MoneyError> for Stop {
    fn from(_: MoneyError) -> Self {
        Self::OutOfRange
    }
}

type Rail = fn(&Case<'_>) -> Result<(), Stop>;

/// Every rail, in order of precedence. Codes that are missing here belong to treasury (prompts, votes, duplicates, clock)
/// or to the desk.
pub(crate) const RAILS: [(RefusalCode, Rail); 18] = [
    (RefusalCode::UnknownUser, known_user),
    (RefusalCode::Expired, not_expired),
    (RefusalCode::UnknownInstrument, known_instrument),
    (RefusalCode::VenueFilter, venue_filter),
    (RefusalCode::TokenVerdict, token_verdict),
    (RefusalCode::SpotShort, never_short),
    (RefusalCode::StaleMark, fresh_marks),
    (RefusalCode::PriceCollar, price_collar),
    (RefusalCode::KillLevel, kill_level),
    (RefusalCode::Breaker, breaker),
    (RefusalCode::DailyLoss, daily_loss),
    (RefusalCode::Rate, rate),
    (RefusalCode::Position, position),
    (RefusalCode::Total, total),
    (RefusalCode::Cash, cash),
    (RefusalCode::ApprovalMismatch, approval_matches),
    (RefusalCode::ApprovalExpired, approval_lives),
    (RefusalCode::BadPermit, well_formed),
];

impl<'a> Case<'a> {
    pub(crate) fn new(order: &'a OrderEnvelope, approval: Option<&'a HumanApproval>, around: Surroundings<'a>) -> Self {
        Self { order, approval, around, id: order.instrument(), held: OnceCell::new() }
    }

    fn held(&self) -> &Held<'a> {
        self.held.get_or_init(|| self.around.held())
    }

    /// A buy. A sale can't go short, so it always reduces risk.
    fn increases_risk(&self) -> bool {
        self.order.side == Side::Buy
    }

    /// The last known mark of the order's instrument, however old.
    fn last_mark(&self) -> Option<&Mark> {
        self.around.marks.get(&self.id)
    }

    /// Equity at fresh marks. That each is there is the stale-mark rail's business.
    fn equity(&self) -> Result<Usd, Stop> {
        Ok(self.held().equity?)
    }

    /// What this order may add at the worse of its worst price and the mark, rounded up.
    fn worst_notional(&self) -> Result<Usd, MoneyError> {
        self.around.worse_for_buyer(&self.id, self.order.worst_price).notional_up(self.order.quantity)
    }
}

/// `Ok` when it holds, else a refusal with these numbers.
fn require<const N: usize>(holds: bool, numbers: [(&str, &dyn Display); N]) -> Result<(), Stop> {
    if holds {
        return Ok(());
    }
    Err(Stop::Refused(numbers.into_iter().map(|(key, value)| (key.to_owned(), value.to_string())).collect()))
}

fn known_user(case: &Case<'_>) -> Result<(), Stop> {
    let (asked, book) = (case.order.user_id, case.around.book.user_id);
    require(asked == book, [("user", &asked)])
}

fn not_expired(case: &Case<'_>) -> Result<(), Stop> {
    let (now, until) = (case.around.now, case.order.valid_until);
    require(now <= until, [("now", &now), ("valid_until", &until)])
}

fn known_instrument(case: &Case<'_>) -> Result<(), Stop> {
    let known = case.around.instrument.is_some_and(|instrument| instrument.id == case.id);
    require(known, [("instrument", &case.id)])
}

fn venue_filter(case: &Case<'_>) -> Result<(), Stop> {
    let order = case.order;
    let Some(Instrument { tick, step, min_quantity, max_quantity, min_notional, .. }) = case.around.instrument else {
        return Ok(()); // refused by `known_instrument`
    };
    let (quantity, price) = (order.quantity, order.worst_price);
    let size = quantity.value();
    require(size > Decimal::ZERO && size >= *min_quantity, [("quantity", &quantity), ("min_quantity", min_quantity)])?;
    require(
        max_quantity.is_zero() || size <= *max_quantity,
        [("quantity", &quantity), ("max_quantity", max_quantity)],
    )?;
    require(quantity.floor_to(*step) == quantity, [("quantity", &quantity), ("step", step)])?;
    require(price.floor_to(*tick) == Some(price), [("price", &price), ("tick", tick)])?;
    let notional = price.notional_down(quantity)?;
    require(notional.value() >= *min_notional, [("notional_usd", &notional), ("min_notional_usd", min_notional)])?;
    if let Some(slicing) = order.slicing {
        // Each child is an order of its own to the venue. The last is the largest and no larger than the whole.
        let (part, least) = (slicing.quantity, price.notional_down(slicing.quantity)?);
        let is_whole = order.child_quantity(slicing.count.saturating_sub(1)).is_some();
        require(is_whole, [("slices", &slicing.count), ("slice", &part), ("quantity", &quantity)])?;
        let taken = part.value() >= *min_quantity && part.floor_to(*step) == part;
        require(taken, [("slice", &part), ("min_quantity", min_quantity), ("step", step)])?;
        require(least.value() >= *min_notional, [("slice_usd", &least), ("min_notional_usd", min_notional)])?;
    }
    let (claimed, worst) = (order.max_notional_usd, price.notional_up(quantity)?);
    require(claimed == worst, [("max_notional_usd", &claimed), ("worst_notional_usd", &worst)])
}

/// A token is bought only under a live verdict. A sale needs none: a bad verdict must not trap what is held.
fn token_verdict(case: &Case<'_>) -> Result<(), Stop> {
    if !case.order.venue.is_dex() || !case.increases_risk() {
        return Ok(());
    }
    let of_token = |v: &&domain::message::TokenVerdict| v.venue == case.id.venue && v.mint == case.id.symbol.as_str();
    let Some(verdict) = case.around.verdict.filter(of_token) else {
        return require(false, [("verdict", &"none")]);
    };
    require(verdict.allowed, [("verdict", &"no")])?;
    require(case.around.now <= verdict.valid_until, [("verdict", &"expired"), ("valid_until", &verdict.valid_until)])?;
    let (notional, most) = (case.order.max_notional_usd, verdict.max_notional);
    require(notional <= most, [("notional_usd", &notional), ("limit_usd", &most)])
}

fn never_short(case: &Case<'_>) -> Result<(), Stop> {
    let order = case.order;
    if order.side == Side::Buy {
        return require(!order.reduce_only, [("reduce_only", &true), ("side", &order.side)]);
    }
    let closable = case.around.book.closable_besides(&case.id, Some(order.order_id));
    require(order.quantity <= closable, [("quantity", &order.quantity), ("closable", &closable)])
}

/// New risk needs a fresh mark of its instrument and of everything held (equity can't be known otherwise). An exit with a
/// stale mark passes as a limit order, which the collar of the last known mark then bounds.
fn fresh_marks(case: &Case<'_>) -> Result<(), Stop> {
    let around = &case.around;
    let max_age_ms = around.limits.mark_max_age_ms;
    let Some(mark) = case.last_mark() else {
        return require(false, [("instrument", &case.id), ("mark", &"none")]);
    };
    let age_ms = around.now.since_ms(mark.received_at);
    if !case.increases_risk() {
        let bounded = is_fresh(mark, around.now, max_age_ms) || case.order.order_type == OrderType::Limit;
        return require(bounded, [("instrument", &case.id), ("age_ms", &age_ms), ("max_age_ms", &max_age_ms)]);
    }
    let fresh = is_fresh(mark, around.now, max_age_ms);
    require(fresh, [("instrument", &case.id), ("age_ms", &age_ms), ("max_age_ms", &max_age_ms)])?;
    case.held()
        .unmarked
        .map_or(Ok(()), |held| require(false, [("instrument", held), ("held", &true), ("max_age_ms", &max_age_ms)]))
}

fn price_collar(case: &Case<'_>) -> Result<(), Stop> {
    let Some(mark) = case.last_mark() else {
        return Ok(()); // refused by `fresh_marks`
    };
    let worst = case.order.worst_price;
    let percent = case.around.limits.price_collar_percent;
    let gap = (worst.value() - mark.price.value()).abs();
    let scaled_gap = gap.checked_mul(Decimal::ONE_HUNDRED).ok_or(Stop::OutOfRange)?;
    let allowed = mark.price.value().checked_mul(percent).ok_or(Stop::OutOfRange)?;
    require(scaled_gap <= allowed, [("price", &worst), ("mark", &mark.price), ("limit_percent", &percent)])
}

fn kill_level(case: &Case<'_>) -> Result<(), Stop> {
    let level = case.around.kill.level();
    require(level == 0 || !case.increases_risk(), [("level", &level)])
}

fn breaker(case: &Case<'_>) -> Result<(), Stop> {
    let breaker = case.around.book.breaker;
    match breaker.latched_at {
        Some(at) if case.increases_risk() => {
            require(false, [("latched_at", &at), ("losses", &breaker.losses_in_a_row)])
        }
        _ => Ok(()),
    }
}

/// A baseline that is not of today, or not positive, says nothing: no new risk.
fn daily_loss(case: &Case<'_>) -> Result<(), Stop> {
    if !case.increases_risk() {
        return Ok(());
    }
    let (day, today) = (case.around.book.day, case.around.now.day());
    require(day.day >= today, [("baseline_day", &day.day), ("day", &today)])?;
    let baseline = day.equity;
    require(baseline.is_positive(), [("baseline_usd", &baseline)])?;
    let equity = case.equity()?;
    let percent = case.around.limits.daily_loss_percent;
    let loss = baseline.minus(equity)?;
    let limit = percent_of(baseline, percent, RoundingStrategy::ToZero)?;
    require(loss < limit, [("loss_usd", &loss), ("limit_usd", &limit), ("baseline_usd", &baseline)])
}

fn rate(case: &Case<'_>) -> Result<(), Stop> {
    let limits = case.around.limits;
    let increasing = case.increases_risk();
    let limit = if increasing { limits.rate_risk_increasing } else { limits.rate_exits };
    let in_window = case.around.book.permits.iter().filter(|stamp| {
        stamp.risk_increasing == increasing
            && stamp.order_id != case.order.order_id
            && case.around.now.since_ms(stamp.at) < limits.rate_window_ms
    });
    let count = in_window.count();
    let room = u32::try_from(count).is_ok_and(|count| count < limit);
    require(room, [("permits", &count), ("limit", &limit), ("window_ms", &limits.rate_window_ms)])
}

fn position(case: &Case<'_>) -> Result<(), Stop> {
    if !case.increases_risk() {
        return Ok(());
    }
    let (held, own) = (case.around.held_of(&case.id)?, case.order.order_id);
    let before = case.around.with_open_buys(held, own, |instrument| *instrument == case.id)?;
    let after = before.plus(case.worst_notional()?)?;
    let limit = case.around.limits.position_usd;
    require(after <= limit, [("position_usd", &after), ("limit_usd", &limit)])
}

fn total(case: &Case<'_>) -> Result<(), Stop> {
    if !case.increases_risk() {
        return Ok(());
    }
    let before = case.around.with_open_buys(case.held().exposure?, case.order.order_id, |_| true)?;
    let after = before.plus(case.worst_notional()?)?;
    let limit =
        percent_of(case.equity()?, case.around.limits.total_exposure_percent, RoundingStrategy::ToNegativeInfinity)?;
    require(after <= limit, [("total_usd", &after), ("limit_usd", &limit)])
}

fn cash(case: &Case<'_>) -> Result<(), Stop> {
    if !case.increases_risk() {
        return Ok(());
    }
    let around = &case.around;
    let mut free = around.book.cash;
    for open in around.open_buys(case.order.order_id) {
        free = free.minus(around.with_worst_fee(open.worst_price.notional_up(open.remaining)?)?)?;
    }
    let needed = around.with_worst_fee(case.order.max_notional_usd)?;
    require(needed <= free, [("needed_usd", &needed), ("free_usd", &free)])
}

/// An approval must be of exactly this envelope and of the tier the envelope needs.
fn approval_matches(case: &Case<'_>) -> Result<(), Stop> {
    let Some(approval) = case.approval.filter(|_| case.increases_risk()) else {
        return Ok(());
    };
    let same = case.order.digest().is_ok_and(|digest| digest == approval.digest);
    require(same, [("approved_digest", &approval.digest)])?;
    let needed = tier_needed(case)?.map_or(0, |need| need.tier);
    require(approval.tier >= needed, [("tier", &approval.tier), ("needed_tier", &needed)])
}

fn approval_lives(case: &Case<'_>) -> Result<(), Stop> {
    let Some(approval) = case.approval.filter(|_| case.increases_risk()) else {
        return Ok(());
    };
    let now = case.around.now;
    require(now <= approval.expires_at, [("now", &now), ("expires_at", &approval.expires_at)])
}

/// An envelope that names another schema or action, or ids that do not follow from each other, carries no permit.
fn well_formed(case: &Case<'_>) -> Result<(), Stop> {
    let order = case.order;
    require(order.schema == OrderEnvelope::SCHEMA, [("schema", &order.schema)])?;
    require(order.action == "place", [("action", &order.action)])?;
    require(order.order_id == OrderId::of_intent(order.intent_id), [("order_id", &order.order_id)])?;
    require(order.client_order_id == order.order_id.client_order_id(), [("client_order_id", &order.client_order_id)])
}

/// Why a human must decide.
pub(crate) struct Need {
    pub tier: u8,
    /// The order's notional and what passed unapproved before it.
    pub sum_usd: Usd,
}

/// The tier of approval this order needs: when its notional, or its notional with what passed without a human in the
/// window (same side, same instrument), is over the limit.
pub(crate) fn tier_needed(case: &Case<'_>) -> Result<Option<Need>, Stop> {
    if !case.increases_risk() {
        return Ok(None);
    }
    let (order, limits) = (case.order, case.around.limits);
    let notional = judged_notional(order, case.around.fresh_mark(&case.id))?;
    let mut sum_usd = notional;
    for earlier in &case.around.book.unapproved {
        let counts = earlier.order_id != order.order_id
            && earlier.side == order.side
            && earlier.instrument == case.id
            && case.around.now.since_ms(earlier.at) < limits.approval_window_ms;
        if counts {
            sum_usd = sum_usd.plus(earlier.notional)?;
        }
    }
    if sum_usd <= limits.approval_over_usd {
        return Ok(None);
    }
    let tier = if notional > limits.approval_tier2_over_usd { 2 } else { 1 };
    Ok(Some(Need { tier, sum_usd }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rails_run_in_the_order_of_their_codes() {
        let codes: Vec<_> = RAILS.iter().map(|(code, _)| *code).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
    }
}
