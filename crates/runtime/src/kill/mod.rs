//! The kill level in a process: the database's row, a local file, and what was heard on the bus. The newest epoch wins,
//! doubt counts as level 1, and only the database lowers it ([`rails::kill::effective`]).

mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::message::HaltChanged;
use rails::check::KillReading;
use rails::kill::{KillCopy, effective, without_database};
use store::{StoreError, Unit};

pub use file::{
    KillFile, Latched, Raise, Way, Wish, file_path, latch, parse, parse_whole, read_file, read_whole, settle,
    wish_path, wished, write_file,
};

/// The kill level as one process knows it.
#[derive(Debug)]
pub struct KillSwitch {
    file: PathBuf,
    memory: Mutex<Memory>,
}

/// What was heard and read.
#[derive(Debug, Default)]
struct Memory {
    /// The newest epoch under which each level was heard: a lower level that is heard later is no reason to forget a
    /// higher one, only the database's row is.
    heard: BTreeMap<u8, i64>,
    /// The row that was read last.
    last_row: Option<KillCopy>,
}

impl KillSwitch {
    /// Takes the data folder the file copy lies in.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { file: file_path(data_dir), memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what was heard on the bus; an older epoch changes nothing.
    pub fn hear(&self, halt: &HaltChanged) {
        let mut memory = self.memory();
        let newest = memory.heard.entry(halt.level).or_insert(halt.epoch);
        *newest = halt.epoch.max(*newest);
    }

    /// The copies outside the database: the file (`None` when it can't be read), and what was heard.
    #[must_use]
    pub fn copies(&self) -> Vec<Option<KillCopy>> {
        let memory = self.memory();
        let mut copies = vec![read_whole(&self.file).map(|file| file.after(memory.last_row))];
        copies.extend(memory.heard.iter().map(|(level, epoch)| Some(KillCopy { level: *level, epoch: *epoch })));
        copies
    }

    /// Reads the database's copy in `unit` and combines it with `copies`.
    ///
    /// # Errors
    /// Store failures.
    pub async fn read_with(unit: &mut Unit, copies: &[Option<KillCopy>]) -> Result<KillReading, StoreError> {
        Ok(effective(Self::row(unit).await?, copies))
    }

    /// Reads all copies, and a wish that lies in a file and was not taken up yet.
    ///
    /// # Errors
    /// Store failures.
    pub async fn read(&self, unit: &mut Unit) -> Result<KillReading, StoreError> {
        let row = Self::row(unit).await?;
        // The wish first: whoever takes it up writes the file copy before it takes the wish away.
        let wished = wished(&self.file).unwrap_or(0);
        self.memory().last_row = row;
        Ok(effective(row, &self.copies()).at_least(wished))
    }

    /// What counts by all that is known without asking the database. Never below 1.
    #[must_use]
    pub fn without_database(&self) -> KillReading {
        let wished = wished(&self.file).unwrap_or(0);
        let last_row = self.last_row();
        without_database(last_row, &self.copies()).at_least(wished)
    }

    /// The row that was read last.
    #[must_use]
    pub fn last_row(&self) -> Option<KillCopy> {
        self.memory().last_row
    }

    async fn row(unit: &mut Unit) -> Result<Option<KillCopy>, StoreError> {
        Ok(store::kill::current(unit).await?.map(|kill| KillCopy { level: kill.level, epoch: kill.epoch }))
    }
}
