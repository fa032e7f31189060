//! Processes: their work, their deaths and their starts.

use super::*;

impl World {
    pub(super) fn spawn(&mut self, place: usize, work: Work, is_delivery: bool) {
        let id = self.next_task;
        self.next_task += 1;
        self.tasks.insert(id, Task { place, work, is_delivery });
        if is_delivery {
            self.slots[place].in_hand += 1;
        }
        self.poll(id);
    }

    pub(super) fn poll(&mut self, id: TaskId) {
        let Some(mut task) = self.tasks.remove(&id) else { return };
        self.hub.set_current(id);
        match task.work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => drop(self.tasks.insert(id, task)),
            Poll::Ready(()) if task.is_delivery => {
                self.slots[task.place].in_hand = self.slots[task.place].in_hand.saturating_sub(1);
                self.wake(task.place);
            }
            Poll::Ready(()) => {}
        }
    }

    pub(super) fn kill(&mut self, place: usize) {
        self.tasks.retain(|_, task| task.place != place);
        let slot = &mut self.slots[place];
        slot.process = None;
        slot.ears.clear();
        (slot.in_hand, slot.pulls_at, slot.hears_at) = (0, None, None);
        match place {
            TREASURY => self.leads.treasury = None,
            DESK_PLACE => self.leads.desk = None,
            BUY_BOT => self.leads.planner = None,
            SUPERVISOR => self.leads.supervisor = None,
            _ => {}
        }
        let after = self.hub.between(50, 6_000);
        self.at(after, Event::Start(place));
    }

    pub(super) fn start(&mut self, place: usize) {
        if self.slots[place].process.is_some() {
            return;
        }
        self.slots[place].boots += 1;
        let boot = self.slots[place].boots;
        let spec = SPECS[place];
        let around = Around {
            hub: Arc::clone(&self.hub),
            store: self.store.login(spec.name, spec.tables),
            broker: self.broker.clone(),
            market: MarketView::new(),
            clock: self.slots[place].clock.clone(),
            spec,
            place,
            is_reviewed: self.is_reviewed,
            fault: self.options.fault,
        };
        if spec.listens.contains(&Route::Tick) {
            for raw in self.broker.last_values(Stream::Market, &Route::Tick.filter()) {
                let at = bus::codec::Arrival { stream: "", stream_seq: 0, published_at: around.clock.now() };
                if let Ok(Envelope { payload: Payload::MarketTick(tick), .. }) =
                    bus::codec::decode(&raw, &at, around.clock.now())
                {
                    around.market.put(tick, around.clock.now());
                }
            }
        }
        self.slots[place].ears = spec.listens.iter().map(|route| self.broker.subscribe(&route.filter())).collect();
        let process = start(place, around.clone(), self.folder.path(), self.rests, &mut self.leads);
        self.slots[place].process = Some(process);
        if boot > 1 {
            self.hub.count("process started again");
        }
        for timer in spec.timers {
            self.at(0, Event::Timer(place, timer.name, boot));
        }
        self.at(0, Event::Relay(place));
        self.wake(place);
        if place == TREASURY {
            *self.round.borrow_mut() = Some(Round::default());
        }
        if place == DESK_PLACE {
            self.reconcile(around);
        }
    }

    pub(super) fn reconcile(&mut self, around: Around) {
        let Some(desk) = self.leads.desk.clone() else { return };
        let executor = desk.executor(self.venue.clone());
        let work = async move {
            while let Err(error) = executor.reconcile(&around).await {
                if let HandleError::Fatal(text) = error {
                    around.hub.find(crate::checks::NO_FATAL, format!("online_trading: {text}"));
                    return;
                }
                around.hub.pause(1_000).await;
            }
            desk.reconciled();
        };
        self.spawn(DESK_PLACE, Box::pin(work), false);
    }

    pub(super) fn pull(&mut self, place: usize) {
        self.slots[place].pulls_at = None;
        let spec = SPECS[place];
        if self.hub.publish_fails() {
            return self.at(1_000, Event::Pull(place));
        }
        let mut due: Option<i64> = None;
        for consumer in consumers_of(&spec) {
            while self.slots[place].in_hand < spec.limits.max_in_flight {
                let Some(process) = self.slots[place].process.as_ref() else { return };
                let Some(delivery) = self.broker.pull(consumer.stream, spec.name) else { break };
                if delivery.attempts > 1 {
                    self.hub.count("delivered again");
                }
                let work = process.deliver(delivery);
                self.spawn(place, work, true);
                // A process that has just died holds nothing more.
                self.deaths();
            }
            let next = self.broker.due(consumer.stream, spec.name).map(|at| at.0);
            due = [due, next].into_iter().flatten().min();
        }
        if let Some(at) = due.filter(|_| self.slots[place].pulls_at.is_none()) {
            let after = (at - self.hub.now().0).max(if self.slots[place].in_hand > 0 { 100 } else { 1 });
            self.slots[place].pulls_at = Some(self.hub.now().0 + after);
            self.at(after, Event::Pull(place));
        }
    }

    pub(super) fn hear(&mut self, place: usize) {
        self.slots[place].hears_at = None;
        let ears = self.slots[place].ears.len();
        for ear in 0..ears {
            while let Some(raw) = self.slots[place].ears.get(ear).and_then(Listener::next) {
                let forgets_halts = self.options.fault == Some(Fault::HaltForgotten) && raw.subject.contains("halt");
                if forgets_halts
                    || (self.tempo.hearing_lost_permille > 0 && self.hub.permille(self.tempo.hearing_lost_permille))
                {
                    self.hub.count("hearing lost");
                    continue;
                }
                let Some(process) = self.slots[place].process.as_ref() else { return };
                let work = process.hear(raw);
                self.spawn(place, work, false);
                self.deaths();
            }
        }
    }

    pub(super) fn timer(&mut self, place: usize, name: &'static str, boot: u64) {
        if self.slots[place].boots != boot {
            return;
        }
        let Some(process) = self.slots[place].process.as_ref() else { return };
        let work = process.tick(name);
        self.spawn(place, work, false);
        let every = SPECS[place].timers.iter().find(|timer| timer.name == name).map_or(60_000, |timer| timer.every_ms);
        let slower = if self.draining { 6 } else { 2 };
        self.at(i64::try_from(every).unwrap_or(60_000) * slower, Event::Timer(place, name, boot));
    }

    pub(super) fn sweep(&mut self) {
        // Treasury keeps the prices of the last sweep before midnight, and values by them what is held when a day begins.
        self.checks.note_prices(&self.prices_of_treasury(), self.hub.now());
        let (Some(treasury), Some(process)) = (self.leads.treasury.clone(), self.slots[TREASURY].process.as_ref())
        else {
            return;
        };
        let around = process.around().clone();
        // The one before is not done yet.
        let Some(mut round) = self.round.borrow_mut().take() else { return };
        let rounds = Rc::clone(&self.round);
        let work = async move {
            match sweep(&treasury, &around, &mut round).await {
                Ok(()) => {}
                Err(HandleError::Fatal(text)) => around.hub.find(crate::checks::NO_FATAL, format!("treasury: {text}")),
                Err(_) => around.hub.count("sweep tried again"),
            }
            *rounds.borrow_mut() = Some(round);
        };
        self.spawn(TREASURY, Box::pin(work), false);
    }

    pub(super) fn turn(&mut self) {
        let asleep = self.options.fault == Some(Fault::DeskStops) && self.seen_commits > 60;
        let turning = self.tasks.values().any(|task| task.place == DESK_PLACE && !task.is_delivery);
        if let (Some(desk), Some(process)) = (self.leads.desk.clone(), self.slots[DESK_PLACE].process.as_ref())
            && !turning
            && !asleep
        {
            let around = process.around().clone();
            let executor = desk.executor(self.venue.clone());
            let work = async move {
                match executor.turn(&around).await {
                    Ok(_) => {}
                    Err(HandleError::Fatal(text)) => {
                        around.hub.find(crate::checks::NO_FATAL, format!("online_trading: {text}"));
                    }
                    Err(_) => around.hub.count("turn tried again"),
                }
            };
            self.spawn(DESK_PLACE, Box::pin(work), false);
        }
        let now = self.hub.now().0;
        let planned = self.queue.range((now + 1, 0)..).any(|(_, event)| *event == Event::Turn);
        if !planned {
            self.at(if self.draining { 10_000 } else { self.tempo.turn_ms }, Event::Turn);
        }
        self.desk_asleep = asleep;
    }
}
