//! Commands that only read: the doors' answers as tables narrow enough for a phone, and the equity curve as a picture.

use std::collections::BTreeMap;
use std::fmt::Write;

use domain::time::UnixMs;
use runtime::Work;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::{Value, json};

use super::{CommandError, Reply, fitting};
use crate::chart::{self, Point2};
use crate::doors::{self, DoorFault};
use crate::line::Line;
use crate::request::Request;
use crate::text::{Align, clock, day_and_clock, escape, left, line as one_line, pairs, quantity, symbol, table, usd};
use crate::updates::Person;

/// Rows of a table in a chat.
const ROWS: usize = 12;
/// Fills read for `/performance`; more are not told of by the door.
const FILLS: usize = 500;
/// Days of `/daily`.
const DAYS: usize = 10;

/// Whose account a person reads: their own, else the operator's, on whose requests they decide.
fn account(person: &Person) -> &str {
    person.handle.as_deref().unwrap_or("operator")
}

async fn of(work: &Work, door: &str, person: &Person) -> Result<Value, DoorFault> {
    doors::ask(work, door, &json!({ "user": account(person) })).await
}

/// The equity curve, when there is one to draw.
async fn curve(work: &Work, person: &Person) -> Option<(Vec<u8>, Vec<Point2>)> {
    let answer = of(work, "swarm.equity", person).await.inspect_err(|error| tracing::info!(%error, "no curve")).ok()?;
    let points = points(&answer);
    let png = chart::equity(&format!("Equity of {}", account(person)), &points);
    png.inspect_err(|error| tracing::debug!(%error, "no curve")).ok().map(|png| (png, points))
}

fn points(answer: &Value) -> Vec<Point2> {
    let point = |row: &Value| {
        Some(Point2 { at: UnixMs(row["at_ms"].as_i64()?), usd: row["equity_usd"].as_str()?.parse().ok()? })
    };
    answer["points"].as_array().into_iter().flatten().filter_map(point).collect()
}

/// A text, under the curve when there is one.
fn under(curve: Option<(Vec<u8>, Vec<Point2>)>, text: String) -> Reply {
    match curve {
        // A caption takes less than a message.
        Some((png, _)) if text.chars().count() <= 1_000 => Reply::Picture(png, text),
        _ => Reply::Text(fitting(text)),
    }
}

pub(super) async fn status(work: &Work, person: &Person) -> Result<Reply, CommandError> {
    let status = doors::ask(work, "swarm.status", &Value::Null).await?;
    let positions = of(work, "swarm.positions", person).await?;
    let level = status["kill"]["level"].as_u64().unwrap_or(1);
    let agents = status["agents"].as_array().cloned().unwrap_or_default();
    let well = agents.iter().filter(|row| matches!(row["verdict"].as_str(), Some("healthy" | "busy"))).count();
    let oldest = status["market"].as_array().into_iter().flatten().filter_map(|row| row["age_ms"].as_i64()).max();
    let rows = [
        ("Kill level", level.to_string()),
        ("Equity $", usd(&positions["equity_usd"])),
        ("Today $", usd(&positions["day"]["profit_usd"])),
        ("Cash $", usd(&positions["cash_usd"])),
        ("Positions", count(&positions["positions"])),
        ("Waiting for you", status["pending_approvals"].to_string()),
        ("Agents well", format!("{well} of {}", agents.len())),
        ("Oldest price", oldest.map_or_else(|| "none".to_owned(), |ms| format!("{} s", ms / 1_000))),
    ];
    let head = if level == 0 { "🟢 Running" } else { "🛑 No new risk" };
    let mut text = format!("<b>{head}</b> · {}\n{}", escape(account(person)), pairs(&rows));
    if level > 0 {
        let why = one_line(status["kill"]["reason"].as_str().unwrap_or("?"), 120);
        let _ = write!(text, "\n{}", escape(&why));
    }
    Ok(under(curve(work, person).await, text))
}

fn count(list: &Value) -> String {
    list.as_array().map_or_else(|| "-".to_owned(), |rows| rows.len().to_string())
}

pub(super) async fn profit(work: &Work, person: &Person) -> Result<Reply, CommandError> {
    let positions = of(work, "swarm.positions", person).await?;
    let curve = curve(work, person).await;
    let unrealised = sum(&positions["positions"], "unrealised_usd");
    let mut rows = vec![
        ("Equity $", usd(&positions["equity_usd"])),
        ("Today $", usd(&positions["day"]["profit_usd"])),
        ("Unrealised $", unrealised.map_or_else(|| "-".to_owned(), |sum| usd(&json!(sum.to_string())))),
        ("Fees paid $", usd(&positions["fees_usd"])),
        ("Fills", positions["fills"].to_string()),
    ];
    if let Some((first, last)) = curve.as_ref().and_then(|(_, points)| points.first().zip(points.last())) {
        rows.push(("Shown since", day_and_clock(first.at)));
        rows.push(("Change $", format!("{:+.2}", last.usd - first.usd)));
    }
    let text = format!("<b>Profit</b> · {}\n{}", escape(account(person)), pairs(&rows));
    Ok(under(curve, text))
}

/// `None` when one of the amounts is not known: a sum without it would be wrong.
fn sum(rows: &Value, field: &str) -> Option<Decimal> {
    rows.as_array()?.iter().try_fold(Decimal::ZERO, |sum, row| sum.checked_add(row[field].as_str()?.parse().ok()?))
}

pub(super) async fn positions(work: &Work, person: &Person) -> Result<String, CommandError> {
    let answer = of(work, "swarm.positions", person).await?;
    let rows: Vec<Vec<String>> = answer["positions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            let name = symbol(row["instrument"].as_str().unwrap_or("?"));
            vec![name, quantity(&row["quantity"]), usd(&row["value_usd"]), usd(&row["unrealised_usd"])]
        })
        .collect();
    if rows.is_empty() {
        return Ok("Nothing is held.".to_owned());
    }
    let heads = [("", Align::Left), ("quantity", Align::Right), ("value $", Align::Right), ("+/- $", Align::Right)];
    Ok(fitting(format!("<b>Positions</b> · {}\n{}", escape(account(person)), table(&heads, &rows))))
}

pub(super) async fn balance(work: &Work, person: &Person) -> Result<String, CommandError> {
    let answer = of(work, "swarm.positions", person).await?;
    let held =
        sum(&answer["positions"], "value_usd").map_or_else(|| "-".to_owned(), |sum| usd(&json!(sum.to_string())));
    let rows = [
        ("Cash $", usd(&answer["cash_usd"])),
        ("Held $", held),
        ("Equity $", usd(&answer["equity_usd"])),
        ("At 00:00 UTC $", usd(&answer["day"]["baseline_equity_usd"])),
    ];
    Ok(format!("<b>Balance</b> · {}\n{}", escape(account(person)), pairs(&rows)))
}

pub(super) async fn daily(work: &Work, person: &Person) -> Result<String, CommandError> {
    let answer = of(work, "swarm.equity", person).await?;
    let rows = by_day(&points(&answer));
    if rows.is_empty() {
        return Ok("There is no equity to tell of yet.".to_owned());
    }
    let heads = [("UTC day", Align::Left), ("equity $", Align::Right), ("+/- $", Align::Right)];
    Ok(format!("<b>Profit by day</b> · {}\n{}", escape(account(person)), table(&heads, &rows)))
}

/// The latest days first: last value of each, and how far it is from the last value of the day before (on the first day, from
/// its first value).
fn by_day(points: &[Point2]) -> Vec<Vec<String>> {
    let mut days: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for point in points {
        days.entry(point.at.day()).and_modify(|day| day.1 = point.usd).or_insert((point.usd, point.usd));
    }
    let mut before = None;
    let mut rows = Vec::new();
    for (day, (first, last)) in days {
        let from = before.unwrap_or(first);
        let date = UnixMs::start_of_day(day).to_string().get(5..10).unwrap_or_default().to_owned();
        rows.push(vec![date, usd(&json!(format!("{last:.2}"))), format!("{:+.2}", last - from)]);
        before = Some(last);
    }
    rows.reverse();
    rows.truncate(DAYS);
    rows
}

async fn fills(work: &Work, person: &Person, limit: usize) -> Result<Vec<Value>, DoorFault> {
    let body = json!({ "user": account(person), "limit": limit });
    let answer = doors::ask(work, "swarm.trades", &body).await?;
    Ok(answer["trades"].as_array().cloned().unwrap_or_default())
}

pub(super) async fn trades(work: &Work, person: &Person) -> Result<String, CommandError> {
    let fills = fills(work, person, ROWS).await?;
    if fills.is_empty() {
        return Ok("No fills yet.".to_owned());
    }
    let row = |fill: &Value| {
        let side = one_line(fill["side"].as_str().unwrap_or("?"), 4).to_uppercase();
        let what = symbol(fill["instrument"].as_str().unwrap_or("?"));
        let at = UnixMs(fill["at_ms"].as_i64().unwrap_or(0));
        vec![day_and_clock(at), side, what, quantity(&fill["quantity"]), quantity(&fill["price"])]
    };
    let rows: Vec<Vec<String>> = fills.iter().take(ROWS).map(row).collect();
    let heads = [
        ("UTC", Align::Left),
        ("", Align::Left),
        ("", Align::Left),
        ("quantity", Align::Right),
        ("price", Align::Right),
    ];
    Ok(fitting(format!("<b>Latest fills</b> · {}\n{}", escape(account(person)), table(&heads, &rows))))
}

pub(super) async fn performance(work: &Work, person: &Person) -> Result<String, CommandError> {
    let fills = fills(work, person, FILLS).await?;
    let positions = of(work, "swarm.positions", person).await?;
    if fills.is_empty() {
        return Ok("No fills yet.".to_owned());
    }
    let mut ranked: Vec<(String, Decimal, usize)> = by_instrument(&fills, &positions["positions"]);
    ranked.sort_by_key(|(_, profit, _)| std::cmp::Reverse(*profit));
    let row = |(what, profit, count): &(String, Decimal, usize)| {
        vec![what.clone(), usd(&json!(profit.to_string())), count.to_string()]
    };
    let rows: Vec<Vec<String>> = ranked.iter().map(row).collect();
    let heads = [("", Align::Left), ("+/- $", Align::Right), ("fills", Align::Right)];
    let note = if fills.len() < FILLS { "All fills".to_owned() } else { format!("The latest {FILLS} fills") };
    let text = format!("<b>Profit by instrument</b> · {}\n{}", escape(account(person)), table(&heads, &rows));
    Ok(fitting(format!("{text}\n{note}, fees taken off, what is held at its price now.")))
}

/// What came in, less what went out and the fees, and what is still held at its price now.
fn by_instrument(fills: &[Value], held: &Value) -> Vec<(String, Decimal, usize)> {
    let amount = |value: &Value| value.as_str().and_then(|text| text.parse::<Decimal>().ok()).unwrap_or_default();
    let mut sums: BTreeMap<String, (Decimal, usize)> = BTreeMap::new();
    for fill in fills {
        let notional = amount(&fill["quantity"]).saturating_mul(amount(&fill["price"]));
        let is_sale = fill["side"].as_str().is_some_and(|side| side.eq_ignore_ascii_case("sell"));
        let flow = if is_sale { notional } else { -notional };
        let sum = sums.entry(symbol(fill["instrument"].as_str().unwrap_or("?"))).or_default();
        sum.0 = sum.0.saturating_add(flow).saturating_sub(amount(&fill["fee_usd"]));
        sum.1 += 1;
    }
    for row in held.as_array().into_iter().flatten() {
        if let Some(sum) = sums.get_mut(&symbol(row["instrument"].as_str().unwrap_or("?"))) {
            sum.0 = sum.0.saturating_add(amount(&row["value_usd"]));
        }
    }
    sums.into_iter().map(|(what, (profit, count))| (what, profit.round_dp(2), count)).collect()
}

pub(super) async fn signals(work: &Work, person: &Person) -> Result<String, CommandError> {
    let answer = of(work, "swarm.positions", person).await?;
    let row = |decision: &Value| {
        let at = decision["at"].as_str().and_then(|text| text.get(11..19)).unwrap_or("?").to_owned();
        let outcome = one_line(decision["outcome"].as_str().unwrap_or("?"), 12);
        vec![at, outcome, one_line(decision["code"].as_str().unwrap_or(""), 24)]
    };
    let rows: Vec<Vec<String>> = answer["recent_decisions"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        return Ok("No signal was decided yet.".to_owned());
    }
    let heads = [("UTC", Align::Left), ("outcome", Align::Left), ("code", Align::Left)];
    Ok(fitting(format!("<b>Latest signals</b> · {}\n{}", escape(account(person)), table(&heads, &rows))))
}

pub(super) async fn approvals(work: &Work) -> Result<String, CommandError> {
    let answer = doors::ask(work, "swarm.approvals", &Value::Null).await?;
    let now = super::now(work).await?;
    let waiting: Vec<Request> =
        answer["approvals"].as_array().into_iter().flatten().filter_map(Request::parse).collect();
    if waiting.is_empty() {
        return Ok("Nothing waits for a human.".to_owned());
    }
    let mut text = format!("<b>{} wait for a human</b>\n", waiting.len());
    for request in waiting.iter().take(ROWS) {
        let left = left(request.expires_at.since_ms(now));
        let _ = writeln!(
            text,
            "\n{}\ntier {}, {left} left, id <code>{}</code>",
            escape(&one_line(&request.summary(), 120)),
            request.tier,
            request.id
        );
    }
    text.push_str("\nEach has a message with buttons in this chat.");
    Ok(fitting(text))
}

pub(super) async fn limits(work: &Work, person: &Person) -> Result<String, CommandError> {
    let answer = of(work, "swarm.limits", person).await?;
    let row = |limit: &Value| {
        let (value, house) = (cell(&limit["value"]), cell(&limit["house"]));
        let shown = if house.is_empty() || house == value { value } else { format!("{value} (house {house})") };
        vec![one_line(limit["name"].as_str().unwrap_or("?"), 36), shown]
    };
    let rows: Vec<Vec<String>> = match &answer["limits"] {
        Value::Object(named) => named.iter().map(|(name, value)| vec![one_line(name, 36), cell(value)]).collect(),
        listed => listed.as_array().into_iter().flatten().map(row).collect(),
    };
    let heads = [("", Align::Left), ("", Align::Right)];
    Ok(fitting(format!("<b>Limits</b> · {}\n{}", escape(account(person)), table(&heads, &rows))))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => one_line(text, 24),
        other => one_line(&other.to_string(), 24),
    }
}

pub(super) async fn risk(work: &Work, person: &Person) -> Result<String, CommandError> {
    let status = doors::ask(work, "swarm.status", &Value::Null).await?;
    let answer = of(work, "swarm.positions", person).await?;
    let day = percent(&answer["day"]["profit_usd"], &answer["day"]["baseline_equity_usd"]);
    let latched = if answer["breaker"]["latched_at"].is_null() { "no" } else { "yes: swarm breaker reset" };
    let rows = [
        ("Kill level", status["kill"]["level"].as_u64().unwrap_or(1).to_string()),
        ("Today", day),
        ("Losses in a row", answer["breaker"]["losses_in_a_row"].to_string()),
        ("Breaker latched", latched.to_owned()),
        ("Risky permits, 1 h", answer["risk_permits_last_hour"].to_string()),
        ("Open reservations", answer["open_reservations"].to_string()),
        ("Positions", count(&answer["positions"])),
    ];
    let text = format!("<b>Risk</b> · {}\n{}", escape(account(person)), pairs(&rows));
    Ok(format!("{text}\n/limits tells what is allowed."))
}

/// `+1.25 %`.
fn percent(part: &Value, whole: &Value) -> String {
    let read = |value: &Value| value.as_str().and_then(|text| text.parse::<Decimal>().ok());
    let share = read(part).zip(read(whole)).and_then(|(part, whole)| part.checked_div(whole));
    share.and_then(|share| share.to_f64()).map_or_else(|| "-".to_owned(), |share| format!("{:+.2} %", share * 100.0))
}

pub(super) async fn agents(work: &Work) -> Result<String, CommandError> {
    let answer = doors::ask(work, "swarm.status", &Value::Null).await?;
    let row = |agent: &Value| {
        let restarts =
            ["60s", "15min", "24h"].map(|window| agent["restarts_in"][window].as_u64().unwrap_or(0).to_string());
        let name = one_line(agent["agent"].as_str().unwrap_or("?"), 20);
        vec![name, one_line(agent["verdict"].as_str().unwrap_or("?"), 12), restarts.join("/")]
    };
    let rows: Vec<Vec<String>> = answer["agents"].as_array().into_iter().flatten().map(row).collect();
    let heads = [("agent", Align::Left), ("is", Align::Left), ("restarts 1m/15m/24h", Align::Right)];
    Ok(fitting(table(&heads, &rows)))
}

pub(super) fn logs(line: &Line) -> String {
    let recent = line.recent();
    if recent.is_empty() {
        return "No notice and no alert since this process started.".to_owned();
    }
    let mut text = String::from("<b>Latest notices and alerts</b>\n");
    for (at, said) in recent.iter().take(ROWS) {
        let _ = writeln!(text, "<code>{}</code> {said}", clock(*at));
    }
    fitting(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_told_against_the_end_of_the_day_before() {
        let at =
            |day: i64, hour: i64, usd: f64| Point2 { at: UnixMs::start_of_day(day).plus_ms(hour * 3_600_000), usd };
        let rows = by_day(&[at(20_000, 1, 100.0), at(20_000, 5, 110.0), at(20_001, 3, 90.0), at(20_003, 3, 95.5)]);
        let told: Vec<String> = rows.iter().map(|row| row[1..].join(" ")).collect();
        assert_eq!(told, vec!["95.50 +5.50", "90.00 -20.00", "110.00 +10.00"]);
    }

    #[test]
    fn profit_by_instrument_is_what_came_in_less_what_went_out() {
        let fill = |side: &str, what: &str, quantity: &str, price: &str| json!({ "side": side, "instrument": what, "quantity": quantity, "price": price, "fee_usd": "1" });
        let fills = [
            fill("buy", "paper:BTCUSDT", "0.02", "60000"),
            fill("sell", "paper:BTCUSDT", "0.01", "61000"),
            fill("buy", "paper:ETHUSDT", "1", "3000"),
            fill("sell", "paper:ETHUSDT", "1", "2900"),
        ];
        let held = json!([{ "instrument": "paper:BTCUSDT", "value_usd": "615.50" }]);
        let found = by_instrument(&fills, &held);
        assert_eq!(found[0], ("BTCUSDT".to_owned(), Decimal::new(235, 1), 2));
        assert_eq!(found[1], ("ETHUSDT".to_owned(), Decimal::from(-102), 2));
    }

    #[test]
    fn a_share_is_told_in_percent() {
        assert_eq!(percent(&json!("-250"), &json!("50000")), "-0.50 %");
        assert_eq!(percent(&json!("1"), &json!("0")), "-");
        assert_eq!(percent(&json!(null), &json!("1")), "-");
    }

    #[test]
    fn an_amount_that_is_not_known_makes_no_sum() {
        let rows = json!([{ "v": "1.5" }, { "v": "2" }]);
        assert_eq!(sum(&rows, "v"), Some(Decimal::new(35, 1)));
        assert_eq!(sum(&json!([{ "v": "1" }, { "v": null }]), "v"), None);
    }
}
