//! The rules of the house that a compiler does not check: which room may know which, and that the picture of the agents
//! is the agents.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use domain::agent::AgentSpec;
use domain::subject::Route;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Dependencies of one package on packages of this workspace, dev-dependencies left out.
fn inner_dependencies(manifest: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(manifest).unwrap();
    let table: toml::Table = toml::from_str(&text).unwrap();
    let members: BTreeSet<String> = packages().into_keys().collect();
    let dependencies = table.get("dependencies").and_then(|d| d.as_table()).cloned().unwrap_or_default();
    dependencies.keys().filter(|name| members.contains(*name)).cloned().collect()
}

fn packages() -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for folder in ["crates", "agents", "services", "proofs"].map(|name| root().join(name)) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let manifest = entry.unwrap().path().join("Cargo.toml");
            if manifest.exists() {
                let name = manifest.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
                found.insert(name, manifest);
            }
        }
    }
    found.insert("proto".to_owned(), root().join("proto/Cargo.toml"));
    found
}

#[test]
fn each_room_knows_only_the_rooms_below_it() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("domain", &[][..]),
        ("proto", &[]),
        ("rails", &["domain"]),
        ("bus", &["domain", "proto"]),
        ("store", &["domain", "rails"]),
        ("venues", &["domain", "rails"]),
        ("settings", &["domain"]),
        ("llm", &["domain", "settings"]),
        ("servers", &[]),
        ("runtime", &["domain", "rails", "bus", "store"]),
        ("memory", &["domain", "rails", "bus", "store"]),
        ("gateway", &["domain", "bus", "runtime"]),
    ]);
    for (name, manifest) in packages() {
        let known = inner_dependencies(&manifest);
        if let Some(allowed) = allowed.get(name.as_str()) {
            let extra: Vec<&String> = known.iter().filter(|d| !allowed.contains(&d.as_str())).collect();
            assert!(extra.is_empty(), "{name} must not know {extra:?}");
        }
        let is_proof = manifest.starts_with(root().join("proofs"));
        for unshipped in ["testkit", "memory"] {
            assert!(
                is_proof || !known.contains(unshipped),
                "{name} ships {unshipped}: a dev-dependency and the proofs' only"
            );
        }
    }
}

#[test]
fn no_agent_knows_another_and_the_desks_hold_no_model() {
    let agents: BTreeSet<&str> = specs().iter().map(|s| s.name).collect();
    for (name, manifest) in packages() {
        if !agents.contains(name.as_str()) {
            continue;
        }
        let known = inner_dependencies(&manifest);
        let others: Vec<&String> = known.iter().filter(|d| agents.contains(d.as_str())).collect();
        assert!(others.is_empty(), "{name} must not import {others:?}");
        if ["online_trading", "dexter", "treasury"].contains(&name.as_str()) {
            assert!(!known.contains("llm"), "{name} holds a key and must not know a model");
        }
    }
}

#[test]
fn folder_package_process_and_agent_id_are_one_word() {
    for spec in specs() {
        let manifest = root().join("agents").join(spec.name).join("Cargo.toml");
        let table: toml::Table = toml::from_str(&std::fs::read_to_string(&manifest).unwrap()).unwrap();
        assert_eq!(table["package"]["name"].as_str(), Some(spec.name));
        assert!(swarm::process_named(spec.name).is_some(), "{} has no process", spec.name);
        assert_eq!(runtime::spec_faults(&spec), Vec::<String>::new());
    }
}

/// Tables that a service must not have: it may keep what language models cost, and nothing of trading.
fn tables_of_trading(spec: &AgentSpec) -> Vec<&'static str> {
    spec.tables.iter().map(|grant| grant.table).filter(|table| !table.starts_with("llm_")).collect()
}

#[test]
fn a_service_keeps_nothing_of_trading_and_has_no_word_in_it() {
    for spec in swarm::services() {
        let manifest = root().join("services").join(spec.name).join("Cargo.toml");
        let table: toml::Table = toml::from_str(&std::fs::read_to_string(&manifest).unwrap()).unwrap();
        assert_eq!(table["package"]["name"].as_str(), Some(spec.name));
        assert!(swarm::process_named(spec.name).is_some(), "{} has no process", spec.name);
        assert_eq!(runtime::spec_faults(&spec), Vec::<String>::new());
        assert_eq!(tables_of_trading(&spec), Vec::<&str>::new(), "{}", spec.name);
        assert!(spec.services.is_empty() && !spec.administers_streams, "{}", spec.name);
        assert!(spec.emits.is_empty() && spec.consumes.is_empty() && spec.listens.is_empty(), "{}", spec.name);
    }
}

#[test]
fn a_service_may_keep_what_models_cost_and_nothing_of_trading() {
    let service = swarm::services()[0];
    let with = |tables| tables_of_trading(&AgentSpec { tables, ..service });
    assert_eq!(with(store::grants::LLM_ROUTER), Vec::<&str>::new());
    for (name, tables) in [
        ("messaging", store::grants::MESSAGING),
        ("planner", store::grants::PLANNER),
        ("treasury", store::grants::TREASURY),
        ("desk", store::grants::DESK),
        ("supervisor", store::grants::SUPERVISOR),
        ("telegram", store::grants::TELEGRAM),
        ("audit_verify", store::grants::AUDIT_VERIFY),
    ] {
        assert_eq!(with(tables).len(), tables.len(), "{name}: every one of its tables is trading's");
    }
}

#[test]
fn no_agent_has_what_models_cost() {
    for spec in specs() {
        assert!(spec.tables.iter().all(|grant| !grant.table.starts_with("llm_")), "{}", spec.name);
    }
}

#[test]
fn no_member_crate_lifts_the_lint_bans() {
    for (name, manifest) in packages() {
        assert!(!manifest.with_file_name("clippy.toml").exists(), "{name} has a clippy.toml of its own");
        let text = std::fs::read_to_string(&manifest).unwrap();
        assert!(text.contains("[lints]\nworkspace = true"), "{name} does not take the workspace's lints");
    }
}

#[test]
fn money_rooms_hold_no_float() {
    for room in ["domain", "rails"] {
        for file in rust_files(&root().join("crates").join(room).join("src")) {
            let text = std::fs::read_to_string(&file).unwrap();
            for (at, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                assert!(!code.contains("f64") && !code.contains("f32"), "{}:{}", file.display(), at + 1);
            }
        }
    }
}

#[test]
fn no_rail_approval_or_permit_is_given_a_models_opinion() {
    let mut files = rust_files(&root().join("crates/rails/src"));
    files.extend(rust_files(&root().join("agents/treasury/src")));
    files.extend(rust_files(&root().join("agents/online_trading/src")));
    files.extend(rust_files(&root().join("agents/dexter/src")));
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (at, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            // Treasury stores the intent as it came, opinion included; it reads no part of it by name.
            assert!(!code.contains("opinion") && !code.contains("domain::review"), "{}:{}", file.display(), at + 1);
        }
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    out
}

fn specs() -> Vec<AgentSpec> {
    swarm::specs().to_vec()
}

/// Who besides agents publishes a route: people at their doors.
const FROM_PEOPLE: &[Route] = &[Route::Signal, Route::UserSignal];
/// Routes of the closed list that nobody sends in this build, each with the reason.
const NOT_YET: &[(Route, &str)] = &[
    (Route::Idea, "signals of other agents come with the memory and social issues; strategies plan inside buy_bot"),
    (Route::Lesson, "the reflector proposes lessons with the memory issue"),
];

#[test]
fn every_emitted_message_has_a_reader_and_every_reader_a_writer() {
    let specs = specs();
    for route in Route::ALL {
        let written = specs.iter().any(|s| s.emits.contains(&route)) || FROM_PEOPLE.contains(&route);
        let read = specs.iter().any(|s| s.consumes.contains(&route) || s.listens.contains(&route))
            // Every runtime hears its own commands and the supervisor's beat.
            || matches!(route, Route::Command | Route::Heartbeat)
            // Read by people and dashboards.
            || matches!(route, Route::Notice | Route::Alert);
        let excused = NOT_YET.iter().any(|(r, _)| *r == route);
        assert!(!written || read, "{route:?} is emitted and nobody reads it");
        assert!(written || excused || !read || route == Route::Heartbeat, "{route:?} is read and nobody writes it");
    }
}

/// Edges of the agent graph: who sends what to whom along durable commands.
fn command_edges() -> BTreeSet<(String, Route, String)> {
    let specs = specs();
    let mut edges = BTreeSet::new();
    for route in Route::ALL.into_iter().filter(|r| r.tokens().0 == "trading") {
        for to in specs.iter().filter(|s| s.consumes.contains(&route)) {
            for from in specs.iter().filter(|s| s.emits.contains(&route)) {
                edges.insert((from.name.to_owned(), route, to.name.to_owned()));
            }
            if FROM_PEOPLE.contains(&route) {
                edges.insert(("people".to_owned(), route, to.name.to_owned()));
            }
        }
    }
    edges
}

/// Cycles that are meant, by the pair of agents that closes them, each with the reason.
const MEANT_CYCLES: &[(&str, &str, &str)] = &[
    ("treasury", "online_trading", "permit out, report back: the report only says that a table has news"),
    ("treasury", "supervisor", "question out, word back: the answer is read from a table and checked again"),
];

#[test]
fn the_way_is_one_directional_but_for_the_listed_returns() {
    let edges = command_edges();
    for (from, route, to) in &edges {
        if from == to {
            continue;
        }
        let back = edges.iter().any(|(f, _, t)| f == to && t == from);
        let meant = MEANT_CYCLES.iter().any(|(a, b, _)| (a == from && b == to) || (b == from && a == to));
        assert!(!back || meant, "{from} and {to} answer each other over {route:?}: list the reason or cut the cycle");
    }
}

#[test]
fn the_picture_in_architecture_md_is_the_graph() {
    let mut picture = String::from("```mermaid\ngraph LR\n");
    for (from, route, to) in command_edges() {
        let (_, _, action) = route.tokens();
        picture.push_str(&format!("    {from} -->|{}| {to}\n", action.replace('*', "user")));
    }
    picture.push_str("```\n");
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(text.contains(&picture), "the agent graph in ARCHITECTURE.md should be:\n{picture}");
}

/// Doors at which no process may knock in a person's name: an order, and what only a person's key signs.
const PEOPLES_OWN: &[&str] =
    &["swarm.task", "swarm.signal", "swarm.approve", "swarm.resume", "swarm.breaker", "swarm.telegram.link"];
/// Who holds a key or the ledger, speaks for people, or decides what trades.
const TAKE_NO_TASKS: &[&str] = &["treasury", "online_trading", "dexter", "buy_bot", "telegram_jarvis", "supervisor"];

#[test]
fn a_task_reaches_no_agent_that_holds_a_key_or_the_ledger_and_carries_no_business_of_the_rails() {
    let table: toml::Table =
        toml::from_str(&std::fs::read_to_string(root().join("config/agents.toml")).unwrap()).unwrap();
    for spec in swarm::processes() {
        let takes_tasks = spec.consumes.contains(&Route::AgentTask);
        assert!(!takes_tasks || !TAKE_NO_TASKS.contains(&spec.name), "{} consumes tasks", spec.name);
        assert!(!takes_tasks || spec.tables.is_empty(), "{} consumes tasks and has a login to the store", spec.name);
        assert_eq!(spec.emits.contains(&Route::AgentTask), spec.name == supervisor::NAME, "{}", spec.name);
        if takes_tasks {
            assert!(spec.emits.contains(&Route::Task), "{} could not answer a task", spec.name);
            let declared = table["agent"][spec.name]["capabilities"].as_array().unwrap();
            let names: Vec<&str> = declared.iter().filter_map(toml::Value::as_str).collect();
            assert!(!names.is_empty(), "{} declares nothing that it could be asked for", spec.name);
            for name in names {
                assert!(!supervisor::tasks::is_rails_business(name), "{}: {name} would be refused", spec.name);
            }
        }
    }
}

/// Doors of one process each.
const CHANNELS: &[(&str, &str)] =
    &[("swarm.decide.telegram", "telegram_jarvis"), ("swarm.decide.web", "gateway"), ("swarm.web.login", "gateway")];

#[test]
fn who_knocks_at_a_persons_door_may_and_somebody_answers_there() {
    let answered: BTreeSet<&str> = supervisor::services::SUBJECTS.iter().map(|(subject, _)| *subject).collect();
    for spec in swarm::processes() {
        for subject in spec.asks {
            assert!(answered.contains(subject), "{} asks at {subject}, where nobody answers", spec.name);
            assert!(!PEOPLES_OWN.contains(subject), "{} must not ask at {subject}", spec.name);
        }
        for (door, whose) in CHANNELS {
            assert_eq!(spec.asks.contains(door), spec.name == *whose, "{} at {door}", spec.name);
        }
        let granted = bus::permissions::permissions_of(&spec).publish;
        let asked: BTreeSet<&str> = granted.iter().map(String::as_str).filter(|s| s.starts_with("swarm.")).collect();
        assert_eq!(asked, spec.asks.iter().copied().collect(), "{} may ask where its SPEC says", spec.name);
    }
    let operator = bus::permissions::permissions_of_person("operator");
    for doors in ["swarm.decide.>", "swarm.web.>"] {
        assert!(operator.publish_deny.iter().any(|subject| subject == doors), "{doors}");
    }
}
