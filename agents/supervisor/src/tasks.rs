//! Tasks: from a person's door, or handed back by an agent, to an agent that can do it; and the answer back to who waits.
//!
//! Both ways lead over the road ([`Route::Task`] to here, [`Route::AgentTask`] from here), so a task in the hands of an agent that
//! dies is delivered again. Whoever asked waits here meanwhile, and has the task routed anew when the agent that got it is not
//! well and another one can take it. A task carries no money and no approval: agents that hold a key or the ledger consume none,
//! and a task that is named like their business is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::ids::TaskId;
use domain::message::{Alert, Header, Message, Payload, Severity, Task, TaskResult, clean_text};
use domain::subject::{Route, Subject, is_token};
use domain::time::UnixMs;
use runtime::Means;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::answer::Refused;
use crate::lifecycle::Member;
use crate::routing::{Candidate, NoRoute, route};
use crate::services::{Answer, nobody};
use crate::{NAME, Shared};

/// How long whoever asked waits; after it the task is dead.
const WITHIN: Duration = Duration::from_secs(10);
/// How often it is asked whether the agent that has the task is still well.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Most tasks that somebody waits for at once.
const MOST_WAITING: usize = 32;
/// Most arguments, and the longest one, bytes.
const MOST_ARGUMENTS: usize = 32;
const LONGEST_ARGUMENT: usize = 4_096;

/// What the business of the rails is named with: no task carries an order, a permit, an approval, a kill level or money.
const RAILS: [&str; 22] = [
    "allow", "approv", "breaker", "buy", "fund", "halt", "intent", "kill", "ledger", "limit", "money", "order", "pay",
    "permit", "purchase", "resume", "sell", "sign", "swap", "trad", "transfer", "withdraw",
];

/// Whether a capability is named like the business of the rails.
#[must_use]
pub fn is_rails_business(capability: &str) -> bool {
    let lower = capability.to_ascii_lowercase();
    lower.split(['_', '-']).any(|word| RAILS.iter().any(|stem| word.starts_with(stem)))
}

/// The tasks that somebody waits for.
#[derive(Debug, Default)]
pub struct Tasks(Mutex<BTreeMap<TaskId, Waiting>>);

#[derive(Debug)]
struct Waiting {
    outcome: Option<oneshot::Sender<Outcome>>,
    /// Who has it.
    agent: Option<String>,
    /// Who had it, and gets it no more.
    tried: BTreeSet<String>,
    /// How often it was handed on.
    hops: u32,
}

/// What came of a task.
#[derive(Debug)]
enum Outcome {
    Answered(String, TaskResult),
    No(NoRoute),
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody waits for it from now on; `None` when as many do as may.
    fn wait(&self, task_id: TaskId) -> Option<Place<'_>> {
        let mut waiting = self.lock();
        if waiting.len() >= MOST_WAITING {
            return None;
        }
        let (tell, told) = oneshot::channel();
        let new = Waiting { outcome: Some(tell), agent: None, tried: BTreeSet::new(), hops: 0 };
        waiting.insert(task_id, new);
        Some(Place { tasks: self, task_id, told })
    }

    fn with<T>(&self, task_id: TaskId, act: impl FnOnce(&mut Waiting) -> T) -> Option<T> {
        self.lock().get_mut(&task_id).map(act)
    }

    /// Tells whoever waits; the first outcome counts.
    fn settle(&self, task_id: TaskId, outcome: Outcome) -> bool {
        let tell = self.with(task_id, |waiting| waiting.outcome.take()).flatten();
        tell.is_some_and(|tell| tell.send(outcome).is_ok())
    }
}

/// Whoever waits for a task; gone with it.
struct Place<'a> {
    tasks: &'a Tasks,
    task_id: TaskId,
    told: oneshot::Receiver<Outcome>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.tasks.lock().remove(&self.task_id);
    }
}

/// Who may get tasks, and had none of this one.
fn candidates(members: Vec<Member>, tried: &BTreeSet<String>) -> Vec<Candidate> {
    let may = members.into_iter().filter(|member| member.takes_tasks && !tried.contains(&member.name));
    may.map(|member| Candidate {
        is_well: is_well(&member),
        name: member.name,
        capabilities: member.capabilities,
        load: member.load,
        max_concurrent: member.max_concurrent,
    })
    .collect()
}

fn is_well(member: &Member) -> bool {
    matches!(member.verdict, "healthy" | "busy")
}

/// Who gets it of those who did not have it. That nobody else can do it is no reason to say that nobody can: whoever had it
/// declares it too.
fn choose(members: Vec<Member>, capability: &str, tried: &BTreeSet<String>, hops: u32) -> Result<String, NoRoute> {
    if is_rails_business(capability) {
        return Err(NoRoute::NoSuchCapability);
    }
    let chosen = route(capability, &candidates(members, tried), hops).map(str::to_owned);
    match chosen {
        Err(NoRoute::NoSuchCapability) if !tried.is_empty() => Err(NoRoute::NobodyWell),
        chosen => chosen,
    }
}

/// A task came in: from the door, or back from an agent that can't do it.
pub(crate) fn assign(shared: &Shared, header: &Header, task: &Task) -> Vec<Message> {
    let Some(task_id) = task.task_id else { return Vec::new() };
    let members = shared.registry.members(Instant::now());
    let handed_back = (header.source_agent != NAME).then(|| header.source_agent.clone());
    let mut tried = shared.tasks.with(task_id, |waiting| {
        waiting.tried.extend(handed_back.clone());
        waiting.tried.clone()
    });
    let tried = tried.get_or_insert_with(|| handed_back.into_iter().collect());
    match choose(members, &task.capability, tried, task.hops) {
        Ok(agent) => {
            let hops = task.hops + 1;
            shared.tasks.with(task_id, |waiting| (waiting.agent, waiting.hops) = (Some(agent.clone()), hops));
            tracing::info!(%task_id, capability = task.capability, agent, hops, "task routed");
            metrics::counter!("swarm_tasks_total", "outcome" => "routed").increment(1);
            vec![Message {
                subject: Subject::task(&agent),
                key: format!("{task_id}:{hops}"),
                user_id: nobody(),
                valid_until: header.valid_until,
                payload: Payload::Task(Task { hops, ..task.clone() }),
            }]
        }
        Err(no) => {
            shared.tasks.settle(task_id, Outcome::No(no));
            metrics::counter!("swarm_tasks_total", "outcome" => no.code()).increment(1);
            escalated(task_id, &task.capability, no.code()).into_iter().collect()
        }
    }
}

/// An answer came in. One that nobody waits for any more is let go.
pub(crate) fn answered(shared: &Shared, header: &Header, result: &TaskResult) {
    let Some(task_id) = result.task_id else { return };
    if !shared.tasks.settle(task_id, Outcome::Answered(header.source_agent.clone(), result.clone())) {
        tracing::info!(%task_id, from = header.source_agent, "an answer that nobody waits for");
    }
}

/// What tells a person that nobody does a task that somebody could; a capability that nobody has is the asker's own affair.
fn escalated(task_id: TaskId, capability: &str, code: &str) -> Option<Message> {
    if code == NoRoute::NoSuchCapability.code() {
        return None;
    }
    let text = format!("Nobody does the task {capability} ({code}). `swarm agents` shows who could; {task_id}.");
    let alert = Alert { name: format!("task:{capability}"), severity: Severity::Warning, text };
    let key = format!("task:{task_id}:{code}");
    Some(Message::fact(Subject::fact(Route::Alert), nobody(), key, Payload::Alert(alert)))
}

/// What is asked for at `swarm.task`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    capability: String,
    #[serde(default)]
    arguments: BTreeMap<String, String>,
}

fn read(payload: &[u8]) -> Result<Asked, Refused> {
    let bad = |detail: &str| Refused::new("BAD_JSON", detail);
    let asked: Asked = serde_json::from_slice(payload)
        .map_err(|_| bad("send {\"capability\":\"host_report\",\"arguments\":{\"name\":\"text\"}}"))?;
    let is_plain = |(name, value): (&String, &String)| {
        is_token(name) && value.len() <= LONGEST_ARGUMENT && !value.chars().any(char::is_control)
    };
    if !is_token(&asked.capability) {
        return Err(bad("the capability is one word, as `swarm agents --json` shows them"));
    }
    if asked.arguments.len() > MOST_ARGUMENTS || !asked.arguments.iter().all(is_plain) {
        return Err(bad("at most 32 arguments, each named by one word, of one line and 4096 bytes at most"));
    }
    if is_rails_business(&asked.capability) {
        let detail = "orders, approvals, permits, kill levels and money are no tasks: there are commands for each";
        return Err(Refused::new("NOT_A_TASK", detail));
    }
    Ok(asked)
}

/// Has a task done, and waits for its answer.
pub(crate) async fn ask(shared: &Shared, work: &impl Means, payload: &[u8]) -> Answer {
    let Asked { capability, arguments } = match read(payload) {
        Ok(asked) => asked,
        Err(refused) => return Ok(Err(refused)),
    };
    let task_id = TaskId(work.new_id());
    let Some(mut place) = shared.tasks.wait(task_id) else {
        return Ok(Err(Refused::new("TOO_MANY_TASKS", "as many people wait for tasks as may; try again")));
    };
    let until = Instant::now() + WITHIN;
    let valid_until = work.now().plus_ms(i64::try_from(WITHIN.as_millis()).unwrap_or(0));
    let task = Task { task_id: Some(task_id), hops: 0, capability, arguments };
    send(work, &task, valid_until).await?;
    let outcome = loop {
        let look_at = (Instant::now() + LOOK_EVERY).min(until);
        match tokio::time::timeout_at(look_at, &mut place.told).await {
            Ok(outcome) => break outcome.ok(),
            Err(_) if look_at == until => break None,
            Err(_) => {}
        }
        if let Some(hops) = handed_on(shared, task_id, &task.capability) {
            send(work, &Task { hops, ..task.clone() }, valid_until).await?;
        }
    };
    let agent = shared.tasks.with(task_id, |waiting| waiting.agent.clone()).flatten();
    match outcome {
        Some(Outcome::Answered(agent, result)) if result.ok => Ok(Ok(
            json!({ "task_id": task_id, "agent": agent, "capability": task.capability, "results": shown(&result) }),
        )),
        Some(Outcome::Answered(agent, result)) => Ok(Err(Refused::new(
            "TASK_FAILED",
            &format!("{agent}: {}", result.results.get("error").map_or("no reason given", String::as_str)),
        ))),
        Some(Outcome::No(no)) => Ok(Err(refusal(no, &task.capability))),
        None => {
            let is_well =
                shared.registry.members(Instant::now()).iter().any(|m| Some(&m.name) == agent.as_ref() && is_well(m));
            let code = if is_well { "NO_ANSWER" } else { NoRoute::NobodyWell.code() };
            metrics::counter!("swarm_tasks_total", "outcome" => code).increment(1);
            let unit = work.begin(nobody()).await?;
            work.commit(unit, nobody(), escalated(task_id, &task.capability, code).into_iter().collect()).await?;
            let who = agent.as_deref().unwrap_or("nobody");
            Ok(Err(Refused::new(
                code,
                &format!("no answer within {} s; {who} has it; see `swarm agents`", WITHIN.as_secs()),
            )))
        }
    }
}

/// Results are an agent's words: cleaned before anybody is shown them.
fn shown(result: &TaskResult) -> Value {
    result
        .results
        .iter()
        .map(|(name, value)| (name.clone(), Value::String(clean_text(value))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn refusal(no: NoRoute, capability: &str) -> Refused {
    let detail = match no {
        NoRoute::NoSuchCapability => {
            format!("no agent does {capability}; `swarm agents --json` shows what each declares")
        }
        NoRoute::NobodyWell => format!("who does {capability} is not well now; see `swarm agents`"),
        NoRoute::AllBusy => format!("who does {capability} has as much in hand as it handles at once; try again"),
        NoRoute::TooManyHops => format!("{capability} was handed on too often, and nobody did it"),
    };
    Refused::new(no.code(), &detail)
}

/// When the agent that has a task is not well and another could do it: how often it was handed on, for who routes it anew.
fn handed_on(shared: &Shared, task_id: TaskId, capability: &str) -> Option<u32> {
    let members = shared.registry.members(Instant::now());
    shared.tasks.with(task_id, |waiting| {
        let agent = waiting.agent.clone()?;
        if members.iter().any(|member| member.name == agent && is_well(member)) {
            return None;
        }
        let mut tried = waiting.tried.clone();
        tried.insert(agent);
        choose(members, capability, &tried, waiting.hops).ok()?;
        (waiting.tried, waiting.agent) = (tried, None);
        Some(waiting.hops)
    })?
}

/// To ourselves, over the road: from there it is routed, by whichever supervisor there is then.
async fn send(work: &impl Means, task: &Task, valid_until: UnixMs) -> Result<(), runtime::HandleError> {
    let message = Message {
        subject: Subject::fact(Route::Task),
        key: task.task_id.map(|id| format!("{id}:{}", task.hops)).unwrap_or_default(),
        user_id: nobody(),
        valid_until: Some(valid_until),
        payload: Payload::Task(task.clone()),
    };
    let unit = work.begin(nobody()).await?;
    work.commit(unit, nobody(), vec![message]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_like_the_business_of_the_rails_is_no_task() {
        for name in [
            "order_intents",
            "exchange_orders",
            "approve",
            "sign_permit",
            "kill",
            "reset-breaker",
            "token_purchase",
            "Withdraw",
        ] {
            assert!(is_rails_business(name), "{name}");
            let asked = json!({ "capability": name }).to_string();
            assert_eq!(read(asked.as_bytes()).unwrap_err().code, "NOT_A_TASK", "{name}");
        }
        for name in ["host_report", "prices", "token_verdicts", "lessons", "border"] {
            assert!(!is_rails_business(name), "{name}");
        }
    }

    #[test]
    fn what_is_asked_is_bounded() {
        let code = |text: String| read(text.as_bytes()).err().map(|refused| refused.code);
        assert_eq!(code(json!({ "capability": "prices" }).to_string()), None);
        let long = json!({ "capability": "prices", "arguments": { "a": "x".repeat(LONGEST_ARGUMENT + 1) } });
        let many: BTreeMap<String, &str> = (0..=MOST_ARGUMENTS).map(|n| (format!("a{n}"), "")).collect();
        for bad in [
            json!({}),
            json!({ "capability": "two words" }),
            json!({ "capability": "prices", "more": 1 }),
            long,
            json!({ "capability": "prices", "arguments": many }),
            json!({ "capability": "prices", "arguments": { "a b": "" } }),
            json!({ "capability": "prices", "arguments": { "a": "two\nlines" } }),
        ] {
            assert_eq!(code(bad.to_string()), Some("BAD_JSON"), "{bad}");
        }
    }

    #[test]
    fn so_many_wait_and_no_more_and_the_first_outcome_counts() {
        let tasks = Tasks::default();
        let id = |n: u128| TaskId(uuid::Uuid::from_u128(n));
        let mut places: Vec<Place<'_>> = (0..32).map(|n| tasks.wait(id(n)).unwrap()).collect();
        assert!(tasks.wait(id(99)).is_none());
        places.truncate(31);
        let mut last = tasks.wait(id(99)).unwrap();
        assert!(tasks.settle(id(99), Outcome::No(NoRoute::AllBusy)));
        assert!(!tasks.settle(id(99), Outcome::No(NoRoute::NobodyWell)), "told already");
        assert!(matches!(last.told.try_recv(), Ok(Outcome::No(NoRoute::AllBusy))));
        assert!(!tasks.settle(id(31), Outcome::No(NoRoute::AllBusy)), "nobody waits");
    }

    fn member(name: &str, verdict: &'static str, takes_tasks: bool) -> Member {
        Member {
            name: name.to_owned(),
            verdict,
            capabilities: vec!["prices".to_owned()],
            takes_tasks,
            load: 0,
            max_concurrent: 8,
            heard_ago: None,
        }
    }

    #[test]
    fn who_takes_no_tasks_or_had_this_one_does_not_get_it() {
        let of = |members: &[Member], tried: &[&str]| {
            choose(members.to_vec(), "prices", &tried.iter().map(|name| (*name).to_owned()).collect(), 0)
        };
        let (a, b) = (member("a", "healthy", true), member("b", "busy", true));
        assert_eq!(of(&[member("0", "healthy", false), a.clone(), b.clone()], &[]), Ok("a".to_owned()));
        assert_eq!(of(&[a.clone(), b], &["a"]), Ok("b".to_owned()));
        assert_eq!(of(&[a], &["a"]), Err(NoRoute::NobodyWell));
        assert_eq!(of(&[member("0", "healthy", false)], &[]), Err(NoRoute::NoSuchCapability));
        for verdict in ["stuck", "deaf", "starting", "held", "draining", "quarantined", "stopped", "down"] {
            assert_eq!(of(&[member("a", verdict, true)], &[]), Err(NoRoute::NobodyWell), "{verdict}");
        }
    }
}
