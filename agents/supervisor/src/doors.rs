//! The doors through which people decide: command line, Telegram, web page. Each makes a word of what came and hands it to the
//! one function that takes words; a no is counted and written into the governance chain.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use domain::canonical::Sha256Digest;
use domain::ids::ApprovalId;
use domain::money::{Price, Quantity};
use domain::person::{Act, Change, SignedAct};
use domain::time::UnixMs;
use runtime::{HandleError, Means};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::Refused;
use crate::gateway::{self, Done, Entry, Proof, Said};
use crate::services::{Answer, nobody};
use crate::{NAME, Shared};

/// Wrong codes of one person within [`GUARD_MS`] after which no code of theirs is looked at any more.
const WRONG_CODES: usize = 5;
/// For how long a wrong code counts, ms.
const GUARD_MS: i64 = 900_000;
/// Names that are remembered for wrong codes: strangers can make up any number of them.
const GUARDED: usize = 1_000;
/// Characters of a name at most.
pub(crate) const LONGEST_NAME: usize = 100;
/// How often a word that met somebody else's transaction is taken up again before the person is asked to.
const TRIES: usize = 3;

/// Wrong codes by name. What is lost with the process are a few guesses at a number of six digits.
#[derive(Debug, Default)]
pub struct CodeGuard(Mutex<BTreeMap<String, Vec<UnixMs>>>);

impl CodeGuard {
    /// Whether a code of this person may be looked at.
    pub(crate) fn is_open(&self, person_id: &str, now: UnixMs) -> bool {
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.retain(|_, times| {
            times.retain(|at| now.since_ms(*at) < GUARD_MS);
            !times.is_empty()
        });
        let known = wrong.get(person_id);
        known.map_or(wrong.len() < GUARDED, |times| times.len() < WRONG_CODES)
    }

    pub(crate) fn note(&self, person_id: &str, now: UnixMs) {
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.entry(person_id.to_owned()).or_default().push(now);
    }
}

/// Whom a no was said to, as far as the request named them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Asker {
    /// The way they came.
    pub channel: &'static str,
    /// About what.
    pub approval_id: Option<ApprovalId>,
    /// Who they said they are.
    pub person_id: Option<String>,
}

impl Asker {
    fn of(entry: &Entry) -> Self {
        Self {
            channel: entry.proof.assurance().channel(),
            approval_id: Some(entry.approval_id),
            person_id: Some(domain::message::clean_text(&entry.person_id)),
        }
    }
}

/// A signed vote, modification or revocation.
pub(crate) async fn cli(shared: &Shared, work: &impl Means, payload: &[u8]) -> Answer {
    let nobody_named = Asker { channel: "cli", ..Asker::default() };
    let Ok(signed) = serde_json::from_slice::<SignedAct>(payload) else {
        let why = "send a signed act as JSON: use `swarm approve`, `reject`, `modify` or `revoke`";
        return refuse(work, nobody_named, Refused::new("NOT_SIGNED", why)).await;
    };
    match gateway::entry_of_act(signed) {
        Some(entry) => submit(shared, work, entry).await,
        None => refuse(work, nobody_named, Refused::new("WRONG_ACT", "this act is no word on a request")).await,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedTelegram {
    update_id: i64,
}

/// The number of an update that `telegram_jarvis` stored; nothing else it says is believed.
pub(crate) async fn telegram(shared: &Shared, work: &impl Means, payload: &[u8]) -> Answer {
    let asker = Asker { channel: "telegram", ..Asker::default() };
    let Ok(asked) = serde_json::from_slice::<AskedTelegram>(payload) else {
        return refuse(work, asker, Refused::new("BAD_JSON", "send {\"update_id\":123}")).await;
    };
    let mut unit = work.begin(nobody()).await?;
    let entry = gateway::entry_of_update(&mut unit, asked.update_id).await?;
    unit.rollback().await?;
    match entry {
        Ok(entry) => submit(shared, work, entry).await,
        Err(refused) => refuse(work, asker, refused).await,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedWeb {
    person: String,
    approval_id: String,
    digest: String,
    decision: String,
    #[serde(default)]
    quantity: String,
    #[serde(default)]
    worst_price: String,
    #[serde(default)]
    reason: String,
    totp: String,
}

/// A form of the web page, with a code of the person's authenticator.
pub(crate) async fn web(shared: &Shared, work: &impl Means, payload: &[u8]) -> Answer {
    let asker = Asker { channel: "web", ..Asker::default() };
    let entry = match serde_json::from_slice::<AskedWeb>(payload) {
        Ok(asked) => entry_of_web(asked),
        Err(error) => Err(Refused::new("BAD_JSON", &domain::message::clean_text(&error.to_string()))),
    };
    let entry = match entry {
        Ok(entry) => entry,
        Err(refused) => return refuse(work, asker, refused).await,
    };
    let (person_id, now) = (entry.person_id.clone(), work.now());
    if !shared.codes.is_open(&person_id, now) {
        let why = "too many wrong codes: no code is looked at for 15 minutes; `swarm approve` works";
        return refuse(work, Asker::of(&entry), Refused::new("TOO_MANY_CODES", why)).await;
    }
    let answer = submit(shared, work, entry).await;
    if let Ok(Err(refused)) = &answer
        && refused.code == "BAD_CODE"
    {
        shared.codes.note(&person_id, now);
    }
    answer
}

fn entry_of_web(asked: AskedWeb) -> Result<Entry, Refused> {
    let bad = |field: &str| Refused::new("BAD_JSON", &format!("{field} does not read"));
    let change = Change {
        quantity: optional(&asked.quantity, Quantity::parse).map_err(|()| bad("quantity"))?,
        worst_price: optional(&asked.worst_price, Price::parse).map_err(|()| bad("worst_price"))?,
    };
    // Names are remembered for wrong codes, so they have an end.
    if asked.person.chars().count() > LONGEST_NAME {
        return Err(Refused::new("BAD_TEXT", "nobody has so long a name"));
    }
    let said = match asked.decision.as_str() {
        "approve" => Said::Approve,
        "reject" => Said::Reject,
        "modify" => Said::Modify(change),
        "revoke" => Said::Revoke,
        _ => return Err(bad("decision")),
    };
    if !matches!(said, Said::Modify(_)) && change != (Change { quantity: None, worst_price: None }) {
        return Err(Refused::new("BAD_CHANGE", "only a modification names a quantity or a price"));
    }
    Ok(Entry {
        approval_id: asked.approval_id.parse().map_err(|_| bad("approval_id"))?,
        digest: Sha256Digest::parse(&asked.digest).ok_or_else(|| bad("digest"))?,
        person_id: asked.person,
        said,
        reason: asked.reason,
        proof: Proof::WebTotp { code: asked.totp },
    })
}

fn optional<T, E>(text: &str, parse: impl Fn(&str) -> Result<T, E>) -> Result<Option<T>, ()> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some).map_err(|_| ()) }
}

/// A signed act that makes a code for Telegram.
pub(crate) async fn link(work: &impl Means, payload: &[u8]) -> Answer {
    let asker = Asker { channel: "cli", ..Asker::default() };
    let signed = match serde_json::from_slice::<SignedAct>(payload) {
        Ok(signed) if matches!(signed.act.what, Act::LinkTelegram { .. }) => signed,
        Ok(_) => return refuse(work, asker, Refused::new("WRONG_ACT", "this act binds no Telegram account")).await,
        Err(_) => return refuse(work, asker, Refused::new("NOT_SIGNED", "use `swarm telegram link`")).await,
    };
    let mut unit = work.begin(nobody()).await?;
    match gateway::make_link(&mut unit, &signed).await? {
        Ok(made) => {
            work.commit(unit, nobody(), Vec::new()).await?;
            Ok(Ok(json!({ "person_id": made.person_id, "expires_at_ms": made.expires_at })))
        }
        Err(refused) => {
            unit.rollback().await?;
            let person_id = Some(domain::message::clean_text(&signed.act.person_id));
            refuse(work, Asker { person_id, ..asker }, refused).await
        }
    }
}

async fn submit(shared: &Shared, work: &impl Means, entry: Entry) -> Answer {
    let mut tried = 1;
    let done = loop {
        let mut unit = work.begin(nobody()).await?;
        match gateway::submit_entry(&mut unit, &shared.house, entry.clone()).await {
            Ok(Done { answer, out, changed: true }) => {
                let user = unit.tenant().unwrap_or_else(nobody);
                work.commit(unit, user, out).await?;
                break answer;
            }
            Ok(Done { answer, .. }) => {
                unit.rollback().await?;
                break answer;
            }
            // Another word, or treasury, was at the same request at the same moment.
            Err(HandleError::Retry(_)) if tried < TRIES => {
                drop(unit);
                tried += 1;
            }
            Err(error) => return Err(error),
        }
    };
    match done {
        Ok(answer) => Ok(Ok(answer)),
        Err(refused) => refuse(work, Asker::of(&entry), refused).await,
    }
}

/// Counts a no and writes it down. That it can't be written changes nothing about the no.
pub(crate) async fn refuse(work: &impl Means, asker: Asker, refused: Refused) -> Answer {
    metrics::counter!("swarm_votes_refused_total", "code" => refused.code).increment(1);
    if let Err(error) = write_refusal(work, &asker, &refused).await {
        tracing::error!(%error, code = refused.code, "a refused word is not in the governance chain");
    }
    Ok(Err(refused))
}

async fn write_refusal(work: &impl Means, asker: &Asker, refused: &Refused) -> Result<(), HandleError> {
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    let body: Value = json!({
        "channel": asker.channel, "code": refused.code,
        "approval_id": asker.approval_id, "person_id": asker.person_id,
    });
    store::audit::append_governance(&mut unit, "entry_refused", NAME, &body, now).await?;
    work.commit(unit, nobody(), Vec::new()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_five_wrong_codes_of_a_person_none_is_looked_at_for_a_quarter_of_an_hour() {
        let guard = CodeGuard::default();
        let now = UnixMs(1_800_000_000_000);
        for _ in 0..WRONG_CODES {
            assert!(guard.is_open("anna", now));
            guard.note("anna", now);
        }
        assert!(!guard.is_open("anna", now) && guard.is_open("zoe", now));
        assert!(!guard.is_open("anna", now.plus_ms(GUARD_MS - 1)));
        assert!(guard.is_open("anna", now.plus_ms(GUARD_MS)));
        for name in 0..GUARDED {
            guard.note(&name.to_string(), now.plus_ms(GUARD_MS));
        }
        assert!(!guard.is_open("anybody", now.plus_ms(GUARD_MS)), "made-up names do not fill the memory");
    }

    #[test]
    fn a_form_says_all_it_must_and_nothing_else() {
        let read = |text: &str| {
            serde_json::from_str::<AskedWeb>(text)
                .map_err(|_| "BAD_JSON")
                .and_then(|asked| entry_of_web(asked).map_err(|refused| refused.code))
        };
        let form = |decision: &str, more: &str| {
            let (id, digest) = (uuid::Uuid::nil(), "0".repeat(64));
            format!(
                r#"{{"person":"zoe","approval_id":"{id}","digest":"{digest}","decision":"{decision}","totp":"123456"{more}}}"#
            )
        };
        let change = |text: &str| match read(text).unwrap().said {
            Said::Modify(change) => (change.quantity.is_some(), change.worst_price.is_some()),
            said => panic!("{said:?}"),
        };
        assert_eq!(read(&form("approve", "")).unwrap().said, Said::Approve);
        assert_eq!(read(&form("reject", r#","quantity":"","reason":"no""#)).unwrap().said, Said::Reject);
        assert_eq!(read(&form("revoke", "")).unwrap().said, Said::Revoke);
        assert_eq!(change(&form("modify", r#","quantity":"0.5""#)), (true, false));
        assert_eq!(change(&form("modify", r#","worst_price":"9","quantity":"1""#)), (true, true));
        for (text, code) in [
            (form("", ""), "BAD_JSON"),
            (form("0", ""), "BAD_JSON"),
            (form("APPROVE", ""), "BAD_JSON"),
            (form("approve", r#","quantity":"1""#), "BAD_CHANGE"),
            (form("modify", r#","quantity":"1e3""#), "BAD_JSON"),
            (form("modify", r#","worst_price":"-1""#), "BAD_JSON"),
            (form("approve", r#","more":1"#), "BAD_JSON"),
            (form("approve", r#","decision":"reject""#), "BAD_JSON"),
            (form("approve", "").replace("zoe", &"z".repeat(101)), "BAD_TEXT"),
            ("{}".to_owned(), "BAD_JSON"),
            ("null".to_owned(), "BAD_JSON"),
            (String::new(), "BAD_JSON"),
        ] {
            assert_eq!(read(&text).unwrap_err(), code, "{text}");
        }
    }
}
