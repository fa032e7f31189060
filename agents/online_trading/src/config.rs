//! The desk's configuration: `config/desk.toml`, and what `swarm up` says in the environment.

use std::path::Path;

use domain::market::Symbol;
use domain::money::{Price, Quantity};
use rails::signature::{PermitVerifier, parse_public_key};
use rust_decimal::Decimal;
use serde::Deserialize;
use venues::builtin::{BuiltinConfig, BuiltinInstrument};

/// Which market the desk follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarketKind {
    /// The public Binance feed when it can be reached, the built-in market otherwise.
    Auto,
    /// The public Binance feed.
    Binance,
    /// The seeded built-in market.
    Builtin,
    /// A market that stands still until it is told where to go, for demos and drills.
    Scripted,
}

impl MarketKind {
    /// Reads its word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "auto" => Some(Self::Auto),
            "binance" => Some(Self::Binance),
            "builtin" => Some(Self::Builtin),
            "scripted" => Some(Self::Scripted),
            _ => None,
        }
    }
}

/// Checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which market.
    pub market: MarketKind,
    /// The built-in market, and the instruments traded.
    pub builtin: BuiltinConfig,
    /// Lengths of candles, ms.
    pub candle_intervals_ms: Vec<i64>,
    /// Fee of an order that rested, percent of notional.
    pub maker_fee_percent: Decimal,
    /// Fee of an order that took, percent of notional.
    pub taker_fee_percent: Decimal,
    /// Time between sending and matching, ms, lowest and highest.
    pub latency_ms: (u64, u64),
    /// Orders refused for no reason, hundredths of a percent.
    pub reject_bps: u32,
    /// Orders whose reply is lost, hundredths of a percent.
    pub lost_reply_bps: u32,
    /// Dollars of the paper account at the exchange on its first start.
    pub opening_usd: Decimal,
    /// REST address of the public Binance interface.
    pub binance_rest_url: String,
    /// Websocket address of the public Binance streams.
    pub binance_ws_url: String,
    /// Checks permits.
    pub verifier: PermitVerifier,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    market: String,
    seed: u64,
    step_ms: i64,
    candle_intervals_ms: Vec<i64>,
    paper: RawPaper,
    binance: RawBinance,
    instrument: Vec<RawInstrument>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPaper {
    maker_fee_percent: Decimal,
    taker_fee_percent: Decimal,
    latency_ms: [u64; 2],
    reject_bps: u32,
    lost_reply_bps: u32,
    opening_usd: Decimal,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBinance {
    rest_url: String,
    ws_url: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInstrument {
    symbol: Symbol,
    base: String,
    quote: String,
    start_price: Price,
    tick: Decimal,
    step: Decimal,
    min_notional: Decimal,
    volatility_milli_percent: u32,
    spread_ticks: u32,
    levels: usize,
    level_quantity: Quantity,
}

impl Config {
    /// Reads `desk.toml` from `config_dir` and the public permit keys from `keys_file` (one of 64 hex digits a line).
    /// `market` and `seed` override the file.
    ///
    /// # Errors
    /// One line per fault.
    pub fn load(
        config_dir: &Path,
        keys_file: Option<&Path>,
        market: Option<&str>,
        seed: Option<&str>,
    ) -> Result<Self, Vec<String>> {
        let file = config_dir.join("desk.toml");
        let mut faults = Vec::new();
        let verifier = match keys_file {
            None => Err("SWARM_PERMIT_PUBLIC_KEYS_FILE is not set: the desk could not check any permit".to_owned()),
            Some(keys) => read_keys(keys),
        }
        .map_err(|fault| faults.push(fault))
        .ok();
        let raw = std::fs::read_to_string(&file)
            .map_err(|error| error.to_string())
            .and_then(|text| toml::from_str::<Raw>(&text).map_err(|error| error.message().to_owned()))
            .map_err(|error| faults.push(format!("{}: {error}", file.display())))
            .ok();
        let (Some(verifier), Some(raw)) = (verifier, raw) else { return Err(faults) };
        Self::check(raw, verifier, market, seed)
    }

    /// Takes the text of `desk.toml` and what checks permits.
    ///
    /// # Errors
    /// One line per fault.
    pub fn parse(text: &str, verifier: PermitVerifier) -> Result<Self, Vec<String>> {
        let raw = toml::from_str::<Raw>(text).map_err(|error| vec![error.message().to_owned()])?;
        Self::check(raw, verifier, None, None)
    }

    fn check(
        raw: Raw,
        verifier: PermitVerifier,
        market: Option<&str>,
        seed: Option<&str>,
    ) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let word = market.unwrap_or(&raw.market);
        let market = MarketKind::parse(word);
        if market.is_none() {
            faults.push(format!("market: {word} is not one of auto, binance, builtin, scripted"));
        }
        let seed = seed.map_or(Some(raw.seed), |text| text.parse().ok());
        if seed.is_none() {
            faults.push("seed: not a whole number".to_owned());
        }
        if raw.candle_intervals_ms.is_empty() || raw.candle_intervals_ms.iter().any(|ms| *ms < 1_000) {
            faults.push("candle_intervals_ms: at least one, each at least 1000".to_owned());
        }
        if raw.paper.latency_ms[0] > raw.paper.latency_ms[1] {
            faults.push("paper.latency_ms: lowest first".to_owned());
        }
        let (Some(market), Some(seed), true) = (market, seed, faults.is_empty()) else { return Err(faults) };
        let still = market == MarketKind::Scripted;
        let instruments = raw.instrument.into_iter().map(|i| BuiltinInstrument {
            symbol: i.symbol,
            base: i.base,
            quote: i.quote,
            start_price: i.start_price,
            tick: i.tick,
            step: i.step,
            min_notional: i.min_notional,
            volatility_milli_percent: if still { 0 } else { i.volatility_milli_percent },
            spread_ticks: i.spread_ticks,
            levels: i.levels,
            level_quantity: i.level_quantity,
        });
        Ok(Self {
            market,
            builtin: BuiltinConfig {
                seed,
                step_ms: raw.step_ms,
                instruments: instruments.collect(),
                script: Vec::new(),
            },
            candle_intervals_ms: raw.candle_intervals_ms,
            maker_fee_percent: raw.paper.maker_fee_percent,
            taker_fee_percent: raw.paper.taker_fee_percent,
            latency_ms: (raw.paper.latency_ms[0], raw.paper.latency_ms[1]),
            reject_bps: raw.paper.reject_bps,
            lost_reply_bps: raw.paper.lost_reply_bps,
            opening_usd: raw.paper.opening_usd,
            binance_rest_url: raw.binance.rest_url,
            binance_ws_url: raw.binance.ws_url,
            verifier,
        })
    }
}

fn read_keys(file: &Path) -> Result<PermitVerifier, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let keys: Result<Vec<_>, _> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(parse_public_key)
        .collect();
    match keys {
        Ok(keys) if !keys.is_empty() => Ok(PermitVerifier::new(keys)),
        Ok(_) => Err(format!("{}: no public key in it", file.display())),
        Err(fault) => Err(format!("{}: {fault}", file.display())),
    }
}
