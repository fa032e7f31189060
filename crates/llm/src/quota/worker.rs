//! Tells Redis what became of reservations, many in one round trip, and everything anew when it was away.

use std::sync::Arc;
use std::time::Duration;

use redis::{RedisError, RedisResult, Value};

use super::book::{Books, Name};
use super::{Shared, Windows, wire};
use crate::redis_link::Connected;

/// How long news gather before they are told.
const GATHER: Duration = Duration::from_millis(2);
/// How often a Redis that answers wrongly is tried again.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// How often the task wakes with nothing to do.
const IDLE: Duration = Duration::from_secs(60);

/// Redis' data is not what this process knows: lost, or made anew by another.
pub(super) fn another_life() -> RedisError {
    (redis::ErrorKind::Client, "the data has another life than this process knows").into()
}

pub(super) async fn run(shared: Arc<Shared>) {
    let mut connections = shared.link.connections();
    loop {
        let is_alone = shared.books().ready.is_none() && shared.link.is_up();
        tokio::select! {
            () = shared.work.notified() => tokio::time::sleep(GATHER).await,
            changed = connections.changed() => if changed.is_err() {
                // There is no Redis, and never will be.
                return;
            },
            () = tokio::time::sleep(if is_alone { TRY_EVERY } else { IDLE }) => {}
        }
        let Some(connected) = shared.link.connection() else { continue };
        let number = connected.number;
        let ready = shared.books().ready == Some(number);
        let told = if ready { tell(&shared, connected).await } else { join(&shared, connected).await };
        if let Err(error) = told {
            shared.books().put_back();
            shared.failed(number, Some(&error));
            tracing::debug!(code = error.code(), kind = ?error.kind(), "Redis could not be told");
            tokio::time::sleep(TRY_EVERY).await;
        }
    }
}

/// Brings everything this process knows, then what it did alone; from then on Redis decides.
async fn join(shared: &Shared, mut connected: Connected) -> RedisResult<()> {
    shared.books().ready = None;
    shared.scripts.load().exec_async(&mut connected.connection).await?;
    seed(shared, &mut connected).await?;
    loop {
        tell(shared, connected.clone()).await?;
        let mut books = shared.books();
        // Under one lock with every decision: nothing is decided alone after this, and nothing is left untold.
        if books.is_told() {
            books.join(connected.number);
            return Ok(());
        }
    }
}

async fn seed(shared: &Shared, connected: &mut Connected) -> RedisResult<()> {
    let new_life = format!("{:016x}", rand::random::<u64>());
    let month = Windows::at(shared.clock.now(), 0).month;
    let mut pipe = redis::pipe();
    let (names, agents): (Vec<Name>, Vec<Name>) = {
        let mut books = shared.books();
        books.agents.roll(month);
        for (name, book) in &books.tiers {
            pipe.add_command(shared.scripts.seed(name, &book.life, &new_life, &book.known));
        }
        let spent = books.agents.spent.iter().map(|(name, micros)| (&**name, *micros));
        pipe.add_command(shared.scripts.agents(&books.agents.life, &new_life, month, spent));
        (books.tiers.keys().cloned().collect(), books.agents.spent.keys().cloned().collect())
    };
    let mut answers: Vec<Value> = pipe.query_async(&mut connected.connection).await?;
    let of_agents = wire::agents(answers.pop().unwrap_or(Value::Nil))?;
    let of_tiers = answers.into_iter().map(wire::seeded).collect::<RedisResult<Vec<_>>>()?;
    let mut books = shared.books();
    for (name, (life, number, known)) in names.iter().zip(of_tiers) {
        if let Some(book) = books.tiers.get_mut(name) {
            (book.life, book.number, book.known, book.informed) = (Name::from(life), number, known, true);
        }
    }
    let (life, number, month, spent) = of_agents;
    (books.agents.life, books.agents.number, books.agents.informed) = (Name::from(life), number, true);
    books.agents.roll(month);
    books.agents.spent.extend(agents.into_iter().zip(spent));
    Ok(())
}

/// Tells what there is to tell.
async fn tell(shared: &Shared, mut connected: Connected) -> RedisResult<()> {
    let now = shared.clock.now();
    let mut pipe = redis::pipe();
    let (posts, observed) = {
        let mut books = shared.books();
        let observed: Vec<_> = books.observed.iter().map(|(name, said)| (Arc::clone(name), *said)).collect();
        for (name, said) in &observed {
            pipe.add_command(shared.scripts.observe(name, &life(&books, name), *said));
        }
        let posts = books.take(|| shared.next_id(), now).clone();
        for post in &posts {
            pipe.add_command(shared.scripts.post(post, (&life(&books, &post.of.tier), &books.agents.life), now.0));
        }
        (posts.len(), observed)
    };
    if posts == 0 && observed.is_empty() {
        return Ok(());
    }
    let answers: Vec<Value> = pipe.query_async(&mut connected.connection).await?;
    let mut answers = answers.into_iter();
    let mut books = shared.books();
    for (name, said) in observed {
        if answers.next() != Some(Value::Array(vec![Value::Int(0)])) {
            return Err(another_life());
        }
        // What was said meanwhile is still to be told.
        if books.observed.get(&name) == Some(&said) {
            books.observed.remove(&name);
        }
    }
    for value in answers {
        let answer = wire::answer(value)?;
        if answer.code < 0 {
            return Err(another_life());
        }
        books.told(&answer);
    }
    Ok(())
}

fn life(books: &Books, tier: &str) -> Name {
    books.tiers.get(tier).map_or_else(|| Name::from(""), |book| Arc::clone(&book.life))
}
