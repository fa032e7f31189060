//! The pages. Rendered here, escaped by the templates, usable without any script.

mod chart;
mod desk;
mod layout;
mod lists;
mod login;
mod request;
pub mod words;

use axum::response::Html;
use domain::ids::ApprovalId;
use maud::Markup;
use serde_json::Value;

use crate::desk::Look;
use crate::session::{Said, Visitor};

pub use login::{login, problem};
pub use request::{Draft, WORDS_FROM_TIER};

/// Where a person is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Approvals, equity, positions.
    Desk,
    /// Fills, newest first.
    Trades,
    /// The processes.
    Agents,
    /// The limits in force.
    Limits,
    /// The stop button.
    Stop,
    /// One approval request.
    Request(ApprovalId),
}

impl Page {
    /// The page of that name; `id` is read for a request alone.
    #[must_use]
    pub fn named(name: &str, id: &str) -> Option<Self> {
        Some(match name {
            "desk" => Self::Desk,
            "trades" => Self::Trades,
            "agents" => Self::Agents,
            "limits" => Self::Limits,
            "stop" => Self::Stop,
            "request" => Self::Request(id.parse().ok()?),
            _ => return None,
        })
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Desk => "desk",
            Self::Trades => "trades",
            Self::Agents => "agents",
            Self::Limits => "limits",
            Self::Stop => "stop",
            Self::Request(_) => "request",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Desk => "Desk",
            Self::Trades => "Trades",
            Self::Agents => "Agents",
            Self::Limits => "Limits",
            Self::Stop => "Stop trading",
            Self::Request(_) => "Decide",
        }
    }
}

/// What came of asking for one approval request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OneRequest {
    /// As the supervisor shows it.
    Found(Value),
    /// There is none of that id.
    Unknown,
    /// The supervisor does not answer.
    Lost,
}

/// What a page is made of besides what the swarm answers.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// Who looks.
    pub visitor: &'a Visitor,
    /// What the form was answered that led here.
    pub said: Option<&'a Said>,
    /// What was typed into a form that was not taken.
    pub draft: Option<&'a Draft>,
}

/// A whole page.
pub fn whole(page: Page, look: &Look, request: Option<&OneRequest>, around: Around<'_>) -> Html<String> {
    let body = match page {
        Page::Desk => desk::body(look),
        Page::Trades => lists::trades_body(look),
        Page::Agents => lists::agents_body(look),
        Page::Limits => lists::limits_body(look),
        Page::Stop => desk::stop_body(look, around),
        Page::Request(_) => request::body(request.unwrap_or(&OneRequest::Lost), look, around),
    };
    Html(layout::page(page, look, around, &body).into_string())
}

/// The parts of a page that are kept up to date, by the id of the element they are in.
#[must_use]
pub fn parts(page: Page, look: &Look, request: Option<&OneRequest>) -> Vec<(&'static str, Markup)> {
    let mut parts = vec![("state", layout::state(look)), ("banner", layout::banner(look))];
    match page {
        Page::Desk => parts.extend([
            ("approvals", desk::approvals(look)),
            ("money", desk::money(look)),
            ("chart", chart::equity(&look.equity.value, look.at)),
            ("positions", desk::positions(look)),
            ("decisions", desk::decisions(look)),
        ]),
        Page::Trades => parts.push(("trades", lists::trades(look))),
        Page::Agents => parts.push(("agents", lists::agents(look))),
        Page::Limits => parts.push(("limits", lists::limits(look))),
        Page::Stop => {}
        Page::Request(_) => parts.extend(request.map(|request| ("request-state", request::state(request, look.at)))),
    }
    parts
}
