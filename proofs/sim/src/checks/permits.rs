//! What must hold of every permit at the moment it is signed.

use super::own::Passed;
use super::*;

impl Sight<'_> {
    /// The price that treasury goes by, when it is fresh by its stamp and by what the market showed.
    fn fresh(&self, instrument: &InstrumentId) -> Option<Decimal> {
        let mark = self.marks.get(instrument)?;
        let oldest = self.now.plus_ms(-MARK_AGE_MS.end() - CLOCK_AHEAD_MS);
        let price = mark.price.value();
        let was_shown = self.shown.iter().any(|s| s.at >= oldest && s.instrument == *instrument && s.price == price);
        (was_shown && MARK_AGE_MS.contains(&self.now.since_ms(mark.received_at))).then_some(price)
    }
}

impl Checks {
    pub(super) fn permits(&mut self, tables: &Tables, sight: &Sight<'_>) {
        for (id, row) in &tables.permits {
            let body = &row.permit.body;
            let order = body.envelope.order_id;
            let Some(before) = self.permits.insert(*id, row.state) else {
                self.permit(tables, sight, row.user_id, &row.permit);
                self.audited_once("permit_signed", &order.to_string());
                self.spent(tables, *id, row.state);
                continue;
            };
            if before != row.state {
                let legal = before == PermitState::Signed;
                self.require(legal, PERMIT_ONCE, || {
                    format!("{id} went from {} to {}", before.word(), row.state.word())
                });
                self.spent(tables, *id, row.state);
            }
        }
    }

    pub(super) fn spent(&mut self, tables: &Tables, id: PermitId, state: PermitState) {
        let orders = tables.orders.values().filter(|order| order.permit_id == id).count();
        let expected = usize::from(state == PermitState::Spent);
        self.require(orders == expected, PERMIT_ONCE, || {
            format!("permit {id} is {} and has {orders} orders", state.word())
        });
    }

    pub(super) fn permit(&mut self, tables: &Tables, sight: &Sight<'_>, user: UserId, permit: &domain::order::Permit) {
        let body = &permit.body;
        let order = &body.envelope;
        let good = self.verifier.verify(permit, sight.now).is_ok();
        self.require(good, PERMIT_VALID, || format!("{} does not verify", body.permit_id));
        let in_time = body.signed_at <= order.valid_until && body.expires_at <= order.valid_until;
        self.require(in_time, PERMIT_VALID, || format!("{} outlives its order", body.permit_id));
        self.require(user == order.user_id, TENANCY, || {
            format!("permit {} of {user} is for {}", body.permit_id, order.user_id)
        });
        let decision = tables.decisions.values().find(|d| d.order_id == order.order_id && d.user_id == user);
        let refused = decision.is_none_or(|d| d.outcome == Outcome::Refused);
        self.require(!refused, REFUSED, || format!("permit for {}: {:?}", order.order_id, decision.map(|d| &d.code)));
        let limits = tables.users.get(&user).and_then(|u| self.house.tightened_by(&u.trading_constraints).ok());
        let Some(limits) = limits else {
            return self.wrong(TENANCY, format!("permit {} for the unknown {user}", body.permit_id));
        };
        self.collar(order, sight, &limits);
        self.passes(tables, sight, user, order);
        if order.side == Side::Buy {
            self.new_risk(tables, sight, order, &limits);
        } else {
            let others =
                tables.reservations.range((user, OrderId(uuid::Uuid::nil()))..).take_while(|((u, _), _)| *u == user);
            let open: Decimal = others
                .filter(|((_, id), r)| {
                    *id != order.order_id && r.side == Side::Sell && r.instrument == order.instrument()
                })
                .map(|(_, r)| r.remaining.value())
                .sum();
            let held = tables.positions.get(&(user, order.instrument())).map_or(Decimal::ZERO, |p| p.quantity.value());
            self.require(order.quantity.value() + open <= held, SPOT, || {
                format!("sale of {} with {open} open of {held}", order.quantity)
            });
        }
        let hour = sight.now.plus_ms(-limits.rate_window_ms);
        let same = self.own.passed(user, hour).filter(|passed| passed.side == order.side).count();
        let most = if order.side == Side::Buy { limits.rate_risk_increasing } else { limits.rate_exits };
        self.require(same <= most as usize, RATE, || format!("{same} permits of {user} in an hour"));
    }

    /// Writes the permit down, for the sums over what went out before.
    fn passes(&mut self, tables: &Tables, sight: &Sight<'_>, user: UserId, order: &OrderEnvelope) {
        let mark = sight.marks.get(&order.instrument()).map_or(Decimal::ZERO, |mark| mark.price.value());
        self.own.pass(Passed {
            order_id: order.order_id,
            user,
            instrument: order.instrument(),
            side: order.side,
            at: sight.now,
            notional: up(mark.max(order.worst_price.value()) * order.quantity.value()),
            by_human: tables.requests.values().any(|request| request.order_id == order.order_id),
        });
    }

    pub(super) fn collar(&mut self, order: &OrderEnvelope, sight: &Sight<'_>, limits: &Limits) {
        let Some(mark) = sight.marks.get(&order.instrument()) else {
            return self.wrong(COLLAR, format!("{} without any mark", order.order_id));
        };
        let gap = (order.worst_price.value() - mark.price.value()).abs() * Decimal::ONE_HUNDRED;
        let holds = gap <= mark.price.value() * limits.price_collar_percent;
        self.require(holds, COLLAR, || {
            format!("{} at {} with the mark at {}", order.order_id, order.worst_price, mark.price)
        });
    }

    pub(super) fn new_risk(&mut self, tables: &Tables, sight: &Sight<'_>, order: &OrderEnvelope, limits: &Limits) {
        let user = order.user_id;
        let id = order.order_id;
        let level = self.level;
        let file = sight.kill_file.map_or(1, |copy| if copy.epoch > self.epoch { copy.level } else { 0 });
        self.require(level.max(file) == 0, KILL, || format!("{id} permitted at level {level}, file {file}"));
        let streak = self.own.streak(user, id);
        self.require(!streak.latched, BREAKER, || format!("{id} permitted after {streak:?}"));
        let skewed = sight.treasury_offset_ms.abs() > MAX_SKEW_MS;
        self.require(!skewed, FRESHNESS, || format!("{id} with a clock {} ms off", sight.treasury_offset_ms));
        let fresh = |instrument: &InstrumentId| sight.fresh(instrument);
        let Some(mark) = fresh(&order.instrument()) else {
            return self.wrong(FRESHNESS, format!("{id} without a fresh mark"));
        };
        let held: Vec<_> = tables
            .positions
            .iter()
            .filter(|((u, _), _)| *u == user)
            .map(|((_, i), p)| (i.clone(), p.quantity.value()))
            .collect();
        let mut worth = Vec::new();
        for (instrument, quantity) in held {
            let Some(price) = fresh(&instrument) else {
                return self.wrong(FRESHNESS, format!("{id} while the mark of {instrument} is stale"));
            };
            worth.push((instrument, up(price * quantity), down(price * quantity)));
        }
        let open: Vec<_> = tables
            .reservations
            .iter()
            .filter(|((u, _), r)| *u == user && r.side == Side::Buy)
            .map(|(_, r)| {
                let price = fresh(&r.instrument).map_or(r.worst_price.value(), |m| m.max(r.worst_price.value()));
                (r.instrument.clone(), up(price * r.remaining.value()), up(r.worst_price.value() * r.remaining.value()))
            })
            .collect();
        // Not what the account says, but what it should.
        let cash = self.own.cash(user);
        let exposure = |counts: &dyn Fn(&InstrumentId) -> bool| -> Decimal {
            worth.iter().filter(|(i, ..)| counts(i)).map(|(_, value, _)| *value).sum::<Decimal>()
                + open.iter().filter(|(i, ..)| counts(i)).map(|(_, value, _)| *value).sum::<Decimal>()
        };
        let here = exposure(&|i| *i == order.instrument());
        self.require(here <= limits.position_usd.value(), POSITION, || {
            format!("{id} makes it {here} in {}", order.symbol)
        });
        let equity: Decimal = cash + worth.iter().map(|(.., value)| *value).sum::<Decimal>();
        let all = exposure(&|_| true);
        self.require(all <= equity * limits.total_exposure_percent / Decimal::ONE_HUNDRED, TOTAL, || {
            format!("{id} makes it {all} of {equity}")
        });
        let needed: Decimal =
            open.iter().map(|(.., worst)| *worst + up(*worst * limits.worst_fee_percent / Decimal::ONE_HUNDRED)).sum();
        self.require(needed <= cash, CASH_COVERS, || format!("{id}: open buys need {needed} of {cash}"));
        let lost = self.own.lost(user, sight.now, &sight.marks);
        let within =
            lost.is_some_and(|(baseline, loss)| loss < baseline * limits.daily_loss_percent * Decimal::new(1, 2));
        self.require(within, DAILY_LOSS, || format!("{id} after a loss of {lost:?}"));
        self.human(tables, sight, order, mark, limits);
    }

    pub(super) fn human(
        &mut self,
        tables: &Tables,
        sight: &Sight<'_>,
        order: &OrderEnvelope,
        mark: Decimal,
        limits: &Limits,
    ) {
        let id = order.order_id;
        let own = up(mark * order.quantity.value()).max(order.max_notional_usd.value());
        let since = sight.now.plus_ms(-limits.approval_window_ms);
        let earlier: Decimal = self
            .own
            .passed(order.user_id, since)
            .filter(|p| !p.by_human && p.order_id != id && p.side == order.side && p.instrument == order.instrument())
            .map(|p| p.notional)
            .sum();
        let mut requests: Vec<_> = tables.requests.values().filter(|r| r.order_id == id).collect();
        if own + earlier <= limits.approval_over_usd.value() && requests.is_empty() {
            return;
        }
        // One that was modified made place for another of the same order.
        requests.retain(|request| request.status != ApprovalStatus::Superseded);
        let [request] = requests.as_slice() else {
            return self.wrong(HUMAN, format!("{id} of {own} after {earlier} with {} requests", requests.len()));
        };
        let same = order.digest().is_ok_and(|digest| digest == request.digest) && request.envelope == *order;
        self.require(same && request.status == ApprovalStatus::Consumed, HUMAN, || {
            format!("{id}: its approval is {} or of another envelope", request.status.word())
        });
        let mut people = BTreeSet::new();
        for (_, entry) in tables.entries.range((request.approval_id, i64::MIN)..=(request.approval_id, i64::MAX)) {
            let Some(act) = entry.row.signed_act() else { continue };
            let key = tables.approvers.get(&entry.row.person_id).filter(|a| a.active).map(|a| a.public_key.clone());
            if key.is_none_or(|key| verify_act(&act, &key).is_err()) {
                continue;
            }
            let this = (request.approval_id, request.digest);
            match act.act.what {
                Act::Vote { approval_id, digest, vote: Vote::Approve } if (approval_id, digest) == this => {
                    people.insert(entry.row.person_id.clone());
                }
                Act::Vote { vote: Vote::Reject, .. } | Act::Revoke { .. } | Act::Modify { .. } => {
                    self.wrong(HUMAN, format!("{id} permitted after {} said no", entry.row.person_id));
                }
                _ => {}
            }
        }
        let needed = if own > limits.approval_tier2_over_usd.value() { 2 } else { 1 };
        self.require(request.tier >= needed && !people.is_empty(), HUMAN, || {
            format!("{id}: tier {} with {people:?}", request.tier)
        });
        let uses = self.rows_of("approval_consumed", &id.to_string());
        self.require(uses == 1, APPROVAL_ONCE, || format!("the approval of {id} was used {uses} times"));
    }
}
