//! The paper exchange as the desk sees it: the core, its journal, and time that passes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use domain::market::{Instrument, InstrumentId, Symbol, Venue};
use domain::money::Quantity;
use domain::order::{Fill, OrderState, OrderStatus};
use domain::time::{Clock, DAY_MS, UnixMs};

use super::PaperConfig;
use super::core::{Decision, PaperCore};
use super::journal::Journal;
use super::state::Effect;
use crate::error::VenueError;
use crate::exchange::{Balance, CancelOutcome, Exchange, OrderRequest, Outcome};
use crate::feed::FeedEvent;

/// A journal longer than this is begun anew at the next start, bytes.
const JOURNAL_BYTES: u64 = 16 << 20;
/// For so long an order that ended is known, ms: as long as anybody asks after one (an inbox forgets after 7 days).
const KEEP_MS: i64 = 7 * DAY_MS;

/// The paper exchange. Clones are the same exchange.
#[derive(Clone)]
pub struct PaperExchange {
    inner: Arc<Mutex<Inner>>,
    clock: Arc<dyn Clock>,
    venue: Venue,
}

struct Inner {
    core: PaperCore,
    journal: Journal,
    lose_replies: u32,
    /// A decision could not be written or did not fit: what is in memory is not what a restart will find.
    broken: bool,
}

impl Inner {
    /// Written first, done second.
    fn commit(&mut self, decision: &Decision) -> Result<(), VenueError> {
        if decision.is_empty() {
            return Ok(());
        }
        self.broken = true;
        self.journal.append(&decision.effects)?;
        self.core.commit(decision).map_err(|misfit| {
            tracing::error!(%misfit, "a decision of the paper exchange does not fit its own account");
            VenueError::JournalBroken
        })?;
        self.broken = false;
        Ok(())
    }
}

impl Inner {
    /// Begins the journal anew, without orders that ended before `before`.
    fn shorten(&mut self, before: UnixMs) -> Result<(), VenueError> {
        let resumed = self.core.state().resumed(before);
        let core = self.core.resumed_from(&resumed).map_err(|misfit| {
            tracing::error!(%misfit, "the account of the paper exchange does not fit itself");
            VenueError::JournalBroken
        })?;
        let bytes = self.journal.len()?;
        self.journal.begin_anew(&resumed)?;
        self.core = core;
        tracing::info!(
            bytes_before = bytes,
            bytes = self.journal.len()?,
            "the paper exchange's journal was begun anew"
        );
        Ok(())
    }
}

impl PaperExchange {
    /// Opens the journal, replays it and takes over from there. On the first start the account is opened with
    /// [`PaperConfig::opening`]; afterwards the journal says what it holds. A journal that has grown beyond 16 MiB is begun
    /// anew, and orders that ended more than 7 days ago are forgotten.
    ///
    /// # Errors
    /// [`VenueError::JournalCorrupt`], [`VenueError::JournalInUse`], [`VenueError::Config`], [`VenueError::File`].
    pub fn open(config: PaperConfig, clock: Arc<dyn Clock>) -> Result<Self, VenueError> {
        Self::open_shortening(config, clock, JOURNAL_BYTES)
    }

    fn open_shortening(config: PaperConfig, clock: Arc<dyn Clock>, longest: u64) -> Result<Self, VenueError> {
        let (journal, decisions) = Journal::open(&config.journal)?;
        let (venue, path) = (config.venue, config.journal.clone());
        let mut core = PaperCore::new(config)?;
        for (at, effects) in decisions.into_iter().enumerate() {
            core.commit(&Decision::of(effects)).map_err(|misfit| VenueError::JournalCorrupt {
                path: path.clone(),
                line: at + 1,
                reason: misfit.to_string(),
            })?;
        }
        let mut inner = Inner { core, journal, lose_replies: 0, broken: false };
        if !inner.core.state().is_open() {
            let opening = inner.core.opening();
            inner.commit(&opening)?;
        }
        if inner.journal.len()? > longest {
            inner.shorten(clock.now().plus_ms(-KEEP_MS))?;
        }
        Ok(Self { inner: Arc::new(Mutex::new(inner)), clock, venue })
    }

    /// Market data: moves the book and fills resting orders. Returns the orders that changed, after they are on disk.
    ///
    /// # Errors
    /// [`VenueError::JournalBroken`], [`VenueError::File`], [`VenueError::Amount`].
    pub async fn feed(&self, event: &FeedEvent) -> Result<Vec<OrderStatus>, VenueError> {
        let now = self.clock.now();
        {
            let mut inner = self.lock()?;
            if !inner.core.rests(&event.symbol) {
                // The common case never touches the disk.
                inner.core.feed(event, now)?;
                return Ok(Vec::new());
            }
        }
        let event = event.clone();
        self.on_disk(move |inner| {
            let decision = inner.core.feed(&event, now)?;
            inner.commit(&decision)?;
            let mut changed: Vec<&str> = decision.effects.iter().filter_map(filled_order).collect();
            changed.dedup();
            Ok(changed.into_iter().filter_map(|id| inner.core.status(id)).collect())
        })
        .await
    }

    /// Market data was lost: no matching until the next snapshot of the instrument, or of all.
    pub fn lost(&self, symbol: Option<&Symbol>) {
        if let Ok(mut inner) = self.lock() {
            inner.core.lost(symbol);
        }
    }

    /// The next accepted orders lose their reply: the caller sees [`Outcome::Unknown`]. For drills and tests.
    pub fn lose_replies(&self, count: u32) {
        if let Ok(mut inner) = self.lock() {
            inner.lose_replies = count;
        }
    }

    /// All fills of the orders it knows, in order.
    ///
    /// # Errors
    /// [`VenueError::JournalBroken`].
    pub fn fills(&self) -> Result<Vec<Fill>, VenueError> {
        Ok(self.lock()?.core.state().fills().to_vec())
    }

    /// Bought less sold, by instrument.
    ///
    /// # Errors
    /// [`VenueError::JournalBroken`].
    pub fn positions(&self) -> Result<BTreeMap<InstrumentId, Quantity>, VenueError> {
        Ok(self.lock()?.core.state().positions())
    }

    fn lock(&self) -> Result<MutexGuard<'_, Inner>, VenueError> {
        usable(&self.inner)
    }

    /// Runs something that waits for the disk where it holds nobody up.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner) -> Result<T, VenueError> + Send + 'static,
    ) -> Result<T, VenueError> {
        let inner = Arc::clone(&self.inner);
        let task = tokio::task::spawn_blocking(move || work(&mut *usable(&inner)?));
        task.await.map_err(|_| VenueError::JournalBroken)?
    }

    async fn match_order(&self, order: &OrderRequest, reply_lost: bool) -> Result<Outcome, VenueError> {
        let (order, now) = (order.clone(), self.clock.now());
        self.on_disk(move |inner| {
            if let Some(known) = inner.core.known(&order) {
                return Ok(known);
            }
            let decision = inner.core.place(&order, now)?;
            inner.commit(&decision)?;
            let outcome = inner.core.known(&order).ok_or(VenueError::JournalBroken)?;
            let accepted = matches!(outcome, Outcome::Placed(_));
            if accepted && (reply_lost || inner.lose_replies > 0) {
                inner.lose_replies = inner.lose_replies.saturating_sub(1);
                return Ok(Outcome::Unknown { reason: "the reply was lost".to_owned() });
            }
            Ok(outcome)
        })
        .await
    }
}

#[async_trait]
impl Exchange for PaperExchange {
    fn venue(&self) -> Venue {
        self.venue
    }

    async fn place(&self, order: &OrderRequest) -> Outcome {
        let drawn = match self.lock() {
            Ok(inner) => inner.core.draw(&order.client_order_id),
            Err(error) => return Outcome::Unknown { reason: error.to_string() },
        };
        if drawn.latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(drawn.latency_ms)).await;
        }
        match self.match_order(order, drawn.reply_lost).await {
            Ok(outcome) => outcome,
            // Nothing of it was written.
            Err(VenueError::Amount(_)) => Outcome::Rejected { code: "AMOUNT_OUT_OF_RANGE".to_owned() },
            Err(error) => Outcome::Unknown { reason: error.to_string() },
        }
    }

    async fn query(&self, _: &InstrumentId, client_order_id: &str) -> Result<Option<OrderStatus>, VenueError> {
        Ok(self.lock()?.core.status(client_order_id))
    }

    async fn cancel(&self, _: &InstrumentId, client_order_id: &str) -> CancelOutcome {
        let (id, now) = (client_order_id.to_owned(), self.clock.now());
        let cancelled = self
            .on_disk(move |inner| {
                let decision = inner.core.cancel(&id, now);
                inner.commit(&decision)?;
                let Some(status) = inner.core.status(&id) else { return Ok(CancelOutcome::NotFound) };
                let done = !decision.is_empty() && status.state == OrderState::Cancelled;
                Ok(if done { CancelOutcome::Cancelled(status) } else { CancelOutcome::AlreadyOver(status) })
            })
            .await;
        cancelled.unwrap_or_else(|error| CancelOutcome::Unknown { reason: error.to_string() })
    }

    async fn open_orders(&self) -> Result<Vec<OrderStatus>, VenueError> {
        Ok(self.lock()?.core.open_orders())
    }

    async fn balances(&self) -> Result<Vec<Balance>, VenueError> {
        Ok(self.lock()?.core.state().balances())
    }

    async fn instruments(&self) -> Result<Vec<Instrument>, VenueError> {
        Ok(self.lock()?.core.config().instruments.clone())
    }
}

/// A panic while it was held leaves it poisoned: as good as broken.
fn usable(inner: &Mutex<Inner>) -> Result<MutexGuard<'_, Inner>, VenueError> {
    match inner.lock() {
        Ok(inner) if !inner.broken => Ok(inner),
        _ => Err(VenueError::JournalBroken),
    }
}

fn filled_order(effect: &Effect) -> Option<&str> {
    match effect {
        Effect::Filled { client_order_id, .. } => Some(client_order_id),
        _ => None,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use domain::ids::OrderId;
    use domain::market::InstrumentId;
    use domain::money::{Price, Quantity};
    use domain::order::{OrderType, Side, TimeInForce};
    use rust_decimal::Decimal;

    struct At(UnixMs);

    impl Clock for At {
        fn now(&self) -> UnixMs {
            self.0
        }
    }

    fn effects(history: &[(u64, i64, &str)]) -> Vec<Effect> {
        let instrument = InstrumentId { venue: Venue::Paper, symbol: Symbol::parse("BTCUSDT").unwrap() };
        let mut effects = Vec::new();
        for (id, at, kind) in history {
            let request = OrderRequest {
                client_order_id: format!("s{id}"),
                order_id: OrderId(uuid::Uuid::from_u128(u128::from(*id))),
                instrument: instrument.clone(),
                side: Side::Buy,
                order_type: OrderType::Limit,
                time_in_force: TimeInForce::GoodTillCancelled,
                quantity: Quantity::parse("2").unwrap(),
                worst_price: Price::parse("10").unwrap(),
            };
            let (client_order_id, at, one) =
                (request.client_order_id.clone(), UnixMs(*at), Quantity::parse("1").unwrap());
            effects.push(Effect::Accepted {
                request,
                venue_order_id: id * 10,
                base: "BTC".into(),
                quote: "USDT".into(),
                locked: Decimal::from(21),
                at,
            });
            effects.push(Effect::Filled {
                client_order_id: client_order_id.clone(),
                trade_id: id * 10 + 1,
                price: Price::parse("10").unwrap(),
                quantity: one,
                fee: domain::money::Usd::ZERO,
                at,
            });
            if *kind == "ended" {
                effects.push(Effect::Ended { client_order_id, at });
            }
        }
        effects
    }

    #[tokio::test]
    async fn a_long_journal_is_begun_anew_and_brings_back_the_same_account() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("paper.journal");
        let config = PaperConfig {
            venue: Venue::Paper,
            instruments: Vec::new(),
            opening: [("USDT".to_owned(), Decimal::from(1_000))].into(),
            maker_fee_percent: Decimal::ZERO,
            taker_fee_percent: Decimal::ZERO,
            latency_ms: 0..=0,
            reject_bps: 0,
            lost_reply_bps: 0,
            max_book_age_ms: 1_000,
            seed: 1,
            journal: path.clone(),
        };
        let clock: Arc<dyn Clock> = Arc::new(At(UnixMs(KEEP_MS + 2_000)));
        let paper = PaperExchange::open(config.clone(), clock.clone()).unwrap();
        // Ended before what is kept, open since then, ended within it.
        let history = effects(&[(1, 1_999, "ended"), (2, 1_999, "open"), (3, 2_000, "ended")]);
        paper.lock().unwrap().commit(&Decision::of(history)).unwrap();
        let seen = async |paper: &PaperExchange| {
            let rest = (paper.balances().await.unwrap(), paper.open_orders().await.unwrap());
            (paper.positions().unwrap(), rest, paper.lock().unwrap().core.state().next_id())
        };
        let before = seen(&paper).await;
        drop(paper);
        // What a crash between writing and renaming leaves is no journal.
        std::fs::write(path.with_extension("new"), "half").unwrap();
        for longest in [0, u64::MAX] {
            let paper = PaperExchange::open_shortening(config.clone(), clock.clone(), longest).unwrap();
            assert!(matches!(PaperExchange::open(config.clone(), clock.clone()), Err(VenueError::JournalInUse { .. })));
            assert_eq!(seen(&paper).await, before, "{longest}");
            let known = ["s1", "s2", "s3"].map(|id| paper.lock().unwrap().core.status(id).is_some());
            assert_eq!(known, [false, true, true], "{longest}");
            assert_eq!(paper.fills().unwrap().len(), 2);
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        let paper = PaperExchange::open(config.clone(), clock.clone()).unwrap();
        paper.lock().unwrap().commit(&Decision::of(effects(&[(4, 3_000, "open")]))).unwrap();
        let after = seen(&paper).await;
        drop(paper);
        assert_eq!(seen(&PaperExchange::open(config, clock).unwrap()).await, after, "it goes on");
    }

    #[tokio::test]
    async fn when_the_record_cannot_be_written_nothing_is_claimed_any_more() {
        let config = PaperConfig {
            venue: Venue::Paper,
            instruments: Vec::new(),
            opening: BTreeMap::new(),
            maker_fee_percent: Decimal::ZERO,
            taker_fee_percent: Decimal::ZERO,
            latency_ms: 0..=0,
            reject_bps: 0,
            lost_reply_bps: 0,
            max_book_age_ms: 1_000,
            seed: 1,
            journal: "/dev/full".into(),
        };
        let mut core = PaperCore::new(config).unwrap();
        let opening = core.opening();
        core.commit(&opening).unwrap();
        let inner = Inner { core, journal: Journal::on_a_full_disk(), lose_replies: 0, broken: false };
        let (inner, clock) = (Arc::new(Mutex::new(inner)), Arc::new(At(UnixMs(0))));
        let paper = PaperExchange { inner, clock, venue: Venue::Paper };
        let instrument = InstrumentId { venue: Venue::Paper, symbol: Symbol::parse("BTCUSDT").unwrap() };
        let order = OrderRequest {
            client_order_id: "s1".into(),
            order_id: OrderId(uuid::Uuid::nil()),
            instrument: instrument.clone(),
            side: Side::Buy,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::ImmediateOrCancel,
            quantity: Quantity::parse("1").unwrap(),
            worst_price: Price::parse("1").unwrap(),
        };
        for _ in 0..2 {
            assert!(matches!(paper.place(&order).await, Outcome::Unknown { .. }), "not even a refusal is certain");
            assert!(matches!(paper.query(&instrument, "s1").await, Err(VenueError::JournalBroken)));
            assert!(matches!(paper.cancel(&instrument, "s1").await, CancelOutcome::Unknown { .. }));
            assert!(paper.fills().is_err() && paper.open_orders().await.is_err() && paper.balances().await.is_err());
        }
    }
}
