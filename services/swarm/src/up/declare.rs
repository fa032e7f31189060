//! A person who starts the swarm declares what lies there: limits, people, program, keys, configuration, and who may
//! decide. What is not what it was at the start before is told, and stands in the governance chain.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runtime::evidence::Panel;
use runtime::seal::{self, Declared, Grounds, Looker, Seal, SealedFile};
use store::Db;

use super::UpError;

/// Name in the governance chain.
const DECLARER: &str = "swarm up";

/// Files outside the configuration folder, by the names that people are told: what runs, and what permits and anchors are
/// verified with.
pub(super) fn untouchable(
    programs: impl Iterator<Item = (String, PathBuf)>,
    plan: PathBuf,
    people: &Path,
    keys: [&Path; 2],
) -> Result<BTreeMap<String, PathBuf>, UpError> {
    let own = own_program()?;
    let [permit, anchor] = keys.map(Path::to_owned);
    let known = [("program", own), ("plan.json", plan), ("permit.pub", permit), ("anchor.pub", anchor)];
    let people = people.canonicalize().map_err(|error| UpError::file(people, error))?;
    let known = known.into_iter().chain([("people.toml", people)]).map(|(name, path)| (name.to_owned(), path));
    Ok(known.chain(programs.map(|(name, path)| (format!("bin/{name}"), path))).collect())
}

fn own_program() -> Result<PathBuf, UpError> {
    std::env::current_exe().map_err(|error| UpError::file(Path::new("swarm"), error))
}

/// What treasury compares before each permit.
pub(super) async fn seal(admin: &str, config_dir: &Path) -> Result<Seal, UpError> {
    let sealed = [config_dir.join("limits.toml"), own_program()?];
    let sealed =
        sealed.into_iter().map(|path| SealedFile::of(path.clone()).map_err(|error| UpError::file(&path, error)));
    let mut unit = Db::connect(admin, "swarm_up").await?.begin().await?;
    let approvers = Panel::read(&mut unit).await?.version().to_owned();
    unit.rollback().await?;
    Ok(Seal::new(sealed.collect::<Result<_, _>>()?, approvers))
}

/// Writes the declaration; gives the names of what is not what it was at the start before.
pub(super) async fn declare(admin: &str, grounds: &Grounds) -> Result<Vec<String>, UpError> {
    let files = grounds.files();
    let found = Looker::default().look(&files);
    if let Some(missing) = files.iter().find(|(name, _)| found.get(*name).copied().flatten().is_none()) {
        return Err(UpError::file(
            &missing.1.path,
            "can't be read, and must not change while the swarm runs: put it there",
        ));
    }
    let mut unit = Db::connect(admin, "swarm_up").await?.begin().await?;
    let now = unit.now().await?;
    let declared = Declared::of(&files, &found, Panel::read(&mut unit).await?.version());
    let before = Declared::read(&mut unit).await?;
    store::audit::append_governance(&mut unit, seal::DECLARED, DECLARER, &declared.body(before.as_ref()), now).await?;
    unit.commit().await?;
    Ok(before.map(|before| declared.differs_from(&before).into_iter().collect()).unwrap_or_default())
}
