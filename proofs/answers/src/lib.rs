//! How often the cache of language models answers, and how often wrongly, on the swarm's own questions.
//!
//! # How the workload is made
//! - **Market**: the recording beside the repository (BTCUSDT and ETHUSDT, eleven minutes of Binance Spot), or, where there is none, as much
//!   of the built-in market. It is played again and again until the day is over: times shifted, prices going on from where they
//!   stood, every play but the first mirrored by a coin, so that a window of 15 minutes is never the same twice and the day has no
//!   drift of its own. Its liveliness is that of these eleven minutes all day long. Entries expire by this clock.
//! - **What buy_bot sees**: the desk's books and candles, a price at most each 200 ms, buy_bot's own planner, tape and prompt with
//!   the shipped configuration, and the request as its client sends it.
//! - **Signals**: for each of three tenants and two instruments, at random moments (Poisson): an agent's breakouts ($150, half of
//!   the signals), an agent's reversions ($150 or $900, 30 %), a person's buys ($30 to $2,500, 20 %). An agent gives the same reason each
//!   time, as a rule does; a person none. P0 to P7. Half of them trade, at most 20 an hour and tenant, which the rails
//!   would let pass; an exit comes about every ten minutes. Strategies and exits are not there: nobody is asked about them.
//! - **Cache**: as shipped, without Redis; an answer is kept 1.5 s after its question, and who asks in between counts as a miss, though
//!   the router would have them share the call.
//!
//! What is right is said by [`oracle`]. Then come the same day with reasons in the agents' own words and figures, free questions of
//! people ([`chat`]), and questions with one thing changed ([`adversarial`]).

pub mod adversarial;
pub mod asking;
pub mod chat;
pub mod market;
pub mod oracle;
pub mod report;
pub mod workload;

use llm::cache::Settings;

use crate::market::Recording;
use crate::report::Report;
use crate::workload::{Shape, WorkloadError};

/// Least hits on the templated workload, percent.
pub const LEAST_HIT_PERCENT: f64 = 85.0;
/// Wrong answers of the hits stay under it, percent.
pub const MOST_WRONG_PERCENT: f64 = 0.5;
/// Other rates that are told beside the one that is judged, signals an hour and tenant.
const OTHER_RATES: [f64; 3] = [20.0, 60.0, 600.0];

/// The cache as it ships.
#[must_use]
pub fn shipped() -> Settings {
    let text = include_str!("../../../config/llm.toml");
    // Tiers without a key are off, which is no fault.
    llm::config::Config::read(text, &std::collections::BTreeMap::new())
        .map_or_else(|_| Settings::default(), |config| config.cache)
}

/// All of it.
///
/// # Errors
/// [`WorkloadError`].
pub fn run(recording: &Recording, shape: Shape, with_rates: bool) -> Result<Report, WorkloadError> {
    let settings = shipped();
    let asked = workload::day(recording, shape)?;
    let templated = asking::ask(&asked, &settings);
    let adversarial = adversarial::check(&asked, &settings);
    let free = workload::day(recording, Shape { free_reasons: true, ..shape })?;
    let hours = (shape.plays * recording.length_ms / 3_600_000).max(1);
    let chat = chat::questions(recording.begin, hours, shape.seed);
    let mut rates = Vec::new();
    for per_hour in OTHER_RATES.iter().copied().filter(|_| with_rates) {
        let asked = workload::day(recording, Shape { per_hour, ..shape })?;
        rates.push((per_hour, asking::ask(&asked, &settings)));
    }
    Ok(Report {
        market: recording.name.clone(),
        events: recording.events,
        length_ms: recording.length_ms,
        shape,
        templated,
        free: asking::ask(&free, &settings),
        chat: asking::ask(&chat, &settings),
        rates,
        adversarial,
    })
}
