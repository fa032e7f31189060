//! Processes as the kernel shows them: family, CPU, memory.

use std::collections::BTreeMap;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its program, cut to 15 characters by the kernel.
    pub name: String,
    /// CPU it used, user and system, in ticks.
    pub ticks: u64,
}

/// Memory of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Resident, KiB.
    pub rss_kib: u64,
    /// Resident, pages shared with others counted in part, KiB.
    pub pss_kib: u64,
}

/// Ticks a second in `/proc`: 100 on every Linux that Rust runs on.
pub const fn ticks_per_second() -> f64 {
    100.0
}

/// `root` and everything below it.
pub fn family(root: u32) -> Vec<Process> {
    let mut all: BTreeMap<u32, Process> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(process) = parse(pid, &stat) {
            all.insert(pid, process);
        }
    }
    let within = |mut pid: u32| loop {
        if pid == root {
            return true;
        }
        match all.get(&pid) {
            Some(process) if process.parent != pid => pid = process.parent,
            _ => return false,
        }
    };
    all.values().filter(|process| within(process.pid)).cloned().collect()
}

/// `pid (name) state ppid ..`; a name may hold anything, so it ends at the last bracket.
fn parse(pid: u32, stat: &str) -> Option<Process> {
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let parent = u32::try_from(number(1)?).ok()?;
    Some(Process { pid, parent, name, ticks: number(11)? + number(12)? })
}

/// Memory of one process; `None` when it is gone or not ours to look at.
pub fn memory(pid: u32) -> Option<Memory> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some(Memory { rss_kib: kib("Rss:")?, pss_kib: kib("Pss:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_brackets_and_spaces() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194560 100 0 0 0 11 22 0 0 20 0 1 0 5 6 7";
        let expected = Process { pid: 42, parent: 7, name: "a) b (c".to_owned(), ticks: 33 };
        assert_eq!(parse(42, stat), Some(expected));
        assert_eq!(parse(1, "1 (x"), None);
    }

    #[test]
    fn this_process_is_its_own_family_and_has_memory() {
        let me = std::process::id();
        assert!(family(me).iter().any(|process| process.pid == me));
        let memory = memory(me).unwrap();
        assert!(memory.rss_kib >= memory.pss_kib && memory.pss_kib > 0);
    }
}
