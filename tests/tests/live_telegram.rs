//! The whole swarm with a line to a double of Telegram: a person is asked, presses, and the order fills; exits and halts
//! come from the chat; the token is where it must be and nowhere else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use domain::time::Clock;
use nix::sys::signal::Signal;
use runtime::clock::SystemClock;
use serde_json::Value;
use servers::{Child, Launch, Programs};
use testkit::servers::fresh_folder;
use testkit::telegram::{Fault, TOKEN, Telegram};
use tokio::time::Instant;

const OPERATOR: i64 = 4_242;
const READY_WITHIN: Duration = Duration::from_secs(120);
const BOUND: Duration = Duration::from_secs(60);

struct Swarm {
    folder: PathBuf,
    summary: Value,
    _up: Child,
}

fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().and_then(Path::parent).unwrap().join("swarm");
    assert!(program.is_file(), "{} is not built: cargo build --workspace --bins", program.display());
    program
}

impl Swarm {
    fn start(telegram: &Telegram) -> Self {
        let folder = fresh_folder("telegram");
        let config = folder.join("config");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        std::fs::create_dir_all(&config).unwrap();
        for file in std::fs::read_dir(root.join("config")).unwrap() {
            let file = file.unwrap().path();
            std::fs::copy(&file, config.join(file.file_name().unwrap())).unwrap();
        }
        let strategies = config.join("strategies.toml");
        let text = std::fs::read_to_string(&strategies).unwrap().replace("enabled = true", "enabled = false");
        std::fs::write(&strategies, text).unwrap();
        let ready = folder.join("ready.json");
        let mut command = Command::new(program());
        command.arg("--data-dir").arg(folder.join("data")).arg("up").args(["--market", "scripted"]);
        command.arg("--config-dir").arg(&config).arg("--ready-file").arg(&ready);
        command.env("TELEGRAM_TOKEN", TOKEN).env("TELEGRAM_API_URL", telegram.url());
        if let Some(venv) = Programs::usual_venv() {
            command.env("SWARM_VENV", venv);
        }
        let mut up = servers::spawn(Launch {
            command,
            name: "swarm up".to_owned(),
            log: folder.join("up.log"),
            stop_signal: Signal::SIGTERM,
            death_signal: Signal::SIGTERM,
        })
        .unwrap();
        let whole = || std::fs::read(&ready).is_ok_and(|text| serde_json::from_slice::<Value>(&text).is_ok());
        up.wait_until_ready(READY_WITHIN, whole).unwrap();
        let summary = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        Self { folder, summary, _up: up }
    }

    /// A command of `swarm`, as a person at the terminal types it.
    fn run(&self, words: &[&str]) -> Value {
        let done = Command::new(program())
            .arg("--data-dir")
            .arg(self.folder.join("data"))
            .arg("--json")
            .args(words)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let errors = String::from_utf8_lossy(&done.stderr);
        serde_json::from_str(said.trim()).unwrap_or_else(|_| panic!("{words:?}: {said} {errors}"))
    }

    /// The row of the prompt is written right after the message; a person is never as fast as this test.
    async fn prompt_is_recorded(&self) {
        let admin = std::fs::read_to_string(self.folder.join("data/secrets/admin.url")).unwrap();
        let ledger = sqlx::PgPool::connect(admin.trim()).await.unwrap();
        testkit::wait_until(BOUND, "the row of the prompt", || async {
            let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM telegram_prompts").fetch_one(&ledger).await;
            count.unwrap() > 0
        })
        .await;
    }

    /// Every process of the swarm, by name.
    fn processes(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        collect(&self.summary, "", &mut found);
        found.sort_by_key(|(_, pid)| *pid);
        found.dedup_by_key(|(_, pid)| *pid);
        found
    }
}

/// Every `pid` of a summary, with the name beside it.
fn collect(value: &Value, name: &str, found: &mut Vec<(String, u64)>) {
    match value {
        Value::Object(fields) => {
            let own = fields.get("agent").or_else(|| fields.get("name")).and_then(Value::as_str).unwrap_or(name);
            for (field, value) in fields {
                match value.as_u64().filter(|_| field.ends_with("pid")) {
                    Some(pid) => found.push((format!("{own} {field}"), pid)),
                    None => collect(value, field, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, name, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_asked_in_telegram_presses_and_the_order_fills() {
    let telegram = Telegram::start(SystemClock.now()).await;
    telegram.person(OPERATOR, "Olga");
    let swarm = Swarm::start(&telegram);
    let link = swarm.run(&["telegram", "link"]);
    telegram.say(OPERATOR, &format!("/start {}", link["code"].as_str().unwrap()));
    telegram.wait_for(OPERATOR, BOUND, "the greeting", |sent| sent.text.contains("speaks for operator")).await;

    let sent_at = Instant::now();
    let signal = swarm.run(&["signal", "BUY", "BTCUSDT", "--notional-usd", "1500"]);
    assert_eq!(signal["accepted"], true, "{signal}");
    let prompt = telegram.wait_for(OPERATOR, BOUND, "a prompt", |sent| sent.button("✅ Approve").is_some()).await;
    let asked_after = sent_at.elapsed();
    assert!(prompt.text.contains("BUY") && prompt.text.contains("BTCUSDT"), "{}", prompt.text);
    swarm.prompt_is_recorded().await;
    let pressed_at = Instant::now();
    telegram.press(OPERATOR, &prompt, "✅ Approve");
    let done = telegram.wait_for(OPERATOR, BOUND, "the fill", |sent| sent.text.contains("Filled: ")).await;
    println!(
        "figure: asked {} ms after the signal, filled and shown {} ms after the press",
        asked_after.as_millis(),
        pressed_at.elapsed().as_millis()
    );
    assert_eq!((done.id, done.buttons.len()), (prompt.id, 0), "{}", done.describe());
    assert!(done.text.contains("operator: approve (telegram"), "{}", done.text);
    let held = swarm.run(&["positions"]);
    assert_eq!(held["positions"].as_array().unwrap().len(), 1, "{held}");

    decided_at_the_terminal_while_telegram_is_away(&telegram, &swarm).await;

    // Status with a picture, an exit, and a halt.
    telegram.say(OPERATOR, "/status");
    telegram.wait_for(OPERATOR, BOUND, "the curve", |sent| sent.photo.is_some() && sent.text.contains("Running")).await;
    telegram.say(OPERATOR, "/limits");
    telegram.wait_for(OPERATOR, BOUND, "the limits", |sent| sent.text.contains("Limits") && sent.text.len() > 80).await;
    telegram.say(OPERATOR, "/close BTCUSDT");
    telegram.wait_for(OPERATOR, BOUND, "the answer", |sent| sent.text.contains("Sale of all BTCUSDT")).await;
    testkit::wait_until(BOUND, "the exit, and nothing but it", || async {
        swarm.run(&["positions"])["positions"].as_array().is_some_and(|held| held.len() == 1)
    })
    .await;
    telegram.say(OPERATOR, "/halt that is enough");
    telegram.wait_for(OPERATOR, BOUND, "the level", |sent| sent.text.contains("Kill level 1. No new risk")).await;
    let status = swarm.run(&["status"]);
    assert_eq!(status["kill"]["level"], 1, "{status}");
    assert_eq!(status["kill"]["reason"], "that is enough");
    assert_eq!(telegram.violations(), Vec::<String>::new());

    the_token_is_in_one_process_and_in_no_log(&swarm);
}

/// No call of ours is answered; the question is there all the same, and its end is told when Telegram is back.
async fn decided_at_the_terminal_while_telegram_is_away(telegram: &Telegram, swarm: &Swarm) {
    telegram.outage(Some(Fault::Hang));
    let signal = swarm.run(&["signal", "BUY", "ETHUSDT", "--notional-usd", "1500"]);
    assert_eq!(signal["accepted"], true, "{signal}");
    testkit::wait_until(BOUND, "the question", || async {
        swarm.run(&["approvals"])["approvals"].as_array().is_some_and(|waiting| waiting.len() == 1)
    })
    .await;
    let decided_at = Instant::now();
    assert_eq!(swarm.run(&["approve", "last"])["status"], "allowed");
    testkit::wait_until(BOUND, "the fill", || async {
        swarm.run(&["positions"])["positions"].as_array().is_some_and(|held| held.len() == 2)
    })
    .await;
    println!("figure: with Telegram away, filled {} ms after `swarm approve`", decided_at.elapsed().as_millis());
    telegram.outage(None);
    telegram.wait_for(OPERATOR, BOUND, "that it filled", |sent| sent.text.contains("ETHUSDT")).await;
}

fn the_token_is_in_one_process_and_in_no_log(swarm: &Swarm) {
    let processes = swarm.processes();
    let mut holders = Vec::new();
    for (name, pid) in &processes {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if String::from_utf8_lossy(&environ).contains("test_double_secret") {
            holders.push(name.clone());
        }
    }
    assert!(processes.len() >= 12, "{processes:?}");
    assert_eq!(holders, vec!["telegram_jarvis pid"], "of {processes:?}");
    let logs = std::fs::read_dir(swarm.folder.join("data/log")).unwrap();
    let files = logs.map(|entry| entry.unwrap().path()).chain([swarm.folder.join("up.log")]);
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains("test_double_secret"), "{}", file.display());
    }
}
