//! CPU of one thread and of one process, to the nanosecond: ticks of 10 ms say nothing about 100 us.

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, gettid};

use crate::bench_error::BenchError;

/// A thread of this process.
#[derive(Debug, Clone, Copy)]
pub struct Thread(Pid);

/// The thread that asks.
pub fn this_thread() -> Thread {
    Thread(gettid())
}

impl Thread {
    /// CPU that it used, us; 0 when it is gone.
    pub fn cpu_us(self) -> f64 {
        let path = format!("/proc/self/task/{}/schedstat", self.0);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e3
    }
}

/// CPU that a process used with all its threads, us.
///
/// # Errors
/// [`BenchError::System`], when it is gone.
pub fn process_us(pid: u32) -> Result<f64, BenchError> {
    let wrong = |error| BenchError::System("the CPU clock of a process", error);
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed())).map_err(wrong)?;
    let time = clock_gettime(clock).map_err(wrong)?;
    Ok(time.tv_sec() as f64 * 1e6 + time.tv_nsec() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_both_clocks() {
        let (thread, before) = (this_thread(), process_us(std::process::id()).unwrap());
        let begun = thread.cpu_us();
        let mut sum = 0_u64;
        // The kernel brings the thread's figure up to date at its ticks.
        while thread.cpu_us() - begun < 1_000.0 {
            sum = (0..100_000_u64).fold(sum, |sum, n| std::hint::black_box(sum.wrapping_add(n)));
        }
        assert!(process_us(std::process::id()).unwrap() - before >= 900.0, "{sum}");
    }
}
