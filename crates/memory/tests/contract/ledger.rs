//! The book of one user.

use domain::ids::{OrderId, UserId};
use domain::market::{InstrumentId, Symbol, Venue};
use domain::money::{Price, Quantity, Usd};
use domain::order::Side;
use rails::book::{
    Book, Breaker, Change, DayBaseline, PermitStamp, Position, Reservation, ReservationState, Unapproved,
};
use rust_decimal::Decimal;
use store::{StoreError, ledger};
use uuid::Uuid;

use crate::samples::{T0, account, instrument};
use crate::world::{World, assert_locked, state};

cases! {
    every_change_reads_back,
    changes_of_one_user_are_not_anothers,
    a_row_that_counts_an_order_is_written_once,
    what_left_its_window_is_not_loaded,
    a_user_without_an_account_has_no_book_and_takes_no_change,
    one_unit_at_a_time_holds_a_book,
    an_order_of_two_writers_loses_nothing,
    holders_come_by_id_in_pages,
    what_a_row_would_round_or_cut_is_refused_before_anything_is_written,
    only_treasury_writes_a_book,
}

fn order_id(n: u128) -> OrderId {
    OrderId(Uuid::from_u128(n))
}

fn position(cents: i64) -> Position {
    Position {
        quantity: Quantity::new(Decimal::new(cents, 5)).unwrap(),
        cost: Usd::new(Decimal::new(cents, 2)).unwrap(),
        trade_cost: Usd::new(Decimal::new(cents, 3)).unwrap(),
        trade_realised: Usd::new(Decimal::new(-cents, 18)).unwrap(),
        opened_at: T0,
    }
}

fn reservation(n: u128, side: Side, state: ReservationState) -> Reservation {
    Reservation {
        order_id: order_id(n),
        instrument: instrument(Venue::Paper),
        side,
        reduce_only: side == Side::Sell,
        remaining: Quantity::parse("0.123456789012345678").unwrap(),
        worst_price: Price::parse("61000.01").unwrap(),
        state,
        expires_at: T0.plus_ms(60_000),
    }
}

fn stamp(n: u128, risk_increasing: bool) -> PermitStamp {
    PermitStamp { order_id: order_id(n), at: T0, risk_increasing }
}

fn unapproved(n: u128) -> Unapproved {
    let notional = Usd::parse("7.53").unwrap();
    Unapproved { order_id: order_id(n), instrument: instrument(Venue::Jupiter), side: Side::Sell, notional, at: T0 }
}

async fn apply(world: &World, user: UserId, changes: &[Change]) {
    let mut unit = world.begin("treasury").await;
    ledger::apply(&mut unit, user, changes, T0).await.unwrap();
    unit.commit().await.unwrap();
}

async fn book(world: &World, user: UserId) -> Book {
    let mut unit = world.begin("treasury").await;
    let locked = ledger::lock_book(&mut unit, user, T0, 60_000, 60_000).await.unwrap();
    let read = ledger::read_book(&mut unit, user, T0, 60_000, 60_000).await.unwrap();
    assert_eq!(locked, read);
    locked.unwrap()
}

async fn every_change_reads_back(world: &World) {
    let anna = account(world, "anna").await;
    let mut want = Book::open(anna, Usd::dollars(10_000), T0);
    assert_eq!(book(world, anna).await, want);
    let eth = InstrumentId { venue: Venue::Binance, symbol: Symbol::parse("ETHUSDT").unwrap() };
    let btc = instrument(Venue::Paper);
    apply(
        world,
        anna,
        &[
            Change::Cash(Usd::new(Decimal::new(-123_456_789, 18)).unwrap()),
            Change::Breaker(Breaker { losses_in_a_row: 3, latched_at: Some(T0) }),
            Change::Day(DayBaseline { day: T0.day() + 1, equity: Usd::dollars(-5) }),
            Change::Position(btc.clone(), position(100)),
            Change::Position(eth.clone(), position(1)),
            Change::Position(btc.clone(), position(250)),
            Change::Reservation(reservation(9, Side::Buy, ReservationState::Pending)),
            Change::Reservation(reservation(5, Side::Sell, ReservationState::Pending)),
            Change::Reservation(reservation(5, Side::Sell, ReservationState::Permitted)),
            Change::Permit(stamp(9, true)),
            Change::Permit(stamp(5, false)),
            Change::Unapproved(unapproved(9)),
            Change::Unapproved(unapproved(5)),
        ],
    )
    .await;
    want.cash = Usd::new(Decimal::new(-123_456_789, 18)).unwrap();
    want.breaker = Breaker { losses_in_a_row: 3, latched_at: Some(T0) };
    want.day = DayBaseline { day: T0.day() + 1, equity: Usd::dollars(-5) };
    want.positions.insert(btc.clone(), position(250));
    want.positions.insert(eth.clone(), position(1));
    want.reservations.insert(order_id(9), reservation(9, Side::Buy, ReservationState::Pending));
    want.reservations.insert(order_id(5), reservation(5, Side::Sell, ReservationState::Permitted));
    want.permits = vec![stamp(9, true), stamp(5, false)];
    want.unapproved = vec![unapproved(9), unapproved(5)];
    assert_eq!(book(world, anna).await, want);
    apply(
        world,
        anna,
        &[
            Change::PositionClosed(btc.clone()),
            Change::PositionClosed(btc.clone()),
            Change::Released(order_id(9)),
            Change::Released(order_id(77)),
            Change::Breaker(Breaker { losses_in_a_row: 0, latched_at: None }),
            Change::Day(DayBaseline { day: T0.day() - 1, equity: Usd::dollars(1) }),
            Change::Day(DayBaseline { day: T0.day() + 1, equity: Usd::dollars(6) }),
        ],
    )
    .await;
    want.positions.remove(&btc);
    want.reservations.remove(&order_id(9));
    want.breaker = Breaker::default();
    want.day.equity = Usd::dollars(6);
    assert_eq!(book(world, anna).await, want, "the newest day counts, whenever it was written");
}

async fn changes_of_one_user_are_not_anothers(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let all = [
        Change::Cash(Usd::dollars(1)),
        Change::Breaker(Breaker { losses_in_a_row: 2, latched_at: None }),
        Change::Day(DayBaseline { day: T0.day(), equity: Usd::dollars(2) }),
        Change::Position(instrument(Venue::Paper), position(100)),
        Change::Reservation(reservation(1, Side::Buy, ReservationState::Pending)),
        Change::Permit(stamp(1, true)),
        Change::Unapproved(unapproved(1)),
    ];
    apply(world, berta, &all).await;
    assert_eq!(book(world, anna).await, Book::open(anna, Usd::dollars(10_000), T0));
    apply(world, anna, &[Change::PositionClosed(instrument(Venue::Paper)), Change::Released(order_id(1))]).await;
    let hers = book(world, berta).await;
    assert_eq!((hers.cash, hers.positions.len(), hers.reservations.len()), (Usd::dollars(1), 1, 1));
    assert_eq!((hers.permits.len(), hers.unapproved.len(), hers.breaker.losses_in_a_row), (1, 1, 2));
}

async fn a_row_that_counts_an_order_is_written_once(world: &World) {
    let anna = account(world, "anna").await;
    for change in [Change::Permit(stamp(1, true)), Change::Unapproved(unapproved(1))] {
        apply(world, anna, std::slice::from_ref(&change)).await;
        let mut unit = world.begin("treasury").await;
        assert_eq!(state(ledger::apply(&mut unit, anna, &[change], T0).await), "23505");
    }
    let book = book(world, anna).await;
    assert_eq!((book.permits.len(), book.unapproved.len()), (1, 1));
}

async fn what_left_its_window_is_not_loaded(world: &World) {
    let anna = account(world, "anna").await;
    apply(world, anna, &[Change::Permit(stamp(1, true)), Change::Unapproved(unapproved(1))]).await;
    let mut unit = world.begin("treasury").await;
    for (age_ms, rate_ms, approval_ms, want) in
        [(0, 0, 0, (1, 1)), (1000, 1000, 999, (1, 0)), (1000, 999, 1000, (0, 1)), (-5, 0, 0, (1, 1))]
    {
        let book = ledger::read_book(&mut unit, anna, T0.plus_ms(age_ms), rate_ms, approval_ms).await.unwrap().unwrap();
        assert_eq!((book.permits.len(), book.unapproved.len()), want, "{age_ms}");
    }
}

async fn a_user_without_an_account_has_no_book_and_takes_no_change(world: &World) {
    let nobody = UserId::of_handle("nobody");
    let mut unit = world.begin("treasury").await;
    assert_eq!(ledger::lock_book(&mut unit, nobody, T0, 1, 1).await.unwrap(), None);
    assert_eq!(ledger::read_book(&mut unit, nobody, T0, 1, 1).await.unwrap(), None);
    ledger::apply(&mut unit, nobody, &[Change::PositionClosed(instrument(Venue::Paper))], T0).await.unwrap();
    ledger::apply(&mut unit, nobody, &[Change::Released(order_id(1))], T0).await.unwrap();
    for change in [Change::Cash(Usd::dollars(1)), Change::Breaker(Breaker::default())] {
        let lost = ledger::apply(&mut unit, nobody, &[change], T0).await;
        assert!(matches!(lost, Err(StoreError::Corrupt { .. })), "{lost:?}");
    }
    for change in [
        Change::Day(DayBaseline { day: 1, equity: Usd::ZERO }),
        Change::Position(instrument(Venue::Paper), position(1)),
        Change::Reservation(reservation(1, Side::Buy, ReservationState::Pending)),
        Change::Permit(stamp(1, true)),
        Change::Unapproved(unapproved(1)),
    ] {
        let mut unit = world.begin("treasury").await;
        assert_eq!(
            state(ledger::apply(&mut unit, nobody, std::slice::from_ref(&change), T0).await),
            "23503",
            "{change:?}"
        );
    }
}

async fn one_unit_at_a_time_holds_a_book(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let mut first = world.begin("treasury").await;
    ledger::lock_book(&mut first, anna, T0, 1, 1).await.unwrap().unwrap();
    ledger::lock_book(&mut first, anna, T0, 1, 1).await.unwrap().unwrap();
    let mut second = world.begin_impatient("treasury").await;
    assert_locked(ledger::lock_book(&mut second, anna, T0, 1, 1).await);
    assert_eq!(state(ledger::read_book(&mut second, anna, T0, 1, 1).await), "25P02");
    let mut third = world.begin_impatient("treasury").await;
    assert!(ledger::read_book(&mut third, anna, T0, 1, 1).await.unwrap().is_some(), "showing needs no lock");
    let mut fourth = world.begin_impatient("treasury").await;
    assert!(ledger::lock_book(&mut fourth, berta, T0, 1, 1).await.unwrap().is_some(), "another user's book");
    first.rollback().await.unwrap();
    let mut fifth = world.begin("treasury").await;
    ledger::lock_book(&mut fifth, anna, T0, 1, 1).await.unwrap().unwrap();
}

async fn an_order_of_two_writers_loses_nothing(world: &World) {
    let anna = account(world, "anna").await;
    let mut first = world.begin("treasury").await;
    ledger::apply(&mut first, anna, &[Change::Cash(Usd::dollars(1))], T0).await.unwrap();
    let mut second = world.begin_impatient("treasury").await;
    assert_locked(ledger::apply(&mut second, anna, &[Change::Cash(Usd::dollars(2))], T0).await);
    drop(second);
    let mut third = world.begin("treasury").await;
    let seen = ledger::read_book(&mut third, anna, T0, 1, 1).await.unwrap().unwrap();
    assert_eq!(seen.cash, Usd::dollars(10_000), "what is not committed is not seen");
    first.commit().await.unwrap();
    let seen = ledger::lock_book(&mut third, anna, T0, 1, 1).await.unwrap().unwrap();
    assert_eq!(seen.cash, Usd::dollars(1), "what the last holder left is");
    ledger::apply(&mut third, anna, &[Change::Cash(Usd::dollars(3))], T0).await.unwrap();
    third.commit().await.unwrap();
    assert_eq!(book(world, anna).await.cash, Usd::dollars(3));
}

async fn holders_come_by_id_in_pages(world: &World) {
    let mut users = Vec::new();
    for handle in ["anna", "berta", "carla", "dora"] {
        users.push(account(world, handle).await);
    }
    let eth = InstrumentId { venue: Venue::Binance, symbol: Symbol::parse("ETHUSDT").unwrap() };
    for user in &users[..3] {
        let both =
            [Change::Position(instrument(Venue::Paper), position(1)), Change::Position(eth.clone(), position(2))];
        apply(world, *user, &both).await;
    }
    let mut holders = users[..3].to_vec();
    holders.sort_unstable();
    let mut unit = world.begin("treasury").await;
    assert_eq!(ledger::holders(&mut unit, None, 9).await.unwrap(), holders);
    assert_eq!(ledger::holders(&mut unit, None, 2).await.unwrap(), holders[..2]);
    assert_eq!(ledger::holders(&mut unit, Some(holders[1]), 9).await.unwrap(), holders[2..]);
    assert_eq!(ledger::holders(&mut unit, Some(holders[2]), 9).await.unwrap(), []);
    assert_eq!(ledger::holders(&mut unit, None, 0).await.unwrap(), []);
    let mut unit = world.begin("supervisor").await;
    assert_eq!(ledger::holders(&mut unit, None, 9).await.unwrap(), holders, "it asks whether anybody holds anything");
    let mut unit = world.begin_for("buy_bot", holders[0]).await;
    assert_eq!(ledger::holders(&mut unit, None, 9).await.unwrap(), holders[..1], "no policy shows it others'");
    let mut unit = world.begin("treasury").await;
    assert_eq!(state(ledger::holders(&mut unit, None, -1).await), "2201W");
}

async fn what_a_row_would_round_or_cut_is_refused_before_anything_is_written(world: &World) {
    let anna = account(world, "anna").await;
    let tiny = Decimal::from_i128_with_scale(1, 19);
    let (usd, quantity, price) = (Usd::new(tiny).unwrap(), Quantity::new(tiny).unwrap(), Price::new(tiny).unwrap());
    let whole = position(1);
    let asked = reservation(1, Side::Buy, ReservationState::Pending);
    let mut unit = world.begin("treasury").await;
    for change in [
        Change::Cash(usd),
        Change::Day(DayBaseline { day: 1, equity: usd }),
        Change::Position(instrument(Venue::Paper), Position { quantity, ..whole }),
        Change::Position(instrument(Venue::Paper), Position { cost: usd, ..whole }),
        Change::Position(instrument(Venue::Paper), Position { trade_cost: usd, ..whole }),
        Change::Position(instrument(Venue::Paper), Position { trade_realised: usd, ..whole }),
        Change::Reservation(Reservation { remaining: quantity, ..asked.clone() }),
        Change::Reservation(Reservation { worst_price: price, ..asked }),
        Change::Unapproved(Unapproved { notional: usd, ..unapproved(1) }),
    ] {
        let batch = [Change::Cash(Usd::dollars(1)), change.clone()];
        let refused = ledger::apply(&mut unit, anna, &batch, T0).await;
        assert!(matches!(refused, Err(StoreError::TooPrecise)), "{change:?}: {refused:?}");
    }
    let many = Change::Breaker(Breaker { losses_in_a_row: u32::MAX, latched_at: None });
    let refused = ledger::apply(&mut unit, anna, &[Change::Cash(Usd::dollars(1)), many], T0).await;
    assert!(matches!(refused, Err(StoreError::OutOfRange("losses_in_a_row"))), "{refused:?}");
    let zeros = Usd::new(Decimal::from_i128_with_scale(1_000_000, 24)).unwrap();
    ledger::apply(&mut unit, anna, &[Change::Cash(zeros)], T0).await.unwrap();
    let seen = ledger::read_book(&mut unit, anna, T0, 1, 1).await.unwrap().unwrap();
    assert_eq!(seen.cash, zeros, "trailing zeros are no digits");
    let top = Change::Cash(Usd::new(Decimal::from(domain::money::MAX_MAGNITUDE)).unwrap());
    ledger::apply(&mut unit, anna, &[top], T0).await.unwrap();
}

async fn only_treasury_writes_a_book(world: &World) {
    let anna = account(world, "anna").await;
    let mut unit = world.begin("supervisor").await;
    assert!(ledger::read_book(&mut unit, anna, T0, 1, 1).await.unwrap().is_some());
    assert_eq!(state(ledger::lock_book(&mut unit, anna, T0, 1, 1).await), "42501");
    for role in ["supervisor", "online_trading", "buy_bot"] {
        for change in [
            Change::Cash(Usd::dollars(1)),
            Change::Breaker(Breaker::default()),
            Change::Day(DayBaseline { day: 1, equity: Usd::ZERO }),
            Change::Position(instrument(Venue::Paper), position(1)),
            Change::PositionClosed(instrument(Venue::Paper)),
            Change::Reservation(reservation(1, Side::Buy, ReservationState::Pending)),
            Change::Released(order_id(1)),
            Change::Permit(stamp(1, true)),
            Change::Unapproved(unapproved(1)),
        ] {
            let mut unit = world.begin(role).await;
            let refused = ledger::apply(&mut unit, anna, std::slice::from_ref(&change), T0).await;
            assert_eq!(state(refused), "42501", "{role}: {change:?}");
        }
    }
    for role in ["online_trading", "buy_bot"] {
        let mut unit = world.begin(role).await;
        assert_eq!(state(ledger::read_book(&mut unit, anna, T0, 1, 1).await), "42501", "{role}");
    }
}
