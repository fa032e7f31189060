//! One intent, one transaction: rails, reservation, decision row, audit row, and the messages of the outbox.

use domain::ids::{ApprovalId, PermitId, UserId, derive};
use domain::market::Instrument;
use domain::message::{ApprovalRequest, DecisionOutcome, Message};
use domain::money::Usd;
use domain::order::{OrderEnvelope, OrderIntent, PermitBody};
use domain::time::{DAY_MS, UnixMs};
use rails::book::{Book, Marks, ReservationState};
use rails::check::{HumanApproval, KillReading, Surroundings, Verdict, check};
use rails::kill::KillCopy;
use rails::limits::Limits;
use rails::refusal::{Refusal, RefusalCode};
use runtime::HandleError;
use runtime::evidence::Panel;
use runtime::kill::KillSwitch;
use serde_json::json;
use store::Unit;
use store::approvals::{ApprovalRow, ApprovalStatus};
use store::decisions::{DecisionRow, Outcome};
use store::users::User;

use crate::config::Config;
use crate::{NAME, envelope, facts};

/// Largest difference between our clock and the database's at which new risk is taken, ms.
pub const MAX_CLOCK_SKEW_MS: i64 = 2_000;

/// What treasury knows besides the ledger when it decides.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// Marks of now.
    pub marks: &'a Marks,
    /// Marks at the last moment before today's 00:00 UTC, when this process saw it.
    pub marks_before_midnight: Option<&'a Marks>,
    /// Copies of the kill level outside the database (file, memory); `None` for one that can't be read.
    pub kill_copies: &'a [Option<KillCopy>],
    /// Database time.
    pub now: UnixMs,
    /// Our clock less the database's.
    pub clock_skew_ms: i64,
}

/// A user's ledger under its row lock, with the limits that hold for it.
#[derive(Debug)]
pub struct Locked {
    /// The ledger; today's baseline is in place.
    pub book: Book,
    /// House limits tightened by the user's own; the house's alone when those can't be read.
    pub limits: Limits,
    /// Why the user's own limits can't be read: then they get no permit, but what they hold is still settled.
    pub limits_fault: Option<String>,
}

impl Locked {
    /// The refusal of every order of a user whose own limits can't be read.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.limits_fault.as_ref().map(|fault| Refusal::new(RefusalCode::UnknownUser).with("own_limits", fault))
    }

    /// What the rails judge an order by.
    #[must_use]
    pub const fn surroundings<'a>(
        &'a self,
        instrument: Option<&'a Instrument>,
        kill: KillReading,
        sight: Sight<'a>,
    ) -> Surroundings<'a> {
        let Sight { marks, now, .. } = sight;
        Surroundings { limits: &self.limits, book: &self.book, marks, instrument, verdict: None, kill, now }
    }
}

/// Locks the user's ledger, and starts the UTC day in it when that is due. `None`: no such user.
///
/// # Errors
/// Store failures.
pub async fn lock(
    unit: &mut Unit,
    config: &Config,
    user_id: UserId,
    sight: Sight<'_>,
) -> Result<Option<Locked>, HandleError> {
    let Some(user) = store::users::user(unit, user_id).await? else {
        return Ok(None);
    };
    let (limits, limits_fault) = limits_of(config, &user);
    if let Some(error) = &limits_fault {
        tracing::error!(%user_id, error, "a user's own limits can't be read: no permits for them");
    }
    let locked = store::ledger::lock_book(unit, user_id, sight.now, limits.rate_window_ms, limits.approval_window_ms);
    let Some(mut book) = locked.await? else {
        return Ok(None);
    };
    if book.day.day < sight.now.day()
        && let Some(equity) = equity_before_midnight(&book, &limits, sight)
    {
        let changes = book.roll_day(equity, sight.now);
        store::ledger::apply(unit, user_id, &changes, sight.now).await?;
        let body = json!({ "day": sight.now.day(), "baseline_equity_usd": equity });
        store::audit::append(unit, user_id, "day_started", NAME, &body, sight.now).await?;
    }
    Ok(Some(Locked { book, limits, limits_fault }))
}

/// The limits that hold for a user, and why their own can't be read when they can't: one user's bad row must not end the
/// process that settles everybody's trades.
pub(crate) fn limits_of(config: &Config, user: &User) -> (Limits, Option<String>) {
    match config.house.tightened_by(&user.trading_constraints) {
        Ok(limits) => (limits, None),
        Err(error) => (config.house.clone(), Some(error.to_string())),
    }
}

/// Equity at the last event before 00:00 UTC. When this process did not see midnight, the ledger as it stands is valued
/// at the marks of now. `None` without fresh marks: then no new risk passes anyway.
fn equity_before_midnight(book: &Book, limits: &Limits, sight: Sight<'_>) -> Option<Usd> {
    if let Some(marks) = sight.marks_before_midnight {
        let midnight = UnixMs(sight.now.0.div_euclid(DAY_MS) * DAY_MS);
        if let Some(equity) = book.equity(marks, midnight, limits.mark_max_age_ms) {
            return Some(equity);
        }
    }
    book.equity(sight.marks, sight.now, limits.mark_max_age_ms)
}

/// Decides one intent.
///
/// # Errors
/// Store failures, to be retried by the runtime; a refusal is an output.
pub async fn decide(
    unit: &mut Unit,
    config: &Config,
    intent: &OrderIntent,
    sight: Sight<'_>,
) -> Result<Vec<Message>, HandleError> {
    let order_id = domain::ids::OrderId::of_intent(intent.intent_id);
    let turn_away =
        |refusal: &Refusal| facts::refused(intent.user_id, order_id, intent.signal_id, &intent.instrument, refusal);
    let Some(mut locked) = lock(unit, config, intent.user_id, sight).await? else {
        return Ok(turn_away(&Refusal::new(RefusalCode::UnknownUser).with("user_id", intent.user_id)));
    };
    if store::decisions::get_by_order(unit, order_id).await?.is_some() {
        return Ok(Vec::new());
    }
    if let Some(refusal) = locked.refusal() {
        record_refusal(unit, intent, None, &locked.limits, &refusal, sight.now).await?;
        return Ok(turn_away(&refusal));
    }
    let instrument = store::instruments::get(unit, &intent.instrument).await?;
    let kill = KillSwitch::read_with(unit, sight.kill_copies).await?;
    let mark = sight.marks.get(&intent.instrument).copied();
    let built = envelope::build(
        intent,
        locked.book.closable(&intent.instrument),
        instrument.as_ref(),
        mark,
        intent.valid_until,
        &locked.limits.version(),
    );
    let order = match built {
        Ok(order) => order,
        Err(refusal) => {
            record_refusal(unit, intent, None, &locked.limits, &refusal, sight.now).await?;
            return Ok(turn_away(&refusal));
        }
    };
    let mut verdict = check(&order, None, locked.surroundings(instrument.as_ref(), kill, sight));
    if !matches!(verdict, Verdict::Refused(_))
        && order.side == domain::order::Side::Buy
        && sight.clock_skew_ms.abs() > MAX_CLOCK_SKEW_MS
    {
        verdict = Verdict::Refused(Refusal::new(RefusalCode::ClockSkew).with("skew_ms", sight.clock_skew_ms));
    }
    match verdict {
        Verdict::Refused(refusal) => {
            record_refusal(unit, intent, Some(&order), &locked.limits, &refusal, sight.now).await?;
            Ok(turn_away(&refusal))
        }
        Verdict::NeedsHuman { tier, sum_usd, .. } => {
            ask_human(unit, intent, order, (tier, sum_usd), &mut locked, sight.now).await
        }
        Verdict::Approved(approved) => {
            let order = approved.into_inner();
            record_decision(unit, intent, Some(&order), Outcome::Permitted, None, &locked.limits, sight.now).await?;
            let permit = sign(unit, config, &order, &mut locked, false, kill, sight).await?;
            Ok(vec![
                permit,
                facts::decision(
                    intent.user_id,
                    order_id,
                    intent.signal_id,
                    &intent.instrument,
                    DecisionOutcome::Permitted,
                ),
            ])
        }
    }
}

/// Counts and signs a permit for an order that the rails approved, and puts it into its table and the audit chain.
///
/// # Errors
/// Store failures.
pub async fn sign(
    unit: &mut Unit,
    config: &Config,
    order: &OrderEnvelope,
    locked: &mut Locked,
    by_human: bool,
    kill: KillReading,
    sight: Sight<'_>,
) -> Result<Message, HandleError> {
    // An unreadable level lets exits pass, as level 1 does; they are signed under no epoch.
    let epoch = match kill {
        KillReading::Level { epoch, .. } => epoch,
        KillReading::Unreadable => 0,
    };
    let now = sight.now;
    let changes = locked.book.permit(order, by_human, sight.marks, now);
    store::ledger::apply(unit, order.user_id, &changes, now).await?;
    let ttl_end = now.plus_ms(locked.limits.permit_ttl_ms);
    let body = PermitBody {
        schema: PermitBody::SCHEMA.to_owned(),
        permit_id: PermitId(derive("swarm.permit.v1", &[order.order_id.0.as_bytes()])),
        envelope: order.clone(),
        kill_epoch: epoch,
        signed_at: now,
        expires_at: ttl_end.min(order.valid_until),
        key_id: String::new(),
    };
    let permit = config.signer.sign(body).map_err(|error| HandleError::Fatal(error.to_string()))?;
    store::permits::insert(unit, &permit, order.user_id).await?;
    let audit = json!({
        "order_id": order.order_id,
        "intent_id": order.intent_id,
        "permit_id": permit.body.permit_id,
        "digest": digest_of(order)?,
        "by_human": by_human,
        "kill_epoch": epoch,
        "expires_at": permit.body.expires_at,
        "envelope": order,
    });
    store::audit::append(unit, order.user_id, "permit_signed", NAME, &audit, now).await?;
    metrics::counter!("swarm_permits_total", "by" => if by_human { "human" } else { "rails" }).increment(1);
    Ok(facts::permit(order.user_id, permit))
}

/// Digest of an envelope as a handler error.
///
/// # Errors
/// [`HandleError::Fatal`]; no typed envelope causes it.
pub fn digest_of(order: &OrderEnvelope) -> Result<domain::canonical::Sha256Digest, HandleError> {
    order.digest().map_err(|error| HandleError::Fatal(error.to_string()))
}

/// Asks people about an order that needs them, or refuses it when they were asked too often or nobody could answer.
async fn ask_human(
    unit: &mut Unit,
    intent: &OrderIntent,
    order: OrderEnvelope,
    (tier, sum_usd): (u8, Usd),
    locked: &mut Locked,
    now: UnixMs,
) -> Result<Vec<Message>, HandleError> {
    let panel = Panel::read(unit).await?;
    let needed = match may_ask(unit, intent.user_id, tier, &panel, &locked.limits, now).await? {
        Ok(needed) => needed,
        Err(refusal) => {
            record_refusal(unit, intent, Some(&order), &locked.limits, &refusal, now).await?;
            return Ok(facts::refused(intent.user_id, order.order_id, intent.signal_id, &intent.instrument, &refusal));
        }
    };
    // The signal's own validity bounded how long it might wait for us; a human gets the time the limits name.
    let expires_at = now.plus_ms(locked.limits.approval_ttl_ms);
    let order = OrderEnvelope { valid_until: expires_at, ..order };
    record_decision(unit, intent, Some(&order), Outcome::NeedsHuman, None, &locked.limits, now).await?;
    let approval_id = ApprovalId(derive("swarm.approval.v1", &[order.order_id.0.as_bytes()]));
    let row = request_of(intent, order, approval_id, tier, needed, &panel, now)?;
    ask(unit, intent, row, sum_usd, locked, now).await
}

/// How many people a question needs, when it may be asked at all.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub(crate) async fn may_ask(
    unit: &mut Unit,
    user_id: UserId,
    tier: u8,
    panel: &Panel,
    limits: &Limits,
    now: UnixMs,
) -> Result<Result<u8, Refusal>, HandleError> {
    const HOUR_MS: i64 = 3_600_000;
    let prompts = store::approvals::prompts_since(unit, user_id, now.plus_ms(-HOUR_MS)).await?;
    if prompts >= u64::from(limits.approval_prompts_per_hour) {
        let refusal = Refusal::new(RefusalCode::AttentionBudget)
            .with("prompts", prompts)
            .with("limit", limits.approval_prompts_per_hour);
        return Ok(Err(refusal));
    }
    let needed = rails::quorum::needed(limits, tier, panel.active()).and_then(|needed| u8::try_from(needed).ok());
    // Nobody could ever say yes: that is a no, now and not when the time has run out.
    let denied = || Refusal::new(RefusalCode::Denied).with("tier", tier).with("approvers", panel.active());
    Ok(needed.ok_or_else(denied))
}

/// A question as it is stored.
///
/// # Errors
/// [`HandleError::Fatal`], which no typed value can cause.
pub(crate) fn request_of(
    intent: &OrderIntent,
    order: OrderEnvelope,
    approval_id: ApprovalId,
    tier: u8,
    needed: u8,
    panel: &Panel,
    now: UnixMs,
) -> Result<ApprovalRow, HandleError> {
    let fatal = |error: serde_json::Error| HandleError::Fatal(error.to_string());
    Ok(ApprovalRow {
        approval_id,
        user_id: intent.user_id,
        order_id: order.order_id,
        digest: digest_of(&order)?,
        intent: serde_json::to_value(intent).map_err(fatal)?,
        tier,
        status: ApprovalStatus::Pending,
        policy_version: order.policy_version.clone(),
        approvers_version: panel.version().to_owned(),
        needed,
        replaces: None,
        requested_by: serde_json::to_string(&intent.origin).map_err(fatal)?,
        reasoning: intent.reasoning.clone(),
        requested_at: now,
        expires_at: order.valid_until,
        envelope: order,
    })
}

/// Holds the money of a question, stores it, and tells of it: all of it in the caller's transaction.
///
/// # Errors
/// Store failures.
pub(crate) async fn ask(
    unit: &mut Unit,
    intent: &OrderIntent,
    row: ApprovalRow,
    sum_usd: Usd,
    locked: &mut Locked,
    now: UnixMs,
) -> Result<Vec<Message>, HandleError> {
    let (approval_id, digest, tier, expires_at) = (row.approval_id, row.digest, row.tier, row.expires_at);
    let changes = locked.book.reserve(&row.envelope, ReservationState::Pending, expires_at);
    store::ledger::apply(unit, intent.user_id, &changes, now).await?;
    if !store::approvals::insert_request(unit, &row).await? {
        return Err(HandleError::Retry(format!("approval {approval_id} was asked meanwhile")));
    }
    let audit = json!({
        "order_id": row.order_id,
        "intent_id": row.envelope.intent_id,
        "signal_id": intent.signal_id,
        "approval_id": approval_id,
        "replaces": row.replaces,
        "digest": digest,
        "tier": tier,
        "needed": row.needed,
        "sum_usd": sum_usd,
        "expires_at": expires_at,
    });
    store::audit::append(unit, intent.user_id, "approval_requested", NAME, &audit, now).await?;
    metrics::counter!("swarm_approvals_requested_total").increment(1);
    let outcome = DecisionOutcome::NeedsHuman { approval_id };
    let told = facts::decision(intent.user_id, row.order_id, intent.signal_id, &intent.instrument, outcome);
    let reasoning = intent.reasoning.clone();
    let request = ApprovalRequest { approval_id, envelope: row.envelope, digest, tier, expires_at, reasoning };
    Ok(vec![facts::approval_requested(intent.user_id, request), told])
}

/// Builds what a stored approval grants to the second check.
#[must_use]
pub const fn grant(row: &ApprovalRow) -> HumanApproval {
    HumanApproval { digest: row.digest, tier: row.tier, expires_at: row.expires_at }
}

async fn record_refusal(
    unit: &mut Unit,
    intent: &OrderIntent,
    order: Option<&OrderEnvelope>,
    limits: &Limits,
    refusal: &Refusal,
    now: UnixMs,
) -> Result<(), HandleError> {
    record_decision(unit, intent, order, Outcome::Refused, Some(refusal), limits, now).await
}

async fn record_decision(
    unit: &mut Unit,
    intent: &OrderIntent,
    order: Option<&OrderEnvelope>,
    outcome: Outcome,
    refusal: Option<&Refusal>,
    limits: &Limits,
    now: UnixMs,
) -> Result<(), HandleError> {
    let fatal = |error: serde_json::Error| HandleError::Fatal(error.to_string());
    let numbers = refusal.map_or_else(|| json!({}), |r| json!(r.numbers));
    let row = DecisionRow {
        user_id: intent.user_id,
        order_id: domain::ids::OrderId::of_intent(intent.intent_id),
        intent_id: intent.intent_id,
        signal_id: intent.signal_id,
        leg: intent.leg,
        outcome,
        code: refusal.map(|r| r.code.code().to_owned()),
        numbers: numbers.clone(),
        envelope: order.map(serde_json::to_value).transpose().map_err(fatal)?,
        digest: order.map(digest_of).transpose()?,
        policy_version: limits.version(),
        at: now,
    };
    if !store::decisions::insert(unit, &row).await? {
        return Err(HandleError::Retry(format!("signal {} leg {} was decided meanwhile", row.signal_id, row.leg)));
    }
    let audit = json!({
        "order_id": row.order_id,
        "intent_id": row.intent_id,
        "signal_id": row.signal_id,
        "leg": row.leg,
        "outcome": row.outcome.word(),
        "code": row.code,
        "numbers": numbers,
        "intent": serde_json::to_value(intent).map_err(fatal)?,
        "policy_version": row.policy_version,
    });
    store::audit::append(unit, intent.user_id, "decision", NAME, &audit, now).await?;
    Ok(())
}
