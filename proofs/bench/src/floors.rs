//! Floors: what a signal can't do without, each measured alone, in this run, on this disk.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use async_nats::{HeaderMap, Request};
use bus::permissions::{ServerSettings, server_config};
use bus::{Bus, BusConfig};
use domain::subject::Stream;
use hdrhistogram::Histogram;
use servers::{NatsOptions, NatsServer, Programs, free_port};
use tokio::time::Instant;

use crate::Arguments;
use crate::bank::Bank;
use crate::bench_error::BenchError;
use crate::noise::Noise;
use crate::report::{Report, Row, histogram, micros, note};

/// Bytes of a message and of an append: a small signal.
const BYTES: usize = 300;
/// Measurements before those that count.
const WARM: usize = 100;
/// Each floor is measured for so long at most, and `FEWEST` times at least.
const LONGEST: Duration = Duration::from_secs(8);
const FEWEST: usize = 100;

/// The numbers of measurements to make: all of them, fewer on a machine that has no time.
fn numbers(count: usize) -> impl Iterator<Item = usize> {
    let until = Instant::now() + LONGEST;
    (0..count + WARM).take_while(move |number| *number < WARM + FEWEST || Instant::now() < until)
}

/// What a step of the path waits for at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Floor {
    /// From publish to the consumer, stored on the way.
    Deliver,
    /// A transaction on disk.
    Commit,
}

/// The road of one signal, counted in the code: `ARCHITECTURE.md`, "One signal through the rooms". Statements within a
/// transaction, the second acknowledgements and the venue's own fdatasync are left out, so the floor is a low one.
const PATH: [(&str, Floor); 7] = [
    ("signal: door -> TRADING_CRITICAL -> buy_bot", Floor::Deliver),
    ("buy_bot commits inbox and intent (runtime/src/engine.rs)", Floor::Commit),
    ("intent: outbox -> TRADING_CRITICAL -> treasury (runtime/src/relay.rs)", Floor::Deliver),
    ("treasury commits decision, reservation, audit, permit (treasury/src/decide.rs)", Floor::Commit),
    ("permit: outbox -> TRADING_CRITICAL -> online_trading", Floor::Deliver),
    ("desk commits the spent permit and the order (online_trading/src/permit.rs)", Floor::Commit),
    ("desk commits that the order is being sent (online_trading/src/executor.rs)", Floor::Commit),
];

/// The floors of this machine.
pub struct Floors {
    deliver: Histogram<u64>,
    commit: Histogram<u64>,
}

impl Floors {
    /// Sum of the medians on the path, us.
    pub fn path_us(&self) -> f64 {
        PATH.iter().map(|(_, floor)| self.median(*floor)).sum()
    }

    /// The path, step by step.
    pub fn path_list(&self) -> Vec<String> {
        let step = |(name, floor): &(&str, Floor)| format!("{:>8.0}  {name}", self.median(*floor));
        let mut list: Vec<String> = PATH.iter().map(step).collect();
        list.push(format!("{:>8.0}  together", self.path_us()));
        list
    }

    fn median(&self, floor: Floor) -> f64 {
        match floor {
            Floor::Deliver => micros(&self.deliver, 0.5),
            Floor::Commit => micros(&self.commit, 0.5),
        }
    }
}

/// Measures all of them, one after the other.
///
/// # Errors
/// [`BenchError`].
pub async fn measure(arguments: &Arguments, folder: &Path, report: &mut Report) -> Result<Floors, BenchError> {
    let count = arguments.size(1_500, 400);
    let noise = Noise::begin();
    let sync = fdatasync(folder, count)?;
    tell(report, "fdatasync of a 300-byte append", &sync, &noise);
    let broker = Broker::start(&folder.join("floors-nats")).await?;
    let noise = Noise::begin();
    let publish = broker.publish(count).await?;
    tell(report, "JetStream publish and ack, synced", &publish, &noise);
    let noise = Noise::begin();
    let deliver = broker.deliver(count).await?;
    tell(report, "JetStream publish to pull consumer, synced", &deliver, &noise);
    drop(broker);
    let bank = Bank::open(&folder.join("floors-postgres")).await?;
    sqlx::query("CREATE TABLE floor (id bigint PRIMARY KEY, body text NOT NULL)").execute(bank.admin.pool()).await?;
    let noise = Noise::begin();
    let commit = commits(&bank, count).await?;
    tell(report, "PostgreSQL commit of one row", &commit, &noise);
    let noise = Noise::begin();
    let trip = round_trips(&bank, count).await?;
    tell(report, "PostgreSQL round trip (SELECT 1)", &trip, &noise);
    Ok(Floors { deliver, commit })
}

fn tell(report: &mut Report, name: &str, times: &Histogram<u64>, noise: &Noise) {
    let note = format!("p99 {:.0}, {} times", micros(times, 0.99), times.len());
    report.push(
        Row::new("floors", format!("{name}, p50"), micros(times, 0.5), "us")
            .noise(noise.strangers_percent())
            .note(note),
    );
}

fn fdatasync(folder: &Path, count: usize) -> Result<Histogram<u64>, BenchError> {
    let path = folder.join("floor");
    let wrap = |error| BenchError::file(&path, error);
    let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(wrap)?;
    let mut times = histogram()?;
    for number in numbers(count) {
        let began = Instant::now();
        file.write_all(&[b'x'; BYTES]).map_err(wrap)?;
        file.sync_data().map_err(wrap)?;
        if number >= WARM {
            note(&mut times, began.elapsed());
        }
    }
    Ok(times)
}

/// A broker with the product's streams and settings, and nobody else on it.
struct Broker {
    bus: Bus,
    _server: NatsServer,
}

impl Broker {
    async fn start(folder: &Path) -> Result<Self, BenchError> {
        let port = free_port()?;
        let settings = ServerSettings::new(port, folder.join("jetstream"));
        let config = server_config(&[], &settings);
        // No users: the cost of a right is not among the floors.
        let config = config.split("authorization {").next().unwrap_or_default().to_owned();
        let server = NatsServer::start(&Programs::usual()?, &NatsOptions { folder: folder.to_owned(), port, config })?;
        let config = BusConfig { url: server.url(), name: "bench".to_owned(), nkey_seed: None, inbox_prefix: None };
        let (bus, _events) = Bus::connect(config).await?;
        bus::streams::apply(&bus, &swarm::specs()).await?;
        Ok(Self { bus, _server: server })
    }

    async fn send(&self, subject: &str, id: String) -> Result<(), BenchError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id.as_str());
        let request = Request::new().headers(headers).payload(vec![b'x'; BYTES].into());
        let answer = self.bus.client().send_request(subject.to_owned(), request).await;
        let answer = answer.map_err(|error| BenchError::Broken(format!("a publish failed: {error}")))?;
        let ack: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
        if ack["seq"].as_u64().is_some() {
            return Ok(());
        }
        Err(BenchError::Broken(format!("a publish was not stored: {ack}")))
    }

    async fn publish(&self, count: usize) -> Result<Histogram<u64>, BenchError> {
        let mut times = histogram()?;
        for number in numbers(count) {
            let began = Instant::now();
            self.send("trading.dexter.permit.critical", format!("publish-{number}")).await?;
            if number >= WARM {
                note(&mut times, began.elapsed());
            }
        }
        Ok(times)
    }

    async fn deliver(&self, count: usize) -> Result<Histogram<u64>, BenchError> {
        let mut consumer = self.bus.consumer(Stream::TradingCritical, "treasury").await?;
        let mut times = histogram()?;
        for number in numbers(count) {
            let began = Instant::now();
            let came = async {
                let message = consumer.next().await?;
                let took = began.elapsed();
                Ok::<_, BenchError>((message, took))
            };
            let sent = self.send("trading.treasury.intent.critical", format!("deliver-{number}"));
            let (sent, came) = tokio::join!(sent, came);
            sent?;
            let (message, took) = came?;
            let message = message.ok_or_else(|| BenchError::Broken("a message did not come".to_owned()))?;
            message.ack().await?;
            if number >= WARM {
                note(&mut times, took);
            }
        }
        Ok(times)
    }
}

async fn commits(bank: &Bank, count: usize) -> Result<Histogram<u64>, BenchError> {
    let mut connection = bank.admin.pool().acquire().await?;
    let body = "x".repeat(BYTES);
    let mut times = histogram()?;
    for number in numbers(count) {
        let began = Instant::now();
        sqlx::query("INSERT INTO floor (id, body) VALUES ($1, $2)")
            .bind(i64::try_from(number).unwrap_or(i64::MAX))
            .bind(&body)
            .execute(&mut *connection)
            .await?;
        if number >= WARM {
            note(&mut times, began.elapsed());
        }
    }
    Ok(times)
}

async fn round_trips(bank: &Bank, count: usize) -> Result<Histogram<u64>, BenchError> {
    let mut connection = bank.admin.pool().acquire().await?;
    let mut times = histogram()?;
    for number in numbers(count) {
        let began = Instant::now();
        sqlx::query("SELECT 1").execute(&mut *connection).await?;
        if number >= WARM {
            note(&mut times, began.elapsed());
        }
    }
    // So that the next measurement begins with what this one left written.
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(times)
}
