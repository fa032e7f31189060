//! Which files are protected, and what is in them: read again only when the kernel says that they moved.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use domain::canonical::Sha256Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Files of the configuration folder that nobody may change while the swarm runs.
const UNTOUCHABLE: [&str; 2] = ["limits.toml", "people.toml"];
/// Endings of files that are read as configuration, prompts or the like; an editor's scratch has none of them.
const READ_AS_CONFIG: [&str; 3] = ["toml", "md", "txt"];
/// How deep folders of the configuration are looked into.
const DEEPEST: usize = 3;

/// What a change of a file needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// No change while the swarm runs.
    Untouchable,
    /// A person's signature.
    Protected,
}

impl Class {
    /// The word in rows and answers.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Untouchable => "untouchable",
            Self::Protected => "protected",
        }
    }
}

/// Which files are protected: every one in the configuration folder, and some elsewhere that are untouchable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grounds {
    /// The configuration folder.
    pub config_dir: PathBuf,
    /// Files elsewhere, by the names that people are told.
    pub untouchable: BTreeMap<String, PathBuf>,
}

/// A protected file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtectedFile {
    /// Where it is.
    pub path: PathBuf,
    /// What a change needs.
    pub class: Class,
}

impl Grounds {
    /// The protected files that are there now, by name, and those that should be.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, ProtectedFile> {
        let mut files = BTreeMap::new();
        collect(&self.config_dir, "", 1, &mut files);
        for name in UNTOUCHABLE {
            let path = self.config_dir.join(name);
            files.insert(name.to_owned(), ProtectedFile { path, class: Class::Untouchable });
        }
        for (name, path) in &self.untouchable {
            files.insert(name.clone(), ProtectedFile { path: path.clone(), class: Class::Untouchable });
        }
        files
    }
}

fn collect(folder: &Path, prefix: &str, depth: usize, files: &mut BTreeMap<String, ProtectedFile>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, Ok(name)) = (entry.path(), entry.file_name().into_string()) else { continue };
        let is_config = path.extension().is_some_and(|end| READ_AS_CONFIG.iter().any(|read| end == *read));
        let name_for_people = format!("{prefix}{name}");
        if name.starts_with('.') {
            continue;
        } else if path.is_dir() && depth < DEEPEST {
            collect(&path, &format!("{name_for_people}/"), depth + 1, files);
        } else if is_config {
            files.insert(name_for_people, ProtectedFile { path, class: Class::Protected });
        }
    }
}

/// What the kernel says of a file without reading it; another one means that the file must be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stat {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stat {
    /// Asks the kernel, following links.
    ///
    /// # Errors
    /// What the file system says.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// SHA-256 of a file's bytes.
///
/// # Errors
/// What the file system says.
pub fn digest_of(path: &Path) -> std::io::Result<Sha256Digest> {
    let mut file = std::fs::File::open(path)?;
    let (mut hasher, mut bytes) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(Sha256Digest(hasher.finalize().into())),
            read => hasher.update(&bytes[..read]),
        }
    }
}

/// Reads files again only when they moved. One that just moved is read at the next look too: it may change twice within
/// one tick of the kernel's clock.
#[derive(Debug, Default)]
pub struct Looker {
    known: BTreeMap<Stat, (Sha256Digest, bool)>,
}

impl Looker {
    /// Forgets what it knows: everything is read at the next look.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Digests of the files; `None` for one that can't be read.
    pub fn look(&mut self, files: &BTreeMap<String, ProtectedFile>) -> BTreeMap<String, Option<Sha256Digest>> {
        let (mut known, mut found) = (BTreeMap::new(), BTreeMap::new());
        for (name, file) in files {
            let digest = self.digest(&file.path, &mut known);
            found.insert(name.clone(), digest);
        }
        self.known = known;
        found
    }

    fn digest(&self, path: &Path, known: &mut BTreeMap<Stat, (Sha256Digest, bool)>) -> Option<Sha256Digest> {
        let stat = Stat::of(path).ok()?;
        // Many links lead to one program.
        if let Some((digest, _)) = known.get(&stat) {
            return Some(*digest);
        }
        let before = self.known.get(&stat).copied();
        let digest = match before {
            Some((digest, true)) => digest,
            _ => digest_of(path).ok()?,
        };
        if Stat::of(path).is_ok_and(|after| after == stat) {
            known.insert(stat, (digest, before.is_some_and(|(earlier, _)| earlier == digest)));
        }
        Some(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("swarm-seal-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("prompts")).unwrap();
        folder
    }

    #[test]
    fn every_file_of_the_configuration_is_protected_and_an_editors_scratch_is_not() {
        let folder = folder("grounds");
        for name in ["limits.toml", "review.toml", ".review.toml.swp", "review.toml~", "4913", "prompts/a.md", "x.bak"]
        {
            std::fs::write(folder.join(name), "x").unwrap();
        }
        let untouchable = BTreeMap::from([("program".to_owned(), PathBuf::from("/bin/sh"))]);
        let files = Grounds { config_dir: folder.clone(), untouchable }.files();
        let named: Vec<(&str, Class)> = files.iter().map(|(name, file)| (name.as_str(), file.class)).collect();
        let (fixed, signed) = (Class::Untouchable, Class::Protected);
        // people.toml should be there: that it is not must be seen.
        let wanted = [("limits.toml", fixed), ("people.toml", fixed), ("program", fixed), ("prompts/a.md", signed)];
        assert_eq!(named, [&wanted[..], &[("review.toml", signed)]].concat());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_is_read_again_when_it_moved_and_twice_after_that() {
        let folder = folder("looker");
        let path = folder.join("limits.toml");
        let files = BTreeMap::from([("a".to_owned(), ProtectedFile { path: path.clone(), class: Class::Untouchable })]);
        let mut looker = Looker::default();
        assert_eq!(looker.look(&files)["a"], None, "a file that is not there has no digest");
        std::fs::write(&path, "one").unwrap();
        let one = looker.look(&files)["a"].unwrap();
        assert_eq!(one, digest_of(&path).unwrap());
        assert!(looker.known.values().all(|(_, is_sure)| !is_sure), "it just moved");
        looker.look(&files);
        assert!(looker.known.values().all(|(_, is_sure)| *is_sure));
        assert_eq!(looker.look(&files)["a"], Some(one));
        std::fs::write(&path, "two").unwrap();
        assert_ne!(looker.look(&files)["a"], Some(one));
        looker.forget();
        assert!(looker.known.is_empty());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
