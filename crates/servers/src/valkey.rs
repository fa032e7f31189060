//! `valkey-server` (or `redis-server`, which speaks the same protocol), for what may be lost: counters and caches.
//!
//! Nothing of it reaches a disk: the record of what was spent is PostgreSQL. Its memory is bounded, and when it is full the
//! policy `volatile-lru` lets go of keys *that have an end*, the one used longest ago first. So whoever keeps a cache
//! here gives each entry a time to live, and whoever counts here gives its counters none: they are never let go of to make
//! room for a cache. Where nothing can be let go of, writes are refused, except those of scripts that declare
//! `allow-oom`, as counters do.

use std::fmt::Write as _;
use std::fs::{OpenOptions, Permissions};
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::child::{Child, Launch, plain_environment, spawn};
use crate::{Programs, ServersError};

const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody who may log in.
#[derive(Clone)]
pub struct ValkeyUser {
    /// Login: letters, digits, `-` and `_`.
    pub name: String,
    /// Password: the same.
    pub password: String,
    /// What it may do, as ACL rules (<https://valkey.io/topics/acl/>), such as `~llm:* +get`. Nothing else is allowed.
    pub rules: String,
}

impl std::fmt::Debug for ValkeyUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValkeyUser").field("name", &self.name).field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// How to start a Valkey server.
#[derive(Debug, Clone)]
pub struct ValkeyOptions {
    /// Its folder; its config and log lie in it.
    pub folder: PathBuf,
    /// The loopback port.
    pub port: u16,
    /// Who may log in; nobody does without a password. The first one is also asked with whether the server is ready.
    pub users: Vec<ValkeyUser>,
    /// What its data may take, MiB.
    pub max_memory_mib: u32,
}

/// A running Valkey server. Dropping it stops it.
#[derive(Debug)]
pub struct ValkeyServer {
    child: Child,
    port: u16,
    ready_in: Duration,
}

impl ValkeyServer {
    /// Starts it and waits until it takes the first user's login and answers a PING.
    ///
    /// # Errors
    /// When a user can't be written into its config, its files can't be written, or it does not start.
    pub fn start(programs: &Programs, options: &ValkeyOptions) -> Result<Self, ServersError> {
        let started = Instant::now();
        let text = config(options)?;
        let file = |action, path: &Path| {
            let path = path.to_owned();
            move |source| ServersError::File { action, path, source }
        };
        std::fs::create_dir_all(&options.folder).map_err(file("making", &options.folder))?;
        let folder = std::path::absolute(&options.folder).map_err(file("resolving", &options.folder))?;
        let path = folder.join("valkey.conf");
        write_private(&path, &text).map_err(file("writing", &path))?;
        let mut command = Command::new(&programs.valkey_server);
        plain_environment(&mut command);
        command.current_dir(&folder).arg(&path);
        let mut child = spawn(Launch {
            command,
            name: "valkey-server".to_owned(),
            log: folder.join("valkey.log"),
            stop_signal: Signal::SIGTERM,
            // There is nothing it would have to save first.
            death_signal: Signal::SIGKILL,
        })?;
        child.wait_until_ready(PATIENCE, || options.users.first().is_some_and(|user| answers(options.port, user)))?;
        Ok(Self { child, port: options.port, ready_in: started.elapsed() })
    }

    /// Where a user connects. Passwords are letters and digits, so they need no quoting.
    #[must_use]
    pub fn url(&self, user: &ValkeyUser) -> String {
        format!("redis://{}:{}@127.0.0.1:{}/", user.name, user.password, self.port)
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

    /// Its process.
    #[must_use]
    pub const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Stops it; `false` when it had to be killed.
    ///
    /// # Errors
    /// When it can't be signalled.
    pub fn stop(mut self) -> Result<bool, ServersError> {
        self.child.stop(Duration::from_secs(10))
    }
}

fn config(options: &ValkeyOptions) -> Result<String, ServersError> {
    let mut text = format!(
        "bind 127.0.0.1\nport {}\nprotected-mode yes\nsave \"\"\nappendonly no\nmaxmemory {}mb\nmaxmemory-policy volatile-lru\n\
         tcp-backlog 128\ndatabases 1\nuser default off\n",
        options.port, options.max_memory_mib
    );
    for user in &options.users {
        let is_word =
            |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        // A line of its own in a rule would be a setting of its own.
        if !is_word(&user.name) || !is_word(&user.password) || user.rules.contains(['\n', '\r']) {
            let why = "names and passwords are letters, digits, - and _; rules are one line";
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, why);
            return Err(ServersError::System(format!("the Valkey user {:?}", user.name), source));
        }
        let _ = writeln!(
            text,
            "user {} on >{} resetkeys resetchannels -@all +ping {}",
            user.name, user.password, user.rules
        );
    }
    Ok(text)
}

/// Readable by its owner alone: it holds the passwords.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}

/// Whether a server on this port takes the user's login and answers a PING: a stranger's server would not.
fn answers(port: u16, user: &ValkeyUser) -> bool {
    ping(port, &format!("AUTH {} {}\r\n", user.name, user.password)).is_ok_and(|text| text == "+OK\r\n+PONG\r\n")
}

/// Whether a server on this port speaks the protocol and is done with its start; it may ask for a password first.
#[must_use]
pub fn valkey_answers(port: u16) -> bool {
    ping(port, "").is_ok_and(|text| text == "+PONG\r\n" || text.starts_with("-NOAUTH "))
}

fn ping(port: u16, before: &str) -> std::io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200))?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(format!("{before}PING\r\n").as_bytes())?;
    let lines = if before.is_empty() { 1 } else { 2 };
    let (mut text, mut buffer) = (String::new(), [0u8; 256]);
    while text.matches("\r\n").count() < lines {
        match stream.read(&mut buffer)? {
            0 => break,
            read => text.push_str(&String::from_utf8_lossy(buffer.get(..read).unwrap_or_default())),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::free_port;

    fn user(name: &str, rules: &str) -> ValkeyUser {
        ValkeyUser { name: name.to_owned(), password: format!("{name}1"), rules: rules.to_owned() }
    }

    fn options(folder: &Path) -> ValkeyOptions {
        ValkeyOptions {
            folder: folder.join("valkey"),
            port: free_port().unwrap(),
            users: vec![user("admin", "~* &* +@all"), user("narrow", "~own:* +set +get +eval")],
            max_memory_mib: 4,
        }
    }

    /// The last line of what the server answers to these lines, which end before it says more.
    fn ask(port: u16, lines: &[String]) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let mut text = String::new();
        stream.write_all(format!("{}\r\nQUIT\r\n", lines.join("\r\n")).as_bytes()).unwrap();
        stream.read_to_string(&mut text).unwrap();
        text.lines().rev().nth(1).unwrap_or_default().to_owned()
    }

    #[test]
    fn it_starts_stops_forgets_and_asks_for_a_password() {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs::usual().unwrap();
        let options = options(folder.path());
        for _ in 0..2 {
            let server = ValkeyServer::start(&programs, &options).unwrap();
            assert!(valkey_answers(options.port) && answers(options.port, &options.users[0]));
            assert!(!answers(options.port, &user("admin2", "")), "a stranger is not let in");
            assert!(ask(options.port, &["GET a".into()]).starts_with("-NOAUTH "));
            let login = "AUTH admin admin1".to_owned();
            assert_eq!(ask(options.port, &[login.clone(), "GET a".into()]), "$-1", "nothing is kept over a start");
            assert_eq!(ask(options.port, &[login, "SET a 1".into()]), "+OK");
            assert!(server.stop().unwrap());
            assert!(!valkey_answers(options.port));
        }
        let mode = std::fs::metadata(folder.path().join("valkey/valkey.conf")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_user_may_only_what_its_rules_say() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let _server = ValkeyServer::start(&Programs::usual().unwrap(), &options).unwrap();
        let login = "AUTH narrow narrow1".to_owned();
        for (line, answer) in
            [("SET own:a 1", "+OK"), ("SET a 1", "-NOPERM"), ("FLUSHALL", "-NOPERM"), ("PING", "+PONG")]
        {
            let told = ask(options.port, &[login.clone(), line.into()]);
            assert!(told.starts_with(answer), "{line}: {told}");
        }
    }

    #[test]
    fn a_full_memory_lets_go_of_what_has_an_end_and_never_of_counters() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let _server = ValkeyServer::start(&Programs::usual().unwrap(), &options).unwrap();
        let block = "x".repeat(10_000);
        let mut lines = vec!["AUTH admin admin1".to_owned(), "SET counter 7".to_owned()];
        lines.extend((0..1_000).map(|number| format!("SET cache:{number} {block} EX 3600")));
        assert_eq!(ask(options.port, &lines), "+OK", "old entries make room for new ones");
        let login = lines[0].clone();
        assert_eq!(ask(options.port, &[login.clone(), "GET counter".into()]), "7");
        // Which of them go is drawn from a sample, so none is sure to; that some went is.
        let names: Vec<String> = (0..1_000).map(|number| format!("cache:{number}")).collect();
        let left = ask(options.port, &[login.clone(), format!("EXISTS {}", names.join(" "))]);
        let left: usize = left.strip_prefix(':').unwrap().parse().unwrap();
        assert!((1..1_000).contains(&left), "{left} of 1000 are left");
        lines.truncate(1);
        lines.extend((0..1_000).map(|number| format!("SET endless:{number} {block}")));
        assert!(ask(options.port, &lines).starts_with("-OOM"), "what has no end is refused when memory is full");
        let count = r##"EVAL "#!lua flags=allow-oom\nreturn redis.call('INCR', KEYS[1])" 1 counter"##;
        assert_eq!(ask(options.port, &[login, count.into()]), ":8", "counters go on");
    }

    #[test]
    fn a_user_that_would_write_settings_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (name, rules) in [("a b", "+get"), ("a", "+get\nport 1"), ("", "+get")] {
            let mut options = options(folder.path());
            options.users.push(ValkeyUser { name: name.into(), password: "p".into(), rules: rules.into() });
            assert!(ValkeyServer::start(&Programs::usual().unwrap(), &options).is_err(), "{name:?} {rules:?}");
        }
        assert!(!format!("{:?}", user("a", "+get")).contains("a1"), "a password is not printed");
    }
}
