//! The pages and forms. Each form is checked in the same order: who, from which page, what is typed, how often; only
//! then is the supervisor asked.

use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, Query, State};
use axum::http::header::{LOCATION, RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::ids::ApprovalId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::attempts::{MOST_A_NAME, MOST_AT_LOGIN, TooMany};
use crate::desk::FRESH;
use crate::doors::{AskError, is_ok};
use crate::pages::words::text;
use crate::pages::{self, Around, Draft, OneRequest, Page};
use crate::session::{Said, Sessions, Visitor, clear_cookie, set_cookie};
use crate::site::Site;

mod decide;
pub(crate) use decide::decide;

/// The account whose figures a person sees: their own, or the operator's.
pub(crate) fn account_of(visitor: &Visitor) -> String {
    visitor.user.clone().unwrap_or_else(|| "operator".to_owned())
}

/// The number of an answer to show.
#[derive(Debug, Deserialize)]
pub(crate) struct Answered {
    said: Option<u64>,
}

async fn show(site: &Site, headers: &HeaderMap, answered: &Answered, page: Page) -> Response {
    match site.sessions.visit(headers, site.now()) {
        Some(visitor) => {
            let said = answered.said.and_then(|number| site.sessions.said(&visitor, number));
            whole(site, &visitor, page, said.as_ref(), None).await.into_response()
        }
        None => to("/login"),
    }
}

async fn whole(
    site: &Site,
    visitor: &Visitor,
    page: Page,
    said: Option<&Said>,
    draft: Option<&Draft>,
) -> impl IntoResponse + use<> {
    let look = site.desk.look(&account_of(visitor), FRESH).await;
    let request = match page {
        Page::Request(id) => Some(one_request(site, id).await),
        _ => None,
    };
    pages::whole(page, &look, request.as_ref(), Around { visitor, said, draft })
}

/// Asks for one approval request, whatever its status.
pub(crate) async fn one_request(site: &Site, id: ApprovalId) -> OneRequest {
    match site.doors.read("swarm.approvals", &json!({ "approval_id": id })).await {
        Ok(answer) => {
            let mut found = answer["approvals"].as_array().into_iter().flatten();
            let found = found.find(|row| row["approval_id"].as_str() == Some(&id.to_string()));
            match found {
                Some(row) => OneRequest::Found(row.clone()),
                None if answer["code"] == "UNAVAILABLE" => OneRequest::Lost,
                None => OneRequest::Unknown,
            }
        }
        Err(_) => OneRequest::Lost,
    }
}

macro_rules! pages {
    ($($name:ident => $page:expr),* $(,)?) => {
        $(pub(crate) async fn $name(
            State(site): State<Arc<Site>>,
            headers: HeaderMap,
            Query(answered): Query<Answered>,
        ) -> Response {
            show(&site, &headers, &answered, $page).await
        })*
    };
}

pages! {
    desk => Page::Desk,
    trades => Page::Trades,
    agents => Page::Agents,
    limits => Page::Limits,
    stop_page => Page::Stop,
}

pub(crate) async fn request(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(answered): Query<Answered>,
) -> Response {
    match id.parse() {
        Ok(id) => show(&site, &headers, &answered, Page::Request(id)).await,
        Err(_) => nothing_here().await,
    }
}

pub(crate) async fn nothing_here() -> Response {
    let page = pages::problem("There is no page of that address.", Some(("/", "To the desk")));
    (StatusCode::NOT_FOUND, page).into_response()
}

fn to(address: &str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, address.to_owned())]).into_response()
}

fn problem(status: StatusCode, why: &'static str, words: &str) -> Response {
    metrics::counter!("swarm_web_refused_total", "why" => why).increment(1);
    let go_on = if status == StatusCode::UNAUTHORIZED { ("/login", "Log in") } else { ("/", "To the desk") };
    (status, pages::problem(words, Some(go_on))).into_response()
}

fn too_many(many: TooMany) -> Response {
    let minutes = many.retry_after_s / 60 + 1;
    let words = format!(
        "Too many codes were tried. The next one is taken in {minutes} min; other ways to decide are not held up."
    );
    let mut response = problem(StatusCode::TOO_MANY_REQUESTS, "too_many_codes", &words);
    response.headers_mut().insert(RETRY_AFTER, many.retry_after_s.into());
    response
}

/// Who sent a form, when it came from a page of theirs.
fn sender(site: &Site, headers: &HeaderMap, csrf: &str) -> Result<Visitor, Box<Response>> {
    let Some(visitor) = site.sessions.visit(headers, site.now()) else {
        let words = "You are not logged in, or your session is over. Nothing was done.";
        return Err(Box::new(problem(StatusCode::UNAUTHORIZED, "no_session", words)));
    };
    if Sessions::is_own_form(&visitor, csrf) {
        Ok(visitor)
    } else {
        let words = "This form does not belong to your session. Nothing was done; load the page again.";
        Err(Box::new(problem(StatusCode::FORBIDDEN, "csrf", words)))
    }
}

fn unreadable(_: FormRejection) -> Response {
    problem(StatusCode::UNPROCESSABLE_ENTITY, "bad_form", "This form can't be read. Nothing was done.")
}

/// Six digits, spaces aside.
fn code_of(typed: &str) -> Option<String> {
    let digits: String = typed.chars().filter(|c| *c != ' ').collect();
    (digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit())).then_some(digits)
}

/// A no of the supervisor in words.
fn words_of(answer: &Value) -> String {
    format!("{} {}", text(&answer["code"]), text(&answer["detail"]))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginForm {
    person: String,
    #[serde(default)]
    totp: String,
}

pub(crate) async fn login_page(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    match site.sessions.visit(&headers, site.now()) {
        Some(_) => to("/"),
        None => pages::login(None, "").into_response(),
    }
}

pub(crate) async fn login(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    form: Result<Form<LoginForm>, FormRejection>,
) -> Response {
    let LoginForm { person, totp } = match form {
        Ok(Form(form)) => form,
        Err(rejection) => return unreadable(rejection),
    };
    let person = person.trim();
    let again = |status, words: &str| (status, pages::login(Some(words), person)).into_response();
    let Some(code) = code_of(&totp).filter(|_| is_name(person)) else {
        return again(StatusCode::UNPROCESSABLE_ENTITY, "Type your name and the six digits.");
    };
    let name = format!("login:{person}");
    let tries = [(name.as_str(), MOST_A_NAME), ("login", MOST_AT_LOGIN)];
    if let Err(many) = site.attempts.take(&tries, site.now()) {
        return too_many(many);
    }
    let answer = match site.doors.act("swarm.web.login", &json!({ "person": person, "totp": code })).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::warn!(%error, "nobody can log in");
            return again(
                StatusCode::SERVICE_UNAVAILABLE,
                "The supervisor does not answer, and it checks the codes. Try again.",
            );
        }
    };
    if !is_ok(&answer) || answer["person"].as_str() != Some(person) {
        metrics::counter!("swarm_web_refused_total", "why" => "login").increment(1);
        tracing::warn!(code = text(&answer["code"]), "a login was refused");
        let words = "That name and code do not belong together, or the code was used before. Wait for the next one.";
        return again(StatusCode::FORBIDDEN, words);
    }
    site.attempts.forgive(&tries);
    match site.sessions.open(person, answer["user"].as_str(), site.now()) {
        Ok(session) => {
            tracing::info!(person, "logged in");
            let cookie = set_cookie(&session, site.names.is_secure(&headers));
            (StatusCode::SEE_OTHER, [(LOCATION, "/".to_owned()), (SET_COOKIE, cookie)]).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "no session can be opened");
            again(StatusCode::INTERNAL_SERVER_ERROR, "No session can be opened now.")
        }
    }
}

/// A short name of one word.
fn is_name(person: &str) -> bool {
    (1..=64).contains(&person.len()) && person.bytes().all(|b| b.is_ascii_graphic())
}

#[derive(Deserialize)]
pub(crate) struct OnlyCsrf {
    #[serde(default)]
    csrf: String,
}

pub(crate) async fn logout(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    form: Result<Form<OnlyCsrf>, FormRejection>,
) -> Response {
    let Form(form) = match form {
        Ok(form) => form,
        Err(rejection) => return unreadable(rejection),
    };
    match sender(&site, &headers, &form.csrf) {
        Ok(visitor) => {
            site.sessions.end(&visitor);
            let cookie = clear_cookie(site.names.is_secure(&headers));
            (StatusCode::SEE_OTHER, [(LOCATION, "/login".to_owned()), (SET_COOKIE, cookie)]).into_response()
        }
        Err(refused) => *refused,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StopForm {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    level: String,
    #[serde(default)]
    reason: String,
}

/// Raises the kill level. No code is asked for: stopping must be easy, and can't cost money by itself.
pub(crate) async fn stop(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    form: Result<Form<StopForm>, FormRejection>,
) -> Response {
    let form = match form {
        Ok(Form(form)) => form,
        Err(rejection) => return unreadable(rejection),
    };
    let visitor = match sender(&site, &headers, &form.csrf) {
        Ok(visitor) => visitor,
        Err(refused) => return *refused,
    };
    let level = match form.level.as_str() {
        "1" => 1,
        "2" => 2,
        "3" => 3,
        "4" => 4,
        _ => return problem(StatusCode::UNPROCESSABLE_ENTITY, "bad_form", "The level is 1 to 4. Nothing was done."),
    };
    let asked = json!({ "level": level, "reason": form.reason, "by": visitor.person, "way": "web" });
    let (status, words) = match site.doors.act("swarm.halt", &asked).await {
        Ok(answer) if is_ok(&answer) => {
            let follows = if answer["recorded"] == false { " The database does not answer; the record follows." } else { "" };
            let words = format!("kill level {} is in force.{follows}", text(&answer["level"]));
            let number = site.sessions.say(&visitor, Said { good: true, text: words });
            return to(&format!("/?said={number}"));
        }
        Ok(answer) => (StatusCode::BAD_GATEWAY, words_of(&answer)),
        Err(AskError::Nobody(_)) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The supervisor does not answer: NOT stopped. `swarm halt` at the terminal works without it; Ctrl-C on `swarm \
             up` drains the agents."
                .to_owned(),
        ),
        Err(AskError::Unanswered(..)) => (
            StatusCode::GATEWAY_TIMEOUT,
            "No answer in time: it may or may not be in force. Look at the kill level, and press again.".to_owned(),
        ),
    };
    problem(status, "stop", &words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_six_digits() {
        assert_eq!(code_of("123 456").as_deref(), Some("123456"));
        for typed in [
            "",
            "12345",
            "1234567",
            "12345a",
            "１２３４５６",
            "12345
",
        ] {
            assert_eq!(code_of(typed), None, "{typed:?}");
        }
    }
}
