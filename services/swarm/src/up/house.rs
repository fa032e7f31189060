//! Servers, schema, roles, streams, rights, accounts and the plan: everything the agents find when they start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bus::permissions::{NatsUser, inbox_prefix, permissions_of, permissions_of_admin, permissions_of_person};
use bus::{Bus, BusConfig};
use domain::agent::AgentSpec;
use domain::subject::Route;
use runtime::kill;
use runtime::seal::{Grounds, Seal};
use servers::{
    Durability, LlamaOptions, LlamaServer, NatsCluster, NodeOptions, PostgresOptions, PostgresServer, Programs,
    StablePorts, ValkeyServer,
};
use store::Db;
use store::approvals::Approver;
use store::migrate::RoleSpec;
use supervisor::lifecycle::{Launch, Places, Plan, PlannedAgent, Settings, settings};

use super::people::{self, Person};
use super::{UpArgs, UpError, declare, nats, valkey};
use crate::keys::{Ed25519File, Keys, write_private};
use crate::people::Files;
use crate::{processes, specs};

/// Database of the swarm.
const DATABASE: &str = "swarm";
/// Login that may only read the audit tables.
const AUDIT_LOGIN: &str = "audit_verify";

/// What runs besides the agents, and what they are started with.
pub(super) struct House {
    pub nats: NatsCluster,
    pub postgres: PostgresServer,
    pub valkey: ValkeyServer,
    /// With `--llm local`.
    pub model: Option<LlamaServer>,
    pub files: Files,
    pub supervisor: Launch,
    pub agents: Vec<String>,
    data_dir: PathBuf,
    starts: Starts,
}

/// How the servers are started, again when one dies.
struct Starts {
    programs: Programs,
    nats: Vec<NodeOptions>,
    postgres: PostgresOptions,
    valkey: servers::ValkeyOptions,
}

/// The servers, once they run.
struct Running<'a> {
    nats: &'a NatsCluster,
    postgres: &'a PostgresServer,
    valkey: &'a ValkeyServer,
    model: Option<&'a LlamaServer>,
}

struct Secrets {
    permit: Ed25519File,
    anchor: Ed25519File,
    operator: Ed25519File,
}

impl House {
    /// Starts the servers and makes everything be as the code says.
    pub(super) async fn open(args: &UpArgs, data_dir: &Path) -> Result<Self, UpError> {
        let config_dir = args.config_dir.canonicalize().map_err(|error| UpError::file(&args.config_dir, error))?;
        let people_file = args.people.clone().unwrap_or_else(|| config_dir.join("people.toml"));
        let people = people::load(&people_file)?;
        warn_of_strategies_without_account(&config_dir, &people);
        for folder in ["log", "run", "data"] {
            let folder = data_dir.join(folder);
            std::fs::create_dir_all(&folder).map_err(|error| UpError::file(&folder, error))?;
        }
        move_holdings(&data_dir.join("data"))?;
        let keys = Keys::open(data_dir)?;
        let secrets = Secrets {
            permit: keys.ed25519("permit")?,
            anchor: keys.ed25519("anchor")?,
            operator: keys.ed25519("person-operator")?,
        };
        let starts = starts(args, data_dir, &keys, &people)?;
        // It loads while the others start.
        let mut model = model(args, data_dir)?;
        let postgres = PostgresServer::start(&starts.programs, &starts.postgres)?;
        let valkey = ValkeyServer::start(&starts.programs, &starts.valkey)?;
        if starts.nats.len() > 1 {
            eprintln!("starting {} NATS nodes; they take 4 to 9 s to elect a leader", starts.nats.len());
        }
        let nats = NatsCluster::start(&starts.programs, starts.nats.clone())?;
        prepare_store(&postgres, &keys, &people, &secrets, data_dir).await?;
        prepare_streams(&nats, &keys).await?;
        let files = write_files(data_dir, &nats, &postgres, &keys, &secrets)?;
        if let Some(model) = &mut model {
            model.wait_until_ready()?;
        }
        let admin = postgres.admin_url(DATABASE);
        let seal = declare::seal(&admin, &config_dir).await?;
        let mut supervisor = plan(
            args,
            data_dir,
            &config_dir,
            Running { nats: &nats, postgres: &postgres, valkey: &valkey, model: model.as_ref() },
            &keys,
            &secrets,
            &seal,
        )?;
        let programs = supervisor.program.parent().unwrap_or(data_dir);
        let untouchable = declare::untouchable(
            processes().map(|spec| (spec.name.to_owned(), programs.join(spec.name))),
            data_dir.join("plan.json"),
            &people_file,
            [&secrets.permit.public_file, &secrets.anchor.public_file],
        )?;
        let grounds = Grounds { config_dir: config_dir.clone(), untouchable };
        for name in declare::declare(&admin, &grounds).await? {
            eprintln!("{name} is not what it was at the start before; that is in the governance chain");
        }
        supervisor.env.insert("SWARM_PROTECTED".to_owned(), as_json(&grounds, &config_dir)?);
        let agents = processes().map(|spec| spec.name.to_owned()).collect();
        Ok(Self { nats, postgres, valkey, model, files, supervisor, agents, data_dir: data_dir.to_owned(), starts })
    }

    /// Where the page is, once its process has said so.
    pub(super) fn web_address(&self) -> Option<String> {
        let file = self.data_dir.join("run").join(gateway::config::PORT_FILE);
        let port: u16 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
        Some(format!("http://127.0.0.1:{port}/"))
    }

    /// Where a process writes.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.data_dir.join("log").join(format!("{name}.log"))
    }

    /// Whether an agent that an earlier supervisor started still runs.
    pub(super) fn agents_run(&self) -> bool {
        let places = Places::new(&self.data_dir.join("run"), &self.data_dir.join("data"));
        self.agents.iter().any(|name| supervisor::lifecycle::is_running(&places, name))
    }

    /// Starts a server again that died; says which. The agents wait for it by themselves.
    pub(super) fn revive(&mut self) -> Result<Option<String>, UpError> {
        if let Some(node) = self.nats.revive()? {
            return Ok(Some(node));
        }
        if self.postgres.child().try_wait()?.is_some() {
            self.postgres = PostgresServer::start(&self.starts.programs, &self.starts.postgres)?;
            return Ok(Some("postgres".to_owned()));
        }
        if self.valkey.child().try_wait()?.is_some() {
            self.valkey = ValkeyServer::start(&self.starts.programs, &self.starts.valkey)?;
            return Ok(Some("valkey".to_owned()));
        }
        Ok(None)
    }

    /// Starts the language model again, if there is one and it died; does not wait for it.
    pub(super) fn revive_model(&mut self) -> Result<bool, UpError> {
        Ok(self.model.as_mut().map_or(Ok(false), LlamaServer::revive)?)
    }

    /// Starts a NATS node anew that can't store although its disk has room again; says which and why.
    pub(super) fn unstick(&mut self) -> Result<Option<(String, String)>, UpError> {
        Ok(self.nats.unstick()?)
    }

    /// Stops the servers: first the road, then what may be forgotten, then the record.
    pub(super) fn stop(self) -> Result<(), UpError> {
        self.nats.stop()?;
        if let Some(model) = self.model {
            model.stop()?;
        }
        self.valkey.stop()?;
        self.postgres.stop()?;
        Ok(())
    }
}

/// What the strategies hold lay beside the kill level once; its process may write in a folder of its own alone.
fn move_holdings(data: &Path) -> Result<(), UpError> {
    let (old, new) = (data.join("buy_bot_holdings.json"), buy_bot::holdings_path(data));
    if !old.is_file() || new.exists() {
        return Ok(());
    }
    let moved = new.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::rename(&old, &new));
    moved.map_err(|error| UpError::file(&old, error))
}

/// The language model of `--llm local`, begun.
fn model(args: &UpArgs, data_dir: &Path) -> Result<Option<LlamaServer>, UpError> {
    if args.llm.is_none() {
        return Ok(None);
    }
    let port = StablePorts::open(&data_dir.join("ports.json")).get("llama")?;
    eprintln!("starting a small language model; it loads for some seconds");
    Ok(Some(LlamaServer::launch(&LlamaOptions::usual(&data_dir.join("llama"), port)?)?))
}

/// Points the router's first tier at it.
fn model_env(model: &LlamaServer) -> BTreeMap<String, String> {
    let told = [("URL", model.url()), ("ADAPTER", "openai".to_owned()), ("MODEL", model.options().model_name())];
    told.into_iter().map(|(name, value)| (format!("LLM_LOCAL_{name}"), value)).collect()
}

/// Their signals would all be refused. No reason to stop: people can trade. What can't be read, `buy_bot` says itself.
fn warn_of_strategies_without_account(config_dir: &Path, people: &[Person]) {
    let Ok(buy_bot::config::Config { strategies, .. }) = buy_bot::config::load(config_dir) else { return };
    if strategies.enabled && !people.iter().any(|person| person.handle == strategies.user) {
        eprintln!(
            "strategies trade for {:?}, who is not among the people: their signals will be refused",
            strategies.user
        );
    }
}

fn starts(args: &UpArgs, data_dir: &Path, keys: &Keys, people: &[Person]) -> Result<Starts, UpError> {
    let programs = Programs::usual()?;
    let mut ports = StablePorts::open(&data_dir.join("ports.json"));
    let postgres = PostgresOptions {
        folder: data_dir.join("postgres"),
        port: ports.get("postgres")?,
        superuser_password: keys.password("pg-postgres")?,
        durability: Durability::Kept,
        max_connections: 40,
    };
    let valkey = valkey::options(data_dir, &mut ports, keys)?;
    let mut users = Vec::new();
    for spec in processes() {
        let public_key = keys.nkey(spec.name)?.public;
        users.push(NatsUser { name: spec.name.to_owned(), public_key, permissions: permissions_of(&spec) });
    }
    for person in people {
        let name = format!("person-{}", person.handle);
        let public_key = keys.nkey(&name)?.public;
        users.push(NatsUser { name, public_key, permissions: permissions_of_person(&person.handle) });
    }
    let public_key = keys.nkey("admin")?.public;
    users.push(NatsUser { name: "admin".to_owned(), public_key, permissions: permissions_of_admin() });
    let count = nats::count(data_dir, args.nats_nodes)?;
    let nats = nats::options(data_dir, count, &mut ports, keys, &users)?;
    Ok(Starts { programs, nats, postgres, valkey })
}

async fn prepare_store(
    postgres: &PostgresServer,
    keys: &Keys,
    people: &[Person],
    secrets: &Secrets,
    data_dir: &Path,
) -> Result<(), UpError> {
    store::migrate::ensure_database(&postgres.admin_url("postgres"), DATABASE).await?;
    let admin = postgres.admin_url(DATABASE);
    for applied in store::migrate::migrate(&admin).await? {
        eprintln!("migration {applied} applied");
    }
    let with_tables: Vec<AgentSpec> = processes().filter(|spec| !spec.tables.is_empty()).collect();
    let mut passwords = Vec::new();
    for spec in &with_tables {
        passwords.push(keys.password(&format!("pg-{}", spec.name))?);
    }
    let audit_password = keys.password(&format!("pg-{AUDIT_LOGIN}"))?;
    let mut roles: Vec<RoleSpec<'_>> = with_tables
        .iter()
        .zip(&passwords)
        .map(|(spec, password)| RoleSpec { name: spec.name, password, grants: spec.tables })
        .collect();
    roles.push(RoleSpec { name: AUDIT_LOGIN, password: &audit_password, grants: store::grants::AUDIT_VERIFY });
    store::migrate::ensure_roles(&admin, &roles).await?;
    let db = Db::connect(&admin, "swarm_up").await?;
    let mut unit = db.begin().await?;
    let operator = Approver {
        person_id: "operator".to_owned(),
        handle: Some("operator".to_owned()),
        public_key: secrets.operator.public.clone(),
        active: true,
    };
    store::approvals::upsert_approver(&mut unit, &operator).await?;
    let now = unit.now().await?;
    let current = match store::kill::current(&mut unit).await? {
        Some(kill) => kill,
        None => store::kill::raise(&mut unit, 0, "swarm up", "first start", now).await?,
    };
    unit.commit().await?;
    let file = kill::file_path(&data_dir.join("data"));
    if kill::read_file(&file).is_none() {
        kill::write_file(&file, current.level, current.epoch).map_err(|error| UpError::file(&file, error))?;
    }
    for person in people {
        let mut unit = db.begin().await?;
        let now = unit.now().await?;
        let none = serde_json::json!({});
        store::users::open_account(&mut unit, &person.handle, person.opening_balance_usd, none, now).await?;
        unit.commit().await?;
    }
    Ok(())
}

async fn prepare_streams(nats: &NatsCluster, keys: &Keys) -> Result<(), UpError> {
    let seed = Bus::read_seed(&keys.nkey("admin")?.seed_file)?;
    let config = BusConfig {
        url: nats.urls(),
        name: "swarm up".to_owned(),
        nkey_seed: Some(seed),
        inbox_prefix: Some(inbox_prefix("admin")),
    };
    let (bus, _events) = Bus::connect(config).await?;
    for change in bus::streams::apply_replicated(&bus, &specs(), nats.size()).await? {
        eprintln!("stream {}: {}", change.name, change.diff.replace('\n', "; "));
    }
    Ok(())
}

fn write_files(
    data_dir: &Path,
    nats: &NatsCluster,
    postgres: &PostgresServer,
    keys: &Keys,
    secrets: &Secrets,
) -> Result<Files, UpError> {
    let audit_pg_url_file = keys.path("audit-verify.url");
    let password = keys.password(&format!("pg-{AUDIT_LOGIN}"))?;
    write_private(&audit_pg_url_file, &postgres.url(AUDIT_LOGIN, &password, DATABASE))?;
    // For drills on the data itself: the administrator's login, which no process of the swarm gets.
    write_private(&keys.path("admin.url"), &postgres.admin_url(DATABASE))?;
    let files = Files {
        nats_url: nats.urls(),
        nkey_file: keys.nkey("person-operator")?.seed_file,
        person_id: "operator".to_owned(),
        person_key_file: secrets.operator.private_file.clone(),
        audit_pg_url_file,
        anchors_file: supervisor::anchors_path(&data_dir.join("data")),
        anchor_public_keys_file: secrets.anchor.public_file.clone(),
    };
    let path = Files::path(data_dir);
    let text = serde_json::to_string_pretty(&files).map_err(|error| UpError::file(&path, error))?;
    write_private(&path, &text)?;
    Ok(files)
}

/// A link to this program by the name of each agent: the name tells the program which one it is, and a person in `ps`. They
/// lie where no process of the swarm may write.
fn write_programs(data_dir: &Path) -> Result<PathBuf, UpError> {
    let own = std::env::current_exe().map_err(|error| UpError::file(Path::new("swarm"), error))?;
    let folder = data_dir.join("bin");
    std::fs::create_dir_all(&folder).map_err(|error| UpError::file(&folder, error))?;
    for spec in processes() {
        let link = folder.join(spec.name);
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(UpError::file(&link, error)),
            _ => {}
        }
        std::os::unix::fs::symlink(&own, &link).map_err(|error| UpError::file(&link, error))?;
    }
    Ok(folder)
}

/// The port of the page: the one asked for, else one that stays the same over restarts, so that a bookmark does.
fn web_port(args: &UpArgs, data_dir: &Path) -> Result<u16, UpError> {
    match args.web_port {
        Some(port) => Ok(port),
        None => Ok(StablePorts::open(&data_dir.join("ports.json")).get("web")?),
    }
}

/// What whoever starts us says about Telegram, for the one process that speaks with it; and the key of its buttons.
fn telegram_env(
    keys: &Keys,
    vars: impl Iterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, UpError> {
    let mut env: BTreeMap<String, String> = vars.filter(|(name, _)| name.starts_with("TELEGRAM_")).collect();
    env.insert("TELEGRAM_BUTTON_KEY".to_owned(), keys.secret("telegram-buttons")?);
    Ok(env)
}

/// What the router is told: where it listens, the digests of its callers' keys, and what whoever starts us says about
/// providers. No other process gets a provider's key.
fn llm_env(
    data_dir: &Path,
    config_dir: &Path,
    vars: impl Iterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, UpError> {
    let wrong = |error: String| UpError::file(&config_dir.join(llm_router::config::FILE), error);
    let named = crate::llm::key_variables(config_dir).map_err(wrong)?;
    let is_told = |name: &str| name.starts_with("LLM_") || named.iter().any(|named| named == name);
    let mut env: BTreeMap<String, String> = vars.filter(|(name, _)| is_told(name)).collect();
    let keys_file = crate::llm::write_keys(data_dir, config_dir).map_err(wrong)?;
    env.insert("SWARM_LLM_KEYS_FILE".to_owned(), keys_file.display().to_string());
    let port = StablePorts::open(&data_dir.join("ports.json")).get("llm")?;
    env.insert("SWARM_LLM_PORT".to_owned(), port.to_string());
    Ok(env)
}

/// What each process may use, checked before anything is started.
fn read_agents(config_dir: &Path) -> Result<Settings, UpError> {
    let file = config_dir.join(settings::FILE);
    let text = std::fs::read_to_string(&file).map_err(|error| UpError::file(&file, error))?;
    let names: Vec<String> =
        processes().map(|spec| spec.name.to_owned()).filter(|name| name != supervisor::NAME).collect();
    Settings::parse(&text, &names).map_err(|faults| UpError::file(&file, faults.join("; ")))
}

fn as_json(value: &impl serde::Serialize, about: &Path) -> Result<String, UpError> {
    serde_json::to_string(value).map_err(|error| UpError::file(about, error))
}

fn plan(
    args: &UpArgs,
    data_dir: &Path,
    config_dir: &Path,
    Running { nats, postgres, valkey, model }: Running<'_>,
    keys: &Keys,
    secrets: &Secrets,
    seal: &Seal,
) -> Result<Launch, UpError> {
    let run_dir = data_dir.join("run");
    let programs = args.programs.clone().map_or_else(|| write_programs(data_dir), Ok)?;
    let text = |path: &Path| path.display().to_string();
    let agents_settings = read_agents(config_dir)?;
    let mut agents = Vec::new();
    for spec in processes() {
        let program = programs.join(spec.name);
        if !program.is_file() {
            return Err(UpError::file(&program, "the program is not there; leave --programs out to run this one"));
        }
        let mut env = BTreeMap::from([
            ("SWARM_NATS_URL".to_owned(), nats.urls()),
            ("SWARM_NKEY_FILE".to_owned(), text(&keys.nkey(spec.name)?.seed_file)),
            ("SWARM_HTTP_PORT".to_owned(), "0".to_owned()),
            ("SWARM_DATA_DIR".to_owned(), text(&data_dir.join("data"))),
            ("SWARM_CONFIG_DIR".to_owned(), text(config_dir)),
            ("SWARM_RUN_DIR".to_owned(), text(&run_dir)),
            // Two threads an agent need no more heaps than that; glibc would take eight a core.
            ("MALLOC_ARENA_MAX".to_owned(), "2".to_owned()),
            ("RUST_LOG".to_owned(), std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned())),
        ]);
        if !spec.tables.is_empty() {
            let password = keys.password(&format!("pg-{}", spec.name))?;
            env.insert("SWARM_PG_URL".to_owned(), postgres.url(spec.name, &password, DATABASE));
        }
        match spec.name {
            "treasury" => {
                env.insert("SWARM_PERMIT_KEY_FILE".to_owned(), text(&secrets.permit.private_file));
                env.insert("SWARM_SEAL".to_owned(), as_json(seal, config_dir)?);
            }
            "online_trading" => {
                env.insert("SWARM_PERMIT_PUBLIC_KEYS_FILE".to_owned(), text(&secrets.permit.public_file));
                env.extend(args.market.clone().map(|market| ("SWARM_MARKET".to_owned(), market)));
                env.extend(args.seed.map(|seed| ("SWARM_MARKET_SEED".to_owned(), seed.to_string())));
            }
            "supervisor" => {
                env.insert("SWARM_ANCHOR_KEY_FILE".to_owned(), text(&secrets.anchor.private_file));
                env.insert("SWARM_ANCHOR_PUBLIC_KEYS_FILE".to_owned(), text(&secrets.anchor.public_file));
                env.insert("SWARM_PLAN".to_owned(), text(&data_dir.join("plan.json")));
                env.extend(valkey::redis_env(valkey, keys, supervisor::NAME)?);
            }
            gateway::NAME => {
                env.insert("SWARM_WEB_PORT".to_owned(), web_port(args, data_dir)?.to_string());
                env.extend(args.web_origin.clone().map(|origin| ("SWARM_WEB_ORIGIN".to_owned(), origin)));
            }
            llm_router::NAME => {
                env.extend(valkey::redis_env(valkey, keys, llm_router::NAME)?);
                env.extend(llm_env(data_dir, config_dir, std::env::vars())?);
                env.extend(model.map(model_env).unwrap_or_default());
            }
            "buy_bot" => {
                let port = StablePorts::open(&data_dir.join("ports.json")).get("llm")?;
                env.insert("SWARM_LLM_URL".to_owned(), format!("http://127.0.0.1:{port}"));
                env.insert("SWARM_LLM_KEY".to_owned(), keys.secret("llm-buy_bot")?);
            }
            "telegram_jarvis" => env.extend(telegram_env(keys, std::env::vars())?),
            _ => {}
        }
        let log = data_dir.join("log").join(format!("{}.log", spec.name));
        env.extend(agents_settings.env(spec.name));
        agents.push((spec, Launch { program, env, log }));
    }
    let (_, supervisor) = agents.remove(0);
    let planned = |(spec, launch): (AgentSpec, Launch)| PlannedAgent {
        name: spec.name.to_owned(),
        launch: Some(launch),
        max_concurrent: u64::try_from(spec.limits.max_in_flight).unwrap_or(u64::MAX),
        takes_tasks: spec.consumes.contains(&Route::AgentTask),
    };
    let agents = agents.into_iter().map(planned).collect();
    let path = data_dir.join("plan.json");
    let written =
        serde_json::to_string_pretty(&Plan { agents, run_dir }).map_err(|error| UpError::file(&path, error))?;
    write_private(&path, &written)?;
    Ok(supervisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_key_goes_to_the_router_with_the_digests_of_its_callers() {
        let folder = tempfile::tempdir().unwrap();
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
        let vars = [("GROQ_API_KEY", "g"), ("LLM_LOCAL_URL", "http://127.0.0.1:1"), ("PATH", "/bin"), ("AWS_KEY", "a")];
        let vars = vars.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let env = llm_env(folder.path(), &config, vars).unwrap();
        let names: Vec<&str> = env.keys().map(String::as_str).collect();
        assert_eq!(names, ["GROQ_API_KEY", "LLM_LOCAL_URL", "SWARM_LLM_KEYS_FILE", "SWARM_LLM_PORT"]);
    }

    #[test]
    fn what_strategies_hold_is_found_where_their_process_may_write() {
        let folder = tempfile::tempdir().unwrap();
        move_holdings(folder.path()).unwrap();
        let (old, new) = (folder.path().join("buy_bot_holdings.json"), buy_bot::holdings_path(folder.path()));
        std::fs::write(&old, "old").unwrap();
        move_holdings(folder.path()).unwrap();
        assert_eq!((old.exists(), std::fs::read_to_string(&new).unwrap().as_str()), (false, "old"));
        std::fs::write(&old, "older").unwrap();
        move_holdings(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&new).unwrap(), "old", "what is there stays");
    }

    #[test]
    fn the_model_that_is_started_here_is_the_routers_first_tier() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = LlamaOptions::usual(folder.path(), 7).unwrap();
        // What it is told does not depend on whether the model loads.
        options.model = folder.path().join("tiny.gguf");
        let env = model_env(&LlamaServer::launch(&options).unwrap());
        let wanted =
            [("LLM_LOCAL_ADAPTER", "openai"), ("LLM_LOCAL_MODEL", "tiny"), ("LLM_LOCAL_URL", "http://127.0.0.1:7/v1")];
        assert_eq!(env, BTreeMap::from(wanted.map(|(name, value)| (name.to_owned(), value.to_owned()))));
    }

    #[test]
    fn what_is_said_about_telegram_goes_to_its_process_with_a_key_that_stays() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        let vars = || [("TELEGRAM_TOKEN", "1:x"), ("PATH", "/bin"), ("TELEGRAM_BUTTON_KEY", "guessed")];
        let vars = || vars().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let env = telegram_env(&keys, vars()).unwrap();
        assert_eq!(env.keys().collect::<Vec<_>>(), vec!["TELEGRAM_BUTTON_KEY", "TELEGRAM_TOKEN"]);
        assert_eq!(env["TELEGRAM_BUTTON_KEY"].len(), 64);
        assert_eq!(telegram_env(&keys, vars()).unwrap(), env, "buttons that were sent stay good");
    }
}
