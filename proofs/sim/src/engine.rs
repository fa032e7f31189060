//! One process of a world: what the runtime does for one message, without a server. The decisions (how often, how long,
//! dead letter or not, which rows) are the runtime's own; here is only the order of steps, and the places to die between
//! them.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bus::codec::{self, Arrival};
use bus::{BusError, Published, Raw};
use domain::agent::AgentSpec;
use domain::ids::UserId;
use domain::message::{Envelope, Header, Message, Payload};
use domain::reject::Reject;
use domain::subject::Subject;
use domain::time::{Clock, UnixMs};
use memory::Store;
use memory::bus::{Broker, Delivery};
use rails::book::Marks;
use runtime::verdict::{self, Cause, Place, Verdict};
use runtime::{Agent, Ctx, HandleError, MarketView, Means, Record, outbox, trace};
use store::Unit;
use uuid::Uuid;

use crate::event::Event;
use crate::faults::Fault;
use crate::hub::{Hub, Point, ProcessClock};

/// Suspended or running work of one process.
pub type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Tries within the process after a conflict, as the runtime has them.
const CONFLICT_TRIES: u32 = 4;

/// What a process has around it; its agent's background work gets it as its [`Means`].
#[derive(Clone)]
pub struct Around {
    /// The world.
    pub hub: Arc<Hub>,
    /// Its record.
    pub store: Store,
    /// The road.
    pub broker: Broker,
    /// Prices it has seen since it began.
    pub market: MarketView,
    /// Its clock.
    pub clock: ProcessClock,
    /// What it is.
    pub spec: AgentSpec,
    /// Its place in the cast.
    pub place: usize,
    /// A model reviews signals here.
    pub is_reviewed: bool,
    /// What is wrong with this world on purpose.
    pub fault: Option<Fault>,
}

/// A process: what the world may ask of it.
pub trait Process {
    /// What it is.
    fn around(&self) -> &Around;
    /// Handles one delivery and settles it.
    fn deliver(&self, delivery: Delivery) -> Work;
    /// Hears one message.
    fn hear(&self, raw: Raw) -> Work;
    /// Its timer ticks.
    fn tick(&self, name: &'static str) -> Work;
    /// Publishes what its outbox holds.
    fn relay(&self) -> Work;
}

/// An agent and what surrounds it.
pub struct Host<A> {
    agent: Arc<A>,
    around: Around,
    relaying: Rc<Cell<bool>>,
}

impl<A> Clone for Host<A> {
    fn clone(&self) -> Self {
        Self { agent: Arc::clone(&self.agent), around: self.around.clone(), relaying: Rc::clone(&self.relaying) }
    }
}

impl<A> Host<A> {
    /// A process that begins.
    pub fn new(agent: Arc<A>, around: Around) -> Self {
        Self { agent, around, relaying: Rc::new(Cell::new(false)) }
    }
}

impl Around {
    fn has_tables(&self) -> bool {
        !self.spec.tables.is_empty()
    }

    /// The prices it goes by.
    #[must_use]
    pub fn prices(&self) -> MarketView {
        if self.fault != Some(Fault::MarksRestamped) || self.spec.name != "treasury" {
            return self.market.clone();
        }
        let (now, lies) = (self.clock.now(), MarketView::new());
        for mut tick in self.market.received().keys().filter_map(|instrument| self.market.tick(instrument)) {
            tick.received_at = now;
            lies.put(tick, now);
        }
        lies
    }

    /// How wrong it is told that its clock is.
    fn skew_ms(&self, now: UnixMs) -> i64 {
        if self.fault == Some(Fault::SkewUnseen) { 0 } else { self.clock.now().since_ms(now) }
    }

    /// Opens a transaction, unless the database is away.
    async fn open(&self, user: UserId) -> Result<Unit, HandleError> {
        if self.hub.store_down() {
            self.hub.count("store away");
            return Err(HandleError::Retry("the store can't be reached".to_owned()));
        }
        let mut unit = self.store.begin();
        if !user.0.is_nil() {
            unit.set_tenant(user).await?;
        }
        Ok(unit)
    }

    /// Commits, or dies before or after it, or never learns whether it did.
    async fn close(&self, unit: Unit) -> Result<(), HandleError> {
        self.hub.point(self.spec.name, Point::BeforeCommit).await;
        let lost = self.hub.is_lost();
        if lost && self.hub.permille(500) {
            self.hub.count("commit failed");
            unit.rollback().await?;
            return Err(HandleError::Retry("the commit failed".to_owned()));
        }
        unit.commit().await.map_err(|error| HandleError::Retry(error.to_string()))?;
        self.hub.committed();
        self.hub.later(self.hub.between(0, 5), Event::Relay(self.place));
        self.hub.point(self.spec.name, Point::AfterCommit).await;
        if lost {
            self.hub.count("commit unanswered");
            return Err(HandleError::Retry("the answer to the commit was lost".to_owned()));
        }
        Ok(())
    }

    async fn put(&self, unit: &mut Unit, parent: &Header, out: Vec<Message>) -> Result<(), HandleError> {
        let rows = outbox::rows(&self.spec, parent, out, self.clock.now())?;
        Ok(unit.outbox_put(self.spec.name, &rows).await?)
    }

    /// One try of a publish, over a line that may fail either way.
    fn publish(&self, encoded: &bus::Encoded, id: &str) -> Result<Published, BusError> {
        let unanswered = || BusError::PublishUnanswered { subject: encoded.subject.clone(), tries: 1 };
        if self.hub.publish_fails() {
            self.hub.count("broker away");
            return Err(unanswered());
        }
        let lost = self.hub.is_lost();
        if lost && self.hub.permille(500) {
            return Err(unanswered());
        }
        let published = self.broker.publish(encoded, id);
        match &published {
            Err(BusError::StreamFull { .. }) => self.hub.count("stream full"),
            Ok(stored) if stored.duplicate => self.hub.count("publish duplicate"),
            _ => {}
        }
        if lost {
            self.hub.count("publish unanswered");
            return Err(unanswered());
        }
        published
    }

    /// Publishes without an outbox.
    fn emit(&self, parent: &Header, out: Vec<Message>) -> Result<(), HandleError> {
        outbox::announced(&self.spec, &out)?;
        let now = self.clock.now();
        for message in out {
            let encoded = bus::Bus::encode(&message.into_child(parent, self.spec.name, now));
            self.publish(&encoded, &encoded.id.to_string()).map_err(|e| HandleError::Retry(e.to_string()))?;
        }
        Ok(())
    }

    /// The head of a chain that begins here.
    fn root(&self, user: UserId) -> Header {
        outbox::root(self.spec.name, self.hub.new_id(), user, self.clock.now())
    }
}

impl Record for Around {
    async fn begin(&self, user: UserId) -> Result<Unit, HandleError> {
        self.open(user).await
    }

    async fn commit(&self, mut unit: Unit, user: UserId, out: Vec<Message>) -> Result<(), HandleError> {
        self.put(&mut unit, &self.root(user), out).await?;
        self.close(unit).await
    }
}

impl Means for Around {
    fn now(&self) -> UnixMs {
        self.clock.now()
    }

    fn marks(&self) -> Marks {
        self.prices().marks()
    }

    fn new_id(&self) -> Uuid {
        self.hub.new_id()
    }

    async fn emit(&self, user: UserId, out: Vec<Message>) -> Result<(), HandleError> {
        Self::emit(self, &self.root(user), out)
    }

    async fn pause(&self, ms: u64) {
        self.hub.pause(i64::try_from(ms).unwrap_or(i64::MAX)).await;
    }

    async fn forward(&self, raw: &Raw, _: Option<UnixMs>) -> Result<Published, BusError> {
        let id = raw.header("Nats-Msg-Id").unwrap_or_default().to_owned();
        let Raw { subject, headers, payload } = raw.clone();
        self.publish(&bus::Encoded { subject, id: Uuid::nil(), headers, payload }, &id)
    }
}

/// Where an input came from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Consumed,
    Passing,
}

impl<A: Agent> Host<A> {
    async fn handle(&self, input: &Envelope, source: Source) -> Result<(), HandleError> {
        let mut tries = 1;
        loop {
            match self.attempt(input, source).await {
                Err(HandleError::Retry(text)) if self.around.has_tables() && tries < CONFLICT_TRIES => {
                    if self.around.hub.store_down() {
                        return Err(HandleError::Retry(text));
                    }
                    self.around.hub.pause(10 << tries).await;
                    tries += 1;
                }
                Err(HandleError::Fatal(text)) if self.around.hub.store_down() => return Err(HandleError::Retry(text)),
                settled => return settled,
            }
        }
    }

    async fn attempt(&self, input: &Envelope, source: Source) -> Result<(), HandleError> {
        let around = &self.around;
        let is_heard = source == Source::Passing && !around.spec.listens_with_store.contains(&input.subject.route());
        if is_heard || !around.has_tables() {
            if source == Source::Consumed {
                codec::in_time(input, around.clock.now())?;
            }
            return self.without_store(input).await;
        }
        let mut unit = match around.open(input.header.user_id).await {
            Ok(unit) => unit,
            Err(_) if source == Source::Passing => return self.without_store(input).await,
            Err(error) => return Err(error),
        };
        let now = match source {
            Source::Consumed => {
                let tenant = unit.tenant();
                let Some(now) = unit.open(tenant, around.spec.name, input.header.message_id).await? else {
                    around.hub.count("inbox knew it");
                    return Ok(unit.rollback().await?);
                };
                codec::in_time(input, now)?;
                now
            }
            Source::Passing => unit.now().await?,
        };
        let market = around.prices();
        let mut ctx = Ctx::new(now, around.skew_ms(now), &market, Some(&mut unit));
        let out = self.agent.handle(input, &mut ctx).await?;
        around.put(&mut unit, &input.header, out).await?;
        around.close(unit).await?;
        self.agent.committed(input);
        if around.spec.name == "online_trading" {
            around.hub.later(around.hub.between(0, 20), Event::Turn);
        }
        Ok(())
    }

    async fn without_store(&self, input: &Envelope) -> Result<(), HandleError> {
        let around = &self.around;
        let out = self.agent.handle(input, &mut Ctx::new(around.clock.now(), 0, &around.market, None)).await?;
        around.emit(&input.header, out)
    }

    async fn decide(&self, input: &Envelope, delivery: &Delivery) -> Verdict {
        let around = &self.around;
        let route = input.subject.route();
        loop {
            match self.handle(input, Source::Consumed).await {
                Ok(()) => return Verdict::Ack,
                Err(HandleError::Reject(reject)) => return verdict::give_up(Some(route), reject),
                Err(HandleError::NotYet(_)) => {
                    around.broker.in_progress(delivery);
                    around.hub.pause(250).await;
                }
                Err(HandleError::Retry(text)) if !around.hub.store_down() => {
                    around.hub.count("delivery retried");
                    return verdict::after_failure(route, delivery.attempts, &text);
                }
                Err(HandleError::Retry(_)) => {
                    while around.hub.store_down() {
                        around.broker.in_progress(delivery);
                        around.hub.pause(1_600).await;
                    }
                }
                Err(HandleError::Fatal(text)) => {
                    around.hub.find("no process ends itself", format!("{}: {text}", around.spec.name));
                    return verdict::after_failure(route, delivery.attempts, &text);
                }
            }
        }
    }

    async fn settle(self, delivery: Delivery) {
        let around = &self.around;
        let hub = &around.hub;
        hub.point(around.spec.name, Point::BeforeHandle).await;
        let subject = Subject::parse(&delivery.raw.subject);
        let route = subject.as_ref().map(Subject::route);
        let at = Arrival {
            stream: delivery.stream.name(),
            stream_seq: delivery.stream_seq,
            published_at: delivery.published_at,
        };
        let (verdict, cause) = match codec::read(&delivery.raw, &at) {
            Ok(mut input) => {
                trace::enter(&mut input.header);
                let verdict = self.decide(&input, &delivery).await;
                let message_id = Some(input.header.message_id);
                (verdict, Cause { route, user: input.header.user_id, message_id })
            }
            Err(reject) => {
                let user = subject.as_ref().map_or(UserId(Uuid::nil()), verdict::door_user);
                (verdict::give_up(route, reject), Cause { route, user, message_id: None })
            }
        };
        hub.trace(|| {
            format!(
                "{}: {} {}:{} try {}: {verdict:?}",
                around.spec.name,
                delivery.raw.subject,
                delivery.stream.name(),
                delivery.stream_seq,
                delivery.attempts
            )
        });
        hub.point(around.spec.name, Point::BeforeAck).await;
        self.carry_out(&delivery, &cause, verdict);
    }

    fn carry_out(&self, delivery: &Delivery, cause: &Cause, verdict: Verdict) {
        let around = &self.around;
        let settled = match verdict {
            Verdict::Ack if around.hub.is_lost() => {
                around.hub.count("ack lost");
                Ok(())
            }
            Verdict::Ack => around.broker.ack(delivery),
            Verdict::Again(pause) => {
                around.broker.nak(delivery, pause);
                Ok(())
            }
            Verdict::Drop => around.broker.term(delivery),
            Verdict::DeadLetter(reject) => match self.bury(delivery, cause, &reject) {
                Ok(()) => around.broker.term(delivery),
                Err(_) => {
                    around.broker.nak(delivery, Duration::from_secs(1));
                    Ok(())
                }
            },
        };
        if let Err(error) = settled {
            around.hub.trace(|| format!("{}: not settled: {error}", around.spec.name));
        }
    }

    fn bury(&self, delivery: &Delivery, cause: &Cause, reject: &Reject) -> Result<(), HandleError> {
        let around = &self.around;
        let (stream, seq) = (delivery.stream.name(), delivery.stream_seq);
        let at = Arrival { stream, stream_seq: seq, published_at: delivery.published_at };
        let (letter, id) = bus::letters::letter(&at, &delivery.consumer, &delivery.raw, reject, around.clock.now());
        around.publish(&letter, &id).map_err(|error| HandleError::Retry(error.to_string()))?;
        let place = Place { stream, seq, subject: &delivery.raw.subject };
        let parent = outbox::root(around.spec.name, place.burial_id(), cause.user, around.clock.now());
        around.emit(&parent, verdict::told(cause, reject, place))?;
        around.hub.count(&format!("dead letter {}", reject.code.code()));
        Ok(())
    }

    async fn pass(self, mut input: Envelope) {
        trace::enter(&mut input.header);
        if let Err(HandleError::Fatal(text)) = self.handle(&input, Source::Passing).await {
            self.around.hub.find("no process ends itself", format!("{}: {text}", self.around.spec.name));
        }
    }

    async fn empty_outbox(self) {
        if self.relaying.replace(true) {
            return;
        }
        let around = &self.around;
        let again = loop {
            if around.hub.store_down() {
                break true;
            }
            let Some(row) = around.store.outbox_pending(around.spec.name, 1).into_iter().next() else { break false };
            let (id, valid_until) = (row.id, row.valid_until);
            if valid_until.is_some_and(|end| end < around.clock.now()) {
                around.hub.count("outbox row expired");
                around.hub.expired(id);
            } else {
                let encoded = outbox::encoded(row);
                if around.publish(&encoded, &id.to_string()).is_err() {
                    break true;
                }
                around.hub.point(around.spec.name, Point::AfterPublish).await;
            }
            around.store.outbox_delete(around.spec.name, &[id]);
        };
        self.relaying.set(false);
        if again {
            around.hub.later(1_000, Event::Relay(around.place));
        }
    }
}

impl<A: Agent> Process for Host<A> {
    fn around(&self) -> &Around {
        &self.around
    }

    fn deliver(&self, delivery: Delivery) -> Work {
        Box::pin(self.clone().settle(delivery))
    }

    fn hear(&self, raw: Raw) -> Work {
        let now = self.around.clock.now();
        let at = Arrival { stream: "", stream_seq: 0, published_at: now };
        let Ok(input) = codec::decode(&raw, &at, now) else { return Box::pin(std::future::ready(())) };
        if let Payload::MarketTick(tick) = &input.payload {
            self.around.market.put(tick.clone(), now);
            return Box::pin(std::future::ready(()));
        }
        Box::pin(self.clone().pass(input))
    }

    fn tick(&self, name: &'static str) -> Work {
        let header = self.around.root(UserId(Uuid::nil()));
        let subject = Subject::command(self.around.spec.name);
        Box::pin(self.clone().pass(Envelope { header, subject, payload: Payload::Timer(name) }))
    }

    fn relay(&self) -> Work {
        if self.around.has_tables() { Box::pin(self.clone().empty_outbox()) } else { Box::pin(std::future::ready(())) }
    }
}
