//! Recordings of several instruments, merged into one row of events by the time they were received.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use domain::market::Symbol;
use venues::VenueError;
use venues::feed::{self, FeedEvent};

use super::ReplayError;

type Events = Box<dyn Iterator<Item = Result<FeedEvent, VenueError>>>;

/// Events of all recordings, oldest first; equal times in the order of the symbols, so that the row is always the same.
pub struct Merged {
    rows: Vec<Peekable<Events>>,
}

impl Merged {
    /// Merges rows that are in order by themselves.
    #[must_use]
    pub fn of_rows(rows: Vec<Events>) -> Self {
        Self { rows: rows.into_iter().map(Iterator::peekable).collect() }
    }

    /// Opens recordings; the files of one symbol follow each other in the order of their names.
    ///
    /// # Errors
    /// [`ReplayError::NoRecording`], [`ReplayError::Venue`].
    pub fn open(files: &[PathBuf]) -> Result<Self, ReplayError> {
        let mut by_symbol: BTreeMap<Option<Symbol>, Vec<&PathBuf>> = BTreeMap::new();
        for file in files {
            by_symbol.entry(feed::symbol_of_file(file)).or_default().push(file);
        }
        if by_symbol.is_empty() {
            return Err(ReplayError::NoRecording);
        }
        let mut rows: Vec<Events> = Vec::new();
        for mut files in by_symbol.into_values() {
            files.sort();
            let recordings = files.into_iter().map(|file| feed::open(file)).collect::<Result<Vec<_>, _>>()?;
            rows.push(Box::new(recordings.into_iter().flatten()));
        }
        Ok(Self::of_rows(rows))
    }
}

impl Iterator for Merged {
    type Item = Result<FeedEvent, VenueError>;

    /// An error comes out before anything else, so that it ends the replay.
    fn next(&mut self) -> Option<Self::Item> {
        let mut oldest: Option<(usize, i64)> = None;
        for (at, row) in self.rows.iter_mut().enumerate() {
            let received = match row.peek() {
                None => continue,
                Some(Err(_)) => i64::MIN,
                Some(Ok(event)) => event.received_at_ns,
            };
            if oldest.is_none_or(|(_, known)| received < known) {
                oldest = Some((at, received));
            }
        }
        self.rows.get_mut(oldest?.0)?.next()
    }
}

/// The recordings of a folder (`*.gz`, `*.jsonl`, `*.txt`), by name.
///
/// # Errors
/// [`ReplayError::Folder`].
pub fn recordings_in(folder: &Path) -> Result<Vec<PathBuf>, ReplayError> {
    let wrap = |source| ReplayError::Folder { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(wrap)? {
        let path = entry.map_err(wrap)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("gz" | "jsonl" | "txt")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
