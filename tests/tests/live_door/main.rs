//! The people's doors, with a client that is not ours: `nats-py` publishes JSON and Protobuf to a running swarm, and
//! every good signal is one trade, every malformed one ends with its code and changes nothing else.
//!
//! What is sent lies in `tests/python/door_cases.py`, as tables.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with other tests, each of which uses its own part")]
mod swarm;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::ids::{MessageId, UserId};
use serde_json::Value;
use swarm::{Decided, Swarm};
use testkit::wait_until;

/// Longest wait for a signal to be decided and filled on a busy machine.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// Fewer malformed inputs than this would not show much.
const LEAST_MALFORMED: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_not_ours_trades_and_its_malformed_inputs_change_nothing() {
    let started = tokio::time::Instant::now();
    let done = |what: &str| println!("{what}: done after {:.1} s", started.elapsed().as_secs_f64());
    let swarm = Swarm::start().await;
    done("the start");
    services_answer_and_describe_themselves(&swarm);
    done("services");
    every_good_signal_is_one_trade(&swarm).await;
    done("good signals");
    every_malformed_input_ends_with_its_code(&swarm).await;
    done("malformed inputs");
    what_is_no_persons_decision_is_denied_counted_and_in_the_governance_chain(&swarm).await;
    done("void words");
    nobody_does_what_only_others_may(&swarm).await;
    done("rights");
    a_halt_by_request_stops_new_risk_and_lets_an_exit_pass(&swarm).await;
    done("a halt");
    swarm.assert_undisturbed();
    assert_eq!(swarm.panicked(), Vec::<String>::new());
    swarm.stop().await;
}

fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line[field].as_str().unwrap_or_default()
}

fn services_answer_and_describe_themselves(swarm: &Swarm) {
    assert_eq!(text(&swarm.ask("$SRV.PING", ""), "name"), "swarm");
    let info = swarm.ask("$SRV.INFO.swarm", "");
    let listed: BTreeSet<&str> = info["endpoints"].as_array().unwrap().iter().map(|e| text(e, "subject")).collect();
    let documented: BTreeSet<&str> = supervisor::services::SUBJECTS.iter().map(|(subject, _)| *subject).collect();
    assert_eq!(listed, documented);
    assert!(
        info["endpoints"].as_array().unwrap().iter().all(|e| !text(&e["metadata"], "purpose").is_empty()),
        "{info}"
    );

    let status = swarm.ask("swarm.status", "");
    assert_eq!((&status["ok"], &status["kill"]["level"]), (&true.into(), &0.into()), "{status}");
    assert_eq!(swarm.ask("swarm.agents", "")["result"].as_array().unwrap().len(), 11);
    assert_eq!(swarm.ask("swarm.approvals", "")["approvals"], Value::Array(vec![]));
    for (body, user) in [("", "operator"), ("{}", "operator"), (r#"{"user":"alice"}"#, "alice")] {
        let positions = swarm.ask("swarm.positions", body);
        assert_eq!((text(&positions, "user"), text(&positions, "cash_usd")), (user, "50000"), "{positions}");
        assert_eq!(text(&positions, "user_id"), UserId::of_handle(user).to_string());
    }
}

/// The id that the swarm gives a person's message, from the key the client wrote it under.
fn signal_id(handle: &str, key: &str) -> Option<uuid::Uuid> {
    (!key.is_empty()).then(|| MessageId::of_person(UserId::of_handle(handle), key).0)
}

async fn every_good_signal_is_one_trade(swarm: &Swarm) {
    // A sale is refused while what it sells has not filled, so it comes last.
    let rounds = [("operator", "good", &["--notices"][..]), ("alice", "good-of-alice", &[]), ("operator", "sale", &[])];
    for (handle, command, more) in rounds {
        let known = swarm.decisions(handle).await.len();
        let sent = swarm.knock(handle, command, more);
        let trades: Vec<&Value> = sent.iter().filter(|line| text(line, "expect") == "trade").collect();
        let filled = |d: &Decided| d.outcome == "permitted" && d.posted_fills > 0;
        let all = wait_until(SETTLED_WITHIN * 2, "every good signal has filled", || async {
            swarm.decisions(handle).await.iter().skip(known).filter(|d| filled(d)).count() >= trades.len()
        });
        if tokio::time::timeout(SETTLED_WITHIN, all).await.is_err() {
            let dead = swarm.knock("admin", "letters", &[]);
            panic!("not every good signal has filled: {sent:#?}\n{:#?}\n{dead:#?}", swarm.decisions(handle).await);
        }
        drained(swarm).await;
        let decisions = swarm.decisions(handle).await.split_off(known);
        assert!(decisions.iter().all(filled), "{decisions:#?}");
        assert_eq!(decisions.len(), trades.len(), "one decision for each, none for what came again: {decisions:#?}");
        for line in trades.iter().filter(|line| !text(line, "key").is_empty()) {
            let id = signal_id(handle, text(line, "key")).unwrap();
            assert!(decisions.iter().any(|d| d.signal_id == id), "{line} is not in the ledger");
        }
        for line in sent.iter().filter(|line| text(line, "how") == "service") {
            let id = signal_id(handle, text(line, "key")).unwrap();
            assert_eq!(text(&line["answer"], "id"), id.to_string(), "the answered id is the ledger's: {line}");
        }
    }
    let again = swarm.counter("buy_bot", "swarm_duplicates_total", "agent");
    assert!(again.get("buy_bot").is_some_and(|count| *count >= 5), "{again:?}");
    assert_eq!(swarm.knock("admin", "letters", &[]), Vec::<Value>::new());
}

/// Nothing waits in the command streams: every accepted message was settled.
async fn drained(swarm: &Swarm) {
    wait_until(SETTLED_WITHIN, "the command streams are empty", || async {
        let streams = swarm.knock("admin", "streams", &[]);
        streams.iter().filter(|s| text(s, "stream") != "DLQ").all(|s| s["messages"] == 0)
    })
    .await;
}

/// Dead letters by their place and by their sender's id.
fn letters(swarm: &Swarm) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for letter in swarm.knock("admin", "letters", &[]) {
        let place = text(&letter["headers"], "swarm-place").to_owned();
        assert!(found.insert(place, letter).is_none(), "one letter for each place");
    }
    found
}

async fn every_malformed_input_ends_with_its_code(swarm: &Swarm) {
    let (money, known) = (swarm.money().await, swarm.decisions("operator").await.len());
    let lines = swarm.knock("operator", "bad", &["--notices"]);
    let of_alice = swarm.knock("alice", "bad-of-alice", &[]);
    drained(swarm).await;
    let refused: Vec<Decided> = swarm.decisions("operator").await.split_off(known);
    let letters = letters(swarm);
    let told: BTreeMap<String, String> = lines
        .iter()
        .filter(|line| line.get("notice").is_some())
        .map(|line| {
            (format!("{}:{}", text(&line["numbers"], "stream"), text(&line["numbers"], "seq")), code_told(line))
        })
        .collect();

    let mut table = Vec::new();
    for line in lines.iter().filter(|line| line.get("name").is_some()) {
        table.push((
            text(line, "name").to_owned(),
            text(line, "expect").to_owned(),
            fate(line, &letters, Some(&told), &refused),
        ));
    }
    for line in &of_alice {
        table.push((text(line, "name").to_owned(), text(line, "expect").to_owned(), fate(line, &letters, None, &[])));
    }
    println!("{:<48} code", "malformed input");
    table.iter().for_each(|(name, _, got)| println!("{name:<48} {got}"));
    let wrong: Vec<_> = table.iter().filter(|(_, expected, got)| expected != got).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let malformed = table.iter().filter(|(_, expected, _)| !expected.starts_with("rails:")).count();
    assert!(malformed >= LEAST_MALFORMED, "{malformed} malformed inputs");
    println!("{malformed} malformed inputs, {} refused by a rail", table.len() - malformed);

    // Nothing lost, nothing twice, nothing traded.
    let dead = table.iter().filter(|(_, expected, _)| expected.starts_with("dlq:")).count();
    assert_eq!((letters.len(), refused.len()), (dead, table.len() - malformed));
    assert_eq!(swarm.money().await, money);
    assert_eq!(swarm.counter("buy_bot", "swarm_dead_lettered_total", "code"), counted(&table));
}

/// Whoever gets hold of the supervisor's own NATS user can say that a person decided; nothing comes of it but a record.
async fn what_is_no_persons_decision_is_denied_counted_and_in_the_governance_chain(swarm: &Swarm) {
    let (money, known) = (swarm.money().await, letters(swarm));
    let lines = swarm.knock("supervisor", "words", &[]);
    drained(swarm).await;
    let mut letters = letters(swarm);
    letters.retain(|place, _| !known.contains_key(place));
    let mut table = Vec::new();
    for line in &lines {
        let (name, expected) = (text(line, "name").to_owned(), text(line, "expect").to_owned());
        table.push((name, expected, fate(line, &letters, None, &[])));
    }
    println!("{:<48} code", "no person's decision");
    table.iter().for_each(|(name, _, got)| println!("{name:<48} {got}"));
    assert!(table.iter().all(|(_, expected, got)| expected == got), "{table:#?}");
    let audited = sqlx::query_scalar::<_, String>(
        "SELECT body -> 'numbers' ->> 'code' FROM governance_audit WHERE kind = 'word_void' AND agent = 'supervisor'",
    )
    .fetch_all(swarm.ledger())
    .await
    .unwrap();
    let counts = audited.into_iter().fold(BTreeMap::<String, u64>::new(), |mut counts, code| {
        *counts.entry(code).or_default() += 1;
        counts
    });
    assert_eq!(counts, counted(&table));
    assert_eq!(swarm.counter("treasury", "swarm_dead_lettered_total", "code"), counts);
    assert_eq!(swarm.money().await, money);
}

fn counted(table: &[(String, String, String)]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for code in table.iter().filter_map(|(_, expected, _)| expected.strip_prefix("dlq:")) {
        *counts.entry(code.to_owned()).or_default() += 1;
    }
    counts
}

/// The code a notice names; only what is no subject of ours is told as another kind of message than a signal.
fn code_told(notice: &Value) -> String {
    let code = text(&notice["numbers"], "code");
    let kind = if code == "UNKNOWN_SUBJECT" { "MESSAGE_GIVEN_UP" } else { "SIGNAL_REJECTED" };
    assert_eq!(text(notice, "notice"), kind, "{notice}");
    code.to_owned()
}

/// What became of one input, in the words of the table in `door_cases.py`.
fn fate(
    line: &Value,
    letters: &BTreeMap<String, Value>,
    told: Option<&BTreeMap<String, String>>,
    refused: &[Decided],
) -> String {
    if let Some(code) = line["server"].as_str() {
        return format!("server:{code}");
    }
    if line.get("answer").is_some() {
        assert_eq!(line["answer"]["ok"], false, "{line}");
        return format!("answer:{}", text(&line["answer"], "code"));
    }
    let id = text(line, "key").strip_prefix("id:");
    let mine = |letter: &&Value| id.is_some_and(|id| text(&letter["headers"], "swarm-msg-id") == id);
    if let Some(letter) = letters.get(text(line, "stored")).or_else(|| letters.values().find(mine)) {
        let code = text(&letter["headers"], "swarm-code");
        assert_eq!(text(&letter["headers"], "swarm-subject"), text(line, "subject"));
        let notice = told.map(|told| told.get(text(&letter["headers"], "swarm-place")).map(String::as_str));
        return match notice {
            Some(notice) if notice != Some(code) => format!("dlq:{code}, but the notice says {notice:?}"),
            _ => format!("dlq:{code}"),
        };
    }
    let id = signal_id("operator", text(line, "key"));
    match refused.iter().find(|d| Some(d.signal_id) == id) {
        Some(decision) => format!("rails:{}", decision.code.as_deref().unwrap_or(&decision.outcome)),
        None => "nothing".to_owned(),
    }
}

const NOT_OPERATORS: &[&str] = &[
    "trading.buy_bot.signal-alice.critical",
    "trading.buy_bot.idea.critical",
    "trading.treasury.intent.high",
    "trading.treasury.approval.high",
    "trading.online_trading.permit.critical",
    "trading.dexter.permit.critical",
    "system.all.halt.low",
    "system.all.notice.low",
    "system.buy_bot.command.low",
    "market.paper.tick.BTCUSDT",
    "audit.anchor.operator",
    "dlq.TRADING_CRITICAL.buy_bot",
    "$JS.API.STREAM.DELETE.TRADING_CRITICAL",
    "$JS.API.STREAM.PURGE.DLQ",
    "$JS.API.CONSUMER.MSG.NEXT.TRADING_CRITICAL.buy_bot",
    "$JS.API.STREAM.MSG.GET.DLQ",
];
const NOT_HEARD_BY_OPERATOR: &[&str] =
    &[">", "trading.>", "_INBOX_buy_bot.>", "_INBOX_alice.>", "swarm.signal", "$JS.>", "dlq.>"];
const NOT_ALICES: &[&str] = &[
    "trading.buy_bot.signal.critical",
    "trading.signal.urgent",
    "trading.buy_bot.signal-operator.critical",
    "trading.buy_bot.idea.critical",
    "swarm.signal",
    "swarm.status",
    "swarm.halt",
    "swarm.market",
    "system.all.halt.low",
    "$SRV.PING",
];
const NOT_HEARD_BY_ALICE: &[&str] =
    &["system.all.notice.low", "swarm.>", "_INBOX_operator.>", "trading.buy_bot.signal-alice.*", "market.>"];

async fn nobody_does_what_only_others_may(swarm: &Swarm) {
    let before = (swarm.money().await, swarm.knock("admin", "streams", &[]), decided(swarm).await);
    let rows = [("operator", NOT_OPERATORS, NOT_HEARD_BY_OPERATOR), ("alice", NOT_ALICES, NOT_HEARD_BY_ALICE)];
    for (who, publish, subscribe) in rows {
        let more: Vec<&str> = [&["--publish"], publish, &["--subscribe"], subscribe].concat();
        let lines = swarm.knock(who, "rights", &more);
        assert_eq!(lines.len(), publish.len() + subscribe.len());
        for line in lines {
            let (said, subject) = (text(&line, "server"), text(&line, "subject").to_lowercase());
            println!("{who:<8} {:<9} {:<52} PERMISSION", text(&line, "tried"), text(&line, "subject"));
            assert!(said.contains("permissions violation") && said.contains(&format!("\"{subject}\"")), "{who} {line}");
        }
    }
    drained(swarm).await;
    let after = (swarm.money().await, swarm.knock("admin", "streams", &[]), decided(swarm).await);
    assert_eq!(before, after);
}

async fn decided(swarm: &Swarm) -> (usize, usize) {
    (swarm.decisions("operator").await.len(), swarm.decisions("alice").await.len())
}

async fn a_halt_by_request_stops_new_risk_and_lets_an_exit_pass(swarm: &Swarm) {
    let halted = swarm.ask("swarm.halt", r#"{"level":1,"reason":"a drill"}"#);
    assert_eq!((&halted["ok"], &halted["level"]), (&true.into(), &1.into()), "{halted}");
    assert_eq!(swarm.ask("swarm.status", "")["kill"]["reason"], "a drill");
    let known = swarm.decisions("operator").await.len();
    for (signal, outcome, code) in [
        (r#"{"action":"BUY","token_address":"BTCUSDT","notional_usd":"20"}"#, "refused", Some("KILL_LEVEL")),
        (r#"{"action":"SELL","token_address":"BTCUSDT","amount":"all"}"#, "permitted", None),
    ] {
        let id = text(&swarm.ask("swarm.signal", signal), "id").to_owned();
        wait_until(SETTLED_WITHIN, "the signal is decided", || async {
            swarm.decisions("operator").await.iter().skip(known).any(|d| {
                d.signal_id.to_string() == id
                    && (d.outcome.as_str(), d.code.as_deref()) == (outcome, code)
                    && (code.is_some() || d.posted_fills > 0)
            })
        })
        .await;
    }
    assert_eq!(swarm.ask("swarm.positions", "")["positions"], Value::Array(vec![]));
}
