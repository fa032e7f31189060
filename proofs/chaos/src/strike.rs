//! What is struck, how, and in which order: everything that the seed draws.

use std::collections::BTreeMap;
use std::fmt;

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use tokio::time::{Duration, Instant};

use crate::proxy::Server;

/// The nine agents that the supervisor starts.
pub const AGENTS: [&str; 9] = [
    "treasury",
    "online_trading",
    "buy_bot",
    "dexter",
    "launchpad_governor",
    "monitor",
    "reflector",
    "telegram_jarvis",
    "jarvis_x",
];
/// What `swarm up` runs besides them and chaos leaves alone: the supervisor has a strike of its own, the page and the router of
/// language models have no part in trading.
pub const OTHERS: [&str; 3] = ["supervisor", "gateway", "llm_router"];
/// Agents without which no signal gets through: struck three times as often as the others.
const ON_THE_ROAD: [&str; 3] = ["treasury", "online_trading", "buy_bot"];
/// Restarts of one agent that chaos causes within one life of `swarm up`: one below the sixth of a quarter of an hour,
/// with room for the restarts that agents cause themselves.
const RESTARTS_A_LIFE: usize = 4;
/// The same within a minute.
const RESTARTS_A_MINUTE: usize = 2;
/// `swarm up` bears three deaths of a server or of the supervisor within a minute.
const DEATHS_A_MINUTE: usize = 2;
const MINUTE: Duration = Duration::from_secs(62);

/// What is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// One of [`AGENTS`].
    Agent(&'static str),
    /// The supervisor's process.
    Supervisor,
    /// `swarm up` itself, with all below it.
    Up,
    /// The NATS server.
    Nats,
    /// The node of a NATS cluster that leads the commands right now.
    NatsLeader,
    /// A node that follows.
    NatsFollower,
    /// The folder JetStream writes to.
    NatsDisk,
    /// The PostgreSQL server.
    Postgres,
    /// The Valkey server: counters and a cache that may be lost.
    Valkey,
    /// One agent's session in PostgreSQL.
    PostgresBackend,
    /// The connection of an agent to a server.
    Link(&'static str, Server),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(name) => f.write_str(name),
            Self::Supervisor => f.write_str("supervisor"),
            Self::Up => f.write_str("swarm up"),
            Self::Nats => f.write_str("nats"),
            Self::NatsLeader => f.write_str("nats leader"),
            Self::NatsFollower => f.write_str("nats follower"),
            Self::NatsDisk => f.write_str("jetstream disk"),
            Self::Postgres => f.write_str("postgres"),
            Self::Valkey => f.write_str("valkey"),
            Self::PostgresBackend => f.write_str("postgres backend"),
            Self::Link(name, server) => write!(f, "{name}~{}", server.word()),
        }
    }
}

/// What is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT after this long.
    Stop(Duration),
    /// No space left for this long.
    DiskFull(Duration),
    /// The wall clock is this much off for this long, ms.
    Clock(i64, Duration),
    /// Bytes take this long each way, for so long.
    Slow(Duration, Duration),
    /// Bytes are held back in both directions for this long.
    HalfOpen(Duration),
    /// A person has the supervisor start it anew: drained, ended, started.
    Recycle,
}

impl Fault {
    /// Its name, for tables.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Stop(time) if time.as_secs() >= LONG_STOP_S => "stop, hung",
            Self::Stop(_) => "stop",
            Self::DiskFull(_) => "disk full",
            Self::Clock(..) => "clock",
            Self::Slow(..) => "slow",
            Self::HalfOpen(_) => "half-open",
            Self::Recycle => "recycled",
        }
    }

    /// How long it lasts by itself.
    #[must_use]
    pub const fn lasts(&self) -> Duration {
        match self {
            Self::Kill | Self::Recycle => Duration::ZERO,
            Self::Stop(time)
            | Self::DiskFull(time)
            | Self::Clock(_, time)
            | Self::Slow(_, time)
            | Self::HalfOpen(time) => *time,
        }
    }
}

/// From here a stopped agent is taken for hung (30 s deaf).
const LONG_STOP_S: u64 = 20;
/// Agents drain when they hear nothing of their supervisor for 15 s; its last words may be some seconds old.
const ORPHANING_STOP_S: u64 = 11;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => f.write_str("kill -9"),
            Self::Stop(time) => write!(f, "stop for {:.1} s", time.as_secs_f64()),
            Self::DiskFull(time) => write!(f, "disk full for {:.1} s", time.as_secs_f64()),
            Self::Clock(ms, time) => write!(f, "clock {ms:+} ms for {:.1} s", time.as_secs_f64()),
            Self::Slow(delay, time) => write!(f, "{} ms slow for {:.1} s", delay.as_millis(), time.as_secs_f64()),
            Self::HalfOpen(time) => write!(f, "half-open for {:.1} s", time.as_secs_f64()),
            Self::Recycle => f.write_str("recycled"),
        }
    }
}

/// One fault at one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// What.
    pub target: Target,
    /// How.
    pub fault: Fault,
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.target, self.fault)
    }
}

/// Strikes at the nodes of a cluster: `kills` times the leader, and beside that followers killed, and nodes that fall
/// silent for longer than an election takes, as one that the network has cut off.
#[must_use]
pub fn at_nodes(kills: usize, rng: &mut ChaCha8Rng) -> Vec<Strike> {
    let silent = |rng: &mut ChaCha8Rng| Fault::Stop(Duration::from_millis(rng.random_range(10_000..16_000)));
    let mut strikes = vec![Strike { target: Target::NatsLeader, fault: Fault::Kill }; kills];
    for _ in 0..kills.div_ceil(4) {
        strikes.push(Strike { target: Target::NatsFollower, fault: Fault::Kill });
        strikes.push(Strike { target: Target::NatsLeader, fault: silent(rng) });
    }
    strikes.push(Strike { target: Target::NatsFollower, fault: silent(rng) });
    strikes.shuffle(rng);
    strikes
}

/// Planned restarts in waves: in each, every agent once, in another order.
#[must_use]
pub fn waves(count: usize, rng: &mut ChaCha8Rng) -> Vec<Strike> {
    let wave = |_| {
        let mut agents = AGENTS;
        agents.shuffle(rng);
        agents.map(|name| Strike { target: Target::Agent(name), fault: Fault::Recycle })
    };
    (0..count).flat_map(wave).collect()
}

/// What this machine allows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Means {
    /// A file system of its own is mounted at JetStream's folder.
    pub disk: bool,
    /// The clock shim is there.
    pub clock: bool,
}

/// Draws strikes. The same seed draws alike as far as the same targets are free: moments and interleaving are the
/// machine's.
#[derive(Debug)]
pub struct Fate {
    rng: ChaCha8Rng,
    means: Means,
    restarts: BTreeMap<Target, Vec<Instant>>,
}

impl Fate {
    /// From a seed.
    #[must_use]
    pub const fn new(rng: ChaCha8Rng, means: Means) -> Self {
        Self { rng, means, restarts: BTreeMap::new() }
    }

    /// `swarm up` was started by a person: the supervisor counts restarts from here.
    pub fn new_life(&mut self) {
        self.restarts.clear();
    }

    /// Whether an agent was struck so often that only a new life makes room.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        let worn = |names: &[&'static str]| {
            let times = names.iter().filter_map(|name| self.restarts.get(&Target::Agent(name)));
            times.filter(|times| times.len() >= RESTARTS_A_LIFE).count()
        };
        worn(&ON_THE_ROAD) >= 2 || worn(&AGENTS) >= 6
    }

    /// The next strike at something that is not in `busy`. `None`: nothing is free right now.
    pub fn draw(&mut self, busy: &[Target]) -> Option<Strike> {
        for _ in 0..64 {
            let strike = self.any();
            let is_free = !busy.contains(&strike.target) && self.has_room(&strike);
            if is_free {
                // Who is held so long that it is taken for hung dies some time in that.
                let dies_by = Instant::now() + strike.fault.lasts();
                for target in worn_by(&strike) {
                    self.restarts.entry(target).or_default().push(dies_by);
                }
                return Some(strike);
            }
        }
        None
    }

    /// How long until the next strike may be looked for.
    pub fn pause(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(200..1_500))
    }

    /// Whether the next strike falls while an earlier wound is open.
    pub fn overlaps(&mut self) -> bool {
        self.rng.random_bool(0.6)
    }

    /// A number below `bound`, for choices of the one who strikes.
    pub fn below(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound.max(1))
    }

    fn has_room(&self, strike: &Strike) -> bool {
        worn_by(strike).iter().all(|target| {
            let times = self.restarts.get(target).map_or(&[][..], Vec::as_slice);
            let recent = times.iter().filter(|at| at.elapsed() < MINUTE).count();
            match target {
                Target::Agent(_) => times.len() < RESTARTS_A_LIFE && recent < RESTARTS_A_MINUTE,
                _ => recent < DEATHS_A_MINUTE,
            }
        })
    }

    fn any(&mut self) -> Strike {
        let draw = self.rng.random_range(0..100_u32);
        let agent = self.agent();
        let (target, fault) = match draw {
            0..38 => (Target::Agent(agent), Fault::Kill),
            38..52 => (Target::Agent(agent), self.stop()),
            52..58 => (Target::Supervisor, Fault::Kill),
            58..61 => (Target::Supervisor, Fault::Stop(self.seconds(1, 24))),
            61..66 => (Target::Nats, Fault::Kill),
            66..69 => (Target::Nats, Fault::Stop(self.seconds(1, 8))),
            69..73 => (Target::Postgres, Fault::Kill),
            73 => (Target::Valkey, Fault::Kill),
            74..77 => (Target::Postgres, Fault::Stop(self.seconds(1, 8))),
            77..80 => (Target::PostgresBackend, Fault::Kill),
            80 => (Target::Valkey, Fault::Stop(self.seconds(1, 8))),
            81..83 => (Target::PostgresBackend, Fault::Stop(self.seconds(1, 8))),
            83..85 if self.means.disk => (Target::NatsDisk, Fault::DiskFull(self.seconds(2, 8))),
            85..90 if self.means.clock => (Target::Agent(agent), self.clock()),
            90..93 => (Target::Postgres, Fault::Slow(self.millis(80, 700), self.seconds(2, 8))),
            93..96 => (Target::Link(agent, Server::Postgres), Fault::HalfOpen(self.seconds(2, 14))),
            96..99 => (Target::Link(agent, Server::Nats), Fault::HalfOpen(self.seconds(2, 14))),
            99 => (Target::Up, Fault::Kill),
            _ => (Target::Agent(agent), Fault::Kill),
        };
        Strike { target, fault }
    }

    fn agent(&mut self) -> &'static str {
        let road = self.rng.random_bool(0.5);
        let from: &[&'static str] = if road { &ON_THE_ROAD } else { &AGENTS };
        from.choose(&mut self.rng).copied().unwrap_or("treasury")
    }

    fn stop(&mut self) -> Fault {
        // Mostly a hiccup; now and then so long that the supervisor takes it for hung.
        if self.rng.random_bool(0.2) { Fault::Stop(self.seconds(33, 42)) } else { Fault::Stop(self.seconds(1, 9)) }
    }

    fn clock(&mut self) -> Fault {
        let step = [-30_000, -3_000, 3_000, 30_000].choose(&mut self.rng).copied().unwrap_or(3_000);
        Fault::Clock(step, self.seconds(3, 9))
    }

    fn seconds(&mut self, least: u64, most: u64) -> Duration {
        self.millis(least * 1_000, most * 1_000)
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(least..=most))
    }
}

/// Whose restarts that somebody counts a strike uses up.
fn worn_by(strike: &Strike) -> Vec<Target> {
    let orphans = matches!((strike.target, strike.fault), (Target::Supervisor, Fault::Stop(time)) if time.as_secs() >= ORPHANING_STOP_S);
    let agents = AGENTS.into_iter().filter(|_| orphans).map(Target::Agent);
    restarts(strike).then_some(strike.target).into_iter().chain(agents).collect()
}

/// Whether a strike uses up a restart of its target.
fn restarts(strike: &Strike) -> bool {
    let ends = match strike.fault {
        Fault::Kill => true,
        Fault::Stop(time) => time.as_secs() >= LONG_STOP_S,
        _ => false,
    };
    ends && !matches!(strike.target, Target::Up | Target::Link(..))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn fate(seed: u64) -> Fate {
        Fate::new(ChaCha8Rng::seed_from_u64(seed), Means { disk: true, clock: true })
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_seed_draws_the_same_strikes() {
        let drawn = |seed| {
            let mut fate = fate(seed);
            (0..20).filter_map(|_| fate.draw(&[])).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn a_wave_has_every_agent_once() {
        let strikes = waves(3, &mut ChaCha8Rng::seed_from_u64(7));
        for wave in strikes.chunks(AGENTS.len()) {
            let struck: std::collections::BTreeSet<_> = wave.iter().map(|strike| strike.target).collect();
            assert_eq!(struck, AGENTS.into_iter().map(Target::Agent).collect());
        }
        assert_eq!(strikes.len(), 3 * AGENTS.len());
        assert_ne!(strikes[..9], strikes[9..18], "another order");
    }

    #[test]
    fn a_cluster_is_struck_at_its_leader_as_often_as_asked() {
        let strikes = at_nodes(10, &mut ChaCha8Rng::seed_from_u64(7));
        let kills = strikes.iter().filter(|s| s.target == Target::NatsLeader && s.fault == Fault::Kill).count();
        assert_eq!((kills, strikes.len()), (10, 17));
        assert_eq!(strikes, at_nodes(10, &mut ChaCha8Rng::seed_from_u64(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_agent_is_brought_into_quarantine_by_chaos_alone() {
        let mut fate = fate(1);
        for _ in 0..2_000 {
            tokio::time::advance(Duration::from_millis(500)).await;
            let _ = fate.draw(&[]);
        }
        for agent in AGENTS {
            let times = fate.restarts.get(&Target::Agent(agent)).map_or(0, Vec::len);
            assert!(times <= RESTARTS_A_LIFE, "{agent}: {times}");
        }
        assert!(fate.is_worn());
        fate.new_life();
        assert!(!fate.is_worn());
    }

    #[tokio::test(start_paused = true)]
    async fn the_minute_of_an_agent_that_is_held_begins_with_its_death() {
        let mut fate = fate(1);
        let held = loop {
            tokio::time::advance(MINUTE).await;
            fate.new_life();
            let Some(strike) = fate.draw(&[]) else { continue };
            if matches!((strike.target, strike.fault), (Target::Agent(_), Fault::Stop(time)) if time.as_secs() >= LONG_STOP_S)
            {
                break strike;
            }
        };
        let kill = Strike { target: held.target, fault: Fault::Kill };
        fate.restarts.entry(held.target).or_default().push(Instant::now() + held.fault.lasts());
        tokio::time::advance(held.fault.lasts() + MINUTE.mul_f64(0.9)).await;
        assert!(!fate.has_room(&kill));
        tokio::time::advance(MINUTE.mul_f64(0.2)).await;
        assert!(fate.has_room(&kill));
    }

    #[tokio::test(start_paused = true)]
    async fn a_supervisor_silent_for_so_long_that_its_agents_drain_wears_them_all() {
        let stop = |s| Strike { target: Target::Supervisor, fault: Fault::Stop(Duration::from_secs(s)) };
        assert_eq!(worn_by(&stop(5)), []);
        assert_eq!(worn_by(&stop(14)), AGENTS.map(Target::Agent));
        let mut fate = fate(1);
        fate.restarts.insert(Target::Agent("treasury"), vec![Instant::now(); RESTARTS_A_MINUTE]);
        assert!(!fate.has_room(&stop(14)) && fate.has_room(&stop(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn every_target_and_fault_is_drawn() {
        let mut fate = fate(3);
        let drawn: std::collections::BTreeSet<String> =
            (0..5_000).map(|_| fate.any()).map(|s| format!("{}: {}", s.target, s.fault.kind())).collect();
        for wanted in
            ["treasury: kill -9", "treasury: stop", "treasury: stop, hung", "treasury: clock", "swarm up: kill -9"]
        {
            assert!(drawn.contains(wanted), "{wanted}");
        }
        for wanted in [
            "nats: stop",
            "valkey: kill -9",
            "valkey: stop",
            "postgres: slow",
            "jetstream disk: disk full",
            "postgres backend: kill -9",
        ] {
            assert!(drawn.contains(wanted), "{wanted}");
        }
        assert!(drawn.contains("treasury~nats: half-open"));
    }
}
