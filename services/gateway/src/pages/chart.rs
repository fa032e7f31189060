//! The equity curve as a picture drawn here: no script, no style in the page, a title and words for who can't see it.

use std::fmt::Write;

use domain::time::UnixMs;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::words::{moment, rows, usd};

/// Drawing area, in units of the picture.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
/// Room for the figures at the left, and for the times below.
const LEFT: f64 = 108.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;
/// Points drawn at most.
const MOST: usize = 500;

struct Point {
    at: UnixMs,
    equity: f64,
}

fn points(answer: &Value) -> Vec<Point> {
    let all = rows(&answer["points"]).iter().filter_map(|row| {
        let equity: f64 = row["equity_usd"].as_str()?.parse().ok()?;
        let at = UnixMs(row["at_ms"].as_i64()?);
        equity.is_finite().then_some(Point { at, equity })
    });
    let mut points: Vec<Point> = all.collect();
    points.sort_by_key(|point| point.at);
    points.split_off(points.len().saturating_sub(MOST))
}

/// The curve; words instead while there is nothing to draw.
#[must_use]
pub fn equity(answer: &Value, now: UnixMs) -> Markup {
    let points = points(answer);
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return html! { p.quiet { "No equity curve yet: it begins with the first fill." } };
    };
    if points.len() < 2 {
        return html! { p.quiet { "Equity was noted once so far: the curve begins with the next note." } };
    }
    let (low, high) = points.iter().fold((f64::MAX, f64::MIN), |(l, h), p| (l.min(p.equity), h.max(p.equity)));
    let words = format!(
        "From {} to {}; lowest {}, highest {}, {} points.",
        dollars(first.equity),
        dollars(last.equity),
        dollars(low),
        dollars(high),
        points.len()
    );
    // A flat line lies in the middle.
    let (floor, roof) = if high > low { (low, high) } else { (low - 1.0, high + 1.0) };
    let line = path(&points, floor, roof);
    let bottom = HEIGHT - BOTTOM;
    html! {
        figure.chart {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-labelledby="chart-title chart-words" {
                title id="chart-title" { "Equity" }
                desc id="chart-words" { (words) }
                @for step in 0..3_u8 {
                    @let share = f64::from(step) / 2.0;
                    @let y = bottom - share * (bottom - TOP);
                    line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y) y2=(y) {}
                    @let amount = floor + share * (roof - floor);
                    text.axis x=(LEFT - 8.0) y=(y + 4.0) text-anchor="end" { (short(amount, roof - floor)) }
                }
                path.area d=(format!("{line} L {:.1} {bottom} L {LEFT} {bottom} Z", WIDTH - RIGHT)) {}
                path.curve d=(line) {}
                text.axis x=(LEFT) y=(HEIGHT - 8.0) { (moment(first.at, now)) }
                text.axis x=(WIDTH - RIGHT) y=(HEIGHT - 8.0) text-anchor="end" { (moment(last.at, now)) }
            }
            figcaption.quiet { (words) }
        }
    }
}

fn path(points: &[Point], floor: f64, roof: f64) -> String {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    let span = milliseconds(last.at.since_ms(first.at)).max(1.0);
    let mut out = String::new();
    for (at, point) in points.iter().enumerate() {
        let x = LEFT + milliseconds(point.at.since_ms(first.at)) / span * (WIDTH - LEFT - RIGHT);
        let y = HEIGHT - BOTTOM - (point.equity - floor) / (roof - floor) * (HEIGHT - BOTTOM - TOP);
        let _ = write!(out, "{}{x:.1} {y:.1}", if at == 0 { "M " } else { " L " });
    }
    out
}

fn milliseconds(ms: i64) -> f64 {
    f64::from(i32::try_from(ms / 1_000).unwrap_or(i32::MAX)) * 1_000.0
}

/// Without cents where they tell nothing.
fn short(amount: f64, range: f64) -> String {
    let words = dollars(amount);
    if range < 50.0 { words } else { words.split_once('.').map_or(words.clone(), |(whole, _)| whole.to_owned()) }
}

fn dollars(amount: f64) -> String {
    usd(&json!(format!("{amount:.2}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(points: Value) -> String {
        equity(&json!({ "points": points }), UnixMs(3_600_000)).into_string()
    }

    #[test]
    fn the_curve_has_a_title_and_words_and_stays_inside_the_picture() {
        let picture = drawn(json!([
            { "at_ms": 0, "equity_usd": "50000" },
            { "at_ms": 1_800_000, "equity_usd": "49000.5" },
            { "at_ms": 3_600_000, "equity_usd": "51000" },
        ]));
        for part in
            ["<title id=\"chart-title\">Equity</title>", "lowest $49,000.50", "highest $51,000.00", "role=\"img\""]
        {
            assert!(picture.contains(part), "{part} in {picture}");
        }
        assert!(picture.contains("M 108.0 99.0 L 410.0 186.0 L 712.0 12.0"), "{picture}");
        assert!(!picture.contains("style=") && !picture.contains("<script"));
    }

    #[test]
    fn nothing_and_nonsense_draw_nothing() {
        for points in [json!([]), json!(null), json!([{ "at_ms": 1, "equity_usd": "NaN" }]), json!([{ "at_ms": "x" }])]
        {
            assert!(!drawn(points.clone()).contains("<svg"), "{points}");
        }
        let flat = drawn(json!([{ "at_ms": 0, "equity_usd": "5" }, { "at_ms": 1, "equity_usd": "5" }]));
        assert!(flat.contains("<svg") && !flat.contains("NaN") && !flat.contains("inf"), "{flat}");
    }
}
