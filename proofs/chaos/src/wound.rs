//! Doing what a strike says, ending it, and waiting until what was struck works again.

use std::sync::Arc;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use crate::Trouble;
use crate::house::{House, wait_for};
use crate::process::Process;
use crate::proxy::{Server, Weather};
use crate::skew;
use crate::strike::{Fault, Strike, Target};
use crate::tracker::Tracker;

/// Longest recovery that is waited for; beyond it the run has failed.
pub const HEAL_WITHIN: Duration = Duration::from_secs(120);

/// What came of one strike.
#[derive(Debug, Clone)]
pub struct Healed {
    /// Which.
    pub strike: Strike,
    /// When it fell, since the run began.
    pub at: Duration,
    /// From the fault (its end, when it lasts by itself) until the target was there again.
    pub ready: Duration,
    /// The same until a signal sent after that moment had its end at the venue.
    pub through: Duration,
    /// Another wound was open at the same time.
    pub overlapped: bool,
}

/// Strikes, and waits until all is well again.
///
/// # Errors
/// [`Trouble::Other`] when it does not heal in time, or the strike could not be dealt.
pub async fn deal(
    house: &Arc<House>,
    tracker: &Arc<Tracker>,
    strike: Strike,
    draw: usize,
) -> Result<Option<(Duration, Duration)>, Trouble> {
    let before = house.process(strike.target, draw).await;
    let fell = Instant::now();
    let Some(since) = inflict(house, strike, before, fell).await? else { return Ok(None) };
    let what =
        |stage: &str| Trouble::Other(format!("{strike}: {stage} not within {} s after it", HEAL_WITHIN.as_secs()));
    let gone = matches!(strike.fault, Fault::Kill | Fault::Recycle).then_some(before).flatten();
    let mut seen = String::new();
    let is_back = wait_for(HEAL_WITHIN, async || {
        let missing = missing(house, strike.target, gone).await;
        seen = missing.clone().unwrap_or_default();
        missing.is_none()
    })
    .await;
    if !is_back {
        return Err(what(&format!("back ({seen})")));
    }
    let ready = since.elapsed();
    let passed = tokio::time::timeout(HEAL_WITHIN, tracker.went_through(since)).await;
    passed.map_err(|_| what("a signal through"))?;
    let through = since.elapsed();
    // A second node that falls before the first has caught up is another experiment: two of three are no majority.
    if is_node(strike.target) && !wait_for(HEAL_WITHIN, async || house.nodes_lack().await.is_empty()).await {
        return Err(what(&format!("whole ({})", house.nodes_lack().await.join(", "))));
    }
    Ok(Some((ready, through)))
}

const fn is_node(target: Target) -> bool {
    matches!(target, Target::NatsLeader | Target::NatsFollower)
}

/// Does it and ends it; the moment from which recovery counts. `None`: there was nothing to strike.
async fn inflict(
    house: &Arc<House>,
    strike: Strike,
    before: Option<Process>,
    fell: Instant,
) -> Result<Option<Instant>, Trouble> {
    match (strike.fault, strike.target) {
        (Fault::Kill, target) => {
            let Some(process) = before else { return Ok(None) };
            if !process.signal(Signal::SIGKILL) {
                return Ok(None);
            }
            if target == Target::Up {
                house.start_again().await?;
            }
            Ok(Some(fell))
        }
        (Fault::Stop(time), target) => {
            let Some(process) = before else { return Ok(None) };
            if !process.signal(Signal::SIGSTOP) {
                return Ok(None);
            }
            let agent = matches!(target, Target::Agent(_));
            // One that is taken for hung is killed by the supervisor while it is stopped: recovery counts from the stop.
            let killed = wait_for(time, async || !process.runs()).await;
            let continued = process.signal(Signal::SIGCONT);
            // A node that falls silent is replaced while it is silent, not when it speaks again.
            if is_node(target) {
                return Ok(Some(fell));
            }
            Ok(Some(if killed && agent && !continued { fell } else { Instant::now() }))
        }
        (Fault::DiskFull(time), _) => {
            fill(&house.data.join("nats").join("jetstream").join("chaos.fill"), time).await?;
            Ok(Some(Instant::now()))
        }
        (Fault::Clock(step_ms, time), Target::Agent(name)) => {
            skew::set(&house.clock_file(name), step_ms)?;
            tokio::time::sleep(time).await;
            skew::set(&house.clock_file(name), 0)?;
            Ok(Some(Instant::now()))
        }
        (Fault::Slow(delay, time), target) => {
            let server = if target == Target::Nats { Server::Nats } else { Server::Postgres };
            for link in house.links_to(server) {
                link.set(Weather::Slow(delay));
            }
            tokio::time::sleep(time).await;
            for link in house.links_to(server) {
                link.set(Weather::Fair);
            }
            Ok(Some(Instant::now()))
        }
        (Fault::HalfOpen(time), Target::Link(name, server)) => {
            let Some(link) = house.link(name, server) else { return Ok(None) };
            link.set(Weather::HalfOpen);
            tokio::time::sleep(time).await;
            link.set(Weather::Fair);
            Ok(Some(Instant::now()))
        }
        (Fault::Recycle, Target::Agent(name)) => {
            house.recycle(name).await?;
            Ok(Some(fell))
        }
        (Fault::Clock(..) | Fault::HalfOpen(_) | Fault::Recycle, _) => Ok(None),
    }
}

/// Leaves no byte free, waits, and gives the space back.
async fn fill(path: &std::path::Path, time: Duration) -> Result<(), Trouble> {
    let mut file = std::fs::File::create(path).map_err(|error| Trouble::file(path, error))?;
    let block = vec![0_u8; 64 * 1024];
    let deadline = Instant::now() + time;
    // What the server frees meanwhile is taken as well.
    while Instant::now() < deadline {
        while std::io::Write::write(&mut file, &block).is_ok_and(|written| written > 0) {}
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(file);
    std::fs::remove_file(path).map_err(|error| Trouble::file(path, error))
}

/// What is not there yet of a target; `None` when it is. `gone` is the process that was killed: it is another now.
pub async fn missing(house: &House, target: Target, gone: Option<Process>) -> Option<String> {
    let answer = match house.ask("swarm.agents").await {
        Ok(answer) => answer,
        Err(error) => return Some(error.to_string()),
    };
    let rows = answer["result"].as_array().cloned().unwrap_or_default();
    if rows.is_empty() {
        return Some(format!("no agents: {answer}"));
    }
    let is_new = match (target, gone) {
        (Target::NatsLeader, _) => house.nats_leader().await.is_some_and(|(_, process)| Some(process) != gone),
        (Target::Supervisor | Target::Nats | Target::Postgres | Target::Valkey, Some(old)) => {
            house.process(target, 0).await.is_some_and(|process| process != old)
        }
        _ => true,
    };
    if !is_new {
        return Some("the old process".to_owned());
    }
    let of_interest = |row: &&Value| match target {
        Target::Agent(name) | Target::Link(name, _) => row["agent"] == name,
        _ => true,
    };
    let unwell = rows.iter().filter(of_interest).find(|row| {
        let well = matches!(row["verdict"].as_str(), Some("healthy" | "busy"));
        let old = gone.is_some_and(|old| row["pid"].as_u64() == Some(u64::from(old.pid)));
        !well || (old && matches!(target, Target::Agent(_)))
    })?;
    Some(format!("{} is {}, {}", unwell["agent"], unwell["verdict"], unwell["last_end"]))
}
