//! What became of every signal, read from the tables under the administrator's login.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::ids::MessageId;
use sqlx::Row;
use store::Db;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use crate::house::House;

/// How often open signals are looked up: the resolution of recovery times.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How a signal ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// All of it traded.
    Filled,
    /// A part traded, and its order ended.
    FilledInPart,
    /// Nothing traded before its order ended.
    Ended,
    /// The venue refused the order, or the desk did not send it; with its code.
    RejectedByVenue(String),
    /// Treasury refused it; with its code.
    Refused(String),
    /// People said no, or nobody said anything in time.
    NotApproved(String),
    /// Its permit was not spent in time.
    PermitVoid,
    /// It became a dead letter or its end was told; with its code.
    GivenUp(String),
}

impl End {
    /// Whether the signal went all the way to the venue.
    #[must_use]
    pub const fn went_through(&self) -> bool {
        matches!(self, Self::Filled | Self::FilledInPart | Self::Ended)
    }

    /// A word for counting.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Filled => "filled".to_owned(),
            Self::FilledInPart => "filled in part".to_owned(),
            Self::Ended => "ended unfilled".to_owned(),
            Self::RejectedByVenue(code) => format!("rejected {code}"),
            Self::Refused(code) => format!("refused {code}"),
            Self::NotApproved(status) => format!("approval {status}"),
            Self::PermitVoid => "permit void".to_owned(),
            Self::GivenUp(code) => format!("given up {code}"),
        }
    }
}

/// One signal on its way.
#[derive(Debug, Clone)]
pub struct Track {
    /// Whose.
    pub handle: String,
    /// Its `Nats-Msg-Id`.
    pub key: String,
    /// When it was first sent.
    pub sent: Instant,
    /// The stream said that it has it.
    pub accepted: bool,
    /// How it ended.
    pub end: Option<End>,
}

/// All signals of a run.
#[derive(Debug)]
pub struct Tracker {
    tracks: Mutex<BTreeMap<MessageId, Track>>,
    /// The latest sending time of a signal that went through.
    through: watch::Sender<Option<Instant>>,
}

impl Default for Tracker {
    fn default() -> Self {
        Self { tracks: Mutex::default(), through: watch::Sender::new(None) }
    }
}

impl Tracker {
    fn tracks(&self) -> MutexGuard<'_, BTreeMap<MessageId, Track>> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A signal is about to be sent.
    pub fn sent(&self, id: MessageId, handle: &str, key: &str) {
        let (handle, key) = (handle.to_owned(), key.to_owned());
        self.tracks().insert(id, Track { handle, key, sent: Instant::now(), accepted: false, end: None });
    }

    /// The stream has it.
    pub fn accepted(&self, id: MessageId) {
        if let Some(track) = self.tracks().get_mut(&id) {
            track.accepted = true;
        }
    }

    /// It ended outside the tables.
    pub fn ended(&self, id: MessageId, end: End) {
        if let Some(track) = self.tracks().get_mut(&id) {
            track.end = Some(end);
        }
    }

    /// Everything so far.
    #[must_use]
    pub fn all(&self) -> BTreeMap<MessageId, Track> {
        self.tracks().clone()
    }

    /// Sent, accepted, ended.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let tracks = self.tracks();
        let count = |pick: fn(&Track) -> bool| tracks.values().filter(|track| pick(track)).count();
        (tracks.len(), count(|t| t.accepted), count(|t| t.end.is_some()))
    }

    /// Accepted signals whose end is not known.
    #[must_use]
    pub fn open(&self) -> Vec<MessageId> {
        self.tracks().iter().filter(|(_, track)| track.accepted && track.end.is_none()).map(|(id, _)| *id).collect()
    }

    /// Waits until a signal that was sent after `since` has reached the venue and is over.
    pub async fn went_through(&self, since: Instant) {
        let mut through = self.through.subscribe();
        // The sender lives in self, so this can't fail.
        let _ = through.wait_for(|sent| sent.is_some_and(|sent| sent > since)).await;
    }

    /// Looks until it is dropped; a database that is away is waited for.
    pub async fn follow(&self, house: &House) {
        loop {
            let _ = tokio::time::timeout(Duration::from_secs(3), self.look(&house.db())).await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// One look at all open signals.
    ///
    /// # Errors
    /// The database's.
    pub async fn look(&self, db: &Db) -> Result<(), sqlx::Error> {
        let open: Vec<Uuid> = self.tracks().iter().filter(|(_, t)| t.end.is_none()).map(|(id, _)| id.0).collect();
        if open.is_empty() {
            return Ok(());
        }
        let rows = sqlx::query(ENDS).bind(&open).fetch_all(db.pool()).await?;
        let mut newest = None;
        {
            let mut tracks = self.tracks();
            for row in rows {
                let id: Uuid = row.try_get("signal_id")?;
                let (Some(end), Some(track)) = (end_of(&row)?, tracks.get_mut(&MessageId(id))) else { continue };
                if end.went_through() {
                    newest = newest.max(Some(track.sent));
                }
                // A signal that was decided had been stored, whatever its sender heard.
                track.accepted = true;
                track.end = Some(end);
            }
        }
        if newest.is_some() {
            self.through.send_if_modified(|known| {
                let later = newest > *known;
                *known = newest.max(*known);
                later
            });
        }
        Ok(())
    }
}

const ENDS: &str = "
    SELECT d.signal_id, d.outcome, d.code, a.status, p.state AS permit, o.state AS state, o.code AS venue_code,
           o.outcome_posted, o.filled > 0 AS has_fills
    FROM policy_decisions d
    LEFT JOIN approval_requests a ON a.user_id = d.user_id AND a.order_id = d.order_id
    LEFT JOIN permits p ON p.user_id = d.user_id AND p.order_id = d.order_id
    LEFT JOIN orders o ON o.user_id = d.user_id AND o.order_id = d.order_id
    WHERE d.signal_id = ANY($1)";

fn end_of(row: &sqlx::postgres::PgRow) -> Result<Option<End>, sqlx::Error> {
    let text = |name: &str| row.try_get::<Option<String>, _>(name);
    if text("outcome")?.as_deref() == Some("refused") {
        return Ok(Some(End::Refused(text("code")?.unwrap_or_default())));
    }
    if let Some(state) = text("state")? {
        if row.try_get::<Option<bool>, _>("outcome_posted")? != Some(true) {
            return Ok(None);
        }
        let has_fills = row.try_get::<Option<bool>, _>("has_fills")?.unwrap_or(false);
        return Ok(match (state.as_str(), has_fills) {
            ("filled", _) => Some(End::Filled),
            ("cancelled", true) => Some(End::FilledInPart),
            ("cancelled", false) => Some(End::Ended),
            ("rejected", _) => Some(End::RejectedByVenue(text("venue_code")?.unwrap_or_default())),
            _ => None,
        });
    }
    match (text("permit")?.as_deref(), text("status")?.as_deref()) {
        (Some("void"), _) => Ok(Some(End::PermitVoid)),
        (None, Some(status @ ("denied" | "expired" | "cancelled" | "superseded" | "revoked"))) => {
            Ok(Some(End::NotApproved(status.to_owned())))
        }
        _ => Ok(None),
    }
}
