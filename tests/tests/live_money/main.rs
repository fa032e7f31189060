//! The money path under real concurrency: 32 writers, two treasuries, a desk and a supervisor on one Postgres, with
//! crashes at any moment, and what must hold checked from outside all the while.
//!
//! `SWARM_MONEY_SEED` repeats the draws of a run (never its interleaving), `SWARM_MONEY_OPS` sets its length.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod invariants;
mod venue;
mod world;
mod writer;

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::world::World;

const WRITERS: u64 = 32;
const CHECK_EVERY: u64 = 100;

fn setting(name: &str, usual: impl FnOnce() -> u64) -> u64 {
    std::env::var(name).ok().map_or_else(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_writers_and_two_treasuries_pass_no_limit_and_lose_no_reservation() {
    let seed = setting("SWARM_MONEY_SEED", || rand::rng().random());
    let ops = setting("SWARM_MONEY_OPS", || 6_000);
    println!("SWARM_MONEY_SEED={seed} SWARM_MONEY_OPS={ops}");
    let world = Arc::new(World::new(ops).await);
    invariants::prepare(&world).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let rng = ChaCha8Rng::seed_from_u64(seed.wrapping_add(number));
            tokio::spawn(writer::write(world.clone(), rng))
        })
        .collect();
    let mut looks = 0;
    while !writers.iter().all(|writer| writer.is_finished()) {
        if world.done() >= looks * CHECK_EVERY {
            looks += 1;
            invariants::check(&world).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
    for writer in writers {
        writer.await.expect("a writer failed");
    }
    invariants::check(&world).await;
    invariants::check_history(&world).await;
    println!("retries: {}", world.retries());
    println!("{looks} looks; {}", invariants::tally(&world).await);
    writer::finish(&world).await;
    invariants::check(&world).await;
    invariants::check_history(&world).await;
    let left = world.bank.count("SELECT count(*) FROM reservations").await;
    assert_eq!(left, 0, "everything is over, and no money is held");
    world.bank.assert_audit_valid().await;
}
