//! The scene about the audit chain: it is valid, and an administrator who rewrites it is found out.

use domain::ids::UserId;
use serde_json::Value;

use super::tale::Tale;
use super::tamper::{Attack, Attacker};
use crate::stage::{Stage, StageError, must};

/// Whose chain is tampered with.
const VICTIM: &str = "ann";

/// Valid before, INVALID after each attack, valid again when the rows are back.
pub(super) async fn tampering(stage: &Stage, tale: &mut Tale) -> Result<String, StageError> {
    let rows = stage
        .wait_for("every audit row is under a signed head", async || {
            let report = stage.verify().await?;
            must(report["ok"] == true, || format!("not valid before any attack: {report}"))?;
            Ok(all_anchored(&report))
        })
        .await?;
    tale.told(&format!("`swarm audit verify`: valid, {rows} rows, all under signed heads"));
    let attacker = Attacker::open(stage, UserId::of_handle(VICTIM)).await?;
    let refusal = attacker.try_plainly().await?;
    tale.told(&format!("the administrator edits a row: the database refuses ({refusal})"));
    let mut found = Vec::new();
    for attack in Attack::ALL {
        let report = attacker.while_tampered(stage, attack).await?;
        let bad = bad_row(&report);
        tale.told(&format!("{}: {} {bad}", attack.words(), report["verdict"].as_str().unwrap_or("?")));
        must(report["verdict"] == "INVALID", || format!("{} was not found: {report}", attack.words()))?;
        must(!bad.is_empty(), || format!("{}: no row is named: {report}", attack.words()))?;
        let restored = stage.verify().await?;
        must(restored["ok"] == true, || format!("not valid after the rows were put back: {restored}"))?;
        found.push(attack.words());
    }
    Ok(format!("valid with {rows} rows; INVALID after: {}; valid when restored", found.join(", ")))
}

/// Rows of all chains, when every one of them is anchored.
fn all_anchored(report: &Value) -> Option<i64> {
    let chains = report["chains"].as_array()?;
    let waiting: i64 = chains.iter().filter_map(|chain| chain["not_yet_anchored"].as_i64()).sum();
    (waiting == 0).then(|| chains.iter().filter_map(|chain| chain["rows"].as_i64()).sum())
}

fn bad_row(report: &Value) -> String {
    let victim = UserId::of_handle(VICTIM).to_string();
    let chains = report["chains"].as_array().cloned().unwrap_or_default();
    let bad = chains.iter().filter(|chain| chain["chain"] == victim.as_str()).map(|chain| &chain["first_bad"]);
    bad.filter(|bad| !bad.is_null())
        .map(|bad| format!("at row {}: {}", bad["seq"], bad["reason"].as_str().unwrap_or("?")))
        .collect()
}
