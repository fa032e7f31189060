//! The forms of a decision.

use super::{
    Arc, AskError, Draft, Form, FormRejection, HeaderMap, IntoResponse, MOST_A_NAME, OneRequest, Page, Path, Response,
    Said, Site, State, StatusCode, Value, Visitor, code_of, is_ok, json, nothing_here, one_request, sender, to,
    too_many, unreadable, whole, words_of,
};
use crate::pages::WORDS_FROM_TIER;
use domain::ids::ApprovalId;
use domain::money::{Price, Quantity};
use serde::Deserialize;

/// Longest reason, characters: as long as a signed act's.
const MAX_REASON: usize = 500;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DecideForm {
    csrf: String,
    decision: String,
    digest: String,
    reason: String,
    totp: String,
    quantity: String,
    worst_price: String,
    words: String,
}

/// Takes a person's decision and hands it on.
pub(crate) async fn decide(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    form: Result<Form<DecideForm>, FormRejection>,
) -> Response {
    let form = match form {
        Ok(Form(form)) => form,
        Err(rejection) => return unreadable(rejection),
    };
    let visitor = match sender(&site, &headers, &form.csrf) {
        Ok(visitor) => visitor,
        Err(refused) => return *refused,
    };
    let Ok(id) = id.parse::<ApprovalId>() else { return nothing_here().await };
    let shown = one_request(&site, id).await;
    let asked = match checked(&form, &visitor, id, &shown) {
        Ok(asked) => asked,
        Err(wrong) => return again(&site, &visitor, id, &form, StatusCode::UNPROCESSABLE_ENTITY, wrong).await,
    };
    let name = format!("decide:{}", visitor.person);
    let tries = [(name.as_str(), MOST_A_NAME)];
    if let Err(many) = site.attempts.take(&tries, site.now()) {
        return too_many(many);
    }
    match site.doors.act("swarm.decide.web", &asked).await {
        Ok(answer) if is_ok(&answer) => {
            site.attempts.forgive(&tries);
            metrics::counter!("swarm_web_decisions_total", "decision" => form.decision.clone()).increment(1);
            let next = answer["superseded_by"].as_str().and_then(|next| next.parse().ok()).unwrap_or(id);
            let number = site.sessions.say(&visitor, Said { good: true, text: done(&form.decision, &answer) });
            to(&format!("/approvals/{next}?said={number}"))
        }
        Ok(answer) => {
            let wrong = refused(&answer);
            again(&site, &visitor, id, &form, StatusCode::CONFLICT, &wrong).await
        }
        Err(AskError::Nobody(_)) => {
            let wrong = "the supervisor does not answer. Nothing was decided; try again when it is back.";
            again(&site, &visitor, id, &form, StatusCode::SERVICE_UNAVAILABLE, wrong).await
        }
        Err(AskError::Unanswered(..)) => {
            let wrong = "no answer in time: it may or may not have been taken. The state above tells; deciding twice \
                         counts once.";
            again(&site, &visitor, id, &form, StatusCode::GATEWAY_TIMEOUT, wrong).await
        }
    }
}

/// What is handed to the supervisor, when the form can be taken.
fn checked(form: &DecideForm, visitor: &Visitor, id: ApprovalId, shown: &OneRequest) -> Result<Value, &'static str> {
    if !["approve", "reject", "modify", "revoke"].contains(&form.decision.as_str()) {
        return Err("there is no such decision.");
    }
    if form.digest.len() != 64 || !form.digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("the form names no envelope; load the page again.");
    }
    let Some(totp) = code_of(&form.totp) else {
        return Err("type the six digits of a fresh code.");
    };
    if form.reason.chars().count() > MAX_REASON {
        return Err("the reason is longer than 500 characters.");
    }
    let mut asked = json!({
        "person": visitor.person,
        "approval_id": id,
        "digest": form.digest,
        "decision": form.decision,
        "reason": domain::message::clean_text(&form.reason),
        "totp": totp,
    });
    match form.decision.as_str() {
        "modify" => change(form, &mut asked)?,
        "approve" => words(form, shown)?,
        _ => {}
    }
    Ok(asked)
}

fn change(form: &DecideForm, asked: &mut Value) -> Result<(), &'static str> {
    let (quantity, price) = (form.quantity.trim(), form.worst_price.trim());
    if quantity.is_empty() && price.is_empty() {
        return Err("type a new quantity or a new worst price.");
    }
    if !quantity.is_empty() {
        Quantity::parse(quantity).map_err(|_| "the quantity is no plain number.")?;
        asked["quantity"] = quantity.into();
    }
    if !price.is_empty() {
        Price::parse(price).map_err(|_| "the worst price is no plain number.")?;
        asked["worst_price"] = price.into();
    }
    Ok(())
}

/// From tier 2 on an approval takes two words of the digest: nobody presses that by habit.
fn words(form: &DecideForm, shown: &OneRequest) -> Result<(), &'static str> {
    let OneRequest::Found(row) = shown else { return Err("the request can't be read now; nothing was decided.") };
    if row["rendering"].as_array().is_none_or(Vec::is_empty) {
        return Err("the supervisor sent no rendering of the envelope; decide with `swarm approve`.");
    }
    if row["tier"].as_u64().is_some_and(|tier| tier < WORDS_FROM_TIER) {
        return Ok(());
    }
    let known: Vec<&str> = row["digest_words"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (Some(first), Some(last)) = (known.first(), known.last()) else {
        return Err("the supervisor sent no words of the digest; decide with `swarm approve`.");
    };
    let typed: Vec<String> = form.words.split_whitespace().map(str::to_lowercase).collect();
    let is_same = typed.len() == 2 && typed[0] == first.to_lowercase() && typed[1] == last.to_lowercase();
    if is_same { Ok(()) } else { Err("the two words are not the first and the last one of the digest.") }
}

async fn again(
    site: &Site,
    visitor: &Visitor,
    id: ApprovalId,
    form: &DecideForm,
    status: StatusCode,
    wrong: &str,
) -> Response {
    metrics::counter!("swarm_web_refused_total", "why" => "decision").increment(1);
    let draft = Draft {
        decision: form.decision.clone(),
        reason: form.reason.clone(),
        quantity: form.quantity.clone(),
        worst_price: form.worst_price.clone(),
        wrong: wrong.to_owned(),
    };
    let page = whole(site, visitor, Page::Request(id), None, Some(&draft)).await;
    (status, page).into_response()
}

/// What was done, for the page it leads to.
fn done(decision: &str, answer: &Value) -> String {
    let status = crate::pages::words::text(&answer["status"]);
    match (decision, status.as_str()) {
        ("approve", "pending") => "your approval is noted; another person must approve too.".to_owned(),
        ("approve", _) => "approved. The treasury checks the rails again and signs the permit.".to_owned(),
        ("reject", _) => "rejected. The request is over.".to_owned(),
        ("modify", _) => "a smaller request was made; it is below and waits for a decision.".to_owned(),
        ("revoke", _) => "revoked. Nothing will be done on this approval.".to_owned(),
        _ => format!("the request is {status}."),
    }
}

/// Why the supervisor did not take it.
fn refused(answer: &Value) -> String {
    match answer["code"].as_str() {
        Some("BAD_CODE" | "CODE_USED") => "the code is wrong or was used before. Wait for the next one.".to_owned(),
        _ => words_of(answer),
    }
}
