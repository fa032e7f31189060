//! The token is part of every address of the Bot API, and of nothing that is logged or told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step is a failed test")]

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::time::UnixMs;
use telegram_jarvis::api::{Api, ApiFault};
use telegram_jarvis::config::{Config, load};
use teloxide_core::payloads::GetMe;
use testkit::telegram::{Fault, TOKEN, Telegram};

/// Everything that is logged, whoever logs it, at the finest level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn config(api_url: &str, token: &str) -> Config {
    let key = "00".repeat(32);
    let vars = [("TELEGRAM_TOKEN", token), ("TELEGRAM_API_URL", api_url), ("TELEGRAM_BUTTON_KEY", key.as_str())];
    let vars: BTreeMap<String, String> = vars.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    load(&vars).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_error_and_no_log_line_shows_the_token() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).init();
    let telegram = Telegram::start(UnixMs(1_800_000_000_000)).await;
    let mut told = Vec::new();
    let mut note = |error: ApiFault| {
        tracing::warn!(%error, ?error, "as the agent logs it");
        told.push(format!("{error} {error:?}"));
    };
    let api = Api::new(&config(&telegram.url(), TOKEN)).unwrap();
    for fault in [Fault::ServerError, Fault::Conflict, Fault::TooMany(1), Fault::Cut, Fault::LostAnswer] {
        telegram.fault("getUpdates", fault, 1);
        note(api.updates(None, Duration::from_secs(1)).await.unwrap_err());
    }
    // No answer in time.
    telegram.fault("getMe", Fault::Hang, 1);
    note(api.call(&GetMe::new()).await.unwrap_err());
    note(api.photo(7, b"no picture".to_vec(), "x").await.unwrap_err());
    // A wrong token, which is a secret too.
    let stranger = TOKEN.replace("double", "wrong1");
    note(Api::new(&config(&telegram.url(), &stranger)).unwrap().call(&GetMe::new()).await.unwrap_err());
    // Nobody listens, and nobody by that name.
    drop(telegram);
    note(api.updates(None, Duration::from_secs(1)).await.unwrap_err());
    let nowhere = Api::new(&config("https://telegram.invalid", TOKEN)).unwrap();
    note(nowhere.call(&GetMe::new()).await.unwrap_err());
    note(Api::new(&config("http://localhost:1", TOKEN)).unwrap().call(&GetMe::new()).await.unwrap_err());

    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(logged.contains("as the agent logs it") && told.len() == 11, "{}", told.len());
    for text in told.iter().chain([&logged, &format!("{api:?} {:?}", config("http://localhost:1", TOKEN))]) {
        for secret in ["test_double_secret", "test_wrong1_secret"] {
            let at = text.find(secret);
            assert!(at.is_none(), "{}", at.map_or("", |at| &text[at.saturating_sub(300)..at]));
        }
    }
}
