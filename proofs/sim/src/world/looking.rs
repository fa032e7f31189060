//! What is looked at after every step, and what is wrong there on purpose.

use super::*;

impl World {
    pub(super) fn look(&mut self) {
        let commits = self.hub.commits();
        let calls = self.venue.take_calls();
        let fills = self.venue.fills_from(self.checks.fills_seen());
        if commits != self.seen_commits || !calls.is_empty() || !fills.is_empty() {
            self.seen_commits = commits;
            self.unwrite();
            let tables = self.store.snapshot();
            let (now, seen) = (self.hub.now(), self.prices_of_treasury());
            let unagreed = self.unagreed();
            let sight = Sight {
                now,
                ideas: &self.ideas,
                unagreed: &unagreed,
                marks: seen,
                shown: self.market.shown(),
                treasury_offset_ms: self.slots[TREASURY].clock.offset(),
                kill_file: read_file(&file_path(self.folder.path())),
            };
            let found = self.checks.look(&tables, &sight, &calls, &fills);
            self.note(found);
            self.tamper();
        }
        let found = self.hub.take_findings();
        self.note(found);
    }

    pub(super) fn prices_of_treasury(&self) -> Marks {
        self.slots[TREASURY].process.as_ref().map(|process| process.around().prices().marks()).unwrap_or_default()
    }

    pub(super) fn note(&mut self, found: Vec<(&'static str, String)>) {
        for (invariant, what) in found {
            self.hub.trace(|| format!("WRONG: {invariant}: {what}"));
            if self.findings.len() < 200 {
                self.findings.push((self.steps, invariant, what));
            }
        }
    }

    /// A deliberate fault in the rows, after they were looked at.
    fn tamper(&mut self) {
        let Some(fault) = self.options.fault.filter(|fault| *fault != Fault::AuditRowMissing) else { return };
        if self.tampered && !fault.keeps_on() {
            return;
        }
        let at = self.hub.now();
        let done = self.store.tamper(|tables| fault.tamper(tables, at));
        if done && fault == Fault::HaltForgotten {
            let last = self.store.snapshot().kill_levels.last_key_value().map(|(epoch, kill)| (kill.level, *epoch));
            last.into_iter().for_each(|(level, epoch)| drop(write_file(&file_path(self.folder.path()), level, epoch)));
        }
        self.tampered |= done;
    }

    /// The one fault that must come before the look: an act whose audit row was never written.
    fn unwrite(&mut self) {
        if self.options.fault == Some(Fault::AuditRowMissing) && !self.tampered {
            let at = self.hub.now();
            self.tampered = self.store.tamper(|tables| Fault::AuditRowMissing.tamper(tables, at));
        }
    }
}
