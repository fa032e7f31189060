//! How a person's command reaches the swarm: files that `swarm up` wrote, and a NATS connection under the person's own
//! user.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use rails::signature::parse_private_key;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PeopleError;

/// Longest wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What `swarm up` leaves for people's commands: `<data dir>/connect.json`, readable by its owner alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Where NATS listens; the nodes of a cluster are separated by commas.
    pub nats_url: String,
    /// Seed of the person's NATS user.
    pub nkey_file: PathBuf,
    /// The name their approver key is registered under.
    pub person_id: String,
    /// Their private approver key.
    pub person_key_file: PathBuf,
    /// Login that may read the audit tables.
    pub audit_pg_url_file: PathBuf,
    /// Signed heads of the audit chains.
    pub anchors_file: PathBuf,
    /// Public keys the heads may be signed with.
    pub anchor_public_keys_file: PathBuf,
}

impl Files {
    /// Its path in a data folder.
    #[must_use]
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("connect.json")
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`PeopleError::Files`] with what to do.
    pub fn load(data_dir: &Path) -> Result<Self, PeopleError> {
        let path = Self::path(data_dir);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            PeopleError::Files(format!(
                "{}: {error}; `make run` or `swarm up` writes it (or name the data folder with --data-dir)",
                path.display()
            ))
        })?;
        serde_json::from_str(&text).map_err(|error| PeopleError::Files(format!("{}: {error}", path.display())))
    }

    /// The person's approver key.
    ///
    /// # Errors
    /// [`PeopleError::Files`].
    pub fn person_key(&self) -> Result<SigningKey, PeopleError> {
        let text = read(&self.person_key_file)?;
        parse_private_key(&text)
            .map_err(|error| PeopleError::Files(format!("{}: {error}", self.person_key_file.display())))
    }
}

/// Reads a file that must be there.
///
/// # Errors
/// [`PeopleError::Files`].
pub fn read(path: &Path) -> Result<String, PeopleError> {
    std::fs::read_to_string(path).map_err(|error| PeopleError::Files(format!("{}: {error}", path.display())))
}

/// A connection under the person's NATS user.
pub struct Connection {
    client: async_nats::Client,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// [`PeopleError`].
    pub async fn open(files: &Files) -> Result<Self, PeopleError> {
        let seed = read(&files.nkey_file)?;
        let servers = bus::servers(&files.nats_url).map_err(|error| PeopleError::Files(error.to_string()))?;
        let client = async_nats::ConnectOptions::with_nkey(seed.trim().to_owned())
            .custom_inbox_prefix(format!("_INBOX_{}", files.person_id))
            .request_timeout(Some(ANSWER_TIMEOUT))
            .connection_timeout(ANSWER_TIMEOUT)
            // Of several nodes one may hang: it is left for another after two unanswered pings.
            .ping_interval(Duration::from_secs(2))
            .connect(servers)
            .await
            .map_err(|error| PeopleError::Unreachable(error.to_string()))?;
        Ok(Self { client })
    }

    /// Asks a service.
    ///
    /// # Errors
    /// [`PeopleError::Unreachable`].
    pub async fn request(&self, subject: &str, body: &Value) -> Result<Value, PeopleError> {
        self.request_with_id(subject, body, None).await
    }

    /// Asks a service whose answer may take longer than usual.
    ///
    /// # Errors
    /// [`PeopleError::Unreachable`].
    pub async fn request_within(&self, subject: &str, body: &Value, within: Duration) -> Result<Value, PeopleError> {
        let request = async_nats::Request::new().payload(body.to_string().into()).timeout(Some(within));
        let reply = self.client.send_request(subject.to_owned(), request).await;
        let reply = reply.map_err(|error| PeopleError::Unreachable(error.to_string()))?;
        serde_json::from_slice(&reply.payload).map_err(|_| PeopleError::Unreachable("its answer is no JSON".to_owned()))
    }

    /// Asks a service with a message id, so that asking twice is asking once.
    ///
    /// # Errors
    /// [`PeopleError::Unreachable`].
    pub async fn request_with_id(&self, subject: &str, body: &Value, id: Option<&str>) -> Result<Value, PeopleError> {
        let payload = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap_or_default() };
        let mut headers = async_nats::HeaderMap::new();
        if let Some(id) = id {
            headers.insert("Nats-Msg-Id", id);
        }
        let reply = self
            .client
            .request_with_headers(subject.to_owned(), headers, payload.into())
            .await
            .map_err(|error| PeopleError::Unreachable(error.to_string()))?;
        serde_json::from_slice(&reply.payload).map_err(|_| PeopleError::Unreachable("its answer is no JSON".to_owned()))
    }
}
