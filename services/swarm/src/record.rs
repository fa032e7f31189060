//! `swarm record`: market data into a file in the format that `swarm replay` reads, `<local receive time, ns> <raw JSON of
//! the exchange>`, gzipped. Stopped by time, by Ctrl-C, or by the end of the source; the file is whole in each case.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use buy_bot::config::{ConfigError, checked};
use domain::market::Symbol;
use domain::money::{Price, Quantity};
use domain::time::{Clock, UnixMs};
use rust_decimal::Decimal;
use settings::Section;
use venues::VenueError;
use venues::binance::{BinanceConfig, BinanceSource};
use venues::builtin::{BuiltinConfig, BuiltinInstrument, BuiltinMarket};
use venues::feed::Recorder;
use venues::market::{MarketSource, SourceEvent};

use crate::replay::chain;

/// Why a recording could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The configuration file can't be read.
    #[error("file {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Faults of the configuration.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// The source or the file failed.
    #[error("recording")]
    Venue(#[from] VenueError),
    /// The exchange can't be reached.
    #[error("the exchange can't be reached")]
    Unreachable(#[source] VenueError),
    /// The async runtime did not start.
    #[error("async runtime")]
    Runtime(#[source] std::io::Error),
}

/// Where market data comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Market {
    /// The seeded market of `config/record.toml`.
    Builtin,
    /// Public Binance Spot streams, keyless.
    Binance,
}

/// Arguments of `swarm record`.
#[derive(Debug, Clone, clap::Args)]
pub struct RecordArgs {
    /// Where market data comes from.
    #[arg(long, value_enum)]
    pub market: Market,
    /// How long to record, seconds; the built-in market's own seconds, which take far less.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub seconds: u64,
    /// File to write, a name that ends in `.gz`; it must not exist.
    #[arg(long)]
    pub out: PathBuf,
    /// Instruments; all of `record.toml` when left out.
    #[arg(long, value_delimiter = ',')]
    pub symbols: Vec<String>,
    /// Seed of the built-in market.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder of record.toml.
    #[arg(long, env = "SWARM_CONFIG_DIR", default_value = "config")]
    pub config: PathBuf,
}

/// When the built-in market's recordings begin: five minutes before a midnight UTC (2026-01-02), so that most cross it.
const BUILTIN_START: UnixMs = UnixMs(1_767_311_700_000);

/// What was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Events written.
    pub events: u64,
    /// Times the source said that updates were lost; a snapshot follows each.
    pub losses: u64,
}

/// Reads `config/record.toml`: the built-in market with this seed.
///
/// # Errors
/// [`ConfigError`] with all faults.
pub fn parse(text: &str, seed: u64) -> Result<BuiltinConfig, ConfigError> {
    checked("record.toml", text, |section| BuiltinConfig {
        seed,
        step_ms: section.whole("step_ms", 1, 60_000),
        instruments: section.part("instruments", |part| Some(instruments(part))).unwrap_or_default(),
        script: Vec::new(),
    })
}

fn instruments(section: &mut Section<'_>) -> Vec<BuiltinInstrument> {
    let mut all = Vec::new();
    for name in section.keys() {
        let Some(symbol) = Symbol::parse(&name) else {
            section.note(&name, "no symbol");
            continue;
        };
        all.extend(section.part(&name, |part| instrument(part, symbol)));
    }
    all
}

/// `None` never happens without a fault: the bounds keep price and quantity positive.
fn instrument(part: &mut Section<'_>, symbol: Symbol) -> Option<BuiltinInstrument> {
    let least = Decimal::new(1, 8);
    let most = Decimal::from(1_000_000_000);
    let small = |part: &mut Section<'_>, key: &str| u32::try_from(part.whole(key, 0, 1_000)).unwrap_or(0);
    Some(BuiltinInstrument {
        symbol,
        base: part.text("base"),
        quote: part.text("quote"),
        start_price: Price::new(part.decimal("start_price", least, most)).ok()?,
        tick: part.decimal("tick", least, most),
        step: part.decimal("step", least, most),
        min_notional: part.decimal("min_notional", Decimal::ZERO, most),
        volatility_milli_percent: small(part, "volatility_milli_percent"),
        spread_ticks: small(part, "spread_ticks"),
        levels: usize::try_from(part.whole("levels", 1, 1_000)).unwrap_or(1),
        level_quantity: Quantity::new(part.decimal("level_quantity", least, most)).ok()?,
    })
}

/// Writes what `source` says until `stop` is ready or the source ends, and closes the file.
///
/// # Errors
/// [`VenueError::File`].
pub async fn record(
    source: &mut dyn MarketSource,
    out: &Path,
    stop: impl Future<Output = ()>,
) -> Result<Recorded, VenueError> {
    let mut recorder = Recorder::create(out)?;
    let mut recorded = Recorded::default();
    let mut stop = std::pin::pin!(stop);
    loop {
        let event = tokio::select! {
            biased;
            () = &mut stop => break,
            event = source.next() => event,
        };
        match event {
            None => break,
            Some(SourceEvent::Feed(event)) => {
                recorder.write(&event)?;
                recorded.events += 1;
            }
            Some(SourceEvent::Lost { reason, .. }) => {
                tracing::warn!(reason, "market data was lost");
                recorded.losses += 1;
            }
        }
    }
    recorder.finish()?;
    Ok(recorded)
}

/// Runs `swarm record`: 0 when the file is written, 64 for faults of configuration, 69 when the exchange can't be
/// reached, 74 when the file can't be written.
#[must_use]
pub fn command(args: &RecordArgs) -> ExitCode {
    match run(args) {
        Ok(recorded) => {
            println!("{} events, {} losses, {}", recorded.events, recorded.losses, args.out.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("swarm record: {}", chain(&error));
            ExitCode::from(match error {
                RecordError::Config(_) | RecordError::Venue(VenueError::Config(_)) => 64,
                RecordError::Unreachable(_) => 69,
                _ => 74,
            })
        }
    }
}

fn run(args: &RecordArgs) -> Result<Recorded, RecordError> {
    if args.out.extension().is_none_or(|extension| extension != "gz") {
        return Err(VenueError::Config("a recording is gzipped: its name ends in .gz".to_owned()).into());
    }
    let path = args.config.join("record.toml");
    let text = std::fs::read_to_string(&path).map_err(|source| RecordError::File { path, source })?;
    let mut market = parse(&text, args.seed)?;
    if !args.symbols.is_empty() {
        market.instruments.retain(|instrument| args.symbols.iter().any(|name| name == instrument.symbol.as_str()));
    }
    if args.market == Market::Builtin {
        return Ok(record_builtin(market, args.seconds, &args.out)?);
    }
    tokio::runtime::Runtime::new().map_err(RecordError::Runtime)?.block_on(from_binance(args, &market))
}

/// Writes `seconds` of the built-in market in its own time, as fast as it can be computed: the same seed and length give
/// the same events.
///
/// # Errors
/// [`VenueError`].
pub fn record_builtin(market: BuiltinConfig, seconds: u64, out: &Path) -> Result<Recorded, VenueError> {
    let mut market = BuiltinMarket::new(market, BUILTIN_START)?;
    let mut recorder = Recorder::create(out)?;
    let mut recorded = Recorded::default();
    for second in 1..=i64::try_from(seconds).unwrap_or(i64::MAX) {
        for event in market.advance_to(BUILTIN_START.plus_ms(second.saturating_mul(1_000))) {
            recorder.write(&event)?;
            recorded.events += 1;
        }
    }
    recorder.finish()?;
    Ok(recorded)
}

async fn from_binance(args: &RecordArgs, market: &BuiltinConfig) -> Result<Recorded, RecordError> {
    let clock: Arc<dyn Clock> = Arc::new(runtime::clock::SystemClock);
    // A second call in one process finds it installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut source = BinanceSource::start(BinanceConfig::public(wanted(args, market)), clock)?;
    source.probe().await.map_err(RecordError::Unreachable)?;
    let stop = async {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(args.seconds)) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    Ok(record(&mut source, &args.out, stop).await?)
}

/// Binance knows more than the built-in market does: symbols given by name are taken as they are.
fn wanted(args: &RecordArgs, market: &BuiltinConfig) -> Vec<Symbol> {
    if args.symbols.is_empty() {
        return market.instruments.iter().map(|instrument| instrument.symbol.clone()).collect();
    }
    args.symbols.iter().filter_map(|name| Symbol::parse(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use domain::market::{Instrument, Venue};
    use venues::feed::{self, FeedEvent};

    const TEXT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/record.toml"));

    /// Says what it was given and then ends, or waits for ever.
    struct Told {
        events: std::vec::IntoIter<SourceEvent>,
        ends: bool,
    }

    #[async_trait]
    impl MarketSource for Told {
        async fn instruments(&mut self, _venue: Venue) -> Result<Vec<Instrument>, VenueError> {
            Ok(Vec::new())
        }

        async fn next(&mut self) -> Option<SourceEvent> {
            match self.events.next() {
                None if !self.ends => std::future::pending().await,
                event => event,
            }
        }
    }

    #[test]
    fn the_shipped_file_is_read_and_every_line_is_required() {
        assert_eq!(parse(TEXT, 1).unwrap().instruments.len(), 2);
        for line in TEXT.lines().filter(|line| line.contains(" = ")) {
            assert!(parse(&TEXT.replacen(line, "", 1), 1).is_err(), "still read without: {line}");
        }
    }

    #[tokio::test]
    async fn what_is_recorded_reads_back_as_the_same_events() {
        let mut market = BuiltinMarket::new(parse(TEXT, 3).unwrap(), UnixMs(1_723_161_600_000)).unwrap();
        let said = market.advance_to(UnixMs(1_723_161_605_000));
        let folder = tempfile::tempdir().unwrap();
        for ends in [true, false] {
            let out = folder.path().join(format!("{ends}.gz"));
            let mut events: Vec<SourceEvent> = said.iter().cloned().map(SourceEvent::Feed).collect();
            events.push(SourceEvent::Lost { symbol: None, reason: "test".into() });
            let mut source = Told { events: events.into_iter(), ends };
            // Stops once the source has nothing more to say: the stop is ready only when it is asked after that.
            let mut asked = 0;
            let last = said.len() + 1;
            let stop = std::future::poll_fn(|_| {
                asked += 1;
                if asked > last { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            });
            let recorded = record(&mut source, &out, stop).await.unwrap();
            assert_eq!(recorded, Recorded { events: said.len() as u64, losses: 1 });
            let read: Vec<FeedEvent> = feed::open(&out).unwrap().map(Result::unwrap).collect();
            assert_eq!(read, said);
        }
    }

    #[test]
    fn the_built_in_market_is_recorded_in_its_own_time_and_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, seconds| {
            let out = folder.path().join(name);
            let recorded = record_builtin(parse(TEXT, 5).unwrap(), seconds, &out).unwrap();
            let events: Vec<FeedEvent> = feed::open(&out).unwrap().map(Result::unwrap).collect();
            assert_eq!(recorded.events, events.len() as u64);
            events
        };
        let events = read("a.gz", 400);
        assert_eq!(events, read("b.gz", 400));
        let days: std::collections::BTreeSet<i64> = events.iter().map(|e| e.received_at().day()).collect();
        assert_eq!(days.len(), 2, "it crosses midnight");
    }

    #[tokio::test]
    async fn a_recording_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("there.gz");
        std::fs::write(&out, "precious").unwrap();
        let mut source = Told { events: Vec::new().into_iter(), ends: true };
        assert!(record(&mut source, &out, std::future::pending()).await.is_err());
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "precious");
    }
}
