//! The update-id rules of a depth stream, on the ids alone.
//!
//! 1. Updates are kept until a snapshot has come.
//! 2. An update whose last id is not beyond the snapshot's is dropped.
//! 3. The first one applied must straddle the snapshot: `U <= last + 1 <= u`.
//! 4. From then on each begins where the one before ended: `U == last + 1`.
//!
//! Anything else is a gap: the book is worth nothing until a new snapshot.

/// Where the chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Chain {
    /// No snapshot yet, or none since the last gap.
    #[default]
    Waiting,
    /// A snapshot is there; no update has been linked to it.
    Snapshot {
        /// Its last update id.
        last: u64,
    },
    /// Updates follow each other.
    Linked {
        /// Last update id applied.
        last: u64,
    },
}

/// What to do with an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Keep it for when the snapshot comes.
    Keep,
    /// Its content is in the book already.
    Stale,
    /// Apply it.
    Next,
    /// Something is missing.
    Gap(Gap),
}

/// A hole in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The id that had to come next.
    pub expected: u64,
    /// First id of the update that came.
    pub first_update_id: u64,
    /// Last id of it.
    pub final_update_id: u64,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "expected update {}, got {}..={}", self.expected, self.first_update_id, self.final_update_id)
    }
}

impl Chain {
    /// Last update id the book holds.
    #[must_use]
    pub const fn last(self) -> Option<u64> {
        match self {
            Self::Waiting => None,
            Self::Snapshot { last } | Self::Linked { last } => Some(last),
        }
    }

    /// Judges an update and moves on.
    pub fn offer(&mut self, first_update_id: u64, final_update_id: u64) -> Link {
        let (last, linked) = match *self {
            Self::Waiting => return Link::Keep,
            Self::Snapshot { last } => (last, false),
            Self::Linked { last } => (last, true),
        };
        if final_update_id <= last {
            return Link::Stale;
        }
        let expected = last.saturating_add(1);
        let fits = if linked { first_update_id == expected } else { first_update_id <= expected };
        if fits && first_update_id <= final_update_id {
            *self = Self::Linked { last: final_update_id };
            return Link::Next;
        }
        *self = Self::Waiting;
        Link::Gap(Gap { expected, first_update_id, final_update_id })
    }
}
