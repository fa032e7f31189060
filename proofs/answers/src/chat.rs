//! Free questions, as people type them: a few things that people want to know, each in several wordings, with and without
//! politeness, capitals and question marks. The truth is what was meant and of what; wordings that differ in more than
//! politeness are left to miss.

use domain::time::UnixMs;
use llm::request::ChatRequest;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::workload::{Asked, TENANTS};

/// Questions an hour, all people together.
pub const PER_HOUR: i64 = 120;

/// What is meant, and ways to word it; `S` is a symbol, `N` a number.
const MEANT: &[&[&str]] = &[
    &["What is the trend of S?", "What is the current trend of S?", "How is S trending?"],
    &["Is S above N?", "Is it true that S is above N?"],
    &["Is S below N?", "Is it true that S is below N?"],
    &["Isn't S above N?", "Is S not above N?"],
    &["Explain what moved S in the last N minutes.", "Explain why S moved in the last N minutes."],
    &["Summarize the sentiment on S", "Summarise the market sentiment on S"],
    &["Should I buy S for N dollars?", "Is it wise to buy S for N dollars?"],
    &["Should I sell S for N dollars?", "Is it wise to sell S for N dollars?"],
    &["Compare the volatility of S with that of gold", "How volatile is S against gold?"],
    &["What does a spread of N bps mean for S?"],
    &["Why did S fall by N percent?", "What is the reason for the N percent fall of S?"],
    &["Why did S rise by N percent?", "What is the reason for the N percent rise of S?"],
];
const SYMBOLS: &[&str] = &["BTC", "BTC", "BTC", "ETH", "ETH", "SOL"];
const NUMBERS: &[&str] = &["5", "5", "5", "10", "10", "15", "50", "1.5"];

/// `hours` of such questions from `begin`.
#[must_use]
pub fn questions(begin: UnixMs, hours: i64, seed: u64) -> Vec<Asked> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xc4a7);
    let step_ms = 3_600_000 / PER_HOUR;
    let one = |rng: &mut ChaCha8Rng, number: i64| {
        let meant = rng.random_range(0..MEANT.len());
        let pick = |list: &[&'static str], rng: &mut ChaCha8Rng| list.choose(rng).copied().unwrap_or_default();
        let (symbol, number_in) = (pick(SYMBOLS, rng), pick(NUMBERS, rng));
        let template = pick(MEANT[meant], rng);
        let text = worded(&fill(template, symbol, number_in), rng);
        let tenant = TENANTS.choose(rng).copied().unwrap_or("operator");
        let mut request = ChatRequest::plain("trading-llm", &text, 300);
        request.extras.tenant = Some(tenant.to_owned());
        let facts = format!("{meant} {symbol} {}", if template.contains('N') { number_in } else { "" });
        Asked { at: begin.plus_ms(number * step_ms), tenant, request, facts, situation: None }
    };
    (0..hours * PER_HOUR).map(|number| one(&mut rng, number)).collect()
}

/// The template with what its words `S` and `N` stand for.
fn fill(template: &str, symbol: &str, number: &str) -> String {
    let word = |word: &str| {
        let name = word.trim_end_matches(['?', '.']);
        let filled = match name {
            "S" => symbol,
            "N" => number,
            _ => name,
        };
        format!("{filled}{}", &word[name.len()..])
    };
    template.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// The same with what people add and leave out.
fn worded(template: &str, rng: &mut ChaCha8Rng) -> String {
    let mut text = template.to_owned();
    if rng.random_bool(0.2) {
        text = text.replacen("What is", "What's", 1).replacen("Isn't", "Is not", 1);
    }
    if rng.random_bool(0.25) {
        text = text.trim_end_matches(['?', '.']).to_owned();
    }
    let begins = text.split(' ').next().unwrap_or_default();
    let is_order = matches!(begins, "Explain" | "Summarize" | "Summarise" | "Compare");
    if is_order && rng.random_bool(0.3) {
        text = format!("Please {}{}", begins.to_lowercase(), &text[begins.len()..]);
    } else if rng.random_bool(0.2) {
        text = format!("{}{}", begins.to_lowercase(), &text[begins.len()..]);
    }
    if rng.random_bool(0.1) {
        text.push_str(if is_order { ", please." } else { " " });
    }
    text
}
