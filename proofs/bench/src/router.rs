//! What the router of language models adds to a provider that answers at once, beside the direct path to that provider.
//!
//! Rounds of short runs, the direct path and the routers in turn, so that a neighbour disturbs both; a figure is the median
//! of the rounds, and what is added is the router's median less that of the direct path in the same round. Every prompt
//! is a new one, so that no answer is a cached one where none is wanted, and asks at temperature 0 as the swarm's own do, so that
//! every key of the cache is made. Generator, stub and router share the machine's cores: the list below the table says who
//! took them.

mod clock;
mod load;
mod process;
mod stub;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use load::{Load, Prompts, send};
use process::{Process, Valkey};
use stub::{CHUNKS, Stub};

use crate::Arguments;
use crate::bench_error::BenchError;
use crate::noise::Noise;
use crate::report::{Report, Row, Target, micros};

const TARGET_ADDED_MS: f64 = 0.20;
const TARGET_CPU_US: f64 = 120.0;
const TARGET_CPU_REDIS_US: f64 = 200.0;
const TARGET_PER_SECOND: f64 = 10_000.0;
const TARGET_IDLE_MB: f64 = 30.0;
const TARGET_LOADED_MB: f64 = 60.0;
const TARGET_HIT_MS: f64 = 0.5;
const TARGET_FIRST_CHUNK_MS: f64 = 0.3;
/// Before the part of a run that counts: connections, branches, pages.
const WARM: Duration = Duration::from_millis(200);
/// Answers that one router keeps in Redis in each round, for another to find there.
const KEPT: u64 = 1_000;
/// Fewer hits among them say nothing. There are misses: the writer drops what Redis takes too slowly, and three lookups in a row
/// without an answer in time leave Redis alone for a second.
const FEWEST_HITS: u64 = 100;
/// With fewer it is tried again, so often, when Redis is not left alone any more.
const TRIES: u32 = 10;
const QUIET: Duration = Duration::from_secs(1);
/// The number of the prompt that is asked again and again.
const ASKED_AGAIN: u64 = 999_999_999_999;

/// One kind of run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Run {
    Direct {
        connections: usize,
        streams: bool,
    },
    Routed {
        connections: usize,
        streams: bool,
    },
    /// Over Redis: quotas are reserved and settled, caches looked up and kept there.
    Redis {
        connections: usize,
    },
    LocalHit,
    RedisHit,
}

impl Run {
    const ALL: [Self; 13] = [
        Self::Direct { connections: 1, streams: false },
        Self::Routed { connections: 1, streams: false },
        Self::Redis { connections: 1 },
        Self::LocalHit,
        Self::RedisHit,
        Self::Direct { connections: 1, streams: true },
        Self::Routed { connections: 1, streams: true },
        Self::Direct { connections: 16, streams: false },
        Self::Routed { connections: 16, streams: false },
        Self::Redis { connections: 16 },
        Self::Direct { connections: 64, streams: false },
        Self::Routed { connections: 64, streams: false },
        Self::Redis { connections: 64 },
    ];

    fn name(self) -> String {
        let kind = |streams: bool| if streams { ", stream" } else { "" };
        match self {
            Self::Direct { connections, streams } => format!("direct, c={connections}{}", kind(streams)),
            Self::Routed { connections, streams } => format!("router, c={connections}{}", kind(streams)),
            Self::Redis { connections } => format!("router over Redis, c={connections}"),
            Self::LocalHit => "exact hit in the process, c=1".to_owned(),
            Self::RedisHit => "exact hit in Redis, c=1".to_owned(),
        }
    }
}

/// What one run gave. CPU is us a request.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    p50_ms: f64,
    p99_ms: f64,
    first_p50_ms: f64,
    per_second: f64,
    router_us: f64,
    stub_us: f64,
    generator_us: f64,
    valkey_us: f64,
    degraded_percent: f64,
}

/// Everything that runs.
struct Stage {
    stub: Stub,
    valkey: Valkey,
    plain: Process,
    over_redis: Process,
    /// Never asked anything but what the other one kept.
    second: Process,
    numbers: Arc<AtomicU64>,
    run_time: Duration,
}

/// Measures all of it.
///
/// # Errors
/// [`BenchError`].
#[expect(clippy::disallowed_methods, reason = "the one thread that measures waits for a process to settle")]
pub fn measure(arguments: &Arguments, folder: &Path, report: &mut Report) -> Result<(), BenchError> {
    let folder = folder.join("router");
    let stub = Stub::start()?;
    let valkey = Valkey::start(&folder.join("valkey"))?;
    let start = |name: &str, redis: Option<&Valkey>| {
        Process::start(&arguments.config_dir, &folder.join(name), stub.address(), redis)
    };
    let stage = Stage {
        plain: start("plain", None)?,
        over_redis: start("over-redis", Some(&valkey))?,
        second: start("second", Some(&valkey))?,
        stub,
        valkey,
        numbers: Arc::new(AtomicU64::new(1)),
        run_time: Duration::from_millis(arguments.size(2_000, 600)),
    };
    std::thread::sleep(WARM);
    let idle_mb = stage.plain.resident_mb()?;
    let noise = Noise::begin();
    let mut samples: BTreeMap<Run, Vec<Sample>> = BTreeMap::new();
    let rounds = arguments.size(7, 3);
    for round in 0..rounds {
        eprintln!("router: round {} of {rounds}", round + 1);
        for run in Run::ALL {
            samples.entry(run).or_default().push(stage.run(run)?);
        }
    }
    Figures { samples, strangers_percent: noise.strangers_percent() }.tell(report);
    let memory = |name, mb: f64, most| {
        Row::new("router", name, mb, "MB").target(Target::AtMost(most)).noise(noise.strangers_percent())
    };
    report.push(memory("resident, idle", idle_mb, TARGET_IDLE_MB).note("before the first request"));
    let over_redis = format!("over Redis {:.1}", stage.over_redis.resident_mb()?);
    report.push(memory("resident, after load", stage.plain.resident_mb()?, TARGET_LOADED_MB).note(over_redis));
    Ok(())
}

impl Stage {
    fn run(&self, run: Run) -> Result<Sample, BenchError> {
        match run {
            Run::Direct { connections, streams } => {
                self.timed(None, self.stub.address(), connections, streams, |time| self.fresh(time))
            }
            Run::Routed { connections, streams } => self.routed(&self.plain, connections, streams, |t| self.fresh(t)),
            Run::Redis { connections } => self.routed(&self.over_redis, connections, false, |time| self.fresh(time)),
            Run::LocalHit => self.routed(&self.plain, 1, false, |time| Prompts::Same(ASKED_AGAIN, time)),
            Run::RedisHit => self.redis_hit(),
        }
    }

    fn fresh(&self, time: Duration) -> Prompts {
        Prompts::New(Arc::clone(&self.numbers), time)
    }

    fn routed(
        &self,
        router: &Process,
        connections: usize,
        streams: bool,
        prompts: impl Fn(Duration) -> Prompts,
    ) -> Result<Sample, BenchError> {
        self.timed(Some(router), router.address(), connections, streams, prompts)
    }

    /// A run that is warmed up and lasts a while.
    fn timed(
        &self,
        router: Option<&Process>,
        address: SocketAddr,
        connections: usize,
        streams: bool,
        prompts: impl Fn(Duration) -> Prompts,
    ) -> Result<Sample, BenchError> {
        let key = router.map_or_else(String::new, Process::key);
        let load = |prompts| Load { address, key: key.clone(), connections, streams, prompts, only_hits: false };
        send(&load(prompts(WARM)))?;
        let (sample, hits, requests) = self.counted(router, &load(prompts(self.run_time)))?;
        let wanted = if matches!(prompts(WARM), Prompts::Same(..)) { requests } else { 0 };
        if hits != wanted {
            return Err(BenchError::Broken(format!("{hits} of {requests} requests were exact hits, {wanted} wanted")));
        }
        Ok(sample)
    }

    /// One router keeps answers in Redis; another, which never saw them, is asked for each of them once.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one thread that measures waits for what is written in the background"
    )]
    fn redis_hit(&self) -> Result<Sample, BenchError> {
        for _ in 0..TRIES {
            let from = self.numbers.fetch_add(KEPT, Ordering::Relaxed);
            let load = |router: &Process, connections| Load {
                address: router.address(),
                key: router.key(),
                connections,
                streams: false,
                prompts: Prompts::Each(from..from + KEPT),
                only_hits: true,
            };
            send(&load(&self.over_redis, 4))?;
            // What was kept is written in the background.
            std::thread::sleep(WARM);
            let (sample, hits, _) = self.counted(Some(&self.second), &load(&self.second, 1))?;
            if hits >= FEWEST_HITS {
                return Ok(sample);
            }
            std::thread::sleep(QUIET);
        }
        let [kept, looked] = [self.over_redis.state(), self.second.state()];
        let text = format!("fewer than {FEWEST_HITS} of {KEPT} answers were found in Redis, {TRIES} times");
        Err(BenchError::Broken(format!("{text}; who kept them: {kept}; who looked: {looked}")))
    }

    fn counted(&self, router: Option<&Process>, load: &Load) -> Result<(Sample, u64, u64), BenchError> {
        let clocks = || -> Result<[f64; 3], BenchError> {
            let router = router.map_or(Ok(0.0), Process::cpu_us)?;
            Ok([router, self.stub.thread.cpu_us(), self.valkey.cpu_us()?])
        };
        let before = clocks()?;
        let tally = send(load)?;
        let after = clocks()?;
        let requests = tally.requests;
        let each = |us: f64| us / requests.max(1) as f64;
        let sample = Sample {
            p50_ms: micros(&tally.whole, 0.5) / 1e3,
            p99_ms: micros(&tally.whole, 0.99) / 1e3,
            first_p50_ms: micros(&tally.first, 0.5) / 1e3,
            per_second: tally.per_second(),
            router_us: each(after[0] - before[0]),
            stub_us: each(after[1] - before[1]),
            generator_us: each(tally.cpu_us),
            valkey_us: each(after[2] - before[2]),
            degraded_percent: 100.0 * each(tally.degraded as f64),
        };
        Ok((sample, tally.exact_hits, requests))
    }
}

/// What the rounds gave.
struct Figures {
    samples: BTreeMap<Run, Vec<Sample>>,
    strangers_percent: f64,
}

impl Figures {
    fn median(&self, run: Run, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.get(&run).into_iter().flatten().map(of).collect())
    }

    /// What the first run takes more than the second, round by round.
    fn added(&self, run: Run, to: Run, of: impl Fn(&Sample) -> f64) -> f64 {
        let both = self.samples.get(&run).into_iter().flatten().zip(self.samples.get(&to).into_iter().flatten());
        median(both.map(|(more, less)| of(more) - of(less)).collect())
    }

    fn row(&self, name: impl Into<String>, value: f64, unit: &'static str, target: Option<Target>) -> Row {
        let row = Row::new("router", name, value, unit).noise(self.strangers_percent);
        match target {
            Some(target) => row.target(target),
            None => row,
        }
    }

    /// What each took of a request.
    fn shares(&self, run: Run) -> String {
        let valkey = self.median(run, |sample| sample.valkey_us);
        let valkey = if valkey > 1.0 { format!(", Redis {valkey:.0}") } else { String::new() };
        let degraded = self.median(run, |sample| sample.degraded_percent);
        let valkey = if degraded > 0.0 { format!("{valkey}; {degraded:.1} % without it") } else { valkey };
        format!(
            "CPU us: stub {:.0}, generator {:.0}{valkey}",
            self.median(run, |sample| sample.stub_us),
            self.median(run, |sample| sample.generator_us)
        )
    }

    fn tell(&self, report: &mut Report) {
        let at = |connections, streams| (Run::Direct { connections, streams }, Run::Routed { connections, streams });
        let (p50, first) = (|sample: &Sample| sample.p50_ms, |sample: &Sample| sample.first_p50_ms);
        let most = |target| Some(Target::AtMost(target));
        let added = |name: String, run, direct, of: fn(&Sample) -> f64, target| {
            let row = self.row(name, self.added(run, direct, of), "ms", target).floor(self.median(direct, of));
            row.note(format!("{:.3} through it; {}", self.median(run, of), self.shares(run)))
        };
        let (direct, routed) = at(1, false);
        report.push(added("added p50, c=1".to_owned(), routed, direct, p50, most(TARGET_ADDED_MS)));
        let redis = Run::Redis { connections: 1 };
        report.push(added("added p50, c=1, over Redis".to_owned(), redis, direct, p50, None));
        for (run, name, target) in [
            (at(16, false).1, "CPU a request, c=16", TARGET_CPU_US),
            (Run::Redis { connections: 16 }, "CPU a request, c=16, over Redis", TARGET_CPU_REDIS_US),
        ] {
            let rate = self.median(run, |sample| sample.per_second);
            let row = self.row(name, self.median(run, |sample| sample.router_us), "us", most(target));
            report.push(row.note(format!("{rate:.0}/s; {}", self.shares(run))));
        }
        let (direct, routed) = at(64, false);
        for (run, name, target) in [
            (routed, "requests, c=64", Some(Target::AtLeast(TARGET_PER_SECOND))),
            (Run::Redis { connections: 64 }, "requests, c=64, over Redis", None),
        ] {
            let rate = |sample: &Sample| sample.per_second;
            let row = self.row(name, self.median(run, rate), "/s", target).floor(self.median(direct, rate));
            let cpu = self.median(run, |sample| sample.router_us);
            report.push(row.note(format!("CPU {cpu:.0} us a request; {}", self.shares(run))));
        }
        for (run, name) in
            [(Run::LocalHit, "exact hit in the process, p50"), (Run::RedisHit, "exact hit in Redis, p50")]
        {
            let row = self.row(name, self.median(run, p50), "ms", most(TARGET_HIT_MS));
            let cpu = self.median(run, |sample| sample.router_us);
            let floor = self.median(at(1, false).0, p50);
            report.push(row.floor(floor).note(format!("CPU {cpu:.0} us; {}", self.shares(run))));
        }
        let (direct, routed) = at(1, true);
        report.push(added(
            "first chunk, added p50, c=1".to_owned(),
            routed,
            direct,
            first,
            most(TARGET_FIRST_CHUNK_MS),
        ));
        report.push(added(format!("stream of {CHUNKS} chunks, added p50, c=1"), routed, direct, p50, None));
        report.list("router: who took the cores (percent of one core) and the tails", self.cores());
    }

    fn cores(&self) -> Vec<String> {
        let head = format!(
            "{:<32} {:>9} {:>8} {:>8} {:>7} {:>7} {:>9} {:>7}",
            "run", "a second", "p50 ms", "p99 ms", "router", "stub", "generator", "Redis"
        );
        let line = |run: &Run| {
            let of = |pick: fn(&Sample) -> f64| self.median(*run, pick);
            format!(
                "{:<32} {:>9.0} {:>8.3} {:>8.3} {:>7.0} {:>7.0} {:>9.0} {:>7.0}",
                run.name(),
                of(|s| s.per_second),
                of(|s| s.p50_ms),
                of(|s| s.p99_ms),
                of(|s| s.router_us * s.per_second / 1e4),
                of(|s| s.stub_us * s.per_second / 1e4),
                of(|s| s.generator_us * s.per_second / 1e4),
                of(|s| s.valkey_us * s.per_second / 1e4),
            )
        };
        std::iter::once(head).chain(Run::ALL.iter().map(line)).collect()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_the_median_of_rounds_and_not_of_runs() {
        let (direct, routed) =
            (Run::Direct { connections: 1, streams: false }, Run::Routed { connections: 1, streams: false });
        let of = |p50s: [f64; 3]| p50s.map(|p50_ms| Sample { p50_ms, ..Sample::default() }).to_vec();
        // A neighbour in the second round slows both.
        let samples = BTreeMap::from([(direct, of([1.0, 9.0, 1.0])), (routed, of([1.5, 9.25, 3.0]))]);
        let figures = Figures { samples, strangers_percent: 0.0 };
        assert!((figures.added(routed, direct, |sample| sample.p50_ms) - 0.5).abs() < 1e-9);
        assert!((figures.median(routed, |sample| sample.p50_ms) - 3.0).abs() < 1e-9);
        let mut report = Report::new(true);
        figures.tell(&mut report);
        let rows = report.json();
        assert_eq!(rows["figures"].as_array().unwrap().len(), 10, "{rows}");
        assert_eq!(rows["figures"][0]["met"], false, "{rows}");
    }
}
