//! What the strategies hold, in a file of this process, so that a restart still knows what to sell and where its stops
//! are. The ledger is not asked: it knows how much the account holds, not which strategy bought it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use runtime::ConfigFaults;

use crate::strategy::Holding;

/// The folder of the file within the data folder: the one place there that this process writes.
pub const FOLDER: &str = "buy_bot";

/// Where the file lies in a data folder.
#[must_use]
pub fn file_path(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER).join("holdings.json")
}

type Holdings = BTreeMap<String, Holding>;

/// The file, and what is in it.
#[derive(Debug)]
pub(crate) struct SavedHoldings {
    file: PathBuf,
    stored: Holdings,
}

impl SavedHoldings {
    /// Opens the file; none is an empty one.
    pub(crate) fn open(file: PathBuf) -> Result<(Self, Holdings), ConfigFaults> {
        let read = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice::<Holdings>(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Holdings::new()),
            Err(error) => Err(error.to_string()),
        };
        let stored = read.map_err(|why| {
            let mut faults = ConfigFaults::new();
            faults.add(file.display(), why);
            faults
        })?;
        Ok((Self { file, stored: stored.clone() }, stored))
    }

    /// Stores the holdings when they changed: written aside, synced, then renamed, so that the file is always whole.
    pub(crate) fn put(&mut self, holdings: Holdings) -> io::Result<()> {
        if holdings == self.stored {
            return Ok(());
        }
        let aside = self.file.with_extension("tmp");
        let mut out = File::create(&aside)?;
        out.write_all(&serde_json::to_vec_pretty(&holdings)?)?;
        out.sync_all()?;
        std::fs::rename(&aside, &self.file)?;
        self.stored = holdings;
        Ok(())
    }
}
