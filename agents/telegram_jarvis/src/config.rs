//! What the agent is started with. Without a token it has nothing to do with Telegram.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Where the Bot API is.
const API_URL: &str = "https://api.telegram.org";
/// How long one poll waits for an update, s. Below 50, which Telegram never exceeds.
const POLL_S: u64 = 25;
/// Without a good answer to a poll for this long an alert is raised, s.
const SILENT_AFTER_S: u64 = 90;

/// The secret of the bot. It is part of every address, so it must never be shown with one.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Reads `<bot id>:<secret>`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.trim().split_once(':')?;
        let is_id = !id.is_empty() && id.chars().all(|c| c.is_ascii_digit());
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        (is_id && secret.len() >= 20 && secret.chars().all(is_plain)).then(|| Self(text.trim().to_owned()))
    }

    /// For the address of a call, and for nothing else.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The key of the buttons' MACs.
#[derive(Clone, PartialEq, Eq)]
pub struct ButtonKey(pub [u8; 32]);

impl fmt::Debug for ButtonKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ButtonKey(..)")
    }
}

/// Updates are delivered instead of fetched.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where Telegram delivers: an HTTPS address that leads to `listen`.
    pub url: String,
    /// Sent with each delivery, 16 to 256 of `A-Z a-z 0-9 _ -`.
    pub secret: String,
    /// Where we listen, behind whatever ends TLS.
    pub listen: SocketAddr,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// Checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `TELEGRAM_TOKEN`.
    pub token: Token,
    /// `TELEGRAM_API_URL`: another server of the Bot API than Telegram's own, or its double.
    pub api_url: String,
    /// `TELEGRAM_BUTTON_KEY`: 64 hex digits.
    pub button_key: ButtonKey,
    /// `TELEGRAM_POLL_S`: how long one poll waits for an update.
    pub poll: Duration,
    /// `TELEGRAM_SILENT_AFTER_S`: without a good answer for this long an alert is raised.
    pub silent_after: Duration,
    /// `TELEGRAM_WEBHOOK_URL`, `TELEGRAM_WEBHOOK_SECRET`, `TELEGRAM_WEBHOOK_LISTEN`; absent: long polling.
    pub webhook: Option<Webhook>,
}

/// Reads the environment; `None` without a token.
///
/// # Errors
/// One line per fault; none shows a secret.
pub fn load(vars: &BTreeMap<String, String>) -> Result<Option<Config>, Vec<String>> {
    let get = |name: &str| vars.get(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let Some(token) = get("TELEGRAM_TOKEN") else { return Ok(None) };
    let mut faults = Vec::new();
    let token = Token::parse(&token);
    if token.is_none() {
        faults.push("TELEGRAM_TOKEN: must be <bot id>:<secret>, as @BotFather gives it".to_owned());
    }
    let api_url = get("TELEGRAM_API_URL").unwrap_or_else(|| API_URL.to_owned()).trim_end_matches('/').to_owned();
    // The token is part of the address: in the clear it may only go to this machine.
    let is_here =
        ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"].iter().any(|own| api_url.starts_with(own));
    if !api_url.starts_with("https://") && !is_here {
        faults.push("TELEGRAM_API_URL: must be https://, or http:// on this machine".to_owned());
    }
    let key = get("TELEGRAM_BUTTON_KEY").and_then(|text| hex::decode(text).ok()?.try_into().ok());
    if key.is_none() {
        faults.push("TELEGRAM_BUTTON_KEY: must be 64 hex digits; `swarm up` makes it".to_owned());
    }
    let mut seconds = |name: &str, usual: u64, most: u64| {
        let asked = get(name).map_or(Some(usual), |text| text.parse().ok().filter(|s| (1..=most).contains(s)));
        if asked.is_none() {
            faults.push(format!("{name}: must be 1 to {most} seconds"));
        }
        Duration::from_secs(asked.unwrap_or(usual))
    };
    let poll = seconds("TELEGRAM_POLL_S", POLL_S, 50);
    let silent_after = seconds("TELEGRAM_SILENT_AFTER_S", SILENT_AFTER_S, 3_600);
    let webhook = match get("TELEGRAM_WEBHOOK_URL") {
        None => None,
        Some(url) => webhook(url, get("TELEGRAM_WEBHOOK_SECRET"), get("TELEGRAM_WEBHOOK_LISTEN"), &mut faults),
    };
    match (token, key) {
        (Some(token), Some(key)) if faults.is_empty() => {
            Ok(Some(Config { token, api_url, button_key: ButtonKey(key), poll, silent_after, webhook }))
        }
        _ => Err(faults),
    }
}

fn webhook(url: String, secret: Option<String>, listen: Option<String>, faults: &mut Vec<String>) -> Option<Webhook> {
    if !url.starts_with("https://") && !url.starts_with("http://127.0.0.1:") {
        faults.push("TELEGRAM_WEBHOOK_URL: must be https://, which Telegram asks for".to_owned());
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    // Telegram takes one character; a secret that can be guessed is none.
    let secret = secret.filter(|text| (16..=256).contains(&text.len()) && text.chars().all(is_plain));
    if secret.is_none() {
        faults.push("TELEGRAM_WEBHOOK_SECRET: must be 16 to 256 of A-Z a-z 0-9 _ -".to_owned());
    }
    let listen = listen.and_then(|text| text.parse().ok());
    if listen.is_none() {
        faults.push("TELEGRAM_WEBHOOK_LISTEN: must be an address and port, such as 127.0.0.1:8443".to_owned());
    }
    Some(Webhook { url, secret: secret?, listen: listen? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "123456:AAF-secret_secret_secret_secret_012";

    fn vars(more: &[(&str, &str)]) -> BTreeMap<String, String> {
        more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn without_a_token_there_is_nothing_to_do() {
        assert!(load(&vars(&[("TELEGRAM_API_URL", "nonsense")])).unwrap().is_none());
        assert!(load(&vars(&[("TELEGRAM_TOKEN", "  ")])).unwrap().is_none());
    }

    #[test]
    fn all_faults_are_told_at_once_and_none_shows_a_secret() {
        let faults = load(&vars(&[
            ("TELEGRAM_TOKEN", "not-a-token-but-secret"),
            ("TELEGRAM_API_URL", "http://example.org"),
            ("TELEGRAM_POLL_S", "0"),
            ("TELEGRAM_WEBHOOK_URL", "ftp://x"),
            ("TELEGRAM_WEBHOOK_SECRET", "short-secret"),
        ]))
        .unwrap_err();
        assert_eq!(faults.len(), 7, "{faults:#?}");
        assert!(!faults.join(" ").contains("secret-"), "{faults:?}");
        assert!(!faults.join(" ").contains("not-a-token"), "{faults:?}");
    }

    #[test]
    fn a_good_configuration_is_taken_and_its_secrets_are_not_shown() {
        let key = "ab".repeat(32);
        let config = load(&vars(&[
            ("TELEGRAM_TOKEN", TOKEN),
            ("TELEGRAM_API_URL", "http://127.0.0.1:4000/"),
            ("TELEGRAM_BUTTON_KEY", &key),
            ("TELEGRAM_WEBHOOK_URL", "https://swarm.example/hook"),
            ("TELEGRAM_WEBHOOK_SECRET", "0123456789abcdef"),
            ("TELEGRAM_WEBHOOK_LISTEN", "127.0.0.1:0"),
        ]))
        .unwrap()
        .unwrap();
        assert_eq!(config.api_url, "http://127.0.0.1:4000");
        assert_eq!(config.poll, Duration::from_secs(25));
        let shown = format!("{config:?}");
        for secret in ["AAF-secret", "abababab", "0123456789abcdef"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
