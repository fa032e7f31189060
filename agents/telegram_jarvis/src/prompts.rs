//! Shows each request that waits to everybody who may decide, and keeps those messages true until the request is over.
//!
//! The record says what was shown: a message counts as a prompt only once its row is written. A crash between the two
//! leaves a message that is none, and a second one that is; a press on the first says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use domain::ids::ApprovalId;
use domain::time::UnixMs;
use runtime::{HandleError, Work};
use serde_json::{Value, json};
use store::telegram::{Account, Prompt};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, timeout_at};

use crate::board::{Due, Place};
use crate::doors::{self, DoorFault};
use crate::line::Line;
use crate::request::{Request, face};
use crate::{nobody, text};

/// How often requests are looked at while some are shown; what changes them wakes us besides.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// The same when none is.
const IDLE_EVERY: Duration = Duration::from_secs(10);
/// Prompts sent and edited at once.
const AT_ONCE: usize = 16;
/// A person who does not want to hear from the bot is left alone for this long.
const LEFT_ALONE: Duration = Duration::from_secs(600);

/// A request, a chat, and a message in it; 0 while there is none yet.
type Key = (ApprovalId, i64, i64);
/// What is being sent or edited just now.
type InHand = Arc<Mutex<BTreeSet<Key>>>;

/// Somebody who may decide, and where they are asked.
#[derive(Debug, Clone)]
struct Recipient {
    account: Account,
    /// Their own account with the house, when they have one.
    handle: Option<String>,
}

/// Works until the process drains.
///
/// # Errors
/// [`HandleError`]: started again.
pub async fn run(line: Arc<Line>, work: Work) -> Result<(), HandleError> {
    let mut desk = Desk { line, work, in_hand: InHand::default(), tasks: JoinSet::new(), unreachable: Arc::default() };
    while !desk.work.shutdown.is_cancelled() {
        let shown = match desk.look().await {
            Ok(shown) => shown,
            Err(HandleError::Fatal(text)) => return Err(HandleError::Fatal(text)),
            Err(error) => {
                tracing::warn!(%error, "prompts are looked at again");
                1
            }
        };
        desk.work.progress();
        let until = Instant::now() + if shown > 0 { LOOK_EVERY } else { IDLE_EVERY };
        loop {
            tokio::select! {
                () = desk.work.shutdown.cancelled() => break,
                () = desk.line.look.notified() => break,
                // Tasks that are done are taken away; what is left of the wait goes on.
                ended = timeout_at(until, desk.tasks.join_next()), if !desk.tasks.is_empty() => {
                    if ended.is_err() { break; }
                }
                () = tokio::time::sleep_until(until) => break,
            }
        }
    }
    desk.tasks.shutdown().await;
    Ok(())
}

struct Desk {
    line: Arc<Line>,
    work: Work,
    in_hand: InHand,
    tasks: JoinSet<()>,
    unreachable: Arc<Mutex<BTreeMap<i64, Instant>>>,
}

impl Desk {
    /// One look at everything; says how many prompts are open.
    async fn look(&mut self) -> Result<usize, HandleError> {
        let mut unit = self.work.begin(nobody()).await?;
        let now = unit.now().await?;
        let mut open = store::telegram::open_prompts(&mut unit).await?;
        // Countdowns take turns at the seconds that are left over.
        open.sort_by_key(|prompt| prompt.edited_at);
        let recipients = recipients(&mut unit).await?;
        unit.rollback().await?;
        if open.is_empty() && recipients.is_empty() {
            return Ok(0);
        }
        let answer = match doors::ask(&self.work, "swarm.approvals", &Value::Null).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "requests can't be read");
                return Ok(open.len());
            }
        };
        let mut requests = BTreeMap::new();
        for row in answer["approvals"].as_array().into_iter().flatten() {
            match Request::parse(row) {
                Some(request) => drop(requests.insert(request.id, request)),
                None => tracing::error!(id = %row["approval_id"], "a request can't be shown: its rendering is missing"),
            }
        }
        for request in requests.values().filter(|request| request.is_pending()) {
            self.show(request, &recipients, now).await?;
        }
        for prompt in &open {
            let request = match requests.get(&prompt.approval_id) {
                Some(request) => Some(request.clone()),
                None => self.fetch(prompt.approval_id).await,
            };
            if let Some(request) = request {
                let handle = recipients.iter().find(|r| r.account.chat_id == prompt.chat_id);
                let handle = handle.and_then(|r| r.handle.clone());
                self.keep(prompt, request.clone(), handle, now);
                requests.insert(prompt.approval_id, request);
            }
        }
        Ok(open.len().max(requests.len()))
    }

    /// A request that does not wait any more.
    async fn fetch(&self, id: ApprovalId) -> Option<Request> {
        match doors::ask(&self.work, "swarm.approvals", &json!({ "approval_id": id })).await {
            Ok(answer) => answer["approvals"].get(0).and_then(Request::parse),
            Err(error) => {
                tracing::warn!(%error, %id, "a request can't be read");
                None
            }
        }
    }

    /// Sends the request to everybody whom it was not shown yet.
    async fn show(&mut self, request: &Request, to: &[Recipient], now: UnixMs) -> Result<(), HandleError> {
        let mut unit = self.work.begin(nobody()).await?;
        let shown = store::telegram::prompts(&mut unit, request.id).await?;
        unit.rollback().await?;
        for Recipient { account, .. } in to {
            let is_shown = shown.iter().any(|p| p.chat_id == account.chat_id && p.person_id == account.person_id);
            if is_shown || self.is_left_alone(account.chat_id) || !self.take((request.id, account.chat_id, 0)) {
                continue;
            }
            let (line, work, in_hand) = (Arc::clone(&self.line), self.work.clone(), Arc::clone(&self.in_hand));
            let (request, account) = (request.clone(), account.clone());
            let unreachable = Arc::clone(&self.unreachable);
            self.tasks.spawn(async move {
                let (key, chat) = ((request.id, account.chat_id, 0), account.chat_id);
                if let Err(error) = send(&line, &work, request, account, now).await {
                    if error.is_unreachable() {
                        let mut left = unreachable.lock().unwrap_or_else(PoisonError::into_inner);
                        left.insert(chat, Instant::now() + LEFT_ALONE);
                    }
                    tracing::warn!(%error, "a prompt was not sent");
                    metrics::counter!("swarm_telegram_prompts_failed_total").increment(1);
                }
                in_hand.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            });
        }
        Ok(())
    }

    /// Draws a prompt when it is not as it should be.
    fn keep(&mut self, prompt: &Prompt, request: Request, handle: Option<String>, now: UnixMs) {
        let place: Place = (prompt.chat_id, prompt.message_id);
        let key = (prompt.approval_id, place.0, place.1);
        if self.busy() >= AT_ONCE || !self.take(key) {
            return;
        }
        let (line, work, in_hand) = (Arc::clone(&self.line), self.work.clone(), Arc::clone(&self.in_hand));
        let prompt = prompt.clone();
        self.tasks.spawn(async move {
            if let Err(error) = draw(&line, &work, &prompt, &request, handle.as_deref(), now).await {
                tracing::warn!(%error, "a prompt was not edited");
            }
            in_hand.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        });
    }

    fn is_left_alone(&self, chat: i64) -> bool {
        let mut left = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|_, until| *until > Instant::now());
        left.contains_key(&chat)
    }

    fn busy(&self) -> usize {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn take(&self, key: Key) -> bool {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).insert(key)
    }
}

/// Everybody who may decide now and has a Telegram account.
async fn recipients(unit: &mut store::Unit) -> Result<Vec<Recipient>, HandleError> {
    let mut found = Vec::new();
    for approver in store::approvals::approvers(unit).await?.into_iter().filter(|approver| approver.active) {
        let accounts = store::telegram::accounts_of(unit, &approver.person_id).await?;
        let active = accounts.into_iter().filter(|account| account.active);
        found.extend(active.map(|account| Recipient { account, handle: approver.handle.clone() }));
    }
    Ok(found)
}

/// Why a prompt was not sent or edited.
#[derive(Debug, thiserror::Error)]
enum PromptError {
    #[error(transparent)]
    Api(#[from] crate::api::ApiFault),
    #[error(transparent)]
    Handle(#[from] HandleError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

impl PromptError {
    const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Api(fault) if fault.is_unreachable())
    }
}

async fn send(line: &Line, work: &Work, request: Request, account: Account, now: UnixMs) -> Result<(), PromptError> {
    let looks = face(&request, crate::request::Menu::First, None, None, now);
    let message_id = line.prompt(account.chat_id, account.telegram_user_id, request.id, &looks).await?;
    let mut unit = work.begin(nobody()).await?;
    let prompt = Prompt {
        approval_id: request.id,
        person_id: account.person_id,
        chat_id: account.chat_id,
        message_id,
        sent_at: unit.now().await?,
        edited_at: None,
        is_final: false,
    };
    store::telegram::put_prompt(&mut unit, &prompt).await?;
    unit.commit().await?;
    line.board.drawn((prompt.chat_id, message_id), request.tier, looks, Instant::now());
    metrics::counter!("swarm_telegram_prompts_total").increment(1);
    tracing::info!(approval_id = %request.id, person = prompt.person_id, "asked in Telegram");
    // It may have changed while it was sent.
    line.look.notify_one();
    Ok(())
}

async fn draw(
    line: &Line,
    work: &Work,
    prompt: &Prompt,
    request: &Request,
    handle: Option<&str>,
    now: UnixMs,
) -> Result<(), PromptError> {
    let place = (prompt.chat_id, prompt.message_id);
    let (menu, note) = line.board.state(place);
    let fill = if request.status == "consumed" { filled(work, request, handle).await } else { None };
    let looks = face(request, menu, note.as_deref(), fill.as_deref(), now);
    let is_final = request.is_over()
        && (request.status != "consumed" || fill.is_some() || !line.board.waits_for_fill(place, Instant::now()));
    let due = line.board.due(place, &looks, Instant::now());
    if due == Some(Due::Whenever) && !line.pace.spare(prompt.chat_id) {
        return Ok(());
    }
    if due.is_some() {
        match line.edit(place, prompt.chat_id, request.id, &looks).await {
            // Nobody can see it any more, or nobody wants to.
            Err(error) if error.is_gone() || error.is_unreachable() => {}
            edited => edited?,
        }
        line.board.drawn(place, request.tier, looks, Instant::now());
    } else if !is_final {
        return Ok(());
    }
    let mut unit = work.begin(nobody()).await?;
    let at = unit.now().await?;
    store::telegram::set_prompt_edited(&mut unit, prompt, at, is_final).await?;
    unit.commit().await?;
    if is_final {
        line.board.forget(place);
    }
    Ok(())
}

/// What became of the order of a request that was used, once there is something to tell.
async fn filled(work: &Work, request: &Request, handle: Option<&str>) -> Option<String> {
    let user = handle.unwrap_or("operator");
    let answer: Result<Value, DoorFault> =
        doors::ask(work, "swarm.trades", &json!({ "user": user, "limit": 50 })).await;
    let trades = answer.ok()?;
    let mut count = 0;
    let mut last = None;
    for trade in trades["trades"].as_array()? {
        if trade["order_id"].as_str() == Some(request.order_id.as_str()) {
            count += 1;
            last.get_or_insert(trade);
        }
    }
    let last = last?;
    let price = text::quantity(&last["price"]);
    let what = text::symbol(last["instrument"].as_str().unwrap_or_default());
    Some(match count {
        1 => format!("Filled: {} {what} at {price}", text::quantity(&last["quantity"])),
        _ => format!("Filled: {count} fills of {what}, the last at {price}"),
    })
}
