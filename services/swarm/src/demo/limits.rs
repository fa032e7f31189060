//! Scenes about single limits: a plain fill, the position limit, the rate, the kill level.

use rust_decimal::Decimal;

use super::loss::SYMBOL;
use super::tale::Tale;
use crate::people::Command;
use crate::stage::{Stage, StageError, must};

/// Permits for new risk in an hour.
const RATE: usize = 20;

/// $600 is under every limit.
pub(super) async fn small_buy(stage: &Stage, tale: &mut Tale) -> Result<String, StageError> {
    let signal = stage.buy("ann", SYMBOL, "600").await?;
    tale.told("ann publishes: BUY BTCUSDT for at most $600");
    let story = stage.over(signal).await?;
    tale.chain(&story);
    let (quantity, dollars) = story.filled()?;
    let (least, most) = (Decimal::from(580), Decimal::from(600));
    must(dollars > least && dollars <= most, || {
        format!("filled ${dollars}, must be at most ${most} and over ${least}")
    })?;
    let ledger = stage.ledger("ann").await?;
    let held = ledger["positions"][0]["quantity"].as_str().and_then(|text| text.parse::<Decimal>().ok());
    must(held == Some(quantity), || format!("filled {quantity}, the ledger holds {held:?}"))?;
    Ok(format!("bought {quantity} BTC for ${dollars}"))
}

/// $12,000 is over the position limit, and no person is asked: the limit is no matter of opinion.
pub(super) async fn too_large(stage: &Stage, tale: &mut Tale) -> Result<String, StageError> {
    let signal = stage.buy("dan", SYMBOL, "12000").await?;
    tale.told("dan publishes: BUY BTCUSDT for $12,000");
    let story = stage.decided(signal).await?;
    tale.chain(&story);
    story.must_be("refused", Some("POSITION"))?;
    let ledger = stage.ledger("dan").await?;
    must(ledger["fills"] == 0 && ledger["open_reservations"] == 0, || format!("something was bought: {ledger}"))?;
    let numbers = &story.events[0].body["numbers"];
    Ok(format!("POSITION position_usd={} limit_usd={}", numbers["position_usd"], numbers["limit_usd"]).replace('"', ""))
}

/// Twenty small buys pass, the next is refused; a sale still passes.
pub(super) async fn too_many(stage: &Stage, tale: &mut Tale) -> Result<String, StageError> {
    // $40 each: together $800, so that no person need be asked.
    let mut signals = Vec::with_capacity(RATE);
    for _ in 0..RATE {
        signals.push(stage.buy("eve", SYMBOL, "40").await?);
    }
    tale.told("eve publishes 20 buys of $40");
    for signal in signals {
        stage.over(signal).await?;
    }
    let permits = stage.ledger("eve").await?["risk_permits_last_hour"].as_u64();
    must(permits == Some(RATE as u64), || format!("{permits:?} permits after {RATE} buys"))?;
    let signal = stage.buy("eve", SYMBOL, "40").await?;
    tale.told("all 20 filled; eve publishes the 21st");
    let story = stage.decided(signal).await?;
    tale.chain(&story);
    story.must_be("refused", Some("RATE"))?;
    let exit = stage.over(stage.sell_all("eve", SYMBOL).await?).await?;
    let (sold, dollars) = exit.filled()?;
    must(!sold.is_zero(), || "the exit sold nothing".to_owned())?;
    Ok(format!("{RATE} filled, 21st refused RATE, exit of ${dollars} passed"))
}

/// At level 1 a buy is refused and a sale passes; the level is lowered by a person with a reason only.
pub(super) async fn kill_level(stage: &Stage, tale: &mut Tale) -> Result<String, StageError> {
    stage.over(stage.buy("hal", SYMBOL, "600").await?).await?;
    let halted = stage.ask(&Command::Halt { level: 1, reason: "demo".to_owned() }).await?;
    must(halted["level"] == 1, || format!("not halted: {halted}"))?;
    tale.told(&format!("hal holds $600 of BTC; the operator raises the kill level to 1 (epoch {})", halted["epoch"]));
    let played = at_level_one(stage, tale).await;
    let resumed = resume(stage, "the demo is over").await?;
    must(resumed["level"] == 0, || format!("not resumed: {resumed}"))?;
    played?;
    tale.told(&format!("with a reason, signed: level 0 (epoch {})", resumed["epoch"]));
    let again = stage.over(stage.buy("hal", SYMBOL, "300").await?).await?;
    Ok(format!("buy refused KILL_LEVEL, exit passed, resumed, then ${} filled", again.filled()?.1))
}

async fn at_level_one(stage: &Stage, tale: &Tale) -> Result<(), StageError> {
    let story = stage.decided(stage.buy("hal", SYMBOL, "100").await?).await?;
    tale.chain(&story);
    story.must_be("refused", Some("KILL_LEVEL"))?;
    let exit = stage.over(stage.sell_all("hal", SYMBOL).await?).await?;
    tale.chain(&exit);
    must(!exit.filled()?.0.is_zero(), || "the exit sold nothing".to_owned())?;
    let silent = resume(stage, "").await?;
    must(silent["code"] == "REASON_MISSING", || format!("resumed without a reason: {silent}"))?;
    tale.told("resume without a reason: REASON_MISSING");
    Ok(())
}

async fn resume(stage: &Stage, reason: &str) -> Result<serde_json::Value, StageError> {
    stage.ask(&Command::Resume { level: 0, reason: reason.to_owned() }).await
}
