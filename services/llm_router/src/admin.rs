//! What people ask the router: how it is, what it cost, a test of a tier, an empty cache.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::time::DAY_MS;
use llm::cache::Flush;
use llm::money::usd_text;
use serde::Deserialize;
use serde_json::json;

use crate::site::Site;
use crate::{usage, wire};

/// How it is; any caller may know.
pub(crate) async fn state(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    match site.caller(&headers) {
        Ok(_) => Json(site.router.state()).into_response(),
        Err(refusal) => *refusal,
    }
}

/// A small question to one tier.
pub(crate) async fn test(State(site): State<Arc<Site>>, Path(tier): Path<String>, headers: HeaderMap) -> Response {
    if let Err(refusal) = site.operator(&headers) {
        return *refusal;
    }
    match site.router.test(&tier).await {
        Some(tested) => Json(tested).into_response(),
        None => wire::refused(StatusCode::NOT_FOUND, "unknown_tier", "there is no such tier; ask /v1/router/state"),
    }
}

/// Forgets cached answers.
pub(crate) async fn flush(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    if let Err(refusal) = site.operator(&headers) {
        return *refusal;
    }
    Json(site.router.cache().flush(Flush::Everything).await).into_response()
}

#[derive(Deserialize)]
pub(crate) struct Since {
    /// Days back.
    days: Option<u32>,
    /// Since midnight UTC instead.
    #[serde(default)]
    today: bool,
}

/// What it cost.
pub(crate) async fn spend(State(site): State<Arc<Site>>, headers: HeaderMap, since: Query<Since>) -> Response {
    if let Err(refusal) = site.operator(&headers) {
        return *refusal;
    }
    let Some(work) = &site.work else {
        let text = "this router stands alone: it keeps no record of what it cost";
        return wire::refused(StatusCode::NOT_FOUND, "no_record", text);
    };
    let days = i64::from(since.days.unwrap_or(30).clamp(1, 366));
    let now = work.now();
    let from = if since.today { now.plus_ms(-now.0.rem_euclid(DAY_MS)) } else { now.plus_ms(-(days * DAY_MS)) };
    match usage::report(work, from).await {
        Ok(lines) => {
            let line = |line: store::llm_usage::ReportLine| {
                json!({
                    "tier": line.tier, "agent": line.agent, "alias": line.alias, "requests": line.requests,
                    "cached": line.cached, "failed": line.failed, "prompt_tokens": line.prompt_tokens,
                    "completion_tokens": line.completion_tokens, "cost_usd": usd_text(line.cost_micros),
                    "cost_usd_micros": line.cost_micros,
                })
            };
            Json(json!({ "since_ms": from.0, "rows": lines.into_iter().map(line).collect::<Vec<_>>() })).into_response()
        }
        Err(error) => {
            tracing::warn!(%error, "the record of usage can't be read");
            wire::refused(StatusCode::SERVICE_UNAVAILABLE, "no_record", "the record can't be read now; try again")
        }
    }
}
