//! What stands before every page: under which name it was asked, from where a form was sent, and the headers that tell
//! the browser what this page may never do.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::pages;
use crate::site::Site;

/// Nothing but our own script, style, pictures and forms; no frame around us.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The headers of every answer. `same-origin` and not `no-referrer`: with the latter browsers send `Origin: null` with
/// a form, and its origin could not be checked.
const HEADERS: [(&str, &str); 8] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
];

/// The names the page answers to, each with the origin that its forms come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    origins: BTreeMap<String, String>,
}

impl Names {
    /// 127.0.0.1 and localhost on this port, and the name that a proxy is known under.
    #[must_use]
    pub fn new(port: u16, public: Option<&str>) -> Self {
        let local = ["127.0.0.1", "localhost"].map(|host| format!("{host}:{port}"));
        let mut origins: BTreeMap<String, String> =
            local.into_iter().map(|host| (host.clone(), format!("http://{host}"))).collect();
        if let Some((_, host)) = public.and_then(|origin| origin.split_once("://")) {
            origins.insert(host.to_owned(), public.unwrap_or_default().to_owned());
        }
        Self { origins }
    }

    /// The origin of the name that a request was sent to; `None`: that is no name of ours. A page of a stranger whose
    /// name was made to point here (DNS rebinding) still sends its own name.
    #[must_use]
    pub fn origin(&self, headers: &HeaderMap) -> Option<&str> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next()?.to_str().ok()?.to_ascii_lowercase();
        if hosts.next().is_some() {
            return None;
        }
        self.origins.get(&host).map(String::as_str)
    }

    /// Whether the person's browser speaks TLS: then the cookie must never travel without it.
    #[must_use]
    pub fn is_secure(&self, headers: &HeaderMap) -> bool {
        self.origin(headers).is_some_and(|origin| origin.starts_with("https://"))
    }
}

/// Whether a form was sent by a page of this very origin. Both headers are set by the browser and can't be forged by a
/// page; a request without `Origin` comes from no form of ours.
fn is_own_form(headers: &HeaderMap, own: &str) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let is_own = origins.next().is_some_and(|origin| origin.as_bytes() == own.as_bytes()) && origins.next().is_none();
    let site = headers.get("sec-fetch-site");
    is_own && site.is_none_or(|site| site.as_bytes() == b"same-origin")
}

/// Checks name and origin before a page sees the request, and sets the headers of its answer.
pub async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let own = site.names.origin(request.headers()).map(str::to_owned);
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = match own {
        None => refused("wrong_host", StatusCode::MISDIRECTED_REQUEST, "This is not the name of this page."),
        Some(_) if request.uri().authority().is_some() => {
            refused("wrong_host", StatusCode::MISDIRECTED_REQUEST, "This is no proxy.")
        }
        Some(own) if !is_read && !is_own_form(request.headers(), &own) => {
            refused("wrong_origin", StatusCode::FORBIDDEN, "This form was not sent by this page.")
        }
        Some(_) => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn refused(why: &'static str, status: StatusCode, text: &str) -> Response {
    metrics::counter!("swarm_web_refused_total", "why" => why).increment(1);
    (status, pages::problem(text, None)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_our_own_names_are_answered() {
        let names = Names::new(8080, Some("https://desk.example"));
        for (host, origin) in [
            ("127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("LOCALHOST:8080", Some("http://localhost:8080")),
            ("desk.example", Some("https://desk.example")),
            ("127.0.0.1", None),
            ("127.0.0.1:8081", None),
            ("evil.example:8080", None),
            ("desk.example.evil", None),
            ("", None),
        ] {
            assert_eq!(names.origin(&headers(&[("host", host)])), origin, "{host}");
        }
        assert_eq!(names.origin(&headers(&[])), None);
        assert_eq!(names.origin(&headers(&[("host", "127.0.0.1:8080"), ("host", "evil.example")])), None);
        assert!(names.is_secure(&headers(&[("host", "desk.example")])));
        assert!(!names.is_secure(&headers(&[("host", "localhost:8080")])));
    }

    #[test]
    fn a_form_is_ours_only_with_our_origin_and_no_other_site() {
        let own = "http://127.0.0.1:8080";
        for (sent, is_own) in [
            (&[("origin", "http://127.0.0.1:8080")][..], true),
            (&[("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "same-origin")], true),
            (&[("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "same-site")], false),
            (&[("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "cross-site")], false),
            (&[("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "none")], false),
            (&[("origin", "http://127.0.0.1:8081")], false),
            (&[("origin", "http://localhost:8080")], false),
            (&[("origin", "null")], false),
            (&[("origin", "http://127.0.0.1:8080"), ("origin", "http://evil.example")], false),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[], false),
        ] {
            assert_eq!(is_own_form(&headers(sent), own), is_own, "{sent:?}");
        }
    }
}
