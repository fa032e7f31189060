//! What processes and the machine use, from /proc. Where there is none, nothing is known and nothing is limited.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::time::{Duration, Instant};

use super::settings::Profile;

/// Looks in a row that must see a process above its budget: a peak is no leak.
pub const LOOKS: u32 = 3;
/// Between two processes that are ended to free memory: the first needs time to be gone.
pub const FLUSH_EVERY: Duration = Duration::from_secs(30);
/// Over how long the share of a core is measured.
pub const CPU_OVER: Duration = Duration::from_secs(300);

/// What one process was seen to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// Time on a core since its start, ms.
    pub cpu_ms: u64,
}

/// What to do about a process's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooMuch {
    /// Above its budget: ask it to end.
    Drain,
    /// Far above it: end it.
    Kill,
}

/// Memory of one process over the last looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Appetite {
    above: u32,
}

impl Appetite {
    /// Takes one more look; says what to do.
    pub fn look(&mut self, rss_bytes: u64, profile: &Profile) -> Option<TooMuch> {
        if rss_bytes > profile.memory_limit_bytes() {
            return Some(TooMuch::Kill);
        }
        self.above = if rss_bytes > profile.memory_bytes { self.above + 1 } else { 0 };
        (self.above >= LOOKS).then_some(TooMuch::Drain)
    }
}

/// Who is ended because the machine has too little memory left.
#[derive(Debug, Clone, Copy, Default)]
pub struct Floor {
    below: u32,
    flushed_at: Option<Instant>,
}

impl Floor {
    /// Takes one more look at what is left; names the largest of `sizes` (processes that may be ended) when that must be.
    pub fn look<'a>(
        &mut self,
        available_bytes: u64,
        floor_bytes: u64,
        sizes: impl Iterator<Item = (&'a str, u64)>,
        now: Instant,
    ) -> Option<&'a str> {
        self.below = if available_bytes < floor_bytes { self.below + 1 } else { 0 };
        let is_pause = self.flushed_at.is_some_and(|at| now.duration_since(at) < FLUSH_EVERY);
        if self.below < LOOKS || is_pause {
            return None;
        }
        let (name, _) = sizes.max_by_key(|(name, bytes)| (*bytes, std::cmp::Reverse(*name)))?;
        self.flushed_at = Some(now);
        Some(name)
    }
}

/// Share of a core over the last minutes.
#[derive(Debug, Clone, Default)]
pub struct CpuShare {
    seen: std::collections::VecDeque<(Instant, u64)>,
}

impl CpuShare {
    /// Takes one more look; the share in percent of one core over [`CPU_OVER`], `None` until that much time was seen.
    pub fn look(&mut self, cpu_ms: u64, now: Instant) -> Option<u64> {
        if self.seen.back().is_some_and(|(_, before)| cpu_ms < *before) {
            // Another process under the same name.
            self.seen.clear();
        }
        self.seen.push_back((now, cpu_ms));
        while self.seen.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= CPU_OVER) {
            self.seen.pop_front();
        }
        let (at, before) = *self.seen.front()?;
        let passed = u64::try_from(now.duration_since(at).as_millis()).unwrap_or(u64::MAX);
        (now.duration_since(at) >= CPU_OVER).then(|| (cpu_ms - before).saturating_mul(100) / passed.max(1))
    }
}

/// What a process uses now.
#[must_use]
pub fn of_process(pid: u32) -> Option<Usage> {
    let folder = Path::new("/proc").join(pid.to_string());
    let pages = std::fs::read_to_string(folder.join("statm")).ok()?;
    let pages: u64 = pages.split_whitespace().nth(1)?.parse().ok()?;
    let cpu_ms =
        cpu_ticks(&std::fs::read_to_string(folder.join("stat")).ok()?)?.saturating_mul(1_000) / ticks_a_second();
    Some(Usage { rss_bytes: pages.saturating_mul(page_bytes()), cpu_ms })
}

/// Time on a core in clock ticks, of a line of /proc/<pid>/stat (proc(5): fields 14 and 15; the name in field 2 may hold
/// spaces and brackets, so counting starts after its last one).
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    user.checked_add(system)
}

/// Clock ticks a second, the unit of times in /proc/<pid>/stat.
pub(super) fn ticks_a_second() -> u64 {
    let known = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    known.and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0).unwrap_or(100)
}

fn page_bytes() -> u64 {
    let known = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    known.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0).unwrap_or(4_096)
}

/// What a new process could get without swapping, bytes.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    parse_available(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// Which processes of a plan may be ended to free memory, with their size.
pub fn may_be_flushed<'a>(
    sizes: &'a BTreeMap<String, u64>,
    is_critical: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = (&'a str, u64)> {
    sizes.iter().filter(move |(name, _)| !is_critical(name)).map(|(name, bytes)| (name.as_str(), *bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;
    const THIN: Profile = Profile {
        name: "thin",
        memory_bytes: 100 * MB,
        cpu_percent: 50,
        prompt_tokens: 1,
        answer_tokens: 1,
        recall: 0,
    };

    #[test]
    fn a_peak_is_borne_and_what_stays_is_not() {
        let mut appetite = Appetite::default();
        let mut look = |mb: u64| appetite.look(mb * MB, &THIN);
        assert_eq!([look(100), look(101), look(101), look(100)], [None; 4]);
        assert_eq!([look(101), look(101), look(101)], [None, None, Some(TooMuch::Drain)]);
        assert_eq!(look(150), Some(TooMuch::Drain));
        assert_eq!(look(151), Some(TooMuch::Kill), "at once");
    }

    #[test]
    fn below_the_floor_the_largest_goes_that_may_and_then_nobody_for_a_while() {
        let start = Instant::now();
        let sizes = BTreeMap::from([("treasury", 90), ("a", 20), ("b", 30), ("c", 30)].map(|(n, s)| (n.to_owned(), s)));
        let mut floor = Floor::default();
        let mut look = |available, seconds| {
            let may = may_be_flushed(&sizes, |name| name == "treasury");
            floor.look(available, 500, may, start + Duration::from_secs(seconds)).map(str::to_owned)
        };
        assert_eq!([look(499, 0), look(499, 1), look(500, 2)], [None, None, None]);
        assert_eq!([look(1, 3), look(1, 4)], [None, None]);
        assert_eq!(look(1, 5).as_deref(), Some("b"), "the largest, the first by name of two");
        assert_eq!([look(1, 6), look(1, 34)], [None, None]);
        assert_eq!(look(1, 35).as_deref(), Some("b"));
        let mut floor = Floor::default();
        let nobody = |floor: &mut Floor| floor.look(1, 500, std::iter::empty(), start).map(str::to_owned);
        assert_eq!([nobody(&mut floor), nobody(&mut floor), nobody(&mut floor)], [None, None, None]);
    }

    #[test]
    fn a_share_of_a_core_is_told_after_it_was_seen_long_enough() {
        let start = Instant::now();
        let mut share = CpuShare::default();
        let mut look = |cpu_ms, seconds| share.look(cpu_ms, start + Duration::from_secs(seconds));
        assert_eq!(look(1_000, 0), None);
        assert_eq!(look(31_000, 299), None);
        assert_eq!(look(31_000, 300), Some(10));
        assert_eq!(look(331_000, 600), Some(100));
        assert_eq!(look(0, 601), None, "another process");
    }

    #[test]
    fn texts_of_proc_are_read() {
        let line = "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 150 60 7 8 20 0 1 0 987654 1 2 3";
        assert_eq!(cpu_ticks(line), Some(210));
        assert_eq!(cpu_ticks("nonsense"), None);
        assert_eq!(parse_available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2_097_152));
        assert_eq!(parse_available("MemAvailable: x kB"), None);
        let own = of_process(std::process::id()).unwrap();
        assert!(own.rss_bytes > MB);
        assert_eq!(of_process(u32::MAX), None);
    }
}
