//! What comes from outside: the market, and what breaks and is mended.

use super::*;

impl World {
    pub(super) fn market(&mut self) {
        if self.feed_down {
            return;
        }
        let hub = Arc::clone(&self.hub);
        for (event, mut tick) in self.market.step(&hub) {
            if self.venue.feed(&event) {
                hub.count("resting order traded");
                self.at(0, Event::Turn);
            }
            let Some(process) = self.slots[DESK_PLACE].process.as_ref() else { continue };
            tick.received_at = process.around().clock.now();
            let symbol = tick.instrument.symbol.as_str().to_owned();
            self.tell(Route::Tick, symbol, Payload::MarketTick(tick));
        }
    }

    pub(super) fn candle(&mut self) {
        for candle in self.market.close(self.hub.now()) {
            let symbol = candle.instrument.symbol.as_str().to_owned();
            if !self.draining && !self.feed_down && self.slots[DESK_PLACE].process.is_some() {
                self.tell(Route::Candle, symbol, Payload::Candle(candle));
            }
        }
    }

    /// The desk tells everybody, as its market task does.
    pub(super) fn tell(&self, route: Route, instrument: String, payload: Payload) {
        let at = self.slots[DESK_PLACE].clock.now();
        let id = derive("sim.market.v1", &[instrument.as_bytes(), &at.0.to_be_bytes(), payload.kind().as_bytes()]);
        let header = outbox::root("online_trading", id, domain::ids::UserId(Uuid::nil()), at);
        let subject = Subject::Market { route, venue: "paper".to_owned(), instrument };
        let encoded = bus::Bus::encode(&Envelope { header, subject, payload });
        let headers = encoded.headers.into_iter().filter(|(name, _)| name != "Nats-Msg-Id").collect();
        // Nothing waits for market data.
        let _ = self.broker.put(bus::Raw { subject: encoded.subject, headers, payload: encoded.payload });
    }

    pub(super) fn breaks(&mut self, breakage: Breakage) {
        let hub = Arc::clone(&self.hub);
        hub.trace(|| format!("breaks: {breakage:?}"));
        match breakage {
            Breakage::Store => hub.set_store_down(true),
            Breakage::Venue => hub.set_venue_down(true),
            Breakage::Broker => hub.set_publish_fails(true),
            Breakage::FullStreams => {
                for stream in [Stream::TradingCritical, Stream::TradingHigh] {
                    self.broker.limit(stream, &[Limit::Messages(1)]);
                }
            }
            Breakage::KillFile => {
                let text = hub.pick(&["", "x", "9 9"]);
                // The point is that it can't be read.
                let _ = std::fs::write(file_path(self.folder.path()), text);
            }
            Breakage::Clock(place, ms) => self.slots[place].clock.set_offset(ms),
            Breakage::Kill(place) => self.kill(place),
            Breakage::Feed => self.feed_down = true,
        }
        hub.count(match breakage {
            Breakage::Store => "breaks store",
            Breakage::Venue => "breaks venue",
            Breakage::Broker => "breaks broker",
            Breakage::FullStreams => "breaks full streams",
            Breakage::KillFile => "breaks kill file",
            Breakage::Clock(..) => "breaks clock",
            Breakage::Kill(_) => "breaks process",
            Breakage::Feed => "breaks feed",
        });
    }

    pub(super) fn mend(&mut self, breakage: Breakage) {
        match breakage {
            Breakage::Store => self.hub.set_store_down(false),
            Breakage::Venue => self.hub.set_venue_down(false),
            Breakage::Broker => self.hub.set_publish_fails(false),
            Breakage::FullStreams => {
                for stream in [Stream::TradingCritical, Stream::TradingHigh] {
                    self.broker.limit(stream, &[Limit::Messages(100_000)]);
                }
            }
            Breakage::KillFile => self.mend_kill_file(),
            Breakage::Clock(place, _) => self.slots[place].clock.set_offset(0),
            Breakage::Kill(_) => {}
            Breakage::Feed => self.feed_down = false,
        }
    }

    /// A person writes what the database says into the file.
    pub(super) fn mend_kill_file(&self) {
        let file = file_path(self.folder.path());
        let stored = self.store.snapshot().kill_levels.last_key_value().map(|(epoch, kill)| (kill.level, *epoch));
        if let (None, Some((level, epoch))) = (read_file(&file), stored) {
            let _ = write_file(&file, level, epoch);
        }
    }
}
