//! The paper exchange's own record: one line for each decision, `<checksum> <JSON array of effects>`, on disk before
//! anything is answered.
//!
//! A checksum covers its line and the checksum before it, so a changed, lost or swapped line shows. A last line without
//! its newline was being written when the power went: nobody was told of it, it is cut off. Everything else that does
//! not fit is corruption, and the exchange does not start.
//!
//! A journal that has grown long is begun anew at a start: the account as it stands becomes the first line of a new file,
//! which is on disk before it takes the old one's name. A crash leaves one of the two whole.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::state::Effect;
use crate::error::VenueError;

/// Hex digits of a checksum.
const SUM_DIGITS: usize = 16;

/// An open journal. The file is locked as long as this lives.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    head: [u8; 32],
    broken: bool,
}

impl Journal {
    /// Opens or makes the file and reads what is in it, decision by decision.
    ///
    /// # Errors
    /// [`VenueError::JournalInUse`], [`VenueError::JournalCorrupt`], [`VenueError::File`].
    pub fn open(path: &Path) -> Result<(Self, Vec<Vec<Effect>>), VenueError> {
        let wrap = |error| VenueError::file(path, error);
        let existed = path.exists();
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(wrap)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(VenueError::JournalInUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(wrap(error)),
        }
        // Begun anew by its owner between our opening and our locking: ours is the old file, which has no name any more.
        if std::fs::metadata(path).map_err(wrap)?.ino() != file.metadata().map_err(wrap)?.ino() {
            return Err(VenueError::JournalInUse { path: path.to_owned() });
        }
        if !existed {
            sync_name(path).map_err(wrap)?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(wrap)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let mut journal = Self { file, path: path.to_owned(), head: [0; 32], broken: false };
        let decisions;
        (decisions, journal.head) = parse(&bytes[..whole], path)?;
        if whole < bytes.len() {
            tracing::warn!(path = %path.display(), cut_bytes = bytes.len() - whole, "cut a torn line off the journal");
            journal.file.set_len(whole as u64).map_err(wrap)?;
            journal.file.sync_all().map_err(wrap)?;
        }
        journal.file.seek(SeekFrom::Start(whole as u64)).map_err(wrap)?;
        Ok((journal, decisions))
    }

    /// Writes one decision and waits until it is on disk. After a failure nothing more is written: what the file holds
    /// is not known until it is opened again.
    ///
    /// # Errors
    /// [`VenueError::File`], then [`VenueError::JournalBroken`] for ever.
    pub fn append(&mut self, effects: &[Effect]) -> Result<(), VenueError> {
        if self.broken {
            return Err(VenueError::JournalBroken);
        }
        let json = serde_json::to_string(effects)
            .map_err(|error| VenueError::Malformed { what: format!("an effect: {error}") })?;
        let head = link(&self.head, json.as_bytes());
        let line = format!("{} {json}\n", sum_text(&head));
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            self.broken = true;
            return Err(VenueError::file(&self.path, error));
        }
        self.head = head;
        Ok(())
    }

    /// Bytes in the file.
    ///
    /// # Errors
    /// [`VenueError::File`].
    pub(super) fn len(&self) -> Result<u64, VenueError> {
        self.file.metadata().map(|meta| meta.len()).map_err(|error| VenueError::file(&self.path, error))
    }

    /// Begins the file anew with `first` alone: a new file, locked and on disk, then renamed over the old one.
    ///
    /// # Errors
    /// [`VenueError::File`]; the old file is then still the journal, unless the last step, syncing the new name, failed:
    /// then nothing more is written, as after a failed [`Journal::append`].
    pub(super) fn begin_anew(&mut self, first: &Effect) -> Result<(), VenueError> {
        let fresh = self.path.with_extension("new");
        let wrap = |error| VenueError::file(&fresh, error);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&fresh).map_err(wrap)?;
        file.try_lock().map_err(|error| wrap(error.into()))?;
        let mut journal = Self { file, path: fresh.clone(), head: [0; 32], broken: false };
        journal.append(std::slice::from_ref(first))?;
        journal.file.sync_all().map_err(wrap)?;
        std::fs::rename(&fresh, &self.path).map_err(wrap)?;
        journal.path.clone_from(&self.path);
        *self = journal;
        sync_name(&self.path).map_err(|error| {
            self.broken = true;
            VenueError::file(&self.path, error)
        })
    }
}

/// Reads whole lines of a journal: the decisions, and the head of the chain of checksums after them. `path` is for the
/// error alone.
///
/// # Errors
/// [`VenueError::JournalCorrupt`].
pub fn parse(bytes: &[u8], path: &Path) -> Result<(Vec<Vec<Effect>>, [u8; 32]), VenueError> {
    let mut decisions = Vec::new();
    let mut head = [0; 32];
    for (at, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let corrupt = |reason: String| VenueError::JournalCorrupt { path: path.to_owned(), line: at + 1, reason };
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = std::str::from_utf8(line).map_err(|_| corrupt("not text".to_owned()))?;
        let (sum, json) = line.split_once(' ').ok_or_else(|| corrupt("no checksum".to_owned()))?;
        head = link(&head, json.as_bytes());
        if sum != sum_text(&head) {
            return Err(corrupt("the checksum does not match".to_owned()));
        }
        decisions.push(serde_json::from_str(json).map_err(|error| corrupt(error.to_string()))?);
    }
    Ok((decisions, head))
}

/// The name of a new file is on disk only when its folder is.
fn sync_name(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn link(head: &[u8; 32], json: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(head);
    hash.update(json);
    hash.finalize().into()
}

fn sum_text(head: &[u8; 32]) -> String {
    hex::encode(&head[..SUM_DIGITS / 2])
}

#[cfg(all(test, target_os = "linux"))]
impl Journal {
    /// A journal on a disk that is full.
    pub(super) fn on_a_full_disk() -> Self {
        let path = PathBuf::from("/dev/full");
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        Self { file, path, head: [0; 32], broken: false }
    }
}
