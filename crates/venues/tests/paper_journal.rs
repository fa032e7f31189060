//! The paper exchange over restarts, torn writes, corruption and lost replies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use common::{GTC, Hand, IOC, book, config, depth, instrument, order, trade};
use domain::order::{OrderState, Side};
use venues::VenueError;
use venues::exchange::{CancelOutcome, Exchange, Outcome};
use venues::paper::{Decision, Journal, PaperConfig, PaperCore, PaperExchange};

fn open(config: PaperConfig) -> Result<PaperExchange, VenueError> {
    PaperExchange::open(config, Arc::new(Hand(AtomicI64::new(1_000))))
}

/// Everything a restart must bring back.
async fn account(paper: &PaperExchange) -> String {
    let (fills, positions) = (paper.fills().unwrap(), paper.positions().unwrap());
    let (balances, open) = (paper.balances().await.unwrap(), paper.open_orders().await.unwrap());
    format!("{fills:?} {positions:?} {balances:?} {open:?}")
}

/// A few orders: filled, resting and partly filled, cancelled, refused.
async fn history(paper: &PaperExchange) {
    paper.feed(&book()).await.unwrap();
    for order in [
        order(1, Side::Buy, IOC, "2.5", "105"),
        order(2, Side::Buy, GTC, "2", "100"),
        order(3, Side::Sell, GTC, "1", "110"),
        order(4, Side::Buy, IOC, "1.05", "101"),
    ] {
        paper.place(&order).await;
    }
    let changed = paper.feed(&trade(1, "99", "1.2", true)).await.unwrap();
    assert_eq!(changed.iter().map(|status| status.filled.to_string()).collect::<Vec<_>>(), ["1.2"]);
    let third = order(3, Side::Sell, GTC, "1", "110");
    assert!(matches!(paper.cancel(&third.instrument, &third.client_order_id).await, CancelOutcome::Cancelled(_)));
    assert!(matches!(paper.cancel(&third.instrument, &third.client_order_id).await, CancelOutcome::AlreadyOver(_)));
    assert_eq!(paper.cancel(&third.instrument, "nobody").await, CancelOutcome::NotFound);
}

#[tokio::test]
async fn a_restart_brings_back_balances_orders_and_fills_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path().join("paper.jsonl"));
    let paper = open(config.clone()).unwrap();
    history(&paper).await;
    let before = account(&paper).await;
    drop(paper);
    // The journal says what the account holds, not the configuration.
    let richer = PaperConfig { opening: [("USDT".to_owned(), 1.into())].into(), ..config };
    let paper = open(richer).unwrap();
    assert_eq!(account(&paper).await, before);
    let first = order(1, Side::Buy, IOC, "2.5", "105");
    let Outcome::Placed(status) = paper.place(&first).await else { panic!("not placed") };
    assert_eq!((status.state, account(&paper).await), (OrderState::Filled, before));
    // The resting order is still there and trades on.
    paper.feed(&book()).await.unwrap();
    let changed = paper.feed(&depth(11, &[], &[("98", "9")])).await.unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].state, OrderState::Filled);
    let ids: Vec<u64> = paper.fills().unwrap().iter().map(|fill| fill.venue_trade_id.parse().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert_eq!(paper.instruments().await.unwrap(), [instrument()]);
}

#[tokio::test]
async fn only_one_process_may_hold_a_journal() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path().join("paper.jsonl"));
    let first = open(config.clone()).unwrap();
    assert!(matches!(open(config.clone()), Err(VenueError::JournalInUse { .. })));
    drop(first);
    assert!(open(config).is_ok());
}

#[tokio::test]
async fn a_lost_reply_is_unknown_and_the_order_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let paper = open(config(folder.path().join("paper.jsonl"))).unwrap();
    paper.feed(&book()).await.unwrap();
    paper.lose_replies(1);
    let order = order(1, Side::Buy, IOC, "1", "101");
    assert_eq!(paper.query(&order.instrument, &order.client_order_id).await.unwrap(), None);
    assert!(matches!(paper.place(&order).await, Outcome::Unknown { .. }));
    let status = paper.query(&order.instrument, &order.client_order_id).await.unwrap().unwrap();
    assert_eq!(status.state, OrderState::Filled);
    // Sent again under the same id it is the same order.
    assert_eq!(paper.place(&order).await, Outcome::Placed(status));
    assert_eq!(paper.fills().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refusal_never_loses_its_reply() {
    let folder = tempfile::tempdir().unwrap();
    let paper = open(PaperConfig { lost_reply_bps: 10_000, ..config(folder.path().join("paper.jsonl")) }).unwrap();
    paper.feed(&book()).await.unwrap();
    let bad = order(1, Side::Buy, IOC, "1.05", "101");
    assert!(matches!(paper.place(&bad).await, Outcome::Rejected { .. }));
    assert!(matches!(paper.place(&order(2, Side::Buy, IOC, "1", "101")).await, Outcome::Unknown { .. }));
}

#[tokio::test]
async fn an_order_meets_the_book_of_its_arrival_and_not_of_its_departure() {
    let folder = tempfile::tempdir().unwrap();
    let paper = open(PaperConfig { latency_ms: 200..=200, ..config(folder.path().join("paper.jsonl")) }).unwrap();
    paper.feed(&book()).await.unwrap();
    let order = order(1, Side::Buy, IOC, "1", "101");
    let mut sent = paper.place(&order);
    // On its way now. Without resting orders the feed never waits, so it is there first.
    assert!(futures::poll!(&mut sent).is_pending());
    paper.feed(&depth(11, &[], &[("101", "0")])).await.unwrap();
    let Outcome::Placed(status) = sent.await else { panic!("not placed") };
    assert_eq!((status.state, status.filled.to_string()), (OrderState::Cancelled, "0".to_owned()));
}

#[tokio::test]
async fn many_senders_of_one_order_make_one_order() {
    let folder = tempfile::tempdir().unwrap();
    let paper = open(config(folder.path().join("paper.jsonl"))).unwrap();
    paper.feed(&book()).await.unwrap();
    let order = order(1, Side::Buy, IOC, "1", "105");
    let sent = (0..16).map(|_| {
        let (paper, order) = (paper.clone(), order.clone());
        tokio::spawn(async move { paper.place(&order).await })
    });
    let outcomes = futures::future::join_all(sent).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap() == outcomes[0].as_ref().unwrap()));
    assert_eq!(paper.fills().unwrap().len(), 1);
}

async fn written(path: &Path) -> Vec<u8> {
    let paper = open(config(path.to_owned())).unwrap();
    history(&paper).await;
    drop(paper);
    std::fs::read(path).unwrap()
}

fn replay(path: &Path) -> PaperCore {
    let (_, decisions) = Journal::open(path).unwrap();
    let mut core = PaperCore::new(config(path.to_owned())).unwrap();
    for effects in decisions {
        core.commit(&Decision::of(effects)).unwrap();
    }
    core
}

#[tokio::test]
async fn cut_anywhere_the_journal_gives_the_account_of_its_whole_lines() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = written(&folder.path().join("whole.jsonl")).await;
    let path = folder.path().join("cut.jsonl");
    let mut wholes = Vec::new();
    // Each cut is a few waits for the disk: every whole line, just before and after it, and some in between.
    let ends_a_line = |length: usize| length == 0 || bytes.get(length - 1) == Some(&b'\n');
    let chosen = |&length: &usize| length % 41 == 0 || (length.saturating_sub(1)..=length + 1).any(ends_a_line);
    for length in (0..=bytes.len()).filter(chosen) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let core = replay(&path);
        let kept = bytes[..length].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        assert_eq!(std::fs::metadata(&path).unwrap().len() as usize, kept, "the torn line is cut off");
        match bytes[..length].last() {
            None | Some(b'\n') => wholes.push(core.state().clone()),
            Some(_) => assert_eq!(Some(core.state()), wholes.last(), "cut at {length}"),
        }
    }
    assert_eq!(wholes.len(), bytes.iter().filter(|&&byte| byte == b'\n').count() + 1);
}

#[tokio::test]
async fn a_journal_that_was_changed_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = written(&folder.path().join("whole.jsonl")).await;
    let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    let path = folder.path().join("changed.jsonl");
    let check = |what: &str, content: Vec<u8>, bad_line: usize| {
        std::fs::write(&path, content).unwrap();
        match open(config(path.clone())) {
            Err(VenueError::JournalCorrupt { line, .. }) => assert_eq!(line, bad_line, "{what}"),
            other => panic!("{what}: {:?}", other.err()),
        }
    };
    // One changed byte anywhere (a newline changed into something else joins two lines: the first of them is bad).
    for at in (0..bytes.len() - 1).step_by(29) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let line = bytes[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
        check(&format!("byte {at}"), changed, line);
    }
    check("a line lost", [&lines[..2], &lines[3..]].concat().concat(), 3);
    check("two lines swapped", [&lines[..1], &[lines[2], lines[1]], &lines[3..]].concat().concat(), 2);
    check("a line twice", [&lines[..2], &lines[1..]].concat().concat(), 3);
    check("another journal behind", [bytes.clone(), bytes.clone()].concat(), lines.len() + 1);
    check("an empty line", [lines[0], b"\n", lines[1]].concat(), 2);
}

#[test]
fn a_journal_of_another_venue_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path().join("paper.jsonl"));
    drop(open(config.clone()).unwrap());
    let venue = domain::market::Venue::PaperDex;
    let other = PaperConfig { venue, instruments: Vec::new(), ..config };
    assert!(matches!(open(other), Err(VenueError::JournalCorrupt { line: 1, .. })));
}
