//! Who has an account and a door.

use std::path::Path;

use domain::money::Usd;
use serde::Deserialize;

use super::UpError;

/// One person.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Person {
    /// Short name; their door is `trading.buy_bot.signal-<handle>.*`, the operator's is the plain one.
    pub handle: String,
    /// What the paper account starts with.
    pub opening_balance_usd: Usd,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    person: Vec<Person>,
}

/// Reads the people; one of them must be the operator.
pub(super) fn load(path: &Path) -> Result<Vec<Person>, UpError> {
    let text = std::fs::read_to_string(path).map_err(|error| UpError::file(path, error))?;
    let file: File = toml::from_str(&text).map_err(|error| UpError::file(path, error.message()))?;
    for person in &file.person {
        if !domain::subject::is_token(&person.handle) {
            return Err(UpError::file(path, format!("{:?} is no short name", person.handle)));
        }
    }
    if !file.person.iter().any(|person| person.handle == "operator") {
        return Err(UpError::file(path, "no person is called operator"));
    }
    Ok(file.person)
}
