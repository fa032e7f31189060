//! Inputs kept in the repository: `corpus/<target>` found by fuzzing and minimised, `regressions/<target>` broke something
//! once.

use std::path::{Path, PathBuf};

use crate::targets::Target;

/// Folders of kept inputs.
pub const FOLDERS: [&str; 2] = ["corpus", "regressions"];

/// Where the kept inputs of a target lie.
#[must_use]
pub fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target)
}

/// All inputs of a target, with a name for each: seeds, corpus, regressions.
///
/// # Errors
/// A kept file can't be read.
pub fn inputs(target: &Target) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut all: Vec<_> =
        (target.seeds)().into_iter().enumerate().map(|(at, seed)| (format!("seed {at}"), seed)).collect();
    for kind in FOLDERS {
        all.extend(files(&folder(kind, target.name))?);
    }
    Ok(all)
}

/// The files of a folder with their paths, in order; a folder that is not there is empty.
///
/// # Errors
/// A file can't be read.
pub fn files(folder: &Path) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    paths.into_iter().map(|path| Ok((path.display().to_string(), std::fs::read(&path)?))).collect()
}

/// Words of the seeds, for the fuzzer to put in: names of fields, words of enums, numbers.
#[must_use]
pub fn words(target: &Target) -> Vec<String> {
    let mut words = std::collections::BTreeSet::new();
    for seed in (target.seeds)() {
        for word in String::from_utf8_lossy(&seed).split(|c: char| !(c.is_ascii_alphanumeric() || "_.-@".contains(c))) {
            if (2..=32).contains(&word.len()) {
                words.insert(word.to_owned());
            }
        }
    }
    words.into_iter().collect()
}
