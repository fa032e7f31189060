//! A strict double of Telegram's Bot API for the methods that the swarm uses, on a free port of 127.0.0.1.
//!
//! It holds a client to what <https://core.telegram.org/bots/api> says: names and types of parameters, lengths, which
//! chats may be written to, how updates are confirmed, how fast messages may come. What the real server would let pass in
//! silence and is a fault all the same (an unknown parameter) is written down as a violation. The other half is for tests:
//! people who press and say things, and whatever goes wrong between them and the client ([`Fault`]).

mod check;
mod html;
mod methods;
mod people;
mod server;
mod updates;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::time::UnixMs;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::wait::wait_for;

pub use people::Press;
use world::World;
pub use world::{Answer, Button, Sent};

/// The token of its one bot, in the form that real tokens have.
pub const TOKEN: &str = "7000000001:AAF-test_double_secret_0123456789abc";
/// What the bot is called.
pub const BOT_NAME: &str = "swarm_test_bot";

/// What goes wrong with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 500 without having done anything.
    ServerError,
    /// 502 with a page of HTML, after it was done: the answer is lost.
    LostAnswer,
    /// The answer never comes, and nothing was done.
    Hang,
    /// The answer never comes, though it was done.
    Unanswered,
    /// It is answered after this long.
    Slow(Duration),
    /// 409, as if somebody else polled with the token.
    Conflict,
    /// 429 with `retry_after` in seconds; every call of the method is refused until then.
    TooMany(u64),
    /// The connection is cut.
    Cut,
}

/// The double. Dropping it stops it.
#[derive(Debug)]
pub struct Telegram {
    shared: Arc<Shared>,
    port: u16,
    task: JoinHandle<()>,
    courier: JoinHandle<()>,
}

/// What its tasks share.
#[derive(Debug)]
struct Shared {
    world: Mutex<World>,
    /// Something changed: an update came, a poll was replaced, a webhook was set.
    changed: Notify,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Telegram {
    /// Starts one whose clock shows `now` and goes on from there.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(now: UnixMs) -> Self {
        let shared = Arc::new(Shared { world: Mutex::new(World::new(now)), changed: Notify::new() });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let task = tokio::spawn(server::serve(listener, Arc::clone(&shared)));
        let courier = tokio::spawn(updates::deliver(Arc::clone(&shared)));
        Self { shared, port, task, courier }
    }

    /// What clients take as `TELEGRAM_API_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world()
    }

    /// The next `times` calls of `method` go wrong.
    pub fn fault(&self, method: &str, fault: Fault, times: usize) {
        self.world().faults.extend(std::iter::repeat_n((method.to_owned(), fault), times));
        self.shared.changed.notify_waiters();
    }

    /// Every call goes wrong from now on; `None`: no more. A poll that waits is hit too.
    pub fn outage(&self, fault: Option<Fault>) {
        let mut world = self.world();
        world.outage = fault;
        if fault.is_none() {
            world.faults.clear();
        }
        drop(world);
        self.shared.changed.notify_waiters();
    }

    /// Messages of the bot in a chat, oldest first, as they look now.
    #[must_use]
    pub fn messages(&self, chat: i64) -> Vec<Sent> {
        self.world().messages.iter().filter(|message| message.chat == chat).cloned().collect()
    }

    /// Waits for a message of the bot in `chat` of which `matches` holds, the latest first.
    ///
    /// # Panics
    /// When `bound` is over first: with what was there instead.
    pub async fn wait_for(&self, chat: i64, bound: Duration, what: &str, matches: impl Fn(&Sent) -> bool) -> Sent {
        let found = tokio::time::timeout(bound, async {
            loop {
                if let Some(sent) = self.messages(chat).into_iter().rev().find(&matches) {
                    return sent;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        found.await.unwrap_or_else(|_| {
            let there: Vec<String> = self.messages(chat).iter().map(Sent::describe).collect();
            panic!("not within {bound:?}: {what}; the chat holds: {there:#?}")
        })
    }

    /// What presses were answered with, oldest first.
    #[must_use]
    pub fn answers(&self) -> Vec<Answer> {
        self.world().answers.clone()
    }

    /// Waits for the answer to a press.
    ///
    /// # Panics
    /// When `bound` is over first.
    pub async fn wait_for_answer(&self, press: &Press, bound: Duration) -> Answer {
        let id = press.callback_id.clone();
        wait_for(bound, "an answer to a press", || {
            let found = self.answers().into_iter().find(|answer| answer.callback_id == id);
            async move { found }
        })
        .await
    }

    /// How often a method was called, answered well or not.
    #[must_use]
    pub fn calls(&self, method: &str) -> usize {
        self.world().calls.iter().filter(|called| called.as_str() == method).count()
    }

    /// What a client did that it may not, though it was let pass or was only refused.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.world().violations.clone()
    }

    /// Updates that are not confirmed yet.
    #[must_use]
    pub fn unconfirmed(&self) -> usize {
        self.world().updates.len()
    }

    /// Whether a poll of the bot waits for an update.
    #[must_use]
    pub fn is_polled(&self) -> bool {
        self.world().polls_waiting > 0
    }

    /// Whether an update was in the answer to a poll, read or not.
    #[must_use]
    pub fn was_handed_out(&self, update_id: i64) -> bool {
        self.world().handed_out.contains(&update_id)
    }

    /// The address updates are delivered to, when there is one.
    #[must_use]
    pub fn webhook(&self) -> Option<String> {
        self.world().webhook.as_ref().map(|hook| hook.url.clone())
    }

    /// What `setMyCommands` said, in its order.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        self.world().commands.clone()
    }
}

impl Drop for Telegram {
    fn drop(&mut self) {
        self.task.abort();
        self.courier.abort();
    }
}
