//! Replays: the same seed decides the same, the day turns once, every decision is on the log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "integration test: a panic is a failure")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use domain::market::Symbol;
use domain::money::{Price, Quantity};
use domain::time::{DAY_MS, UnixMs};
use rust_decimal::Decimal;
use serde_json::Value;
use swarm::replay::report::Summary;
use swarm::replay::source::{Merged, recordings_in};
use swarm::replay::{ReplaySetup, replay};
use venues::builtin::{BuiltinConfig, BuiltinInstrument, BuiltinMarket};
use venues::feed::{Recorder, symbol_of_file};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn setup() -> ReplaySetup {
    ReplaySetup::read(&root().join("config")).unwrap()
}

/// The recorded eleven minutes, or `None` with the test's name printed where they are absent.
fn recorded(test: &str) -> Option<Vec<PathBuf>> {
    let folder = root().join("../shared/data/binance-spot-recording");
    if folder.is_dir() {
        return Some(recordings_in(&folder).unwrap());
    }
    println!("skipped: {test}: no ../shared/data");
    None
}

/// Six minutes of a lively built-in market across midnight, written and read back as a recording.
fn generated(folder: &Path) -> Vec<PathBuf> {
    let instrument = |symbol: &str, base: &str, price: &str| BuiltinInstrument {
        symbol: Symbol::parse(symbol).unwrap(),
        base: base.to_owned(),
        quote: "USDT".to_owned(),
        start_price: Price::parse(price).unwrap(),
        tick: Decimal::new(1, 2),
        step: Decimal::new(1, 5),
        min_notional: Decimal::from(5),
        volatility_milli_percent: 30,
        spread_ticks: 1,
        levels: 10,
        level_quantity: Quantity::parse("0.5").unwrap(),
    };
    let instruments = vec![instrument("BTCUSDT", "BTC", "60000"), instrument("ETHUSDT", "ETH", "2700")];
    let config = BuiltinConfig { seed: 7, step_ms: 200, instruments, script: Vec::new() };
    let midnight = UnixMs(20_000 * DAY_MS);
    let mut market = BuiltinMarket::new(config, midnight.plus_ms(-180_000)).unwrap();
    let mut recorders = BTreeMap::new();
    for event in market.advance_to(midnight.plus_ms(180_000)) {
        let name = format!("{}_generated.gz", event.symbol.as_str().to_ascii_lowercase());
        let recorder =
            recorders.entry(event.symbol.clone()).or_insert_with(|| Recorder::create(&folder.join(name)).unwrap());
        recorder.write(&event).unwrap();
    }
    recorders.into_values().for_each(|recorder| recorder.finish().unwrap());
    recordings_in(folder).unwrap()
}

fn run(files: &[PathBuf], setup: &ReplaySetup, seed: u64) -> (Summary, Vec<u8>) {
    replay(Merged::open(files).unwrap(), setup, seed).unwrap()
}

fn lines(log: &[u8]) -> Vec<Value> {
    std::str::from_utf8(log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_kind<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

/// What must hold of every replay, whatever it traded.
fn check_log(summary: &Summary, log: &[u8]) {
    let lines = lines(log);
    assert_eq!(summary.signals as usize, of_kind(&lines, "signal").len());
    assert_eq!(summary.fills as usize, of_kind(&lines, "fill").len());
    let decided: u64 = summary.decisions.values().sum();
    assert_eq!(decided, summary.signals, "one decision a signal");
    assert_eq!(
        of_kind(&lines, "order").len() as u64,
        summary.decisions.get("PERMITTED").copied().unwrap_or(0),
        "no order without a permit"
    );
    assert_eq!(of_kind(&lines, "order").len(), of_kind(&lines, "outcome").len(), "every order has its outcome");
    let times: Vec<i64> = lines.iter().map(|line| line["at_ms"].as_i64().unwrap()).collect();
    assert!(times.is_sorted(), "the clock ran backwards");
    assert_eq!(lines.last().unwrap()["event"], "end");
    assert_eq!(lines.last().unwrap()["open_reservations"], 0);
}

fn check_day(log: &[u8]) {
    let lines = lines(log);
    let days = of_kind(&lines, "day");
    assert_eq!(days.len(), 1, "the day turns once");
    let at = days[0]["at_ms"].as_i64().unwrap();
    let midnight = days[0]["day"].as_i64().unwrap() * DAY_MS;
    assert!((midnight..midnight + 5_000).contains(&at), "{at}");
}

#[test]
fn a_generated_recording_replays_byte_equal_and_trades_across_midnight() {
    let folder = tempfile::tempdir().unwrap();
    let files = generated(folder.path());
    assert_eq!(files.iter().filter_map(|file| symbol_of_file(file)).count(), 2);
    let setup = setup();
    let (summary, log) = run(&files, &setup, 1);
    let (again, same) = run(&files, &setup, 1);
    assert_eq!((&summary, &log), (&again, &same));
    check_log(&summary, &log);
    check_day(&log);
    assert!(summary.fills >= 4, "{summary}");
    assert_eq!(summary.resyncs, 0);
    for (symbol, book) in &summary.books {
        assert!(book.compared > 100, "{symbol} {book:?}");
        assert_eq!(book.agreed, book.compared, "{symbol}");
    }
    let (other, different) = run(&files, &setup, 2);
    assert_eq!(other.events, summary.events);
    assert_ne!(different, log, "another seed draws other latencies");
}

#[test]
fn the_recorded_minutes_replay_byte_equal_and_trade_across_midnight() {
    let Some(files) = recorded("the_recorded_minutes_replay_byte_equal_and_trade_across_midnight") else { return };
    let setup = setup();
    let (summary, log) = run(&files, &setup, 1);
    assert_eq!(run(&files, &setup, 1), (summary.clone(), log.clone()));
    check_log(&summary, &log);
    check_day(&log);
    assert_eq!(summary.events, 179_318);
    let btc = summary.books["BTCUSDT"];
    let eth = summary.books["ETHUSDT"];
    assert!(btc.compared >= 6_493 && btc.compared - btc.agreed <= 2, "{btc:?}");
    assert!(eth.compared >= 6_468 && eth.compared == eth.agreed, "{eth:?}");
    let lines = lines(&log);
    let midnight = of_kind(&lines, "day")[0]["day"].as_i64().unwrap() * DAY_MS;
    for (side, before) in [("buy", true), ("sell", true), ("buy", false), ("sell", false)] {
        let found = of_kind(&lines, "fill")
            .iter()
            .any(|fill| fill["side"] == side && (fill["at_ms"].as_i64().unwrap() < midnight) == before);
        assert!(found, "no {side} on that side of midnight (before: {before})");
    }
}

#[test]
fn a_reader_that_left_does_not_fail_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let files = generated(folder.path());
    for json in [false, true] {
        let (reader, nobody_reads) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_swarm"));
        command.arg("replay").args(&files).arg("--config").arg(root().join("config"));
        command.args(json.then_some("--json")).stdout(nobody_reads);
        let ended = command.stderr(std::process::Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && said.is_empty(), "{:?} {said}", ended.status);
    }
}

#[test]
fn the_rails_hold_in_a_replay() {
    let folder = tempfile::tempdir().unwrap();
    let files = generated(folder.path());
    let mut setup = setup();
    setup.limits.rate_risk_increasing = 1;
    let (summary, log) = run(&files, &setup, 1);
    check_log(&summary, &log);
    let lines = lines(&log);
    let buys = of_kind(&lines, "order").iter().filter(|order| order["side"] == "buy").count();
    assert_eq!(buys, 1, "{summary}");
    assert!(summary.decisions["RATE"] >= 1, "{summary}");
}

#[test]
fn a_venue_that_refuses_everything_leaves_the_account_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let files = generated(folder.path());
    let mut setup = setup();
    setup.replay.reject_bps = 10_000;
    let (summary, log) = run(&files, &setup, 1);
    check_log(&summary, &log);
    assert!(summary.signals > 0);
    assert_eq!((summary.fills, summary.pnl_usd), (0, domain::money::Usd::ZERO));
}
