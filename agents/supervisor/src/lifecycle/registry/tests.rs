//! What is known of agents, by a clock of the tests.

use super::*;

const BOOT: BootId = BootId(uuid::Uuid::from_u128(5));

fn registry() -> Registry {
    let agent = |name: &str, launch| crate::lifecycle::PlannedAgent {
        name: name.to_owned(),
        launch,
        max_concurrent: 8,
        takes_tasks: false,
    };
    let launch = crate::lifecycle::Launch { program: "no".into(), env: BTreeMap::new(), log: "no".into() };
    let plan = Plan { agents: vec![agent("a", Some(launch)), agent("x", None)], run_dir: "run".into() };
    Registry::new(&plan, &Settings::of_nobody())
}

fn heartbeat(busy: bool, oldest_in_flight_ms: i64) -> Heartbeat {
    Heartbeat {
        agent: "a".into(),
        boot_id: BOOT,
        pid: 1,
        progress: 1,
        busy,
        oldest_in_flight_ms,
        rss_bytes: 0,
        queue_depth: 0,
        dependencies: BTreeMap::new(),
        in_hand: vec!["$JS.ACK.1".into()],
        lacks: vec![],
        draining: false,
        unready: vec![],
        held: false,
        handled: 0,
        failed: 0,
    }
}

fn own() -> Heartbeat {
    Heartbeat { agent: NAME.into(), pid: std::process::id(), ..heartbeat(false, 0) }
}

/// A clock in ms, and a supervisor that hears itself.
struct Stage {
    start: Instant,
    registry: Registry,
}

impl Stage {
    fn new() -> Self {
        Self { start: Instant::now(), registry: registry() }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn hear_own(&self, from: u64, to: u64) {
        (from..=to).step_by(2_000).for_each(|ms| self.registry.beat(&own(), self.at(ms)));
    }

    fn sickness(&self, ms: u64) -> Option<Sickness> {
        self.registry.sickness("a", self.at(ms), Some(self.start))
    }

    fn verdict(&self, ms: u64) -> String {
        self.registry.view(self.at(ms), 0)[0]["verdict"].as_str().unwrap().to_owned()
    }
}

#[test]
fn silence_counts_only_while_our_own_heartbeats_come_back_to_us() {
    let stage = Stage::new();
    stage.registry.started("a", 1, BOOT, stage.at(0));
    stage.registry.beat(&heartbeat(false, 0), stage.at(0));
    assert_eq!(stage.sickness(3_600_000), None, "nobody was ever heard");
    stage.hear_own(0, 30_000);
    assert_eq!(stage.sickness(30_000), None);
    assert_eq!(stage.sickness(30_001), Some(Sickness::Deaf));
    assert_eq!(stage.sickness(35_000), Some(Sickness::Deaf));
    assert_eq!(stage.sickness(35_001), None, "not even we can be heard");
    stage.hear_own(36_000, 66_000);
    assert_eq!(stage.sickness(66_000), None, "they get the usual time after it is back");
    assert_eq!(stage.sickness(66_001), Some(Sickness::Deaf));
    stage.registry.beat(&Heartbeat { pid: 1, ..own() }, stage.at(71_000));
    assert_eq!(stage.sickness(71_001), None, "another supervisor's heartbeats are not ours");
}

#[test]
fn a_start_has_a_deadline_of_its_own_for_being_heard_and_for_being_ready() {
    let stage = Stage::new();
    stage.hear_own(0, 300_000);
    stage.registry.started("a", 1, BOOT, stage.at(0));
    assert_eq!((stage.sickness(60_000), stage.verdict(60_000).as_str()), (None, "starting"));
    assert_eq!(stage.sickness(60_001), Some(Sickness::NeverHeard));
    let unready = Heartbeat { unready: vec!["a consumer is not bound".into()], ..heartbeat(false, 0) };
    (1..31).for_each(|i| stage.registry.beat(&unready, stage.at(i * 2_000)));
    assert_eq!((stage.sickness(60_000), stage.verdict(60_000).as_str()), (None, "starting"));
    assert_eq!(stage.sickness(60_001), Some(Sickness::NeverReady("a consumer is not bound".into())));
    let since = |ms| stage.registry.sickness("a", stage.at(60_001), Some(stage.at(ms)));
    assert_eq!((since(0), since(2)), (stage.sickness(60_001), None), "the store was away until then");
    assert_eq!(stage.registry.sickness("a", stage.at(60_001), None), None, "the store is away");
    stage.registry.beat(&heartbeat(false, 0), stage.at(61_000));
    stage.registry.beat(&unready, stage.at(299_000));
    assert_eq!(stage.sickness(300_000), None, "it was ready once: an outage is no start");
}

#[test]
fn busy_without_progress_is_stuck_and_busy_with_progress_is_not() {
    let stage = Stage::new();
    stage.hear_own(0, 200_000);
    stage.registry.started("a", 1, BOOT, stage.at(0));
    let held = |progress, ms: i64| Heartbeat { progress, ..heartbeat(true, ms) };
    stage.registry.beat(&held(1, 0), stage.at(0));
    stage.registry.beat(&held(1, 61_000), stage.at(60_000));
    assert_eq!((stage.sickness(60_000), stage.verdict(60_000).as_str()), (None, "stuck"));
    assert_eq!(stage.sickness(60_001), Some(Sickness::Stuck));
    stage.registry.beat(&held(2, 61_000), stage.at(60_002));
    assert_eq!(stage.sickness(60_003), None, "it moves");
    stage.registry.beat(&held(2, 60_000), stage.at(121_000));
    assert_eq!(stage.sickness(121_001), None, "nothing is in hand for that long");
    stage.registry.beat(&Heartbeat { busy: false, ..held(2, 99_000) }, stage.at(122_000));
    assert_eq!(stage.sickness(125_000), None, "idle is well");
}

#[test]
fn a_verdict_needs_progress_and_not_a_pulse() {
    let stage = Stage::new();
    assert_eq!(stage.verdict(0), "down");
    stage.registry.started("a", 1, BOOT, stage.at(0));
    assert_eq!(stage.verdict(0), "starting");
    let after = |beat: Heartbeat, ms| {
        stage.registry.beat(&beat, stage.at(ms));
        stage.verdict(10_000)
    };
    assert_eq!(after(Heartbeat { boot_id: BootId(uuid::Uuid::nil()), ..heartbeat(false, 0) }, 9_000), "starting");
    assert_eq!(after(Heartbeat { unready: vec!["x".into()], ..heartbeat(false, 0) }, 9_000), "starting");
    assert_eq!(after(Heartbeat { held: true, ..heartbeat(false, 0) }, 9_000), "held");
    assert_eq!(after(heartbeat(false, 0), 10_000), "healthy");
    assert_eq!(after(heartbeat(true, 100), 10_000), "busy");
    assert_eq!(after(heartbeat(true, 15_001), 10_000), "stuck");
    assert_eq!(after(Heartbeat { draining: true, ..heartbeat(false, 0) }, 10_000), "draining");
    assert_eq!(after(heartbeat(false, 0), 4_000), "deaf");
    stage.registry.beat(&heartbeat(false, 0), stage.at(10_000));
    stage.registry.phase("a", Phase::Ending);
    assert_eq!(stage.verdict(10_000), "draining");
    stage.registry.phase("a", Phase::Stopped);
    assert_eq!(stage.verdict(10_000), "stopped");
    assert_eq!(stage.registry.ended("a", "exit 1"), ["$JS.ACK.1"]);
    assert_eq!(stage.verdict(10_000), "down");
    stage.registry.quarantined("a", Some("4 faults in 60 s"));
    assert_eq!(stage.verdict(10_000), "quarantined");
}

#[test]
fn what_somebody_else_starts_is_known_by_its_newest_start() {
    let stage = Stage::new();
    let beat = |n: u128, held| {
        let beat =
            Heartbeat { agent: "x".into(), boot_id: BootId(uuid::Uuid::from_u128(n)), held, ..heartbeat(false, 0) };
        stage.registry.beat(&beat, stage.at(0));
        stage.registry.incarnation("x").map(|one| (one.boot_id.0.as_u128(), one.is_held))
    };
    assert_eq!(stage.registry.incarnation("x"), None);
    assert_eq!(beat(5, true), Some((5, true)));
    assert_eq!(beat(6, true), Some((6, true)));
    assert_eq!(beat(5, false), Some((6, true)), "late words of the one before");
    assert_eq!(beat(6, false), Some((6, false)));
    stage.registry.quarantined("x", Some("4 faults in 60 s"));
    assert_eq!(beat(7, true), Some((7, true)));
    assert_eq!(stage.registry.view(stage.at(0), 0)[1]["verdict"], "quarantined", "a new start of it is no release");
}

#[test]
fn restarts_are_told_by_window_and_by_kind() {
    let stage = Stage::new();
    let now = 100_000_000;
    let ends = [(now, RestartKind::Crash), (now - 60_000, RestartKind::Hang), (now - 900_000, RestartKind::Crash)];
    stage.registry.restarts("a", &ends);
    let row = stage.registry.view(stage.at(0), now)[0].clone();
    assert_eq!(row["restarts_in"], json!({ "60s": 1, "15min": 2, "24h": 3 }));
    assert_eq!(row["restarts_by_kind"], json!({ "crash": 2, "hang": 1 }));
    assert_eq!(row["restarts"], 3);
}

#[test]
fn what_a_person_wants_is_done_once() {
    let registry = registry();
    assert!(registry.want("a", "new settings") && !registry.want("nobody", ""));
    assert_eq!(registry.take_wanted("a").as_deref(), Some("new settings"));
    assert_eq!(registry.take_wanted("a"), None);
    registry.declared_anew("a");
    assert!(registry.take_stale("a") && !registry.take_stale("a"));
}
