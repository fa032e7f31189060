//! A row of what a request to a model cost stands in Postgres as it was given.

use domain::time::UnixMs;
use store::llm_usage::{UsageRow, insert};

use crate::samples::T0;
use crate::support::World;

#[tokio::test]
async fn each_value_stands_in_its_own_column() {
    let world = World::new().await;
    let full = UsageRow {
        request_id: "boot-1".to_owned(),
        at: T0.plus_ms(1),
        agent: "buy_bot".to_owned(),
        tenant: Some("anna".to_owned()),
        correlation_id: Some("signal-7".to_owned()),
        alias: "trading-llm".to_owned(),
        tier: Some("groq".to_owned()),
        model: "llama-3.1-8b-instant".to_owned(),
        priority: 9,
        outcome: "timeout".to_owned(),
        cache: Some("stale".to_owned()),
        prompt_tokens: 11,
        completion_tokens: 12,
        estimated: true,
        cost_micros: 13,
        took_ms: 14,
        attempts: "local:refused:3".to_owned(),
    };
    let bare = UsageRow {
        request_id: "boot-2".to_owned(),
        at: UnixMs(0),
        tenant: None,
        correlation_id: None,
        tier: None,
        model: String::new(),
        cache: None,
        estimated: false,
        ..full.clone()
    };
    let router = world.login("llm_router").await;
    let mut unit = router.begin().await.unwrap();
    assert_eq!(insert(&mut unit, &[full, bare]).await.unwrap(), 2);
    unit.commit().await.unwrap();
    let stored: Vec<String> = sqlx::query_scalar(
        "SELECT concat_ws(' ', request_id, extract(epoch FROM at)::numeric(20, 3), agent, tenant, correlation_id, alias, tier,
           model, priority, outcome, cache, prompt_tokens, completion_tokens, estimated, cost_micros, took_ms, attempts)
         FROM llm_usage ORDER BY request_id",
    )
    .fetch_all(router.pool())
    .await
    .unwrap();
    let want = [
        "boot-1 1723161600.000 buy_bot anna signal-7 trading-llm groq llama-3.1-8b-instant 9 timeout stale 11 12 t 13 14 \
         local:refused:3",
        "boot-2 0.000 buy_bot trading-llm  9 timeout 11 12 f 13 14 local:refused:3",
    ];
    assert_eq!(stored, want);
}
