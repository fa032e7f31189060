//! What an opinion does, and how signals wait for one.

use std::time::Duration;

use async_trait::async_trait;
use domain::ids::{CorrelationId, MessageId, UserId, derive};
use domain::review::{Review, ReviewAnswer};
use domain::time::UnixMs;
use runtime::CancellationToken;

use super::*;

const NOW: UnixMs = UnixMs(1_790_000_000_000);
const SHIPPED: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/review.toml"));

fn said(verdict: Verdict, confidence: u32, is_stale: bool) -> Opinion {
    Opinion::Reviewed(Review::new(verdict, Percent::new(confidence).unwrap(), "so", "m", is_stale))
}

#[test]
fn an_opinion_does_what_the_table_says() {
    use Effect::{Go, GoAndTell, Hold};
    let least = Percent::new(60).unwrap();
    let none = |reason| Opinion::NoOpinion { reason };
    let mut rows = vec![
        (said(Verdict::Agree, 60, false), Go, Go),
        (said(Verdict::Agree, 100, false), Go, Go),
        (said(Verdict::Agree, 59, false), Go, Hold(Held::Unsure)),
        (said(Verdict::Agree, 0, false), Go, Hold(Held::Unsure)),
        (said(Verdict::Agree, 100, true), Go, Hold(Held::Stale)),
        (said(Verdict::Object, 100, false), GoAndTell, Hold(Held::Objected)),
        (said(Verdict::Object, 0, true), GoAndTell, Hold(Held::Objected)),
        (Opinion::NotAsked, Go, Hold(Held::TooUrgent)),
    ];
    rows.extend(NoReview::ALL.iter().map(|reason| (none(*reason), Go, Hold(Held::NoReview(*reason)))));
    for (opinion, of_people_and_rules, of_models) in rows {
        for birth in [Birth::Person, Birth::Strategy] {
            assert_eq!(effect(birth, Side::Buy, &opinion, least), of_people_and_rules, "{birth:?} {opinion:?}");
        }
        assert_eq!(effect(Birth::Model, Side::Buy, &opinion, least), of_models, "{opinion:?}");
        // No exit is held, whoever had the idea.
        for birth in [Birth::Person, Birth::Strategy, Birth::Model] {
            assert!(!matches!(effect(birth, Side::Sell, &opinion, least), Hold(_)), "{birth:?} {opinion:?}");
        }
    }
}

#[test]
fn who_is_asked_about() {
    use Priority::{Critical, High, Low, Normal, Urgent};
    for birth in [Birth::Person, Birth::Strategy, Birth::Model] {
        for priority in [Low, Normal, High, Urgent, Critical] {
            let wanted = birth != Birth::Strategy && matches!(priority, Low | Normal | High);
            assert_eq!(is_asked(birth, Side::Buy, priority), wanted, "{birth:?} {priority:?}");
            assert!(!is_asked(birth, Side::Sell, priority), "{birth:?} {priority:?}");
        }
    }
    for (route, birth) in [
        (Route::Signal, Birth::Person),
        (Route::UserSignal, Birth::Person),
        (Route::Candle, Birth::Strategy),
        (Route::Idea, Birth::Model),
    ] {
        assert_eq!(Birth::of(route), birth);
    }
}

fn id(n: u32) -> MessageId {
    MessageId(derive("test", &[&n.to_be_bytes()]))
}

fn question(n: u32) -> Question {
    Question {
        signal_id: id(n),
        correlation_id: CorrelationId(id(n).0),
        user_id: UserId::of_handle("operator"),
        priority: 5,
        deadline_ms: 100,
        prompt: Prompt { system: "", user: n.to_string(), volatile: &[] },
    }
}

fn look(desk: &ReviewDesk, n: u32, after_ms: i64) -> Look {
    desk.look(id(n), NOW.plus_ms(after_ms), NOW.plus_ms(100), || question(n))
}

fn none(reason: NoReview) -> Look {
    Look::Settled(Opinion::NoOpinion { reason })
}

fn agreed() -> Result<Review, NoReview> {
    ReviewAnswer::parse(r#"{"verdict":"agree","confidence_percent":90,"reasoning":"calm"}"#).map(|a| a.by("m", false))
}

#[test]
fn a_signal_waits_until_it_is_answered_and_is_asked_about_once() {
    let desk = ReviewDesk::new(2);
    assert_eq!(look(&desk, 1, 0), Look::Wait);
    assert_eq!(look(&desk, 1, 10), Look::Wait);
    assert_eq!(desk.take().map(|q| q.signal_id), Some(id(1)));
    assert_eq!(desk.take(), None);
    assert_eq!(look(&desk, 1, 20), Look::Wait);
    desk.settle(id(1), agreed());
    let answered = Look::Settled(Opinion::Reviewed(agreed().unwrap()));
    // A commit that failed handles the signal again: the same is said, also when the time is over by then.
    assert_eq!(look(&desk, 1, 30), answered);
    assert_eq!(look(&desk, 1, 5_000), answered);
    desk.forget(id(1));
    assert!(desk.is_empty());
}

#[test]
fn the_wait_has_an_end_that_stays() {
    let desk = ReviewDesk::new(2);
    assert_eq!(look(&desk, 1, 0), Look::Wait);
    assert!(desk.take().is_some());
    // A later look names a later end, in vain.
    assert_eq!(desk.look(id(1), NOW.plus_ms(99), NOW.plus_ms(500), || question(1)), Look::Wait);
    assert_eq!(look(&desk, 1, 100), none(NoReview::Timeout));
    desk.settle(id(1), agreed());
    assert_eq!(look(&desk, 1, 101), none(NoReview::Timeout));
    // Without any time nobody is asked.
    assert_eq!(look(&desk, 2, 100), none(NoReview::Timeout));
    assert!(desk.take().is_none());
}

#[test]
fn so_many_wait_and_no_more_and_old_ones_are_let_go() {
    let desk = ReviewDesk::new(2);
    assert_eq!((look(&desk, 1, 0), look(&desk, 2, 0)), (Look::Wait, Look::Wait));
    assert_eq!(look(&desk, 3, 0), none(NoReview::Busy));
    desk.settle(id(1), agreed());
    assert_eq!(look(&desk, 3, 1), none(NoReview::Busy), "an answer to what nobody asked counts for nothing");
    while let Some(question) = desk.take() {
        desk.settle(question.signal_id, Err(NoReview::Unreachable));
    }
    assert_eq!(look(&desk, 3, 2), Look::Wait);
    assert_eq!(desk.len(), 3);
    assert_eq!(desk.look(id(4), NOW.plus_ms(200_000), NOW.plus_ms(200_100), || question(4)), Look::Wait);
    assert_eq!(desk.len(), 1);
    for n in 10..1_000 {
        let signal = id(n);
        let _ = desk.look(signal, NOW.plus_ms(200_001), NOW.plus_ms(200_100), || question(n));
        let _ = desk.take();
        desk.settle(signal, agreed());
    }
    assert!(desk.len() <= 256, "{}", desk.len());
}

/// Answers what ends in an even digit, never what ends in an odd one.
#[derive(Debug)]
struct Half;

#[async_trait]
impl Reviewer for Half {
    async fn review(&self, question: &Question) -> Result<Review, NoReview> {
        if question.prompt.user.ends_with(['1', '3', '5', '7', '9']) {
            std::future::pending::<()>().await;
        }
        agreed()
    }
}

#[tokio::test]
async fn the_work_asks_several_at_once_wakes_who_waits_and_gives_up_in_time() {
    let config = ReviewConfig { max_at_once: 3, ..ReviewConfig::parse(SHIPPED).unwrap() };
    let reviews = Arc::new(Reviews::new(config, Some(Arc::new(Half))));
    let stop = CancellationToken::new();
    let work = tokio::spawn({
        let (reviews, stop) = (Arc::clone(&reviews), stop.clone());
        async move { reviews.run(&stop, || {}).await }
    });
    for n in 1..=3 {
        assert_eq!(look(reviews.desk(), n, 0), Look::Wait);
    }
    let all = async {
        for n in 1..=3 {
            reviews.settled(id(n)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
    assert_eq!(look(reviews.desk(), 1, 1), none(NoReview::Timeout));
    assert_eq!(look(reviews.desk(), 2, 1), Look::Settled(Opinion::Reviewed(agreed().unwrap())));
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), work).await.unwrap().unwrap();
}

#[test]
fn without_an_address_there_is_no_reviewer_and_a_half_configured_one_is_a_fault() {
    let config = ReviewConfig::parse(SHIPPED).unwrap();
    let of = |url: &'static str, key: &'static str| {
        reviewer_of(Some(&config), move |name| {
            (name.starts_with("SWARM_LLM_")).then(|| if name == "SWARM_LLM_URL" { url } else { key }.to_owned())
        })
    };
    assert!(of("", "").unwrap().is_none());
    assert_eq!(of("http://localhost:1", "").unwrap_err().0.len(), 1);
    assert_eq!(of("http://far.example", "").unwrap_err().0.len(), 2);
    let lack = |enabled, reviewer| Reviews::new(ReviewConfig { enabled, ..config.clone() }, reviewer).lack();
    let half: Option<Arc<dyn Reviewer>> = Some(Arc::new(Half));
    assert_eq!(lack(true, half.clone()), None);
    assert!(lack(true, None).unwrap().contains("SWARM_LLM_URL"));
    assert!(lack(false, half).unwrap().contains("review.toml"));
}
