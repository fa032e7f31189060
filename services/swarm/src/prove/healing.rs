//! What is claimed of the supervisor: processes that break in every way there is, a kill lever that needs nothing, an audit that
//! shows its own truncation, and a gate that no process can change.

use super::approvals::{Claim, tests};
use super::proof::Part;
use super::{Ground, verdict};

pub(super) const CLAIMS: [Claim; 8] = [
    (
        "held",
        "a process that somebody else started takes nothing until this very start of it may work",
        "-p runtime --test loop somebody",
    ),
    (
        "halt",
        "level 2 with PostgreSQL frozen, by command, file and signal, and the supervisor killed right after, in the middle of a sliced \
         order: open orders are cancelled at the venue, no further child comes, the record follows, the audit is valid; swarm drill says how \
         long; level 4 sells, then stops everybody",
        "-p swarm --test halt",
    ),
    (
        "halt-desk",
        "level 2 before anything is loaded, without store or broker: the desk cancels what rests; no order goes out",
        "-p online_trading --test desk halts",
    ),
    (
        "halt-slices",
        "a sliced order: killed, cut off or pressed between any two children, none is sent twice, none after the press, all inside the permit",
        "-p online_trading --test desk slices",
    ),
    (
        "halt-record",
        "a raise is in force before the record knows it, and no row lowers it but a person's signed act",
        "-p supervisor --test halt",
    ),
    (
        "dead-letters",
        "a dead message goes back once, by a signed act, inside its time, and walks the whole road again",
        "-p supervisor --test letters",
    ),
    (
        "in-flight",
        "what a dead agent had in hand is delivered again at once; what waits for one that stays down is told to a person",
        "-p supervisor --test in_flight",
    ),
    (
        "files",
        "limits, program or approvers changed behind the swarm: kill level 1, alert, governance row; the refusal names no lever",
        "-p swarm --test files",
    ),
];

/// Tests that print a line for each thing that was tried.
pub(super) const TRIES: [Claim; 2] = [
    ("attack", "the audit log is attacked: INVALID, with the reason", "-p store --test postgres attacks"),
    ("attempt", "a process tries to change its own gate: the kernel refuses", "-p swarm --test sandbox"),
];

/// The claims as parts to run.
pub(super) fn parts(ground: &Ground) -> Vec<Part> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let config = ["--config-dir".to_owned(), ground.config_dir.display().to_string()];
    let program = |name, program, line: &str, judge: fn(&verdict::Ended) -> Vec<verdict::Told>| {
        let mut arguments = words(line);
        arguments.extend(config.clone());
        Part { name, program, built_by: "make release", arguments, answer: None, judge: Box::new(judge) }
    };
    let mut parts = vec![program("heal", "heal", "--json", verdict::heal)];
    parts.extend(tests(&CLAIMS));
    for (part, (name, claim, _)) in tests(&TRIES).into_iter().zip(TRIES) {
        parts.push(Part { judge: verdict::tries(name, claim), ..part });
    }
    let mut soak = program("soak", "chaos", "--json --recycle 4 --seed 7", verdict::soak);
    soak.arguments.extend(["--folder".to_owned(), ground.folder.join("soak").display().to_string()]);
    parts.push(soak);
    parts
}
