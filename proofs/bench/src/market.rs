//! Feed events through `swarm replay`: reading, unpacking, books, bars, strategies, rails and paper exchange on one
//! thread, by that thread's CPU clock.

use std::path::{Path, PathBuf};
use std::process::Command;

use swarm::replay::{ReplaySetup, replay, source};
use tokio::time::Instant;

use crate::Arguments;
use crate::bench_error::BenchError;
use crate::gate::thread_us;
use crate::noise::Noise;
use crate::report::{Report, Row, Target};
use crate::stage::swarm_program;

const TARGET_PER_SECOND: f64 = 500_000.0;
/// Length of the recording that is made when there is none, s of market time.
const RECORD_S: &str = "660";

/// Replays the recording a few times.
///
/// # Errors
/// [`BenchError`].
pub fn measure(arguments: &Arguments, folder: &Path, report: &mut Report) -> Result<(), BenchError> {
    let (files, name) = recording(arguments, folder)?;
    let setup = ReplaySetup::read(&arguments.config_dir)?;
    let noise = Noise::begin();
    let (mut rates, mut wall) = (Vec::new(), Vec::new());
    let mut events = 0;
    for _ in 0..arguments.size(5, 3) {
        let (cpu, began) = (thread_us()?, Instant::now());
        let (summary, _log) = replay(source::Merged::open(&files)?, &setup, 1)?;
        events = summary.events;
        rates.push(events as f64 * 1e6 / (thread_us()? - cpu).max(1.0));
        wall.push(events as f64 / began.elapsed().as_secs_f64().max(1e-9));
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    report.push(
        Row::new("replay", "feed events a second of one core", median(&mut rates), "/s")
            .target(Target::AtLeast(TARGET_PER_SECOND))
            .noise(noise.strangers_percent())
            .note(format!("CPU; {:.0}/s of wall time; {events} events, {name}", median(&mut wall))),
    );
    Ok(())
}

fn recording(arguments: &Arguments, folder: &Path) -> Result<(Vec<PathBuf>, &'static str), BenchError> {
    if arguments.recorded.is_dir() {
        return Ok((source::recordings_in(&arguments.recorded)?, "recorded at the exchange"));
    }
    let file = folder.join("builtin.gz");
    let mut command = Command::new(swarm_program()?);
    command.args(["record", "--market", "builtin", "--seconds", RECORD_S, "--out"]).arg(&file);
    command.env("SWARM_CONFIG_DIR", &arguments.config_dir);
    let done = command.output().map_err(|error| BenchError::file(&file, error))?;
    if !done.status.success() {
        return Err(BenchError::file(&file, String::from_utf8_lossy(&done.stderr).trim()));
    }
    Ok((vec![file], "made by the built-in market"))
}
