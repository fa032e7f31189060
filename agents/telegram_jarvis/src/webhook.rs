//! Deliveries instead of polls: Telegram posts each update to an address that leads here. An update is a row before it is
//! answered with 200; anything else makes Telegram deliver it again.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use runtime::{HandleError, Work};
use serde_json::Value;
use subtle::ConstantTimeEq;
use teloxide_core::payloads::{SetWebhook, SetWebhookSetters};
use teloxide_core::types::AllowedUpdate;
use tokio::time::Duration;

use crate::config::Webhook;
use crate::line::{Backoff, Line};
use crate::receive;

/// The header that carries the secret.
const SECRET: &str = "x-telegram-bot-api-secret-token";
/// An update is far below that.
const LARGEST: usize = 1 << 20;
/// Deliveries at once: more order than speed.
const AT_ONCE: u8 = 4;
/// The address is told again this often: somebody who polled may have removed it.
const TELL_EVERY: Duration = Duration::from_secs(600);

#[derive(Clone)]
struct Door {
    line: Arc<Line>,
    work: Work,
    secret: Arc<str>,
}

/// Takes deliveries until the process drains.
///
/// # Errors
/// [`HandleError::Retry`] when the port can't be had.
pub async fn run(line: Arc<Line>, work: Work, hook: &Webhook) -> Result<(), HandleError> {
    let retry = |error: std::io::Error| HandleError::Retry(format!("webhook at {}: {error}", hook.listen));
    let listener = tokio::net::TcpListener::bind(hook.listen).await.map_err(retry)?;
    let door = Door { line: Arc::clone(&line), work: work.clone(), secret: hook.secret.as_str().into() };
    let router = Router::new().fallback(post(take)).layer(DefaultBodyLimit::max(LARGEST)).with_state(door);
    let stop = work.shutdown.clone();
    let serve =
        async { axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await.map_err(retry) };
    tokio::try_join!(serve, announce(&line, &work, hook))?;
    Ok(())
}

/// Tells Telegram where to deliver, until it takes that, and again now and then.
async fn announce(line: &Line, work: &Work, hook: &Webhook) -> Result<(), HandleError> {
    let url =
        reqwest::Url::parse(&hook.url).map_err(|_| HandleError::Fatal("TELEGRAM_WEBHOOK_URL is no URL".to_owned()))?;
    let payload = SetWebhook::new(url)
        .secret_token(hook.secret.clone())
        .max_connections(AT_ONCE)
        .allowed_updates([AllowedUpdate::Message, AllowedUpdate::CallbackQuery]);
    let mut backoff = Backoff::new();
    loop {
        let pause = match line.api.call(&payload).await {
            Ok(_) => {
                work.dependency_answered("telegram");
                receive::tell_commands(line).await;
                backoff.reset();
                TELL_EVERY
            }
            Err(error) => {
                tracing::warn!(%error, "Telegram was not told where to deliver");
                error.retry_after().unwrap_or_else(|| backoff.pause())
            }
        };
        tokio::select! { () = work.shutdown.cancelled() => return Ok(()), () = tokio::time::sleep(pause) => {} }
    }
}

async fn take(State(door): State<Door>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let shown = headers.get(SECRET).map(axum::http::HeaderValue::as_bytes).unwrap_or_default();
    // In constant time: how long it takes must not tell how much of a guess is right.
    if !bool::from(shown.ct_eq(door.secret.as_bytes())) {
        metrics::counter!("swarm_telegram_webhook_strangers_total").increment(1);
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(update) = serde_json::from_slice::<Value>(&body) else { return StatusCode::BAD_REQUEST };
    if update["update_id"].as_i64().is_none() {
        return StatusCode::BAD_REQUEST;
    }
    match receive::keep(&door.work, &[update], false).await {
        Ok(()) => {
            door.line.stored.notify_one();
            StatusCode::OK
        }
        Err(error) => {
            tracing::warn!(%error, "a delivery was not stored; it comes again");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}
