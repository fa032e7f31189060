//! Pages kept up to date: server-sent events with the parts of a page that changed, rendered as the page itself was.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::desk::FRESH;
use crate::handlers::{account_of, one_request};
use crate::pages::{self, Page};
use crate::session::Visitor;
use crate::site::Site;

/// How often a page is looked at anew.
const EVERY: Duration = Duration::from_millis(500);

/// Which page is open.
#[derive(Debug, Deserialize)]
pub(crate) struct Open {
    page: String,
    #[serde(default)]
    id: String,
}

struct Feed {
    site: Arc<Site>,
    visitor: Visitor,
    page: Page,
    sent: BTreeMap<&'static str, String>,
    waiting: VecDeque<Event>,
    every: Interval,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

/// The events of one open page, until its session or the process ends.
pub(crate) async fn events(State(site): State<Arc<Site>>, headers: HeaderMap, Query(open): Query<Open>) -> Response {
    // Not `visit`: a page that is open is no sign of a person.
    let Some(visitor) = site.sessions.peek(&headers, site.now()) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let Some(page) = Page::named(&open.page, &open.id) else { return StatusCode::NOT_FOUND.into_response() };
    let Ok(place) = Arc::clone(&site.live).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open").into_response();
    };
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let feed = Feed {
        site,
        visitor,
        page,
        sent: BTreeMap::new(),
        waiting: VecDeque::new(),
        every,
        ended: false,
        _place: place,
    };
    let stream = stream::unfold(feed, |mut feed| async move {
        let event = feed.next().await?;
        Some((Ok::<_, Infallible>(event), feed))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(10))).into_response()
}

impl Feed {
    /// The next part that changed; `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                () = self.site.shutdown.cancelled() => return None,
                _ = self.every.tick() => {}
            }
            if !self.site.sessions.stands(&self.visitor, self.site.now()) {
                self.ended = true;
                return Some(Event::default().event("gone").data("the session ended"));
            }
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let look = self.site.desk.look(&account_of(&self.visitor), FRESH).await;
        let request = match self.page {
            Page::Request(id) => Some(one_request(&self.site, id).await),
            _ => None,
        };
        for (id, markup) in pages::parts(self.page, &look, request.as_ref()) {
            let html = markup.into_string();
            if self.sent.get(id) != Some(&html) {
                self.waiting
                    .push_back(Event::default().event("part").data(json!({ "id": id, "html": html }).to_string()));
                self.sent.insert(id, html);
            }
        }
    }
}
