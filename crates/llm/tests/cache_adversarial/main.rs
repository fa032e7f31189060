//! Requests that look alike and must not share an answer: none of them may hit, by any kind of key. And those that must.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod pairs;

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::time::UnixMs;
use llm::answer::{Answer, Finish, Usage};
use llm::cache::{Cache, CacheKind, Entry, Features, Hit, Keys, Settings, Wording, facts, normal};
use llm::request::ChatRequest;
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::clock::VirtualClock;

use crate::pairs::{ALWAYS, NEVER};

const THRESHOLD: f64 = 0.92;

fn cache() -> Cache {
    Cache::new(Settings::default(), None, Arc::new(VirtualClock::at(UnixMs(1_000))))
}

fn entry(content: &str) -> Entry {
    let answer = Answer {
        content: content.to_owned(),
        reasoning: String::new(),
        refusal: None,
        tool_calls: Vec::new(),
        finish: Finish::Stop,
        usage: Usage::default(),
        model: "m".to_owned(),
    };
    Entry {
        answer: Arc::new(answer),
        tier: "t".to_owned(),
        model: "m".to_owned(),
        cost_micros: 0,
        stored_at: UnixMs(1_000),
    }
}

fn body(text: &str) -> Value {
    json!({
        "model": "trading-llm",
        "messages": [{ "role": "system", "content": "You judge markets." }, { "role": "user", "content": text }],
        "temperature": 0,
        "metadata": { "volatile": "time,run_id", "tenant": "desk" },
    })
}

fn parse(body: &Value) -> ChatRequest {
    ChatRequest::parse(body.to_string().as_bytes()).unwrap()
}

/// Asks by the first with an answer kept, then by the second.
fn second(first: (&str, &ChatRequest), second: (&str, &ChatRequest)) -> Option<Hit> {
    let cache = cache();
    let keys = cache.keys(first.0, first.1).unwrap();
    cache.put(&keys, entry("of the first"));
    assert_eq!(cache.near(&keys).unwrap().kind, CacheKind::Exact, "the first finds its own");
    cache.near(&cache.keys(second.0, second.1).unwrap())
}

/// Both ways round.
fn never(what: &str, one: (&str, &ChatRequest), other: (&str, &ChatRequest)) {
    assert_eq!(second(one, other), None, "{what}: {:?} then {:?}", one.1.messages, other.1.messages);
    assert_eq!(second(other, one), None, "{what}: {:?} then {:?}", other.1.messages, one.1.messages);
}

/// Prose in which one word weighs little.
fn context() -> String {
    let words = ["liquidity", "moved", "while", "desks", "waited", "for", "figures", "of", "output", "and", "rates"];
    (0..9).map(|n| format!("{} {}. ", words.join(" "), words[n])).collect()
}

#[test]
fn no_other_question_is_answered() {
    for (what, one, other) in NEVER {
        assert_ne!(one, other);
        let (one, other) = (parse(&body(one)), parse(&body(other)));
        never(what, ("buy_bot", &one), ("buy_bot", &other));
    }
}

#[test]
fn no_other_question_is_answered_in_a_long_text() {
    let mut alike = 0;
    for (what, one, other) in NEVER {
        let [one, other] = [one, other].map(|text| format!("{}\n{text}", context()));
        let features = |text: &str| Features::of(text.split_whitespace().map(|word| (word, 1.0)));
        alike += usize::from(features(&one).cosine(&features(&other)) >= THRESHOLD);
        never(what, ("buy_bot", &parse(&body(&one))), ("buy_bot", &parse(&body(&other))));
    }
    // The threshold alone would have served nearly all of them: it is the equal words that hold.
    assert!(alike * 10 > NEVER.len() * 8, "{alike} of {}", NEVER.len());
}

#[test]
fn no_other_request_is_answered() {
    let tool = json!({ "type": "function", "function": { "name": "f" } });
    let schema = |schema: Value, strict: bool| json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema, "strict": strict } });
    let system =
        |text: &str| json!([{ "role": "system", "content": text }, { "role": "user", "content": "What moved BTC?" }]);
    let plain = ("buy_bot", json!({}));
    let rows = [
        ("agent", plain.clone(), ("treasury", json!({}))),
        ("agent", plain.clone(), ("buy_bo", json!({}))),
        ("tenant", plain.clone(), ("buy_bot", json!({ "metadata": { "tenant": "other" } }))),
        ("tenant", plain.clone(), ("buy_bot", json!({ "metadata": {} }))),
        (
            "tenant slides into agent",
            ("a", json!({ "metadata": { "tenant": "bc" } })),
            ("ab", json!({ "metadata": { "tenant": "c" } })),
        ),
        (
            "tenant slides into agent",
            ("a=", json!({ "metadata": {} })),
            ("a", json!({ "metadata": { "tenant": "=" } })),
        ),
        ("volatile names", plain.clone(), ("buy_bot", json!({ "messages": system("other") }))),
        ("model", plain.clone(), ("buy_bot", json!({ "model": "reasoning-llm" }))),
        ("model", plain.clone(), ("buy_bot", json!({ "model": "Trading-llm" }))),
        ("system", plain.clone(), ("buy_bot", json!({ "messages": system("You judge markets!") }))),
        ("system", plain.clone(), ("buy_bot", json!({ "messages": system("You judge  markets.") }))),
        ("system", plain.clone(), ("buy_bot", json!({ "messages": system("time: 5") }))),
        (
            "no system",
            plain.clone(),
            ("buy_bot", json!({ "messages": [{ "role": "user", "content": "What moved BTC?" }] })),
        ),
        (
            "role",
            plain.clone(),
            (
                "buy_bot",
                json!({ "messages": [
            { "role": "user", "content": "You judge markets." }, { "role": "user", "content": "What moved BTC?" }] }),
            ),
        ),
        (
            "one message",
            plain.clone(),
            (
                "buy_bot",
                json!({ "messages": [
            { "role": "user", "content": "You judge markets.\nWhat moved BTC?" }] }),
            ),
        ),
        (
            "name",
            plain.clone(),
            (
                "buy_bot",
                json!({ "messages": [
            { "role": "system", "content": "You judge markets." }, { "role": "user", "content": "What moved BTC?", "name": "bob" }] }),
            ),
        ),
        (
            "history",
            plain.clone(),
            (
                "buy_bot",
                json!({ "messages": [
            { "role": "system", "content": "You judge markets." }, { "role": "user", "content": "q" },
            { "role": "assistant", "content": "a" }, { "role": "user", "content": "What moved BTC?" }] }),
            ),
        ),
        (
            "prefill",
            plain.clone(),
            (
                "buy_bot",
                json!({ "messages": [
            { "role": "system", "content": "You judge markets." }, { "role": "user", "content": "What moved BTC?" },
            { "role": "assistant", "content": "It was" }] }),
            ),
        ),
        ("temperature", plain.clone(), ("buy_bot", json!({ "temperature": 0.1 }))),
        ("temperature", plain.clone(), ("buy_bot", json!({ "temperature": null }))),
        ("top_p", plain.clone(), ("buy_bot", json!({ "top_p": 0.5 }))),
        ("seed", ("buy_bot", json!({ "seed": 1 })), ("buy_bot", json!({ "seed": 2 }))),
        ("stop", plain.clone(), ("buy_bot", json!({ "stop": "\n" }))),
        ("penalty", plain.clone(), ("buy_bot", json!({ "presence_penalty": 1 }))),
        ("penalty", ("buy_bot", json!({ "frequency_penalty": 1 })), ("buy_bot", json!({ "presence_penalty": 1 }))),
        ("effort", plain.clone(), ("buy_bot", json!({ "reasoning_effort": "high" }))),
        ("max_tokens", plain.clone(), ("buy_bot", json!({ "max_tokens": 5 }))),
        ("tools", plain.clone(), ("buy_bot", json!({ "tools": [tool] }))),
        ("tools", ("buy_bot", json!({ "tools": [tool] })), ("buy_bot", json!({ "tools": [tool, tool] }))),
        (
            "tool choice",
            ("buy_bot", json!({ "tools": [tool] })),
            ("buy_bot", json!({ "tools": [tool], "tool_choice": "none" })),
        ),
        (
            "parallel",
            ("buy_bot", json!({ "tools": [tool] })),
            ("buy_bot", json!({ "tools": [tool], "parallel_tool_calls": false })),
        ),
        ("format", plain.clone(), ("buy_bot", json!({ "response_format": { "type": "json_object" } }))),
        ("schema", plain.clone(), ("buy_bot", json!({ "response_format": schema(json!({ "type": "object" }), true) }))),
        (
            "schema",
            ("buy_bot", json!({ "response_format": schema(json!({ "enum": ["a", "b"] }), true) })),
            ("buy_bot", json!({ "response_format": schema(json!({ "enum": ["a", "c"] }), true) })),
        ),
        (
            "strict",
            ("buy_bot", json!({ "response_format": schema(json!({ "type": "object" }), true) })),
            ("buy_bot", json!({ "response_format": schema(json!({ "type": "object" }), false) })),
        ),
    ];
    let of = |extra: &Value, text: &str| {
        let mut body = body(text);
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        parse(&body)
    };
    for (what, one, other) in &rows {
        never(what, (one.0, &of(&one.1, "What moved BTC?")), (other.0, &of(&other.1, "What moved BTC?")));
    }
    assert!(NEVER.len() + rows.len() >= 150, "{}", NEVER.len() + rows.len());
}

#[test]
fn other_volatile_names_are_another_question() {
    // One caller means the line, the other has it blanked.
    let mut meant = body("time:\nWhat moved BTC?");
    meant["metadata"] = json!({ "tenant": "desk" });
    never("volatile", ("buy_bot", &parse(&meant)), ("buy_bot", &parse(&body("time: 5\nWhat moved BTC?"))));
    // Only the last message of the user has such lines.
    let with = |time: u8| {
        let mut body = body("");
        body["messages"] = json!([{ "role": "user", "content": format!("time: {time}\nq") },
            { "role": "assistant", "content": "a" }, { "role": "user", "content": "What moved BTC?" }]);
        parse(&body)
    };
    never("earlier message", ("buy_bot", &with(1)), ("buy_bot", &with(2)));
}

#[test]
fn what_is_the_same_is_answered_and_named() {
    for (kind, one, other) in ALWAYS {
        let (one, other) = (parse(&body(one)), parse(&body(other)));
        for (first, then) in [(&one, &other), (&other, &one)] {
            let hit = second(("buy_bot", first), ("buy_bot", then));
            let found = hit.as_ref().map(|hit| hit.kind.word());
            assert_eq!(found, Some(*kind), "{:?} then {:?}", first.messages, then.messages);
        }
    }
}

#[test]
fn another_wording_is_taken_only_where_answers_are_meant_to_be_equal() {
    let pair = |extra: &Value| {
        ["What is the trend of BTC?", "What's the trend of BTC"].map(|text| {
            let mut body = body(text);
            for (name, value) in extra.as_object().unwrap() {
                body[name] = value.clone();
            }
            parse(&body)
        })
    };
    let hits = |extra: Value| {
        let [one, other] = pair(&extra);
        second(("a", &one), ("a", &other)).is_some()
    };
    assert!(hits(json!({})));
    assert!(hits(json!({ "temperature": 0.2 })));
    assert!(!hits(json!({ "temperature": 0.21 })));
    assert!(!hits(json!({ "temperature": null })));
    assert!(!hits(json!({ "tools": [{ "type": "function", "function": { "name": "f" } }] })));
    let off = Settings { semantic: None, ..Settings::default() };
    let cache = Cache::new(off, None, Arc::new(VirtualClock::at(UnixMs(0))));
    assert_eq!(cache.keys("a", &pair(&json!({}))[0]).unwrap().semantic, None);
}

#[test]
fn urgent_callers_share_no_flight_with_others() {
    let cache = cache();
    let keys = cache.keys("a", &parse(&body("q"))).unwrap();
    let other = cache.keys("b", &parse(&body("q"))).unwrap();
    assert_eq!(keys.flight(7), keys.flight(9));
    assert_eq!(keys.flight(0), keys.flight(6));
    assert_ne!(keys.flight(6), keys.flight(7));
    assert_ne!(keys.flight(6), other.flight(6));
}

/// Where the rules meet one another.
const PIECES: &[&str] = &[
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "```",
    "~~~",
    "time:",
    "time: 5",
    "run_id: 6",
    "time: buy",
    "please",
    "Please",
    "could",
    "you",
    "tell",
    "me",
    "what",
    "What's",
    "the",
    "price",
    "isn't",
    "not",
    "BTC",
    "-5",
    "5%",
    "\"",
    "'",
    "?",
    ".",
    ",",
    "thanks",
    "\u{200b}",
    "\u{412}",
    "a",
    "b",
];

fn texts() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..14).prop_map(|pieces| pieces.concat())
}

fn requests() -> impl Strategy<Value = (String, ChatRequest)> {
    let agent = prop_oneof![Just("a"), Just("ab"), Just("b")];
    let tenant = prop_oneof![Just(None), Just(Some("b")), Just(Some("bc"))];
    let volatile = prop_oneof![Just(None), Just(Some("time")), Just(Some("run_id,time"))];
    let limits = (prop::option::of(0..2_u8), prop::option::of(1..3_u8));
    (agent, tenant, volatile, prop::option::of(texts()), texts(), limits).prop_map(
        |(agent, tenant, volatile, system, text, (temperature, max_tokens))| {
            let mut metadata = BTreeMap::new();
            metadata.extend(tenant.map(|tenant| ("tenant", tenant)));
            metadata.extend(volatile.map(|volatile| ("volatile", volatile)));
            let mut messages = Vec::new();
            messages.extend(system.map(|system| json!({ "role": "system", "content": format!("s{system}") })));
            messages.push(json!({ "role": "user", "content": format!("u{text}") }));
            let body = json!({ "model": "m", "messages": messages, "metadata": metadata, "temperature": temperature,
                "max_tokens": max_tokens });
            (agent.to_owned(), parse(&body))
        },
    )
}

/// Who asks, for whom, the volatile names, and the canonical bytes.
type Identity = (String, Option<String>, Vec<String>, Vec<u8>);

/// What may share a normalised key, by what the page says: who asks, the names, and the rest with the normal text.
fn normal_identity(agent: &str, request: &ChatRequest) -> Option<Identity> {
    let mut names = request.extras.volatile.clone();
    names.sort();
    let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut plain = request.clone();
    let last = plain.messages.last_mut().unwrap();
    last.content = normal(&last.content, &borrowed)?;
    Some((agent.to_owned(), request.extras.tenant.clone(), names, plain.canonical()))
}

/// Words of each line, without what a line's end may lose.
fn words_of_lines(text: &str) -> Vec<Vec<String>> {
    let words = |line: &str| line.split([' ', '\t']).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    // CR before LF is the end of a line too; where the text ends it is a character.
    let (before, last) = text.rsplit_once('\n').map_or((None, text), |(before, last)| (Some(before), last));
    let ended = before.into_iter().flat_map(|before| before.split('\n'));
    let ended = ended.map(|line| line.trim_end_matches([' ', '\t', '\r']));
    let mut lines: Vec<Vec<String>> = ended.chain([last]).map(words).collect();
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn keys_are_equal_only_where_the_page_says_so((a, one) in requests(), (b, other) in requests()) {
        let (keys, others) = (Keys::of(&a, &one, true).unwrap(), Keys::of(&b, &other, true).unwrap());
        let same = (&a, &one.extras.tenant, one.canonical()) == (&b, &other.extras.tenant, other.canonical());
        prop_assert_eq!(keys.exact == others.exact, same);
        let identities = (normal_identity(&a, &one), normal_identity(&b, &other));
        prop_assert_eq!(keys.normalised.is_some(), identities.0.is_some());
        if let (Some(one), Some(other)) = (&keys.normalised, &others.normalised) {
            prop_assert_eq!(one == other, identities.0 == identities.1);
        }
        let all = [Some(keys.exact), keys.normalised, keys.semantic.as_ref().map(|key| key.place)];
        for (at, key) in all.iter().enumerate().filter(|(_, key)| key.is_some()) {
            prop_assert!(!all[..at].contains(key), "kinds are apart");
        }
    }

    #[test]
    fn the_way_of_answering_is_no_part_of_the_keys((agent, request) in requests(), stream: bool, priority in 0..10_u8) {
        let mut other = request.clone();
        other.stream = stream;
        other.include_usage = stream;
        other.extras.priority = Some(priority);
        other.extras.correlation_id = Some("c".to_owned());
        other.extras.deadline_ms = Some(5);
        prop_assert_eq!(Keys::of(&agent, &request, true), Keys::of(&agent, &other, true));
    }

    #[test]
    fn a_normal_form_keeps_every_word_in_its_line(text in texts()) {
        let plain = normal(&text, &[]).unwrap();
        prop_assert_eq!(normal(&plain, &[]).unwrap(), plain.clone(), "twice is once");
        prop_assert_eq!(words_of_lines(&plain), words_of_lines(&text));
        // Beside lines that begin with a name nothing changes by naming it.
        if !text.split('\n').any(|line| line.starts_with("time:")) {
            prop_assert_eq!(normal(&text, &["time"]).unwrap(), plain);
        }
    }

    #[test]
    fn only_polite_words_are_soft(text in texts()) {
        let Some(wording) = Wording::of(&text) else { return Ok(()) };
        let telling = |text: &str| -> Vec<String> {
            let tells = |word: &str| word.contains(|c: char| c.is_ascii_digit() || !c.is_ascii()) || word.contains("BTC")
                || word.contains("not") || word.contains("n't");
            let bare = |word: &str| word.trim_end_matches(['.', '!', '?', ',']).replace("isn't", "not");
            text.split([' ', '\n']).filter(|word| tells(word)).map(bare).collect()
        };
        prop_assert_eq!(telling(wording.hard()), telling(&text));
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in any::<String>(), name in any::<String>(), mixed in texts()) {
        for text in [text.clone(), format!("{mixed}{text}"), format!("{text}: {mixed}")] {
            let _ = normal(&text, &[&name, &text]);
            let _ = Wording::of(&text);
            let _ = facts(&text);
        }
    }
}
