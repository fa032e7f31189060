//! A provider that answers at once: the direct path, and what stands behind the router. One thread, so that what it takes of
//! the machine can be told.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::mpsc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::post;
use axum::serve::ListenerExt;
use futures::stream;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::clock::{self, Thread};
use crate::bench_error::BenchError;

/// Pieces of a streamed answer, its end not counted.
pub const CHUNKS: usize = 20;

const ANSWER: &str = concat!(
    r#"{"id":"chatcmpl-stub-000000000001","object":"chat.completion","created":1760000000,"model":"stub-1","#,
    r#""choices":[{"index":0,"message":{"role":"assistant","content":"{\"verdict\":\"approve\",\"confidence\":0.71,"#,
    r#"\"reasoning\":\"momentum and volume agree\"}"},"logprobs":null,"finish_reason":"stop"}],"#,
    r#""usage":{"prompt_tokens":61,"completion_tokens":24,"total_tokens":85}}"#
);

/// The stub. Dropping it ends it.
pub struct Stub {
    address: SocketAddr,
    /// The thread that serves it.
    pub thread: Thread,
    _stop: oneshot::Sender<Infallible>,
}

impl Stub {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// [`BenchError::Broken`].
    pub fn start() -> Result<Self, BenchError> {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            if let Err(error) = serve(&tell, stopped) {
                // Whoever started it hears of it; later nobody listens.
                let _ = tell.send(Err(error));
            }
        });
        let gone = || BenchError::Broken("the stub ended at once".to_owned());
        let (address, thread) = told.recv().map_err(|_| gone())??;
        Ok(Self { address, thread, _stop: stop })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

type Told = Result<(SocketAddr, Thread), BenchError>;

fn serve(tell: &mpsc::Sender<Told>, stopped: oneshot::Receiver<Infallible>) -> Result<(), BenchError> {
    let wrong = |error: std::io::Error| BenchError::Broken(format!("the stub: {error}"));
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(wrong)?;
    executor.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        let _ = tell.send(Ok((address, clock::this_thread())));
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let routes = Router::new().route("/v1/chat/completions", post(answer));
        let served = std::future::IntoFuture::into_future(axum::serve(listener, routes));
        tokio::select! {
            ended = served => ended.map_err(wrong),
            _ = stopped => Ok(()),
        }
    })
}

async fn answer(asked: Bytes) -> Response {
    let streams = asked.windows(STREAMS.len()).any(|part| part == STREAMS);
    let (kind, body) = if streams {
        ("text/event-stream", Body::from_stream(stream::unfold(0, event)))
    } else {
        ("application/json", Body::from(ANSWER))
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// How both ends write that an answer is wanted in pieces.
pub const STREAMS: &[u8] = br#""stream":true"#;

/// Each event leaves by itself, as tokens of a model do: without the pause they would all be one write.
async fn event(number: usize) -> Option<(Result<Bytes, Infallible>, usize)> {
    tokio::task::yield_now().await;
    let head = r#"data: {"id":"chatcmpl-stub-000000000001","object":"chat.completion.chunk","created":1760000000,"model":"stub-1","#;
    let rest = match number {
        ..CHUNKS => r#""choices":[{"index":0,"delta":{"content":"word "},"logprobs":null,"finish_reason":null}]}"#,
        CHUNKS => concat!(
            r#""choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"#,
            r#""usage":{"prompt_tokens":61,"completion_tokens":20,"total_tokens":81}}"#,
            "\n\ndata: [DONE]"
        ),
        _ => return None,
    };
    Some((Ok(Bytes::from([head, rest, "\n\n"].concat())), number + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_of_the_size_that_the_others_were_measured_with() {
        assert!((320..=400).contains(&ANSWER.len()), "{}", ANSWER.len());
        assert!(serde_json::from_str::<serde_json::Value>(ANSWER).is_ok());
    }
}
