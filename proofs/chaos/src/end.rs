//! When the faults have stopped: everything is given time to end, then everything is compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::ids::MessageId;
use rails::limits::Limits;
use serde_json::Value;
use sqlx::Row;
use swarm::people::audit::Auditor;
use tokio::time::{Duration, Instant};

use crate::Trouble;
use crate::checks::{self, Finding, letters};
use crate::house::{House, wait_for};
use crate::load::Load;
use crate::tracker::{End, Tracker};

/// How long what is still on its way may take: a permit lives 60 s, a dead letter waits through a few redeliveries.
const DRAIN_WITHIN: Duration = Duration::from_secs(180);
/// The desk looks for an order that it may have sent until 10 s after the order's own end, which for one that a human decided
/// is up to a quarter of an hour after its signal.
const LOOKED_FOR_MS: i64 = 10_000;
/// How often is told what is waited for.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How long the audit may take to have every head anchored.
const ANCHORED_WITHIN: Duration = Duration::from_secs(30);

/// Lets everything end: questions are answered with no, orders and permits end by themselves.
///
/// # Errors
/// [`Trouble`] of a query; what did not end is found by the checks.
pub async fn drain(house: &Arc<House>, load: &Load, tracker: &Tracker) -> Result<Duration, Trouble> {
    let started = Instant::now();
    let mut tell = started + TELL_EVERY;
    let looked_for = looked_for(house).await?;
    if looked_for > Duration::ZERO {
        eprintln!(
            "-- an order that may be on its way to the venue is looked for up to {} s more",
            looked_for.as_secs()
        );
    }
    let within = DRAIN_WITHIN + looked_for;
    let settled = wait_for(within, async || {
        load.say_no_to_all().await;
        let waiting = match waiting(house, tracker).await {
            Ok(waiting) if waiting.is_empty() => return true,
            Ok(waiting) => waiting,
            Err(error) => error.to_string(),
        };
        if Instant::now() > tell {
            tell += TELL_EVERY;
            eprintln!("-- waiting for {waiting}");
        }
        false
    })
    .await;
    if !settled {
        eprintln!("not everything ended within {} s; the checks say what", within.as_secs());
    }
    Ok(started.elapsed())
}

/// How long until the desk gives up the last order that the venue may not have got.
async fn looked_for(house: &House) -> Result<Duration, Trouble> {
    let ms: Option<i64> = sqlx::query_scalar(
        "SELECT max((envelope->>'valid_until')::bigint + $1 - (extract(epoch FROM now()) * 1000)::bigint)
         FROM orders WHERE state IN ('open', 'unknown')",
    )
    .bind(LOOKED_FOR_MS)
    .fetch_one(house.db().pool())
    .await?;
    Ok(Duration::from_millis(ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0)))
}

/// What is not over: orders, permits, questions, fills that are not posted, messages, signals.
async fn waiting(house: &House, tracker: &Tracker) -> Result<String, Trouble> {
    tracker.look(&house.db()).await?;
    given_up(house, tracker).await?;
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM orders WHERE NOT outcome_posted) AS orders,
                (SELECT count(*) FROM permits WHERE state = 'signed') AS permits,
                (SELECT count(*) FROM approval_requests WHERE status IN ('pending', 'allowed')) AS questions,
                (SELECT count(*) FROM fills WHERE posted_at IS NULL) AS fills,
                (SELECT count(*) FROM reservations) AS reservations, (SELECT count(*) FROM outbox) AS messages",
    )
    .fetch_one(house.db().pool())
    .await?;
    let mut waiting = Vec::new();
    for what in ["orders", "permits", "questions", "fills", "reservations", "messages"] {
        let count: i64 = row.try_get(what)?;
        if count > 0 {
            waiting.push(format!("{count} {what}"));
        }
    }
    let signals = tracker.open().len();
    if signals > 0 {
        waiting.push(format!("{signals} signals"));
    }
    Ok(waiting.join(", "))
}

/// Ends that only the streams know.
async fn given_up(house: &House, tracker: &Tracker) -> Result<(), Trouble> {
    if tracker.open().is_empty() {
        return Ok(());
    }
    let letters = letters::read(house, &keys(tracker)).await?;
    for id in tracker.open() {
        if let Some((code, _)) = letters.of_signals.get(&id).and_then(|ends| ends.first()) {
            tracker.ended(id, End::GivenUp(code.clone()));
        }
    }
    Ok(())
}

fn keys(tracker: &Tracker) -> BTreeMap<String, MessageId> {
    tracker.all().into_iter().map(|(id, track)| (track.key, id)).collect()
}

/// All checks.
///
/// # Errors
/// [`Trouble`] when something can't be read.
pub async fn check(house: &Arc<House>, tracker: &Tracker) -> Result<Vec<Finding>, Trouble> {
    let mut findings = signals(house, tracker).await?;
    findings.extend(checks::tables(&house.db()).await?);
    let path = house.folder.join("config").join("limits.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| Trouble::file(&path, error))?;
    let limits = Limits::parse(&text).map_err(|error| Trouble::file(&path, format!("{error:?}")))?;
    findings.extend(checks::history::check(&house.db(), &limits).await?);
    let journal = house.data.join("data").join("paper").join("paper.journal");
    findings.extend(checks::journal::check(&house.db(), &journal).await?);
    findings.push(audit(house).await?);
    Ok(findings)
}

/// Each accepted signal has exactly one end.
async fn signals(house: &House, tracker: &Tracker) -> Result<Vec<Finding>, Trouble> {
    tracker.look(&house.db()).await?;
    let letters = letters::read(house, &keys(tracker)).await?;
    let tracks = tracker.all();
    let accepted = tracks.values().filter(|track| track.accepted).count();
    let mut lost = Vec::new();
    let mut twice = Vec::new();
    for (id, track) in &tracks {
        let given_up = letters.of_signals.get(id);
        if track.accepted && track.end.is_none() && given_up.is_none() {
            lost.push(format!("{id} of {} ({})", track.handle, track.key));
        }
        let in_tables = track.end.as_ref().filter(|end| !matches!(end, End::GivenUp(_)));
        if let (Some(end), Some(given_up)) = (in_tables, given_up) {
            twice.push(format!("{id} of {}: {} and given up {given_up:?}", track.handle, end.word()));
        }
    }
    let seen = format!("{accepted} accepted, {} dead letters, {} notices read", letters.read.0, letters.read.1);
    Ok(vec![
        Finding::new("each accepted signal has an end", "lost", seen.clone(), lost),
        Finding::new("and only one", "doubled", seen, twice),
    ])
}

async fn audit(house: &House) -> Result<Finding, Trouble> {
    let auditor = Auditor::open(&house.doors().files).await?;
    let mut report = Value::Null;
    // Rows younger than the notary's next look are not anchored yet.
    wait_for(ANCHORED_WITHIN, async || {
        report = auditor.verify().await.unwrap_or(Value::Null);
        let chains = report["chains"].as_array().into_iter().flatten();
        let mut chains = chains.filter(|chain| chain["not_yet_anchored"].as_u64().unwrap_or(1) > 0);
        report["verdict"] == "valid" && chains.next().is_none()
    })
    .await;
    let chains = report["chains"].as_array().map_or(0, Vec::len);
    let wrong = if report["verdict"] == "valid" { Vec::new() } else { vec![report.to_string()] };
    Ok(Finding::new("`swarm audit verify` says valid", "other", format!("{chains} chains"), wrong))
}
