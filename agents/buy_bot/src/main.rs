//! The buy_bot process.

use std::process::ExitCode;

use buy_bot::{BuyBot, config};

fn main() -> ExitCode {
    runtime::main(|process| {
        let (planner, strategies) = config::load(&process.config_dir)?;
        BuyBot::new(planner, &strategies).resume(process.data_dir.join("buy_bot_holdings.json"))
    })
}
