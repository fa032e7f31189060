//! How a process ended, for a supervisor that is not its parent: the kernel tells an exit code to the parent alone, and that one
//! may have died before.

use std::io;
use std::path::{Path, PathBuf};

fn file(run_dir: &Path, agent: &str) -> PathBuf {
    run_dir.join(format!("{agent}.ended"))
}

/// Leaves `<boot id> <exit code>` in `<run dir>/<agent>.ended`: a new file renamed over the old one.
///
/// # Errors
/// What the file system says.
pub(crate) fn write(run_dir: &Path, agent: &str, boot_id: &str, code: u8) -> io::Result<()> {
    let half = run_dir.join(format!(".{agent}.ended"));
    std::fs::write(&half, format!("{boot_id} {code}\n"))?;
    std::fs::rename(&half, file(run_dir, agent))
}

/// The exit code that the start `boot_id` of `agent` left; `None` when it left none, as one that was killed does.
#[must_use]
pub fn read(run_dir: &Path, agent: &str, boot_id: &str) -> Option<u8> {
    let text = std::fs::read_to_string(file(run_dir, agent)).ok()?;
    let (of, code) = text.trim().split_once(' ')?;
    (of == boot_id).then(|| code.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_one_start_is_not_that_of_another() {
        let folder = std::env::temp_dir().join(format!("swarm-ended-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(read(&folder, "monitor", "a"), None);
        write(&folder, "monitor", "a", 75).unwrap();
        assert_eq!(read(&folder, "monitor", "a"), Some(75));
        assert_eq!(read(&folder, "monitor", "b"), None);
        assert_eq!(read(&folder, "dexter", "a"), None);
        write(&folder, "monitor", "b", 0).unwrap();
        assert_eq!(read(&folder, "monitor", "a"), None);
        std::fs::write(file(&folder, "monitor"), "b none").unwrap();
        assert_eq!(read(&folder, "monitor", "b"), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
