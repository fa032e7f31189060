//! Protected files: what they were when a person declared them, and whether they still are. The limits, the people, the
//! program and its keys may not change while a swarm runs; what strategies and models go by changes when a person signed
//! for it.
//!
//! What is declared stands in the governance chain and nowhere else: a row for each start by a person, and one for each
//! change they signed. A file is read again when the kernel says that it moved, and every file once an hour.

mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use domain::canonical::Sha256Digest;
use domain::time::UnixMs;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::audit::{AuditRow, Chain};
use store::{StoreError, Unit};

pub use look::{Class, Grounds, Looker, ProtectedFile, Stat, digest_of};

/// Kind of the governance row that declares everything, at a start by a person.
pub const DECLARED: &str = "files_declared";
/// Kind of the governance row that declares one file anew, as a person signed for.
pub const APPROVED: &str = "file_approved";
/// For how long after an approval a file may still be what it was before, ms: time to put the new one in place.
pub const IN_PLACE_WITHIN_MS: i64 = 600_000;
/// The name under which the set of approvers is told of.
pub const APPROVERS: &str = "approvers";
/// Governance rows read at once when the newest declaration is looked for.
const PAGE: i64 = 200;

/// A file as a person declared it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredFile {
    /// What a change needs.
    pub class: Class,
    /// What it must be.
    pub digest: Sha256Digest,
    /// What it may still be, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<(Sha256Digest, UnixMs)>,
}

/// Everything that a person declared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// Files by name.
    pub files: BTreeMap<String, DeclaredFile>,
    /// Version of the set of approvers.
    pub approvers: String,
}

impl Declared {
    /// What lies there, to be declared; a file that can't be read is not.
    #[must_use]
    pub fn of(
        files: &BTreeMap<String, ProtectedFile>,
        found: &BTreeMap<String, Option<Sha256Digest>>,
        approvers: &str,
    ) -> Self {
        let declared = files.iter().filter_map(|(name, file)| {
            let digest = (*found.get(name)?)?;
            Some((name.clone(), DeclaredFile { class: file.class, digest, before: None }))
        });
        Self { files: declared.collect(), approvers: approvers.to_owned() }
    }

    /// The body of the row that declares it: with the names that are not what they were at the start before.
    #[must_use]
    pub fn body(&self, before: Option<&Self>) -> Value {
        json!({ "files": self.files, "approvers": self.approvers, "changed": before.map(|before| self.differs_from(before)) })
    }

    /// Names that are something else in `before`, or only in one of the two.
    #[must_use]
    pub fn differs_from(&self, before: &Self) -> BTreeSet<String> {
        let digest = |of: &Self, name: &String| of.files.get(name).map(|file| file.digest);
        let names = self.files.keys().chain(before.files.keys());
        let mut differing: BTreeSet<String> =
            names.filter(|name| digest(self, name) != digest(before, name)).cloned().collect();
        if self.approvers != before.approvers {
            differing.insert(APPROVERS.to_owned());
        }
        differing
    }

    /// What holds after `rows` of the governance chain, oldest first; `None` when they declare nothing.
    #[must_use]
    pub fn after(rows: &[AuditRow]) -> Option<Self> {
        let mut declared: Option<Self> = None;
        for row in rows {
            match (row.kind.as_str(), &mut declared) {
                (DECLARED, _) => declared = serde_json::from_value(row.body.clone()).ok(),
                (APPROVED, Some(declared)) => {
                    if let Ok(approval) = serde_json::from_value::<Approval>(row.body.clone()) {
                        declared.approve(&approval, row.at);
                    }
                }
                _ => {}
            }
        }
        declared
    }

    /// Declares one file anew.
    pub fn approve(&mut self, approval: &Approval, at: UnixMs) {
        let before = approval.from.map(|digest| (digest, at.plus_ms(IN_PLACE_WITHIN_MS)));
        let file = DeclaredFile { class: Class::Protected, digest: approval.to, before };
        self.files.insert(approval.file.clone(), file);
    }

    /// The newest declaration in the record; `None` when nobody declared anything.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(unit: &mut Unit) -> Result<Option<Self>, StoreError> {
        // The governance head comes with every answer, and no other is asked for.
        let heads = store::audit::moved_heads(unit, i64::MAX).await?.heads;
        let newest = heads.iter().find(|named| named.chain == Chain::Governance).map_or(0, |named| named.head.seq);
        let (mut rows, mut upto) = (Vec::new(), newest);
        while upto > 0 {
            let page = PAGE.min(upto);
            let mut earlier = store::audit::rows_after(unit, Chain::Governance, upto - page, page).await?;
            earlier.retain(|row| [DECLARED, APPROVED].contains(&row.kind.as_str()));
            let is_found = earlier.iter().any(|row| row.kind == DECLARED);
            earlier.extend(rows);
            rows = earlier;
            if is_found {
                break;
            }
            upto -= page;
        }
        Ok(Self::after(&rows))
    }
}

/// A person's yes to another content of a file; the body of its governance row has who and why besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Its name.
    pub file: String,
    /// What was declared; nothing for a new file.
    pub from: Option<Sha256Digest>,
    /// What is from now on.
    pub to: Sha256Digest,
}

/// A protected file that is not what was declared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mismatch {
    /// Its name.
    pub file: String,
    /// What a change would have needed.
    pub class: Class,
    /// What was declared; nothing for a file nobody declared.
    pub declared: Option<String>,
    /// What is there; nothing when it can't be read.
    pub found: Option<String>,
}

/// What is not as declared at `now`.
#[must_use]
pub fn mismatches(
    declared: &Declared,
    files: &BTreeMap<String, ProtectedFile>,
    found: &BTreeMap<String, Option<Sha256Digest>>,
    approvers: &str,
    now: UnixMs,
) -> BTreeSet<Mismatch> {
    let names: BTreeSet<&String> = declared.files.keys().chain(files.keys()).collect();
    let mut all: BTreeSet<Mismatch> = names
        .into_iter()
        .filter_map(|name| {
            let (known, there) = (declared.files.get(name), found.get(name).copied().flatten());
            let class = known.map(|known| known.class).or_else(|| files.get(name).map(|file| file.class))?;
            let is_known = match (known, there) {
                (None, None) => true,
                (Some(known), Some(there)) => {
                    known.digest == there || known.before.is_some_and(|(digest, until)| digest == there && now <= until)
                }
                _ => false,
            };
            let text = |digest: Sha256Digest| digest.to_string();
            (!is_known).then(|| Mismatch {
                file: name.clone(),
                class,
                declared: known.map(|known| text(known.digest)),
                found: there.map(text),
            })
        })
        .collect();
    if declared.approvers != approvers {
        all.insert(Mismatch {
            file: APPROVERS.to_owned(),
            class: Class::Untouchable,
            declared: Some(declared.approvers.clone()),
            found: Some(approvers.to_owned()),
        });
    }
    all
}

/// A file that a process itself looks at before it acts, as it was declared when the process was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedFile {
    path: PathBuf,
    digest: Sha256Digest,
    stat: Stat,
}

impl SealedFile {
    /// As it lies there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn of(path: PathBuf) -> std::io::Result<Self> {
        // Asked before it is read: a change meanwhile is then seen as one.
        let stat = Stat::of(&path)?;
        Ok(Self { digest: digest_of(&path)?, stat, path })
    }
}

/// What a process compares before it signs anything: some files, and who may decide.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The files.
    pub files: Vec<SealedFile>,
    /// Version of the set of approvers.
    pub approvers: String,
    /// Stats of files that were read again and were still the same.
    #[serde(skip)]
    looked: Mutex<BTreeMap<PathBuf, Stat>>,
}

impl Seal {
    /// A seal over these.
    #[must_use]
    pub fn new(files: Vec<SealedFile>, approvers: String) -> Self {
        Self { files, approvers, looked: Mutex::default() }
    }

    /// Whether all is as it was declared, given the set of approvers as the record has it now. Costs a question to the
    /// kernel a file; one that moved is read.
    #[must_use]
    pub fn holds(&self, approvers: &str) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |file: &SealedFile, looked: &mut BTreeMap<PathBuf, Stat>| {
            let Ok(stat) = Stat::of(&file.path) else { return false };
            if looked.get(&file.path).unwrap_or(&file.stat) == &stat {
                return true;
            }
            let is_same = digest_of(&file.path).is_ok_and(|digest| digest == file.digest);
            if is_same {
                looked.insert(file.path.clone(), stat);
            }
            is_same
        };
        self.approvers == approvers && self.files.iter().all(|file| is_same(file, &mut looked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    fn digest(byte: u8) -> Sha256Digest {
        Sha256Digest([byte; 32])
    }

    fn file(class: Class) -> ProtectedFile {
        ProtectedFile { path: PathBuf::from("/x"), class }
    }

    fn declared() -> Declared {
        let of = |class, byte| DeclaredFile { class, digest: digest(byte), before: None };
        Declared {
            files: BTreeMap::from([
                ("limits.toml".to_owned(), of(Class::Untouchable, 1)),
                ("review.toml".to_owned(), of(Class::Protected, 2)),
            ]),
            approvers: "a".to_owned(),
        }
    }

    /// Names that are not as declared when these digests are found.
    fn wrong(declared: &Declared, found: &[(&str, Option<u8>)], approvers: &str, now: UnixMs) -> Vec<(String, Class)> {
        let files = found.iter().map(|(name, _)| {
            let class = if *name == "limits.toml" { Class::Untouchable } else { Class::Protected };
            ((*name).to_owned(), file(class))
        });
        let digests = found.iter().map(|(name, byte)| ((*name).to_owned(), byte.map(digest)));
        let all = mismatches(declared, &files.collect(), &digests.collect(), approvers, now);
        all.into_iter().map(|mismatch| (mismatch.file, mismatch.class)).collect()
    }

    #[test]
    fn whatever_is_not_as_declared_is_named_with_its_class() {
        let both = [("limits.toml", Some(1)), ("review.toml", Some(2))];
        assert_eq!(wrong(&declared(), &both, "a", NOW), []);
        let limits = ("limits.toml".to_owned(), Class::Untouchable);
        let review = ("review.toml".to_owned(), Class::Protected);
        for (found, approvers, want) in [
            (vec![("limits.toml", Some(9)), both[1]], "a", vec![limits.clone()]),
            (vec![("limits.toml", None), both[1]], "a", vec![limits.clone()]),
            (vec![both[1]], "a", vec![limits.clone()]),
            (vec![both[0], ("review.toml", Some(9))], "a", vec![review.clone()]),
            (vec![both[0], both[1], ("new.toml", Some(3))], "a", vec![("new.toml".to_owned(), Class::Protected)]),
            (both.to_vec(), "b", vec![(APPROVERS.to_owned(), Class::Untouchable)]),
            (vec![], "a", vec![limits.clone(), review.clone()]),
        ] {
            assert_eq!(wrong(&declared(), &found, approvers, NOW), want, "{found:?}");
        }
    }

    #[test]
    fn after_an_approval_a_file_is_the_new_one_or_for_ten_minutes_the_old() {
        let mut declared = declared();
        let approval = Approval { file: "review.toml".to_owned(), from: Some(digest(2)), to: digest(7) };
        declared.approve(&approval, NOW);
        let found = |byte| [("limits.toml", Some(1)), ("review.toml", Some(byte))];
        let late = NOW.plus_ms(IN_PLACE_WITHIN_MS + 1);
        assert_eq!(wrong(&declared, &found(7), "a", late), []);
        assert_eq!(wrong(&declared, &found(2), "a", NOW.plus_ms(IN_PLACE_WITHIN_MS)), []);
        assert_eq!(wrong(&declared, &found(2), "a", late).len(), 1);
        assert_eq!(wrong(&declared, &found(3), "a", NOW).len(), 1);
    }

    #[test]
    fn what_is_declared_follows_from_the_rows_of_the_chain() {
        let row = |seq, kind: &str, body| AuditRow {
            seq,
            at: NOW,
            kind: kind.to_owned(),
            agent: "x".to_owned(),
            body,
            prev_hash: Sha256Digest::ZERO,
            hash: Sha256Digest::ZERO,
        };
        let approval =
            json!({ "file": "review.toml", "from": digest(2), "to": digest(7), "by": "anna", "reason": "r" });
        let (start, approved) = (row(1, DECLARED, declared().body(None)), row(2, APPROVED, approval));
        assert_eq!(Declared::after(&[]), None);
        assert_eq!(Declared::after(std::slice::from_ref(&approved)), None, "an approval alone declares nothing");
        assert_eq!(Declared::after(&[row(0, "kill_raised", json!({})), start.clone()]), Some(declared()));
        let after = Declared::after(&[start.clone(), approved.clone()]).unwrap();
        assert_eq!(after.files["review.toml"].digest, digest(7));
        assert_eq!(Declared::after(&[start.clone(), approved, start]), Some(declared()), "a start declares all anew");
        assert_eq!(after.differs_from(&declared()), BTreeSet::from(["review.toml".to_owned()]));
        let others = Declared { approvers: "b".to_owned(), files: BTreeMap::new() };
        assert_eq!(others.differs_from(&declared()).len(), 3);
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("swarm-seal-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_seal_holds_while_content_and_approvers_stay() {
        let folder = folder("seal");
        let path = folder.join("limits.toml");
        std::fs::write(&path, "position_usd = 1").unwrap();
        let seal = Seal::new(vec![SealedFile::of(path.clone()).unwrap()], "a".to_owned());
        let read: Seal = serde_json::from_str(&serde_json::to_string(&seal).unwrap()).unwrap();
        assert!(read.holds("a") && !read.holds("b"));
        std::fs::write(&path, "position_usd = 9").unwrap();
        assert!(!read.holds("a"));
        std::fs::write(&path, "position_usd = 1").unwrap();
        assert!(read.holds("a"), "put back as it was");
        std::fs::remove_file(&path).unwrap();
        assert!(!read.holds("a"), "gone");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
