//! What each process may say and hear, generated from its spec, and the server's configuration.

use std::fmt::Write;
use std::path::PathBuf;

use domain::agent::AgentSpec;
use domain::subject::{Route, Stream, Subject};

use crate::streams::consumers_of;

/// Rights of one NATS user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions {
    /// Subjects it may publish to.
    pub publish: Vec<String>,
    /// Subjects it may subscribe to.
    pub subscribe: Vec<String>,
    /// Subjects it may never publish to, whatever else is granted.
    pub publish_deny: Vec<String>,
    /// May answer a request, once, within a minute.
    pub allow_responses: bool,
}

/// One NATS user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsUser {
    /// For the comment beside the key.
    pub name: String,
    /// NKEY public key (`U...`).
    pub public_key: String,
    /// Its rights.
    pub permissions: Permissions,
}

/// Settings of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Client port on 127.0.0.1.
    pub port: u16,
    /// Monitoring port on 127.0.0.1; `None`: off.
    pub monitoring_port: Option<u16>,
    /// Where JetStream keeps its files.
    pub store_dir: PathBuf,
    /// Sync every write to disk before it is acknowledged.
    pub sync_always: bool,
    /// Bound of all memory streams together.
    pub max_memory_bytes: u64,
    /// Bound of all file streams together.
    pub max_file_bytes: u64,
    /// Its part in a cluster; `None`: it stands alone.
    pub cluster: Option<ClusterSettings>,
}

/// A node's part in a cluster of servers, all on 127.0.0.1.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Name of the node, unique in the cluster.
    pub node: String,
    /// Port of this node for the others.
    pub port: u16,
    /// Ports of all nodes, this one's among them.
    pub ports: Vec<u16>,
    /// What the nodes show each other: letters and digits.
    pub password: String,
}

impl std::fmt::Debug for ClusterSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterSettings").field("node", &self.node).field("ports", &self.ports).finish_non_exhaustive()
    }
}

impl ServerSettings {
    /// Usual settings for a port and a folder.
    #[must_use]
    pub const fn new(port: u16, store_dir: PathBuf) -> Self {
        Self {
            port,
            monitoring_port: None,
            store_dir,
            sync_always: true,
            max_memory_bytes: 256 << 20,
            max_file_bytes: 8 << 30,
            cluster: None,
        }
    }
}

/// Inbox prefix of a user.
#[must_use]
pub fn inbox_prefix(name: &str) -> String {
    format!("_INBOX_{name}")
}

/// What nobody may do at run time, stream administrators included: a stream with unread orders is not to be emptied.
const NEVER: [&str; 3] = ["$JS.API.STREAM.DELETE.>", "$JS.API.STREAM.PURGE.>", "$JS.API.STREAM.MSG.DELETE.>"];

/// What the administrator of streams and consumers may call.
const ADMINISTRATION: [&str; 8] = [
    "$JS.API.INFO",
    "$JS.API.STREAM.INFO.>",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.CREATE.>",
    "$JS.API.STREAM.UPDATE.>",
    "$JS.API.CONSUMER.>",
    "$JS.API.STREAM.MSG.GET.>",
];

/// Rights of an agent: what its spec says it emits, consumes and listens to, its own consumers, its own inbox, and
/// nothing else.
#[must_use]
pub fn permissions_of(agent: &AgentSpec) -> Permissions {
    // A person's door is never an agent's to knock at: its filter would cover every action of `buy_bot`. Nor does an
    // agent tell of another's life.
    let emits = agent.emits.iter().filter(|route| !matches!(**route, Route::UserSignal | Route::Heartbeat));
    let mut publish: Vec<String> = emits.map(|route| route.filter()).collect();
    // Every runtime tells of its life and can tell people and the monitor that something is wrong.
    publish.extend([Route::Notice, Route::Alert].map(Route::filter));
    publish.push(Subject::heartbeat(agent.name).to_string());
    publish.extend(agent.asks.iter().map(|subject| (*subject).to_owned()));
    for consumer in consumers_of(agent) {
        let place = format!("{}.{}", consumer.stream.name(), consumer.name);
        publish.push(format!("$JS.API.CONSUMER.INFO.{place}"));
        publish.push(format!("$JS.API.CONSUMER.MSG.NEXT.{place}"));
        // Both forms of acknowledgement subjects, so that no upgrade of the server takes the right away.
        publish.push(format!("$JS.ACK.{place}.>"));
        publish.push(format!("$JS.ACK.*.*.{place}.>"));
        publish.push(format!("dlq.{place}"));
    }
    if agent.listens.iter().any(|route| route.is_market()) {
        publish.push(format!("$JS.API.DIRECT.GET.{}", Stream::Market.name()));
    }
    let mut subscribe = vec![format!("{}.>", inbox_prefix(agent.name)), format!("system.{}.command.*", agent.name)];
    subscribe.push(Subject::heartbeat("supervisor").to_string());
    subscribe.push(Route::HaltChanged.filter());
    // Commands to others are none of its business; those to itself are granted above.
    subscribe.extend(agent.listens.iter().filter(|route| **route != Route::Command).map(|route| route.filter()));
    if !agent.services.is_empty() {
        subscribe.extend(agent.services.iter().map(|subject| (*subject).to_owned()));
        subscribe.push("$SRV.>".to_owned());
    }
    if agent.administers_streams {
        publish.extend(ADMINISTRATION.map(str::to_owned));
        // Messages in the hands of a dead agent are handed back under its acknowledgement subjects.
        publish.push("$JS.ACK.>".to_owned());
        publish.push("audit.anchor.>".to_owned());
        // What died as a command goes back to its own subject, at the word of a person: the bytes of its sender, which its
        // reader judges as at the first time. `trading.*.*` is the three-token door.
        publish.extend(Route::ALL.into_iter().filter(|route| route.is_command()).map(Route::filter));
        publish.push("trading.*.*".to_owned());
    }
    Permissions {
        publish: tidy(publish),
        subscribe: tidy(subscribe),
        publish_deny: NEVER.map(str::to_owned).to_vec(),
        allow_responses: !agent.services.is_empty(),
    }
}

/// Doors that are not the operator's: each is one process's, which answers for how a person's word came to it.
const CHANNELS: [&str; 2] = ["swarm.decide.>", "swarm.web.>"];

/// Rights of a person; `operator` has the plain door, the services and the notices, everybody else one door of their
/// own.
#[must_use]
pub fn permissions_of_person(handle: &str) -> Permissions {
    let inbox = format!("{}.>", inbox_prefix(handle));
    if handle == "operator" {
        let publish = ["trading.buy_bot.signal.*", "trading.*.*", "swarm.>", "$SRV.>"];
        return Permissions {
            publish: publish.map(str::to_owned).to_vec(),
            subscribe: tidy(vec![inbox, Route::Notice.filter()]),
            publish_deny: CHANNELS.map(str::to_owned).to_vec(),
            ..Permissions::default()
        };
    }
    Permissions {
        publish: vec![format!("trading.buy_bot.signal-{handle}.*")],
        subscribe: vec![inbox],
        ..Permissions::default()
    }
}

/// Rights of the user that applies `streams/` by hand (`swarm streams apply`).
#[must_use]
pub fn permissions_of_admin() -> Permissions {
    Permissions {
        publish: ADMINISTRATION.map(str::to_owned).to_vec(),
        subscribe: vec![format!("{}.>", inbox_prefix("admin"))],
        publish_deny: NEVER.map(str::to_owned).to_vec(),
        allow_responses: false,
    }
}

fn tidy(mut subjects: Vec<String>) -> Vec<String> {
    subjects.sort();
    subjects.dedup();
    subjects
}

/// The text of the server's configuration file. Everybody has a key of their own; there is no user without one.
#[must_use]
pub fn server_config(users: &[NatsUser], settings: &ServerSettings) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "# Generated by `swarm up` from the agents' specs; changes are overwritten.");
    let _ = writeln!(out, "listen: \"127.0.0.1:{}\"", settings.port);
    if let Some(port) = settings.monitoring_port {
        let _ = writeln!(out, "http: \"127.0.0.1:{port}\"");
    }
    // Far larger than the 64 KiB a stream takes, so that even a megabyte is refused with a reason and not by a cut
    // connection.
    let _ = writeln!(out, "max_payload: 2MB\nmax_connections: 256\nmax_subscriptions: 512\nmax_control_line: 4096");
    let _ = writeln!(out, "max_pending: 16MB\nwrite_deadline: \"2s\"\nping_interval: \"10s\"");
    // Set, so that no upgrade of the server moves the form of acknowledgement subjects.
    let _ = writeln!(out, "feature_flags {{ js_ack_fc_v2: false }}");
    let _ = writeln!(out, "jetstream {{");
    let _ = writeln!(out, "  store_dir: {}", quoted(&settings.store_dir.to_string_lossy()));
    let _ = writeln!(
        out,
        "  max_memory_store: {}\n  max_file_store: {}",
        settings.max_memory_bytes, settings.max_file_bytes
    );
    if settings.sync_always {
        let _ = writeln!(out, "  sync_interval: always");
    }
    let _ = writeln!(out, "}}");
    if let Some(cluster) = &settings.cluster {
        out.push_str(&cluster_config(cluster));
    }
    let _ = writeln!(out, "authorization {{\n  users = [");
    for user in users {
        let _ = writeln!(out, "    # {}", user.name);
        let _ = writeln!(out, "    {{ nkey: {}, permissions: {{", user.public_key);
        let _ = writeln!(out, "      publish: {{ allow: {}", list(&user.permissions.publish));
        if !user.permissions.publish_deny.is_empty() {
            let _ = writeln!(out, "        deny: {}", list(&user.permissions.publish_deny));
        }
        let _ = writeln!(out, "      }}");
        let _ = writeln!(out, "      subscribe: {{ allow: {} }}", list(&user.permissions.subscribe));
        if user.permissions.allow_responses {
            let _ = writeln!(out, "      allow_responses: {{ max: 1, expires: \"1m\" }}");
        }
        let _ = writeln!(out, "    }} }}");
    }
    let _ = writeln!(out, "  ]\n}}");
    out
}

/// The name nodes show each other their password under.
const NODE_USER: &str = "node";

/// A node that hangs is noticed after two unanswered pings, so that its peers do not wait for it.
fn cluster_config(cluster: &ClusterSettings) -> String {
    let ClusterSettings { node, port, ports, password } = cluster;
    let routes: Vec<String> =
        ports.iter().map(|port| format!("nats-route://{NODE_USER}:{password}@127.0.0.1:{port}")).collect();
    format!(
        "server_name: {}\ncluster {{\n  name: \"swarm\"\n  listen: \"127.0.0.1:{port}\"\n  \
         authorization {{ user: {NODE_USER}, password: {}, timeout: 5 }}\n  \
         ping_interval: \"2s\"\n  ping_max: 2\n  routes: {}\n}}\n",
        quoted(node),
        quoted(password),
        list(&routes),
    )
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn list(subjects: &[String]) -> String {
    let quoted: Vec<String> = subjects.iter().map(|s| quoted(s)).collect();
    format!("[{}]", quoted.join(", "))
}
