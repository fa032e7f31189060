//! The copy of the repository that is mutated. It is kept from run to run, so that only what changed is built again, and
//! nobody's working tree ever holds a mutant.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes `copy` hold exactly the files that git knows or would add in `root`. Files that are equal keep their time.
///
/// # Errors
/// When git does not answer or a file can't be copied.
pub fn mirror(root: &Path, copy: &Path) -> io::Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()?;
    if !listed.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&listed.stderr).trim().to_owned()));
    }
    let names = String::from_utf8_lossy(&listed.stdout);
    let wanted: BTreeSet<PathBuf> = names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .filter(|p| root.join(p).is_file())
        .collect();
    for path in &wanted {
        let text = std::fs::read(root.join(path))?;
        let to = copy.join(path);
        if std::fs::read(&to).ok().as_ref() == Some(&text) {
            continue;
        }
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&to, text)?;
    }
    remove_others(copy, copy, &wanted)
}

fn remove_others(folder: &Path, copy: &Path, wanted: &BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            remove_others(&path, copy, wanted)?;
        } else if path.strip_prefix(copy).is_ok_and(|relative| !wanted.contains(relative)) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_what_git_knows_and_heals_what_a_broken_run_left() {
        let (root, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let git = |args: &[&str]| {
            assert!(Command::new("git").args(args).current_dir(root.path()).status().unwrap().success())
        };
        git(&["init", "-q"]);
        std::fs::create_dir(root.path().join("src")).unwrap();
        std::fs::write(root.path().join(".gitignore"), "/target\n").unwrap();
        std::fs::write(root.path().join("src/lib.rs"), "a > b").unwrap();
        std::fs::write(root.path().join("target"), "left out").unwrap();
        mirror(root.path(), copy.path()).unwrap();
        let lib = copy.path().join("src/lib.rs");
        let made = std::fs::metadata(&lib).unwrap().modified().unwrap();
        assert!(!copy.path().join("target").exists());
        std::fs::write(copy.path().join("src/stray.rs"), "").unwrap();
        mirror(root.path(), copy.path()).unwrap();
        assert!(!copy.path().join("src/stray.rs").exists());
        assert_eq!(std::fs::metadata(&lib).unwrap().modified().unwrap(), made, "an equal file is not touched");
        std::fs::write(&lib, "a >= b").unwrap();
        mirror(root.path(), copy.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&lib).unwrap(), "a > b");
    }
}
