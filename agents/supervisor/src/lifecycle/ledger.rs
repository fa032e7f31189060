//! What the record knows of ends and quarantines. Everything about one end is one transaction: the count, the row of the
//! governance chain, and the quarantine when it was one too many.

use domain::ids::BootId;
use domain::person::PersonAct;
use domain::time::UnixMs;
use runtime::{HandleError, Record};
use serde_json::json;
use store::Unit;
use store::supervision::{Declared, Restart, RestartKind};

use super::windows::{self, Breach, End};
use super::{QUARANTINED, RUNNING};
use crate::NAME;
use crate::services::nobody;

/// One start that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) boot_id: BootId,
    pub(super) why: Why,
}

/// Why a start ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) kind: RestartKind,
    pub(super) cause: String,
}

impl Why {
    pub(super) fn new(kind: RestartKind, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into() }
    }

    /// Of how a process ended that nobody asked to. A process that could not reach NATS or the store at its start says so by
    /// its exit code and ends, and so does one that did not hear us for a while.
    pub(super) fn of_exit(how: String) -> Self {
        let is_outage =
            [runtime::EXIT_UNAVAILABLE, runtime::EXIT_ORPHANED].iter().any(|code| how == format!("exit {code}"));
        Self { kind: if is_outage { RestartKind::Outage } else { RestartKind::Crash }, cause: how }
    }
}

/// What the record says after an end was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counted {
    /// All ends that count, this one among them, oldest first.
    pub(super) ends: Vec<End>,
    /// What it was counted as.
    pub(super) kind: RestartKind,
    /// It is quarantined.
    pub(super) breach: Option<Breach>,
}

/// Counts an end, once however often it is told. `alone`: broker and store answered us all along.
///
/// # Errors
/// Store failures: nothing was counted, and it is to be told again.
pub(super) async fn count(
    record: &impl Record,
    agent: &str,
    ended: &Ended,
    alone: bool,
) -> Result<Counted, HandleError> {
    let mut unit = record.begin(nobody()).await?;
    let now = unit.now().await?;
    let mut ends = ends(&mut unit, agent, now).await?;
    let kind = match ended.why.kind {
        RestartKind::Outage => windows::kind_of_outage(&ends, now.0, alone),
        kind => kind,
    };
    let cause = ended.why.cause.clone();
    let restart = Restart { agent: agent.to_owned(), boot_id: ended.boot_id, at: now, kind, cause };
    if store::supervision::insert_restart(&mut unit, &restart).await? {
        metrics::counter!("swarm_restarts_total", "agent" => agent.to_owned(), "kind" => kind.word()).increment(1);
        ends.push((now.0, kind));
        let body = json!({ "agent": agent, "boot_id": ended.boot_id, "kind": kind.word(), "cause": ended.why.cause });
        store::audit::append_governance(&mut unit, "process_ended", NAME, &body, now).await?;
    }
    let breach = windows::breached(&ends, now.0);
    if let Some(breach) = breach {
        declare(&mut unit, agent, QUARANTINED, &breach.to_string(), now).await?;
        let body = json!({ "agent": agent, "reason": breach.to_string(), "last": ended.why.cause });
        store::audit::append_governance(&mut unit, "quarantined", NAME, &body, now).await?;
    }
    record.commit(unit, nobody(), Vec::new()).await?;
    Ok(Counted { ends, kind, breach })
}

/// Ends that count now: within the longest window, and since a person last released it.
async fn ends(unit: &mut Unit, agent: &str, now: UnixMs) -> Result<Vec<End>, HandleError> {
    let declared = store::supervision::declared(unit).await?;
    let since = counted_since(&declared, agent, now);
    let rows = store::supervision::restarts_since(unit, agent, since).await?;
    Ok(rows.iter().map(|row| (row.at.0, row.kind)).collect())
}

/// Ends count within the longest window, and only since a person released the agent: whoever does that has looked, and a
/// quarantine they cleared must not come back with the next end.
fn counted_since(declared: &[Declared], agent: &str, now: UnixMs) -> UnixMs {
    let oldest = now.plus_ms(-windows::LONGEST_MS);
    let released = declared.iter().filter(|row| row.agent == agent && row.state == RUNNING).map(|row| row.at);
    released.fold(oldest, UnixMs::max)
}

/// Whether an agent is quarantined, with the reason, and the ends that count.
///
/// # Errors
/// Store failures.
pub(super) async fn read(record: &impl Record, agent: &str) -> Result<(Option<String>, Vec<End>), HandleError> {
    let mut unit = record.begin(nobody()).await?;
    let now = unit.now().await?;
    let rows = store::supervision::declared(&mut unit).await?;
    let ends = ends(&mut unit, agent, now).await?;
    unit.rollback().await?;
    let quarantined = rows.into_iter().find(|row| row.agent == agent && row.state == QUARANTINED).map(|row| row.reason);
    Ok((quarantined, ends))
}

async fn declare(unit: &mut Unit, agent: &str, state: &str, reason: &str, now: UnixMs) -> Result<(), HandleError> {
    let before = store::supervision::declared(unit).await?.into_iter().find(|row| row.agent == agent);
    let declared = Declared {
        agent: agent.to_owned(),
        state: state.to_owned(),
        config_hash: before.as_ref().map(|row| row.config_hash.clone()).unwrap_or_default(),
        binary_hash: before.map(|row| row.binary_hash).unwrap_or_default(),
        reason: reason.to_owned(),
        at: now,
    };
    Ok(store::supervision::declare(unit, &declared).await?)
}

/// A person's release of a quarantined agent, in a transaction of the caller's: it may run, and its ends count from now.
/// `quarantined` is the reason they were shown.
/// `Err` says in words why not.
///
/// # Errors
/// Store failures.
pub async fn release(
    unit: &mut Unit,
    agent: &str,
    quarantined: &str,
    act: &PersonAct,
    now: UnixMs,
) -> Result<Result<(), String>, HandleError> {
    let (by, reason) = (&act.person_id, &act.reason);
    let rows = store::supervision::declared(unit).await?;
    let Some(row) = rows.iter().find(|row| row.agent == agent && row.state == QUARANTINED) else {
        return Ok(Err(format!("{agent} is not in quarantine")));
    };
    if row.reason != quarantined {
        return Ok(Err(format!("{agent} is in quarantine for another reason than was shown: look again")));
    }
    // The same reason may come again while an act is still good: one that is older than the quarantine is about an earlier one.
    if act.signed_at < row.at {
        return Ok(Err(format!("{agent} went into quarantine after this was signed: look at why, and sign again")));
    }
    declare(unit, agent, RUNNING, &format!("released by {by}: {reason}"), now).await?;
    let body = json!({ "agent": agent, "by": by, "reason": reason, "was": row.reason });
    store::audit::append_governance(unit, "released", NAME, &body, now).await?;
    Ok(Ok(()))
}

/// What the start of a supervisor by a person says: which agents are meant to run, by which program and settings. What
/// is in quarantine stays there, unless that person said that everything is to be released.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// Release everything.
    pub(super) releases: bool,
    /// By agent: digest of what it is told, and of its program.
    pub(super) hashes: std::collections::BTreeMap<String, [String; 2]>,
}

impl Start {
    /// Stores it; gives what was declared otherwise before, as `<agent> <what>`.
    ///
    /// # Errors
    /// Store failures.
    pub(super) async fn store(&self, record: &impl Record) -> Result<Vec<String>, HandleError> {
        let mut unit = record.begin(nobody()).await?;
        let now = unit.now().await?;
        let rows = store::supervision::declared(&mut unit).await?;
        let mut changed = Vec::new();
        for (agent, [config_hash, binary_hash]) in &self.hashes {
            let before = rows.iter().find(|row| row.agent == *agent);
            let is_released = self.releases && before.is_some_and(|row| row.state == QUARANTINED);
            let mut declared = before.cloned().unwrap_or_else(|| Declared {
                agent: agent.clone(),
                state: RUNNING.to_owned(),
                config_hash: String::new(),
                binary_hash: String::new(),
                reason: "a person started the swarm".to_owned(),
                at: now,
            });
            if self.releases {
                RUNNING.clone_into(&mut declared.state);
                "a person started the swarm and released all".clone_into(&mut declared.reason);
                declared.at = now;
            }
            for (what, is, was) in [
                ("settings", config_hash, &mut declared.config_hash),
                ("program", binary_hash, &mut declared.binary_hash),
            ] {
                if is != was {
                    if !was.is_empty() {
                        changed.push(format!("{agent} {what}"));
                    }
                    is.clone_into(was);
                }
            }
            if before != Some(&declared) {
                store::supervision::declare(&mut unit, &declared).await?;
            }
            if is_released {
                let body =
                    json!({ "agent": agent, "by": "start of the swarm", "was": before.map(|row| row.reason.clone()) });
                store::audit::append_governance(&mut unit, "released", NAME, &body, now).await?;
            }
        }
        if !changed.is_empty() {
            let body = json!({ "changed": changed });
            store::audit::append_governance(&mut unit, "declared_anew", NAME, &body, now).await?;
        }
        record.commit(unit, nobody(), Vec::new()).await?;
        Ok(changed)
    }

    /// What is otherwise than declared, as `<agent> <what>`: for a supervisor that was only started again.
    ///
    /// # Errors
    /// Store failures.
    pub(super) async fn differences(&self, record: &impl Record) -> Result<Vec<String>, HandleError> {
        let mut unit = record.begin(nobody()).await?;
        let rows = store::supervision::declared(&mut unit).await?;
        unit.rollback().await?;
        let mut changed = Vec::new();
        for row in rows {
            let Some([config_hash, binary_hash]) = self.hashes.get(&row.agent) else { continue };
            for (what, is, was) in
                [("settings", config_hash, &row.config_hash), ("program", binary_hash, &row.binary_hash)]
            {
                if is != was {
                    changed.push(format!("{} {what}", row.agent));
                }
            }
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use domain::ids::UserId;
    use domain::message::Message;
    use testkit::VirtualClock;

    use super::*;

    struct Door(memory::Store, Arc<VirtualClock>);

    impl Record for Door {
        async fn begin(&self, _: UserId) -> Result<Unit, HandleError> {
            Ok(self.0.begin())
        }

        async fn commit(&self, unit: Unit, _: UserId, _: Vec<Message>) -> Result<(), HandleError> {
            Ok(unit.commit().await?)
        }
    }

    fn door() -> Door {
        let clock = Arc::new(VirtualClock::at(UnixMs(1_800_000_000_000)));
        Door(memory::Store::new(clock.clone()), clock)
    }

    fn ended(n: u128, how: &str) -> Ended {
        Ended { boot_id: BootId(uuid::Uuid::from_u128(n)), why: Why::of_exit(how.to_owned()) }
    }

    /// Rows of the governance chain.
    async fn governance(door: &Door) -> i64 {
        let mut unit = door.begin(nobody()).await.unwrap();
        let heads = store::audit::moved_heads(&mut unit, 0).await.unwrap().heads;
        heads.iter().find(|named| named.chain == store::audit::Chain::Governance).map_or(0, |named| named.head.seq)
    }

    #[tokio::test]
    async fn the_fourth_end_within_a_minute_is_one_too_many_and_stays_that_after_a_restart_of_ours() {
        let door = door();
        for n in 1..=3 {
            let counted = count(&door, "dexter", &ended(n, "exit 0"), true).await.unwrap();
            assert_eq!((counted.ends.len() as u128, counted.breach), (n, None));
        }
        let again = count(&door, "dexter", &ended(3, "exit 0"), true).await.unwrap();
        assert_eq!((again.ends.len(), again.breach), (3, None), "told twice, counted once");
        let fourth = count(&door, "dexter", &ended(4, "exit 0"), true).await.unwrap();
        assert_eq!(fourth.breach.unwrap().to_string(), "4 faults in 60 s");
        let (reason, ends) = read(&door, "dexter").await.unwrap();
        assert_eq!((reason.as_deref(), ends.len()), (Some("4 faults in 60 s"), 4));
        assert_eq!(governance(&door).await, 5, "four ends and a quarantine");
        assert_eq!(read(&door, "monitor").await.unwrap(), (None, Vec::new()));
        let start =
            Start { releases: false, hashes: BTreeMap::from([("dexter".to_owned(), [String::new(), String::new()])]) };
        start.store(&door).await.unwrap();
        assert!(read(&door, "dexter").await.unwrap().0.is_some(), "the start of the swarm releases nobody");
    }

    #[tokio::test]
    async fn who_is_released_begins_to_count_anew() {
        let door = door();
        for n in 1..=4 {
            count(&door, "dexter", &ended(n, "exit 1"), true).await.unwrap();
        }
        door.1.advance_ms(1);
        let release_signed = async |agent: &str, signed_at| {
            let mut unit = door.begin(nobody()).await.unwrap();
            let now = unit.now().await.unwrap();
            let act = PersonAct {
                schema: PersonAct::SCHEMA.to_owned(),
                person_id: "anna".to_owned(),
                what: domain::person::Act::ReleaseAgent {
                    agent: agent.to_owned(),
                    quarantined: "4 faults in 60 s".to_owned(),
                },
                reason: "mended".to_owned(),
                signed_at,
            };
            let released = super::release(&mut unit, agent, "4 faults in 60 s", &act, now).await.unwrap();
            unit.commit().await.unwrap();
            released
        };
        let release = async |agent: &str| release_signed(agent, domain::time::Clock::now(door.1.as_ref())).await;
        assert_eq!(release("monitor").await.unwrap_err(), "monitor is not in quarantine");
        release("dexter").await.unwrap();
        assert_eq!(read(&door, "dexter").await.unwrap(), (None, Vec::new()));
        let counted = count(&door, "dexter", &ended(5, "exit 1"), true).await.unwrap();
        assert_eq!((counted.ends.len(), counted.breach), (1, None));
        assert!(release("dexter").await.is_err());
        let signed_at = domain::time::Clock::now(door.1.as_ref());
        door.1.advance_ms(1);
        for n in 6..=8 {
            count(&door, "dexter", &ended(n, "exit 1"), true).await.unwrap();
        }
        let replayed = release_signed("dexter", signed_at).await.unwrap_err();
        assert!(replayed.contains("after this was signed"), "an act of before, for the same words: {replayed}");
        release("dexter").await.unwrap();
    }

    #[tokio::test]
    async fn a_start_that_releases_says_so_and_what_changed_is_told() {
        let door = door();
        for n in 1..=4 {
            count(&door, "dexter", &ended(n, "exit 1"), true).await.unwrap();
        }
        let hashes = |config: &str, binary: &str| {
            BTreeMap::from([("dexter".to_owned(), [config.to_owned(), binary.to_owned()])])
        };
        let start = |releases, config: &str, binary: &str| Start { releases, hashes: hashes(config, binary) };
        assert_eq!(
            start(false, "a", "b").store(&door).await.unwrap(),
            Vec::<String>::new(),
            "nothing was declared before"
        );
        assert_eq!(start(false, "c", "b").differences(&door).await.unwrap(), ["dexter settings"]);
        assert_eq!(start(true, "c", "d").store(&door).await.unwrap(), ["dexter settings", "dexter program"]);
        assert_eq!(start(false, "c", "d").differences(&door).await.unwrap(), Vec::<String>::new());
        assert_eq!(read(&door, "dexter").await.unwrap().0, None);
        assert_eq!(governance(&door).await, 7, "and the release, and what changed");
    }

    #[tokio::test]
    async fn an_outage_counts_apart_until_nobody_else_sees_it() {
        let door = door();
        for n in 1..=6 {
            let counted = count(&door, "dexter", &ended(n, "exit 69"), true).await.unwrap();
            assert_eq!((counted.kind, counted.breach), (RestartKind::Outage, None));
        }
        let seen_by_us = count(&door, "dexter", &ended(7, "exit 75"), false).await.unwrap();
        assert_eq!(seen_by_us.kind, RestartKind::Outage);
        let alone = count(&door, "dexter", &ended(8, "exit 75"), true).await.unwrap();
        assert_eq!(alone.kind, RestartKind::Crash);
    }

    #[test]
    fn how_it_ended_says_what_it_is() {
        for (how, kind) in [
            ("exit 69", RestartKind::Outage),
            ("exit 75", RestartKind::Outage),
            ("exit 70", RestartKind::Crash),
            ("exit 0", RestartKind::Crash),
            ("signal 9", RestartKind::Crash),
        ] {
            assert_eq!(Why::of_exit(how.to_owned()).kind, kind, "{how}");
        }
    }
}
