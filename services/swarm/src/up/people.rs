//! Who has an account and a door.

use std::collections::BTreeSet;
use std::path::Path;

use domain::money::Usd;
use serde::Deserialize;

use super::UpError;

/// One person.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
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
    parse(&text).map_err(|fault| UpError::file(path, fault))
}

/// Reads the text of `config/people.toml`; one of them must be the operator.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Person>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let mut handles = BTreeSet::new();
    for person in &file.person {
        if !domain::subject::is_token(&person.handle) {
            return Err(format!("{:?} is no short name", person.handle));
        }
        if !handles.insert(&person.handle) {
            return Err(format!("{} is there twice", person.handle));
        }
        if person.opening_balance_usd.is_negative() {
            return Err(format!("{} starts with less than nothing", person.handle));
        }
    }
    if !file.person.iter().any(|person| person.handle == "operator") {
        return Err("no person is called operator".to_owned());
    }
    Ok(file.person)
}
