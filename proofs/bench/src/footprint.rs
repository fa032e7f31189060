//! What a swarm takes that has nothing to do, and what its processes hold in memory.

use std::time::Duration;

use tokio::time::Instant;

use crate::Arguments;
use crate::bench_error::BenchError;
use crate::noise::Noise;
use crate::processes::{self, Process};
use crate::report::{Report, Row, Target};
use crate::stage::Swarm;

const TARGET_IDLE_PERCENT: f64 = 2.0;
const TARGET_AGENT_MB: f64 = 20.0;
const TARGET_ALL_MB: f64 = 150.0;
/// After the start, before looking.
const SETTLE: Duration = Duration::from_secs(5);

/// CPU of all processes, servers included, while prices tick and nobody sends anything.
///
/// # Errors
/// [`BenchError`].
pub async fn idle(arguments: &Arguments, swarm: &Swarm, report: &mut Report) -> Result<(), BenchError> {
    let watched = Duration::from_secs(arguments.size(60, 20));
    eprintln!("watching the swarm do nothing for {} s", watched.as_secs());
    tokio::time::sleep(SETTLE).await;
    let before = processes::family(swarm.pid());
    let (noise, began) = (Noise::begin(), Instant::now());
    tokio::time::sleep(watched).await;
    let after = processes::family(swarm.pid());
    let seconds = began.elapsed().as_secs_f64();
    let used = |process: &Process| {
        let earlier = before.iter().find(|other| other.pid == process.pid).map_or(0, |other| other.ticks);
        process.ticks.saturating_sub(earlier) as f64 / processes::ticks_per_second() / seconds * 100.0
    };
    let mut by_process: Vec<(String, f64)> = Vec::new();
    for process in &after {
        match by_process.iter_mut().find(|(name, _)| *name == process.name) {
            Some((_, percent)) => *percent += used(process),
            None => by_process.push((process.name.clone(), used(process))),
        }
    }
    by_process.sort_by(|a, b| b.1.total_cmp(&a.1));
    let all: f64 = by_process.iter().map(|(_, percent)| percent).sum();
    report.push(
        Row::new("idle", "CPU of the whole swarm, servers included", all, "% core")
            .target(Target::AtMost(TARGET_IDLE_PERCENT))
            .noise(noise.strangers_percent())
            .note(format!("{seconds:.0} s, prices of two instruments every 250 ms, {} people", swarm.handles.len())),
    );
    let line = |(name, percent): &(String, f64)| format!("{percent:>6.2}  {name}");
    report.list("CPU when idle (% of one core)", by_process.iter().map(line).collect());
    Ok(())
}

/// Memory of every process.
pub fn memory(swarm: &Swarm, report: &mut Report) {
    let agents: Vec<&str> = swarm::specs().iter().map(|spec| spec.name).collect();
    let mut lines = Vec::new();
    let (mut all_mb, mut largest) = (0.0, (0.0, String::new()));
    let mut postgres = (0, 0.0, 0.0);
    let mut unreadable = 0;
    for process in processes::family(swarm.pid()) {
        let Some(memory) = processes::memory(process.pid) else {
            unreadable += 1;
            continue;
        };
        let mb = |kib: u64| kib as f64 * 1_024.0 / 1e6;
        let (rss, pss) = (mb(memory.rss_kib), mb(memory.pss_kib));
        all_mb += pss;
        // The kernel cuts names to 15 characters.
        if agents.iter().any(|agent| agent.starts_with(&process.name)) && rss > largest.0 {
            largest = (rss, process.name.clone());
        }
        if process.name == "postgres" {
            postgres = (postgres.0 + 1, postgres.1 + rss, postgres.2 + pss);
        } else {
            lines.push(format!("{rss:>6.1} {pss:>6.1}  {}", process.name));
        }
    }
    lines.push(format!("{:>6.1} {:>6.1}  postgres, {} processes together", postgres.1, postgres.2, postgres.0));
    let unread = if unreadable > 0 { format!("; {unreadable} processes can't be looked at") } else { String::new() };
    report.push(
        Row::new("memory", "largest agent, resident", largest.0, "MB")
            .target(Target::AtMost(TARGET_AGENT_MB))
            .note(format!("{}{unread}", largest.1)),
    );
    report.push(
        Row::new("memory", "all processes, proportional", all_mb, "MB")
            .target(Target::AtMost(TARGET_ALL_MB))
            .note(format!("servers included{unread}")),
    );
    report.list("memory (MB): resident, proportional", lines);
}
