//! The line to Telegram: what all parts of the agent share, and the calls they make.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::ids::ApprovalId;
use domain::telegram_button::{self, Press};
use domain::time::UnixMs;
use serde_json::Value;
use teloxide_core::payloads::{
    AnswerCallbackQuery, AnswerCallbackQuerySetters, EditMessageReplyMarkup, EditMessageText, EditMessageTextSetters,
    SendMessage, SendMessageSetters,
};
use teloxide_core::types::{
    CallbackQueryId, ChatId, InlineKeyboardButton, InlineKeyboardMarkup, LinkPreviewOptions, MessageId, ParseMode,
};
use tokio::sync::Notify;

use crate::api::{Api, ApiFault};
use crate::board::Board;
use crate::config::Config;
use crate::pace::{Pace, Rank};
use crate::request::Face;

/// Tries of a message that the server refuses for its speed.
const TRIES: u32 = 4;
/// Longest answer to a press.
const LONGEST_ANSWER: usize = 190;
/// Facts kept for `/logs`.
const RECENT: usize = 30;

/// What is sent.
enum Out<'a> {
    Text(Box<SendMessage>),
    Picture(&'a [u8], &'a str),
}

/// The line.
#[derive(Debug)]
pub struct Line {
    /// What it was configured with.
    pub config: Config,
    /// The calls.
    pub api: Api,
    /// How fast messages go out.
    pub pace: Pace,
    /// How the prompts look.
    pub board: Board,
    /// Updates were stored.
    pub stored: Notify,
    /// Requests may have changed.
    pub look: Notify,
    /// Notices were queued.
    pub queued: Notify,
    /// The latest facts, for `/logs`.
    recent: Mutex<VecDeque<(UnixMs, String)>>,
}

impl Line {
    /// A line for the configured bot; nothing is sent yet.
    ///
    /// # Errors
    /// [`ApiFault`] when there can be no HTTP client.
    pub fn new(config: Config) -> Result<Self, ApiFault> {
        Ok(Self {
            api: Api::new(&config)?,
            config,
            pace: Pace::new(),
            board: Board::default(),
            stored: Notify::new(),
            look: Notify::new(),
            queued: Notify::new(),
            recent: Mutex::new(VecDeque::new()),
        })
    }

    /// Keeps a fact for `/logs`.
    pub fn remember(&self, at: UnixMs, text: String) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back((at, text));
        while recent.len() > RECENT {
            recent.pop_front();
        }
    }

    /// The latest facts, newest first.
    #[must_use]
    pub fn recent(&self) -> Vec<(UnixMs, String)> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// Sends a message in HTML that answers a person; gives its id.
    ///
    /// # Errors
    /// [`ApiFault`]; after [`ApiFault::Unclear`] it may have been sent.
    pub async fn say(&self, chat: i64, html: &str) -> Result<i64, ApiFault> {
        self.sent(chat, Rank::Answer, &Out::Text(Box::new(message(chat, html)))).await
    }

    /// Sends a message in HTML that nobody asked for; gives its id.
    ///
    /// # Errors
    /// As for [`Line::say`].
    pub async fn tell(&self, chat: i64, html: &str) -> Result<i64, ApiFault> {
        self.sent(chat, Rank::Notice, &Out::Text(Box::new(message(chat, html)))).await
    }

    /// Sends a prompt; gives its id.
    ///
    /// # Errors
    /// As for [`Line::say`].
    pub async fn prompt(&self, chat: i64, user: i64, id: ApprovalId, face: &Face) -> Result<i64, ApiFault> {
        let payload = message(chat, &face.text).reply_markup(self.keyboard(user, id, face));
        self.sent(chat, Rank::Prompt, &Out::Text(Box::new(payload))).await
    }

    /// Sends a picture with a caption in HTML.
    ///
    /// # Errors
    /// As for [`Line::say`].
    pub async fn picture(&self, chat: i64, png: &[u8], caption: &str) -> Result<i64, ApiFault> {
        self.sent(chat, Rank::Answer, &Out::Picture(png, caption)).await
    }

    /// Makes a prompt look like `face`, whoever else waits in that chat: an edit is no message.
    ///
    /// # Errors
    /// [`ApiFault`]; that it looks so already is none.
    pub async fn edit(&self, place: (i64, i64), user: i64, id: ApprovalId, face: &Face) -> Result<(), ApiFault> {
        let (chat, message) = (ChatId(place.0), message_id(place.1)?);
        let payload = EditMessageText::new(chat, message, &face.text)
            .parse_mode(ParseMode::Html)
            .link_preview_options(no_preview())
            .reply_markup(self.keyboard(user, id, face));
        self.pace.held().await;
        done(self.held(self.api.call(&payload).await))
    }

    /// Takes the buttons from a message.
    ///
    /// # Errors
    /// [`ApiFault`]; that there are none is none.
    pub async fn unbutton(&self, place: (i64, i64)) -> Result<(), ApiFault> {
        let payload = EditMessageReplyMarkup::new(ChatId(place.0), message_id(place.1)?);
        self.pace.held().await;
        done(self.held(self.api.call(&payload).await))
    }

    /// Answers a press, so that the person's telephone stops waiting. A press that is too old to be answered is none of
    /// anybody's concern.
    pub async fn answer(&self, query: &CallbackQueryId, text: &str) {
        let text = crate::text::line(text, LONGEST_ANSWER);
        let payload = AnswerCallbackQuery::new(query.clone()).text(text);
        if let Err(error) = self.held(self.api.call(&payload).await) {
            tracing::info!(%error, "a press was not answered");
        }
    }

    fn keyboard(&self, user: i64, id: ApprovalId, face: &Face) -> InlineKeyboardMarkup {
        let button = |(label, press): &(String, Press)| {
            let data = telegram_button::encode(&self.config.button_key.0, id, *press, user);
            InlineKeyboardButton::callback(label.clone(), data)
        };
        InlineKeyboardMarkup::new(face.buttons.iter().map(|row| row.iter().map(button).collect::<Vec<_>>()))
    }

    /// Waits for its turn, sends, and once more when that was too fast; gives the id of the message.
    async fn sent(&self, chat: i64, rank: Rank, out: &Out<'_>) -> Result<i64, ApiFault> {
        let mut tries = 1;
        loop {
            self.pace.turn(chat, rank).await;
            let sent = match out {
                Out::Text(payload) => self.api.call(payload.as_ref()).await,
                Out::Picture(png, caption) => self.api.photo(chat, png.to_vec(), caption).await,
            };
            match self.held(sent) {
                Err(ApiFault::TooMany { .. }) if tries < TRIES => tries += 1,
                Ok(result) => {
                    let id = result["message_id"].as_i64();
                    return id.ok_or_else(|| ApiFault::Unclear("the message that was sent has no id".to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps the wait that the server asks for.
    fn held<T>(&self, answered: Result<T, ApiFault>) -> Result<T, ApiFault> {
        if let Some(wait) = answered.as_ref().err().and_then(ApiFault::retry_after) {
            metrics::counter!("swarm_telegram_held_total").increment(1);
            self.pace.hold(wait);
        }
        answered
    }
}

fn message(chat: i64, html: &str) -> SendMessage {
    SendMessage::new(ChatId(chat), html).parse_mode(ParseMode::Html).link_preview_options(no_preview())
}

/// Links are never opened for a preview: what is told may come from a stranger.
const fn no_preview() -> LinkPreviewOptions {
    LinkPreviewOptions {
        is_disabled: true,
        url: None,
        prefer_small_media: false,
        prefer_large_media: false,
        show_above_text: false,
    }
}

fn message_id(id: i64) -> Result<MessageId, ApiFault> {
    i32::try_from(id).map(MessageId).map_err(|_| ApiFault::Unclear(format!("{id} is no id of a message")))
}

fn done(edited: Result<Value, ApiFault>) -> Result<(), ApiFault> {
    match edited {
        Err(error) if !error.is_not_modified() => Err(error),
        _ => Ok(()),
    }
}

/// A pause that doubles from one failure to the next, up to a bound.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(500);
    const LAST: Duration = Duration::from_secs(15);

    /// From the start.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// The pause after one more failure.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(Self::LAST);
        pause
    }

    /// It worked.
    pub const fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}
