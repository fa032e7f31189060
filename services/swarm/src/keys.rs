//! Keys and passwords of one data folder: made when absent, never overwritten, never logged. There is no default secret.
//!
//! In `spawn` mode all processes run as one OS user, to whom modes of files refuse nothing. That a process reads its own secrets and
//! nobody else's is its sandbox's doing, where the kernel has one ([`runtime::sandbox`]).

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use nkeys::KeyPair;
use rand::RngCore;
use rand::rngs::OsRng;

/// The folder of secrets of one data folder.
#[derive(Debug, Clone)]
pub struct Keys {
    folder: PathBuf,
}

/// An Ed25519 key: where its private half lies, and its public half.
#[derive(Debug, Clone)]
pub struct Ed25519File {
    /// 64 hex digits, readable by the owner alone.
    pub private_file: PathBuf,
    /// 64 hex digits.
    pub public: String,
    /// The same in a file of its own.
    pub public_file: PathBuf,
}

/// An NKEY user.
#[derive(Debug, Clone)]
pub struct NkeyFile {
    /// The seed, readable by the owner alone.
    pub seed_file: PathBuf,
    /// `U...`.
    pub public: String,
}

/// Why a secret can't be had.
#[derive(Debug, thiserror::Error)]
#[error("{}: {text}", path.display())]
pub struct KeysError {
    path: PathBuf,
    text: String,
}

impl Keys {
    /// Opens the folder, readable by the owner alone; made when absent.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn open(data_dir: &Path) -> Result<Self, KeysError> {
        let folder = data_dir.join("secrets");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|e| fault(&folder, &e))?;
        Ok(Self { folder })
    }

    /// A file of this folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A password of 32 letters and digits.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn password(&self, name: &str) -> Result<String, KeysError> {
        self.text(&format!("{name}.password"), || {
            let mut bytes = [0u8; 16];
            rand_bytes(&mut bytes)?;
            Ok(hex::encode(bytes))
        })
    }

    /// Where a secret is kept.
    #[must_use]
    pub fn secret_path(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.secret"))
    }

    /// A secret of 32 random bytes, as 64 hex digits.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn secret(&self, name: &str) -> Result<String, KeysError> {
        self.text(&format!("{name}.secret"), || {
            let mut bytes = [0u8; 32];
            rand_bytes(&mut bytes)?;
            Ok(hex::encode(bytes))
        })
    }

    /// An Ed25519 key.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn ed25519(&self, name: &str) -> Result<Ed25519File, KeysError> {
        let file = format!("{name}.key");
        let private = self.text(&file, || {
            let mut bytes = [0u8; 32];
            rand_bytes(&mut bytes)?;
            Ok(hex::encode(bytes))
        })?;
        let private_file = self.path(&file);
        let key: SigningKey = rails::signature::parse_private_key(&private).map_err(|e| fault(&private_file, &e))?;
        let public = hex::encode(key.verifying_key().as_bytes());
        let public_file = self.path(&format!("{name}.pub"));
        // Old public keys stay in the file: what they signed must still verify.
        let known = std::fs::read_to_string(&public_file).unwrap_or_default();
        if !known.lines().any(|line| line.trim() == public) {
            write_private(&public_file, &format!("{known}{public}\n"))?;
        }
        Ok(Ed25519File { private_file, public, public_file })
    }

    /// An NKEY user.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn nkey(&self, name: &str) -> Result<NkeyFile, KeysError> {
        let file = format!("{name}.nk");
        let seed_file = self.path(&file);
        let seed = self.text(&file, || KeyPair::new_user().seed().map_err(|e| e.to_string()))?;
        let pair = KeyPair::from_seed(seed.trim()).map_err(|e| fault(&seed_file, &e))?;
        Ok(NkeyFile { seed_file, public: pair.public_key() })
    }

    fn text(&self, file: &str, make: impl FnOnce() -> Result<String, String>) -> Result<String, KeysError> {
        let path = self.path(file);
        match std::fs::read_to_string(&path) {
            Ok(text) => return Ok(text.trim().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(fault(&path, &error)),
        }
        let made = make().map_err(|e| fault(&path, &e))?;
        write_private(&path, &made)?;
        Ok(made)
    }
}

fn rand_bytes(bytes: &mut [u8]) -> Result<(), String> {
    use rand::TryRngCore;
    OsRng.unwrap_err().fill_bytes(bytes);
    Ok(())
}

fn fault(path: &Path, error: &dyn std::fmt::Display) -> KeysError {
    KeysError { path: path.to_owned(), text: error.to_string() }
}

/// Writes a file that only its owner may read: a new one, synced, renamed into place.
///
/// # Errors
/// [`KeysError`].
pub fn write_private(path: &Path, text: &str) -> Result<(), KeysError> {
    let fresh = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut out = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        std::fs::rename(&fresh, path)
    };
    write().map_err(|e| fault(path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn secrets_are_made_once_kept_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        let first =
            (keys.password("pg").unwrap(), keys.ed25519("permit").unwrap().public, keys.nkey("a").unwrap().public);
        let keys = Keys::open(folder.path()).unwrap();
        let again =
            (keys.password("pg").unwrap(), keys.ed25519("permit").unwrap().public, keys.nkey("a").unwrap().public);
        assert_eq!(first, again);
        for name in ["pg.password", "permit.key", "a.nk"] {
            let mode = std::fs::metadata(keys.path(name)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{name}");
        }
        assert_eq!(std::fs::metadata(folder.path().join("secrets")).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_new_permit_key_keeps_the_old_public_key_for_verifying() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        let old = keys.ed25519("permit").unwrap();
        std::fs::remove_file(&old.private_file).unwrap();
        let new = keys.ed25519("permit").unwrap();
        let known = std::fs::read_to_string(&new.public_file).unwrap();
        assert_eq!(known.lines().collect::<Vec<_>>(), vec![old.public, new.public]);
    }
}
