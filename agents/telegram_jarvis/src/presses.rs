//! Presses on the buttons under prompts. Nothing is believed of them here that the supervisor does not read again from the
//! stored update: this module only spares it what is plainly no decision, and tells the person what came of it.

use domain::ids::ApprovalId;
use domain::telegram_button::{self, Press};
use runtime::{HandleError, Work};
use serde_json::{Value, json};
use teloxide_core::types::CallbackQuery;

use crate::board::Place;
use crate::doors::{self, DoorFault};
use crate::line::Line;
use crate::nobody;
use crate::request::Menu;
use crate::updates::{Person, person, silence};

/// To whoever must tap twice.
const COMPARE: &str = "Compare the words, then confirm.";

/// Deals with one press; gives what the row of its update will say. Only the `first` try answers it.
///
/// # Errors
/// [`HandleError::Retry`]: it is not known what came of it; to be tried again, which decides nothing twice.
pub async fn press(
    line: &Line,
    work: &Work,
    update_id: i64,
    query: &CallbackQuery,
    first: bool,
) -> Result<String, HandleError> {
    if query.inline_message_id.is_some() {
        return Ok(silence("silence: an inline message"));
    }
    let Some(message) = &query.message else { return Ok(silence("silence: a press under nothing")) };
    let chat = message.chat();
    let person = match person(work, &query.from, chat).await? {
        Ok(person) => person,
        Err(why) => return Ok(silence(why)),
    };
    let button = query.data.as_deref().and_then(telegram_button::decode);
    let button = button.filter(|button| button.is_genuine(&line.config.button_key.0, person.telegram_id));
    let Some(button) = button else {
        metrics::counter!("swarm_telegram_forged_total").increment(1);
        say(line, query, first, "This is no button of yours.").await;
        return Ok("refused: not a genuine button".to_owned());
    };
    let place = (chat.id.0, i64::from(message.id().0));
    if let Some(why) = not_the_prompt(work, &person, button.approval_id, place).await? {
        say(line, query, first, why).await;
        if let Err(error) = line.unbutton(place).await {
            tracing::info!(%error, "the buttons of a message that is no prompt stay");
        }
        return Ok(format!("refused: {why}"));
    }
    if let Some(menu) = menu_of(button.press, line.board.tier(place)) {
        line.board.turn_to(place, menu);
        line.look.notify_one();
        say(line, query, first, if menu == Menu::Confirm { COMPARE } else { "" }).await;
        return Ok(format!("shown: {menu:?}"));
    }
    let body = json!({ "update_id": update_id });
    // The telephone stops waiting at once, whatever the decision takes; nor does the decision wait for the telephone.
    let deciding = async {
        let answered = doors::ask(work, "swarm.decide.telegram", &body).await;
        decided(line, work, button.approval_id, place, button.press, answered).await
    };
    let ((), outcome) = tokio::join!(say(line, query, first, "Received."), deciding);
    outcome
}

/// Answers a press, when it was not answered before.
async fn say(line: &Line, query: &CallbackQuery, first: bool, text: &str) {
    if first {
        line.answer(&query.id, text).await;
    }
}

/// What is wrong with the message under which was pressed; `None` when it is the prompt of that request to that person.
async fn not_the_prompt(
    work: &Work,
    person: &Person,
    id: ApprovalId,
    place: Place,
) -> Result<Option<&'static str>, HandleError> {
    let mut unit = work.begin(nobody()).await?;
    let prompts = store::telegram::prompts(&mut unit, id).await?;
    unit.rollback().await?;
    let found = prompts.iter().find(|p| (p.chat_id, p.message_id) == place && p.person_id == person.person_id);
    Ok(match found {
        None => Some("This message is not the prompt of that request. /approvals tells what waits."),
        Some(prompt) if prompt.is_final => Some("That request is over."),
        Some(_) => None,
    })
}

/// What a press asks to see, when it decides nothing. A tier that is not known here is the supervisor's to tell.
const fn menu_of(press: Press, tier: Option<u8>) -> Option<Menu> {
    match (press, tier) {
        (Press::Menu, _) => Some(Menu::Modify),
        (Press::Back, _) => Some(Menu::First),
        (Press::Approve, Some(2..)) => Some(Menu::Confirm),
        _ => None,
    }
}

/// Tells everybody who was asked what came of a decision.
async fn decided(
    line: &Line,
    work: &Work,
    id: ApprovalId,
    place: Place,
    press: Press,
    answered: Result<Value, DoorFault>,
) -> Result<String, HandleError> {
    let (note, outcome) = match answered {
        Ok(answer) => {
            let status = answer["status"].as_str().unwrap_or("?");
            let note = (status == "pending").then(|| "Your word is counted; one more person must decide.".to_owned());
            (note, format!("decided: {press:?} {status}"))
        }
        Err(DoorFault::Refused { code, .. }) if code == "CONFIRM_NEEDED" => {
            line.board.turn_to(place, Menu::Confirm);
            line.look.notify_one();
            return Ok("shown: Confirm".to_owned());
        }
        Err(DoorFault::Refused { code, detail }) => (in_words(&code, &detail), format!("refused: {code}")),
        Err(DoorFault::Unanswered { subject, text }) => {
            return Err(HandleError::Retry(format!("{subject}: {text}")));
        }
    };
    line.board.note(place, note);
    // The prompts of others change too.
    let mut unit = work.begin(nobody()).await?;
    let prompts = store::telegram::prompts(&mut unit, id).await?;
    unit.rollback().await?;
    for prompt in prompts.iter().filter(|prompt| (prompt.chat_id, prompt.message_id) != place) {
        line.board.turn_to((prompt.chat_id, prompt.message_id), Menu::First);
    }
    line.look.notify_one();
    Ok(outcome)
}

/// A refusal for people; the code stays. Of what the prompt shows anyway nothing is said.
fn in_words(code: &str, detail: &str) -> Option<String> {
    match code {
        "ALREADY_VOTED" | "NOT_PENDING" => None,
        "EXPIRED" => Some("Too late: nobody decided in time, and nothing is traded.".to_owned()),
        _ => Some(format!("{code}: {detail}")),
    }
}
