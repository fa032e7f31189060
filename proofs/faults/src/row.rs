//! Plays one fault and holds what came against what must come.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::provider::{Billed, Dialect, KEY, Provider};
use tokio::time::Instant;

use crate::Plan;
use crate::cases::{self, Case, Money, Must, Play};
use crate::client::{Client, End, NO_CACHE, Reply, booked, question, streamed, tier};
use crate::stage::{Doubles, Service, Setup, TEXTS, TIERS};

/// Prices of tiers 2 and 3 as shipped, thousandths of a dollar per million tokens: prompt, answer.
const PRICE_IN: u64 = 50;
const PRICE_OUT: u64 = 80;
/// Tokens by which an estimate of one request may be above the provider's bill.
const ESTIMATE_TOKENS: u64 = 64;

/// What one fault came to.
#[derive(Debug, Clone)]
pub struct Row {
    /// The fault.
    pub name: &'static str,
    /// Asked with `stream: true`.
    pub stream: bool,
    /// What the first client saw: `yes`, or the code of an explained error, or `NO`.
    pub answered: String,
    /// Who answered the first; the last, where that was another.
    pub tier: String,
    /// Calls of each tier by the first request.
    pub calls_first: [usize; 3],
    /// Requests in all.
    pub requests: usize,
    /// Calls of each tier by all.
    pub calls_all: [usize; 3],
    /// Time beyond the direct answer of the tier that answered, ms: the first request.
    pub lost_first_ms: f64,
    /// The same, median of the later ones.
    pub lost_later_ms: f64,
    /// Booked by the router, millionths of a dollar.
    pub booked_micros: u64,
    /// The providers' bill for the same, rounded up once.
    pub billed_micros: u64,
    /// What is not as it must be.
    pub wrong: Vec<String>,
}

/// How long a double takes to answer somebody who asks it without a router, ms.
#[derive(Debug, Clone, Copy)]
struct Direct([f64; 3]);

/// Plays every fault; each row is told as soon as it is there.
///
/// # Errors
/// What kept a row from being played at all.
pub async fn all(plan: &Plan, mut tell: impl FnMut(&Row)) -> Result<Vec<Row>, String> {
    let direct = Direct::measure().await?;
    let mut rows = Vec::new();
    for case in cases::all().into_iter().filter(|case| plan.wants(case.name)) {
        let row = play(&case, direct).await.map_err(|error| format!("{}: {error}", case.name))?;
        tell(&row);
        rows.push(row);
    }
    Ok(rows)
}

/// Plays one fault on a stage of its own.
///
/// # Errors
/// What kept it from being played.
pub async fn one(case: &Case) -> Result<Row, String> {
    play(case, Direct::measure().await?).await
}

async fn play(case: &Case, direct: Direct) -> Result<Row, String> {
    let doubles = Doubles::start().await;
    let service = Service::start(&doubles, &Setup { lines: case.lines.clone(), ..Setup::default() }).await?;
    let client = &service.client;
    for name in TIERS {
        client.warm(name).await?;
    }
    let warmed = doubles.calls();
    let tries = tier(&client.state().await?, TIERS[0])["calls"].as_u64().unwrap_or(0);
    let free = [1, 2].map(|at| doubles.0[at].billed());
    for (at, play) in &case.plays {
        let double = &doubles.0[*at];
        match play {
            Play::Once(fault) => double.play(vec![fault.clone()]),
            Play::Always(fault) => double.always(fault.clone()),
            Play::Flap(fault) => double.flap(fault.clone()),
            Play::Dead => double.die().await,
        }
    }
    let mut replies: Vec<Reply> = Vec::new();
    let mut calls_first = [0; 3];
    for number in 0..case.requests {
        replies.push(client.ask(headers(case), &body(case, number)).await);
        if number == 0 {
            calls_first = minus(doubles.calls(), warmed);
        }
    }
    let calls_all = minus(doubles.calls(), warmed);
    let state = client.state().await?;
    let bill = [1, 2].map(|at| minus_billed(doubles.0[at].billed(), free[at - 1]));
    let mut row = told(case, &replies, direct);
    (row.calls_first, row.calls_all) = (calls_first, calls_all);
    (row.booked_micros, row.billed_micros) = (booked(&state), bill.iter().map(|b| cost(b.prompt, b.completion)).sum());
    check(case, &replies, &mut row);
    if let Some(expected) = case.tries {
        let tried = tier(&state, TIERS[0])["calls"].as_u64().unwrap_or(0) - tries;
        require(&mut row, tried == expected, || format!("{tried} tries at tier 1, not {expected}"));
    }
    for (double, name) in doubles.0.iter().zip(TIERS) {
        let violations = double.violations();
        require(&mut row, violations.is_empty(), || format!("{name} was asked wrongly: {violations:?}"));
    }
    if !matches!(case.first, Must::Answer(_)) {
        not_kept(case, &doubles, client, &mut row).await;
    }
    Ok(row)
}

/// What failed must not be in a cache: once all is well again the same question is asked of a tier.
async fn not_kept(case: &Case, doubles: &Doubles, client: &Client, row: &mut Row) {
    doubles.0.iter().for_each(Provider::healthy);
    let before = doubles.calls();
    let again = client.ask(&[], &body(case, 0)).await;
    let asked = minus(doubles.calls(), before).iter().sum::<usize>();
    let cached = again.mark("x-swarm-cache");
    // With every breaker open nobody is asked, and nothing may stand in.
    let is_fresh = if again.is_answer() { asked == 1 && cached == "none" } else { cached == "none" };
    require(row, is_fresh, || format!("a repetition came from the cache: {cached}, {asked} calls"));
}

/// Requests whose failure the client hears use the cache as any other, so that something could be kept wrongly.
fn headers(case: &Case) -> &'static [(&'static str, &'static str)] {
    if matches!(case.first, Must::Answer(_)) { &[NO_CACHE] } else { &[] }
}

fn body(case: &Case, number: usize) -> Value {
    let names = ["BTC", "ETH", "SOL", "XRP", "ADA", "DOT", "LTC", "BCH", "UNI", "XLM", "TRX", "ETC"];
    let name = names[number % names.len()];
    let mut body = question(&format!("Signal {number}: {name} moved by {}.{number} percent. Hold or buy?", number * 7));
    if case.prefill
        && let Some(messages) = body["messages"].as_array_mut()
    {
        messages.push(json!({ "role": "assistant", "content": "My verdict is" }));
    }
    if case.stream { streamed(body) } else { body }
}

fn told(case: &Case, replies: &[Reply], direct: Direct) -> Row {
    let lost: Vec<f64> = replies.iter().map(|reply| direct.lost_ms(reply)).collect();
    let (first, last) = (replies.first(), replies.last());
    let who = |reply: Option<&Reply>| reply.map(answering).unwrap_or_default();
    let tier = if who(first) == who(last) { who(first) } else { format!("{}, then {}", who(first), who(last)) };
    Row {
        name: case.name,
        stream: case.stream,
        answered: first.map(|reply| word(&reply.end)).unwrap_or_default(),
        tier,
        calls_first: [0; 3],
        requests: case.requests,
        calls_all: [0; 3],
        lost_first_ms: lost.first().copied().unwrap_or(0.0),
        lost_later_ms: median(lost.get(1..).unwrap_or_default()),
        booked_micros: 0,
        billed_micros: 0,
        wrong: Vec::new(),
    }
}

fn answering(reply: &Reply) -> String {
    match reply.mark("x-swarm-tier") {
        "" => "-".to_owned(),
        name => name.to_owned(),
    }
}

fn word(end: &End) -> String {
    match end {
        End::Answer => "yes".to_owned(),
        End::Refused { code, .. } => code.clone(),
        End::CutShort { code, .. } => format!("cut: {code}"),
        End::Unexplained(_) => "NO".to_owned(),
    }
}

fn check(case: &Case, replies: &[Reply], row: &mut Row) {
    for (at, reply) in replies.iter().enumerate() {
        let must = if at == 0 { std::slice::from_ref(&case.first) } else { &case.later };
        let fits = must.iter().any(|must| fits(*must, reply));
        let seen = (reply.status, &reply.end, reply.mark("x-swarm-attempts"), reply.content.as_str());
        require(row, fits, || format!("request {}: {must:?} was due, {seen:?} came", at + 1));
    }
    let (first, all) = (row.calls_first, row.calls_all);
    require(row, first == case.calls_first, || format!("first: calls {first:?}, not {:?}", case.calls_first));
    require(row, all == case.calls_all, || format!("all: calls {all:?}, not {:?}", case.calls_all));
    let (lost, most) = (row.lost_first_ms, case.first_loses_ms);
    require(row, lost <= most as f64, || format!("the first lost {lost:.0} ms, not at most {most}"));
    let paid = |reply: &&Reply| reply.is_answer() && reply.mark("x-swarm-tier") != TIERS[0];
    let (booked, billed) = (row.booked_micros, row.billed_micros);
    match case.money {
        Money::AsTold => {
            let of = |reply: &Reply| reply.usage.map_or(u64::MAX, |(prompt, answer)| cost(prompt, answer));
            let due: u64 = replies.iter().filter(paid).map(of).fold(0, u64::saturating_add);
            require(row, booked == due, || format!("{booked} was booked, and what was told costs {due}"));
        }
        Money::Estimated => {
            let slack = case.requests as u64 * (1 + cost(ESTIMATE_TOKENS, ESTIMATE_TOKENS));
            let is_near = booked >= billed && booked <= billed + slack;
            require(row, is_near, || format!("{booked} was booked for a bill of {billed}, at most {slack} more"));
        }
    }
}

fn fits(must: Must, reply: &Reply) -> bool {
    let from = |tier: usize| reply.mark("x-swarm-tier") == TIERS[tier] && reply.mark("x-swarm-cache") == "none";
    match (must, &reply.end) {
        (Must::Answer(tier), End::Answer) => from(tier) && reply.content == TEXTS[tier],
        (Must::Refused(due), End::Refused { code, .. }) => code == due,
        (Must::CutShort(tier, due), End::CutShort { code, .. }) => {
            code == due && from(tier) && !reply.content.is_empty() && TEXTS[tier].starts_with(&reply.content)
        }
        _ => false,
    }
}

fn require(row: &mut Row, holds: bool, why: impl FnOnce() -> String) {
    if !holds {
        row.wrong.push(why());
    }
}

/// What so many tokens cost at tiers 2 and 3, millionths of a dollar, rounded up.
#[must_use]
pub fn cost(prompt: u64, answer: u64) -> u64 {
    (prompt * PRICE_IN + answer * PRICE_OUT).div_ceil(1_000)
}

fn minus(now: [usize; 3], before: [usize; 3]) -> [usize; 3] {
    [now[0] - before[0], now[1] - before[1], now[2] - before[2]]
}

fn minus_billed(now: Billed, before: Billed) -> Billed {
    Billed { prompt: now.prompt - before.prompt, completion: now.completion - before.completion }
}

/// The middle one; 0 of none.
#[must_use]
pub fn median(numbers: &[f64]) -> f64 {
    let mut numbers = numbers.to_vec();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}

impl Direct {
    async fn measure() -> Result<Self, String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ollama = Self::of(Dialect::Ollama, "/api/chat").await?;
        let openai = Self::of(Dialect::OpenAi, "/openai/v1/chat/completions").await?;
        Ok(Self([ollama, openai, openai]))
    }

    async fn of(dialect: Dialect, path: &str) -> Result<f64, String> {
        let double = Provider::start(dialect).await;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build();
        let http = http.map_err(|error| error.to_string())?;
        let mut took = Vec::new();
        for number in 0..25 {
            let text = format!("Question {number}");
            let message = json!({ "role": "user", "content": text });
            let body = json!({ "model": "m", "messages": [message], "stream": false });
            let began = Instant::now();
            let request = http.post(format!("{}{path}", double.url())).bearer_auth(KEY).json(&body);
            let answer = async { request.send().await?.error_for_status()?.text().await };
            answer.await.map_err(|error| format!("the double alone: {error}"))?;
            took.push(began.elapsed().as_secs_f64() * 1e3);
        }
        Ok(median(&took))
    }

    fn lost_ms(self, reply: &Reply) -> f64 {
        let answered = TIERS.iter().position(|name| *name == reply.mark("x-swarm-tier"));
        let direct = answered.filter(|_| reply.is_answer()).map_or(0.0, |at| self.0[at]);
        (reply.took.as_secs_f64() * 1e3 - direct).max(0.0)
    }
}
