//! The login, and what is said to somebody who may not see a page.

use axum::response::Html;
use maud::html;

use super::layout::{frame, told};

/// The login form; `wrong` says why the last try was not taken, `person` is what was typed.
pub fn login(wrong: Option<&str>, person: &str) -> Html<String> {
    let body = html! {
        main #main.narrow tabindex="-1" {
            h1 { "Log in" }
            @if let Some(wrong) = wrong { (told(false, wrong)) }
            form.card method="post" action="/login" {
                div.field {
                    label for="person" { "Name" }
                    input #person name="person" type="text" autocomplete="username" autocapitalize="none"
                        spellcheck="false" maxlength="64" required autofocus[person.is_empty()] value=(person);
                }
                div.field {
                    label for="totp" { "Code from your authenticator" }
                    input #totp.code name="totp" type="text" inputmode="numeric" autocomplete="one-time-code"
                        pattern="[0-9 ]{6,7}" maxlength="7" required autofocus[!person.is_empty()]
                        aria-describedby="totp-help";
                    p #totp-help.quiet { "Six digits, good once. If you just used one, wait for the next." }
                }
                button.primary type="submit" { "Log in" }
            }
            p.quiet { "No authenticator yet? On the machine of the swarm: " code { "swarm web enroll" } "." }
        }
    };
    Html(frame("Log in", &body, None).into_string())
}

/// A page that is none: what is wrong, and where to go on.
pub fn problem(words: &str, go_on: Option<(&str, &str)>) -> Html<String> {
    let body = html! {
        main #main.narrow tabindex="-1" {
            h1 { "Not done" }
            (told(false, words))
            @if let Some((href, label)) = go_on { p { a.button href=(href) { (label) } } }
        }
    };
    Html(frame("Not done", &body, None).into_string())
}
