//! A closed loop of requests on kept-alive connections, written and read by hand: what it takes itself is taken from the
//! router, which runs on the same cores.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::clock;
use super::stub::STREAMS;
use crate::bench_error::BenchError;
use crate::report::{histogram, note};

/// Digits of the number that makes each prompt another one.
const DIGITS: usize = 12;

/// What to send.
#[derive(Debug, Clone)]
pub struct Load {
    /// To whom.
    pub address: SocketAddr,
    /// The caller's key.
    pub key: String,
    /// So many at once.
    pub connections: usize,
    /// In pieces.
    pub streams: bool,
    /// Which prompts.
    pub prompts: Prompts,
    /// Only what the cache answered by its exact key is timed.
    pub only_hits: bool,
}

/// Which prompts are sent, and how many.
#[derive(Debug, Clone)]
pub enum Prompts {
    /// Each a new one, for so long.
    New(Arc<AtomicU64>, Duration),
    /// Always this one, for so long.
    Same(u64, Duration),
    /// Each of these once.
    Each(std::ops::Range<u64>),
}

/// What came back.
pub struct Tally {
    /// Until the last byte.
    pub whole: Histogram<u64>,
    /// Until the first event of a stream; empty without streams.
    pub first: Histogram<u64>,
    /// Requests that were answered.
    pub requests: u64,
    /// Requests that the router's cache answered by its exact key.
    pub exact_hits: u64,
    /// Requests whose quota was decided without Redis.
    pub degraded: u64,
    /// How long all of it took, s.
    pub seconds: f64,
    /// CPU that the generator took, us.
    pub cpu_us: f64,
}

impl Tally {
    /// Requests a second.
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds.max(1e-9)
    }
}

/// Sends it from a thread of its own and waits for the end.
///
/// # Errors
/// [`BenchError::Broken`], when one request is not answered as it should be.
pub fn send(load: &Load) -> Result<Tally, BenchError> {
    let load = load.clone();
    let gone = || BenchError::Broken("the generator of load ended without a word".to_owned());
    std::thread::spawn(move || in_thread(&load)).join().map_err(|_| gone())?
}

fn in_thread(load: &Load) -> Result<Tally, BenchError> {
    let wrong = |error: Error| BenchError::Broken(format!("a request through {}: {error}", load.address));
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(wrong)?;
    executor.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..load.connections {
            let stream = TcpStream::connect(load.address).await.map_err(wrong)?;
            stream.set_nodelay(true).map_err(wrong)?;
            streams.push(stream);
        }
        let thread = clock::this_thread();
        let (before_us, began) = (thread.cpu_us(), Instant::now());
        let numbers = Arc::new(Numbers::of(&load.prompts, began));
        let mut workers = tokio::task::JoinSet::new();
        for stream in streams {
            let seen = Seen { whole: histogram()?, first: histogram()?, requests: 0, exact_hits: 0, degraded: 0 };
            workers.spawn(work(stream, Request::of(load), Arc::clone(&numbers), load.only_hits, seen));
        }
        let mut all = Seen { whole: histogram()?, first: histogram()?, requests: 0, exact_hits: 0, degraded: 0 };
        while let Some(done) = workers.join_next().await {
            let seen = done.map_err(|error| BenchError::Broken(error.to_string()))?.map_err(wrong)?;
            all.requests += seen.requests;
            all.exact_hits += seen.exact_hits;
            all.degraded += seen.degraded;
            // Histograms that grow take whatever another holds.
            let _ = (all.whole.add(seen.whole), all.first.add(seen.first));
        }
        Ok(Tally {
            whole: all.whole,
            first: all.first,
            requests: all.requests,
            exact_hits: all.exact_hits,
            degraded: all.degraded,
            seconds: began.elapsed().as_secs_f64(),
            cpu_us: thread.cpu_us() - before_us,
        })
    })
}

/// Which numbers are left.
enum Numbers {
    New(Arc<AtomicU64>, Instant),
    Same(u64, Instant),
    Each(AtomicU64, u64),
}

impl Numbers {
    fn of(prompts: &Prompts, began: Instant) -> Self {
        match prompts {
            Prompts::New(from, time) => Self::New(Arc::clone(from), began + *time),
            Prompts::Same(number, time) => Self::Same(*number, began + *time),
            Prompts::Each(range) => Self::Each(AtomicU64::new(range.start), range.end),
        }
    }

    fn next(&self, now: Instant) -> Option<u64> {
        match self {
            Self::New(next, until) => (now < *until).then(|| next.fetch_add(1, Ordering::Relaxed)),
            Self::Same(number, until) => (now < *until).then_some(*number),
            Self::Each(next, end) => Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| number < end),
        }
    }
}

struct Seen {
    whole: Histogram<u64>,
    first: Histogram<u64>,
    requests: u64,
    exact_hits: u64,
    degraded: u64,
}

/// A request whose prompt holds a number of fixed width, so that the next one is made by writing over it.
struct Request {
    bytes: Vec<u8>,
    at: usize,
}

impl Request {
    fn of(load: &Load) -> Self {
        let streams = if load.streams { format!(",{}", String::from_utf8_lossy(STREAMS)) } else { String::new() };
        let prompt = "Signal %: BTC-USD rose 1.2 percent in 15 minutes on twice its usual volume; the book leans to bids, \
                      funding is flat, no news. Approve, hold or reject the momentum idea? Answer with one word and why.";
        let body = format!(
            r#"{{"model":"trading-llm","messages":[{{"role":"user","content":"{prompt}"}}],"temperature":0,"max_tokens":64{streams}}}"#
        );
        let body = body.replacen('%', &"0".repeat(DIGITS), 1);
        let text = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            load.address,
            load.key,
            body.len()
        );
        let at = text.find("Signal ").map_or(0, |at| at + "Signal ".len());
        Self { bytes: text.into_bytes(), at }
    }

    fn number(&mut self, mut number: u64) -> &[u8] {
        for digit in self.bytes[self.at..self.at + DIGITS].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        &self.bytes
    }
}

async fn work(
    mut stream: TcpStream,
    mut request: Request,
    numbers: Arc<Numbers>,
    only_hits: bool,
    mut seen: Seen,
) -> Result<Seen, Error> {
    let mut buffer = Vec::with_capacity(16_384);
    loop {
        let began = Instant::now();
        let Some(number) = numbers.next(began) else { return Ok(seen) };
        stream.write_all(request.number(number)).await?;
        buffer.clear();
        let mut head: Option<Head> = None;
        let mut is_begun = false;
        loop {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, "the connection was closed"));
            }
            if head.is_none() {
                head = Head::parse(&buffer)?;
            }
            let Some(head) = &head else { continue };
            if head.length.is_none() && !is_begun && buffer.len() > head.bytes {
                is_begun = true;
                note(&mut seen.first, began.elapsed());
            }
            if head.is_whole(&buffer) {
                head.check(&buffer)?;
                seen.requests += 1;
                seen.exact_hits += u64::from(head.is_exact_hit);
                seen.degraded += u64::from(head.is_degraded);
                if head.is_exact_hit || !only_hits {
                    note(&mut seen.whole, began.elapsed());
                }
                break;
            }
        }
    }
}

/// What the head of an answer says.
struct Head {
    status: u16,
    bytes: usize,
    /// `None`: in chunks.
    length: Option<usize>,
    is_exact_hit: bool,
    is_degraded: bool,
}

impl Head {
    /// `None`: there is more of it to come.
    fn parse(buffer: &[u8]) -> Result<Option<Self>, Error> {
        let wrong = |text: String| Error::new(ErrorKind::InvalidData, text);
        let mut headers = [httparse::EMPTY_HEADER; 48];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(buffer).map_err(|error| wrong(error.to_string()))?;
        let httparse::Status::Complete(bytes) = parsed else { return Ok(None) };
        let header = |name: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.and_then(|header| std::str::from_utf8(header.value).ok())
        };
        Ok(Some(Self {
            status: response.code.unwrap_or(0),
            bytes,
            length: header("content-length").and_then(|length| length.parse().ok()),
            is_exact_hit: header("x-swarm-cache") == Some("exact"),
            is_degraded: header("x-swarm-degraded") == Some("true"),
        }))
    }

    /// The last chunk is the empty one; JSON has no line's end in it, so nothing else looks like it.
    fn is_whole(&self, buffer: &[u8]) -> bool {
        match self.length {
            Some(length) => buffer.len() >= self.bytes + length,
            None => buffer.ends_with(b"\r\n0\r\n\r\n"),
        }
    }

    fn check(&self, buffer: &[u8]) -> Result<(), Error> {
        let body = String::from_utf8_lossy(buffer.get(self.bytes..).unwrap_or_default());
        let is_good = self.status == 200 && (self.length.is_some() || body.contains("[DONE]"));
        if is_good { Ok(()) } else { Err(Error::other(format!("{} {body}", self.status))) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stub::{CHUNKS, Stub};
    use super::*;

    fn load(stub: &Stub, streams: bool, prompts: Prompts) -> Load {
        Load { address: stub.address(), key: "k".to_owned(), connections: 2, streams, prompts, only_hits: false }
    }

    #[test]
    fn each_prompt_is_sent_once_and_answered() {
        let stub = Stub::start().unwrap();
        let tally = send(&load(&stub, false, Prompts::Each(5..35))).unwrap();
        assert_eq!((tally.whole.len(), tally.first.len(), tally.exact_hits), (30, 0, 0));
        let tally = send(&load(&stub, true, Prompts::Each(0..4))).unwrap();
        assert_eq!((tally.whole.len(), tally.first.len()), (4, 4));
        assert!(tally.first.max() <= tally.whole.max());
    }

    #[test]
    fn a_number_is_written_over_the_one_before() {
        let stub = "127.0.0.1:1".parse().unwrap();
        let prompts = Prompts::Each(0..1);
        let mut request = Request::of(&Load {
            address: stub,
            key: String::new(),
            connections: 1,
            streams: false,
            prompts,
            only_hits: false,
        });
        assert!(String::from_utf8_lossy(request.number(42)).contains("Signal 000000000042: BTC"));
        let text = String::from_utf8_lossy(request.number(7)).into_owned();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        assert!(text.contains(&format!("content-length: {}\r\n", body.len())) && body.contains("000000000007"));
        let content: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!((180..=240).contains(&content["messages"][0]["content"].as_str().unwrap().len()));
    }

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        for (text, is_good) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", true),
            ("HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nhi", false),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\n[DONE]\r\n0\r\n\r\n", true),
        ] {
            let head = Head::parse(text.as_bytes()).unwrap().unwrap();
            assert!(head.is_whole(text.as_bytes()), "{text}");
            assert_eq!(head.check(text.as_bytes()).is_ok(), is_good, "{text}");
            assert!(!head.is_whole(&text.as_bytes()[..text.len() - 1]), "{text}");
        }
        assert!(CHUNKS > 0 && Head::parse(b"HTTP/1.1 200 OK\r\n").unwrap().is_none());
    }
}
