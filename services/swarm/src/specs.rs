//! The ten processes, as data.

use domain::agent::AgentSpec;
use runtime::Agent;

/// Every process of the swarm: the supervisor and nine agents, in the order they are started.
#[must_use]
pub const fn specs() -> [AgentSpec; 10] {
    [
        supervisor::Supervisor::SPEC,
        treasury::Treasury::SPEC,
        online_trading::Desk::SPEC,
        dexter::Dexter::SPEC,
        launchpad_governor::LaunchpadGovernor::SPEC,
        buy_bot::BuyBot::SPEC,
        monitor::Monitor::SPEC,
        reflector::Reflector::SPEC,
        telegram_jarvis::TelegramJarvis::SPEC,
        jarvis_x::JarvisX::SPEC,
    ]
}
