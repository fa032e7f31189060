//! The commands of people: everything that asks the running swarm something, or tells it to do something.
//!
//! Each prints a short text, or with `--json` exactly what the swarm answered. Exit status: 0 it worked, 1 the answer is
//! no (or an audit is INVALID), 69 the swarm can't be reached.

pub mod audit;
pub mod channels;
mod connection;
mod dlq;
pub mod drill;
mod halt;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use domain::canonical::Sha256Digest;
use domain::ids::{ApprovalId, UserId};
use domain::money::{MoneyError, Price, Quantity};
use domain::order::Slices;
use domain::person::{Act, Change, PersonAct, Vote};
use domain::time::{Clock, UnixMs};
use rails::signature::sign_act;
use serde_json::{Value, json};

pub use connection::{Connection, Files};
pub use dlq::DlqCommand;

/// Where the swarm's data lies, and how to answer.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The data folder of `swarm up`.
    #[arg(long, global = true, default_value = ".local", env = "SWARM_DATA")]
    pub data_dir: PathBuf,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Send a trading signal: `swarm signal BUY BTCUSDT --notional-usd 600`.
    Signal(SignalArgs),
    /// Everything at a glance: kill level, agents, ledger, market.
    Status,
    /// Cash, positions and profit of a user.
    Positions {
        /// Whose.
        #[arg(long, default_value = "operator")]
        user: String,
    },
    /// Requests that wait for a human.
    Approvals,
    /// Say yes to a request; signs with your key.
    Approve(VoteArgs),
    /// Say no to a request; signs with your key. It also stops a yes that was not used yet.
    Reject(VoteArgs),
    /// Ask again for less in the place of a request, at a worst price that gives less room, or both; signs with your key. The
    /// new request needs a yes of its own.
    Modify(ModifyArgs),
    /// Take a yes back before it is used, your own or another's; signs with your key.
    Revoke(VoteArgs),
    /// Decide over Telegram.
    #[command(subcommand)]
    Telegram(TelegramCommand),
    /// Decide on the web page.
    #[command(subcommand)]
    Web(WebCommand),
    /// Raise the kill level: 1 no new risk, 2 and cancel open orders, 3 and sell what is held, 4 and stop the agents. When
    /// the swarm does not answer within 2 seconds it is written to the kill file, which the desk follows.
    Halt {
        /// 1 to 4.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
        level: u8,
        /// Why.
        #[arg(long, default_value = "asked by a person")]
        reason: String,
    },
    /// Lower the kill level; signs with your key and needs a reason.
    Resume {
        /// The new level.
        #[arg(long, default_value_t = 0)]
        level: u8,
        /// Why it is safe to go on.
        #[arg(long)]
        reason: String,
    },
    /// Press the kill lever in paper mode: places orders that rest, halts, waits until the venue has cancelled the last of
    /// them, prints how long it took, and resumes with your signature.
    Drill(drill::DrillArgs),
    /// The loss-streak breaker.
    #[command(subcommand)]
    Breaker(BreakerCommand),
    /// The processes: how each is, how often it was started again, and what it lacks.
    Agents {
        /// Do something about one; absent: list them.
        #[command(subcommand)]
        command: Option<AgentsCommand>,
    },
    /// Dead letters: messages that nobody could handle.
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// The protected files: limits, program, configuration.
    #[command(subcommand)]
    Files(FilesCommand),
    /// Have an agent do something it declares, and print what came of it: `swarm task host_report`.
    Task(TaskArgs),
    /// The audit chain.
    #[command(subcommand)]
    Audit(AuditCommand),
}

/// A trading signal on the command line.
#[derive(Debug, Clone, Args)]
pub struct SignalArgs {
    /// BUY, SELL or HOLD.
    pub action: String,
    /// Exchange symbol or mint address.
    pub instrument: String,
    /// Units of the base asset, or `all` for a sale of everything.
    #[arg(long)]
    pub amount: Option<String>,
    /// At most this many dollars.
    #[arg(long, conflicts_with = "amount")]
    pub notional_usd: Option<String>,
    /// Worst price per unit.
    #[arg(long)]
    pub price_limit: Option<String>,
    /// How long the venue keeps a price limit: `ioc` or `gtc` (until the signal's end); the planner's setting when absent.
    #[arg(long, requires = "price_limit")]
    pub time_in_force: Option<String>,
    /// Work it in so many child orders, one after another (2 to 50); fewer where the venue takes no part so small.
    #[arg(long, value_parser = clap::value_parser!(u16).range(2..=i64::from(Slices::MOST)))]
    pub slices: Option<u16>,
    /// Time between two of them, ms; 5000 when absent. All must fit before the signal's end.
    #[arg(long, requires = "slices",
          value_parser = clap::value_parser!(u32).range(i64::from(Slices::EVERY_MS_MIN)..=i64::from(Slices::EVERY_MS_MAX)))]
    pub slice_interval_ms: Option<u32>,
    /// Why.
    #[arg(long, default_value = "")]
    pub reasoning: String,
    /// The same id twice is the same signal; made up when absent.
    #[arg(long)]
    pub id: Option<String>,
}

/// A task on the command line.
#[derive(Debug, Clone, Args)]
pub struct TaskArgs {
    /// What is to be done, as `swarm agents --json` shows it among the capabilities.
    pub capability: String,
    /// What it is told.
    #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
    pub arguments: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| "write it as key=value".to_owned())
}

/// Which request, and why.
#[derive(Debug, Clone, Args)]
pub struct VoteArgs {
    /// Id of the request, or `last` when only one waits.
    pub approval_id: String,
    /// Why.
    #[arg(long, default_value = "")]
    pub reason: String,
}

/// What is wanted instead.
#[derive(Debug, Clone, Args)]
pub struct ModifyArgs {
    /// Which request, and why.
    #[command(flatten)]
    pub vote: VoteArgs,
    /// Units of the base asset, fewer than asked.
    #[arg(long)]
    pub quantity: Option<String>,
    /// Worst price per unit: lower for a buy, higher for a sale.
    #[arg(long, required_unless_present = "quantity")]
    pub worst_price: Option<String>,
}

/// Commands about Telegram.
#[derive(Debug, Clone, Subcommand)]
pub enum TelegramCommand {
    /// Print a code, good for 10 minutes and once: sent to the swarm's bot in a private chat it binds that account to you.
    Link,
}

/// Commands about the web page.
#[derive(Debug, Clone, Subcommand)]
pub enum WebCommand {
    /// Print a new secret for your authenticator, this once; an earlier one is worth nothing from then on. Needs the data
    /// folder of `swarm up`.
    Enroll,
}

/// Commands about the protected files.
#[derive(Debug, Clone, Subcommand)]
pub enum FilesCommand {
    /// What was declared of each, and whether it is still that.
    Status,
    /// Declare another content of a file of the configuration; signs with your key. Limits, people and program change only
    /// while the swarm is stopped.
    Approve {
        /// Its name in `swarm files status`.
        file: String,
        /// A file with the new content, to be put in place within 10 minutes. When absent: what lies there now.
        #[arg(long, value_name = "FILE")]
        with: Option<PathBuf>,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// Commands about the breaker.
#[derive(Debug, Clone, Subcommand)]
pub enum BreakerCommand {
    /// Reset a latched breaker; signs with your key.
    Reset {
        /// Whose.
        #[arg(long, default_value = "operator")]
        user: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// Commands about processes.
#[derive(Debug, Clone, Subcommand)]
pub enum AgentsCommand {
    /// Let an agent run again that is in quarantine; signs with your key. Look at its log first.
    Release {
        /// Which.
        agent: String,
        /// Why it will not end again.
        #[arg(long)]
        reason: String,
    },
    /// Have an agent drain and start anew; signs with your key.
    Restart {
        /// Which.
        agent: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// Commands about the audit chain.
#[derive(Debug, Clone, Subcommand)]
pub enum AuditCommand {
    /// Check every chain against its hashes and its signed heads.
    Verify,
    /// Print the whole chain of one fill, order, intent or signal.
    Explain {
        /// Its id.
        id: String,
    },
}

/// Why a command gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// A file that `swarm up` writes is missing or unreadable.
    #[error("{0}")]
    Files(String),
    /// The swarm did not answer.
    #[error("the swarm does not answer ({0}); is it running? `make run` or `swarm up` starts it")]
    Unreachable(String),
    /// What was typed can't be sent.
    #[error("{0}")]
    Usage(String),
}

/// Runs a command and prints its answer.
#[must_use]
pub fn main(command: &Command, common: &Common) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(executor) => executor.block_on(run(command, common)),
        Err(error) => {
            eprintln!("no async runtime: {error}");
            ExitCode::from(70)
        }
    }
}

async fn run(command: &Command, common: &Common) -> ExitCode {
    match answer(command, common).await {
        Ok(answer) => {
            let good = answer.get("ok").and_then(Value::as_bool).unwrap_or(true);
            if common.json {
                println!("{}", serde_json::to_string_pretty(&answer).unwrap_or_default());
            } else {
                print!("{}", text::render(command, &answer));
            }
            if good { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            if common.json {
                println!("{}", json!({ "ok": false, "code": "UNAVAILABLE", "detail": error.to_string() }));
            } else {
                eprintln!("{error}");
            }
            ExitCode::from(if matches!(error, PeopleError::Usage(_)) { 2 } else { 69 })
        }
    }
}

async fn answer(command: &Command, common: &Common) -> Result<Value, PeopleError> {
    if let Command::Halt { level, reason } = command {
        return halt::halt(&common.data_dir, *level, reason).await;
    }
    let files = Files::load(&common.data_dir)?;
    if let Command::Audit(command) = command {
        let auditor = audit::Auditor::open(&files).await?;
        return match command {
            AuditCommand::Verify => auditor.verify().await,
            AuditCommand::Explain { id } => auditor.explain(id).await,
        };
    }
    if let Command::Web(WebCommand::Enroll) = command {
        return channels::enroll_web(&common.data_dir, &files).await;
    }
    let connection = Connection::open(&files).await?;
    if let Command::Drill(args) = command {
        return drill::drill(&connection, &files, &common.data_dir, args).await;
    }
    let mut answer = perform(&connection, &files, command).await?;
    let agents = match command {
        Command::Status => Some("agents"),
        Command::Agents { command: None } => Some("result"),
        _ => None,
    };
    if let Some(rows) = agents.and_then(|field| answer[field].as_array_mut()) {
        price(rows, crate::llm::cost_today(&common.data_dir).await.as_ref());
    }
    Ok(answer)
}

/// Puts beside each process what its questions to models have cost today; nothing where nobody can say.
fn price(rows: &mut [Value], costs: Option<&BTreeMap<String, u64>>) {
    for row in rows {
        let name = row["agent"].as_str().unwrap_or_default();
        let cost = costs.map(|costs| llm::money::usd_text(costs.get(name).copied().unwrap_or(0)));
        row["cost_usd_today"] = json!(cost);
    }
}

/// Does over a connection what a command says, signing with the person's key where that is needed, and gives the
/// swarm's answer.
///
/// # Errors
/// [`PeopleError`]; a no of the swarm is an answer. `swarm audit` reads tables, not the swarm: see [`audit::Auditor`].
pub async fn perform(connection: &Connection, files: &Files, command: &Command) -> Result<Value, PeopleError> {
    match command {
        Command::Signal(args) => send_signal(connection, args).await,
        Command::Status => connection.request("swarm.status", &Value::Null).await,
        Command::Positions { user } => connection.request("swarm.positions", &json!({ "user": user })).await,
        Command::Approvals => connection.request("swarm.approvals", &Value::Null).await,
        Command::Approve(args) => vote(connection, files, args, Vote::Approve).await,
        Command::Reject(args) => vote(connection, files, args, Vote::Reject).await,
        Command::Modify(args) => modify(connection, files, args).await,
        Command::Revoke(args) => revoke(connection, files, args).await,
        Command::Telegram(TelegramCommand::Link) => channels::link_telegram(connection, files).await,
        Command::Web(_) => Err(PeopleError::Usage("enrolling is answered without the swarm".to_owned())),
        Command::Halt { level, reason } => {
            connection.request("swarm.halt", &halt::body(*level, reason, &files.person_id)).await
        }
        Command::Resume { level, reason } => {
            let status = connection.request("swarm.status", &Value::Null).await?;
            let epoch = status["kill"]["epoch"].as_i64();
            let epoch = epoch.ok_or_else(|| PeopleError::Unreachable("it does not tell the kill level".to_owned()))?;
            act(connection, files, "swarm.resume", Act::LowerKill { level: *level, epoch }, reason).await
        }
        Command::Drill(_) => Err(PeopleError::Usage("a drill needs the data folder of `swarm up`".to_owned())),
        Command::Breaker(BreakerCommand::Reset { user, reason }) => {
            let positions = connection.request("swarm.positions", &json!({ "user": user })).await?;
            let Some(latched_at) = positions["breaker"]["latched_at"].as_i64() else {
                return Ok(
                    json!({ "ok": false, "code": "NOT_LATCHED", "detail": "this user's breaker is not latched" }),
                );
            };
            let what = Act::ResetBreaker { user_id: UserId::of_handle(user), latched_at: UnixMs(latched_at) };
            act(connection, files, "swarm.breaker", what, reason).await
        }
        Command::Agents { command: None } => connection.request("swarm.agents", &Value::Null).await,
        Command::Agents { command: Some(command) } => agent(connection, files, command).await,
        Command::Dlq(command) => dlq::perform(connection, files, command).await,
        Command::Files(FilesCommand::Status) => connection.request("swarm.files", &Value::Null).await,
        Command::Files(FilesCommand::Approve { file, with, reason }) => {
            approve_file(connection, files, file, with.as_deref(), reason).await
        }
        Command::Task(args) => {
            let arguments: BTreeMap<&String, &String> =
                args.arguments.iter().map(|(key, value)| (key, value)).collect();
            let body = json!({ "capability": args.capability, "arguments": arguments });
            connection.request_within("swarm.task", &body, TASK_WITHIN).await
        }
        Command::Audit(_) => Err(PeopleError::Usage("audit is answered without the swarm".to_owned())),
    }
}

/// How long a task may take; the swarm says after 10 s that nobody did it.
const TASK_WITHIN: Duration = Duration::from_secs(15);
/// How long a signal that nobody confirms is sent again.
const SIGNAL_FOR: Duration = Duration::from_secs(20);
/// Before it is.
const SIGNAL_PAUSE: Duration = Duration::from_millis(500);

/// Sends a signal until somebody says what became of it, always under one id: it may be stored although no answer came,
/// and must not trade twice for that.
async fn send_signal(connection: &Connection, args: &SignalArgs) -> Result<Value, PeopleError> {
    let made_up = || runtime::clock::new_id(&runtime::clock::SystemClock).to_string();
    let id = args.id.clone().unwrap_or_else(made_up);
    let started = tokio::time::Instant::now();
    loop {
        let answer = connection.request_with_id("swarm.signal", &signal(args), Some(&id)).await;
        let is_known = match &answer {
            Ok(answer) => answer["code"] != "NOT_CONFIRMED",
            Err(error) => !matches!(error, PeopleError::Unreachable(_)),
        };
        match answer {
            answer if is_known => return answer,
            answer if started.elapsed() < SIGNAL_FOR => {
                let why = answer.map_or_else(|error| error.to_string(), |answer| answer["detail"].to_string());
                eprintln!("not confirmed ({why}); sending it again under the id {id}");
                tokio::time::sleep(SIGNAL_PAUSE).await;
            }
            Err(PeopleError::Unreachable(text)) => {
                let text = format!("{text}; it may be stored all the same: repeat it with --id {id}, it trades once");
                return Err(PeopleError::Unreachable(text));
            }
            answer => return answer,
        }
    }
}

fn signal(args: &SignalArgs) -> Value {
    let mut body = serde_json::Map::new();
    body.insert("action".to_owned(), json!(args.action.to_ascii_uppercase()));
    body.insert("token_address".to_owned(), json!(args.instrument));
    let optional = [
        ("amount", args.amount.clone()),
        ("notional_usd", args.notional_usd.clone()),
        ("price_limit", args.price_limit.clone()),
        ("time_in_force", args.time_in_force.clone()),
        ("reasoning", (!args.reasoning.is_empty()).then(|| args.reasoning.clone())),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            body.insert(name.to_owned(), json!(value));
        }
    }
    for (name, number) in [("slices", args.slices.map(u32::from)), ("slice_interval_ms", args.slice_interval_ms)] {
        if let Some(number) = number {
            body.insert(name.to_owned(), json!(number));
        }
    }
    Value::Object(body)
}

/// A request as the swarm shows it: which, of what digest, and in one line.
struct Found {
    approval_id: ApprovalId,
    digest: Sha256Digest,
    summary: Value,
}

/// The request of that id, however far it is; `last` is the one that waits, when only one does.
async fn find(connection: &Connection, id: &str) -> Result<Result<Found, Value>, PeopleError> {
    let asked = if id == "last" { Value::Null } else { json!({ "approval_id": id }) };
    let listed = connection.request("swarm.approvals", &asked).await?;
    let found = listed["approvals"].as_array().cloned().unwrap_or_default();
    let [row] = found.as_slice() else {
        if id != "last" {
            return Ok(Err(listed));
        }
        let detail = format!("{} requests wait; `swarm approvals` lists them with their ids", found.len());
        return Ok(Err(json!({ "ok": false, "code": "UNKNOWN_REQUEST", "detail": detail })));
    };
    let id: Option<ApprovalId> = row["approval_id"].as_str().and_then(|text| text.parse().ok());
    let digest = row["digest"].as_str().and_then(Sha256Digest::parse);
    let (Some(approval_id), Some(digest)) = (id, digest) else {
        return Err(PeopleError::Unreachable("its answer names no request".to_owned()));
    };
    Ok(Ok(Found { approval_id, digest, summary: row["summary"].clone() }))
}

/// Signs a word on the request of that id and sends it.
async fn say(
    connection: &Connection,
    files: &Files,
    args: &VoteArgs,
    what: impl FnOnce(ApprovalId, Sha256Digest) -> Act,
) -> Result<Value, PeopleError> {
    let found = match find(connection, &args.approval_id).await? {
        Ok(found) => found,
        Err(no) => return Ok(no),
    };
    let what = what(found.approval_id, found.digest);
    let mut answer = act(connection, files, "swarm.approve", what, &args.reason).await?;
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("summary".to_owned(), found.summary);
    }
    Ok(answer)
}

async fn vote(connection: &Connection, files: &Files, args: &VoteArgs, vote: Vote) -> Result<Value, PeopleError> {
    say(connection, files, args, |approval_id, digest| Act::Vote { approval_id, digest, vote }).await
}

async fn revoke(connection: &Connection, files: &Files, args: &VoteArgs) -> Result<Value, PeopleError> {
    say(connection, files, args, |approval_id, digest| Act::Revoke { approval_id, digest }).await
}

async fn modify(connection: &Connection, files: &Files, args: &ModifyArgs) -> Result<Value, PeopleError> {
    let bad = |name: &str, error: MoneyError| PeopleError::Usage(format!("--{name}: {error}"));
    let quantity = args.quantity.as_deref().map(Quantity::parse).transpose().map_err(|e| bad("quantity", e))?;
    let worst_price = args.worst_price.as_deref().map(Price::parse).transpose().map_err(|e| bad("worst-price", e))?;
    let change = Change { quantity, worst_price };
    say(connection, files, &args.vote, |approval_id, digest| Act::Modify { approval_id, digest, change }).await
}

/// Signs a word about a process, on what is shown of it now.
async fn agent(connection: &Connection, files: &Files, command: &AgentsCommand) -> Result<Value, PeopleError> {
    let (AgentsCommand::Release { agent: name, .. } | AgentsCommand::Restart { agent: name, .. }) = command;
    let listed = connection.request("swarm.agents", &Value::Null).await?;
    let rows = listed["result"].as_array().cloned().unwrap_or_default();
    let no = |code: &str, detail: String| Ok(json!({ "ok": false, "code": code, "detail": detail }));
    let Some(row) = rows.iter().find(|row| row["agent"] == name.as_str()) else {
        let known: Vec<&str> = rows.iter().filter_map(|row| row["agent"].as_str()).collect();
        return no("UNKNOWN_AGENT", format!("no process {name}; there are {}", known.join(", ")));
    };
    match command {
        AgentsCommand::Release { reason, .. } => {
            let Some(quarantined) = row["quarantined"].as_str() else {
                return no("NOT_IN_QUARANTINE", format!("{name} is {}", row["verdict"].as_str().unwrap_or("?")));
            };
            let what = Act::ReleaseAgent { agent: name.clone(), quarantined: quarantined.to_owned() };
            act(connection, files, "swarm.agents.release", what, reason).await
        }
        AgentsCommand::Restart { reason, .. } => {
            let Some(boot_id) = row["boot_id"].as_str().and_then(|id| id.parse().ok()) else {
                return no("NOT_RUNNING", format!("{name} is {}", row["verdict"].as_str().unwrap_or("?")));
            };
            let what = Act::RestartAgent { agent: name.clone(), boot_id };
            act(connection, files, "swarm.agents.restart", what, reason).await
        }
    }
}

async fn approve_file(
    connection: &Connection,
    files: &Files,
    file: &str,
    with: Option<&Path>,
    reason: &str,
) -> Result<Value, PeopleError> {
    let listed = connection.request("swarm.files", &Value::Null).await?;
    let row = listed["files"].as_array().into_iter().flatten().find(|row| row["file"] == file).cloned();
    let row = row.unwrap_or_default();
    let digest = |field: &str| row[field].as_str().and_then(Sha256Digest::parse);
    let to = match with {
        Some(with) => {
            let read = runtime::seal::digest_of(with);
            Some(read.map_err(|error| PeopleError::Usage(format!("{}: {error}", with.display())))?)
        }
        None => digest("found"),
    };
    let Some(to) = to else {
        let detail = "no such file is there to be approved; `swarm files status` lists them";
        return Ok(json!({ "ok": false, "code": "UNKNOWN_FILE", "detail": detail }));
    };
    let what = Act::ApproveFile { file: file.to_owned(), from: digest("declared"), to };
    let mut answer = act(connection, files, "swarm.files.approve", what, reason).await?;
    if let (Some(fields), Some(with)) =
        (answer.as_object_mut().filter(|fields| fields.get("ok") == Some(&json!(true))), with)
    {
        fields.insert("put_in_place".to_owned(), json!([with.display().to_string(), row["path"]]));
    }
    Ok(answer)
}

pub(crate) async fn act(
    connection: &Connection,
    files: &Files,
    subject: &str,
    what: Act,
    reason: &str,
) -> Result<Value, PeopleError> {
    let act = PersonAct {
        schema: PersonAct::SCHEMA.to_owned(),
        person_id: files.person_id.clone(),
        what,
        reason: domain::message::clean_text(reason),
        signed_at: runtime::clock::SystemClock.now(),
    };
    let signed = sign_act(&files.person_key()?, act).map_err(|error| PeopleError::Files(error.to_string()))?;
    let body = serde_json::to_value(&signed).map_err(|error| PeopleError::Usage(error.to_string()))?;
    connection.request(subject, &body).await
}
