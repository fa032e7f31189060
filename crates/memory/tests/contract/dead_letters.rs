//! What became of dead letters.

use domain::ids::MessageId;
use store::dead_letters::{self, LetterRow, LetterState, OpenLetters};
use uuid::Uuid;

use crate::samples::T0;
use crate::world::{World, assert_locked, state};

cases! {
    a_letter_is_noted_once_and_is_open_again_when_its_message_died_again,
    what_became_of_a_letter_is_written_by_one_at_a_time,
    what_the_stream_lost_is_forgotten,
    letters_are_the_supervisors_alone,
}

fn letter(name: &str, dlq_seq: i64) -> LetterRow {
    LetterRow {
        letter: name.to_owned(),
        dlq_seq,
        died_at: T0.plus_ms(dlq_seq),
        subject: "trading.buy_bot.signal.high".to_owned(),
        code: "NO_MARK".to_owned(),
        message_id: Some(MessageId(Uuid::from_u128(7))),
        user_id: None,
        valid_until: Some(T0.plus_ms(60_000)),
        state: LetterState::Open,
        attempts: 0,
        sent_as: None,
        stored_seq: None,
        by: None,
        reason: None,
        at: None,
    }
}

fn redriven(row: LetterRow, stored_seq: Option<i64>) -> LetterRow {
    LetterRow {
        state: LetterState::Redriven,
        attempts: row.attempts + 1,
        sent_as: Some(Uuid::from_u128(9)),
        stored_seq,
        by: Some("operator".to_owned()),
        reason: Some("there is a price now".to_owned()),
        at: Some(T0),
        ..row
    }
}

async fn note(world: &World, rows: &[LetterRow]) {
    let mut unit = world.begin("supervisor").await;
    dead_letters::note(&mut unit, rows).await.unwrap();
    unit.commit().await.unwrap();
}

async fn list(world: &World, closed_too: bool) -> Vec<LetterRow> {
    dead_letters::list(&mut world.begin("supervisor").await, closed_too, 10).await.unwrap()
}

async fn a_letter_is_noted_once_and_is_open_again_when_its_message_died_again(world: &World) {
    let (first, second) = (letter("TRADING_HIGH:1", 1), letter("TRADING_HIGH:2", 2));
    note(world, &[second.clone(), first.clone()]).await;
    assert_eq!(list(world, false).await, [first.clone(), second.clone()]);
    let gone = redriven(first.clone(), Some(40));
    let mut unit = world.begin("supervisor").await;
    assert!(dead_letters::set(&mut unit, &gone).await.unwrap());
    assert!(!dead_letters::set(&mut unit, &letter("TRADING_HIGH:9", 9)).await.unwrap());
    unit.commit().await.unwrap();
    note(world, std::slice::from_ref(&first)).await;
    assert_eq!(list(world, false).await, std::slice::from_ref(&second), "a letter read twice is one");
    assert_eq!(list(world, true).await, [gone, second.clone()]);
    let again = LetterRow { dlq_seq: 3, died_at: T0.plus_ms(3), ..first };
    note(world, std::slice::from_ref(&again)).await;
    assert_eq!(list(world, false).await, [second, LetterRow { attempts: 1, ..again }]);
    let mut unit = world.begin("supervisor").await;
    assert_eq!(dead_letters::newest(&mut unit).await.unwrap(), Some(3));
}

async fn what_became_of_a_letter_is_written_by_one_at_a_time(world: &World) {
    let row = letter("TRADING_HIGH:1", 1);
    note(world, &[row.clone(), letter("TRADING_HIGH:2", 2)]).await;
    let mut first = world.begin("supervisor").await;
    assert_eq!(dead_letters::lock(&mut first, "TRADING_HIGH:1").await.unwrap(), Some(row.clone()));
    let mut second = world.begin_impatient("supervisor").await;
    assert_locked(dead_letters::lock(&mut second, "TRADING_HIGH:1").await);
    dead_letters::set(&mut first, &redriven(row.clone(), None)).await.unwrap();
    first.commit().await.unwrap();
    let mut unit = world.begin("supervisor").await;
    let open = OpenLetters { count: 2, oldest: Some(T0.plus_ms(1)) };
    assert_eq!(dead_letters::open(&mut unit).await.unwrap(), open, "nobody knows that the stream took it");
    dead_letters::set(&mut unit, &redriven(row.clone(), Some(7))).await.unwrap();
    let open = OpenLetters { count: 1, oldest: Some(T0.plus_ms(2)) };
    assert_eq!(dead_letters::open(&mut unit).await.unwrap(), open);
    assert_eq!(dead_letters::lock(&mut unit, "TRADING_HIGH:9").await.unwrap(), None);
    for bad in [
        LetterRow { by: None, ..redriven(row.clone(), None) },
        LetterRow { sent_as: None, ..redriven(row.clone(), None) },
        LetterRow { state: LetterState::Dropped, ..redriven(row.clone(), None) },
        LetterRow { state: LetterState::Dropped, sent_as: None, ..redriven(row.clone(), Some(1)) },
        LetterRow { attempts: -1, ..row.clone() },
    ] {
        let mut unit = world.begin("supervisor").await;
        assert_eq!(state(dead_letters::set(&mut unit, &bad).await), "23514", "{bad:?}");
    }
}

async fn what_the_stream_lost_is_forgotten(world: &World) {
    let rows: Vec<_> = (1..=5).map(|n| letter(&format!("TRADING_HIGH:{n}"), n)).collect();
    note(world, &rows).await;
    let mut unit = world.begin("supervisor").await;
    dead_letters::forget_outside(&mut unit, 2, 4).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(list(world, true).await, rows[1..4]);
    let mut unit = world.begin("supervisor").await;
    dead_letters::forget_outside(&mut unit, 8, 7).await.unwrap();
    assert_eq!(dead_letters::open(&mut unit).await.unwrap(), OpenLetters::default());
    assert_eq!(dead_letters::newest(&mut unit).await.unwrap(), None);
}

async fn letters_are_the_supervisors_alone(world: &World) {
    note(world, &[letter("TRADING_HIGH:1", 1)]).await;
    for role in ["treasury", "online_trading", "buy_bot", "telegram_jarvis", "audit_verify", "llm_router"] {
        let mut unit = world.begin(role).await;
        assert_eq!(state(dead_letters::list(&mut unit, true, 1).await), "42501", "{role}");
        let mut unit = world.begin(role).await;
        assert_eq!(state(dead_letters::note(&mut unit, &[letter("TRADING_HIGH:2", 2)]).await), "42501", "{role}");
    }
    let mut unit = world.begin("monitor").await;
    assert_eq!(dead_letters::list(&mut unit, true, 1).await.unwrap(), [], "granted by mistake");
    dead_letters::forget_outside(&mut unit, 9, 9).await.unwrap();
    assert_eq!(state(dead_letters::note(&mut unit, &[letter("TRADING_HIGH:2", 2)]).await), "42501");
    assert_eq!(list(world, true).await.len(), 1);
}
