//! Configuration files. What is accepted lies in the bounds that the files and their readers document.

use buy_bot::config::{PlannerConfig, StrategiesConfig};
use buy_bot::review::ReviewConfig;
use domain::time::{DAY_MS, UnixMs};
use ed25519_dalek::SigningKey;
use online_trading::config::Config as DeskConfig;
use rails::limits::Limits;
use rails::signature::PermitVerifier;
use rust_decimal::Decimal;
use swarm::replay::config::ReplayConfig;
use venues::builtin::{BuiltinConfig, BuiltinMarket};

use crate::memory::bounded;

/// Most of a fault that is shown.
fn named(faults: &[String]) {
    assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.is_empty()), "refused without a reason");
}

fn within(value: Decimal, least: i64, most: i64) {
    assert!(value >= Decimal::from(least) && value <= Decimal::from(most), "{value} is not within {least} and {most}");
}

/// `limits.toml`, and after a line `---` a person's own limits as JSON.
pub fn limits(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (file, own) = text.split_once("\n---\n").unwrap_or((text, "{}"));
    let house = match bounded(file.len(), || Limits::parse(file)) {
        Ok(limits) => limits,
        Err(error) => return named(&error.faults),
    };
    sensible(&house);
    assert_eq!(house.tightened_by(&serde_json::json!({})).as_ref(), Ok(&house));
    let Ok(own) = serde_json::from_str(own) else { return };
    match bounded(text.len(), || house.tightened_by(&own)) {
        Ok(limits) => {
            sensible(&limits);
            no_looser(&limits, &house);
            assert_eq!(limits.tightened_by(&own).as_ref(), Ok(&limits), "twice is as tight as once");
            assert_eq!(limits == house, limits.version() == house.version(), "another version is other limits");
        }
        Err(error) => named(&error.faults),
    }
}

fn sensible(limits: &Limits) {
    for percent in [
        limits.total_exposure_percent,
        limits.price_collar_percent,
        limits.daily_loss_percent,
        limits.breaker.loss_percent,
        limits.worst_fee_percent,
    ] {
        within(percent, 0, 100);
    }
    for dollars in [limits.position_usd, limits.approval_over_usd, limits.approval_tier2_over_usd] {
        within(dollars.value(), 0, domain::money::MAX_MAGNITUDE);
    }
    for ms in [limits.approval_window_ms, limits.rate_window_ms] {
        assert!((1_000..=DAY_MS).contains(&ms), "a window of {ms} ms");
    }
    for ms in [limits.approval_ttl_ms, limits.mark_max_age_ms, limits.permit_ttl_ms] {
        assert!((1..=DAY_MS).contains(&ms), "{ms} ms");
    }
    assert!((1..=1_000).contains(&limits.breaker.losses) && (1..=1_000_000).contains(&limits.rate_exits));
    let version = limits.version();
    assert!(version.len() == 16 && version.bytes().all(|byte| byte.is_ascii_hexdigit()), "{version}");
}

fn no_looser(own: &Limits, house: &Limits) {
    assert!(own.position_usd <= house.position_usd);
    assert!(own.total_exposure_percent <= house.total_exposure_percent);
    assert!(own.price_collar_percent <= house.price_collar_percent);
    assert!(own.daily_loss_percent <= house.daily_loss_percent);
    assert!(own.approval_over_usd <= house.approval_over_usd);
    assert!(own.approval_window_ms >= house.approval_window_ms);
    assert!(own.approval_tier2_over_usd <= house.approval_tier2_over_usd);
    assert!(own.approval_ttl_ms <= house.approval_ttl_ms);
    assert!(own.approval_prompts_per_hour <= house.approval_prompts_per_hour);
    assert!(own.rate_risk_increasing <= house.rate_risk_increasing);
    assert!(own.rate_exits <= house.rate_exits);
    assert!(own.rate_window_ms >= house.rate_window_ms);
    assert!(own.breaker.losses <= house.breaker.losses);
    assert!(own.breaker.loss_percent <= house.breaker.loss_percent);
    assert!(own.mark_max_age_ms <= house.mark_max_age_ms);
    assert!(own.worst_fee_percent >= house.worst_fee_percent);
    assert!(own.permit_ttl_ms <= house.permit_ttl_ms);
}

/// `planner.toml`, `strategies.toml` and `review.toml`.
pub fn planner(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match bounded(text.len(), || PlannerConfig::parse(text)) {
        Ok(planner) => {
            assert!(!planner.cex_venue.is_dex() && planner.dex_venue.is_dex());
            within(planner.default_slippage_percent, 0, 10);
            assert!((1..=3_600_000).contains(&planner.mark_max_age_ms));
            assert!((1..=3_600_000).contains(&planner.signal_ttl_ms));
        }
        Err(error) => named(&error.faults),
    }
    match bounded(text.len(), || ReviewConfig::parse(text)) {
        Ok(review) => {
            assert!((1..=6).contains(&review.max_at_once) && (1..=30_000).contains(&review.deadline_ms));
            assert!(review.min_confidence_percent.value() <= 100 && review.bars >= 2);
        }
        Err(error) => named(&error.faults),
    }
    match bounded(text.len(), || StrategiesConfig::parse(text)) {
        Ok(config) => strategies(&config),
        Err(error) => named(&error.faults),
    }
}

fn strategies(config: &StrategiesConfig) {
    assert!(domain::subject::is_token(&config.user) && !config.instruments.is_empty());
    assert!(config.instruments.is_sorted_by(|a, b| a < b), "an instrument twice");
    assert!((1_000..=DAY_MS).contains(&config.interval_ms));
    if let Some(trend) = &config.trend {
        assert!([trend.entry_bars, trend.exit_bars, trend.atr_bars].iter().all(|bars| (2..=10_000).contains(bars)));
        within(trend.stop_atrs, 0, 100);
        sized(&trend.sizing);
    }
    if let Some(reversion) = &config.mean_reversion {
        assert!((2..=10_000).contains(&reversion.window_bars));
        within(reversion.entry_sigmas, 0, 100);
        sized(&reversion.sizing);
    }
}

fn sized(sizing: &buy_bot::strategy::Sizing) {
    assert!(sizing.risk_per_trade_usd.is_positive() && sizing.max_notional_usd.is_positive());
    within(sizing.min_stop_percent, 0, 50);
    assert!((1..=10_000).contains(&sizing.max_bars));
}

/// `replay.toml` and `record.toml`.
pub fn replay(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match bounded(text.len(), || ReplayConfig::parse(text)) {
        Ok(config) => {
            strategies(&config.strategies);
            within(config.maker_fee_percent, 0, 10);
            within(config.taker_fee_percent, 0, 10);
            assert!(config.opening_balance.is_positive() && config.reject_bps <= 10_000);
            assert!(config.latency_min_ms <= config.latency_max_ms && config.latency_max_ms <= 60_000);
            for instrument in &config.instruments {
                assert!(instrument.tick > Decimal::ZERO && instrument.step > Decimal::ZERO);
                assert!(instrument.min_quantity >= Decimal::ZERO && instrument.min_notional >= Decimal::ZERO);
            }
        }
        Err(error) => named(&error.faults),
    }
    match bounded(text.len(), || swarm::record::parse(text, 7)) {
        Ok(config) => market(config),
        Err(error) => named(&error.faults),
    }
}

/// `desk.toml` and `people.toml`.
pub fn desk(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let verifier = || PermitVerifier::new([SigningKey::from_bytes(&[7; 32]).verifying_key()]);
    match bounded(text.len(), || DeskConfig::parse(text, verifier())) {
        Ok(config) => {
            assert!(!config.candle_intervals_ms.is_empty());
            assert!(config.candle_intervals_ms.iter().all(|ms| (1_000..=DAY_MS).contains(ms)));
            within(config.maker_fee_percent, 0, 10);
            within(config.taker_fee_percent, 0, 10);
            assert!(config.latency_ms.0 <= config.latency_ms.1 && config.latency_ms.1 <= 60_000);
            assert!(config.reject_bps <= 10_000 && config.lost_reply_bps <= 10_000);
            within(config.opening_usd, 0, domain::money::MAX_MAGNITUDE);
            market(config.builtin);
        }
        Err(faults) => named(&faults),
    }
    match bounded(text.len(), || swarm::up::people::parse(text)) {
        Ok(people) => {
            assert!(people.iter().any(|person| person.handle == "operator"));
            let mut handles: Vec<&str> = people.iter().map(|person| person.handle.as_str()).collect();
            handles.sort_unstable();
            assert!(handles.is_sorted_by(|a, b| a < b), "a person twice");
            for person in &people {
                assert!(domain::subject::is_token(&person.handle) && !person.opening_balance_usd.is_negative());
            }
        }
        Err(fault) => assert!(!fault.is_empty()),
    }
}

/// A market that a file describes is refused, or it runs.
fn market(config: BuiltinConfig) {
    let step_ms = config.step_ms;
    let Ok(mut market) = BuiltinMarket::new(config, UnixMs(0)) else { return };
    let begun = market.snapshots(UnixMs(0)).len() + market.advance_to(UnixMs(step_ms)).len();
    assert!(begun > 0, "a market that says nothing");
}
