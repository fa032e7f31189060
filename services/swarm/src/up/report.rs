//! What `swarm up` tells people.

use std::fmt::Write;
use std::time::Duration;

use domain::subject::Route;
use serde_json::{Value, json};

use super::house::House;
use crate::people::Connection;

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Every agent was heard, there is a price, and whoever trades on prices has seen one.
pub(super) fn is_ready(status: &Value) -> bool {
    let agents = rows(&status["agents"]);
    let on_prices: Vec<&str> =
        crate::specs().iter().filter(|spec| spec.listens.contains(&Route::Tick)).map(|spec| spec.name).collect();
    let sees = |agent: &Value| {
        let listens = agent["agent"].as_str().is_some_and(|name| on_prices.contains(&name));
        !listens || agent["last_success_ms"]["market"].is_i64()
    };
    !agents.is_empty()
        && agents
            .iter()
            .all(|a| stays_down(a) || (matches!(a["verdict"].as_str(), Some("healthy" | "busy")) && sees(a)))
        && (!rows(&status["market"]).is_empty() || agents.iter().all(stays_down))
}

/// Nobody waits for an agent that is in quarantine, or that kill level 4 keeps down.
fn stays_down(agent: &Value) -> bool {
    matches!(agent["verdict"].as_str(), Some("quarantined" | "stopped"))
}

/// What is still waited for.
pub(super) fn not_ready(status: &Value) -> String {
    let waiting: Vec<String> = unready(status).map(|(agent, verdict)| format!("{agent} is {verdict}")).collect();
    match (status.is_null(), waiting.is_empty()) {
        (true, _) => "the supervisor does not answer".to_owned(),
        (false, true) => "no price yet".to_owned(),
        (false, false) => waiting.join(", "),
    }
}

/// Agents that are not well, and what they are.
pub(super) fn unready(status: &Value) -> impl Iterator<Item = (&str, &str)> {
    let all = rows(&status["agents"]).iter();
    let all = all.map(|a| (a["agent"].as_str().unwrap_or("?"), a["verdict"].as_str().unwrap_or("?")));
    all.filter(|(_, verdict)| !matches!(*verdict, "healthy" | "busy"))
}

/// Resident and proportional memory of a process in bytes, from /proc/<pid>/smaps_rollup.
fn memory(pid: u64) -> (Option<u64>, Option<u64>) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    (kib("Rss:"), kib("Pss:"))
}

/// A process and those below it: PostgreSQL is a family.
fn family(pid: u64) -> Vec<u64> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all = vec![pid];
    all.extend(children.split_whitespace().filter_map(|child| child.parse().ok()).flat_map(family));
    all
}

fn measured(name: &str, pid: u64) -> Value {
    let mut sums = (0, 0);
    for pid in family(pid) {
        let (rss, pss) = memory(pid);
        sums.0 += rss.unwrap_or(0);
        sums.1 += pss.unwrap_or(0);
    }
    json!({ "name": name, "pid": pid, "rss_bytes": sums.0, "pss_bytes": sums.1 })
}

/// What runs where, in how much memory, and how long it took.
pub(super) async fn summary(house: &House, connection: &Connection, ready_in: Duration) -> Value {
    let status = connection.request("swarm.status", &Value::Null).await.unwrap_or(Value::Null);
    let nodes = house.nats.names().into_iter().filter_map(|name| Some((house.nats.pid(&name)?, name)));
    let mut processes: Vec<Value> = nodes.map(|(pid, name)| measured(&name, u64::from(pid))).collect();
    processes.push(measured("postgres", u64::from(house.postgres.pid())));
    processes.push(measured("valkey", u64::from(house.valkey.pid())));
    processes.extend(house.model.as_ref().map(|model| measured("llama", u64::from(model.pid()))));
    if let Some(pid) = status["supervisor_pid"].as_u64() {
        let (rss, pss) = memory(pid);
        processes.push(json!({ "name": "supervisor", "pid": pid, "rss_bytes": rss, "pss_bytes": pss }));
    }
    for agent in rows(&status["agents"]) {
        if let (Some(name), Some(pid)) = (agent["agent"].as_str(), agent["pid"].as_u64()) {
            let (rss, pss) = memory(pid);
            processes.push(json!({ "name": name, "pid": pid, "rss_bytes": rss, "pss_bytes": pss }));
        }
    }
    let pss: u64 = processes.iter().filter_map(|p| p["pss_bytes"].as_u64()).sum();
    json!({
        "ready_ms": u64::try_from(ready_in.as_millis()).unwrap_or(u64::MAX),
        "nats_url": house.nats.urls(),
        "postgres_port": house.postgres.port(),
        "web": house.web_address(),
        "nats_ready_ms": u64::try_from(house.nats.ready_in().as_millis()).unwrap_or(u64::MAX),
        "postgres_ready_ms": u64::try_from(house.postgres.ready_in().as_millis()).unwrap_or(u64::MAX),
        "valkey_ready_ms": u64::try_from(house.valkey.ready_in().as_millis()).unwrap_or(u64::MAX),
        "processes": processes,
        "pss_bytes": pss,
        "status": status,
    })
}

fn mb(value: &Value) -> String {
    let tenths = value.as_u64().unwrap_or(0) / 104_858;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

/// The summary as text.
pub(super) fn text(summary: &Value) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "ready in {} ms", summary["ready_ms"]);
    let _ = writeln!(out, "  {:<20} {:>8} {:>10} {:>10}", "process", "pid", "resident", "own share");
    for row in rows(&summary["processes"]) {
        let name = row["name"].as_str().unwrap_or("?");
        let (rss, pss) = (mb(&row["rss_bytes"]), mb(&row["pss_bytes"]));
        let _ = writeln!(out, "  {name:<20} {:>8} {rss:>10} {pss:>10}", row["pid"].to_string());
    }
    let _ = writeln!(out, "  {:<20} {:>8} {:>10} {:>10}", "all", "", "", mb(&summary["pss_bytes"]));
    for row in rows(&summary["status"]["market"]) {
        let word = |key: &str| row[key].as_str().unwrap_or("?").to_owned();
        let _ = writeln!(out, "market {} at {}", word("instrument"), word("mark"));
    }
    for row in rows(&summary["status"]["agents"]) {
        if let Some(reason) = row["quarantined"].as_str() {
            let name = row["agent"].as_str().unwrap_or("?");
            let _ = writeln!(
                out,
                "{name} is in quarantine ({reason}): `swarm agents release {name} --reason ..` lets it run again"
            );
        }
        for lack in rows(&row["lacks"]) {
            let _ = writeln!(out, "{} lacks: {}", row["agent"].as_str().unwrap_or("?"), lack.as_str().unwrap_or("?"));
        }
    }
    if let Some(web) = summary["web"].as_str() {
        let _ = writeln!(out, "web page {web} (log in with your name and the code of `swarm web enroll`)");
    }
    let url = summary["nats_url"].as_str().unwrap_or("?");
    let _ = writeln!(
        out,
        "try, in another terminal:
  target/release/swarm signal BUY BTCUSDT --notional-usd 600      # fills
  target/release/swarm signal BUY ETHUSDT --notional-usd 1500     # waits for you
  target/release/swarm approvals; target/release/swarm approve last
  target/release/swarm status; target/release/swarm halt --reason \"coffee\"; target/release/swarm resume --reason \"back\"
  target/release/swarm audit verify
or with the nats CLI (NKEY in .local/secrets/person-operator.nk):
  nats -s {url} --nkey .local/secrets/person-operator.nk --inbox-prefix _INBOX_operator req swarm.status ''
  nats -s {url} --nkey .local/secrets/person-operator.nk pub trading.buy_bot.signal.critical \\
       '{{\"action\":\"BUY\",\"token_address\":\"BTCUSDT\",\"notional_usd\":\"600\"}}'
Ctrl-C drains and stops everything."
    );
    out
}

/// One line of progress.
pub(super) fn progress(status: &Value) -> String {
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let market: Vec<String> = rows(&status["market"])
        .iter()
        .map(|row| format!("{} {}", word(&row["instrument"]), word(&row["mark"])))
        .collect();
    let accounts: Vec<String> = rows(&status["accounts"])
        .iter()
        .map(|row| {
            format!(
                "{} ${} (today ${}, {} trades this hour)",
                word(&row["user"]),
                word(&row["equity_usd"]),
                word(&row["day_profit_usd"]),
                word(&row["trades_last_hour"]),
            )
        })
        .collect();
    format!(
        "{}  {}  waiting for you {}  kill {}  {}",
        word(&status["now"]),
        accounts.join("  "),
        word(&status["pending_approvals"]),
        word(&status["kill"]["level"]),
        market.join("  "),
    )
}
