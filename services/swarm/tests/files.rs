//! Protected files of a running swarm, changed from outside of every sandbox: by a person, or by whatever runs as the same
//! user.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bus::{Bus, BusConfig};
use common::{Up, send, up_command, wait_until_gone};
use domain::canonical::Sha256Digest;
use domain::person::{Act, PersonAct};
use domain::subject::{Route, Stream};
use domain::time::Clock;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::Row;
use swarm::people::{Connection, Files};
use testkit::servers::fresh_folder;
use testkit::wait::wait_until_blocking;

const BOUND: Duration = Duration::from_secs(30);

/// A swarm on a configuration of its own, without strategies: what trades here came from this test.
struct Scene {
    up: Up,
    data: PathBuf,
    config: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn new() -> Self {
        let (data, config) = (fresh_folder("files"), fresh_folder("files-config"));
        for file in std::fs::read_dir(common::config()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), config.join(file.file_name())).unwrap();
        }
        change(&config, "strategies.toml", "enabled = true", "enabled = false");
        // Not beside the others: what lies elsewhere is guarded too.
        let people = data.join("who.toml");
        std::fs::copy(config.join("people.toml"), &people).unwrap();
        let mut command = up_command(&data, &config);
        command.arg("--people").arg(&people);
        let up = Up::of(&data, command);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let scene = Self { up, data, config, runtime };
        wait_until_blocking(BOUND, "a first look at the files", || {
            scene.ask(&["files", "status"])["is_declared"] == true
        });
        scene
    }

    fn ask(&self, arguments: &[&str]) -> Value {
        self.up.ask(arguments)
    }

    fn kill(&self) -> Value {
        self.ask(&["status"])["kill"].clone()
    }

    /// Files that are not as declared.
    fn wrong(&self) -> Vec<Value> {
        let status = self.ask(&["files", "status"]);
        let wrong = status["files"].as_array().unwrap().iter().filter(|row| row["as_declared"] == false);
        wrong.map(|row| row["file"].clone()).collect()
    }

    fn wait_for_level(&self, level: u8) {
        wait_until_blocking(BOUND, &format!("kill level {level}"), || self.kill()["level"] == level);
    }

    fn sql(&self, statement: &'static str) -> Vec<Value> {
        let url = std::fs::read_to_string(self.data.join("secrets/admin.url")).unwrap();
        self.runtime.block_on(async {
            let pool = sqlx::PgPool::connect(url.trim()).await.unwrap();
            let rows = sqlx::query(statement).fetch_all(&pool).await.unwrap();
            let rows = rows.iter().map(|row| row.try_get(0).unwrap_or(Value::Null)).collect();
            pool.close().await;
            rows
        })
    }

    /// Bodies of governance rows, oldest first.
    fn governance(&self, kind: &str) -> Vec<Value> {
        let rows = self.sql("SELECT jsonb_build_object('kind', kind, 'body', body) FROM governance_audit ORDER BY seq");
        rows.into_iter().filter(|row| row["kind"] == kind).map(|row| row["body"].clone()).collect()
    }

    /// The newest alert on its stream, as the administrator reads it.
    fn alert(&self) -> String {
        self.runtime.block_on(async {
            let seed = Bus::read_seed(&self.data.join("secrets/admin.nk")).unwrap();
            let config = BusConfig {
                url: Files::load(&self.data).unwrap().nats_url,
                name: "test".into(),
                nkey_seed: Some(seed),
                inbox_prefix: Some(bus::permissions::inbox_prefix("admin")),
            };
            let (bus, _events) = Bus::connect(config).await.unwrap();
            let context = async_nats::jetstream::new(bus.client().clone());
            let subject = domain::subject::Subject::fact(Route::Alert);
            let stream = context.get_stream_no_info(subject.stream().map_or("", Stream::name)).await.unwrap();
            let newest = stream.get_last_raw_message_by_subject(&subject.to_string()).await;
            newest.map_or_else(|_| String::new(), |found| String::from_utf8_lossy(&found.payload).into_owned())
        })
    }

    /// What became of a buy: `permitted`, or the code of the refusal with its numbers.
    fn buy(&self) -> Value {
        let id = uuid::Uuid::from_u128(u128::from(self.decisions() + 1)).to_string();
        let before = self.decisions();
        let sent = self.ask(&["signal", "BUY", "BTCUSDT", "--notional-usd", "20", "--id", &id]);
        assert_eq!(sent["ok"], true, "{sent}");
        wait_until_blocking(BOUND, "a decision", || self.decisions() > before);
        self.ask(&["positions"])["recent_decisions"][0].clone()
    }

    fn decisions(&self) -> u64 {
        let counted = self.sql("SELECT to_jsonb(count(*)) FROM policy_decisions");
        counted[0].as_u64().unwrap()
    }

    /// Signs `what` as the operator does, and sends it to the files' door.
    fn act(&self, what: Act) -> Value {
        let files = Files::load(&self.data).unwrap();
        let act = PersonAct {
            schema: PersonAct::SCHEMA.to_owned(),
            person_id: "operator".to_owned(),
            what,
            reason: "because".to_owned(),
            signed_at: runtime::clock::SystemClock.now(),
        };
        let signed = rails::signature::sign_act(&files.person_key().unwrap(), act).unwrap();
        self.door(&serde_json::to_value(signed).unwrap())
    }

    fn door(&self, body: &Value) -> Value {
        let files = Files::load(&self.data).unwrap();
        self.runtime.block_on(async {
            let connection = Connection::open(&files).await.unwrap();
            connection.request("swarm.files.approve", body).await.unwrap()
        })
    }
}

fn change(config: &Path, file: &str, old: &str, new: &str) {
    let text = std::fs::read_to_string(config.join(file)).unwrap();
    assert!(text.contains(old), "{file} has no {old}");
    std::fs::write(config.join(file), text.replace(old, new)).unwrap();
}

/// A refusal must not teach whoever was refused where the lever is.
fn assert_tells_no_lever(refusal: &Value, scene: &Scene) {
    let words = format!("{} {}", refusal["code"], refusal["numbers"]).to_lowercase();
    let keys = std::fs::read_to_string(scene.config.join("limits.toml")).unwrap();
    let keys = keys.lines().filter_map(|line| line.split_once(" = ").map(|(key, _)| key.trim().to_owned()));
    let levers =
        ["/", ".toml", "file", "seal", "program", "approver", "config", "swarm", "resume", "halt", "sql", "restart"];
    for lever in
        levers.map(str::to_owned).into_iter().chain(keys.filter(|key| !key.is_empty() && !key.starts_with('#')))
    {
        assert!(!words.contains(&lever), "{words} names {lever}");
    }
}

#[test]
fn limits_changed_while_the_swarm_runs_stop_new_risk_until_they_are_back_and_a_person_resumes() {
    let scene = Scene::new();
    assert_eq!((scene.kill()["level"].as_u64(), scene.buy()["outcome"].as_str()), (Some(0), Some("permitted")));
    assert_eq!(scene.wrong(), Vec::<Value>::new());
    let limits = std::fs::read(scene.config.join("limits.toml")).unwrap();
    change(&scene.config, "limits.toml", "position_usd = \"10000\"", "position_usd = \"90000\"");
    // Treasury looks for itself: not even an order of this moment passes.
    let refused = scene.buy();
    assert_eq!(
        (refused["outcome"].as_str(), refused["code"].as_str()),
        (Some("refused"), Some("KILL_LEVEL")),
        "{refused}"
    );
    assert_tells_no_lever(&refused, &scene);
    scene.wait_for_level(1);
    let kill = scene.kill();
    assert!(kill["by"] == "supervisor" && kill["reason"].as_str().unwrap().contains("limits.toml"), "{kill}");
    wait_until_blocking(BOUND, "an alert", || scene.alert().contains("limits.toml is not what a person declared"));
    let changed = scene.governance("protected_file_changed");
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert_eq!((changed[0]["file"].as_str(), changed[0]["class"].as_str()), (Some("limits.toml"), Some("untouchable")));
    assert!(changed[0]["declared"] != changed[0]["found"] && changed[0]["path"].is_string(), "{changed:?}");
    assert!(scene.governance("protected_file_touched").iter().any(|row| row["file"] == "limits.toml"));
    assert_eq!(scene.wrong(), ["limits.toml"]);

    // Whoever resumes without looking is back where they were.
    let epoch = kill["epoch"].as_i64().unwrap();
    assert_eq!(scene.ask(&["resume", "--reason", "not looked at"])["ok"], true);
    wait_until_blocking(BOUND, "the level raised again", || {
        let kill = scene.kill();
        kill["level"] == 1 && kill["epoch"].as_i64() > Some(epoch + 1)
    });
    assert_eq!(scene.governance("protected_file_changed").len(), 1, "one change is told once");
    assert_eq!(scene.buy()["code"], "KILL_LEVEL");

    std::fs::write(scene.config.join("limits.toml"), limits).unwrap();
    wait_until_blocking(BOUND, "the file known to be back", || scene.governance("protected_file_restored").len() == 1);
    assert_eq!(scene.kill()["level"], 1, "only a person lowers it");
    assert_eq!(scene.ask(&["resume", "--reason", "limits put back"])["ok"], true);
    wait_until_blocking(BOUND, "a permit", || scene.buy()["outcome"] == "permitted");
    assert_eq!(scene.kill()["level"], 0);
    assert_eq!(scene.ask(&["audit", "verify"])["verdict"], "valid");
}

#[test]
fn a_file_of_the_configuration_changes_with_a_persons_signature_and_not_without() {
    let scene = Scene::new();
    let review = scene.config.join("review.toml");
    let row = |scene: &Scene| {
        let status = scene.ask(&["files", "status"]);
        status["files"].as_array().unwrap().iter().find(|row| row["file"] == "review.toml").unwrap().clone()
    };
    let declared = Sha256Digest::parse(row(&scene)["declared"].as_str().unwrap()).unwrap();
    let own = std::fs::read_to_string(&review).unwrap();
    let fresh = scene.data.join("fresh.toml");
    std::fs::write(&fresh, format!("{own}\n# said anew\n")).unwrap();
    let fresh = fresh.to_str().unwrap();

    // Approved first, then put in place: nothing is stopped.
    let approved = scene.ask(&["files", "approve", "review.toml", "--with", fresh, "--reason", "said anew"]);
    assert_eq!((approved["ok"].as_bool(), approved["by"].as_str()), (Some(true), Some("operator")), "{approved}");
    std::fs::copy(fresh, &review).unwrap();
    let to = approved["to"].clone();
    wait_until_blocking(BOUND, "the new file seen", || row(&scene)["found"] == to);
    assert_eq!((row(&scene)["as_declared"].as_bool(), scene.kill()["level"].as_u64()), (Some(true), Some(0)));
    let rows = scene.governance("file_approved");
    assert_eq!((rows.len(), &rows[0]["from"], &rows[0]["to"]), (1, &json!(declared), &to), "old and new digest");
    assert_eq!((rows[0]["by"].as_str(), rows[0]["reason"].as_str()), (Some("operator"), Some("said anew")));

    // Changed first: no new risk until somebody signs for it.
    std::fs::write(&review, format!("{own}\n# and again\n")).unwrap();
    scene.wait_for_level(1);
    // In force first, then written down.
    wait_until_blocking(BOUND, "its row", || !scene.governance("protected_file_changed").is_empty());
    assert_eq!(scene.governance("protected_file_changed")[0]["class"], "protected");

    // No other act, no other file, no stranger: and each try stands in the chain.
    let to = Sha256Digest([7; 32]);
    let untouchable = Act::ApproveFile { file: "limits.toml".to_owned(), from: None, to };
    let stale = Act::ApproveFile { file: "review.toml".to_owned(), from: Some(declared), to };
    let unknown = Act::ApproveFile { file: "../review.toml".to_owned(), from: None, to };
    let mut forged = json!({ "act": { "schema": PersonAct::SCHEMA, "person_id": "operator", "reason": "mine",
        "what": { "act": "approve_file", "file": "review.toml", "from": null, "to": to },
        "signed_at": runtime::clock::SystemClock.now() }, "signature": "00".repeat(64) });
    let mut refused = vec![
        (scene.act(untouchable), "UNTOUCHABLE"),
        (scene.act(stale), "STALE_DIGEST"),
        (scene.act(unknown), "UNKNOWN_FILE"),
        (scene.act(Act::LowerKill { level: 0, epoch: 1 }), "WRONG_ACT"),
        (scene.door(&forged), "BAD_SIGNATURE"),
        (scene.door(&json!({ "file": "review.toml" })), "NOT_SIGNED"),
    ];
    forged["act"]["person_id"] = json!("monitor");
    refused.push((scene.door(&forged), "UNKNOWN_APPROVER"));
    for (answer, code) in &refused {
        assert_eq!((answer["ok"].as_bool(), answer["code"].as_str()), (Some(false), Some(*code)), "{answer}");
    }
    let noted: Vec<Value> = scene.governance("file_change_refused").iter().map(|row| row["code"].clone()).collect();
    assert_eq!(noted, refused.iter().map(|(_, code)| json!(code)).collect::<Vec<_>>());
    assert_eq!((row(&scene)["as_declared"].as_bool(), scene.governance("file_approved").len()), (Some(false), 1));

    assert_eq!(scene.ask(&["files", "approve", "review.toml", "--reason", "looked at it"])["ok"], true);
    wait_until_blocking(BOUND, "the file as declared", || row(&scene)["as_declared"] == true);
    assert_eq!(scene.ask(&["resume", "--reason", "approved"])["ok"], true);
    wait_until_blocking(BOUND, "a permit", || scene.buy()["outcome"] == "permitted");

    // A supervisor that starts anew knows it from the chain.
    let before = scene.up.processes()["supervisor"];
    send(before, Signal::SIGKILL);
    wait_until_blocking(BOUND, "a new supervisor that looked", || {
        let status = scene.ask(&["status"]);
        !status["supervisor_pid"].is_null()
            && status["supervisor_pid"] != before
            && scene.ask(&["files", "status"])["is_declared"] == true
    });
    assert_eq!((row(&scene)["as_declared"].as_bool(), scene.kill()["level"].as_u64()), (Some(true), Some(0)));
}

#[test]
fn an_approver_nobody_declared_stops_new_risk() {
    let scene = Scene::new();
    scene.sql("INSERT INTO approvers (person_id, handle, public_key, active) VALUES ('mallory', NULL, repeat('ab', 32), true)");
    assert_eq!(scene.buy()["code"], "KILL_LEVEL", "treasury asks before it signs");
    scene.wait_for_level(1);
    let changed = scene.governance("protected_file_changed");
    assert_eq!((changed.len(), changed[0]["file"].as_str()), (1, Some("approvers")), "{changed:?}");
    assert_eq!(scene.ask(&["files", "status"])["approvers_as_declared"], false);
}

#[test]
fn what_changed_between_two_runs_is_declared_by_the_person_who_starts_and_told() {
    let mut scene = Scene::new();
    let first = scene.governance("files_declared");
    assert_eq!((first.len(), &first[0]["changed"]), (1, &Value::Null));
    for (name, class) in [
        ("limits.toml", "untouchable"),
        ("program", "untouchable"),
        ("bin/treasury", "untouchable"),
        ("plan.json", "untouchable"),
        ("permit.pub", "untouchable"),
        ("anchor.pub", "untouchable"),
        ("people.toml", "untouchable"),
        ("strategies.toml", "protected"),
        ("llm.toml", "protected"),
    ] {
        assert_eq!(first[0]["files"][name]["class"], class, "{name}");
    }
    let processes = scene.up.processes();
    send(scene.up.child.id(), Signal::SIGINT);
    assert_eq!(scene.up.wait_for_end("the end after Ctrl-C"), 0);
    wait_until_gone(&processes);
    change(&scene.config, "limits.toml", "position_usd = \"10000\"", "position_usd = \"9000\"");
    scene.up = Up::start_with(&scene.data, &scene.config);
    let declared = scene.governance("files_declared");
    let changed: Vec<&str> =
        declared[1]["changed"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(changed.contains(&"limits.toml") && !changed.contains(&"program"), "{changed:?}");
    let told = std::fs::read_to_string(scene.data.join("up.log")).unwrap();
    assert!(told.contains("limits.toml is not what it was at the start before"), "{told}");
    wait_until_blocking(BOUND, "a first look at the files", || scene.ask(&["files", "status"])["is_declared"] == true);
    assert_eq!((scene.kill()["level"].as_u64(), scene.buy()["outcome"].as_str()), (Some(0), Some("permitted")));
}
