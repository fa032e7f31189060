//! Processes of a running swarm, found from outside: by the notes the supervisor keeps and by the kernel's own tree.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// One process; a later one with the same id is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    start_ticks: u64,
}

impl Process {
    /// The process that has this id now.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let (state, start_ticks) = stat(pid)?;
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, start_ticks })
    }

    /// Whether it still runs (or is stopped).
    #[must_use]
    pub fn runs(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Sends a signal; `false` when it is gone.
    #[must_use]
    pub fn signal(&self, signal: Signal) -> bool {
        self.runs() && kill(Pid::from_raw(self.pid.cast_signed()), signal).is_ok()
    }
}

/// State letter and start time in clock ticks (proc(5), fields 3 and 22, counted after the name's last bracket).
fn stat(pid: u32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The process an agent runs as, from the supervisor's note of it.
#[must_use]
pub fn of_agent(notes_dir: &Path, agent: &str) -> Option<Process> {
    let note: Value = serde_json::from_slice(&std::fs::read(notes_dir.join(format!("{agent}.json"))).ok()?).ok()?;
    let process = Process::of(u32::try_from(note["pid"].as_u64()?).ok()?)?;
    (note["start_ticks"].as_u64() == Some(process.start_ticks)).then_some(process)
}

/// Children of all threads of a process.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// A process and everything below it.
#[must_use]
pub fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        all.extend(children(pid));
        at += 1;
    }
    all
}

/// Resident memory of a process that is its own, bytes: what it shares with others through files and segments is left out.
#[must_use]
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// The child of `parent` with this name.
#[must_use]
pub fn child_named(parent: u32, name: &str) -> Option<Process> {
    let is_it = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
    children(parent).into_iter().find(is_it).and_then(Process::of)
}

/// Sessions of agents among the children of a PostgreSQL server, by the login in their title.
#[must_use]
pub fn sessions(postmaster: u32, logins: &[&str]) -> Vec<Process> {
    let of_agent = |pid: &u32| {
        let title = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let login = title.strip_prefix("postgres: ").and_then(|rest| rest.split_whitespace().next());
        login.is_some_and(|login| logins.contains(&login))
    };
    children(postmaster).into_iter().filter(of_agent).filter_map(Process::of).collect()
}

/// Programs of a swarm, as the kernel names their processes (the first 15 bytes).
fn is_ours(name: &str) -> bool {
    let own = ["swarm", "nats-server", "postgres", "valkey-server", "redis-server"];
    let mut processes = crate::strike::AGENTS.iter().chain(&crate::strike::OTHERS);
    own.contains(&name) || processes.any(|process| process.get(..15).unwrap_or(process) == name)
}

/// Processes of a swarm whose command line or environment names `folder`: what a run left behind.
#[must_use]
pub fn naming(folder: &Path) -> Vec<(u32, String)> {
    let needle = folder.as_os_str().as_encoded_bytes().to_vec();
    let own = std::process::id();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own && Process::of(*pid).is_some())
        .filter(|pid| {
            let names = |file: &str| {
                let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                bytes.windows(needle.len()).any(|part| part == needle)
            };
            names("cmdline") || names("environ")
        })
        .map(|pid| (pid, std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()))
        .filter(|(_, name)| is_ours(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_runs_and_a_later_one_with_its_id_is_another() {
        let own = Process::of(std::process::id()).unwrap();
        assert!(own.runs());
        assert!(!Process { start_ticks: own.start_ticks + 1, ..own }.runs());
        assert!(naming(Path::new("/no such folder anywhere")).is_empty());
    }
}
