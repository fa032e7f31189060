//! Streams and consumers, as data: what is in `/streams` and in the agents' specs is made true on the server.
//!
//! Only `swarm streams apply` and the supervisor run [`apply`]; agents bind to what is there. Applying twice changes
//! nothing, drift is corrected and told, and what the server can't change in place is an error that says what to do.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{
    Config, ConsumerErrorKind, ConsumerUpdateErrorKind, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{Context, ErrorCode};
use domain::agent::AgentSpec;
use domain::subject::{Priority, Route, Stream};
use serde::Deserialize;
use tokio::time::Instant;

use crate::connection::Bus;
use crate::error::BusError;

/// How long a consumer waits for an acknowledgement before it delivers again.
pub const ACK_WAIT: Duration = Duration::from_secs(5);
/// Deliveries at most. A handler writes its dead letter at the fourth; the others are for handlers that died over it and
/// for dead letters that could not be stored.
pub const MAX_DELIVER: i64 = 10;
/// Messages in hand at most, per consumer.
pub const MAX_ACK_PENDING: i64 = 64;
/// How long [`apply`] goes on while a cluster has no leader to ask: two elections of up to 9 s, and some.
const LEADER_WITHIN: Duration = Duration::from_secs(30);
/// Between tries of a step that found no leader.
const LEADER_PAUSE: Duration = Duration::from_millis(250);

/// One durable consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// Of which stream.
    pub stream: Stream,
    /// Its name: the agent's.
    pub name: String,
    /// What it takes.
    pub filter_subjects: Vec<String>,
}

/// One thing that [`apply`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Stream, or `stream/consumer`.
    pub name: String,
    /// What was done, as `setting: found -> wanted` lines, or `created`.
    pub diff: String,
}

/// A file of `/streams`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamFile {
    name: String,
    subjects: Vec<String>,
    retention: Retention,
    discard: Discard,
    storage: Storage,
    max_messages: i64,
    #[serde(default = "unlimited")]
    max_messages_per_subject: i64,
    max_bytes: i64,
    max_message_bytes: i32,
    max_age_s: u64,
    duplicate_window_s: u64,
    #[serde(default)]
    deny_delete: bool,
    #[serde(default)]
    deny_purge: bool,
    #[serde(default)]
    persist: Persist,
}

/// When a message is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Persist {
    /// Before it is acknowledged.
    #[default]
    Acked,
    /// Shortly after; a server that is killed may forget the last ones it acknowledged. Not with several nodes.
    Later,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Retention {
    WorkQueue,
    Limits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Discard {
    New,
    Old,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Storage {
    File,
    Memory,
}

const fn unlimited() -> i64 {
    -1
}

const fn text_of(stream: Stream) -> &'static str {
    match stream {
        Stream::TradingCritical => include_str!("../../../streams/TRADING_CRITICAL.toml"),
        Stream::TradingHigh => include_str!("../../../streams/TRADING_HIGH.toml"),
        Stream::SystemLow => include_str!("../../../streams/SYSTEM_LOW.toml"),
        Stream::Market => include_str!("../../../streams/MARKET.toml"),
        Stream::Dlq => include_str!("../../../streams/DLQ.toml"),
        Stream::Advisories => include_str!("../../../streams/ADVISORIES.toml"),
        Stream::AuditAnchors => include_str!("../../../streams/AUDIT_ANCHORS.toml"),
    }
}

fn file(stream: Stream) -> Result<StreamFile, BusError> {
    toml::from_str(text_of(stream)).map_err(|e| BusError::Config(format!("streams/{}: {e}", stream.name())))
}

/// The wanted configuration of every stream.
///
/// # Errors
/// [`BusError::Config`] for a file that does not read.
pub fn stream_configs() -> Result<Vec<Config>, BusError> {
    Stream::ALL.into_iter().map(|stream| wanted(stream, 1)).collect()
}

/// The subjects a stream stores.
///
/// # Errors
/// [`BusError::Config`] for a file that does not read.
pub fn subjects_of(stream: Stream) -> Result<Vec<String>, BusError> {
    file(stream).map(|f| f.subjects)
}

fn wanted(stream: Stream, replicas: usize) -> Result<Config, BusError> {
    let file = file(stream)?;
    Ok(Config {
        name: file.name,
        subjects: file.subjects,
        retention: match file.retention {
            Retention::WorkQueue => RetentionPolicy::WorkQueue,
            Retention::Limits => RetentionPolicy::Limits,
        },
        discard: match file.discard {
            Discard::New => DiscardPolicy::New,
            Discard::Old => DiscardPolicy::Old,
        },
        storage: match file.storage {
            Storage::File => StorageType::File,
            Storage::Memory => StorageType::Memory,
        },
        max_messages: file.max_messages,
        max_messages_per_subject: file.max_messages_per_subject,
        discard_new_per_subject: file.discard == Discard::New && file.max_messages_per_subject > 0,
        max_bytes: file.max_bytes,
        max_message_size: file.max_message_bytes,
        max_age: Duration::from_secs(file.max_age_s),
        duplicate_window: Duration::from_secs(file.duplicate_window_s),
        deny_delete: file.deny_delete,
        deny_purge: file.deny_purge,
        num_replicas: replicas,
        persist_mode: (file.persist == Persist::Later && replicas == 1).then_some(PersistenceMode::Async),
        allow_direct: true,
        ..Config::default()
    })
}

/// The durable consumers of an agent: one per stream, named after it.
///
/// Of commands an agent takes everything addressed to it, in every priority; `buy_bot` owns the three-token form as
/// well. Of facts it takes exactly the routes it names.
#[must_use]
pub fn consumers_of(agent: &AgentSpec) -> Vec<ConsumerSpec> {
    let commands: BTreeSet<&str> =
        agent.consumes.iter().filter(|r| !r.is_fact() && !r.is_market()).map(|r| r.tokens().1).collect();
    let of_priority = |priority: Priority| {
        commands.iter().flat_map(move |who| {
            let own = format!("trading.{who}.*.{}", priority.token());
            let short = (*who == "buy_bot").then(|| format!("trading.*.{}", priority.token()));
            std::iter::once(own).chain(short)
        })
    };
    let facts = agent.consumes.iter().filter(|r| r.is_fact() && !r.is_market()).map(|r| match r {
        Route::Command => format!("system.{}.command.*", agent.name),
        Route::AgentTask => format!("system.{}.task.*", agent.name),
        fact => fact.filter(),
    });
    let critical: Vec<_> = of_priority(Priority::Critical).chain(of_priority(Priority::Urgent)).collect();
    let high: Vec<_> = of_priority(Priority::High).chain(of_priority(Priority::Normal)).collect();
    let low: Vec<_> = of_priority(Priority::Low).chain(facts).collect();
    [(Stream::TradingCritical, critical), (Stream::TradingHigh, high), (Stream::SystemLow, low)]
        .into_iter()
        .filter(|(_, filter_subjects)| !filter_subjects.is_empty())
        .map(|(stream, filter_subjects)| ConsumerSpec { stream, name: agent.name.to_owned(), filter_subjects })
        .collect()
}

/// Makes streams and consumers be as the files and specs say, on a server that stands alone. Consumers that no spec names
/// are left alone.
///
/// # Errors
/// See [`apply_replicated`].
pub async fn apply(bus: &Bus, agents: &[AgentSpec]) -> Result<Vec<Change>, BusError> {
    apply_replicated(bus, agents, 1).await
}

/// [`apply`] with every stream on `replicas` nodes, consumers with it, and read again at the end. While the cluster has
/// no leader to ask it waits, within bounds.
///
/// # Errors
/// [`BusError::Stream`], [`BusError::Consumer`], [`BusError::Config`], and [`BusError::Immutable`] for a difference that
/// the server can't change in place.
pub async fn apply_replicated(bus: &Bus, agents: &[AgentSpec], replicas: usize) -> Result<Vec<Change>, BusError> {
    let changes = pass(bus, agents, replicas).await?;
    for change in &changes {
        tracing::info!(name = %change.name, diff = %change.diff, "streams apply");
    }
    let left = if changes.is_empty() { Vec::new() } else { pass(bus, agents, replicas).await? };
    match left.into_iter().next() {
        None => Ok(changes),
        Some(Change { name, diff }) => {
            Err(BusError::Stream { stream: name, text: format!("was changed and still differs: {diff}") })
        }
    }
}

async fn pass(bus: &Bus, agents: &[AgentSpec], replicas: usize) -> Result<Vec<Change>, BusError> {
    let mut changes = Vec::new();
    let context = &async_nats::jetstream::new(bus.client().clone());
    for stream in Stream::ALL {
        let wanted = wanted(stream, replicas)?;
        changes.extend(with_leader(async || apply_stream(context, wanted.clone()).await).await?);
    }
    for spec in agents.iter().flat_map(consumers_of) {
        changes.extend(with_leader(async || apply_consumer(context, &spec).await).await?);
    }
    Ok(changes)
}

/// Why a step of [`apply`] failed.
struct Failure {
    error: BusError,
    /// Nobody answered, or a cluster without a leader did.
    is_leaderless: bool,
}

impl From<BusError> for Failure {
    fn from(error: BusError) -> Self {
        Self { error, is_leaderless: false }
    }
}

/// What the server said when it refused; `None` when it said nothing.
fn is_leaderless(refused: Option<&async_nats::jetstream::Error>) -> bool {
    // The nodes of a young cluster do not all know one another yet.
    refused.is_none_or(|error| error.code() == 503 || error.error_code() == ErrorCode::CLUSTER_NO_PEERS)
}

/// Tries a step again while there is no leader to ask.
async fn with_leader<T>(step: impl AsyncFn() -> Result<T, Failure>) -> Result<T, BusError> {
    let started = Instant::now();
    loop {
        match step().await {
            Ok(done) => return Ok(done),
            Err(failure) if failure.is_leaderless && started.elapsed() < LEADER_WITHIN => {
                tracing::debug!(error = %failure.error, "asked again");
                tokio::time::sleep(LEADER_PAUSE).await;
            }
            Err(failure) => return Err(failure.error),
        }
    }
}

/// Named differences: `setting: found -> wanted`, each with whether the server can change it in place.
#[derive(Default)]
struct Diff(Vec<(String, bool)>);

impl Diff {
    fn note<T: PartialEq + std::fmt::Debug>(&mut self, setting: &str, found: &T, wanted: &T, in_place: bool) {
        if found != wanted {
            self.0.push((format!("{setting}: {found:?} -> {wanted:?}"), in_place));
        }
    }

    fn text(&self) -> String {
        self.0.iter().map(|(line, _)| line.as_str()).collect::<Vec<_>>().join("\n")
    }

    /// Refuses what can't be changed in place.
    fn check(&self, name: &str, remedy: &str) -> Result<(), BusError> {
        let stuck: Vec<_> = self.0.iter().filter(|(_, in_place)| !in_place).map(|(line, _)| line.as_str()).collect();
        if stuck.is_empty() {
            return Ok(());
        }
        Err(BusError::Immutable { name: name.to_owned(), text: format!("{}; {remedy}", stuck.join(", ")) })
    }
}

fn stream_diff(found: &Config, wanted: &Config) -> Diff {
    let sorted = |subjects: &[String]| subjects.iter().cloned().collect::<BTreeSet<_>>();
    let mut diff = Diff::default();
    diff.note("subjects", &sorted(&found.subjects), &sorted(&wanted.subjects), true);
    diff.note("retention", &found.retention, &wanted.retention, false);
    diff.note("storage", &found.storage, &wanted.storage, false);
    diff.note("discard", &found.discard, &wanted.discard, true);
    diff.note("max_messages", &found.max_messages, &wanted.max_messages, true);
    diff.note("max_messages_per_subject", &found.max_messages_per_subject, &wanted.max_messages_per_subject, true);
    diff.note("discard_new_per_subject", &found.discard_new_per_subject, &wanted.discard_new_per_subject, true);
    diff.note("max_bytes", &found.max_bytes, &wanted.max_bytes, true);
    diff.note("max_message_bytes", &found.max_message_size, &wanted.max_message_size, true);
    diff.note("max_age", &found.max_age, &wanted.max_age, true);
    diff.note("duplicate_window", &found.duplicate_window, &wanted.duplicate_window, true);
    // Can be switched on, never off.
    diff.note("deny_delete", &found.deny_delete, &wanted.deny_delete, wanted.deny_delete);
    diff.note("deny_purge", &found.deny_purge, &wanted.deny_purge, wanted.deny_purge);
    diff.note("replicas", &found.num_replicas, &wanted.num_replicas, true);
    diff.note("allow_direct", &found.allow_direct, &wanted.allow_direct, true);
    diff
}

async fn apply_stream(context: &Context, wanted: Config) -> Result<Option<Change>, Failure> {
    let name = wanted.name.clone();
    let failed = |error: &dyn std::fmt::Display, refused: Option<&async_nats::jetstream::Error>| Failure {
        error: BusError::Stream { stream: name.clone(), text: error.to_string() },
        is_leaderless: is_leaderless(refused),
    };
    let not_created = |error: &async_nats::jetstream::context::CreateStreamError| match error.kind() {
        CreateStreamErrorKind::JetStream(refused) => failed(error, Some(&refused)),
        _ => failed(error, None),
    };
    let found = match context.get_stream(&name).await {
        Ok(stream) => stream.cached_info().config.clone(),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(refused) if refused.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                context.create_stream(wanted).await.map_err(|error| not_created(&error))?;
                return Ok(Some(Change { name, diff: "created".to_owned() }));
            }
            GetStreamErrorKind::JetStream(refused) => return Err(failed(&error, Some(&refused))),
            _ => return Err(failed(&error, None)),
        },
    };
    let diff = stream_diff(&found, &wanted);
    if diff.0.is_empty() {
        return Ok(None);
    }
    diff.check(
        &name,
        "stop the publishers, back the stream up, delete it with the offline admin key, then apply again",
    )?;
    // The server's own metadata stays as it is, and so does the moment of writing, which no update can change: a stream of an
    // earlier build goes on as it was made.
    let update = Config { metadata: found.metadata.clone(), persist_mode: found.persist_mode, ..wanted };
    context.update_stream(&update).await.map_err(|error| not_created(&error))?;
    Ok(Some(Change { name, diff: diff.text() }))
}

fn consumer_config(spec: &ConsumerSpec) -> pull::Config {
    pull::Config {
        durable_name: Some(spec.name.clone()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_deliver: MAX_DELIVER,
        max_ack_pending: MAX_ACK_PENDING,
        filter_subjects: spec.filter_subjects.clone(),
        ..pull::Config::default()
    }
}

async fn apply_consumer(context: &Context, spec: &ConsumerSpec) -> Result<Option<Change>, Failure> {
    let stream = spec.stream.name();
    let failed = |error: &dyn std::fmt::Display, refused: Option<&async_nats::jetstream::Error>| Failure {
        error: BusError::Consumer { stream: stream.to_owned(), consumer: spec.name.clone(), text: error.to_string() },
        is_leaderless: is_leaderless(refused),
    };
    let name = format!("{stream}/{}", spec.name);
    let wanted = consumer_config(spec);
    let handle = context.get_stream_no_info(stream).await.map_err(|error| failed(&error, None))?;
    let found = match handle.consumer_info(&spec.name).await {
        Ok(info) => info.config,
        Err(error) => match error.kind() {
            ConsumerInfoErrorKind::NotFound => {
                context.create_consumer_on_stream(wanted, stream).await.map_err(|error| match error.kind() {
                    ConsumerErrorKind::JetStream(refused) => failed(&error, Some(&refused)),
                    _ => failed(&error, None),
                })?;
                return Ok(Some(Change { name, diff: "created".to_owned() }));
            }
            ConsumerInfoErrorKind::JetStream(refused) => return Err(failed(&error, Some(&refused))),
            _ => return Err(failed(&error, None)),
        },
    };
    let mut found_filters: BTreeSet<String> = found.filter_subjects.iter().cloned().collect();
    found_filters.extend((!found.filter_subject.is_empty()).then(|| found.filter_subject.clone()));
    let mut diff = Diff::default();
    diff.note("filter_subjects", &found_filters, &wanted.filter_subjects.iter().cloned().collect(), true);
    diff.note("ack_wait", &found.ack_wait, &wanted.ack_wait, true);
    diff.note("max_deliver", &found.max_deliver, &wanted.max_deliver, true);
    diff.note("max_ack_pending", &found.max_ack_pending, &wanted.max_ack_pending, true);
    diff.note("backoff", &found.backoff, &wanted.backoff, true);
    diff.note("ack_policy", &found.ack_policy, &wanted.ack_policy, false);
    diff.note("deliver_policy", &found.deliver_policy, &wanted.deliver_policy, false);
    diff.note("push", &found.deliver_subject.is_some(), &false, false);
    if diff.0.is_empty() {
        return Ok(None);
    }
    diff.check(&name, "stop the agent, delete this consumer, then apply again")?;
    context.update_consumer_on_stream(wanted, stream).await.map_err(|error| match error.kind() {
        ConsumerUpdateErrorKind::JetStream(refused) => failed(&error, Some(&refused)),
        _ => failed(&error, None),
    })?;
    Ok(Some(Change { name, diff: diff.text() }))
}

#[cfg(test)]
mod tests {
    use domain::agent::USUAL_LIMITS;

    use super::*;

    fn agent(name: &'static str, consumes: &'static [Route]) -> AgentSpec {
        AgentSpec {
            name,
            job: "",
            consumes,
            listens: &[],
            listens_with_store: &[],
            emits: &[],
            timers: &[],
            tables: &[],
            services: &[],
            asks: &[],
            administers_streams: false,
            limits: USUAL_LIMITS,
            lacks: &[],
        }
    }

    /// NATS subject matching.
    fn matches(filter: &str, subject: &str) -> bool {
        let mut filter = filter.split('.');
        let mut subject = subject.split('.');
        loop {
            match (filter.next(), subject.next()) {
                (Some(">"), Some(_)) | (None, None) => return true,
                (Some("*"), Some(_)) => {}
                (Some(f), Some(s)) if f == s => {}
                _ => return false,
            }
        }
    }

    #[test]
    fn every_route_in_every_priority_has_the_stream_that_domain_names_and_no_other() {
        use domain::subject::Subject;
        let short = [
            "trading.signal.critical",
            "trading.signal.urgent",
            "trading.signal.high",
            "trading.signal.normal",
            "trading.signal.low",
        ];
        let routed = Route::ALL.into_iter().filter(|r| !r.is_market()).flat_map(|route| {
            let who = matches!(route, Route::UserSignal | Route::Command | Route::AgentTask | Route::Heartbeat)
                .then(|| "alice".to_owned());
            Priority::ALL.map(|priority| Subject::Routed { route, who: who.clone(), priority }.to_string())
        });
        for text in routed.chain(short.map(str::to_owned)).chain(["market.paper.tick.BTCUSDT".to_owned()]) {
            let homes: Vec<_> = Stream::ALL
                .into_iter()
                .filter(|s| subjects_of(*s).unwrap().iter().any(|filter| matches(filter, &text)))
                .collect();
            assert_eq!(homes, Vec::from_iter(Subject::parse(&text).unwrap().stream()), "{text}");
        }
    }

    #[test]
    fn every_file_reads_and_bounds_its_stream() {
        for stream in Stream::ALL {
            let config = wanted(stream, 3).unwrap();
            assert_eq!(config.num_replicas, 3);
            assert_eq!(config.name, stream.name());
            // A dead letter carries its reason beside a message of the full 64 KiB.
            let most = if stream == Stream::Dlq { 131_072 } else { 65_536 };
            assert_eq!(config.max_message_size, most, "{}", config.name);
            assert!(config.max_bytes > 0, "{}", config.name);
            if config.name.starts_with("TRADING") {
                assert_eq!((config.discard, config.storage), (DiscardPolicy::New, StorageType::File));
                assert!(config.discard_new_per_subject && config.max_messages_per_subject * 2 <= config.max_messages);
            }
        }
    }

    #[test]
    fn an_agent_takes_what_is_addressed_to_it_in_every_priority() {
        let consumers = consumers_of(&agent("treasury", &[Route::Intent, Route::Report, Route::ApprovalResolved]));
        let filters: Vec<_> = consumers.iter().map(|c| (c.stream, c.filter_subjects.join(" "))).collect();
        assert_eq!(
            filters,
            [
                (Stream::TradingCritical, "trading.treasury.*.critical trading.treasury.*.urgent".to_owned()),
                (Stream::TradingHigh, "trading.treasury.*.high trading.treasury.*.normal".to_owned()),
                (Stream::SystemLow, "trading.treasury.*.low".to_owned()),
            ]
        );
    }

    #[test]
    fn buy_bot_owns_the_three_token_form() {
        let consumers = consumers_of(&agent("buy_bot", &[Route::Signal, Route::UserSignal, Route::Idea]));
        for subject in [
            "trading.signal.critical",
            "trading.signal.high",
            "trading.signal.low",
            "trading.buy_bot.signal-alice.urgent",
        ] {
            let takers = consumers.iter().filter(|c| c.filter_subjects.iter().any(|f| matches(f, subject))).count();
            assert_eq!(takers, 1, "{subject}");
        }
    }

    #[test]
    fn facts_are_taken_by_exactly_their_routes() {
        let consumers =
            consumers_of(&agent("monitor", &[Route::Decision, Route::Command, Route::AgentTask, Route::Tick]));
        assert_eq!(consumers.len(), 1);
        assert_eq!(consumers[0].stream, Stream::SystemLow);
        assert_eq!(
            consumers[0].filter_subjects,
            ["system.all.decision.*", "system.monitor.command.*", "system.monitor.task.*"]
        );
    }

    #[test]
    fn a_difference_that_cant_be_changed_in_place_says_what_to_do() {
        let wanted = wanted(Stream::TradingHigh, 1).unwrap();
        let found = Config { retention: RetentionPolicy::Limits, max_bytes: 5, ..wanted.clone() };
        let diff = stream_diff(&found, &wanted);
        assert_eq!(diff.0.len(), 2);
        let error = diff.check("TRADING_HIGH", "do this").unwrap_err().to_string();
        assert!(
            error.contains("retention: Limits -> WorkQueue")
                && error.contains("do this")
                && !error.contains("max_bytes")
        );
    }
}
