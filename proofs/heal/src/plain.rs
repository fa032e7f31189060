//! A runner that starts again whatever ended, for ever, and calls "online" what has a process: how most process managers do by
//! default.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::UNIX_EPOCH;

use domain::time::Clock;
use runtime::clock::SystemClock;
use tokio::time::{Duration, Instant};

use crate::child::turn_file;

/// Before what ended is started again.
const PAUSE: Duration = Duration::from_millis(100);
/// A process that noted no turn for so long does not work, whatever it is called.
const WORKS_WITHIN: Duration = Duration::from_secs(2);

/// The runner.
#[derive(Debug)]
pub struct RestartAlways {
    jobs: BTreeMap<String, Job>,
}

#[derive(Debug)]
struct Job {
    env: BTreeMap<String, String>,
    child: Option<Child>,
    not_before: Instant,
    starts: u64,
}

impl RestartAlways {
    /// Knows what to run.
    #[must_use]
    pub fn new(jobs: impl IntoIterator<Item = (String, BTreeMap<String, String>)>) -> Self {
        let now = Instant::now();
        let job = |env| Job { env, child: None, not_before: now, starts: 0 };
        Self { jobs: jobs.into_iter().map(|(name, env)| (name, job(env))).collect() }
    }

    /// Starts what is not there.
    ///
    /// # Errors
    /// What the system says.
    pub fn turn(&mut self) -> std::io::Result<()> {
        let program = std::env::current_exe()?;
        for (name, job) in &mut self.jobs {
            if let Some(child) = &mut job.child
                && child.try_wait()?.is_some()
            {
                job.child = None;
                job.not_before = Instant::now() + PAUSE;
            }
            if job.child.is_none() && Instant::now() >= job.not_before {
                let log = format!("{}/{name}.log", job.env.get("HEAL_DIR").map_or(".", String::as_str));
                let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
                let mut command = Command::new(&program);
                command.env_clear().envs(&job.env).stdin(Stdio::null());
                job.child = Some(command.stdout(log.try_clone()?).stderr(log).spawn()?);
                job.starts += 1;
            }
        }
        Ok(())
    }

    /// How many it calls online: those with a process.
    #[must_use]
    pub fn online(&mut self) -> usize {
        self.jobs
            .values_mut()
            .filter_map(|job| job.child.as_mut())
            .filter_map(|child| child.try_wait().ok())
            .filter(Option::is_none)
            .count()
    }

    /// How often it started something beyond the first time.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.jobs.values().map(|job| job.starts.saturating_sub(1)).sum()
    }

    /// The processes there are, by name.
    pub fn pids(&self) -> impl Iterator<Item = (&str, u32)> {
        self.jobs.iter().filter_map(|(name, job)| Some((name.as_str(), job.child.as_ref()?.id())))
    }

    /// Ends all of them.
    pub fn end(&mut self) {
        for job in self.jobs.values_mut() {
            if let Some(mut child) = job.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl Drop for RestartAlways {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether a process does its work: it noted a turn not long ago.
#[must_use]
pub fn works(folder: &Path, name: &str) -> bool {
    let noted = std::fs::metadata(turn_file(folder, name)).and_then(|data| data.modified()).ok();
    let noted_ms = noted.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_millis());
    let now_ms = u128::try_from(SystemClock.now().0).unwrap_or(0);
    noted_ms.is_some_and(|at| now_ms.saturating_sub(at) < WORKS_WITHIN.as_millis())
}
