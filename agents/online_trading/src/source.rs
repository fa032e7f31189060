//! Opens the market and the paper exchange, and steers a scripted market for demos and drills.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use domain::market::{Instrument, Symbol};
use domain::money::Price;
use futures::StreamExt;
use runtime::{HandleError, Record, Work};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use venues::binance::BinanceConfig;
use venues::market::{BinanceSource, BuiltinSource, MarketSource, Steering};
use venues::paper::{PaperConfig, PaperExchange};

use crate::config::{Config, MarketKind};
use crate::{VENUE, nobody};

/// Oldest book the paper exchange matches against, ms.
const MAX_BOOK_AGE_MS: i64 = 30_000;

/// The folder of the journal within the data folder: the one place there that this process writes.
pub(crate) const FOLDER: &str = "paper";

/// What the desk works with.
pub struct Opened {
    /// Market data.
    pub source: Box<dyn MarketSource>,
    /// Its instruments.
    pub instruments: Vec<Instrument>,
    /// The exchange.
    pub paper: PaperExchange,
    /// Where prices are sent, for a scripted market.
    pub steering: Option<Steering>,
}

/// Opens the market and takes the exchange's journal over. It needs no store: what rests at the exchange must be in reach
/// while the store is away.
///
/// # Errors
/// [`HandleError::Fatal`] when there is no market or the journal can't be taken over.
pub async fn open(config: &Config, data_dir: &Path, work: &Work) -> Result<Opened, HandleError> {
    let fatal = |error: venues::VenueError| HandleError::Fatal(error.to_string());
    let (mut source, steering, name) = choose(config, work).await?;
    let instruments = source.instruments(VENUE).await.map_err(fatal)?;
    tracing::info!(market = name, instruments = instruments.len(), "market data");
    metrics::gauge!("swarm_market_info", "market" => name).set(1.0);
    let journal = journal(data_dir);
    let folder = journal.parent().unwrap_or(data_dir);
    std::fs::create_dir_all(folder).map_err(|error| HandleError::Fatal(format!("{}: {error}", folder.display())))?;
    let paper = PaperExchange::open(paper(config, instruments.clone(), &journal), work.clock.clone()).map_err(fatal)?;
    Ok(Opened { source, instruments, paper, steering })
}

/// Writes the market's instruments into their table.
///
/// # Errors
/// Store failures.
pub async fn store_instruments(instruments: &[Instrument], work: &impl Record) -> Result<(), HandleError> {
    let mut unit = work.begin(nobody()).await?;
    for instrument in instruments {
        store::instruments::upsert(&mut unit, instrument).await?;
    }
    Ok(unit.commit().await?)
}

/// Where the exchange's journal lies in a data folder.
#[must_use]
pub fn journal(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER).join(format!("{VENUE}.journal"))
}

/// How the paper exchange of this desk is set up.
pub(crate) fn paper(config: &Config, instruments: Vec<Instrument>, journal: &Path) -> PaperConfig {
    let opening: BTreeMap<String, Decimal> =
        instruments.iter().map(|instrument| (instrument.quote.clone(), config.opening_usd)).collect();
    PaperConfig {
        venue: VENUE,
        instruments,
        opening,
        maker_fee_percent: config.maker_fee_percent,
        taker_fee_percent: config.taker_fee_percent,
        latency_ms: config.latency_ms.0..=config.latency_ms.1,
        reject_bps: config.reject_bps,
        lost_reply_bps: config.lost_reply_bps,
        max_book_age_ms: MAX_BOOK_AGE_MS,
        seed: config.builtin.seed,
        journal: journal.to_owned(),
    }
}

type Chosen = (Box<dyn MarketSource>, Option<Steering>, &'static str);

async fn choose(config: &Config, work: &Work) -> Result<Chosen, HandleError> {
    let fatal = |error: venues::VenueError| HandleError::Fatal(error.to_string());
    if matches!(config.market, MarketKind::Auto | MarketKind::Binance) {
        let symbols = config.builtin.instruments.iter().map(|i| i.symbol.clone()).collect();
        let wanted = BinanceConfig {
            rest_url: config.binance_rest_url.clone(),
            stream_url: config.binance_ws_url.clone(),
            ..BinanceConfig::public(symbols)
        };
        let source = BinanceSource::start(wanted, work.clock.clone()).map_err(fatal)?;
        match (source.probe().await, config.market) {
            (Ok(()), _) => return Ok((Box::new(source), None, "binance")),
            (Err(error), MarketKind::Binance) => return Err(HandleError::Fatal(format!("Binance: {error}"))),
            (Err(error), _) => tracing::info!(%error, "Binance can't be reached: the built-in market it is"),
        }
    }
    let source = BuiltinSource::start(config.builtin.clone(), work.clock.clone()).map_err(fatal)?;
    let steering = source.steering();
    if config.market == MarketKind::Scripted {
        Ok((Box::new(source), Some(steering), "scripted"))
    } else {
        Ok((Box::new(source), None, "builtin"))
    }
}

/// Answers `swarm.market` (`{"symbol":"BTCUSDT","price":"61000"}`) until shutdown. Any other market than a scripted one
/// answers that it can't be steered.
///
/// # Errors
/// [`HandleError::Fatal`] when the subject can't be subscribed to.
pub async fn serve(steering: Option<Steering>, work: &Work) -> Result<(), HandleError> {
    let client = work.bus.client();
    let mut requests = client.subscribe("swarm.market").await.map_err(|error| HandleError::Fatal(error.to_string()))?;
    loop {
        let request = tokio::select! {
            () = work.shutdown.cancelled() => return Ok(()),
            next = requests.next() => match next {
                Some(request) => request,
                None => return Ok(()),
            },
        };
        let answer = steer(steering.as_ref(), &request.payload);
        if let Some(reply) = request.reply {
            let bytes = serde_json::to_vec(&answer).unwrap_or_default();
            if let Err(error) = client.publish(reply, bytes.into()).await {
                tracing::warn!(%error, "answer not sent");
            }
        }
    }
}

fn steer(steering: Option<&Steering>, payload: &[u8]) -> Value {
    let refused = |code: &str, detail: &str| json!({ "ok": false, "code": code, "detail": detail });
    let Some(steering) = steering else {
        return refused("NOT_SCRIPTED", "only a scripted market goes where it is sent (`swarm up --market scripted`)");
    };
    let wish = serde_json::from_slice::<Value>(payload).ok().and_then(|value| {
        let symbol = Symbol::parse(value.get("symbol")?.as_str()?)?;
        let price = Price::parse(value.get("price")?.as_str()?).ok()?;
        Some((symbol, price))
    });
    let Some((symbol, price)) = wish else {
        return refused("BAD_JSON", "send {\"symbol\":\"BTCUSDT\",\"price\":\"61000\"}");
    };
    match steering.set_price(&symbol, price) {
        Ok(()) => json!({ "ok": true, "symbol": symbol, "price": price }),
        Err(error) => refused("UNKNOWN_INSTRUMENT", &error.to_string()),
    }
}
