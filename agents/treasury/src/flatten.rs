//! Kill levels 3 and 4: everything that is held is sold. Each exit is an intent of treasury's own, decided like any other: the rails
//! judge it, it is recorded, audited and permitted, and it can only sell what is held. What is left when an attempt is over
//! is tried again, at a price that gives way a little more, inside the price collar.
//!
//! An exit's id is a function of kill epoch, user, instrument and attempt, so that no restart makes one twice.

use std::collections::BTreeMap;

use domain::ids::{IntentId, MessageId, OrderId, UserId, derive};
use domain::market::InstrumentId;
use domain::message::Message;
use domain::order::{OrderIntent, Origin};
use domain::time::UnixMs;
use rails::flatten::worst_price;
use runtime::HandleError;
use store::Unit;
use store::decisions::{DecisionRow, Outcome};

use crate::config::Config;
use crate::decide::{Sight, decide, lock};

/// From this level on treasury sells; at level 4 everybody is stopped afterwards.
pub const FROM_LEVEL: u8 = 3;
/// Life of an exit, ms.
const EXIT_TTL_MS: i64 = 60_000;
/// Before an exit that was refused is tried again, ms; it doubles with each attempt.
const PAUSE_MS: i64 = 2_000;
/// The longest.
const LONGEST_PAUSE_MS: i64 = 300_000;

/// The attempt that is next, by kill epoch, user and instrument. A hint: without it the attempts are counted in the record.
#[derive(Debug, Default)]
pub struct Attempts(BTreeMap<(UserId, InstrumentId), (i64, u32)>);

impl Attempts {
    /// Nothing is being sold.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

/// Decides an exit of each position of `user` that none is under way for.
///
/// # Errors
/// Store failures.
pub async fn exits(
    unit: &mut Unit,
    config: &Config,
    user: UserId,
    epoch: i64,
    attempts: &mut Attempts,
    sight: Sight<'_>,
) -> Result<Vec<Message>, HandleError> {
    let Some(locked) = lock(unit, config, user, sight).await? else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for id in locked.book.positions.keys() {
        let Some(instrument) = store::instruments::get(unit, id).await? else {
            tracing::error!(instrument = %id, "held, and its rules are not known: a person has to sell it");
            continue;
        };
        let quantity = locked.book.closable(id).floor_to(instrument.step);
        if quantity.is_zero() {
            continue;
        }
        let (attempt, last) = next(unit, (user, id), epoch, attempts).await?;
        if last.is_some_and(|last| !is_due(&last, attempt, sight.now)) {
            continue;
        }
        let mark = sight.marks.get(id);
        let price =
            mark.and_then(|mark| worst_price(mark.price, locked.limits.price_collar_percent, attempt, instrument.tick));
        let Some(worst_price) = price else {
            tracing::error!(instrument = %id, "held, and no price of it was seen since the start: it is sold when there is one");
            continue;
        };
        // What the venue does not take is no position that anybody could sell.
        if worst_price.notional_down(quantity).is_ok_and(|notional| notional.value() < instrument.min_notional) {
            continue;
        }
        let signal_id = signal_id(epoch, user, id, attempt);
        let intent = OrderIntent::sale_of_all(
            signal_id,
            user,
            Origin::Agent { name: format!("{}/flatten", crate::NAME) },
            id.clone(),
            worst_price,
            sight.now.plus_ms(EXIT_TTL_MS),
            format!(
                "kill level {FROM_LEVEL} or above, epoch {epoch}: attempt {} to sell what is held",
                attempt.saturating_add(1)
            ),
        );
        tracing::warn!(user_id = %user, instrument = %id, %quantity, %worst_price, attempt, "kill level: sold");
        metrics::counter!("swarm_flatten_exits_total").increment(1);
        out.extend(decide(unit, config, &intent, sight).await?);
    }
    Ok(out)
}

/// The first attempt that is not decided, and the decision before it.
async fn next(
    unit: &mut Unit,
    (user, id): (UserId, &InstrumentId),
    epoch: i64,
    attempts: &mut Attempts,
) -> Result<(u32, Option<DecisionRow>), HandleError> {
    let hint = attempts.0.get(&(user, id.clone())).filter(|(of, _)| *of == epoch).map_or(0, |(_, next)| *next);
    let mut attempt = hint.saturating_sub(1);
    let mut last = None;
    loop {
        let order_id = OrderId::of_intent(IntentId::of_leg(signal_id(epoch, user, id, attempt), 0));
        match store::decisions::get_by_order(unit, order_id).await? {
            Some(decision) => (last, attempt) = (Some(decision), attempt.saturating_add(1)),
            None => break,
        }
    }
    attempts.0.insert((user, id.clone()), (epoch, attempt));
    Ok((attempt, last))
}

/// Whether it is time for the attempt after `last`. One that was permitted is over, or its money would be reserved.
fn is_due(last: &DecisionRow, attempt: u32, now: UnixMs) -> bool {
    let pause = PAUSE_MS.saturating_mul(1_i64.checked_shl(attempt).unwrap_or(i64::MAX));
    last.outcome != Outcome::Refused || now.since_ms(last.at) >= pause.clamp(PAUSE_MS, LONGEST_PAUSE_MS)
}

fn signal_id(epoch: i64, user: UserId, id: &InstrumentId, attempt: u32) -> MessageId {
    let name = id.to_string();
    let parts: [&[u8]; 4] = [&epoch.to_be_bytes(), user.0.as_bytes(), name.as_bytes(), &attempt.to_be_bytes()];
    MessageId(derive("swarm.flatten.v1", &parts))
}
