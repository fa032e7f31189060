//! Free loopback ports, and ports that stay the same over restarts.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, TryLockError};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ServersError;

/// Lowest port that is given away: below are those that well-known services listen on.
const LOWEST: u16 = 20_000;
/// How many ports are tried before the system is asked for any.
const TRIES: u32 = 1_000;

/// Ports of this process, each with the lock that says so to other processes; the system takes the locks back when it ends.
static RESERVED: Mutex<BTreeMap<u16, File>> = Mutex::new(BTreeMap::new());

/// A loopback port nobody listens on, that no other process which asks here is given while this one lives.
///
/// It lies below the ports that the system gives to outgoing connections: one of those may be taken by any connection between this
/// answer and its use, or while the service that listened there is started again, and a long one keeps it.
///
/// # Errors
/// When the machine has no free port.
pub fn free_port() -> Result<u16, ServersError> {
    let range = LOWEST..lowest_outgoing();
    let mut random = RandomState::new().build_hasher().finish();
    for _ in 0..if range.len() < 1_000 { 0 } else { TRIES } {
        let port = range.start + u16::try_from(random % range.len() as u64).unwrap_or(0);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407).rotate_left(32);
        let is_ours = reserved().contains_key(&port);
        if !is_ours && is_free(port) && reserve(port) {
            return Ok(port);
        }
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|e| ServersError::System("finding a free port".to_owned(), e))
}

/// Whether nobody listens on this loopback port.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn reserved() -> MutexGuard<'static, BTreeMap<u16, File>> {
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a port for this process; false when another one has it. Where no lock can be made nobody is kept out.
fn reserve(port: u16) -> bool {
    let mut reserved = reserved();
    if reserved.contains_key(&port) {
        return true;
    }
    let Ok(file) = lock_file(&lock_folder(), port) else { return true };
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        return false;
    }
    reserved.insert(port, file);
    true
}

fn lock_folder() -> PathBuf {
    std::env::temp_dir().join(format!("swarm-ports-{}", nix::unistd::getuid()))
}

/// The file whose lock stands for a port. Everybody may write beside this folder, and may have made it first: one that is not ours
/// is left alone, no link is followed, and nothing that is there is emptied.
fn lock_file(folder: &Path, port: u16) -> std::io::Result<File> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = std::fs::symlink_metadata(folder)?;
    if !found.is_dir() || found.uid() != nix::unistd::getuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(ErrorKind::PermissionDenied.into());
    }
    let mut open = File::options();
    open.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    open.open(folder.join(port.to_string()))
}

/// Where the ports of outgoing connections begin; Linux' usual value where the system does not say.
fn lowest_outgoing() -> u16 {
    let told = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    told.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768)
}

/// Ports by name, kept in a file, so that a second start listens where the first did.
#[derive(Debug)]
pub struct StablePorts {
    file: PathBuf,
    ports: BTreeMap<String, u16>,
}

impl StablePorts {
    /// Reads the file, if there is one. A file that can't be understood counts as none: ports are only a convenience.
    #[must_use]
    pub fn open(file: &Path) -> Self {
        let ports = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { file: file.to_owned(), ports }
    }

    /// The port of `name`: the one it had when that is free now, else a new one, which is remembered.
    ///
    /// # Errors
    /// When there is no free port or the file can't be written.
    pub fn get(&mut self, name: &str) -> Result<u16, ServersError> {
        if let Some(&port) = self.ports.get(name)
            && is_free(port)
            && reserve(port)
        {
            return Ok(port);
        }
        let port = loop {
            let port = free_port()?;
            if !self.ports.values().any(|&taken| taken == port) {
                break port;
            }
        };
        self.ports.insert(name.to_owned(), port);
        self.save()?;
        Ok(port)
    }

    /// The port that `name` was given, whether it is free or not.
    #[must_use]
    pub fn known(&self, name: &str) -> Option<u16> {
        self.ports.get(name).copied()
    }

    fn save(&self) -> Result<(), ServersError> {
        let bytes = serde_json::to_vec_pretty(&self.ports).unwrap_or_default();
        std::fs::write(&self.file, bytes).map_err(|source| ServersError::File {
            action: "writing",
            path: self.file.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_port_is_given_once_and_never_one_of_those_for_outgoing_connections() {
        let ports: Vec<u16> = (0..200).map(|_| free_port().unwrap()).collect();
        let different: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(different.len(), ports.len());
        assert!(ports.iter().all(|port| (LOWEST..lowest_outgoing()).contains(port)), "{ports:?}");
        // Another process has a file of its own open.
        let others = File::open(lock_folder().join(ports[0].to_string())).unwrap();
        assert!(matches!(others.try_lock(), Err(TryLockError::WouldBlock)));
        reserved().remove(&ports[0]);
        others.try_lock().unwrap();
        assert!(!reserve(ports[0]), "what another process has is not taken");
    }

    #[test]
    fn a_folder_that_somebody_else_prepared_harms_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let (locks, victim) = (folder.path().join("locks"), folder.path().join("victim"));
        std::fs::write(&victim, "kept").unwrap();
        drop(lock_file(&locks, 1).unwrap());
        std::os::unix::fs::symlink(&victim, locks.join("2")).unwrap();
        assert!(lock_file(&locks, 2).is_err(), "a link is not followed");
        std::fs::write(locks.join("3"), "kept").unwrap();
        drop(lock_file(&locks, 3).unwrap());
        assert_eq!(std::fs::read_to_string(locks.join("3")).unwrap(), "kept");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "kept");
        std::os::unix::fs::symlink(&locks, folder.path().join("link")).unwrap();
        assert!(lock_file(&folder.path().join("link"), 4).is_err(), "the folder is no link either");
        std::fs::set_permissions(&locks, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(lock_file(&locks, 5).is_err(), "nor one that others may write to");
    }

    #[test]
    fn a_port_stays_the_same_while_it_is_free_and_moves_when_it_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ports.json");
        let first = StablePorts::open(&file).get("nats").unwrap();
        assert_eq!(StablePorts::open(&file).get("nats").unwrap(), first);
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        let mut ports = StablePorts::open(&file);
        assert_ne!(ports.get("nats").unwrap(), first);
        assert_ne!(ports.get("postgres").unwrap(), ports.get("nats").unwrap());
    }
}
