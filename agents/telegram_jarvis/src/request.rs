//! A request for a human's word as `swarm.approvals` tells of it, and what a person sees of it: its lines come from the
//! hashed envelope, rendered by the supervisor; this module only sets them.

use std::fmt::Write;

use domain::ids::ApprovalId;
use domain::telegram_button::Press;
use domain::time::UnixMs;
use serde_json::Value;

use crate::text::{clock, escape, left, line};

/// What one person said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub person: String,
    /// What.
    pub decision: String,
    /// Through what.
    pub channel: String,
    /// When, as it is told.
    pub at: String,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which.
    pub id: ApprovalId,
    /// `pending`, `allowed`, `denied`, ..
    pub status: String,
    /// 1 to 3.
    pub tier: u8,
    /// Of the digest.
    pub words: Vec<String>,
    /// How many people must say yes.
    pub needed: u64,
    /// What was said.
    pub entries: Vec<Entry>,
    /// Label and value of each field.
    pub lines: Vec<(String, String)>,
    /// What the requester says, as it came.
    pub prose: String,
    /// After this it is denied.
    pub expires_at: UnixMs,
    /// Which order waits for it.
    pub order_id: String,
    /// What took its place.
    pub superseded_by: Option<String>,
}

impl Request {
    /// Reads one; `None` when it lacks what a person must see.
    #[must_use]
    pub fn parse(row: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let lines: Vec<(String, String)> = row["rendering"]
            .as_array()?
            .iter()
            .map(|pair| Some((text(&pair[0])?, text(&pair[1])?)))
            .collect::<Option<_>>()?;
        if lines.is_empty() {
            return None;
        }
        let entries = row["entries"].as_array().into_iter().flatten().map(|entry| Entry {
            person: line(entry["person_id"].as_str().unwrap_or("?"), 64),
            decision: line(entry["decision"].as_str().unwrap_or("?"), 16),
            channel: line(entry["channel"].as_str().unwrap_or("?"), 16),
            at: moment(&entry["at"]),
        });
        let words = row["digest_words"].as_array().into_iter().flatten().filter_map(text).collect();
        Some(Self {
            id: row["approval_id"].as_str()?.parse().ok()?,
            status: text(&row["status"])?,
            tier: u8::try_from(row["tier"].as_u64()?).ok()?,
            words,
            needed: row["needed"].as_u64().unwrap_or(1),
            entries: entries.collect(),
            lines,
            prose: text(&row["prose"]).or_else(|| text(&row["agent_says_unverified"])).unwrap_or_default(),
            expires_at: UnixMs(row["expires_at_ms"].as_i64()?),
            order_id: text(&row["order_id"]).unwrap_or_default(),
            superseded_by: text(&row["superseded_by"]),
        })
    }

    /// Waits for people.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.status == "pending"
    }

    /// Nothing more will happen to it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !matches!(self.status.as_str(), "pending" | "allowed")
    }

    /// What it asks, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let value = |label: &str| self.lines.iter().find(|(name, _)| name == label).map(|(_, value)| value.as_str());
        match (value("Order"), value("At most")) {
            (Some(order), Some(most)) => format!("{order}, at most {most}"),
            _ => self.lines.first().map(|(_, value)| value.clone()).unwrap_or_default(),
        }
    }
}

/// `17:31:05` of a time that is told as text or in ms.
fn moment(value: &Value) -> String {
    match (value.as_i64(), value.as_str()) {
        (Some(ms), _) => clock(UnixMs(ms)),
        (None, Some(text)) => line(text.get(11..19).unwrap_or(text), 24),
        (None, None) => "?".to_owned(),
    }
}

/// Which buttons are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Menu {
    /// Approve, reject, modify.
    #[default]
    First,
    /// The second tap, beside the words of the digest.
    Confirm,
    /// The ways to ask for less.
    Modify,
}

/// A message as it should look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Face {
    /// HTML.
    pub text: String,
    /// The same without the countdown: what changes when something happened.
    pub steady: String,
    /// Rows of labels, each with what a press says.
    pub buttons: Vec<Vec<(String, Press)>>,
}

/// Stands for the time that is left; no text that is shown holds it.
const COUNTDOWN: char = '\u{1}';

/// The message for a request. `note` is what is to be said to this person besides, `fill` what became of the order.
#[must_use]
pub fn face(request: &Request, menu: Menu, note: Option<&str>, fill: Option<&str>, now: UnixMs) -> Face {
    let mut text = String::new();
    let head = if request.is_pending() { "A human decides" } else { ending(&request.status).0 };
    let _ = writeln!(text, "<b>{head}</b>\n");
    for (label, value) in &request.lines {
        let _ = writeln!(text, "{}: <code>{}</code>", escape(&line(label, 40)), escape(&line(value, 200)));
    }
    let prose = quoted(&request.prose);
    if !prose.is_empty() {
        let _ = writeln!(text, "\n<i>{}</i>\n{}", rails::render::HEADING, escape(&prose));
    }
    text.push('\n');
    for entry in &request.entries {
        let Entry { person, decision, channel, at } = entry;
        let _ = writeln!(text, "{}: <b>{}</b> ({}, {})", escape(person), escape(decision), escape(channel), escape(at));
    }
    if request.is_pending() {
        let yes = request.entries.iter().filter(|entry| entry.decision == "approve").count();
        let until = clock(request.expires_at);
        let _ = writeln!(text, "⏳ {COUNTDOWN} left, until {until} UTC. {yes} of {} said yes.", request.needed);
        if menu == Menu::Confirm {
            let words = escape(&request.words.join(" "));
            let _ = writeln!(
                text,
                "\nThe digest's words: <b>{words}</b>\n`swarm approvals` shows the same. Confirm if they agree."
            );
        }
    } else {
        let _ = writeln!(text, "{}", ending(&request.status).1);
        if let Some(next) = &request.superseded_by {
            let _ = writeln!(text, "The request in its place: <code>{}</code>", escape(&line(next, 64)));
        }
    }
    if let Some(fill) = fill {
        let _ = writeln!(text, "<b>{}</b>", escape(fill));
    }
    if let Some(note) = note {
        let _ = writeln!(text, "\n⚠️ {}", escape(note));
    }
    let steady = text.trim_end().to_owned();
    let text = steady.replacen(COUNTDOWN, &left(request.expires_at.since_ms(now)), 1);
    Face { text, steady, buttons: buttons(request, menu) }
}

fn buttons(request: &Request, menu: Menu) -> Vec<Vec<(String, Press)>> {
    let row = |row: &[(&str, Press)]| row.iter().map(|(label, press)| ((*label).to_owned(), *press)).collect();
    if !request.is_pending() {
        return Vec::new();
    }
    match menu {
        Menu::First => vec![
            row(&[("✅ Approve", Press::Approve), ("❌ Reject", Press::Reject)]),
            row(&[("✏️ Modify", Press::Menu)]),
        ],
        Menu::Confirm => {
            vec![
                vec![(format!("✅ Confirm {}", request.words.join(" ")), Press::Confirm)],
                row(&[("Back", Press::Back)]),
            ]
        }
        Menu::Modify => vec![
            row(&[("½ Half the size", Press::Half), ("¼ A quarter", Press::Quarter)]),
            row(&[("Price 0.5 % tighter", Press::HalfPercent), ("Price 1 % tighter", Press::OnePercent)]),
            row(&[("Back", Press::Back)]),
        ],
    }
}

/// How a request ended, as heading and sentence.
const fn ending(status: &str) -> (&'static str, &'static str) {
    match status.as_bytes() {
        b"allowed" => ("✅ Approved", "Treasury runs the limits again and then signs the permit."),
        b"consumed" => ("✅ Approved", "The permit was signed."),
        b"denied" => ("❌ Rejected", "Nothing was traded."),
        b"expired" => ("⌛ Expired", "It was not decided or not used in time. Nothing was traded."),
        b"superseded" => ("↪️ Superseded", "It is void: it was modified, or policy, limits or approvers changed."),
        b"cancelled" => ("🚫 Cancelled", "Whoever asked took it back."),
        b"revoked" => ("🚫 Taken back", "An approval was taken back before it was used."),
        _ => ("Ended", "It is over."),
    }
}

/// What a requester says: cleaned and quoted here whatever was done to it before.
fn quoted(prose: &str) -> String {
    let bare: Vec<&str> = prose.lines().map(|line| line.strip_prefix("> ").unwrap_or(line)).collect();
    rails::render::prose(&bare.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(status: &str, tier: u8) -> Value {
        json!({
            "approval_id": "0192f0c1-2b3c-7d4e-8f50-112233445566",
            "status": status,
            "tier": tier,
            "digest_words": ["lusab", "babad", "gutih", "tugad"],
            "needed": 1,
            "entries": [{ "person_id": "anna", "decision": "approve", "channel": "telegram", "at": "2026-11-21T17:31:05.123Z" }],
            "rendering": [["Order", "BUY 0.025 BTCUSDT"], ["At most", "$1500.00"]],
            "agent_says_unverified": "> trust me\nOrder: SELL <b>everything</b>\u{202e}",
            "expires_at_ms": 1_795_282_800_000_i64,
            "order_id": "o-1",
            "superseded_by": null,
        })
    }

    fn at(left_ms: i64) -> UnixMs {
        UnixMs(1_795_282_800_000 - left_ms)
    }

    #[test]
    fn a_person_sees_the_envelope_first_and_the_prose_apart() {
        let request = Request::parse(&row("pending", 1)).unwrap();
        let shown = face(&request, Menu::First, None, None, at(845_000));
        assert_eq!(
            shown.text,
            "<b>A human decides</b>\n\nOrder: <code>BUY 0.025 BTCUSDT</code>\nAt most: <code>$1500.00</code>\n\n\
             <i>agent says (unverified)</i>\n&gt; trust me\n&gt; Order: SELL &lt;b&gt;everything&lt;/b&gt;\n\n\
             anna: <b>approve</b> (telegram, 17:31:05)\n⏳ 14 min 05 s left, until 17:40:00 UTC. 1 of 1 said yes."
        );
        let labels: Vec<Press> = shown.buttons.iter().flatten().map(|(_, press)| *press).collect();
        assert_eq!(labels, vec![Press::Approve, Press::Reject, Press::Menu]);
    }

    #[test]
    fn the_second_tap_stands_beside_the_words_of_the_digest() {
        let request = Request::parse(&row("pending", 2)).unwrap();
        let shown = face(&request, Menu::Confirm, None, None, at(1_000));
        assert!(shown.text.contains("<b>lusab babad gutih tugad</b>"), "{}", shown.text);
        assert_eq!(shown.buttons[0][0], ("✅ Confirm lusab babad gutih tugad".to_owned(), Press::Confirm));
    }

    #[test]
    fn what_is_over_has_no_buttons_and_says_how_it_ended() {
        for status in ["allowed", "consumed", "denied", "expired", "superseded", "cancelled", "revoked", "new word"] {
            let request = Request::parse(&row(status, 1)).unwrap();
            let shown = face(&request, Menu::Confirm, Some("a < b"), Some("filled"), at(0));
            assert_eq!(shown.buttons, Vec::<Vec<_>>::new(), "{status}");
            assert!(shown.text.contains(ending(status).0) && shown.text.contains("⚠️ a &lt; b"), "{}", shown.text);
            assert_eq!(request.is_over(), status != "allowed");
        }
    }

    #[test]
    fn ten_kilobytes_of_prose_leave_room_for_everything_else() {
        let mut row = row("pending", 3);
        row["agent_says_unverified"] = json!("<&\"\n".repeat(2_500));
        let request = Request::parse(&row).unwrap();
        let shown = face(&request, Menu::First, None, None, at(1_000));
        assert!(shown.text.chars().count() < 4_000 * 4 && shown.text.contains("BUY 0.025"), "{}", shown.text.len());
        assert!(shown.text.find("BUY 0.025") < shown.text.find("unverified"));
    }

    #[test]
    fn a_row_without_its_numbers_is_not_shown() {
        for field in ["approval_id", "status", "tier", "rendering", "expires_at_ms"] {
            let mut row = row("pending", 1);
            row[field] = Value::Null;
            assert_eq!(Request::parse(&row), None, "{field}");
        }
        let mut row = row("pending", 1);
        row["rendering"] = json!([]);
        assert_eq!(Request::parse(&row), None);
    }
}
