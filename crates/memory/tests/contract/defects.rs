//! Each defect of the record in memory turns at least one case red: a suite that sees none of them says nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use memory::Defect;

use crate::world::{World, run_ready};

#[test]
fn each_defect_is_caught_by_a_case() {
    let cases = [
        crate::approvals::CASES,
        crate::audit::CASES,
        crate::dead_letters::CASES,
        crate::decisions::CASES,
        crate::house::CASES,
        crate::ledger::CASES,
        crate::llm_usage::CASES,
        crate::orders::CASES,
        crate::permits::CASES,
        crate::session::CASES,
        crate::telegram::CASES,
        crate::telegram_notices::CASES,
        crate::totp::CASES,
    ]
    .concat();
    let caught = Defect::ALL.map(|defect| {
        let red = |case: &crate::Case| {
            let run = || run_ready((case.1)(&World::in_memory(Some(defect))));
            catch_unwind(AssertUnwindSafe(run)).is_err()
        };
        (defect, cases.iter().filter(|case| red(case)).map(|case| case.0).collect::<Vec<_>>())
    });
    for (defect, by) in &caught {
        println!("{defect:?}: {by:?}");
    }
    let missed: Vec<_> = caught.iter().filter(|(_, by)| by.is_empty()).map(|(defect, _)| defect).collect();
    assert!(missed.is_empty(), "no case sees {missed:?}");
}
