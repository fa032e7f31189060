//! What a model had the idea of becomes an order only when another model has agreed.

use domain::ids::{IntentId, MessageId};
use memory::record::Tables;
use store::audit::AuditRow;

use super::{Checks, REVIEWED};

impl Checks {
    /// No idea of `unagreed` has an intent, neither one that waits to be sent nor one that was judged.
    pub(super) fn unagreed(&mut self, tables: &Tables, unagreed: &[MessageId]) {
        for idea in unagreed {
            let intent = IntentId::of_leg(*idea, 0);
            let message = MessageId::child(*idea, "buy_bot", "order_intent", &intent.to_string());
            let waits = tables.outbox.values().any(|row| row.id == message.0);
            let judged = tables.decisions.values().any(|row| row.signal_id == *idea);
            self.require(!waits && !judged, REVIEWED, || format!("idea {idea} has an intent and no agreement"));
        }
    }

    /// The audit row of an order that a model had the idea of shows the agreement, with its figures and words.
    pub(super) fn shows_agreement(&mut self, row: &AuditRow, ideas: &[MessageId]) {
        let (intent, opinion) = (&row.body["intent"], &row.body["intent"]["opinion"]);
        let is_idea = ideas.iter().any(|idea| intent["signal_id"] == idea.to_string());
        let shows = opinion["kind"] == "reviewed"
            && opinion["verdict"] == "agree"
            && opinion["confidence_percent"].as_u64().is_some_and(|percent| percent >= 60)
            && opinion["reasoning"].as_str().is_some_and(|text| !text.contains(['<', '\u{202e}', '\n']))
            && opinion["model"].is_string();
        self.require(!is_idea || shows, REVIEWED, || format!("the row of {} shows {opinion}", intent["signal_id"]));
    }
}
