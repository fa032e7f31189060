//! The kill lever of a whole swarm: with PostgreSQL frozen, with the supervisor killed, by file, and as a drill.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::{GONE, Up, is_alive, send};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::servers::fresh_folder;
use testkit::wait::wait_until_blocking;
use venues::paper::Effect;

const BOUND: Duration = Duration::from_secs(30);

fn data(up: &Up) -> PathBuf {
    up.data.join("data")
}

/// How many orders the venue's own journal has taken on, and how many of them ended.
fn journal(up: &Up) -> (usize, usize) {
    let text = std::fs::read_to_string(data(up).join("paper/paper.journal")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |at| &text[..at]);
    let lines = whole.lines().filter_map(|line| line.split_once(' '));
    let effects: Vec<Effect> = lines.flat_map(|(_, json)| serde_json::from_str::<Vec<Effect>>(json).unwrap()).collect();
    let accepted = effects.iter().filter(|effect| matches!(effect, Effect::Accepted { .. })).count();
    let ended = effects.iter().filter(|effect| matches!(effect, Effect::Ended { .. })).count();
    (accepted, ended)
}

/// Two orders that rest 4 % below the market, and the first two parts of a sliced one. Gives the id of the latter's signal.
fn rest_four(up: &Up) -> String {
    let (before, ended) = journal(up);
    wait_until_blocking(BOUND, "a price", || {
        up.ask(&["status"])["market"].as_array().is_some_and(|rows| !rows.is_empty())
    });
    let status = up.ask(&["status"]);
    let row = status["market"].as_array().unwrap().iter().find(|row| row["instrument"] == "paper:BTCUSDT").unwrap();
    let mark: f64 = row["mark"].as_str().unwrap().parse().unwrap();
    let limit = format!("{:.2}", mark * 0.96);
    let order = |usd: &str, more: &[&str]| {
        let order =
            ["signal", "BUY", "BTCUSDT", "--notional-usd", usd, "--price-limit", &limit, "--time-in-force", "gtc"];
        let answer = up.ask(&[&order, more].concat());
        assert_eq!(answer["ok"], true, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    };
    order("20", &[]);
    order("20", &[]);
    wait_until_blocking(BOUND, "two orders at the venue", || journal(up) == (before + 2, ended));
    let sliced = order("200", &["--slices", "10", "--slice-interval-ms", "1500"]);
    wait_until_blocking(BOUND, "two parts of the third", || journal(up).0 >= before + 4);
    sliced
}

/// The server and everything it forked.
fn postgres(up: &Up) -> Vec<u32> {
    let server = up.processes()["postgres"];
    let parent_of = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let all =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let forked = all.filter(|pid| parent_of(*pid) == Some(server));
    std::iter::once(server).chain(forked).collect()
}

#[test]
fn open_orders_are_cancelled_while_postgres_is_frozen_and_the_record_follows_although_the_supervisor_was_killed() {
    let up = Up::start(&fresh_folder("halt"));
    let signal = rest_four(&up);
    let frozen = postgres(&up);
    frozen.iter().for_each(|pid| send(*pid, Signal::SIGSTOP));
    let said = up.ask(&["halt", "--level", "2", "--reason", "frozen"]);
    assert_eq!((&said["ok"], &said["level"], &said["recorded"]), (&true.into(), &2.into(), &false.into()), "{said}");
    wait_until_blocking(Duration::from_secs(5), "the last cancel, without PostgreSQL", || {
        let (accepted, ended) = journal(&up);
        accepted == ended
    });
    let (sent, _) = journal(&up);
    let supervisor = up.processes()["supervisor"];
    send(supervisor, Signal::SIGKILL);
    wait_until_blocking(GONE, "the end of the supervisor", || !is_alive(supervisor));
    frozen.iter().filter(|pid| is_alive(**pid)).for_each(|pid| send(*pid, Signal::SIGCONT));
    let mut status = Value::Null;
    wait_until_blocking(Duration::from_secs(60), "the row, written by the next supervisor", || {
        status = up.ask(&["status"]);
        status["kill"]["reason"] == "frozen" && status["supervisor_pid"] != supervisor
    });
    assert_eq!((&status["kill"]["level"], &status["kill"]["by"]), (&2.into(), &"operator".into()), "{status}");
    wait_until_blocking(BOUND, "a file without what is written down", || {
        std::fs::read_to_string(data(&up).join("kill-level")).is_ok_and(|text| text.lines().count() == 1)
    });
    assert_eq!(up.ask(&["audit", "verify"])["verdict"], "valid");
    wait_until_blocking(BOUND, "resumed", || up.ask(&["resume", "--reason", "thawed"])["ok"] == true);
    assert_eq!(up.ask(&["status"])["kill"]["level"], 0);
    // It is what a person sees of it: ended, and by what; parts that never came trade never.
    let sliced = || up.ask(&["audit", "explain", &signal])["chain"]["orders"][0]["order"].clone();
    wait_until_blocking(BOUND, "the sliced order's end", || sliced()["state"] == "cancelled");
    let order = sliced();
    let parts = order["children"].as_array().map_or(0, Vec::len);
    assert!((2..10).contains(&parts) && order["code"] == "KILL_LEVEL" && journal(&up).0 == sent, "{order}");
}

#[test]
fn level_four_sells_what_is_held_then_stops_every_agent_and_a_resume_starts_them() {
    let up = Up::start(&fresh_folder("halt"));
    let held = || up.ask(&["positions"])["positions"].as_array().map_or(0, Vec::len);
    wait_until_blocking(BOUND, "something held", || {
        up.ask(&["signal", "BUY", "BTCUSDT", "--notional-usd", "50"]);
        held() == 1
    });
    assert_eq!(up.ask(&["halt", "--level", "4", "--reason", "enough"])["ok"], true);
    let verdicts = || -> Vec<String> {
        let agents = up.ask(&["status"])["agents"].as_array().cloned().unwrap_or_default();
        let others = agents.iter().filter(|agent| agent["name"] != "supervisor");
        others.map(|agent| agent["verdict"].as_str().unwrap_or_default().to_owned()).collect()
    };
    wait_until_blocking(Duration::from_secs(60), "every agent stopped", || {
        let verdicts = verdicts();
        !verdicts.is_empty() && verdicts.iter().all(|verdict| verdict == "stopped")
    });
    assert_eq!(held(), 0, "sold before they were stopped");
    wait_until_blocking(BOUND, "resumed", || up.ask(&["resume", "--reason", "again"])["ok"] == true);
    wait_until_blocking(Duration::from_secs(60), "every agent at work", || {
        let verdicts = verdicts();
        !verdicts.is_empty() && verdicts.iter().all(|verdict| matches!(verdict.as_str(), "healthy" | "busy"))
    });
}

#[test]
fn a_drill_by_each_way_cancels_every_order_prints_its_times_and_resumes() {
    let up = Up::start(&fresh_folder("halt"));
    rest_four(&up);
    let wish = data(&up).join("halt");
    std::fs::write(&wish, "2").unwrap();
    wait_until_blocking(BOUND, "cancelled by a file", || {
        let (accepted, ended) = journal(&up);
        accepted == ended && !wish.exists()
    });
    let taken = std::fs::read_dir(data(&up)).unwrap().flatten();
    assert_eq!(taken.filter(|entry| entry.file_name().to_string_lossy().starts_with("halt.taken-")).count(), 1);
    assert_eq!(up.ask(&["drill"])["code"], "ALREADY_HALTED");
    wait_until_blocking(BOUND, "resumed", || up.ask(&["resume", "--reason", "drilled"])["ok"] == true);
    for by in ["cli", "file", "signal"] {
        let answer = up.ask(&["drill", "--by", by, "--orders", "2"]);
        assert_eq!(answer["ok"], true, "{by}: {answer}");
        assert_eq!(
            (&answer["orders"], &answer["cancelled"], &answer["left"]),
            (&4.into(), &4.into(), &0.into()),
            "two in one piece, and two parts of a sliced one: {answer}"
        );
        assert_eq!(answer["sliced"], json!({ "parts": 4, "sent_before_press": 2, "sent_after_press": 0 }), "{answer}");
        for time in ["press_to_latched_ms", "press_to_first_cancel_ms", "press_to_last_cancel_ms"] {
            let ms = answer[time].as_i64().unwrap_or_else(|| panic!("{by} {time}: {answer}"));
            assert!((0..10_000).contains(&ms), "{by} {time}: {ms}");
        }
        assert_eq!(up.ask(&["status"])["kill"]["level"], 0, "{by}");
        println!(
            "figure: drill by {by}: last of {} cancels {} ms after the press",
            answer["orders"], answer["press_to_last_cancel_ms"]
        );
    }
    assert_eq!(up.ask(&["audit", "verify"])["verdict"], "valid");
}
