//! Contents of `config/replay.toml`.

use buy_bot::config::{ConfigError, StrategiesConfig, checked};
use domain::market::{Instrument, InstrumentId, Symbol, Venue};
use domain::money::Usd;
use rust_decimal::Decimal;
use settings::Section;

/// How a replay runs. The seed is not in here: it belongs to the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayConfig {
    /// Length of the bars built from trades, ms.
    pub candle_interval_ms: i64,
    /// How long a bar waits for trades still on the way, ms.
    pub candle_grace_ms: i64,
    /// Cash at the first event.
    pub opening_balance: Usd,
    /// Fee of an order that rested, percent of notional.
    pub maker_fee_percent: Decimal,
    /// Fee of an order that took, percent of notional.
    pub taker_fee_percent: Decimal,
    /// Between decision and matching, ms: least.
    pub latency_min_ms: u64,
    /// Between decision and matching, ms: most.
    pub latency_max_ms: u64,
    /// Orders the venue refuses for no reason, in hundredths of a percent.
    pub reject_bps: u32,
    /// The strategies, in the form of `config/strategies.toml`.
    pub strategies: StrategiesConfig,
    /// Rules of the instruments that may appear.
    pub instruments: Vec<Instrument>,
}

impl ReplayConfig {
    /// Reads the text of `config/replay.toml`.
    ///
    /// # Errors
    /// [`ConfigError`] with all faults.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config = checked("replay.toml", text, |section| {
            let percent = (Decimal::ZERO, Decimal::TEN);
            Some(Self {
                candle_interval_ms: section.whole("candle_interval_ms", 1_000, domain::time::DAY_MS),
                candle_grace_ms: section.whole("candle_grace_ms", 0, 60_000),
                opening_balance: opening(section),
                maker_fee_percent: section.decimal("maker_fee_percent", percent.0, percent.1),
                taker_fee_percent: section.decimal("taker_fee_percent", percent.0, percent.1),
                latency_min_ms: section.whole("latency_min_ms", 0, 60_000).unsigned_abs(),
                latency_max_ms: section.whole("latency_max_ms", 0, 60_000).unsigned_abs(),
                reject_bps: u32::try_from(section.whole("reject_bps", 0, 10_000)).unwrap_or(0),
                strategies: section.part("strategies", |part| Some(StrategiesConfig::read(part)))?,
                instruments: section.part("instruments", |part| Some(instruments(part)))?,
            })
        })?;
        let faulty = |fault: &str| ConfigError { file: "replay.toml", faults: vec![fault.to_owned()] };
        let config = config.ok_or_else(|| faulty("no strategies or no instruments"))?;
        if config.latency_min_ms > config.latency_max_ms {
            return Err(faulty("latency_max_ms: less than latency_min_ms"));
        }
        Ok(config)
    }
}

fn opening(section: &mut Section<'_>) -> Usd {
    Usd::new(section.decimal("opening_balance_usd", Decimal::ONE, Decimal::from(1_000_000_000))).unwrap_or(Usd::ZERO)
}

fn instruments(section: &mut Section<'_>) -> Vec<Instrument> {
    let mut all = Vec::new();
    for name in section.keys() {
        let Some(symbol) = Symbol::parse(&name) else {
            section.note(&name, "no symbol");
            continue;
        };
        let id = InstrumentId { venue: Venue::Paper, symbol };
        all.extend(section.part(&name, |part| {
            let a_million = Decimal::from(1_000_000);
            let least = Decimal::new(1, 18);
            Some(Instrument {
                id,
                base: part.text("base"),
                quote: part.text("quote"),
                tick: part.decimal("tick", least, a_million),
                step: part.decimal("step", least, a_million),
                min_quantity: part.decimal("min_quantity", Decimal::ZERO, a_million),
                max_quantity: part.decimal("max_quantity", Decimal::ZERO, Decimal::from(1_000_000_000)),
                min_notional: part.decimal("min_notional", Decimal::ZERO, a_million),
            })
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::ReplayConfig;

    #[test]
    fn the_shipped_file_is_read_and_every_line_is_required() {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/replay.toml"));
        let config = ReplayConfig::parse(text).unwrap();
        assert_eq!(config.instruments.len(), 2);
        for line in text.lines().filter(|line| line.contains(" = ")) {
            assert!(ReplayConfig::parse(&text.replacen(line, "", 1)).is_err(), "still read without: {line}");
        }
    }
}
