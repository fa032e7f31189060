//! What the host says of itself, from /proc. Nothing is said where there is no /proc.

/// Memory of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it, bytes.
    pub total_bytes: u64,
    /// What a new process could get without swapping, bytes.
    pub available_bytes: u64,
}

/// Memory of the host, from /proc/meminfo.
#[must_use]
pub fn memory() -> Option<Memory> {
    parse_memory(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_memory(text: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(Memory { total_bytes: bytes("MemTotal")?, available_bytes: bytes("MemAvailable")? })
}

/// Load of the last minute in thousandths, from /proc/loadavg.
#[must_use]
pub fn load_milli() -> Option<u64> {
    parse_load(&std::fs::read_to_string("/proc/loadavg").ok()?)
}

fn parse_load(text: &str) -> Option<u64> {
    let (whole, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    Some(whole.parse::<u64>().ok()?.checked_mul(1_000)? + hundredths.parse::<u64>().ok()?.checked_mul(10)?)
}

/// A count for a gauge, which is a float; exact up to 2^53.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "gauges are floats; a byte count loses nothing that anybody reads")]
pub const fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_texts_are_read() {
        let text = "MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(parse_memory(text), Some(Memory { total_bytes: 16_777_216, available_bytes: 2_097_152 }));
        assert_eq!(parse_memory("MemTotal: x kB"), None);
        assert_eq!(parse_load("1.25 0.80 0.70 1/200 4242"), Some(1_250));
        assert_eq!(parse_load("idle"), None);
    }
}
