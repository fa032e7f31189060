//! Chat completions and embeddings.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use llm::request::{ChatRequest, EmbeddingRequest, Extras, Invalid};
use llm::router::Reply;

use crate::site::Site;
use crate::{sse, wire};

/// What a caller may tell the router, in headers whose names begin so.
const PREFIX: &str = "x-swarm-";
/// Names of these headers.
const EXTRAS: &[&str] = &["priority", "tenant", "deadline-ms", "cache", "max-stale-s", "volatile", "correlation-id"];

/// What the headers tell.
fn extras(headers: &HeaderMap) -> Result<Extras, Invalid> {
    let mut extras = Extras::default();
    if headers.get(header::CACHE_CONTROL).is_some_and(|value| value == "no-cache") {
        extras.set("cache", "refresh")?;
    }
    for (name, value) in headers {
        let Some(extra) = name.as_str().strip_prefix(PREFIX).filter(|extra| EXTRAS.contains(extra)) else { continue };
        let wrong = |what: &str| {
            let message = format!("{name} must be {what}");
            Invalid { message, param: Some(name.to_string()), code: "invalid_value" }
        };
        // Of two tenants, none is the one that is meant.
        if headers.get_all(name).iter().nth(1).is_some() {
            return Err(wrong("said once"));
        }
        extras.set(extra, value.to_str().map_err(|_| wrong("plain text"))?)?;
    }
    Ok(extras)
}

fn body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Box<Response>> {
    body.map_err(|rejection| {
        let status = rejection.status();
        let code = if status == StatusCode::PAYLOAD_TOO_LARGE { "request_too_large" } else { "unreadable_body" };
        Box::new(wire::refused(status, code, &rejection.body_text()))
    })
}

pub(crate) async fn completions(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    read: Result<Bytes, BytesRejection>,
) -> Response {
    let caller = match site.caller(&headers) {
        Ok(caller) => caller,
        Err(refusal) => return *refusal,
    };
    let read = match body(read) {
        Ok(read) => read,
        Err(refusal) => return *refusal,
    };
    let mut request = match ChatRequest::parse(&read) {
        Ok(request) => request,
        Err(error) => return wire::invalid(&error),
    };
    match extras(&headers) {
        Ok(told) => request.extras = request.extras.or(told),
        Err(error) => return wire::invalid(&error),
    }
    let (model, streams, include_usage) = (request.model.clone(), request.stream, request.include_usage);
    let created = site.router.now().0.div_euclid(1_000);
    let chunks =
        |id: &str| wire::Chunks { id: id.to_owned(), model: model.clone(), created, include_usage, begun: false };
    match site.router.chat(&caller, request).await {
        Reply::Whole(answer, provenance) if streams => {
            let body = sse::replay(chunks(&provenance.request_id), &answer);
            let mut response = (sse::HEADERS, body).into_response();
            wire::mark(response.headers_mut(), &provenance);
            response
        }
        Reply::Whole(answer, provenance) => {
            let body = wire::completion(&answer, &provenance.request_id, &model, created);
            let mut response = Response::new(Body::from(body));
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            wire::mark(response.headers_mut(), &provenance);
            response
        }
        Reply::Stream(streaming) => {
            let chunks = chunks(&streaming.provenance().request_id);
            let mut headers = HeaderMap::new();
            wire::mark(&mut headers, streaming.provenance());
            let mut response = (sse::HEADERS, sse::live(chunks, streaming)).into_response();
            response.headers_mut().extend(headers);
            response
        }
        Reply::Failed(failure, provenance) => {
            let mut response = wire::failed(&failure);
            wire::mark(response.headers_mut(), &provenance);
            response
        }
    }
}

pub(crate) async fn embeddings(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    read: Result<Bytes, BytesRejection>,
) -> Response {
    let caller = match site.caller(&headers) {
        Ok(caller) => caller,
        Err(refusal) => return *refusal,
    };
    let read = match body(read) {
        Ok(read) => read,
        Err(refusal) => return *refusal,
    };
    let (request, told) = match EmbeddingRequest::parse(&read).and_then(|r| Ok((r, extras(&headers)?))) {
        Ok(parsed) => parsed,
        Err(error) => return wire::invalid(&error),
    };
    let EmbeddingRequest { model, texts, base64 } = request;
    let (vectors, provenance) = site.router.embed(&caller, &model, texts, &told).await;
    let mut response = match vectors {
        Ok(vectors) => {
            let body = wire::vectors(&vectors, &model, base64);
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(failure) => wire::failed(&failure),
    };
    wire::mark(response.headers_mut(), &provenance);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[(&'static str, &[u8])]) -> Result<Extras, Invalid> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        extras(&headers)
    }

    #[test]
    fn headers_are_read_once_each_and_strangers_are_left_alone() {
        let extras = told(&[("x-swarm-tenant", b"alice"), ("x-swarm-other", b"x"), ("tenant", b"bob")]).unwrap();
        assert_eq!((extras.tenant.as_deref(), extras.priority), (Some("alice"), None));
        let twice: [&[(&'static str, &[u8])]; 2] = [
            &[("x-swarm-tenant", b"alice"), ("x-swarm-tenant", b"bob")],
            &[("x-swarm-priority", b"9"), ("x-swarm-priority", b"9")],
        ];
        for lines in twice {
            assert!(told(lines).unwrap_err().message.ends_with("must be said once"));
        }
        assert!(told(&[("x-swarm-tenant", b"\xff")]).unwrap_err().message.ends_with("plain text"));
        assert!(told(&[("x-swarm-priority", b"10")]).is_err());
    }
}
