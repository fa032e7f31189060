//! The folder a stage is built in, and who is in its people file.

use std::fmt::Write;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::{Player, StageError};

/// In every folder that a stage may empty.
const MARKER: &str = "stage";
/// What the operator starts with.
const OPERATOR_USD: &str = "50000";

/// Takes the folder for us alone and empties it unless `keep`. A folder that no stage made is left alone.
pub(super) fn take(folder: &Path, keep: bool) -> Result<(PathBuf, File), StageError> {
    std::fs::create_dir_all(folder).map_err(|error| StageError::file(folder, error))?;
    let folder = folder.canonicalize().map_err(|error| StageError::file(folder, error))?;
    let lock_path = folder.with_extension("lock");
    let lock = File::create(&lock_path).map_err(|error| StageError::file(&lock_path, error))?;
    lock.try_lock().map_err(|_| StageError::file(&folder, "another demo plays in this folder; name another one"))?;
    let marker = folder.join(MARKER);
    let mut entries = std::fs::read_dir(&folder).map_err(|error| StageError::file(&folder, error))?;
    let is_empty = entries.next().is_none();
    if !is_empty && !marker.exists() {
        return Err(StageError::file(&folder, "holds something that no demo made; name another folder"));
    }
    if !is_empty && !keep {
        std::fs::remove_dir_all(&folder).map_err(|error| StageError::file(&folder, error))?;
        std::fs::create_dir_all(&folder).map_err(|error| StageError::file(&folder, error))?;
    }
    let text = "This folder was made for a demo, which empties it at its start.\n";
    std::fs::write(&marker, text).map_err(|error| StageError::file(&marker, error))?;
    let ready = folder.join("ready.json");
    match std::fs::remove_file(&ready) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StageError::file(&ready, error)),
        _ => Ok((folder, lock)),
    }
}

/// Writes the people file: the operator and everybody on the stage.
pub(super) fn write_people(folder: &Path, players: &[Player]) -> Result<PathBuf, StageError> {
    let mut text = String::from("# Made for the scenes.\n");
    let operator = Player { handle: "operator", opening_usd: OPERATOR_USD };
    for player in std::iter::once(&operator).chain(players) {
        let Player { handle, opening_usd } = player;
        let _ = writeln!(text, "\n[[person]]\nhandle = \"{handle}\"\nopening_balance_usd = \"{opening_usd}\"");
    }
    let path = folder.join("people.toml");
    std::fs::write(&path, text).map_err(|error| StageError::file(&path, error))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_that_a_stage_made_is_emptied() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("demo");
        let (taken, lock) = take(&folder, false).unwrap();
        std::fs::write(taken.join("ledger"), "old").unwrap();
        assert!(take(&folder, false).is_err(), "taken twice at once");
        drop(lock);
        drop(take(&folder, true).unwrap());
        assert!(taken.join("ledger").exists(), "--keep keeps");
        drop(take(&folder, false).unwrap());
        assert!(!taken.join("ledger").exists(), "emptied");

        let precious = parent.path().join("precious");
        std::fs::create_dir_all(&precious).unwrap();
        std::fs::write(precious.join("ledger"), "real money").unwrap();
        assert!(take(&precious, false).is_err());
        assert!(precious.join("ledger").exists());
    }
}
