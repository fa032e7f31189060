//! How a person says yes, and when a question is where they can.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::Row as _;
use swarm::people::{Command, Connection, Files, VoteArgs, perform};
use uuid::Uuid;

use crate::bench_error::BenchError;
use crate::chat::Chat;
use crate::stage::Swarm;

/// A way to say yes.
#[derive(Clone)]
pub enum Way {
    /// `swarm approve <id>`, but for the start of the program: look at the request, sign, send.
    Command(Arc<Operator>),
    /// A press under a prompt.
    Telegram(Arc<Chat>),
}

/// The operator at the terminal.
pub struct Operator {
    /// Under their key.
    pub connection: Connection,
    /// With the key they sign with.
    pub files: Files,
}

/// A question that waits, where a person sees it.
#[derive(Debug, Clone)]
pub struct Question {
    approval_id: Uuid,
    /// Its prompt in the chat; 0 at the terminal, which has none.
    message_id: i64,
}

impl Way {
    /// In a figure's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Command(_) => "`swarm approve`",
            Self::Telegram(_) => "press in Telegram",
        }
    }

    /// Of these orders, by id, those whose question can be answered this way now.
    ///
    /// # Errors
    /// The database's.
    pub async fn questions(&self, swarm: &Swarm, orders: &[Uuid]) -> Result<BTreeMap<Uuid, Question>, BenchError> {
        let query = match self {
            Self::Command(_) => {
                "SELECT order_id, approval_id, 0::bigint AS message_id FROM approval_requests
                 WHERE order_id = ANY($1) AND status = 'pending'"
            }
            Self::Telegram(_) => {
                "SELECT order_id, approval_id, message_id FROM approval_requests JOIN telegram_prompts USING (approval_id)
                 WHERE order_id = ANY($1) AND status = 'pending' AND NOT final"
            }
        };
        let mut found = BTreeMap::new();
        for row in sqlx::query(query).bind(orders).fetch_all(swarm.admin.pool()).await? {
            let (approval_id, message_id) = (row.try_get("approval_id")?, row.try_get("message_id")?);
            found.insert(row.try_get("order_id")?, Question { approval_id, message_id });
        }
        Ok(found)
    }

    /// Says yes.
    ///
    /// # Errors
    /// [`BenchError::Broken`] when it can't be said or is not taken; what becomes of a press is only seen at the venue.
    pub async fn say(&self, question: &Question) -> Result<(), BenchError> {
        match self {
            Self::Telegram(chat) => chat.press(question.message_id),
            Self::Command(operator) => {
                let id = VoteArgs { approval_id: question.approval_id.to_string(), reason: String::new() };
                let answer = perform(&operator.connection, &operator.files, &Command::Approve(id)).await;
                let answer = answer.map_err(|error| BenchError::Broken(error.to_string()))?;
                if answer["ok"] == true {
                    return Ok(());
                }
                Err(BenchError::Broken(format!("a yes was not taken: {answer}")))
            }
        }
    }

    /// The spans between the moments of a yes: due, those of [`Way::moments`], in the venue's journal.
    pub const fn spans(&self) -> &'static [&'static str] {
        match self {
            Self::Command(_) => &[
                "due -> the word is stored (look at the request, sign, gateway)",
                "word stored -> treasury begins (commit, stream)",
                "treasury begins -> desk begins (evidence, rails, ledger, commit, stream)",
                "desk begins -> executor begins to send (permit spent, commit, wake-up)",
                "executor begins -> in the venue's journal (mark sent, commit, place)",
            ],
            Self::Telegram(_) => &[
                "due -> telegram_jarvis begins to keep the update (poll)",
                "update -> the word is stored (commit, person, prompt, door, gateway)",
                "word stored -> treasury begins (commit, stream)",
                "treasury begins -> desk begins (evidence, rails, ledger, commit, stream)",
                "desk begins -> executor begins to send (permit spent, commit, wake-up)",
                "executor begins -> in the venue's journal (mark sent, commit, place)",
            ],
        }
    }

    /// The moments of these orders' yeses by the rows' own times, ms, with what the venue calls the order.
    ///
    /// # Errors
    /// The database's.
    pub async fn moments(&self, swarm: &Swarm, orders: &[Uuid]) -> Result<BTreeMap<String, Vec<f64>>, BenchError> {
        let update = match self {
            Self::Command(_) => "",
            Self::Telegram(_) => "u.received_at,",
        };
        let query = format!(
            "SELECT o.client_order_id, ARRAY(SELECT (extract(epoch FROM at) * 1000)::float8 FROM
               unnest(ARRAY[{update} e.stored_at, p.signed_at, o.created_at, o.sent_at]) WITH ORDINALITY m (at, n) ORDER BY n)
               AS moments
             FROM orders o JOIN permits p USING (user_id, permit_id)
             JOIN approval_requests r ON r.user_id = o.user_id AND r.order_id = o.order_id
             JOIN approval_entries e ON e.user_id = r.user_id AND e.approval_id = r.approval_id
             LEFT JOIN telegram_updates u ON u.update_id = (e.evidence ->> 'update_id')::bigint
             WHERE o.order_id = ANY($1) AND o.sent_at IS NOT NULL"
        );
        let mut found = BTreeMap::new();
        for row in sqlx::query(sqlx::AssertSqlSafe(query)).bind(orders).fetch_all(swarm.admin.pool()).await? {
            found.insert(row.try_get("client_order_id")?, row.try_get("moments")?);
        }
        Ok(found)
    }
}
