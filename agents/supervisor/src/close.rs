//! The door for an exit that a person asked for in Telegram: `/close BTCUSDT`. Like a press it is believed for what is stored
//! of it and for nothing that whoever knocks says; and whatever it says, it can only sell what is held.

use domain::time::UnixMs;
use runtime::{HandleError, Means};
use serde::Deserialize;
use serde_json::{Value, json};
use store::Unit;

use crate::NAME;
use crate::answer::Refused;
use crate::services::{Answer, SignalHead, nobody, signal};

/// Words said longer ago than this move no money, ms.
const FRESH_MS: i64 = 300_000;
/// Whose positions this door sells: those of the account that the supervisor's own door trades for.
const HANDLE: &str = "operator";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    update_id: i64,
}

/// What a person said, and by which account.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    telegram_user_id: i64,
    at: UnixMs,
    symbol: String,
}

/// Makes a sale of everything held in one instrument of the stored message, under an id that is a function of its number.
pub(crate) async fn close(work: &impl Means, payload: &[u8]) -> Answer {
    let Ok(asked) = serde_json::from_slice::<Asked>(payload) else {
        return Ok(Err(Refused::new("BAD_JSON", "send {\"update_id\":123}")));
    };
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    let (person_id, symbol) = match judge(&mut unit, asked.update_id, now).await? {
        Ok(judged) => judged,
        Err(refused) => {
            unit.rollback().await?;
            metrics::counter!("swarm_exits_refused_total", "code" => refused.code).increment(1);
            return Ok(Err(refused));
        }
    };
    let body = json!({ "person_id": person_id, "symbol": symbol, "channel": "telegram", "update_id": asked.update_id });
    store::audit::append_governance(&mut unit, "exit_asked", NAME, &body, now).await?;
    work.commit(unit, nobody(), Vec::new()).await?;
    let body = json!({
        "action": "SELL", "token_address": symbol, "amount": "all", "reasoning": format!("/close in Telegram by {person_id}"),
    });
    let id = Some(format!("telegram-close-{}", asked.update_id));
    signal(work, body.to_string().as_bytes(), SignalHead { id, content_type: None }).await
}

/// Who asks to sell what, when that is theirs to ask.
async fn judge(unit: &mut Unit, update_id: i64, now: UnixMs) -> Result<Result<(String, String), Refused>, HandleError> {
    let Some(update) = store::telegram::update(unit, update_id).await? else {
        return Ok(Err(Refused::new("UNKNOWN_UPDATE", "no such update is stored")));
    };
    let Some(said) = read(update_id, &update.raw) else {
        return Ok(Err(Refused::new("NOT_AN_EXIT", "the stored update is no /close of a person in a private chat")));
    };
    let account = store::telegram::account(unit, said.telegram_user_id).await?;
    let account = account.filter(|account| account.active && account.chat_id == said.telegram_user_id);
    let Some(account) = account else {
        return Ok(Err(Refused::new("NOT_LINKED", "no account of a person of the house")));
    };
    let approver = store::approvals::approver(unit, &account.person_id).await?;
    Ok(match approver.filter(|approver| approver.active) {
        None => Err(Refused::new("UNKNOWN_APPROVER", "no active approver of that name")),
        Some(approver) if approver.handle.as_deref() != Some(HANDLE) => {
            Err(Refused::new("NOT_YOURS", "these positions are the operator's; sell yours at your own door"))
        }
        Some(_) if now.since_ms(said.at) > FRESH_MS => {
            Err(Refused::new("EXPIRED", "say it again: an exit is worth nothing 5 minutes after it was said"))
        }
        Some(_) => Ok((account.person_id, said.symbol)),
    })
}

/// Reads a stored update; `None` for everything but a person's own `/close SYMBOL` in their private chat.
fn read(update_id: i64, raw: &Value) -> Option<Said> {
    let fields = raw.as_object().filter(|fields| fields.len() == 2)?;
    let message = fields.get("message")?;
    let (from, chat) = (&message["from"], &message["chat"]);
    let is_own = ["forward_origin", "forward_date", "via_bot", "sender_chat"].iter().all(|f| message.get(f).is_none());
    let is_private = chat["type"] == "private" && chat["id"] == from["id"];
    let numbered = fields.get("update_id").and_then(Value::as_i64) == Some(update_id);
    if !is_own || !is_private || !numbered || from["is_bot"] != Value::Bool(false) {
        return None;
    }
    let mut words = message["text"].as_str()?.split_whitespace();
    let command = words.next()?.split('@').next()?.to_ascii_lowercase();
    let (symbol, rest) = (words.next()?, words.next());
    let is_symbol = (1..=48).contains(&symbol.len()) && symbol.chars().all(|c| c.is_ascii_alphanumeric());
    (command == "/close" && rest.is_none() && is_symbol).then_some(())?;
    Some(Said {
        telegram_user_id: from["id"].as_i64()?,
        at: UnixMs(message["date"].as_i64()?.checked_mul(1_000)?),
        symbol: symbol.to_ascii_uppercase(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Value {
        json!({ "update_id": 7, "message": {
            "message_id": 3, "date": 1_800_000_000, "text": "/close btcusdt",
            "from": { "id": 11, "is_bot": false }, "chat": { "id": 11, "type": "private" } } })
    }

    #[test]
    fn an_exit_is_a_persons_own_words_in_their_private_chat() {
        let said = Said { telegram_user_id: 11, at: UnixMs(1_800_000_000_000), symbol: "BTCUSDT".to_owned() };
        assert_eq!(read(7, &message()), Some(said));
        assert_eq!(read(8, &message()), None, "stored under another number");
        for (path, value) in [
            ("/message/text", json!("/close")),
            ("/message/text", json!("/close BTCUSDT now")),
            ("/message/text", json!("/close BTC/USDT")),
            ("/message/text", json!("please /close BTCUSDT")),
            ("/message/text", json!(null)),
            ("/message/from/is_bot", json!(true)),
            ("/message/from/id", json!(12)),
            ("/message/chat/type", json!("group")),
            ("/message/date", json!("today")),
        ] {
            let mut raw = message();
            *raw.pointer_mut(path).unwrap() = value.clone();
            assert_eq!(read(7, &raw), None, "{path} {value}");
        }
        for field in ["forward_origin", "forward_date", "via_bot", "sender_chat"] {
            let mut raw = message();
            raw["message"][field] = json!({});
            assert_eq!(read(7, &raw), None, "{field}");
        }
        let mut raw = message();
        raw["callback_query"] = json!({});
        assert_eq!(read(7, &raw), None, "two payloads");
    }
}
