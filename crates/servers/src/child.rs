//! Child processes that do not outlive this one.
//!
//! Linux kills a child by `PR_SET_PDEATHSIG` when the *thread* that made it ends, so all children are made by one thread
//! that lives as long as the process.

use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ServersError;

/// How often a condition that has no event of its own is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A log larger than this is set aside at the next start of its program, bytes.
const LOG_BYTES: u64 = 8 << 20;

/// What to start and how.
#[derive(Debug)]
pub struct Launch {
    /// The program with its arguments, environment and user.
    pub command: Command,
    /// Its name in messages.
    pub name: String,
    /// Where its output goes; appended to.
    pub log: PathBuf,
    /// The signal that asks it to end.
    pub stop_signal: Signal,
    /// The signal it gets from the kernel when this process dies.
    pub death_signal: Signal,
}

/// What a server may see of our environment: where programs and temporary files are, and how much memory it may take. Tokens
/// and settings of others are none of its business.
pub(crate) fn plain_environment(command: &mut Command) {
    let kept = ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "TZ", "GOMEMLIMIT"];
    command.env_clear().envs(kept.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
}

/// A running child. Dropping it stops it.
#[derive(Debug)]
pub struct Child {
    inner: std::process::Child,
    name: String,
    log: PathBuf,
    stop_signal: Signal,
}

type Job = (Launch, mpsc::Sender<Result<Child, ServersError>>);

/// Starts a child in a process group of its own (a Ctrl-C in the terminal is for us alone) that dies with this process.
///
/// # Errors
/// When the log can't be opened or the program can't be started.
pub fn spawn(launch: Launch) -> Result<Child, ServersError> {
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (launch, answer) in jobs {
                // The asker waits for this answer; when it is gone its child is stopped by the drop.
                let _ = answer.send(spawn_here(launch));
            }
        });
        sender
    });
    let gone = || std::io::Error::other("the thread that starts children has ended");
    let (answer, child) = mpsc::channel();
    let name = launch.name.clone();
    spawner.send((launch, answer)).map_err(|_| ServersError::Spawn { program: name.clone(), source: gone() })?;
    child.recv().map_err(|_| ServersError::Spawn { program: name, source: gone() })?
}

fn spawn_here(launch: Launch) -> Result<Child, ServersError> {
    let Launch { mut command, name, log, stop_signal, death_signal } = launch;
    let file_error = |source| ServersError::File { action: "opening the log", path: log.clone(), source };
    set_aside(&log).map_err(file_error)?;
    let output = OpenOptions::new().create(true).append(true).open(&log).map_err(file_error)?;
    let errors = output.try_clone().map_err(file_error)?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    die_with_parent(&mut command, death_signal);
    let inner = command.spawn().map_err(|source| ServersError::Spawn { program: name.clone(), source })?;
    Ok(Child { inner, name, log, stop_signal })
}

/// A log that has grown beyond [`LOG_BYTES`] is named `<log>.1` before a program goes on writing it.
fn set_aside(log: &std::path::Path) -> std::io::Result<()> {
    if !std::fs::metadata(log).is_ok_and(|meta| meta.is_file() && meta.len() > LOG_BYTES) {
        return Ok(());
    }
    let mut aside = log.to_owned().into_os_string();
    aside.push(".1");
    std::fs::rename(log, aside)
}

#[expect(unsafe_code, reason = "pre_exec is unsafe by nature; the closure makes only async-signal-safe system calls")]
fn die_with_parent(command: &mut Command, signal: Signal) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only prctl and getppid are called, both async-signal-safe; nothing is allocated
    // (an error made from a raw code does not allocate). A change of user clears the setting, and the standard library
    // changes the user before it runs this closure.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The parent may have died before the setting was in force.
            if libc::getppid().cast_unsigned() != parent {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

impl Child {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.inner.id()
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> &std::path::Path {
        &self.log
    }

    /// How it ended, when it has.
    ///
    /// # Errors
    /// When the kernel won't say.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, ServersError> {
        self.inner.try_wait().map_err(|e| ServersError::System(format!("asking after {}", self.name), e))
    }

    /// Asks it to end, waits up to `patience`, then kills it. `true`: it ended by itself.
    ///
    /// # Errors
    /// When it can't be signalled or waited for.
    pub fn stop(&mut self, patience: Duration) -> Result<bool, ServersError> {
        if self.try_wait()?.is_some() {
            return Ok(true);
        }
        let pid = Pid::from_raw(self.inner.id().cast_signed());
        kill(pid, self.stop_signal)
            .map_err(|e| ServersError::System(format!("asking {} to end", self.name), std::io::Error::from(e)))?;
        let started = Instant::now();
        while started.elapsed() < patience {
            if self.try_wait()?.is_some() {
                return Ok(true);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        tracing::warn!(program = self.name, "did not end in time and was killed");
        self.kill()?;
        Ok(false)
    }

    /// Kills it as a crash does, and waits for its end.
    ///
    /// # Errors
    /// When it can't be killed.
    pub fn kill(&mut self) -> Result<(), ServersError> {
        let killed = self.inner.kill().and_then(|()| self.inner.wait());
        killed.map(drop).map_err(|e| ServersError::System(format!("killing {}", self.name), e))
    }

    /// Waits until `ready` says so, the child ends or `patience` is over.
    ///
    /// # Errors
    /// [`ServersError::Died`] with the end of its log, or [`ServersError::NotReady`].
    pub fn wait_until_ready(
        &mut self,
        patience: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<(), ServersError> {
        let started = Instant::now();
        loop {
            if ready() {
                return Ok(());
            }
            if let Some(status) = self.try_wait()? {
                return Err(ServersError::Died {
                    program: self.name.clone(),
                    status: describe(status),
                    log: self.log.clone(),
                    tail: tail(&self.log),
                });
            }
            if started.elapsed() > patience {
                let waited_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
                return Err(ServersError::NotReady { program: self.name.clone(), waited_ms, log: self.log.clone() });
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Err(error) = self.stop(Duration::from_secs(10)) {
            tracing::warn!(program = self.name, %error, "could not be stopped");
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown end".to_owned(),
    }
}

/// The last lines of a log.
fn tail(log: &std::path::Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &std::path::Path, script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        spawn(Launch {
            command,
            name: "sleeper".into(),
            log: folder.join("log"),
            stop_signal: Signal::SIGTERM,
            death_signal: Signal::SIGKILL,
        })
        .unwrap()
    }

    #[test]
    fn a_child_that_heeds_the_signal_ends_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper(folder.path(), "exec sleep 60");
        assert!(child.stop(Duration::from_secs(10)).unwrap());
        assert!(child.try_wait().unwrap().is_some());
    }

    #[test]
    fn a_deaf_child_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper(folder.path(), "trap '' TERM; echo deaf; while :; do sleep 0.1; done");
        child.wait_until_ready(Duration::from_secs(10), || tail(&folder.path().join("log")) == "deaf").unwrap();
        assert!(!child.stop(Duration::from_millis(50)).unwrap());
    }

    #[test]
    fn a_log_that_has_grown_is_set_aside_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        for (bytes, kept) in [(LOG_BYTES, true), (LOG_BYTES + 1, false)] {
            std::fs::File::create(&log).unwrap().set_len(bytes).unwrap();
            drop(sleeper(folder.path(), "exec sleep 60"));
            assert_eq!(std::fs::metadata(&log).unwrap().len() >= bytes, kept, "{bytes}");
        }
        assert_eq!(std::fs::metadata(folder.path().join("log.1")).unwrap().len(), LOG_BYTES + 1);
    }

    #[test]
    fn a_child_that_ends_early_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper(folder.path(), "echo port in use >&2; exit 3");
        let error = child.wait_until_ready(Duration::from_secs(10), || false).unwrap_err().to_string();
        assert!(error.contains("exit code 3") && error.ends_with("port in use"), "{error}");
    }
}
