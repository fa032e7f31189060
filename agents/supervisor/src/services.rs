//! The NATS services people use: `nats req swarm.status ''` and the like; `nats micro ls` lists them.

use std::sync::Arc;

use async_nats::service::{Request, ServiceExt};
use bus::codec::Arrival;
use bus::{Bus, Raw};
use domain::ids::UserId;
use domain::message::Envelope;
use domain::person::{Act, SignedAct};
use domain::subject::{Priority, Route, Stream, Subject};
use futures::StreamExt;
use runtime::kill::{Way, Wish};
use runtime::{CancellationToken, HandleError, Means, Work};
use serde_json::{Value, json};

use crate::answer::{Refused, ok};
use crate::{Shared, close, doors, files, gateway, halt, letters, login, tasks, view};

/// The subjects answered, each with what it is for.
pub const SUBJECTS: &[(&str, &str)] = &[
    ("swarm.signal", "a TradingSignal as JSON; answers accepted with its id, or a code"),
    ("swarm.status", "everything at a glance"),
    ("swarm.positions", "cash, positions and profit of a user: {\"user\":\"operator\"}"),
    ("swarm.equity", "equity over time, for a chart: {\"user\":\"operator\"}"),
    ("swarm.trades", "fills, newest first: {\"user\":\"operator\",\"limit\":20}"),
    ("swarm.limits", "the limits of a user and how much of them is used: {\"user\":\"operator\"}"),
    ("swarm.approvals", "requests that wait for a human, or one of them: {\"approval_id\":\"...\"}"),
    ("swarm.approve", "a signed word on a request (made by `swarm approve`, `reject`, `modify` or `revoke`)"),
    ("swarm.decide.telegram", "a stored press of a button (telegram_jarvis alone may ask): {\"update_id\":123}"),
    ("swarm.decide.web", "a form with a one-time code (the web page alone may ask)"),
    ("swarm.web.login", "a name and a one-time code (the web page alone may ask)"),
    ("swarm.telegram.link", "a signed act that makes a code for Telegram (made by `swarm telegram link`)"),
    ("swarm.close", "a stored /close of a person: sells what is held, nothing else: {\"update_id\":123}"),
    ("swarm.halt", "raise the kill level (1 to 4): {\"level\":1,\"reason\":\"...\"}; empty means 1"),
    ("swarm.resume", "a signed act that lowers the kill level (made by `swarm resume`)"),
    ("swarm.breaker", "a signed act that resets a breaker (made by `swarm breaker reset`)"),
    ("swarm.agents", "the processes, how often each was started again, and what it lacks"),
    (
        "swarm.task",
        "has an agent do something it declares: {\"capability\":\"host_report\",\"arguments\":{}}; waits up to 10 s",
    ),
    ("swarm.agents.release", "a signed act that ends a quarantine (made by `swarm agents release`)"),
    ("swarm.agents.restart", "a signed act that starts an agent anew (made by `swarm agents restart`)"),
    ("swarm.dlq.list", "dead letters that wait for a person; all of them: {\"all\":true}"),
    ("swarm.dlq.show", "a dead letter with its message: {\"letter\":\"TRADING_HIGH:17\"}"),
    ("swarm.dlq.redrive", "a signed act that puts a dead message back (made by `swarm dlq redrive`)"),
    ("swarm.dlq.drop", "a signed act that leaves a dead letter dead (made by `swarm dlq drop`)"),
    ("swarm.files", "the protected files, what was declared of them and what is there"),
    (
        "swarm.files.approve",
        "a signed act that declares another content of a protected file (made by `swarm files approve`)",
    ),
];

/// How long a signal is offered to a stream that has no leader: whoever asks waits 5 s for an answer.
const SIGNAL_WITHIN_MS: i64 = 4_000;
/// Signals that wait for the stream at once; the next one is told so.
const SIGNALS_WAITING: usize = 64;
/// Other requests that wait for the one before them.
const REQUESTS_WAITING: usize = 1_024;
/// What the levels are, for whoever asked for one that is none.
const BAD_LEVEL: &str =
    "level is 1 (no new risk), 2 (and cancel open orders), 3 (and sell what is held) or 4 (and stop)";

/// Answers until shutdown. Signals wait for the stream beside everything else: a halt must never stand behind them.
///
/// # Errors
/// [`HandleError::Fatal`] when the services can't be registered.
pub async fn run(shared: Arc<Shared>, work: Work) -> Result<(), HandleError> {
    let fatal = |error: async_nats::Error| HandleError::Fatal(format!("NATS services: {error}"));
    let service = work
        .bus
        .client()
        .service_builder()
        .description("the swarm's doors for people")
        .start("swarm", env!("CARGO_PKG_VERSION"))
        .await
        .map_err(fatal)?;
    let mut endpoints = Vec::new();
    for (subject, purpose) in SUBJECTS {
        let name = subject.replace('.', "-");
        let metadata = std::collections::HashMap::from([("purpose".to_owned(), (*purpose).to_owned())]);
        let endpoint = service.endpoint_builder().name(name).metadata(metadata).add(*subject).await.map_err(fatal)?;
        endpoints.push(endpoint.map(move |request| (*subject, request)).boxed());
    }
    let requests = futures::stream::select_all(endpoints);
    let stop = work.shutdown.clone();
    serve(requests, stop.cancelled_owned(), |subject, request, waiting| {
        respond(Arc::clone(&shared), work.clone(), subject, request, waiting)
    })
    .await;
    service.stop().await.map_err(fatal)
}

/// Has requests answered until `stop`: a halt beside everything else, because another answer may wait for a database that
/// hangs; a signal too, told how many wait already; everything else one after the other.
async fn serve<R, F>(
    mut requests: impl futures::Stream<Item = (&'static str, R)> + Unpin,
    stop: impl Future<Output = ()>,
    respond: impl Fn(&'static str, R, usize) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut signals = tokio::task::JoinSet::new();
    let mut halts = tokio::task::JoinSet::new();
    let (line, mut waiting) = tokio::sync::mpsc::channel::<F>(REQUESTS_WAITING);
    let ended = CancellationToken::new();
    let end = ended.clone();
    let others = tokio::spawn(async move {
        while let Some(Some(answering)) = end.run_until_cancelled(waiting.recv()).await {
            answering.await;
        }
    });
    let mut stop = std::pin::pin!(stop);
    loop {
        let (subject, request) = tokio::select! {
            () = &mut stop => break,
            Some(_) = signals.join_next() => continue,
            Some(_) = halts.join_next() => continue,
            next = requests.next() => match next {
                Some(next) => next,
                None => break,
            },
        };
        metrics::counter!("swarm_requests_total", "subject" => subject).increment(1);
        let answering = respond(subject, request, signals.len());
        if matches!(subject, "swarm.signal" | "swarm.close" | "swarm.task") {
            signals.spawn(answering);
        } else if subject == "swarm.halt" {
            halts.spawn(answering);
        } else if line.try_send(answering).is_err() {
            tracing::warn!(subject, "too many requests wait; this one gets no answer");
        }
    }
    // Each of them ends within its own bound.
    signals.join_all().await;
    halts.join_all().await;
    ended.cancel();
    if let Err(error) = others.await {
        tracing::error!(%error, "an answer panicked");
    }
}

async fn respond(shared: Arc<Shared>, work: Work, subject: &'static str, request: Request, signals_waiting: usize) {
    let headers = request.message.headers.as_ref();
    let named = |name: &str| headers.and_then(|h| h.get(name)).map(|value| value.as_str().to_owned());
    let head = SignalHead { id: named("Nats-Msg-Id"), content_type: named("content-type") };
    let answer = if subject == "swarm.signal" && signals_waiting >= SIGNALS_WAITING {
        Refused::new("NOT_STORED", "too many signals wait for the stream; send it again under the same id").json()
    } else if subject.starts_with("swarm.dlq.") {
        json_of(subject, dead_letters(&shared, &work, &work.bus, subject, &request.message.payload).await)
    } else {
        answer(&shared, &work, subject, &request.message.payload, head).await
    };
    let bytes = serde_json::to_vec(&answer).unwrap_or_default();
    if let Err(error) = request.respond(Ok(bytes.into())).await {
        tracing::warn!(%error, subject, "answer not sent");
    }
}

/// The headers of a request that a signal keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignalHead {
    /// `Nats-Msg-Id`: the sender's own id.
    pub id: Option<String>,
    /// `content-type`.
    pub content_type: Option<String>,
}

/// Answers one request: JSON with `ok`, and a stable `code` when that is false.
pub async fn answer(shared: &Shared, work: &impl Means, subject: &str, payload: &[u8], head: SignalHead) -> Value {
    let answered = match subject {
        "swarm.signal" => signal(work, payload, head).await,
        "swarm.status" => view::status(shared, work).await.map(Ok),
        "swarm.positions" => positions(work, payload).await,
        "swarm.equity" => looked(payload, async |asked| view::equity(work, &asked.user).await).await,
        "swarm.trades" => looked(payload, async |asked| view::trades(work, &asked.user, asked.limit).await).await,
        "swarm.limits" => looked(payload, async |asked| view::limits(shared, work, &asked.user).await).await,
        "swarm.approvals" => approvals(work, payload).await,
        "swarm.approve" => doors::cli(shared, work, payload).await,
        "swarm.decide.telegram" => doors::telegram(shared, work, payload).await,
        "swarm.decide.web" => doors::web(shared, work, payload).await,
        "swarm.web.login" => login::login(shared, work, payload).await,
        "swarm.telegram.link" => doors::link(work, payload).await,
        "swarm.close" => close::close(work, payload).await,
        "swarm.halt" => halt(shared, work, payload).await,
        "swarm.resume" => resume(shared, work, payload).await,
        "swarm.breaker" => breaker(work, payload).await,
        "swarm.agents.release" | "swarm.agents.restart" => agent_act(shared, work, payload).await,
        "swarm.task" => tasks::ask(shared, work, payload).await,
        "swarm.agents" => Ok(Ok(view::agents(shared, work.now().0))),
        "swarm.files" => Ok(Ok(files::status(shared))),
        "swarm.files.approve" => files::approve(shared, work, payload).await,
        _ => Ok(Err(Refused::new("UNKNOWN_SUBJECT", "no such service"))),
    };
    json_of(subject, answered)
}

/// Answers one request about dead letters, which are read from their stream.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn dead_letters(shared: &Shared, work: &impl Means, bus: &Bus, subject: &str, payload: &[u8]) -> Answer {
    match subject {
        "swarm.dlq.list" => letters::list(&shared.letters, work, bus, payload).await,
        "swarm.dlq.show" => letters::show(&shared.letters, work, bus, payload).await,
        "swarm.dlq.redrive" => letters::redrive(work, bus, payload).await,
        "swarm.dlq.drop" => letters::drop_letter(work, payload).await,
        _ => Ok(Err(Refused::new("UNKNOWN_SUBJECT", "no such service"))),
    }
}

fn json_of(subject: &str, answered: Answer) -> Value {
    match answered {
        Ok(Ok(value)) => ok(value),
        Ok(Err(refused)) => refused.json(),
        Err(error) => {
            tracing::error!(%error, subject, "request failed");
            Refused::new("UNAVAILABLE", "the swarm can't answer now; nothing was changed; try again").json()
        }
    }
}

/// An answer, or why there is none.
pub type Answer = Result<Result<Value, Refused>, HandleError>;

pub(crate) async fn signal(work: &impl Means, payload: &[u8], head: SignalHead) -> Answer {
    let now = work.now();
    let id = head.id.unwrap_or_else(|| work.new_id().to_string());
    let mut kept = vec![("Nats-Msg-Id".to_owned(), id.clone())];
    if let Some(content_type) = head.content_type {
        kept.push(("content-type".to_owned(), content_type));
    }
    let subject = Subject::of(Route::Signal, Priority::Urgent);
    let raw = Raw { subject: subject.to_string(), headers: kept, payload: payload.to_vec() };
    let arrival = Arrival { stream: subject.stream().map_or("", Stream::name), stream_seq: 0, published_at: now };
    let envelope: Envelope = match bus::codec::decode(&raw, &arrival, now) {
        Ok(envelope) => envelope,
        Err(reject) => return Ok(Err(Refused::new(reject.code.code(), &reject.detail))),
    };
    // The bytes go on as they came: the planner behind the stream makes the same id of them as was made here, and as it
    // makes of the same message at the plain door.
    let soon = now.plus_ms(SIGNAL_WITHIN_MS);
    let until = envelope.header.valid_until.map_or(soon, |end| end.min(soon));
    match work.forward(&raw, Some(until)).await {
        Ok(published) => Ok(Ok(json!({
            "accepted": true,
            "id": envelope.header.message_id,
            "duplicate": published.duplicate,
            "stream": published.stream,
            "seq": published.seq,
        }))),
        Err(error @ bus::BusError::TooLarge { .. }) => Ok(Err(Refused::new("OVERSIZED", &error.to_string()))),
        Err(bus::BusError::PublishUnanswered { .. }) => {
            let detail =
                format!("no stream answered in time, and it may still be stored: send it again under the id {id}");
            Ok(Err(Refused::new("NOT_CONFIRMED", &detail)))
        }
        Err(error) => Ok(Err(Refused::new("NOT_STORED", &format!("the stream did not take it: {error}")))),
    }
}

/// The user named in the request, `operator` when none is.
fn user_of(payload: &[u8]) -> Result<String, Refused> {
    if payload.iter().all(u8::is_ascii_whitespace) {
        return Ok("operator".to_owned());
    }
    let value: Value = serde_json::from_slice(payload)
        .map_err(|_| Refused::new("BAD_JSON", "send nothing or {\"user\":\"handle\"}"))?;
    match value.get("user") {
        None if value.is_object() => Ok("operator".to_owned()),
        None => Err(Refused::new("BAD_JSON", "send nothing or {\"user\":\"handle\"}")),
        Some(Value::String(handle)) if domain::subject::is_token(handle) => Ok(handle.clone()),
        Some(_) => Err(Refused::new("BAD_TEXT", "user is a short name")),
    }
}

async fn positions(work: &impl Means, payload: &[u8]) -> Answer {
    let handle = match user_of(payload) {
        Ok(handle) => handle,
        Err(refused) => return Ok(Err(refused)),
    };
    view::positions(work, &handle).await
}

/// A look at an account.
struct Look {
    user: String,
    limit: i64,
}

/// Reads whose account is asked for, and how many rows (20 unless told, 500 at most).
async fn looked(payload: &[u8], look: impl AsyncFnOnce(Look) -> Answer) -> Answer {
    let user = match user_of(payload) {
        Ok(user) => user,
        Err(refused) => return Ok(Err(refused)),
    };
    let value: Value = serde_json::from_slice(payload).unwrap_or_default();
    match value.get("limit").map_or(Some(20), Value::as_i64).filter(|limit| (1..=500).contains(limit)) {
        Some(limit) => look(Look { user, limit }).await,
        None => Ok(Err(Refused::new("BAD_JSON", "limit is a number from 1 to 500"))),
    }
}

async fn approvals(work: &impl Means, payload: &[u8]) -> Answer {
    if payload.iter().all(u8::is_ascii_whitespace) {
        return view::approvals(work).await.map(Ok);
    }
    let bad = || Refused::new("BAD_JSON", "send nothing or {\"approval_id\":\"...\"}");
    let Some(fields) = serde_json::from_slice::<Value>(payload).ok().and_then(|value| value.as_object().cloned())
    else {
        return Ok(Err(bad()));
    };
    match fields.get("approval_id").map(|id| id.as_str().and_then(|text| text.parse().ok())) {
        None => view::approvals(work).await.map(Ok),
        Some(Some(approval_id)) => view::approval(work, approval_id).await,
        Some(None) => Ok(Err(bad())),
    }
}

fn signed_act(payload: &[u8]) -> Result<SignedAct, Refused> {
    serde_json::from_slice(payload).map_err(|_| {
        Refused::new("NOT_SIGNED", "send a signed act as JSON: use `swarm approve`, `swarm reject` or `swarm resume`")
    })
}

async fn halt(shared: &Shared, work: &impl Means, payload: &[u8]) -> Answer {
    let wish = match asked_halt(payload) {
        Ok(wish) => wish,
        Err(refused) => return Ok(Err(refused)),
    };
    let raised = halt::raise(shared, work, &wish).await;
    let mut answer = json!({
        "level": raised.copy.level, "epoch": raised.copy.epoch, "by": wish.by, "reason": wish.reason,
        "changed": raised.is_new, "recorded": raised.is_recorded,
    });
    if !raised.is_recorded {
        answer["detail"] = json!("it is in force; the database does not answer, and the record follows when it does");
    }
    Ok(Ok(answer))
}

/// Reads what came to `swarm.halt`. Only a level that is none is refused: who asks, and how it is worded, stops no halt.
fn asked_halt(payload: &[u8]) -> Result<Wish, Refused> {
    if payload.iter().all(u8::is_ascii_whitespace) {
        let reason = "asked over NATS without a reason".to_owned();
        return Ok(Wish { level: 1, by: "operator".to_owned(), way: Way::Nats, reason });
    }
    let value: Value = serde_json::from_slice(payload)
        .map_err(|_| Refused::new("BAD_JSON", "send nothing or {\"level\":1,\"reason\":\"...\"}"))?;
    let level = value.get("level").map_or(Some(1), Value::as_u64).and_then(|l| u8::try_from(l).ok());
    let level =
        level.filter(|l| (1..=rails::kill::HIGHEST).contains(l)).ok_or_else(|| Refused::new("BAD_LEVEL", BAD_LEVEL))?;
    let text = |key: &str, or: &str| {
        let said = value.get(key).and_then(Value::as_str).map(domain::message::clean_text);
        said.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| or.to_owned())
    };
    // Which way is the caller's word, for the record alone.
    let way = match value.get("way").and_then(Value::as_str) {
        Some("cli") => Way::Cli,
        Some("telegram") => Way::Telegram,
        Some("web") => Way::Web,
        _ => Way::Nats,
    };
    Ok(Wish { level, by: text("by", "operator"), way, reason: text("reason", "no reason given") })
}

async fn resume(shared: &Shared, work: &impl Means, payload: &[u8]) -> Answer {
    let signed = match signed_act(payload) {
        Ok(signed) => signed,
        Err(refused) => return Ok(Err(refused)),
    };
    if !matches!(signed.act.what, Act::LowerKill { .. }) {
        return Ok(Err(Refused::new("WRONG_ACT", "this act lowers no kill level")));
    }
    Ok(halt::lower(shared, work, &signed)
        .await?
        .map(|halt| json!({ "level": halt.level, "epoch": halt.epoch, "by": halt.by, "reason": halt.reason })))
}

async fn breaker(work: &impl Means, payload: &[u8]) -> Answer {
    let signed = match signed_act(payload) {
        Ok(signed) => signed,
        Err(refused) => return Ok(Err(refused)),
    };
    let mut unit = work.begin(nobody()).await?;
    match gateway::reset_breaker(&mut unit, &signed).await? {
        Err(refused) => Ok(Err(refused)),
        Ok((user, done)) => {
            work.commit(unit, user, done.out).await?;
            Ok(done.answer)
        }
    }
}

/// A person's word about a process: end its quarantine, or have it start anew.
async fn agent_act(shared: &Shared, work: &impl Means, payload: &[u8]) -> Answer {
    let signed = match signed_act(payload) {
        Ok(signed) => signed,
        Err(refused) => return Ok(Err(refused)),
    };
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    if let Err(refused) = gateway::authenticate(&mut unit, &signed, now).await? {
        return Ok(Err(refused));
    }
    let (by, reason) = (&signed.act.person_id, &signed.act.reason);
    if reason.trim().len() < 3 {
        return Ok(Err(Refused::new("REASON_MISSING", "say why (--reason)")));
    }
    match &signed.act.what {
        Act::ReleaseAgent { agent, quarantined } => {
            let released = crate::lifecycle::release(&mut unit, agent, quarantined, &signed.act, now).await?;
            if let Err(why) = released {
                return Ok(Err(Refused::new("NOT_IN_QUARANTINE", &why)));
            }
            work.commit(unit, nobody(), Vec::new()).await?;
            shared.registry.declared_anew(agent);
            Ok(Ok(json!({ "agent": agent, "released": true })))
        }
        Act::RestartAgent { agent, boot_id } => {
            if shared.registry.boot_id(agent) != Some(*boot_id) {
                return Ok(Err(Refused::new("NOT_RUNNING", "no such start of it runs; look at `swarm agents`")));
            }
            let body = json!({ "agent": agent, "boot_id": boot_id, "by": by, "reason": reason });
            store::audit::append_governance(&mut unit, "restart_wanted", crate::NAME, &body, now).await?;
            work.commit(unit, nobody(), Vec::new()).await?;
            shared.registry.want(agent, reason);
            Ok(Ok(json!({ "agent": agent, "restarting": true })))
        }
        _ => Ok(Err(Refused::new("WRONG_ACT", "this act is about no process"))),
    }
}

/// No user: a transaction that sees only what the supervisor's own policies show.
pub(crate) fn nobody() -> UserId {
    UserId(uuid::Uuid::nil())
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    #[test]
    fn a_halt_is_taken_however_it_is_worded_and_always_says_by_whom_which_way_and_why() {
        let (nameless, wordless) = ("operator", "no reason given");
        for (payload, level, by, way, reason) in [
            ("", 1, nameless, Way::Nats, "asked over NATS without a reason"),
            (" \n", 1, nameless, Way::Nats, "asked over NATS without a reason"),
            ("{}", 1, nameless, Way::Nats, wordless),
            (r#"{"level":2,"by":"anna","reason":"fire","way":"web"}"#, 2, "anna", Way::Web, "fire"),
            (r#"{"level":3,"way":"cli"}"#, 3, nameless, Way::Cli, wordless),
            (r#"{"level":4,"way":"telegram"}"#, 4, nameless, Way::Telegram, wordless),
            (r#"{"way":"supervisor"}"#, 1, nameless, Way::Nats, wordless),
            (r#"{"by":"","reason":""}"#, 1, nameless, Way::Nats, wordless),
            (r#"{"by":"  ","reason":"\u0007"}"#, 1, nameless, Way::Nats, wordless),
            (r#"{"by":7,"reason":null,"way":1}"#, 1, nameless, Way::Nats, wordless),
        ] {
            let want = Wish { level, by: by.to_owned(), way, reason: reason.to_owned() };
            assert_eq!(asked_halt(payload.as_bytes()).unwrap(), want, "{payload:?}");
        }
        for (payload, code) in [
            ("halt!", "BAD_JSON"),
            (r#"{"level":0}"#, "BAD_LEVEL"),
            (r#"{"level":5}"#, "BAD_LEVEL"),
            (r#"{"level":257}"#, "BAD_LEVEL"),
            (r#"{"level":"1"}"#, "BAD_LEVEL"),
        ] {
            assert_eq!(asked_halt(payload.as_bytes()).unwrap_err().code, code, "{payload}");
        }
    }

    #[tokio::test]
    async fn a_halt_does_not_stand_behind_an_answer_that_waits_for_the_database() {
        let (told, mut answered) = mpsc::unbounded_channel();
        let (database, end) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let requests = stream::iter([("swarm.status", ()), ("swarm.positions", ()), ("swarm.halt", ())]);
        let (hangs, ended) = (Arc::clone(&database), Arc::clone(&end));
        let serving = tokio::spawn(async move {
            let stop = async { drop(ended.acquire().await) };
            serve(Box::pin(requests.chain(stream::pending())), stop, |subject, (), _| {
                let (database, told) = (Arc::clone(&hangs), told.clone());
                async move {
                    if subject != "swarm.halt" {
                        database.acquire().await.unwrap().forget();
                    }
                    told.send(subject).unwrap();
                }
            })
            .await;
        });
        assert_eq!(answered.recv().await, Some("swarm.halt"));
        database.add_permits(1);
        assert_eq!(answered.recv().await, Some("swarm.status"));
        database.add_permits(1);
        assert_eq!(answered.recv().await, Some("swarm.positions"));
        end.add_permits(1);
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_halt_does_not_stand_behind_signals_that_wait_for_the_stream() {
        let leader = Arc::new(Semaphore::new(0));
        let (told, mut answered) = mpsc::unbounded_channel();
        let requests = stream::iter([("swarm.signal", ()), ("swarm.signal", ()), ("swarm.halt", ())]);
        let elected = Arc::clone(&leader);
        let serving = tokio::spawn(async move {
            let requests = requests.chain(stream::pending());
            serve(Box::pin(requests), std::future::pending(), |subject, (), waiting| {
                let (leader, told) = (Arc::clone(&leader), told.clone());
                async move {
                    if subject == "swarm.signal" {
                        leader.acquire().await.unwrap().forget();
                    }
                    told.send((subject, waiting)).unwrap();
                }
            })
            .await;
        });
        assert_eq!(answered.recv().await, Some(("swarm.halt", 2)));
        elected.add_permits(2);
        assert_eq!(answered.recv().await.map(|(subject, _)| subject), Some("swarm.signal"));
        assert_eq!(answered.recv().await.map(|(subject, _)| subject), Some("swarm.signal"));
        serving.abort();
    }
}
