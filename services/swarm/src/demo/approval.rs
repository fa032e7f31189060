//! Scenes about a person's yes and no.

use rust_decimal::Decimal;

use super::loss::SYMBOL;
use super::tale::Tale;
use crate::people::{Command, VoteArgs};
use crate::stage::{Stage, StageError, Story, must};

fn vote_on(story: &Story, reason: &str) -> Result<VoteArgs, StageError> {
    let id = story.approval_id().ok_or_else(|| StageError::Differs("no approval was asked for".to_owned()))?;
    Ok(VoteArgs { approval_id: id.to_owned(), reason: reason.to_owned() })
}

async fn nothing_is_filled(stage: &Stage, handle: &str) -> Result<(), StageError> {
    let ledger = stage.ledger(handle).await?;
    must(ledger["fills"] == 0 && ledger["risk_permits_last_hour"] == 0, || format!("{handle} traded: {ledger}"))
}

/// $1,500 waits; the operator's signed yes lets it fill.
pub(super) async fn large_buy(stage: &Stage, tale: &mut Tale) -> Result<String, StageError> {
    let signal = stage.buy("ben", SYMBOL, "1500").await?;
    tale.told("ben publishes: BUY BTCUSDT for at most $1,500");
    let asked = stage.told(signal, "a request to a person", |story| story.approval_id().is_some()).await?;
    asked.must_be("needs_human", None)?;
    nothing_is_filled(stage, "ben").await?;
    let args = vote_on(&asked, "seen and agreed")?;
    let listed = stage.ask(&Command::Approvals).await?;
    let rows = listed["approvals"].as_array().cloned().unwrap_or_default();
    let row = rows.iter().find(|row| row["approval_id"] == args.approval_id.as_str());
    let summary = row.and_then(|row| row["summary"].as_str());
    let summary =
        summary.ok_or_else(|| StageError::Differs(format!("`swarm approvals` does not list it: {listed}")))?;
    tale.told(&format!("nothing is filled; `swarm approvals` shows: {summary}"));
    let answer = stage.ask(&Command::Approve(args)).await?;
    must(answer["status"] == "allowed", || format!("the vote was not taken: {answer}"))?;
    tale.told("the operator signs the yes");
    let story = stage.told(signal, "the outcome of the approved order", Story::is_over).await?;
    tale.chain(&story);
    let permit = story.event("permit_signed").map(|event| &event.body["by_human"]);
    must(permit == Some(&serde_json::Value::Bool(true)), || format!("the permit is not by a human: {permit:?}"))?;
    let (quantity, dollars) = story.filled()?;
    let (least, most) = (Decimal::from(1_450), Decimal::from(1_500));
    must(dollars > least && dollars <= most, || {
        format!("filled ${dollars}, must be at most ${most} and over ${least}")
    })?;
    Ok(format!("waited unfilled, approved, then bought {quantity} BTC for ${dollars}"))
}

/// Each $750 alone would pass; the second lifts the sum of five minutes over $1,000, and so do the others.
pub(super) async fn split_buy(stage: &Stage, tale: &mut Tale) -> Result<String, StageError> {
    let mut signals = Vec::new();
    for _ in 0..4 {
        signals.push(stage.buy("cleo", SYMBOL, "750").await?);
    }
    tale.told("cleo publishes 4 buys of $750");
    let (mut passed, mut held_up) = (Vec::new(), Vec::new());
    for signal in signals {
        let story = stage.decided(signal).await?;
        match story.outcome() {
            "permitted" => passed.push(stage.over(signal).await?),
            "needs_human" => {
                let asked = stage.told(signal, "a request to a person", |story| story.approval_id().is_some()).await?;
                held_up.push(asked);
            }
            other => return Err(StageError::Differs(format!("one of the four is {other} {:?}", story.code()))),
        }
    }
    must(passed.len() == 1 && held_up.len() == 3, || format!("{} passed, {} wait", passed.len(), held_up.len()))?;
    tale.chain(&passed[0]);
    tale.chain(&held_up[0]);
    for story in &held_up {
        let answer = stage.ask(&Command::Reject(vote_on(story, "one is enough")?)).await?;
        must(answer["status"] == "denied", || format!("the no was not taken: {answer}"))?;
    }
    tale.told("the operator says no to the three that wait");
    stage
        .wait_for("the reservations of the denied orders are released", async || {
            Ok((stage.ledger("cleo").await?["open_reservations"] == 0).then_some(()))
        })
        .await?;
    let dollars = passed[0].filled()?.1;
    must(dollars <= Decimal::from(750), || format!("${dollars} filled without a person"))?;
    Ok(format!("1 passed (${dollars}), 3 waited for a person and were denied"))
}
