//! Reading recordings, plain or gzipped.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use domain::market::Symbol;
use flate2::bufread::MultiGzDecoder;

use super::{FeedEvent, parse_line};
use crate::error::VenueError;

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
    Ok(Recording {
        lines,
        path: path.to_owned(),
        symbol: symbol_of_file(path),
        line: String::new(),
        number: 0,
        failed: false,
    })
}

impl Iterator for Recording {
    type Item = Result<FeedEvent, VenueError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            self.line.clear();
            match self.lines.read_line(&mut self.line) {
                Ok(0) => return None,
                Ok(_) => self.number += 1,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(VenueError::file(&self.path, error)));
                }
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
