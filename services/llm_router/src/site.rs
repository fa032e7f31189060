//! The routes, and who may use them.

use std::sync::Arc;

use axum::Router as Routes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use llm::failure::{Failure, Kind};
use llm::router::{Caller, Router};
use runtime::Work;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::keys::{Keys, OPERATOR};
use crate::{admin, chat, wire};

/// What the routes share.
pub struct Site {
    pub(crate) router: Arc<Router>,
    pub(crate) keys: Keys,
    /// The means of the process; `None` when it stands alone, without a record.
    pub(crate) work: Option<Work>,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("router", &self.router).finish_non_exhaustive()
    }
}

impl Site {
    /// A site before this router.
    #[must_use]
    pub const fn new(router: Arc<Router>, keys: Keys, work: Option<Work>) -> Self {
        Self { router, keys, work }
    }

    /// Who asks.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Box<Response>> {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = bearer.and_then(|text| text.strip_prefix("Bearer ")).map(str::trim);
        key.and_then(|key| self.keys.caller(key)).cloned().ok_or_else(|| {
            // These first words are the API's own: by them, not by the status, litellm knows a wrong key.
            let text = "Incorrect API key provided: none, or one that nobody has; send `Authorization: Bearer <key>`";
            Box::new(wire::refused(StatusCode::UNAUTHORIZED, "invalid_api_key", text))
        })
    }

    /// The operator.
    pub(crate) fn operator(&self, headers: &HeaderMap) -> Result<Caller, Box<Response>> {
        let caller = self.caller(headers)?;
        if &*caller.agent == OPERATOR {
            return Ok(caller);
        }
        Err(Box::new(wire::refused(StatusCode::FORBIDDEN, "operator_only", "only the operator's key may do this")))
    }
}

/// Serves until `stop`, then finishes what is under way.
///
/// # Errors
/// What the port says.
pub async fn serve(listener: TcpListener, site: Arc<Site>, stop: CancellationToken) -> std::io::Result<()> {
    let most = site.router.config().bounds.max_request_bytes;
    let routes = Routes::new()
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/embeddings", post(chat::embeddings))
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/v1/router/state", get(admin::state))
        .route("/v1/router/spend", get(admin::spend))
        .route("/v1/router/test/{tier}", post(admin::test))
        .route("/v1/router/cache/flush", post(admin::flush))
        .route("/metrics", get(|| async { runtime::metrics_text() }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(most))
        .with_state(site);
    // An answer in small parts would else wait for the client's acknowledgement of the part before it: 40 ms each.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
    });
    axum::serve(listener, routes).with_graceful_shutdown(async move { stop.cancelled().await }).await
}

/// Ready when some tier of every chat alias could be asked.
async fn ready(State(site): State<Arc<Site>>) -> (StatusCode, String) {
    let dark = site.router.dark();
    if dark.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("no tier answers for {}\n", dark.join(", ")))
    }
}

async fn models(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    if let Err(refusal) = site.caller(&headers) {
        return *refusal;
    }
    let data: Vec<_> = site.router.config().aliases.keys().map(|name| listed(name)).collect();
    axum::Json(json!({ "object": "list", "data": data })).into_response()
}

async fn model(State(site): State<Arc<Site>>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    if let Err(refusal) = site.caller(&headers) {
        return *refusal;
    }
    if site.router.config().aliases.contains_key(&name) {
        return axum::Json(listed(&name)).into_response();
    }
    wire::failed(&Failure::new(Kind::UnknownModel, format!("there is no model {name} here; ask /v1/models")))
}

/// An alias as the API lists models.
fn listed(name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": "swarm" })
}

async fn unknown() -> Response {
    wire::refused(StatusCode::NOT_FOUND, "unknown_url", "there is no such route here")
}
