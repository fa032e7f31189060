//! `swarm drill`: presses the kill lever in paper mode and measures, in the venue's own journal, how long it takes until the
//! last order is cancelled. The orders are real signals that go the whole road and rest far from the market. One of them is
//! sliced, and the lever is pressed in the middle of it: no child of it may come after.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use domain::ids::{IntentId, MessageId, OrderId};
use domain::market::Venue;
use domain::money::{Price, Quantity};
use domain::person::Act;
use domain::time::{Clock, UnixMs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use venues::paper::Effect;

use super::{Connection, Files, PeopleError, act, halt};

/// Below the mark, percent: inside the price collar, and far enough to rest.
const BELOW_PERCENT: i64 = 4;
/// Dollars of each order.
const NOTIONAL_USD: &str = "20";
/// Dollars of the sliced one: enough for the venue's minimum in each part.
const SLICED_USD: &str = "80";
/// Its parts, and the time between two of them.
const SLICES: u16 = 4;
const SLICE_INTERVAL: Duration = Duration::from_millis(1_500);
/// How many of its parts rest when the lever is pressed.
const SENT_BEFORE: u16 = 2;
/// Until all orders rest.
const REST_WITHIN: Duration = Duration::from_secs(20);
/// Until the last one is cancelled.
const CANCEL_WITHIN: Duration = Duration::from_secs(30);
/// Until the raise is in the record, and lowered again.
const RESUME_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks at the venue's journal.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Between two words to whoever waits.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// How the lever is pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// As `swarm halt` does.
    Cli,
    /// By a file `halt` in the data folder.
    File,
    /// By a signal to the supervisor.
    Signal,
}

/// What is drilled.
#[derive(Debug, Clone, Args)]
pub struct DrillArgs {
    /// 2 (cancel), or 3 (and sell what the paper accounts hold).
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=3))]
    pub level: u8,
    /// Which way.
    #[arg(long, value_enum, default_value_t = By::Cli)]
    pub by: By,
    /// How many orders rest besides the sliced one; each counts as a trade of this hour.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=10))]
    pub orders: u8,
}

/// What the journal says of one order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    wanted: Quantity,
    filled: Quantity,
    cancelled_at: Option<UnixMs>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { wanted: Quantity::ZERO, filled: Quantity::ZERO, cancelled_at: None }
    }
}

impl Seen {
    fn is_filled(&self) -> bool {
        self.filled >= self.wanted
    }

    fn is_open(&self) -> bool {
        self.cancelled_at.is_none() && !self.is_filled()
    }
}

/// The venue's journal, read as it grows.
struct Journal {
    path: PathBuf,
    from: u64,
    orders: BTreeMap<String, Seen>,
}

impl Journal {
    /// From its end on.
    fn follow(path: PathBuf) -> Result<Self, PeopleError> {
        let from = std::fs::metadata(&path).map_err(|error| fault(&path, &error))?.len();
        Ok(Self { path, from, orders: BTreeMap::new() })
    }

    /// Reads what was added in whole lines.
    fn look(&mut self) -> Result<(), PeopleError> {
        let mut bytes = Vec::new();
        let mut file = std::fs::File::open(&self.path).map_err(|error| fault(&self.path, &error))?;
        let read = file.seek(SeekFrom::Start(self.from)).and_then(|_| file.read_to_end(&mut bytes));
        read.map_err(|error| fault(&self.path, &error))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        for line in String::from_utf8_lossy(&bytes[..whole]).lines() {
            let json = line.split_once(' ').map_or("", |(_, json)| json);
            let effects: Vec<Effect> = serde_json::from_str(json)
                .map_err(|error| PeopleError::Files(format!("{}: {error}", self.path.display())))?;
            effects.into_iter().for_each(|effect| self.note(effect));
        }
        self.from = self.from.saturating_add(u64::try_from(whole).unwrap_or(u64::MAX));
        Ok(())
    }

    fn note(&mut self, effect: Effect) {
        match effect {
            Effect::Accepted { request, .. } => {
                self.orders.entry(request.client_order_id).or_default().wanted = request.quantity;
            }
            Effect::Filled { client_order_id, quantity, .. } => {
                let seen = self.orders.entry(client_order_id).or_default();
                seen.filled = seen.filled.plus(quantity).unwrap_or(seen.wanted);
            }
            Effect::Ended { client_order_id, at } => {
                self.orders.entry(client_order_id).or_default().cancelled_at = Some(at);
            }
            Effect::Opened { .. } | Effect::Resumed { .. } | Effect::Rejected { .. } => {}
        }
    }

    /// Looks until `done` of the orders in `ids`; what they were at the end of the time when they never were.
    async fn wait(
        &mut self,
        ids: &[String],
        within: Duration,
        what: &str,
        done: impl Fn(&[Seen]) -> bool,
    ) -> Result<Vec<Seen>, PeopleError> {
        let (started, mut said) = (Instant::now(), Instant::now());
        loop {
            self.look()?;
            let seen: Vec<Seen> = ids.iter().filter_map(|id| self.orders.get(id)).cloned().collect();
            if (seen.len() == ids.len() && done(&seen)) || started.elapsed() > within {
                return Ok(seen);
            }
            if said.elapsed() > SAY_EVERY {
                said = Instant::now();
                eprintln!(
                    "{what}: {} of {} orders are open",
                    seen.iter().filter(|one| one.is_open()).count(),
                    ids.len()
                );
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn fault(path: &Path, error: &std::io::Error) -> PeopleError {
    PeopleError::Files(format!("{}: {error}; is the desk running in paper mode?", path.display()))
}

fn no(code: &str, detail: &str) -> Value {
    json!({ "ok": false, "code": code, "detail": detail })
}

/// Places, presses, waits, resumes.
///
/// # Errors
/// [`PeopleError`]; what stands in the way of a drill is an answer.
pub(super) async fn drill(
    connection: &Connection,
    files: &Files,
    data_dir: &Path,
    args: &DrillArgs,
) -> Result<Value, PeopleError> {
    if args.by == By::Signal && args.level != 2 {
        return Err(PeopleError::Usage("a signal raises to level 1 or 2: drill level 3 by cli or file".to_owned()));
    }
    let status = connection.request("swarm.status", &Value::Null).await?;
    let mark = match fit(&status) {
        Ok(mark) => mark,
        Err(refused) => return Ok(refused),
    };
    let data = data_dir.join("data");
    let mut journal = Journal::follow(online_trading::source::journal(&data))?;
    let mut ids = Vec::new();
    for _ in 0..args.orders {
        match place(connection, mark, false).await? {
            Ok(order) => ids.push(order.client_order_id()),
            Err(refused) => return Ok(refused),
        }
    }
    // The last, so that all others rest when its second part does.
    let sliced = match place(connection, mark, true).await? {
        Ok(order) => order,
        Err(refused) => return Ok(refused),
    };
    ids.extend((0..SENT_BEFORE).map(|n| sliced.child_client_order_id(n)));
    let resting = journal.wait(&ids, REST_WITHIN, "placing", |seen| seen.iter().all(Seen::is_open)).await?;
    if resting.len() < ids.len() || !resting.iter().all(Seen::is_open) {
        let detail = "the orders did not all come to rest, and nothing was pressed: `swarm positions` tells what became of \
                      them; those that rest end within a minute";
        return Ok(no("DRILL_NOT_PLACED", detail));
    }
    let kill_file = runtime::kill::file_path(&data);
    let pressed_at = runtime::clock::SystemClock.now();
    let pressed = Instant::now();
    let (pressing, latched) = tokio::join!(press(connection, files, &kill_file, &status, args), async {
        let is_latched = async {
            while runtime::kill::read_file(&kill_file).is_none_or(|copy| copy.level < args.level) {
                sleep(LOOK_EVERY).await;
            }
            pressed.elapsed()
        };
        timeout(CANCEL_WITHIN, is_latched).await.ok()
    });
    pressing?;
    let seen = journal.wait(&ids, CANCEL_WITHIN, "cancelling", |seen| !seen.iter().any(Seen::is_open)).await?;
    let resumed = resume(connection, files, status["kill"]["epoch"].as_i64().unwrap_or(0)).await?;
    // Two more parts would have been due by now; a lowered level must not bring them back.
    sleep(SLICE_INTERVAL * 2).await;
    journal.look()?;
    let later: Vec<String> = (SENT_BEFORE..SLICES)
        .map(|n| sliced.child_client_order_id(n))
        .filter(|id| journal.orders.contains_key(id))
        .collect();
    let mut cancels: Vec<i64> =
        seen.iter().filter_map(|one| one.cancelled_at).map(|at| at.since_ms(pressed_at)).collect();
    cancels.sort_unstable();
    let left = seen.iter().filter(|one| one.is_open()).count();
    let mut answer = json!({
        "ok": left == 0 && later.is_empty() && resumed["ok"] == true,
        "level": args.level,
        "by": args.by.to_possible_value().map(|value| value.get_name().to_owned()),
        "orders": ids.len(),
        "sliced": { "parts": SLICES, "sent_before_press": SENT_BEFORE, "sent_after_press": later.len() },
        "cancelled": cancels.len(),
        "filled": seen.iter().filter(|one| one.is_filled()).count(),
        "left": left,
        "press_to_latched_ms": latched.map(|time| time.as_millis()),
        "press_to_first_cancel_ms": cancels.first(),
        "press_to_last_cancel_ms": cancels.last(),
    });
    if left > 0 {
        answer["code"] = json!("DRILL_ORDER_LEFT");
        answer["detail"] =
            json!(format!("{left} orders were still open {} s after the press", CANCEL_WITHIN.as_secs()));
    } else if !later.is_empty() {
        answer["code"] = json!("DRILL_SLICE_SENT");
        answer["detail"] =
            json!(format!("parts of a sliced order came to the venue after the press: {}", later.join(" ")));
    } else if resumed["ok"] != true {
        answer["code"] = resumed["code"].clone();
        answer["detail"] = json!(
            "all orders were cancelled; the level was not lowered: look at `swarm status`, then `swarm resume --reason drill`"
        );
    }
    Ok(answer)
}

/// The mark of the instrument that is drilled, when a drill may begin.
fn fit(status: &Value) -> Result<Price, Value> {
    if status["ok"] != true {
        return Err(status.clone());
    }
    if online_trading::VENUE != Venue::Paper {
        return Err(no("NOT_PAPER", "a drill places orders: only where the desk's venue is the paper exchange"));
    }
    if status["kill"]["level"] != 0 {
        return Err(no(
            "ALREADY_HALTED",
            "the kill level is not 0: a drill would lower what somebody raised for a reason",
        ));
    }
    let rows = status["market"].as_array().into_iter().flatten();
    let mark = rows.filter(|row| row["instrument"].as_str().is_some_and(|name| name.ends_with("BTCUSDT")));
    let mark = mark.filter_map(|row| row["mark"].as_str()).find_map(|text| Price::parse(text).ok());
    mark.ok_or_else(|| no("NO_MARK", "no price of BTCUSDT yet: try again in some seconds"))
}

/// Sends one order that will rest, in one piece or sliced, and gives its id.
async fn place(connection: &Connection, mark: Price, is_sliced: bool) -> Result<Result<OrderId, Value>, PeopleError> {
    let away = Decimal::ONE_HUNDRED - Decimal::from(BELOW_PERCENT);
    let limit = mark.value().checked_mul(away).map(|price| (price / Decimal::ONE_HUNDRED).round_dp(2));
    let Some(limit) = limit else { return Ok(Err(no("NO_MARK", "the price of BTCUSDT is out of range"))) };
    let id = runtime::clock::new_id(&runtime::clock::SystemClock).to_string();
    let mut signal = json!({
        "action": "BUY", "token_address": "BTCUSDT", "notional_usd": NOTIONAL_USD, "price_limit": limit.to_string(),
        "time_in_force": "gtc", "reasoning": "swarm drill",
    });
    if is_sliced {
        signal["notional_usd"] = json!(SLICED_USD);
        signal["slices"] = json!(SLICES);
        signal["slice_interval_ms"] = json!(SLICE_INTERVAL.as_millis());
    }
    let answer = connection.request_with_id("swarm.signal", &signal, Some(&id)).await?;
    let signal_id: Option<MessageId> = answer["id"].as_str().and_then(|id| id.parse().ok());
    Ok(match signal_id.filter(|_| answer["ok"] == true) {
        Some(id) => Ok(OrderId::of_intent(IntentId::of_leg(id, 0))),
        None => Err(answer),
    })
}

async fn press(
    connection: &Connection,
    files: &Files,
    kill_file: &Path,
    status: &Value,
    args: &DrillArgs,
) -> Result<(), PeopleError> {
    match args.by {
        By::Cli => {
            let body = halt::body(args.level, "drill", &files.person_id);
            connection.request("swarm.halt", &body).await.map(drop)
        }
        By::File => {
            let wish = runtime::kill::wish_path(kill_file);
            std::fs::write(&wish, args.level.to_string())
                .map_err(|error| PeopleError::Files(format!("{}: {error}", wish.display())))
        }
        By::Signal => {
            let pid = status["supervisor_pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
            let pid =
                pid.ok_or_else(|| PeopleError::Unreachable("it does not tell the supervisor's pid".to_owned()))?;
            kill(Pid::from_raw(pid), Signal::SIGUSR2)
                .map_err(|error| PeopleError::Unreachable(format!("the supervisor can't be signalled: {error}")))
        }
    }
}

/// Lowers the level again once the raise is in the record; asks anew while it is not. What somebody else raised meanwhile
/// stays.
async fn resume(connection: &Connection, files: &Files, before: i64) -> Result<Value, PeopleError> {
    let started = Instant::now();
    loop {
        let status = connection.request("swarm.status", &Value::Null).await?;
        let answer = match status["kill"]["epoch"].as_i64() {
            Some(epoch) if epoch > before.saturating_add(1) => {
                return Ok(no("HALTED_MEANWHILE", "somebody else raised the kill level during the drill: it stays"));
            }
            Some(epoch) if epoch > before => {
                let what = Act::LowerKill { level: 0, epoch };
                act(connection, files, "swarm.resume", what, "drill").await?
            }
            _ => no("UNAVAILABLE", "the raise is not in the record yet"),
        };
        let is_early = matches!(answer["code"].as_str(), Some("STALE_EPOCH" | "UNAVAILABLE"));
        if !is_early || started.elapsed() > RESUME_WITHIN {
            return Ok(answer);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(level: u8) -> Value {
        let market = json!([{ "instrument": "paper:BTCUSDT", "mark": "60000" }]);
        json!({ "ok": true, "kill": { "level": level }, "market": market })
    }

    #[test]
    fn a_drill_begins_only_at_level_zero_with_a_price() {
        assert_eq!(fit(&status(0)).unwrap(), Price::parse("60000").unwrap());
        assert_eq!(fit(&status(1)).unwrap_err()["code"], "ALREADY_HALTED");
        let mut without = status(0);
        without["market"] = json!([]);
        assert_eq!(fit(&without).unwrap_err()["code"], "NO_MARK");
        assert_eq!(fit(&no("UNAVAILABLE", "")).unwrap_err()["code"], "UNAVAILABLE");
    }

    #[test]
    fn an_order_is_open_until_the_journal_says_that_it_ended_or_traded_in_full() {
        let two = Quantity::parse("2").unwrap();
        let open = Seen { wanted: two, ..Seen::default() };
        assert!(open.is_open());
        assert!(!Seen { filled: two, ..open.clone() }.is_open());
        assert!(!Seen { cancelled_at: Some(UnixMs(1)), ..open }.is_open());
    }
}
