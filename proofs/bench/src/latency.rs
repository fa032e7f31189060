//! Signal to venue, open loop: signals leave at a fixed rate whatever became of those before them, and each is timed from
//! the instant it was due, so that a stall is paid by everyone who had to wait for it.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};
use sqlx::Row as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::bench_error::BenchError;
use crate::doors::{Doors, PLAIN_USD, Planned};
use crate::floors::Floors;
use crate::noise::Noise;
use crate::report::{Report, Row, Target, histogram, micros, note};
use crate::spans::{self, Wall};
use crate::stage::Swarm;
use crate::venue::Journal;
use crate::{Arguments, Part, road};

/// Signals of one person at most: fewer than the 20 trades an hour of the rails.
pub const PER_PERSON: usize = 18;
/// The broker takes 256 connections; agents and tools need some.
const MOST_PEOPLE: usize = 230;
/// How long the last order may take.
const LAST_WITHIN: Duration = Duration::from_secs(20);
/// p99 at most this many times the sum of the floors on the path.
const TARGET_FLOORS: f64 = 5.0;

fn warm_up(arguments: &Arguments) -> usize {
    arguments.rate as usize * arguments.size(5, 2)
}

fn measured(arguments: &Arguments) -> usize {
    arguments.rate as usize * arguments.size(40, 12)
}

fn own_people(arguments: &Arguments) -> usize {
    if arguments.wants(Part::Latency) { (warm_up(arguments) + measured(arguments)).div_ceil(PER_PERSON) } else { 0 }
}

/// People of latency and road runs together.
pub fn people_needed(arguments: &Arguments) -> usize {
    own_people(arguments) + road::own_people(arguments)
}

/// Of the people, those whose signals the road run sends.
pub fn people_of_the_road(arguments: &Arguments) -> std::ops::Range<usize> {
    own_people(arguments)..people_needed(arguments)
}

/// Sends and times.
///
/// # Errors
/// [`BenchError`].
pub async fn measure(
    arguments: &Arguments,
    swarm: &Swarm,
    doors: &Doors,
    venue: &mut Journal,
    floors: &Floors,
    report: &mut Report,
) -> Result<(), BenchError> {
    if people_needed(arguments) > MOST_PEOPLE {
        return Err(BenchError::Broken(format!(
            "{} people would be needed, the broker takes {MOST_PEOPLE}: lower --rate",
            people_needed(arguments)
        )));
    }
    let warm = warm_up(arguments);
    let plan = doors.plan("latency", 0..own_people(arguments), warm + measured(arguments), PLAIN_USD);
    eprintln!("{} signals at {}/s, the first {warm} to warm up", plan.len(), arguments.rate);
    let run = send(arguments.rate, doors, venue, &plan, warm).await?;
    let mut told = histogram()?;
    for signal in plan.iter().skip(warm) {
        if let Some(at) = run.seen.get(&signal.client_order_id) {
            note(&mut told, at.saturating_duration_since(run.due[&signal.client_order_id]));
        }
    }
    let missing = plan.iter().filter(|signal| !run.seen.contains_key(&signal.client_order_id)).count();
    let rate = arguments.rate;
    let row = |name: &str, value: f64| {
        Row::new("latency", format!("signal to venue at {rate}/s, {name}"), value, "us").noise(run.strangers)
    };
    let floor = floors.path_us();
    report.push(row("p50", micros(&told, 0.5)).floor(floor));
    report.push(
        row("p99", micros(&told, 0.99))
            .floor(floor)
            .target(Target::TimesFloor(TARGET_FLOORS))
            .note("floor: sum of the medians below"),
    );
    report.push(row("p99.9", micros(&told, 0.999)).floor(floor).note(format!("{} signals", told.len())));
    report.push(row("door publish and ack, p99", micros(&run.stored, 0.99)));
    report.push(
        Row::new("latency", "signals that never reached the venue", missing as f64, "")
            .target(Target::AtMost(0.0))
            .note(if missing > 0 { decisions(swarm).await? } else { String::new() }),
    );
    report.list("floors on the path of one signal (medians, us)", floors.path_list());
    report.list("the slowest 2 %, by when they were due", slowest(&plan[warm..], &run));
    report.list("where the time goes (ms, by the rows' own times, +-1 ms)", stages(swarm, &plan[warm..], &run).await?);
    Ok(())
}

/// What came of a plan.
struct Run {
    due: BTreeMap<String, Instant>,
    seen: BTreeMap<String, Instant>,
    stored: Histogram<u64>,
    wall: Wall,
    strangers: f64,
}

async fn send(rate: u32, doors: &Doors, venue: &mut Journal, plan: &[Planned], warm: usize) -> Result<Run, BenchError> {
    let period = Duration::from_secs(1) / rate;
    let start = Instant::now() + Duration::from_millis(300);
    let due_of = |number: usize| start + period * u32::try_from(number).unwrap_or(u32::MAX);
    let due = plan.iter().enumerate().map(|(n, signal)| (signal.client_order_id.clone(), due_of(n))).collect();
    let wall = Wall::now();
    let mut ticks = pace((0..plan.len()).map(due_of).collect());
    let (acks, mut acked) = mpsc::unbounded_channel();
    let sending = async {
        while let Some(number) = ticks.recv().await {
            let (doors, signal, acks, due) = (doors.clone(), plan[number].clone(), acks.clone(), due_of(number));
            tokio::spawn(async move {
                let outcome = doors.publish(&signal).await;
                // The reader is gone only when the run has failed.
                let _ = acks.send((number, outcome, due.elapsed()));
            });
        }
        drop(acks);
    };
    let mut noise = None;
    let mut seen: BTreeMap<String, Instant> = BTreeMap::new();
    let deadline = due_of(plan.len()) + LAST_WITHIN;
    let watching = async {
        while seen.len() < plan.len() {
            let Ok(Some((id, at))) = timeout_at(deadline, venue.next()).await else { break };
            if seen.len() >= warm && noise.is_none() {
                noise = Some(Noise::begin());
            }
            seen.insert(id, at);
        }
    };
    tokio::join!(sending, watching);
    let strangers = noise.map_or(0.0, |noise| noise.strangers_percent());
    let mut stored = histogram()?;
    while let Some((number, outcome, took)) = acked.recv().await {
        outcome?;
        if number >= warm {
            note(&mut stored, took);
        }
    }
    Ok(Run { due, seen, stored, wall, strangers })
}

/// A thread that says each number at its instant; the executor's own timer is a millisecond coarse.
pub fn pace(due: Vec<Instant>) -> mpsc::UnboundedReceiver<usize> {
    let (sender, ticks) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for (number, due) in due.into_iter().enumerate() {
            loop {
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                // Interrupted or not, the loop looks at the clock again.
                let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::empty(), &TimeSpec::from(left));
            }
            if sender.send(number).is_err() {
                return;
            }
        }
    });
    ticks
}

/// What treasury said, by code.
pub async fn decisions(swarm: &Swarm) -> Result<String, BenchError> {
    let rows = sqlx::query(
        "SELECT coalesce(code, outcome) AS what, count(*) AS n FROM policy_decisions GROUP BY 1 ORDER BY 1",
    )
    .fetch_all(swarm.admin.pool())
    .await?;
    let mut told = Vec::new();
    for row in rows {
        told.push(format!("{} {}", row.try_get::<i64, _>("n")?, row.try_get::<String, _>("what")?));
    }
    Ok(told.join(", "))
}

/// The slowest signals in groups that were due shortly after one another: a group is a moment in which everything waited, and
/// its distance to the next says for what.
fn slowest(plan: &[Planned], run: &Run) -> Vec<String> {
    const APART: Duration = Duration::from_millis(150);
    let Some(begin) = plan.first().map(|signal| run.due[&signal.client_order_id]) else { return Vec::new() };
    let mut took: Vec<(Instant, Duration)> = Vec::new();
    for id in plan.iter().map(|signal| &signal.client_order_id) {
        took.extend(run.seen.get(id).map(|at| (run.due[id], at.saturating_duration_since(run.due[id]))));
    }
    let mut times: Vec<Duration> = took.iter().map(|(_, time)| *time).collect();
    times.sort();
    let Some(bound) = times.get(times.len() * 98 / 100).copied() else { return Vec::new() };
    took.retain(|(_, time)| *time >= bound);
    let told = |group: &[(Instant, Duration)]| {
        let worst = group.iter().map(|(_, time)| time.as_secs_f64() * 1_000.0).fold(0.0, f64::max);
        let at = group[0].0.saturating_duration_since(begin).as_secs_f64();
        format!("{at:8.2} s: {} signals, slowest {worst:.0} ms", group.len())
    };
    took.chunk_by(|before, next| next.0.saturating_duration_since(before.0) < APART).map(told).collect()
}

/// Times between the rows that a signal leaves behind.
async fn stages(swarm: &Swarm, plan: &[Planned], run: &Run) -> Result<Vec<String>, BenchError> {
    const NAMES: [&str; 4] = [
        "due -> treasury begins (door, stream, buy_bot, stream)",
        "treasury begins -> desk begins (rails, ledger, commit, stream)",
        "desk begins -> executor begins to send (permit spent, commit, wake-up)",
        "executor begins -> in the venue's journal (mark sent, commit, place)",
    ];
    let ids: Vec<uuid::Uuid> = plan.iter().map(|signal| signal.order_id.0).collect();
    let rows = sqlx::query(
        "SELECT o.client_order_id, (extract(epoch FROM d.at) * 1000)::float8 AS decided,
           (extract(epoch FROM o.created_at) * 1000)::float8 AS accepted, (extract(epoch FROM o.sent_at) * 1000)::float8 AS sent
         FROM orders o JOIN policy_decisions d USING (order_id) WHERE o.order_id = ANY($1) AND o.sent_at IS NOT NULL",
    )
    .bind(&ids)
    .fetch_all(swarm.admin.pool())
    .await?;
    let mut signals = Vec::new();
    for row in rows {
        let id: String = row.try_get("client_order_id")?;
        let (Some(due), Some(seen)) = (run.due.get(&id), run.seen.get(&id)) else { continue };
        let mut moments = vec![run.wall.ms(*due)];
        for column in ["decided", "accepted", "sent"] {
            moments.push(row.try_get::<f64, _>(column)?);
        }
        moments.push(run.wall.ms(*seen));
        signals.push(moments);
    }
    Ok(spans::told(&NAMES, &signals))
}
