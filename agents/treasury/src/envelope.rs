//! From a planned intent to the exact order that is judged, approved and permitted.

use domain::ids::OrderId;
use domain::market::{Instrument, Mark};
use domain::money::{MoneyError, Quantity};
use domain::order::{Amount, OrderEnvelope, OrderIntent, Side, slippage_bps};
use domain::time::UnixMs;
use rails::refusal::{Refusal, RefusalCode};

/// Builds the envelope of an intent. `closable` is what a sale of everything may sell.
///
/// # Errors
/// A [`Refusal`] when there is no order to judge: nothing to sell, or numbers out of range.
pub fn build(
    intent: &OrderIntent,
    closable: Quantity,
    instrument: Option<&Instrument>,
    mark: Option<Mark>,
    valid_until: UnixMs,
    policy_version: &str,
) -> Result<OrderEnvelope, Refusal> {
    let sells = intent.side == Side::Sell;
    let step = instrument.map_or(rust_decimal::Decimal::ZERO, |i| i.step);
    let quantity = match intent.amount {
        Amount::Exactly(quantity) => quantity,
        Amount::All if sells => closable.floor_to(step),
        // "All of it" is a word of exits only.
        Amount::All => Quantity::ZERO,
    };
    if quantity.is_zero() {
        return Err(Refusal::new(RefusalCode::SpotShort).with("closable", closable).with("step", step));
    }
    let order_id = OrderId::of_intent(intent.intent_id);
    Ok(OrderEnvelope {
        schema: OrderEnvelope::SCHEMA.to_owned(),
        action: "place".to_owned(),
        user_id: intent.user_id,
        client_order_id: order_id.client_order_id(),
        order_id,
        intent_id: intent.intent_id,
        venue: intent.instrument.venue,
        symbol: intent.instrument.symbol.clone(),
        side: intent.side,
        order_type: intent.order_type,
        time_in_force: intent.time_in_force,
        quantity,
        worst_price: intent.worst_price,
        max_notional_usd: intent.worst_price.notional_up(quantity).map_err(out_of_range)?,
        max_slippage_bps: mark.map_or(0, |m| slippage_bps(intent.side, intent.worst_price, m.price)),
        min_out: Quantity::ZERO,
        reduce_only: intent.reduce_only,
        valid_until,
        policy_version: policy_version.to_owned(),
        slicing: intent
            .slices
            .zip(instrument)
            .and_then(|(slices, rules)| slices.fit(quantity, intent.worst_price, rules)),
    })
}

fn out_of_range(error: MoneyError) -> Refusal {
    Refusal::new(RefusalCode::Arithmetic).with("fault", error)
}
