//! PostgreSQL.
//!
//! It listens on a loopback port and, where its folder allows, on a Unix socket in there, which saves a third of the time
//! of a short statement: the URLs given out name both, and clients that know `host` of a URL's query take the socket.
//!
//! It refuses to run as root. Where we are root it runs as uid and gid 65534 (`nobody`), which then owns its folder and
//! must be able to enter every folder above it; where we are not, it runs as we do.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::child::{Child, LOOK_EVERY, Launch, plain_environment, spawn};
use crate::{Programs, ServersError};

/// Who PostgreSQL runs as when we are root.
const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_secs(60);
const LAST_PATIENCE: Duration = Duration::from_secs(15);
/// Longest path of a Unix socket on Linux (`sun_path` of unix(7), its closing zero left out).
const LONGEST_SOCKET: usize = 107;

/// How much is promised about data and doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Every commit reaches the disk; every login needs its password.
    Kept,
    /// For tests alone: no fsync, no passwords.
    Throwaway,
}

/// How to start a PostgreSQL server.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Its folder; the cluster and its log lie in it.
    pub folder: PathBuf,
    /// The loopback port.
    pub port: u16,
    /// Password of the superuser `postgres`, set when the cluster is made.
    pub superuser_password: String,
    /// What is promised.
    pub durability: Durability,
    /// Most connections at once.
    pub max_connections: u32,
}

/// A running PostgreSQL server. Dropping it stops it.
#[derive(Debug)]
pub struct PostgresServer {
    child: Child,
    port: u16,
    sockets: Option<PathBuf>,
    superuser_password: String,
    ready_in: Duration,
}

impl PostgresServer {
    /// Makes the cluster when there is none, starts it and waits until it takes logins.
    ///
    /// # Errors
    /// When its files can't be written, or it does not start.
    pub fn start(programs: &Programs, options: &PostgresOptions) -> Result<Self, ServersError> {
        let started = Instant::now();
        let folder = std::path::absolute(&options.folder).map_err(|source| ServersError::File {
            action: "resolving",
            path: options.folder.clone(),
            source,
        })?;
        let owner = prepare_folder(&folder)?;
        let cluster = folder.join("cluster");
        if !cluster.join("PG_VERSION").is_file() {
            make_cluster(programs, options, &folder, &cluster, owner)?;
        }
        wait_for_the_last(&cluster, LAST_PATIENCE);
        let child = run(programs, options, &folder, &cluster, owner)?;
        Ok(Self {
            child,
            port: options.port,
            sockets: socket_folder(&folder, options.port),
            superuser_password: options.superuser_password.clone(),
            ready_in: started.elapsed(),
        })
    }

    /// Where the superuser connects, on the database `database`.
    #[must_use]
    pub fn admin_url(&self, database: &str) -> String {
        self.url("postgres", &self.superuser_password, database)
    }

    /// Where the role `role` connects. Passwords are letters and digits, so they need no quoting.
    #[must_use]
    pub fn url(&self, role: &str, password: &str, database: &str) -> String {
        let mut url = format!("postgres://{role}:{password}@127.0.0.1:{}/{database}", self.port);
        if let Some(sockets) = &self.sockets {
            url.push_str("?host=");
            url.push_str(&percent_encoded(sockets));
        }
        url
    }

    /// Its loopback port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// How long it took from start to ready.
    #[must_use]
    pub const fn ready_in(&self) -> Duration {
        self.ready_in
    }

    /// Its first process.
    #[must_use]
    pub const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The id of its first process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Stops it, ending its sessions; `false` when it had to be killed.
    ///
    /// # Errors
    /// When it can't be signalled.
    pub fn stop(mut self) -> Result<bool, ServersError> {
        self.child.stop(Duration::from_secs(20))
    }
}

/// Where the socket lies: in the server's own folder, which nobody else can enter. `None` when the path is too long for one, or
/// the server's list of folders could not name it.
fn socket_folder(folder: &Path, port: u16) -> Option<PathBuf> {
    let text = folder.to_str().filter(|text| !text.contains([',', '"', '\\']))?;
    let socket = format!("{text}/.s.PGSQL.{port}");
    (socket.len() <= LONGEST_SOCKET).then(|| folder.to_owned())
}

/// A path as a value in the query of a URL.
fn percent_encoded(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().iter().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(*byte)),
            other => {
                let _ = write!(text, "%{other:02X}");
            }
        }
        text
    })
}

/// Makes the folder; says who the server must run as, when not as we do.
fn prepare_folder(folder: &Path) -> Result<Option<u32>, ServersError> {
    std::fs::create_dir_all(folder).map_err(|source| ServersError::File {
        action: "making",
        path: folder.to_owned(),
        source,
    })?;
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    give(folder, 0o700)?;
    for above in folder.ancestors().skip(1) {
        let meta = std::fs::metadata(above).map_err(|source| ServersError::File {
            action: "looking at",
            path: above.to_owned(),
            source,
        })?;
        let open = meta.mode() & 0o001 != 0 || (meta.uid() == NOBODY && meta.mode() & 0o100 != 0);
        if !open {
            return Err(ServersError::Unreachable { uid: NOBODY, path: above.to_owned() });
        }
    }
    Ok(Some(NOBODY))
}

fn give(path: &Path, mode: u32) -> Result<(), ServersError> {
    chown(path, Some(NOBODY), Some(NOBODY))
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
        .map_err(|source| ServersError::File { action: "handing to PostgreSQL's user", path: path.to_owned(), source })
}

fn command(programs: &Programs, program: &str, folder: &Path, owner: Option<u32>) -> Command {
    let mut command = Command::new(programs.postgres_bin.join(program));
    plain_environment(&mut command);
    command.current_dir(folder).env("LC_ALL", "C.UTF-8").env("HOME", folder);
    if let Some(id) = owner {
        command.uid(id).gid(id);
    }
    command
}

/// `initdb` into a neighbouring folder that gets its name only when all is done: a crash on the way leaves no half cluster.
fn make_cluster(
    programs: &Programs,
    options: &PostgresOptions,
    folder: &Path,
    cluster: &Path,
    owner: Option<u32>,
) -> Result<(), ServersError> {
    let half_made = folder.join("cluster.new");
    let file = |action, path: &Path| {
        let path = path.to_owned();
        move |source| ServersError::File { action, path, source }
    };
    if half_made.exists() {
        std::fs::remove_dir_all(&half_made).map_err(file("clearing", &half_made))?;
    }
    let password_file = folder.join("superuser.password");
    std::fs::write(&password_file, format!("{}\n", options.superuser_password))
        .and_then(|()| std::fs::set_permissions(&password_file, std::fs::Permissions::from_mode(0o600)))
        .map_err(file("writing", &password_file))?;
    if owner.is_some() {
        give(&password_file, 0o600)?;
    }
    let mut initdb = command(programs, "initdb", folder, owner);
    initdb.arg("-D").arg(&half_made).args(["-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"]);
    initdb.arg("--pwfile").arg(&password_file);
    // A commit that meets the end of a segment waits until the next one is written full of zeros: a moment for 4 MB, 60 ms for
    // the usual 16.
    initdb.arg("--wal-segsize=4");
    match options.durability {
        Durability::Kept => initdb.args(["-A", "scram-sha-256"]),
        Durability::Throwaway => initdb.args(["-A", "trust", "--no-sync"]),
    };
    let log = folder.join("initdb.log");
    let mut child = spawn(Launch {
        command: initdb,
        name: "initdb".to_owned(),
        log: log.clone(),
        stop_signal: Signal::SIGTERM,
        death_signal: Signal::SIGKILL,
    })?;
    // A clean end is the readiness of this one, so an exit code other than 0 is the only failure.
    let made = half_made.join("PG_VERSION");
    let outcome = child.wait_until_ready(PATIENCE, || false);
    std::fs::remove_file(&password_file).map_err(file("removing", &password_file))?;
    match outcome {
        Err(ServersError::Died { status, .. }) if status == "exit code 0" && made.is_file() => {
            std::fs::rename(&half_made, cluster).map_err(file("naming", cluster))
        }
        Err(error) => Err(error),
        Ok(()) => Ok(()),
    }
}

/// A server whose starter was killed is ending and holds the cluster for a moment more; so do the sessions of a server that
/// was killed, each until it notices, and a new server refuses to start beside them. What still runs after that time is
/// for the new server to name. `true`: nobody holds it.
fn wait_for_the_last(cluster: &Path, patience: Duration) -> bool {
    let started = Instant::now();
    while !holders(cluster).is_empty() {
        if started.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    true
}

/// Every process of PostgreSQL in this cluster: all of them work in its folder.
fn holders(cluster: &Path) -> Vec<u32> {
    let Ok(cluster) = cluster.canonicalize() else { return Vec::new() };
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let holds = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres")
            && std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == cluster)
    };
    processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(holds).collect()
}

fn run(
    programs: &Programs,
    options: &PostgresOptions,
    folder: &Path,
    cluster: &Path,
    owner: Option<u32>,
) -> Result<Child, ServersError> {
    let mut postgres = command(programs, "postgres", folder, owner);
    postgres.arg("-D").arg(cluster);
    let port = options.port.to_string();
    let connections = options.max_connections.to_string();
    let sockets = socket_folder(folder, options.port).map_or_else(String::new, |path| path.display().to_string());
    // One small swarm: few connections, short transactions, no replica, no reports. What is switched off here would only
    // be processes and memory that wait for work of another kind.
    let settings = [
        ("shared_buffers", "16MB"),
        ("wal_buffers", "1MB"),
        ("wal_compression", "on"),
        ("jit", "off"),
        ("max_parallel_workers", "0"),
        ("max_parallel_workers_per_gather", "0"),
        ("max_worker_processes", "1"),
        ("max_logical_replication_workers", "0"),
        ("max_wal_senders", "0"),
        ("max_replication_slots", "0"),
        ("autovacuum_max_workers", "1"),
        ("listen_addresses", "127.0.0.1"),
        ("port", port.as_str()),
        ("unix_socket_directories", sockets.as_str()),
        ("max_connections", connections.as_str()),
        ("log_timezone", "UTC"),
        ("timezone", "UTC"),
        ("password_encryption", "scram-sha-256"),
    ];
    let unsafe_settings = [("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off")];
    let extra = if options.durability == Durability::Throwaway { unsafe_settings.as_slice() } else { &[] };
    // Unknown to older servers. Each backend reads for itself, instead of three processes that read for all.
    let direct_io: &[(&str, &str)] = if major(cluster) >= 18 { &[("io_method", "sync")] } else { &[] };
    for (name, value) in settings.iter().chain(extra).chain(direct_io) {
        postgres.arg("-c").arg(format!("{name}={value}"));
    }
    let mut child = spawn(Launch {
        command: postgres,
        name: "postgres".to_owned(),
        log: folder.join("postgres.log"),
        stop_signal: Signal::SIGINT,
        death_signal: Signal::SIGINT,
    })?;
    child.wait_until_ready(PATIENCE, || takes_logins(options.port))?;
    Ok(child)
}

/// The major version that made a cluster, which is the one that may run it; 0 when its file does not say.
fn major(cluster: &Path) -> u32 {
    std::fs::read_to_string(cluster.join("PG_VERSION")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Whether a PostgreSQL server on this port answers a login with anything but "starting up" or "shutting down"
/// (<https://www.postgresql.org/docs/current/protocol-message-formats.html>, StartupMessage).
fn takes_logins(port: u16) -> bool {
    const CANNOT_CONNECT_NOW: &[u8] = b"C57P03\0";
    let hello = || -> std::io::Result<Vec<u8>> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let body = b"\x00\x03\x00\x00user\0postgres\0database\0postgres\0\0";
        let length = u32::try_from(body.len() + 4).unwrap_or(0);
        stream.write_all(&[&length.to_be_bytes()[..], body].concat())?;
        let mut answer = vec![0u8; 512];
        let read = stream.read(&mut answer)?;
        answer.truncate(read);
        Ok(answer)
    };
    let Ok(answer) = hello() else { return false };
    match answer.first() {
        Some(b'R') => true,
        Some(b'E') => !answer.windows(CANNOT_CONNECT_NOW.len()).any(|part| part == CANNOT_CONNECT_NOW),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::free_port;

    fn open_tempdir() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        folder
    }

    fn options(folder: &Path, durability: Durability) -> PostgresOptions {
        PostgresOptions {
            folder: folder.join("pg"),
            port: free_port().unwrap(),
            superuser_password: "secret1".into(),
            durability,
            max_connections: 20,
        }
    }

    /// `psql -c` with a password; `true` when it worked.
    fn asks(programs: &Programs, url: &str) -> bool {
        let psql = programs.postgres_bin.join("psql");
        Command::new(psql).args([url, "-qtAc", "select 1"]).output().unwrap().status.success()
    }

    #[test]
    fn a_kept_cluster_starts_twice_and_asks_for_its_password() {
        let folder = open_tempdir();
        let programs = Programs::usual().unwrap();
        let options = options(folder.path(), Durability::Kept);
        for _ in 0..2 {
            let server = PostgresServer::start(&programs, &options).unwrap();
            assert!(asks(&programs, &server.admin_url("postgres")));
            assert!(!asks(&programs, &server.url("postgres", "wrong", "postgres")));
            assert!(server.stop().unwrap());
            assert!(!takes_logins(options.port));
        }
        assert!(!folder.path().join("pg/superuser.password").exists());
    }

    #[test]
    fn a_server_that_was_killed_starts_again_when_its_last_session_is_gone() {
        let folder = open_tempdir();
        let programs = Programs::usual().unwrap();
        let options = options(folder.path(), Durability::Throwaway);
        let mut server = PostgresServer::start(&programs, &options).unwrap();
        let psql = programs.postgres_bin.join("psql");
        let mut session = Command::new(psql)
            .arg(server.admin_url("postgres"))
            .args(["-c", "select pg_sleep(600)"])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let cluster = folder.path().join("pg/cluster");
        let asleep = || {
            let sleeps = |pid: &u32| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.starts_with(b"postgres: postgres postgres ") && line.windows(6).any(|part| part == b"SELECT")
            };
            holders(&cluster).into_iter().find(sleeps)
        };
        let backend = loop {
            match asleep() {
                Some(pid) => break nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()),
                None => assert!(session.try_wait().unwrap().is_none(), "psql ended"),
            }
            std::thread::sleep(LOOK_EVERY);
        };
        nix::sys::signal::kill(backend, Signal::SIGSTOP).unwrap();
        server.child().kill().unwrap();
        assert!(!wait_for_the_last(&cluster, Duration::ZERO), "a session still holds the cluster");
        nix::sys::signal::kill(backend, Signal::SIGCONT).unwrap();
        let again = PostgresServer::start(&programs, &options).unwrap();
        session.wait().unwrap();
        assert!(asks(&programs, &again.admin_url("postgres")));
    }

    #[test]
    fn its_urls_lead_through_a_socket_that_its_folder_guards() {
        let folder = open_tempdir();
        let programs = Programs::usual().unwrap();
        let deep = folder.path().join("a b");
        std::fs::create_dir(&deep).unwrap();
        std::fs::set_permissions(&deep, std::fs::Permissions::from_mode(0o711)).unwrap();
        let server = PostgresServer::start(&programs, &options(&deep, Durability::Kept)).unwrap();
        let url = server.admin_url("postgres");
        assert!(url.contains("/a%20b/pg"), "{url}");
        let psql = programs.postgres_bin.join("psql");
        let ask = "select coalesce(host(inet_client_addr()), 'socket')";
        let asked = |url: &str| {
            let output = Command::new(&psql).args([url, "-qtAc", ask]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(asked(&url), "socket");
        assert_eq!(asked(url.split('?').next().unwrap()), "127.0.0.1");
        assert!(!asks(&programs, &server.url("postgres", "wrong", "postgres")), "the socket asks for the password too");
        assert_eq!(std::fs::metadata(deep.join("pg")).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_too_deep_for_a_socket_leaves_the_port() {
        assert!(socket_folder(Path::new("/srv/swarm"), 5432).is_some());
        assert!(socket_folder(Path::new(&format!("/{}", "x".repeat(100))), 5432).is_none());
        assert!(socket_folder(Path::new("/srv/a,b"), 5432).is_none());
    }

    #[test]
    fn a_throwaway_cluster_needs_no_password() {
        let folder = open_tempdir();
        let programs = Programs::usual().unwrap();
        let server = PostgresServer::start(&programs, &options(folder.path(), Durability::Throwaway)).unwrap();
        assert!(asks(&programs, &server.url("postgres", "anything", "postgres")));
    }

    #[test]
    fn a_folder_that_postgres_cannot_reach_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let started =
            PostgresServer::start(&Programs::usual().unwrap(), &options(folder.path(), Durability::Throwaway));
        match started {
            Err(ServersError::Unreachable { path, .. }) => assert_eq!(path, folder.path()),
            Err(error) => panic!("{error}"),
            // Not root: PostgreSQL runs as we do and can reach it.
            Ok(_) => assert!(!nix::unistd::geteuid().is_root()),
        }
    }
}
