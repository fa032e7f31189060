//! The limits, read from `config/limits.toml`. No limit has a default.
//!
//! One table, [`RULES`], names every limit once: its range, and which way is tighter. Reading, tightening and the policy
//! version all walk that table, so a limit can't be in one and missing in another.

use std::collections::BTreeMap;

use domain::canonical;
use domain::money::{Usd, canonical_text, parse_plain};
use rust_decimal::Decimal;

use crate::book::BreakerRule;

/// Every limit the rails check, for one user: the house limits, tightened by the user's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest |position| plus open reservations in one instrument, dollars.
    pub position_usd: Usd,
    /// Largest sum of the same over all instruments, percent of equity.
    pub total_exposure_percent: Decimal,
    /// Farthest a worst price may lie from the mark, percent.
    pub price_collar_percent: Decimal,
    /// Loss since 00:00 UTC at which only risk-reducing orders pass, percent of the baseline.
    pub daily_loss_percent: Decimal,
    /// Notional above which a human decides, dollars.
    pub approval_over_usd: Usd,
    /// Window in which unapproved same-side notional of one instrument is summed, ms.
    pub approval_window_ms: i64,
    /// Notional above which approval is of tier 2, dollars.
    pub approval_tier2_over_usd: Usd,
    /// How long a request for approval stays open, ms.
    pub approval_ttl_ms: i64,
    /// Prompts per user and hour; above it the swarm stops proposing.
    pub approval_prompts_per_hour: u32,
    /// Distinct people whose yes a request of tier 1, 2 and 3 needs; never 0.
    pub approval_people: [u32; 3],
    /// Risk-increasing permits in the rate window.
    pub rate_risk_increasing: u32,
    /// Exits in the rate window.
    pub rate_exits: u32,
    /// The rate window, ms.
    pub rate_window_ms: i64,
    /// Loss-streak breaker.
    pub breaker: BreakerRule,
    /// Oldest mark that counts as fresh, ms.
    pub mark_max_age_ms: i64,
    /// Fee the venue may take at worst, percent of notional: part of the cash an order needs.
    pub worst_fee_percent: Decimal,
    /// How long a signed permit may wait to be spent, ms.
    pub permit_ttl_ms: i64,
}

/// What is wrong with a limits file; all faults at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limits: {}", faults.join("; "))]
pub struct LimitsError {
    /// One line per fault.
    pub faults: Vec<String>,
}

/// How a limit is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A decimal in quotes: dollars or percent, never a float.
    Text,
    /// A whole number: a count or milliseconds.
    Whole,
}

/// Which way a limit gets tighter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tighter {
    Lower,
    Higher,
}

/// One limit: name, form, smallest and largest value that makes sense, and which way is tighter. The ranges keep a
/// value from being a switch that turns its rail off (a rate window of 0 ms, a daily loss of 1000 %).
struct Rule {
    name: &'static str,
    form: Form,
    least: i64,
    most: i64,
    tighter: Tighter,
}

const fn text(name: &'static str, least: i64, most: i64, tighter: Tighter) -> Rule {
    Rule { name, form: Form::Text, least, most, tighter }
}

const fn whole(name: &'static str, least: i64, most: i64, tighter: Tighter) -> Rule {
    Rule { name, form: Form::Whole, least, most, tighter }
}

const DAY_MS: i64 = domain::time::DAY_MS;
const TRILLION: i64 = domain::money::MAX_MAGNITUDE;

/// Every limit, once.
const RULES: [Rule; 20] = [
    text("position_usd", 0, TRILLION, Tighter::Lower),
    text("total_exposure_percent", 0, 100, Tighter::Lower),
    text("price_collar_percent", 0, 99, Tighter::Lower),
    text("daily_loss_percent", 0, 100, Tighter::Lower),
    text("approval_over_usd", 0, TRILLION, Tighter::Lower),
    whole("approval_window_ms", 1_000, DAY_MS, Tighter::Higher),
    text("approval_tier2_over_usd", 0, TRILLION, Tighter::Lower),
    whole("approval_ttl_ms", 1, DAY_MS, Tighter::Lower),
    whole("approval_prompts_per_hour", 0, 1_000, Tighter::Lower),
    whole("approval_people_tier1", 1, 100, Tighter::Higher),
    whole("approval_people_tier2", 1, 100, Tighter::Higher),
    whole("approval_people_tier3", 1, 100, Tighter::Higher),
    whole("rate_risk_increasing", 0, 1_000_000, Tighter::Lower),
    whole("rate_exits", 1, 1_000_000, Tighter::Lower),
    whole("rate_window_ms", 1_000, DAY_MS, Tighter::Higher),
    whole("breaker_losses", 1, 1_000, Tighter::Lower),
    text("breaker_loss_percent", 0, 100, Tighter::Lower),
    whole("mark_max_age_ms", 1, DAY_MS, Tighter::Lower),
    text("worst_fee_percent", 0, 100, Tighter::Higher),
    whole("permit_ttl_ms", 1, DAY_MS, Tighter::Lower),
];

/// How many people decide, by tier.
const PEOPLE: [&str; 3] = ["approval_people_tier1", "approval_people_tier2", "approval_people_tier3"];

/// Limits by name, as they are read and written.
type Values = BTreeMap<&'static str, Decimal>;

impl Limits {
    /// Reads the text of `config/limits.toml`. Every limit must be there, none other may be.
    ///
    /// # Errors
    /// [`LimitsError`] with all faults.
    pub fn parse(text: &str) -> Result<Self, LimitsError> {
        let table: toml::Table =
            text.parse().map_err(|fault: toml::de::Error| LimitsError { faults: vec![fault.message().to_owned()] })?;
        let given = table.iter().map(|(name, value)| {
            let written = match value {
                toml::Value::String(text) => Written::Text(text),
                toml::Value::Integer(number) => Written::Whole(*number),
                _ => Written::Other,
            };
            (name.as_str(), written)
        });
        let (values, mut faults) = read(given);
        faults.extend(RULES.iter().filter(|r| !table.contains_key(r.name)).map(|r| format!("{} is missing", r.name)));
        if let (Some(first), Some(second)) = (values.get("approval_over_usd"), values.get("approval_tier2_over_usd"))
            && first > second
        {
            faults.push("approval_tier2_over_usd is below approval_over_usd".to_owned());
        }
        for (low, high) in [(PEOPLE[0], PEOPLE[1]), (PEOPLE[1], PEOPLE[2])] {
            if let (Some(few), Some(many)) = (values.get(low), values.get(high))
                && few > many
            {
                faults.push(format!("{high} is below {low}"));
            }
        }
        if faults.is_empty() { Self::from_values(&values) } else { Err(LimitsError { faults }) }
    }

    /// These limits, each replaced by the user's own where that is tighter (`users.trading_constraints`, same names as in
    /// the file). A looser value is ignored; an unknown name or unreadable value is a fault.
    ///
    /// # Errors
    /// [`LimitsError`] with all faults.
    pub fn tightened_by(&self, constraints: &serde_json::Value) -> Result<Self, LimitsError> {
        let Some(object) = constraints.as_object() else {
            return Err(LimitsError { faults: vec!["trading constraints are not an object".to_owned()] });
        };
        let given = object.iter().map(|(name, value)| {
            let written = match value {
                serde_json::Value::String(text) => Written::Text(text),
                serde_json::Value::Number(number) => number.as_i64().map_or(Written::Other, Written::Whole),
                _ => Written::Other,
            };
            (name.as_str(), written)
        });
        let (own, faults) = read(given);
        if !faults.is_empty() {
            return Err(LimitsError { faults });
        }
        let mut values = self.to_values();
        for rule in &RULES {
            if let (Some(house), Some(own)) = (values.get_mut(rule.name), own.get(rule.name)) {
                *house = match rule.tighter {
                    Tighter::Lower => (*house).min(*own),
                    Tighter::Higher => (*house).max(*own),
                };
            }
        }
        Self::from_values(&values)
    }

    /// First 16 hex digits of the SHA-256 over the limits: the policy version bound into every envelope. Equal limits
    /// have equal versions however they were written (`5`, `5.0`).
    #[must_use]
    pub fn version(&self) -> String {
        let named: BTreeMap<_, _> =
            self.to_values().into_iter().map(|(name, value)| (name, canonical_text(value))).collect();
        let digest = canonical::digest("swarm.limits.v1", &named).unwrap_or(canonical::Sha256Digest::ZERO);
        digest.to_string().chars().take(16).collect()
    }

    /// Every limit by its name in the file, for people to read.
    #[must_use]
    pub fn named(&self) -> BTreeMap<&'static str, Decimal> {
        self.to_values()
    }

    fn to_values(&self) -> Values {
        BTreeMap::from([
            ("position_usd", self.position_usd.value()),
            ("total_exposure_percent", self.total_exposure_percent),
            ("price_collar_percent", self.price_collar_percent),
            ("daily_loss_percent", self.daily_loss_percent),
            ("approval_over_usd", self.approval_over_usd.value()),
            ("approval_window_ms", self.approval_window_ms.into()),
            ("approval_tier2_over_usd", self.approval_tier2_over_usd.value()),
            ("approval_ttl_ms", self.approval_ttl_ms.into()),
            ("approval_prompts_per_hour", self.approval_prompts_per_hour.into()),
            (PEOPLE[0], self.approval_people[0].into()),
            (PEOPLE[1], self.approval_people[1].into()),
            (PEOPLE[2], self.approval_people[2].into()),
            ("rate_risk_increasing", self.rate_risk_increasing.into()),
            ("rate_exits", self.rate_exits.into()),
            ("rate_window_ms", self.rate_window_ms.into()),
            ("breaker_losses", self.breaker.losses.into()),
            ("breaker_loss_percent", self.breaker.loss_percent),
            ("mark_max_age_ms", self.mark_max_age_ms.into()),
            ("worst_fee_percent", self.worst_fee_percent),
            ("permit_ttl_ms", self.permit_ttl_ms.into()),
        ])
    }

    fn from_values(values: &Values) -> Result<Self, LimitsError> {
        let fault = |name: &str| LimitsError { faults: vec![format!("{name} is missing or out of range")] };
        let decimal = |name: &str| values.get(name).copied().ok_or_else(|| fault(name));
        let usd = |name: &str| Usd::new(decimal(name)?).map_err(|_| fault(name));
        let ms = |name: &str| i64::try_from(decimal(name)?).map_err(|_| fault(name));
        let count = |name: &str| u32::try_from(decimal(name)?).map_err(|_| fault(name));
        Ok(Self {
            position_usd: usd("position_usd")?,
            total_exposure_percent: decimal("total_exposure_percent")?,
            price_collar_percent: decimal("price_collar_percent")?,
            daily_loss_percent: decimal("daily_loss_percent")?,
            approval_over_usd: usd("approval_over_usd")?,
            approval_window_ms: ms("approval_window_ms")?,
            approval_tier2_over_usd: usd("approval_tier2_over_usd")?,
            approval_ttl_ms: ms("approval_ttl_ms")?,
            approval_prompts_per_hour: count("approval_prompts_per_hour")?,
            approval_people: [count(PEOPLE[0])?, count(PEOPLE[1])?, count(PEOPLE[2])?],
            rate_risk_increasing: count("rate_risk_increasing")?,
            rate_exits: count("rate_exits")?,
            rate_window_ms: ms("rate_window_ms")?,
            breaker: BreakerRule { losses: count("breaker_losses")?, loss_percent: decimal("breaker_loss_percent")? },
            mark_max_age_ms: ms("mark_max_age_ms")?,
            worst_fee_percent: decimal("worst_fee_percent")?,
            permit_ttl_ms: ms("permit_ttl_ms")?,
        })
    }
}

/// A value as it stands in a file or in JSON.
enum Written<'a> {
    Text(&'a str),
    Whole(i64),
    Other,
}

/// Reads what is given; missing names are the caller's business.
fn read<'a>(given: impl Iterator<Item = (&'a str, Written<'a>)>) -> (Values, Vec<String>) {
    let mut values = Values::new();
    let mut faults = Vec::new();
    for (name, written) in given {
        let Some(rule) = RULES.iter().find(|rule| rule.name == name) else {
            faults.push(format!("{name} is not a limit"));
            continue;
        };
        match read_one(rule, &written) {
            Ok(value) => {
                values.insert(rule.name, value);
            }
            Err(fault) => faults.push(format!("{name} {fault}")),
        }
    }
    (values, faults)
}

fn read_one(rule: &Rule, written: &Written<'_>) -> Result<Decimal, String> {
    let value = match (rule.form, written) {
        (Form::Text, Written::Text(text)) => parse_plain(text).map_err(|fault| format!("is unreadable: {fault}"))?,
        (Form::Whole, Written::Whole(number)) => Decimal::from(*number),
        (Form::Text, _) => return Err("must be a decimal in quotes".to_owned()),
        (Form::Whole, _) => return Err("must be a whole number".to_owned()),
    };
    if value < Decimal::from(rule.least) || value > Decimal::from(rule.most) {
        return Err(format!("must be from {} to {}", rule.least, rule.most));
    }
    Ok(value)
}
