//! The websocket side: one connection for all instruments, replaced whenever it is no good.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::market::{Instrument, Symbol, Venue};
use domain::time::Clock;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{self, Message, protocol::WebSocketConfig};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::{BinanceConfig, RestClient};
use crate::book::{Applied, BookSync};
use crate::error::VenueError;
use crate::feed::{self, FeedEvent, FeedKind};
use crate::market::{MarketSource, SourceEvent};

/// Events kept for a reader who is behind; when they are full the socket is not read.
const QUEUE: usize = 8_192;
/// Bound of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// No message of a stream is larger than this.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;
type Fetch = BoxFuture<'static, (Symbol, Result<FeedEvent, VenueError>)>;

/// Binance Spot as a source. It connects again, fetches snapshots and resynchronises by itself, for ever.
pub struct BinanceSource {
    rest: Arc<RestClient>,
    symbols: Vec<Symbol>,
    events: mpsc::Receiver<SourceEvent>,
    task: tokio::task::JoinHandle<()>,
}

impl BinanceSource {
    /// Starts to connect.
    ///
    /// # Errors
    /// [`VenueError::Config`].
    pub fn start(config: BinanceConfig, clock: Arc<dyn Clock>) -> Result<Self, VenueError> {
        if config.symbols.is_empty() || config.backoff_min_ms == 0 || config.stale_ms == 0 {
            return Err(VenueError::Config("symbols, back-off and stale time must be set".to_owned()));
        }
        let rest = Arc::new(RestClient::new(&config.rest_url)?);
        let (out, events) = mpsc::channel(QUEUE);
        let symbols = config.symbols.clone();
        let follower = Follower { config, rest: Arc::clone(&rest), clock, out };
        Ok(Self { rest, symbols, events, task: tokio::spawn(follower.run()) })
    }

    /// Can the exchange be reached? Answers within 3 seconds.
    ///
    /// # Errors
    /// It cannot.
    pub async fn probe(&self) -> Result<(), VenueError> {
        self.rest.probe().await
    }
}

impl Drop for BinanceSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl MarketSource for BinanceSource {
    async fn instruments(&mut self, venue: Venue) -> Result<Vec<Instrument>, VenueError> {
        let found = self.rest.instruments(&self.symbols, venue).await?;
        Ok(found.into_iter().map(|(instrument, _)| instrument).collect())
    }

    async fn next(&mut self) -> Option<SourceEvent> {
        self.events.recv().await
    }
}

/// Why a connection ended, and whether it had been of use.
struct Ended {
    reason: String,
    was_good: bool,
}

/// The reader has gone.
struct NobodyListens;

struct Follower {
    config: BinanceConfig,
    rest: Arc<RestClient>,
    clock: Arc<dyn Clock>,
    out: mpsc::Sender<SourceEvent>,
}

impl Follower {
    async fn run(self) {
        let mut pause_ms = self.config.backoff_min_ms;
        loop {
            let ended = match self.connect().await {
                Ok(socket) => match Session::new(&self, socket).run().await {
                    Ok(ended) => ended,
                    Err(NobodyListens) => return,
                },
                Err(error) => Ended { reason: error.to_string(), was_good: false },
            };
            tracing::warn!(reason = ended.reason, "market data connection ended");
            if self.out.send(SourceEvent::Lost { symbol: None, reason: ended.reason }).await.is_err() {
                return;
            }
            if ended.was_good {
                pause_ms = self.config.backoff_min_ms;
            }
            let quiet = self.rest.quiet().map_or(Duration::ZERO, |(left, _)| left);
            sleep(Duration::from_millis(pause_ms).max(quiet)).await;
            pause_ms = pause_ms.saturating_mul(2).min(self.config.backoff_max_ms.max(self.config.backoff_min_ms));
        }
    }

    async fn send(&self, event: SourceEvent) -> Result<(), NobodyListens> {
        self.out.send(event).await.map_err(|_| NobodyListens)
    }

    async fn connect(&self) -> Result<Socket, VenueError> {
        let streams: Vec<String> = self
            .config
            .symbols
            .iter()
            .map(|symbol| symbol.as_str().to_ascii_lowercase())
            .flat_map(|name| [format!("{name}@depth@100ms"), format!("{name}@trade"), format!("{name}@bookTicker")])
            .collect();
        let url = format!("{}/stream?streams={}", self.config.stream_url, streams.join("/"));
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let connecting = timeout(CONNECT_TIMEOUT, connect_async_with_config(url, Some(limits), true));
        match connecting.await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(tungstenite::Error::Http(answer))) if matches!(answer.status().as_u16(), 429 | 418) => {
                let header = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
                let retry_after_s = header.and_then(|text| text.trim().parse().ok());
                Err(self.rest.told_off(answer.status().as_u16() == 418, retry_after_s))
            }
            Ok(Err(error)) => Err(VenueError::Connection(error.to_string())),
            Err(_) => Err(VenueError::Connection("no connection within 10 s".to_owned())),
        }
    }
}

/// One connection.
struct Session<'a> {
    follower: &'a Follower,
    socket: Socket,
    /// Update ids only, no levels: what the reader's books will say of each event.
    chains: BTreeMap<Symbol, BookSync>,
    fetches: FuturesUnordered<Fetch>,
    was_good: bool,
}

impl<'a> Session<'a> {
    fn new(follower: &'a Follower, socket: Socket) -> Self {
        let chains = follower.config.symbols.iter().map(|symbol| (symbol.clone(), BookSync::default())).collect();
        Self { follower, socket, chains, fetches: FuturesUnordered::new(), was_good: false }
    }

    async fn run(mut self) -> Result<Ended, NobodyListens> {
        let config = &self.follower.config;
        let stale = Duration::from_millis(config.stale_ms);
        let too_old = Instant::now() + Duration::from_millis(config.max_connection_ms);
        let mut stale_at = Instant::now() + stale;
        let reason = loop {
            tokio::select! {
                // In this order: a slow reader must not make a connection look silent whose messages are waiting.
                biased;
                () = sleep_until(too_old) => break "replaced before the exchange's 24 hours are over".to_owned(),
                Some((symbol, fetched)) = self.fetches.next(), if !self.fetches.is_empty() => {
                    self.fetched(symbol, fetched).await?;
                }
                message = self.socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        stale_at = Instant::now() + stale;
                        if let Err(reason) = self.text(&text).await? {
                            break reason;
                        }
                    }
                    // Pings are answered by the library; they do not prove that market data flows.
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                    Some(Ok(Message::Close(_))) | None => break "closed by the exchange".to_owned(),
                    Some(Ok(Message::Binary(_))) => break "a message that is no text".to_owned(),
                    Some(Err(error)) => break error.to_string(),
                },
                () = sleep_until(stale_at) => break format!("nothing received for {} ms", config.stale_ms),
            }
        };
        Ok(Ended { reason, was_good: self.was_good })
    }

    /// A message. One that cannot be read ends the connection: what was in it is not known.
    async fn text(&mut self, text: &str) -> Result<Result<(), String>, NobodyListens> {
        let received_at_ns = self.follower.clock.now().as_ns();
        let event = match feed::parse_message(received_at_ns, text, None) {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let Some(chain) = self.chains.get_mut(&event.symbol) else { return Ok(Ok(())) };
        if matches!(event.kind, FeedKind::Depth { .. }) {
            let waited = chain.waits_for_snapshot();
            match chain.apply(&without_levels(&event)) {
                Applied::Buffered if !waited => self.fetch(event.symbol.clone(), Duration::ZERO),
                Applied::Resync(gap) => {
                    let (symbol, reason) = (Some(event.symbol.clone()), gap.to_string());
                    self.follower.send(SourceEvent::Lost { symbol, reason }).await?;
                    self.fetch(event.symbol.clone(), Duration::ZERO);
                }
                _ => {}
            }
        }
        self.follower.send(SourceEvent::Feed(event)).await?;
        Ok(Ok(()))
    }

    async fn fetched(&mut self, symbol: Symbol, fetched: Result<FeedEvent, VenueError>) -> Result<(), NobodyListens> {
        let again = Duration::from_millis(self.follower.config.backoff_min_ms);
        let snapshot = match fetched {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(%symbol, %error, "no snapshot");
                let quiet = self.follower.rest.quiet().map_or(Duration::ZERO, |(left, _)| left);
                self.fetch(symbol, again.max(quiet));
                return Ok(());
            }
        };
        let Some(chain) = self.chains.get_mut(&symbol) else { return Ok(()) };
        if let Applied::Resync(gap) = chain.apply(&without_levels(&snapshot)) {
            tracing::warn!(%symbol, %gap, "a snapshot older than the updates kept");
            self.fetch(symbol, again);
            return Ok(());
        }
        self.was_good = true;
        self.follower.send(SourceEvent::Feed(snapshot)).await
    }

    fn fetch(&mut self, symbol: Symbol, after: Duration) {
        let (rest, clock) = (Arc::clone(&self.follower.rest), Arc::clone(&self.follower.clock));
        let levels = self.follower.config.snapshot_levels;
        let call = async move {
            sleep(after).await;
            let snapshot = rest.snapshot(&symbol, levels, clock.as_ref()).await;
            (symbol, snapshot)
        };
        self.fetches.push(call.boxed());
    }
}

fn without_levels(event: &FeedEvent) -> FeedEvent {
    let kind = match &event.kind {
        FeedKind::Depth { first_update_id, final_update_id, event_ms, .. } => FeedKind::Depth {
            first_update_id: *first_update_id,
            final_update_id: *final_update_id,
            event_ms: *event_ms,
            bids: Vec::new(),
            asks: Vec::new(),
        },
        FeedKind::Snapshot { last_update_id, .. } => {
            FeedKind::Snapshot { last_update_id: *last_update_id, bids: Vec::new(), asks: Vec::new() }
        }
        other => other.clone(),
    };
    FeedEvent { received_at_ns: event.received_at_ns, symbol: event.symbol.clone(), kind }
}
