//! The loop against a real NATS and a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bus::{Bus, BusConfig};
use domain::agent::{AgentSpec, WorkLimits};
use domain::ids::BootId;
use domain::message::{AgentCommand, Alert, Envelope, Heartbeat, LessonProposed, Message, Notice, Payload, Severity};
use domain::reject::{Reject, RejectCode};
use domain::subject::{Priority, Route, Subject};
use domain::time::{Clock, UnixMs};
use runtime::clock::SystemClock;
use runtime::{Agent, CancellationToken, Ctx, HandleError, ProcessConfig, RunError};
use store::Db;
use store::migrate::{RoleSpec, ensure_roles, migrate};
use testkit::build;
use testkit::servers::{self, TestDatabase, TestNats};
use testkit::wait::{wait_for, wait_until};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

const BOUND: Duration = Duration::from_secs(20);

/// What the next handlings do.
#[derive(Default)]
struct Script {
    calls: AtomicU64,
    commits: AtomicU64,
    fail: std::sync::Mutex<Option<HandleError>>,
    /// What was listened to, and whether there was a transaction for it.
    heard: std::sync::Mutex<Vec<(Route, bool)>>,
    /// What is not urgent can't be taken yet.
    only_urgent: std::sync::atomic::AtomicBool,
    /// What can't be taken yet is worth another try.
    ready: tokio::sync::Notify,
    /// Handlers wait here when it is given.
    gate: Option<Arc<Semaphore>>,
}

struct Probe(Arc<Script>);

impl Agent for Probe {
    const SPEC: AgentSpec = AgentSpec {
        name: "buy_bot",
        job: "probes the loop",
        consumes: &[Route::Signal, Route::UserSignal],
        listens: &[Route::Alert, Route::Lesson],
        listens_with_store: &[Route::Lesson],
        emits: &[Route::Notice],
        timers: &[],
        tables: store::grants::MESSAGING,
        services: &[],
        asks: &[],
        administers_streams: false,
        limits: WorkLimits { max_in_flight: 4, handle_timeout_ms: 4_000 },
        lacks: &[],
    };

    async fn handle(&self, input: &Envelope, ctx: &mut Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        let route = input.subject.route();
        if Self::SPEC.listens.contains(&route) {
            self.0.heard.lock().unwrap().push((route, ctx.unit().is_ok()));
            return Ok(Vec::new());
        }
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        ctx.unit()?;
        if self.0.only_urgent.load(Ordering::SeqCst) && input.subject.priority() < Priority::Urgent {
            return Err(HandleError::NotYet("waits for a model".into()));
        }
        if let Some(gate) = &self.0.gate {
            gate.acquire().await.unwrap().forget();
        }
        if let Some(error) = self.0.fail.lock().unwrap().clone() {
            return Err(error);
        }
        let notice = Notice { code: "PROBED".into(), text: "seen".into(), numbers: [].into() };
        Ok(vec![Message::fact(Subject::fact(Route::Notice), input.header.user_id, "seen", Payload::Notice(notice))])
    }

    fn committed(&self, _input: &Envelope) {
        self.0.commits.fetch_add(1, Ordering::SeqCst);
    }

    async fn ready(&self, _input: &Envelope) {
        self.0.ready.notified().await;
    }
}

/// Servers of one test, its agent's login and a connection of the test's own.
struct House {
    nats: TestNats,
    database: TestDatabase,
    bus: Bus,
    context: async_nats::jetstream::Context,
    script: Arc<Script>,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
    port: u16,
}

impl House {
    async fn new(script: Script) -> Self {
        let nats = tokio::task::spawn_blocking(servers::fresh_nats).await.unwrap();
        let postgres = tokio::task::spawn_blocking(servers::postgres).await.unwrap();
        let database = postgres.empty_database().await;
        migrate(&database.admin_url()).await.unwrap();
        let role = RoleSpec { name: Probe::SPEC.name, password: "test", grants: Probe::SPEC.tables };
        ensure_roles(&database.admin_url(), &[role]).await.unwrap();
        let config = BusConfig { url: nats.url(), name: "test".into(), ..BusConfig::default() };
        let (bus, _events) = Bus::connect(config).await.unwrap();
        bus::streams::apply(&bus, &[Probe::SPEC]).await.unwrap();
        let context = async_nats::jetstream::new(bus.client().clone());
        Self { nats, database, bus, context, script: Arc::new(script) }
    }

    fn role_url(&self) -> String {
        self.database.url_as(Probe::SPEC.name)
    }

    async fn start(&self) -> Running {
        self.start_by(SystemClock).await
    }

    async fn start_by(&self, clock: impl Clock + 'static) -> Running {
        self.start_as(clock, "0").await
    }

    async fn start_as(&self, clock: impl Clock + 'static, supervised: &str) -> Running {
        let running = self.launch(clock, supervised).await;
        wait_until(BOUND, "readiness", || running.answers("/readyz", "200")).await;
        running
    }

    /// Starts it and does not wait until it is ready.
    async fn launch(&self, clock: impl Clock + 'static, supervised: &str) -> Running {
        let run_dir = servers::fresh_folder("run");
        let vars = [
            ("SWARM_NATS_URL", self.nats.url()),
            ("SWARM_PG_URL", self.role_url()),
            ("SWARM_RUN_DIR", run_dir.display().to_string()),
            ("SWARM_SUPERVISED", supervised.to_owned()),
        ];
        let vars = vars.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let (config, faults) = ProcessConfig::check(&vars, true);
        assert!(faults.0.is_empty(), "{faults}");
        let stop = CancellationToken::new();
        let task =
            tokio::spawn(runtime::run_by(Probe(Arc::clone(&self.script)), config, stop.clone(), Arc::new(clock)));
        let file = run_dir.join("buy_bot.http");
        let port = wait_for(BOUND, "the port's file", || {
            let read = std::fs::read_to_string(&file).ok().and_then(|text| text.parse().ok());
            async move { read }
        })
        .await;
        Running { stop, task, port }
    }

    /// The next heartbeat of the agent.
    async fn heartbeat(&self) -> Heartbeat {
        let mut beats = self.bus.subscribe(&Subject::heartbeat(Probe::SPEC.name).to_string()).await.unwrap();
        let raw = tokio::time::timeout(BOUND, beats.next()).await.expect("a heartbeat").unwrap();
        let at = bus::codec::Arrival { stream: "", stream_seq: 0, published_at: SystemClock.now() };
        match bus::codec::read(&raw, &at).unwrap().payload {
            Payload::Heartbeat(beat) => beat,
            other => panic!("{other:?}"),
        }
    }

    /// A command to the agent, as a supervisor sends it.
    async fn command(&self, command: &str, boot_id: Option<BootId>) {
        let envelope = Envelope {
            header: build::root_header(&format!("{command} {boot_id:?}"), "test", SystemClock.now()),
            subject: Subject::command(Probe::SPEC.name),
            payload: Payload::AgentCommand(AgentCommand { command: command.to_owned(), boot_id }),
        };
        self.bus.publish(&envelope).await.unwrap();
    }

    /// A signal as the wire has it; published under `transport_id`, which the stream dedupes by.
    async fn signal(&self, name: &str, transport_id: &str) {
        self.signal_until(name, transport_id, None).await;
    }

    async fn signal_until(&self, name: &str, transport_id: &str, valid_until: Option<UnixMs>) {
        self.signal_of(name, transport_id, valid_until, Priority::Critical).await;
    }

    async fn signal_of(&self, name: &str, transport_id: &str, valid_until: Option<UnixMs>, priority: Priority) {
        let now = SystemClock.now();
        let envelope = Envelope {
            header: domain::message::Header { valid_until, ..build::root_header(name, "test", now) },
            subject: Subject::of(Route::Signal, priority),
            payload: Payload::TradingSignal(build::buy_signal("BTCUSDT", "100")),
        };
        let encoded = Bus::encode(&envelope);
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in &encoded.headers {
            headers.insert(name.as_str(), value.as_str());
        }
        headers.insert("Nats-Msg-Id", transport_id);
        let sent = self.context.publish_with_headers(encoded.subject, headers, encoded.payload.into()).await.unwrap();
        sent.await.unwrap();
    }

    async fn messages(&self, stream: &str, filter: &str) -> u64 {
        let stream = self.context.get_stream(stream).await.unwrap();
        let mut count = 0;
        let mut subjects = stream.info_with_subjects(filter).await.unwrap();
        while let Some(entry) = futures::StreamExt::next(&mut subjects).await {
            count += entry.unwrap().1 as u64;
        }
        count
    }

    async fn waiting(&self) -> u64 {
        self.context.get_stream("TRADING_CRITICAL").await.unwrap().cached_info().state.messages
    }

    /// Opens or closes the database, for everybody who is connected too.
    /// Closing ends the connections there are; opening must not, or it would cut what came in through the open door.
    async fn let_in(&self, open: bool) {
        let admin = Db::connect(&servers::postgres().admin_url(), "test").await.unwrap();
        let name = self.database.name();
        let mut statements = vec![format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {open}")];
        if !open {
            statements.push(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"));
        }
        for statement in statements {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(admin.pool()).await.unwrap();
        }
    }

    fn calls(&self) -> u64 {
        self.script.calls.load(Ordering::SeqCst)
    }
}

impl Running {
    async fn answers(&self, path: &str, status: &str) -> bool {
        self.get(path).await.starts_with(&format!("HTTP/1.1 {status}"))
    }

    async fn get(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await else {
            return String::new();
        };
        let ask = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    async fn drain(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("drained in time").unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_delivered_twice_counts_once() {
    let house = House::new(Script::default()).await;
    let running = house.start().await;
    house.signal("one", "transport-1").await;
    house.signal("one", "transport-2").await;
    wait_until(BOUND, "both deliveries settled", || async { house.waiting().await == 0 }).await;
    assert_eq!(house.script.commits.load(Ordering::SeqCst), 1);
    wait_until(BOUND, "its notice", || async { house.messages("SYSTEM_LOW", "system.all.notice.low").await == 1 })
        .await;
    let db = Db::connect(&house.role_url(), "test").await.unwrap();
    wait_until(BOUND, "an empty outbox", || async { db.outbox_pending("buy_bot", 10).await.unwrap().is_empty() }).await;
    let metrics = running.get("/metrics").await;
    assert!(metrics.contains("swarm_duplicates_total{"), "{metrics}");
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_somebody_else_started_takes_nothing_until_this_start_of_it_may_work() {
    let house = House::new(Script::default()).await;
    house.signal("one", "transport-1").await;
    let running = house.launch(SystemClock, "external").await;
    let beat = house.heartbeat().await;
    assert!(beat.held && beat.unready == ["a consumer is not bound"], "{beat:?}");
    house.command("work", Some(BootId(uuid::Uuid::from_u128(1)))).await;
    house.command("work", None).await;
    house.command("drain", Some(BootId(uuid::Uuid::from_u128(1)))).await;
    // The subscription is older than these beats, so what was sent before them was heard.
    let (_, beat) = (house.heartbeat().await, house.heartbeat().await);
    assert!(beat.held && !beat.draining, "meant for another start, or for none by name: {beat:?}");
    assert_eq!((house.calls(), house.waiting().await), (0, 1));
    house.command("work", Some(beat.boot_id)).await;
    wait_until(BOUND, "the signal to be handled", || async { house.waiting().await == 0 }).await;
    assert_eq!(house.calls(), 1);
    let mut beat = house.heartbeat().await;
    while beat.handled == 0 {
        beat = house.heartbeat().await;
    }
    assert!(!beat.held && beat.unready.is_empty(), "{beat:?}");
    running.drain().await;

    let held = house.launch(SystemClock, "external").await;
    assert!(house.heartbeat().await.held, "a new start has to be let in anew");
    house.command("drain", None).await;
    tokio::time::timeout(BOUND, held.task).await.expect("it ends although it is held").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_by_waits_for_no_transaction_unless_its_handler_needs_one() {
    let house = House::new(Script::default()).await;
    let running = house.start().await;
    let alert = Alert { name: "heard".into(), severity: Severity::Info, text: "heard".into() };
    let lesson = LessonProposed { text: "heard".into(), evidence: [].into() };
    for (route, payload) in [(Route::Alert, Payload::Alert(alert)), (Route::Lesson, Payload::LessonProposed(lesson))] {
        let header = build::root_header("heard", "test", SystemClock.now());
        house.bus.publish(&Envelope { header, subject: Subject::fact(route), payload }).await.unwrap();
    }
    wait_until(BOUND, "both heard", || async { house.script.heard.lock().unwrap().len() == 2 }).await;
    let mut heard = house.script.heard.lock().unwrap().clone();
    heard.sort_by_key(|(_, with_store)| *with_store);
    assert_eq!(heard, [(Route::Alert, false), (Route::Lesson, true)]);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_left_in_the_outbox_is_published_at_the_next_start() {
    let house = House::new(Script::default()).await;
    let now = SystemClock.now();
    let parent = build::root_header("crashed", "buy_bot", now);
    let notice = Notice { code: "LEFT".into(), text: "left".into(), numbers: [].into() };
    let message = Message::fact(Subject::fact(Route::Notice), parent.user_id, "left", Payload::Notice(notice));
    let encoded = Bus::encode(&message.into_child(&parent, "buy_bot", now));
    let headers = encoded.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
    let row = store::OutboxRow {
        id: encoded.id,
        subject: encoded.subject,
        headers: serde_json::Value::Object(headers),
        payload: encoded.payload,
        valid_until: None,
    };
    let db = Db::connect(&house.role_url(), "test").await.unwrap();
    let mut unit = db.begin().await.unwrap();
    unit.outbox_put("buy_bot", std::slice::from_ref(&row)).await.unwrap();
    unit.commit().await.unwrap();
    let running = house.start().await;
    // Leftovers go out before anything new is taken, so they are there as soon as it is ready.
    assert_eq!(house.messages("SYSTEM_LOW", "system.all.notice.low").await, 1);
    assert!(db.outbox_pending("buy_bot", 10).await.unwrap().is_empty());
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_expired_in_the_outbox_is_refused_by_its_reader() {
    let house = House::new(Script::default()).await;
    let now = SystemClock.now();
    let envelope = Envelope {
        header: domain::message::Header {
            valid_until: Some(now.plus_ms(-1_000)),
            ..build::root_header("late", "operator", now.plus_ms(-60_000))
        },
        subject: Subject::of(Route::Signal, Priority::Critical),
        payload: Payload::TradingSignal(build::buy_signal("BTCUSDT", "100")),
    };
    let encoded = Bus::encode(&envelope);
    let headers = encoded.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
    let row = store::OutboxRow {
        id: encoded.id,
        subject: encoded.subject,
        headers: serde_json::Value::Object(headers),
        payload: encoded.payload,
        valid_until: envelope.header.valid_until,
    };
    let db = Db::connect(&house.role_url(), "test").await.unwrap();
    let mut unit = db.begin().await.unwrap();
    unit.outbox_put("buy_bot", std::slice::from_ref(&row)).await.unwrap();
    unit.commit().await.unwrap();
    let running = house.start().await;
    wait_until(BOUND, "its dead letter", || async { house.messages("DLQ", "dlq.>").await == 1 }).await;
    let letter = house.context.get_stream("DLQ").await.unwrap();
    let letter = letter.get_last_raw_message_by_subject("dlq.TRADING_CRITICAL.buy_bot").await.unwrap();
    assert_eq!(letter.headers.get("swarm-code").map(ToString::to_string).as_deref(), Some("EXPIRED"));
    wait_until(BOUND, "its notice", || async { house.messages("SYSTEM_LOW", "system.all.notice.low").await == 1 })
        .await;
    wait_until(BOUND, "an empty outbox", || async { db.outbox_pending("buy_bot", 10).await.unwrap().is_empty() }).await;
    assert_eq!(house.calls(), 0);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_signal_is_a_dead_letter_and_its_person_is_told() {
    let script = Script::default();
    let reject = Reject::new(RejectCode::UnknownInstrument, "token_address");
    *script.fail.lock().unwrap() = Some(HandleError::Reject(reject));
    let house = House::new(script).await;
    let mut notices = house.bus.subscribe("system.all.notice.low").await.unwrap();
    let running = house.start().await;
    house.signal("odd", "odd").await;
    let told = tokio::time::timeout(BOUND, notices.next()).await.unwrap().unwrap();
    let at = bus::codec::Arrival { stream: "", stream_seq: 0, published_at: SystemClock.now() };
    let told = bus::codec::decode(&told, &at, SystemClock.now()).unwrap();
    let Payload::Notice(notice) = told.payload else { panic!("no notice") };
    assert_eq!((notice.code.as_str(), notice.numbers["code"].as_str()), ("SIGNAL_REJECTED", "UNKNOWN_INSTRUMENT"));
    assert!(notice.numbers["message_id"].parse::<domain::ids::MessageId>().is_ok(), "{:?}", notice.numbers);
    assert_eq!((notice.numbers["stream"].as_str(), notice.numbers["seq"].as_str()), ("TRADING_CRITICAL", "1"));
    assert_eq!(told.header.user_id, build::operator());
    wait_until(BOUND, "no retry", || async { house.waiting().await == 0 }).await;
    assert_eq!((house.messages("DLQ", "dlq.>").await, house.calls()), (1, 1));
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_command_is_retried_and_then_given_up() {
    let script = Script::default();
    *script.fail.lock().unwrap() = Some(HandleError::Retry("not now".into()));
    let house = House::new(script).await;
    let running = house.start().await;
    let started = tokio::time::Instant::now();
    house.signal("poison", "poison").await;
    wait_until(BOUND, "a dead letter", || async { house.messages("DLQ", "dlq.>").await == 1 }).await;
    assert!(started.elapsed() >= Duration::from_millis(2_500), "the pauses were kept");
    // Four deliveries, each tried four times within the process.
    assert_eq!(house.calls(), 16);
    wait_until(BOUND, "no rest", || async { house.waiting().await == 0 }).await;
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_finishes_what_is_in_hand() {
    let gate = Arc::new(Semaphore::new(0));
    let house = House::new(Script { gate: Some(Arc::clone(&gate)), ..Script::default() }).await;
    let running = house.start().await;
    house.signal("last", "last").await;
    wait_until(BOUND, "the handler at work", || async { house.calls() == 1 }).await;
    running.stop.cancel();
    wait_until(BOUND, "draining", || running.answers("/readyz", "503")).await;
    gate.add_permits(1);
    running.drain().await;
    assert_eq!(house.script.commits.load(Ordering::SeqCst), 1);
    assert_eq!((house.waiting().await, house.messages("SYSTEM_LOW", "system.all.notice.low").await), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_nothing_is_taken_and_no_attempt_is_used_up() {
    let house = House::new(Script::default()).await;
    let running = house.start().await;
    house.let_in(false).await;
    wait_until(BOUND, "not ready", || running.answers("/readyz", "503")).await;
    house.signal("patient", "patient").await;
    assert_eq!(house.calls(), 0);
    house.let_in(true).await;
    wait_until(BOUND, "handled after all", || async { house.waiting().await == 0 }).await;
    assert_eq!((house.calls(), house.messages("DLQ", "dlq.>").await), (1, 0));
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_taken_yet_is_kept_in_hand_and_uses_up_no_attempt() {
    let script = Script::default();
    *script.fail.lock().unwrap() = Some(HandleError::NotYet("still reconciling".into()));
    let house = House::new(script).await;
    let running = house.start().await;
    house.signal("early", "early").await;
    // More often than four deliveries would offer it, if each of these were one.
    wait_until(BOUND, "many offers", || async { house.calls() > 8 }).await;
    let mut consumer: async_nats::jetstream::consumer::PullConsumer =
        house.context.get_consumer_from_stream("buy_bot", "TRADING_CRITICAL").await.unwrap();
    let info = consumer.info().await.unwrap();
    assert_eq!((info.num_ack_pending, info.num_redelivered), (1, 0));
    *house.script.fail.lock().unwrap() = None;
    wait_until(BOUND, "handled after all", || async { house.waiting().await == 0 }).await;
    assert_eq!((house.script.commits.load(Ordering::SeqCst), house.messages("DLQ", "dlq.>").await), (1, 0));
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_urgent_passes_while_more_than_may_be_in_hand_wait_for_a_model() {
    let house = House::new(Script { only_urgent: true.into(), ..Script::default() }).await;
    let running = house.start().await;
    for n in 0..9 {
        house.signal_of(&format!("slow {n}"), &format!("slow {n}"), None, Priority::Normal).await;
    }
    // All four places of their stream are taken.
    wait_until(BOUND, "four that wait", || async { house.calls() >= 4 }).await;
    house.signal("urgent", "urgent").await;
    wait_until(BOUND, "the urgent one", || async { house.script.commits.load(Ordering::SeqCst) == 1 }).await;
    assert_eq!(house.context.get_stream("TRADING_HIGH").await.unwrap().cached_info().state.messages, 9);
    house.script.only_urgent.store(false, Ordering::SeqCst);
    wait_until(BOUND, "all of them", || async { house.script.commits.load(Ordering::SeqCst) == 10 }).await;
    assert_eq!(house.messages("DLQ", "dlq.>").await, 0);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_cuts_the_pause_of_what_can_not_be_taken_yet() {
    let house = House::new(Script { only_urgent: true.into(), ..Script::default() }).await;
    let running = house.start().await;
    house.signal_of("slow", "slow", None, Priority::Normal).await;
    wait_until(BOUND, "the first offer", || async { house.calls() > 0 }).await;
    // A quarter of a second each would be 25 s.
    let hints = async {
        for before in 1..=100 {
            house.script.ready.notify_one();
            wait_until(BOUND, "the next offer", || async { house.calls() > before }).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), hints).await.unwrap();
    house.script.only_urgent.store(false, Ordering::SeqCst);
    wait_until(BOUND, "its commit", || async { house.script.commits.load(Ordering::SeqCst) == 1 }).await;
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_taken_before_its_end_is_told_as_expired() {
    let script = Script::default();
    *script.fail.lock().unwrap() = Some(HandleError::NotYet("still reconciling".into()));
    let house = House::new(script).await;
    let running = house.start().await;
    house.signal_until("early", "early", Some(SystemClock.now().plus_ms(600))).await;
    wait_until(BOUND, "its dead letter", || async { house.messages("DLQ", "dlq.>").await == 1 }).await;
    let letter = house.context.get_stream("DLQ").await.unwrap();
    let letter = letter.get_last_raw_message_by_subject("dlq.TRADING_CRITICAL.buy_bot").await.unwrap();
    assert_eq!(letter.headers.get("swarm-code").map(ToString::to_string).as_deref(), Some("EXPIRED"));
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_handled_and_comes_again_after_its_end_is_no_dead_letter() {
    let house = House::new(Script::default()).await;
    let running = house.start().await;
    house.signal("twice", "transport-1").await;
    wait_until(BOUND, "the first delivery settled", || async {
        house.waiting().await == 0 && house.script.commits.load(Ordering::SeqCst) == 1
    })
    .await;
    house.signal_until("twice", "transport-2", Some(SystemClock.now().plus_ms(-1))).await;
    wait_until(BOUND, "the second delivery settled", || async { house.waiting().await == 0 }).await;
    assert_eq!((house.calls(), house.messages("DLQ", "dlq.>").await), (1, 0));
    running.drain().await;
}

/// A bare signal has no id but its sender's `Nats-Msg-Id`, or its place: both are lost to a message that is put back, unless
/// they are carried along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_message_that_is_put_back_is_handled_and_counts_once() {
    for id in [Some("theirs"), None] {
        let script = Script::default();
        *script.fail.lock().unwrap() = Some(HandleError::Reject(Reject::new(RejectCode::NoMark, "no price")));
        let house = House::new(script).await;
        let running = house.start().await;
        let text = r#"{"action":"BUY","token_address":"BTCUSDT","notional_usd":"600"}"#;
        let mut headers = async_nats::HeaderMap::new();
        if let Some(id) = id {
            headers.insert("Nats-Msg-Id", id);
        }
        let subject = "trading.buy_bot.signal-alice.critical";
        house.context.publish_with_headers(subject, headers, text.into()).await.unwrap().await.unwrap();
        wait_until(BOUND, "its dead letter", || async { house.messages("DLQ", "dlq.>").await == 1 }).await;
        wait_until(BOUND, "nothing waits", || async { house.waiting().await == 0 }).await;
        let letter = house.bus.letters_from(1, 1).await.unwrap().remove(0);
        let dead = letter.message().unwrap().header;
        *house.script.fail.lock().unwrap() = None;
        let now = SystemClock.now();
        for (number, commits) in [(1, 1), (2, 1), (3, 1)] {
            let again = letter.put_back(number, uuid::Uuid::from_u128(u128::from(number)));
            house.bus.forward(&again, None, &|| now).await.unwrap();
            wait_until(BOUND, "settled", || async { house.waiting().await == 0 }).await;
            let seen = (house.script.commits.load(Ordering::SeqCst), house.calls());
            assert_eq!(seen, (commits, 1 + commits), "{id:?}: put back {number} times");
        }
        let admin = Db::connect(&house.database.admin_url(), "test").await.unwrap();
        let handled: Vec<uuid::Uuid> =
            sqlx::query_scalar("SELECT message_id FROM inbox").fetch_all(admin.pool()).await.unwrap();
        assert_eq!(handled, [dead.message_id.0], "{id:?}: the inbox knows it by its first id");
        assert_eq!(house.messages("DLQ", "dlq.>").await, 1, "{id:?}");
        running.drain().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_loses_the_supervisor_drains_and_ends_as_of_an_outage() {
    let house = House::new(Script::default()).await;
    let running = house.start_as(SystemClock, "1").await;
    // Silence counts after 15 s and is looked for every 2 s.
    let ended = tokio::time::timeout(BOUND * 2, running.task).await.expect("ended by itself").unwrap().unwrap_err();
    assert_eq!(ended.exit_code(), runtime::EXIT_ORPHANED, "{ended}");
}

/// The machine's clock, set wrong.
struct Off(i64);

impl Clock for Off {
    fn now(&self) -> UnixMs {
        SystemClock.now().plus_ms(self.0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_makes_no_message_late_or_early() {
    for off_ms in [-3_600_000, 3_600_000] {
        let house = House::new(Script::default()).await;
        let mut notices = house.bus.subscribe("system.all.notice.low").await.unwrap();
        let running = house.start_by(Off(off_ms)).await;
        house.signal_until("odd", "odd", Some(SystemClock.now().plus_ms(60_000))).await;
        let told = tokio::time::timeout(BOUND, notices.next()).await.unwrap().unwrap();
        let at = bus::codec::Arrival { stream: "", stream_seq: 0, published_at: SystemClock.now() };
        let told = bus::codec::decode(&told, &at, SystemClock.now()).unwrap();
        let Payload::Notice(notice) = told.payload else { panic!("no notice") };
        assert_eq!(notice.code, "PROBED", "{off_ms}");
        let ahead = told.header.made_at.since_ms(SystemClock.now());
        assert!((-30_000..=1_000).contains(&ahead), "{off_ms}: {ahead} ms");
        running.drain().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_can_never_be_published_do_not_hide_those_behind_them() {
    let house = House::new(Script::default()).await;
    let db = Db::connect(&house.database.admin_url(), "test").await.unwrap();
    // More than any sweep takes, each larger than the broker allows.
    let stuck = "INSERT INTO outbox (agent, message_id, subject, headers, payload)
        SELECT 'buy_bot', md5(n::text)::uuid, 'system.all.notice.low', '{}', convert_to(repeat('x', 70000), 'UTF8')
        FROM generate_series(1, 300) n";
    let good = "INSERT INTO outbox (agent, message_id, subject, headers, payload)
        VALUES ('buy_bot', md5('good')::uuid, 'system.all.notice.low', '{}', 'good')";
    for statement in [stuck, good] {
        sqlx::query(statement).execute(db.pool()).await.unwrap();
    }
    let running = house.start().await;
    wait_until(BOUND, "the one that can be published", || async {
        house.messages("SYSTEM_LOW", "system.all.notice.low").await == 1
    })
    .await;
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_id_somebody_took_before_is_published_all_the_same() {
    let house = House::new(Script::default()).await;
    let running = house.start().await;
    let now = SystemClock.now();
    let root = build::root_header("foreseen", "test", now);
    let message_id = domain::ids::MessageId::of_person(build::operator(), &root.message_id.to_string());
    let heard = domain::message::Header { message_id, ..root };
    let notice = Notice { code: "PROBED".into(), text: "seen".into(), numbers: [].into() };
    let message = Message::fact(Subject::fact(Route::Notice), build::operator(), "seen", Payload::Notice(notice));
    let taken = Bus::encode(&message.into_child(&heard, "buy_bot", now)).id.to_string();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", taken.as_str());
    let sent = house.context.publish_with_headers("system.all.odd.low", headers, "mine".into()).await.unwrap();
    sent.await.unwrap();
    house.signal("foreseen", "foreseen").await;
    wait_until(BOUND, "the notice", || async { house.messages("SYSTEM_LOW", "system.all.notice.low").await == 1 })
        .await;
    let metrics = running.get("/metrics").await;
    assert!(metrics.contains("swarm_outbox_id_taken_total{"), "{metrics}");
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_handled_a_week_ago_is_forgotten_at_the_start_however_much_it_is() {
    let house = House::new(Script::default()).await;
    let db = Db::connect(&house.database.admin_url(), "test").await.unwrap();
    // More than two batches of old rows, one row of six days, and an old one of somebody else.
    let rows = "INSERT INTO inbox (agent, message_id, received_at)
        SELECT 'buy_bot', md5(n::text)::uuid, now() - interval '8 days' FROM generate_series(1, 2100) n
        UNION ALL SELECT 'buy_bot', md5('new')::uuid, now() - interval '6 days'
        UNION ALL SELECT 'treasury', md5('other')::uuid, now() - interval '8 days'";
    sqlx::query(rows).execute(db.pool()).await.unwrap();
    let running = house.start().await;
    let left = async || -> Vec<String> {
        sqlx::query_scalar("SELECT agent FROM inbox ORDER BY agent").fetch_all(db.pool()).await.unwrap()
    };
    wait_until(BOUND, "two rows left", || async { left().await == ["buy_bot", "treasury"] }).await;
    running.drain().await;
}
