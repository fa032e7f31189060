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

impl Raw {
    /// What is out of the bounds in which the desk, its market and its exchange work.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.to_owned());
            }
        };
        let day = 1_000..=domain::time::DAY_MS;
        let intervals = &self.candle_intervals_ms;
        check((1..=60_000).contains(&self.step_ms), "step_ms: from 1 to 60000");
        check(
            (1..=16).contains(&intervals.len()) && intervals.iter().all(|ms| day.contains(ms)),
            "candle_intervals_ms: 1 to 16 of them, each from 1000 to a day",
        );
        let percent = Decimal::ZERO..=Decimal::TEN;
        check(percent.contains(&self.paper.maker_fee_percent), "paper.maker_fee_percent: from 0 to 10");
        check(percent.contains(&self.paper.taker_fee_percent), "paper.taker_fee_percent: from 0 to 10");
        let [least, most] = self.paper.latency_ms;
        check(least <= most && most <= 60_000, "paper.latency_ms: lowest first, at most 60000");
        check(self.paper.reject_bps <= 10_000, "paper.reject_bps: at most 10000");
        check(self.paper.lost_reply_bps <= 10_000, "paper.lost_reply_bps: at most 10000");
        let trillion = Decimal::from(domain::money::MAX_MAGNITUDE);
        check((Decimal::ZERO..=trillion).contains(&self.paper.opening_usd), "paper.opening_usd: from 0 to 1e12");
        for instrument in &self.instrument {
            let mut check = |holds: bool, what: &str| check(holds, &format!("{}: {what}", instrument.symbol));
            let amounts = Decimal::new(1, 8)..=Decimal::from(1_000_000_000);
            check(amounts.contains(&instrument.start_price.value()), "start_price: from 0.00000001 to 1e9");
            check(amounts.contains(&instrument.tick), "tick: from 0.00000001 to 1e9");
            check(amounts.contains(&instrument.step), "step: from 0.00000001 to 1e9");
            check(amounts.contains(&instrument.level_quantity.value()), "level_quantity: from 0.00000001 to 1e9");
            check(
                instrument.min_notional >= Decimal::ZERO && instrument.min_notional <= *amounts.end(),
                "min_notional: from 0 to 1e9",
            );
            check(instrument.volatility_milli_percent <= 1_000, "volatility_milli_percent: at most 1000");
            check((1..=1_000).contains(&instrument.spread_ticks), "spread_ticks: from 1 to 1000");
            check((1..=1_000).contains(&instrument.levels), "levels: from 1 to 1000");
        }
        faults
    }
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
            .and_then(|text| read(&text))
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
        Self::check(read(text).map_err(|fault| vec![fault])?, verifier, None, None)
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
        faults.extend(raw.faults());
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

fn read(text: &str) -> Result<Raw, String> {
    toml::from_str(text).map_err(|error| error.message().to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/desk.toml"));

    #[test]
    fn the_shipped_file_is_read() {
        assert_eq!(Config::parse(SHIPPED, PermitVerifier::default()).unwrap().market, MarketKind::Auto);
    }

    #[test]
    fn a_number_beyond_its_bounds_is_a_fault_of_its_own() {
        for (old, new, fault) in [
            ("step_ms = 250", "step_ms = 9223372036854775807", "step_ms"),
            ("[15000, 60000]", "[999]", "candle_intervals_ms"),
            ("[15000, 60000]", "[9223372036854775807]", "candle_intervals_ms"),
            ("maker_fee_percent = \"0.1\"", "maker_fee_percent = \"-1\"", "paper.maker_fee_percent"),
            ("taker_fee_percent = \"0.1\"", "taker_fee_percent = \"100\"", "paper.taker_fee_percent"),
            ("[5, 25]", "[25, 5]", "paper.latency_ms"),
            ("[5, 25]", "[5, 18446744073709551]", "paper.latency_ms"),
            ("reject_bps = 0", "reject_bps = 10001", "paper.reject_bps"),
            ("lost_reply_bps = 0", "lost_reply_bps = 10001", "paper.lost_reply_bps"),
            ("\"100000000\"", "\"-1\"", "paper.opening_usd"),
            ("\"100000000\"", "\"79228162514264337593543950335\"", "paper.opening_usd"),
            ("\"60000\"", "\"1000000001\"", "BTCUSDT: start_price"),
            ("tick = \"0.01\"", "tick = \"0\"", "BTCUSDT: tick"),
            ("step = \"0.00001\"", "step = \"-1\"", "BTCUSDT: step"),
            ("min_notional = \"5\"", "min_notional = \"-5\"", "BTCUSDT: min_notional"),
            ("volatility_milli_percent = 20", "volatility_milli_percent = 1001", "BTCUSDT: volatility_milli_percent"),
            ("spread_ticks = 2", "spread_ticks = 0", "BTCUSDT: spread_ticks"),
            ("levels = 20", "levels = 9223372036854775807", "BTCUSDT: levels"),
            ("level_quantity = \"0.5\"", "level_quantity = \"0\"", "BTCUSDT: level_quantity"),
        ] {
            let text = SHIPPED.replacen(old, new, 1);
            assert_ne!(text, SHIPPED, "{old}");
            let faults = Config::parse(&text, PermitVerifier::default()).unwrap_err();
            assert!(faults.len() == 1 && faults[0].starts_with(fault), "{new}: {faults:?}");
        }
    }
}
