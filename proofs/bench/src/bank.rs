//! A PostgreSQL with the product's schema, roles and durability, for measuring without a swarm around it.

use std::path::Path;

use domain::market::{Instrument, InstrumentId, Symbol, Venue};
use rust_decimal::Decimal;
use servers::{Durability, PostgresOptions, PostgresServer, Programs, free_port};
use store::migrate::{RoleSpec, ensure_database, ensure_roles, migrate};
use store::{Db, grants};

use crate::bench_error::BenchError;

const DATABASE: &str = "bench";
const PASSWORD: &str = "bench";

/// The server and its administrator.
pub struct Bank {
    server: PostgresServer,
    /// Whom row security does not hold.
    pub admin: Db,
}

impl Bank {
    /// A fresh one, every commit on disk as in `swarm up`.
    ///
    /// # Errors
    /// [`BenchError`].
    pub async fn open(folder: &Path) -> Result<Self, BenchError> {
        let options = PostgresOptions {
            folder: folder.to_owned(),
            port: free_port()?,
            superuser_password: PASSWORD.to_owned(),
            durability: Durability::Kept,
            max_connections: 100,
        };
        let server = PostgresServer::start(&Programs::usual()?, &options)?;
        ensure_database(&server.admin_url("postgres"), DATABASE).await?;
        let url = server.admin_url(DATABASE);
        migrate(&url).await?;
        ensure_roles(&url, &[RoleSpec { name: "treasury", password: PASSWORD, grants: grants::TREASURY }]).await?;
        let admin = Db::connect(&url, "bench").await?;
        let mut unit = admin.begin().await?;
        let now = unit.now().await?;
        store::kill::raise(&mut unit, 0, "bench", "first start", now).await?;
        store::instruments::upsert(&mut unit, &instrument()?).await?;
        unit.commit().await?;
        Ok(Self { server, admin })
    }

    /// The database as treasury sees it.
    ///
    /// # Errors
    /// [`BenchError`].
    pub async fn treasury(&self) -> Result<Db, BenchError> {
        Ok(Db::connect(&self.server.url("treasury", PASSWORD, DATABASE), "treasury").await?)
    }

    /// Opens an account with $100,000.
    ///
    /// # Errors
    /// [`BenchError`].
    pub async fn account(&self, handle: &str) -> Result<domain::ids::UserId, BenchError> {
        let mut unit = self.admin.begin().await?;
        let now = unit.now().await?;
        let cash = domain::money::Usd::parse("100000").map_err(|error| BenchError::Broken(error.to_string()))?;
        let user = store::users::open_account(&mut unit, handle, cash, serde_json::json!({}), now).await?;
        unit.commit().await?;
        Ok(user.user_id)
    }
}

/// The instrument that is traded: BTCUSDT of the paper venue.
///
/// # Errors
/// None in practice: the symbol is one.
pub fn instrument() -> Result<Instrument, BenchError> {
    let symbol = Symbol::parse("BTCUSDT").ok_or_else(|| BenchError::Broken("BTCUSDT is no symbol".to_owned()))?;
    Ok(Instrument {
        id: InstrumentId { venue: Venue::Paper, symbol },
        base: "BTC".to_owned(),
        quote: "USDT".to_owned(),
        tick: Decimal::new(1, 2),
        step: Decimal::new(1, 5),
        min_quantity: Decimal::ZERO,
        max_quantity: Decimal::ZERO,
        min_notional: Decimal::from(5),
    })
}
