//! Two records of the same trades: the ledger in Postgres and the exchange's own journal.

use std::collections::{BTreeMap, BTreeSet};

use domain::ids::UserId;
use domain::market::Venue;
use domain::order::Fill;
use rust_decimal::Decimal;
use venues::paper::{Journal, State};

use super::CAST;
use super::tale::Tale;
use crate::stage::{Stage, StageError, amount, must};

/// More fills than the demo can make.
const ALL_FILLS: i64 = 100_000;

/// Every fill of one is in the other, to the last digit, and the ledger's positions are their sums.
pub(super) async fn ledger_equals_venue(stage: &Stage, tale: &mut Tale) -> Result<String, StageError> {
    let admin = stage.administrator().await?;
    // A strategy of the operator may be trading right now: the two records meet when its order is posted.
    let (fills, positions) = stage
        .wait_for("ledger and journal say the same", async || {
            let (journal, fills) = (journal(stage)?, ledger_fills(&admin).await?);
            if lines(journal.fills()) != lines(&fills) {
                return Ok(None);
            }
            let held: BTreeMap<String, Decimal> =
                journal.positions().iter().map(|(id, quantity)| (id.to_string(), quantity.value())).collect();
            let positions = ledger_positions(stage).await?;
            Ok((held == positions).then_some((fills, positions)))
        })
        .await?;
    must(!fills.is_empty(), || "nothing was traded".to_owned())?;
    let ledger_fees: Decimal = fills.iter().map(|fill| fill.fee.value()).sum();
    for (instrument, quantity) in &positions {
        tale.told(&format!("{instrument}: {quantity} by the ledgers of all users, and by the exchange"));
    }
    Ok(format!("{} fills equal in both, fees ${ledger_fees}, {} open positions equal", fills.len(), positions.len()))
}

/// The exchange as a restart would find it. The journal itself is locked by the desk, so a copy is read.
fn journal(stage: &Stage) -> Result<State, StageError> {
    let path = stage.folder().join("data").join("paper").join(format!("{}.journal", Venue::Paper));
    let copy = stage.folder().join("journal.copy");
    std::fs::copy(&path, &copy).map_err(|error| StageError::file(&path, error))?;
    let (_journal, decisions) = Journal::open(&copy).map_err(|error| StageError::Differs(error.to_string()))?;
    let mut state = State::new(Venue::Paper);
    for effect in decisions.iter().flatten() {
        state.apply(effect).map_err(|misfit| StageError::Differs(format!("the journal does not fit: {misfit}")))?;
    }
    Ok(state)
}

fn handles() -> impl Iterator<Item = &'static str> {
    std::iter::once("operator").chain(CAST.iter().map(|player| player.handle))
}

async fn ledger_fills(admin: &store::Db) -> Result<Vec<Fill>, StageError> {
    let mut all = Vec::new();
    for handle in handles() {
        let user = UserId::of_handle(handle);
        let mut unit = admin.begin().await?;
        unit.set_tenant(user).await?;
        all.extend(store::orders::fills(&mut unit, user, ALL_FILLS).await?);
        unit.rollback().await?;
    }
    Ok(all)
}

/// A fill as one line, so that two sets of them can be compared.
fn lines(fills: &[Fill]) -> BTreeSet<String> {
    fills
        .iter()
        .map(|f| {
            format!(
                "{} {} {} {} {} {} {}",
                f.venue_trade_id, f.order_id, f.instrument, f.side, f.quantity, f.price, f.fee
            )
        })
        .collect()
}

/// Sums over all users.
async fn ledger_positions(stage: &Stage) -> Result<BTreeMap<String, Decimal>, StageError> {
    let mut sums = BTreeMap::new();
    for handle in handles() {
        let ledger = stage.ledger(handle).await?;
        for row in ledger["positions"].as_array().cloned().unwrap_or_default() {
            let name = row["instrument"].as_str().unwrap_or("?").to_owned();
            *sums.entry(name).or_insert(Decimal::ZERO) += amount(&row["quantity"])?;
        }
    }
    sums.retain(|_, quantity| !quantity.is_zero());
    Ok(sums)
}
