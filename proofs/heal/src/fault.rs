//! What is done to a process, and within which time the supervisor says that it sees and ends it.

use tokio::time::Duration;

/// One way to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It ends by itself.
    Crash,
    /// It is there and does nothing any more (SIGSTOP to itself).
    Hang,
    /// Both threads of its async runtime wait for a lock that nobody gives back.
    Deadlock,
    /// It takes memory above its budget and keeps it.
    Leak,
    /// It is asked to end and does not listen.
    IgnoreTerm,
    /// It never gets through its start.
    Starting,
}

impl Fault {
    /// All of them, in the order they are played: what they use up of the windows just fits.
    pub const ALL: [Self; 6] = [Self::Crash, Self::Hang, Self::Deadlock, Self::Leak, Self::IgnoreTerm, Self::Starting];

    /// Its name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Deadlock => "deadlock",
            Self::Leak => "leak",
            Self::IgnoreTerm => "ignores SIGTERM",
            Self::Starting => "stuck in starting",
        }
    }

    /// Reads what [`Self::word`] wrote.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.word() == word)
    }

    /// The stated time until it is seen (another verdict than well), and until the process is gone. Heartbeats come every 2 s,
    /// looks every second; a second is left for a busy machine.
    #[must_use]
    pub const fn stated(self) -> (Duration, Duration) {
        let (see, end) = match self {
            Self::Crash => (2, 2),
            Self::Hang => (8, 34),
            Self::Deadlock => (8, 26),
            Self::Leak => (6, 8),
            Self::IgnoreTerm => (3, 13),
            Self::Starting => (2, 64),
        };
        (Duration::from_secs(see), Duration::from_secs(end))
    }

    /// How long a runner is watched that only starts again what ended.
    #[must_use]
    pub const fn watched(self) -> Duration {
        match self {
            Self::Crash => Duration::from_secs(30),
            _ => Duration::from_secs(15),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own() {
        for fault in Fault::ALL {
            assert_eq!(Fault::parse(fault.word()), Some(fault));
        }
        assert_eq!(Fault::parse("nothing"), None);
    }
}
