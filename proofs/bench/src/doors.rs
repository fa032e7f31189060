//! People at their doors: each publishes signals under their own NATS key, as anybody with a NATS client does.

use std::sync::Arc;

use domain::ids::{IntentId, MessageId, OrderId, UserId};
use serde_json::json;
use swarm::people::{Connection, Files};

use crate::bench_error::BenchError;
use crate::stage::Swarm;

/// Dollars of a plain signal: twenty of one person stay under the sum that asks for a human.
pub const PLAIN_USD: &str = "40";
const SYMBOLS: [&str; 2] = ["BTCUSDT", "ETHUSDT"];

/// A signal that will be sent.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Whose.
    pub person: usize,
    /// Its message id at the door.
    pub key: String,
    /// What the venue will call its order.
    pub client_order_id: String,
    /// The order.
    pub order_id: OrderId,
    symbol: &'static str,
    notional_usd: &'static str,
}

/// Everybody's connection.
#[derive(Clone)]
pub struct Doors {
    doors: Arc<Vec<(String, Connection)>>,
}

impl Doors {
    /// Opens one for each person of the swarm.
    ///
    /// # Errors
    /// [`BenchError`].
    pub async fn open(swarm: &Swarm) -> Result<Self, BenchError> {
        let mut doors = Vec::new();
        for handle in &swarm.handles {
            let own = Files { nkey_file: swarm.nkey_file(handle), person_id: handle.clone(), ..swarm.files.clone() };
            let connection = Connection::open(&own).await.map_err(|error| BenchError::Broken(error.to_string()))?;
            doors.push((handle.clone(), connection));
        }
        Ok(Self { doors: Arc::new(doors) })
    }

    /// Signals of the people `from .. to` in turn, each for so many dollars.
    pub fn plan(
        &self,
        name: &str,
        people: std::ops::Range<usize>,
        count: usize,
        notional_usd: &'static str,
    ) -> Vec<Planned> {
        let width = people.len().max(1);
        (0..count)
            .map(|number| {
                let person = people.start + number % width;
                let key = format!("bench-{name}-{number}");
                let handle = self.doors.get(person).map_or("", |(handle, _)| handle.as_str());
                let signal = MessageId::of_person(UserId::of_handle(handle), &format!("id:{key}"));
                let order_id = OrderId::of_intent(IntentId::of_leg(signal, 0));
                let symbol = SYMBOLS[(number / width) % SYMBOLS.len()];
                Planned { person, key, client_order_id: order_id.client_order_id(), order_id, symbol, notional_usd }
            })
            .collect()
    }

    /// Publishes one and waits until the stream has it.
    ///
    /// # Errors
    /// [`BenchError::Broken`] when it has not.
    pub async fn publish(&self, signal: &Planned) -> Result<(), BenchError> {
        let (handle, door) =
            self.doors.get(signal.person).ok_or_else(|| BenchError::Broken("a person without a door".to_owned()))?;
        let body = json!({ "action": "BUY", "token_address": signal.symbol, "notional_usd": signal.notional_usd });
        let subject = format!("trading.buy_bot.signal-{handle}.critical");
        let stored = door.request_with_id(&subject, &body, Some(&signal.key)).await;
        let stored = stored.map_err(|error| BenchError::Broken(error.to_string()))?;
        if stored["seq"].as_u64().is_some() {
            return Ok(());
        }
        Err(BenchError::Broken(format!("the stream did not store a signal: {stored}")))
    }
}
