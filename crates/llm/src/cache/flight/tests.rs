use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::*;

/// Counts calls, and lets them end when told.
#[derive(Clone, Default)]
struct Upstream {
    calls: Arc<AtomicU32>,
    dropped: Arc<AtomicU32>,
    may_end: Arc<Notify>,
}

struct OnDrop(Arc<AtomicU32>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Upstream {
    fn call(&self) -> impl Future<Output = u32> + Send + use<> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let (on_drop, may_end) = (OnDrop(Arc::clone(&self.dropped)), Arc::clone(&self.may_end));
        async move {
            let _on_drop = on_drop;
            may_end.notified().await;
            number
        }
    }
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if what() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it does not come");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_equal_misses_make_one_call() {
    let (flights, upstream) = (Flights::<u8, u32>::default(), Upstream::default());
    let (mut waiting, joined) = (JoinSet::new(), Arc::new(AtomicU32::new(0)));
    for _ in 0..64 {
        let (flights, upstream, joined) = (flights.clone(), upstream.clone(), Arc::clone(&joined));
        waiting.spawn(async move {
            let seat = flights.join(1, || upstream.call());
            let role = seat.role();
            joined.fetch_add(1, Ordering::SeqCst);
            (role, seat.wait().await)
        });
    }
    let all_here = async {
        while joined.load(Ordering::SeqCst) < 64 {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_here).await.unwrap();
    upstream.may_end.notify_one();
    let heard = tokio::time::timeout(Duration::from_secs(30), waiting.join_all()).await.unwrap();
    assert_eq!(upstream.calls.load(Ordering::SeqCst), 1);
    assert_eq!(heard.iter().filter(|(role, _)| *role == Role::Leader).count(), 1);
    assert!(heard.iter().all(|(_, result)| *result == Ok(1)), "{heard:?}");
}

#[tokio::test]
async fn after_a_result_the_next_caller_starts_anew() {
    let (flights, upstream) = (Flights::<u8, u32>::default(), Upstream::default());
    for number in 1..=3 {
        let seat = flights.join(1, || upstream.call());
        assert_eq!(seat.role(), Role::Leader);
        upstream.may_end.notify_one();
        assert_eq!(seat.wait().await, Ok(number));
        until(|| flights.is_empty()).await;
    }
}

#[tokio::test]
async fn others_keep_the_call_when_the_first_leaves_and_the_last_ends_it() {
    let (flights, upstream) = (Flights::<u8, u32>::default(), Upstream::default());
    let leader = flights.join(1, || upstream.call());
    let follower = flights.join(1, || upstream.call());
    assert_eq!((leader.role(), follower.role()), (Role::Leader, Role::Follower));
    drop(leader);
    upstream.may_end.notify_one();
    assert_eq!(follower.wait().await, Ok(1));

    let (one, other) = (flights.join(2, || upstream.call()), flights.join(2, || upstream.call()));
    drop(one);
    assert_eq!(flights.len(), 1);
    drop(other);
    assert!(flights.is_empty());
    until(|| upstream.dropped.load(Ordering::SeqCst) == 2).await;
}

#[tokio::test]
async fn a_caller_after_an_aborted_call_has_one_of_their_own() {
    let (flights, upstream) = (Flights::<u8, u32>::default(), Upstream::default());
    drop(flights.join(1, || upstream.call()));
    let seat = flights.join(1, || upstream.call());
    assert_eq!(seat.role(), Role::Leader);
    // The end of the aborted task must not take the new flight away.
    until(|| upstream.dropped.load(Ordering::SeqCst) == 1).await;
    assert_eq!(flights.len(), 1);
    upstream.may_end.notify_one();
    assert_eq!(seat.wait().await, Ok(2));
}

#[tokio::test]
async fn a_panic_wakes_everybody() {
    let flights = Flights::<u8, u32>::default();
    let may_end = Arc::new(Notify::new());
    let fails = {
        let may_end = Arc::clone(&may_end);
        async move {
            may_end.notified().await;
            panic!("as upstream code may");
        }
    };
    let (one, other) = (flights.join(1, || fails), flights.join(1, || async { 9 }));
    assert_eq!(other.role(), Role::Follower);
    may_end.notify_one();
    assert_eq!((one.wait().await, other.wait().await), (Err(Lost::Died), Err(Lost::Died)));
    until(|| flights.is_empty()).await;
    assert_eq!(flights.join(1, || async { 3 }).wait().await, Ok(3));
}

#[tokio::test]
async fn the_end_of_the_task_from_outside_wakes_everybody() {
    let (flights, upstream) = (Flights::<u8, u32>::default(), Upstream::default());
    let (one, other) = (flights.join(1, || upstream.call()), flights.join(1, || upstream.call()));
    locked(&flights.all).get(&1).unwrap().task.abort();
    assert_eq!((one.wait().await, other.wait().await), (Err(Lost::Died), Err(Lost::Died)));
    assert!(flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_waits_no_longer_than_their_own_deadline() {
    let (flights, upstream) = (Flights::<u8, u32>::default(), Upstream::default());
    let begin = Instant::now();
    let patient = flights.join(1, || upstream.call());
    let hurried = flights.join(1, || upstream.call());
    let ms = Duration::from_millis;
    assert_eq!(hurried.wait_until(begin + ms(50)).await, Err(Lost::TooLate));
    assert_eq!(begin.elapsed(), ms(50));
    assert_eq!(flights.len(), 1, "the other still waits");
    assert_eq!(patient.wait_until(begin + ms(80)).await, Err(Lost::TooLate));
    assert!(flights.is_empty(), "nobody waits");
    until(|| upstream.dropped.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn other_keys_are_other_calls() {
    let (flights, upstream) = (Flights::<(u8, bool), u32>::default(), Upstream::default());
    let calm = flights.join((1, false), || upstream.call());
    let urgent = flights.join((1, true), || upstream.call());
    assert_eq!((calm.role(), urgent.role()), (Role::Leader, Role::Leader));
    assert_eq!(flights.len(), 2);
}
