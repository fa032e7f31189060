//! The process of `online_trading`.

use std::process::ExitCode;

use crate::Desk;
use crate::config::Config;

/// Its whole life, from its environment to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    runtime::main(|process| {
        let keys = std::env::var_os("SWARM_PERMIT_PUBLIC_KEYS_FILE").map(std::path::PathBuf::from);
        let market = std::env::var("SWARM_MARKET").ok();
        let seed = std::env::var("SWARM_MARKET_SEED").ok();
        let config = Config::load(&process.config_dir, keys.as_deref(), market.as_deref(), seed.as_deref())
            .map_err(runtime::ConfigFaults)?;
        // Before anything can be waited for: neither broker nor database is needed to take an order back.
        let clock = std::sync::Arc::new(runtime::clock::SystemClock);
        if let Err(error) = crate::canceller::at_boot(&config, &process.data_dir, clock) {
            tracing::error!(%error, "what rests at the venue can't be cancelled yet; tried again when the market is open");
        }
        Ok(Desk::new(config, &process.data_dir))
    })
}
