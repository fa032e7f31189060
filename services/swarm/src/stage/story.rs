//! What the audit chain tells of one signal, in the words of people.

use rust_decimal::Decimal;
use serde_json::Value;

use super::{StageError, must};

/// One row of the chain.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its number in the user's chain.
    pub seq: i64,
    /// What kind of act.
    pub kind: String,
    /// Who wrote it.
    pub agent: String,
    /// Everything it says.
    pub body: Value,
}

/// Everything stored about one signal.
#[derive(Debug, Clone)]
pub struct Story {
    order: Value,
    /// Its audit rows, oldest first.
    pub events: Vec<Event>,
}

impl Story {
    /// Reads the answer of `swarm audit explain`; `None` when nothing names the signal yet.
    #[must_use]
    pub fn of(answer: &Value) -> Option<Self> {
        let order = answer["chain"]["orders"].as_array()?.first()?.clone();
        let events = order["audit"].as_array()?.iter().map(event).collect();
        Some(Self { order, events })
    }

    /// The first row of a kind.
    #[must_use]
    pub fn event(&self, kind: &str) -> Option<&Event> {
        self.events.iter().find(|event| event.kind == kind)
    }

    /// Whether it was decided.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.event("decision").is_some()
    }

    /// Whether its order is over and posted.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.event("order_outcome").is_some()
    }

    /// `permitted`, `refused` or `needs_human`.
    #[must_use]
    pub fn outcome(&self) -> &str {
        self.event("decision").and_then(|event| event.body["outcome"].as_str()).unwrap_or("undecided")
    }

    /// The code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.event("decision").and_then(|event| event.body["code"].as_str())
    }

    /// Id of its order.
    #[must_use]
    pub fn order_id(&self) -> &str {
        self.order["order_id"].as_str().unwrap_or("?")
    }

    /// Id of its approval request.
    #[must_use]
    pub fn approval_id(&self) -> Option<&str> {
        self.event("approval_requested").and_then(|event| event.body["approval_id"].as_str())
    }

    /// Passes when it was decided like that.
    ///
    /// # Errors
    /// [`StageError::Differs`].
    pub fn must_be(&self, outcome: &str, code: Option<&str>) -> Result<(), StageError> {
        must(self.outcome() == outcome && self.code() == code, || {
            let numbers = self.event("decision").map(|event| event.body["numbers"].to_string()).unwrap_or_default();
            format!(
                "must be {outcome} {}, is {} {} {numbers}",
                code.unwrap_or(""),
                self.outcome(),
                self.code().unwrap_or("")
            )
        })
    }

    /// Quantity bought or sold, and dollars for it without fees.
    ///
    /// # Errors
    /// [`StageError::Differs`] when a row does not read.
    pub fn filled(&self) -> Result<(Decimal, Decimal), StageError> {
        let mut sums = (Decimal::ZERO, Decimal::ZERO);
        for event in self.events.iter().filter(|event| event.kind == "fill_posted") {
            let (quantity, price) = (amount(&event.body["fill"]["quantity"])?, amount(&event.body["fill"]["price"])?);
            sums.0 += quantity;
            sums.1 += quantity * price;
        }
        Ok((sums.0, sums.1.round_dp(2)))
    }

    /// Realised profit or loss of its fills.
    ///
    /// # Errors
    /// [`StageError::Differs`] when a row does not read.
    pub fn realised(&self) -> Result<Decimal, StageError> {
        let posted = self.events.iter().filter(|event| event.kind == "fill_posted");
        posted.map(|event| amount(&event.body["realised_usd"])).sum()
    }
}

fn event(row: &Value) -> Event {
    let text = |key: &str| row[key].as_str().unwrap_or("?").to_owned();
    Event { seq: row["seq"].as_i64().unwrap_or(0), kind: text("kind"), agent: text("agent"), body: row["body"].clone() }
}

/// A decimal that travels as text.
///
/// # Errors
/// [`StageError::Differs`] when it is none.
pub fn amount(value: &Value) -> Result<Decimal, StageError> {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| StageError::Differs(format!("{value} should be an amount")))
}

/// A row in one short line: number, kind, and what people compare.
impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{:<3} {:<19} {:<11}", self.seq, self.kind, self.agent)?;
        let told: &[&str] = match self.kind.as_str() {
            "decision" => &["outcome", "code", "numbers"],
            "approval_requested" => &["tier", "sum_usd", "digest"],
            "vote" => &["person_id", "vote", "digest", "reason"],
            "approval_consumed" => &["approvers", "digest"],
            "approval_ended" => &["code"],
            "permit_signed" => &["permit_id", "by_human", "kill_epoch", "digest"],
            "fill_posted" => &["fill", "realised_usd", "position", "cash_usd"],
            "order_outcome" => &["state", "filled", "venue_order_id"],
            _ => &["by", "reason", "order_id"],
        };
        for key in told {
            match (*key, &self.body[*key]) {
                (_, Value::Null) => {}
                ("fill", fill) => {
                    for key in ["side", "quantity", "price", "fee"] {
                        write!(f, " {key}={}", short(&fill[key]))?;
                    }
                }
                (_, Value::Object(numbers)) => {
                    for (key, value) in numbers {
                        write!(f, " {key}={}", short(value))?;
                    }
                }
                (key, value) => write!(f, " {key}={}", short(value))?,
            }
        }
        Ok(())
    }
}

/// Without quotes; digests and ids cut to what tells them apart.
fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let is_id = text.len() >= 32 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if is_id { text.chars().take(12).collect() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_is_one_line_with_its_numbers_and_short_digests() {
        let body = json!({ "outcome": "refused", "code": "POSITION", "numbers": { "limit_usd": "10000", "position_usd": "12000" } });
        let row = Event { seq: 1, kind: "decision".into(), agent: "treasury".into(), body };
        let line = row.to_string();
        assert!(line.ends_with("outcome=refused code=POSITION limit_usd=10000 position_usd=12000"), "{line}");
        let digest = "ab".repeat(32);
        let row = Event { body: json!({ "tier": 1, "digest": digest }), kind: "approval_requested".into(), ..row };
        assert!(row.to_string().ends_with("tier=1 digest=abababababab"), "{row}");
    }

    #[test]
    fn a_signal_nobody_decided_has_no_story() {
        assert!(Story::of(&json!({ "ok": false, "code": "UNKNOWN_ID" })).is_none());
    }
}
