//! The proof itself, on an hour of the built-in market, and that it would notice a cache that is wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use answers::adversarial;
use answers::asking::ask;
use answers::market::Recording;
use answers::workload::{Asked, Shape, day};
use answers::{run, shipped};

const SHAPE: Shape = Shape { seed: 1, plays: 6, per_hour: 210.0, free_reasons: false };

#[test]
fn an_hour_is_answered_often_and_never_wrongly() {
    let report = run(&Recording::builtin(1).unwrap(), SHAPE, false).unwrap();
    let templated = &report.templated;
    assert!((450..900).contains(&templated.asked), "{}", templated.asked);
    assert!(templated.hits() * 2 > templated.asked, "{report}");
    assert_eq!((templated.wrong(), templated.crossed), (0, 0), "{report}");
    assert!(report.is_safe() && report.adversarial.pairs() > 1_000, "{report}");
    assert_eq!(report.as_json()["good"], true);
    assert!(report.to_string().contains("false hits: 0"));
}

#[test]
fn the_same_seed_makes_the_same_day_and_another_seed_another() {
    let recording = Recording::builtin(1).unwrap();
    let facts = |seed| -> Vec<String> {
        let shape = Shape { seed, plays: 2, ..SHAPE };
        day(&recording, shape).unwrap().into_iter().map(|asked| format!("{} {}", asked.at, asked.facts)).collect()
    };
    assert_eq!(facts(1), facts(1));
    assert_ne!(facts(1), facts(2));
}

/// Questions whose price age differs and whose requests say it in a line that the cache is told to leave out.
fn blinded(asked: Vec<Asked>) -> Vec<Asked> {
    let blind = |(at, mut asked): (usize, Asked)| {
        let last = asked.request.messages.last_mut().unwrap();
        last.content.push_str(&format!("\nblind: {}", at % 10));
        asked.facts.push_str(&format!("\nblind: {}", at % 10));
        asked.request.extras.volatile.push("blind".to_owned());
        asked
    };
    asked
        .into_iter()
        .map(|mut asked| {
            asked.request.messages.last_mut().unwrap().content =
                asked.request.messages.last().unwrap().content.trim_end().to_owned();
            asked
        })
        .enumerate()
        .map(blind)
        .collect()
}

#[test]
fn an_answer_to_another_question_is_noticed() {
    let asked = day(&Recording::builtin(1).unwrap(), Shape { plays: 3, ..SHAPE }).unwrap();
    assert_eq!(ask(&asked, &shipped()).wrong(), 0);
    let tally = ask(&blinded(asked), &shipped());
    // Nine of ten hits are of another fact, and the oracle lets one in 202 of these pass.
    assert!(tally.wrong() * 10 > tally.hits() * 8, "{} of {}", tally.wrong(), tally.hits());
}

#[test]
fn an_answer_across_tenants_is_noticed() {
    let mut asked = day(&Recording::builtin(1).unwrap(), Shape { plays: 3, ..SHAPE }).unwrap();
    assert_eq!(ask(&asked, &shipped()).crossed, 0);
    asked.iter_mut().for_each(|asked| asked.request.extras.tenant = Some("everybody".to_owned()));
    assert!(ask(&asked, &shipped()).crossed > 0);
}

#[test]
fn a_false_hit_is_noticed() {
    let mut asked = day(&Recording::builtin(1).unwrap(), Shape { plays: 2, ..SHAPE }).unwrap();
    asked.truncate(5);
    assert_eq!(adversarial::check(&asked, &shipped()).false_hits(), 0);
    // The caller says that the side makes no difference; its value is no time, so the number in another line is taken.
    for asked in &mut asked {
        asked.request.extras.volatile.push("reviewed".to_owned());
        let last = asked.request.messages.last_mut().unwrap();
        last.content = format!("{}\nreviewed: 5", last.content.trim_end());
    }
    let outcome = adversarial::check(&asked, &shipped());
    assert!(outcome.false_hits() > 0 && !outcome.examples.is_empty());
}
