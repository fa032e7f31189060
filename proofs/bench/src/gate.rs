//! `rails::check` alone, by the CPU clock of its thread: neighbours take its time, not its figure.

use std::hint::black_box;

use domain::ids::{IntentId, MessageId, OrderId, UserId};
use domain::market::{InstrumentId, Mark, Symbol, Venue};
use domain::money::{MoneyError, Price, Quantity, Usd};
use domain::order::{OrderEnvelope, OrderType, Side, TimeInForce};
use domain::time::UnixMs;
use nix::time::{ClockId, clock_gettime};
use rails::book::{Book, Marks, PermitStamp, Position, Reservation, ReservationState, Unapproved};
use rails::check::{KillReading, Surroundings, Verdict, check};
use rails::limits::Limits;

use crate::Arguments;
use crate::bank::instrument;
use crate::bench_error::BenchError;
use crate::noise::Noise;
use crate::report::{Report, Row, Target};

const NOW: UnixMs = UnixMs(1_800_000_000_000);
/// Positions, and as many open reservations.
const SIZES: [u32; 3] = [1, 10, 100];
const BATCH: u32 = 500;
const TARGET_US: f64 = 5.0;

/// A book of so many positions and reservations, with the marks it needs.
fn book(size: u32) -> Result<(Book, Marks), MoneyError> {
    let user = UserId::of_handle("operator");
    let mut book = Book::open(user, Usd::parse("1000000")?, NOW);
    let mut marks = Marks::new();
    for number in 0..size {
        let Some(id) = id_of(number) else { continue };
        let order_id = order_of(number);
        marks.insert(id.clone(), Mark { price: Price::parse("100")?, received_at: NOW });
        let position = Position {
            quantity: Quantity::parse("1.5")?,
            cost: Usd::parse("150")?,
            trade_cost: Usd::parse("150")?,
            trade_realised: Usd::ZERO,
            opened_at: NOW,
        };
        book.positions.insert(id.clone(), position);
        let reservation = Reservation {
            order_id,
            instrument: id.clone(),
            side: Side::Buy,
            reduce_only: false,
            remaining: Quantity::parse("0.25")?,
            worst_price: Price::parse("101")?,
            state: ReservationState::Permitted,
            expires_at: NOW.plus_ms(60_000),
        };
        book.reservations.insert(order_id, reservation);
        // The rate lets 20 an hour pass, so no book holds more of these.
        if number < 19 {
            book.permits.push(PermitStamp { order_id, at: NOW.plus_ms(-1_000), risk_increasing: true });
            let notional = Usd::parse("25.25")?;
            book.unapproved.push(Unapproved {
                order_id,
                instrument: id,
                side: Side::Buy,
                notional,
                at: NOW.plus_ms(-1_000),
            });
        }
    }
    Ok((book, marks))
}

/// BTCUSDT first, then made-up names.
fn id_of(number: u32) -> Option<InstrumentId> {
    let name = if number == 0 { "BTCUSDT".to_owned() } else { format!("T{number}USDT") };
    Symbol::parse(&name).map(|symbol| InstrumentId { venue: Venue::Paper, symbol })
}

fn order_of(number: u32) -> OrderId {
    let signal = MessageId::of_person(UserId::of_handle("operator"), &number.to_string());
    OrderId::of_intent(IntentId::of_leg(signal, 0))
}

/// A buy for $404 that every rail lets pass.
fn order() -> Result<OrderEnvelope, MoneyError> {
    let (amount, worst) = (Quantity::parse("4")?, Price::parse("101")?);
    let (order_id, symbol) = (order_of(u32::MAX), id_of(0).map(|id| id.symbol));
    Ok(OrderEnvelope {
        schema: OrderEnvelope::SCHEMA.to_owned(),
        action: "place".to_owned(),
        user_id: UserId::of_handle("operator"),
        client_order_id: order_id.client_order_id(),
        order_id,
        intent_id: IntentId::of_leg(MessageId::of_person(UserId::of_handle("operator"), &u32::MAX.to_string()), 0),
        venue: Venue::Paper,
        symbol: symbol.ok_or(MoneyError::OutOfRange)?,
        side: Side::Buy,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::ImmediateOrCancel,
        quantity: amount,
        worst_price: worst,
        max_notional_usd: worst.notional_up(amount)?,
        max_slippage_bps: 0,
        min_out: Quantity::ZERO,
        reduce_only: false,
        valid_until: NOW.plus_ms(60_000),
        policy_version: "bench".to_owned(),
        slicing: None,
    })
}

/// Times the gate for books of each size.
///
/// # Errors
/// [`BenchError`].
pub fn measure(arguments: &Arguments, report: &mut Report) -> Result<(), BenchError> {
    let wrong = |error: MoneyError| BenchError::Broken(error.to_string());
    let path = arguments.config_dir.join("limits.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| BenchError::file(&path, error))?;
    let limits = Limits::parse(&text).map_err(|error| BenchError::file(&path, error))?;
    let (rules, order) = (instrument()?, order().map_err(wrong)?);
    for size in SIZES {
        let (book, marks) = book(size).map_err(wrong)?;
        let around = Surroundings {
            limits: &limits,
            book: &book,
            marks: &marks,
            instrument: Some(&rules),
            verdict: None,
            kill: KillReading::Level { level: 0, epoch: 1 },
            now: NOW,
        };
        let verdict = check(&order, None, around);
        if !matches!(verdict, Verdict::Approved(_)) {
            return Err(BenchError::Broken(format!("the gate should let the order pass: {verdict:?}")));
        }
        let noise = Noise::begin();
        let mut batches = Vec::new();
        for _ in 0..arguments.size(200, 60) {
            let began = thread_us()?;
            for _ in 0..BATCH {
                black_box(check(black_box(&order), None, black_box(around)));
            }
            batches.push((thread_us()? - began) / f64::from(BATCH));
        }
        batches.sort_by(f64::total_cmp);
        let at = |share: f64| batches[((batches.len() - 1) as f64 * share) as usize];
        report.push(
            Row::new("gate", format!("rails::check, {size} positions and reservations"), at(0.5), "us")
                .target(Target::AtMost(TARGET_US))
                .noise(noise.strangers_percent())
                .note(format!("CPU; dearest batch of {BATCH}: {:.2}", at(1.0))),
        );
    }
    Ok(())
}

/// CPU this thread has used, us.
///
/// # Errors
/// [`BenchError::System`].
pub fn thread_us() -> Result<f64, BenchError> {
    let time =
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_err(|error| BenchError::System("the CPU clock", error))?;
    Ok(time.tv_sec() as f64 * 1e6 + time.tv_nsec() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_larger_book_holds_more() {
        for size in SIZES {
            let (book, marks) = book(size).unwrap();
            let counts: BTreeMap<&str, usize> = [
                ("positions", book.positions.len()),
                ("reservations", book.reservations.len()),
                ("marks", marks.len()),
            ]
            .into();
            assert!(counts.values().all(|n| *n == size as usize), "{counts:?}");
        }
    }
}
