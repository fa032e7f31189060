//! The HTTP side: `POST /bot<token>/<method>` with JSON, or a form with a file.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::multipart::Multipart;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::any;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::check::{Parameters, Refusal};
use super::{Fault, Shared, TOKEN, methods, updates};

/// More than the largest file.
const LARGEST_BODY: usize = 12 << 20;

/// Longer than anybody waits for an answer.
const UNTIL_THE_CLIENT_GIVES_UP: Duration = Duration::from_secs(3_600);

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router =
        Router::new().route("/{bot}/{method}", any(call)).layer(DefaultBodyLimit::max(LARGEST_BODY)).with_state(shared);
    let _ = axum::serve(listener, router).await;
}

/// What was sent: parameters, and a file.
type Given = (Map<String, Value>, Option<Vec<u8>>);

async fn call(
    State(shared): State<Arc<Shared>>,
    Path((bot, name)): Path<(String, String)>,
    request: Request,
) -> Response {
    if bot != format!("bot{TOKEN}") {
        return refused(&Refusal::of(401, "Unauthorized"));
    }
    let (values, file) = match given(request).await {
        Ok(given) => given,
        Err(words) => return refused(&Refusal::bad(words)),
    };
    let given = Parameters { values: &values };
    let method = match methods::known(&mut shared.world(), &name, &given) {
        Ok(method) => method,
        Err(refusal) => return refused(&refusal),
    };
    let fault = fault(&shared, method);
    match fault {
        Some(Fault::ServerError) => {
            return plain(500, "{\"ok\":false,\"error_code\":500,\"description\":\"Internal Server Error\"}");
        }
        Some(Fault::Hang) => tokio::time::sleep(UNTIL_THE_CLIENT_GIVES_UP).await,
        Some(Fault::Slow(wait)) => tokio::time::sleep(wait).await,
        Some(Fault::Conflict) => {
            let words =
                "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
            return refused(&Refusal::of(409, words));
        }
        Some(Fault::TooMany(seconds)) => return refused(&Refusal::too_many(seconds)),
        Some(Fault::Cut) => return cut(),
        Some(Fault::LostAnswer | Fault::Unanswered) | None => {}
    }
    let outcome = if method == "getUpdates" {
        updates::get(&shared, &given).await
    } else {
        let outcome = methods::answer(&mut shared.world(), method, &given, file);
        shared.changed.notify_waiters();
        outcome
    };
    if fault == Some(Fault::Unanswered) {
        tokio::time::sleep(UNTIL_THE_CLIENT_GIVES_UP).await;
    }
    match outcome {
        _ if fault == Some(Fault::LostAnswer) => plain(502, "<html><body>502 Bad Gateway</body></html>"),
        Ok(result) => json_response(200, &json!({ "ok": true, "result": result })),
        Err(refusal) => refused(&refusal),
    }
}

/// Counts the call, and says what goes wrong with it.
fn fault(shared: &Shared, method: &'static str) -> Option<Fault> {
    let mut world = shared.world();
    world.calls.push(method.to_owned());
    if let Some(until) = world.refused_until.get(method).copied() {
        let left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            world.violation(format!("{method} was called before its retry_after was over"));
            return Some(Fault::TooMany(left.as_secs() + 1));
        }
        world.refused_until.remove(method);
    }
    let at = world.faults.iter().position(|(name, _)| name == method);
    let fault = at.map(|at| world.faults.remove(at).1).or(world.outage);
    if let Some(Fault::TooMany(seconds)) = fault {
        // A tenth is left to the clocks.
        let until = Instant::now() + Duration::from_millis(seconds * 900);
        world.refused_until.insert(method.to_owned(), until);
    }
    fault
}

/// Reads JSON, a form with a file, or nothing.
async fn given(request: Request) -> Result<Given, String> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("multipart/form-data") {
        let form = Multipart::from_request(request, &()).await.map_err(|error| error.to_string())?;
        return read_form(form).await;
    }
    let is_json = kind.starts_with("application/json");
    let bytes = Bytes::from_request(request, &()).await.map_err(|error| error.to_string())?;
    match serde_json::from_slice::<Value>(&bytes) {
        _ if bytes.is_empty() => Ok((Map::new(), None)),
        Ok(Value::Object(values)) if is_json => Ok((values, None)),
        _ => Err("can't parse the body: a JSON object or a form".to_owned()),
    }
}

/// In a form every value is text: numbers and Booleans are read back.
async fn read_form(mut form: Multipart) -> Result<Given, String> {
    let (mut values, mut file) = (Map::new(), None);
    while let Some(field) = form.next_field().await.map_err(|error| error.to_string())? {
        let name = field.name().unwrap_or_default().to_owned();
        if field.file_name().is_some() {
            file = Some(field.bytes().await.map_err(|error| error.to_string())?.to_vec());
            continue;
        }
        let text = field.text().await.map_err(|error| error.to_string())?;
        let value = match text.parse::<i64>() {
            Ok(number) if name.ends_with("_id") => json!(number),
            _ if text == "true" || text == "false" => json!(text == "true"),
            _ => json!(text),
        };
        values.insert(name, value);
    }
    Ok((values, file))
}

fn refused(refusal: &Refusal) -> Response {
    let mut body = json!({ "ok": false, "error_code": refusal.status, "description": refusal.description });
    if let Some(seconds) = refusal.retry_after {
        body["parameters"] = json!({ "retry_after": seconds });
    }
    json_response(refusal.status, &body)
}

fn json_response(status: u16, body: &Value) -> Response {
    plain(status, &body.to_string())
}

fn plain(status: u16, body: &str) -> Response {
    let mut response = Response::new(Body::from(body.to_owned()));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// A body that promises more than comes: the client sees its connection cut.
fn cut() -> Response {
    let parts =
        futures::stream::iter([Ok(Bytes::from_static(b"{\"ok\":")), Err(std::io::Error::other("cut by the double"))]);
    Response::new(Body::from_stream(parts))
}
