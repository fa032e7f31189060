//! The one style sheet, the one script and the icon, out of the program itself.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// Name, type and content.
const ASSETS: [(&str, &str, &str); 3] = [
    ("page.css", "text/css; charset=utf-8", include_str!("../assets/page.css")),
    ("page.js", "text/javascript; charset=utf-8", include_str!("../assets/page.js")),
    ("icon.svg", "image/svg+xml", include_str!("../assets/icon.svg")),
];

/// Where a page finds it; another content has another address.
#[must_use]
pub fn address(name: &str) -> String {
    let content = ASSETS.iter().find(|(known, _, _)| *known == name).map_or("", |(_, _, content)| *content);
    let digest = hex::encode(Sha256::digest(content.as_bytes()));
    format!("/assets/{name}?v={}", digest.get(..12).unwrap_or_default())
}

/// Serves one; it holds nothing secret, so that the login page has it too.
pub async fn serve(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|(known, _, _)| *known == name) {
        Some((_, kind, content)) => {
            let headers = [(CONTENT_TYPE, *kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
            (headers, *content).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
