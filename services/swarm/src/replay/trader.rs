//! The money side of a replay: planner, rails, ledger and paper exchange, with the time passed in. The same functions as
//! in the live processes, without bus and store between them.

use std::collections::{BTreeMap, BTreeSet};

use buy_bot::config::PlannerConfig;
use buy_bot::planner::{PlanInputs, plan};
use buy_bot::strategy::StrategySignal;
use domain::ids::{MessageId, OrderId, UserId};
use domain::market::{Instrument, InstrumentId, Symbol};
use domain::message::{SignalAction, SignalSize};
use domain::money::{Quantity, Usd};
use domain::order::{OrderEnvelope, OrderIntent};
use domain::time::UnixMs;
use rails::book::{Book, Marks};
use rails::check::{KillReading, Surroundings, Verdict, check};
use rails::limits::Limits;
use serde_json::json;
use venues::book::{Applied, BookSync};
use venues::exchange::OrderRequest;
use venues::feed::FeedEvent;
use venues::paper::{Decision, Effect, PaperCore};

use super::ReplayError;
use super::log::DecisionLog;

/// Rules of a run that do not change.
#[derive(Debug)]
pub struct Rules {
    /// House limits.
    pub limits: Limits,
    /// Planner.
    pub planner: PlannerConfig,
    /// Instruments by id.
    pub instruments: BTreeMap<InstrumentId, Instrument>,
    /// Whose money.
    pub user_id: UserId,
    /// Life of a strategy's signal, ms.
    pub signal_ttl_ms: i64,
}

/// An order at the venue, or on its way there.
#[derive(Debug)]
struct Working {
    order_id: OrderId,
    signal_id: MessageId,
    fills_posted: usize,
}

/// Sums of a run.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    /// Signals of the strategies.
    pub signals: u64,
    /// Fills posted.
    pub fills: u64,
    /// Profit and loss of closed parts, fees included.
    pub realised: Usd,
    /// Fees paid.
    pub fees: Usd,
}

/// Planner, rails, ledger and venue of one user.
#[derive(Debug)]
pub struct Trader {
    rules: Rules,
    book: Book,
    marks: Marks,
    core: PaperCore,
    working: BTreeMap<String, Working>,
    /// Orders on their way, by arrival and then by the order they were sent in.
    on_the_way: BTreeMap<(UnixMs, u64), OrderRequest>,
    sent: u64,
    failed: Vec<MessageId>,
    /// Sums so far.
    pub totals: Totals,
    /// Everything decided so far.
    pub log: DecisionLog,
}

impl Trader {
    /// Opens the account at the venue and in the ledger.
    ///
    /// # Errors
    /// [`ReplayError::Misfit`].
    pub fn open(rules: Rules, mut core: PaperCore, opening: Usd, now: UnixMs) -> Result<Self, ReplayError> {
        let opened = core.opening();
        core.commit(&opened)?;
        let book = Book::open(rules.user_id, opening, now);
        Ok(Self {
            rules,
            book,
            marks: Marks::new(),
            core,
            working: BTreeMap::new(),
            on_the_way: BTreeMap::new(),
            sent: 0,
            failed: Vec::new(),
            totals: Totals { signals: 0, fills: 0, realised: Usd::ZERO, fees: Usd::ZERO },
            log: DecisionLog::default(),
        })
    }

    /// The ledger.
    #[must_use]
    pub const fn book(&self) -> &Book {
        &self.book
    }

    /// What the account holds of an instrument.
    #[must_use]
    pub fn held(&self, instrument: &InstrumentId) -> Quantity {
        self.book.positions.get(instrument).map_or(Quantity::ZERO, |position| position.quantity)
    }

    /// Equity at the last marks, however old.
    #[must_use]
    pub fn equity(&self, now: UnixMs) -> Option<Usd> {
        self.book.equity(&self.marks, now, i64::MAX)
    }

    /// Signals that came to nothing since the last call: their strategies take the step back.
    pub fn take_failed(&mut self) -> Vec<MessageId> {
        std::mem::take(&mut self.failed)
    }

    /// Moves the clock from `before` to `now`: a new UTC day starts with the equity of the last event before it, and
    /// orders on their way arrive.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn advance(&mut self, before: UnixMs, now: UnixMs) -> Result<(), ReplayError> {
        while let Some(arrived) = self.on_the_way.first_entry().filter(|first| first.key().0 <= now) {
            let ((due, _), request) = arrived.remove_entry();
            self.roll_day(before, due)?;
            let decision = self.core.place(&request, due)?;
            self.settle(&decision, due)?;
        }
        self.roll_day(before, now)
    }

    fn roll_day(&mut self, before: UnixMs, now: UnixMs) -> Result<(), ReplayError> {
        if now.day() <= self.book.day.day {
            return Ok(());
        }
        let equity = self.equity(before).unwrap_or(self.book.day.equity);
        self.book.roll_day(equity, now);
        self.log.line(now, "day", json!({ "day": now.day(), "baseline_usd": equity }))?;
        Ok(())
    }

    /// Market data reaches the venue; resting orders may trade. Gives back what it did to the venue's book.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn feed(&mut self, event: &FeedEvent, now: UnixMs) -> Result<Applied, ReplayError> {
        let (applied, decision) = self.core.follow(event, now)?;
        if !decision.is_empty() {
            self.settle(&decision, now)?;
        }
        Ok(applied)
    }

    /// The venue's book of an instrument.
    #[must_use]
    pub fn venue_book(&self, symbol: &Symbol) -> Option<&BookSync> {
        self.core.book(symbol)
    }

    /// The latest mark of an instrument, from the venue's book as it is now; one that has no price keeps its last.
    pub fn mark(&mut self, instrument: &InstrumentId, now: UnixMs) {
        let book = self.core.book(&instrument.symbol).and_then(BookSync::book);
        let Some(mark) = book.and_then(|book| book.mark(now)) else { return };
        match self.marks.get_mut(instrument) {
            Some(known) => *known = mark,
            None => drop(self.marks.insert(instrument.clone(), mark)),
        }
    }

    /// The book lost its chain of updates: its instrument has no price until the next snapshot.
    pub fn unmark(&mut self, instrument: &InstrumentId) {
        self.marks.remove(instrument);
    }

    /// Plans a signal, asks the rails, and sends what they let pass.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn signal(&mut self, signal: &StrategySignal, now: UnixMs) -> Result<(), ReplayError> {
        self.totals.signals += 1;
        self.log.line(now, "signal", described(signal))?;
        let header = signal.header(self.rules.user_id, now, self.rules.signal_ttl_ms);
        let around =
            PlanInputs { instruments: &self.rules.instruments, marks: &self.marks, now, config: &self.rules.planner };
        match plan(&signal.signal, &header, around) {
            Ok(intents) => intents.iter().try_for_each(|intent| self.intent(intent, now)),
            Err(reject) => {
                self.log.count(reject.code.code());
                self.log.line(now, "reject", json!({ "signal_id": signal.id, "reject": reject.to_string() }))?;
                self.failed.push(signal.id);
                Ok(())
            }
        }
    }

    fn intent(&mut self, intent: &OrderIntent, now: UnixMs) -> Result<(), ReplayError> {
        self.log.line(now, "intent", serde_json::to_value(intent)?)?;
        self.book.prune(now, self.rules.limits.rate_window_ms, self.rules.limits.approval_window_ms);
        let verdict = self.judge(intent, now);
        let (code, numbers) = match &verdict {
            Verdict::Approved(order) => {
                let order = order.get();
                ("PERMITTED", json!({ "digest": order.digest()?, "max_notional_usd": order.max_notional_usd }))
            }
            Verdict::NeedsHuman { tier, sum_usd, .. } => ("NEEDS_HUMAN", json!({ "tier": tier, "sum_usd": sum_usd })),
            Verdict::Refused(refusal) => (refusal.code.code(), json!(refusal.numbers)),
        };
        self.log.count(code);
        self.log.line(now, "verdict", json!({ "intent_id": intent.intent_id, "code": code, "numbers": numbers }))?;
        match verdict {
            Verdict::Approved(approved) => self.send(approved.get(), intent.signal_id, now),
            // Nobody is there to ask in a replay: as good as a no.
            Verdict::NeedsHuman { .. } | Verdict::Refused(_) => {
                self.failed.push(intent.signal_id);
                Ok(())
            }
        }
    }

    /// The treasury's own envelope, judged by the rails at kill level 0.
    fn judge(&self, intent: &OrderIntent, now: UnixMs) -> Verdict {
        let instrument = self.rules.instruments.get(&intent.instrument);
        let order = treasury::envelope::build(
            intent,
            self.book.closable(&intent.instrument),
            instrument,
            self.marks.get(&intent.instrument).copied(),
            intent.valid_until,
            &self.rules.limits.version(),
        );
        let around = Surroundings {
            limits: &self.rules.limits,
            book: &self.book,
            marks: &self.marks,
            instrument,
            verdict: None,
            kill: KillReading::Level { level: 0, epoch: 0 },
            now,
        };
        match order {
            Ok(order) => check(&order, None, around),
            Err(refusal) => Verdict::Refused(refusal),
        }
    }

    fn send(&mut self, order: &OrderEnvelope, signal_id: MessageId, now: UnixMs) -> Result<(), ReplayError> {
        self.book.permit(order, false, &self.marks, now);
        let request = OrderRequest::of_envelope(order);
        let latency_ms = self.core.draw(&request.client_order_id).latency_ms;
        let due = now.plus_ms(i64::try_from(latency_ms).unwrap_or(i64::MAX));
        let line = json!({
            "order_id": order.order_id, "client_order_id": request.client_order_id, "instrument": request.instrument.to_string(),
            "side": request.side, "quantity": request.quantity, "worst_price": request.worst_price, "arrives_ms": due.0,
        });
        self.log.line(now, "order", line)?;
        let working = Working { order_id: order.order_id, signal_id, fills_posted: 0 };
        self.working.insert(request.client_order_id.clone(), working);
        self.on_the_way.insert((due, self.sent), request);
        self.sent += 1;
        Ok(())
    }

    /// Does what the venue decided and posts what came of it.
    fn settle(&mut self, decision: &Decision, now: UnixMs) -> Result<(), ReplayError> {
        self.core.commit(decision)?;
        let touched: BTreeSet<&String> = decision
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Opened { .. } | Effect::Resumed { .. } => None,
                Effect::Accepted { request, .. } | Effect::Rejected { request, .. } => Some(&request.client_order_id),
                Effect::Filled { client_order_id, .. } | Effect::Ended { client_order_id, .. } => Some(client_order_id),
            })
            .collect();
        touched.into_iter().try_for_each(|client_order_id| self.outcome(client_order_id, now))
    }

    fn outcome(&mut self, client_order_id: &str, now: UnixMs) -> Result<(), ReplayError> {
        let (Some(status), Some(working)) = (self.core.status(client_order_id), self.working.get_mut(client_order_id))
        else {
            return Ok(());
        };
        for fill in status.fills.iter().skip(working.fills_posted) {
            working.fills_posted += 1;
            let posted = self.book.post_fill(fill, self.rules.limits.breaker, now)?;
            self.totals.fills += 1;
            self.totals.fees = self.totals.fees.plus(fill.fee)?;
            self.totals.realised = self.totals.realised.plus(posted.realised)?;
            let line = json!({
                "order_id": fill.order_id, "trade_id": fill.venue_trade_id, "side": fill.side, "quantity": fill.quantity,
                "price": fill.price, "fee_usd": fill.fee, "realised_usd": posted.realised, "cash_usd": self.book.cash,
                "closed": posted.closed.is_some(),
            });
            self.log.line(now, "fill", line)?;
        }
        if status.state.is_terminal() {
            if self.book.reservations.contains_key(&working.order_id) {
                self.book.release(working.order_id)?;
            }
            if status.filled.is_zero() {
                self.failed.push(working.signal_id);
            }
            let line = json!({
                "order_id": working.order_id, "state": status.state, "filled": status.filled, "code": status.reject_code,
            });
            self.log.line(now, "outcome", line)?;
            self.working.remove(client_order_id);
        }
        Ok(())
    }
}

fn described(signal: &StrategySignal) -> serde_json::Value {
    let amount = match signal.signal.size {
        SignalSize::Base(quantity) => quantity.to_string(),
        SignalSize::Notional(dollars) => format!("{dollars} usd"),
        SignalSize::All => "all".to_owned(),
        SignalSize::None => "none".to_owned(),
    };
    let action = match signal.signal.action {
        SignalAction::Buy => "buy",
        SignalAction::Sell => "sell",
        SignalAction::Hold => "hold",
    };
    json!({
        "signal_id": signal.id, "strategy": signal.strategy, "instrument": signal.instrument.to_string(),
        "bar_ms": signal.bar.0, "action": action, "amount": amount, "why": signal.signal.reasoning,
    })
}
