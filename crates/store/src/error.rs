//! What can go wrong between here and the record.

use domain::ids::UserId;

/// A failed call of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres, or the way to it, failed.
    #[error("database call failed")]
    Database(#[source] sqlx::Error),
    /// An adapter without Postgres refused, for the reason that Postgres would have given as this SQLSTATE.
    #[error("the record refused ({state}): {reason}")]
    Refused {
        /// Five characters.
        state: &'static str,
        /// In words.
        reason: &'static str,
    },
    /// The call speaks SQL, and this record is not kept in Postgres.
    #[error("this record is not kept in Postgres")]
    NotPostgres,
    /// A row holds what no build of this project writes.
    #[error("row of {table} holds an impossible {column}")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
    },
    /// An amount has more than the 18 decimals a row keeps; it is not rounded behind the caller's back.
    #[error("amount has more than 18 decimals")]
    TooPrecise,
    /// A number does not fit its column.
    #[error("number does not fit the column {0}")]
    OutOfRange(&'static str),
    /// The unit works for another user.
    #[error("unit belongs to another user than {asked}")]
    WrongTenant {
        /// Whom the call was about.
        asked: UserId,
    },
    /// The call writes rows of a user, and the unit has none.
    #[error("unit has no user")]
    NoTenant,
    /// A value has no canonical JSON form, so it can't be hashed or stored.
    #[error("value has no canonical JSON form")]
    NotCanonical(#[from] domain::canonical::NotCanonical),
    /// A stored document does not read as its type.
    #[error("stored document does not read")]
    Document(#[from] serde_json::Error),
    /// Lowering the kill level without a written reason.
    #[error("lowering the kill level needs a reason")]
    ReasonNeeded,
    /// A role, table, column or right that is no plain word of ours.
    #[error("not a usable name in a grant: {0}")]
    BadGrant(String),
    /// The database has a migration this build does not have, or another text of one.
    #[error("migration {name} {problem}")]
    Migration {
        /// Its file.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// SQLSTATE classes and codes after which the same transaction may well succeed.
fn is_transient_code(code: &str) -> bool {
    // 08 connection, 53 resources, 57P0x shutdown or start-up, 57014 statement timeout, 55P03 lock timeout,
    // 25P0x idle or transaction timeout, 55000 a database that takes no connections now (no statement of ours gets it).
    code.starts_with("08")
        || code.starts_with("53")
        || code.starts_with("57P0")
        || matches!(code, "40001" | "40P01" | "55000" | "55P03" | "57014" | "25P03" | "25P04")
}

impl StoreError {
    /// The same call may succeed when it is made again: lost connection, lock or statement timeout, deadlock,
    /// serialisation failure.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let error = match self {
            Self::Database(error) => error,
            Self::Refused { state, .. } => return is_transient_code(state),
            _ => return false,
        };
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_)
            | sqlx::Error::BeginFailed => true,
            sqlx::Error::Database(database) => database.code().is_some_and(|code| is_transient_code(&code)),
            _ => false,
        }
    }

    /// The five-character SQLSTATE, when the record gave one.
    #[must_use]
    pub fn sql_state(&self) -> Option<String> {
        match self {
            Self::Refused { state, .. } => Some((*state).to_owned()),
            Self::Database(error) => error.as_database_error().and_then(|e| e.code()).map(std::borrow::Cow::into_owned),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_by_itself_is_transient() {
        for (code, want) in [
            ("40001", true),
            ("40P01", true),
            ("55P03", true),
            ("57014", true),
            ("08006", true),
            ("53300", true),
            ("55000", true),
        ] {
            assert_eq!(is_transient_code(code), want, "{code}");
            assert_eq!(StoreError::Refused { state: code, reason: "" }.is_transient(), want, "{code}");
        }
        for code in ["23505", "42501", "23514", "42P01", "22003"] {
            assert!(!is_transient_code(code), "{code}");
        }
        assert!(StoreError::from(sqlx::Error::PoolTimedOut).is_transient());
        assert!(!StoreError::NoTenant.is_transient());
    }
}
