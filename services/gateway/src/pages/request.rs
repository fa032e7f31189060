//! One approval request: what is decided on, rendered by the supervisor from the hashed envelope; what the agent says
//! about it, set apart; and the forms.

use domain::time::UnixMs;
use maud::{Markup, html};
use serde_json::Value;

use super::words::{at, left, rows, text, when};
use super::{Around, OneRequest};
use crate::desk::Look;

/// The tier from which on two of the digest's words must be typed.
pub const WORDS_FROM_TIER: u64 = 2;

/// What was typed, when a form comes back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    /// Which form.
    pub decision: String,
    /// As typed.
    pub reason: String,
    /// As typed.
    pub quantity: String,
    /// As typed.
    pub worst_price: String,
    /// Why it came back.
    pub wrong: String,
}

/// The order in one line, from the hashed envelope.
#[must_use]
pub fn headline(row: &Value) -> String {
    match &row["summary"] {
        Value::Null => "Approval request".to_owned(),
        summary => text(summary),
    }
}

fn until(row: &Value) -> Option<UnixMs> {
    row["expires_at_ms"].as_i64().map(UnixMs)
}

/// How long it can still be decided.
#[must_use]
pub fn countdown(row: &Value, now: UnixMs) -> Markup {
    let Some(until) = until(row) else { return html! { span { "until " (text(&row["expires_at"])) } } };
    html! {
        span.countdown {
            strong data-until=(until.0) { (left(until, now)) }
            " (until " (when(until, now)) ")"
        }
    }
}

/// Who decided what so far, and how many are needed.
#[must_use]
pub fn votes(row: &Value) -> Markup {
    let entries = rows(&row["entries"]);
    let yes = entries.iter().filter(|entry| entry["decision"] == "approve").count();
    html! {
        span.votes { "tier " (text(&row["tier"])) ", " (yes) " of " (text(&row["needed"])) " approvals" }
    }
}

/// The lines of the hashed envelope, in the supervisor's order and words; the first `most` of them.
#[must_use]
pub fn rendering(row: &Value, most: usize) -> Markup {
    let lines = rows(&row["rendering"]);
    html! {
        @if lines.is_empty() {
            p.note.bad { "The supervisor sent no rendering of the envelope: this can't be decided here." }
        } @else {
            dl.lines {
                @for line in lines.iter().take(most) {
                    @let value = text(&line[1]);
                    @let length = value.chars().count();
                    div.long[length > 34].longish[length > 18] { dt { (text(&line[0])) } dd { bdi { (value) } } }
                }
            }
        }
    }
}

/// Lines shown where a request only waits; its own page has all of them.
pub const FIRST_LINES: usize = 4;
/// Lines kept of what an agent says.
const MOST_PROSE_LINES: usize = 12;

/// What the agent says: never part of what is decided on, and unable to reach out of its box.
#[must_use]
pub fn prose(row: &Value) -> Markup {
    // The supervisor's own cleaning comes first where it is there; it quotes each line.
    let said = row["prose"].as_str().or_else(|| row["agent_says_unverified"].as_str()).unwrap_or_default();
    let mut left = 500_usize;
    let mut lines = Vec::new();
    for line in said.split('\n').take(MOST_PROSE_LINES) {
        let line: String = domain::message::clean_text(line).trim().chars().take(left).collect();
        left -= line.chars().count();
        if !line.is_empty() {
            lines.push(line);
        }
    }
    html! {
        @if !lines.is_empty() {
            div.says {
                p.label { "agent says (unverified)" }
                blockquote dir="ltr" { @for line in &lines { p { (line) } } }
            }
        }
    }
}

fn meaning(status: &str) -> (&'static str, &'static str, &'static str) {
    match status {
        "pending" => ("warn", "◌", "Waits for a person"),
        "allowed" => ("good", "✓", "Allowed; the treasury checks again and signs"),
        "consumed" => ("good", "✓", "Allowed and permitted: it is the desk's now"),
        "denied" => ("bad", "✕", "Denied"),
        "expired" => ("bad", "✕", "Expired: nobody decided in time"),
        "superseded" => ("quiet", "→", "Replaced by another request"),
        "revoked" => ("bad", "✕", "Revoked"),
        "cancelled" => ("quiet", "✕", "Cancelled"),
        _ => ("warn", "?", "Unknown state"),
    }
}

/// Where the request stands and who decided what: kept up to date while the page is open.
#[must_use]
pub fn state(request: &OneRequest, now: UnixMs) -> Markup {
    let OneRequest::Found(row) = request else { return html! {} };
    let status = row["status"].as_str().unwrap_or_default();
    let (class, sign, words) = meaning(status);
    html! {
        p.meta data-status=(status) {
            span.pill.(class) { span aria-hidden="true" { (sign) " " } (words) }
            @if status == "pending" { (countdown(row, now)) }
            (votes(row))
        }
        @if let Some(next) = row["superseded_by"].as_str() {
            p { a.button href=(format!("/approvals/{next}")) { "To the request that replaced it" } }
        }
        @if !rows(&row["entries"]).is_empty() {
            ul.entries aria-label="Decisions so far" {
                @for entry in rows(&row["entries"]) {
                    li {
                        strong { (text(&entry["person_id"])) } " " (text(&entry["decision"]))
                        " by " (text(&entry["channel"])) ", " (at(&entry["at"], now))
                    }
                }
            }
        }
    }
}

/// The whole page.
#[must_use]
pub fn body(request: &OneRequest, look: &Look, around: Around<'_>) -> Markup {
    let row = match request {
        OneRequest::Found(row) => row,
        OneRequest::Unknown => {
            return html! {
                h1 { "No such request" }
                p { "No approval request has this id." }
                p { a.button href="/" { "To the desk" } }
            };
        }
        OneRequest::Lost => {
            return html! {
                h1 { "Not known" }
                p { "The supervisor does not answer; load this page again when it is back." }
            };
        }
    };
    let status = row["status"].as_str().unwrap_or_default();
    let can_be_shown = !rows(&row["rendering"]).is_empty();
    html! {
        h1 { (headline(row)) }
        div #request-state { (state(request, look.at)) }
        section.card aria-labelledby="h-what" {
            h2 #h-what { "What you decide on" }
            (rendering(row, usize::MAX))
        }
        (prose(row))
        @if can_be_shown && matches!(status, "pending" | "allowed") {
            section aria-labelledby="h-decide" {
                h2 #h-decide { "Your decision" }
                @if let Some(draft) = around.draft {
                    div.note.bad role="alert" {
                        strong { span aria-hidden="true" { "✕ " } "Not taken: " } (text(&draft.wrong.clone().into()))
                    }
                }
                (forms(row, status, around))
            }
        }
        p { a.button href="/" { "Back to the desk" } }
    }
}

struct Form {
    decision: &'static str,
    label: &'static str,
    class: &'static str,
    what: &'static str,
}

const APPROVE: Form =
    Form { decision: "approve", label: "Approve", class: "primary", what: "Yes to exactly what is listed above." };
const REJECT: Form = Form { decision: "reject", label: "Reject", class: "danger", what: "One no ends the request." };
const MODIFY: Form = Form {
    decision: "modify",
    label: "Make it smaller or tighter",
    class: "change",
    what: "A smaller quantity or a worst price that gives less room makes a new request, checked by the rails again. You \
           are asked again; this is no approval.",
};
const REVOKE: Form = Form {
    decision: "revoke",
    label: "Revoke",
    class: "danger",
    what: "Takes the approval back, if the treasury has not used it yet.",
};

fn forms(row: &Value, status: &str, around: Around<'_>) -> Markup {
    let offered: &[&Form] = if status == "pending" { &[&APPROVE, &REJECT, &MODIFY] } else { &[&REVOKE] };
    html! { div.decisions { @for form in offered { (one_form(row, around, form)) } } }
}

/// One form: what it means, what may be typed, a code, a button.
fn one_form(row: &Value, around: Around<'_>, form: &Form) -> Markup {
    let Form { decision, label, class, what } = form;
    let draft = around.draft.filter(|draft| draft.decision == *decision);
    let typed = |pick: fn(&Draft) -> &String| draft.map(|draft| pick(draft).clone()).unwrap_or_default();
    let is_large = row["tier"].as_u64().is_none_or(|tier| tier >= WORDS_FROM_TIER);
    html! {
        details.decision.(class) name="decision" open[draft.is_some()] {
            summary { (label) "…" }
            form method="post" action=(format!("/approvals/{}/decide", text(&row["approval_id"]))) {
                input type="hidden" name="csrf" value=(around.visitor.csrf);
                input type="hidden" name="digest" value=(text(&row["digest"]));
                input type="hidden" name="decision" value=(decision);
                p { (what) }
                @if *decision == "modify" {
                    @let quantity = html! { "New quantity, below " (text(&row["quantity"])) };
                    @let price = html! { "New worst price, " (tighter(row)) " " (text(&row["worst_price"])) };
                    (number(&format!("{decision}-quantity"), "quantity", &quantity, &typed(|d| &d.quantity)))
                    (number(&format!("{decision}-price"), "worst_price", &price, &typed(|d| &d.worst_price)))
                }
                (reason(&format!("{decision}-reason"), &typed(|d| &d.reason)))
                @if *decision == "approve" && is_large { (two_words(&format!("{decision}-words"))) }
                (code(&format!("{decision}-totp")))
                button type="submit" class=(class) { (label) }
            }
        }
    }
}

/// Which way a worst price gives less room.
fn tighter(row: &Value) -> &'static str {
    if row["side"].as_str().is_some_and(|side| side.eq_ignore_ascii_case("sell")) { "above" } else { "below" }
}

fn number(id: &str, name: &str, label: &Markup, typed: &str) -> Markup {
    html! {
        div.field {
            label for=(id) { (label) }
            input id=(id) name=(name) type="text" inputmode="decimal" maxlength="40" autocomplete="off" value=(typed);
        }
    }
}

fn reason(id: &str, typed: &str) -> Markup {
    html! {
        div.field {
            label for=(id) { "Reason " span.quiet { "(may stay empty)" } }
            input id=(id) name="reason" type="text" maxlength="500" autocomplete="off" value=(typed);
        }
    }
}

fn two_words(id: &str) -> Markup {
    html! {
        div.field {
            label for=(id) { "First and last word of the digest" }
            input id=(id) name="words" type="text" autocomplete="off" autocapitalize="none" spellcheck="false"
                maxlength="80" required aria-describedby=(format!("{id}-help"));
            p.quiet id=(format!("{id}-help")) { "From “Digest words” above; compare with another device if you can." }
        }
    }
}

fn code(id: &str) -> Markup {
    html! {
        div.field {
            label for=(id) { "Code from your authenticator" }
            input.code id=(id) name="totp" type="text" inputmode="numeric" autocomplete="one-time-code"
                pattern="[0-9 ]{6,7}" maxlength="7" required aria-describedby=(format!("{id}-help"));
            p.quiet id=(format!("{id}-help")) { "A fresh one: each is good once." }
        }
    }
}
