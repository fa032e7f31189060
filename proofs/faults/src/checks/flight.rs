//! Equal questions at the same time are one call.

use futures::future::join_all;

use super::{Checked, Line};
use crate::client::{Reply, booked, question};
use crate::row::cost;
use crate::stage::{Doubles, Service, Setup, TEXTS, chain, without_quota};

const EQUAL: usize = 64;

pub(super) async fn run() -> Checked {
    let doubles = Doubles::start().await;
    let lines = [without_quota("tier.groq"), vec![chain(&["groq", "openrouter"])]].concat();
    let service = Service::start(&doubles, &Setup { lines, ..Setup::default() }).await?;
    let (client, groq) = (&service.client, &doubles.0[1]);
    groq.hold();
    let asked: Vec<_> = (0..EQUAL).map(|_| client.ask_later(&[], question("the same of all"))).collect();
    client.wait_until("all are under way", |state| state["running"] == EQUAL as u64 && groq.calls() > 0).await?;
    groq.release_all();
    let replies: Vec<Reply> = join_all(asked).await.into_iter().filter_map(Result::ok).collect();
    let answered = replies.iter().filter(|reply| reply.is_answer() && reply.content == TEXTS[1]).count();
    let due = replies.first().and_then(|reply| reply.usage).map_or(0, |(prompt, answer)| cost(prompt, answer));
    let told: u64 = replies.iter().map(Reply::cost_micros).sum();
    let booked = booked(&client.state().await?);
    Ok(vec![Line::new(
        format!("single-flight: {EQUAL} equal misses, 1 call"),
        doubles.calls() == [0, 1, 0] && answered == EQUAL && booked == due && told == due && due > 0,
        format!(
            "{} call, {answered} answers; booked {booked} of {due} millionths due, told as cost {told}",
            groq.calls()
        ),
    )])
}
