//! `swarm llm`: how the router of language models is, what it cost, a test of a tier, its cache; and the router by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::keys::Keys;

/// The name of the operator's key to the router.
pub const OPERATOR_KEY: &str = "llm-operator";

/// How long a question to the router may take; a test of a slow tier is the longest.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);
/// How long the cost beside a list of agents is waited for.
const COST_WITHIN: Duration = Duration::from_secs(2);
/// Exit status when the router does not answer.
const UNREACHABLE: u8 = 69;

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum LlmCommand {
    /// Tiers with their breakers, queues, quotas and budgets.
    State,
    /// Ask one tier a small question, past its breaker; when it answers, the breaker closes.
    Test {
        /// Which, as `swarm llm state` names it.
        tier: String,
    },
    /// Requests, tokens and dollars by tier and agent, from the record in Postgres.
    Spend {
        /// Days back.
        #[arg(long, default_value_t = 30)]
        days: u32,
    },
    /// Cached answers.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// One question to an alias, with what is known about where the answer came from.
    Ask(AskArgs),
    /// The router by itself, without the swarm: no broker, no record of what it cost.
    Serve(ServeArgs),
}

/// What about the cache.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum CacheCommand {
    /// Hits by kind, misses, and how many of a sample of hits were wrong.
    Stats,
    /// Forget every cached answer.
    Flush,
}

/// A question.
#[derive(Debug, Clone, Args)]
pub struct AskArgs {
    /// What to ask.
    pub question: String,
    /// Of which alias.
    #[arg(long, default_value = "trading-llm")]
    pub model: String,
    /// 0 to 9.
    #[arg(long, default_value_t = 5)]
    pub priority: u8,
    /// Longest answer, tokens. A model that does not stop by itself is cut there.
    #[arg(long, default_value_t = 128)]
    pub max_tokens: u32,
}

/// How to serve alone.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Folder with llm.toml.
    #[arg(long, default_value = "config")]
    pub config_dir: PathBuf,
    /// Port on 127.0.0.1; 0 picks a free one.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Written (as text) with the address when it is open.
    #[arg(long)]
    pub ready_file: Option<PathBuf>,
}

/// Runs a command.
#[must_use]
pub fn command(command: &LlmCommand, data_dir: &Path, as_json: bool) -> ExitCode {
    let executor = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(executor) => executor,
        Err(error) => {
            eprintln!("no async runtime: {error}");
            return ExitCode::from(70);
        }
    };
    if let LlmCommand::Serve(args) = command {
        return executor.block_on(serve(args, data_dir));
    }
    match executor.block_on(ask(command, data_dir)) {
        Ok(answer) => {
            if as_json {
                println!("{answer}");
            } else {
                print!("{}", text(command, &answer));
            }
            ExitCode::from(u8::from(answer.get("error").is_some() || answer["ok"] == false))
        }
        Err(error) => {
            eprintln!("swarm llm: {error}");
            ExitCode::from(UNREACHABLE)
        }
    }
}

/// Where the router of a data folder is, and the operator's key to it.
fn door(data_dir: &Path) -> Result<(String, String), String> {
    let file = data_dir.join("run").join(llm_router::config::PORT_FILE);
    let port = std::fs::read_to_string(&file)
        .map_err(|_| format!("no router has run on {}; start one with `swarm up`", data_dir.display()))?;
    let key = Keys::open(data_dir).and_then(|keys| keys.secret(OPERATOR_KEY)).map_err(|error| error.to_string())?;
    Ok((format!("http://127.0.0.1:{}", port.trim()), key))
}

async fn ask(command: &LlmCommand, data_dir: &Path) -> Result<Value, String> {
    let (url, key) = door(data_dir)?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build().map_err(|e| e.to_string())?;
    let request = match command {
        LlmCommand::State | LlmCommand::Cache(CacheCommand::Stats) => http.get(format!("{url}/v1/router/state")),
        LlmCommand::Test { tier } => http.post(format!("{url}/v1/router/test/{tier}")),
        LlmCommand::Spend { days } => http.get(format!("{url}/v1/router/spend?days={days}")),
        LlmCommand::Cache(CacheCommand::Flush) => http.post(format!("{url}/v1/router/cache/flush")),
        LlmCommand::Ask(args) => {
            let message = json!({ "role": "user", "content": args.question });
            http.post(format!("{url}/v1/chat/completions"))
                .header("x-swarm-priority", args.priority.to_string())
                .json(&json!({ "model": args.model, "messages": [message], "max_tokens": args.max_tokens }))
        }
        LlmCommand::Serve(_) => return Err("serve asks nobody".to_owned()),
    };
    let away =
        |error: reqwest::Error| format!("the router does not answer ({}); see `swarm status`", error.without_url());
    let response = request.bearer_auth(key).send().await.map_err(away)?;
    let marks: BTreeMap<String, String> = response
        .headers()
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-swarm-"))
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect();
    let mut answer: Value = response.json().await.map_err(away)?;
    if let LlmCommand::Ask(_) = command {
        answer["provenance"] = json!(marks);
    }
    Ok(match command {
        LlmCommand::Cache(CacheCommand::Stats) => answer["cache"].take(),
        _ => answer,
    })
}

/// What each agent's questions to models have cost since midnight UTC, millionths of a dollar; `None` when the router does not
/// answer.
pub(crate) async fn cost_today(data_dir: &Path) -> Option<BTreeMap<String, u64>> {
    let (url, key) = door(data_dir).ok()?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().timeout(COST_WITHIN).build().ok()?;
    let request = http.get(format!("{url}/v1/router/spend?today=true")).bearer_auth(key);
    cost_by_agent(&request.send().await.ok()?.json().await.ok()?)
}

/// An agent has a row for each tier and alias.
fn cost_by_agent(answer: &Value) -> Option<BTreeMap<String, u64>> {
    let mut costs = BTreeMap::new();
    for row in answer["rows"].as_array()? {
        let cost: &mut u64 = costs.entry(row["agent"].as_str()?.to_owned()).or_default();
        *cost = cost.saturating_add(row["cost_usd_micros"].as_u64()?);
    }
    Some(costs)
}

fn text(command: &LlmCommand, answer: &Value) -> String {
    if let Some(error) = answer.get("error") {
        return format!("{}: {}\n", word(&error["code"]), word(&error["message"]));
    }
    match command {
        LlmCommand::State => state_text(answer),
        LlmCommand::Spend { .. } => spend_text(answer),
        LlmCommand::Test { .. } => {
            let ok = if answer["ok"] == true { "answers" } else { "does not answer" };
            format!("{} {ok} in {} ms: {}\n", word(&answer["tier"]), answer["took_ms"], word(&answer["text"]))
        }
        LlmCommand::Ask(_) => {
            let said = word(&answer["choices"][0]["message"]["content"]);
            let marks = answer["provenance"].as_object().into_iter().flatten();
            marks.fold(format!("{said}\n"), |all, (name, value)| format!("{all}  {name}: {}\n", word(value)))
        }
        LlmCommand::Cache(_) | LlmCommand::Serve(_) => {
            let fields = answer.as_object().into_iter().flatten();
            fields.fold(String::new(), |all, (name, value)| format!("{all}{name:<24} {value}\n"))
        }
    }
}

fn state_text(state: &Value) -> String {
    let mut out = String::from("tier            breaker   calls failed usual ms waiting  model\n");
    for tier in state["tiers"].as_array().into_iter().flatten() {
        let breaker = match tier["off"].as_str() {
            Some(why) => format!("off: {why}"),
            None => word(&tier["breaker"]),
        };
        out.push_str(&format!(
            "{:<15} {breaker:<9} {:>5} {:>6} {:>8} {:>7}  {}\n",
            word(&tier["name"]),
            tier["calls"],
            tier["failures"],
            tier["usual_ms"],
            tier["waiting"],
            word(&tier["model"]),
        ));
    }
    out.push_str("\nalias           tiers in order\n");
    for alias in state["aliases"].as_array().into_iter().flatten() {
        let tiers: Vec<String> = alias["tiers"].as_array().into_iter().flatten().map(word).collect();
        out.push_str(&format!("{:<15} {}\n", word(&alias["name"]), tiers.join(", ")));
    }
    out.push_str("\nquota           requests today  tokens today  USD today  USD this month  under way\n");
    for (name, tier) in state["quota"]["tiers"].as_object().into_iter().flatten() {
        let usd = |field: &str| llm::money::usd_text(tier[field].as_u64().unwrap_or(0));
        out.push_str(&format!(
            "{name:<15} {:>14} {:>13} {:>10} {:>15} {:>10}\n",
            tier["day_requests"],
            tier["day_tokens"],
            usd("day_usd_micros"),
            usd("month_usd_micros"),
            tier["open"],
        ));
    }
    if state["quota"]["degraded"] == true {
        out.push_str("Redis is away: quotas are counted by the router alone, carefully\n");
    }
    out
}

fn spend_text(answer: &Value) -> String {
    let mut out = String::from("tier            agent           requests failed  prompt tok  answer tok         USD\n");
    for row in answer["rows"].as_array().into_iter().flatten() {
        out.push_str(&format!(
            "{:<15} {:<15} {:>8} {:>6} {:>11} {:>11} {:>11}\n",
            row["tier"].as_str().unwrap_or("none"),
            word(&row["agent"]),
            row["requests"],
            row["failed"],
            row["prompt_tokens"],
            row["completion_tokens"],
            word(&row["cost_usd"]),
        ));
    }
    out
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Serves until Ctrl-C or SIGTERM.
async fn serve(args: &ServeArgs, data_dir: &Path) -> ExitCode {
    let mut vars: BTreeMap<String, String> = std::env::vars().collect();
    vars.insert("SWARM_LLM_PORT".to_owned(), args.port.to_string());
    if !vars.contains_key("SWARM_LLM_KEYS_FILE") {
        let keys = Keys::open(data_dir).map_err(|error| error.to_string());
        match keys.and_then(|keys| Ok((write_keys(data_dir, &args.config_dir)?, keys))) {
            Ok((file, keys)) => {
                vars.insert("SWARM_LLM_KEYS_FILE".to_owned(), file.display().to_string());
                eprintln!("the operator's key is in {}", keys.secret_path(OPERATOR_KEY).display());
            }
            Err(error) => {
                eprintln!("swarm llm serve: {error}");
                return ExitCode::from(64);
            }
        }
    }
    let stop = CancellationToken::new();
    let told = stop.clone();
    let (mut term, mut int) = (signal(SignalKind::terminate()).ok(), signal(SignalKind::interrupt()).ok());
    tokio::spawn(async move {
        tokio::select! {
            Some(_) = async { term.as_mut()?.recv().await } => {}
            Some(_) = async { int.as_mut()?.recv().await } => {}
            else => return,
        }
        told.cancel();
    });
    let opened = |address: std::net::SocketAddr| {
        println!("http://{address}/v1");
        if let Some(file) = &args.ready_file
            && let Err(error) = std::fs::write(file, format!("http://{address}"))
        {
            eprintln!("{}: {error}", file.display());
        }
    };
    match llm_router::standalone::run(&vars, &args.config_dir, stop, opened).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("swarm llm serve: {error}");
            ExitCode::from(64)
        }
    }
}

/// Makes a key for each agent of `llm.toml`, and the file of their digests that the router reads.
pub(crate) fn write_keys(data_dir: &Path, config_dir: &Path) -> Result<PathBuf, String> {
    let keys = Keys::open(data_dir).map_err(|error| error.to_string())?;
    let mut lines = String::new();
    for agent in agents(config_dir)? {
        let key = keys.secret(&format!("llm-{agent}")).map_err(|error| error.to_string())?;
        lines.push_str(&llm_router::keys::line(&agent, &key));
    }
    let file = keys.path("llm-keys");
    crate::keys::write_private(&file, &lines).map_err(|error| error.to_string())?;
    Ok(file)
}

/// Which agents `llm.toml` names.
fn agents(config_dir: &Path) -> Result<Vec<String>, String> {
    let table = file(config_dir)?;
    Ok(table.get("agent").and_then(|agents| agents.as_table()).into_iter().flat_map(|t| t.keys().cloned()).collect())
}

/// Which variables `llm.toml` takes keys from, for the one process that gets them.
pub(crate) fn key_variables(config_dir: &Path) -> Result<Vec<String>, String> {
    let table = file(config_dir)?;
    let tiers = table.get("tier").and_then(|tiers| tiers.as_table()).cloned().unwrap_or_default();
    let names = tiers.values().filter_map(|tier| tier.get("key_env")?.as_str().map(str::to_owned));
    Ok(names.filter(|name| !name.is_empty()).collect())
}

fn file(config_dir: &Path) -> Result<toml::Table, String> {
    let path = config_dir.join(llm_router::config::FILE);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.parse().map_err(|error: toml::de::Error| format!("{}: {}", path.display(), error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_agent_of_the_shipped_file_gets_a_key_that_stays() {
        let folder = tempfile::tempdir().unwrap();
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
        let file = write_keys(folder.path(), &config).unwrap();
        let lines = std::fs::read_to_string(&file).unwrap();
        assert_eq!(lines, std::fs::read_to_string(write_keys(folder.path(), &config).unwrap()).unwrap());
        let caps = agents(&config).unwrap().into_iter().map(|agent| (agent, 1)).collect();
        let keys = llm_router::keys::Keys::parse(&lines, &caps).unwrap();
        let key = Keys::open(folder.path()).unwrap().secret("llm-buy_bot").unwrap();
        assert_eq!(&*keys.caller(&key).unwrap().agent, "buy_bot");
        assert!(!lines.contains(&key));
    }

    #[test]
    fn the_cost_of_an_agent_is_that_of_all_its_rows_and_no_answer_is_no_cost_of_zero() {
        let row = |agent: &str, micros: u64| json!({ "agent": agent, "cost_usd_micros": micros });
        let rows = json!({ "rows": [row("buy_bot", 12_000), row("operator", 1), row("buy_bot", 300)] });
        let costs = [("buy_bot".to_owned(), 12_300), ("operator".to_owned(), 1)];
        assert_eq!(cost_by_agent(&rows), Some(costs.into()));
        assert_eq!(cost_by_agent(&json!({ "rows": [] })), Some(BTreeMap::new()));
        assert_eq!(cost_by_agent(&json!({ "error": { "code": "no_record" } })), None);
    }

    #[test]
    fn the_routers_secrets_are_those_its_file_names() {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
        let names = key_variables(&config).unwrap();
        assert!(names.contains(&"GROQ_API_KEY".to_owned()) && names.contains(&"ANTHROPIC_API_KEY".to_owned()));
    }
}
