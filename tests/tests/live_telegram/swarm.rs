//! A `swarm up` of a test's own with a bot.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use servers::{Child, Launch, Programs};
use testkit::servers::fresh_folder;
use testkit::telegram::{TOKEN, Telegram};

/// The operator's account at Telegram.
pub const OPERATOR: i64 = 4_242;
/// Bound of every wait.
pub const BOUND: Duration = Duration::from_secs(60);
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A running swarm whose bot is the double.
pub struct Swarm {
    pub folder: PathBuf,
    summary: Value,
    _up: Child,
}

impl Swarm {
    pub fn start(telegram: &Telegram) -> Self {
        let folder = fresh_folder("telegram");
        let config = tests::config_without_strategies(&folder);
        let ready = folder.join("ready.json");
        let mut command = Command::new(tests::program());
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
    pub fn run(&self, words: &[&str]) -> Value {
        let done = Command::new(tests::program())
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

    /// The operator's account is bound, as `/start CODE` does.
    pub async fn link(&self, telegram: &Telegram) {
        let link = self.run(&["telegram", "link"]);
        telegram.say(OPERATOR, &format!("/start {}", link["code"].as_str().unwrap()));
        telegram.wait_for(OPERATOR, BOUND, "the greeting", |sent| sent.text.contains("speaks for operator")).await;
    }

    /// The tables, with a login that no process has.
    pub async fn ledger(&self) -> sqlx::PgPool {
        let admin = std::fs::read_to_string(self.folder.join("data/secrets/admin.url")).unwrap();
        sqlx::PgPool::connect(admin.trim()).await.unwrap()
    }

    /// The row of the prompt is written right after the message; a person is never as fast as this test.
    pub async fn prompt_is_recorded(&self) {
        let ledger = self.ledger().await;
        testkit::wait_until(BOUND, "the row of the prompt", || async {
            let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM telegram_prompts").fetch_one(&ledger).await;
            count.unwrap() > 0
        })
        .await;
    }

    /// Every process of the swarm, by name.
    pub fn processes(&self) -> Vec<(String, u64)> {
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
