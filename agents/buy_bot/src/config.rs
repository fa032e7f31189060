//! Configuration: text in, checked values out, all faults at once. No value has a default. What is in `review.toml` is told in
//! [`crate::review`].

use std::path::Path;

use domain::market::{Symbol, Venue};
use domain::money::Usd;
use domain::order::TimeInForce;
use runtime::ConfigFaults;
use rust_decimal::Decimal;
use settings::Section;

use crate::review::ReviewConfig;
use crate::strategy::mean_reversion::MeanReversionRules;
use crate::strategy::trend::TrendRules;

/// Everything wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {}", faults.join("; "))]
pub struct ConfigError {
    /// Which file.
    pub file: &'static str,
    /// One line per fault.
    pub faults: Vec<String>,
}

/// Contents of `config/planner.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannerConfig {
    /// Where exchange symbols go.
    pub cex_venue: Venue,
    /// Where mint addresses go.
    pub dex_venue: Venue,
    /// Distance of the worst price from the mark when the signal names none, percent.
    pub default_slippage_percent: Decimal,
    /// Oldest mark that counts, ms.
    pub mark_max_age_ms: i64,
    /// Life of a signal that does not say its own, ms.
    pub signal_ttl_ms: i64,
    /// Time in force of signals with a price limit.
    pub limit_time_in_force: TimeInForce,
}

/// Contents of `config/strategies.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrategiesConfig {
    /// Strategies run at all.
    pub enabled: bool,
    /// Handle of the user whose money they use.
    pub user: String,
    /// Symbols of the planner's exchange venue.
    pub instruments: Vec<Symbol>,
    /// Length of the bars they read, ms.
    pub interval_ms: i64,
    /// Life of their signals, ms.
    pub signal_ttl_ms: i64,
    /// The trend strategy; `None` when it is off.
    pub trend: Option<TrendRules>,
    /// The mean reversion strategy; `None` when it is off.
    pub mean_reversion: Option<MeanReversionRules>,
}

const LONGEST_WINDOW_BARS: i64 = 10_000;
const LONGEST_TTL_MS: i64 = 3_600_000;

impl PlannerConfig {
    /// Reads the text of `config/planner.toml`.
    ///
    /// # Errors
    /// [`ConfigError`] with all faults.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        checked("planner.toml", text, |section| Self {
            cex_venue: section.choice("cex_venue", &[("paper", Venue::Paper), ("binance", Venue::Binance)]),
            dex_venue: section.choice("dex_venue", &[("paper_dex", Venue::PaperDex), ("jupiter", Venue::Jupiter)]),
            default_slippage_percent: section.decimal("default_slippage_percent", Decimal::ZERO, Decimal::TEN),
            mark_max_age_ms: section.whole("mark_max_age_ms", 1, LONGEST_TTL_MS),
            signal_ttl_ms: section.whole("signal_ttl_ms", 1, LONGEST_TTL_MS),
            limit_time_in_force: section.choice(
                "limit_time_in_force",
                &[("ioc", TimeInForce::ImmediateOrCancel), ("gtc", TimeInForce::GoodTillCancelled)],
            ),
        })
    }
}

impl StrategiesConfig {
    /// Reads the text of `config/strategies.toml`.
    ///
    /// # Errors
    /// [`ConfigError`] with all faults.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        checked("strategies.toml", text, Self::read)
    }

    /// Reads the keys of one section; faults are noted in it.
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            enabled: section.flag("enabled"),
            user: section.text("user"),
            instruments: section.symbols("instruments"),
            interval_ms: section.whole("interval_ms", 1_000, domain::time::DAY_MS),
            signal_ttl_ms: section.whole("signal_ttl_ms", 1, LONGEST_TTL_MS),
            trend: section.part("trend", |part| {
                let enabled = part.flag("enabled");
                let rules = TrendRules {
                    entry_bars: bars(part, "entry_bars"),
                    exit_bars: bars(part, "exit_bars"),
                    atr_bars: bars(part, "atr_bars"),
                    stop_atrs: part.decimal("stop_atrs", Decimal::new(1, 2), Decimal::ONE_HUNDRED),
                    sizing: sizing(part),
                };
                enabled.then_some(rules)
            }),
            mean_reversion: section.part("mean_reversion", |part| {
                let enabled = part.flag("enabled");
                let rules = MeanReversionRules {
                    window_bars: bars(part, "window_bars"),
                    entry_sigmas: part.decimal("entry_sigmas", Decimal::new(1, 2), Decimal::ONE_HUNDRED),
                    stop_sigmas: part.decimal("stop_sigmas", Decimal::new(1, 2), Decimal::ONE_HUNDRED),
                    sizing: sizing(part),
                };
                enabled.then_some(rules)
            }),
        }
    }
}

/// Everything in the files of this agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// `planner.toml`.
    pub planner: PlannerConfig,
    /// `strategies.toml`.
    pub strategies: StrategiesConfig,
    /// `review.toml`.
    pub review: ReviewConfig,
}

/// Reads `planner.toml`, `strategies.toml` and `review.toml` of a configuration folder; the faults of all at once.
///
/// # Errors
/// Every fault found, each with its file.
pub fn load(folder: &Path) -> Result<Config, ConfigFaults> {
    let mut faults = ConfigFaults::new();
    let planner = read_file(folder, "planner.toml", PlannerConfig::parse, &mut faults);
    let strategies = read_file(folder, "strategies.toml", StrategiesConfig::parse, &mut faults);
    let review = read_file(folder, "review.toml", ReviewConfig::parse, &mut faults);
    match (planner, strategies, review) {
        (Some(planner), Some(strategies), Some(review)) => Ok(Config { planner, strategies, review }),
        _ => Err(faults),
    }
}

fn read_file<T>(
    folder: &Path,
    file: &str,
    parse: impl FnOnce(&str) -> Result<T, ConfigError>,
    faults: &mut ConfigFaults,
) -> Option<T> {
    match std::fs::read_to_string(folder.join(file)) {
        Ok(text) => {
            parse(&text).map_err(|error| error.faults.into_iter().for_each(|fault| faults.add(error.file, fault))).ok()
        }
        Err(error) => {
            faults.add(file, error);
            None
        }
    }
}

fn bars(part: &mut Section<'_>, key: &str) -> usize {
    usize::try_from(part.whole(key, 2, LONGEST_WINDOW_BARS)).unwrap_or(2)
}

fn sizing(part: &mut Section<'_>) -> crate::strategy::Sizing {
    let a_million = Decimal::from(1_000_000);
    let mut dollars = |key: &str| Usd::new(part.decimal(key, Decimal::new(1, 2), a_million)).unwrap_or(Usd::ZERO);
    let risk_per_trade_usd = dollars("risk_per_trade_usd");
    let max_notional_usd = dollars("max_notional_usd");
    crate::strategy::Sizing {
        risk_per_trade_usd,
        max_notional_usd,
        min_stop_percent: part.decimal("min_stop_percent", Decimal::ZERO, Decimal::from(50)),
        max_bars: u32::try_from(part.whole("max_bars", 1, LONGEST_WINDOW_BARS)).unwrap_or(1),
    }
}

/// Parses `text`, lets `read` take its keys, and refuses when anything was wrong or left over.
///
/// # Errors
/// [`ConfigError`] with all faults.
pub fn checked<T>(file: &'static str, text: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> Result<T, ConfigError> {
    settings::checked(text, read).map_err(|faults| ConfigError { file, faults })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANNER: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/planner.toml"));
    const STRATEGIES: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/strategies.toml"));
    const REVIEW: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/review.toml"));

    #[test]
    fn the_shipped_files_are_read() {
        assert!(ReviewConfig::parse(REVIEW).unwrap().enabled);
        assert_eq!(PlannerConfig::parse(PLANNER).unwrap().cex_venue, Venue::Paper);
        let strategies = StrategiesConfig::parse(STRATEGIES).unwrap();
        assert!(strategies.enabled && strategies.trend.is_some() && strategies.mean_reversion.is_some());
    }

    #[test]
    fn shipped_strategies_have_an_account_and_leave_the_operators_alone() {
        let strategies = StrategiesConfig::parse(STRATEGIES).unwrap();
        let people = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/people.toml"));
        assert_ne!(strategies.user, "operator");
        assert!(people.contains(&format!("handle = \"{}\"", strategies.user)));
    }

    #[test]
    fn every_line_of_the_shipped_files_is_required() {
        for (text, parse) in [
            (PLANNER, (|text| PlannerConfig::parse(text).map(|_| ())) as fn(&str) -> Result<(), ConfigError>),
            (STRATEGIES, |text| StrategiesConfig::parse(text).map(|_| ())),
            (REVIEW, |text| ReviewConfig::parse(text).map(|_| ())),
        ] {
            for line in text.lines().filter(|line| line.contains(" = ")) {
                let without = text.replacen(line, "", 1);
                assert!(parse(&without).is_err(), "still read without: {line}");
            }
        }
    }

    #[test]
    fn a_folder_without_the_files_names_them_all() {
        let faults = load(Path::new("/nowhere")).unwrap_err();
        assert_eq!(faults.0.len(), 3, "{faults}");
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
        assert!(load(&shipped).is_ok());
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let text = PLANNER
            .replace("cex_venue = \"paper\"", "cex_venue = \"nyse\"")
            .replace("signal_ttl_ms = 60000", "signal_ttl_ms = 0\nsurprise = 1")
            .replace("default_slippage_percent = \"1\"", "default_slippage_percent = \"-1\"");
        let error = PlannerConfig::parse(&text).unwrap_err();
        assert_eq!(error.faults.len(), 4, "{error}");
        // As many as a stream has places would let a model that hangs stop everything behind it.
        let text = REVIEW
            .replace("max_at_once = 6", "max_at_once = 8")
            .replace("min_confidence_percent = 60", "min_confidence_percent = 101")
            .replace("deadline_ms = 5000", "deadline_ms = \"5 s\"")
            .replace("bars = 15", "bars = 1");
        assert_eq!(ReviewConfig::parse(&text).unwrap_err().faults.len(), 4);
    }
}
