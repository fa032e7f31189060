//! The NATS of a data folder: one server, or a cluster of three nodes.

use std::path::{Path, PathBuf};

use bus::permissions::{ClusterSettings, NatsUser, ServerSettings, server_config};
use servers::{NatsOptions, NodeOptions, StablePorts};

use super::UpError;
use crate::keys::Keys;

/// Nodes of a cluster: the smallest number of which one may die.
const NODES: u8 = 3;

/// The names of the nodes.
pub(crate) fn names(count: usize) -> Vec<String> {
    match count {
        0 | 1 => vec!["nats-server".to_owned()],
        _ => (1..=count).map(|number| format!("nats-server-{number}")).collect(),
    }
}

/// The name under which a node's monitoring port is kept.
pub(crate) fn monitoring_port(node: &str) -> String {
    match node {
        "nats-server" => "nats_monitoring".to_owned(),
        node => format!("{node}_monitoring"),
    }
}

/// Where a node keeps its streams and its log.
pub(crate) fn folder(data_dir: &Path, node: &str) -> PathBuf {
    if node == "nats-server" { alone(data_dir) } else { cluster(data_dir).join(node) }
}

fn alone(data_dir: &Path) -> PathBuf {
    data_dir.join("nats")
}

fn cluster(data_dir: &Path) -> PathBuf {
    data_dir.join("nats-cluster")
}

/// How many nodes to start: as many as asked for, or as the folder has. The streams of one server can't be handed to a
/// cluster, nor back: what waits in them would be lost without a word.
pub(super) fn count(data_dir: &Path, asked: Option<u8>) -> Result<u8, UpError> {
    let (alone, cluster) = (alone(data_dir), cluster(data_dir));
    let found = match (cluster.exists(), alone.exists()) {
        (true, _) => Some((NODES, cluster)),
        (false, true) => Some((1, alone)),
        (false, false) => None,
    };
    match (asked, found) {
        (None, None) => Ok(1),
        (None, Some((count, _))) => Ok(count),
        (Some(asked), Some((count, folder))) if asked != count => Err(UpError::file(
            &folder,
            format!(
                "these are the streams of {count} NATS node(s), not of {asked}, and what waits in them can't be carried \
                 over; start with --nats-nodes {count}, or name another --data-dir"
            ),
        )),
        (Some(asked), _) => Ok(asked),
    }
}

/// How to start `count` nodes that know these users.
pub(super) fn options(
    data_dir: &Path,
    count: u8,
    ports: &mut StablePorts,
    keys: &Keys,
    users: &[NatsUser],
) -> Result<Vec<NodeOptions>, UpError> {
    let names = names(usize::from(count));
    let mut node_ports = Vec::new();
    for name in &names {
        node_ports.push(if count > 1 { ports.get(&format!("{name}_nodes"))? } else { 0 });
    }
    let password = keys.password("nats-nodes")?;
    let mut nodes = Vec::new();
    for (name, node_port) in names.iter().zip(&node_ports) {
        let folder = folder(data_dir, name);
        let key = if count > 1 { name.as_str() } else { "nats" };
        let port = ports.get(key)?;
        let monitoring_port = ports.get(&monitoring_port(name))?;
        let mut settings = ServerSettings::new(port, folder.join("jetstream"));
        settings.monitoring_port = Some(monitoring_port);
        settings.cluster = (count > 1).then(|| ClusterSettings {
            node: name.clone(),
            port: *node_port,
            ports: node_ports.clone(),
            password: password.clone(),
        });
        let nats = NatsOptions { folder, port, config: server_config(users, &settings) };
        nodes.push(NodeOptions { name: name.clone(), monitoring_port, nats });
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_on_with_the_nodes_it_has() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(count(folder.path(), None).unwrap(), 1);
        assert_eq!(count(folder.path(), Some(3)).unwrap(), 3);
        std::fs::create_dir(alone(folder.path())).unwrap();
        assert_eq!(count(folder.path(), None).unwrap(), 1);
        let refused = count(folder.path(), Some(3)).unwrap_err().to_string();
        assert!(refused.contains("--nats-nodes 1") && refused.contains("--data-dir"), "{refused}");
        std::fs::create_dir(cluster(folder.path())).unwrap();
        assert_eq!(count(folder.path(), None).unwrap(), 3);
        assert!(count(folder.path(), Some(1)).is_err());
    }

    #[test]
    fn nodes_have_ports_of_their_own_and_one_that_stands_alone_keeps_its_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        let mut ports = StablePorts::open(&folder.path().join("ports.json"));
        let alone = options(folder.path(), 1, &mut ports, &keys, &[]).unwrap();
        assert_eq!((alone[0].nats.port, alone.len()), (ports.known("nats").unwrap(), 1));
        assert!(!alone[0].nats.config.contains("cluster {"));
        let nodes = options(folder.path(), 3, &mut ports, &keys, &[]).unwrap();
        let mut all: Vec<u16> = nodes.iter().flat_map(|node| [node.nats.port, node.monitoring_port]).collect();
        for node in &nodes {
            all.push(ports.known(&format!("{}_nodes", node.name)).unwrap());
            assert!(node.nats.config.contains(&format!("server_name: \"{}\"", node.name)), "{}", node.nats.config);
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 9);
    }
}
