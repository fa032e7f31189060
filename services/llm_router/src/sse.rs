//! Server-sent events.

use axum::body::Body;
use axum::http::{HeaderName, header};
use bytes::Bytes;
use futures::stream;
use llm::answer::Answer;
use llm::router::Streaming;

use crate::wire::{Chunks, pieces};

/// Headers of a stream.
pub(crate) const HEADERS: [(HeaderName, &str); 2] =
    [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];

/// An answer that is there whole.
pub(crate) fn replay(mut chunks: Chunks, answer: &Answer) -> Body {
    let mut out = Vec::new();
    for piece in pieces(answer) {
        chunks.write(&piece, &mut out);
    }
    Chunks::done(&mut out);
    Body::from(out)
}

/// An answer under way. Pieces that came together leave together.
pub(crate) fn live(chunks: Chunks, streaming: Box<Streaming>) -> Body {
    let state = Some((chunks, streaming));
    Body::from_stream(stream::unfold(state, |state| async move {
        let (mut chunks, mut streaming) = state?;
        loop {
            let mut out = Vec::new();
            match streaming.next().await {
                Some(Ok(piece)) => {
                    chunks.write(&piece, &mut out);
                    while let Some(piece) = streaming.ready() {
                        chunks.write(&piece, &mut out);
                    }
                    if out.is_empty() {
                        continue;
                    }
                    return Some((Ok::<Bytes, std::convert::Infallible>(out.into()), Some((chunks, streaming))));
                }
                Some(Err(failure)) => {
                    chunks.broke(&failure, &mut out);
                    return Some((Ok(out.into()), None));
                }
                None => {
                    Chunks::done(&mut out);
                    return Some((Ok(out.into()), None));
                }
            }
        }
    }))
}
