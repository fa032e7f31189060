//! The three REST calls that market data needs, and the manners of making them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::market::{Instrument, InstrumentId, Symbol, Venue};
use domain::time::Clock;
use serde::Deserialize;
use tokio::time::Instant;

use crate::error::VenueError;
use crate::feed::{self, FeedEvent};
use crate::filters::Filters;

/// Bound of the reachability probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Bound of every other call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to stay away after a 429 that does not say.
const DEFAULT_THROTTLE: Duration = Duration::from_secs(10);
/// How long to stay away after a 418 that does not say: the shortest ban there is.
const DEFAULT_BAN: Duration = Duration::from_secs(120);
/// The longest ban there is.
const MAX_BAN: Duration = Duration::from_secs(3 * 86_400);
/// No answer is larger than this (all of exchangeInfo is about 10 MB).
const MAX_BODY_BYTES: usize = 32 << 20;

/// Until when nothing may be sent, and whether that is a ban.
type Gate = Option<(Instant, bool)>;

/// Public REST calls, one after the other: a second one under way could not know that the first was told off. Once the exchange says 429 or 418 no call leaves this client until the time it named has passed.
pub struct RestClient {
    http: reqwest::Client,
    base: String,
    gate: Mutex<Gate>,
    turn: tokio::sync::Mutex<()>,
}

impl RestClient {
    /// A client. The process must have installed a TLS provider.
    ///
    /// # Errors
    /// [`VenueError::Config`]: no HTTP client can be made here.
    pub fn new(base: &str) -> Result<Self, VenueError> {
        let http = reqwest::Client::builder()
            .timeout(CALL_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| VenueError::Config(format!("http client: {error}")))?;
        Ok(Self { http, base: base.to_owned(), gate: Mutex::new(None), turn: tokio::sync::Mutex::new(()) })
    }

    /// Can the exchange be reached? Answers within 3 seconds.
    ///
    /// # Errors
    /// It cannot.
    pub async fn probe(&self) -> Result<(), VenueError> {
        let call = tokio::time::timeout(PROBE_TIMEOUT, self.get("/api/v3/ping"));
        call.await.map_err(|_| VenueError::Connection("no answer within 3 s".to_owned()))?.map(drop)
    }

    /// The book of `symbol`. `clock` is read when the answer is there.
    ///
    /// # Errors
    /// See [`VenueError`].
    pub async fn snapshot(&self, symbol: &Symbol, levels: u32, clock: &dyn Clock) -> Result<FeedEvent, VenueError> {
        let body = self.get(&format!("/api/v3/depth?symbol={symbol}&limit={levels}")).await?;
        feed::parse_snapshot(clock.now().as_ns(), &body, symbol)
    }

    /// The rules of these instruments, named for `venue`, and the exchange's filters for each.
    ///
    /// # Errors
    /// See [`VenueError`]; an unknown symbol is a [`VenueError::Refused`] of the exchange.
    pub async fn instruments(
        &self,
        symbols: &[Symbol],
        venue: Venue,
    ) -> Result<Vec<(Instrument, Filters)>, VenueError> {
        let list: Vec<String> = symbols.iter().map(|symbol| format!("%22{symbol}%22")).collect();
        let body = self.get(&format!("/api/v3/exchangeInfo?symbols=%5B{}%5D", list.join(","))).await?;
        read_instruments(&body, symbols, venue)
    }

    /// The exchange asked for quiet by another way (a refused websocket).
    pub(super) fn told_off(&self, banned: bool, retry_after_s: Option<u64>) -> VenueError {
        let default = if banned { DEFAULT_BAN } else { DEFAULT_THROTTLE };
        let pause = retry_after_s.map_or(default, Duration::from_secs).min(MAX_BAN);
        *self.gate.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now() + pause, banned));
        VenueError::RateLimited { retry_after_ms: millis(pause), banned }
    }

    /// How long nothing may be sent, and whether that is a ban.
    pub(super) fn quiet(&self) -> Option<(Duration, bool)> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, banned) = (*gate)?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            *gate = None;
            return None;
        }
        Some((left, banned))
    }

    async fn get(&self, path: &str) -> Result<String, VenueError> {
        let _turn = self.turn.lock().await;
        if let Some((left, banned)) = self.quiet() {
            return Err(VenueError::RateLimited { retry_after_ms: millis(left), banned });
        }
        let lost = |error: reqwest::Error| VenueError::Connection(error.without_url().to_string());
        let mut answer = self.http.get(format!("{}{path}", self.base)).send().await.map_err(lost)?;
        let status = answer.status().as_u16();
        if status == 429 || status == 418 {
            let header = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
            return Err(self.told_off(status == 418, header.and_then(|text| text.trim().parse().ok())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(VenueError::Malformed { what: "an answer without end".to_owned() });
            }
            body.extend_from_slice(&chunk);
        }
        let body = String::from_utf8(body)
            .map_err(|_| VenueError::Malformed { what: "an answer that is no text".to_owned() })?;
        if status != 200 {
            return Err(VenueError::Refused { status, body: body.chars().take(200).collect() });
        }
        Ok(body)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Deserialize)]
struct ExchangeInfo {
    symbols: Vec<SymbolInfo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SymbolInfo {
    symbol: String,
    status: String,
    base_asset: String,
    quote_asset: String,
    filters: serde_json::Value,
}

/// Reads exchangeInfo. An instrument that does not trade is left out; every one asked for must be in the answer.
///
/// # Errors
/// [`VenueError::Malformed`], [`VenueError::UnknownInstrument`].
pub fn read_instruments(
    body: &str,
    symbols: &[Symbol],
    venue: Venue,
) -> Result<Vec<(Instrument, Filters)>, VenueError> {
    let info: ExchangeInfo =
        serde_json::from_str(body).map_err(|error| VenueError::Malformed { what: format!("exchangeInfo: {error}") })?;
    let mut out = Vec::new();
    for symbol in symbols {
        let found = info.symbols.iter().find(|one| one.symbol == symbol.as_str());
        let one = found.ok_or_else(|| VenueError::UnknownInstrument(symbol.to_string()))?;
        if one.status != "TRADING" {
            tracing::warn!(%symbol, status = one.status, "instrument does not trade");
            continue;
        }
        let filters = Filters::parse(&one.filters)?;
        let id = InstrumentId { venue, symbol: symbol.clone() };
        let instrument = filters.instrument(id, one.base_asset.clone(), one.quote_asset.clone());
        out.push((instrument, filters));
    }
    Ok(out)
}
