//! What the pages show: the supervisor's answers, asked at most once a second for everybody who looks.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::time::{Clock, UnixMs};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};

use crate::doors::{AskError, Doors};

/// How old what is shown live may be.
pub const FRESH: Duration = Duration::from_millis(900);
/// The same for equity, trades and limits, as long as nothing was filled.
const SLOW: Duration = Duration::from_secs(4);
/// Accounts whose answers are kept.
const MOST_ACCOUNTS: usize = 16;
/// Trades shown.
pub const TRADES: u32 = 50;

/// The last answer of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The answer; null before the first one.
    pub value: Value,
    /// When it came.
    pub at: Option<UnixMs>,
    /// Since when it does not answer.
    pub lost_since: Option<UnixMs>,
}

impl Heard {
    const NOTHING: Self = Self { value: Value::Null, at: None, lost_since: None };

    fn hear(&mut self, answer: Result<Value, AskError>, now: UnixMs) {
        match answer {
            Ok(value) => *self = Self { value, at: Some(now), lost_since: None },
            Err(error) => {
                if self.lost_since.is_none() {
                    tracing::warn!(%error, "the page shows what it heard last");
                }
                self.lost_since.get_or_insert(now);
            }
        }
    }
}

/// Everything a page shows, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// When it was asked for.
    pub at: UnixMs,
    /// Whose account.
    pub user: String,
    /// `swarm.status`.
    pub status: Heard,
    /// `swarm.approvals`.
    pub approvals: Heard,
    /// `swarm.positions`.
    pub positions: Heard,
    /// `swarm.equity`.
    pub equity: Heard,
    /// `swarm.trades`.
    pub trades: Heard,
    /// `swarm.limits`.
    pub limits: Heard,
}

impl Look {
    /// Since when the supervisor does not answer, and when it did last.
    #[must_use]
    pub fn lost(&self) -> Option<(UnixMs, Option<UnixMs>)> {
        self.status.lost_since.map(|since| (since, self.status.at))
    }
}

struct Kept {
    look: Look,
    fast_at: Option<Instant>,
    slow_at: Option<Instant>,
    /// How many fills there were then.
    slow_fills: Value,
}

impl Kept {
    fn nothing(user: &str) -> Self {
        Self { look: nothing(user), fast_at: None, slow_at: None, slow_fills: Value::Null }
    }
}

/// The answers by account.
pub struct Desk {
    doors: Doors,
    clock: Arc<dyn Clock>,
    kept: Mutex<BTreeMap<String, Kept>>,
}

impl Desk {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(doors: Doors, clock: Arc<dyn Clock>) -> Self {
        Self { doors, clock, kept: Mutex::new(BTreeMap::new()) }
    }

    /// What is known of an account, no older than `fresh`. Who looks at the same time waits for one answer.
    pub async fn look(&self, user: &str, fresh: Duration) -> Look {
        let mut kept = self.kept.lock().await;
        if !kept.contains_key(user) && kept.len() >= MOST_ACCOUNTS {
            kept.pop_first();
        }
        let kept = kept.entry(user.to_owned()).or_insert_with(|| Kept::nothing(user));
        let now = Instant::now();
        if kept.fast_at.is_none_or(|at| now.duration_since(at) >= fresh) {
            self.ask_fast(&mut kept.look).await;
            kept.fast_at = Some(now);
        }
        let fills = kept.look.positions.value["fills"].clone();
        if kept.slow_at.is_none_or(|at| now.duration_since(at) >= SLOW) || kept.slow_fills != fills {
            self.ask_slow(&mut kept.look).await;
            kept.slow_at = Some(now);
            kept.slow_fills = fills;
        }
        kept.look.clone()
    }

    async fn ask_fast(&self, look: &mut Look) {
        let of_user = json!({ "user": look.user });
        let nothing = json!({});
        let (status, approvals, positions) = tokio::join!(
            self.doors.read("swarm.status", &nothing),
            self.doors.read("swarm.approvals", &nothing),
            self.doors.read("swarm.positions", &of_user),
        );
        let now = self.clock.now();
        look.at = now;
        look.status.hear(status, now);
        look.approvals.hear(approvals, now);
        look.positions.hear(positions, now);
    }

    async fn ask_slow(&self, look: &mut Look) {
        let of_user = json!({ "user": look.user });
        let trades = json!({ "user": look.user, "limit": TRADES });
        let (equity, trades, limits) = tokio::join!(
            self.doors.read("swarm.equity", &of_user),
            self.doors.read("swarm.trades", &trades),
            self.doors.read("swarm.limits", &of_user),
        );
        let now = self.clock.now();
        look.equity.hear(equity, now);
        look.trades.hear(trades, now);
        look.limits.hear(limits, now);
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

fn nothing(user: &str) -> Look {
    Look {
        at: UnixMs(0),
        user: user.to_owned(),
        status: Heard::NOTHING,
        approvals: Heard::NOTHING,
        positions: Heard::NOTHING,
        equity: Heard::NOTHING,
        trades: Heard::NOTHING,
        limits: Heard::NOTHING,
    }
}
