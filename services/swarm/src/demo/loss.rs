//! Scenes about losses: the breaker and the daily loss.

use rust_decimal::Decimal;

use super::tale::Tale;
use crate::people::{BreakerCommand, Command};
use crate::stage::{Stage, StageError, amount, must};

/// What is traded.
pub(super) const SYMBOL: &str = "BTCUSDT";
/// Where its price is when a scene begins.
pub(super) const START: &str = "60000";

/// Three trades closed 3 % lower latch the breaker.
pub(super) async fn breaker(stage: &Stage, tale: &mut Tale) -> Result<String, StageError> {
    let mut lost = Decimal::ZERO;
    for number in 1..=3 {
        // $300 each: together under $1,000 in five minutes, so that no person need be asked.
        stage.over(stage.buy("fay", SYMBOL, "300").await?).await?;
        stage.steer(SYMBOL, "58200").await?;
        let exit = stage.over(stage.sell_all("fay", SYMBOL).await?).await?;
        stage.steer(SYMBOL, START).await?;
        let realised = exit.realised()?;
        lost += realised;
        let breaker = stage.ledger("fay").await?["breaker"].clone();
        tale.told(&format!(
            "fay buys at {START}, sells at 58200: ${realised}, losses in a row {}",
            breaker["losses_in_a_row"]
        ));
        must(breaker["losses_in_a_row"] == number, || format!("after loss {number}: {breaker}"))?;
        must(breaker["latched_at"].is_null() == (number < 3), || format!("after loss {number}: {breaker}"))?;
    }
    let refused = stage.decided(stage.buy("fay", SYMBOL, "50").await?).await?;
    tale.chain(&refused);
    refused.must_be("refused", Some("BREAKER"))?;
    let reset = BreakerCommand::Reset { user: "fay".to_owned(), reason: "looked at the three losses".to_owned() };
    let answer = stage.ask(&Command::Breaker(reset)).await?;
    must(answer["sent"] == true, || format!("the reset was not taken: {answer}"))?;
    tale.told("the operator signs a reset");
    stage
        .wait_for("the breaker is reset", async || {
            Ok(stage.ledger("fay").await?["breaker"]["latched_at"].is_null().then_some(()))
        })
        .await?;
    let again = stage.over(stage.buy("fay", SYMBOL, "50").await?).await?;
    tale.chain(&again);
    Ok(format!(
        "3 losses (${lost}) latched it, next buy refused BREAKER, after the reset ${} filled",
        again.filled()?.1
    ))
}

/// An open loss counts: just under 5 % of the day's equity a buy passes, over it none does, and an exit always.
pub(super) async fn daily_loss(stage: &Stage, tale: &mut Tale) -> Result<String, StageError> {
    stage.over(stage.buy("gus", SYMBOL, "900").await?).await?;
    stage.steer(SYMBOL, "57300").await?;
    let under = profit(stage).await?;
    let passed = stage.over(stage.buy("gus", SYMBOL, "20").await?).await?;
    tale.told(&format!("gus has $1,000 and $900 of it in BTC; open loss ${under}: a $20 buy passes"));
    must(!passed.filled()?.0.is_zero(), || "the buy under the limit bought nothing".to_owned())?;
    stage.steer(SYMBOL, "56400").await?;
    let over = profit(stage).await?;
    tale.told(&format!("the price falls to 56400: open loss ${over}, no trade closed"));
    let refused = stage.decided(stage.buy("gus", SYMBOL, "20").await?).await?;
    tale.chain(&refused);
    refused.must_be("refused", Some("DAILY_LOSS"))?;
    let exit = stage.over(stage.sell_all("gus", SYMBOL).await?).await?;
    tale.chain(&exit);
    must(!exit.filled()?.0.is_zero(), || "the exit sold nothing".to_owned())?;
    let after = stage.decided(stage.buy("gus", SYMBOL, "20").await?).await?;
    after.must_be("refused", Some("DAILY_LOSS"))?;
    Ok(format!(
        "at ${under} of $1000 a buy passed, at ${over} refused DAILY_LOSS, the exit (${}) passed",
        exit.filled()?.1
    ))
}

/// Profit of the day, open positions at their marks.
async fn profit(stage: &Stage) -> Result<Decimal, StageError> {
    Ok(amount(&stage.ledger("gus").await?["day"]["profit_usd"])?.round_dp(2))
}
