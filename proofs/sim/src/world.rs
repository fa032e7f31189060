//! One world: ten processes, a broker, a database, a venue, a market and people, on one thread and one seed.

mod deeds;
mod ideas;
mod looking;
mod outside;
mod processes;
mod stage;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bus::streams::consumers_of;
use domain::ids::{MessageId, derive};
use domain::message::{Envelope, Payload};
use domain::money::Usd;
use domain::subject::{Route, Stream, Subject};
use domain::time::{Clock, DAY_MS, UnixMs};
use memory::Store;
use memory::bus::{Broker, Limit, Listener};
use rails::book::Marks;
use runtime::kill::{file_path, read_file, write_file};
use runtime::{HandleError, MarketView, outbox};
use serde_json::json;
use store::approvals::{ApprovalStatus, Approver};
use treasury::sweep::{Round, sweep};
use uuid::Uuid;

use crate::cast::{BUY_BOT, DESK_PLACE, Leads, SPECS, SUPERVISOR, TREASURY, start};
use crate::checks::{Checks, Sight};
use crate::engine::{Around, Process, Work};
use crate::event::{Breakage, Event};
use crate::faults::{Fault, Need};
use crate::hub::{Hub, ProcessClock, TaskId, WorldClock};
use crate::market::{self, CANDLE_MS, Market};
use crate::people::{self, Deed, Request};
use crate::venue::Venue;

/// How a seed is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Keeps the trace.
    pub traced: bool,
    /// What is wrong on purpose.
    pub fault: Option<Fault>,
    /// What happens besides what the seed draws.
    pub need: Option<Need>,
    /// A promise of the record that is broken without being a fault.
    pub record: Option<memory::Defect>,
}

/// What came of a seed.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Which.
    pub seed: u64,
    /// Steps taken.
    pub steps: u64,
    /// Step, invariant and what was seen; the first ends a world without a deliberate fault.
    pub findings: Vec<(u64, &'static str, String)>,
    /// How often each path was taken.
    pub counts: BTreeMap<String, u64>,
    /// The trace, when it was kept.
    pub trace: Vec<String>,
    /// Digest of the trace.
    pub digest: String,
}

/// How lively a world is, drawn from its seed.
#[derive(Debug, Clone, Copy)]
struct Tempo {
    market_ms: i64,
    sweep_ms: i64,
    turn_ms: i64,
    hearing_lost_permille: u32,
    delivery_ms: i64,
}

struct Slot {
    process: Option<Box<dyn Process>>,
    clock: ProcessClock,
    ears: Vec<Listener>,
    in_hand: usize,
    pulls_at: Option<i64>,
    hears_at: Option<i64>,
    boots: u64,
}

struct Task {
    place: usize,
    work: Work,
    is_delivery: bool,
}

/// The world.
pub struct World {
    hub: Arc<Hub>,
    store: Store,
    broker: Broker,
    venue: Arc<Venue>,
    market: Market,
    checks: Checks,
    folder: tempfile::TempDir,
    slots: Vec<Slot>,
    leads: Leads,
    round: Rc<RefCell<Option<Round>>>,
    queue: BTreeMap<(i64, u64), Event>,
    tasks: BTreeMap<TaskId, Task>,
    tempo: Tempo,
    options: Options,
    serial: u64,
    next_task: TaskId,
    steps: u64,
    seen_commits: u64,
    seen_published: u64,
    rests: bool,
    feed_down: bool,
    draining: bool,
    tampered: bool,
    desk_asleep: bool,
    is_reviewed: bool,
    /// Ideas to buy that were sent.
    ideas: Vec<MessageId>,
    findings: Vec<(u64, &'static str, String)>,
}

/// Runs a future that has nothing to wait for.
///
/// # Panics
/// When it waits.
#[expect(clippy::panic, reason = "a world's own setting up never waits")]
pub fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

/// Runs one seed to its end.
#[must_use]
pub fn run(seed: u64, options: Options) -> Outcome {
    let mut world = World::new(seed, options);
    world.live();
    if !world.is_over() {
        world.drain();
    }
    let (trace, digest) = world.hub.take_trace();
    let counts = world.hub.take_counts();
    Outcome { seed, steps: world.steps, findings: world.findings, counts, trace, digest }
}

impl World {
    /// # Panics
    /// When a world can't be made: there is no folder for its files, or a shipped configuration does not read.
    #[expect(clippy::expect_used, reason = "a world that can't be made must not be taken for one that passed")]
    fn new(seed: u64, options: Options) -> Self {
        let midday = UnixMs(1_767_614_400_000);
        let hub = Hub::new(seed, midday, options.traced);
        if hub.permille(200) {
            // A few minutes before midnight, UTC.
            hub.go_to(UnixMs(midday.0.div_euclid(DAY_MS) * DAY_MS + DAY_MS - hub.between(30_000, 300_000)));
        } else {
            hub.go_to(midday.plus_ms(hub.between(0, 3_600_000)));
        }
        let clock: Arc<dyn Clock> = Arc::new(WorldClock(Arc::clone(&hub)));
        let consumers: Vec<_> = SPECS.iter().flat_map(consumers_of).collect();
        let broker = Broker::new(Arc::clone(&clock), &consumers).expect("a broker");
        broker.keep(vec!["trading.buy_bot.*.*".to_owned(), "trading.*.*".to_owned()]);
        options.fault.and_then(Fault::of_broker).into_iter().for_each(|defect| broker.spoil(defect));
        let lost = hub.pick(&[0, 0, 50, 200]);
        let core = market::exchange(seed, hub.pick(&[0, 0, 300]));
        let venue = Venue::new(&hub, core, lost, hub.pick(&[0, 30, 800]), options.fault);
        let folder = tempfile::Builder::new().prefix("sim-").tempdir().expect("a folder");
        let tempo = Tempo {
            market_ms: hub.pick(&[2_000, 5_000, 10_000]),
            sweep_ms: hub.pick(&[500, 2_000, 5_000]),
            turn_ms: hub.pick(&[1_000, 3_000]),
            hearing_lost_permille: hub.pick(&[0, 20, 200]),
            delivery_ms: hub.pick(&[2, 40, 1_500]),
        };
        let market = Market::new(&hub);
        let slot = |_: &_| Slot {
            process: None,
            clock: ProcessClock::new(&hub),
            ears: Vec::new(),
            in_hand: 0,
            pulls_at: None,
            hears_at: None,
            boots: 0,
        };
        let slots = SPECS.iter().map(slot).collect();
        let rests = hub.permille(500);
        let mut world = Self {
            store: Store::new(clock),
            broker,
            venue,
            market,
            checks: Checks::default(),
            folder,
            slots,
            leads: Leads::default(),
            round: Rc::default(),
            queue: BTreeMap::new(),
            tasks: BTreeMap::new(),
            tempo,
            options,
            serial: 0,
            next_task: 1,
            steps: 0,
            seen_commits: 0,
            seen_published: 0,
            rests,
            feed_down: false,
            draining: false,
            tampered: false,
            desk_asleep: false,
            is_reviewed: seed % 4 == 1 || options.need == Some(Need::Ideas),
            ideas: Vec::new(),
            findings: Vec::new(),
            hub,
        };
        now(world.furnish()).expect("a furnished database");
        let broken = options.fault.and_then(Fault::of_record).or(options.record);
        broken.into_iter().for_each(|defect| world.store.spoil(defect));
        world.plan(seed);
        world
    }

    /// Accounts, approvers, instruments, kill level 0: what `swarm up` makes on a first start.
    async fn furnish(&self) -> Result<(), store::StoreError> {
        let at = self.hub.now();
        for (handle, opening, own) in people::ACCOUNTS {
            let mut unit = self.store.begin();
            let constraints = own.map_or_else(|| json!({}), |(name, value)| json!({ name: value }));
            store::users::open_account(&mut unit, handle, Usd::dollars(opening), constraints, at).await?;
            unit.commit().await?;
        }
        let mut unit = self.store.begin();
        for (person, handle, active) in people::APPROVERS {
            let approver = Approver {
                person_id: person.to_owned(),
                handle: handle.map(str::to_owned),
                public_key: hex::encode(people::key_of(person).verifying_key().as_bytes()),
                active,
            };
            store::approvals::upsert_approver(&mut unit, &approver).await?;
        }
        for instrument in self.market.instruments() {
            store::instruments::upsert(&mut unit, &instrument).await?;
        }
        let kill = store::kill::raise(&mut unit, 0, "swarm up", "first start", at).await?;
        unit.commit().await?;
        // A folder that can't be written to is a level that can't be read: the world goes on at level 1.
        let _ = write_file(&file_path(self.folder.path()), kill.level, kill.epoch);
        Ok(())
    }

    fn at(&mut self, after_ms: i64, event: Event) {
        let at = self.hub.now().0 + after_ms.max(0);
        self.serial += 1;
        self.queue.insert((at, self.serial), event);
    }

    /// Draws what people will do and what will break.
    fn plan(&mut self, seed: u64) {
        let hub = Arc::clone(&self.hub);
        for place in 0..SPECS.len() {
            self.at(0, Event::Start(place));
        }
        for event in [Event::Market, Event::Candle, Event::Sweep, Event::Turn] {
            self.at(50, event);
        }
        let span = hub.pick(&[60_000, 180_000, 600_000]);
        for _ in 0..hub.between(6, 24) {
            let deed = match hub.below(20) {
                0..=11 => Deed::Signal,
                12 => Deed::Look,
                13 => Deed::Halt,
                14 => Deed::Resume,
                15 => Deed::Reset,
                _ => Deed::Vote,
            };
            self.at(hub.between(1_000, span), Event::Person(deed));
        }
        if seed.is_multiple_of(8) {
            let who = hub.pick(&["operator", "alice", "bob"]);
            self.at(hub.between(1_000, span), Event::Person(Deed::Burst(who, 40)));
        }
        if self.market.drift_bps < 0 || seed % 8 == 1 {
            for n in 0..5 {
                self.at(2_000 + n * 75_000, Event::Person(Deed::Trip));
            }
        }
        if self.is_reviewed {
            (0..hub.between(3, 10)).for_each(|_| self.at(hub.between(1_000, span), Event::Person(Deed::Idea)));
        }
        self.stage(self.options.need);
        // A third of all worlds is at peace but for the network's own disorder.
        if hub.permille(330) {
            return;
        }
        hub.set_trouble(hub.pick(&[0, 5, 20]), hub.pick(&[0, 10, 50]));
        for _ in 0..hub.between(0, 4) {
            let place = usize::try_from(hub.below(SPECS.len() as u64)).unwrap_or(0);
            let breakage = match hub.below(10) {
                0 => Breakage::Store,
                1 => Breakage::Venue,
                2 => Breakage::Broker,
                3 => Breakage::FullStreams,
                4 => Breakage::KillFile,
                5 | 6 => Breakage::Clock(place.min(3), hub.pick(&[-40_000, -3_000, -900, 900, 1_900, 3_000, 7_000])),
                7 => Breakage::Feed,
                _ => Breakage::Kill(place),
            };
            let begins = hub.between(1_000, span);
            let lasts = hub.pick(&[300, 4_000, 20_000, 45_000]);
            self.at(begins, Event::Break(breakage));
            self.at(begins + lasts, Event::Mend(breakage));
        }
        hub.trace(|| format!("seed {seed}: {:?} over {span} ms", self.tempo));
    }

    /// Lives until all that was drawn has happened.
    fn live(&mut self) {
        let last = self.queue.keys().next_back().map_or(0, |(at, _)| *at) + 10_000;
        while let Some(((at, serial), event)) = self.queue.pop_first() {
            if at > last {
                self.queue.insert((at, serial), event);
                break;
            }
            self.step(at, event);
            if self.is_over() {
                return;
            }
        }
    }

    /// What was looked for was found: anything at all, or what a deliberate fault must lead to.
    fn is_over(&self) -> bool {
        match self.options.fault {
            None => !self.findings.is_empty(),
            Some(fault) => self.findings.iter().any(|(_, invariant, _)| *invariant == fault.expected()),
        }
    }

    fn step(&mut self, at: i64, event: Event) {
        if at > self.hub.now().0 {
            self.hub.go_to(UnixMs(at));
        }
        self.steps += 1;
        self.happen(event);
        self.settle();
    }

    /// What a step set off: deaths, wake-ups, messages to be fetched; and whether all is still well.
    fn settle(&mut self) {
        self.deaths();
        self.reviews();
        for (at, task) in self.hub.take_wakes() {
            self.serial += 1;
            self.queue.insert((at, self.serial), Event::Resume(task));
        }
        for (at, event) in self.hub.take_later() {
            self.serial += 1;
            self.queue.insert((at, self.serial), event);
        }
        let published = self.broker.published();
        if published != self.seen_published {
            self.seen_published = published;
            for place in 0..SPECS.len() {
                self.wake(place);
            }
        }
        self.look();
    }

    /// Who died in this step is looked at as it was, and then gone.
    fn deaths(&mut self) {
        if let Some(name) = self.hub.take_crash()
            && let Some(place) = SPECS.iter().position(|spec| spec.name == name)
        {
            self.look();
            self.kill(place);
        }
    }

    fn wake(&mut self, place: usize) {
        if self.slots[place].process.is_none() {
            return;
        }
        if self.slots[place].pulls_at.is_none() && !SPECS[place].consumes.is_empty() {
            let after = self.hub.between(0, self.tempo.delivery_ms);
            self.slots[place].pulls_at = Some(self.hub.now().0 + after);
            self.at(after, Event::Pull(place));
        }
        if self.slots[place].hears_at.is_none() && !SPECS[place].listens.is_empty() {
            let after = self.hub.between(0, self.tempo.delivery_ms);
            self.slots[place].hears_at = Some(self.hub.now().0 + after);
            self.at(after, Event::Hear(place));
        }
    }

    fn happen(&mut self, event: Event) {
        let hub = Arc::clone(&self.hub);
        match event {
            Event::Resume(task) => self.poll(task),
            Event::Pull(place) => self.pull(place),
            Event::Hear(place) => self.hear(place),
            Event::Relay(place) => {
                if let Some(work) = self.slots[place].process.as_ref().map(|process| process.relay()) {
                    self.spawn(place, work, false);
                }
            }
            Event::Timer(place, name, boot) => self.timer(place, name, boot),
            Event::Sweep => {
                self.sweep();
                self.at(if self.draining { 10_000 } else { self.tempo.sweep_ms }, Event::Sweep);
            }
            Event::Turn => self.turn(),
            Event::Market => {
                self.market();
                self.at(if self.draining { 15_000 } else { self.tempo.market_ms }, Event::Market);
            }
            Event::Candle => {
                self.candle();
                let past = hub.now().0.rem_euclid(CANDLE_MS);
                self.at(CANDLE_MS - past, Event::Candle);
            }
            Event::Person(deed) => self.person(deed),
            Event::Start(place) => self.start(place),
            Event::LateOrder(order) => {
                hub.count("venue late arrival");
                let outcome = self.venue.arrive(&order);
                hub.trace(|| format!("venue: {} arrives late: {outcome:?}", order.client_order_id));
            }
            Event::Break(breakage) => self.breaks(breakage),
            Event::Mend(breakage) => self.mend(breakage),
        }
    }

    /// The faults stop, the people go home, and everything comes to its end within bounded time.
    fn drain(&mut self) {
        self.draining = true;
        self.hub.set_trouble(0, 0);
        for breakage in [
            Breakage::Store,
            Breakage::Venue,
            Breakage::Broker,
            Breakage::FullStreams,
            Breakage::KillFile,
            Breakage::Feed,
        ] {
            self.mend(breakage);
        }
        self.slots.iter().for_each(|slot| slot.clock.set_offset(0));
        self.queue.retain(|_, event| !matches!(event, Event::Person(_) | Event::Break(_)));
        self.tempo.hearing_lost_permille = 0;
        // An approved order may rest for its 15 minutes; a question may wait as long before that.
        let bound = self.hub.now().0 + 2 * 900_000 + 120_000;
        while let Some(((at, serial), event)) = self.queue.pop_first() {
            if at > bound {
                self.queue.insert((at, serial), event);
                break;
            }
            let is_tick = event == Event::Sweep;
            self.step(at, event);
            if self.is_over() {
                return;
            }
            if is_tick && self.is_quiet() {
                break;
            }
        }
        let tables = self.store.snapshot();
        let mut found = self.checks.reread(&tables);
        found.extend(crate::end::look(
            &tables,
            &self.broker,
            &self.hub,
            self.checks.venue_fills(),
            self.venue.resting(),
        ));
        self.note(found);
        crate::end::tally(&tables, &self.hub);
    }

    fn is_quiet(&self) -> bool {
        self.tasks.is_empty()
            && SPECS.iter().all(|spec| {
                consumers_of(spec).iter().all(|consumer| self.broker.waiting(consumer.stream, spec.name) == 0)
            })
            && crate::end::nothing_left(&self.store.snapshot(), self.venue.resting()).is_empty()
    }
}
