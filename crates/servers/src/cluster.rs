//! One `nats-server`, or several that hold the same streams.
//!
//! Each node has a folder and ports of its own and can be killed, stopped and started again alone. Who leads what is
//! read from the nodes' monitoring pages, as `GET /jsz` tells it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::child::LOOK_EVERY;
use crate::stuck::Watch;
use crate::{NatsOptions, NatsServer, Programs, ServersError};

/// How long the nodes may take to agree on a leader; an election alone takes 4 to 9 s.
const AGREE_WITHIN: Duration = Duration::from_secs(60);
/// How long a monitoring page may take.
const PAGE_WITHIN: Duration = Duration::from_secs(1);
/// Largest monitoring page that is read, in bytes.
const LONGEST_PAGE: u64 = 4 << 20;

/// How to start one node.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Its name, unique in the cluster and the `server_name` of its config.
    pub name: String,
    /// The loopback port of its monitoring pages, which its config must name as well.
    pub monitoring_port: u16,
    /// Everything else; the config holds its part in the cluster, or none when it stands alone.
    pub nats: NatsOptions,
}

/// A running cluster. Dropping it stops its nodes.
#[derive(Debug)]
pub struct NatsCluster {
    programs: Programs,
    nodes: Vec<Node>,
    ready_in: Duration,
}

#[derive(Debug)]
struct Node {
    options: NodeOptions,
    /// `None` while it is down by our own will.
    server: Option<NatsServer>,
    watch: Watch,
}

/// A replicated group, as one node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Group {
    /// Name of the node that leads; `None` while nobody does.
    #[serde(default)]
    pub leader: Option<String>,
    /// The other members. How far they are is only known to the leader.
    #[serde(default)]
    pub replicas: Vec<Replica>,
}

/// A member that follows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Replica {
    /// Name of its node.
    pub name: String,
    /// It has all that was agreed.
    #[serde(default)]
    pub current: bool,
    /// It can't be reached.
    #[serde(default)]
    pub offline: bool,
}

impl Group {
    /// It has a leader and every follower has everything.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.leader.is_some() && self.replicas.iter().all(|replica| replica.current && !replica.offline)
    }
}

/// What one node tells of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The group that places streams.
    pub meta: Group,
    /// Streams by name.
    pub streams: BTreeMap<String, Group>,
    /// Consumers as `stream/consumer`.
    pub consumers: BTreeMap<String, Group>,
}

impl NatsCluster {
    /// Starts every node and waits until they agree on a leader; one that stands alone has nobody to agree with.
    ///
    /// # Errors
    /// When a node does not start, or they don't agree.
    pub fn start(programs: &Programs, nodes: Vec<NodeOptions>) -> Result<Self, ServersError> {
        let started = Instant::now();
        let mut cluster = Self { programs: programs.clone(), nodes: Vec::new(), ready_in: Duration::ZERO };
        for options in nodes {
            let watch = Watch::new(&options.nats.folder);
            let server = Some(NatsServer::start(programs, &options.nats)?);
            cluster.nodes.push(Node { options, server, watch });
        }
        while cluster.nodes.len() > 1 && cluster.meta_leader().is_none() {
            if started.elapsed() > AGREE_WITHIN {
                let log = cluster.nodes.first().map(|node| node.options.nats.folder.join("nats.log"));
                return Err(ServersError::NotReady {
                    program: "the cluster of nats-servers".to_owned(),
                    waited_ms: u64::try_from(AGREE_WITHIN.as_millis()).unwrap_or(u64::MAX),
                    log: log.unwrap_or_default(),
                });
            }
            std::thread::sleep(LOOK_EVERY * 10);
        }
        cluster.ready_in = started.elapsed();
        Ok(cluster)
    }

    /// Where clients connect: all nodes, separated by commas.
    #[must_use]
    pub fn urls(&self) -> String {
        let urls: Vec<String> =
            self.nodes.iter().map(|node| format!("nats://127.0.0.1:{}", node.options.nats.port)).collect();
        urls.join(",")
    }

    /// How many nodes there are, running or not.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes' names, in the order they were given.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.options.name.clone()).collect()
    }

    /// How long it took from start to agreement.
    #[must_use]
    pub const fn ready_in(&self) -> Duration {
        self.ready_in
    }

    /// Process id of a node; `None` while it is down.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.nodes.iter().find(|node| node.options.name == name)?.server.as_ref().map(NatsServer::pid)
    }

    /// What the first node that answers tells.
    #[must_use]
    pub fn view(&self) -> Option<View> {
        self.nodes.iter().filter(|node| node.server.is_some()).find_map(|node| view(node.options.monitoring_port))
    }

    /// Name of the node that leads the placing of streams.
    #[must_use]
    pub fn meta_leader(&self) -> Option<String> {
        self.view()?.meta.leader
    }

    /// Name of the node that leads a stream.
    #[must_use]
    pub fn stream_leader(&self, stream: &str) -> Option<String> {
        let up = self.nodes.iter().filter(|node| node.server.is_some());
        let views = up.filter_map(|node| view(node.options.monitoring_port));
        // A node that lost its leader says so at once, one that lost the others may not have noticed yet.
        let leaders: Vec<Option<String>> =
            views.filter_map(|view| view.streams.get(stream).map(|group| group.leader.clone())).collect();
        let first = leaders.first()?.clone()?;
        let is_up = self.pid(&first).is_some();
        (is_up && leaders.iter().all(|leader| leader.as_ref() == Some(&first))).then_some(first)
    }

    /// Every node runs, and every stream and consumer has a leader and followers that have everything.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let nodes = self.nodes.iter().map(|node| (node.options.name.as_str(), node.options.monitoring_port));
        self.nodes.iter().all(|node| node.server.is_some()) && lacking(nodes).is_empty()
    }

    /// Kills a node as a crash does, and waits for its end.
    ///
    /// # Errors
    /// When it can't be killed.
    pub fn kill(&mut self, name: &str) -> Result<(), ServersError> {
        let Some(mut server) = self.take(name) else { return Ok(()) };
        server.child().kill()
    }

    /// Stops a node as an operator does.
    ///
    /// # Errors
    /// When it can't be signalled.
    pub fn stop_node(&mut self, name: &str) -> Result<(), ServersError> {
        self.take(name).map_or(Ok(()), |server| server.stop().map(drop))
    }

    fn take(&mut self, name: &str) -> Option<NatsServer> {
        self.nodes.iter_mut().find(|node| node.options.name == name)?.server.take()
    }

    /// Starts a node that is down or died, and names it; `None` when all run. It waits until the node greets, not until
    /// it has everything.
    ///
    /// # Errors
    /// When it does not start; the next call tries it again.
    pub fn revive(&mut self) -> Result<Option<String>, ServersError> {
        for node in &mut self.nodes {
            let ended = match &mut node.server {
                Some(server) => server.child().try_wait()?.is_some(),
                None => true,
            };
            if ended {
                node.server = None;
                node.watch.forget();
                node.server = Some(NatsServer::start(&self.programs, &node.options.nats)?);
                return Ok(Some(node.options.name.clone()));
            }
        }
        Ok(None)
    }

    /// Starts a node anew that can't store although its disk has room, and says which and what it complained of; `None`
    /// when all can. Rarer and rarer when that does not help.
    ///
    /// # Errors
    /// When it can't be stopped, or does not start; [`NatsCluster::revive`] tries it again.
    pub fn unstick(&mut self) -> Result<Option<(String, String)>, ServersError> {
        let now = Instant::now();
        for node in self.nodes.iter_mut().filter(|node| node.server.is_some()) {
            let Some(why) = node.watch.look(now) else { continue };
            if let Some(server) = node.server.take() {
                server.stop()?;
            }
            node.watch.ended_for_it(Instant::now());
            node.server = Some(NatsServer::start(&self.programs, &node.options.nats)?);
            return Ok(Some((node.options.name.clone(), why)));
        }
        Ok(None)
    }

    /// Stops all nodes; `false` when one had to be killed.
    ///
    /// # Errors
    /// When one can't be signalled.
    pub fn stop(self) -> Result<bool, ServersError> {
        let mut by_themselves = true;
        for server in self.nodes.into_iter().filter_map(|node| node.server) {
            by_themselves &= server.stop()?;
        }
        Ok(by_themselves)
    }
}

/// What a cluster of nodes, given as names and monitoring ports, lacks: nodes that do not answer, groups without a leader
/// or with followers that have not everything. Empty when it is whole.
#[must_use]
pub fn lacking<'a>(nodes: impl Iterator<Item = (&'a str, u16)>) -> Vec<String> {
    let mut lacks = Vec::new();
    let views: Vec<(&str, Option<View>)> = nodes.map(|(name, port)| (name, view(port))).collect();
    let stands_alone = views.len() < 2;
    for (name, view) in views {
        let Some(view) = view else {
            lacks.push(format!("{name} does not answer"));
            continue;
        };
        let groups = [("the cluster".to_owned(), view.meta)].into_iter().chain(view.streams).chain(view.consumers);
        for (group_name, group) in groups.filter(|_| !stands_alone) {
            match &group.leader {
                None => lacks.push(format!("{name} knows no leader of {group_name}")),
                // Only the leader knows how far the others are.
                Some(leader) if leader == name && !group.is_whole() => {
                    lacks.push(format!("{group_name} is not on all nodes yet"));
                }
                Some(_) => {}
            }
        }
    }
    lacks
}

/// What the node with this monitoring port tells of its cluster; `None` when it does not answer.
#[must_use]
pub fn view(monitoring_port: u16) -> Option<View> {
    read(&page(monitoring_port, "/jsz?accounts=true&streams=true&consumers=true")?)
}

fn read(page: &[u8]) -> Option<View> {
    let page: Page = serde_json::from_slice(page).ok()?;
    let mut view = View { meta: page.meta_cluster.unwrap_or_default().named(), ..View::default() };
    for stream in page.account_details.into_iter().flat_map(|account| account.stream_detail) {
        for consumer in stream.consumer_detail {
            let name = format!("{}/{}", stream.name, consumer.name);
            view.consumers.insert(name, consumer.cluster.unwrap_or_default().named());
        }
        view.streams.insert(stream.name, stream.cluster.unwrap_or_default().named());
    }
    Some(view)
}

impl Group {
    /// The server says "" for nobody.
    fn named(mut self) -> Self {
        self.leader = self.leader.filter(|leader| !leader.is_empty());
        self
    }
}

/// `/jsz`, as far as it is read here.
#[derive(Deserialize)]
struct Page {
    meta_cluster: Option<Group>,
    #[serde(default)]
    account_details: Vec<AccountDetail>,
}

#[derive(Deserialize)]
struct AccountDetail {
    #[serde(default)]
    stream_detail: Vec<StreamDetail>,
}

#[derive(Deserialize)]
struct StreamDetail {
    name: String,
    cluster: Option<Group>,
    #[serde(default)]
    consumer_detail: Vec<ConsumerDetail>,
}

#[derive(Deserialize)]
struct ConsumerDetail {
    name: String,
    cluster: Option<Group>,
}

/// The body of a monitoring page.
fn page(port: u16, path: &str) -> Option<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PAGE_WITHIN).ok()?;
    stream.set_read_timeout(Some(PAGE_WITHIN)).ok()?;
    stream.set_write_timeout(Some(PAGE_WITHIN)).ok()?;
    // 1.0: the body ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.take(LONGEST_PAGE).read_to_end(&mut answer).ok()?;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(answer.split_off(body + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_whole_with_a_leader_and_followers_that_have_everything() {
        let page = br#"{"meta_cluster":{"leader":"a","replicas":[{"name":"b","current":true}]},"account_details":[{"name":"$G",
            "stream_detail":[{"name":"S","cluster":{"leader":"","replicas":[{"name":"b","current":true}]},
            "consumer_detail":[{"name":"c","cluster":{"leader":"a","replicas":[{"name":"b","current":true,"offline":true}]}}]}]}]}"#;
        let view = read(page).unwrap();
        assert!(view.meta.is_whole());
        assert_eq!(view.streams["S"].leader, None);
        assert!(!view.streams["S"].is_whole() && !view.consumers["S/c"].is_whole());
    }

    #[test]
    fn a_node_that_does_not_answer_is_named() {
        assert_eq!(lacking([("a", crate::free_port().unwrap())].into_iter()), ["a does not answer"]);
    }
}
