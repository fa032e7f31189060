//! Accounts, instruments, the kill level, and what the supervisor must not forget.

use domain::ids::{BootId, UserId};
use domain::market::{Instrument, InstrumentId, Symbol, Venue};
use domain::money::Usd;
use rust_decimal::Decimal;
use serde_json::json;
use store::kill::Kill;
use store::supervision::{Declared, Restart, RestartKind};
use store::{StoreError, instruments, kill, ledger, supervision, users};
use uuid::Uuid;

use crate::samples::{T0, account};
use crate::world::{World, assert_locked, state};

cases! {
    an_account_opens_once,
    an_account_has_a_plain_handle_and_no_debt,
    users_are_seen_by_those_who_serve_them,
    limits_of_a_user_are_set_by_an_administrator,
    two_units_do_not_open_one_account_at_once,
    rules_of_an_instrument_are_replaced,
    rules_of_an_instrument_fit_their_columns,
    kill_epochs_have_no_gaps_and_lowering_needs_a_reason,
    a_raise_that_is_written_down_late_has_its_own_epoch_and_lowers_nothing,
    one_unit_at_a_time_changes_the_kill_level,
    restarts_are_kept_in_their_order,
    what_a_process_should_be_is_replaced,
    what_was_declared_since_is_not_written_over,
}

async fn an_account_opens_once(world: &World) {
    let limits = json!({"max_order_usd": "5", "list": [1, 0.5, null]});
    let mut unit = world.begin("treasury").await;
    let user = users::open_account(&mut unit, "anna", Usd::dollars(50), limits.clone(), T0).await.unwrap();
    assert_eq!(user.user_id, UserId::of_handle("anna"));
    assert_eq!((user.handle.as_str(), &user.trading_constraints), ("anna", &limits));
    assert_eq!(unit.tenant(), Some(user.user_id));
    let again = users::open_account(&mut unit, "anna", Usd::dollars(99), json!({}), T0.plus_ms(1)).await.unwrap();
    assert_eq!(again, user, "it is left as it is");
    unit.commit().await.unwrap();
    let mut unit = world.begin("treasury").await;
    let again = users::open_account(&mut unit, "anna", Usd::dollars(99), json!({}), T0).await.unwrap();
    assert_eq!(again, user);
    assert_eq!(users::user(&mut unit, user.user_id).await.unwrap(), Some(user.clone()));
    let book = ledger::read_book(&mut unit, user.user_id, T0, 1, 1).await.unwrap();
    assert_eq!(book, Some(rails::book::Book::open(user.user_id, Usd::dollars(50), T0)));
}

async fn an_account_has_a_plain_handle_and_no_debt(world: &World) {
    let long = "a".repeat(33);
    for handle in ["", "Anna", "-anna", "_anna", "an na", "änna", "anna.b", long.as_str()] {
        let mut unit = world.begin("treasury").await;
        let refused = users::open_account(&mut unit, handle, Usd::ZERO, json!({}), T0).await;
        assert_eq!(state(refused), "23514", "{handle:?}");
    }
    for limits in [json!([]), json!(null), json!("x")] {
        let mut unit = world.begin("treasury").await;
        assert_eq!(state(users::open_account(&mut unit, "anna", Usd::ZERO, limits, T0).await), "23514");
    }
    let mut unit = world.begin("treasury").await;
    assert_eq!(state(users::open_account(&mut unit, "anna", Usd::dollars(-1), json!({}), T0).await), "23514");
    let mut unit = world.begin("treasury").await;
    let fine = Usd::new(Decimal::from_i128_with_scale(1, 19)).unwrap();
    let refused = users::open_account(&mut unit, "anna", fine, json!({}), T0).await;
    assert!(matches!(refused, Err(StoreError::TooPrecise)));
    let longest = "a".repeat(32);
    for handle in ["0", "a-b_c", longest.as_str()] {
        let mut unit = world.begin("treasury").await;
        assert!(users::open_account(&mut unit, handle, Usd::ZERO, json!({}), T0).await.is_ok(), "{handle}");
    }
    let mut unit = world.begin("supervisor").await;
    assert_eq!(state(users::open_account(&mut unit, "anna", Usd::ZERO, json!({}), T0).await), "42501");
}

async fn users_are_seen_by_those_who_serve_them(world: &World) {
    let mut all = vec![account(world, "anna").await, account(world, "berta").await, account(world, "carla").await];
    let anna = all[0];
    all.sort_unstable();
    for role in ["treasury", "supervisor", "audit_verify", "admin"] {
        let mut unit = world.begin(role).await;
        assert_eq!(users::user_ids(&mut unit, 9).await.unwrap(), all, "{role}");
    }
    let mut unit = world.begin("treasury").await;
    assert_eq!(users::user_ids(&mut unit, 2).await.unwrap(), all[..2]);
    let mut unit = world.begin("buy_bot").await;
    assert_eq!(users::user_ids(&mut unit, 9).await.unwrap(), []);
    unit.set_tenant(anna).await.unwrap();
    assert_eq!(users::user_ids(&mut unit, 9).await.unwrap(), [anna]);
    let mut unit = world.begin("buy_bot").await;
    assert_eq!(users::user(&mut unit, UserId::of_handle("nobody")).await.unwrap(), None);
    let mut unit = world.begin("online_trading").await;
    assert_eq!(state(users::user_ids(&mut unit, 9).await), "42501");
}

async fn limits_of_a_user_are_set_by_an_administrator(world: &World) {
    let anna = account(world, "anna").await;
    let limits = json!({"max_order_usd": "5"});
    let mut unit = world.begin("admin").await;
    assert!(users::set_constraints(&mut unit, anna, &limits).await.unwrap());
    unit.commit().await.unwrap();
    let mut unit = world.begin("treasury").await;
    assert_eq!(users::user(&mut unit, anna).await.unwrap().unwrap().trading_constraints, limits);
    assert_eq!(state(users::set_constraints(&mut unit, anna, &limits).await), "42501");
    let mut unit = world.begin("admin").await;
    assert!(!users::set_constraints(&mut unit, UserId::of_handle("nobody"), &limits).await.unwrap());
    let mut unit = world.begin("admin").await;
    assert_eq!(state(users::set_constraints(&mut unit, anna, &json!([])).await), "23514");
}

async fn two_units_do_not_open_one_account_at_once(world: &World) {
    let mut first = world.begin("treasury").await;
    users::open_account(&mut first, "anna", Usd::dollars(5), json!({}), T0).await.unwrap();
    let mut second = world.begin_impatient("treasury").await;
    assert_locked(users::open_account(&mut second, "anna", Usd::dollars(6), json!({}), T0).await);
    let mut third = world.begin_impatient("treasury").await;
    users::open_account(&mut third, "berta", Usd::dollars(6), json!({}), T0).await.unwrap();
}

fn rules(venue: Venue, symbol: &str) -> Instrument {
    Instrument {
        id: InstrumentId { venue, symbol: Symbol::parse(symbol).unwrap() },
        base: "BTC".to_owned(),
        quote: "USDT".to_owned(),
        tick: Decimal::new(1, 2),
        step: Decimal::new(1, 5),
        min_quantity: Decimal::ZERO,
        max_quantity: Decimal::from(9_000),
        min_notional: Decimal::new(500, 2),
    }
}

async fn rules_of_an_instrument_are_replaced(world: &World) {
    let stored = [
        rules(Venue::Binance, "ETHUSDT"),
        rules(Venue::Paper, "BTCUSDT"),
        rules(Venue::Paper, "a1"),
        rules(Venue::PaperDex, "BTCUSDT"),
    ];
    for rules in stored.iter().rev() {
        let mut unit = world.begin("online_trading").await;
        instruments::upsert(&mut unit, rules).await.unwrap();
        unit.commit().await.unwrap();
    }
    let changed = Instrument { base: "X".to_owned(), tick: Decimal::new(2, 18), ..rules(Venue::Paper, "BTCUSDT") };
    let mut unit = world.begin("online_trading").await;
    instruments::upsert(&mut unit, &changed).await.unwrap();
    let all = instruments::all(&mut unit).await.unwrap();
    let ids: Vec<_> = all.iter().map(|rules| rules.id.clone()).collect();
    assert_eq!(ids, stored.iter().map(|rules| rules.id.clone()).collect::<Vec<_>>(), "by venue and symbol");
    assert_eq!(instruments::get(&mut unit, &changed.id).await.unwrap(), Some(changed.clone()));
    assert_eq!(all[1].min_notional.to_string(), "5", "without zeros behind");
    assert_eq!(instruments::get(&mut unit, &rules(Venue::Jupiter, "x").id).await.unwrap(), None);
    let mut second = world.begin_impatient("dexter").await;
    assert_locked(instruments::upsert(&mut second, &changed).await);
    for role in ["treasury", "buy_bot", "supervisor"] {
        let mut unit = world.begin(role).await;
        assert!(instruments::get(&mut unit, &changed.id).await.unwrap().is_some(), "{role}");
        assert_eq!(state(instruments::upsert(&mut unit, &changed).await), "42501", "{role}");
    }
}

async fn rules_of_an_instrument_fit_their_columns(world: &World) {
    let good = rules(Venue::Paper, "BTCUSDT");
    let too_large = Decimal::from_i128_with_scale(100_000_000_000_000_000_000, 0);
    for (bad, want) in [
        (Instrument { tick: Decimal::from(-1), ..good.clone() }, "23514"),
        (Instrument { min_notional: Decimal::new(-1, 18), ..good.clone() }, "23514"),
        (Instrument { max_quantity: too_large, ..good.clone() }, "22003"),
        (Instrument { base: "\0".to_owned(), ..good.clone() }, "22021"),
    ] {
        let mut unit = world.begin("online_trading").await;
        assert_eq!(state(instruments::upsert(&mut unit, &bad).await), want, "{bad:?}");
    }
    let mut unit = world.begin("online_trading").await;
    let fine = Instrument { step: Decimal::from_i128_with_scale(1, 19), ..good.clone() };
    assert!(matches!(instruments::upsert(&mut unit, &fine).await, Err(StoreError::TooPrecise)));
    let largest = Instrument { max_quantity: too_large - Decimal::ONE, ..good };
    instruments::upsert(&mut unit, &largest).await.unwrap();
    assert_eq!(instruments::get(&mut unit, &largest.id).await.unwrap(), Some(largest));
}

async fn kill_epochs_have_no_gaps_and_lowering_needs_a_reason(world: &World) {
    let mut unit = world.begin("supervisor").await;
    assert_eq!(kill::current(&mut unit).await.unwrap(), None);
    let first = kill::raise(&mut unit, 0, "up", "first start", T0).await.unwrap();
    assert_eq!((first.level, first.epoch, first.by.as_str(), first.at), (0, 1, "up", T0));
    unit.commit().await.unwrap();
    let mut unit = world.begin("supervisor").await;
    assert_eq!(kill::raise(&mut unit, 3, "anna", "", T0).await.unwrap().epoch, 2);
    unit.rollback().await.unwrap();
    let mut unit = world.begin("supervisor").await;
    assert_eq!(kill::raise(&mut unit, 2, "anna", "", T0).await.unwrap().epoch, 2, "of a unit that was taken back");
    assert_eq!(kill::raise(&mut unit, 2, "anna", "", T0).await.unwrap().epoch, 3);
    for reason in ["", "  "] {
        assert!(matches!(kill::raise(&mut unit, 1, "anna", reason, T0).await, Err(StoreError::ReasonNeeded)));
    }
    assert!(matches!(kill::raise(&mut unit, 5, "anna", "x", T0).await, Err(StoreError::OutOfRange("level"))));
    unit.commit().await.unwrap();
    for role in ["treasury", "online_trading", "buy_bot", "audit_verify"] {
        let mut unit = world.begin(role).await;
        let seen = kill::current(&mut unit).await.unwrap().unwrap();
        assert_eq!((seen.level, seen.epoch), (2, 3), "{role}");
        assert_eq!(state(kill::raise(&mut unit, 4, "anna", "x", T0).await), "42501", "{role}");
    }
    let mut unit = world.begin("supervisor").await;
    let lowered = kill::raise(&mut unit, 0, "anna", "all clear", T0.plus_ms(1)).await.unwrap();
    assert_eq!(kill::current(&mut unit).await.unwrap(), Some(lowered));
    assert_eq!(state(kill::raise(&mut unit, 1, "", "x", T0).await), "23514");
}

async fn a_raise_that_is_written_down_late_has_its_own_epoch_and_lowers_nothing(world: &World) {
    let mut unit = world.begin("supervisor").await;
    kill::raise(&mut unit, 1, "anna", "look", T0).await.unwrap();
    let late = |level, epoch| Kill { level, epoch, by: "bela".to_owned(), reason: "fire".to_owned(), at: T0 };
    kill::record(&mut unit, &late(2, 4)).await.unwrap();
    for (level, epoch, what) in [(1, 5, "level"), (5, 5, "level"), (2, 4, "epoch"), (3, 3, "epoch")] {
        let answer = kill::record(&mut unit, &late(level, epoch)).await;
        assert!(matches!(answer, Err(StoreError::OutOfRange(part)) if part == what), "{level} {epoch}: {answer:?}");
    }
    kill::record(&mut unit, &late(2, 5)).await.unwrap();
    let epochs = async |unit: &mut store::Unit, from| -> Vec<i64> {
        kill::since(unit, from).await.unwrap().iter().map(|kill| kill.epoch).collect()
    };
    assert_eq!(epochs(&mut unit, 0).await, [1, 4, 5]);
    assert_eq!(epochs(&mut unit, 4).await, [4, 5]);
    assert_eq!(epochs(&mut unit, 6).await, Vec::<i64>::new());
    unit.commit().await.unwrap();
    let mut unit = world.begin("treasury").await;
    assert_eq!(state(kill::record(&mut unit, &late(4, 9)).await), "42501");
}

async fn one_unit_at_a_time_changes_the_kill_level(world: &World) {
    let mut first = world.begin("supervisor").await;
    kill::lock(&mut first).await.unwrap();
    kill::lock(&mut first).await.unwrap();
    let mut second = world.begin_impatient("supervisor").await;
    assert_eq!(kill::current(&mut second).await.unwrap(), None, "reading needs no lock");
    assert_locked(kill::raise(&mut second, 1, "b", "b", T0).await);
    drop(second);
    kill::raise(&mut first, 2, "a", "a", T0).await.unwrap();
    let mut third = world.begin("treasury").await;
    assert_eq!(kill::current(&mut third).await.unwrap(), None, "not committed yet");
    first.commit().await.unwrap();
    assert_eq!(kill::current(&mut third).await.unwrap().unwrap().level, 2);
    let mut fourth = world.begin("supervisor").await;
    kill::lock(&mut fourth).await.unwrap();
}

async fn restarts_are_kept_in_their_order(world: &World) {
    let restart = |agent: &str, n: u128, ms| Restart {
        agent: agent.to_owned(),
        boot_id: BootId(Uuid::from_u128(n)),
        at: T0.plus_ms(ms),
        kind: RestartKind::ALL[usize::try_from(n).unwrap() % RestartKind::ALL.len()],
        cause: "exit 1".to_owned(),
    };
    let mut unit = world.begin("supervisor").await;
    for (row, is_new) in [
        (restart("dexter", 3, 20), true),
        (restart("dexter", 1, 0), true),
        (restart("dexter", 9, 10), true),
        (restart("dexter", 2, 10), true),
        (restart("dexter", 2, 99), false),
        (restart("monitor", 2, 10), true),
    ] {
        assert_eq!(supervision::insert_restart(&mut unit, &row).await.unwrap(), is_new, "{row:?}");
    }
    unit.commit().await.unwrap();
    let mut unit = world.begin("supervisor").await;
    let since = supervision::restarts_since(&mut unit, "dexter", T0.plus_ms(10)).await.unwrap();
    let want = [restart("dexter", 2, 10), restart("dexter", 9, 10), restart("dexter", 3, 20)];
    assert_eq!(since, want, "a boot is one start");
    assert_eq!(supervision::restarts_since(&mut unit, "dexter", T0.plus_ms(21)).await.unwrap(), []);
    assert_eq!(supervision::restarts_since(&mut unit, "nobody", T0).await.unwrap(), []);
    let mut unit = world.begin("treasury").await;
    assert_eq!(state(supervision::insert_restart(&mut unit, &want[0]).await), "42501");
    let mut unit = world.begin("treasury").await;
    assert_eq!(state(supervision::restarts_since(&mut unit, "dexter", T0).await), "42501");
}

async fn what_a_process_should_be_is_replaced(world: &World) {
    let declared = |agent: &str, state: &str, ms| Declared {
        agent: agent.to_owned(),
        state: state.to_owned(),
        config_hash: "aa".to_owned(),
        binary_hash: "bb".to_owned(),
        reason: String::new(),
        at: T0.plus_ms(ms),
    };
    let mut unit = world.begin("supervisor").await;
    for row in [declared("b", "running", 0), declared("a", "stopped", 1), declared("b", "quarantined", 2)] {
        supervision::declare(&mut unit, &row).await.unwrap();
    }
    unit.commit().await.unwrap();
    let mut unit = world.begin("supervisor").await;
    let want = [declared("a", "stopped", 1), declared("b", "quarantined", 2)];
    assert_eq!(supervision::declared(&mut unit).await.unwrap(), want);
    assert_eq!(state(supervision::declare(&mut unit, &declared("a", "other", 0)).await), "23514");
    let mut first = world.begin("supervisor").await;
    supervision::declare(&mut first, &want[0]).await.unwrap();
    let mut second = world.begin_impatient("supervisor").await;
    assert_locked(supervision::declare(&mut second, &want[0]).await);
    let mut unit = world.begin("treasury").await;
    assert_eq!(state(supervision::declare(&mut unit, &want[0]).await), "42501");
}

async fn what_was_declared_since_is_not_written_over(world: &World) {
    let declared = |state: &str, reason: &str, ms| Declared {
        agent: "dexter".to_owned(),
        state: state.to_owned(),
        config_hash: "aa".to_owned(),
        binary_hash: "bb".to_owned(),
        reason: reason.to_owned(),
        at: T0.plus_ms(ms),
    };
    let (seen, newest) = (declared("quarantined", "3 restarts", 0), declared("quarantined", "6 restarts", 0));
    let running = declared("running", "", 9);
    let mut unit = world.begin("supervisor").await;
    assert!(supervision::declare_over(&mut unit, None, &seen).await.unwrap(), "there was nothing");
    unit.commit().await.unwrap();
    let others = [newest.clone(), declared("quarantined", "3 restarts", 1), declared("stopped", "3 restarts", 0)];
    for other in others.iter().map(Some).chain([None]) {
        let mut unit = world.begin("supervisor").await;
        assert!(!supervision::declare_over(&mut unit, other, &running).await.unwrap(), "{other:?}");
        unit.commit().await.unwrap();
        let mut unit = world.begin("supervisor").await;
        assert_eq!(supervision::declared(&mut unit).await.unwrap(), std::slice::from_ref(&seen));
    }
    let mut unit = world.begin("supervisor").await;
    assert!(supervision::declare_over(&mut unit, Some(&seen), &newest).await.unwrap());
    unit.commit().await.unwrap();
    let mut unit = world.begin("supervisor").await;
    assert!(!supervision::declare_over(&mut unit, Some(&seen), &running).await.unwrap(), "it is another by now");
    assert!(supervision::declare_over(&mut unit, Some(&newest), &running).await.unwrap());
    assert_eq!(supervision::declared(&mut unit).await.unwrap(), std::slice::from_ref(&running));
    assert_eq!(state(supervision::declare_over(&mut unit, None, &declared("other", "", 0)).await), "23514");
    let mut first = world.begin("supervisor").await;
    supervision::declare_over(&mut first, Some(&newest), &seen).await.unwrap();
    let mut second = world.begin_impatient("supervisor").await;
    assert_locked(supervision::declare_over(&mut second, Some(&newest), &seen).await);
    let mut unit = world.begin("treasury").await;
    assert_eq!(state(supervision::declare_over(&mut unit, None, &running).await), "42501");
}
