//! Cancels every open order at kill level 2 and above, without the database: it learns of the level from the file and from
//! what is heard, asks the venue what rests there, and takes it back, again until nothing is left. What became of the orders
//! is written by the executor, which asks the venue, when the database answers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::order::OrderStatus;
use futures::StreamExt;
use runtime::kill::KillSwitch;
use runtime::{HandleError, Work};
use tokio::sync::Notify;
use venues::VenueError;
use venues::exchange::{CancelOutcome, Exchange};

/// How often the level is looked at: two files of a few bytes.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// While the level stands and nothing rests: an order that was on its way may still arrive.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Cancels under way at once.
const AT_ONCE: usize = 8;
/// From here on open orders are cancelled.
const FROM_LEVEL: u8 = 2;

/// The part of the desk that takes orders back.
pub struct Canceller {
    /// The venue.
    pub exchange: Arc<dyn Exchange>,
    /// The kill level in its copies.
    pub kill: Arc<KillSwitch>,
    /// Woken when the level was heard to change.
    pub halted: Arc<Notify>,
    /// The executor is woken by this after something was cancelled.
    pub wake: Arc<Notify>,
}

impl std::fmt::Debug for Canceller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canceller").field("venue", &self.exchange.venue()).finish_non_exhaustive()
    }
}

impl Canceller {
    /// Works until shutdown.
    ///
    /// # Errors
    /// None: what the venue does not do is tried again.
    pub async fn run(&self, work: &Work) -> Result<(), HandleError> {
        loop {
            let is_quiet = self.look().await.is_none_or(|left| left == 0);
            let pause = if is_quiet && self.is_on() { AGAIN_AFTER } else { LOOK_EVERY };
            tokio::select! {
                () = work.shutdown.cancelled() => return Ok(()),
                () = self.halted.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn is_on(&self) -> bool {
        self.kill.without_database().level() >= FROM_LEVEL
    }

    /// Cancels what rests when the level says so, once, and gives how many orders were found; `None` when the level does not
    /// say so, or the venue does not answer.
    pub async fn look(&self) -> Option<usize> {
        if !self.is_on() {
            return None;
        }
        let found = cancel_open(self.exchange.as_ref()).await;
        match found {
            Ok(0) => Some(0),
            Ok(found) => {
                self.wake.notify_one();
                Some(found)
            }
            Err(error) => {
                tracing::error!(%error, "the venue does not say what rests there; asking again");
                None
            }
        }
    }
}

/// Asks for all open orders of the account and takes each back. Gives how many there were.
///
/// # Errors
/// The venue could not say what rests there.
pub async fn cancel_open(exchange: &dyn Exchange) -> Result<usize, VenueError> {
    let open = exchange.open_orders().await?;
    futures::stream::iter(&open).for_each_concurrent(AT_ONCE, |order| cancel(exchange, order)).await;
    Ok(open.len())
}

async fn cancel(exchange: &dyn Exchange, order: &OrderStatus) {
    let client_order_id = order.client_order_id.as_str();
    let outcome = match exchange.cancel(&order.instrument, client_order_id).await {
        CancelOutcome::Cancelled(_) => "cancelled",
        CancelOutcome::AlreadyOver(_) => "already over",
        CancelOutcome::NotFound => "not found",
        CancelOutcome::Unknown { reason } => {
            tracing::error!(client_order_id, reason, "whether it was cancelled is not known; asking again");
            "unknown"
        }
    };
    tracing::warn!(client_order_id, outcome, "kill level: an open order is cancelled");
    metrics::counter!("swarm_kill_cancels_total", "outcome" => outcome).increment(1);
}

/// What a start does before it has reached anything: when the file says so, what rests at the paper venue is taken back out
/// of the venue's own journal. `None`: nothing was to be done.
///
/// # Errors
/// The journal can't be taken over.
pub fn at_boot(
    config: &crate::config::Config,
    data_dir: &Path,
    clock: Arc<dyn domain::time::Clock>,
) -> Result<Option<usize>, VenueError> {
    let kill = KillSwitch::new(data_dir);
    let journal = crate::source::journal(data_dir);
    // A journal without a line is no account yet: opened here, it would be one without money.
    let has_account = || std::fs::read(&journal).is_ok_and(|bytes| bytes.contains(&b'\n'));
    if kill.without_database().level() < FROM_LEVEL || !has_account() {
        return Ok(None);
    }
    // Nothing is matched: the instruments and their books are not needed to take an order back.
    let paper = crate::source::paper(config, Vec::new(), &journal);
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let executor = executor.map_err(|error| VenueError::Config(format!("async runtime: {error}")))?;
    executor.block_on(async {
        let paper = venues::paper::PaperExchange::open(paper, clock)?;
        let found = cancel_open(&paper).await?;
        tracing::warn!(found, "kill level: the open orders of the start before are cancelled");
        Ok(Some(found))
    })
}
