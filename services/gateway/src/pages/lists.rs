//! Trades, agents and limits.

use maud::{Markup, html};
use serde_json::Value;

use super::desk::{missing, table};
use super::words::{at, change, lasted, number, rows, text, usd};
use crate::desk::Look;

/// The page of the fills.
#[must_use]
pub fn trades_body(look: &Look) -> Markup {
    html! {
        h1 { "Trades" }
        p.quiet { "The last " (crate::desk::TRADES) " fills, newest first." }
        div #trades { (trades(look)) }
    }
}

/// The fills.
#[must_use]
pub fn trades(look: &Look) -> Markup {
    if let Some(missing) = missing(&look.trades) {
        return missing;
    }
    let fills = rows(&look.trades.value["trades"]);
    if fills.is_empty() {
        return html! { p.card.quiet { "No fill yet." } };
    }
    let columns = [
        ("When", ""),
        ("Instrument", ""),
        ("Side", ""),
        ("Quantity", "num"),
        ("Price", "num"),
        ("Notional", "num"),
        ("Fee", "num"),
        ("Order", "id"),
    ];
    let line = |row: &Value| {
        vec![
            at(&row["at_ms"], look.at),
            html! { strong { (text(&row["instrument"])) } },
            html! { (text(&row["side"])) },
            html! { (number(&row["quantity"])) },
            html! { (number(&row["price"])) },
            html! { (usd(&row["notional_usd"])) },
            html! { (usd(&row["fee_usd"])) },
            html! { code { (text(&row["order_id"])) } },
        ]
    };
    table("Fills, newest first", &columns, &fills.iter().map(line).collect::<Vec<_>>())
}

/// The page of the processes.
#[must_use]
pub fn agents_body(look: &Look) -> Markup {
    html! { h1 { "Agents" } div #agents { (agents(look)) } }
}

/// What a verdict means, with a sign of its own beside the colour.
const VERDICTS: [(&str, &str, &str); 10] = [
    ("healthy", "good", "●"),
    ("busy", "good", "●"),
    ("starting", "warn", "◌"),
    ("draining", "warn", "◌"),
    ("held", "warn", "◌"),
    ("stopped", "bad", "✕"),
    ("stuck", "bad", "▲"),
    ("deaf", "bad", "▲"),
    ("down", "bad", "✕"),
    ("quarantined", "bad", "✕"),
];

/// The processes and the prices they see.
#[must_use]
pub fn agents(look: &Look) -> Markup {
    if let Some(missing) = missing(&look.status) {
        return missing;
    }
    let columns = [
        ("Process", ""),
        ("State", ""),
        ("Up", "num"),
        ("Restarts in 60 s / 15 min / 24 h", "num"),
        ("Memory", "num"),
        ("Can't do yet", "wide"),
    ];
    let line = |row: &Value| {
        let verdict = row["verdict"].as_str().unwrap_or("unknown");
        let (_, class, sign) =
            VERDICTS.into_iter().find(|(word, ..)| *word == verdict).unwrap_or(("unknown", "warn", "?"));
        let lacks: Vec<String> = rows(&row["lacks"]).iter().map(text).collect();
        let drifts: Vec<String> = rows(&row["drift"]["of"]).iter().map(text).collect();
        let memory =
            row["rss_bytes"].as_u64().map_or_else(|| text(&Value::Null), |bytes| format!("{} MB", bytes >> 20));
        vec![
            html! { strong { (text(&row["agent"])) } },
            html! {
                span.pill.(class) { span aria-hidden="true" { (sign) " " } (text(&verdict.into())) }
                @if !row["quarantined"].is_null() { " " span.quiet { (text(&row["quarantined"])) } }
            },
            html! { (row["up_ms"].as_u64().map_or_else(|| text(&Value::Null), lasted)) },
            html! {
                (["60s", "15min", "24h"].map(|window| text(&row["restarts_in"][window])).join(" / "))
                @if !row["last_end"].is_null() { br; span.quiet { "last end: " (text(&row["last_end"])) } }
            },
            html! { (memory) },
            html! {
                @if !drifts.is_empty() { span.loss { "▲ drifts: " (drifts.join(", ")) } " " }
                span.quiet { (lacks.join("; ")) }
            },
        ]
    };
    let prices = rows(&look.status.value["market"]);
    html! {
        (table("Processes", &columns, &rows(&look.status.value["agents"]).iter().map(line).collect::<Vec<_>>()))
        h2 { "Prices" }
        @if prices.is_empty() { p.card.quiet { "No price yet." } }
        @else {
            @let columns = [("Instrument", ""), ("Mark", "num"), ("Age", "num")];
            @let lines: Vec<Vec<Markup>> = prices.iter().map(price).collect();
            (table("Prices", &columns, &lines))
        }
    }
}

fn price(row: &Value) -> Vec<Markup> {
    // Whole seconds, so that the page is not sent anew for every tick.
    let age = row["age_ms"].as_i64().map_or(i64::MAX, |ms| ms / 1_000);
    let stale = age > 30;
    vec![
        html! { strong { (text(&row["instrument"])) } },
        html! { (number(&row["mark"])) },
        html! { @if stale { span.loss { "▲ " (age) " s: too old for new risk" } } @else { (age) " s" } },
    ]
}

/// The page of the limits.
#[must_use]
pub fn limits_body(look: &Look) -> Markup {
    html! {
        h1 { "Limits" }
        p.quiet {
            "What is in force for this account: the house's limits, tightened by its own. Changing them is no matter of \
             this page."
        }
        div #limits { (limits(look)) }
    }
}

/// Name, what it means, and its unit.
const LIMITS: [(&str, &str, Unit); 20] = [
    ("position_usd", "Largest position in one instrument, open orders included", Unit::Usd),
    ("total_exposure_percent", "Sum over all instruments, of equity", Unit::Percent),
    ("price_collar_percent", "Worst price against the mark", Unit::Percent),
    ("daily_loss_percent", "Loss since 00:00 UTC after which only exits pass", Unit::Percent),
    ("approval_over_usd", "A person decides above", Unit::Usd),
    ("approval_window_ms", "Window in which unapproved orders are summed", Unit::Time),
    ("approval_tier2_over_usd", "Tier 2 above", Unit::Usd),
    ("approval_ttl_ms", "A request stays open for", Unit::Time),
    ("approval_prompts_per_hour", "Requests an hour", Unit::Count),
    ("approval_people_tier1", "People who must say yes at tier 1", Unit::Count),
    ("approval_people_tier2", "People who must say yes at tier 2", Unit::Count),
    ("approval_people_tier3", "People who must say yes at tier 3", Unit::Count),
    ("rate_risk_increasing", "Trades within the rate window", Unit::Count),
    ("rate_exits", "Exits within the rate window", Unit::Count),
    ("rate_window_ms", "Rate window", Unit::Time),
    ("breaker_losses", "Losses in a row that latch the breaker", Unit::Count),
    ("breaker_loss_percent", "A loss that counts, of its entry", Unit::Percent),
    ("mark_max_age_ms", "Oldest price for new risk", Unit::Time),
    ("worst_fee_percent", "Fee at worst, of notional", Unit::Percent),
    ("permit_ttl_ms", "A permit is void after", Unit::Time),
];

#[derive(Clone, Copy)]
enum Unit {
    Usd,
    Percent,
    Time,
    Count,
}

fn in_unit(unit: Unit, value: &Value) -> String {
    let ms = || value.as_u64().or_else(|| value.as_str()?.parse().ok());
    match unit {
        _ if value.is_null() => text(value),
        Unit::Usd => usd(value),
        Unit::Percent => format!("{} %", number(value)),
        Unit::Count => number(value),
        Unit::Time => ms().map_or_else(|| text(value), lasted),
    }
}

/// Which figure of `used` says how much of a limit is gone.
const USED: [(&str, &str); 4] = [
    ("rate_risk_increasing", "risk_permits"),
    ("rate_exits", "exit_permits"),
    ("approval_prompts_per_hour", "approval_prompts"),
    ("breaker_losses", "losses_in_a_row"),
];

fn used(name: &str, used: &Value) -> Markup {
    if name == "daily_loss_percent" {
        return html! { "today " (change(&used["day_profit_usd"])) };
    }
    let figure = USED.iter().find(|(limit, _)| *limit == name).map(|(_, figure)| &used[figure]);
    html! { @if let Some(figure) = figure { (number(figure)) } }
}

/// The limits: the known ones in the order of the house's file, then any other.
#[must_use]
pub fn limits(look: &Look) -> Markup {
    if let Some(missing) = missing(&look.limits) {
        return missing;
    }
    let answer = &look.limits.value;
    let none = serde_json::Map::new();
    let given = answer["limits"].as_object().unwrap_or(&none);
    let is_other = |name: &&String| LIMITS.iter().all(|(known, ..)| known != name);
    let known = LIMITS.iter().filter_map(|(name, label, unit)| {
        let value = given.get(*name)?;
        let named = html! { (label) br; code.quiet { (name) } };
        Some(vec![named, html! { strong { (in_unit(*unit, value)) } }, used(name, &answer["used"])])
    });
    let others = given.keys().filter(is_other).map(|name| {
        let named = html! { code { (text(&name.clone().into())) } };
        vec![named, html! { strong { (text(&given[name])) } }, html! {}]
    });
    let columns = [("Limit", "wide"), ("In force", "num"), ("Used", "num")];
    html! {
        (table("Limits", &columns, &known.chain(others).collect::<Vec<_>>()))
        p.quiet { "Policy version " code { (text(&answer["policy_version"])) } }
    }
}
