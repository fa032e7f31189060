//! The bus on a cluster of the test's own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bus::permissions::{ClusterSettings, NatsUser, Permissions, ServerSettings, inbox_prefix, server_config};
use bus::{Bus, BusConfig, BusError, Encoded, streams};
use domain::subject::Stream;
use domain::time::{Clock, UnixMs};
use runtime::clock::SystemClock;
use servers::{NatsCluster, NatsOptions, NodeOptions, Programs, free_port};
use testkit::servers::fresh_folder;
use testkit::wait::{wait_for, wait_until};
use tokio::task::block_in_place;
use uuid::Uuid;

use crate::ELECTED_WITHIN;

/// Where the messages go: a command for treasury, which nobody but this test takes.
const SUBJECT: &str = "trading.treasury.intent.critical";
/// Published before, while and after the leader is away.
const MESSAGES: u128 = 120;
/// Between two of them: together longer than the longest election.
const EVERY: Duration = Duration::from_millis(100);
/// How long each of them is offered.
const VALID_MS: i64 = 60_000;

fn now() -> UnixMs {
    SystemClock.now()
}

pub async fn run() {
    let (mut cluster, seed) = block_in_place(start);
    let bus = connect(&cluster, &seed).await;
    let specs = swarm::specs();
    let created = streams::apply_replicated(&bus, &specs, 3).await.unwrap();
    assert!(created.iter().all(|change| change.diff == "created"), "{created:?}");
    assert_eq!(streams::apply_replicated(&bus, &specs, 3).await.unwrap(), []);
    wait_until(ELECTED_WITHIN, "the cluster is whole", || async { block_in_place(|| cluster.is_whole()) }).await;

    let publisher = connect(&cluster, &seed).await;
    let publishing = tokio::spawn(async move { publish_all(&publisher).await });
    let reader = connect(&cluster, &seed).await;
    let reading = tokio::spawn(async move { read_all(&reader).await });

    let stream = Stream::TradingCritical.name();
    let leader = block_in_place(|| cluster.stream_leader(stream)).expect("a whole cluster has a leader");
    block_in_place(|| cluster.kill(&leader)).unwrap();
    a_message_that_can_t_be_stored_is_given_up_at_its_end(&bus).await;
    let next =
        wait_for(ELECTED_WITHIN, "another leader", || async { block_in_place(|| cluster.stream_leader(stream)) });
    assert_ne!(next.await, leader);

    let acknowledged = tokio::time::timeout(ELECTED_WITHIN, publishing).await.expect("all published").unwrap();
    assert_eq!(block_in_place(|| cluster.revive()).unwrap().as_deref(), Some(leader.as_str()));
    let places = tokio::time::timeout(ELECTED_WITHIN, reading).await.expect("all read").unwrap();
    let read: BTreeSet<u128> = places.keys().copied().collect();
    let lost: Vec<_> = acknowledged.difference(&read).collect();
    assert!(lost.is_empty() && acknowledged.len() == usize::try_from(MESSAGES).unwrap(), "lost {lost:?}");
    let doubled: Vec<_> = places.iter().filter(|(_, places)| places.len() > 1).collect();
    assert!(doubled.is_empty(), "stored twice: {doubled:?}");

    wait_until(ELECTED_WITHIN, "whole again", || async { block_in_place(|| cluster.is_whole()) }).await;
    assert_eq!(streams::apply_replicated(&bus, &specs, 3).await.unwrap(), []);
    block_in_place(|| cluster.stop()).unwrap();
}

/// A cluster with one user, who may do everything.
fn start() -> (NatsCluster, String) {
    let key = nkeys::KeyPair::new_user();
    let permissions = Permissions { publish: vec![">".into()], subscribe: vec![">".into()], ..Permissions::default() };
    let users = [NatsUser { name: "root".into(), public_key: key.public_key(), permissions }];
    let folder = fresh_folder("cluster");
    let ports: Vec<u16> = (0..9).map(|_| free_port().unwrap()).collect();
    let nodes = (0..3).map(|at| {
        let name = format!("node-{at}");
        let folder = folder.join(&name);
        let (port, monitoring_port) = (ports[at], ports[at + 3]);
        let cluster = ClusterSettings {
            node: name.clone(),
            port: ports[at + 6],
            ports: ports[6..].to_vec(),
            password: "between-nodes".into(),
        };
        let settings = ServerSettings {
            monitoring_port: Some(monitoring_port),
            sync_always: false,
            cluster: Some(cluster),
            ..ServerSettings::new(port, folder.join("jetstream"))
        };
        let nats = NatsOptions { folder, port, config: server_config(&users, &settings) };
        NodeOptions { name, monitoring_port, nats }
    });
    (NatsCluster::start(&Programs::usual().unwrap(), nodes.collect()).unwrap(), key.seed().unwrap())
}

async fn connect(cluster: &NatsCluster, seed: &str) -> Bus {
    let config = BusConfig {
        url: cluster.urls(),
        name: "test".into(),
        nkey_seed: Some(seed.to_owned()),
        inbox_prefix: Some(inbox_prefix("root")),
    };
    Bus::connect(config).await.unwrap().0
}

fn message(number: u128) -> Encoded {
    let payload = number.to_be_bytes().to_vec();
    Encoded { subject: SUBJECT.into(), id: Uuid::from_u128(number), headers: Vec::new(), payload }
}

/// Publishes them all, each until it is acknowledged, many at a time; which were.
async fn publish_all(bus: &Bus) -> BTreeSet<u128> {
    let mut flights = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval(EVERY);
    for number in 1..=MESSAGES {
        ticks.tick().await;
        let bus = bus.clone();
        flights.spawn(async move {
            let until = now().plus_ms(VALID_MS);
            // One call tries for 10 s; an election on a busy machine may take longer.
            while now() < until {
                match bus.publish_encoded(&message(number), Some(until), &now).await {
                    Ok(_) => return Some(number),
                    Err(BusError::PublishUnanswered { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            None
        });
    }
    flights.join_all().await.into_iter().flatten().collect()
}

/// Takes messages until all were seen: their places in the stream by number.
async fn read_all(bus: &Bus) -> BTreeMap<u128, BTreeSet<u64>> {
    let mut places: BTreeMap<u128, BTreeSet<u64>> = BTreeMap::new();
    let mut puller = bus.consumer(Stream::TradingCritical, "treasury").await.unwrap();
    while places.len() < usize::try_from(MESSAGES).unwrap() {
        match puller.next().await {
            Ok(Some(delivery)) => {
                let number = u128::from_be_bytes(delivery.raw.payload.clone().try_into().unwrap());
                places.entry(number).or_default().insert(delivery.stream_seq);
                // Unconfirmed while nobody leads: it comes again from the same place.
                let _ = delivery.ack().await;
            }
            Ok(None) => {}
            Err(_) => {
                if let Ok(bound) = bus.consumer(Stream::TradingCritical, "treasury").await {
                    puller = bound;
                }
            }
        }
    }
    places
}

/// Held while nobody leads, and no longer than it is worth something. Nobody reads the subject, so it is in nobody's way
/// should a stream have taken it after all.
async fn a_message_that_can_t_be_stored_is_given_up_at_its_end(bus: &Bus) {
    let started = tokio::time::Instant::now();
    let short = Encoded { subject: "trading.nobody.intent.critical".into(), ..message(u128::MAX) };
    let error = bus.publish_encoded(&short, Some(now().plus_ms(700)), &now).await.unwrap_err();
    assert!(matches!(error, BusError::PublishUnanswered { .. }), "{error}");
    assert!(started.elapsed() >= Duration::from_millis(700), "it was held until its end");
}
