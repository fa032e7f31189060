//! People who trade all the while: signals at a steady rate through their own doors, and a person who votes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use domain::ids::{MessageId, UserId};
use domain::time::Clock;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use runtime::clock::SystemClock;
use serde_json::{Value, json};
use swarm::people::{self, Command, VoteArgs};
use tokio::time::{Duration, Instant, MissedTickBehavior};

use crate::house::{House, handle};
use crate::tracker::Tracker;

/// How long a signal that nobody confirmed is sent again, under the same id.
const SEND_FOR: Duration = Duration::from_secs(40);
/// New risk that a player asks for before others are preferred: the rate rail lets 20 an hour pass.
const BUYS_A_PLAYER: u32 = 20;
/// How often the voter looks.
const VOTE_EVERY: Duration = Duration::from_millis(700);

/// The people's side of a run.
pub struct Load {
    house: Arc<House>,
    tracker: Arc<Tracker>,
    run: uuid::Uuid,
    number: AtomicU32,
    players: usize,
}

impl Load {
    /// Of so many players.
    #[must_use]
    pub fn new(house: Arc<House>, tracker: Arc<Tracker>, players: usize) -> Self {
        let run = runtime::clock::new_id(&SystemClock);
        Self { house, tracker, run, number: 0.into(), players }
    }

    /// Sends signals `per_second` until it is told that it is over, then waits for those on their way.
    pub async fn signals(
        self: Arc<Self>,
        mut rng: ChaCha8Rng,
        per_second: f64,
        mut over: tokio::sync::watch::Receiver<bool>,
    ) {
        let mut every = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
        every.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut bought: BTreeMap<usize, u32> = BTreeMap::new();
        let mut sending = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                // A sender that is gone has told it too.
                _ = over.wait_for(|over| *over) => break,
                Some(_) = sending.join_next(), if !sending.is_empty() => {}
                _ = every.tick() => {
                    let (player, signal) = self.wish(&mut rng, &mut bought);
                    let load = Arc::clone(&self);
                    sending.spawn(async move { load.send(&handle(player), signal).await });
                }
            }
        }
        while sending.join_next().await.is_some() {}
    }

    /// Who wants what: mostly trades that go through, some that need a person, some that must be refused.
    fn wish(&self, rng: &mut ChaCha8Rng, bought: &mut BTreeMap<usize, u32>) -> (usize, Value) {
        let symbol = *["BTCUSDT", "ETHUSDT"].choose(rng).unwrap_or(&"BTCUSDT");
        let fresh: Vec<usize> =
            (0..self.players).filter(|p| bought.get(p).copied().unwrap_or(0) < BUYS_A_PLAYER).collect();
        let eager = rng.random_bool(0.05);
        let anybody = rng.random_range(0..self.players);
        let player = if eager { anybody } else { fresh.choose(rng).copied().unwrap_or(anybody) };
        let buy = |usd: u32| json!({ "action": "BUY", "token_address": symbol, "notional_usd": usd.to_string() });
        let mut signal = match rng.random_range(0..100_u32) {
            0..44 => buy(rng.random_range(20..400)),
            44..54 => buy(rng.random_range(1_050..3_000)),
            54..58 => buy(rng.random_range(5_100..14_000)),
            58..80 => json!({ "action": "SELL", "token_address": symbol, "amount": "all" }),
            80..90 => {
                let amount = if symbol == "BTCUSDT" { "0.0007" } else { "0.0150" };
                json!({ "action": "SELL", "token_address": symbol, "amount": amount })
            }
            // A life so short that any delay is its end.
            90..95 => {
                let expiry = SystemClock.now().0 + rng.random_range(300..4_000);
                let mut signal = buy(rng.random_range(20..200));
                signal["expiry_timestamp"] = json!(expiry.to_string());
                signal
            }
            // A price nobody offers: the order ends unfilled.
            95..98 => {
                let limit = if symbol == "BTCUSDT" { "58500" } else { "2530" };
                let mut signal = buy(rng.random_range(50..300));
                signal["price_limit"] = json!(limit);
                // Its order waits at the venue until then; the end of a run waits with it.
                signal["expiry_timestamp"] = json!((SystemClock.now().0 + 20_000).to_string());
                signal
            }
            _ => json!({ "action": "BUY", "token_address": "DOGEUSDT", "notional_usd": "50" }),
        };
        // In child orders, so that processes die between two of them.
        if signal["expiry_timestamp"].is_null() && rng.random_bool(0.2) {
            signal["slices"] = json!(rng.random_range(2..6));
            signal["slice_interval_ms"] = json!(rng.random_range(200..2_000));
        }
        if signal["action"] == "BUY" {
            *bought.entry(player).or_default() += 1;
        }
        (player, signal)
    }

    /// Sends one signal until the stream says that it has it.
    async fn send(&self, handle: &str, signal: Value) {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let key = format!("{}-{number}", self.run);
        let id = MessageId::of_person(UserId::of_handle(handle), &format!("id:{key}"));
        self.tracker.sent(id, handle, &key);
        let subject = format!("trading.buy_bot.signal-{handle}.critical");
        let deadline = Instant::now() + SEND_FOR;
        while Instant::now() < deadline {
            let doors = self.house.doors();
            let Some(door) = doors.people.get(handle) else { return };
            match door.request_with_id(&subject, &signal, Some(&key)).await {
                Ok(stored) if stored["seq"].as_u64().is_some_and(|seq| seq > 0) => return self.tracker.accepted(id),
                // Full, no leader, nobody there: not accepted, said again under the same id.
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
    }

    /// Votes on what waits, and on the rest when it is over: yes mostly, no now and then, silence now and then.
    pub async fn votes(self: Arc<Self>, mut rng: ChaCha8Rng, mut over: tokio::sync::watch::Receiver<bool>) {
        let mut silent: BTreeSet<String> = BTreeSet::new();
        let mut every = tokio::time::interval(VOTE_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // A sender that is gone has told it too.
                _ = over.wait_for(|over| *over) => return,
                _ = every.tick() => {}
            }
            for id in self.waiting().await {
                if silent.contains(&id) {
                    continue;
                }
                match rng.random_range(0..100_u32) {
                    0..76 => self.vote(&id, true).await,
                    76..88 => self.vote(&id, false).await,
                    _ => {
                        silent.insert(id);
                    }
                }
            }
        }
    }

    /// Says no to everything that waits; how many that were.
    pub async fn say_no_to_all(&self) -> usize {
        let waiting = self.waiting().await;
        for id in &waiting {
            self.vote(id, false).await;
        }
        waiting.len()
    }

    async fn waiting(&self) -> Vec<String> {
        let answer = self.house.ask("swarm.approvals").await.unwrap_or(Value::Null);
        let rows = answer["approvals"].as_array().cloned().unwrap_or_default();
        rows.iter().filter_map(|row| row["approval_id"].as_str().map(str::to_owned)).collect()
    }

    /// A vote that is not heard is given again at the next look.
    async fn vote(&self, id: &str, yes: bool) {
        let doors = self.house.doors();
        let args = VoteArgs { approval_id: id.to_owned(), reason: "chaos".to_owned() };
        let command = if yes { Command::Approve(args) } else { Command::Reject(args) };
        let _ = people::perform(&doors.operator, &doors.files, &command).await;
    }
}
