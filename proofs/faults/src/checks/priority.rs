//! Who gets a slot of the local tier: the more important first, whoever waited long enough in the end, and nobody who left.

use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;
use testkit::provider::Provider;
use tokio::time::{Instant, timeout};

use super::{Checked, Line};
use crate::Plan;
use crate::client::{Client, NO_CACHE, Reply, question, streamed, tier};
use crate::stage::{Doubles, PATIENCE, Service, Setup, TIERS, patience};

const SLOTS: usize = 2;
const QUEUE: usize = 256;
const SHIPPED_AGEING_MS: u64 = 2_000;
const SHORT_AGEING_MS: u64 = 100;
/// Clients that send a P6 as soon as their last was answered: four times what the slots take.
const STREAMERS: usize = 8;
/// Of a deadline that does not matter here.
const LONG: (&str, &str) = ("x-swarm-deadline-ms", "120000");

pub(super) async fn run(plan: &Plan) -> Checked {
    Ok([overtakes().await?, ages(plan).await?, leaves().await?].concat())
}

async fn stage(ageing_ms: u64) -> Result<(Doubles, Service), String> {
    let doubles = Doubles::start().await;
    let mut lines = patience("tier.local", 100_000, 100_000, 100_000);
    lines.push(("tier.local", "ageing_ms", ageing_ms.to_string()));
    let service = Service::start(&doubles, &Setup { lines, ..Setup::default() }).await?;
    Ok((doubles, service))
}

fn depth(state: &Value) -> (u64, u64) {
    let local = tier(state, TIERS[0]);
    (local["waiting"].as_u64().unwrap_or(0), local["running"].as_u64().unwrap_or(0))
}

fn text_of(local: &Provider, at: usize) -> String {
    let requests = local.requests();
    requests
        .get(at)
        .map(|seen| seen.body["messages"][0]["content"].as_str().unwrap_or_default().to_owned())
        .unwrap_or_default()
}

async fn fill(client: &Client, count: usize) -> Result<Vec<tokio::task::JoinHandle<Reply>>, String> {
    let headers = [NO_CACHE, LONG, ("x-swarm-priority", "2")];
    let asked = (0..count).map(|number| client.ask_later(&headers, question(&format!("P2 number {number}")))).collect();
    let waiting = (count - SLOTS) as u64;
    client.wait_until("the queue fills", |state| depth(state) == (waiting, SLOTS as u64)).await?;
    Ok(asked)
}

/// With the slots held and the queue full of P2, a P9 takes the next slot that is free.
async fn overtakes() -> Checked {
    let (doubles, service) = stage(SHIPPED_AGEING_MS).await?;
    let (client, local) = (&service.client, &doubles.0[0]);
    local.hold();
    let asked = fill(client, SLOTS + QUEUE).await?;
    let urgent = client.ask_later(&[NO_CACHE, LONG, ("x-swarm-priority", "9")], question("the P9"));
    // The full queue gives up its least important for it, which goes on to tier 2.
    client.wait_until("one P2 gives way", |_| doubles.0[1].calls() == 1).await?;
    let begun = local.calls();
    local.release(1);
    let next = timeout(PATIENCE, local.wait_for_calls(begun + 1, PATIENCE)).await;
    let after = next.map_or(0, |()| 1);
    let is_next = text_of(local, begun) == "the P9";
    local.release_all();
    let urgent = urgent.await.map_err(|error| error.to_string())?;
    let replies: Vec<Reply> = join_all(asked).await.into_iter().filter_map(Result::ok).collect();
    let answered = replies.iter().filter(|reply| reply.is_answer()).count();
    let calls = doubles.calls();
    Ok(vec![Line::new(
        format!("priority: {SLOTS} slots held, {QUEUE} P2 wait, a P9 starts within one slot"),
        is_next
            && after == 1
            && urgent.mark("x-swarm-tier") == TIERS[0]
            && answered == replies.len()
            && calls == [SLOTS + QUEUE, 1, 0],
        format!(
            "{after} completion before its start; {answered} of {} P2 answered, calls {calls:?} (one P2 gave way to tier 2)",
            replies.len()
        ),
    )])
}

/// Under a stream of P6 that never ends a P0 has its turn when waiting has lifted it above them.
async fn ages(plan: &Plan) -> Checked {
    let ageing_ms = if plan.short { SHORT_AGEING_MS } else { SHIPPED_AGEING_MS };
    let (doubles, service) = stage(ageing_ms).await?;
    let (client, local) = (service.client.clone(), &doubles.0[0]);
    local.latency(Duration::from_millis(20));
    let streamers: Vec<_> = (0..STREAMERS)
        .map(|who| {
            let client = client.clone();
            tokio::spawn(async move {
                let headers = [NO_CACHE, LONG, ("x-swarm-priority", "6")];
                for number in 0_u64.. {
                    client.ask(&headers, &question(&format!("P6 of {who}, number {number}"))).await;
                }
            })
        })
        .collect();
    client.wait_until("a backlog of P6", |state| depth(state).0 >= (STREAMERS - SLOTS) as u64 - 1).await?;
    let (began, before) = (Instant::now(), local.calls());
    let headers = [NO_CACHE, LONG, ("x-swarm-priority", "0")];
    let reply = timeout(PATIENCE * 2, client.ask(&headers, &question("the P0"))).await;
    let waited = began.elapsed();
    let passed = local.calls() - before;
    streamers.iter().for_each(tokio::task::JoinHandle::abort);
    let came = reply.is_ok_and(|reply| reply.is_answer() && reply.mark("x-swarm-tier") == TIERS[0]);
    let due = Duration::from_millis(6 * ageing_ms);
    Ok(vec![Line::new(
        format!("priority: ageing lets a P0 through a stream of P6 ({ageing_ms} ms a step)"),
        came && passed > SLOTS && waited >= due / 2 && waited <= due + Duration::from_secs(5),
        format!("after {:.2} s and {passed} P6; due after {:.2} s", waited.as_secs_f64(), due.as_secs_f64()),
    )])
}

/// A client that closes its connection leaves the queue, or its slot and the provider.
async fn leaves() -> Checked {
    let mut found = Vec::new();
    for (how, headers, stream) in [
        ("alone", vec![NO_CACHE, LONG], false),
        ("sharing", vec![LONG], false),
        ("streaming", vec![NO_CACHE, LONG], true),
    ] {
        let (doubles, service) = stage(SHIPPED_AGEING_MS).await?;
        let (client, local) = (&service.client, &doubles.0[0]);
        local.hold();
        let ask = |text: &str| {
            let body = question(text);
            client.ask_later(&headers, if stream { streamed(body) } else { body })
        };
        let mut running = Vec::new();
        for number in 0..SLOTS {
            running.push(ask(&format!("runs {number}")));
            let so_many = number as u64 + 1;
            client.wait_until("it runs", |state| depth(state) == (0, so_many)).await?;
        }
        let gone = ask("waits and leaves");
        client.wait_until("one waits", |state| depth(state) == (1, 2)).await?;
        let stays = ask("waits and stays");
        client.wait_until("two wait", |state| depth(state) == (2, 2)).await?;
        let began = Instant::now();
        gone.abort();
        client.wait_until("one left the queue", |state| depth(state) == (1, 2)).await?;
        let queue_ms = began.elapsed().as_millis();
        let began = Instant::now();
        running[0].abort();
        client.wait_until("its slot went to the one who waits", |state| depth(state) == (0, 2)).await?;
        let slot_ms = began.elapsed().as_millis();
        client.wait_until("the provider hears of it", |_| local.cancelled() == 1 && local.calls() == 3).await?;
        let took_over = text_of(local, 2) == "waits and stays";
        local.release_all();
        let stayed = stays.await.map_err(|error| error.to_string())?;
        let state = client.wait_until("all slots are free", |state| depth(state) == (0, 0)).await?;
        found.push(Line::new(
            format!("priority: a dropped client frees its place and slot ({how})"),
            took_over
                && stayed.is_answer()
                && local.cancelled() == 1
                && doubles.calls() == [3, 0, 0]
                && state["running"] == 0,
            format!(
                "place after {queue_ms} ms, slot after {slot_ms} ms, {} cancel seen by the provider",
                local.cancelled()
            ),
        ));
    }
    Ok(found)
}
