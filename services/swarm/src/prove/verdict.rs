//! What the programs of the proof print, read as claims. A program that fails, or prints no verdict, makes its claims
//! fail: nothing is true because nobody said otherwise.

use serde_json::Value;

use super::Doubt;

/// What came of a program.
#[derive(Debug, Clone, Default)]
pub(super) struct Ended {
    /// Its exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Its answer as JSON; null when it gave none.
    pub answer: Value,
    /// What it printed, when that was no JSON.
    pub text: String,
    /// The last lines that it said besides.
    pub last_words: String,
}

/// One claim and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub name: String,
    pub claim: String,
    pub outcome: Result<String, Doubt>,
    /// For a figure that has a target: whether it was met. A miss is told and is no failure.
    pub met: Option<bool>,
}

impl Told {
    fn new(name: &str, claim: &str, outcome: Result<String, Doubt>) -> Self {
        Self { name: name.to_owned(), claim: claim.to_owned(), outcome, met: None }
    }

    /// A claim that could not be tried.
    pub(super) fn untried(name: &str, doubt: Doubt) -> Self {
        Self::new(name, "the proof can be run", Err(doubt))
    }
}

/// Reads an answer.
pub(super) type Judge = Box<dyn Fn(&Ended) -> Vec<Told> + Send + Sync>;

impl Ended {
    fn number(&self, key: &str) -> Result<u64, Doubt> {
        self.answer[key].as_u64().ok_or_else(|| format!("its answer has no {key}"))
    }

    fn list(&self, key: &str) -> Result<&Vec<Value>, Doubt> {
        self.answer[key].as_array().ok_or_else(|| format!("its answer has no {key}"))
    }

    /// `found`, when the program itself says that all is well too; else what it said.
    fn and_status(&self, found: Result<String, Doubt>) -> Result<String, Doubt> {
        match (found, self.status) {
            (Ok(figure), Some(0)) => Ok(figure),
            (Ok(figure), status) => Err(format!("{figure}, but {}: {}", ending(status), self.last_words)),
            (Err(doubt), Some(0)) => Err(doubt),
            (Err(doubt), status) => Err(format!("{doubt}; {}: {}", ending(status), self.last_words)),
        }
    }
}

fn ending(status: Option<i32>) -> String {
    status.map_or_else(|| "a signal ended it".to_owned(), |status| format!("it ended with {status}"))
}

fn require(holds: bool, figure: String) -> Result<String, Doubt> {
    if holds { Ok(figure) } else { Err(figure) }
}

/// Tests of this repository that show a claim: every one that was chosen passed, there was at least one, and each figure that
/// they print.
pub(super) fn tests(name: &'static str, claim: &'static str) -> Judge {
    Box::new(move |ended| {
        let count = |line: &str, what: &str| -> Option<u64> {
            let (before, _) = line.split_once(&format!(" {what}"))?;
            before.rsplit(' ').next()?.parse().ok()
        };
        let results = || ended.text.lines().filter(|line| line.starts_with("test result: "));
        let sum = |what: &str| results().filter_map(|line| count(line, what)).sum::<u64>();
        let (passed, failed, left_out) = (sum("passed"), sum("failed"), sum("ignored"));
        let figures = ended.text.lines().filter_map(|line| line.split_once("figure: ").map(|(_, figure)| figure));
        let mut words = vec![format!("{passed} tests passed, {failed} failed")];
        words.extend(figures.map(str::to_owned));
        let found = require(passed > 0 && failed == 0 && left_out == 0, words.join("; "));
        vec![Told::new(name, claim, ended.and_status(found))]
    })
}

/// The same for tests that print `<name>: <what was tried>: <what came of it>`: a claim for each such line, and one for the
/// tests themselves.
pub(super) fn tries(name: &'static str, claim: &'static str) -> Judge {
    let all = tests(name, claim);
    Box::new(move |ended| {
        let mut told = all(ended);
        let prefix = format!("{name}: ");
        let lines = ended.text.lines().filter_map(|line| line.strip_prefix(&prefix));
        let tried: Vec<Told> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(tried, outcome)| Told::new(name, tried, ended.and_status(Ok(outcome.to_owned()))))
            .collect();
        if tried.is_empty() {
            told.push(Told::new(name, "each try is told", Err("no try was told".to_owned())));
        }
        told.extend(tried);
        told
    })
}

/// Fifty processes that break, told by `heal`.
pub(super) fn heal(ended: &Ended) -> Vec<Told> {
    let claims = match ended.list("claims") {
        Ok(claims) if !claims.is_empty() => claims,
        Ok(_) => return vec![Told::new("heal", "processes break", ended.and_status(Err("no claim".to_owned())))],
        Err(doubt) => return vec![Told::new("heal", "processes break", ended.and_status(Err(doubt)))],
    };
    let word = |claim: &Value, key: &str| claim[key].as_str().unwrap_or("?").to_owned();
    let mut told: Vec<Told> = claims
        .iter()
        .map(|claim| {
            let found = require(claim["ok"] == Value::Bool(true), word(claim, "figure"));
            Told::new(&word(claim, "name"), &word(claim, "claim"), found)
        })
        .collect();
    if ended.status != Some(0) && told.iter().all(|told| told.outcome.is_ok()) {
        told.push(Told::new("heal", "processes break", ended.and_status(Err("it says so itself".to_owned()))));
    }
    told
}

/// A day of planned restarts while signals flow.
pub(super) fn soak(ended: &Ended) -> Vec<Told> {
    let memory = (|| {
        let checks = ended.list("checks")?;
        let check = checks.iter().find(|check| check["rule"] == "memory is flat").ok_or("memory was not looked at")?;
        let wrong = check["wrong"].as_array().map_or(usize::MAX, Vec::len);
        require(wrong == 0, check["seen"].as_str().unwrap_or("?").to_owned())
    })();
    vec![
        Told::new("soak", "four waves of planned restarts over all agents: no intent lost or doubled", struck(ended)),
        Told::new("soak-memory", "own memory of supervisor and swarm is flat over it", ended.and_status(memory)),
    ]
}

/// The simulation: its seeds, and its deliberate faults.
pub(super) fn sim(ended: &Ended) -> Vec<Told> {
    let seeds = (|| {
        let (seeds, steps, failed) = (ended.number("seeds")?, ended.number("steps")?, ended.list("failures")?.len());
        let seconds = ended.answer["seconds"].as_f64().ok_or("its answer has no seconds")?;
        let rate = seeds as f64 / seconds.max(0.001);
        require(
            seeds > 0 && failed == 0,
            format!("{seeds} seeds, {steps} steps checked, {rate:.0} seeds/s, {failed} failed"),
        )
    })();
    let faults = (|| {
        let faults = ended.list("faults")?;
        let word = |fault: &Value| fault["fault"].as_str().unwrap_or("?").to_owned();
        let missed: Vec<_> = faults.iter().filter(|fault| fault["caught"] != Value::Bool(true)).map(word).collect();
        let latest = faults.iter().filter_map(|fault| fault["seeds_tried"].as_u64()).max().unwrap_or(0);
        let figure = format!(
            "{} of {} caught, the last to be seen after {latest} seeds {}",
            faults.len() - missed.len(),
            faults.len(),
            missed.join(", ")
        );
        require(!faults.is_empty() && missed.is_empty(), figure.trim_end().to_owned())
    })();
    vec![
        Told::new("sim", "simulated swarms keep every invariant after every step", ended.and_status(seeds)),
        Told::new("sim-faults", "each invariant notices its deliberate faults", faults),
    ]
}

/// A run of chaos on one server or three.
pub(super) fn chaos(ended: &Ended) -> Vec<Told> {
    vec![Told::new("chaos", "processes, servers and links are struck: the records agree", struck(ended))]
}

/// The same on three nodes.
pub(super) fn cluster(ended: &Ended) -> Vec<Told> {
    vec![Told::new("chaos-cluster", "leaders of three NATS nodes are killed: the same", struck(ended))]
}

fn struck(ended: &Ended) -> Result<String, Doubt> {
    let found = (|| {
        if let Some(reason) = ended.answer["reason"].as_str() {
            return Err(reason.to_owned());
        }
        let wrongs = ["lost", "doubled", "over_limit", "other_faults"].map(|key| Ok((key, ended.number(key)?)));
        let wrongs = wrongs.into_iter().collect::<Result<Vec<_>, Doubt>>()?;
        let (faults, signals) = (ended.number("faults")?, ended.answer["signals"]["accepted"].as_u64().unwrap_or(0));
        let words: Vec<_> = wrongs.iter().map(|(key, count)| format!("{count} {}", key.replace('_', " "))).collect();
        let figure =
            format!("{faults} faults, {signals} signals, {}, slowest through {}", words.join(", "), slowest(ended));
        let good = ended.answer["good"] == Value::Bool(true) && faults > 0 && signals > 0;
        require(good && wrongs.iter().all(|(_, count)| *count == 0), figure)
    })();
    ended.and_status(found)
}

fn slowest(ended: &Ended) -> String {
    let strikes = ended.answer["strikes"].as_array().into_iter().flatten();
    let through = strikes.filter_map(|strike| strike["through_ms"].as_f64()).fold(0.0, f64::max);
    format!("{:.1} s", through / 1_000.0)
}

/// A sample of the mutants.
pub(super) fn mutants(ended: &Ended) -> Vec<Told> {
    let found = (|| {
        let files = ended.answer["files"].as_object().ok_or("its answer has no files")?;
        let sum = |key: &str| files.values().filter_map(|file| file[key].as_u64()).sum::<u64>();
        let judged = sum("mutants") - sum("unviable").min(sum("mutants"));
        let figure = format!("{} of {judged} caught, {} explained", sum("caught"), sum("explained"));
        let faults: Vec<_> = ended.list("faults")?.iter().filter_map(Value::as_str).collect();
        if let [first, ..] = faults.as_slice() {
            return Err(format!("{figure}: {first}"));
        }
        require(judged > 0 && sum("caught") + sum("explained") >= judged, figure)
    })();
    vec![Told::new("mutants", "a test notices each change of the rails", ended.and_status(found))]
}

/// All fuzz targets.
pub(super) fn fuzz(ended: &Ended) -> Vec<Told> {
    let found = (|| {
        let targets = ended.answer.as_array().ok_or("it gave no answer")?;
        let broken = |target: &&Value| {
            !target["failed"].is_null()
                || target["interrupted"] != Value::Bool(false)
                || target["last"]["runs"].as_u64().unwrap_or(0) == 0
        };
        let names: Vec<_> = targets.iter().filter(broken).filter_map(|target| target["target"].as_str()).collect();
        let runs: u64 = targets.iter().filter_map(|target| target["last"]["runs"].as_u64()).sum();
        let figure = format!("{} targets, {runs} inputs, {} broken {}", targets.len(), names.len(), names.join(", "));
        let all = targets.len() >= FUZZ_TARGETS && !targets.iter().any(|target| broken(&target));
        require(all, figure.trim_end().to_owned())
    })();
    vec![Told::new("fuzz", "no input breaks a decoder", ended.and_status(found))]
}

/// So many decoders are fuzzed: a run that leaves some out proves less.
const FUZZ_TARGETS: usize = 16;

/// The figures of the benchmark that have a target.
pub(super) fn bench(ended: &Ended) -> Vec<Told> {
    let figures: Vec<Told> = ended.answer["figures"].as_array().into_iter().flatten().filter_map(figure).collect();
    let missed = figures.iter().filter(|told| told.met == Some(false)).count();
    let found = require(!figures.is_empty(), format!("{} figures with a target, {missed} missed", figures.len()));
    let mut told = vec![Told::new("bench", "the figures are measured", ended.and_status(found))];
    told.extend(figures);
    told
}

/// From a person's yes to the venue, beside the main job in the same seconds.
pub(super) fn prompt_to_fill(ended: &Ended) -> Vec<Told> {
    let rows = || ended.answer["figures"].as_array().into_iter().flatten().filter(|row| row["part"] == "approval");
    let missing: f64 = rows().filter(|row| row["target"].is_object()).filter_map(|row| row["value"].as_f64()).sum();
    let mut words: Vec<String> = rows()
        .filter_map(|row| {
            let (name, value, ratio) = (row["name"].as_str()?, row["value"].as_f64()?, row["ratio"].as_f64()?);
            Some(format!("{name} {:.1} ms, {ratio:.1} times the main job's", value / 1_000.0))
        })
        .collect();
    let measured = words.len();
    words.push(format!("{missing} orders never at the venue"));
    let found = require(measured > 0 && missing == 0.0, words.join("; "));
    let claim = "the way from a person's yes to the venue is measured, and every order gets there";
    vec![Told::new("prompt-to-fill", claim, ended.and_status(found))]
}

/// What the cache answered of a workload, and how often wrongly. Too few hits are a target missed, a wrong answer fails.
pub(super) fn answers(ended: &Ended) -> Vec<Told> {
    let percent = |key: &str| {
        let value = ended.answer["templated"][key].as_f64();
        value.ok_or_else(|| format!("its answer has no templated.{key}"))
    };
    let hits =
        (|| Ok(format!("{:.1} % of {} questions", percent("hit_percent")?, ended.answer["templated"]["asked"])))();
    let wrong = (|| {
        let wrong = percent("wrong_percent")?;
        require(wrong < 0.5 && ended.answer["targets"]["wrong"] == true, format!("{wrong:.3} %"))
    })();
    let fooled = (|| {
        let adversarial = &ended.answer["adversarial"];
        let (pairs, hits) = (adversarial["pairs"].as_u64(), adversarial["false_hits"].as_u64());
        let (Some(pairs), Some(hits)) = (pairs, hits) else {
            return Err("its answer has no adversarial pairs".to_owned());
        };
        require(pairs > 0 && hits == 0, format!("{hits} false hits in {pairs} near-equal questions"))
    })();
    let mut often = Told::new("answers-hits", "the cache answers the swarm's own questions, at least 85 %", hits);
    often.met = ended.answer["targets"]["hits"].as_bool();
    vec![
        often,
        Told::new("answers-wrong", "and what it answers is right, but for 0.5 %", ended.and_status(wrong)),
        Told::new("answers-fooled", "near-equal questions get no answer of another", fooled),
    ]
}

/// The table of faults and the checks below it, a line each.
pub(super) fn faults(ended: &Ended) -> Vec<Told> {
    let word = |row: &Value, key: &str| row[key].as_str().unwrap_or("?").to_owned();
    let calls = |row: &Value| row["calls_all"].to_string();
    let mut told = Vec::new();
    for row in ended.answer["faults"].as_array().into_iter().flatten() {
        let ms = |key: &str| row[key].as_f64().unwrap_or(f64::NAN);
        let figure = format!(
            "{}, tier {}, calls {} in {} requests, {:.1} ms lost first, {:.1} later",
            word(row, "answered"),
            word(row, "tier"),
            calls(row),
            row["requests"],
            ms("lost_first_ms"),
            ms("lost_later_ms"),
        );
        let wrong =
            row["wrong"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join("; ");
        let outcome =
            require(row["good"] == true, if wrong.is_empty() { figure } else { format!("{figure}: {wrong}") });
        told.push(Told::new("fault", &word(row, "fault"), outcome));
    }
    for line in ended.answer["checks"].as_array().into_iter().flatten() {
        let outcome = require(line["good"] == true, word(line, "figure"));
        told.push(Told::new("router", &word(line, "check"), outcome));
    }
    let whole = require(ended.answer["good"] == true && !told.is_empty(), format!("{} rows and checks", told.len()));
    told.push(Told::new("faults", "no fault reaches an agent as an unexplained failure", ended.and_status(whole)));
    told
}

fn figure(row: &Value) -> Option<Told> {
    let met = row["met"].as_bool()?;
    let (value, unit) = (row["value"].as_f64()?, row["unit"].as_str()?);
    let target = row["target"].as_object()?.iter().next().map(|(kind, bound)| match kind.as_str() {
        "at_most" => format!("at most {bound}"),
        "at_least" => format!("at least {bound}"),
        _ => format!("at most {bound} times its floor"),
    })?;
    let ratio = row["ratio"].as_f64().map(|ratio| format!(", {ratio:.1} times its floor")).unwrap_or_default();
    let noise = row["strangers_percent"].as_f64().unwrap_or(0.0);
    let noise = if noise > 8.0 { format!(", strangers took {noise:.0} % of the machine") } else { String::new() };
    let word = if met { "met" } else { "MISSED" };
    Some(Told {
        name: format!("bench-{}", row["part"].as_str().unwrap_or("?")),
        claim: row["name"].as_str()?.to_owned(),
        outcome: Ok(format!("{} {unit}{ratio}; target {target}: {word}{noise}", measured(value))),
        met: Some(met),
    })
}

/// A figure with the digits that say something: a twentieth of a millisecond is not 0.0.
fn measured(value: f64) -> String {
    match value.abs() {
        small if small < 1.0 => format!("{value:.3}"),
        middle if middle < 1_000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ended(status: i32, answer: Value) -> Ended {
        Ended { status: Some(status), answer, last_words: "last words".to_owned(), ..Ended::default() }
    }

    fn failures(told: &[Told]) -> Vec<&str> {
        told.iter().filter(|told| told.outcome.is_err()).map(|told| told.name.as_str()).collect()
    }

    #[test]
    fn each_try_and_each_round_is_a_claim() {
        let text = "test a ... ok\nattack: emptied table: INVALID: row 1 is gone\nattack: a fork: INVALID: two rows 3\ntest result: ok. 2 passed; 0 failed; 0 ignored;";
        let of = |text: &str, status| {
            tries("attack", "attacked")(&Ended { status: Some(status), text: text.to_owned(), ..Ended::default() })
        };
        let told = of(text, 0);
        assert_eq!((told.len(), failures(&told).len()), (3, 0));
        assert_eq!(
            (told[1].claim.as_str(), told[1].outcome.as_deref()),
            ("emptied table", Ok("INVALID: row 1 is gone"))
        );
        assert_eq!(failures(&of(text, 1)).len(), 3);
        assert_eq!(failures(&of("test result: ok. 2 passed; 0 failed; 0 ignored;", 0)).len(), 1, "nothing was told");
        let round = |ok| json!({ "claims": [{ "name": "crash", "claim": "c", "ok": ok, "figure": "f" }] });
        assert_eq!(failures(&heal(&ended(0, round(true)))), Vec::<&str>::new());
        assert_eq!(failures(&heal(&ended(1, round(false)))), ["crash"]);
        assert_eq!(failures(&heal(&ended(1, round(true)))), ["heal"]);
    }

    fn good_sim() -> Value {
        json!({ "seeds": 600, "steps": 9, "seconds": 3.0, "failures": [], "faults": [
            { "fault": "Loose", "caught": true, "first_seed": 4, "seeds_tried": 4 } ] })
    }

    #[test]
    fn without_a_verdict_every_claim_fails() {
        let judges: [fn(&Ended) -> Vec<Told>; 10] =
            [sim, chaos, cluster, mutants, fuzz, bench, faults, answers, heal, soak];
        for judge in judges {
            for answer in [Value::Null, json!({}), json!([]), json!("x")] {
                for status in [Some(0), Some(1), None] {
                    let told = judge(&Ended { status, answer: answer.clone(), ..Ended::default() });
                    assert!(!told.is_empty() && told.iter().all(|told| told.outcome.is_err()), "{answer}: {told:?}");
                }
            }
        }
    }

    #[test]
    fn a_good_answer_of_a_program_that_failed_is_no_proof() {
        assert_eq!(failures(&sim(&ended(0, good_sim()))), [""; 0]);
        let told = sim(&ended(1, good_sim()));
        assert_eq!(failures(&told), ["sim"]);
        assert!(told[0].outcome.as_ref().unwrap_err().contains("it ended with 1: last words"), "{told:?}");
    }

    #[test]
    fn a_fault_that_nobody_noticed_fails_its_claim() {
        let mut answer = good_sim();
        answer["faults"][0]["caught"] = json!(false);
        assert_eq!(failures(&sim(&ended(1, answer.clone()))), ["sim", "sim-faults"]);
        answer["faults"] = json!([]);
        assert_eq!(failures(&sim(&ended(0, answer))), ["sim-faults"], "no faults tried");
        let mut answer = good_sim();
        answer["failures"] = json!([{ "seed": 7 }]);
        assert_eq!(failures(&sim(&ended(1, answer))), ["sim"]);
    }

    #[test]
    fn tests_that_fail_are_left_out_or_are_none_prove_nothing() {
        let judged = |status, text: &str| {
            let ended = Ended { status: Some(status), text: text.to_owned(), ..Ended::default() };
            tests("t", "c")(&ended).remove(0).outcome
        };
        let good = "running 2 tests\ntest a ... figure: 12 ms\nok\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 5 filtered out; finished in 1s\n";
        assert_eq!(judged(0, good).unwrap(), "2 tests passed, 0 failed; 12 ms");
        assert!(judged(101, good).is_err(), "its exit status counts too");
        assert!(judged(0, "").is_err());
        assert!(judged(0, &good.replace("2 passed", "0 passed")).is_err());
        assert!(judged(0, &good.replace("0 failed", "1 failed")).is_err());
        assert!(judged(0, &good.replace("0 ignored", "1 ignored")).is_err());
    }

    #[test]
    fn a_lost_signal_fails_chaos() {
        let good = json!({ "good": true, "faults": 12, "lost": 0, "doubled": 0, "over_limit": 0, "other_faults": 0,
            "signals": { "accepted": 60 }, "strikes": [{ "through_ms": 4_200 }, { "through_ms": 900 }] });
        let told = chaos(&ended(0, good.clone()));
        assert!(told[0].outcome.as_ref().is_ok_and(|figure| figure.contains("slowest through 4.2 s")), "{told:?}");
        for (key, value) in [("lost", json!(1)), ("good", json!(false)), ("faults", json!(0)), ("reason", json!("no"))]
        {
            let mut bad = good.clone();
            bad[key] = value;
            assert_eq!(failures(&cluster(&ended(0, bad))), ["chaos-cluster"], "{key}");
        }
    }

    #[test]
    fn a_surviving_mutant_and_a_sample_of_nothing_fail() {
        let answer = |mutants: u64, caught: u64, faults: Value| {
            json!({ "files": { "a.rs": { "mutants": mutants, "caught": caught, "explained": 0, "unviable": 1 } },
                "faults": faults })
        };
        assert_eq!(failures(&mutants(&ended(0, answer(8, 7, json!([]))))), [""; 0]);
        assert_eq!(failures(&mutants(&ended(0, answer(8, 6, json!([]))))), ["mutants"]);
        assert_eq!(failures(&mutants(&ended(1, answer(8, 6, json!(["a.rs: survived"]))))), ["mutants"]);
        assert_eq!(failures(&mutants(&ended(0, answer(1, 0, json!([]))))), ["mutants"]);
    }

    #[test]
    fn a_crash_and_a_missing_target_fail_fuzzing() {
        let target = json!({ "target": "money", "failed": null, "interrupted": false, "last": { "runs": 10 } });
        let all = vec![target.clone(); FUZZ_TARGETS];
        assert_eq!(failures(&fuzz(&ended(0, json!(all)))), [""; 0]);
        assert_eq!(failures(&fuzz(&ended(0, json!(vec![target; FUZZ_TARGETS - 1])))), ["fuzz"]);
        for (key, value) in [("failed", json!(77)), ("interrupted", json!(true)), ("last", json!({ "runs": 0 }))] {
            let mut all = all.clone();
            all[3][key] = value;
            assert_eq!(failures(&fuzz(&ended(0, json!(all)))), ["fuzz"], "{key}");
        }
    }

    #[test]
    fn an_allowed_order_that_never_came_to_the_venue_fails_the_claim() {
        let rows = |missing: f64| {
            json!({ "figures": [
                { "part": "approval", "name": "a yes, p99", "value": 20_000.0, "unit": "us", "ratio": 1.5, "target": null },
                { "part": "approval", "name": "never", "value": missing, "unit": "", "ratio": null, "target": { "at_most": 0.0 } },
            ] })
        };
        let told = prompt_to_fill(&ended(0, rows(0.0)));
        assert_eq!(failures(&told), [""; 0]);
        assert!(
            told[0].outcome.as_ref().unwrap().starts_with("a yes, p99 20.0 ms, 1.5 times the main job's; 0"),
            "{told:?}"
        );
        assert_eq!(failures(&prompt_to_fill(&ended(0, rows(1.0)))), ["prompt-to-fill"]);
        assert_eq!(failures(&prompt_to_fill(&ended(70, rows(0.0)))), ["prompt-to-fill"]);
        assert_eq!(
            failures(&prompt_to_fill(&ended(0, json!({ "figures": [] })))),
            ["prompt-to-fill"],
            "nothing measured"
        );
    }

    #[test]
    fn a_fault_that_is_not_as_it_must_be_fails_its_line_and_the_whole() {
        let row = |good| {
            json!({ "fault": "silence", "answered": "yes", "tier": "groq", "calls_all": [1, 1, 0], "requests": 1,
            "lost_first_ms": 1.0, "lost_later_ms": 1.0, "good": good, "wrong": ["2 calls"] })
        };
        let answer = |good| json!({ "good": good, "faults": [row(good)], "checks": [{ "check": "c", "figure": "f", "good": true }] });
        assert!(failures(&faults(&ended(0, answer(true)))).is_empty());
        assert_eq!(failures(&faults(&ended(1, answer(false)))), ["fault", "faults"]);
    }

    #[test]
    fn a_missed_target_is_told_and_fails_nothing() {
        let row = |met: bool| {
            json!({ "part": "gate", "name": "check", "value": 7.0, "unit": "us", "target": { "at_most": 5.0 },
                "met": met, "ratio": null, "strangers_percent": 20.0 })
        };
        let without = json!({ "part": "floors", "name": "fdatasync", "value": 1.0, "unit": "us", "met": null });
        let told = bench(&ended(0, json!({ "figures": [row(false), row(true), without] })));
        assert_eq!(failures(&told), [""; 0]);
        assert_eq!(told.iter().filter_map(|told| told.met).collect::<Vec<_>>(), [false, true]);
        assert!(told[1].outcome.as_ref().unwrap().contains("at most 5.0: MISSED, strangers took 20 %"), "{told:?}");
        assert_eq!([0.0531, 7.0, 19_118.46].map(measured), ["0.053", "7.0", "19118"]);
        assert_eq!(failures(&bench(&ended(70, json!({ "figures": [row(true)] })))), ["bench"], "could not measure");
    }
}
