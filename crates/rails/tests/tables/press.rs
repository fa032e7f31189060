//! What a stored update of Telegram may mean.

use domain::ids::ApprovalId;
use domain::message::Decision;
use domain::telegram_button::{Press, encode};
use rails::press::{NoPress, read, word};
use serde_json::{Value, json};
use uuid::Uuid;

fn update() -> Value {
    let data = encode(b"key", ApprovalId(Uuid::from_u128(7)), Press::Confirm, 99);
    json!({
        "update_id": 5,
        "callback_query": {
            "id": "1",
            "from": { "id": 99, "is_bot": false, "first_name": "Zoe" },
            "message": { "message_id": 11, "date": 1, "chat": { "id": 99, "type": "private" }, "text": "..." },
            "chat_instance": "x",
            "data": data,
        },
    })
}

#[test]
fn a_press_reads_as_telegram_reports_it() {
    let pressed = read(5, &update()).unwrap();
    assert_eq!((pressed.telegram_user_id, pressed.chat_id, pressed.message_id), (99, 99, 11));
    assert_eq!((pressed.button.approval_id, pressed.button.press), (ApprovalId(Uuid::from_u128(7)), Press::Confirm));
}

#[test]
fn everything_else_means_nothing() {
    let spoilt = |path: &str, value: Value| {
        let mut update = update();
        *update.pointer_mut(path).unwrap() = value;
        update
    };
    let with = |path: &str, name: &str, value: Value| {
        let mut update = update();
        update.pointer_mut(path).unwrap()[name] = value;
        update
    };
    let query = "/callback_query";
    for (update, want) in [
        (json!([]), NoPress::OtherUpdate),
        (json!({}), NoPress::OtherUpdate),
        (json!({ "update_id": 5, "message": { "text": "approve" } }), NoPress::OtherUpdate),
        (with("", "message", json!({})), NoPress::OtherUpdate),
        (spoilt("/update_id", json!(6)), NoPress::OtherNumber),
        (spoilt("/callback_query/from/id", json!("99")), NoPress::NoPerson),
        (spoilt("/callback_query/from/id", json!(99.5)), NoPress::NoPerson),
        (spoilt("/callback_query/from/is_bot", json!(true)), NoPress::NoPerson),
        (spoilt("/callback_query/from", json!({ "id": 99 })), NoPress::NoPerson),
        (spoilt("/callback_query/from", Value::Null), NoPress::NoPerson),
        (with(query, "inline_message_id", json!("abc")), NoPress::Inline),
        (with(query, "inline_message_id", Value::Null), NoPress::Inline),
        (spoilt("/callback_query/message/chat/type", json!("group")), NoPress::NotPrivate),
        (spoilt("/callback_query/message/chat/type", json!("supergroup")), NoPress::NotPrivate),
        (spoilt("/callback_query/message/chat/type", json!("channel")), NoPress::NotPrivate),
        (spoilt("/callback_query/message/chat/id", json!("99")), NoPress::NotPrivate),
        (spoilt("/callback_query/message/message_id", Value::Null), NoPress::NotPrivate),
        (spoilt("/callback_query/message", Value::Null), NoPress::NotPrivate),
        (with("/callback_query/message", "forward_origin", json!({ "type": "user" })), NoPress::Forwarded),
        (with("/callback_query/message", "forward_date", json!(1)), NoPress::Forwarded),
        (spoilt("/callback_query/data", json!("approve")), NoPress::NoButton),
        (spoilt("/callback_query/data", json!("")), NoPress::NoButton),
        (spoilt("/callback_query/data", Value::Null), NoPress::NoButton),
    ] {
        assert_eq!(read(5, &update), Err(want), "{update}");
    }
}

#[test]
fn a_yes_is_one_tap_at_tier_one_and_the_second_above() {
    for (press, at_one, above) in [
        (Press::Approve, Some(Decision::Approve), None),
        (Press::Confirm, Some(Decision::Approve), Some(Decision::Approve)),
        (Press::Reject, Some(Decision::Reject), Some(Decision::Reject)),
        (Press::Half, Some(Decision::Modify), Some(Decision::Modify)),
        (Press::Quarter, Some(Decision::Modify), Some(Decision::Modify)),
        (Press::HalfPercent, Some(Decision::Modify), Some(Decision::Modify)),
        (Press::OnePercent, Some(Decision::Modify), Some(Decision::Modify)),
        (Press::Menu, None, None),
        (Press::Back, None, None),
    ] {
        assert_eq!((word(press, 1), word(press, 2), word(press, 3)), (at_one, above, above), "{press:?}");
        // A tier that is none is no lower one.
        assert_eq!(word(press, 0), above, "{press:?}");
    }
}
