//! The operator's private chat, at a double of Telegram that holds the swarm to Telegram's own rules: one message a second
//! to a chat, 30 a second in all. A prompt waits for its turn; a press does not.

use std::time::Duration;

use domain::time::Clock;
use runtime::clock::SystemClock;
use swarm::people::{Connection, Files, channels};
use testkit::telegram::{TOKEN, Telegram};

use crate::bench_error::BenchError;
use crate::stage::{Swarm, until};

/// The operator's account and private chat.
const OPERATOR: i64 = 4_242;
const YES: &str = "✅ Approve";
const LINKED_WITHIN: Duration = Duration::from_secs(20);

/// The chat.
pub struct Chat {
    telegram: Telegram,
}

impl Chat {
    /// Starts the double; nobody is in the chat yet.
    pub async fn open() -> Self {
        let telegram = Telegram::start(SystemClock.now()).await;
        telegram.person(OPERATOR, "Olga");
        Self { telegram }
    }

    /// What leads a swarm here.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [("TELEGRAM_TOKEN", TOKEN.to_owned()), ("TELEGRAM_API_URL", self.telegram.url())]
    }

    /// Lets the operator's account speak for the operator: from now on they are asked here.
    ///
    /// # Errors
    /// [`BenchError`].
    pub async fn link(&self, swarm: &Swarm, connection: &Connection, files: &Files) -> Result<(), BenchError> {
        let linked = channels::link_telegram(connection, files).await;
        let linked = linked.map_err(|error| BenchError::Broken(error.to_string()))?;
        let code = linked["code"].as_str();
        let code = code.ok_or_else(|| BenchError::Broken(format!("Telegram can't be linked: {linked}")))?;
        self.telegram.say(OPERATOR, &format!("/start {code}"));
        until(LINKED_WITHIN, "a Telegram account is linked", async || {
            let linked = sqlx::query_scalar("SELECT 1 FROM telegram_accounts WHERE telegram_user_id = $1 AND active");
            Ok(linked.bind(OPERATOR).fetch_optional(swarm.admin.pool()).await?.map(|_: i32| ()))
        })
        .await
    }

    /// Presses yes under the message of that id.
    ///
    /// # Errors
    /// [`BenchError::Broken`] when there is nothing to press.
    pub fn press(&self, message_id: i64) -> Result<(), BenchError> {
        let messages = self.telegram.messages(OPERATOR);
        let prompt = messages.iter().find(|message| message.id == message_id);
        let button = prompt.and_then(|prompt| Some((prompt, prompt.button(YES)?)));
        let (prompt, button) =
            button.ok_or_else(|| BenchError::Broken(format!("no {YES:?} under message {message_id}")))?;
        self.telegram.press_data(OPERATOR, prompt, &button.data);
        Ok(())
    }

    /// Asks whether all that the swarm did here is what Telegram allows: else it would not be as fast with Telegram itself.
    ///
    /// # Errors
    /// [`BenchError::Broken`] with what is not.
    pub fn rules_were_kept(&self) -> Result<(), BenchError> {
        let broken = self.telegram.violations();
        if broken.is_empty() {
            return Ok(());
        }
        Err(BenchError::Broken(format!("Telegram does not allow what was done: {}", broken.join("; "))))
    }
}
