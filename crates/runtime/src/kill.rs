//! The kill level in a process: the database's row, a local file, and what was heard on the bus. The newest epoch wins,
//! doubt counts as level 1, and only the database lowers it ([`rails::kill::effective`]).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use domain::message::HaltChanged;
use rails::check::KillReading;
use rails::kill::{KillCopy, effective};
use store::{StoreError, Unit};

/// Where the file copy lies in a data folder.
#[must_use]
pub fn file_path(data_dir: &Path) -> PathBuf {
    data_dir.join("kill-level")
}

/// Reads the file copy: `<level> <epoch>`. `None` when it is missing or not that.
#[must_use]
pub fn read_file(file: &Path) -> Option<KillCopy> {
    parse(&std::fs::read_to_string(file).ok()?)
}

/// Reads the text of the file copy; `None` for anything but `<level> <epoch>`.
#[must_use]
pub fn parse(text: &str) -> Option<KillCopy> {
    let (level, epoch) = text.trim().split_once(' ')?;
    let copy = KillCopy { level: level.parse().ok()?, epoch: epoch.parse().ok()? };
    (copy.level <= 4).then_some(copy)
}

/// Writes the file copy: a new file, synced, then renamed over the old one, so that a crash leaves one of the two whole.
///
/// # Errors
/// What the file system says.
pub fn write_file(file: &Path, level: u8, epoch: i64) -> std::io::Result<()> {
    let fresh = file.with_extension("new");
    let mut out = std::fs::File::create(&fresh)?;
    writeln!(out, "{level} {epoch}")?;
    out.sync_all()?;
    std::fs::rename(&fresh, file)?;
    file.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}

/// The kill level as one process knows it.
#[derive(Debug)]
pub struct KillSwitch {
    file: PathBuf,
    heard: Mutex<Option<KillCopy>>,
}

impl KillSwitch {
    /// Takes the data folder the file copy lies in.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { file: file_path(data_dir), heard: Mutex::new(None) }
    }

    /// Remembers what was heard on the bus; an older epoch changes nothing.
    pub fn hear(&self, halt: &HaltChanged) {
        let copy = KillCopy { level: halt.level, epoch: halt.epoch };
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.is_none_or(|known| copy.epoch > known.epoch) {
            *heard = Some(copy);
        }
    }

    /// The copies outside the database: the file (`None` when it can't be read), and what was heard.
    #[must_use]
    pub fn copies(&self) -> Vec<Option<KillCopy>> {
        let mut copies = vec![read_file(&self.file)];
        if let Some(heard) = *self.heard.lock().unwrap_or_else(PoisonError::into_inner) {
            copies.push(Some(heard));
        }
        copies
    }

    /// Reads the database's copy in `unit` and combines it with `copies`.
    ///
    /// # Errors
    /// Store failures.
    pub async fn read_with(unit: &mut Unit, copies: &[Option<KillCopy>]) -> Result<KillReading, StoreError> {
        let stored = store::kill::current(unit).await?;
        Ok(effective(stored.map(|k| KillCopy { level: k.level, epoch: k.epoch }), copies))
    }

    /// Reads all copies.
    ///
    /// # Errors
    /// Store failures.
    pub async fn read(&self, unit: &mut Unit) -> Result<KillReading, StoreError> {
        Self::read_with(unit, &self.copies()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_copy_reads_back_and_anything_else_is_unreadable() {
        let folder = std::env::temp_dir().join(format!("swarm-kill-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = file_path(&folder);
        assert_eq!(read_file(&file), None);
        write_file(&file, 2, 17).unwrap();
        assert_eq!(read_file(&file), Some(KillCopy { level: 2, epoch: 17 }));
        for text in ["", "2", "2 x", "9 1", "-1 1", "2 17 3"] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read_file(&file), None, "{text:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
