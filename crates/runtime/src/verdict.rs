//! What becomes of a message that was handled, or could not be: the decisions of the intake, without a server. A
//! simulation that stands in for the intake asks the same functions.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::ids::{MessageId, UserId, derive};
use domain::message::{Message, Notice, Payload};
use domain::reject::{Reject, RejectCode};
use domain::subject::{Priority, Route, Subject};

/// How often a failed message is tried again, and after which pauses.
#[derive(Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The class of messages.
    pub class: &'static str,
    /// Pauses before the second, third, .. delivery.
    pub pauses_ms: &'static [u64],
}

/// What trades must end while it is worth something.
pub const TRADING: RetryPolicy = RetryPolicy { class: "trading", pauses_ms: &[100, 400, 2_000] };
/// What only watches and tells (monitoring, system, social) has time, and lasts through a dependency that restarts.
pub const WATCHING: RetryPolicy = RetryPolicy { class: "watching", pauses_ms: &[1_000, 4_000, 15_000, 30_000, 60_000] };

/// The policy of a route, by its domain; what is none of our subjects is treated as trading.
#[must_use]
pub fn retry_policy(route: Option<Route>) -> &'static RetryPolicy {
    match route.map(|route| route.tokens().0) {
        None | Some("trading") => &TRADING,
        Some(_) => &WATCHING,
    }
}

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Handled.
    Ack,
    /// To be delivered again after a pause.
    Again(Duration),
    /// Given up without a dead letter: the tables hold what it was about.
    Drop,
    /// Given up and kept for people to look at.
    DeadLetter(Reject),
}

/// What is known of a delivery when it is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `None` for a subject that is none of ours.
    pub route: Option<Route>,
    /// Whose message it was, or whose door it came through; nil when it was nobody's.
    pub user: UserId,
    /// `None` when the message could not be read.
    pub message_id: Option<MessageId>,
}

/// Where a delivery lay in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Stream name.
    pub stream: &'a str,
    /// Sequence in the stream.
    pub seq: u64,
    /// The subject it was published to.
    pub subject: &'a str,
}

impl Place<'_> {
    /// The root id of the notice about a dead letter: of its place, so that a second burial changes nothing.
    #[must_use]
    pub fn burial_id(&self) -> uuid::Uuid {
        derive("swarm.dead-letter.v1", &[self.stream.as_bytes(), &self.seq.to_be_bytes()])
    }
}

/// The pause after delivery number `attempts` failed; `None` when there is no further one.
#[must_use]
pub fn pause_after(route: Option<Route>, attempts: u64) -> Option<Duration> {
    let at = usize::try_from(attempts.saturating_sub(1)).ok()?;
    retry_policy(route).pauses_ms.get(at).map(|ms| Duration::from_millis(*ms))
}

/// What becomes of delivery number `attempts` whose handler failed with `text`.
#[must_use]
pub fn after_failure(route: Route, attempts: u64, text: &str) -> Verdict {
    match pause_after(Some(route), attempts) {
        Some(pause) => Verdict::Again(pause),
        None => give_up(Some(route), Reject::new(RejectCode::AttemptsExhausted, text)),
    }
}

/// What says that a person decided something.
const fn is_word(route: Route) -> bool {
    matches!(route, Route::ApprovalResolved | Route::PersonAct)
}

/// Commands become dead letters, as do void words of a person and what is none of our subjects; facts and wake-ups are read
/// again from tables.
#[must_use]
pub fn give_up(route: Option<Route>, reject: Reject) -> Verdict {
    if route.is_none_or(Route::is_command) || is_void_word(route, &reject) {
        return Verdict::DeadLetter(reject);
    }
    tracing::warn!(code = reject.code.code(), detail = reject.detail, "a fact is given up");
    Verdict::Drop
}

/// A person's word that is none: not to be read, of nobody, or one that the record does not know. Not so when only the store
/// failed: what was decided is read again from the tables.
fn is_void_word(route: Option<Route>, reject: &Reject) -> bool {
    route.is_some_and(is_word) && reject.code != RejectCode::AttemptsExhausted
}

/// Whose door a subject is; nil for subjects that are no doors.
#[must_use]
pub fn door_user(subject: &Subject) -> UserId {
    match subject {
        Subject::Routed { route: Route::UserSignal, who: Some(handle), .. } => UserId::of_handle(handle),
        Subject::Routed { route: Route::Signal, .. } | Subject::ThreeToken { .. } => UserId::of_handle("operator"),
        _ => UserId(uuid::Uuid::nil()),
    }
}

/// Tells the person whose message became a dead letter and, when it passed for a person's word, the supervisor, who keeps
/// the governance chain.
#[must_use]
pub fn told(cause: &Cause, reject: &Reject, place: Place<'_>) -> Vec<Message> {
    let notice = notice(cause, reject, place);
    let mut out =
        vec![Message::fact(Subject::fact(Route::Notice), cause.user, &notice.code, Payload::Notice(notice.clone()))];
    if is_void_word(cause.route, reject) {
        out.push(Message {
            subject: Subject::of(Route::VoidWord, Priority::Normal),
            key: "void".to_owned(),
            user_id: cause.user,
            valid_until: None,
            payload: Payload::Notice(notice),
        });
    }
    out
}

fn notice(cause: &Cause, reject: &Reject, place: Place<'_>) -> Notice {
    let signal = matches!(cause.route, Some(Route::Signal | Route::UserSignal | Route::Idea));
    let code = if signal { "SIGNAL_REJECTED" } else { "MESSAGE_GIVEN_UP" };
    let mut numbers = BTreeMap::from([
        ("code".to_owned(), reject.code.code().to_owned()),
        ("detail".to_owned(), reject.detail.clone()),
        ("subject".to_owned(), place.subject.to_owned()),
        ("stream".to_owned(), place.stream.to_owned()),
        ("seq".to_owned(), place.seq.to_string()),
    ]);
    if let Some(id) = cause.message_id {
        numbers.insert("message_id".to_owned(), id.to_string());
    }
    let text = format!("{code}: {} {}", reject.code.code(), reject.detail);
    Notice { code: code.to_owned(), text, numbers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trading_is_retried_three_times_and_watching_five() {
        let check = |route, attempts, expected: Option<u64>| {
            assert_eq!(pause_after(Some(route), attempts), expected.map(Duration::from_millis), "{route:?} {attempts}");
        };
        check(Route::Signal, 1, Some(100));
        check(Route::Signal, 2, Some(400));
        check(Route::CexPermit, 3, Some(2_000));
        check(Route::CexPermit, 4, None);
        for route in [Route::Alert, Route::Notice, Route::Command] {
            check(route, 1, Some(1_000));
            check(route, 5, Some(60_000));
            check(route, 6, None);
        }
    }

    #[test]
    fn every_route_has_a_policy_and_its_retries_fit_the_consumers_deliveries() {
        for route in Route::ALL {
            let (domain, _, _) = route.tokens();
            let class = if domain == "trading" { "trading" } else { "watching" };
            assert_eq!(retry_policy(Some(route)).class, class, "{route:?}");
        }
        for policy in [&TRADING, &WATCHING] {
            assert!(policy.pauses_ms.is_sorted(), "{policy:?}");
            assert!((policy.pauses_ms.len() as i64) < bus::streams::MAX_DELIVER, "{policy:?}");
        }
    }

    #[test]
    fn only_commands_and_strangers_become_dead_letters() {
        let reject = Reject::new(RejectCode::BadJson, "x");
        let check = |route: Option<Route>, dead: bool| {
            assert_eq!(matches!(give_up(route, reject.clone()), Verdict::DeadLetter(_)), dead, "{route:?}");
        };
        check(None, true);
        check(Some(Route::Signal), true);
        check(Some(Route::Intent), true);
        check(Some(Route::DexPermit), true);
        check(Some(Route::Report), false);
        check(Some(Route::ApprovalResolved), true);
        check(Some(Route::VoidWord), true);
        check(Some(Route::Notice), false);
    }

    #[test]
    fn a_void_word_is_told_to_the_governance_chain_and_a_slow_store_makes_none() {
        let place = Place { stream: "TRADING_CRITICAL", seq: 7, subject: "trading.treasury.approval.critical" };
        let check = |route, code, kept: bool, routes: &[Route]| {
            let reject = Reject::new(code, "x");
            let cause = Cause { route: Some(route), user: UserId::of_handle("alice"), message_id: None };
            assert_eq!(give_up(Some(route), reject.clone()) != Verdict::Drop, kept, "{route:?} {code:?}");
            let told: Vec<_> = told(&cause, &reject, place).iter().map(|m| m.subject.route()).collect();
            assert_eq!(told, routes, "{route:?} {code:?}");
        };
        check(Route::ApprovalResolved, RejectCode::BadProtobuf, true, &[Route::Notice, Route::VoidWord]);
        check(Route::ApprovalResolved, RejectCode::AttemptsExhausted, false, &[Route::Notice]);
        check(Route::PersonAct, RejectCode::BadId, true, &[Route::Notice, Route::VoidWord]);
        check(Route::PersonAct, RejectCode::AttemptsExhausted, true, &[Route::Notice]);
        check(Route::Intent, RejectCode::BadProtobuf, true, &[Route::Notice]);
        check(Route::VoidWord, RejectCode::BadProtobuf, true, &[Route::Notice]);
    }

    #[test]
    fn a_rejected_signal_is_told_to_the_owner_of_its_door() {
        let check = |subject: &str, handle: &str| {
            assert_eq!(door_user(&Subject::parse(subject).unwrap()), UserId::of_handle(handle), "{subject}");
        };
        check("trading.buy_bot.signal.critical", "operator");
        check("trading.signal.urgent", "operator");
        check("trading.buy_bot.signal-alice.high", "alice");
    }
}
