//! A run from the first signal to the verdict.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use crate::Trouble;
use crate::checks::Finding;
use crate::end;
use crate::house::{House, Options};
use crate::load::Load;
use crate::memory::Memory;
use crate::process;
use crate::report::Report;
use crate::strike::{Fate, Fault, Strike, Target};
use crate::tracker::Tracker;
use crate::wound::{Healed, deal};

/// Wounds that may be open at once.
const OPEN_WOUNDS: usize = 3;
/// How often is told where the run stands.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Trading before the first strike, and after the last.
const CALM: Duration = Duration::from_secs(3);

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many strikes.
    pub kills: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Signals a second.
    pub rate: f64,
    /// People who send them.
    pub players: usize,
    /// Everything of this run.
    pub folder: PathBuf,
    /// Where the programs lie.
    pub programs: PathBuf,
    /// The shipped configuration.
    pub config_dir: PathBuf,
    /// Give JetStream a small disk of its own, where the machine allows it.
    pub mount: bool,
    /// Three NATS nodes instead of one server; their strikes fall one after the other.
    pub cluster: bool,
    /// No strike falls while an earlier wound is open.
    pub one_by_one: bool,
    /// From one strike to the next, at least.
    pub apart: Duration,
    /// Strikes to deal instead of drawn ones.
    pub script: Vec<Strike>,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// To the end, with everything checked.
    Checked(Box<Report>),
    /// Something did not heal, or the harness could not go on: the reason, and every strike until then.
    Broken(String, Vec<String>),
}

/// Runs. The caller stops it by dropping the future: the house then stops with it.
pub async fn run(plan: &Plan, tell: bool) -> Outcome {
    let mut dealt = Vec::new();
    match strike_and_check(plan, tell, &mut dealt).await {
        Ok(report) => Outcome::Checked(Box::new(report)),
        Err(error) => Outcome::Broken(error.to_string(), dealt),
    }
}

async fn strike_and_check(plan: &Plan, tell: bool, dealt: &mut Vec<String>) -> Result<Report, Trouble> {
    let started = Instant::now();
    let options = Options {
        folder: plan.folder.clone(),
        programs: plan.programs.clone(),
        config_dir: plan.config_dir.clone(),
        seed: plan.seed,
        players: plan.players,
        mount: plan.mount,
        cluster: plan.cluster,
    };
    let house = Arc::new(House::open(options).await?);
    let _mount = Mount(Arc::clone(&house));
    if tell {
        eprintln!("ready after {:.1} s in {}", started.elapsed().as_secs_f64(), house.folder.display());
    }
    let tracker = Arc::new(Tracker::default());
    let load = Arc::new(Load::new(Arc::clone(&house), Arc::clone(&tracker), plan.players));
    let (over, is_over) = tokio::sync::watch::channel(false);
    let rng = |salt: u64| ChaCha8Rng::seed_from_u64(plan.seed.wrapping_mul(31).wrapping_add(salt));
    // All of them end with this future, however it ends.
    let mut beside = JoinSet::new();
    beside.spawn({
        let (house, tracker) = (Arc::clone(&house), Arc::clone(&tracker));
        async move { tracker.follow(&house).await }
    });
    let mut people = JoinSet::new();
    people.spawn(Arc::clone(&load).signals(rng(1), plan.rate, is_over.clone()));
    people.spawn(Arc::clone(&load).votes(rng(2), is_over.clone()));
    let mut looks = JoinSet::new();
    let watched = Arc::clone(&house);
    looks.spawn(async move { Memory::watch(&watched, is_over).await });
    tokio::time::sleep(CALM).await;
    let fate = Fate::new(rng(3), house.means);
    let mut storm = Storm { plan, house: &house, tracker: &tracker, fate, tell, started: Instant::now() };
    let healed = storm.rage(dealt).await?;
    tokio::time::sleep(CALM).await;
    over.send_replace(true);
    while people.join_next().await.is_some() {}
    if tell {
        eprintln!("faults are over; letting everything end");
    }
    let drained = end::drain(&house, &load, &tracker).await?;
    if tell {
        eprintln!("all quiet after {:.1} s; checking", drained.as_secs_f64());
    }
    let memory = looks.join_next().await.and_then(Result::ok).unwrap_or_default();
    let mut findings = end::check(&house, &tracker).await?;
    let is_soak = !plan.script.is_empty() && !plan.cluster;
    findings.extend(is_soak.then(|| memory.finding()));
    beside.shutdown().await;
    findings.push(stop(&house).await);
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    let tracks = tracker.all();
    for track in tracks.values().filter(|track| track.accepted) {
        *ends
            .entry(track.end.as_ref().map_or_else(|| "without an end".to_owned(), crate::tracker::End::word))
            .or_default() += 1;
    }
    let (sent, accepted, _) = tracker.counts();
    let lacks = house.lacks.clone();
    let took = started.elapsed();
    let sent = (sent, accepted);
    Ok(Report { seed: plan.seed, took, healed, ends, sent, findings, lacks, memory, machine: machine() })
}

/// Stops the swarm and looks for what it left.
async fn stop(house: &House) -> Finding {
    let mut wrong: Vec<String> = house.stop().await.err().map(|error| error.to_string()).into_iter().collect();
    let left = process::naming(&house.folder);
    wrong.extend(left.iter().map(|(pid, name)| format!("{name} ({pid}) still runs")));
    Finding::new("the swarm drains and leaves no process", "other", "after SIGTERM".to_owned(), wrong)
}

fn machine() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{cores} cores, load average {} at the end", load.join(" "))
}

/// Unmounts when the run ends, however it ends. Servers must be gone by then.
struct Mount(Arc<House>);

impl Drop for Mount {
    fn drop(&mut self) {
        self.0.end();
    }
}

struct Storm<'a> {
    plan: &'a Plan,
    house: &'a Arc<House>,
    tracker: &'a Arc<Tracker>,
    fate: Fate,
    tell: bool,
    started: Instant,
}

type Open = FuturesUnordered<LocalBoxFuture<'static, Dealt>>;
type Dealt = (Strike, Duration, bool, Result<Option<(Duration, Duration)>, Trouble>);

impl Storm<'_> {
    /// Deals all strikes.
    async fn rage(&mut self, dealt: &mut Vec<String>) -> Result<Vec<Healed>, Trouble> {
        let mut healed = Vec::new();
        let mut open: Open = FuturesUnordered::new();
        let mut busy: Vec<Target> = Vec::new();
        let mut script = self.plan.script.iter().copied().rev().collect::<Vec<_>>();
        let wanted = if script.is_empty() { self.plan.kills } else { script.len() };
        let mut next_tell = Instant::now() + TELL_EVERY;
        let mut next_strike = Instant::now();
        let mut skipped = 0;
        while healed.len() < wanted {
            let most = if self.plan.one_by_one { 1 } else { OPEN_WOUNDS };
            let room = healed.len() + open.len() < wanted && open.len() < most && Instant::now() >= next_strike;
            let strike = if !room || busy.contains(&Target::Up) {
                None
            } else if self.plan.script.is_empty() {
                let worn = self.fate.is_worn();
                if worn { Some(Strike { target: Target::Up, fault: Fault::Kill }) } else { self.fate.draw(&busy) }
            } else {
                script.pop()
            };
            if let Some(strike) = strike {
                next_strike = Instant::now() + self.plan.apart;
                if strike.target == Target::Up {
                    // Its death ends everything below it; what is stopped or cut off just then could not end.
                    while let Some(done) = open.next().await {
                        self.note(done, &mut busy, &mut healed, &mut skipped, dealt)?;
                    }
                    self.fate.new_life();
                }
                self.strike(strike, &mut open, &mut busy, dealt);
            }
            let wait = if self.fate.overlaps() && open.len() < OPEN_WOUNDS {
                self.fate.pause()
            } else {
                Duration::from_secs(600)
            };
            let wait = if strike.is_none() && open.is_empty() { self.fate.pause() } else { wait };
            let until = Instant::now() + wait;
            loop {
                tokio::select! {
                    Some(done) = open.next(), if !open.is_empty() => {
                        self.note(done, &mut busy, &mut healed, &mut skipped, dealt)?;
                        break;
                    }
                    () = tokio::time::sleep_until(until.min(next_tell)) => {
                        if let Some(fell) = self.house.fell().await.filter(|_| !busy.contains(&Target::Up)) {
                            return Err(Trouble::Other(fell));
                        }
                        if Instant::now() >= next_tell {
                            next_tell += TELL_EVERY;
                            self.progress(&healed, &busy);
                        }
                        if Instant::now() >= until {
                            break;
                        }
                    }
                }
            }
        }
        if skipped > 0 && self.tell {
            eprintln!("{skipped} strikes found nothing to strike and were drawn again");
        }
        Ok(healed)
    }

    fn strike(&mut self, strike: Strike, open: &mut Open, busy: &mut Vec<Target>, dealt: &mut Vec<String>) {
        let at = self.started.elapsed();
        let line = format!("{:>7.1} s  {strike}", at.as_secs_f64());
        if self.tell {
            eprintln!("{line}");
        }
        dealt.push(line);
        let overlapped = !open.is_empty();
        busy.push(strike.target);
        let (house, tracker, draw) = (Arc::clone(self.house), Arc::clone(self.tracker), self.fate.below(64));
        open.push(Box::pin(async move { (strike, at, overlapped, deal(&house, &tracker, strike, draw).await) }));
    }

    fn note(
        &self,
        done: Dealt,
        busy: &mut Vec<Target>,
        healed: &mut Vec<Healed>,
        skipped: &mut usize,
        dealt: &mut Vec<String>,
    ) -> Result<(), Trouble> {
        let (strike, at, overlapped, outcome) = done;
        if let Some(place) = busy.iter().position(|target| *target == strike.target) {
            busy.remove(place);
        }
        match outcome? {
            Some((ready, through)) => {
                if self.tell {
                    let (ready, through) = (ready.as_secs_f64(), through.as_secs_f64());
                    eprintln!("           {strike}: ready {ready:.1} s, through {through:.1} s");
                }
                healed.push(Healed { strike, at, ready, through, overlapped });
            }
            None => {
                dealt.push(format!("           {strike}: nothing was there to strike"));
                *skipped += 1;
            }
        }
        Ok(())
    }

    fn progress(&self, healed: &[Healed], busy: &[Target]) {
        if !self.tell {
            return;
        }
        let (sent, accepted, ended) = self.tracker.counts();
        let open: Vec<String> = busy.iter().map(ToString::to_string).collect();
        eprintln!(
            "-- {} s: {} of {} faults healed, {} open ({}); signals: {sent} sent, {accepted} accepted, {ended} over",
            self.started.elapsed().as_secs(),
            healed.len(),
            self.plan.kills.max(self.plan.script.len()),
            open.len(),
            open.join(", "),
        );
    }
}
