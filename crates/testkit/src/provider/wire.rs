//! HTTP/1.1 on one connection, by hand: a fault needs what a server library rightly hides, such as a length that is not
//! kept, a chunk cut in its middle, a reset, and the moment a client goes away while nothing is written to it.

use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Larger than any head or body of ours.
const LARGEST: usize = 64 << 20;

/// A request as it came.
#[derive(Debug)]
pub(super) struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub keep_alive: bool,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

/// One thing to do on the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Wait(Duration),
    /// Silence until the client goes away.
    Hang,
    Write {
        bytes: Vec<u8>,
        /// Tokens of prompt and answer that are billed once it is written.
        bills: (u64, u64),
    },
    Close,
    Reset,
}

/// How the steps ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// By a step.
    Closed,
    /// The client left before the end.
    Gone,
}

/// The connection, and what came on it that is not used yet.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        Self { stream, buffer: Vec::with_capacity(4_096) }
    }

    /// The next request; `None` when the client is done, words when it is no HTTP.
    pub(super) async fn request(&mut self) -> Option<Result<Request, String>> {
        let (mut request, length) = loop {
            match head(&self.buffer) {
                Err(words) => return Some(Err(words)),
                Ok(Some((request, used, length))) => {
                    self.buffer.drain(..used);
                    break (request, length);
                }
                Ok(None) => self.more().await?,
            }
        };
        if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
        }
        match length {
            Length::Known(length) => {
                while self.buffer.len() < length {
                    self.more().await?;
                }
                request.body = self.buffer.drain(..length).collect();
            }
            Length::Chunked => loop {
                match chunks(&self.buffer) {
                    Err(words) => return Some(Err(words)),
                    Ok(Some((body, used))) => {
                        self.buffer.drain(..used);
                        request.body = body;
                        break;
                    }
                    Ok(None) => self.more().await?,
                }
            },
        }
        Some(Ok(request))
    }

    async fn more(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(read) if read > 0 && self.buffer.len() < LARGEST => Some(()),
            _ => None,
        }
    }

    /// Returns when the client has closed or reset the connection.
    async fn gone(&mut self) {
        while self.stream.readable().await.is_ok() {
            if self.has_left() {
                return;
            }
        }
    }

    fn has_left(&mut self) -> bool {
        match self.stream.try_read_buf(&mut self.buffer) {
            Ok(read) => read == 0 || self.buffer.len() > LARGEST,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Waits for `what`, unless the client goes away first.
    pub(super) async fn unless_gone<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            value = what => Some(value),
            () = self.gone() => None,
        }
    }

    /// Does the steps; `billed` hears of every piece that was written.
    pub(super) async fn run(&mut self, steps: Vec<Step>, mut billed: impl FnMut((u64, u64))) -> Outcome {
        let last = steps.len().saturating_sub(1);
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Wait(wait) => {
                    if self.unless_gone(tokio::time::sleep(wait)).await.is_none() {
                        return Outcome::Gone;
                    }
                }
                Step::Hang => {
                    self.gone().await;
                    return Outcome::Gone;
                }
                Step::Write { bytes, bills } => {
                    if self.stream.write_all(&bytes).await.is_err() || (at < last && self.has_left()) {
                        return Outcome::Gone;
                    }
                    billed(bills);
                }
                Step::Close => return Outcome::Closed,
                Step::Reset => {
                    // The connection is dropped right after: with nothing to linger for, that is a reset.
                    let _ = self.stream.set_zero_linger();
                    return Outcome::Closed;
                }
            }
        }
        Outcome::Done
    }
}

enum Length {
    Known(usize),
    Chunked,
}

/// The head of a request: itself, its own length, and that of the body. `None`: there is more to come.
fn head(buffer: &[u8]) -> Result<Option<(Request, usize, Length)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let used = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers: Vec<(String, String)> =
        parsed.headers.iter().map(|header| (header.name.to_ascii_lowercase(), text(header.value))).collect();
    let length = match (header(&headers, "transfer-encoding"), header(&headers, "content-length")) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => Length::Chunked,
        (Some(coding), _) => return Err(format!("unknown transfer-encoding {coding}")),
        (None, Some(length)) => match length.trim().parse() {
            Ok(length) if length <= LARGEST => Length::Known(length),
            _ => return Err(format!("content-length {length}")),
        },
        (None, None) => Length::Known(0),
    };
    let connection = header(&headers, "connection").unwrap_or_default().to_ascii_lowercase();
    let keep_alive = if parsed.version == Some(1) { connection != "close" } else { connection == "keep-alive" };
    let path = parsed.path.unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    let method = parsed.method.unwrap_or_default().to_owned();
    Ok(Some((Request { method, path, headers, body: Vec::new(), keep_alive }, used, length)))
}

/// A chunked body and its length on the wire. `None`: there is more to come.
fn chunks(buffer: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let (start, size) = match httparse::parse_chunk_size(&buffer[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err("no size of a chunk".to_owned()),
        };
        let size = usize::try_from(size).ok().filter(|size| *size <= LARGEST).ok_or("a chunk too large")?;
        let from = at + start;
        let Some(data) = buffer.get(from..from + size + 2) else { return Ok(None) };
        body.extend_from_slice(&data[..size]);
        at = from + size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole_and_its_body_by_length_or_by_chunks() {
        let text = "POST /v1/x?y=1 HTTP/1.1\r\nContent-Type: a/b\r\nContent-Length: 3\r\n\r\nabc";
        for end in 0..text.len() - 3 {
            assert!(matches!(head(&text.as_bytes()[..end]), Ok(None)), "{end}");
        }
        let (request, used, length) = head(text.as_bytes()).unwrap().unwrap();
        assert_eq!(
            (request.path.as_str(), request.header("content-type"), used),
            ("/v1/x", Some("a/b"), text.len() - 3)
        );
        assert!(matches!(length, Length::Known(3)) && request.keep_alive);
        let body = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nnext";
        for end in 0..body.len() - 4 {
            assert_eq!(chunks(&body[..end]), Ok(None), "{end}");
        }
        assert_eq!(chunks(body), Ok(Some((b"abcde".to_vec(), body.len() - 4))));
    }

    #[test]
    fn what_is_no_http_is_refused() {
        assert!(head(b"\x16\x03\x01 hello\r\n\r\n").is_err());
        assert!(head(b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n").is_err());
    }
}
