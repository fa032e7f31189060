//! Signals through rails and ledger: treasury's own decision in a unit of work as the runtime makes it, on a PostgreSQL
//! that keeps every commit.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::ids::{IntentId, MessageId, UserId, derive};
use domain::market::Mark;
use domain::message::Message;
use domain::money::{Price, Quantity};
use domain::order::{Amount, OrderIntent, OrderType, Origin, Side, TimeInForce};
use domain::time::UnixMs;
use ed25519_dalek::SigningKey;
use rails::book::Marks;
use rails::limits::Limits;
use rails::signature::PermitSigner;
use rust_decimal::Decimal;
use store::{Db, OutboxRow};
use tokio::task::JoinSet;
use tokio::time::Instant;
use treasury::config::Config;
use treasury::decide::Sight;

use crate::bank::{Bank, instrument};
use crate::bench_error::BenchError;
use crate::noise::Noise;
use crate::report::{Report, Row, Target, histogram, micros, note};
use crate::{Arguments, Part, limits, processes};

/// As many as treasury handles at once.
const WRITERS: usize = 8;
/// Signals of one user: more than the rails let pass.
const PER_USER: usize = 25;
/// Users whose signals are mixed; a run ends between two such groups, so that everybody in it has sent all of theirs.
const GROUP: usize = 16;
/// Outbox rows that the relay forgets at a time.
const FORGET: usize = 64;
const TARGET_PER_SECOND: f64 = 500.0;
/// Accounts at which one signal is timed.
const LEVELS: [i64; 4] = [1, 100, 10_000, 100_000];
/// A signal with 100,000 accounts costs at most this many times one with a single account.
const TARGET_FLAT: f64 = 1.2;
/// Time between two signals of the probing user, so that neither rate nor sums stop it, ms.
const PROBE_EVERY_MS: i64 = 200_000;

/// Treasury without a process around it.
struct Treasury {
    db: Db,
    config: Config,
    mark: Price,
}

/// Measures both parts that need a ledger.
///
/// # Errors
/// [`BenchError`].
pub async fn measure(arguments: &Arguments, folder: &Path, report: &mut Report) -> Result<(), BenchError> {
    if arguments.wants(Part::Ledger) {
        let bank = Bank::open(&folder.join("ledger-postgres")).await?;
        throughput(arguments, &bank, report).await?;
    }
    if arguments.wants(Part::Users) {
        let bank = Bank::open(&folder.join("users-postgres")).await?;
        users(arguments, &bank, report).await?;
    }
    Ok(())
}

impl Treasury {
    async fn open(arguments: &Arguments, bank: &Bank) -> Result<Self, BenchError> {
        let path = arguments.config_dir.join("limits.toml");
        let text = std::fs::read_to_string(&path).map_err(|error| BenchError::file(&path, error))?;
        let house = Limits::parse(&text).map_err(|error| BenchError::file(&path, error))?;
        let signer = PermitSigner::new(SigningKey::from_bytes(&[3; 32]));
        let mark = Price::parse("60000").map_err(|error| BenchError::Broken(error.to_string()))?;
        Ok(Self { db: bank.treasury().await?, config: Config { house, signer }, mark })
    }

    /// One signal's unit of work, as the runtime's engine makes it; the ids of what it put into the outbox.
    async fn decide(&self, intent: &OrderIntent, at: Option<UnixMs>) -> Result<Vec<uuid::Uuid>, BenchError> {
        let mut unit = self.db.begin().await?;
        let message_id = MessageId(derive("bench.message", &[intent.intent_id.0.as_bytes()]));
        let Some(clock) = unit.open(Some(intent.user_id), treasury::NAME, message_id).await? else {
            return Err(BenchError::Broken("an intent was there before".to_owned()));
        };
        let now = at.unwrap_or(clock);
        let marks = Marks::from([(intent.instrument.clone(), Mark { price: self.mark, received_at: now })]);
        let sight = Sight { marks: &marks, marks_before_midnight: None, kill_copies: &[], now, clock_skew_ms: 0 };
        let intent = OrderIntent { valid_until: now.plus_ms(60_000), ..intent.clone() };
        let out = treasury::decide::decide(&mut unit, &self.config, &intent, sight).await?;
        let rows: Vec<OutboxRow> = out.into_iter().map(|message| row(message_id, message, now)).collect();
        unit.outbox_put(treasury::NAME, &rows).await?;
        unit.commit().await?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }
}

/// A message as the relay's row.
fn row(parent: MessageId, message: Message, now: UnixMs) -> OutboxRow {
    let header = domain::message::Header {
        message_id: parent,
        correlation_id: domain::ids::CorrelationId(parent.0),
        source_agent: treasury::NAME.to_owned(),
        made_at: now,
        priority: 10,
        user_id: message.user_id,
        valid_until: message.valid_until,
        traceparent: None,
    };
    let valid_until = message.valid_until;
    let encoded = bus::Bus::encode(&message.into_child(&header, treasury::NAME, now));
    let headers = encoded.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
    OutboxRow {
        id: encoded.id,
        subject: encoded.subject,
        headers: serde_json::Value::Object(headers),
        payload: encoded.payload,
        valid_until,
    }
}

/// A buy for about $40.
fn intent(user_id: UserId, number: usize) -> Result<OrderIntent, BenchError> {
    let wrong = |error: domain::money::MoneyError| BenchError::Broken(error.to_string());
    let signal_id = MessageId(derive("bench.signal", &[user_id.0.as_bytes(), &number.to_be_bytes()]));
    Ok(OrderIntent {
        intent_id: IntentId::of_leg(signal_id, 0),
        signal_id,
        leg: 0,
        user_id,
        origin: Origin::Agent { name: "bench".to_owned() },
        instrument: instrument()?.id,
        side: Side::Buy,
        order_type: OrderType::Market,
        time_in_force: TimeInForce::ImmediateOrCancel,
        amount: Amount::Exactly(Quantity::new(Decimal::new(66, 5)).map_err(wrong)?),
        worst_price: Price::parse("60600").map_err(wrong)?,
        reduce_only: false,
        valid_until: UnixMs(0),
        slices: None,
        reasoning: String::new(),
        opinion: domain::review::Opinion::NotAsked,
    })
}

async fn throughput(arguments: &Arguments, bank: &Bank, report: &mut Report) -> Result<(), BenchError> {
    let treasury = Arc::new(Treasury::open(arguments, bank).await?);
    let people = arguments.size(400, 120);
    let mut users = Vec::new();
    for number in 0..people {
        users.push(bank.account(&format!("ledger{number}")).await?);
    }
    let mut intents = Vec::new();
    for group in users.chunks(GROUP) {
        for number in 0..PER_USER {
            for user in group {
                intents.push(intent(*user, number)?);
            }
        }
    }
    let longest = Duration::from_secs(arguments.size(60, 15));
    eprintln!(
        "up to {} signals of {people} people through rails and ledger, {WRITERS} at once, at most {} s",
        intents.len(),
        longest.as_secs()
    );
    let end = Arc::new(AtomicUsize::new(intents.len()));
    let (intents, next) = (Arc::new(intents), Arc::new(AtomicUsize::new(0)));
    let cpu = Cpu::look();
    let (noise, began) = (Noise::begin(), Instant::now());
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (treasury, intents) = (Arc::clone(&treasury), Arc::clone(&intents));
        let (next, end) = (Arc::clone(&next), Arc::clone(&end));
        writers.spawn(async move {
            let mut times = histogram()?;
            let mut published = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::SeqCst);
                if at % (GROUP * PER_USER) == 0 && began.elapsed() > longest {
                    end.fetch_min(at, Ordering::SeqCst);
                }
                let Some(intent) = intents.get(at).filter(|_| at < end.load(Ordering::SeqCst)) else { break };
                let began = Instant::now();
                published.extend(treasury.decide(intent, None).await?);
                note(&mut times, began.elapsed());
                if published.len() >= FORGET {
                    treasury.db.outbox_delete(treasury::NAME, &published).await?;
                    published.clear();
                }
            }
            Ok::<_, BenchError>(times)
        });
    }
    let mut times = histogram()?;
    while let Some(done) = writers.join_next().await {
        let done = done.map_err(|error| BenchError::Broken(format!("a writer failed: {error}")))??;
        times.add(&done).map_err(|error| BenchError::Broken(error.to_string()))?;
    }
    let (took, strangers) = (began.elapsed().as_secs_f64(), noise.strangers_percent());
    let (own, postgres) = cpu.since_ms();
    let count = times.len() as f64;
    report.push(
        Row::new("ledger", "signals through rails and ledger, sustained", count / took, "/s")
            .target(Target::AtLeast(TARGET_PER_SECOND))
            .noise(strangers)
            .note(format!(
                "{count} in {took:.1} s; p50 {:.1} ms, p99 {:.1} ms each; CPU a signal: treasury {:.2} ms, postgres {:.2} ms",
                micros(&times, 0.5) / 1_000.0,
                micros(&times, 0.99) / 1_000.0,
                own / count,
                postgres / count
            )),
    );
    let allowed = i64::from(treasury.config.house.rate_risk_increasing);
    let wrong = limits::violated(&bank.admin, allowed, i64::try_from(PER_USER).unwrap_or(i64::MAX)).await?;
    report.push(
        Row::new("ledger", "limits that did not hold exactly", wrong.len() as f64, "")
            .target(Target::AtMost(0.0))
            .note(format!(
                "of {} rules: {allowed} of {PER_USER} signals a user pass, the others are RATE",
                limits::count()
            )),
    );
    if !wrong.is_empty() {
        report.list("limits that did not hold", wrong);
    }
    Ok(())
}

async fn users(arguments: &Arguments, bank: &Bank, report: &mut Report) -> Result<(), BenchError> {
    let treasury = Treasury::open(arguments, bank).await?;
    let probes = arguments.size(200, 100);
    let mut first = None;
    let mut there = 0;
    for level in LEVELS {
        bystanders(bank, there, level - 1).await?;
        there = level - 1;
        let user = bank.account(&format!("probe{level}")).await?;
        let start = bank.admin.now().await?;
        let (noise, mut times, mut cpu) = (Noise::begin(), histogram()?, Cpu::look());
        let warm = probes / 10;
        let until = Instant::now() + Duration::from_secs(arguments.size(20, 6));
        for number in 0..probes + warm {
            if number >= 2 * warm && Instant::now() > until {
                break;
            }
            if number == warm {
                cpu = Cpu::look();
            }
            let at = start.plus_ms(PROBE_EVERY_MS.saturating_mul(i64::try_from(number).unwrap_or(0)));
            let intent = intent(user, number)?;
            let began = Instant::now();
            let published = treasury.decide(&intent, Some(at)).await?;
            if number >= warm {
                note(&mut times, began.elapsed());
            }
            treasury.db.outbox_delete(treasury::NAME, &published).await?;
        }
        let (_, postgres) = cpu.since_ms();
        let p50 = micros(&times, 0.5);
        let mut row = Row::new("users", format!("a signal through rails and ledger, {level} accounts, p50"), p50, "us")
            .noise(noise.strangers_percent())
            .note(format!(
                "p99 {:.0}; postgres {:.1} ms CPU",
                micros(&times, 0.99),
                postgres / times.len().max(1) as f64
            ));
        if let Some(first) = first {
            row = row.floor(first).target(Target::TimesFloor(TARGET_FLAT));
        }
        first = first.or(Some(p50));
        report.push(row);
    }
    Ok(())
}

/// Accounts with something in them, numbers `from .. to`, as many rows each as a user has who trades a little.
async fn bystanders(bank: &Bank, from: i64, to: i64) -> Result<(), BenchError> {
    const STATEMENTS: [&str; 7] = [
        "INSERT INTO users (user_id, handle, created_at)
         SELECT md5(n::text)::uuid, 'by' || n, now() FROM generate_series($1, $2) n",
        "INSERT INTO accounts (user_id, cash, opening, updated_at)
         SELECT md5(n::text)::uuid, 100000, 100000, now() FROM generate_series($1, $2) n",
        "INSERT INTO rails_state (user_id, losses_in_a_row, updated_at)
         SELECT md5(n::text)::uuid, 0, now() FROM generate_series($1, $2) n",
        "INSERT INTO equity_daily (user_id, day, equity, updated_at)
         SELECT md5(n::text)::uuid, floor(extract(epoch FROM now()) / 86400), 100000, now() FROM generate_series($1, $2) n",
        "INSERT INTO positions (user_id, venue, symbol, quantity, cost, trade_cost, trade_realised, opened_at, updated_at)
         SELECT md5(n::text)::uuid, 'paper', 'BTCUSDT', 0.01, 600, 600, 0, now(), now() FROM generate_series($1, $2) n",
        "INSERT INTO permit_stamps (user_id, order_id, at, risk_increasing)
         SELECT md5(n::text)::uuid, md5('o' || n)::uuid, now(), true FROM generate_series($1, $2) n",
        "INSERT INTO unapproved_notionals (user_id, order_id, venue, symbol, side, notional, at)
         SELECT md5(n::text)::uuid, md5('o' || n)::uuid, 'paper', 'BTCUSDT', 'buy', 40, now() FROM generate_series($1, $2) n",
    ];
    if to <= from {
        return Ok(());
    }
    let mut connection = bank.admin.pool().acquire().await?;
    sqlx::query("SET statement_timeout = 0").execute(&mut *connection).await?;
    for statement in STATEMENTS {
        sqlx::query(statement).bind(from + 1).bind(to).execute(&mut *connection).await?;
    }
    // What a server that has run for a while has done by itself.
    sqlx::query("VACUUM ANALYZE").execute(&mut *connection).await?;
    sqlx::query("CHECKPOINT").execute(&mut *connection).await?;
    sqlx::query("RESET statement_timeout").execute(&mut *connection).await?;
    Ok(())
}

/// CPU of this process and of the PostgreSQL below it, in ticks.
struct Cpu {
    own: u64,
    postgres: u64,
}

impl Cpu {
    fn look() -> Self {
        let family = processes::family(std::process::id());
        let of =
            |wanted: &dyn Fn(&processes::Process) -> bool| family.iter().filter(|p| wanted(p)).map(|p| p.ticks).sum();
        Self { own: of(&|p| p.pid == std::process::id()), postgres: of(&|p| p.name == "postgres") }
    }

    /// Milliseconds since: own, PostgreSQL's.
    fn since_ms(&self) -> (f64, f64) {
        let now = Self::look();
        let ms = |ticks: u64| ticks as f64 * 1_000.0 / processes::ticks_per_second();
        (ms(now.own.saturating_sub(self.own)), ms(now.postgres.saturating_sub(self.postgres)))
    }
}
