//! What people do, and who answers them.

use super::*;

impl World {
    pub(super) fn person(&mut self, deed: Deed) {
        let hub = Arc::clone(&self.hub);
        match deed {
            Deed::Signal => {
                let raw = people::signal(&hub, None, |symbol| self.market.cents(symbol));
                if hub.permille(120) {
                    self.at(hub.between(0, 90_000), Event::Person(Deed::Again(raw.clone())));
                }
                self.send(raw);
            }
            Deed::Again(raw) => {
                hub.count("signal repeated");
                self.send(raw);
            }
            Deed::Burst(who, count) => {
                for _ in 0..count {
                    let raw = people::signal(&hub, Some(who), |symbol| self.market.cents(symbol));
                    self.send(raw);
                }
            }
            Deed::Buy(who, token, usd) => {
                let raw = people::buy(&hub, who, token, usd, self.market.cents(token));
                self.send(raw);
            }
            Deed::Trip => {
                let (buy, sell) = people::trip(&hub);
                self.send(buy);
                self.at(60_000, Event::Person(Deed::Again(sell)));
            }
            Deed::Idea => self.idea(),
            Deed::Vote => self.speak(),
            Deed::Halt => {
                let request = people::halt(&hub);
                self.ask(request);
                // Somebody looks at it and goes on, as a rule.
                if hub.permille(800) {
                    self.at(hub.between(2_000, 30_000), Event::Person(Deed::Resume));
                }
            }
            Deed::Resume => {
                let epoch = self.store.snapshot().kill_levels.last_key_value().map_or(0, |(epoch, _)| *epoch);
                if let Some((request, act)) = people::resume(&hub, epoch) {
                    if let Some((epoch, level)) = people::may_lower(&act) {
                        self.checks.note_lowering(epoch, level);
                    }
                    self.ask(request);
                }
            }
            Deed::Reset => {
                let tables = self.store.snapshot();
                let latched = tables.rails_state.iter().find_map(|(user, b)| Some((*user, b.latched_at?)));
                if let Some(request) = latched.and_then(|(user, at)| people::reset(&hub, user, at)) {
                    self.ask(request);
                }
            }
            Deed::Look => {
                let subject = hub.pick(&["swarm.status", "swarm.positions", "swarm.approvals", "swarm.agents"]);
                self.ask(Request { subject, payload: Vec::new() });
            }
        }
    }

    /// At a plain door, or for the operator now and then through the service that answers.
    pub(super) fn send(&mut self, raw: bus::Raw) {
        let hub = Arc::clone(&self.hub);
        hub.count("signal sent");
        hub.trace(|| format!("person: {} {}", raw.subject, String::from_utf8_lossy(&raw.payload)));
        let is_json = raw.payload.first() == Some(&b'{');
        if is_json && raw.subject.starts_with("trading.buy_bot.signal.") && hub.permille(300) {
            return self.ask(Request { subject: "swarm.signal", payload: raw.payload });
        }
        if self.broker.put(raw).is_err() {
            hub.count("signal not stored");
        }
    }

    pub(super) fn speak(&mut self) {
        let tables = self.store.snapshot();
        let is_open = |status| matches!(status, ApprovalStatus::Pending | ApprovalStatus::Allowed);
        let open: Vec<_> = tables.requests.values().filter(|r| is_open(r.status)).map(|r| r.as_ref().clone()).collect();
        if open.is_empty() {
            return;
        }
        if let Some((request, kind)) = people::word(&self.hub, &open) {
            self.hub.count(kind);
            if self.hub.permille(150) {
                self.hub.count("vote twice");
                self.ask(request.clone());
            }
            self.ask(request);
        }
        if self.hub.permille(500) {
            self.at(self.hub.between(500, 20_000), Event::Person(Deed::Vote));
        }
    }

    /// A request at the supervisor's door; without a supervisor nobody answers.
    pub(super) fn ask(&mut self, request: Request) {
        let (Some(supervisor), Some(process)) =
            (self.leads.supervisor.clone(), self.slots[SUPERVISOR].process.as_ref())
        else {
            return self.hub.count("nobody at the door");
        };
        let around = process.around().clone();
        let work = async move {
            let Request { subject, payload } = request;
            let head = supervisor::services::SignalHead::default();
            let answer = supervisor::services::answer(supervisor.shared(), &around, subject, &payload, head).await;
            let code = if answer["ok"] == true { "ok" } else { answer["code"].as_str().unwrap_or("?") };
            around.hub.count(&format!("{subject} {code}"));
            around.hub.trace(|| format!("{subject}: {code}"));
        };
        self.spawn(SUPERVISOR, Box::pin(work), false);
    }
}
