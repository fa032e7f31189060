//! The process of `buy_bot`.

use std::process::ExitCode;

use crate::{BuyBot, config};

/// Its whole life, from its environment to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    runtime::main(|process| {
        let (planner, strategies) = config::load(&process.config_dir)?;
        BuyBot::new(planner, &strategies).resume(process.data_dir.join("buy_bot_holdings.json"))
    })
}
