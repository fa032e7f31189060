//! What language models cost.

use std::collections::BTreeMap;

use domain::time::UnixMs;
use store::llm_usage::{self, ANSWERED, ATTEMPTS_MAX_BYTES, NAME_MAX_BYTES, ReportLine, Spent, TierSpent, UsageRow};
use store::{StoreError, Unit};

use crate::samples::T0;
use crate::world::{World, assert_locked, state};

cases! {
    a_request_is_written_once,
    nothing_of_a_batch_stays_when_a_row_does_not_fit,
    a_row_fits_its_columns,
    two_units_do_not_write_one_request_at_once,
    a_day_and_a_month_begin_with_their_first_millisecond,
    a_quota_is_used_up_by_requests_that_called_their_tier,
    an_agent_pays_for_what_was_spent_before_a_cache_answered,
    a_report_tells_tiers_agents_and_models_apart,
    sums_that_no_number_holds_are_refused,
    the_oldest_rows_are_forgotten_in_batches,
    only_the_routers_own_login_touches_the_rows,
}

const ROLE: &str = "llm_router";
const NEVER: UnixMs = UnixMs(0);

/// Request `id`, answered by a local model for nothing.
fn row(id: &str, at_ms: i64) -> UsageRow {
    UsageRow {
        request_id: id.to_owned(),
        at: T0.plus_ms(at_ms),
        agent: "buy_bot".to_owned(),
        tenant: None,
        correlation_id: None,
        alias: "trading-llm".to_owned(),
        tier: Some("local".to_owned()),
        model: "qwen3:8b".to_owned(),
        priority: 5,
        outcome: ANSWERED.to_owned(),
        cache: None,
        prompt_tokens: 100,
        completion_tokens: 10,
        estimated: false,
        cost_micros: 0,
        took_ms: 900,
        attempts: String::new(),
    }
}

fn of_tier(tier: &str, cost_micros: u64, row: UsageRow) -> UsageRow {
    UsageRow { tier: Some(tier.to_owned()), cost_micros, ..row }
}

fn of_agent(agent: &str, row: UsageRow) -> UsageRow {
    UsageRow { agent: agent.to_owned(), ..row }
}

fn failed(row: UsageRow) -> UsageRow {
    UsageRow { outcome: "timeout".to_owned(), ..row }
}

fn cached(kind: &str, row: UsageRow) -> UsageRow {
    UsageRow { cache: Some(kind.to_owned()), ..row }
}

async fn wrote(world: &World, rows: &[UsageRow]) {
    let mut unit = world.begin(ROLE).await;
    assert_eq!(llm_usage::insert(&mut unit, rows).await.unwrap(), u64::try_from(rows.len()).unwrap());
    unit.commit().await.unwrap();
}

async fn requests(unit: &mut Unit, since: UnixMs) -> u64 {
    llm_usage::report(unit, since).await.unwrap().iter().map(|line| line.requests).sum()
}

async fn a_request_is_written_once(world: &World) {
    let (first, second) = (row("1", 0), row("2", 1));
    let other = UsageRow { agent: "another".to_owned(), cost_micros: 7, ..first.clone() };
    let mut unit = world.begin(ROLE).await;
    assert_eq!(llm_usage::insert(&mut unit, &[]).await.unwrap(), 0);
    assert_eq!(llm_usage::insert(&mut unit, &[first.clone(), second.clone(), other.clone()]).await.unwrap(), 2);
    assert_eq!(llm_usage::insert(&mut unit, std::slice::from_ref(&other)).await.unwrap(), 0);
    unit.commit().await.unwrap();
    let mut unit = world.begin(ROLE).await;
    assert_eq!(llm_usage::insert(&mut unit, &[second, row("3", 2), other]).await.unwrap(), 1);
    unit.commit().await.unwrap();
    let mut unit = world.begin(ROLE).await;
    assert_eq!(requests(&mut unit, NEVER).await, 3);
    let spent = llm_usage::spent(&mut unit, NEVER, NEVER).await.unwrap();
    assert_eq!(spent.agents, BTreeMap::from([("buy_bot".to_owned(), 0)]), "it stays as it was written first");
    assert_eq!(llm_usage::insert(&mut unit, &[row("4", 3)]).await.unwrap(), 1);
    unit.rollback().await.unwrap();
    let mut unit = world.begin(ROLE).await;
    assert_eq!(requests(&mut unit, NEVER).await, 3, "a rollback writes nothing");
}

async fn nothing_of_a_batch_stays_when_a_row_does_not_fit(world: &World) {
    let mut unit = world.begin(ROLE).await;
    let batch = [row("1", 0), UsageRow { priority: 10, ..row("2", 0) }];
    assert_eq!(state(llm_usage::insert(&mut unit, &batch).await), "23514");
    drop(unit);
    let mut unit = world.begin(ROLE).await;
    assert_eq!(requests(&mut unit, NEVER).await, 0);
    for late in [UnixMs(i64::MAX), UnixMs(i64::MIN)] {
        let refusals = [
            llm_usage::insert(&mut unit, &[row("1", 0), UsageRow { at: late, ..row("2", 0) }]).await.err(),
            llm_usage::delete_before(&mut unit, late, 1).await.err(),
            llm_usage::report(&mut unit, late).await.err(),
            llm_usage::spent(&mut unit, late, T0).await.err(),
            llm_usage::spent(&mut unit, T0, late).await.err(),
        ];
        for refusal in refusals {
            assert!(matches!(refusal, Some(StoreError::OutOfRange("at"))), "{refusal:?}");
        }
    }
    let over = u64::try_from(i64::MAX).unwrap() + 1;
    for (bad, column) in [
        (UsageRow { prompt_tokens: over, ..row("2", 0) }, "prompt_tokens"),
        (UsageRow { completion_tokens: over, ..row("2", 0) }, "completion_tokens"),
        (UsageRow { cost_micros: over, ..row("2", 0) }, "cost_micros"),
        (UsageRow { took_ms: over, ..row("2", 0) }, "took_ms"),
    ] {
        let refused = llm_usage::insert(&mut unit, &[row("1", 0), bad]).await;
        assert!(matches!(refused, Err(StoreError::OutOfRange(named)) if named == column), "{column}: {refused:?}");
    }
    assert_eq!(requests(&mut unit, NEVER).await, 0, "nothing was sent to the record");
}

async fn a_row_fits_its_columns(world: &World) {
    // Two bytes each: lengths are those of bytes.
    let long = "ä".repeat(NAME_MAX_BYTES / 2);
    let over = format!("{long}b");
    let name = |text: &str| Some(text.to_owned());
    for bad in ["", over.as_str()] {
        for (column, bad) in [
            ("request_id", row(bad, 0)),
            ("agent", UsageRow { agent: bad.to_owned(), ..row("1", 0) }),
            ("tenant", UsageRow { tenant: name(bad), ..row("1", 0) }),
            ("correlation_id", UsageRow { correlation_id: name(bad), ..row("1", 0) }),
            ("alias", UsageRow { alias: bad.to_owned(), ..row("1", 0) }),
            ("tier", UsageRow { tier: name(bad), ..row("1", 0) }),
            ("outcome", UsageRow { outcome: bad.to_owned(), ..row("1", 0) }),
            ("cache", UsageRow { cache: name(bad), ..row("1", 0) }),
        ] {
            let mut unit = world.begin(ROLE).await;
            assert_eq!(state(llm_usage::insert(&mut unit, &[bad]).await), "23514", "{column}");
        }
    }
    let endless = "x".repeat(ATTEMPTS_MAX_BYTES + 1);
    for (bad, want) in [
        (UsageRow { model: over.clone(), ..row("1", 0) }, "23514"),
        (UsageRow { attempts: endless.clone(), ..row("1", 0) }, "23514"),
        (UsageRow { priority: u8::MAX, ..row("1", 0) }, "23514"),
        (UsageRow { tenant: name("\0"), ..row("1", 0) }, "22021"),
        (UsageRow { attempts: "\0".to_owned(), ..row("1", 0) }, "22021"),
    ] {
        let mut unit = world.begin(ROLE).await;
        assert_eq!(state(llm_usage::insert(&mut unit, std::slice::from_ref(&bad)).await), want, "{bad:?}");
    }
    let largest = u64::try_from(i64::MAX).unwrap();
    let full = UsageRow {
        request_id: long.clone(),
        at: UnixMs(9_224_318_015_999_999),
        agent: long.clone(),
        tenant: name(&long),
        correlation_id: name(&long),
        alias: long.clone(),
        tier: name(&long),
        model: long.clone(),
        priority: 9,
        outcome: long.clone(),
        cache: name(&long),
        prompt_tokens: largest,
        completion_tokens: largest,
        estimated: true,
        cost_micros: largest,
        took_ms: largest,
        attempts: endless[1..].to_owned(),
    };
    let bare =
        UsageRow { tier: None, model: String::new(), priority: 0, at: UnixMs(-210_866_803_200_000), ..row("1", 0) };
    wrote(world, &[full.clone(), bare]).await;
    let mut unit = world.begin(ROLE).await;
    let line = ReportLine {
        tier: name(&long),
        agent: long.clone(),
        alias: long.clone(),
        requests: 1,
        cached: BTreeMap::from([(long, 1)]),
        failed: 1,
        prompt_tokens: 0,
        completion_tokens: 0,
        cost_micros: largest,
    };
    assert_eq!(llm_usage::report(&mut unit, full.at).await.unwrap(), [line]);
}

async fn two_units_do_not_write_one_request_at_once(world: &World) {
    let mut first = world.begin(ROLE).await;
    llm_usage::insert(&mut first, &[row("1", 0)]).await.unwrap();
    let mut second = world.begin_impatient(ROLE).await;
    assert_eq!(requests(&mut second, NEVER).await, 0, "not committed yet");
    assert_eq!(llm_usage::insert(&mut second, &[row("2", 0)]).await.unwrap(), 1);
    assert_locked(llm_usage::insert(&mut second, &[row("1", 0)]).await);
    drop(second);
    first.commit().await.unwrap();
    let mut third = world.begin(ROLE).await;
    assert_eq!(llm_usage::insert(&mut third, &[row("1", 0), row("2", 0)]).await.unwrap(), 1);
}

async fn a_day_and_a_month_begin_with_their_first_millisecond(world: &World) {
    let (day, month) = (T0.plus_ms(1_000), T0);
    wrote(
        world,
        &[
            of_tier("groq", 1, row("before the month", -1)),
            of_tier("groq", 10, row("first of the month", 0)),
            of_tier("groq", 100, row("before the day", 999)),
            of_tier("groq", 1_000, row("first of the day", 1_000)),
            of_tier("groq", 10_000, row("later", 5_000)),
            of_tier("older", 5, row("of another tier", 0)),
        ],
    )
    .await;
    let groq = TierSpent { day_requests: 2, day_tokens: 220, day_cost_micros: 11_000, month_cost_micros: 11_110 };
    let older = TierSpent { month_cost_micros: 5, ..TierSpent::default() };
    let mut unit = world.begin(ROLE).await;
    let want = Spent {
        tiers: BTreeMap::from([("groq".to_owned(), groq), ("older".to_owned(), older)]),
        agents: BTreeMap::from([("buy_bot".to_owned(), 11_115)]),
    };
    assert_eq!(llm_usage::spent(&mut unit, day, month).await.unwrap(), want);
    // On the first of a month a provider's day may have begun before the month did.
    let swapped = llm_usage::spent(&mut unit, month, day).await.unwrap();
    let groq = TierSpent { day_requests: 4, day_tokens: 440, day_cost_micros: 11_110, month_cost_micros: 11_000 };
    assert_eq!(swapped.tiers["groq"], groq);
    assert_eq!(swapped.agents, BTreeMap::from([("buy_bot".to_owned(), 11_000)]));
    let after = T0.plus_ms(5_001);
    assert_eq!(llm_usage::spent(&mut unit, after, after).await.unwrap(), Spent::default());
}

async fn a_quota_is_used_up_by_requests_that_called_their_tier(world: &World) {
    let nobody = |row| UsageRow { tier: None, model: String::new(), ..failed(row) };
    wrote(
        world,
        &[
            of_tier("groq", 3, row("answered", 0)),
            of_tier("groq", 0, failed(row("failed", 0))),
            cached("exact", of_tier("groq", 0, row("from the cache", 0))),
            cached("stale", row("from the cache, of a tier that was not called", 0)),
            cached("stale", UsageRow { tier: None, ..row("from the cache, of nobody knows whom", 0) }),
            nobody(row("refused at the door", 0)),
        ],
    )
    .await;
    let mut unit = world.begin(ROLE).await;
    let groq = TierSpent { day_requests: 2, day_tokens: 220, day_cost_micros: 3, month_cost_micros: 3 };
    let spent = llm_usage::spent(&mut unit, T0, T0).await.unwrap();
    assert_eq!(spent.tiers, BTreeMap::from([("groq".to_owned(), groq)]));
    assert_eq!(spent.agents, BTreeMap::from([("buy_bot".to_owned(), 3)]));
}

async fn an_agent_pays_for_what_was_spent_before_a_cache_answered(world: &World) {
    let broken_off = |id: &str| cached("stale", UsageRow { tier: None, cost_micros: 40, ..row(id, 0) });
    wrote(
        world,
        &[
            broken_off("1"),
            of_tier("groq", 2, row("2", 0)),
            of_agent("dexter", of_tier("groq", 500, row("3", 0))),
            of_agent("dexter", broken_off("4")),
            of_agent("monitor", row("5", 0)),
        ],
    )
    .await;
    let mut unit = world.begin(ROLE).await;
    let spent = llm_usage::spent(&mut unit, T0, T0).await.unwrap();
    let want = [("buy_bot", 42), ("dexter", 540), ("monitor", 0)].map(|(agent, cost)| (agent.to_owned(), cost));
    assert_eq!(spent.agents, BTreeMap::from(want));
    assert_eq!(spent.tiers["groq"].month_cost_micros, 502);
}

async fn a_report_tells_tiers_agents_and_models_apart(world: &World) {
    let reasoning = |row| UsageRow { alias: "reasoning-llm".to_owned(), ..row };
    wrote(
        world,
        &[
            of_tier("groq", 1_000, row("too old", -1)),
            of_tier("groq", 7, row("1", 0)),
            of_tier("groq", 0, failed(row("2", 1))),
            cached("exact", of_tier("groq", 0, row("3", 2))),
            cached("exact", of_tier("groq", 0, row("4", 3))),
            cached("stale", failed(of_tier("groq", 2, row("5", 4)))),
            reasoning(of_tier("groq", 9, row("6", 5))),
            of_agent("dexter", of_tier("groq", 11, row("7", 6))),
            row("8", 7),
            failed(UsageRow { tier: None, prompt_tokens: 0, completion_tokens: 0, ..row("9", 8) }),
        ],
    )
    .await;
    let line = |tier: Option<&str>, agent: &str, alias: &str, requests: u64, cost_micros: u64| ReportLine {
        tier: tier.map(str::to_owned),
        agent: agent.to_owned(),
        alias: alias.to_owned(),
        requests,
        cached: BTreeMap::new(),
        failed: 0,
        prompt_tokens: 100,
        completion_tokens: 10,
        cost_micros,
    };
    let nobody =
        ReportLine { failed: 1, prompt_tokens: 0, completion_tokens: 0, ..line(None, "buy_bot", "trading-llm", 1, 0) };
    let mixed = ReportLine {
        cached: BTreeMap::from([("exact".to_owned(), 2), ("stale".to_owned(), 1)]),
        failed: 2,
        prompt_tokens: 200,
        completion_tokens: 20,
        ..line(Some("groq"), "buy_bot", "trading-llm", 5, 9)
    };
    let want = [
        nobody,
        line(Some("groq"), "buy_bot", "reasoning-llm", 1, 9),
        mixed,
        line(Some("groq"), "dexter", "trading-llm", 1, 11),
        line(Some("local"), "buy_bot", "trading-llm", 1, 0),
    ];
    let mut unit = world.begin(ROLE).await;
    assert_eq!(llm_usage::report(&mut unit, T0).await.unwrap(), want);
    assert_eq!(llm_usage::report(&mut unit, T0.plus_ms(9)).await.unwrap(), []);
}

async fn sums_that_no_number_holds_are_refused(world: &World) {
    let largest = u64::try_from(i64::MAX).unwrap();
    let paid = |id: &str, tier| of_tier(tier, largest, row(id, 0));
    wrote(world, &[paid("1", "a"), paid("2", "a")]).await;
    let mut unit = world.begin(ROLE).await;
    let spent = llm_usage::spent(&mut unit, T0, T0).await.unwrap();
    assert_eq!(spent.tiers["a"].month_cost_micros, largest * 2, "more than one row can hold");
    unit.rollback().await.unwrap();
    // Of two groups whose sums do fit.
    wrote(world, &[paid("3", "b")]).await;
    let mut unit = world.begin(ROLE).await;
    let refused = llm_usage::spent(&mut unit, T0, T0).await;
    assert!(matches!(refused, Err(StoreError::OutOfRange("cost_micros"))), "{refused:?}");
    assert_eq!(llm_usage::report(&mut unit, T0).await.unwrap().len(), 2);
    unit.rollback().await.unwrap();
    wrote(world, &[paid("4", "a")]).await;
    let mut unit = world.begin(ROLE).await;
    let refused = llm_usage::report(&mut unit, T0).await;
    assert!(matches!(refused, Err(StoreError::OutOfRange("cost_micros"))), "{refused:?}");
}

async fn the_oldest_rows_are_forgotten_in_batches(world: &World) {
    // Those of one time go by their names.
    wrote(world, &[row("late", 50), row("c", 10), row("edge", 20), row("b", 10), row("a", 15)]).await;
    let before = T0.plus_ms(20);
    let mut unit = world.begin(ROLE).await;
    assert_eq!(llm_usage::delete_before(&mut unit, before, 0).await.unwrap(), 0);
    assert_eq!(llm_usage::delete_before(&mut unit, before, 1).await.unwrap(), 1);
    assert_eq!(llm_usage::insert(&mut unit, &[row("b", 10), row("c", 10)]).await.unwrap(), 1, "b is gone, c is not");
    assert_eq!(llm_usage::delete_before(&mut unit, before, 2).await.unwrap(), 2);
    assert_eq!(llm_usage::delete_before(&mut unit, before, 2).await.unwrap(), 1);
    unit.rollback().await.unwrap();
    let mut unit = world.begin(ROLE).await;
    assert_eq!(requests(&mut unit, NEVER).await, 5, "a rollback forgets nothing");
    assert_eq!(llm_usage::delete_before(&mut unit, before, 99).await.unwrap(), 3);
    assert_eq!(llm_usage::delete_before(&mut unit, before, 99).await.unwrap(), 0);
    unit.commit().await.unwrap();
    let mut unit = world.begin(ROLE).await;
    assert_eq!(requests(&mut unit, NEVER).await, 2);
    assert_eq!(requests(&mut unit, T0.plus_ms(21)).await, 1);
    assert_eq!(state(llm_usage::delete_before(&mut unit, before, -1).await), "2201W");
}

async fn only_the_routers_own_login_touches_the_rows(world: &World) {
    wrote(world, &[row("1", 0)]).await;
    for role in ["treasury", "supervisor", "telegram_jarvis", "online_trading", "buy_bot", "audit_verify"] {
        let mut unit = world.begin(role).await;
        assert_eq!(state(llm_usage::insert(&mut unit, &[row("2", 0)]).await), "42501", "{role}");
        let mut unit = world.begin(role).await;
        assert_eq!(state(llm_usage::report(&mut unit, NEVER).await), "42501", "{role}");
        let mut unit = world.begin(role).await;
        assert_eq!(state(llm_usage::spent(&mut unit, NEVER, NEVER).await), "42501", "{role}");
        let mut unit = world.begin(role).await;
        assert_eq!(state(llm_usage::delete_before(&mut unit, T0.plus_ms(1), 9).await), "42501", "{role}");
    }
    // It has the grants.
    let mut unit = world.begin("jarvis_x").await;
    assert_eq!(requests(&mut unit, NEVER).await, 0);
    assert_eq!(llm_usage::delete_before(&mut unit, T0.plus_ms(1), 9).await.unwrap(), 0);
    assert_eq!(state(llm_usage::insert(&mut unit, &[row("2", 0)]).await), "42501");
    drop(unit);
    let mut unit = world.begin("admin").await;
    assert_eq!(requests(&mut unit, NEVER).await, 1);
}
