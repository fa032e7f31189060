//! A `nats-server` that can't store although its disk has room again.
//!
//! After a full disk the server keeps the error of a failed write for as long as it runs, or switches JetStream off; its
//! health page says "ok" meanwhile. What it can't hide are the writes its publishers ask for: each one that fails is a
//! line in its log. Such lines while there is room mean that only a new start helps.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Room on the store's disk from which a write may be expected to succeed, in bytes.
const ROOM: u64 = 8 << 20;
/// Most that is read of a log at once, in bytes; what lies before it is skipped.
const NEWS: u64 = 64 << 10;
/// So long after the first failed write with room another one is not left over from the time without.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Between two starts; doubles each time until the server has been well for [`WELL`].
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
const WELL: Duration = Duration::from_secs(60);
/// A complaint older than this is over, for whoever only looks once.
const FRESH: Duration = Duration::from_secs(5);

/// What a line of the log says about storing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Complaint {
    /// A write failed.
    Failed(String),
    /// JetStream or a group of it has ended itself: there will be no further write to fail.
    Ended(String),
}

/// The server's own words, as of 2.15.
fn complaint(line: &str) -> Option<Complaint> {
    let words = || line.split_once("] ").map_or(line, |(_, rest)| rest).trim().to_owned();
    if line.contains("will be DISABLED") || line.contains("Critical write error") {
        return Some(Complaint::Ended(words()));
    }
    let failed = line.contains("failed to store a msg") || line.contains("no space left on device");
    failed.then(|| Complaint::Failed(words()))
}

/// Follows one server.
#[derive(Debug)]
pub(crate) struct Watch {
    log: PathBuf,
    store: PathBuf,
    read: u64,
    judge: Judge,
}

impl Watch {
    /// Of a server that is about to be started with this folder.
    pub(crate) fn new(folder: &Path) -> Self {
        let log = folder.join("nats.log");
        let read = std::fs::metadata(&log).map_or(0, |meta| meta.len());
        Self { log, store: folder.join("jetstream"), read, judge: Judge::default() }
    }

    /// Why it must be started anew; `None` while it need not, or not yet.
    pub(crate) fn look(&mut self, now: Instant) -> Option<String> {
        let heard = self.news();
        if heard.is_none() && self.judge.ended.is_none() {
            return None;
        }
        self.judge.look(heard, has_room(&self.store), now)
    }

    /// It is about to be started again, whatever ended it: what it said before is no complaint of its new life.
    pub(crate) fn forget(&mut self) {
        self.read = std::fs::metadata(&self.log).map_or(0, |meta| meta.len());
        (self.judge.since, self.judge.ended) = (None, None);
    }

    /// It was ended for what it complained of.
    pub(crate) fn ended_for_it(&mut self, now: Instant) {
        self.forget();
        self.judge.rest(now);
    }

    /// The last complaint since the last look.
    fn news(&mut self) -> Option<Complaint> {
        let length = std::fs::metadata(&self.log).ok()?.len();
        // Set aside at a start: it is another file.
        self.read = if length < self.read { 0 } else { self.read };
        if length == self.read {
            return None;
        }
        let text = read(&self.log, self.read.max(length.saturating_sub(NEWS)))?;
        // The last line may be half written: it is read again when it is whole.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read = length - u64::try_from(text.len() - whole).unwrap_or(0);
        text[..whole].lines().rev().find_map(complaint)
    }
}

fn read(log: &Path, from: u64) -> Option<String> {
    let mut file = File::open(log).ok()?;
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(NEWS).read_to_end(&mut bytes).ok()?;
    // Paths in a log need not be UTF-8; a length in bytes must stay one.
    Some(bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect())
}

fn has_room(store: &Path) -> bool {
    nix::sys::statvfs::statvfs(store)
        .is_ok_and(|disk| disk.blocks_available().saturating_mul(disk.fragment_size()) >= ROOM)
}

/// What a server of this folder complained of just now although there is room; for whoever looks only once.
#[must_use]
pub fn cannot_store(folder: &Path) -> Option<String> {
    let log = folder.join("nats.log");
    let meta = std::fs::metadata(&log).ok()?;
    let age = SystemTime::now().duration_since(meta.modified().ok()?).unwrap_or_default();
    let last = read(&log, meta.len().saturating_sub(NEWS))?.lines().last().and_then(complaint);
    match last? {
        Complaint::Failed(words) if age < FRESH => Some(words),
        Complaint::Ended(words) => Some(words),
        Complaint::Failed(_) => None,
    }
}

/// When a server that complains is to be started anew.
#[derive(Debug, Default)]
struct Judge {
    /// The first complaint since there was room.
    since: Option<Instant>,
    ended: Option<String>,
    last_start: Option<Instant>,
    pause: Duration,
}

impl Judge {
    fn look(&mut self, heard: Option<Complaint>, has_room: bool, now: Instant) -> Option<String> {
        let words = match heard {
            Some(Complaint::Ended(words)) => {
                self.ended = Some(words.clone());
                words
            }
            Some(Complaint::Failed(words)) => words,
            None => self.ended.clone()?,
        };
        if !has_room {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let rests = self.last_start.is_some_and(|start| now.duration_since(start) < self.pause);
        (now.duration_since(since) >= AGAIN_AFTER && !rests).then_some(words)
    }

    fn rest(&mut self, now: Instant) {
        let was_well = self.last_start.is_none_or(|start| now.duration_since(start) > self.pause + WELL);
        self.pause = if was_well { PAUSE } else { (self.pause * 2).min(LONGEST_PAUSE) };
        (self.since, self.ended, self.last_start) = (None, None, Some(now));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const FAILED: &str = "[7] 2026/11/21 11:37:16.839800 [ERR] JetStream failed to store a msg on stream '$G > S': write \
                          /data/1.blk: no space left on device";
    const DISABLED: &str = "[7] 2026/11/21 11:37:16.839800 [ERR] JetStream out of space, will be DISABLED";

    fn failed() -> Option<Complaint> {
        complaint(FAILED)
    }

    #[test]
    fn only_what_speaks_of_storing_is_a_complaint() {
        assert!(matches!(complaint(FAILED), Some(Complaint::Failed(_))));
        assert!(matches!(complaint(DISABLED), Some(Complaint::Ended(_))));
        assert_eq!(complaint("[7] 2026/11/21 11:37:21.448085 [INF] Trapped \"terminated\" signal"), None);
    }

    #[test]
    fn writes_that_go_on_failing_with_room_mean_stuck() {
        let (start, mut judge) = (Instant::now(), Judge::default());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(judge.look(failed(), false, at(0)), None, "a full disk is no reason");
        assert_eq!(judge.look(failed(), false, at(5_000)), None);
        assert_eq!(judge.look(failed(), true, at(6_000)), None, "left over from before");
        assert_eq!(judge.look(None, true, at(7_100)), None, "it has stopped complaining");
        assert!(judge.look(failed(), true, at(7_200)).is_some());
    }

    #[test]
    fn one_that_fills_up_again_is_waited_for_again() {
        let (start, mut judge) = (Instant::now(), Judge::default());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(judge.look(failed(), true, at(0)), None);
        assert_eq!(judge.look(failed(), false, at(500)), None);
        assert_eq!(judge.look(failed(), true, at(2_000)), None);
        assert!(judge.look(failed(), true, at(3_000)).is_some());
    }

    #[test]
    fn one_that_switched_itself_off_says_so_only_once() {
        let (start, mut judge) = (Instant::now(), Judge::default());
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(judge.look(complaint(DISABLED), false, at(0)), None);
        assert_eq!(judge.look(None, true, at(5)), None);
        assert!(judge.look(None, true, at(6)).is_some());
        judge.rest(at(6));
        assert_eq!(judge.look(None, true, at(60)), None, "that was the life before");
    }

    #[test]
    fn starts_come_ever_less_often_until_it_has_been_well() {
        let (start, mut judge) = (Instant::now(), Judge::default());
        let mut now = start;
        let mut gaps = Vec::new();
        for _ in 0..9 {
            let before = now;
            while judge.look(failed(), true, now).is_none() {
                now += Duration::from_secs(1);
            }
            judge.rest(now);
            gaps.push(now.duration_since(before).as_secs());
        }
        assert_eq!(gaps, [1, 5, 10, 20, 40, 80, 160, 300, 300]);
        now += LONGEST_PAUSE + WELL + Duration::from_secs(1);
        judge.rest(now);
        assert_eq!(judge.pause, PAUSE);
    }

    #[test]
    fn a_log_is_read_once_and_only_in_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("jetstream")).unwrap();
        let log = folder.path().join("nats.log");
        std::fs::write(&log, format!("{FAILED}\n")).unwrap();
        let mut watch = Watch::new(folder.path());
        assert_eq!(watch.news(), None, "of an earlier life");
        let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
        write!(file, "{}", &FAILED[..60]).unwrap();
        assert_eq!(watch.news(), None, "half a line");
        writeln!(file, "{}", &FAILED[60..]).unwrap();
        assert!(watch.news().is_some());
        assert_eq!(watch.news(), None, "already read");
        assert!(cannot_store(folder.path()).is_some_and(|words| words.contains("failed to store")));
        std::fs::write(&log, format!("{DISABLED}\n")).unwrap();
        assert!(matches!(watch.news(), Some(Complaint::Ended(_))), "another file by that name");
    }
}
