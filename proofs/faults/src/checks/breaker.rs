//! Five failures, no call while the breaker is open, then exactly one probe whoever waits.

use std::time::Duration;

use futures::future::join_all;
use testkit::provider::Fault;
use tokio::time::{Instant, interval};

use super::{Checked, Line};
use crate::Plan;
use crate::client::{NO_CACHE, Reply, question, tier};
use crate::stage::{Doubles, PATIENCE, Service, Setup, TIERS, without_quota};

const SHIPPED_OPEN_MS: u64 = 30_000;
const SHORT_OPEN_MS: u64 = 1_000;
const FAILURES: usize = 5;
const AT_ONCE: usize = 64;
/// Requests leave this far apart while it is open.
const EVERY: Duration = Duration::from_millis(50);
/// "At once", on a busy machine.
const AT_ONCE_MS: u128 = 2_000;

pub(super) async fn run(plan: &Plan) -> Checked {
    let open_ms = if plan.short { SHORT_OPEN_MS } else { SHIPPED_OPEN_MS };
    let mut lines = without_quota("tier.groq");
    lines.push(("breaker", "open_ms", open_ms.to_string()));
    let doubles = Doubles::start().await;
    let service = Service::start(&doubles, &Setup { lines, ..Setup::default() }).await?;
    let client = &service.client;
    let [local, groq, _] = &doubles.0;
    local.always(Fault::status(500));
    for number in 0..FAILURES {
        client.ask(&[NO_CACHE], &question(&format!("failure {number}"))).await;
    }
    let opened = Instant::now();
    let calls_before = local.calls();
    local.healthy();
    local.hold();
    let mut asked = Vec::new();
    let mut ticks = interval(EVERY);
    let opens_again = loop {
        ticks.tick().await;
        let state = client.state().await?;
        if tier(&state, TIERS[0])["retry_in_ms"].is_null() {
            break opened.elapsed();
        }
        // One that leaves now arrives while it is still open.
        if tier(&state, TIERS[0])["retry_in_ms"].as_u64().is_some_and(|left| left > 200) {
            asked.push(client.ask_later(&[NO_CACHE], question(&format!("while open {}", asked.len()))));
        }
    };
    let while_open: Vec<Reply> = join_all(asked).await.into_iter().filter_map(Result::ok).collect();
    let passed_over = while_open.iter().filter(|r| r.is_answer() && r.mark("x-swarm-tier") == TIERS[1]).count();
    let calls_open = local.calls() - calls_before;
    let mut found = vec![Line::new(
        format!("breaker: after {FAILURES} failures 0 calls for {} s", open_ms / 1_000),
        calls_before == FAILURES && calls_open == 0 && passed_over == while_open.len() && !while_open.is_empty(),
        format!(
            "{calls_before} failures, {calls_open} calls in {:.1} s; {passed_over} of {} requests answered by tier 2",
            opens_again.as_secs_f64(),
            while_open.len()
        ),
    )];
    let groq_before = groq.calls();
    let began = Instant::now();
    let waiting: Vec<_> =
        (0..AT_ONCE).map(|number| client.ask_later(&[NO_CACHE], question(&format!("half open {number}")))).collect();
    let all_asked = || groq.calls() - groq_before + local.calls() - calls_before >= AT_ONCE;
    client.wait_until("one probe is left", |state| all_asked() && state["running"] == 1).await?;
    let others_ms = began.elapsed().as_millis();
    let probes = local.calls() - calls_before - calls_open;
    let others = groq.calls() - groq_before;
    local.release_all();
    let replies: Vec<Reply> = join_all(waiting).await.into_iter().filter_map(Result::ok).collect();
    let by = |name: &str| replies.iter().filter(|r| r.is_answer() && r.mark("x-swarm-tier") == name).count();
    found.push(Line::new(
        format!("breaker: then exactly 1 probe with {AT_ONCE} requests waiting"),
        probes == 1
            && others == AT_ONCE - 1
            && by(TIERS[0]) == 1
            && by(TIERS[1]) == AT_ONCE - 1
            && others_ms < AT_ONCE_MS,
        format!("{probes} call to tier 1 while it thinks, {others} answered by tier 2, all within {others_ms} ms"),
    ));
    let after = client.ask(&[NO_CACHE], &question("after the probe")).await;
    local.wait_for_calls(calls_before + 2, PATIENCE).await;
    found.push(Line::new(
        "breaker: a probe that is answered closes it",
        after.is_answer() && after.mark("x-swarm-tier") == TIERS[0],
        format!("the next request is answered by {}", after.mark("x-swarm-tier")),
    ));
    Ok(found)
}
