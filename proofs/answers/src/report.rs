//! What was found, for people and for programs.

use std::fmt;

use serde_json::{Value, json};

use crate::adversarial::Outcome;
use crate::asking::{Tally, percent};
use crate::workload::{Shape, TENANTS};
use crate::{LEAST_HIT_PERCENT, MOST_WRONG_PERCENT};

/// Kinds in the order of the table.
const KINDS: [&str; 3] = ["exact", "normalised", "semantic"];

/// All of it.
#[derive(Debug, Clone)]
pub struct Report {
    /// Which market.
    pub market: String,
    /// Its events.
    pub events: u64,
    /// Its length, ms.
    pub length_ms: i64,
    /// How the day was made.
    pub shape: Shape,
    /// The day that is judged.
    pub templated: Tally,
    /// The same with reasons in words of the agents' own.
    pub free: Tally,
    /// Free questions of people.
    pub chat: Tally,
    /// The day at other rates, signals an hour and tenant.
    pub rates: Vec<(f64, Tally)>,
    /// Near-equal questions.
    pub adversarial: Outcome,
}

fn word(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

impl Report {
    /// The cache answers often enough.
    #[must_use]
    pub fn is_often(&self) -> bool {
        self.templated.hit_percent() >= LEAST_HIT_PERCENT
    }

    /// It answers rarely enough wrongly, and never across tenants.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.templated.hits() > 0
            && self.templated.wrong_percent() < MOST_WRONG_PERCENT
            && self.templated.crossed + self.free.crossed + self.chat.crossed == 0
    }

    /// No near-equal question is answered, and the controls are.
    #[must_use]
    pub fn is_unfooled(&self) -> bool {
        self.adversarial.false_hits() == 0 && self.adversarial.controls_missed == 0 && self.adversarial.pairs() > 0
    }

    /// What the exit status says: nothing wrong is given. How often it answers is only told.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.is_right() && self.is_unfooled()
    }

    /// One JSON document.
    #[must_use]
    pub fn as_json(&self) -> Value {
        let adversarial = &self.adversarial;
        json!({
            "workload": {
                "market": self.market, "market_events": self.events, "market_length_ms": self.length_ms,
                "plays": self.shape.plays, "seed": self.shape.seed, "tenants": TENANTS,
                "signals_per_hour_and_tenant": self.shape.per_hour,
            },
            "templated": tally_json(&self.templated),
            "free_reasons": tally_json(&self.free),
            "chat": tally_json(&self.chat),
            "rates": self.rates.iter().map(|(per_hour, tally)| json!({
                "signals_per_hour_and_tenant": per_hour, "hit_percent": tally.hit_percent(), "asked": tally.asked,
                "wrong_percent": tally.wrong_percent(),
            })).collect::<Vec<_>>(),
            "adversarial": {
                "pairs": adversarial.pairs(), "false_hits": adversarial.false_hits(), "examples": adversarial.examples,
                "controls": adversarial.controls, "controls_missed": adversarial.controls_missed,
                "changes": adversarial.changes.iter().map(|(what, (pairs, hits))|
                    (what.clone(), json!({ "pairs": pairs, "false_hits": hits }))).collect::<serde_json::Map<_, _>>(),
            },
            "targets": { "hits": self.is_often(), "wrong": self.is_right(), "adversarial": self.is_unfooled() },
            "good": self.is_safe(),
        })
    }

    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { seed, plays, per_hour, .. } = self.shape;
        let (seconds, hours) = (self.length_ms / 1_000, plays * self.length_ms / 3_600_000);
        writeln!(
            f,
            "market      {} ({} events, {seconds} s), played {plays} times: {hours} h",
            self.market, self.events
        )?;
        writeln!(
            f,
            "signals     {per_hour} an hour from each of {} tenants, 2 instruments, P0-P7, seed {seed}; entries live as shipped",
            TENANTS.len()
        )?;
        writeln!(f, "questions   {} of {} kinds; by line:", self.templated.asked, self.templated.distinct)?;
        for (name, values) in &self.templated.lines {
            let shown: Vec<&str> = values.iter().take(6).map(String::as_str).collect();
            let more = if values.len() > shown.len() { " .." } else { "" };
            writeln!(f, "  {:>6}  {name}: {}{more}", values.len(), shown.join(" | "))?;
        }
        Ok(())
    }
}

fn tally_json(tally: &Tally) -> Value {
    let kinds = tally.kinds.iter().map(|(word, kind)| {
        let value = json!({
            "hits": kind.hits, "hit_percent": percent(kind.hits, tally.asked), "wrong": kind.wrong,
            "wrong_percent": percent(kind.wrong, kind.hits), "rule_turns": kind.turned,
            "rule_turns_percent": percent(kind.turned, kind.hits),
        });
        ((*word).to_owned(), value)
    });
    json!({
        "asked": tally.asked, "distinct": tally.distinct, "hits": tally.hits(), "hit_percent": tally.hit_percent(),
        "wrong": tally.wrong(), "wrong_percent": tally.wrong_percent(), "crossed_tenants": tally.crossed,
        "rule_turns_percent": tally.turned_percent(), "misses_of_known_questions": tally.again,
        "kinds": kinds.collect::<serde_json::Map<_, _>>(),
        "lines": tally.lines.iter().map(|(name, values)| (name.clone(), json!(values.len()))).collect::<serde_json::Map<_, _>>(),
    })
}

fn rows(f: &mut fmt::Formatter<'_>, name: &str, tally: &Tally) -> fmt::Result {
    for word in KINDS {
        let kind = tally.kinds.get(word).copied().unwrap_or_default();
        let (hit, wrong) = (percent(kind.hits, tally.asked), percent(kind.wrong, kind.hits));
        let turned = percent(kind.turned, kind.hits);
        writeln!(f, "{name:<12}{word:<12}{:>8}{hit:>9.2} %{:>8}{wrong:>9.2} %{turned:>9.2} %", kind.hits, kind.wrong)?;
    }
    let (hits, wrong) = (tally.hits(), tally.wrong());
    let percents = (tally.hit_percent(), tally.wrong_percent(), tally.turned_percent());
    writeln!(
        f,
        "{name:<12}{:<12}{hits:>8}{:>9.2} %{wrong:>8}{:>9.2} %{:>9.2} %",
        "all", percents.0, percents.1, percents.2
    )?;
    writeln!(f, "{name:<12}misses      {:>8}  of them asked before: {}", tally.asked - hits, tally.again)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        writeln!(
            f,
            "\n{:<12}{:<12}{:>8}{:>11}{:>8}{:>11}{:>11}",
            "workload", "kind", "hits", "of asked", "wrong", "of hits", "rule turns"
        )?;
        rows(f, "templated", &self.templated)?;
        rows(f, "own words", &self.free)?;
        rows(f, "chat", &self.chat)?;
        for (per_hour, tally) in &self.rates {
            writeln!(
                f,
                "at {per_hour:>4}/h    {:>6} asked, {:.2} % hits, {:.2} % wrong",
                tally.asked,
                tally.hit_percent(),
                tally.wrong_percent()
            )?;
        }
        let adversarial = &self.adversarial;
        writeln!(
            f,
            "\nadversarial pairs: {}, false hits: {}; controls {}, missed {}",
            adversarial.pairs(),
            adversarial.false_hits(),
            adversarial.controls,
            adversarial.controls_missed
        )?;
        for (what, (pairs, hits)) in &adversarial.changes {
            writeln!(f, "  {pairs:>6}  {hits:>4} false  {what}")?;
        }
        adversarial.examples.iter().try_for_each(|example| writeln!(f, "FALSE HIT {example}"))?;
        let crossed = self.templated.crossed + self.free.crossed + self.chat.crossed;
        writeln!(
            f,
            "\nhits of the templated workload >= {LEAST_HIT_PERCENT} %: {:.2} %  {}",
            self.templated.hit_percent(),
            word(self.is_often())
        )?;
        writeln!(
            f,
            "wrong of these < {MOST_WRONG_PERCENT} %: {:.3} %, across tenants: {crossed}  {}",
            self.templated.wrong_percent(),
            word(self.is_right())
        )?;
        writeln!(f, "adversarial false hits 0: {}  {}", adversarial.false_hits(), word(self.is_unfooled()))
    }
}
