//! Schema and roles. Run by an administrator, never by a process that trades.

use std::str::FromStr;
use std::time::Duration;

use domain::agent::TableGrant;
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::StoreError;
use crate::postgres::value::Reader;

/// The files of `migrations/`, in order. A file that has been released never changes.
const FILES: [(&str, &str); 16] = [
    ("0001_roles.sql", include_str!("../../../migrations/0001_roles.sql")),
    ("0002_common.sql", include_str!("../../../migrations/0002_common.sql")),
    ("0003_ledger.sql", include_str!("../../../migrations/0003_ledger.sql")),
    ("0004_trading.sql", include_str!("../../../migrations/0004_trading.sql")),
    ("0005_audit.sql", include_str!("../../../migrations/0005_audit.sql")),
    ("0006_row_security.sql", include_str!("../../../migrations/0006_row_security.sql")),
    ("0007_timers.sql", include_str!("../../../migrations/0007_timers.sql")),
    ("0008_many_accounts.sql", include_str!("../../../migrations/0008_many_accounts.sql")),
    ("0009_approval_channels.sql", include_str!("../../../migrations/0009_approval_channels.sql")),
    ("0010_telegram_notices.sql", include_str!("../../../migrations/0010_telegram_notices.sql")),
    ("0011_llm_usage.sql", include_str!("../../../migrations/0011_llm_usage.sql")),
    ("0012_restart_kinds.sql", include_str!("../../../migrations/0012_restart_kinds.sql")),
    ("0013_dead_letters.sql", include_str!("../../../migrations/0013_dead_letters.sql")),
    ("0014_supervisor_orders.sql", include_str!("../../../migrations/0014_supervisor_orders.sql")),
    ("0015_child_orders.sql", include_str!("../../../migrations/0015_child_orders.sql")),
    ("0016_supervisor_positions.sql", include_str!("../../../migrations/0016_supervisor_positions.sql")),
];
/// Roles live in the whole server: two databases set up at once may collide on them.
const ROLE_ATTEMPTS: u32 = 20;
const ROLE_PAUSE: Duration = Duration::from_millis(25);
/// What a grant may say.
const RIGHTS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// A login to be.
#[derive(Clone, Copy)]
pub struct RoleSpec<'a> {
    /// Name of the process.
    pub name: &'a str,
    /// Its password.
    pub password: &'a str,
    /// What it may do; everything else is taken away.
    pub grants: &'a [TableGrant],
}

impl std::fmt::Debug for RoleSpec<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoleSpec").field("name", &self.name).field("grants", &self.grants).finish_non_exhaustive()
    }
}

async fn connect(admin_url: &str) -> Result<PgConnection, StoreError> {
    let options = PgConnectOptions::from_str(admin_url)?.application_name("swarm_migrate").disable_statement_logging();
    Ok(options.connect().await?)
}

/// Brings the schema up to this build's and returns the names of the files applied. One runs at a time; a file that
/// was applied with another text, or that this build does not have, is an error.
///
/// # Errors
/// [`StoreError::Migration`], [`StoreError::Database`].
pub async fn migrate(admin_url: &str) -> Result<Vec<String>, StoreError> {
    let mut connection = connect(admin_url).await?;
    // Held until the connection ends, whatever happens in between.
    sqlx::query("SELECT pg_advisory_lock(hashtextextended('swarm.migrate', 0))").execute(&mut connection).await?;
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS schema_migrations
           (name text PRIMARY KEY, checksum bytea NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())",
    )
    .execute(&mut connection)
    .await?;
    let known = applied(&mut connection).await?;
    let mut done = Vec::new();
    for (name, text) in &FILES[known..] {
        let mut transaction = connection.begin().await?;
        sqlx::raw_sql(*text).execute(&mut *transaction).await?;
        // A file may have taken the owner's role for itself.
        sqlx::raw_sql("RESET ROLE").execute(&mut *transaction).await?;
        sqlx::query("INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)")
            .bind(*name)
            .bind(&Sha256::digest(text)[..])
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        done.push((*name).to_owned());
    }
    connection.close().await?;
    Ok(done)
}

/// How many of our files are applied, after checking that they are ours.
async fn applied(connection: &mut PgConnection) -> Result<usize, StoreError> {
    let rows = sqlx::query("SELECT name, checksum FROM schema_migrations ORDER BY name").fetch_all(connection).await?;
    for (at, row) in rows.iter().enumerate() {
        let row = Reader::new("schema_migrations", row);
        let name = row.text("name")?;
        match FILES.get(at) {
            Some((ours, text)) if *ours == name => {
                if row.get::<Vec<u8>>("checksum")? != Sha256::digest(text)[..] {
                    return Err(StoreError::Migration { name, problem: "was applied with another text" });
                }
            }
            _ => return Err(StoreError::Migration { name, problem: "is not known to this build" }),
        }
    }
    Ok(rows.len())
}

/// Makes the database when it is not there.
///
/// # Errors
/// [`StoreError::BadGrant`] for a name that is no plain word, [`StoreError::Database`].
pub async fn ensure_database(admin_url: &str, name: &str) -> Result<(), StoreError> {
    if !is_login(name) {
        return Err(StoreError::BadGrant(format!("database {name}")));
    }
    let mut connection = connect(admin_url).await?;
    let found: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(&mut connection)
        .await?;
    if !found {
        // Utility statements take no parameters; the name is a plain word.
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}

/// Makes one login role per process with exactly its grants, and sets its password. A role that exists loses whatever
/// its grants do not say. Administrators are refused.
///
/// # Errors
/// [`StoreError::BadGrant`], [`StoreError::Database`].
pub async fn ensure_roles(admin_url: &str, roles: &[RoleSpec<'_>]) -> Result<(), StoreError> {
    let mut connection = connect(admin_url).await?;
    for role in roles {
        if !is_login(role.name) {
            return Err(StoreError::BadGrant(format!("login {}", role.name)));
        }
        let grants: Vec<String> = role.grants.iter().map(|g| grant_text(role.name, g)).collect::<Result<_, _>>()?;
        let mut attempt = 1;
        while let Err(error) = ensure_role(&mut connection, role, &grants).await {
            // Another database of this server made or changed the same role at this moment.
            let collided = matches!(error.sql_state().as_deref(), Some("XX000" | "23505" | "42710" | "40P01"));
            if !collided || attempt == ROLE_ATTEMPTS {
                return Err(error);
            }
            attempt += 1;
            tokio::time::sleep(ROLE_PAUSE).await;
        }
    }
    connection.close().await?;
    Ok(())
}

async fn ensure_role(connection: &mut PgConnection, role: &RoleSpec<'_>, grants: &[String]) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    let found: Option<bool> = sqlx::query_scalar("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = $1")
        .bind(role.name)
        .fetch_optional(&mut *transaction)
        .await?;
    let verb = match found {
        Some(true) => return Err(StoreError::BadGrant(format!("{} is an administrator", role.name))),
        Some(false) => "ALTER",
        None => "CREATE",
    };
    // Utility statements take no parameters: the server quotes the password itself.
    let login: String = sqlx::query_scalar(
        "SELECT format('%s ROLE %I LOGIN INHERIT NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD %L', $1, $2, $3)",
    )
    .bind(verb)
    .bind(role.name)
    .bind(role.password)
    .fetch_one(&mut *transaction)
    .await?;
    let group = format!("swarm_{}", role.name);
    let memberships: Vec<String> = sqlx::query_scalar(
        "SELECT CASE WHEN g.rolname = $2 THEN format('GRANT %I TO %I', g.rolname, $1)
                     ELSE format('REVOKE %I FROM %I', g.rolname, $1) END
         FROM pg_roles g
         WHERE (g.rolname = $2) <> EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
                                           WHERE m.roleid = g.oid AND r.rolname = $1)
           AND g.rolname <> $1",
    )
    .bind(role.name)
    .bind(&group)
    .fetch_all(&mut *transaction)
    .await?;
    let fixed = [
        format!("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}", role.name),
        format!("REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {}", role.name),
        format!("REVOKE CREATE ON SCHEMA public FROM {}", role.name),
        format!("GRANT USAGE ON SCHEMA public TO {}", role.name),
    ];
    for statement in std::iter::once(&login).chain(&memberships).chain(&fixed).chain(grants) {
        sqlx::raw_sql(AssertSqlSafe(statement.as_str())).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// A plain word of ours, which needs no quoting.
fn is_plain(word: &str) -> bool {
    word.len() <= 40
        && word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// A name that a process may have.
fn is_login(name: &str) -> bool {
    is_plain(name) && !name.starts_with("swarm_") && !name.starts_with("pg_") && name != "public"
}

/// One `GRANT`, made of plain words only.
fn grant_text(role: &str, grant: &TableGrant) -> Result<String, StoreError> {
    let bad = || StoreError::BadGrant(format!("{role}: {} on {}", grant.rights, grant.table));
    let (table, columns) = match grant.table.split_once('(') {
        Some((table, rest)) => (table.trim(), Some(rest.strip_suffix(')').ok_or_else(bad)?)),
        None => (grant.table, None),
    };
    let columns: Vec<&str> = columns.map(|c| c.split(',').map(str::trim).collect()).unwrap_or_default();
    let rights: Vec<&str> = grant.rights.split(',').map(str::trim).collect();
    let plain = is_login(role) && is_plain(table) && columns.iter().all(|column| is_plain(column));
    if !plain || !rights.iter().all(|right| RIGHTS.contains(right)) {
        return Err(bad());
    }
    let columns = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
    let rights: Vec<String> = rights.iter().map(|right| format!("{right}{columns}")).collect();
    Ok(format!("GRANT {} ON {table} TO {role}", rights.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_made_of_plain_words_only() {
        let text = |role, table, rights| grant_text(role, &TableGrant { table, rights }).ok();
        assert_eq!(text("desk", "fills", "SELECT, INSERT").unwrap(), "GRANT SELECT, INSERT ON fills TO desk");
        assert_eq!(text("desk", "orders(a, b)", "UPDATE").unwrap(), "GRANT UPDATE (a, b) ON orders TO desk");
        for (role, table, rights) in [
            ("desk", "fills; DROP TABLE fills", "SELECT"),
            ("desk", "fills", "ALL"),
            ("desk", "fills", "SELECT ON users TO desk; --"),
            ("desk", "orders(a", "UPDATE"),
            ("desk", "orders(a b)", "UPDATE"),
            ("desk\"", "fills", "SELECT"),
            ("swarm_owner", "fills", "SELECT"),
            ("pg_monitor", "fills", "SELECT"),
            ("", "fills", "SELECT"),
        ] {
            assert_eq!(text(role, table, rights), None, "{role} {table} {rights}");
        }
    }
}
