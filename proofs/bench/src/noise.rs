//! How much of the machine was taken by strangers while something was measured: a figure from a busy machine is a figure
//! of the busy machine.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::processes;

/// Strangers' share of all cores above which a figure is marked.
pub const NOISY_PERCENT: f64 = 8.0;

/// A look at the machine, taken when a measurement begins.
#[derive(Debug)]
pub struct Noise {
    began: Instant,
    busy: u64,
    stolen: u64,
    own: BTreeMap<u32, u64>,
}

impl Noise {
    /// Begins.
    pub fn begin() -> Self {
        let (busy, stolen) = machine();
        Self { began: Instant::now(), busy, stolen, own: own() }
    }

    /// Percent of all cores that went to processes which are not ours, and to other machines on the same host.
    pub fn strangers_percent(&self) -> f64 {
        let (busy, stolen) = machine();
        let ours: u64 = own().iter().map(|(pid, now)| now.saturating_sub(*self.own.get(pid).unwrap_or(&0))).sum();
        let all = (busy - self.busy.min(busy)) + (stolen - self.stolen.min(stolen));
        let ticks = self.began.elapsed().as_secs_f64() * processes::ticks_per_second() * cores();
        if ticks <= 0.0 {
            return 0.0;
        }
        (all.saturating_sub(ours) as f64 / ticks * 100.0).clamp(0.0, 100.0)
    }
}

fn own() -> BTreeMap<u32, u64> {
    processes::family(std::process::id()).into_iter().map(|p| (p.pid, p.ticks)).collect()
}

/// Cores of this machine.
pub fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64)
}

/// Ticks of all cores that were not idle, and those taken by the host.
fn machine() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    parse(text.lines().next().unwrap_or_default())
}

/// `cpu user nice system idle iowait irq softirq steal ..`
fn parse(line: &str) -> (u64, u64) {
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let at = |n: usize| fields.get(n).copied().unwrap_or(0);
    (at(0) + at(1) + at(2) + at(5) + at(6), at(7))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_for_the_disk_are_not_busy() {
        assert_eq!(parse("cpu  100 20 30 4000 500 6 7 8 0 0"), (163, 8));
        assert_eq!(parse(""), (0, 0));
    }

    #[test]
    fn a_look_at_oneself_finds_no_stranger_in_ones_own_work() {
        let noise = Noise::begin();
        let percent = noise.strangers_percent();
        assert!((0.0..=100.0).contains(&percent), "{percent}");
    }
}
