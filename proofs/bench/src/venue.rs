//! The venue as a witness: when an order's line appears in the paper exchange's own journal, the venue has the order.
//!
//! The kernel tells of each write (inotify), so watching costs nothing while nothing happens and nothing is read late.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::bench_error::BenchError;

/// Orders as they appear.
pub struct Journal {
    seen: mpsc::UnboundedReceiver<(String, Instant)>,
}

impl Journal {
    /// Watches from here on.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn watch(path: &Path) -> Result<Self, BenchError> {
        let mut file = File::open(path).map_err(|error| BenchError::file(path, error))?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).map_err(|error| BenchError::System("inotify", error))?;
        inotify
            .add_watch(path, AddWatchFlags::IN_MODIFY)
            .map_err(|error| BenchError::System("watching the journal", error))?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|error| BenchError::file(path, error))?;
        let (sender, seen) = mpsc::unbounded_channel();
        // Ends with the process: it sleeps in the kernel until the journal is written to.
        std::thread::spawn(move || {
            let mut rest = String::new();
            while let Ok(events) = inotify.read_events() {
                let at = Instant::now();
                if events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_IGNORED))
                    || file.read_to_string(&mut rest).is_err()
                {
                    return;
                }
                let whole = rest.rfind('\n').map_or(0, |end| end + 1);
                for id in rest[..whole].lines().flat_map(orders_of) {
                    if sender.send((id, at)).is_err() {
                        return;
                    }
                }
                rest.drain(..whole);
            }
        });
        Ok(Self { seen })
    }

    /// The next order and when it was seen.
    pub async fn next(&mut self) -> Option<(String, Instant)> {
        self.seen.recv().await
    }
}

/// Client order ids that a line of the journal takes on or refuses.
fn orders_of(line: &str) -> Vec<String> {
    let effects = line.split_once(' ').and_then(|(_, json)| serde_json::from_str::<Vec<Value>>(json).ok());
    let mut found = Vec::new();
    for effect in effects.unwrap_or_default() {
        if matches!(effect["kind"].as_str(), Some("accepted" | "rejected"))
            && let Some(id) = effect["request"]["client_order_id"].as_str()
        {
            found.push(id.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn an_order_is_known_by_the_line_that_takes_it_on() {
        let line =
            r#"0a [{"kind":"accepted","request":{"client_order_id":"s1"}},{"kind":"filled","client_order_id":"s1"}]"#;
        assert_eq!(orders_of(line), ["s1"]);
        assert_eq!(orders_of(r#"0a [{"kind":"ended","client_order_id":"s1"}]"#), Vec::<String>::new());
        assert_eq!(orders_of("torn"), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_line_is_seen_when_it_is_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        std::fs::write(&path, "0a [{\"kind\":\"accepted\",\"request\":{\"client_order_id\":\"old\"}}]\n").unwrap();
        let mut journal = Journal::watch(&path).unwrap();
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"0b [{\"kind\":\"accepted\",\"request\":{\"client_").unwrap();
        file.write_all(b"order_id\":\"new\"}}]\n").unwrap();
        assert_eq!(journal.next().await.unwrap().0, "new");
    }
}
