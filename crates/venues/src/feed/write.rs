//! Writing recordings in the format that is read.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{FeedEvent, FeedKind, Level};
use crate::error::VenueError;

/// Appends one event as a line, newline included. What comes out reads back as the same event.
pub fn write_line(out: &mut String, event: &FeedEvent) {
    let lower = event.symbol.as_str().to_ascii_lowercase();
    let symbol = event.symbol.as_str();
    let start = out.len();
    // Writing to a String cannot fail.
    let _ = write!(out, "{} {{\"stream\":\"{lower}@", event.received_at_ns);
    let _ = match &event.kind {
        FeedKind::Snapshot { last_update_id, bids, asks } => {
            let _ = write!(out, "snapshot\",\"data\":{{\"s\":\"{symbol}\",\"lastUpdateId\":{last_update_id},\"bids\":");
            levels(out, bids);
            out.push_str(",\"asks\":");
            levels(out, asks);
            Ok(())
        }
        FeedKind::Depth { first_update_id, final_update_id, event_ms, bids, asks } => {
            let _ = write!(
                out,
                "depth@100ms\",\"data\":{{\"e\":\"depthUpdate\",\"E\":{event_ms},\"s\":\"{symbol}\",\"U\":{first_update_id},\"u\":{final_update_id},\"b\":"
            );
            levels(out, bids);
            out.push_str(",\"a\":");
            levels(out, asks);
            Ok(())
        }
        FeedKind::Trade { trade_id, price, quantity, traded_ms, buyer_is_maker } => write!(
            out,
            "trade\",\"data\":{{\"e\":\"trade\",\"E\":{traded_ms},\"s\":\"{symbol}\",\"t\":{trade_id},\"p\":\"{}\",\"q\":\"{}\",\"T\":{traded_ms},\"m\":{buyer_is_maker}",
            price.value(),
            quantity.value()
        ),
        FeedKind::BookTicker { update_id, bid, bid_quantity, ask, ask_quantity } => write!(
            out,
            "bookTicker\",\"data\":{{\"u\":{update_id},\"s\":\"{symbol}\",\"b\":\"{}\",\"B\":\"{}\",\"a\":\"{}\",\"A\":\"{}\"",
            bid.value(),
            bid_quantity.value(),
            ask.value(),
            ask_quantity.value()
        ),
    };
    out.push_str("}}\n");
    debug_assert!(out.len() > start);
}

fn levels(out: &mut String, levels: &[Level]) {
    out.push('[');
    for (n, level) in levels.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        let _ = write!(out, "[\"{}\",\"{}\"]", level.price.value(), level.quantity.value());
    }
    out.push(']');
}

/// Writes a gzipped recording. Without [`Recorder::finish`] the end of the file may be missing.
pub struct Recorder {
    out: GzEncoder<BufWriter<File>>,
    path: PathBuf,
    line: String,
}

impl Recorder {
    /// Starts a new file.
    ///
    /// # Errors
    /// [`VenueError::File`], also when the file exists already: a recording is never overwritten.
    pub fn create(path: &Path) -> Result<Self, VenueError> {
        let file = File::create_new(path).map_err(|e| VenueError::file(path, e))?;
        let out = GzEncoder::new(BufWriter::new(file), Compression::fast());
        Ok(Self { out, path: path.to_owned(), line: String::new() })
    }

    /// Appends one event.
    ///
    /// # Errors
    /// [`VenueError::File`].
    pub fn write(&mut self, event: &FeedEvent) -> Result<(), VenueError> {
        self.line.clear();
        write_line(&mut self.line, event);
        self.out.write_all(self.line.as_bytes()).map_err(|e| VenueError::file(&self.path, e))
    }

    /// Writes what is buffered and closes the file.
    ///
    /// # Errors
    /// [`VenueError::File`].
    pub fn finish(self) -> Result<(), VenueError> {
        let Self { out, path, .. } = self;
        let wrap = |e| VenueError::file(&path, e);
        let file = out.finish().map_err(wrap)?.into_inner().map_err(|e| VenueError::file(&path, e.into_error()))?;
        file.sync_all().map_err(wrap)
    }
}
