//! Every input that is kept runs through its target on every build: what fuzzing once found stays found.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fuzz::corpus::{FOLDERS, files, folder, inputs};
use fuzz::targets::TARGETS;

#[test]
fn every_kept_input_passes() {
    let mut broken = Vec::new();
    for target in &TARGETS {
        for (name, data) in inputs(target).unwrap() {
            if catch_unwind(AssertUnwindSafe(|| (target.run)(&data))).is_err() {
                broken.push(format!("{}: {name}", target.name));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Cuts and doubles of good inputs: most of what a fuzzer tries first.
#[test]
fn every_cut_of_a_seed_passes() {
    for target in &TARGETS {
        for seed in (target.seeds)() {
            for end in (0..seed.len()).step_by(1 + seed.len() / 64) {
                (target.run)(&seed[..end]);
                (target.run)(&[&seed[..end], &seed[..]].concat());
            }
        }
    }
}

#[test]
fn what_is_kept_is_small_and_belongs_to_a_target() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len(), "a name twice");
    let mut bytes = 0;
    for kind in FOLDERS {
        let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind);
        for entry in std::fs::read_dir(&parent).into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(names.contains(name.as_str()), "{kind}/{name} belongs to no target");
            bytes += files(&folder(kind, &name)).unwrap().iter().map(|(_, data)| data.len()).sum::<usize>();
        }
    }
    assert!(bytes < 300_000, "{bytes} bytes are kept");
}
