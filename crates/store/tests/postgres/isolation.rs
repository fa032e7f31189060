//! Nobody sees another's rows, and every login has its own grants and no more.

use domain::market::Venue;
use serde_json::json;
use sqlx::AssertSqlSafe;
use store::{Db, StoreError, audit, ledger, orders, permits, users};

use crate::samples::{T0, account, fill, instrument, order, permitted};
use crate::support::World;

const TABLES: [&str; 17] = [
    "users",
    "rails_state",
    "accounts",
    "positions",
    "reservations",
    "permit_stamps",
    "unapproved_notionals",
    "equity_daily",
    "policy_decisions",
    "approval_requests",
    "approval_entries",
    "approval_resolutions",
    "permits",
    "orders",
    "fills",
    "audit_heads",
    "trade_audit",
];

/// A world where Anna has an order with a fill.
async fn world_of_anna() -> (World, Db, Db) {
    let world = World::new().await;
    let (treasury, desk) = (world.login("treasury").await, world.login("online_trading").await);
    let anna = account(&treasury, "anna").await;
    let permit = permitted(&treasury, anna, 1, Venue::Paper).await;
    let mut unit = desk.begin().await.unwrap();
    unit.set_tenant(anna).await.unwrap();
    assert!(permits::spend(&mut unit, permit.body.permit_id, T0).await.unwrap());
    let row = order(&permit);
    assert!(orders::insert(&mut unit, &row).await.unwrap());
    assert!(orders::insert_fill(&mut unit, &fill(&row, "1"), anna).await.unwrap());
    audit::append(&mut unit, anna, "order", "online_trading", &json!({"order_id": row.order_id}), T0).await.unwrap();
    unit.commit().await.unwrap();
    (world, treasury, desk)
}

async fn rows(db: &Db, role: &str, tenant: Option<&str>, table: &str) -> i64 {
    let mut unit = db.begin().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("SET LOCAL ROLE {role}"))).execute(unit.conn().unwrap()).await.unwrap();
    if let Some(handle) = tenant {
        unit.set_tenant(domain::ids::UserId::of_handle(handle)).await.unwrap();
    }
    let sql = format!("SELECT count(*) FROM {table}");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(unit.conn().unwrap()).await.unwrap()
}

#[tokio::test]
async fn without_a_tenant_or_as_another_even_the_owner_sees_nothing() {
    let (world, ..) = world_of_anna().await;
    for table in TABLES {
        assert_eq!(rows(&world.admin, "swarm_owner", None, table).await, 0, "{table}, no tenant");
        assert_eq!(rows(&world.admin, "swarm_owner", Some("berta"), table).await, 0, "{table}, another tenant");
    }
    for table in ["users", "accounts", "orders", "fills", "trade_audit"] {
        assert_eq!(rows(&world.admin, "swarm_owner", Some("anna"), table).await, 1, "{table}, own tenant");
    }
}

#[tokio::test]
async fn timers_see_all_users_but_write_only_the_tenant_they_named() {
    let (_world, treasury, desk) = world_of_anna().await;
    let mut unit = treasury.begin().await.unwrap();
    assert_eq!(users::user_ids(&mut unit, 9).await.unwrap().len(), 1);
    let (anna, order_id) = orders::unposted(&mut unit, 10, &[]).await.unwrap()[0];
    assert_eq!(orders::fills_unposted(&mut unit, anna, order_id).await.unwrap().len(), 1);
    let berta = account(&treasury, "berta").await;
    assert!(matches!(users::user(&mut unit, berta).await, Err(StoreError::WrongTenant { .. })));
    unit.set_tenant(berta).await.unwrap();
    let fills = sqlx::query("UPDATE fills SET posted_at = now()").execute(unit.conn().unwrap()).await.unwrap();
    assert_eq!(fills.rows_affected(), 0);
    drop(unit);

    let mut unit = desk.begin().await.unwrap();
    assert_eq!(orders::open_orders(&mut unit, &[Venue::Paper]).await.unwrap().len(), 1);
    assert!(matches!(orders::mark_sent(&mut unit, order_id, T0).await, Err(StoreError::NoTenant)));
    unit.set_tenant(berta).await.unwrap();
    assert!(!orders::mark_sent(&mut unit, order_id, T0).await.unwrap());
    unit.set_tenant(anna).await.unwrap();
    assert!(orders::mark_sent(&mut unit, order_id, T0).await.unwrap());
}

#[tokio::test]
async fn the_supervisor_sees_that_an_order_is_open_whoevers_it_is() {
    let (world, ..) = world_of_anna().await;
    let supervisor = world.login("supervisor").await;
    let mut unit = supervisor.begin().await.unwrap();
    assert_eq!(orders::open_orders(&mut unit, &Venue::ALL).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_desk_sees_the_open_orders_of_its_own_venues_only() {
    let (world, ..) = world_of_anna().await;
    let dexter = world.login("dexter").await;
    let mut unit = dexter.begin().await.unwrap();
    assert!(orders::open_orders(&mut unit, &Venue::ALL).await.unwrap().is_empty());
}

#[tokio::test]
async fn nobody_writes_a_row_of_another_user() {
    let (_world, treasury, _) = world_of_anna().await;
    let berta = account(&treasury, "berta").await;
    let mut unit = treasury.begin().await.unwrap();
    unit.set_tenant(berta).await.unwrap();
    let error: StoreError =
        sqlx::query("INSERT INTO equity_daily (user_id, day, equity, updated_at) VALUES ($1, 1, 1, now())")
            .bind(domain::ids::UserId::of_handle("anna").0)
            .execute(unit.conn().unwrap())
            .await
            .unwrap_err()
            .into();
    assert_eq!(error.sql_state().as_deref(), Some("42501"));
}

#[tokio::test]
async fn each_login_has_its_grants_and_no_more() {
    let (world, ..) = world_of_anna().await;
    let denied = [
        ("buy_bot", "SELECT 1 FROM accounts"),
        ("buy_bot", "INSERT INTO permits DEFAULT VALUES"),
        ("buy_bot", "INSERT INTO kill_levels DEFAULT VALUES"),
        ("online_trading", "UPDATE accounts SET cash = 1"),
        ("online_trading", "INSERT INTO permits DEFAULT VALUES"),
        ("online_trading", "UPDATE permits SET body = '{}'"),
        ("online_trading", "UPDATE orders SET outcome_posted = true"),
        ("online_trading", "UPDATE fills SET posted_at = now()"),
        ("online_trading", "SELECT 1 FROM approval_requests"),
        ("treasury", "INSERT INTO orders DEFAULT VALUES"),
        ("treasury", "INSERT INTO fills DEFAULT VALUES"),
        ("treasury", "INSERT INTO approval_entries DEFAULT VALUES"),
        ("treasury", "INSERT INTO approvers DEFAULT VALUES"),
        ("treasury", "INSERT INTO kill_levels DEFAULT VALUES"),
        ("treasury", "UPDATE trade_audit SET kind = 'x'"),
        ("treasury", "DELETE FROM trade_audit"),
        ("treasury", "TRUNCATE trade_audit"),
        ("supervisor", "UPDATE accounts SET cash = 1"),
        ("supervisor", "INSERT INTO permits DEFAULT VALUES"),
        ("supervisor", "UPDATE governance_audit SET kind = 'x'"),
        ("supervisor", "SELECT 1 FROM llm_usage"),
        ("treasury", "INSERT INTO llm_usage DEFAULT VALUES"),
        ("buy_bot", "DELETE FROM llm_usage"),
        ("llm_router", "UPDATE llm_usage SET cost_micros = 0"),
        ("llm_router", "TRUNCATE llm_usage"),
        ("llm_router", "SELECT 1 FROM users"),
        ("llm_router", "INSERT INTO outbox DEFAULT VALUES"),
        ("audit_verify", "SELECT 1 FROM llm_usage"),
        ("audit_verify", "INSERT INTO trade_audit DEFAULT VALUES"),
        ("audit_verify", "SELECT 1 FROM outbox"),
        ("dexter", "SET ROLE swarm_owner"),
        ("dexter", "CREATE TABLE mine (x int)"),
        ("dexter", "ALTER TABLE trade_audit DISABLE TRIGGER ALL"),
        ("dexter", "SET session_replication_role = replica"),
    ];
    for (login, statement) in denied {
        let db = world.login(login).await;
        let error: StoreError = sqlx::raw_sql(statement).execute(db.pool()).await.unwrap_err().into();
        assert_eq!(error.sql_state().as_deref(), Some("42501"), "{login}: {statement}");
        db.pool().close().await;
    }
}

#[tokio::test]
async fn what_models_cost_is_the_routers_own_even_for_who_was_granted_the_table() {
    let world = World::new().await;
    world
        .run(
            "INSERT INTO llm_usage VALUES ('1', now(), 'buy_bot', 'anna', NULL, 'a', 'b', 'c', 5, 'ok', NULL, 1, 1, false, 1, 1, '');
             GRANT SELECT, INSERT, UPDATE, DELETE ON llm_usage TO supervisor",
        )
        .await;
    let router = world.login("llm_router").await;
    let count = "SELECT count(*) FROM llm_usage";
    let seen: i64 = sqlx::query_scalar(count).fetch_one(router.pool()).await.unwrap();
    assert_eq!(seen, 1);
    for tenant in [None, Some("anna")] {
        assert_eq!(rows(&world.admin, "swarm_owner", tenant, "llm_usage").await, 0, "{tenant:?}");
    }
    let supervisor = world.login("supervisor").await;
    let seen: i64 = sqlx::query_scalar(count).fetch_one(supervisor.pool()).await.unwrap();
    assert_eq!(seen, 0);
    for statement in ["DELETE FROM llm_usage", "UPDATE llm_usage SET cost_micros = 0"] {
        let done = sqlx::raw_sql(statement).execute(supervisor.pool()).await.unwrap();
        assert_eq!(done.rows_affected(), 0, "{statement}");
    }
    let forged = "INSERT INTO llm_usage VALUES ('2', now(), 'x', NULL, NULL, 'a', 'b', 'c', 5, 'ok', NULL, 1, 1, false, 1, 1, '')";
    let error: StoreError = sqlx::raw_sql(forged).execute(supervisor.pool()).await.unwrap_err().into();
    assert_eq!(error.sql_state().as_deref(), Some("42501"));
}

#[tokio::test]
async fn nobody_speaks_through_anothers_outbox() {
    let world = World::new().await;
    let buy_bot = world.login("buy_bot").await;
    let row = store::OutboxRow {
        id: uuid::Uuid::from_u128(1),
        subject: "trading.online_trading.permit.critical".to_owned(),
        headers: json!({}),
        payload: vec![1],
        valid_until: None,
    };
    let mut unit = buy_bot.begin().await.unwrap();
    let error = unit.outbox_put("treasury", std::slice::from_ref(&row)).await.unwrap_err();
    assert_eq!(error.sql_state().as_deref(), Some("42501"));
    let treasury = world.login("treasury").await;
    let mut unit = treasury.begin().await.unwrap();
    unit.outbox_put("treasury", std::slice::from_ref(&row)).await.unwrap();
    unit.commit().await.unwrap();
    assert!(buy_bot.outbox_pending("treasury", 9).await.unwrap().is_empty());
    buy_bot.outbox_delete("treasury", &[row.id]).await.unwrap();
    assert_eq!(treasury.outbox_pending("treasury", 9).await.unwrap(), [row]);
}

#[tokio::test]
async fn the_supervisor_reads_a_book_and_an_instrument_is_shared() {
    let (world, ..) = world_of_anna().await;
    let desk = world.login("online_trading").await;
    let mut unit = desk.begin().await.unwrap();
    let rules = domain::market::Instrument {
        id: instrument(Venue::Paper),
        base: "BTC".to_owned(),
        quote: "USDT".to_owned(),
        tick: "0.01".parse().unwrap(),
        step: "0.00001".parse().unwrap(),
        min_quantity: "0.00001".parse().unwrap(),
        max_quantity: "9000".parse().unwrap(),
        min_notional: "5".parse().unwrap(),
    };
    store::instruments::upsert(&mut unit, &rules).await.unwrap();
    store::instruments::upsert(&mut unit, &rules).await.unwrap();
    unit.commit().await.unwrap();
    let supervisor = world.login("supervisor").await;
    let mut unit = supervisor.begin().await.unwrap();
    assert_eq!(store::instruments::all(&mut unit).await.unwrap(), std::slice::from_ref(&rules));
    assert_eq!(store::instruments::get(&mut unit, &rules.id).await.unwrap(), Some(rules));
    let anna = domain::ids::UserId::of_handle("anna");
    let book = ledger::read_book(&mut unit, anna, T0, 1, 1).await.unwrap().unwrap();
    assert_eq!(book.cash, domain::money::Usd::dollars(10_000));
}

#[tokio::test]
async fn a_unit_begun_for_somebody_sees_their_rows_alone_and_leaves_nothing_on_its_connection() {
    let (_world, treasury, _desk) = world_of_anna().await;
    let bert = account(&treasury, "bert").await;
    let anna = domain::ids::UserId::of_handle("anna");
    for user in [anna, bert, anna] {
        let mut unit = treasury.begin_for(user).await.unwrap();
        assert_eq!(unit.tenant(), Some(user));
        let seen: Vec<uuid::Uuid> =
            sqlx::query_scalar("SELECT user_id FROM accounts").fetch_all(unit.conn().unwrap()).await.unwrap();
        assert_eq!(seen, [user.0]);
        unit.commit().await.unwrap();
        let mut unit = treasury.begin().await.unwrap();
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM accounts").fetch_one(unit.conn().unwrap()).await.unwrap();
        assert_eq!(left, 0, "the tenant ended with its transaction");
        unit.rollback().await.unwrap();
    }
}
