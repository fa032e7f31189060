//! A strict double of Binance's public endpoints. What a client may not do is written down as a violation.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use domain::market::{Symbol, Venue};
use domain::money::{Price, Quantity};
use domain::time::UnixMs;
use futures::{SinkExt, StreamExt};
use rust_decimal::Decimal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use venues::builtin::{BuiltinConfig, BuiltinInstrument, BuiltinMarket};
use venues::feed::{FeedEvent, FeedKind, write_line};

/// What goes wrong on one websocket connection, after so many depth updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is cut without a word.
    Drop,
    /// It is closed properly.
    Close,
    /// A depth update is left out.
    Gap,
    /// A message that is no JSON.
    Garbage,
    /// A message that is not text.
    Binary,
    /// Nothing more comes but pings.
    Silence,
    /// The handshake is refused with this status and Retry-After.
    Refuse(u16, Option<u64>),
}

/// What goes wrong with one REST call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestFault {
    /// This status, and Retry-After in seconds.
    Status(u16, Option<u64>),
    /// A snapshot older than everything sent on the connection.
    OldSnapshot,
    /// A body that is no JSON.
    Garbage,
}

pub struct World {
    market: BuiltinMarket,
    now: UnixMs,
    pub faults: VecDeque<(usize, Fault)>,
    pub rest_faults: VecDeque<RestFault>,
    pub calls: Vec<String>,
    pub connections: usize,
    pub pongs: usize,
    pub violations: Vec<String>,
    quiet_until: Option<Instant>,
}

pub struct Double {
    pub world: Arc<Mutex<World>>,
    pub port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Double {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn symbols() -> Vec<Symbol> {
    ["BTCUSDT", "ETHUSDT"].iter().map(|name| Symbol::parse(name).unwrap()).collect()
}

fn market() -> BuiltinMarket {
    let instrument = |symbol: Symbol| BuiltinInstrument {
        base: symbol.as_str()[..3].to_owned(),
        symbol,
        quote: "USDT".into(),
        start_price: Price::parse("2500").unwrap(),
        tick: Decimal::new(1, 2),
        step: Decimal::new(1, 4),
        min_notional: Decimal::from(5),
        volatility_milli_percent: 50,
        spread_ticks: 1,
        levels: 10,
        level_quantity: Quantity::parse("4").unwrap(),
    };
    let instruments = symbols().into_iter().map(instrument).collect();
    let config = BuiltinConfig { seed: 3, step_ms: 100, instruments, script: Vec::new() };
    BuiltinMarket::new(config, UnixMs(0)).unwrap()
}

impl Double {
    pub async fn start(faults: &[(usize, Fault)], rest_faults: &[RestFault]) -> Self {
        let mut market = market();
        // The first events are the snapshots, which the exchange gives by REST only.
        market.advance_to(UnixMs(0));
        let world = Arc::new(Mutex::new(World {
            market,
            now: UnixMs(0),
            faults: faults.iter().copied().collect(),
            rest_faults: rest_faults.iter().copied().collect(),
            calls: Vec::new(),
            connections: 0,
            pongs: 0,
            violations: Vec::new(),
            quiet_until: None,
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::clone(&world);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, Arc::clone(&shared)));
            }
        });
        Self { world, port, task }
    }

    pub fn violations(&self) -> Vec<String> {
        self.world.lock().unwrap().violations.clone()
    }
}

async fn serve(mut socket: TcpStream, world: Arc<Mutex<World>>) {
    let mut start = [0u8; 12];
    while socket.peek(&mut start).await.is_ok_and(|n| n > 0 && n < start.len()) {
        tokio::task::yield_now().await;
    }
    if start.starts_with(b"GET /stream?") {
        let fault = {
            let mut world = world.lock().unwrap();
            world.connections += 1;
            world.arrive("/stream");
            world.faults.pop_front()
        };
        if let Some((_, Fault::Refuse(status, retry_after))) = fault {
            read_head(&mut socket).await;
            world.lock().unwrap().be_quiet(status, retry_after);
            answer(&mut socket, status, retry_after, "{}").await;
            return;
        }
        stream(socket, world, fault).await;
    } else {
        let head = read_head(&mut socket).await;
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (status, retry_after, body) = world.lock().unwrap().rest(&path);
        answer(&mut socket, status, retry_after, &body).await;
    }
}

async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0u8; 1];
    while !head.ends_with(b"\r\n\r\n") && socket.read_exact(&mut byte).await.is_ok() {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

async fn answer(socket: &mut TcpStream, status: u16, retry_after: Option<u64>, body: &str) {
    let retry = retry_after.map_or(String::new(), |s| format!("Retry-After: {s}\r\n"));
    let head = format!("HTTP/1.1 {status} X\r\n{retry}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = socket.write_all(format!("{head}{body}").as_bytes()).await;
}

#[expect(clippy::result_large_err, reason = "the type of tungstenite's callback")]
async fn stream(socket: TcpStream, world: Arc<Mutex<World>>, fault: Option<(usize, Fault)>) {
    use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
    let shared = Arc::clone(&world);
    let check = move |request: &Request, response: Response| {
        let want = "streams=btcusdt@depth@100ms/btcusdt@trade/btcusdt@bookTicker/ethusdt@depth@100ms/ethusdt@trade/ethusdt@bookTicker";
        if request.uri().query() != Some(want) {
            shared.lock().unwrap().violations.push(format!("streams {}", request.uri()));
        }
        Ok(response)
    };
    let Ok(socket) = tokio_tungstenite::accept_hdr_async(socket, check).await else { return };
    let (mut out, mut incoming) = socket.split();
    let listener = {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            while let Some(Ok(message)) = incoming.next().await {
                let mut world = world.lock().unwrap();
                match message {
                    Message::Pong(_) => world.pongs += 1,
                    Message::Close(_) => return,
                    other => world.violations.push(format!("client sent {other:?}")),
                }
            }
        })
    };
    let mut beat = tokio::time::interval(Duration::from_millis(4));
    let (mut depths, mut silent) = (0, false);
    'connection: loop {
        beat.tick().await;
        let events = world.lock().unwrap().step();
        if out.send(Message::Ping(b"1".to_vec().into())).await.is_err() {
            break;
        }
        for event in events {
            if silent {
                continue;
            }
            if let (FeedKind::Depth { .. }, Some((after, fault))) = (&event.kind, fault) {
                depths += 1;
                if depths == after + 1 {
                    match fault {
                        Fault::Drop => break 'connection,
                        Fault::Close => {
                            let _ = out.send(Message::Close(None)).await;
                            // Until the client has said it too.
                            let _ = listener.await;
                            return;
                        }
                        Fault::Gap => continue,
                        Fault::Garbage => drop(out.send(Message::text("<html>oops</html>")).await),
                        Fault::Binary => drop(out.send(Message::binary(b"{}".to_vec())).await),
                        Fault::Silence => {
                            silent = true;
                            continue;
                        }
                        Fault::Refuse(..) => {}
                    }
                }
            }
            if out.send(Message::text(json(&event))).await.is_err() {
                break 'connection;
            }
        }
    }
    listener.abort();
}

/// The exchange's message: a line of a recording without its receive time.
fn json(event: &FeedEvent) -> String {
    let mut line = String::new();
    write_line(&mut line, event);
    line.trim_end().split_once(' ').unwrap().1.to_owned()
}

impl World {
    fn step(&mut self) -> Vec<FeedEvent> {
        self.now = self.now.plus_ms(100);
        self.market.advance_to(self.now)
    }

    fn arrive(&mut self, path: &str) {
        if self.quiet_until.is_some_and(|until| Instant::now() < until) {
            self.violations.push(format!("{path} while told to be quiet"));
        }
        self.calls.push(path.to_owned());
    }

    fn be_quiet(&mut self, status: u16, retry_after: Option<u64>) {
        if status == 429 || status == 418 {
            // Clocks on both sides may differ by a moment.
            let pause = Duration::from_secs(retry_after.unwrap_or(5)).saturating_sub(Duration::from_millis(50));
            self.quiet_until = Some(Instant::now() + pause);
        }
    }

    fn rest(&mut self, path: &str) -> (u16, Option<u64>, String) {
        self.arrive(path);
        let (route, query) = path.split_once('?').unwrap_or((path, ""));
        let fault = self.rest_faults.pop_front();
        match fault {
            Some(RestFault::Status(status, retry_after)) => {
                self.be_quiet(status, retry_after);
                return (status, retry_after, r#"{"code":-1003,"msg":"Too many requests"}"#.into());
            }
            Some(RestFault::Garbage) => return (200, None, "<html>".into()),
            _ => {}
        }
        match route {
            "/api/v3/ping" => (200, None, "{}".into()),
            "/api/v3/depth" => {
                let symbol = query.strip_prefix("symbol=").and_then(|rest| rest.strip_suffix("&limit=1000"));
                let found = self.market.snapshots(self.now).into_iter().find(|e| Some(e.symbol.as_str()) == symbol);
                let Some(event) = found else {
                    self.violations.push(path.to_owned());
                    return (400, None, r#"{"code":-1121,"msg":"Invalid symbol."}"#.into());
                };
                let old = fault == Some(RestFault::OldSnapshot);
                (200, None, bare_snapshot(&event, old))
            }
            "/api/v3/exchangeInfo" if query == "symbols=%5B%22BTCUSDT%22,%22ETHUSDT%22%5D" => {
                (200, None, self.exchange_info())
            }
            _ => {
                self.violations.push(path.to_owned());
                (404, None, "{}".into())
            }
        }
    }

    fn exchange_info(&self) -> String {
        let one = |i: domain::market::Instrument| {
            serde_json::json!({
                "symbol": i.id.symbol, "status": "TRADING", "baseAsset": i.base, "quoteAsset": i.quote,
                "filters": [
                    {"filterType": "PRICE_FILTER", "minPrice": "0.01000000", "maxPrice": "1000000.00000000", "tickSize": format!("{:.8}", i.tick)},
                    {"filterType": "LOT_SIZE", "minQty": format!("{:.8}", i.min_quantity), "maxQty": "9000.00000000", "stepSize": format!("{:.8}", i.step)},
                    {"filterType": "ICEBERG_PARTS", "limit": 10},
                    {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": true, "maxNotional": "9000000.00000000", "applyMaxToMarket": false, "avgPriceMins": 5},
                    {"filterType": "SOMETHING_OF_TOMORROW", "x": [1]}
                ]
            })
        };
        let symbols: Vec<_> = self.market.instruments(Venue::Binance).into_iter().map(one).collect();
        serde_json::json!({ "timezone": "UTC", "symbols": symbols }).to_string()
    }
}

fn bare_snapshot(event: &FeedEvent, old: bool) -> String {
    let FeedKind::Snapshot { last_update_id, bids, asks } = &event.kind else { panic!("not a snapshot") };
    let side = |levels: &[venues::feed::Level]| {
        levels.iter().map(|l| [l.price.value().to_string(), l.quantity.value().to_string()]).collect::<Vec<_>>()
    };
    let id = if old { 1 } else { *last_update_id };
    serde_json::json!({ "lastUpdateId": id, "bids": side(bids), "asks": side(asks) }).to_string()
}
