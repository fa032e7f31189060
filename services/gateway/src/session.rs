//! Who is logged in. Kept in memory: a restart logs everybody out and loses nothing else.
//!
//! The browser holds a random 256-bit name; here only its SHA-256 is kept, so that neither a dump nor the time of a
//! comparison tells a name that works.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use domain::time::UnixMs;
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

/// Longest life of a session, ms.
pub const LONGEST_MS: i64 = 12 * 3_600_000;
/// Without a page or a form for this long a session ends, ms. Live updates do not count: an open page is no person.
pub const IDLE_MS: i64 = 30 * 60_000;
/// Sessions kept at once; the one seen longest ago goes first.
const MOST: usize = 64;
/// Answers kept for the page that a form leads to.
const ANSWERS: usize = 8;
/// Name of the cookie.
const COOKIE_NAME: &str = "swarm_session";
/// Its name where the browser speaks TLS: a `__Host-` cookie is taken only with Secure, for one host and all paths.
const SECURE_COOKIE_NAME: &str = "__Host-swarm_session";

/// What a form was answered, shown on the page it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// It was done.
    pub good: bool,
    /// For people.
    pub text: String,
}

/// A session as a page sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// Who: the name their codes are registered under.
    pub person: String,
    /// Their account, when they have one.
    pub user: Option<String>,
    /// Goes out with each form and must come back with it.
    pub csrf: String,
    key: Key,
}

type Key = [u8; 32];

#[derive(Debug)]
struct Session {
    person: String,
    user: Option<String>,
    csrf: String,
    made_at: UnixMs,
    seen_at: UnixMs,
    said: VecDeque<(u64, Said)>,
    next: u64,
}

impl Session {
    /// Time that runs backwards ends a session too: its age can't be told any more.
    const fn is_over(&self, now: UnixMs) -> bool {
        let (age, idle) = (now.since_ms(self.made_at), now.since_ms(self.seen_at));
        age > LONGEST_MS || idle > IDLE_MS || idle < -5_000
    }

    fn visitor(&self, key: Key) -> Visitor {
        Visitor { person: self.person.clone(), user: self.user.clone(), csrf: self.csrf.clone(), key }
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<BTreeMap<Key, Session>>);

/// No randomness could be had.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

fn random_name() -> Result<String, NoRandomness> {
    let mut bytes = [0_u8; 32];
    OsRng.try_fill_bytes(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(hex::encode(bytes))
}

fn key_of(name: &str) -> Key {
    Sha256::digest(name.as_bytes()).into()
}

impl Sessions {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Key, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session; its name goes into the cookie and nowhere else.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn open(&self, person: &str, user: Option<&str>, now: UnixMs) -> Result<String, NoRandomness> {
        let (name, csrf) = (random_name()?, random_name()?);
        let mut all = self.all();
        all.retain(|_, session| !session.is_over(now));
        if all.len() >= MOST {
            let oldest = all.iter().min_by_key(|(_, session)| session.seen_at).map(|(key, _)| *key);
            oldest.map(|key| all.remove(&key));
        }
        let session = Session {
            person: person.to_owned(),
            user: user.map(str::to_owned),
            csrf,
            made_at: now,
            seen_at: now,
            said: VecDeque::new(),
            next: 1,
        };
        all.insert(key_of(&name), session);
        Ok(name)
    }

    /// The session of a request, which counts as a sign of life.
    pub fn visit(&self, headers: &HeaderMap, now: UnixMs) -> Option<Visitor> {
        let key = key_of(cookie(headers)?);
        let mut all = self.all();
        let session = all.get_mut(&key)?;
        if session.is_over(now) {
            all.remove(&key);
            return None;
        }
        session.seen_at = session.seen_at.max(now);
        Some(session.visitor(key))
    }

    /// The session of a request that is no sign of life.
    #[must_use]
    pub fn peek(&self, headers: &HeaderMap, now: UnixMs) -> Option<Visitor> {
        let key = key_of(cookie(headers)?);
        let all = self.all();
        all.get(&key).filter(|session| !session.is_over(now)).map(|session| session.visitor(key))
    }

    /// Whether a session still stands, without a sign of life.
    #[must_use]
    pub fn stands(&self, visitor: &Visitor, now: UnixMs) -> bool {
        self.all().get(&visitor.key).is_some_and(|session| !session.is_over(now))
    }

    /// Whether a form came from a page of this session.
    #[must_use]
    pub fn is_own_form(visitor: &Visitor, csrf: &str) -> bool {
        key_of(&visitor.csrf) == key_of(csrf)
    }

    /// Ends a session.
    pub fn end(&self, visitor: &Visitor) {
        self.all().remove(&visitor.key);
    }

    /// Keeps an answer for the next page; its number goes into that page's address.
    pub fn say(&self, visitor: &Visitor, said: Said) -> u64 {
        let mut all = self.all();
        let Some(session) = all.get_mut(&visitor.key) else { return 0 };
        let number = session.next;
        session.next += 1;
        session.said.push_back((number, said));
        if session.said.len() > ANSWERS {
            session.said.pop_front();
        }
        number
    }

    /// The answer of that number. Reading it changes nothing: a page may be loaded again.
    #[must_use]
    pub fn said(&self, visitor: &Visitor, number: u64) -> Option<Said> {
        let all = self.all();
        all.get(&visitor.key)?.said.iter().find(|(n, _)| *n == number).map(|(_, said)| said.clone())
    }
}

/// The session's name in the request's cookies.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| [COOKIE_NAME, SECURE_COOKIE_NAME].contains(name)).map(|(_, value)| value)
}

/// The header that gives a session to the browser: no script may read it, no other site send it.
#[must_use]
pub fn set_cookie(name: &str, is_secure: bool) -> String {
    let (cookie, secure) = cookie_form(is_secure);
    format!("{cookie}={name}; Path=/; HttpOnly; SameSite=Strict{secure}; Max-Age={}", LONGEST_MS / 1_000)
}

/// The header that takes it away.
#[must_use]
pub fn clear_cookie(is_secure: bool) -> String {
    let (cookie, secure) = cookie_form(is_secure);
    format!("{cookie}=; Path=/; HttpOnly; SameSite=Strict{secure}; Max-Age=0")
}

const fn cookie_form(is_secure: bool) -> (&'static str, &'static str) {
    if is_secure { (SECURE_COOKIE_NAME, "; Secure") } else { (COOKIE_NAME, "") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, format!("other=1; {COOKIE_NAME}={name}; more=2").parse().unwrap());
        headers
    }

    #[test]
    fn a_session_ends_when_idle_for_30_minutes_and_after_12_hours_in_any_case() {
        let sessions = Sessions::default();
        let name = sessions.open("anna", Some("anna"), UnixMs(0)).unwrap();
        let headers = with(&name);
        let mut now = 0;
        while now + IDLE_MS <= LONGEST_MS {
            now += IDLE_MS;
            assert_eq!(sessions.visit(&headers, UnixMs(now)).unwrap().person, "anna");
        }
        assert_eq!(now, LONGEST_MS);
        assert!(sessions.visit(&headers, UnixMs(LONGEST_MS + 1)).is_none(), "12 h");
        let name = sessions.open("anna", None, UnixMs(0)).unwrap();
        assert!(sessions.visit(&with(&name), UnixMs(IDLE_MS + 1)).is_none(), "30 min");
        assert!(sessions.visit(&with(&name), UnixMs(1)).is_none(), "what ended stays ended");
    }

    #[test]
    fn an_open_page_does_not_keep_a_session() {
        let sessions = Sessions::default();
        let name = sessions.open("anna", None, UnixMs(0)).unwrap();
        let visitor = sessions.visit(&with(&name), UnixMs(0)).unwrap();
        assert!(sessions.stands(&visitor, UnixMs(IDLE_MS)));
        assert!(!sessions.stands(&visitor, UnixMs(IDLE_MS + 1)));
        assert!(sessions.visit(&with(&name), UnixMs(IDLE_MS + 1)).is_none());
    }

    #[test]
    fn a_clock_that_was_set_back_ends_sessions_instead_of_making_them_longer() {
        let sessions = Sessions::default();
        let name = sessions.open("anna", None, UnixMs(LONGEST_MS)).unwrap();
        assert!(sessions.visit(&with(&name), UnixMs(LONGEST_MS - 5_000)).is_some());
        assert!(sessions.visit(&with(&name), UnixMs(LONGEST_MS - 5_001)).is_none());
    }

    #[test]
    fn names_and_form_marks_are_random_and_belong_to_one_session() {
        let sessions = Sessions::default();
        let names: Vec<String> = (0..2).map(|_| sessions.open("anna", None, UnixMs(0)).unwrap()).collect();
        assert!(names.iter().all(|name| name.len() == 64) && names[0] != names[1]);
        let [first, second] = [0, 1].map(|i| sessions.visit(&with(&names[i]), UnixMs(0)).unwrap());
        assert!(Sessions::is_own_form(&first, &first.csrf.clone()));
        assert!(!Sessions::is_own_form(&first, &second.csrf) && !Sessions::is_own_form(&first, ""));
        sessions.end(&first);
        assert!(sessions.visit(&with(&names[0]), UnixMs(0)).is_none());
        assert!(
            sessions.visit(&with("0"), UnixMs(0)).is_none() && sessions.visit(&HeaderMap::new(), UnixMs(0)).is_none()
        );
    }

    #[test]
    fn sessions_are_bounded_and_the_one_seen_longest_ago_goes_first() {
        let sessions = Sessions::default();
        let names: Vec<String> =
            (0..=MOST).map(|i| sessions.open("anna", None, UnixMs(i64::try_from(i).unwrap())).unwrap()).collect();
        assert!(sessions.visit(&with(&names[0]), UnixMs(100)).is_none());
        assert!(names[1..].iter().all(|name| sessions.visit(&with(name), UnixMs(100)).is_some()));
    }

    #[test]
    fn an_answer_is_read_as_often_as_its_page_is_loaded() {
        let sessions = Sessions::default();
        let name = sessions.open("anna", None, UnixMs(0)).unwrap();
        let visitor = sessions.visit(&with(&name), UnixMs(0)).unwrap();
        let numbers: Vec<u64> =
            (0..9).map(|i| sessions.say(&visitor, Said { good: true, text: format!("answer {i}") })).collect();
        assert_eq!(sessions.said(&visitor, numbers[0]), None);
        for _ in 0..2 {
            assert_eq!(sessions.said(&visitor, numbers[8]).unwrap().text, "answer 8");
        }
    }

    #[test]
    fn the_cookie_is_for_this_site_alone_and_never_for_scripts() {
        let cookie = set_cookie("x", false);
        for part in ["swarm_session=x;", "; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age=43200"] {
            assert!(cookie.contains(part), "{cookie} has no {part}");
        }
        assert!(!cookie.contains("Domain") && !cookie.contains("Secure"));
        let cookie = set_cookie("x", true);
        assert!(cookie.starts_with("__Host-swarm_session=x;") && cookie.contains("; Secure"), "{cookie}");
        assert!(clear_cookie(true).contains("Max-Age=0"));
    }
}
