//! Ideas of models, and the reviews that the planner waits for.

use super::*;
use crate::models;

impl World {
    /// An agent has an idea; now and then it comes twice.
    pub(super) fn idea(&mut self) {
        let hub = Arc::clone(&self.hub);
        let (raw, id, buys) = models::idea(&hub, |symbol| self.market.cents(symbol));
        hub.count("idea sent");
        hub.trace(|| format!("idea: {} {id}", raw.subject));
        if buys {
            self.ideas.push(id);
        }
        if hub.permille(200) {
            self.at(hub.between(0, 20_000), Event::Person(Deed::Again(raw.clone())));
        }
        self.send(raw);
    }

    /// Ideas to buy that no model has agreed to so far.
    pub(super) fn unagreed(&self) -> Vec<MessageId> {
        self.ideas.iter().copied().filter(|id| !self.hub.has_agreed(id.0)).collect()
    }

    /// Asks what the planner wants to be asked, as its background work does.
    pub(super) fn reviews(&mut self) {
        let Some(planner) = self.leads.planner.clone() else { return };
        let next = || planner.reviews().and_then(|reviews| reviews.desk().take());
        while let Some(question) = next() {
            let planner = Arc::clone(&planner);
            let work = async move {
                if let Some(reviews) = planner.reviews() {
                    reviews.answer(question).await;
                }
            };
            self.spawn(BUY_BOT, Box::pin(work), false);
        }
    }
}
