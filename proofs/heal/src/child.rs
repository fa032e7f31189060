//! A process that runs the product's loop and breaks when told.
//!
//! Files in the folder `HEAL_DIR` steer it: `<name>.fault` names what to do now and is taken away by it; `<name>.loop` makes it end
//! some seconds after each start. It notes each turn of its loop by writing `<name>.turn`, and the moment it broke in
//! `<name>.at` (ms since the epoch).

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::agent::{AgentSpec, Timer, USUAL_LIMITS};
use domain::message::{Envelope, Message};
use domain::time::Clock;
use runtime::clock::SystemClock;
use runtime::{Agent, Ctx, HandleError};

use crate::fault::Fault;

/// How many there are.
pub const COUNT: usize = 50;
/// Between two looks at the folder.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A life of one that ends again and again.
const LOOP_LIFE: Duration = Duration::from_secs(5);
/// Above the thin budget of 120 MB, and below where it is killed at once (180 MB).
const LEAKED_BYTES: usize = 130 << 20;

/// Their names, `f00` to `f49`.
pub const NAMES: [&str; COUNT] = names();

const ALL: &str = "f00f01f02f03f04f05f06f07f08f09f10f11f12f13f14f15f16f17f18f19f20f21f22f23f24\
                   f25f26f27f28f29f30f31f32f33f34f35f36f37f38f39f40f41f42f43f44f45f46f47f48f49";

const fn names() -> [&'static str; COUNT] {
    let mut names = [""; COUNT];
    let mut rest = ALL;
    let mut at = 0;
    while at < COUNT {
        let (name, more) = rest.split_at(3);
        names[at] = name;
        rest = more;
        at += 1;
    }
    names
}

/// Set when the runtime is to deadlock.
static DEADLOCK: AtomicBool = AtomicBool::new(false);
/// Never given back once it was taken for that.
static LOCK: Mutex<()> = Mutex::new(());

/// The agent of one name.
#[derive(Debug)]
struct Breaking<const N: usize> {
    turn_file: PathBuf,
}

impl<const N: usize> Agent for Breaking<N> {
    const SPEC: AgentSpec = AgentSpec {
        name: NAMES[N],
        job: "breaks when told",
        consumes: &[],
        listens: &[],
        listens_with_store: &[],
        emits: &[],
        timers: &[Timer { name: "turn", every_ms: 200 }],
        tables: &[],
        services: &[],
        asks: &[],
        administers_streams: false,
        limits: USUAL_LIMITS,
        lacks: &[],
    };

    async fn handle(&self, _: &Envelope, _: &mut Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        if DEADLOCK.load(Ordering::SeqCst) {
            // As many as there are threads, and some: none of them ever gets the lock.
            for _ in 0..4 {
                tokio::spawn(async { drop(LOCK.lock()) });
            }
            drop(LOCK.lock());
        }
        std::fs::write(&self.turn_file, b"turn").map_err(|error| HandleError::Retry(error.to_string()))?;
        Ok(Vec::new())
    }
}

fn main_of<const N: usize>() -> ExitCode {
    let folder = PathBuf::from(std::env::var_os("HEAL_DIR").unwrap_or_default());
    runtime::main(|_| Ok(Breaking::<N> { turn_file: turn_file(&folder, NAMES[N]) }))
}

macro_rules! mains {
    ($($n:literal)*) => { [$(main_of::<$n>),*] };
}

const MAINS: [fn() -> ExitCode; COUNT] = mains!(
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24
    25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49
);

/// Where a process notes its turns.
#[must_use]
pub fn turn_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.turn"))
}

/// Where it is told to break.
#[must_use]
pub fn fault_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.fault"))
}

/// Where it notes when it did.
#[must_use]
pub fn at_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.at"))
}

/// What makes it end again and again.
#[must_use]
pub fn loop_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.loop"))
}

/// What makes its next start never end.
#[must_use]
pub fn start_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.start"))
}

/// The life of the process of this name.
#[must_use]
pub fn main(name: &str) -> ExitCode {
    let Some(at) = NAMES.iter().position(|known| *known == name) else {
        eprintln!("heal: no process {name}");
        return ExitCode::from(64);
    };
    let folder = PathBuf::from(std::env::var_os("HEAL_DIR").unwrap_or_default());
    if std::fs::remove_file(start_file(&folder, name)).is_ok() {
        note(&folder, name);
        loop {
            std::thread::park();
        }
    }
    let name = NAMES[at];
    std::thread::spawn(move || obey(&folder, name));
    MAINS[at]()
}

fn note(folder: &Path, name: &str) {
    let half = folder.join(format!("{name}.half"));
    let _ = std::fs::write(&half, SystemClock.now().0.to_string());
    let _ = std::fs::rename(&half, at_file(folder, name));
}

/// Looks for what to do, for as long as the process lives.
fn obey(folder: &Path, name: &str) {
    let born = tokio::time::Instant::now();
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        std::thread::park_timeout(LOOK_EVERY);
        if born.elapsed() > LOOP_LIFE && loop_file(folder, name).exists() {
            std::process::exit(1);
        }
        let file = fault_file(folder, name);
        let Some(fault) = std::fs::read_to_string(&file).ok().and_then(|text| Fault::parse(text.trim())) else {
            continue;
        };
        let _ = std::fs::remove_file(&file);
        match fault {
            Fault::Crash => {
                note(folder, name);
                std::process::exit(1);
            }
            Fault::Hang => {
                note(folder, name);
                let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
            }
            Fault::Deadlock => {
                let guard = LOCK.lock();
                note(folder, name);
                DEADLOCK.store(true, Ordering::SeqCst);
                std::mem::forget(guard);
            }
            Fault::Leak => {
                // Touched, or the kernel would give nothing.
                kept.push(vec![1; LEAKED_BYTES]);
                note(folder, name);
            }
            Fault::IgnoreTerm => {
                deaf_to_term();
                note(folder, name);
            }
            Fault::Starting => {
                let _ = std::fs::write(start_file(folder, name), b"");
                std::process::exit(1);
            }
        }
    }
}

/// SIGTERM is ignored from here on, in the place of the handler that the runtime installed.
#[expect(unsafe_code, reason = "the only way to a signal's disposition; no code of ours runs in a handler")]
fn deaf_to_term() {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: the disposition is "ignore", so no handler runs.
    let _ = unsafe { sigaction(Signal::SIGTERM, &ignore) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_fifty_names_and_each_is_one() {
        assert_eq!((NAMES[0], NAMES[7], NAMES[49]), ("f00", "f07", "f49"));
        assert!(NAMES.iter().all(|name| domain::subject::is_token(name)));
        assert_eq!(NAMES.iter().collect::<std::collections::BTreeSet<_>>().len(), COUNT);
    }
}
