//! Migrations and roles.

use store::migrate::{RoleSpec, ensure_roles, migrate};
use store::{Db, StoreError, grants};

use crate::support::{LOGINS, World};

#[tokio::test]
async fn migrations_run_once_and_ten_at_a_time_do_no_harm() {
    let world = World::empty().await;
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let url = world.admin_url.clone();
        runs.spawn(async move { migrate(&url).await.unwrap().len() });
    }
    let applied: usize = runs.join_all().await.into_iter().sum();
    assert_eq!(applied, 16);
    assert!(migrate(&world.admin_url).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_migration_that_was_changed_or_is_unknown_stops_the_next_one() {
    let world = World::new().await;
    world.run("UPDATE schema_migrations SET checksum = '\\x00' WHERE name = '0003_ledger.sql'").await;
    let error = migrate(&world.admin_url).await.unwrap_err();
    assert!(matches!(&error, StoreError::Migration { name, .. } if name == "0003_ledger.sql"), "{error}");
    let world = World::new().await;
    world.run("INSERT INTO schema_migrations (name, checksum) VALUES ('9999_later.sql', '\\x00')").await;
    let error = migrate(&world.admin_url).await.unwrap_err();
    assert!(matches!(&error, StoreError::Migration { name, .. } if name == "9999_later.sql"), "{error}");
}

#[tokio::test]
async fn every_table_with_a_user_has_forced_row_security_and_no_process_owns_one() {
    let world = World::new().await;
    let bare: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c
         WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
           AND (EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname IN ('user_id', 'message_id', 'tenant')))
           AND c.relname NOT LIKE 'telegram%' -- a message number of Telegram's, and no user of ours
           AND NOT (c.relrowsecurity AND c.relforcerowsecurity)",
    )
    .fetch_all(world.admin.pool())
    .await
    .unwrap();
    assert!(bare.is_empty(), "{bare:?}");
    let owners: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT r.rolname::text FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
         WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'schema_migrations'",
    )
    .fetch_all(world.admin.pool())
    .await
    .unwrap();
    assert_eq!(owners, ["swarm_owner"]);
}

#[tokio::test]
async fn roles_are_made_twice_without_a_difference_and_a_new_password_ends_the_old() {
    let world = World::new().await;
    ensure_roles(&world.admin_url, LOGINS).await.unwrap();
    let role = |password| RoleSpec { name: "rotated", password, grants: grants::MESSAGING };
    ensure_roles(&world.admin_url, &[role("old 'quoted\" \\ one")]).await.unwrap();
    ensure_roles(&world.admin_url, &[role("new")]).await.unwrap();
    assert!(Db::connect(&world.url("rotated", "new"), "rotated").await.is_ok());
    assert!(Db::connect(&world.url("rotated", "old"), "rotated").await.is_err());
}

#[tokio::test]
async fn a_role_loses_what_its_grants_no_longer_say() {
    let world = World::new().await;
    let role = |grants| RoleSpec { name: "narrowed", password: "n", grants };
    ensure_roles(&world.admin_url, &[role(grants::TREASURY)]).await.unwrap();
    world.run("GRANT swarm_owner, swarm_treasury TO narrowed").await;
    ensure_roles(&world.admin_url, &[role(grants::MESSAGING)]).await.unwrap();
    let db = Db::connect(&world.url("narrowed", "n"), "narrowed").await.unwrap();
    for statement in ["SELECT 1 FROM fills", "UPDATE fills SET posted_at = NULL", "SET ROLE swarm_owner"] {
        assert!(sqlx::raw_sql(statement).execute(db.pool()).await.is_err(), "{statement}");
    }
    db.outbox_pending("narrowed", 1).await.unwrap();
}

#[tokio::test]
async fn an_administrator_is_no_process() {
    let world = World::new().await;
    let role = RoleSpec { name: "postgres", password: "p", grants: grants::MESSAGING };
    assert!(matches!(ensure_roles(&world.admin_url, &[role]).await, Err(StoreError::BadGrant(_))));
}
