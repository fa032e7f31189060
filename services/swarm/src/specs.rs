//! The processes, as data.

use std::process::ExitCode;

use domain::agent::AgentSpec;
use runtime::Agent;

/// The swarm itself: the supervisor and nine agents, in the order they are started.
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

/// The services that `swarm up` starts after the agents: they trade nothing and are sent nothing.
#[must_use]
pub const fn services() -> [AgentSpec; 2] {
    [llm_router::LlmRouter::SPEC, gateway::Gateway::SPEC]
}

/// Every process that `swarm up` starts, the supervisor first.
pub fn processes() -> impl Iterator<Item = AgentSpec> {
    specs().into_iter().chain(services())
}

/// The life of the process that goes by this name, when it is one of ours: all of them are this one program, so that they
/// share its text in memory, and the name it is started under says which one it is.
#[must_use]
pub fn process_named(name: &str) -> Option<fn() -> ExitCode> {
    Some(match name {
        supervisor::NAME => supervisor::process::main,
        treasury::NAME => treasury::process::main,
        online_trading::NAME => online_trading::process::main,
        dexter::NAME => dexter::process::main,
        launchpad_governor::NAME => launchpad_governor::process::main,
        buy_bot::NAME => buy_bot::process::main,
        monitor::NAME => monitor::process::main,
        reflector::NAME => reflector::process::main,
        telegram_jarvis::NAME => telegram_jarvis::process::main,
        jarvis_x::NAME => jarvis_x::process::main,
        gateway::NAME => gateway::process::main,
        llm_router::NAME => llm_router::process::main,
        _ => return None,
    })
}
