//! Three NATS nodes, and the one that leads the commands is killed: nothing that was acknowledged is lost, nothing comes
//! twice, what outlived its end is dropped with its code, and trading goes on by itself.
//!
//! An election takes 4 to 9 s by constants of the server, so these tests wait on conditions with generous bounds. They run
//! one after the other: six servers on two cores would elect for ever.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod road;
#[allow(dead_code, reason = "shared with other tests, each of which uses its own part")]
#[path = "../live_door/swarm.rs"]
mod swarm;
mod trading;

use std::time::Duration;

use tokio::sync::Mutex;

/// Bound of everything that waits for an election on a busy machine.
const ELECTED_WITHIN: Duration = Duration::from_secs(60);

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_leader_loses_nothing_that_was_acknowledged_and_doubles_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    road::run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_on_three_nodes_trades_on_when_the_leader_dies() {
    let _alone = ONE_AT_A_TIME.lock().await;
    trading::run().await;
}
