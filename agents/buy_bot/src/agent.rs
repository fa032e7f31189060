//! The process: inputs to plans, plans to messages.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::agent::{AgentSpec, TableGrant, USUAL_LIMITS};
use domain::ids::{MessageId, UserId};
use domain::market::{Candle, Instrument, InstrumentId};
use domain::message::{
    DecisionOutcome, Envelope, Header, Message, Notice, OrderDecision, Payload, PositionChanged, Task, TradingSignal,
};
use domain::money::Quantity;
use domain::order::OrderIntent;
use domain::reject::{Reject, RejectCode};
use domain::review::{NoReview, Opinion, Percent};
use domain::subject::{Priority, Route, Subject};
use domain::time::UnixMs;
use runtime::sandbox::Reach;
use runtime::{Agent, ConfigFaults, Ctx, HandleError, Work};

use crate::config::{PlannerConfig, StrategiesConfig};
use crate::planner::{PlanInputs, plan};
use crate::review::{Birth, Effect, Held, Look, ReviewConfig, Reviewer, Reviews, effect, is_asked};
use crate::saved::{FOLDER, SavedHoldings};
use crate::strategy::{Strategies, StrategySignal};

/// The planner and strategy process.
#[derive(Debug)]
pub struct BuyBot {
    planner: PlannerConfig,
    user_id: UserId,
    signal_ttl_ms: i64,
    desk: Mutex<StrategyDesk>,
    reviews: Option<Reviews>,
}

/// Strategies and what they need to know between bars.
#[derive(Debug)]
struct StrategyDesk {
    strategies: Strategies,
    held: BTreeMap<InstrumentId, Quantity>,
    /// The newest bar of each instrument that had signals: a handler may run twice for one bar and must say the same
    /// twice.
    newest: BTreeMap<InstrumentId, (UnixMs, Vec<StrategySignal>)>,
    /// Where holdings outlive a restart; `None` keeps them in memory only.
    saved: Option<SavedHoldings>,
}

impl StrategyDesk {
    fn on_candle(&mut self, candle: &Candle) -> Vec<StrategySignal> {
        if let Some((bar, signals)) = self.newest.get(&candle.instrument)
            && *bar == candle.open_time
        {
            return signals.clone();
        }
        let held = self.held.get(&candle.instrument).copied();
        let signals = self.strategies.on_candle(candle, held);
        if !signals.is_empty() {
            self.newest.insert(candle.instrument.clone(), (candle.open_time, signals.clone()));
        }
        self.save();
        signals
    }

    fn refused(&mut self, signal: MessageId) {
        self.strategies.refused(signal);
        self.save();
    }

    /// A holding that can't be stored is still held: trading goes on, the log says that a restart would forget it.
    fn save(&mut self) {
        if let Some(saved) = &mut self.saved
            && let Err(error) = saved.put(self.strategies.holdings())
        {
            tracing::error!(%error, "strategy holdings could not be stored; a restart would forget them");
        }
    }
}

impl BuyBot {
    /// A process with this configuration.
    #[must_use]
    pub fn new(planner: PlannerConfig, strategies: &StrategiesConfig) -> Self {
        let desk = StrategyDesk {
            strategies: Strategies::new(strategies, planner.cex_venue),
            held: BTreeMap::new(),
            newest: BTreeMap::new(),
            saved: None,
        };
        Self {
            planner,
            user_id: UserId::of_handle(&strategies.user),
            signal_ttl_ms: strategies.signal_ttl_ms,
            desk: Mutex::new(desk),
            reviews: None,
        }
    }

    /// Has signals reviewed. Without it, or without a reviewer, every review that is wanted is missing.
    #[must_use]
    pub fn reviewed(self, config: ReviewConfig, reviewer: Option<Arc<dyn Reviewer>>) -> Self {
        Self { reviews: Some(Reviews::new(config, reviewer)), ..self }
    }

    /// Its reviews, for whoever drives them: the background work, or a simulation.
    #[must_use]
    pub const fn reviews(&self) -> Option<&Reviews> {
        self.reviews.as_ref()
    }

    /// Takes up the holdings stored in `file`, and stores them there from now on.
    ///
    /// # Errors
    /// The file is there and can't be read: starting without it would forget positions.
    pub fn resume(self, file: PathBuf) -> Result<Self, ConfigFaults> {
        let (saved, holdings) = SavedHoldings::open(file)?;
        {
            let mut desk = self.desk();
            for key in desk.strategies.restore(holdings) {
                tracing::error!(
                    key,
                    "a stored holding has no strategy any more; its position is for a person to close"
                );
            }
            desk.saved = Some(saved);
        }
        Ok(self)
    }

    fn desk(&self) -> MutexGuard<'_, StrategyDesk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan_with(
        &self,
        signal: &TradingSignal,
        header: &Header,
        instruments: &BTreeMap<InstrumentId, Instrument>,
        ctx: &Ctx<'_>,
    ) -> Result<Vec<OrderIntent>, Reject> {
        let marks = ctx.market.marks();
        plan(signal, header, PlanInputs { instruments, marks: &marks, now: ctx.now, config: &self.planner })
    }

    fn signal(
        &self,
        signal: &TradingSignal,
        input: &Envelope,
        instruments: &BTreeMap<InstrumentId, Instrument>,
        ctx: &Ctx<'_>,
    ) -> Result<Vec<Message>, HandleError> {
        let (user_id, about) = (input.header.user_id, input.header.message_id);
        let mut intents = self.plan_with(signal, &input.header, instruments, ctx)?;
        let Some(intent) = intents.first_mut() else {
            let text = format!("HOLD {} noted, nothing planned", token_of(signal));
            return Ok(vec![notice("SIGNAL_HELD", text, user_id, about)]);
        };
        let birth = Birth::of(input.subject.route());
        let (opinion, effect) = self.judged(intent, birth, input, ctx)?;
        metrics::counter!("swarm_reviews_total", "of" => birth.word(), "outcome" => outcome_of(&opinion)).increment(1);
        let mut told = match effect {
            Effect::Hold(held) => return Ok(vec![held_notice(signal, held, &opinion, user_id, about)]),
            Effect::GoAndTell => vec![objection(signal, &opinion, user_id, about)],
            Effect::Go => Vec::new(),
        };
        intent.opinion = opinion;
        let mut out = messages(intents, input.subject.priority());
        out.append(&mut told);
        Ok(out)
    }

    /// What a model says of a plan, and what that does to it.
    fn judged(
        &self,
        intent: &OrderIntent,
        birth: Birth,
        input: &Envelope,
        ctx: &Ctx<'_>,
    ) -> Result<(Opinion, Effect), HandleError> {
        let Some(reviews) = &self.reviews else {
            let wanted = is_asked(birth, intent.side, input.subject.priority());
            let opinion = match wanted {
                true => Opinion::NoOpinion { reason: NoReview::NotConfigured },
                false => Opinion::NotAsked,
            };
            let effect = effect(birth, intent.side, &opinion, Percent::default());
            return Ok((opinion, effect));
        };
        match reviews.look(intent, birth, input, ctx) {
            Look::Wait => Err(HandleError::NotYet(format!("{} waits for a review", intent.signal_id))),
            Look::Settled(opinion) => {
                let effect = reviews.effect(intent, birth, &opinion);
                Ok((opinion, effect))
            }
        }
    }

    fn strategy_signals(
        &self,
        signals: Vec<StrategySignal>,
        instruments: &BTreeMap<InstrumentId, Instrument>,
        ctx: &Ctx<'_>,
    ) -> Vec<Message> {
        let mut out = Vec::new();
        for signal in signals {
            let header = signal.header(self.user_id, ctx.now, self.signal_ttl_ms);
            match self.plan_with(&signal.signal, &header, instruments, ctx) {
                Ok(intents) => out.extend(messages(intents, Priority::Urgent)),
                Err(reject) => {
                    self.desk().refused(signal.id);
                    let text = format!("{} on {}: {reject}", signal.strategy, signal.instrument);
                    out.push(notice("STRATEGY_SIGNAL_REJECTED", text, self.user_id, signal.id));
                }
            }
        }
        out
    }

    fn position(&self, position: &PositionChanged, user: UserId) {
        if user == self.user_id {
            self.desk().held.insert(position.instrument.clone(), position.quantity);
        }
    }

    fn decision(&self, decision: &OrderDecision) {
        if matches!(decision.outcome, DecisionOutcome::Refused { .. }) {
            self.desk().refused(decision.signal_id);
        }
    }
}

async fn instruments(ctx: &mut Ctx<'_>) -> Result<BTreeMap<InstrumentId, Instrument>, HandleError> {
    let all = store::instruments::all(ctx.unit()?).await?;
    Ok(all.into_iter().map(|instrument| (instrument.id.clone(), instrument)).collect())
}

/// The token address as it may be shown: letters and digits, cut short.
fn token_of(signal: &TradingSignal) -> String {
    signal.token_address.chars().filter(char::is_ascii_alphanumeric).take(48).collect()
}

/// The word of an opinion in counts.
fn outcome_of(opinion: &Opinion) -> &'static str {
    match opinion {
        Opinion::NotAsked => "not_asked",
        Opinion::NoOpinion { reason } => reason.word(),
        Opinion::Reviewed(review) => review.verdict().word(),
    }
}

/// What a model said, for a notice: its figures as numbers, its prose apart and named as what it is.
fn numbers_of(opinion: &Opinion) -> Vec<(String, String)> {
    let Opinion::Reviewed(review) = opinion else { return Vec::new() };
    let numbers = [
        ("verdict", review.verdict().word().to_owned()),
        ("confidence_percent", review.confidence_percent().to_string()),
        ("model", review.model().to_owned()),
        ("words_of_the_model", review.reasoning().to_owned()),
    ];
    numbers.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

fn held_notice(signal: &TradingSignal, held: Held, opinion: &Opinion, user_id: UserId, about: MessageId) -> Message {
    let text = format!("the idea to buy {} is held: {}", token_of(signal), held.word());
    let reason = ("reason".to_owned(), held.word().to_owned());
    let more = numbers_of(opinion).into_iter().chain([reason]);
    notice_with("SIGNAL_HELD", text, more, user_id, about)
}

fn objection(signal: &TradingSignal, opinion: &Opinion, user_id: UserId, about: MessageId) -> Message {
    let text = format!("a model objects to buying {}; the order goes its way all the same", token_of(signal));
    notice_with("REVIEW_OBJECTS", text, numbers_of(opinion), user_id, about)
}

fn notice(code: &str, text: String, user_id: UserId, about: MessageId) -> Message {
    notice_with(code, text, [], user_id, about)
}

fn notice_with(
    code: &str,
    text: String,
    more: impl IntoIterator<Item = (String, String)>,
    user_id: UserId,
    about: MessageId,
) -> Message {
    let numbers = more.into_iter().chain([("signal_id".to_owned(), about.to_string())]).collect();
    let payload = Payload::Notice(Notice { code: code.to_owned(), text, numbers });
    Message::fact(Subject::fact(Route::Notice), user_id, format!("{code} {about}"), payload)
}

/// Intents for treasury, and for each DEX token the question whether it may be traded at all.
fn messages(intents: Vec<OrderIntent>, priority: Priority) -> Vec<Message> {
    let mut out = Vec::new();
    for intent in intents {
        let (key, user_id, valid_until) = (intent.intent_id.to_string(), intent.user_id, Some(intent.valid_until));
        if intent.instrument.venue.is_dex() {
            let arguments = BTreeMap::from([
                ("venue".to_owned(), intent.instrument.venue.to_string()),
                ("mint".to_owned(), intent.instrument.symbol.to_string()),
            ]);
            out.push(Message {
                subject: Subject::of(Route::TokenQuestion, priority),
                key: key.clone(),
                user_id,
                valid_until,
                payload: Payload::Task(Task::plain("token_verdict".to_owned(), arguments)),
            });
        }
        out.push(Message {
            subject: Subject::of(Route::Intent, priority),
            key,
            user_id,
            valid_until,
            payload: Payload::OrderIntent(intent),
        });
    }
    out
}

impl Agent for BuyBot {
    const SPEC: AgentSpec = AgentSpec {
        name: crate::NAME,
        job: "strategies and the planner: signals in, order intents out",
        consumes: &[Route::Signal, Route::UserSignal, Route::Idea],
        listens: &[Route::Tick, Route::Candle, Route::PositionChanged, Route::Decision],
        listens_with_store: &[Route::Candle],
        emits: &[Route::Intent, Route::TokenQuestion, Route::Notice],
        timers: &[],
        tables: &[
            TableGrant { table: "inbox", rights: "SELECT, INSERT, DELETE" },
            TableGrant { table: "outbox", rights: "SELECT, INSERT, DELETE" },
            TableGrant { table: "instruments", rights: "SELECT" },
        ],
        services: &[],
        asks: &[],
        administers_streams: false,
        limits: USUAL_LIMITS,
        lacks: &[
            "no recalled memories for P0-P7 signals yet",
            "a strategy whose exit filled in part leaves the rest to a person",
        ],
    };

    async fn handle(&self, input: &Envelope, ctx: &mut Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        match &input.payload {
            Payload::TradingSignal(signal) => {
                let instruments = instruments(ctx).await?;
                self.signal(signal, input, &instruments, ctx)
            }
            Payload::Candle(candle) => {
                self.reviews.iter().for_each(|reviews| reviews.on_candle(candle));
                let signals = self.desk().on_candle(candle);
                if signals.is_empty() {
                    return Ok(Vec::new());
                }
                let instruments = instruments(ctx).await?;
                Ok(self.strategy_signals(signals, &instruments, ctx))
            }
            Payload::PositionChanged(position) => {
                self.position(position, input.header.user_id);
                self.reviews.iter().for_each(|reviews| reviews.on_position(position, input.header.user_id));
                Ok(Vec::new())
            }
            Payload::OrderDecision(decision) => {
                self.decision(decision);
                Ok(Vec::new())
            }
            Payload::MarketTick(_) => Ok(Vec::new()),
            other => {
                let detail = format!("{} is nothing for the planner", other.kind());
                Err(HandleError::Reject(Reject::new(RejectCode::WrongPayload, detail)))
            }
        }
    }

    /// The signal is decided, whatever it became.
    fn committed(&self, input: &Envelope) {
        self.reviews.iter().for_each(|reviews| reviews.desk().forget(input.header.message_id));
    }

    async fn ready(&self, input: &Envelope) {
        match &self.reviews {
            Some(reviews) => reviews.settled(input.header.message_id).await,
            None => std::future::pending().await,
        }
    }

    fn reach(vars: &BTreeMap<String, String>) -> Reach {
        Reach::usual(vars).keeping(vars, FOLDER)
    }

    fn lacks(&self) -> Vec<String> {
        let review = match &self.reviews {
            Some(reviews) => reviews.lack(),
            None => Some("no model reviews P0-P7 signals, ideas of models are held".to_owned()),
        };
        review.into_iter().chain(Self::SPEC.lacks.iter().map(|lack| (*lack).to_owned())).collect()
    }

    async fn background(self: Arc<Self>, work: Work) -> Result<(), HandleError> {
        match &self.reviews {
            Some(reviews) => reviews.run(&work.shutdown, || work.progress()).await,
            None => work.shutdown.cancelled().await,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
