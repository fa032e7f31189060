use super::*;

const SETTINGS: Settings = Settings {
    failures: 5,
    open: Duration::from_secs(30),
    share_percent: 50,
    share_of_calls: 20,
    window: Duration::from_secs(60),
    cooldown_failures: 3,
    cooldown: Duration::from_secs(60),
};

struct Scene {
    breaker: Arc<Breaker>,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        Self { breaker: Arc::new(Breaker::new(SETTINGS)), now: Instant::now() }
    }

    fn later(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    fn fail(&self, kind: Kind) -> bool {
        self.breaker.pass(self.now).unwrap().failed(self.now, &Failure::new(kind, ""))
    }

    fn busy(&self, retry_after_s: Option<u64>) {
        let failure = Failure::new(Kind::RateLimited, "").with_retry_after(retry_after_s.map(Duration::from_secs));
        self.breaker.pass(self.now).unwrap().failed(self.now, &failure);
    }

    fn succeed(&self) {
        self.breaker.pass(self.now).unwrap().succeeded(self.now);
    }

    fn open(&self) {
        for _ in 0..5 {
            self.fail(Kind::Unreachable);
        }
    }

    fn why(&self) -> Option<Kind> {
        self.breaker.look(self.now).err().map(|(kind, _)| kind)
    }
}

#[test]
fn five_failures_in_a_row_open_it_and_one_probe_finds_out() {
    let mut scene = Scene::new();
    let opened: Vec<bool> = (0..5).map(|_| scene.fail(Kind::Timeout)).collect();
    assert_eq!(opened, [false, false, false, false, true]);
    scene.later(29_999);
    assert_eq!(scene.breaker.look(scene.now).unwrap_err(), (Kind::BreakerOpen, Duration::from_millis(1)));
    scene.later(1);
    let probes: Vec<Result<Pass, Closed>> = (0..64).map(|_| scene.breaker.pass(scene.now)).collect();
    assert_eq!(probes.iter().filter(|probe| probe.is_ok()).count(), 1);
    assert_eq!(scene.breaker.phase(scene.now), Phase::HalfOpen);
    let probe = probes.into_iter().find_map(Result::ok).unwrap();
    assert!(probe.is_probe() && probe.failed(scene.now, &Failure::new(Kind::Timeout, "")));
    assert_eq!(scene.why(), Some(Kind::BreakerOpen));
    scene.later(30_000);
    scene.succeed();
    assert_eq!((scene.why(), scene.breaker.phase(scene.now)), (None, Phase::Closed));
    assert_eq!(scene.breaker.history(), (2, Some(Kind::Timeout)));
}

#[test]
fn a_success_between_begins_the_count_anew() {
    let scene = Scene::new();
    for _ in 0..4 {
        scene.fail(Kind::ServerError);
    }
    scene.succeed();
    for _ in 0..4 {
        assert!(!scene.fail(Kind::ServerError));
    }
    assert!(scene.fail(Kind::ServerError));
}

#[test]
fn a_tier_that_flaps_opens_it_by_its_share_and_a_rare_failure_does_not() {
    let flapping = Scene::new();
    let opened = (0..10).any(|_| {
        flapping.succeed();
        flapping.fail(Kind::ServerError)
    });
    assert!(opened);
    let well = Scene::new();
    for _ in 0..50 {
        for _ in 0..9 {
            well.succeed();
        }
        assert!(!well.fail(Kind::ServerError));
    }
}

#[test]
fn failures_older_than_the_window_are_no_share() {
    let mut scene = Scene::new();
    for _ in 0..9 {
        scene.fail(Kind::ServerError);
        scene.succeed();
    }
    scene.later(60_001);
    for _ in 0..10 {
        scene.succeed();
        scene.succeed();
        assert!(!scene.fail(Kind::ServerError));
    }
}

#[test]
fn a_callers_fault_counts_nothing_and_proves_that_the_tier_is_there() {
    let mut scene = Scene::new();
    for _ in 0..50 {
        assert!(!scene.fail(Kind::BadRequest));
    }
    assert_eq!(scene.why(), None);
    scene.open();
    scene.later(30_000);
    assert!(!scene.fail(Kind::ContextLength));
    assert_eq!(scene.why(), None, "the probe was answered");
}

#[test]
fn a_wrong_key_closes_it_until_the_configuration_changes() {
    let mut scene = Scene::new();
    assert!(scene.fail(Kind::Unauthorized));
    scene.later(3_600_000);
    assert_eq!((scene.why(), scene.breaker.phase(scene.now)), (Some(Kind::Unauthorized), Phase::Rejected));
    scene.breaker.reset();
    assert_eq!(scene.why(), None);
}

#[test]
fn retry_after_is_obeyed_at_once_and_three_429s_in_a_minute_cool_it_down() {
    let mut scene = Scene::new();
    scene.busy(Some(2));
    assert_eq!(scene.breaker.look(scene.now).unwrap_err(), (Kind::CoolingDown, Duration::from_secs(2)));
    scene.later(2_000);
    scene.busy(None);
    assert_eq!(scene.why(), None, "the second, and it named no time");
    scene.busy(None);
    assert_eq!(scene.breaker.look(scene.now).unwrap_err(), (Kind::CoolingDown, Duration::from_secs(60)));
    assert_eq!(scene.breaker.phase(scene.now), Phase::Cooling);
    scene.later(60_000);
    assert_eq!(scene.why(), None);
}

#[test]
fn retry_after_extends_a_cooldown_and_never_shortens_it() {
    let scene = Scene::new();
    let passes: Vec<Pass> = (0..5).map(|_| scene.breaker.pass(scene.now).unwrap()).collect();
    for (pass, asked) in passes.into_iter().zip([None, None, None, Some(300), Some(1)]) {
        let failure = Failure::new(Kind::RateLimited, "").with_retry_after(asked.map(Duration::from_secs));
        pass.failed(scene.now, &failure);
    }
    assert_eq!(scene.breaker.look(scene.now).unwrap_err(), (Kind::CoolingDown, Duration::from_secs(300)));
}

#[test]
fn how_a_call_from_before_the_opening_ends_says_nothing_about_now() {
    let scene = Scene::new();
    let early: Vec<Pass> = (0..2).map(|_| scene.breaker.pass(scene.now).unwrap()).collect();
    scene.open();
    let mut early = early.into_iter();
    early.next().unwrap().succeeded(scene.now);
    assert_eq!(scene.why(), Some(Kind::BreakerOpen));
    assert!(!early.next().unwrap().failed(scene.now, &Failure::new(Kind::Unreachable, "")));
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_caller_went_away_is_given_back() {
    let mut scene = Scene::new();
    scene.open();
    scene.later(30_000);
    tokio::time::advance(Duration::from_secs(30)).await;
    drop(scene.breaker.pass(scene.now).unwrap());
    assert!(scene.breaker.pass(scene.now).unwrap().is_probe());
}
