//! The exchange desk: market data in, permitted orders out, and the truth about both written down.
//!
//! Architecture invariant: the desk never sizes, prices or approves an order, and sends none without a permit that
//! verifies and was not spent before. It knows no model.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod canceller;
pub mod config;
pub mod executor;
pub mod market;
pub mod permit;
pub mod process;
mod sliced;
pub mod slices;
pub mod source;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use domain::agent::{AgentSpec, WorkLimits};
use domain::ids::UserId;
use domain::market::{Instrument, Venue};
use domain::message::{Envelope, Message, Payload};
use domain::reject::{Reject, RejectCode};
use domain::subject::Route;
use runtime::kill::KillSwitch;
use runtime::sandbox::Reach;
use runtime::{Agent, Ctx, HandleError, Work};
use tokio::sync::Notify;
use venues::exchange::Exchange;

use crate::canceller::Canceller;
use crate::config::Config;
use crate::executor::Executor;

/// Its name.
pub const NAME: &str = "online_trading";
/// The venue of this desk in this build.
pub const VENUE: Venue = Venue::Paper;

/// The agent.
#[derive(Debug)]
pub struct Desk {
    config: Config,
    data_dir: std::path::PathBuf,
    kill: Arc<KillSwitch>,
    wake: Arc<Notify>,
    halted: Arc<Notify>,
    ready: OnceLock<()>,
}

impl Desk {
    /// Takes the checked configuration and the folder of journal and kill file.
    #[must_use]
    pub fn new(config: Config, data_dir: &std::path::Path) -> Self {
        Self {
            config,
            data_dir: data_dir.to_owned(),
            kill: Arc::new(KillSwitch::new(data_dir)),
            wake: Arc::new(Notify::new()),
            halted: Arc::new(Notify::new()),
            ready: OnceLock::new(),
        }
    }

    /// The part that talks to `exchange`; the handler wakes it and hears the kill level for it.
    #[must_use]
    pub fn executor(&self, exchange: Arc<dyn Exchange>) -> Executor {
        Executor { exchange, wake: self.wake.clone(), kill: self.kill.clone() }
    }

    /// The part that takes the orders at `exchange` back; the handler hears the kill level for it.
    #[must_use]
    pub fn canceller(&self, exchange: Arc<dyn Exchange>) -> Canceller {
        Canceller { exchange, kill: self.kill.clone(), halted: self.halted.clone(), wake: self.wake.clone() }
    }

    /// Permits are taken from here on: the venue's open orders were compared with ours.
    pub fn reconciled(&self) {
        let _ = self.ready.set(());
    }
}

impl Agent for Desk {
    const SPEC: AgentSpec = AgentSpec {
        name: NAME,
        job: "exchange desk: market data, execution, reconciliation (paper)",
        consumes: &[Route::CexPermit],
        listens: &[Route::HaltChanged],
        listens_with_store: &[],
        emits: &[Route::Report, Route::Notice, Route::Tick, Route::Candle],
        timers: &[],
        tables: store::grants::DESK,
        services: &["swarm.market"],
        asks: &[],
        administers_streams: false,
        limits: WorkLimits { max_in_flight: 4, handle_timeout_ms: 4_000 },
        lacks: &["live orders on Binance: paper only"],
    };

    fn reach(vars: &BTreeMap<String, String>) -> Reach {
        Reach::usual(vars).keeping(vars, source::FOLDER)
    }

    async fn handle(&self, input: &Envelope, ctx: &mut Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        let now = ctx.now;
        match &input.payload {
            Payload::HaltChanged(halt) => {
                self.kill.hear(halt);
                self.halted.notify_one();
                self.wake.notify_one();
                Ok(Vec::new())
            }
            Payload::Permit(permit) => {
                if self.ready.get().is_none() {
                    return Err(HandleError::NotYet("the desk is still reconciling with its venue".to_owned()));
                }
                if permit.body.envelope.user_id != input.header.user_id {
                    return Err(Reject::new(RejectCode::WrongUser, "permit and header name different users").into());
                }
                let unit = ctx.unit()?;
                let kill = self.kill.read(unit).await?;
                permit::accept(unit, permit, &self.config.verifier, VENUE, kill, now).await
            }
            other => Err(Reject::new(RejectCode::WrongPayload, other.kind()).into()),
        }
    }

    fn committed(&self, _input: &Envelope) {
        self.wake.notify_one();
    }

    async fn background(self: Arc<Self>, work: Work) -> Result<(), HandleError> {
        let opened = source::open(&self.config, &self.data_dir, &work).await?;
        let exchange: Arc<dyn Exchange> = Arc::new(opened.paper.clone());
        let (executor, canceller) = (self.executor(exchange.clone()), self.canceller(exchange));
        // Before anything is loaded: what rests although it must not is taken back first.
        canceller.look().await;
        let market = market::MarketTask {
            source: opened.source,
            venue: VENUE,
            paper: opened.paper.clone(),
            candle_intervals_ms: self.config.candle_intervals_ms.clone(),
            wake: self.wake.clone(),
        };
        let orders = async {
            while let Err(error) = self.reconcile(&executor, &opened.instruments, &work).await {
                match error {
                    HandleError::Fatal(text) => return Err(HandleError::Fatal(text)),
                    error => tracing::warn!(%error, "reconciling again"),
                }
                tokio::select! {
                    () = work.shutdown.cancelled() => return Ok(()),
                    () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
                }
            }
            tracing::info!(venue = %VENUE, "reconciled; permits are accepted");
            self.reconciled();
            executor.run(&work).await
        };
        tokio::try_join!(canceller.run(&work), market.run(&work), orders, source::serve(opened.steering, &work))?;
        Ok(())
    }
}

impl Desk {
    async fn reconcile(&self, executor: &Executor, instruments: &[Instrument], work: &Work) -> Result<(), HandleError> {
        source::store_instruments(instruments, work).await?;
        executor.reconcile(work).await
    }
}

/// No user: a transaction that sees only what the desk's own policies show.
pub(crate) fn nobody() -> UserId {
    UserId(uuid::Uuid::nil())
}
