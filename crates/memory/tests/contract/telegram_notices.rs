//! The queue of Telegram's notices.

use domain::ids::MessageId;
use store::telegram_notices::{self, Queued};
use uuid::Uuid;

use crate::samples::T0;
use crate::world::{World, state};

cases! {
    a_notice_waits_for_each_chat_until_it_was_told,
    a_notice_says_something,
    only_telegrams_own_login_touches_the_queue,
}

const ROLE: &str = "telegram_jarvis";

fn line(message: u128, chat_id: i64, at_ms: i64) -> Queued {
    let message_id = MessageId(Uuid::from_u128(message));
    Queued { message_id, chat_id, text: format!("{message} for {chat_id}"), made_at: T0.plus_ms(at_ms) }
}

async fn a_notice_waits_for_each_chat_until_it_was_told(world: &World) {
    let (first, second, other) = (line(9, 5, 0), line(1, 5, 10), line(9, 6, 20));
    let mut unit = world.begin(ROLE).await;
    for line in [&other, &second, &first] {
        assert!(telegram_notices::put(&mut unit, line).await.unwrap());
    }
    let again = Queued { text: "again".to_owned(), ..first.clone() };
    assert!(!telegram_notices::put(&mut unit, &again).await.unwrap(), "the fact is queued for that chat");
    unit.commit().await.unwrap();
    let mut unit = world.begin(ROLE).await;
    assert_eq!(telegram_notices::queued(&mut unit, 2).await.unwrap(), [first.clone(), second.clone()]);
    telegram_notices::end(&mut unit, &[first, line(7, 7, 0)]).await.unwrap();
    assert_eq!(telegram_notices::queued(&mut unit, 9).await.unwrap(), [second, other]);
    unit.rollback().await.unwrap();
    let mut unit = world.begin(ROLE).await;
    assert_eq!(telegram_notices::queued(&mut unit, 9).await.unwrap().len(), 3, "a rollback ends nothing");
    telegram_notices::end(&mut unit, &[]).await.unwrap();
    unit.rollback().await.unwrap();
}

async fn a_notice_says_something(world: &World) {
    let mut unit = world.begin(ROLE).await;
    let empty = Queued { text: String::new(), ..line(1, 1, 0) };
    assert_eq!(state(telegram_notices::put(&mut unit, &empty).await), "23514");
}

async fn only_telegrams_own_login_touches_the_queue(world: &World) {
    for role in ["treasury", "supervisor"] {
        let mut unit = world.begin(role).await;
        assert_eq!(state(telegram_notices::put(&mut unit, &line(1, 1, 0)).await), "42501", "{role}");
        let mut unit = world.begin(role).await;
        assert_eq!(state(telegram_notices::queued(&mut unit, 1).await), "42501", "{role}");
        let mut unit = world.begin(role).await;
        assert_eq!(state(telegram_notices::end(&mut unit, &[line(1, 1, 0)]).await), "42501", "{role}");
    }
}
