//! Reading recordings, plain or gzipped.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use domain::market::Symbol;
use flate2::bufread::MultiGzDecoder;

use super::{FeedEvent, parse_line};
use crate::error::VenueError;

/// No line is longer: the largest message is a snapshot, 5,000 levels a side in half a megabyte.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// A recording, event by event.
pub struct Recording {
    lines: Box<dyn BufRead + Send>,
    path: PathBuf,
    symbol: Option<Symbol>,
    line: String,
    number: usize,
    /// The file cannot be read any further.
    failed: bool,
}

/// The instrument a recording is named after: `btcusdt_20240808.gz` is of `BTCUSDT`.
#[must_use]
pub fn symbol_of_file(path: &Path) -> Option<Symbol> {
    let name = path.file_name()?.to_str()?;
    let stem = name.split(['_', '.']).next()?;
    Symbol::parse(&stem.to_ascii_uppercase())
}

/// Opens a recording; a name that ends in `.gz` is unpacked on the way. A snapshot line that does not name its
/// instrument belongs to the one the file is named after.
///
/// # Errors
/// [`VenueError::File`].
pub fn open(path: &Path) -> Result<Recording, VenueError> {
    let file = BufReader::with_capacity(1 << 16, File::open(path).map_err(|e| VenueError::file(path, e))?);
    let packed = path.extension().is_some_and(|e| e == "gz");
    let lines: Box<dyn BufRead + Send> =
        if packed { Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file))) } else { Box::new(file) };
    Ok(Recording::of(lines, path))
}

impl Recording {
    /// Reads unpacked lines; `path` names the file for errors and its instrument.
    #[must_use]
    pub fn of(lines: Box<dyn BufRead + Send>, path: &Path) -> Self {
        let symbol = symbol_of_file(path);
        Self { lines, path: path.to_owned(), symbol, line: String::new(), number: 0, failed: false }
    }
}

impl Iterator for Recording {
    type Item = Result<FeedEvent, VenueError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            self.line.clear();
            match (&mut self.lines).take(MAX_LINE_BYTES).read_line(&mut self.line) {
                Ok(0) => return None,
                Ok(_) => self.number += 1,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(VenueError::file(&self.path, error)));
                }
            }
            if self.line.len() as u64 == MAX_LINE_BYTES {
                self.failed = true;
                let what = format!("line {} is longer than {MAX_LINE_BYTES} bytes", self.number);
                return Some(Err(VenueError::Malformed { what }));
            }
            match parse_line(&self.line, self.symbol.as_ref()) {
                Ok(None) => {}
                Ok(Some(event)) => return Some(Ok(event)),
                Err(VenueError::Malformed { what }) => {
                    return Some(Err(VenueError::Malformed { what: format!("line {}: {what}", self.number) }));
                }
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}
