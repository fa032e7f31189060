//! What an adapter of the record has to do, as cases that run against every one of them: a real Postgres and the one in
//! memory. Each defect of the latter must turn at least one case red.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod samples;
mod world;

/// Names cases, runs each against both adapters, and lists them.
macro_rules! cases {
    ($($(#[$doc:meta])* $case:ident),* $(,)?) => {
        pub const CASES: &[$crate::Case] = &[$((stringify!($case), |world| Box::pin($case(world)))),*];

        mod on_postgres {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&$crate::world::World::on_postgres().await).await;
            })*
        }

        mod in_memory {
            $(#[test]
            fn $case() {
                $crate::world::run_ready(super::$case(&$crate::world::World::in_memory(None)));
            })*
        }
    };
}

mod approvals;
mod audit;
mod dead_letters;
mod decisions;
mod defects;
mod house;
mod ledger;
mod llm_usage;
mod orders;
mod permits;
mod session;
mod telegram;
mod telegram_notices;
mod totp;

/// A case by name.
type Case = (&'static str, for<'a> fn(&'a world::World) -> std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>);
