//! One deadline over all tiers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use testkit::provider::Fault;
use tokio::time::Instant;

use super::{Checked, Line};
use crate::client::{Client, End, NO_CACHE, Reply, question, streamed, tier};
use crate::stage::{Doubles, Line as Setting, Service, Setup, TIERS, patience};

const LANES: u64 = 4;
const TRIES: u64 = 20;
const OVER_MS: f64 = 100.0;
const TIMEOUT_MS: u64 = 500;

pub(super) async fn run() -> Checked {
    Ok([silent_tier().await?, hurry().await?, never_passed().await?].concat())
}

async fn silent_tier() -> Checked {
    let doubles = Doubles::start().await;
    let lines = patience("tier.local", TIMEOUT_MS, TIMEOUT_MS, TIMEOUT_MS);
    let service = Service::start(&doubles, &Setup { lines, ..Setup::default() }).await?;
    doubles.0[0].always(Fault::Hang);
    let reply = service.client.ask(&[NO_CACHE], &question("is anybody there?")).await;
    let took_ms = reply.took.as_millis();
    let calls = doubles.calls();
    // The last tier is retried after a fast failure; silence is not one.
    let alone = Doubles::start().await;
    let lines =
        [patience("tier.local", TIMEOUT_MS, TIMEOUT_MS, TIMEOUT_MS), vec![crate::stage::chain(&["local"])]].concat();
    let only = Service::start(&alone, &Setup { lines, ..Setup::default() }).await?;
    alone.0[0].always(Fault::Hang);
    let refused = only.client.ask(&[NO_CACHE], &question("is anybody there?")).await;
    let is_told = matches!(&refused.end, End::Refused { code, .. } if code == "no_tier_answered");
    Ok(vec![Line::new(
        "deadline: a silent tier 1 costs one timeout and is not retried",
        reply.mark("x-swarm-tier") == TIERS[1]
            && calls == [1, 1, 0]
            && (u128::from(TIMEOUT_MS)..u128::from(TIMEOUT_MS) + 400).contains(&took_ms)
            && is_told
            && alone.calls() == [1, 0, 0],
        format!(
            "{took_ms} ms with a timeout of {TIMEOUT_MS}, calls {calls:?}; as the only tier {} call, {} ms",
            alone.calls()[0],
            refused.took.as_millis()
        ),
    )])
}

/// Requests that end before a tier had its time say nothing about the tier.
async fn hurry() -> Checked {
    let doubles = Doubles::start().await;
    let service = Service::start(&doubles, &Setup::default()).await?;
    doubles.0[0].latency(Duration::from_millis(200));
    for number in 0..8 {
        service.client.ask(&[NO_CACHE, ("x-swarm-deadline-ms", "20")], &question(&format!("hurry {number}"))).await;
    }
    let usual = service.client.ask(&[NO_CACHE], &question("no hurry")).await;
    let state = service.client.state().await?;
    let opened = tier(&state, TIERS[0])["opened"].clone();
    Ok(vec![Line::new(
        "deadline: 8 requests of 20 ms do not open the breaker of a tier that takes 200",
        usual.is_answer() && usual.mark("x-swarm-tier") == TIERS[0] && opened == 0,
        format!("opened {opened} times; the next request is answered by {}", usual.mark("x-swarm-tier")),
    )])
}

/// Every tier is silent, in one way or another, and no request takes longer than it said.
async fn never_passed() -> Checked {
    let mut found = Vec::new();
    for (how, fault, stream, cached) in [
        ("silent", Fault::Hang, false, false),
        ("silent, shared", Fault::Hang, false, true),
        ("silent, streamed", Fault::Hang, true, false),
        ("stalled streams", Fault::StallAfter(2), true, false),
    ] {
        let doubles = Doubles::start().await;
        // A breaker that opens would end requests early and prove nothing.
        let lines: Vec<Setting> = vec![
            ("breaker", "failures", "1000".to_owned()),
            ("breaker", "share_of_calls", "1000".to_owned()),
            ("tier.local", "slots", "8".to_owned()),
        ];
        let service = Service::start(&doubles, &Setup { lines, ..Setup::default() }).await?;
        for name in TIERS {
            service.client.warm(name).await?;
        }
        doubles.0.iter().for_each(|double| double.always(fault.clone()));
        let lanes = (0..LANES).map(|lane| tries(&service.client, lane, stream, cached));
        let late = Arc::new(AtomicU64::new(0));
        let timer = tokio::spawn(lateness(Arc::clone(&late)));
        let over: Vec<(f64, Reply)> = join_all(lanes).await.into_iter().flatten().collect();
        timer.abort();
        let late_ms = late.load(Ordering::Relaxed) as f64 / 1e3;
        let most = over.iter().map(|(over, _)| *over).fold(f64::MIN, f64::max);
        let least = over.iter().map(|(over, _)| *over).fold(f64::MAX, f64::min);
        let unexplained = over.iter().find_map(|(_, reply)| match &reply.end {
            End::Unexplained(why) => Some(why.clone()),
            End::Answer => Some("an answer of a silent tier".to_owned()),
            End::Refused { .. } | End::CutShort { .. } => None,
        });
        let busy = tier(&service.client.state().await?, TIERS[0])["running"].clone();
        found.push(Line::new(
            format!("deadline: never passed by {OVER_MS} ms in {TRIES} tries ({how})"),
            most <= OVER_MS + late_ms && over.len() as u64 == TRIES && unexplained.is_none() && busy == 0,
            match unexplained {
                Some(why) => why,
                None => format!(
                    "at most {most:.1} ms after it, at least {least:.1} (a timer alone was up to {late_ms:.1} ms late); all explained"
                ),
            },
        ));
    }
    Ok(found)
}

/// How late this machine calls a timer that nothing holds up, at most so far, us.
async fn lateness(most: Arc<AtomicU64>) {
    let pause = Duration::from_millis(5);
    loop {
        let began = Instant::now();
        tokio::time::sleep(pause).await;
        let late = began.elapsed().saturating_sub(pause).as_micros();
        most.fetch_max(u64::try_from(late).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

async fn tries(client: &Client, lane: u64, stream: bool, cached: bool) -> Vec<(f64, Reply)> {
    let mut over = Vec::new();
    for number in 0..TRIES / LANES {
        let deadline = Duration::from_millis(300 + 140 * number + 35 * lane);
        let text = deadline.as_millis().to_string();
        let mut headers = vec![("x-swarm-deadline-ms", text.as_str())];
        if !cached {
            headers.push(NO_CACHE);
        }
        let body = question(&format!("lane {lane}, number {number}"));
        let reply = client.ask(&headers, &if stream { streamed(body) } else { body }).await;
        over.push(((reply.took.as_secs_f64() - deadline.as_secs_f64()) * 1e3, reply));
    }
    over
}
