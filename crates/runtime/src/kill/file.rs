//! The file copy of the kill level, and the file by which anybody may raise it.
//!
//! `kill-level` begins with the line `<level> <epoch>`. Below it stand raises that were made without the database, a JSON
//! object a line, until the supervisor has written them down: who dies in between, forgets nothing. Whoever can't reach the
//! supervisor writes here: every process and the command line latch by the same function, one after the other.
//!
//! A file `halt` beside it is a wish: empty, or the text of a level. What can't be read as a level is a wish for level 1.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::time::UnixMs;
use rails::kill::{HIGHEST, KillCopy, raised};
use serde::{Deserialize, Serialize};

/// Most bytes read of either file.
const MOST_BYTES: u64 = 64 << 10;
/// How often a writer looks whether the one before it is done: half a second in all. One that was stopped in the middle must
/// not hold up a halt.
const LOCK_TRIES: u32 = 100;
/// Between two looks.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// By which way somebody raised the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// `swarm halt`.
    Cli,
    /// `/halt` in Telegram.
    Telegram,
    /// The web page.
    Web,
    /// Any other request to `swarm.halt`.
    Nats,
    /// A file `halt`, or somebody who wrote the kill file.
    File,
    /// A signal to the supervisor.
    Signal,
    /// The supervisor itself.
    Supervisor,
}

impl Way {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Telegram => "telegram",
            Self::Web => "web",
            Self::Nats => "nats",
            Self::File => "file",
            Self::Signal => "signal",
            Self::Supervisor => "supervisor",
        }
    }
}

/// A wish to raise the level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// 1 to 4.
    pub level: u8,
    /// Who.
    pub by: String,
    /// By which way.
    pub way: Way,
    /// Why.
    pub reason: String,
}

/// A raise that was made, and is not written down in the database yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raise {
    /// 1 to 4.
    pub level: u8,
    /// The epoch it took.
    pub epoch: i64,
    /// Who.
    pub by: String,
    /// By which way.
    pub way: Way,
    /// Why.
    pub reason: String,
    /// When, by the clock of whoever latched it.
    pub at: UnixMs,
}

impl Raise {
    /// Its copy of the level.
    #[must_use]
    pub const fn copy(&self) -> KillCopy {
        KillCopy { level: self.level, epoch: self.epoch }
    }

    /// A copy in the file that is newer than the record, and does not say whose it is.
    #[must_use]
    pub fn unknown(copy: KillCopy, at: UnixMs) -> Self {
        let reason = "the kill file was newer than the record".to_owned();
        Self { level: copy.level, epoch: copy.epoch, by: "unknown".to_owned(), way: Way::File, reason, at }
    }
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillFile {
    /// The level and its epoch.
    pub copy: KillCopy,
    /// Raises that the database does not know, oldest first.
    pub unrecorded: Vec<Raise>,
}

impl KillFile {
    /// The copy as it counts for somebody who read `row` last.
    #[must_use]
    pub fn after(&self, row: Option<KillCopy>) -> KillCopy {
        if self.unrecorded.is_empty() { self.copy } else { self.copy.unrecorded(row) }
    }

    fn text(&self) -> std::io::Result<String> {
        let mut text = format!("{} {}\n", self.copy.level, self.copy.epoch);
        for raise in &self.unrecorded {
            text.push_str(&serde_json::to_string(raise)?);
            text.push('\n');
        }
        Ok(text)
    }
}

/// Where the file copy lies in a data folder.
#[must_use]
pub fn file_path(data_dir: &Path) -> PathBuf {
    data_dir.join("kill-level")
}

/// Where anybody may lay down a wish, beside the file copy.
#[must_use]
pub fn wish_path(kill_file: &Path) -> PathBuf {
    kill_file.with_file_name("halt")
}

/// Reads level and epoch of the file copy. `None` when it is missing or its first line is not that.
#[must_use]
pub fn read_file(file: &Path) -> Option<KillCopy> {
    read_whole(file).map(|read| read.copy)
}

/// Reads the whole file copy. `None` when it is missing or its first line is not `<level> <epoch>`.
#[must_use]
pub fn read_whole(file: &Path) -> Option<KillFile> {
    parse_whole(&read_bounded(file).ok()?)
}

/// Reads the text of the file copy; `None` for anything but `<level> <epoch>`, with or without raises below it.
#[must_use]
pub fn parse(text: &str) -> Option<KillCopy> {
    parse_whole(text).map(|read| read.copy)
}

/// Reads the text of a whole file copy. A line below the first that is no raise is one of which only the level is known: a
/// level that stands in the file must not be lost by a word beside it.
#[must_use]
pub fn parse_whole(text: &str) -> Option<KillFile> {
    let mut lines = text.trim().lines();
    let (level, epoch) = lines.next()?.trim().split_once(' ')?;
    let copy = KillCopy { level: level.parse().ok()?, epoch: epoch.parse().ok()? };
    if copy.level > HIGHEST {
        return None;
    }
    let raise = |line: &str| {
        let read = serde_json::from_str::<Raise>(line).ok().filter(|raise| (1..=HIGHEST).contains(&raise.level));
        read.unwrap_or_else(|| Raise::unknown(copy, UnixMs(0)))
    };
    Some(KillFile { copy, unrecorded: lines.filter(|line| !line.trim().is_empty()).map(raise).collect() })
}

/// The level that a file `halt` wishes for; `None` when there is none. What can't be read wishes for 1, and so does a 0: a
/// halt lowers nothing.
#[must_use]
pub fn wished(kill_file: &Path) -> Option<u8> {
    match read_bounded(&wish_path(kill_file)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(_) => Some(1),
        Ok(text) => Some(text.trim().parse().ok().filter(|level| (1..=HIGHEST).contains(level)).unwrap_or(1)),
    }
}

/// Writes the file copy as one that the database knows: a new file, synced, then renamed over the old one, so that a crash
/// leaves one of the two whole.
///
/// # Errors
/// What the file system says.
pub fn write_file(file: &Path, level: u8, epoch: i64) -> std::io::Result<()> {
    put(file, &KillFile { copy: KillCopy { level, epoch }, unrecorded: Vec::new() })
}

/// What latching in the file came to.
#[derive(Debug)]
pub struct Latched {
    /// The level that is in force now.
    pub copy: KillCopy,
    /// It is on disk because of this wish; `false`: it was as high before.
    pub is_new: bool,
    /// Whether it could be written; when not, `copy` is what whoever asked must keep in memory.
    pub written: std::io::Result<()>,
}

/// Raises the level in the file, as far as it is not as high already, and keeps the raise there until it is written down.
/// `last_row` is the row that the caller read last, `memory` what else it knows.
#[must_use]
pub fn latch(
    file: &Path,
    wish: &Wish,
    last_row: Option<KillCopy>,
    memory: &[Option<KillCopy>],
    now: UnixMs,
) -> Latched {
    let mut latched = KillCopy { level: wish.level, epoch: 0 };
    let mut is_new = false;
    let written = update(file, |found| {
        let standing = found.as_ref().map(|found| found.after(last_row));
        if let Some(found) = found.as_ref().filter(|f| !f.unrecorded.is_empty() && f.copy.level >= wish.level) {
            latched = found.copy;
            return None;
        }
        let others: Vec<Option<KillCopy>> = std::iter::once(standing).chain(memory.iter().copied()).collect();
        let Some(copy) = raised(wish.level, last_row, &others) else {
            let known = others.into_iter().chain([last_row]).flatten();
            latched = known.max_by_key(|copy| (copy.level, copy.epoch)).unwrap_or(latched);
            return None;
        };
        (latched, is_new) = (copy, true);
        let mut unrecorded = found.map_or_else(Vec::new, |found| found.unrecorded);
        unrecorded.push(Raise {
            level: wish.level,
            epoch: copy.epoch,
            by: wish.by.clone(),
            way: wish.way,
            reason: wish.reason.clone(),
            at: now,
        });
        Some(KillFile { copy, unrecorded })
    });
    Latched { copy: latched, is_new, written }
}

/// Brings the file up to `row` after `done` was written down. What was raised meanwhile stays.
///
/// # Errors
/// What the file system says.
pub fn settle(file: &Path, row: KillCopy, done: &[Raise]) -> std::io::Result<()> {
    update(file, |found| {
        let Some(found) = found else { return Some(KillFile { copy: row, unrecorded: Vec::new() }) };
        let unrecorded: Vec<Raise> = found.unrecorded.iter().filter(|raise| !done.contains(raise)).cloned().collect();
        let stays = if unrecorded.is_empty() { done.is_empty() && found.copy.outranks(row) } else { true };
        let copy = match stays {
            false => row,
            true if unrecorded.is_empty() => found.copy,
            true => KillCopy { level: found.copy.level.max(row.level), epoch: found.copy.epoch.max(row.epoch) },
        };
        let settled = KillFile { copy, unrecorded };
        (settled != found).then_some(settled)
    })
}

/// Changes the file as `change` says of what is in it (`None`: nothing that can be read). One writer at a time.
fn update(file: &Path, change: impl FnOnce(Option<KillFile>) -> Option<KillFile>) -> std::io::Result<()> {
    let _held = lock(file);
    change(read_whole(file)).map_or(Ok(()), |changed| put(file, &changed))
}

/// Waits for the writer before, for a while. Without the lock a raise is written all the same.
#[expect(
    clippy::disallowed_methods,
    reason = "two writers at once are rare, and a halt is latched before anything awaits"
)]
fn lock(file: &Path) -> Option<File> {
    let path = file.with_extension("lock");
    let held = OpenOptions::new().create(true).truncate(false).write(true).open(path).ok()?;
    for _ in 0..LOCK_TRIES {
        if held.try_lock().is_ok() {
            return Some(held);
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    tracing::warn!(file = %file.display(), "somebody else holds the kill file; written without waiting for them");
    None
}

fn put(file: &Path, content: &KillFile) -> std::io::Result<()> {
    let fresh = file.with_extension(format!("new-{}", std::process::id()));
    let mut out = File::create(&fresh)?;
    out.write_all(content.text()?.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&fresh, file)?;
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn read_bounded(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("swarm-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn wish(level: u8) -> Wish {
        Wish { level, by: "anna".to_owned(), way: Way::Cli, reason: "fire".to_owned() }
    }

    const fn copy(level: u8, epoch: i64) -> KillCopy {
        KillCopy { level, epoch }
    }

    #[test]
    fn a_file_copy_reads_back_and_anything_else_is_unreadable() {
        let folder = folder("kill-read");
        let file = file_path(&folder);
        assert_eq!(read_file(&file), None);
        write_file(&file, 2, 17).unwrap();
        assert_eq!(read_file(&file), Some(copy(2, 17)));
        for text in ["", "2", "2 x", "9 1", "-1 1", "2 17 3"] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read_file(&file), None, "{text:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_level_is_not_lost_by_what_stands_below_it() {
        for below in ["not JSON", "{}", r#"{"level":9,"epoch":1,"by":"a","way":"cli","reason":"","at":1}"#] {
            let read = parse_whole(&format!("3 7\n{below}\n")).unwrap();
            assert_eq!((read.copy, read.unrecorded.len()), (copy(3, 7), 1), "{below}");
            assert_eq!(read.unrecorded[0].copy(), copy(3, 7), "{below}");
        }
    }

    #[test]
    fn a_raise_is_kept_with_who_and_why_until_it_is_written_down() {
        let folder = folder("kill-latch");
        let file = file_path(&folder);
        write_file(&file, 0, 5).unwrap();
        let first = latch(&file, &wish(1), Some(copy(0, 5)), &[], UnixMs(9));
        assert!(first.is_new && first.written.is_ok(), "{first:?}");
        assert!(!latch(&file, &wish(1), Some(copy(0, 5)), &[], UnixMs(10)).is_new, "as high already");
        let second = latch(&file, &wish(3), None, &[], UnixMs(11));
        assert_eq!((first.copy, second.copy), (copy(1, 6), copy(3, 7)));
        let read = read_whole(&file).unwrap();
        let says: Vec<_> = read.unrecorded.iter().map(|r| (r.copy(), r.by.as_str(), r.way.word(), r.at.0)).collect();
        assert_eq!(says, [(copy(1, 6), "anna", "cli", 9), (copy(3, 7), "anna", "cli", 11)]);
        settle(&file, copy(1, 6), &read.unrecorded[..1]).unwrap();
        assert_eq!(
            read_whole(&file).unwrap(),
            KillFile { copy: copy(3, 7), unrecorded: read.unrecorded[1..].to_vec() }
        );
        settle(&file, copy(3, 8), &read.unrecorded).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "3 8\n");
        settle(&file, copy(0, 9), &[]).unwrap();
        assert_eq!(read_file(&file), Some(copy(0, 9)));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_raise_of_meanwhile_outlives_the_lowering_that_did_not_know_of_it() {
        let folder = folder("kill-race");
        let file = file_path(&folder);
        write_file(&file, 1, 5).unwrap();
        let meanwhile = latch(&file, &wish(2), None, &[], UnixMs(1));
        assert_eq!(meanwhile.copy, copy(2, 6));
        settle(&file, copy(0, 6), &[]).unwrap();
        assert_eq!(read_file(&file), Some(copy(2, 6)));
        settle(&file, copy(0, 9), &[]).unwrap();
        assert_eq!(
            read_whole(&file).unwrap().after(Some(copy(0, 9))),
            copy(2, 9),
            "it is newer than no row, and counts"
        );
        let again = latch(&file, &wish(1), Some(copy(0, 9)), &[], UnixMs(2));
        assert!(!again.is_new, "{again:?}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_could_not_be_written_is_told_and_still_has_its_epoch() {
        let file = Path::new("/nowhere/at-all/kill-level");
        let latched = latch(file, &wish(2), Some(copy(1, 4)), &[Some(copy(1, 6))], UnixMs(1));
        assert!(latched.is_new && latched.written.is_err());
        assert_eq!(latched.copy, copy(2, 7));
    }

    #[test]
    fn a_wish_in_a_file_is_a_level_and_anything_else_is_a_wish_for_one() {
        let folder = folder("kill-wish");
        let file = file_path(&folder);
        assert_eq!(wished(&file), None);
        for (text, level) in [("", 1), ("2\n", 2), (" 4 ", 4), ("0", 1), ("5", 1), ("-2", 1), ("please", 1)] {
            std::fs::write(wish_path(&file), text).unwrap();
            assert_eq!(wished(&file), Some(level), "{text:?}");
        }
        std::fs::write(wish_path(&file), [0xff, 0xfe]).unwrap();
        assert_eq!(wished(&file), Some(1));
        std::fs::remove_file(wish_path(&file)).unwrap();
        std::fs::create_dir(wish_path(&file)).unwrap();
        assert_eq!(wished(&file), Some(1), "a folder of that name");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_writer_that_was_stopped_holds_up_no_halt() {
        let folder = folder("kill-lock");
        let file = file_path(&folder);
        write_file(&file, 0, 1).unwrap();
        let held = lock(&file).unwrap();
        let latched = latch(&file, &wish(2), None, &[], UnixMs(1));
        assert!(latched.is_new && latched.written.is_ok());
        assert_eq!(read_file(&file), Some(copy(2, 2)));
        drop(held);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
