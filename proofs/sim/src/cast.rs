//! The ten processes of a world, built as their own `main` builds them: with the shipped configuration, bent only where a
//! deliberate fault says so.

use std::path::Path;
use std::sync::Arc;

use buy_bot::BuyBot;
use buy_bot::config::{PlannerConfig, StrategiesConfig};
use buy_bot::review::Reviewer;
use dexter::Dexter;
use domain::agent::AgentSpec;
use domain::order::TimeInForce;
use ed25519_dalek::SigningKey;
use jarvis_x::JarvisX;
use launchpad_governor::LaunchpadGovernor;
use monitor::Monitor;
use online_trading::Desk;
use rails::limits::Limits;
use rails::signature::{PermitSigner, PermitVerifier};
use reflector::Reflector;
use runtime::Agent;
use rust_decimal::Decimal;
use supervisor::Supervisor;
use supervisor::lifecycle::{Plan, Settings};
use telegram_jarvis::TelegramJarvis;
use treasury::Treasury;

use crate::engine::{Around, Host, Process};
use crate::faults::Fault;
use crate::models::{self, Script};

const LIMITS: &str = include_str!("../../../config/limits.toml");
const PLANNER: &str = include_str!("../../../config/planner.toml");
const STRATEGIES: &str = include_str!("../../../config/strategies.toml");
const DESK: &str = include_str!("../../../config/desk.toml");

/// What every process is, in their places.
pub const SPECS: [AgentSpec; 10] = [
    Treasury::SPEC,
    Desk::SPEC,
    BuyBot::SPEC,
    Supervisor::SPEC,
    LaunchpadGovernor::SPEC,
    Dexter::SPEC,
    Monitor::SPEC,
    Reflector::SPEC,
    TelegramJarvis::SPEC,
    JarvisX::SPEC,
];
/// Place of treasury.
pub const TREASURY: usize = 0;
/// Place of the desk.
pub const DESK_PLACE: usize = 1;
/// Place of the planner.
pub const BUY_BOT: usize = 2;
/// Place of the supervisor.
pub const SUPERVISOR: usize = 3;

/// The key that treasury signs permits with.
#[must_use]
pub fn permit_key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

/// The shipped house limits.
///
/// # Panics
/// When the shipped file does not read.
#[must_use]
#[expect(clippy::expect_used, reason = "a configuration that ships and does not read must stop everything")]
pub fn house_limits() -> Limits {
    Limits::parse(LIMITS).expect("config/limits.toml")
}

/// The agents whose background work the world drives itself.
#[derive(Default)]
pub struct Leads {
    /// Treasury, while it runs.
    pub treasury: Option<Arc<Treasury>>,
    /// The desk, while it runs.
    pub desk: Option<Arc<Desk>>,
    /// The planner, while it runs.
    pub planner: Option<Arc<BuyBot>>,
    /// The supervisor, while it runs.
    pub supervisor: Option<Arc<Supervisor>>,
}

/// What treasury is told when a fault loosens a limit.
fn treasury_limits(fault: Option<Fault>) -> Limits {
    let mut limits = house_limits();
    match fault {
        Some(Fault::LoosePosition) => limits.position_usd = domain::money::Usd::dollars(1_000_000),
        Some(Fault::LooseDailyLoss) => limits.daily_loss_percent = Decimal::ONE_HUNDRED,
        Some(Fault::LooseRate) => limits.rate_risk_increasing = 1_000_000,
        Some(Fault::LooseAge) => limits.mark_max_age_ms = domain::time::DAY_MS,
        Some(Fault::LooseCollar) => limits.price_collar_percent = Decimal::from(90),
        Some(Fault::LooseApproval) => limits.approval_over_usd = domain::money::Usd::dollars(1_000_000),
        Some(Fault::LooseBreaker) => limits.breaker.losses = 1_000,
        _ => {}
    }
    limits
}

/// Starts the process at `place`, and gives the world hold of those it drives itself.
///
/// # Panics
/// When a shipped configuration does not read.
#[must_use]
#[expect(clippy::expect_used, reason = "a configuration that ships and does not read must stop everything")]
pub fn start(place: usize, around: Around, data_dir: &Path, rests: bool, leads: &mut Leads) -> Box<dyn Process> {
    let fault = around.fault;
    match place {
        TREASURY => {
            let key = if fault == Some(Fault::ForeignPermitKey) { [9; 32] } else { [3; 32] };
            let signer = PermitSigner::new(SigningKey::from_bytes(&key));
            let config = treasury::config::Config { house: treasury_limits(fault), signer };
            let agent = Arc::new(Treasury::new(config, data_dir));
            leads.treasury = Some(Arc::clone(&agent));
            Box::new(Host::new(agent, around))
        }
        DESK_PLACE => {
            let mut keys = vec![permit_key().verifying_key()];
            if fault == Some(Fault::ForeignPermitKey) {
                keys.push(SigningKey::from_bytes(&[9; 32]).verifying_key());
            }
            let config = desk_config(PermitVerifier::new(keys));
            let agent = Arc::new(Desk::new(config, data_dir));
            leads.desk = Some(Arc::clone(&agent));
            Box::new(Host::new(agent, around))
        }
        BUY_BOT => {
            let mut planner = PlannerConfig::parse(PLANNER).expect("config/planner.toml");
            if rests {
                planner.limit_time_in_force = TimeInForce::GoodTillCancelled;
            }
            let strategies = StrategiesConfig::parse(STRATEGIES).expect("config/strategies.toml");
            let script = Script { hub: Arc::clone(&around.hub), fault };
            let reviewer = around.is_reviewed.then(|| Arc::new(script) as Arc<dyn Reviewer>);
            let agent = Arc::new(BuyBot::new(planner, &strategies).reviewed(models::config(fault), reviewer));
            leads.planner = Some(Arc::clone(&agent));
            Box::new(Host::new(agent, around))
        }
        SUPERVISOR => {
            let plan = Plan { agents: Vec::new(), run_dir: data_dir.to_owned() };
            let anchor_key = SigningKey::from_bytes(&[5; 32]);
            let config = supervisor::config::Config {
                house: treasury_limits(fault),
                plan,
                agents: Settings::of_nobody(),
                anchor_key,
                old_anchor_keys: Vec::new(),
            };
            let agent = Arc::new(Supervisor::new(config, data_dir));
            leads.supervisor = Some(Arc::clone(&agent));
            Box::new(Host::new(agent, around))
        }
        4 => Box::new(Host::new(Arc::new(LaunchpadGovernor::default()), around)),
        5 => Box::new(Host::new(Arc::new(Dexter::default()), around)),
        6 => Box::new(Host::new(Arc::new(Monitor::default()), around)),
        7 => Box::new(Host::new(Arc::new(Reflector::default()), around)),
        8 => Box::new(Host::new(Arc::new(TelegramJarvis::default()), around)),
        _ => Box::new(Host::new(Arc::new(JarvisX::default()), around)),
    }
}

/// The desk's shipped configuration; its market is the world's.
#[expect(clippy::expect_used, reason = "a configuration that ships and does not read must stop everything")]
fn desk_config(verifier: PermitVerifier) -> online_trading::config::Config {
    online_trading::config::Config::parse(DESK, verifier).expect("config/desk.toml")
}
