//! Quotas and budgets: never passed by one request or one millionth of a dollar, whatever happens at once, to the router
//! or to Valkey.

use std::time::Duration;

use futures::future::join_all;
use llm::request::ChatRequest;
use serde_json::{Value, json};
use testkit::provider::{Fault, Provider};
use testkit::servers::{TestValkey, fresh_valkey};
use tokio::time::Instant;

use super::{Checked, Line};
use crate::Plan;
use crate::client::{Client, End, NO_CACHE, Reply, booked, question};
use crate::stage::{Doubles, Line as Setting, Service, Setup, chain, without_quota};

const AT_ONCE: usize = 200;
const A_DAY: usize = 57;
const WHOLE: u64 = 10;
const MOST_TOKENS: u64 = 100;
/// So long nothing passes before a limit is taken for reached.
const REFUSED_FOR: Duration = Duration::from_millis(700);
/// Deadline and grace of a reservation, and a little.
const SETTLED_WITHIN: Duration = Duration::from_secs(5 + 60 + 10);

pub(super) async fn run(plan: &Plan) -> Checked {
    let valkey = valkey().await?;
    let mut found = vec![day(plan, &valkey).await?];
    found.extend(budget(plan).await?);
    found.extend(killed(plan).await?);
    found.extend(lost().await?);
    Ok(found)
}

/// A Valkey of one's own; it is started by a call that waits.
async fn valkey() -> Result<TestValkey, String> {
    tokio::task::spawn_blocking(fresh_valkey).await.map_err(|error| format!("no Valkey: {error}"))
}

/// Groq alone, with these limits and prices of 1 and 2 dollars a million, so that a token is a millionth of a dollar or two.
fn lines(more: &[(&'static str, String)]) -> Vec<Setting> {
    let mut lines = without_quota("tier.groq");
    lines.extend([
        chain(&["groq"]),
        ("tier.groq", "input_usd_per_million", "\"1\"".to_owned()),
        ("tier.groq", "output_usd_per_million", "\"2\"".to_owned()),
    ]);
    lines.extend(more.iter().map(|(name, value)| ("tier.groq", *name, value.clone())));
    lines
}

async fn stage(
    valkey: &TestValkey,
    lines: Vec<Setting>,
    plan: Option<&Plan>,
) -> Result<(Doubles, Service, Setup), String> {
    let doubles = Doubles::start().await;
    let setup = Setup { lines, redis_url: Some(valkey.url()), program: plan.map(|plan| plan.program.clone()) };
    let service = Service::start(&doubles, &setup).await?;
    joined(&service.client).await?;
    Ok((doubles, service, setup))
}

/// Waits until the router counts in Valkey.
async fn joined(client: &Client) -> Result<Value, String> {
    client.wait_until("it counts in Valkey", |state| state["quota"]["degraded"] == false).await
}

/// All questions have the same length, so that all are reserved the same.
fn body(number: usize) -> Value {
    let mut body = question(&format!("Question number {number:04}"));
    body["max_tokens"] = json!(MOST_TOKENS);
    body
}

/// What one request is reserved: the most that it can cost.
fn reserved() -> Result<u64, String> {
    let request = ChatRequest::parse(body(0).to_string().as_bytes()).map_err(|error| error.message)?;
    Ok(request.most_prompt_tokens() + 2 * MOST_TOKENS)
}

async fn storm(client: &Client, from: usize, count: usize) -> Vec<Reply> {
    let asked: Vec<_> = (from..from + count).map(|number| client.ask_later(&[NO_CACHE], body(number))).collect();
    join_all(asked).await.into_iter().filter_map(Result::ok).collect()
}

/// Asks one after the other until nothing passed for a while: a storm leaves some room where an answer of Valkey came so late
/// that the router decided alone, and Valkey hears a moment later that what it had counted did not run.
async fn until_refused(client: &Client, from: usize) -> Vec<Reply> {
    let mut replies = Vec::new();
    let mut passed = Instant::now();
    for number in from.. {
        let reply = client.ask(&[NO_CACHE], &body(number)).await;
        if reply.is_answer() {
            passed = Instant::now();
        }
        replies.push(reply);
        if passed.elapsed() > REFUSED_FOR {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    replies
}

fn answered(replies: &[Reply]) -> usize {
    replies.iter().filter(|reply| reply.is_answer()).count()
}

/// Answers that the router let pass by its own knowledge alone.
fn marked(replies: &[Reply]) -> usize {
    replies.iter().filter(|reply| reply.is_answer() && reply.mark("x-swarm-degraded") == "true").count()
}

/// Whether all that were not answered were refused for this reason.
fn rest_is(replies: &[Reply], due: &str) -> bool {
    let is_so = |reply: &Reply| matches!(&reply.end, End::Refused { code, .. } if code == due);
    replies.iter().all(|reply| reply.is_answer() || is_so(reply))
}

fn day_requests(state: &Value) -> u64 {
    state["quota"]["tiers"]["groq"]["day_requests"].as_u64().unwrap_or(0)
}

async fn day(plan: &Plan, valkey: &TestValkey) -> Result<Line, String> {
    let (doubles, service, _) = stage(valkey, lines(&[("requests_per_day", A_DAY.to_string())]), Some(plan)).await?;
    let mut replies = storm(&service.client, 0, AT_ONCE).await;
    let in_storm = doubles.0[1].calls();
    replies.extend(until_refused(&service.client, AT_ONCE).await);
    let calls = doubles.0[1].calls();
    Ok(Line::new(
        format!("quota: {AT_ONCE} at once, {A_DAY} a day: exactly {A_DAY} calls"),
        calls == A_DAY && answered(&replies) == A_DAY && rest_is(&replies, "quota_spent"),
        format!(
            "{calls} calls ({in_storm} of them at once, {} decided without Valkey's answer), {} refused with quota_spent",
            marked(&replies),
            replies.len() - answered(&replies)
        ),
    ))
}

/// Twice: with answers that cost all that was reserved, and with answers that cost less.
async fn budget(plan: &Plan) -> Checked {
    let reserved = reserved()?;
    // Room for ten whole requests, and all but a millionth of an eleventh.
    let micros = WHOLE * reserved + reserved - 1;
    let usd = format!("\"{}.{:06}\"", micros / 1_000_000, micros % 1_000_000);
    let mut found = Vec::new();
    for dear in [true, false] {
        let valkey = valkey().await?;
        let (doubles, service, _) = stage(&valkey, lines(&[("usd_per_month", usd.clone())]), Some(plan)).await?;
        let groq = &doubles.0[1];
        if dear {
            groq.always(Fault::WrongUsage { prompt: reserved - 2 * MOST_TOKENS, completion: MOST_TOKENS });
        }
        let mut replies = storm(&service.client, 0, AT_ONCE).await;
        replies.extend(until_refused(&service.client, AT_ONCE).await);
        let booked = booked(&service.client.state().await?);
        let told: u64 = replies.iter().filter(|reply| reply.is_answer()).map(Reply::cost_micros).sum();
        let calls = groq.calls() as u64;
        let is_exact =
            if dear { calls == WHOLE && booked == WHOLE * reserved } else { micros - booked.min(micros) < reserved };
        let name = if dear { "answers cost all that was reserved" } else { "answers cost less" };
        found.push(Line::new(
            format!("budget: {AT_ONCE} at once, {micros} millionths a month ({name})"),
            booked <= micros
                && told == booked
                && is_exact
                && rest_is(&replies, "budget_spent")
                && answered(&replies) as u64 == calls,
            format!(
                "{calls} calls, {booked} booked, {} left, less than the {reserved} that one reserves",
                micros - booked.min(micros)
            ),
        ));
    }
    Ok(found)
}

/// The router is killed while requests run, and comes back.
async fn killed(plan: &Plan) -> Checked {
    const BEFORE: usize = 20;
    const RUNNING: usize = 10;
    let valkey = valkey().await?;
    let limits = lines(&[("requests_per_day", A_DAY.to_string())]);
    let (doubles, mut service, setup) = stage(&valkey, limits, Some(plan)).await?;
    let groq = &doubles.0[1];
    let before = storm(&service.client, 0, BEFORE).await;
    let each = before.first().map_or(0, Reply::cost_micros);
    groq.hold();
    let headers = [NO_CACHE, ("x-swarm-deadline-ms", "5000")];
    let asked = Instant::now();
    let running: Vec<_> =
        (0..RUNNING).map(|number| service.client.ask_later(&headers, body(BEFORE + number))).collect();
    service.client.wait_until("ten run", |_| groq.calls() == BEFORE + RUNNING).await?;
    // An answer of Valkey that came late is caught up with: ten are open there.
    let mut open_ids = open(&valkey).await?;
    while open_ids.len() != RUNNING && asked.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        open_ids = open(&valkey).await?;
    }
    service.kill().await?;
    let cut = join_all(running).await.into_iter().filter_map(Result::ok).filter(|reply| !reply.is_answer()).count();
    groq.release_all();
    let service = Service::start(&doubles, &setup).await?;
    joined(&service.client).await?;
    let mut replies = storm(&service.client, 100, AT_ONCE).await;
    replies.extend(until_refused(&service.client, 100 + AT_ONCE).await);
    let (state, calls) = (service.client.state().await?, groq.calls());
    let due = (A_DAY - RUNNING) as u64 * each + RUNNING as u64 * reserved()?;
    let good = answered(&before) == BEFORE
        && cut == RUNNING
        && open_ids.len() == RUNNING
        && calls == A_DAY
        && answered(&replies) == A_DAY - BEFORE - RUNNING
        && rest_is(&replies, "quota_spent")
        && day_requests(&state) == A_DAY as u64
        && booked(&state) == due;
    let mut found = vec![Line::new(
        format!("quota: kill -9 with {RUNNING} requests under way, restart: the limit holds"),
        good,
        format!(
            "{BEFORE} before, {cut} cut, {} after: {calls} calls of {A_DAY}; booked {}, the cut ones in full ({due} due)",
            answered(&replies),
            booked(&state)
        ),
    )];
    if !plan.short {
        found.push(closed(&service.client, &valkey, &open_ids, asked, due).await?);
    }
    Ok(found)
}

/// What a killed process left open ends a minute after its deadline, and counts in full for good.
async fn closed(
    client: &Client,
    valkey: &TestValkey,
    left: &[String],
    asked: Instant,
    due: u64,
) -> Result<Line, String> {
    let mut passed = 0;
    loop {
        // Whoever counts next closes what is over.
        passed += usize::from(client.ask(&[NO_CACHE], &body(1)).await.is_answer());
        let open = open(valkey).await?;
        let still = left.iter().filter(|id| open.contains(id)).count();
        let after = asked.elapsed();
        if still == 0 || after > SETTLED_WITHIN {
            let booked = booked(&client.state().await?);
            return Ok(Line::new(
                "quota: what the killed one left open settles in full after its deadline",
                still == 0 && passed == 0 && booked == due,
                format!(
                    "{still} of {} open after {:.0} s; {passed} more passed, booked {booked}",
                    left.len(),
                    after.as_secs_f64()
                ),
            ));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Ids of the reservations of Groq that are open in Valkey. Those with a mark are remembered as over.
async fn open(valkey: &TestValkey) -> Result<Vec<String>, String> {
    let read = async {
        let client = redis::Client::open(valkey.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("ZRANGE").arg("llm:quota:open:groq").arg(0).arg(-1).query_async::<Vec<String>>(&mut connection).await
    };
    let all = read.await.map_err(|error: redis::RedisError| error.to_string())?;
    Ok(all.into_iter().filter(|id| !id.starts_with('!')).collect())
}

/// Valkey dies with all it held and comes back empty.
async fn lost() -> Checked {
    const LIMIT: usize = 40;
    const BEFORE: usize = 10;
    let valkey = valkey().await?;
    let (doubles, service, _) = stage(&valkey, lines(&[("requests_per_day", LIMIT.to_string())]), None).await?;
    let (client, groq): (&Client, &Provider) = (&service.client, &doubles.0[1]);
    let mut before = Vec::new();
    for number in 0..BEFORE {
        before.push(client.ask(&[NO_CACHE], &body(number)).await);
    }
    let valkey = blocking(valkey, TestValkey::kill).await?;
    let alone = storm(client, 100, AT_ONCE).await;
    let (alone_passed, alone_marked) = (answered(&alone), marked(&alone));
    let mut found = vec![Line::new(
        format!("quota: Valkey killed: fewer of {LIMIT} a day pass, and say so"),
        answered(&before) == BEFORE
            && alone_passed > 0
            && alone_passed <= (LIMIT - BEFORE) / 2
            && alone_marked == alone_passed
            && rest_is(&alone, "quota_spent"),
        format!(
            "{BEFORE} before; {alone_passed} of the {} left, {alone_marked} marked x-swarm-degraded",
            LIMIT - BEFORE
        ),
    )];
    let valkey = blocking(valkey, TestValkey::start_again).await?;
    let state = joined(client).await?;
    let carried = day_requests(&state);
    let mut after = storm(client, 400, AT_ONCE).await;
    after.extend(until_refused(client, 700).await);
    let calls = groq.calls();
    found.push(Line::new(
        "quota: Valkey back, empty: reconciled, and the limit holds",
        carried == (BEFORE + alone_passed) as u64
            && calls == LIMIT
            && answered(&after) == LIMIT - BEFORE - alone_passed
            && rest_is(&after, "quota_spent"),
        format!("{carried} carried over, {} more pass: {calls} calls of {LIMIT}", answered(&after)),
    ));
    drop(valkey);
    Ok(found)
}

/// What blocks, on a thread that may.
async fn blocking(valkey: TestValkey, act: fn(&TestValkey)) -> Result<TestValkey, String> {
    let done = tokio::task::spawn_blocking(move || {
        act(&valkey);
        valkey
    });
    done.await.map_err(|error| format!("Valkey: {error}"))
}
