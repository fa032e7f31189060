//! Orders, fills, and what is posted of them.

use domain::ids::{OrderId, PermitId, UserId};
use domain::market::Venue;
use domain::money::{Quantity, Usd};
use domain::order::{ChildOrder, Fill, OrderState};
use rust_decimal::Decimal;
use store::orders::{self, OrderRow};
use store::{StoreError, Unit, permits};
use uuid::Uuid;

use crate::samples::{T0, account, envelope, fill, order, ordered, permit, permitted};
use crate::world::{World, assert_locked, state};

cases! {
    an_order_is_stored_once,
    a_permit_and_a_client_order_id_have_one_order,
    an_order_stands_on_a_permit_of_its_user,
    an_order_is_handed_over_once,
    an_end_never_changes_and_the_filled_quantity_never_falls,
    two_units_do_not_write_one_order_at_once,
    children_only_grow_stay_as_they_are_and_are_never_more_than_their_order,
    whoever_holds_an_order_writes_its_children_alone,
    open_orders_come_oldest_first_by_venue,
    a_desk_sees_the_orders_of_its_own_venues,
    the_newest_orders_come_first,
    a_trade_of_a_venue_is_stored_once,
    a_fill_belongs_to_an_order_and_is_of_something,
    a_fill_and_an_end_are_posted_once,
    what_is_unposted_comes_oldest_first,
    fills_are_counted_and_listed_by_user,
    desk_and_treasury_write_their_own_columns,
}

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

async fn desk(world: &World, user: UserId) -> Unit {
    world.begin_for("online_trading", user).await
}

async fn set(unit: &mut Unit, order_id: OrderId, state: OrderState, filled: &str) -> bool {
    orders::set_state(unit, order_id, state, quantity(filled), None, None).await.unwrap()
}

async fn end(world: &World, row: &OrderRow, state: OrderState) {
    let mut unit = desk(world, row.user_id).await;
    assert!(set(&mut unit, row.order_id, state, "0").await);
    unit.commit().await.unwrap();
}

async fn an_order_is_stored_once(world: &World) {
    let anna = account(world, "anna").await;
    let permit = permitted(world, anna, 1, Venue::Paper).await;
    let row = OrderRow {
        venue_order_id: Some("v1".to_owned()),
        filled: quantity("0.000000000000000001"),
        code: Some("X".to_owned()),
        updated_at: T0.plus_ms(1),
        sent_at: Some(T0.plus_ms(2)),
        ..order(&permit)
    };
    let mut unit = desk(world, anna).await;
    assert_eq!(orders::get(&mut unit, row.order_id).await.unwrap(), None);
    assert!(orders::insert(&mut unit, &row).await.unwrap());
    assert!(!orders::insert(&mut unit, &order(&permit)).await.unwrap());
    unit.commit().await.unwrap();
    let mut unit = desk(world, anna).await;
    assert!(!orders::insert(&mut unit, &order(&permit)).await.unwrap());
    assert_eq!(orders::get(&mut unit, row.order_id).await.unwrap(), Some(row.clone()));
    let fine = OrderRow { filled: Quantity::new(Decimal::new(1, 19)).unwrap(), ..row };
    assert!(matches!(orders::insert(&mut unit, &fine).await, Err(StoreError::TooPrecise)));
}

async fn a_permit_and_a_client_order_id_have_one_order(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let first = ordered(world, anna, 1, Venue::Paper).await;
    let other = order(&permitted(world, anna, 2, Venue::Paper).await);
    let hers = order(&permitted(world, berta, 1, Venue::Paper).await);
    let on_dex = order(&permitted(world, berta, 2, Venue::Jupiter).await);
    for (user, bad) in [
        (anna, OrderRow { permit_id: first.permit_id, ..other.clone() }),
        (anna, OrderRow { client_order_id: first.client_order_id.clone(), ..other }),
        (berta, OrderRow { client_order_id: first.client_order_id.clone(), ..hers.clone() }),
        (berta, OrderRow { order_id: first.order_id, ..hers }),
    ] {
        let mut unit = world.begin_for("admin", user).await;
        assert_eq!(state(orders::insert(&mut unit, &bad).await), "23505", "{bad:?}");
    }
    let mut unit = world.begin_for("admin", berta).await;
    let same_name = OrderRow { client_order_id: first.client_order_id, ..on_dex };
    assert!(orders::insert(&mut unit, &same_name).await.unwrap(), "names are a venue's own");
}

async fn an_order_stands_on_a_permit_of_its_user(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let hers = permitted(world, berta, 1, Venue::Paper).await.body.permit_id;
    for permit_id in [PermitId(Uuid::from_u128(7)), hers] {
        let row = OrderRow { permit_id, ..order(&permit(&envelope(anna, 1, Venue::Paper))) };
        let mut unit = desk(world, anna).await;
        assert_eq!(state(orders::insert(&mut unit, &row).await), "23503");
    }
    let mut unit = world.begin_for("online_trading", berta).await;
    let row = order(&permit(&envelope(anna, 1, Venue::Paper)));
    assert!(matches!(orders::insert(&mut unit, &row).await, Err(StoreError::WrongTenant { .. })));
}

async fn an_order_is_handed_over_once(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let row = ordered(world, anna, 1, Venue::Paper).await;
    let mut unit = desk(world, berta).await;
    assert!(!orders::mark_sent(&mut unit, row.order_id, T0).await.unwrap(), "an order of another user");
    let mut unit = desk(world, anna).await;
    assert!(!orders::mark_sent(&mut unit, OrderId(Uuid::nil()), T0).await.unwrap());
    assert!(orders::mark_sent(&mut unit, row.order_id, T0.plus_ms(5)).await.unwrap());
    assert!(!orders::mark_sent(&mut unit, row.order_id, T0.plus_ms(9)).await.unwrap());
    let (sent_at, updated_at) = (Some(T0.plus_ms(5)), T0.plus_ms(5));
    let want = OrderRow { state: OrderState::Open, sent_at, updated_at, ..row.clone() };
    assert_eq!(orders::get(&mut unit, row.order_id).await.unwrap(), Some(want));
    assert!(set(&mut unit, row.order_id, OrderState::Unknown, "0").await);
    assert!(!orders::mark_sent(&mut unit, row.order_id, T0).await.unwrap(), "unknown is asked, never re-sent");
    assert!(matches!(
        orders::mark_sent(&mut world.begin("online_trading").await, row.order_id, T0).await,
        Err(StoreError::NoTenant)
    ));
}

async fn an_end_never_changes_and_the_filled_quantity_never_falls(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    for (n, ended) in (1..).zip([OrderState::Filled, OrderState::Rejected, OrderState::Cancelled]) {
        let row = ordered(world, anna, n, Venue::Paper).await;
        let id = row.order_id;
        let mut unit = desk(world, anna).await;
        let half = quantity("0.00006");
        assert!(orders::set_state(&mut unit, id, OrderState::Open, half, Some("v1"), Some("A")).await.unwrap());
        assert!(set(&mut unit, id, OrderState::Unknown, "0.00001").await);
        let seen = orders::get(&mut unit, id).await.unwrap().unwrap();
        assert_eq!((seen.state, seen.filled), (OrderState::Unknown, half));
        assert_eq!((seen.venue_order_id.as_deref(), seen.code.as_deref()), (Some("v1"), Some("A")));
        assert!(orders::set_state(&mut unit, id, ended, quantity("0.0001"), Some("v2"), Some("B")).await.unwrap());
        unit.commit().await.unwrap();
        let mut unit = desk(world, anna).await;
        for next in
            [OrderState::Pending, OrderState::Open, OrderState::Filled, OrderState::Rejected, OrderState::Cancelled]
        {
            assert!(!set(&mut unit, id, next, "1").await, "{ended:?} to {next:?}");
        }
        let seen = orders::get(&mut unit, id).await.unwrap().unwrap();
        assert_eq!((seen.state, seen.filled), (ended, quantity("0.0001")));
        assert_eq!((seen.venue_order_id.as_deref(), seen.code.as_deref()), (Some("v2"), Some("B")));
    }
    let row = ordered(world, anna, 9, Venue::Paper).await;
    let mut unit = desk(world, berta).await;
    assert!(!set(&mut unit, row.order_id, OrderState::Filled, "1").await, "an order of another user");
    let tiny = Quantity::new(Decimal::new(1, 19)).unwrap();
    let refused = orders::set_state(&mut unit, row.order_id, OrderState::Open, tiny, None, None).await;
    assert!(matches!(refused, Err(StoreError::TooPrecise)));
}

async fn two_units_do_not_write_one_order_at_once(world: &World) {
    let anna = account(world, "anna").await;
    let row = ordered(world, anna, 1, Venue::Paper).await;
    let next = order(&permitted(world, anna, 2, Venue::Paper).await);
    let mut first = desk(world, anna).await;
    assert!(orders::mark_sent(&mut first, row.order_id, T0).await.unwrap());
    assert!(orders::insert(&mut first, &next).await.unwrap());
    assert!(orders::insert_fill(&mut first, &fill(&row, "t1"), anna).await.unwrap());
    let mut second = world.begin_impatient("online_trading").await;
    second.set_tenant(anna).await.unwrap();
    assert_locked(orders::mark_sent(&mut second, row.order_id, T0).await);
    let mut third = world.begin_impatient("online_trading").await;
    assert_locked(orders::insert(&mut third, &next).await);
    let mut fourth = world.begin_impatient("online_trading").await;
    assert_locked(orders::insert_fill(&mut fourth, &fill(&row, "t1"), anna).await);
    drop((second, third, fourth));
    first.commit().await.unwrap();
    let mut fifth = desk(world, anna).await;
    assert!(!orders::mark_sent(&mut fifth, row.order_id, T0).await.unwrap());
    assert!(!orders::insert(&mut fifth, &next).await.unwrap());
    assert!(!orders::insert_fill(&mut fifth, &fill(&row, "t1"), anna).await.unwrap());
}

fn child(row: &OrderRow, n: u16, amount: &str) -> ChildOrder {
    ChildOrder {
        client_order_id: row.order_id.child_client_order_id(n),
        quantity: quantity(amount),
        state: OrderState::Open,
        filled: Quantity::ZERO,
        venue_order_id: None,
        code: None,
        sent_at: T0.plus_ms(i64::from(n)),
        kill_epoch: 3,
    }
}

async fn children_only_grow_stay_as_they_are_and_are_never_more_than_their_order(world: &World) {
    let anna = account(world, "anna").await;
    let row = ordered(world, anna, 1, Venue::Paper).await;
    let id = row.order_id;
    // Of 0.00012345.
    let (one, two) = (child(&row, 0, "0.0001"), child(&row, 1, "0.00002345"));
    let mut unit = desk(world, anna).await;
    assert!(orders::set_children(&mut unit, id, std::slice::from_ref(&one), Quantity::ZERO).await.unwrap());
    let seen = orders::get(&mut unit, id).await.unwrap().unwrap();
    assert_eq!((seen.state, seen.sent_at), (OrderState::Open, Some(T0)));
    let over = ChildOrder {
        state: OrderState::Filled,
        filled: quantity("0.0001"),
        venue_order_id: Some("v".to_owned()),
        ..one.clone()
    };
    let both = [over.clone(), two.clone()];
    assert!(orders::set_children(&mut unit, id, &both, quantity("0.0001")).await.unwrap());
    unit.commit().await.unwrap();
    let mut unit = desk(world, anna).await;
    let seen = orders::lock(&mut unit, id).await.unwrap().unwrap();
    assert_eq!((&seen.children[..], seen.filled, seen.sent_at), (&both[..], quantity("0.0001"), Some(T0)));
    unit.commit().await.unwrap();
    let third = child(&row, 2, "0.00000001");
    for (why, bad, want) in [
        ("more than the order", vec![over.clone(), two.clone(), third], "23514"),
        ("fewer", vec![over.clone()], "23001"),
        ("none", vec![], "23001"),
        ("another order", vec![two.clone(), over.clone()], "23001"),
        ("another quantity", vec![over.clone(), ChildOrder { quantity: quantity("0.00001"), ..two.clone() }], "23001"),
        ("another name", vec![over.clone(), ChildOrder { client_order_id: "s1".to_owned(), ..two.clone() }], "23001"),
        ("another time", vec![over.clone(), ChildOrder { sent_at: T0, ..two.clone() }], "23001"),
        ("another epoch", vec![over.clone(), ChildOrder { kill_epoch: 4, ..two.clone() }], "23001"),
        ("an end that is none", vec![ChildOrder { state: OrderState::Open, ..over.clone() }, two.clone()], "23001"),
        ("fills that fall", vec![ChildOrder { filled: Quantity::ZERO, ..over.clone() }, two.clone()], "23001"),
    ] {
        let mut unit = desk(world, anna).await;
        assert_eq!(state(orders::set_children(&mut unit, id, &bad, Quantity::ZERO).await), want, "{why}");
    }
    let mut unit = desk(world, anna).await;
    let tiny = ChildOrder { filled: Quantity::new(Decimal::new(1, 19)).unwrap(), ..two.clone() };
    let refused = orders::set_children(&mut unit, id, &[over.clone(), tiny], Quantity::ZERO).await;
    assert!(matches!(refused, Err(StoreError::TooPrecise)));
    // The sum of what they filled does not fall, and an order that ended has no more children.
    assert!(orders::set_children(&mut unit, id, &both, Quantity::ZERO).await.unwrap());
    assert_eq!(orders::get(&mut unit, id).await.unwrap().unwrap().filled, quantity("0.0001"));
    assert!(set(&mut unit, id, OrderState::Cancelled, "0.0001").await);
    assert!(!orders::set_children(&mut unit, id, &both, Quantity::ZERO).await.unwrap());
    let next = order(&permitted(world, anna, 2, Venue::Paper).await);
    let mut unit = desk(world, anna).await;
    let all = OrderRow { children: vec![child(&next, 0, "0.00012346")], ..next.clone() };
    assert_eq!(state(orders::insert(&mut unit, &all).await), "23514");
}

async fn whoever_holds_an_order_writes_its_children_alone(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let row = ordered(world, anna, 1, Venue::Paper).await;
    let one = [child(&row, 0, "0.0001")];
    let mut hers = desk(world, berta).await;
    assert_eq!(orders::lock(&mut hers, row.order_id).await.unwrap(), None, "an order of another user");
    assert!(!orders::set_children(&mut hers, row.order_id, &one, Quantity::ZERO).await.unwrap());
    let mut first = desk(world, anna).await;
    assert!(orders::lock(&mut first, row.order_id).await.unwrap().is_some());
    let mut second = world.begin_impatient("online_trading").await;
    second.set_tenant(anna).await.unwrap();
    assert_locked(orders::lock(&mut second, row.order_id).await);
    drop(second);
    first.rollback().await.unwrap();
    for (role, want) in [("treasury", "42501"), ("supervisor", "42501")] {
        let mut unit = world.begin_for(role, anna).await;
        assert_eq!(state(orders::set_children(&mut unit, row.order_id, &one, Quantity::ZERO).await), want, "{role}");
    }
}

async fn open_orders_come_oldest_first_by_venue(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let mut rows = Vec::new();
    for (n, (user, venue)) in (1..).zip([
        (berta, Venue::Paper),
        (anna, Venue::Binance),
        (anna, Venue::Paper),
        (berta, Venue::Paper),
        (anna, Venue::Jupiter),
    ]) {
        rows.push(ordered(world, user, n, venue).await);
    }
    end(world, &rows[3], OrderState::Cancelled).await;
    let open = async |venues: &[Venue]| -> Vec<OrderId> {
        let found = orders::open_orders(&mut world.begin("treasury").await, venues).await.unwrap();
        found.iter().map(|row| row.order_id).collect()
    };
    assert_eq!(open(&[Venue::Paper]).await, [rows[0].order_id, rows[2].order_id]);
    assert_eq!(open(&[Venue::Binance, Venue::Paper]).await, [0, 1, 2].map(|n: usize| rows[n].order_id));
    assert_eq!(open(&[]).await, []);
    let mut unit = desk(world, anna).await;
    assert!(orders::mark_sent(&mut unit, rows[2].order_id, T0).await.unwrap());
    unit.commit().await.unwrap();
    assert_eq!(open(&[Venue::Paper]).await, [rows[0].order_id, rows[2].order_id], "sent is open");
}

async fn a_desk_sees_the_orders_of_its_own_venues(world: &World) {
    let anna = account(world, "anna").await;
    let mut rows = Vec::new();
    for (n, venue) in (1..).zip(Venue::ALL) {
        rows.push(ordered(world, anna, n, venue).await);
    }
    for (role, want) in [
        ("online_trading", vec![Venue::Paper, Venue::Binance]),
        ("dexter", vec![Venue::PaperDex, Venue::Jupiter]),
        ("treasury", Venue::ALL.to_vec()),
        ("supervisor", Venue::ALL.to_vec()),
        ("audit_verify", Venue::ALL.to_vec()),
    ] {
        let mut unit = world.begin(role).await;
        let open = orders::open_orders(&mut unit, &Venue::ALL).await.unwrap();
        let mut venues: Vec<Venue> = open.iter().map(|row| row.envelope.venue).collect();
        venues.sort_by_key(|venue| Venue::ALL.iter().position(|v| v == venue));
        let mut want = want;
        want.sort_by_key(|venue| Venue::ALL.iter().position(|v| v == venue));
        assert_eq!(venues, want, "{role}");
        for row in &rows {
            let found = orders::get(&mut unit, row.order_id).await.unwrap().is_some();
            assert_eq!(found, want.contains(&row.envelope.venue), "{role}: {:?}", row.envelope.venue);
        }
    }
    let mut unit = world.begin_for("dexter", anna).await;
    assert!(orders::get(&mut unit, rows[0].order_id).await.unwrap().is_some(), "its tenant's, wherever");
}

async fn the_newest_orders_come_first(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let mut mine = Vec::new();
    for n in 1..=3 {
        mine.insert(0, ordered(world, anna, n, Venue::Paper).await);
        ordered(world, berta, n, Venue::Binance).await;
    }
    let mut unit = world.begin("treasury").await;
    assert_eq!(orders::recent(&mut unit, anna, 9).await.unwrap(), mine);
    assert_eq!(orders::recent(&mut unit, anna, 2).await.unwrap(), mine[..2]);
    assert_eq!(orders::recent(&mut unit, anna, 0).await.unwrap(), []);
    assert_eq!(state(orders::recent(&mut unit, anna, -1).await), "2201W");
}

async fn a_trade_of_a_venue_is_stored_once(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let (mine, hers) = (ordered(world, anna, 1, Venue::Paper).await, ordered(world, berta, 1, Venue::Paper).await);
    let dex = ordered(world, anna, 2, Venue::Jupiter).await;
    let mut unit = desk(world, anna).await;
    let one = fill(&mine, "t1");
    assert!(orders::insert_fill(&mut unit, &one, anna).await.unwrap());
    let other = Fill { quantity: quantity("9"), ..one.clone() };
    assert!(!orders::insert_fill(&mut unit, &other, anna).await.unwrap());
    assert!(orders::insert_fill(&mut unit, &fill(&dex, "t1"), anna).await.unwrap(), "ids are a venue's own");
    unit.commit().await.unwrap();
    let mut unit = desk(world, anna).await;
    assert!(!orders::insert_fill(&mut unit, &other, anna).await.unwrap());
    assert_eq!(orders::fills_unposted(&mut unit, anna, mine.order_id).await.unwrap(), [one]);
    let mut unit = desk(world, berta).await;
    assert!(
        !orders::insert_fill(&mut unit, &fill(&hers, "t1"), berta).await.unwrap(),
        "whoever's order it is said to be"
    );
}

async fn a_fill_belongs_to_an_order_and_is_of_something(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let row = ordered(world, anna, 1, Venue::Paper).await;
    let good = fill(&row, "t1");
    for (user, bad, want) in [
        (anna, Fill { venue_trade_id: String::new(), ..good.clone() }, "23514"),
        (anna, Fill { quantity: Quantity::ZERO, ..good.clone() }, "23514"),
        (anna, Fill { venue_trade_id: "a\0".to_owned(), ..good.clone() }, "22021"),
        (anna, Fill { order_id: OrderId(Uuid::from_u128(7)), ..good.clone() }, "23503"),
        (berta, good.clone(), "23503"),
    ] {
        let mut unit = desk(world, user).await;
        assert_eq!(state(orders::insert_fill(&mut unit, &bad, user).await), want, "{bad:?}");
    }
    let mut unit = desk(world, anna).await;
    let fee = Usd::new(Decimal::new(1, 19)).unwrap();
    assert!(matches!(
        orders::insert_fill(&mut unit, &Fill { fee, ..good.clone() }, anna).await,
        Err(StoreError::TooPrecise)
    ));
    let rebate = Fill { fee: Usd::dollars(-1), ..good };
    assert!(orders::insert_fill(&mut unit, &rebate, anna).await.unwrap(), "a venue may pay");
    assert_eq!(orders::fills(&mut unit, anna, 9).await.unwrap(), [rebate]);
}

async fn a_fill_and_an_end_are_posted_once(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let row = ordered(world, anna, 1, Venue::Paper).await;
    let one = fill(&row, "t1");
    let mut unit = desk(world, anna).await;
    assert!(orders::insert_fill(&mut unit, &one, anna).await.unwrap());
    unit.commit().await.unwrap();
    let mut unit = world.begin("treasury").await;
    assert!(!orders::mark_outcome_posted(&mut unit, anna, row.order_id).await.unwrap(), "it has not ended");
    unit.commit().await.unwrap();
    end(world, &row, OrderState::Filled).await;
    let mut unit = world.begin("treasury").await;
    assert!(!orders::mark_fill_posted(&mut unit, berta, &one).await.unwrap(), "a fill of another user");
    assert!(!orders::mark_outcome_posted(&mut unit, berta, row.order_id).await.unwrap());
    let mut unit = world.begin("treasury").await;
    assert!(orders::mark_fill_posted(&mut unit, anna, &one).await.unwrap());
    let mut second = world.begin_impatient("treasury").await;
    assert_locked(orders::mark_fill_posted(&mut second, anna, &one).await);
    drop(second);
    assert!(!orders::mark_fill_posted(&mut unit, anna, &one).await.unwrap());
    assert!(!orders::mark_fill_posted(&mut unit, anna, &fill(&row, "t2")).await.unwrap());
    assert!(orders::mark_outcome_posted(&mut unit, anna, row.order_id).await.unwrap());
    assert!(!orders::mark_outcome_posted(&mut unit, anna, row.order_id).await.unwrap());
    unit.commit().await.unwrap();
    let mut unit = world.begin("treasury").await;
    assert!(!orders::mark_fill_posted(&mut unit, anna, &one).await.unwrap());
    assert!(!orders::mark_outcome_posted(&mut unit, anna, row.order_id).await.unwrap());
    assert_eq!(orders::fills_unposted(&mut unit, anna, row.order_id).await.unwrap(), []);
    assert_eq!(orders::fills(&mut unit, anna, 9).await.unwrap(), [one]);
    assert!(orders::get(&mut unit, row.order_id).await.unwrap().unwrap().outcome_posted);
}

async fn what_is_unposted_comes_oldest_first(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let first = ordered(world, berta, 1, Venue::Paper).await;
    let second = ordered(world, anna, 2, Venue::Paper).await;
    let third = ordered(world, anna, 3, Venue::Paper).await;
    let unposted = async |limit| orders::unposted(&mut world.begin("treasury").await, limit, &[]).await.unwrap();
    assert_eq!(unposted(9).await, []);
    end(world, &third, OrderState::Rejected).await;
    let mut unit = desk(world, berta).await;
    for trade in ["t1", "t2"] {
        assert!(orders::insert_fill(&mut unit, &fill(&first, trade), berta).await.unwrap());
    }
    unit.commit().await.unwrap();
    let want = [(berta, first.order_id), (anna, third.order_id)];
    assert_eq!(unposted(9).await, want, "a fill, or an end; each order once");
    assert_eq!(unposted(1).await, want[..1]);
    assert_eq!(unposted(0).await, []);
    let besides = [first.order_id];
    let others = orders::unposted(&mut world.begin("treasury").await, 1, &besides).await.unwrap();
    assert_eq!(others, want[1..], "what waits elsewhere takes up no room");
    let mut unit = world.begin("treasury").await;
    let waiting = orders::fills_unposted(&mut unit, berta, first.order_id).await.unwrap();
    assert_eq!(waiting, [fill(&first, "t1"), fill(&first, "t2")], "in the order they were stored");
    for fill in &waiting {
        assert!(orders::mark_fill_posted(&mut unit, berta, fill).await.unwrap());
    }
    unit.commit().await.unwrap();
    let mut unit = world.begin("treasury").await;
    assert!(orders::mark_outcome_posted(&mut unit, anna, third.order_id).await.unwrap());
    unit.commit().await.unwrap();
    assert_eq!(unposted(9).await, []);
    let mut unit = desk(world, anna).await;
    assert!(orders::insert_fill(&mut unit, &fill(&third, "t3"), anna).await.unwrap());
    unit.commit().await.unwrap();
    assert_eq!(unposted(9).await, [(anna, third.order_id)], "a late fill of a posted end");
    let mut unit = world.begin("treasury").await;
    assert_eq!(orders::fills_unposted(&mut unit, anna, second.order_id).await.unwrap(), []);
    assert_eq!(state(orders::unposted(&mut unit, -1, &[]).await), "2201W");
}

async fn fills_are_counted_and_listed_by_user(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let (mine, hers) = (ordered(world, anna, 1, Venue::Paper).await, ordered(world, berta, 1, Venue::Paper).await);
    for (row, trade) in [(&mine, "t1"), (&hers, "t2"), (&mine, "t3"), (&mine, "t4")] {
        let mut unit = desk(world, row.user_id).await;
        assert!(orders::insert_fill(&mut unit, &fill(row, trade), row.user_id).await.unwrap());
        unit.commit().await.unwrap();
    }
    let mut unit = world.begin("treasury").await;
    assert_eq!(orders::fill_totals(&mut unit, anna).await.unwrap(), (3, Usd::parse("0.00183").unwrap()));
    let newest: Vec<Fill> = ["t4", "t3", "t1"].map(|trade| fill(&mine, trade)).to_vec();
    assert_eq!(orders::fills(&mut unit, anna, 9).await.unwrap(), newest);
    assert_eq!(orders::fills(&mut unit, anna, 2).await.unwrap(), newest[..2]);
    assert_eq!(state(orders::fills(&mut unit, anna, -1).await), "2201W");
    let mut unit = world.begin("treasury").await;
    let nobody = UserId::of_handle("nobody");
    assert_eq!(orders::fill_totals(&mut unit, nobody).await.unwrap(), (0, Usd::ZERO));
}

async fn desk_and_treasury_write_their_own_columns(world: &World) {
    let anna = account(world, "anna").await;
    let row = ordered(world, anna, 1, Venue::Paper).await;
    let next = order(&permitted(world, anna, 2, Venue::Paper).await);
    let one = fill(&row, "t1");
    let mut unit = desk(world, anna).await;
    assert_eq!(state(orders::mark_fill_posted(&mut unit, anna, &one).await), "42501");
    let mut unit = desk(world, anna).await;
    assert_eq!(state(orders::mark_outcome_posted(&mut unit, anna, row.order_id).await), "42501");
    let mut unit = desk(world, anna).await;
    assert_eq!(state(permits::insert(&mut unit, &permit(&envelope(anna, 5, Venue::Paper)), anna).await), "42501");
    let mut unit = world.begin_for("treasury", anna).await;
    assert_eq!(state(orders::insert(&mut unit, &next).await), "42501");
    let mut unit = world.begin_for("treasury", anna).await;
    assert_eq!(state(orders::insert_fill(&mut unit, &one, anna).await), "42501");
    let mut unit = world.begin_for("treasury", anna).await;
    assert_eq!(state(orders::mark_sent(&mut unit, row.order_id, T0).await), "42501");
    let mut unit = world.begin_for("treasury", anna).await;
    let refused = orders::set_state(&mut unit, row.order_id, OrderState::Open, Quantity::ZERO, None, None).await;
    assert_eq!(state(refused), "42501");
    let mut unit = world.begin_for("buy_bot", anna).await;
    assert_eq!(state(orders::get(&mut unit, row.order_id).await), "42501");
}
