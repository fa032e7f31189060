//! What waits for a person, and what there is: the first page; and the stop button's.

use maud::{Markup, html};
use serde_json::Value;

use super::words::{NOTHING, at, change, number, rows, text, usd};
use super::{Around, chart, request};
use crate::desk::{Heard, Look};

/// The first page.
#[must_use]
pub fn body(look: &Look) -> Markup {
    html! {
        h1.unseen { "Desk" }
        section aria-labelledby="h-approvals" {
            h2 #h-approvals { "Waiting for you" }
            div #approvals { (approvals(look)) }
        }
        section aria-labelledby="h-money" {
            h2 #h-money { "Equity" }
            div.card {
                div #money { (money(look)) }
                div #chart { (chart::equity(&look.equity.value, look.at)) }
            }
        }
        section aria-labelledby="h-positions" {
            h2 #h-positions { "Positions" }
            div #positions { (positions(look)) }
        }
        section aria-labelledby="h-decisions" {
            h2 #h-decisions { "Last decisions of the rails" }
            div #decisions { (decisions(look)) }
        }
    }
}

/// What to show instead of an answer that says no; `None` when there is one.
#[must_use]
pub fn missing(heard: &Heard) -> Option<Markup> {
    let value = &heard.value;
    if value.is_null() {
        return Some(html! { p.quiet { "Not known: the supervisor has not answered yet." } });
    }
    (value["ok"] == false).then(|| html! { p.quiet { strong { (text(&value["code"])) } " " (text(&value["detail"])) } })
}

/// The requests that wait.
#[must_use]
pub fn approvals(look: &Look) -> Markup {
    if let Some(missing) = missing(&look.approvals) {
        return missing;
    }
    let waiting = rows(&look.approvals.value["approvals"]);
    html! {
        @if waiting.is_empty() { p.card.quiet { "Nothing waits for a person." } }
        @for row in waiting {
            @let id = text(&row["approval_id"]);
            article.card.waiting data-request=(id) aria-labelledby=(format!("r-{id}")) {
                h3 id=(format!("r-{id}")) { (request::headline(row)) }
                p.meta { (request::countdown(row, look.at)) (request::votes(row)) }
                (request::rendering(row, request::FIRST_LINES))
                (request::prose(row))
                a.button.primary href=(format!("/approvals/{id}")) data-key=(id) {
                    "Look and decide" span.unseen { " on " (request::headline(row)) }
                }
            }
        }
    }
}

fn figure(label: &str, value: &Markup) -> Markup {
    html! { div { dt { (label) } dd { (value) } } }
}

/// Equity, day, cash, fees.
#[must_use]
pub fn money(look: &Look) -> Markup {
    if let Some(missing) = missing(&look.positions) {
        return missing;
    }
    let value = &look.positions.value;
    let plain = |words: String| html! { span.num { (words) } };
    html! {
        dl.figures {
            (figure("Equity", &plain(usd(&value["equity_usd"]))))
            (figure("Today", &change(&value["day"]["profit_usd"])))
            (figure("Cash", &plain(usd(&value["cash_usd"]))))
            (figure("Fees so far", &plain(usd(&value["fees_usd"]))))
            (figure("Fills", &plain(number(&value["fills"]))))
            (figure("Trades this hour", &plain(number(&value["risk_permits_last_hour"]))))
        }
        @if !value["breaker"]["latched_at"].is_null() && value["breaker"].is_object() {
            p.note.warn {
                strong { "▲ Loss breaker latched: " } "no new risk until a person resets it with "
                code { "swarm breaker reset --reason …" } "."
            }
        }
    }
}

/// One cell with the name of its column, which a narrow screen shows beside it.
#[must_use]
pub fn cell(label: &str, class: &str, value: &Markup) -> Markup {
    html! { td.(class) role="cell" data-label=(label) { (value) } }
}

/// A table that becomes a list of cards on a narrow screen; its roles are written out, because a changed display would
/// take them away.
#[must_use]
pub fn table(caption: &str, columns: &[(&str, &str)], rows: &[Vec<Markup>]) -> Markup {
    html! {
        table.stack role="table" {
            caption.unseen { (caption) }
            thead role="rowgroup" { tr role="row" {
                @for (name, class) in columns { th.(class) role="columnheader" scope="col" { (name) } }
            } }
            tbody role="rowgroup" {
                @for row in rows { tr role="row" {
                    @for ((name, class), value) in columns.iter().zip(row) { (cell(name, class, value)) }
                } }
            }
        }
    }
}

/// What is held.
#[must_use]
pub fn positions(look: &Look) -> Markup {
    if let Some(missing) = missing(&look.positions) {
        return missing;
    }
    let held = rows(&look.positions.value["positions"]);
    if held.is_empty() {
        return html! { p.card.quiet { "No open position." } };
    }
    let columns = [
        ("Instrument", ""),
        ("Quantity", "num"),
        ("Cost", "num"),
        ("Mark", "num"),
        ("Value", "num"),
        ("Unrealised", "num"),
    ];
    let line = |row: &Value| {
        vec![
            html! { strong { (text(&row["instrument"])) } },
            html! { (number(&row["quantity"])) },
            html! { (usd(&row["cost_usd"])) },
            html! { (number(&row["mark"])) },
            html! { (usd(&row["value_usd"])) },
            change(&row["unrealised_usd"]),
        ]
    };
    table("Open positions", &columns, &held.iter().map(line).collect::<Vec<_>>())
}

/// What the rails said last.
#[must_use]
pub fn decisions(look: &Look) -> Markup {
    let made = rows(&look.positions.value["recent_decisions"]);
    if made.is_empty() {
        return html! { p.card.quiet { "None yet." } };
    }
    let line = |row: &Value| {
        let numbers = row["numbers"].as_object().map_or_else(String::new, |numbers| {
            numbers.iter().map(|(name, value)| format!("{name} {}", text(value))).collect::<Vec<_>>().join(", ")
        });
        let code = if row["code"].is_null() { NOTHING.to_owned() } else { text(&row["code"]) };
        vec![
            at(&row["at"], look.at),
            html! { (text(&row["outcome"])) },
            html! { code { (code) } },
            html! { span.quiet { (text(&numbers.into())) } },
        ]
    };
    let columns = [("When", ""), ("Outcome", ""), ("Code", ""), ("Numbers", "wide")];
    table("Last decisions of the rails", &columns, &made.iter().map(line).collect::<Vec<_>>())
}

/// The page of the stop button: no code is asked for, because stopping must be easy.
#[must_use]
pub fn stop_body(look: &Look, around: Around<'_>) -> Markup {
    let level = look.status.value["kill"]["level"].as_u64().unwrap_or(0);
    let choices = [
        (1, "No new risk", "Nothing that adds risk passes. Exits still do, open orders stay."),
        (2, "No new risk, and cancel open orders", "As above, and every open order is cancelled at the venue."),
        (
            3,
            "Cancel, and sell everything",
            "As above, and every position of every account is sold at once, at prices within the price collar. That takes \
             losses that stand open, and can't be undone.",
        ),
        (
            4,
            "Cancel, sell everything, and stop the agents",
            "As above, and the agents stop: when nothing is held any more, and 30 s after the press in any case. What is not \
             sold by then stays held, with nobody to sell it, until a person lowers the level.",
        ),
    ];
    html! {
        h1 { "Stop trading" }
        p { "One press is enough, and it holds until a person lowers it again with their own key: "
            code { "swarm resume --reason …" } ". It can't be lowered here." }
        form.card method="post" action="/stop" {
            input type="hidden" name="csrf" value=(around.visitor.csrf);
            div.field {
                label for="reason" { "Reason, for the others " span.quiet { "(may stay empty)" } }
                input #reason name="reason" type="text" maxlength="500" autocomplete="off";
            }
            div.choices {
                @for (to, label, what) in choices {
                    div {
                        @let words = format!("level-{to}");
                        p.quiet id=(words) {
                            "Kill level " (to) ". " (what)
                            @if level >= to { " " strong { "Already in force." } }
                        }
                        button.danger type="submit" name="level" value=(to) disabled[level >= to]
                            aria-describedby=(words) { (label) }
                    }
                }
            }
        }
    }
}
