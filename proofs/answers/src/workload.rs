//! The signals of a day, and the questions that buy_bot makes of them, with its own planner, tape, prompt and request.

use std::collections::{BTreeMap, VecDeque};

use buy_bot::config::{ConfigError, PlannerConfig};
use buy_bot::planner::{PlanInputs, plan};
use buy_bot::review::reviewer::{Names, schema};
use buy_bot::review::{Birth, Question, ReviewConfig, Situation, Tape, is_asked, prompt};
use domain::ids::{CorrelationId, MessageId, UserId, derive};
use domain::market::{Instrument, InstrumentId, Mark, MarketTick, Symbol, Venue};
use domain::message::{Header, SignalAction, SignalSize, TradingSignal};
use domain::money::Usd;
use domain::order::{OrderIntent, Origin, Side};
use domain::subject::Priority;
use domain::time::UnixMs;
use llm::request::{ChatRequest, Invalid};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rust_decimal::Decimal;
use venues::candles::CandleBuilder;

use crate::market::{MarketError, Moment, Play, Recording, Seen};

/// Whose money. Answers are shared within one of them only.
pub const TENANTS: [&str; 3] = ["operator", "alice", "bob"];
/// Grace of candles, ms, as in `config/replay.toml`.
const CANDLE_GRACE_MS: i64 = 2_000;
/// Trades an hour that the rails let pass: what fills moves positions, and no more of it.
const MOST_FILLS_AN_HOUR: usize = 20;
const HOUR_MS: i64 = 3_600_000;
/// Exits an hour, tenant and instrument.
const EXITS_AN_HOUR: f64 = 6.0;

/// Who sends signals of one instrument for one tenant, in parts of the tenant's rate.
struct Source {
    part: f64,
    birth: Birth,
    /// Sizes, dollars, one drawn each time.
    dollars: &'static [i32],
    /// What it gives as its reason: an agent that works by a rule says the same words each time, a person on the command line
    /// nothing.
    reason: &'static str,
}

const SOURCES: [Source; 3] = [
    Source { part: 0.5, birth: Birth::Model, dollars: &[150], reason: "breakout above the channel" },
    Source { part: 0.3, birth: Birth::Model, dollars: &[150, 900], reason: "reversion to the mean" },
    Source { part: 0.2, birth: Birth::Person, dollars: &[30, 100, 150, 900, 2_500], reason: "" },
];

/// How a day is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// How often the recording is played.
    pub plays: i64,
    /// Signals to buy, an hour and tenant.
    pub per_hour: f64,
    /// Agents give reasons in words of their own, with figures, in place of the same words each time.
    pub free_reasons: bool,
}

/// Why there is no workload.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The shipped configuration does not read.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// No market.
    #[error("market")]
    Market(#[from] MarketError),
    /// The router would not take what buy_bot sends.
    #[error("the router refuses buy_bot's request")]
    Request(#[from] Invalid),
}

/// One question on its way to the router.
#[derive(Debug, Clone)]
pub struct Asked {
    /// When.
    pub at: UnixMs,
    /// Whose.
    pub tenant: &'static str,
    /// As the router has read it.
    pub request: ChatRequest,
    /// Every line that is shown and not volatile, and the instruction.
    pub facts: String,
    /// The exact figures behind it; `None` for a question of a person's.
    pub situation: Option<Situation>,
}

struct Lane {
    tenant: &'static str,
    symbol: Symbol,
    next: UnixMs,
    source: &'static Source,
}

/// What buy_bot has seen.
struct Desk {
    shape: Shape,
    rng: ChaCha8Rng,
    review: ReviewConfig,
    planner: PlannerConfig,
    schema: serde_json::Value,
    instruments: BTreeMap<InstrumentId, Instrument>,
    ticks: BTreeMap<InstrumentId, MarketTick>,
    marks: BTreeMap<InstrumentId, Mark>,
    tape: Tape,
    held: BTreeMap<(UserId, InstrumentId), bool>,
    fills: BTreeMap<&'static str, VecDeque<UnixMs>>,
    asked: Vec<Asked>,
}

/// The questions of a day, in order.
///
/// # Errors
/// [`WorkloadError`].
pub fn day(recording: &Recording, shape: Shape) -> Result<Vec<Asked>, WorkloadError> {
    let mut rng = ChaCha8Rng::seed_from_u64(shape.seed);
    let mut desk = Desk::open(recording, shape)?;
    let mut bars: BTreeMap<Symbol, CandleBuilder> = BTreeMap::new();
    for id in desk.instruments.keys() {
        let builder = CandleBuilder::new(id.clone(), desk.review.bar_interval_ms, CANDLE_GRACE_MS);
        bars.insert(id.symbol.clone(), builder);
    }
    let mut lanes = lanes(desk.instruments.keys(), recording.begin, shape, &mut rng);
    let mut exits: Vec<(UserId, InstrumentId, UnixMs)> = Vec::new();
    for (tenant, id) in TENANTS.iter().flat_map(|tenant| desk.instruments.keys().map(move |id| (tenant, id))) {
        exits.push((UserId::of_handle(tenant), id.clone(), after(recording.begin, EXITS_AN_HOUR, &mut rng)));
    }
    let mut last = BTreeMap::new();
    for number in 0..shape.plays {
        let play = Play::new(recording, number, &last, &mut rng);
        for moment in &recording.moments {
            let now = play.at(moment.at_ms);
            bars.values_mut().filter_map(|bars| bars.close_due(now)).for_each(|candle| desk.tape.push(&candle));
            desk.see(moment, &play, bars.get_mut(&moment.symbol), &mut last)?;
            for (user, id, next) in exits.iter_mut().filter(|(_, _, next)| *next <= now) {
                *next = after(now, EXITS_AN_HOUR, &mut rng);
                if let Some(held) = desk.held.get_mut(&(*user, id.clone())) {
                    *held = false;
                }
            }
            for lane in lanes.iter_mut().filter(|lane| lane.next <= now) {
                lane.next = after(now, rate(lane.source, shape), &mut rng);
                desk.signal(lane, now)?;
            }
        }
    }
    Ok(desk.asked)
}

/// Signals an hour of a source in one instrument.
fn rate(source: &Source, shape: Shape) -> f64 {
    source.part * shape.per_hour / 2.0
}

/// The next of events that come at random, so many an hour.
fn after(now: UnixMs, per_hour: f64, rng: &mut ChaCha8Rng) -> UnixMs {
    let wait_h = -(1.0 - rng.random::<f64>()).ln() / per_hour.max(1e-3);
    #[expect(clippy::cast_possible_truncation, reason = "a wait of hours, in ms")]
    let wait_ms = (wait_h * 3_600_000.0) as i64;
    now.plus_ms(wait_ms.max(1))
}

fn lanes<'a>(
    instruments: impl Iterator<Item = &'a InstrumentId> + Clone,
    begin: UnixMs,
    shape: Shape,
    rng: &mut ChaCha8Rng,
) -> Vec<Lane> {
    let mut lanes = Vec::new();
    for tenant in TENANTS {
        for id in instruments.clone() {
            for source in &SOURCES {
                let next = after(begin, rate(source, shape), rng);
                lanes.push(Lane { tenant, symbol: id.symbol.clone(), next, source });
            }
        }
    }
    lanes
}

impl Desk {
    fn open(recording: &Recording, shape: Shape) -> Result<Self, WorkloadError> {
        let review = ReviewConfig::parse(include_str!("../../../config/review.toml"))?;
        let mut planner = PlannerConfig::parse(include_str!("../../../config/planner.toml"))?;
        planner.cex_venue = Venue::Paper;
        let mut instruments = BTreeMap::new();
        for moment in &recording.moments {
            let id = InstrumentId { venue: Venue::Paper, symbol: moment.symbol.clone() };
            instruments.entry(id.clone()).or_insert_with(|| Instrument {
                id,
                base: moment.symbol.as_str().trim_end_matches("USDT").to_owned(),
                quote: "USDT".to_owned(),
                tick: Decimal::new(1, 2),
                step: Decimal::new(1, 5),
                min_quantity: Decimal::new(1, 5),
                max_quantity: Decimal::from(9_000),
                min_notional: Decimal::from(5),
            });
        }
        Ok(Self {
            shape,
            rng: ChaCha8Rng::seed_from_u64(shape.seed ^ 0x5157),
            tape: Tape::new(review.bar_interval_ms, review.bars),
            review,
            planner,
            schema: schema(),
            instruments,
            ticks: BTreeMap::new(),
            marks: BTreeMap::new(),
            held: BTreeMap::new(),
            fills: BTreeMap::new(),
            asked: Vec::new(),
        })
    }

    fn see(
        &mut self,
        moment: &Moment,
        play: &Play,
        bars: Option<&mut CandleBuilder>,
        last: &mut BTreeMap<Symbol, Decimal>,
    ) -> Result<(), MarketError> {
        match moment.seen {
            Seen::Quote { bid, ask } => {
                let Some(tick) = play.tick(moment, bid, ask) else { return Ok(()) };
                last.insert(moment.symbol.clone(), tick.bid.value());
                if let Some(mark) = tick.mark() {
                    self.marks.insert(tick.instrument.clone(), mark);
                }
                self.ticks.insert(tick.instrument.clone(), tick);
            }
            Seen::Trade { price, traded_ms } => {
                let (Some(price), Some(bars)) = (play.price(&moment.symbol, price), bars) else { return Ok(()) };
                let one = domain::money::Quantity::new(Decimal::ONE)?;
                if let Some(candle) = bars.trade(price, one, play.at(traded_ms))? {
                    self.tape.push(&candle);
                }
            }
        }
        Ok(())
    }

    /// A signal arrives: planned, asked about, and now and then filled.
    fn signal(&mut self, lane: &Lane, now: UnixMs) -> Result<(), WorkloadError> {
        let source = lane.source;
        let dollars = source.dollars.choose(&mut self.rng).copied().unwrap_or(150);
        let number = self.asked.len();
        let id = MessageId(derive("proof.answers", &[&number.to_be_bytes(), &self.shape.seed.to_be_bytes()]));
        let signal = TradingSignal {
            action: SignalAction::Buy,
            token_address: lane.symbol.as_str().to_owned(),
            size: SignalSize::Notional(Usd::dollars(dollars)),
            price_limit: None,
            time_in_force: None,
            slices: None,
            confidence_bps: None,
            reasoning: self.reason(source),
            origin: match source.birth {
                Birth::Person => Origin::Person { handle: lane.tenant.to_owned() },
                Birth::Strategy | Birth::Model => Origin::Agent { name: "jarvis_x".to_owned() },
            },
        };
        let user_id = UserId::of_handle(lane.tenant);
        // P0 to P7 are asked about: the priority decides how the router answers, never what.
        let priority = self.rng.random_range(0..8);
        let header = Header {
            message_id: id,
            correlation_id: CorrelationId(id.0),
            source_agent: "jarvis_x".to_owned(),
            made_at: now,
            priority,
            user_id,
            valid_until: None,
            traceparent: None,
        };
        let around = PlanInputs { instruments: &self.instruments, marks: &self.marks, now, config: &self.planner };
        // Before the first price there is no plan, and nobody is asked.
        let Ok(intents) = plan(&signal, &header, around) else { return Ok(()) };
        for intent in intents.iter().filter(|_| is_asked(source.birth, Side::Buy, Priority::Normal)) {
            self.ask(intent, source.birth, priority, lane.tenant, now)?;
            self.fill(intent, lane.tenant, now);
        }
        Ok(())
    }

    fn reason(&mut self, source: &Source) -> String {
        if !self.shape.free_reasons || source.birth == Birth::Person {
            return source.reason.to_owned();
        }
        let opening =
            ["I see", "There is", "The chart shows", "Note"].choose(&mut self.rng).copied().unwrap_or_default();
        let (whole, part) = (self.rng.random_range(0..3), self.rng.random_range(0..100));
        format!("{opening} a {} of {whole}.{part:02} % within the hour", source.reason)
    }

    fn ask(
        &mut self,
        intent: &OrderIntent,
        birth: Birth,
        priority: u8,
        tenant: &'static str,
        now: UnixMs,
    ) -> Result<(), WorkloadError> {
        let holds = self.held.get(&(intent.user_id, intent.instrument.clone())).copied();
        let tick = self.ticks.get(&intent.instrument);
        let situation = Situation::of(intent, birth, now, tick, &self.tape, holds);
        let question = Question {
            signal_id: intent.signal_id,
            correlation_id: CorrelationId(intent.signal_id.0),
            user_id: intent.user_id,
            priority,
            deadline_ms: u64::try_from(self.review.deadline_ms).unwrap_or(0),
            prompt: prompt(&situation),
        };
        let request = request(&question, &self.review, &self.schema)?;
        let facts = facts(&question);
        self.asked.push(Asked { at: now, tenant, request, facts, situation: Some(situation) });
        Ok(())
    }

    /// Half of what is asked for trades, within the hour's limit; then the account holds it until the next exit.
    fn fill(&mut self, intent: &OrderIntent, tenant: &'static str, now: UnixMs) {
        let fills = self.fills.entry(tenant).or_default();
        while fills.pop_front_if(|at| now.since_ms(*at) > HOUR_MS).is_some() {}
        if fills.len() < MOST_FILLS_AN_HOUR && self.rng.random_bool(0.5) {
            fills.push_back(now);
            self.held.insert((intent.user_id, intent.instrument.clone()), true);
        }
    }
}

/// The request as the router reads it, body and headers as buy_bot's client sends them.
fn request(question: &Question, review: &ReviewConfig, schema: &serde_json::Value) -> Result<ChatRequest, Invalid> {
    let names = Names::of(question);
    let ask = question.ask(&names, &review.model, review.max_tokens, schema);
    let mut request = ChatRequest::parse(ask.body().to_string().as_bytes())?;
    for (name, value) in ask.told() {
        request.extras.set(name, &value)?;
    }
    Ok(request)
}

/// What the question shows and means. Read line by line here, apart from the cache's own normal form.
fn facts(question: &Question) -> String {
    let is_volatile = |line: &str| {
        let name = line.split_once(": ").map(|(name, _)| name);
        name.is_some_and(|name| question.prompt.volatile.contains(&name))
    };
    // Its first lines are the volatile ones: whatever a stranger writes further down is a fact.
    let lines = question.prompt.user.lines().enumerate();
    let kept: Vec<&str> = lines.filter(|(at, line)| *at >= 2 || !is_volatile(line)).map(|(_, line)| line).collect();
    format!("{}\n{}", question.prompt.system, kept.join("\n"))
}
