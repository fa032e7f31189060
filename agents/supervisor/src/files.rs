//! Protected files are looked at every two seconds, and read when they moved and once an hour. One that is not what a person
//! declared is kill level 1 for as long as it stays so: a person hears of it, and what it was and is stands in the
//! governance chain. So does who asked for a change, and that somebody wrote.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::message::{Alert, Message, Payload, Severity};
use domain::person::{Act, SignedAct};
use domain::subject::{Route, Subject};
use domain::time::UnixMs;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use runtime::evidence::Panel;
use runtime::seal::{self, Approval, Class, Declared, Grounds, Looker, Mismatch, ProtectedFile};
use runtime::{HandleError, Means, Work};
use serde_json::{Value, json};
use store::Unit;
use tokio::time::Instant;

use crate::answer::Refused;
use crate::services::{Answer, nobody};
use crate::{NAME, Shared, gateway, halt};

/// How often the files are looked at.
const EVERY: Duration = runtime::USUALLY;
/// How often all of them are read, whatever the kernel says of them.
const READ_EVERY: Duration = Duration::from_secs(3_600);
/// Rows about writes within [`TOUCHES_WITHIN_MS`]; what is left out is counted in the next one.
const MOST_TOUCHES: usize = 20;
const TOUCHES_WITHIN_MS: i64 = 3_600_000;

/// What is known of the protected files.
#[derive(Debug, Default)]
pub struct Known(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    declared: Option<Declared>,
    files: BTreeMap<String, ProtectedFile>,
    found: BTreeMap<String, Option<domain::canonical::Sha256Digest>>,
    mismatches: BTreeSet<Mismatch>,
}

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks until shutdown; without `grounds` there is nothing to look at.
///
/// # Errors
/// [`HandleError::Fatal`]; a file that changed is none.
pub async fn run(grounds: Option<Grounds>, shared: Arc<Shared>, work: Work) -> Result<(), HandleError> {
    let Some(grounds) = grounds else {
        work.shutdown.cancelled().await;
        return Ok(());
    };
    let mut guard = Guard::new(grounds);
    let mut ticks = runtime::grid(EVERY);
    loop {
        tokio::select! {
            () = work.shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        match guard.look(&shared, &work).await {
            Ok(()) => {}
            Err(HandleError::Fatal(text)) => return Err(HandleError::Fatal(text)),
            Err(error) => tracing::warn!(%error, "protected files are looked at again"),
        }
    }
}

struct Guard {
    grounds: Grounds,
    looker: Looker,
    read_at: Instant,
    touches: Option<Touches>,
    budget: Budget,
    /// What people were told of.
    told: BTreeSet<Mismatch>,
}

impl Guard {
    fn new(grounds: Grounds) -> Self {
        let touches = Touches::open(&grounds)
            .inspect_err(|error| tracing::warn!(%error, "who writes protected files is not noted, only what changed"));
        Self {
            looker: Looker::default(),
            read_at: Instant::now(),
            touches: touches.ok(),
            budget: Budget::default(),
            told: BTreeSet::new(),
            grounds,
        }
    }

    /// One look: what is there is compared with what was declared, and what differs is acted on.
    async fn look(&mut self, shared: &Shared, work: &Work) -> Result<(), HandleError> {
        if self.read_at.elapsed() >= READ_EVERY {
            self.looker.forget();
            self.read_at = Instant::now();
        }
        let (grounds, mut looker) = (self.grounds.clone(), std::mem::take(&mut self.looker));
        let looked = tokio::task::spawn_blocking(move || {
            let files = grounds.files();
            let found = looker.look(&files);
            (looker, files, found)
        });
        let (looker, files, found) = looked.await.map_err(|error| HandleError::Retry(error.to_string()))?;
        self.looker = looker;
        let touched = self.touches.as_mut().map(|touches| touches.read(&files)).unwrap_or_default();
        let declared = shared.files.state().declared.clone();
        let mut unit = match work.begin(nobody()).await {
            Ok(unit) => unit,
            Err(error) => {
                // Without the record nobody knows who may decide; what files must be was known before.
                let differs = declared.is_some_and(|known| {
                    !seal::mismatches(&known, &files, &found, &known.approvers, work.now()).is_empty()
                });
                if differs && *shared.level.borrow() == 0 {
                    let reason = "a protected file is not what a person declared".to_owned();
                    halt::raise(shared, work, &halt::own_wish(1, reason)).await;
                }
                return Err(error);
            }
        };
        let declared = match declared {
            Some(declared) => declared,
            None => match Declared::read(&mut unit).await? {
                Some(declared) => declared,
                None => return Err(HandleError::Retry("nobody declared the protected files".to_owned())),
            },
        };
        let (now, approvers) = (unit.now().await?, Panel::read(&mut unit).await?.version().to_owned());
        let mismatches = seal::mismatches(&declared, &files, &found, &approvers, now);
        {
            let mut state = shared.files.state();
            // What was approved meanwhile stays.
            state.declared.get_or_insert(declared);
            (state.files, state.found) = (files.clone(), found);
            state.mismatches.clone_from(&mismatches);
        }
        self.act(unit, mismatches, &touched, &files, now, shared, work).await
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one look")]
    async fn act(
        &mut self,
        mut unit: Unit,
        mismatches: BTreeSet<Mismatch>,
        touched: &BTreeMap<String, BTreeSet<&'static str>>,
        files: &BTreeMap<String, ProtectedFile>,
        now: UnixMs,
        shared: &Shared,
        work: &Work,
    ) -> Result<(), HandleError> {
        let (mut out, mut has_rows) = (Vec::new(), false);
        // In force before anything is written down; and before this transaction has a row, which the record of it waits for.
        if !mismatches.is_empty() && *shared.level.borrow() == 0 {
            halt::raise(shared, work, &halt::own_wish(1, reason(&mismatches))).await;
        }
        for (name, how) in touched {
            let Some(left_out) = self.budget.admit(now) else { continue };
            let class = files.get(name).map(|file| file.class.word());
            let body = json!({ "file": name, "class": class, "how": how, "left_out": left_out });
            store::audit::append_governance(&mut unit, "protected_file_touched", NAME, &body, now).await?;
            has_rows = true;
        }
        for mismatch in mismatches.difference(&self.told) {
            tracing::error!(
                file = mismatch.file,
                class = mismatch.class.word(),
                "a protected file is not what was declared"
            );
            let body = body_of(mismatch, files);
            store::audit::append_governance(&mut unit, "protected_file_changed", NAME, &body, now).await?;
            out.push(alert(mismatch, now));
        }
        for mismatch in self.told.difference(&mismatches) {
            let body = body_of(mismatch, files);
            store::audit::append_governance(&mut unit, "protected_file_restored", NAME, &body, now).await?;
            has_rows = true;
        }
        metrics::gauge!("swarm_protected_files_changed").set(u32::try_from(mismatches.len()).unwrap_or(u32::MAX));
        if has_rows || !out.is_empty() {
            work.commit(unit, &work.root_header(nobody()), out).await?;
        } else {
            unit.rollback().await?;
        }
        self.told = mismatches;
        Ok(())
    }
}

fn body_of(mismatch: &Mismatch, files: &BTreeMap<String, ProtectedFile>) -> Value {
    json!({
        "file": mismatch.file,
        "path": files.get(&mismatch.file).map(|file| file.path.display().to_string()),
        "class": mismatch.class,
        "declared": mismatch.declared,
        "found": mismatch.found,
    })
}

/// Why the level is up, for people.
fn reason(mismatches: &BTreeSet<Mismatch>) -> String {
    let named: Vec<&str> = mismatches.iter().map(|mismatch| mismatch.file.as_str()).collect();
    domain::message::clean_text(&format!("not what a person declared: {}", named.join(", ")))
}

fn alert(mismatch: &Mismatch, now: UnixMs) -> Message {
    let what_to_do = match mismatch.class {
        Class::Untouchable => "put it back, or look and start the swarm again, then `swarm resume`".to_owned(),
        Class::Protected => {
            format!("put it back, or `swarm files approve {} --reason ..`, then `swarm resume`", mismatch.file)
        }
    };
    let text = format!("{} is not what a person declared; no new risk is taken: {what_to_do}", mismatch.file);
    let alert = Alert {
        name: "protected_file_changed".to_owned(),
        severity: Severity::Critical,
        text: domain::message::clean_text(&text),
    };
    let key = format!("protected_file_changed:{}:{}", mismatch.file, now.0);
    Message::fact(Subject::fact(Route::Alert), nobody(), key, Payload::Alert(alert))
}

/// The protected files for people.
pub fn status(shared: &Shared) -> Value {
    let state = shared.files.state();
    let names: BTreeSet<&String> =
        state.files.keys().chain(state.declared.iter().flat_map(|d| d.files.keys())).collect();
    let rows: Vec<Value> = names
        .into_iter()
        .map(|name| {
            let file = state.files.get(name);
            let declared = state.declared.as_ref().and_then(|declared| declared.files.get(name));
            let is_wrong = state.mismatches.iter().any(|mismatch| &mismatch.file == name);
            json!({
                "file": name,
                "class": file.map(|file| file.class).or_else(|| declared.map(|declared| declared.class)),
                "path": file.map(|file| file.path.display().to_string()),
                "declared": declared.map(|declared| declared.digest),
                "found": state.found.get(name).copied().flatten(),
                "as_declared": !is_wrong,
            })
        })
        .collect();
    let approvers = !state.mismatches.iter().any(|mismatch| mismatch.file == seal::APPROVERS);
    json!({ "files": rows, "approvers_as_declared": approvers, "is_declared": state.declared.is_some() })
}

/// A person's signed yes to another content of a file. Whatever comes of it, it stands in the governance chain.
pub async fn approve(shared: &Shared, work: &impl Means, payload: &[u8]) -> Answer {
    let Ok(signed) = serde_json::from_slice::<SignedAct>(payload) else {
        let refused = Refused::new("NOT_SIGNED", "send a signed act as JSON: use `swarm files approve`");
        return refuse(work, None, None, refused).await;
    };
    let person = domain::message::clean_text(&signed.act.person_id);
    let Act::ApproveFile { file, from, to } = signed.act.what.clone() else {
        return refuse(work, Some(&person), None, Refused::new("WRONG_ACT", "this act approves no file")).await;
    };
    let approval = Approval { file, from, to };
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    let judged = match gateway::authenticate(&mut unit, &signed, now).await? {
        Ok(()) => judge(&shared.files.state(), &approval, &signed.act.reason),
        Err(refused) => Err(refused),
    };
    if let Err(refused) = judged {
        unit.rollback().await?;
        return refuse(work, Some(&person), Some(&approval.file), refused).await;
    }
    let body = json!({
        "file": approval.file, "from": approval.from, "to": approval.to, "by": person, "reason": signed.act.reason,
        "act": serde_json::to_value(&signed).map_err(|error| HandleError::Fatal(error.to_string()))?,
    });
    store::audit::append_governance(&mut unit, seal::APPROVED, NAME, &body, now).await?;
    work.commit(unit, nobody(), Vec::new()).await?;
    if let Some(declared) = &mut shared.files.state().declared {
        declared.approve(&approval, now);
    }
    Ok(Ok(json!({ "file": approval.file, "from": approval.from, "to": approval.to, "by": person })))
}

/// Whether a file may become what a person wants.
fn judge(state: &State, approval: &Approval, reason: &str) -> Result<(), Refused> {
    let Some(declared) = &state.declared else {
        return Err(Refused::new("NOT_READY", "the files were not looked at yet; try again in some seconds"));
    };
    let known = declared.files.get(&approval.file);
    let class = state.files.get(&approval.file).map(|file| file.class).or_else(|| known.map(|known| known.class));
    match class {
        None => Err(Refused::new("UNKNOWN_FILE", "no protected file of that name; `swarm files status` lists them")),
        Some(Class::Untouchable) => {
            let why = "nobody changes it while the swarm runs: stop the swarm, change it, start it again";
            Err(Refused::new("UNTOUCHABLE", why))
        }
        Some(Class::Protected) if reason.trim().len() < 3 => {
            Err(Refused::new("REASON_MISSING", "say why it may change (--reason)"))
        }
        Some(Class::Protected) if known.map(|known| known.digest) != approval.from => {
            Err(Refused::new("STALE_DIGEST", "another content was declared since this was signed; look again"))
        }
        Some(Class::Protected) => Ok(()),
    }
}

/// A no to a change; that it can't be written down changes nothing about it.
async fn refuse(work: &impl Means, person: Option<&str>, file: Option<&str>, refused: Refused) -> Answer {
    metrics::counter!("swarm_file_changes_refused_total", "code" => refused.code).increment(1);
    let written = async {
        let mut unit = work.begin(nobody()).await?;
        let now = unit.now().await?;
        let file = file.map(domain::message::clean_text);
        let body = json!({ "file": file, "person_id": person, "code": refused.code });
        store::audit::append_governance(&mut unit, "file_change_refused", NAME, &body, now).await?;
        work.commit(unit, nobody(), Vec::new()).await
    };
    if let Err(error) = written.await {
        tracing::error!(%error, code = refused.code, "a refused change is not in the governance chain");
    }
    Ok(Err(refused))
}

/// How many rows about writes there may be: a program that writes all day must not fill the chain.
#[derive(Debug, Default)]
struct Budget {
    told: Vec<UnixMs>,
    left_out: u64,
}

impl Budget {
    /// `Some` when there may be one more row, with how many were left out before it.
    fn admit(&mut self, now: UnixMs) -> Option<u64> {
        self.told.retain(|at| now.since_ms(*at) < TOUCHES_WITHIN_MS);
        if self.told.len() >= MOST_TOUCHES {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.told.push(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Hears of writes in the folders of protected files. Reads happen all the time and say nothing; who wrote the kernel does
/// not tell.
struct Touches {
    inotify: Inotify,
    folders: HashMap<WatchDescriptor, PathBuf>,
}

impl Touches {
    fn open(grounds: &Grounds) -> nix::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let writes = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO;
        let files = grounds.files();
        let parents = files.values().filter_map(|file| file.path.parent().map(Path::to_owned));
        let folders: BTreeSet<PathBuf> = parents.chain([grounds.config_dir.clone()]).collect();
        let watched = folders.into_iter().map(|folder| Ok((inotify.add_watch(&folder, writes)?, folder)));
        let folders = watched.collect::<nix::Result<HashMap<_, _>>>()?;
        Ok(Self { inotify, folders })
    }

    /// What was done to which of `files` since the last time.
    fn read(&mut self, files: &BTreeMap<String, ProtectedFile>) -> BTreeMap<String, BTreeSet<&'static str>> {
        let names: HashMap<&Path, &String> = files.iter().map(|(name, file)| (file.path.as_path(), name)).collect();
        let mut touched: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
        // Nothing more to read is an error by the kernel's word.
        while let Ok(events) = self.inotify.read_events() {
            for event in events {
                let folder = self.folders.get(&event.wd);
                let path = folder.zip(event.name.as_ref()).map(|(folder, name)| folder.join(name));
                if let Some(name) = path.and_then(|path| names.get(path.as_path()).copied()) {
                    touched.entry(name.clone()).or_default().extend(words(event.mask));
                }
            }
        }
        touched
    }
}

fn words(mask: AddWatchFlags) -> impl Iterator<Item = &'static str> {
    let all = [
        (AddWatchFlags::IN_MODIFY, "written"),
        (AddWatchFlags::IN_CLOSE_WRITE, "opened to be written"),
        (AddWatchFlags::IN_ATTRIB, "modes, times or links"),
        (AddWatchFlags::IN_CREATE, "made"),
        (AddWatchFlags::IN_DELETE, "removed"),
        (AddWatchFlags::IN_MOVED_FROM, "moved away"),
        (AddWatchFlags::IN_MOVED_TO, "moved in place"),
    ];
    all.into_iter().filter(move |(flag, _)| mask.contains(*flag)).map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::canonical::Sha256Digest;
    use runtime::seal::DeclaredFile;

    fn state() -> State {
        let of = |class, byte| DeclaredFile { class, digest: Sha256Digest([byte; 32]), before: None };
        let files = BTreeMap::from([
            ("limits.toml".to_owned(), of(Class::Untouchable, 1)),
            ("review.toml".to_owned(), of(Class::Protected, 2)),
        ]);
        let new = ProtectedFile { path: "/c/new.toml".into(), class: Class::Protected };
        State {
            declared: Some(Declared { files, approvers: String::new() }),
            files: BTreeMap::from([("new.toml".to_owned(), new)]),
            ..State::default()
        }
    }

    #[test]
    fn only_a_protected_file_changes_from_what_was_declared_and_with_a_reason() {
        let approval = |file: &str, from: Option<u8>| Approval {
            file: file.to_owned(),
            from: from.map(|byte| Sha256Digest([byte; 32])),
            to: Sha256Digest([9; 32]),
        };
        let code =
            |state: &State, approval: &Approval, reason: &str| judge(state, approval, reason).err().map(|no| no.code);
        for (file, from, reason, want) in [
            ("review.toml", Some(2), "tighter", None),
            ("new.toml", None, "first of its kind", None),
            ("new.toml", Some(1), "tighter", Some("STALE_DIGEST")),
            ("review.toml", Some(3), "tighter", Some("STALE_DIGEST")),
            ("review.toml", None, "tighter", Some("STALE_DIGEST")),
            ("review.toml", Some(2), " ", Some("REASON_MISSING")),
            ("limits.toml", Some(1), "looser", Some("UNTOUCHABLE")),
            ("../limits.toml", Some(1), "looser", Some("UNKNOWN_FILE")),
            ("", None, "looser", Some("UNKNOWN_FILE")),
        ] {
            assert_eq!(code(&state(), &approval(file, from), reason), want, "{file} {from:?} {reason:?}");
        }
        assert_eq!(code(&State::default(), &approval("review.toml", Some(2)), "tighter"), Some("NOT_READY"));
    }

    #[test]
    fn after_twenty_rows_within_an_hour_writes_are_only_counted() {
        let mut budget = Budget::default();
        let now = UnixMs(1_800_000_000_000);
        for _ in 0..MOST_TOUCHES {
            assert_eq!(budget.admit(now), Some(0));
        }
        assert_eq!((budget.admit(now), budget.admit(now.plus_ms(TOUCHES_WITHIN_MS - 1))), (None, None));
        assert_eq!(budget.admit(now.plus_ms(TOUCHES_WITHIN_MS)), Some(2));
        assert_eq!(budget.admit(now.plus_ms(TOUCHES_WITHIN_MS)), Some(0));
    }

    #[test]
    fn writes_to_protected_files_are_heard_and_reads_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        for name in ["limits.toml", "people.toml", "review.toml"] {
            std::fs::write(file(name), "x").unwrap();
        }
        let grounds = Grounds { config_dir: folder.path().to_owned(), untouchable: BTreeMap::new() };
        let mut touches = Touches::open(&grounds).unwrap();
        std::fs::read(file("limits.toml")).unwrap();
        assert_eq!(touches.read(&grounds.files()), BTreeMap::new());
        drop(std::fs::OpenOptions::new().append(true).open(file("limits.toml")).unwrap());
        std::fs::write(file("scratch.swp"), "x").unwrap();
        std::fs::rename(file("scratch.swp"), file("review.toml")).unwrap();
        let heard = touches.read(&grounds.files());
        assert_eq!(heard.keys().collect::<Vec<_>>(), ["limits.toml", "review.toml"]);
        assert_eq!(heard["limits.toml"], BTreeSet::from(["opened to be written"]));
        assert_eq!(heard["review.toml"], BTreeSet::from(["moved in place"]));
    }
}
