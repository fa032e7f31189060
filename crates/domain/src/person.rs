//! What a person signs. Votes, lowering the kill level and resetting a breaker are all one kind of document, so there is
//! one way to make them and one way to check them.

use serde::{Deserialize, Serialize};

use crate::canonical::{self, NotCanonical, Sha256Digest};
use crate::ids::{ApprovalId, BootId, UserId};
use crate::money::{Price, Quantity};
use crate::time::UnixMs;

/// How it is known who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assurance {
    /// An Ed25519 signature of the person's own key over the act.
    CliKey,
    /// A stored update of Telegram from an account that is bound to the person.
    Telegram,
    /// A one-time code of the person's authenticator.
    WebTotp,
}

impl Assurance {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::CliKey, Self::Telegram, Self::WebTotp];

    /// The word in tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::CliKey => "cli_key",
            Self::Telegram => "telegram",
            Self::WebTotp => "web_totp",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assurance| assurance.word() == word)
    }

    /// The way it came, as people say it.
    #[must_use]
    pub const fn channel(self) -> &'static str {
        match self {
            Self::CliKey => "cli",
            Self::Telegram => "telegram",
            Self::WebTotp => "web",
        }
    }
}

/// What a modification asks for instead: less of it, or a price that gives less room. What is not named stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The new quantity.
    pub quantity: Option<Quantity>,
    /// The new worst price.
    pub worst_price: Option<Price>,
}

/// The word of a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vote {
    /// Yes to exactly the envelope with the digest in the act.
    Approve,
    /// No; one no ends the request.
    Reject,
}

impl Vote {
    /// The word in tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }
}

/// What is done. Each act names the state it was decided on, so that it can't be used again on another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    /// A vote on one approval request.
    Vote {
        /// Which request.
        approval_id: ApprovalId,
        /// Digest of the envelope that was shown.
        digest: Sha256Digest,
        /// The word.
        vote: Vote,
    },
    /// Ask again for less, in the place of a request that waits.
    Modify {
        /// Which request.
        approval_id: ApprovalId,
        /// Digest of the envelope that was shown.
        digest: Sha256Digest,
        /// What is wanted instead.
        change: Change,
    },
    /// Take back what was said, or what others said, before it is used.
    Revoke {
        /// Which request.
        approval_id: ApprovalId,
        /// Digest of the envelope that was shown.
        digest: Sha256Digest,
    },
    /// Let whoever shows a one-time code of this hash in a private chat act as the signer over Telegram.
    LinkTelegram {
        /// SHA-256 of the code.
        code_hash: Sha256Digest,
    },
    /// Lower the kill level.
    LowerKill {
        /// To this level.
        level: u8,
        /// The epoch that is in force; another one makes this act void.
        epoch: i64,
    },
    /// Declare another content of a protected file.
    ApproveFile {
        /// Its name in `swarm files status`.
        file: String,
        /// SHA-256 of what was declared before; another one makes this act void. Nothing for a new file.
        from: Option<Sha256Digest>,
        /// SHA-256 of what is from now on.
        to: Sha256Digest,
    },
    /// Reset a latched loss-streak breaker.
    ResetBreaker {
        /// Whose.
        user_id: UserId,
        /// When it latched; another latch makes this act void.
        latched_at: UnixMs,
    },
    /// Let an agent run again that is in quarantine.
    ReleaseAgent {
        /// Which.
        agent: String,
        /// Why it is there, as it was shown; another reason makes this act void.
        quarantined: String,
    },
    /// Have an agent start anew.
    RestartAgent {
        /// Which.
        agent: String,
        /// The start that is meant; another one makes this act void.
        boot_id: BootId,
    },
    /// Put the message of a dead letter back on its subject.
    RedriveLetter {
        /// `<stream>:<seq>` of the message.
        letter: String,
        /// When it died; a letter of another time makes this act void.
        died_at: UnixMs,
        /// The how manieth time; an act for another number is void.
        number: u32,
    },
    /// Leave a dead letter dead.
    DropLetter {
        /// `<stream>:<seq>` of the message.
        letter: String,
        /// When it died; a letter of another time makes this act void.
        died_at: UnixMs,
    },
}

/// A person's act as it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonAct {
    /// Always `swarm.act.v1`.
    pub schema: String,
    /// Who: the name their public key is registered under.
    pub person_id: String,
    /// What.
    pub what: Act,
    /// Why, in their words (at most 500 characters).
    pub reason: String,
    /// When it was signed; it is worth nothing 5 minutes later.
    pub signed_at: UnixMs,
}

/// An act with its Ed25519 signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedAct {
    /// What is signed.
    pub act: PersonAct,
    /// 128 hex digits.
    pub signature: String,
}

/// How long a signed act may be presented, ms.
pub const ACT_MAX_AGE_MS: i64 = 300_000;

impl PersonAct {
    /// Schema name and signature tag.
    pub const SCHEMA: &'static str = "swarm.act.v1";

    /// The bytes that are signed; both sides rebuild them from typed values.
    ///
    /// # Errors
    /// [`NotCanonical`], which no value of this type can cause.
    pub fn signed_bytes(&self) -> Result<Vec<u8>, NotCanonical> {
        canonical::tagged(Self::SCHEMA, self)
    }

    /// Presented in time: at most 5 minutes old and not from the future (5 s allowed for clocks).
    #[must_use]
    pub const fn is_timely(&self, now: UnixMs) -> bool {
        let age = now.since_ms(self.signed_at);
        age <= ACT_MAX_AGE_MS && age >= -5_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_an_act_is_under_the_signature() {
        let act = PersonAct {
            schema: PersonAct::SCHEMA.into(),
            person_id: "operator".into(),
            what: Act::LowerKill { level: 0, epoch: 7 },
            reason: "checked".into(),
            signed_at: UnixMs(1),
        };
        let base = act.signed_bytes().unwrap();
        let changed = [
            PersonAct { person_id: "other".into(), ..act.clone() },
            PersonAct { what: Act::LowerKill { level: 1, epoch: 7 }, ..act.clone() },
            PersonAct { what: Act::LowerKill { level: 0, epoch: 8 }, ..act.clone() },
            PersonAct { reason: "checked!".into(), ..act.clone() },
            PersonAct { signed_at: UnixMs(2), ..act.clone() },
        ];
        for other in changed {
            assert_ne!(base, other.signed_bytes().unwrap());
        }
    }

    #[test]
    fn an_act_is_worth_nothing_after_five_minutes_or_from_the_future() {
        let at = |signed_at| PersonAct {
            schema: PersonAct::SCHEMA.into(),
            person_id: "operator".into(),
            what: Act::LowerKill { level: 0, epoch: 7 },
            reason: String::new(),
            signed_at: UnixMs(signed_at),
        };
        let now = UnixMs(1_000_000);
        assert!(at(1_000_000).is_timely(now));
        assert!(at(700_000).is_timely(now));
        assert!(!at(699_999).is_timely(now));
        assert!(!at(1_005_001).is_timely(now));
    }
}
