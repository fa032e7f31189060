//! The rounds: each fault at fifty processes, under the supervisor and under the plain runner; a crash loop until quarantine, with
//! the supervisor killed on the way.

use std::collections::BTreeMap;
use std::path::Path;

use domain::ids::BootId;
use domain::person::Act;
use tokio::time::{Duration, Instant, sleep};

use crate::Trouble;
use crate::child::{NAMES, at_file, fault_file, loop_file, start_file};
use crate::fault::Fault;
use crate::plain::{RestartAlways, works};
use crate::stage::{Mode, Seen, Stage};

/// Between two looks at what the supervisor says.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Between one process's fault and the next's, so that they are seen one by one.
const APART: Duration = Duration::from_millis(40);
/// A round that takes longer went wrong.
const ROUND_WITHIN: Duration = Duration::from_secs(150);
/// How long until fifty that end every 5 s must be quarantined: four lives of 5 s, the pauses between, and starts beside each other.
const LOOP_WITHIN: Duration = Duration::from_secs(120);

/// What one round of one fault showed.
#[derive(Debug, Clone)]
pub struct Round {
    /// Which.
    pub fault: Fault,
    /// Ms from the fault until the verdict was another than well, of each process.
    pub seen_ms: Vec<u64>,
    /// Ms from the fault until the process was gone.
    pub ended_ms: Vec<u64>,
    /// Ms from the fault until a new one was well.
    pub back_ms: Vec<u64>,
    /// The kinds that were counted.
    pub kinds: BTreeMap<String, u64>,
    /// What the plain runner said.
    pub plain: Plain,
}

/// What a runner said that only starts again what ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain {
    /// Looks at a process that did not work.
    pub broken: u64,
    /// Of these, how many said online.
    pub online: u64,
    /// Starts beyond the first.
    pub restarts: u64,
}

/// How far one process is.
#[derive(Debug, Clone, Default)]
struct Track {
    before: Seen,
    at_ms: Option<i64>,
    seen_ms: Option<u64>,
    ended_ms: Option<u64>,
    back_ms: Option<u64>,
}

/// Plays one fault at `count` processes under the supervisor.
///
/// # Errors
/// What did not happen in time.
pub async fn supervised(stage: &Stage, fault: Fault, count: usize) -> Result<Round, Trouble> {
    let names = &NAMES[..count];
    let before = stage.all_well().await?;
    let mut tracks: BTreeMap<&str, Track> = BTreeMap::new();
    for name in names {
        let _ = std::fs::remove_file(at_file(&stage.folder, name));
        let track = Track { before: before.get(*name).cloned().unwrap_or_default(), ..Track::default() };
        tracks.insert(name, track);
    }
    let started = Instant::now();
    let mut next = 0;
    while tracks.values().any(|track| track.back_ms.is_none()) {
        if started.elapsed() > ROUND_WITHIN {
            let left: Vec<_> =
                tracks.iter().filter(|(_, track)| track.back_ms.is_none()).map(|(name, _)| *name).collect();
            return Err(format!("{}: not back within {} s: {}", fault.word(), ROUND_WITHIN.as_secs(), left.join(", ")));
        }
        while next < names.len() && started.elapsed() >= APART * u32::try_from(next).unwrap_or(0) {
            strike(stage, names[next], fault, &before).await?;
            next += 1;
        }
        let seen = stage.look().await;
        let now_ms = now_ms();
        for (name, track) in &mut tracks {
            if track.at_ms.is_none() {
                track.at_ms = read_ms(&at_file(&stage.folder, name));
            }
            let (Some(at_ms), Some(seen)) = (track.at_ms, seen.get(*name)) else { continue };
            let passed = u64::try_from(now_ms - at_ms).unwrap_or(0);
            // One that hangs in its start is not the process that was told to.
            let is_old = seen.boot_id == track.before.boot_id;
            if (!seen.is_well() || !is_old) && track.seen_ms.is_none() {
                track.seen_ms = Some(passed);
            }
            let is_gone = if fault == Fault::Starting {
                seen.restarts > track.before.restarts + 1
            } else {
                !is_old || seen.pid.is_none()
            };
            if is_gone && track.seen_ms.is_some() && track.ended_ms.is_none() {
                track.ended_ms = Some(passed);
            }
            if track.ended_ms.is_some() && !is_old && seen.is_well() && track.back_ms.is_none() {
                track.back_ms = Some(passed);
            }
        }
        sleep(LOOK_EVERY).await;
    }
    let after = stage.all_well().await?;
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for name in names {
        let earlier = &before[*name].kinds;
        for (kind, count) in &after[*name].kinds {
            let new = count - earlier.get(kind).copied().unwrap_or(0);
            *kinds.entry(kind.clone()).or_default() += new;
        }
    }
    kinds.retain(|_, count| *count > 0);
    let of = |get: fn(&Track) -> Option<u64>| tracks.values().filter_map(get).collect();
    Ok(Round {
        fault,
        seen_ms: of(|track| track.seen_ms),
        ended_ms: of(|track| track.ended_ms),
        back_ms: of(|track| track.back_ms),
        kinds,
        plain: Plain::default(),
    })
}

/// Has one process break; one that is to ignore SIGTERM is then asked to end by a person.
async fn strike(stage: &Stage, name: &str, fault: Fault, before: &BTreeMap<String, Seen>) -> Result<(), Trouble> {
    std::fs::write(fault_file(&stage.folder, name), fault.word()).map_err(|error| error.to_string())?;
    if fault == Fault::IgnoreTerm {
        while read_ms(&at_file(&stage.folder, name)).is_none() {
            sleep(Duration::from_millis(5)).await;
        }
        let boot_id: BootId = before[name].boot_id.parse().map_err(|_| "a start without an id")?;
        stage.say("swarm.agents.restart", Act::RestartAgent { agent: name.to_owned(), boot_id }).await?;
    }
    Ok(())
}

/// Plays one fault at `count` processes under the plain runner and counts what it calls online that does not work.
///
/// # Errors
/// What the system says.
pub async fn plain(stage: &Stage, fault: Fault, count: usize) -> Result<Plain, Trouble> {
    let names = &NAMES[..count];
    let mut env = |name: &&str| {
        let mut env = stage.env(name);
        env.remove("SWARM_SUPERVISED");
        ((*name).to_owned(), env)
    };
    let mut runner = RestartAlways::new(names.iter().map(&mut env));
    let turn = |runner: &mut RestartAlways| runner.turn().map_err(|error| error.to_string());
    let until = Instant::now() + ROUND_WITHIN;
    while !names.iter().all(|name| works(&stage.folder, name)) {
        turn(&mut runner)?;
        if Instant::now() > until {
            return Err("the plain runner's processes did not come up".to_owned());
        }
        sleep(LOOK_EVERY).await;
    }
    for name in names {
        if fault == Fault::Crash {
            // What ends once is started again and that is right; what ends again and again is what it can't tell.
            std::fs::write(loop_file(&stage.folder, name), b"").map_err(|error| error.to_string())?;
        } else {
            std::fs::write(fault_file(&stage.folder, name), fault.word()).map_err(|error| error.to_string())?;
        }
    }
    if fault == Fault::IgnoreTerm {
        sleep(Duration::from_millis(500)).await;
        for (_, pid) in runner.pids() {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid.cast_signed()),
                nix::sys::signal::Signal::SIGTERM,
            );
        }
    }
    // Until nobody who broke can still count as working.
    let settled = Instant::now() + Duration::from_secs(3);
    let until = settled + fault.watched();
    let mut found = Plain::default();
    while Instant::now() < until {
        turn(&mut runner)?;
        if Instant::now() > settled {
            let online = u64::try_from(runner.online()).unwrap_or(0);
            let all = u64::try_from(count).unwrap_or(0);
            let working = u64::try_from(names.iter().filter(|name| works(&stage.folder, name)).count()).unwrap_or(0);
            let broken =
                if matches!(fault, Fault::Crash | Fault::Leak | Fault::IgnoreTerm) { all } else { all - working };
            found.broken += broken;
            found.online += online.min(broken);
        }
        sleep(LOOK_EVERY).await;
    }
    found.restarts = runner.restarts();
    runner.end();
    for name in names {
        for file in [loop_file(&stage.folder, name), fault_file(&stage.folder, name), start_file(&stage.folder, name)] {
            let _ = std::fs::remove_file(file);
        }
    }
    Ok(found)
}

/// What a crash loop came to.
#[derive(Debug, Clone)]
pub struct Loop {
    /// Who started the processes.
    pub mode: Mode,
    /// How many were quarantined.
    pub quarantined: usize,
    /// Of so many.
    pub of: usize,
    /// Ends that were counted of each: the fewest and the most.
    pub ends: (u64, u64),
    /// Ms until the last of them was.
    pub took_ms: u64,
    /// How often the supervisor was killed on the way.
    pub kills: u32,
    /// How many still work some seconds later.
    pub working: usize,
}

/// Lets `count` processes end 5 s after each start until all are quarantined; kills the supervisor twice on the way.
///
/// # Errors
/// What did not happen in time.
pub async fn crash_loop(stage: &mut Stage, mode: Mode, count: usize) -> Result<Loop, Trouble> {
    let names = &NAMES[..count];
    let mut runner = (mode == Mode::External)
        .then(|| RestartAlways::new(NAMES.iter().map(|name| ((*name).to_owned(), stage.env(name)))));
    let turn = |runner: &mut Option<RestartAlways>| {
        runner.as_mut().map_or(Ok(()), RestartAlways::turn).map_err(|error| error.to_string())
    };
    let until = Instant::now() + ROUND_WITHIN;
    loop {
        turn(&mut runner)?;
        let seen = stage.look().await;
        if seen.len() == NAMES.len() && seen.values().all(Seen::is_well) {
            break;
        }
        if Instant::now() > until {
            return Err(format!("not all well before the crash loop: {seen:?}"));
        }
        sleep(LOOK_EVERY).await;
    }
    for name in names {
        std::fs::write(loop_file(&stage.folder, name), b"").map_err(|error| error.to_string())?;
    }
    let started = Instant::now();
    let (mut kills, mut last) = (0, BTreeMap::new());
    let is_down = |seen: &BTreeMap<String, Seen>| {
        names.iter().filter(|name| seen.get(**name).is_some_and(|seen| seen.verdict == "quarantined")).count()
    };
    while started.elapsed() < LOOP_WITHIN {
        turn(&mut runner)?;
        let seen = stage.look().await;
        if !seen.is_empty() {
            last = seen;
        }
        if is_down(&last) == count {
            break;
        }
        let counted = |at_least: u64| {
            names.iter().filter(|name| last.get(**name).is_some_and(|seen| seen.restarts >= at_least)).count()
        };
        if kills < 2 && counted(u64::from(kills) + 1) > count / 2 {
            stage.kill_supervisor();
            stage.start_supervisor()?;
            kills += 1;
        }
        sleep(LOOK_EVERY).await;
    }
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let ends = names.iter().filter_map(|name| last.get(*name)).map(|seen| seen.restarts);
    let ends = ends.fold((u64::MAX, 0), |(least, most), ends| (least.min(ends), most.max(ends)));
    let quarantined = is_down(&last);
    // Somebody else may start them for ever: held, they do nothing.
    let settled = Instant::now() + Duration::from_secs(12);
    while Instant::now() < settled {
        turn(&mut runner)?;
        sleep(LOOK_EVERY).await;
    }
    let working = names.iter().filter(|name| works(&stage.folder, name)).count();
    Ok(Loop { mode, quarantined, of: count, ends, took_ms, kills, working })
}

fn now_ms() -> i64 {
    use domain::time::Clock;
    runtime::clock::SystemClock.now().0
}

fn read_ms(file: &Path) -> Option<i64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}
