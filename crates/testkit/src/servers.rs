//! One real PostgreSQL, one real NATS and one real Valkey for each test process, started on first use, dead with the process.
//!
//! Their folders are named after the process and swept by the next one, because a static is never dropped.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use ::servers::{
    Durability, NatsOptions, NatsServer, PostgresOptions, PostgresServer, Programs, ServersError, ValkeyOptions,
    ValkeyServer, ValkeyUser, free_port,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::link::Link;

/// Starts may lose their port to another test process; each try takes a new one.
const TRIES: u32 = 5;

/// The PostgreSQL of this test process. Every login is trusted, whatever the password.
#[derive(Debug)]
pub struct TestPostgres {
    server: PostgresServer,
}

/// A database of one test's own.
#[derive(Debug, Clone)]
pub struct TestDatabase {
    name: String,
    port: u16,
}

/// The NATS of this test process, with JetStream and without authorisation; or one of a test's own, with it.
#[derive(Debug)]
pub struct TestNats {
    server: NatsServer,
}

/// A Valkey that asks for a password; its memory is small.
#[derive(Debug)]
pub struct TestValkey {
    options: ValkeyOptions,
    server: Mutex<Option<ValkeyServer>>,
}

/// The server programs.
///
/// # Panics
/// When they are not there.
#[must_use]
pub fn programs() -> Programs {
    Programs::usual().unwrap_or_else(|error| panic!("tests need real servers: {error}"))
}

/// The PostgreSQL of this test process, started on first use.
///
/// # Panics
/// When it can't be had.
pub fn postgres() -> &'static TestPostgres {
    static POSTGRES: OnceLock<TestPostgres> = OnceLock::new();
    POSTGRES.get_or_init(|| {
        let server = with_free_port(|port| {
            let options = PostgresOptions {
                folder: process_folder().join("pg"),
                port,
                superuser_password: "test".to_owned(),
                durability: Durability::Throwaway,
                max_connections: 300,
            };
            PostgresServer::start(&programs(), &options)
        });
        TestPostgres { server }
    })
}

/// The NATS of this test process, started on first use: JetStream, no authorisation, shared by all its tests.
///
/// # Panics
/// When it can't be had.
pub fn nats() -> &'static TestNats {
    static NATS: OnceLock<TestNats> = OnceLock::new();
    NATS.get_or_init(|| fresh_nats_with("max_payload: 65536\n"))
}

/// A NATS of the caller's own, empty, without authorisation; it stops when dropped.
///
/// # Panics
/// When it can't be had.
#[must_use]
pub fn fresh_nats() -> TestNats {
    fresh_nats_with("max_payload: 65536\n")
}

/// A NATS of the caller's own with this config text; port and store are set over it.
///
/// # Panics
/// When it can't be had.
#[must_use]
pub fn fresh_nats_with(config: &str) -> TestNats {
    let folder = process_folder().join(format!("nats-{}", next_number()));
    let server = with_free_port(|port| {
        let options = NatsOptions { folder: folder.clone(), port, config: config.to_owned() };
        NatsServer::start(&programs(), &options)
    });
    TestNats { server }
}

/// The Valkey of this test process, started on first use and shared by all its tests: keys need names of a test's own.
///
/// # Panics
/// When it can't be had.
pub fn valkey() -> &'static TestValkey {
    static VALKEY: OnceLock<TestValkey> = OnceLock::new();
    VALKEY.get_or_init(fresh_valkey)
}

/// A Valkey of the caller's own, empty, that can be killed, stopped and started again; it stops when dropped.
///
/// # Panics
/// When it can't be had.
#[must_use]
pub fn fresh_valkey() -> TestValkey {
    let folder = process_folder().join(format!("valkey-{}", next_number()));
    let options = |port| ValkeyOptions {
        folder: folder.clone(),
        port,
        users: vec![ValkeyUser {
            name: "test".to_owned(),
            password: "test1".to_owned(),
            rules: "~* &* +@all".to_owned(),
        }],
        max_memory_mib: 32,
    };
    let server = with_free_port(|port| ValkeyServer::start(&programs(), &options(port)));
    TestValkey { options: options(server.port()), server: Mutex::new(Some(server)) }
}

impl TestPostgres {
    /// Where the superuser connects, on the database `postgres`.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.server.admin_url("postgres")
    }

    /// A new empty database.
    ///
    /// # Panics
    /// When it can't be made.
    pub async fn empty_database(&self) -> TestDatabase {
        self.create_database("template0").await
    }

    async fn create_database(&self, template: &str) -> TestDatabase {
        let name = format!("test_{}", next_number());
        let mut admin = PgConnection::connect(&self.admin_url()).await.expect("connecting as superuser");
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE {template}")))
            .execute(&mut admin)
            .await
            .expect("creating a database");
        admin.close().await.expect("closing the superuser's connection");
        TestDatabase { name, port: self.server.port() }
    }
}

impl TestDatabase {
    /// A link to its server, which can be held, and the same database at the other end of it.
    pub async fn behind_link(&self) -> (Link, Self) {
        let link = Link::open(self.port).await;
        let behind = Self { name: self.name.clone(), port: link.port() };
        (link, behind)
    }

    /// Where the superuser connects.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.url_as("postgres")
    }

    /// Where `role` connects; the test server asks for no password.
    #[must_use]
    pub fn url_as(&self, role: &str) -> String {
        format!("postgres://{role}:test@127.0.0.1:{}/{}", self.port, self.name)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl TestNats {
    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }
}

impl TestValkey {
    /// Where clients connect, now and after a start.
    #[must_use]
    pub fn url(&self) -> String {
        let user = &self.options.users[0];
        format!("redis://{}:{}@127.0.0.1:{}/", user.name, user.password, self.options.port)
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Option<ValkeyServer>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills it as a crash does: all it held is lost.
    ///
    /// # Panics
    /// When it can't be killed.
    pub fn kill(&self) {
        if let Some(mut server) = self.server().take() {
            server.child().kill().expect("killing Valkey");
        }
    }

    /// Starts it again, empty, on the port it had.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&self) {
        self.kill();
        *self.server() = Some(ValkeyServer::start(&programs(), &self.options).expect("starting Valkey again"));
    }

    /// Stops it in its tracks (SIGSTOP): connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.server().as_ref().expect("a running Valkey").pid();
        let sent = std::process::Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "signalling Valkey");
    }
}

impl Drop for TestValkey {
    fn drop(&mut self) {
        // One that is frozen would not hear that it should end.
        self.kill();
    }
}

/// A new folder that PostgreSQL's user may enter, swept when the process is gone.
///
/// # Panics
/// When it can't be made.
#[must_use]
pub fn fresh_folder(name: &str) -> PathBuf {
    let folder = process_folder().join(format!("{name}-{}", next_number()));
    std::fs::create_dir_all(&folder).expect("making a folder for a test");
    folder
}

fn with_free_port<T>(mut start: impl FnMut(u16) -> Result<T, ServersError>) -> T {
    let mut last = None;
    for _ in 0..TRIES {
        match free_port().and_then(&mut start) {
            Ok(server) => return server,
            Err(error) => last = Some(error),
        }
    }
    panic!("tests need real servers: {}", last.expect("at least one try"))
}

fn next_number() -> u32 {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// The folder of this test process.
fn process_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let all = std::env::temp_dir().join(format!("swarm-testkit-{}", nix_uid()));
        std::fs::create_dir_all(&all).expect("making the folder of all test processes");
        open_to_enter(&all);
        sweep(&all);
        let mine = all.join(std::process::id().to_string());
        std::fs::create_dir_all(&mine).expect("making the folder of this test process");
        open_to_enter(&mine);
        mine
    })
}

fn nix_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").map(|meta| meta.uid()).unwrap_or_default()
}

fn open_to_enter(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).expect("opening a folder to PostgreSQL");
}

/// Removes what earlier processes left, our own number's too.
fn sweep(all: &Path) {
    for entry in std::fs::read_dir(all).into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let gone = pid.is_some_and(|pid| pid == std::process::id() || !Path::new(&format!("/proc/{pid}")).exists());
        if gone {
            // Another process may be sweeping the same folder.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn databases_of_two_tests_are_apart() {
        let (first, second) = (postgres().empty_database().await, postgres().empty_database().await);
        let mut connection = PgConnection::connect(&first.admin_url()).await.unwrap();
        sqlx::query("CREATE TABLE t (n int)").execute(&mut connection).await.unwrap();
        let mut connection = PgConnection::connect(&second.admin_url()).await.unwrap();
        sqlx::query("CREATE TABLE t (n int)").execute(&mut connection).await.unwrap();
    }

    #[test]
    fn a_valkey_comes_back_on_its_port_and_a_frozen_one_ends_at_once() {
        let valkey = fresh_valkey();
        let url = valkey.url();
        assert!(::servers::valkey_answers(valkey.options.port));
        valkey.kill();
        assert!(!::servers::valkey_answers(valkey.options.port));
        valkey.start_again();
        assert!(::servers::valkey_answers(valkey.options.port) && valkey.url() == url);
        valkey.freeze();
        assert!(!::servers::valkey_answers(valkey.options.port));
        valkey.thaw();
        assert!(::servers::valkey_answers(valkey.options.port));
        valkey.freeze();
    }

    #[tokio::test]
    async fn nats_has_jetstream() {
        let client = async_nats::connect(nats().url()).await.unwrap();
        async_nats::jetstream::new(client).query_account().await.unwrap();
    }
}
