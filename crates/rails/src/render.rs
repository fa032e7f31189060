//! What a human reads of a request, made of the hashed envelope alone. Telegram, command line and web show these lines; what
//! an agent says stands apart below them and can neither look like one of them nor move them out of sight.

use std::fmt::Write;

use domain::canonical::Sha256Digest;
use domain::order::{OrderEnvelope, OrderType, TimeInForce};
use sha2::{Digest, Sha256};

/// Above the words of whoever asked.
pub const HEADING: &str = "agent says (unverified)";
/// Characters kept of them.
pub const MAX_PROSE_CHARS: usize = 500;
/// Lines kept of them: what an agent says never fills a screen.
pub const MAX_PROSE_LINES: usize = 12;
/// Before each of those lines, so that none looks like a field.
const QUOTE: &str = "> ";
/// Marks kept on one letter; more of them would grow over the lines above.
const MAX_MARKS: usize = 2;
/// What is hashed of a rendering begins with this.
const TAG: &[u8] = b"swarm.shown.v1\0";

/// A request as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Label and value of each field, most important first.
    pub lines: Vec<(String, String)>,
    /// What the requester says, cleaned and quoted; empty when it says nothing.
    pub prose: String,
    /// Both as plain text.
    pub text: String,
    /// SHA-256 of that text: stored with each word of a person, as what they were shown.
    pub digest: Sha256Digest,
}

/// Renders a request: the lines of its envelope, then the requester's words under their heading.
#[must_use]
pub fn shown(envelope: &OrderEnvelope, tier: u8, digest: Sha256Digest, reasoning: &str) -> Shown {
    let (lines, prose) = (lines(envelope, tier, digest), prose(reasoning));
    let mut text = String::new();
    for (label, value) in &lines {
        let _ = writeln!(text, "{label}: {value}");
    }
    if !prose.is_empty() {
        let _ = write!(text, "\n{HEADING}\n{prose}\n");
    }
    let digest = Sha256Digest(Sha256::new().chain_update(TAG).chain_update(&text).finalize().into());
    Shown { lines, prose, text, digest }
}

/// The fields of an envelope as people read them. Every value is made of typed numbers and words of this house.
#[must_use]
pub fn lines(envelope: &OrderEnvelope, tier: u8, digest: Sha256Digest) -> Vec<(String, String)> {
    let e = envelope;
    let kind = match (e.order_type, e.time_in_force) {
        (OrderType::Limit, TimeInForce::ImmediateOrCancel) => "limit, what does not trade at once is cancelled",
        (OrderType::Limit, TimeInForce::GoodTillCancelled) => "limit, rests until it trades or ends",
        (OrderType::Market, TimeInForce::ImmediateOrCancel) => "market, bounded by the worst price",
        (OrderType::Market, TimeInForce::GoodTillCancelled) => "market, rests at the worst price",
    };
    let mut lines = vec![
        ("Order", format!("{} {} {}", e.side.word().to_ascii_uppercase(), e.quantity, e.symbol)),
        ("Worst price", format!("${} per unit", e.worst_price)),
        ("At most", format!("${}", e.max_notional_usd)),
        ("Slippage at most", percent(e.max_slippage_bps)),
    ];
    if !e.min_out.is_zero() {
        lines.push(("At least out", e.min_out.to_string()));
    }
    if let Some(slicing) = e.slicing {
        let (count, each, apart) = (slicing.count, slicing.quantity, slicing.every_ms);
        lines.push(("Slices", format!("{count} child orders of {each}, the last with the rest, {apart} ms apart")));
    }
    lines.extend([
        ("Only reduces", if e.reduce_only { "yes" } else { "no" }.to_owned()),
        ("Kind", format!("{} ({kind})", word(&e.action))),
        ("Venue", e.venue.name().to_owned()),
        ("Valid until", e.valid_until.to_string()),
        ("Tier", tier.to_string()),
        ("Account", e.user_id.to_string()),
        ("Order id", e.order_id.to_string()),
        ("Policy", word(&e.policy_version)),
        ("Digest", digest.to_string()),
        ("Digest words", digest_words(digest).join(" ")),
    ]);
    lines.into_iter().map(|(label, value)| (label.to_owned(), value)).collect()
}

/// Four words that can be said aloud, each of two bytes of the digest (the "proquints" of Daniel Wilkerson).
#[must_use]
pub fn digest_words(digest: Sha256Digest) -> [String; 4] {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aiou";
    std::array::from_fn(|at| {
        let bits = usize::from(u16::from_be_bytes([digest.0[2 * at], digest.0[2 * at + 1]]));
        let letters = [
            CONSONANTS[bits >> 12],
            VOWELS[bits >> 10 & 3],
            CONSONANTS[bits >> 6 & 15],
            VOWELS[bits >> 4 & 3],
            CONSONANTS[bits & 15],
        ];
        letters.into_iter().map(char::from).collect()
    })
}

/// What an agent says, made harmless: no character that is unseen, moves others or turns their direction, at most 500
/// characters in at most 12 lines, each quoted. Digits that only look like digits stay as they are: the heading above says
/// whose words these are.
#[must_use]
pub fn prose(said: &str) -> String {
    let mut kept = 0;
    let mut lines: Vec<String> = Vec::new();
    for line in said.split(is_line_break) {
        let mut clean = String::new();
        let mut marks = 0;
        for letter in line.chars().filter(|c| is_shown(*c)) {
            marks = if is_mark(letter) { marks + 1 } else { 0 };
            if marks > MAX_MARKS {
                continue;
            }
            if kept == MAX_PROSE_CHARS {
                break;
            }
            kept += 1;
            clean.push(letter);
        }
        match clean.trim() {
            "" => {}
            clean if lines.len() < MAX_PROSE_LINES => lines.push(format!("{QUOTE}{clean}")),
            clean => {
                kept = MAX_PROSE_CHARS.min(kept + 1);
                if let Some(last) = lines.last_mut().filter(|_| kept < MAX_PROSE_CHARS) {
                    last.push(' ');
                    last.push_str(clean);
                }
            }
        }
    }
    lines.join("\n")
}

/// Hundredths of a percent.
fn percent(bps: u32) -> String {
    format!("{}.{:02} %", bps / 100, bps % 100)
}

/// A word of this house; should another ever stand there, no more than its letters.
fn word(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')).take(64).collect()
}

const fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Marks that stand over or under the letter before them.
const fn is_mark(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// Not a control, not a mark of direction, not unseen.
fn is_shown(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}
