//! The process of `buy_bot`.

use std::process::ExitCode;

use runtime::ConfigFaults;

use crate::saved::file_path;
use crate::{BuyBot, config, review};

/// Its whole life, from its environment to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    runtime::main(|process| {
        // A provider that was installed before is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = config::load(&process.config_dir);
        let review = config.as_ref().ok().map(|config| &config.review);
        let reviewer = review::reviewer_of(review, |name| std::env::var(name).ok());
        let (config, reviewer) = match (config, reviewer) {
            (Ok(config), Ok(reviewer)) => (config, reviewer),
            (config, reviewer) => {
                let faults = [config.err(), reviewer.err()].into_iter().flatten().flat_map(|faults| faults.0).collect();
                return Err(ConfigFaults(faults));
            }
        };
        let bot = BuyBot::new(config.planner, &config.strategies).reviewed(config.review, reviewer);
        bot.resume(file_path(&process.data_dir))
    })
}
