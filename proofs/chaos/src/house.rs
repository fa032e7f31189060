//! The swarm under chaos: `swarm up` as a child process on a folder of its own, with a wrapper around each agent that
//! sets its environment and then becomes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, PoisonError, RwLock};

use nix::sys::signal::Signal;
use serde_json::Value;
use servers::{Child, Launch};
use store::Db;
use swarm::people::{AgentsCommand, Command as PeopleCommand, Connection, Files};
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};

use crate::Trouble;
use crate::process::{self, Process};
use crate::proxy::{Link, Server};
use crate::skew;
use crate::strike::{AGENTS, Means, OTHERS, Target};

/// How long a start may take; a killed `swarm up` leaves processes that drain first.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(45);
/// How often a condition is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a house is opened with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything of this run; must not exist.
    pub folder: PathBuf,
    /// Where the programs lie; the harness's own folder.
    pub programs: PathBuf,
    /// Limits, strategies and the like.
    pub config_dir: PathBuf,
    /// Seed of the built-in market.
    pub seed: u64,
    /// How many people trade, besides the operator.
    pub players: usize,
    /// Give JetStream a small disk of its own.
    pub mount: bool,
    /// Three NATS nodes instead of one server.
    pub cluster: bool,
}

/// A person's door and everything the swarm gave them.
pub struct Doors {
    /// The operator's connection: votes, services.
    pub operator: Connection,
    /// Everybody else's door, by handle.
    pub people: BTreeMap<String, Connection>,
    /// What `swarm up` wrote for the operator.
    pub files: Files,
}

/// A running swarm.
pub struct House {
    /// The swarm's data folder.
    pub data: PathBuf,
    /// Everything of this run.
    pub folder: PathBuf,
    /// What can be done to it here.
    pub means: Means,
    /// Why not everything can be done, in words.
    pub lacks: Vec<String>,
    db: RwLock<Db>,
    links: BTreeMap<(&'static str, Server), Link>,
    doors: RwLock<Arc<Doors>>,
    up: Mutex<Child>,
    options: Options,
}

impl House {
    /// Makes the folder, starts the swarm and opens everybody's door.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn open(options: Options) -> Result<Self, Trouble> {
        let folder = options.folder.clone();
        let data = folder.join("data");
        let disk = (!options.cluster).then(|| data.join("nats").join("jetstream"));
        let folders = ["bin", "agents", "clock"].map(|name| folder.join(name));
        for made in disk.into_iter().chain([data.clone()]).chain(folders) {
            std::fs::create_dir_all(&made).map_err(|error| Trouble::file(&made, error))?;
        }
        let mut lacks = vec![
            "clock of NATS (it reads the clock without the C library), of PostgreSQL and of `swarm up`".to_owned(),
        ];
        if options.cluster {
            lacks.push("agents, Postgres, disk and links: with --cluster only NATS nodes are struck".to_owned());
        } else if !options.mount {
            lacks.push("disk full: nothing was to be mounted".to_owned());
        }
        let shim = skew::build(&folder).map_err(|why| lacks.push(format!("clock of agents: {why}"))).ok();
        let means = Means {
            disk: options.mount && !options.cluster && mount_small(&data.join("nats").join("jetstream"), &mut lacks),
            clock: shim.is_some(),
        };
        let mut links = BTreeMap::new();
        for agent in AGENTS.into_iter().chain(OTHERS) {
            for server in [Server::Nats, Server::Postgres] {
                links.insert((agent, server), Link::open(&data.join("ports.json"), server).await?);
            }
        }
        let config = write_config(&options, &folder)?;
        write_people(&folder, options.players)?;
        write_programs(&options, &folder, &links, shim.as_deref())?;
        let options = Options { config_dir: config, ..options };
        let mut up = start(&options, &folder, &data)?;
        wait_ready(&mut up, &folder).await?;
        let doors = open_doors(&data, options.players).await?;
        let db = open_db(&data).await?;
        Ok(Self {
            data,
            folder,
            means,
            lacks,
            db: RwLock::new(db),
            links,
            doors: RwLock::new(doors.into()),
            up: Mutex::new(up),
            options,
        })
    }

    /// The doors of now.
    #[must_use]
    pub fn doors(&self) -> Arc<Doors> {
        self.doors.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The administrator's login, which no process of the swarm has. Of now: a server whose port was taken when it was
    /// started again has another.
    #[must_use]
    pub fn db(&self) -> Db {
        self.db.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The link of an agent to a server.
    #[must_use]
    pub fn link(&self, agent: &str, server: Server) -> Option<&Link> {
        self.links.iter().find(|((name, to), _)| *name == agent && *to == server).map(|(_, link)| link)
    }

    /// All links to a server.
    pub fn links_to(&self, server: Server) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(move |((_, to), _)| *to == server).map(|(_, link)| link)
    }

    /// The file that says how far an agent's wall clock is off, ms.
    #[must_use]
    pub fn clock_file(&self, agent: &str) -> PathBuf {
        self.folder.join("clock").join(agent)
    }

    /// The process of a target right now; of a session, a drawn one.
    pub async fn process(&self, target: Target, draw: usize) -> Option<Process> {
        let up = self.up.lock().await.pid();
        match target {
            Target::Agent(name) => process::of_agent(&self.data.join("data").join("processes"), name),
            Target::Supervisor => process::child_named(up, "supervisor"),
            Target::Nats | Target::NatsDisk => process::child_named(up, "nats-server"),
            Target::Postgres => process::child_named(up, "postgres"),
            Target::Valkey => process::child_named(up, "valkey-server"),
            Target::Up => Process::of(up),
            Target::PostgresBackend => {
                let postmaster = process::child_named(up, "postgres")?;
                let found = process::sessions(postmaster.pid, &["treasury", "online_trading", "buy_bot", "supervisor"]);
                found.get(draw % found.len().max(1)).copied()
            }
            Target::NatsLeader => self.nats_leader().await.map(|(_, process)| process),
            Target::NatsFollower => {
                let leader = self.nats_leader().await.map(|(name, _)| name)?;
                let followers: Vec<&str> = NODES.into_iter().filter(|name| *name != leader).collect();
                node(up, followers.get(draw % followers.len().max(1))?)
            }
            Target::Link(..) => None,
        }
    }

    /// The monitoring port of each NATS node.
    fn monitoring(&self) -> Vec<(&'static str, u16)> {
        let ports = servers::StablePorts::open(&self.data.join("ports.json"));
        NODES.into_iter().filter_map(|name| Some((name, ports.known(&format!("{name}_monitoring"))?))).collect()
    }

    /// The node that leads the commands, when two nodes say so: one that was cut off may still believe in itself.
    pub async fn nats_leader(&self) -> Option<(&'static str, Process)> {
        let monitoring = self.monitoring();
        let views = tokio::task::spawn_blocking(move || {
            monitoring.into_iter().filter_map(|(_, port)| servers::view(port)).collect::<Vec<_>>()
        });
        let stream = domain::subject::Stream::TradingCritical.name();
        let views = views.await.ok()?;
        let named: Vec<&str> = views.iter().filter_map(|view| view.streams.get(stream)?.leader.as_deref()).collect();
        let name = NODES.into_iter().find(|name| named.iter().filter(|named| *named == name).count() >= 2)?;
        let up = self.up.lock().await.pid();
        Some((name, node(up, name)?))
    }

    /// What the NATS nodes lack; empty when all of them have everything.
    pub async fn nodes_lack(&self) -> Vec<String> {
        let monitoring = self.monitoring();
        let lacks = tokio::task::spawn_blocking(move || servers::lacking(monitoring.into_iter()));
        lacks.await.unwrap_or_else(|error| vec![error.to_string()])
    }

    /// Asks a service as the operator.
    ///
    /// # Errors
    /// [`Trouble::People`].
    pub async fn ask(&self, subject: &str) -> Result<Value, Trouble> {
        let doors = self.doors();
        Ok(doors.operator.request(subject, &Value::Null).await?)
    }

    /// Has the supervisor start an agent anew, by the operator's signed act.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn recycle(&self, agent: &str) -> Result<(), Trouble> {
        let doors = self.doors();
        let command = AgentsCommand::Restart { agent: agent.to_owned(), reason: "soak".to_owned() };
        let command = PeopleCommand::Agents { command: Some(command) };
        let answer = swarm::people::perform(&doors.operator, &doors.files, &command).await?;
        if answer["ok"] == true { Ok(()) } else { Err(Trouble::Other(format!("{agent} was not recycled: {answer}"))) }
    }

    /// Resident memory of the supervisor, and of all processes of the swarm with their servers, bytes. `None` while the
    /// supervisor does not answer.
    pub async fn resident(&self) -> Option<(u64, u64)> {
        let supervisor = self.process(Target::Supervisor, 0).await?;
        let up = self.up.lock().await.pid();
        let all = process::family(up).into_iter().filter_map(process::resident_bytes).sum();
        Some((process::resident_bytes(supervisor.pid)?, all))
    }

    /// Starts `swarm up` again after it ended, as a person would.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn start_again(&self) -> Result<(), Trouble> {
        let mut up = self.up.lock().await;
        let ended = wait_for(STOP_WITHIN, async || up.try_wait().ok().flatten().is_some()).await;
        if !ended {
            return Err(Trouble::Other("a killed `swarm up` still runs".to_owned()));
        }
        *up = start(&self.options, &self.folder, &self.data)?;
        wait_ready(&mut up, &self.folder).await?;
        let doors = open_doors(&self.data, self.options.players).await?;
        let db = open_db(&self.data).await?;
        *self.doors.write().unwrap_or_else(PoisonError::into_inner) = doors.into();
        *self.db.write().unwrap_or_else(PoisonError::into_inner) = db;
        Ok(())
    }

    /// How `swarm up` ended, when it has although nobody asked for that.
    pub async fn fell(&self) -> Option<String> {
        let mut up = self.up.try_lock().ok()?;
        let status = up.try_wait().ok().flatten()?;
        let told = std::fs::read_to_string(up.log()).unwrap_or_default();
        let last: Vec<&str> = told.lines().rev().take(4).collect();
        Some(format!("`swarm up` ended ({status}): {}", last.join(" / ")))
    }

    /// Drains and stops the swarm; `Err` when it had to be killed or did not end well.
    ///
    /// # Errors
    /// [`Trouble::Other`].
    pub async fn stop(&self) -> Result<(), Trouble> {
        let mut up = self.up.lock().await;
        let process = Process::of(up.pid());
        let asked = process.is_some_and(|process| process.signal(Signal::SIGTERM));
        let ended = wait_for(STOP_WITHIN, async || up.try_wait().ok().flatten().is_some()).await;
        if !ended {
            up.stop(Duration::ZERO)?;
        }
        let status = up.try_wait()?;
        if asked && ended && status.is_some_and(|status| status.success()) {
            return Ok(());
        }
        Err(Trouble::Other(format!("`swarm up` did not stop well ({status:?}); see {}", up.log().display())))
    }

    /// Ends everything at once, however the run ended: what is stopped goes on, what runs is killed, the mount is taken
    /// away.
    pub fn end(&self) {
        for (pid, name) in process::naming(&self.folder) {
            if let Some(process) = Process::of(pid) {
                // SIGKILL reaches a stopped process too.
                if process.signal(Signal::SIGKILL) {
                    eprintln!("killed {name} ({pid})");
                }
            }
        }
        if self.means.disk {
            unmount(&self.data.join("nats").join("jetstream"));
        }
    }
}

/// Looks until it holds; `false` when it did not in time.
pub async fn wait_for(bound: Duration, mut look: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + bound;
    loop {
        if look().await {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The nodes of a cluster, as `swarm up` names them.
const NODES: [&str; 3] = ["nats-server-1", "nats-server-2", "nats-server-3"];

/// The process of a node: its configuration lies in a folder of its name.
fn node(up: u32, name: &str) -> Option<Process> {
    let is_it = |pid: &u32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains(&format!("/nats-cluster/{name}/"))
    };
    process::children(up).into_iter().find(is_it).and_then(Process::of)
}

/// A file system of 64 MB at JetStream's folder, so that it can be full alone. Only root can do that.
fn mount_small(folder: &Path, lacks: &mut Vec<String>) -> bool {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(folder).output();
    match mounted {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            lacks.push(format!("disk full: needs a mount of its own, which this machine does not allow ({why})"));
            false
        }
        Err(error) => {
            lacks.push(format!("disk full: needs a mount of its own ({error})"));
            false
        }
    }
}

fn unmount(folder: &Path) {
    // Lazily: what was killed just now may hold it for a moment more.
    let done = Command::new("umount").arg("-l").arg(folder).output();
    if !done.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("{} could not be unmounted: {done:?}", folder.display());
    }
}

/// The shipped configuration with a worse exchange: small levels, so that orders fill in parts; refusals and lost
/// replies. The limits are the shipped ones, byte for byte.
fn write_config(options: &Options, folder: &Path) -> Result<PathBuf, Trouble> {
    let own = folder.join("config");
    std::fs::create_dir_all(&own).map_err(|error| Trouble::file(&own, error))?;
    let entries = std::fs::read_dir(&options.config_dir).map_err(|error| Trouble::file(&options.config_dir, error))?;
    for entry in entries.flatten() {
        std::fs::copy(entry.path(), own.join(entry.file_name()))
            .map_err(|error| Trouble::file(&entry.path(), error))?;
    }
    let desk = own.join("desk.toml");
    let mut text = std::fs::read_to_string(&desk).map_err(|error| Trouble::file(&desk, error))?;
    for (shipped, worse) in [
        ("reject_bps = 0 ", "reject_bps = 100 "),
        ("lost_reply_bps = 0 ", "lost_reply_bps = 300 "),
        ("level_quantity = \"0.5\"", "level_quantity = \"0.004\""),
        ("level_quantity = \"8\"", "level_quantity = \"0.09\""),
    ] {
        if !text.contains(shipped) {
            return Err(Trouble::file(&desk, format!("has no `{shipped}`, which chaos makes worse")));
        }
        text = text.replace(shipped, worse);
    }
    std::fs::write(&desk, text).map_err(|error| Trouble::file(&desk, error))?;
    Ok(own)
}

/// Short name of player `number`.
#[must_use]
pub fn handle(number: usize) -> String {
    format!("p{number:02}")
}

fn write_people(folder: &Path, players: usize) -> Result<(), Trouble> {
    let mut text = String::from("# Made for chaos.\n");
    let shipped = [("operator".to_owned(), 50_000), ("strategies".to_owned(), 10_000)];
    // Some can't pay for all they wish for: the sum over all instruments is then the rail that holds.
    let own = (0..players).map(|number| (handle(number), if number % 4 == 3 { 6_000 } else { 40_000 }));
    for (handle, usd) in shipped.into_iter().chain(own) {
        let _ = writeln!(text, "\n[[person]]\nhandle = \"{handle}\"\nopening_balance_usd = \"{usd}\"");
    }
    let path = folder.join("people.toml");
    std::fs::write(&path, text).map_err(|error| Trouble::file(&path, error))
}

/// A link to the program by the name of each agent, and a wrapper around it.
fn write_programs(
    options: &Options,
    folder: &Path,
    links: &BTreeMap<(&'static str, Server), Link>,
    shim: Option<&Path>,
) -> Result<(), Trouble> {
    let (bin, agents) = (folder.join("bin"), folder.join("agents"));
    let real = swarm_program(options)?;
    for agent in AGENTS.into_iter().chain(OTHERS) {
        let program = agents.join(agent);
        std::os::unix::fs::symlink(&real, &program).map_err(|error| Trouble::file(&program, error))?;
        let port = |server| links.get(&(agent, server)).map_or(0, |link| link.port);
        let clock = folder.join("clock").join(agent);
        skew::reset(&clock)?;
        let mut text = String::from(
            "#!/bin/sh\n# An agent behind links that can be slow or deaf, with a clock that can be wrong.\n",
        );
        // A client of a cluster learns all nodes from the first: a link could not hold it.
        if !options.cluster {
            let _ = writeln!(text, "export SWARM_NATS_URL=nats://127.0.0.1:{}", port(Server::Nats));
        }
        let _ = writeln!(
            text,
            "# The query of the URL would name the server's socket, which no link holds.\nSWARM_PG_URL=\"${{SWARM_PG_URL%%\\?*}}\"\n\
             [ -z \"$SWARM_PG_URL\" ] || export SWARM_PG_URL=\"${{SWARM_PG_URL%@*}}@127.0.0.1:{}/${{SWARM_PG_URL##*/}}\"",
            port(Server::Postgres)
        );
        if let Some(shim) = shim {
            let _ = writeln!(text, "export SKEW_FILE='{}' LD_PRELOAD='{}'", clock.display(), shim.display());
        }
        let _ = writeln!(text, "exec '{}'", program.display());
        let path = bin.join(agent);
        std::fs::write(&path, text)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)))
            .map_err(|error| Trouble::file(&path, error))?;
    }
    Ok(())
}

fn swarm_program(options: &Options) -> Result<PathBuf, Trouble> {
    let program = options.programs.join("swarm");
    if program.is_file() {
        return Ok(program);
    }
    Err(Trouble::file(&program, "is not there; build it: cargo build --package swarm"))
}

fn start(options: &Options, folder: &Path, data: &Path) -> Result<Child, Trouble> {
    let ready = folder.join("ready.json");
    match std::fs::remove_file(&ready) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Trouble::file(&ready, error)),
        _ => {}
    }
    let mut command = Command::new(swarm_program(options)?);
    command.arg("--data-dir").arg(data).args(["up", "--market", "builtin", "--seed", &options.seed.to_string()]);
    command.arg("--config-dir").arg(&options.config_dir).arg("--people").arg(folder.join("people.toml"));
    command
        .arg("--programs")
        .arg(folder.join("bin"))
        .arg("--ready-file")
        .arg(&ready)
        // Whoever strikes has seen why they ended.
        .arg("--release")
        .args(["--nats-nodes", if options.cluster { "3" } else { "1" }]);
    Ok(servers::spawn(Launch {
        command,
        name: "swarm up".to_owned(),
        log: folder.join("up.log"),
        stop_signal: Signal::SIGTERM,
        death_signal: Signal::SIGTERM,
    })?)
}

async fn wait_ready(up: &mut Child, folder: &Path) -> Result<(), Trouble> {
    let ready = folder.join("ready.json");
    let mut ended = None;
    let is_ready = wait_for(READY_WITHIN, async || {
        ended = up.try_wait().ok().flatten();
        // Written in one go but not atomically: half a file is no JSON yet.
        let text = std::fs::read_to_string(&ready).unwrap_or_default();
        ended.is_some() || serde_json::from_str::<Value>(&text).is_ok()
    })
    .await;
    if is_ready && ended.is_none() {
        return Ok(());
    }
    let told = std::fs::read_to_string(up.log()).unwrap_or_default();
    let last: Vec<&str> = told.lines().rev().take(4).collect();
    Err(Trouble::Other(format!("`swarm up` is not ready (ended: {ended:?}): {}", last.join(" / "))))
}

async fn open_db(data: &Path) -> Result<Db, Trouble> {
    let path = data.join("secrets").join("admin.url");
    let url = std::fs::read_to_string(&path).map_err(|error| Trouble::file(&path, error))?;
    Ok(Db::connect(url.trim(), "chaos").await?)
}

async fn open_doors(data: &Path, players: usize) -> Result<Doors, Trouble> {
    let files = Files::load(data)?;
    let operator = Connection::open(&files).await?;
    let mut people = BTreeMap::new();
    for handle in (0..players).map(handle) {
        let nkey_file = data.join("secrets").join(format!("person-{handle}.nk"));
        let own = Files { nkey_file, person_id: handle.clone(), ..files.clone() };
        people.insert(handle, Connection::open(&own).await?);
    }
    Ok(Doors { operator, people, files })
}
