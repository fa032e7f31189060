//! The stored book equals the book in memory, and one writer works at a time.

use std::sync::Arc;

use domain::ids::{OrderId, UserId};
use domain::market::{InstrumentId, Symbol, Venue};
use domain::money::{Price, Quantity, Usd};
use domain::order::Side;
use domain::time::{DAY_MS, UnixMs};
use rails::book::{
    Book, Breaker, Change, DayBaseline, PermitStamp, Position, Reservation, ReservationState, Unapproved,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rust_decimal::Decimal;
use store::{StoreError, ledger};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::samples::{T0, account};
use crate::support::World;

const WINDOW_MS: i64 = 30 * DAY_MS;

/// What a change means for a book in memory.
fn apply(book: &mut Book, change: &Change) {
    match change.clone() {
        Change::Cash(cash) => book.cash = cash,
        Change::Position(instrument, position) => drop(book.positions.insert(instrument, position)),
        Change::PositionClosed(instrument) => drop(book.positions.remove(&instrument)),
        Change::Reservation(row) => drop(book.reservations.insert(row.order_id, row)),
        Change::Released(order_id) => drop(book.reservations.remove(&order_id)),
        Change::Permit(stamp) => book.permits.push(stamp),
        Change::Unapproved(row) => book.unapproved.push(row),
        Change::Breaker(breaker) => book.breaker = breaker,
        Change::Day(day) => book.day = day,
    }
}

/// Up to 28 significant digits and 18 decimals, as domain allows.
fn amount(rng: &mut StdRng) -> Decimal {
    let digits = rng.random_range(1..=28u32);
    let scale = rng.random_range(digits.saturating_sub(12)..=18);
    let mantissa = rng.random_range(1..10i128.pow(digits.min(scale + 12)));
    Decimal::from_i128_with_scale(mantissa, scale)
}

fn change(rng: &mut StdRng, n: u32, at: UnixMs) -> Change {
    let venue = Venue::ALL[rng.random_range(0..4)];
    let symbol = ["BTCUSDT", "ETHUSDT"][rng.random_range(0..2)];
    let instrument = InstrumentId { venue, symbol: Symbol::parse(symbol).unwrap() };
    let side = if rng.random() { Side::Buy } else { Side::Sell };
    let order_id = OrderId(uuid::Uuid::from_u128(u128::from(n)));
    let some_order = OrderId(uuid::Uuid::from_u128(rng.random_range(0..=u128::from(n))));
    let mut usd = || Usd::new(amount(rng)).unwrap();
    match n % 9 {
        0 => Change::Cash(Usd::new(-usd().value()).unwrap()),
        1 | 8 => {
            let position = Position {
                quantity: Quantity::new(usd().value()).unwrap(),
                cost: usd(),
                trade_cost: usd(),
                trade_realised: usd(),
                opened_at: at,
            };
            Change::Position(instrument, position)
        }
        2 => Change::PositionClosed(instrument),
        3 => Change::Reservation(Reservation {
            order_id,
            instrument,
            side,
            reduce_only: side == Side::Sell,
            remaining: Quantity::new(usd().value()).unwrap(),
            worst_price: Price::new(usd().value()).unwrap(),
            state: if side == Side::Buy { ReservationState::Pending } else { ReservationState::Permitted },
            expires_at: at,
        }),
        4 => Change::Released(some_order),
        5 => Change::Permit(PermitStamp { order_id, at, risk_increasing: side == Side::Buy }),
        6 => Change::Unapproved(Unapproved { order_id, instrument, side, notional: usd(), at }),
        _ if side == Side::Buy => {
            Change::Breaker(Breaker { losses_in_a_row: n % 4, latched_at: n.is_multiple_of(2).then_some(at) })
        }
        _ => Change::Day(DayBaseline { day: at.day(), equity: usd() }),
    }
}

#[tokio::test]
async fn any_history_of_changes_reads_back_as_the_book_in_memory() {
    let world = World::new().await;
    let db = world.login("treasury").await;
    for seed in 0..12u64 {
        let user = account(&db, &format!("user{seed}")).await;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut book = Book::open(user, Usd::dollars(10_000), T0);
        let mut now = T0;
        for batch in 0..6u32 {
            now = now.plus_ms(rng.random_range(0..DAY_MS));
            let changes: Vec<Change> = (0..15).map(|n| change(&mut rng, batch * 15 + n, now)).collect();
            changes.iter().for_each(|change| apply(&mut book, change));
            let mut unit = db.begin().await.unwrap();
            let before = ledger::lock_book(&mut unit, user, now, WINDOW_MS, WINDOW_MS).await.unwrap();
            assert!(before.is_some());
            ledger::apply(&mut unit, user, &changes, now).await.unwrap();
            unit.commit().await.unwrap();
            let mut unit = db.begin().await.unwrap();
            let stored = ledger::lock_book(&mut unit, user, now, WINDOW_MS, WINDOW_MS).await.unwrap();
            assert_eq!(stored.as_ref(), Some(&book), "seed {seed}, batch {batch}");
            assert_eq!(ledger::read_book(&mut unit, user, now, WINDOW_MS, WINDOW_MS).await.unwrap(), stored);
        }
    }
}

/// A permit's changes come together and are written in one statement, with and without a human.
#[tokio::test]
async fn what_a_permit_changes_reads_back_as_the_book_in_memory() {
    let world = World::new().await;
    let db = world.login("treasury").await;
    let user = account(&db, "anna").await;
    let mut rng = StdRng::seed_from_u64(1);
    let mut book = Book::open(user, Usd::dollars(10_000), T0);
    for first in [0, 9] {
        let mut of_kind =
            |wanted: fn(&Change) -> bool| (first..first + 9).map(|n| change(&mut rng, n, T0)).find(wanted).unwrap();
        let reservation = of_kind(|change| matches!(change, Change::Reservation(_)));
        let permit = of_kind(|change| matches!(change, Change::Permit(_)));
        let unapproved = of_kind(|change| matches!(change, Change::Unapproved(_)));
        let changes = if first == 0 { vec![reservation, permit] } else { vec![reservation, permit, unapproved] };
        changes.iter().for_each(|change| apply(&mut book, change));
        let mut unit = db.begin().await.unwrap();
        ledger::apply(&mut unit, user, &changes, T0).await.unwrap();
        unit.commit().await.unwrap();
        let mut unit = db.begin().await.unwrap();
        let stored = ledger::read_book(&mut unit, user, T0, WINDOW_MS, WINDOW_MS).await.unwrap();
        assert_eq!(stored.as_ref(), Some(&book), "{} changes", changes.len());
    }
}

#[tokio::test]
async fn what_left_its_window_is_not_loaded() {
    let world = World::new().await;
    let db = world.login("treasury").await;
    let user = account(&db, "anna").await;
    let order_id = OrderId(uuid::Uuid::from_u128(1));
    let mut unit = db.begin().await.unwrap();
    let stamp = Change::Permit(PermitStamp { order_id, at: T0, risk_increasing: true });
    ledger::apply(&mut unit, user, &[stamp], T0).await.unwrap();
    for (age_ms, want) in [(0, 1), (1000, 1), (1001, 0)] {
        let book = ledger::read_book(&mut unit, user, T0.plus_ms(age_ms), 1000, 1000).await.unwrap().unwrap();
        assert_eq!(book.permits.len(), want, "{age_ms}");
    }
}

#[tokio::test]
async fn users_who_hold_something_are_named_once_in_order_and_page_by_page() {
    let world = World::new().await;
    let db = world.login("treasury").await;
    let mut holders = Vec::new();
    for (handle, symbols) in
        [("anna", &["BTCUSDT", "ETHUSDT"][..]), ("bela", &["BTCUSDT"]), ("cora", &[]), ("dora", &["ETHUSDT"])]
    {
        let user = account(&db, handle).await;
        let mut unit = db.begin().await.unwrap();
        for symbol in symbols {
            let instrument = InstrumentId { venue: Venue::Paper, symbol: Symbol::parse(symbol).unwrap() };
            let (one, cost) = (Quantity::parse("1").unwrap(), Usd::dollars(1));
            let position = Position { quantity: one, cost, trade_cost: cost, trade_realised: Usd::ZERO, opened_at: T0 };
            ledger::apply(&mut unit, user, &[Change::Position(instrument, position)], T0).await.unwrap();
        }
        unit.commit().await.unwrap();
        holders.extend((!symbols.is_empty()).then_some(user));
    }
    holders.sort();
    let mut unit = db.begin().await.unwrap();
    for (after, limit, want) in [
        (None, 9, &holders[..]),
        (None, 2, &holders[..2]),
        (Some(holders[1]), 2, &holders[2..]),
        (Some(holders[2]), 2, &[]),
    ] {
        assert_eq!(ledger::holders(&mut unit, after, limit).await.unwrap(), want, "after {after:?}");
    }
}

#[tokio::test]
async fn an_account_opens_once_and_an_unknown_user_has_no_book() {
    let world = World::new().await;
    let db = world.login("treasury").await;
    let user = account(&db, "anna").await;
    let mut unit = db.begin().await.unwrap();
    ledger::apply(&mut unit, user, &[Change::Cash(Usd::dollars(5))], T0).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(account(&db, "anna").await, user);
    let mut unit = db.begin().await.unwrap();
    let book = ledger::lock_book(&mut unit, user, T0, 1, 1).await.unwrap().unwrap();
    assert_eq!(book.cash, Usd::dollars(5));
    drop(unit);
    let mut unit = db.begin().await.unwrap();
    let stranger = UserId::of_handle("mallory");
    assert_eq!(ledger::lock_book(&mut unit, stranger, T0, 1, 1).await.unwrap(), None);
}

#[tokio::test]
async fn an_amount_that_a_row_would_round_is_refused() {
    let world = World::new().await;
    let db = world.login("treasury").await;
    let user = account(&db, "anna").await;
    let mut unit = db.begin().await.unwrap();
    let fine = Change::Cash(Usd::new(Decimal::new(1, 19)).unwrap());
    assert!(matches!(ledger::apply(&mut unit, user, &[fine], T0).await, Err(StoreError::TooPrecise)));
}

#[tokio::test]
async fn thirty_two_writers_of_one_ledger_lose_nothing() {
    let world = World::new().await;
    let dbs = [world.login("treasury").await, world.login("treasury").await];
    let user = account(&dbs[0], "anna").await;
    let start = Arc::new(Barrier::new(32));
    let mut tasks = JoinSet::new();
    for n in 0..32 {
        let (db, start) = (dbs[n % 2].clone(), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            let mut unit = db.begin().await.unwrap();
            let book = ledger::lock_book(&mut unit, user, T0, 1, 1).await.unwrap().unwrap();
            let cash = book.cash.plus(Usd::dollars(1)).unwrap();
            ledger::apply(&mut unit, user, &[Change::Cash(cash)], T0).await.unwrap();
            unit.commit().await.unwrap();
        });
    }
    tasks.join_all().await;
    let mut unit = dbs[0].begin().await.unwrap();
    let book = ledger::lock_book(&mut unit, user, T0, 1, 1).await.unwrap().unwrap();
    assert_eq!(book.cash, Usd::dollars(10_032));
}
