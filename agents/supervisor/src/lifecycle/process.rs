//! One running agent: a child of ours, or one that an earlier supervisor started and we adopted.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use domain::ids::BootId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{Launch, Places};

/// What is left in `<notes dir>/<agent>.json` for the next supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note {
    pid: u32,
    /// Start time in clock ticks since boot: tells a process from a later one with the same id.
    start_ticks: u64,
    boot_id: BootId,
    /// The machine's own start: what ran before it ended with it.
    #[serde(default)]
    machine: String,
}

/// What a note of an earlier supervisor tells.
#[derive(Debug)]
pub(super) enum Recalled {
    /// It runs.
    Running(Process),
    /// It ended, and nobody may have counted that yet. How it ended; `None` when the machine went down with it.
    Ended(BootId, Option<String>),
    /// Somebody else starts it; the start that was known last.
    Known(BootId),
}

impl Note {
    /// A new file renamed over the old one: a crash leaves one of the two whole.
    fn write(&self, file: &Path) -> io::Result<()> {
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, serde_json::to_vec(self)?)?;
        std::fs::rename(&fresh, file)
    }
}

/// One running agent.
#[derive(Debug)]
pub struct Process {
    places: Places,
    name: String,
    note: Note,
    child: Option<Child>,
}

impl Process {
    /// Starts an agent in a process group of its own, with its own environment and nothing of ours but `PATH`.
    pub(super) fn start(places: &Places, name: &str, launch: &Launch, boot_id: BootId) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(&launch.log)?;
        let child = Command::new(&launch.program)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(&launch.env)
            .env("SWARM_SUPERVISED", "1")
            .env("SWARM_BOOT_ID", boot_id.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let pid = child.id();
        let start_ticks = stat(pid).map_or(0, |(_, ticks)| ticks);
        let note = Note { pid, start_ticks, boot_id, machine: machine() };
        let mut process = Self { places: places.clone(), name: name.to_owned(), note, child: Some(child) };
        // Without its note no later supervisor would know of it and would start a second one beside it.
        if let Err(error) = process.note.write(&path(places, name)) {
            process.kill();
            return Err(error);
        }
        Ok(process)
    }

    /// Takes over the process that an earlier supervisor started, when it is still that one.
    pub(super) fn adopt(places: &Places, name: &str) -> Option<Self> {
        match Self::recall(places, name)? {
            Recalled::Running(process) => Some(process),
            Recalled::Ended(..) | Recalled::Known(_) => None,
        }
    }

    /// What an earlier supervisor left about a process; `None` when there was none, or it ended as it was asked to.
    pub(super) fn recall(places: &Places, name: &str) -> Option<Recalled> {
        let note: Note = serde_json::from_slice(&std::fs::read(path(places, name)).ok()?).ok()?;
        if note.pid == 0 {
            return Some(Recalled::Known(note.boot_id));
        }
        let process = Self { places: places.clone(), name: name.to_owned(), note, child: None };
        if process.is_running() {
            return Some(Recalled::Running(process));
        }
        let is_same_machine = process.note.machine == machine();
        Some(Recalled::Ended(process.note.boot_id, is_same_machine.then(|| process.left_behind())))
    }

    /// Keeps which start of a process is known that somebody else started.
    pub(super) fn note_external(places: &Places, name: &str, boot_id: BootId) -> io::Result<()> {
        Note { pid: 0, start_ticks: 0, boot_id, machine: machine() }.write(&path(places, name))
    }

    /// It ended as it was asked to: the next supervisor has nothing to count.
    pub(super) fn forget(places: &Places, name: &str) {
        if let Err(error) = std::fs::remove_file(path(places, name))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, name, "the note of an ended process stays: its end will be counted");
        }
    }

    /// Its process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.note.pid
    }

    /// Whether its end is signalled to us.
    pub(super) const fn is_child(&self) -> bool {
        self.child.is_some()
    }

    /// This start of it.
    #[must_use]
    pub const fn boot_id(&self) -> BootId {
        self.note.boot_id
    }

    /// How long it runs, by the kernel.
    pub(super) fn age(&self) -> Option<std::time::Duration> {
        let up = std::fs::read_to_string("/proc/uptime").ok()?;
        let up: f64 = up.split_whitespace().next()?.parse().ok()?;
        let started = std::time::Duration::from_millis(
            self.note.start_ticks.saturating_mul(1_000) / super::usage::ticks_a_second(),
        );
        std::time::Duration::try_from_secs_f64(up).ok()?.checked_sub(started)
    }

    /// How it ended; `None` while it runs.
    pub(super) fn ended(&mut self) -> Option<String> {
        let Some(child) = &mut self.child else {
            return (!self.is_running()).then(|| self.left_behind());
        };
        match child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "gone".to_owned(),
            }),
            Err(error) => Some(format!("gone: {error}")),
        }
    }

    /// How a process ended that is no child of ours, by what it left.
    fn left_behind(&self) -> String {
        runtime::ending::read(&self.places.run_dir, &self.name, &self.note.boot_id.to_string())
            .map_or_else(|| "gone".to_owned(), |code| format!("exit {code}"))
    }

    /// Whether the kernel still runs exactly this process.
    pub(super) fn is_running(&self) -> bool {
        stat(self.note.pid).is_some_and(|(state, ticks)| ticks == self.note.start_ticks && !matches!(state, 'Z' | 'X'))
    }

    /// SIGTERM: drain and exit.
    pub(super) fn ask_to_end(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// SIGKILL, and no zombie left.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }

    fn signal(&self, signal: Signal) {
        if !self.is_running() {
            return;
        }
        let Ok(pid) = i32::try_from(self.note.pid) else { return };
        if let Err(error) = kill(Pid::from_raw(pid), signal) {
            tracing::warn!(%error, pid, "signal not sent");
        }
    }
}

/// The machine's start, by the kernel's own id of it; empty where there is none.
fn machine() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

fn path(places: &Places, name: &str) -> PathBuf {
    places.notes_dir.join(format!("{name}.json"))
}

/// State letter and start time of a process, from /proc/<pid>/stat (proc(5): fields 3 and 22; the name in field 2 may
/// hold spaces and brackets, so counting starts after its last one).
fn stat(pid: u32) -> Option<(char, u64)> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<(char, u64)> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let ticks = fields.nth(18)?.parse().ok()?;
    Some((state, ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(folder: &Path) -> Places {
        Places { run_dir: folder.to_owned(), notes_dir: folder.to_owned() }
    }

    #[test]
    fn a_stat_line_is_read_past_a_name_with_brackets() {
        let line = "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        assert_eq!(parse_stat(line), Some(('S', 987_654)));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn a_process_that_no_note_can_tell_of_is_ended_again() {
        let folder = std::env::temp_dir().join(format!("swarm-note-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let pid_file = folder.join("pid");
        let program = folder.join("agent.sh");
        std::fs::write(&program, format!("#!/bin/sh\necho $$ > {}\nexec sleep 600\n", pid_file.display())).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let launch = Launch { program, env: std::collections::BTreeMap::new(), log: folder.join("log") };
        let missing = folder.join("no such folder");
        assert!(Process::start(&places(&missing), "agent", &launch, BootId(uuid::Uuid::nil())).is_err());
        let left = std::fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok());
        assert!(left.is_none_or(|pid| stat(pid).is_none_or(|(state, _)| matches!(state, 'Z' | 'X'))), "{left:?} runs");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn an_adopted_process_that_said_how_it_ended_is_not_just_gone() {
        let folder = std::env::temp_dir().join(format!("swarm-adopted-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let boot_id = BootId(uuid::Uuid::from_u128(7));
        let mut adopted = Process {
            places: places(&folder),
            name: "agent".into(),
            // No process of this id started then.
            note: Note { pid: std::process::id(), start_ticks: 1, boot_id, machine: machine() },
            child: None,
        };
        assert_eq!(adopted.ended().as_deref(), Some("gone"));
        std::fs::write(folder.join("agent.ended"), format!("{boot_id} 75\n")).unwrap();
        assert_eq!(adopted.ended().as_deref(), Some("exit 75"), "an outage, which uses up no restart");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_a_dead_supervisor_left_says_whether_an_end_is_to_be_counted() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        let recall = || Process::recall(&places, "agent");
        assert!(recall().is_none());
        let boot_id = BootId(uuid::Uuid::from_u128(7));
        let (_, ticks) = stat(std::process::id()).unwrap();
        let write = |pid, start_ticks, machine| {
            Note { pid, start_ticks, boot_id, machine }.write(&path(&places, "agent")).unwrap();
        };
        write(std::process::id(), ticks, machine());
        assert!(matches!(recall(), Some(Recalled::Running(_))));
        write(std::process::id(), ticks + 1, machine());
        assert!(matches!(recall(), Some(Recalled::Ended(of, Some(how))) if of == boot_id && how == "gone"));
        write(std::process::id(), ticks + 1, "another start of the machine".to_owned());
        assert!(matches!(recall(), Some(Recalled::Ended(of, None)) if of == boot_id));
        Process::note_external(&places, "agent", boot_id).unwrap();
        assert!(matches!(recall(), Some(Recalled::Known(of)) if of == boot_id));
        Process::forget(&places, "agent");
        assert!(recall().is_none());
        Process::forget(&places, "agent");
    }

    #[test]
    fn our_own_process_is_found_and_a_stranger_with_the_same_id_is_not() {
        let pid = std::process::id();
        let (_, ticks) = stat(pid).unwrap();
        let of = |start_ticks| Process {
            places: places(Path::new("")),
            name: "agent".into(),
            note: Note { pid, start_ticks, boot_id: BootId(uuid::Uuid::nil()), machine: machine() },
            child: None,
        };
        assert!(of(ticks).is_running());
        assert!(!of(ticks + 1).is_running());
        assert!(of(ticks).age().unwrap() < std::time::Duration::from_secs(3_600));
        assert_eq!(of(u64::MAX).age(), None, "a start in the future");
    }
}
