//! A running swarm of the test's own, and what can be seen of it from outside: its ledger, its metrics, its processes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use servers::{Child, Launch, Programs};
use sqlx::{PgPool, Row};
use testkit::servers::fresh_folder;

/// How long it may take to be ready on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Who has an account and a door.
const PEOPLE: &str = r#"
[[person]]
handle = "operator"
opening_balance_usd = "50000"

[[person]]
handle = "alice"
opening_balance_usd = "50000"
"#;

/// The swarm under test.
pub struct Swarm {
    folder: PathBuf,
    child: Child,
    ledger: PgPool,
    nats_url: String,
    /// `postgres`, `nats-server`, the supervisor and the agents, by name, as they were at the start.
    pids: BTreeMap<String, u64>,
}

/// What the ledger says of one signal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decided {
    /// The signal.
    pub signal_id: uuid::Uuid,
    /// `permitted`, `refused` or `needs_human`.
    pub outcome: String,
    /// Why refused.
    pub code: Option<String>,
    /// Fills of its order that are in the account.
    pub posted_fills: i64,
}

impl Swarm {
    /// Starts `swarm up` on the scripted market, for the operator and alice, with the strategies switched off: what
    /// trades here came through a door.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// [`Swarm::start`] with more arguments for `swarm up`.
    pub async fn start_with(more: &[&str]) -> Self {
        let folder = fresh_folder("door");
        let config = tests::config_without_strategies(&folder);
        std::fs::write(folder.join("people.toml"), PEOPLE).unwrap();
        std::fs::write(folder.join("descriptors.bin"), proto::DESCRIPTORS).unwrap();

        let ready = folder.join("ready.json");
        let mut command = Command::new(tests::program());
        command.arg("--data-dir").arg(folder.join("data")).arg("up").args(["--market", "scripted"]);
        command.arg("--config-dir").arg(&config).arg("--people").arg(folder.join("people.toml"));
        command.arg("--ready-file").arg(&ready).args(more);
        if let Some(venv) = Programs::usual_venv() {
            command.env("SWARM_VENV", venv);
        }
        let log = folder.join("up.log");
        let launch = Launch {
            command,
            name: "swarm up".to_owned(),
            log,
            stop_signal: Signal::SIGTERM,
            death_signal: Signal::SIGTERM,
        };
        let mut child = servers::spawn(launch).unwrap();
        let whole = || std::fs::read(&ready).is_ok_and(|text| serde_json::from_slice::<Value>(&text).is_ok());
        child.wait_until_ready(READY_WITHIN, whole).unwrap();
        let summary: Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        let connect: Value = serde_json::from_slice(&std::fs::read(folder.join("data/connect.json")).unwrap()).unwrap();
        let admin = std::fs::read_to_string(folder.join("data/secrets/admin.url")).unwrap();
        Self {
            child,
            ledger: PgPool::connect(admin.trim()).await.unwrap(),
            nats_url: connect["nats_url"].as_str().unwrap().to_owned(),
            pids: pids(&summary),
            folder,
        }
    }

    /// Runs the script under the NATS user `who` and returns the lines it printed.
    pub fn knock(&self, who: &str, command: &str, more: &[&str]) -> Vec<Value> {
        let is_person = !matches!(who, "admin" | "supervisor");
        let secret = format!("{}{who}.nk", if is_person { "person-" } else { "" });
        let venv = Programs::usual_venv().expect("the test needs the virtual environment of `make venv` ($SWARM_VENV)");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/door.py");
        let done = Command::new(venv.join("bin/python"))
            .arg("-B")
            .arg(script)
            .arg(command)
            .args(["--url", &self.nats_url, "--inbox", &format!("_INBOX_{who}")])
            .arg("--seed")
            .arg(self.folder.join("data/secrets").join(secret))
            .arg("--descriptors")
            .arg(self.folder.join("descriptors.bin"))
            .args(more)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "door.py {command} {more:?}: {errors}");
        let lines = String::from_utf8(done.stdout).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where its NATS nodes listen.
    pub fn nats_url(&self) -> &str {
        &self.nats_url
    }

    /// The process of that name, as it was at the start.
    pub fn pid(&self, name: &str) -> i32 {
        i32::try_from(self.pids[name]).unwrap()
    }

    /// The ledger, under the administrator's login.
    pub const fn ledger(&self) -> &PgPool {
        &self.ledger
    }

    /// Asks a service as the operator.
    pub fn ask(&self, subject: &str, body: &str) -> Value {
        self.knock("operator", "ask", &["--subject", subject, "--body", body])[0]["answer"].clone()
    }

    /// Every decision of one account, oldest first.
    pub async fn decisions(&self, handle: &str) -> Vec<Decided> {
        let user = domain::ids::UserId::of_handle(handle).0;
        let rows = sqlx::query(
            "SELECT d.signal_id, d.outcome, d.code, count(f.posted_at) AS posted_fills FROM policy_decisions d \
             LEFT JOIN fills f ON f.user_id = d.user_id AND f.order_id = d.order_id \
             WHERE d.user_id = $1 GROUP BY d.signal_id, d.outcome, d.code, d.position ORDER BY d.position",
        )
        .bind(user)
        .fetch_all(&self.ledger)
        .await
        .unwrap();
        let read = |row: &sqlx::postgres::PgRow| Decided {
            signal_id: row.get("signal_id"),
            outcome: row.get("outcome"),
            code: row.get("code"),
            posted_fills: row.get("posted_fills"),
        };
        rows.iter().map(read).collect()
    }

    /// Everything that is money, of all accounts, as one text: it changes when anything traded.
    pub async fn money(&self) -> String {
        let text = "SELECT (SELECT jsonb_agg(a ORDER BY user_id) FROM accounts a)::text \
                    || coalesce((SELECT jsonb_agg(p ORDER BY user_id, symbol) FROM positions p)::text, '') \
                    || coalesce((SELECT jsonb_agg(r) FROM reservations r)::text, '') \
                    || (SELECT count(*) FROM orders)::text || '/' || (SELECT count(*) FROM fills)::text \
                    || '/' || (SELECT count(*) FROM permits)::text AS money";
        sqlx::query(text).fetch_one(&self.ledger).await.unwrap().get("money")
    }

    /// The counter of an agent, by the value of one label.
    pub fn counter(&self, agent: &str, name: &str, label: &str) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for line in self.page(agent, "/metrics").lines().filter(|line| line.starts_with(&format!("{name}{{"))) {
            let (labels, value) = line.rsplit_once(' ').unwrap();
            let found = labels.split(&format!("{label}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            *sums.entry(found.to_owned()).or_default() += value.parse::<u64>().unwrap();
        }
        sums
    }

    /// Each process is the one it was at the start, was never restarted, and is healthy by its own word and the
    /// supervisor's.
    pub fn assert_undisturbed(&self) {
        let status = self.ask("swarm.status", "");
        for agent in status["agents"].as_array().unwrap() {
            let name = agent["agent"].as_str().unwrap();
            assert_eq!(agent["pid"].as_u64(), self.pids.get(name).copied(), "{name} is another process");
            assert_eq!(agent["restarts"].as_u64(), Some(0), "{name} was restarted");
            assert!(matches!(agent["verdict"].as_str(), Some("healthy" | "busy")), "{agent}");
            assert!(self.page(name, "/healthz").starts_with("HTTP/1.1 200"), "{name}");
        }
        assert_eq!(status["supervisor_pid"].as_u64(), self.pids.get("supervisor").copied());
        for (name, pid) in &self.pids {
            assert!(Path::new(&format!("/proc/{pid}")).exists(), "{name} is gone");
        }
    }

    /// Names of the agents' logs that tell of a panic.
    pub fn panicked(&self) -> Vec<String> {
        let logs = std::fs::read_dir(self.folder.join("data/log")).unwrap().map(|entry| entry.unwrap().path());
        logs.filter(|log| std::fs::read_to_string(log).unwrap_or_default().contains("panicked"))
            .map(|log| log.display().to_string())
            .collect()
    }

    fn page(&self, agent: &str, path: &str) -> String {
        let port = std::fs::read_to_string(self.folder.join("data/run").join(format!("{agent}.http"))).unwrap();
        let mut stream = TcpStream::connect(format!("127.0.0.1:{}", port.trim())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: swarm\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Stops it; everything ends by itself.
    pub async fn stop(self) {
        self.stop_but_for("").await;
    }

    /// [`Swarm::stop`] when the process of that name was killed on purpose.
    pub async fn stop_but_for(mut self, killed: &str) {
        self.ledger.close().await;
        assert!(self.child.stop(Duration::from_secs(40)).unwrap(), "swarm up had to be killed");
        for (name, pid) in self.pids.iter().filter(|(name, _)| *name != killed) {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{name} was left behind");
        }
    }
}

fn pids(summary: &Value) -> BTreeMap<String, u64> {
    let rows = summary["processes"].as_array().expect("the summary names the processes");
    rows.iter().map(|row| (row["name"].as_str().unwrap().to_owned(), row["pid"].as_u64().unwrap())).collect()
}
