use std::sync::Mutex as StdMutex;

use tokio::task::{JoinHandle, yield_now};

use super::*;

fn gate(slots: usize, queue: usize) -> Arc<Gate> {
    Arc::new(Gate::new(Settings { slots, queue, ageing: Duration::from_secs(2) }))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

/// Everybody who came through, in order.
type Order = Arc<StdMutex<Vec<u8>>>;

/// Asks for a slot, notes its turn, and holds it for a second.
fn visitor(gate: &Arc<Gate>, priority: u8, order: &Order) -> JoinHandle<Result<(), Kind>> {
    let (gate, order) = (Arc::clone(gate), Arc::clone(order));
    tokio::spawn(async move {
        let _slot = gate.enter(priority, soon()).await?;
        order.lock().unwrap().push(priority);
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    })
}

async fn settled(gate: &Gate, waiting: usize) {
    while gate.depth().0 != waiting {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_p9_starts_within_one_slot_of_a_queue_full_of_p2() {
    let (gate, order) = (gate(2, 256), Order::default());
    let mut visitors: Vec<_> = (0..202).map(|_| visitor(&gate, 2, &order)).collect();
    settled(&gate, 200).await;
    // Long enough for every P2 to have aged as far as it can.
    tokio::time::advance(Duration::from_millis(500)).await;
    let asked = Instant::now();
    let slot = gate.enter(9, soon()).await.unwrap();
    assert!(Instant::now() - asked <= Duration::from_secs(1));
    drop(slot);
    for visitor in visitors.drain(..) {
        visitor.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn aged_requests_stay_behind_a_p9() {
    let (gate, order) = (gate(1, 256), Order::default());
    let mut visitors: Vec<_> = (0..31).map(|_| visitor(&gate, 8, &order)).collect();
    settled(&gate, 30).await;
    tokio::time::sleep(Duration::from_millis(20_500)).await;
    visitors.push(visitor(&gate, 9, &order));
    for visitor in visitors {
        visitor.await.unwrap().unwrap();
    }
    let at = order.lock().unwrap().iter().position(|priority| *priority == 9).unwrap();
    assert_eq!(at, 21, "next after the one in hand");
}

#[tokio::test(start_paused = true)]
async fn ageing_lets_a_p0_through_a_stream_of_p7() {
    let (gate, order) = (gate(1, 256), Order::default());
    let mut visitors = vec![visitor(&gate, 7, &order)];
    yield_now().await;
    visitors.push(visitor(&gate, 0, &order));
    for _ in 0..60 {
        visitors.push(visitor(&gate, 7, &order));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for visitor in visitors {
        visitor.await.unwrap().unwrap();
    }
    let at = order.lock().unwrap().iter().position(|priority| *priority == 0).unwrap();
    assert!((1..=20).contains(&at), "after {at} others");
}

#[tokio::test(start_paused = true)]
async fn equal_requests_come_in_the_order_they_came() {
    let (gate, order) = (gate(1, 16), Order::default());
    let first = gate.enter(5, soon()).await.unwrap();
    let mut visitors = Vec::new();
    for (waiting, priority) in [5, 6, 5, 6].into_iter().enumerate() {
        visitors.push(visitor(&gate, priority, &order));
        settled(&gate, waiting + 1).await;
    }
    drop(first);
    for visitor in visitors {
        visitor.await.unwrap().unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [6, 6, 5, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_leaves_the_queue_and_frees_its_slot() {
    let gate = gate(1, 16);
    let slot = gate.enter(5, soon()).await.unwrap();
    let waiting = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { gate.enter(9, soon()).await.map(drop) }
    });
    settled(&gate, 1).await;
    waiting.abort();
    settled(&gate, 0).await;
    drop(slot);
    assert_eq!(gate.depth(), (0, 0));
    drop(gate.enter(0, soon()).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_slot_given_to_one_who_just_went_away_is_not_lost() {
    for _ in 0..64 {
        let gate = gate(1, 16);
        let slot = gate.enter(5, soon()).await.unwrap();
        let mut waiting = Box::pin(gate.enter(5, soon()));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(slot);
        drop(waiting);
        assert_eq!(gate.depth(), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_gives_up_its_least_important_for_a_more_important_one() {
    let gate = gate(1, 2);
    let _slot = gate.enter(5, soon()).await.unwrap();
    let enter = |priority| {
        let gate = Arc::clone(&gate);
        tokio::spawn(async move { gate.enter(priority, soon()).await.map(drop) })
    };
    let (low, _high) = (enter(1), enter(6));
    settled(&gate, 2).await;
    assert_eq!(gate.enter(1, soon()).await.map(drop), Err(Kind::QueueFull));
    let _newcomer = enter(7);
    assert_eq!(low.await.unwrap(), Err(Kind::QueueFull));
    settled(&gate, 2).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_make_it_is_told_at_once_and_what_no_longer_can_at_its_time() {
    let gate = gate(1, 16);
    drop(gate.enter(5, soon()).await.unwrap());
    let slot = gate.enter(5, soon()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    drop(slot);
    let _slot = gate.enter(5, soon()).await.unwrap();
    let asked = Instant::now();
    assert_eq!(gate.enter(5, asked + Duration::from_secs(3)).await.map(drop), Err(Kind::QueueTooLong));
    assert_eq!(Instant::now(), asked, "a slot is held for ten seconds: it did not wait");
    let until = asked + Duration::from_secs(12);
    assert_eq!(gate.enter(5, until).await.map(drop), Err(Kind::QueueTooLong));
    assert_eq!(Instant::now(), until);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_turned_away_when_there_is_nothing_to_wait_for() {
    let gate = gate(1, 16);
    let _slot = gate.enter(5, soon()).await.unwrap();
    let waiting = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { gate.enter(5, soon()).await.map(drop) }
    });
    settled(&gate, 1).await;
    gate.turn_away(Kind::BreakerOpen);
    assert_eq!(waiting.await.unwrap(), Err(Kind::BreakerOpen));
}
