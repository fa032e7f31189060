//! What is around every page: head, landmarks, kill level, who is logged in, and what is wrong.

use maud::{DOCTYPE, Markup, html};

use super::words::{rows, text, when};
use super::{Around, Page};
use crate::assets::address;
use crate::desk::Look;

const TABS: [(Page, &str); 4] =
    [(Page::Desk, "/"), (Page::Trades, "/trades"), (Page::Agents, "/agents"), (Page::Limits, "/limits")];

/// The frame of every page, login included.
#[must_use]
pub fn frame(title: &str, body: &Markup, live: Option<(Page, i64)>) -> Markup {
    let id = match live {
        Some((Page::Request(id), _)) => Some(id.to_string()),
        _ => None,
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · swarm" }
                link rel="icon" href=(address("icon.svg")) type="image/svg+xml";
                link rel="stylesheet" href=(address("page.css"));
                script src=(address("page.js")) defer {}
            }
            body data-page=[live.map(|(page, _)| page.name())] data-id=[id] data-now=[live.map(|(_, now)| now)] {
                a.skip href="#main" { "Skip to the content" }
                (body)
            }
        }
    }
}

/// A page of somebody who is logged in.
#[must_use]
pub fn page(page: Page, look: &Look, around: Around<'_>, body: &Markup) -> Markup {
    let inner = html! {
        header.top {
            div.brand { a href="/" { "swarm" } span.quiet { "paper trading" } }
            nav aria-label="Pages" {
                @for (tab, href) in TABS {
                    a href=(href) aria-current=[(tab == page).then_some("page")] { (tab.title()) }
                }
            }
            div.who {
                span.quiet { "Logged in as " } strong { (text(&around.visitor.person.clone().into())) }
                form method="post" action="/logout" {
                    input type="hidden" name="csrf" value=(around.visitor.csrf);
                    button.plain type="submit" { "Log out" }
                }
            }
        }
        div.strip {
            div #state { (state(look)) }
            @if page != Page::Stop { a.button.danger href="/stop" { "Stop trading…" } }
        }
        div #banner aria-live="assertive" { (banner(look)) }
        div #stale.note.warn role="status" hidden {
            "Live updates are interrupted. This page shows what was known before; it goes on by itself."
        }
        noscript {
            p.note { "Without scripts this page does not update itself. " a href="" { "Load it again" } " to see news." }
        }
        main #main tabindex="-1" {
            @if let Some(said) = around.said { (told(said.good, &said.text)) }
            (body)
        }
        div #announce.unseen aria-live="polite" {}
        footer.quiet {
            "Times are UTC. Account " strong { (text(&look.user.clone().into())) }
            ". This page shows; the rails and the treasury decide."
        }
    };
    frame(page.title(), &inner, Some((page, look.at.0)))
}

/// The answer to a form.
#[must_use]
pub fn told(good: bool, words: &str) -> Markup {
    let (class, role, sign, word) =
        if good { ("good", "status", "✓", "Done") } else { ("bad", "alert", "✕", "Not done") };
    html! {
        div.note.(class) role=(role) {
            strong { span aria-hidden="true" { (sign) " " } (word) ": " }
            (domain::message::clean_text(words))
        }
    }
}

/// Kill level and how the agents are, in one line.
#[must_use]
pub fn state(look: &Look) -> Markup {
    if look.lost().is_some() {
        return html! { span.pill.warn { span aria-hidden="true" { "? " } "Not known now" } };
    }
    let status = &look.status.value;
    let level = status["kill"]["level"].as_u64();
    let (class, sign, words) = match level {
        Some(0) => ("good", "●", "Trading"),
        Some(1) => ("warn", "▲", "Stopped: no new risk"),
        Some(2) => ("bad", "■", "Stopped: no new risk, open orders cancelled"),
        Some(_) => ("bad", "■", "Stopped"),
        None => ("warn", "?", "Kill level unknown"),
    };
    let agents = rows(&status["agents"]);
    let well = agents.iter().filter(|a| matches!(a["verdict"].as_str(), Some("healthy" | "busy"))).count();
    html! {
        span.pill.(class) { span aria-hidden="true" { (sign) " " } (words) }
        @if let Some(level) = level { span.quiet { "kill level " (level) } }
        @if level.is_some_and(|level| level > 0) {
            span { "by " (text(&status["kill"]["by"])) ": “" bdi { (text(&status["kill"]["reason"])) } "”" }
        }
        @if !agents.is_empty() {
            a href="/agents" {
                @if well == agents.len() { "all " (well) " processes well" }
                @else { span.loss { "▲ " (agents.len() - well) " of " (agents.len()) " processes not well" } }
            }
        }
    }
}

/// What is wrong with the way to the swarm, and what to do.
#[must_use]
pub fn banner(look: &Look) -> Markup {
    if let Some((since, last)) = look.lost() {
        return html! {
            section.note.bad {
                h2 { span aria-hidden="true" { "✕ " } "The supervisor does not answer" }
                p {
                    "Since " (when(since, look.at)) ". "
                    @if let Some(last) = last { "What you see below is from " (when(last, look.at)) "." }
                    @else { "Nothing was heard of it yet." }
                    " Nothing can be decided here until it is back; requests that wait stay as they are, and expire by \
                     their own time."
                }
                ul {
                    li {
                        code { "swarm up" } " starts a dead supervisor again within seconds. If this stays: "
                        code { "swarm doctor" } ", then " code { ".local/log/supervisor.log" } "."
                    }
                    li {
                        "To stop all trading without it: Ctrl-C on " code { "swarm up" }
                        ". The agents drain, and no new order is sent."
                    }
                }
            }
        };
    }
    if look.status.value["code"] == "UNAVAILABLE" {
        return html! {
            section.note.bad {
                h2 { span aria-hidden="true" { "✕ " } "The swarm can't read its records" }
                p {
                    "The supervisor answers, but its database does not. Nothing can be decided until it is back; no new \
                     risk is taken meanwhile. " code { "swarm doctor" } " tells more."
                }
            }
        };
    }
    html! {}
}
