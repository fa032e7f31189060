//! The scenes of `swarm demo`, each a claim.

use std::process::Command;

use serde_json::{Value, json};

use super::Ground;

/// Runs the demo and takes over what came of each scene.
pub(super) fn prove(ground: &mut Ground) {
    let output = Command::new(&ground.program)
        .arg("--json")
        .arg("--data-dir")
        .arg(&ground.folder)
        .args(["demo", "--config-dir"])
        .arg(&ground.config_dir)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return ground.claim("demo", "the scenes can be played", Err(error.to_string())),
    };
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let scenes = answer["scenes"].as_array().cloned().unwrap_or_default();
    if scenes.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return ground.claim("demo", "the scenes can be played", Err(said));
    }
    for scene in scenes {
        let word = |key: &str| scene[key].as_str().unwrap_or_default().to_owned();
        let figures = word("figures");
        let outcome = if scene["ok"] == json!(true) { Ok(figures) } else { Err(word("fault")) };
        ground.claim(&word("scene"), &word("claim"), outcome);
    }
}
