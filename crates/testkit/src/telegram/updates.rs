//! How updates reach the bot: by long polling, or delivered to its webhook.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::Shared;
use super::check::{Parameters, Refusal};
use super::world::World;

/// First pause after a delivery that failed; doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// How long a delivery may take before it is tried again.
const DELIVERY: Duration = Duration::from_secs(60);

/// A poll that is counted while it lasts.
struct Counted<'a>(&'a Shared);

impl<'a> Counted<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.world().polls_waiting += 1;
        Self(shared)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.world().polls_waiting -= 1;
    }
}

/// A poll that found nothing waits here; ended by an update, by time, by another poll, or by whatever goes wrong.
pub(super) async fn get(shared: &Shared, given: &Parameters<'_>) -> Result<Value, Refusal> {
    let offset = given.integer("offset")?;
    let limit = given.integer("limit")?.unwrap_or(100);
    if !(1..=100).contains(&limit) {
        shared.world().violation(format!("getUpdates with a limit of {limit}: 1 to 100 are accepted"));
    }
    let limit = usize::try_from(limit.clamp(1, 100)).unwrap_or(100);
    let wait = given.integer("timeout")?.unwrap_or(0);
    let wait = u64::try_from(wait).map_err(|_| Refusal::bad("timeout must not be negative"))?.min(50);
    let until = Instant::now() + Duration::from_secs(wait);
    let mine = {
        let mut world = shared.world();
        if world.webhook.is_some() {
            let words = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the \
                         webhook first";
            return Err(Refusal::of(409, words));
        }
        confirm(&mut world, offset);
        world.poll += 1;
        world.poll
    };
    shared.changed.notify_waiters();
    let _counted = Counted::new(shared);
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        {
            let mut world = shared.world();
            if world.poll != mine {
                let words = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is \
                             running";
                return Err(Refusal::of(409, words));
            }
            if world.outage.is_some() {
                return Err(Refusal::of(502, "Bad Gateway"));
            }
            let found: Vec<Value> = world.updates.iter().take(limit).cloned().collect();
            if !found.is_empty() || Instant::now() >= until {
                world.handed_out.extend(found.iter().filter_map(|update| update["update_id"].as_i64()));
                return Ok(json!(found));
            }
        }
        let _ = timeout_at(until, changed).await;
    }
}

/// What has a lower id than `offset` is confirmed; a negative one keeps so many of the latest.
fn confirm(world: &mut World, offset: Option<i64>) {
    match offset {
        Some(offset) if offset < 0 => {
            let keep = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
            while world.updates.len() > keep {
                world.updates.pop_front();
            }
        }
        Some(offset) => world.updates.retain(|update| update["update_id"].as_i64().is_some_and(|id| id >= offset)),
        None => {}
    }
}

/// Brings updates to the webhook, one after the other, again until each is answered with a 2xx.
pub(super) async fn deliver(shared: Arc<Shared>) {
    // The double is plain HTTP, and so is the webhook beside it: no TLS is set up here.
    let mut pause = FIRST_PAUSE;
    loop {
        let next = {
            let world = shared.world();
            world.webhook.clone().zip(world.updates.front().cloned())
        };
        let Some((hook, update)) = next else {
            let _ = timeout(Duration::from_millis(50), shared.changed.notified()).await;
            continue;
        };
        let delivered = timeout(DELIVERY, post(&hook.url, hook.secret.as_deref(), &update)).await;
        if matches!(delivered, Ok(Ok(status)) if (200..300).contains(&status)) {
            shared.world().updates.retain(|waiting| waiting["update_id"] != update["update_id"]);
            pause = FIRST_PAUSE;
        } else {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

/// Posts JSON over a connection of its own; gives the status.
async fn post(url: &str, secret: Option<&str>, body: &Value) -> std::io::Result<u16> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let other = |words: &str| std::io::Error::other(words.to_owned());
    let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or(other("no address"))?;
    let mut stream = tokio::net::TcpStream::connect(host).await?;
    let body = body.to_string();
    let secret = secret.map_or(String::new(), |secret| format!("X-Telegram-Bot-Api-Secret-Token: {secret}\r\n"));
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{secret}\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(other("no status"))
}
