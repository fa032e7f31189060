//! Who may see and do what: each test turns red without the check it is about.

use reqwest::header::{COOKIE, HeaderMap, ORIGIN, SET_COOKIE};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::samples::{DIGEST, SMALL};
use crate::support::{CODE, World};

const PAGES: [&str; 6] =
    ["/", "/trades", "/agents", "/limits", "/stop", "/approvals/0192f3c1-0000-7000-8000-000000000001"];

fn decide_path() -> String {
    format!("/approvals/{SMALL}/decide")
}

fn approve<'a>(csrf: &'a str, totp: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("csrf", csrf), ("decision", "approve"), ("digest", DIGEST), ("reason", ""), ("totp", totp)]
}

#[tokio::test]
async fn without_a_session_nothing_is_shown_and_nothing_is_done() {
    let world = World::open().await;
    for path in PAGES {
        let answer = world.get(path, None).await;
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/login"), "{path}");
        assert!(answer.body.is_empty());
    }
    assert_eq!(world.get("/events?page=desk", None).await.status, StatusCode::UNAUTHORIZED);
    for (path, fields) in [
        (decide_path(), approve("x", CODE)),
        ("/stop".to_owned(), vec![("csrf", "x"), ("level", "1")]),
        ("/logout".to_owned(), vec![("csrf", "x")]),
    ] {
        assert_eq!(world.post(&path, None, &fields).await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    let forged = crate::support::Visitor { cookie: format!("swarm_session={}", "0".repeat(64)), csrf: String::new() };
    assert_eq!(world.get("/", Some(&forged)).await.location(), "/login");
    assert_eq!(world.script.subjects().into_iter().collect::<Vec<_>>(), Vec::<String>::new());
}

#[tokio::test]
async fn a_session_ends_after_half_an_hour_of_silence_and_a_form_from_it_does_nothing() {
    let world = World::open().await;
    let anna = world.login().await;
    world.clock.advance_ms(30 * 60_000);
    assert_eq!(world.get("/", Some(&anna)).await.status, StatusCode::OK);
    world.clock.advance_ms(30 * 60_000 + 1);
    let answer = world.post(&decide_path(), Some(&anna), &approve(&anna.csrf, CODE)).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.get("/", Some(&anna)).await.location(), "/login");
    assert!(world.script.asked("swarm.decide.web").is_empty());
}

#[tokio::test]
async fn a_session_that_was_ended_by_its_person_is_worth_nothing() {
    let world = World::open().await;
    let anna = world.login().await;
    let answer = world.post("/logout", Some(&anna), &[("csrf", &anna.csrf)]).await;
    assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/login"));
    assert!(answer.headers[SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(world.get("/", Some(&anna)).await.location(), "/login");
}

#[tokio::test]
async fn a_form_without_the_mark_of_the_session_does_nothing() {
    let world = World::open().await;
    let (anna, other) = (world.login().await, world.login().await);
    for csrf in ["", "x", other.csrf.as_str()] {
        let answer = world.post(&decide_path(), Some(&anna), &approve(csrf, CODE)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{csrf:?}");
        let answer = world.post("/stop", Some(&anna), &[("csrf", csrf), ("level", "1")]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{csrf:?}");
        assert_eq!(world.post("/logout", Some(&anna), &[("csrf", csrf)]).await.status, StatusCode::FORBIDDEN);
    }
    let without = [("decision", "approve"), ("digest", DIGEST), ("totp", CODE)];
    assert_eq!(world.post(&decide_path(), Some(&anna), &without).await.status, StatusCode::FORBIDDEN);
    assert!(world.script.asked("swarm.decide.web").is_empty() && world.script.asked("swarm.halt").is_empty());
    assert_eq!(world.get("/", Some(&anna)).await.status, StatusCode::OK, "still logged in");
}

#[tokio::test]
async fn a_form_of_another_site_does_nothing() {
    let world = World::open().await;
    let anna = world.login().await;
    let own = world.own_origin();
    let other_port = "http://127.0.0.1:1".to_owned();
    let other_name = own.replace("127.0.0.1", "localhost");
    for headers in [
        vec![],
        vec![("sec-fetch-site", "same-origin")],
        vec![(ORIGIN.as_str(), "null")],
        vec![(ORIGIN.as_str(), "https://evil.example")],
        vec![(ORIGIN.as_str(), other_port.as_str())],
        vec![(ORIGIN.as_str(), other_name.as_str())],
        vec![(ORIGIN.as_str(), own.as_str()), ("sec-fetch-site", "cross-site")],
        vec![(ORIGIN.as_str(), own.as_str()), ("sec-fetch-site", "same-site")],
    ] {
        for (path, fields) in [
            (decide_path(), approve(&anna.csrf, CODE)),
            ("/stop".to_owned(), vec![("csrf", anna.csrf.as_str()), ("level", "1")]),
            ("/login".to_owned(), vec![("person", "anna"), ("totp", CODE)]),
        ] {
            let answer = world.post_with(&path, Some(&anna), &fields, &headers).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {headers:?}");
        }
    }
    assert!(world.script.asked("swarm.decide.web").is_empty() && world.script.asked("swarm.halt").is_empty());
    assert_eq!(world.script.asked("swarm.web.login").len(), 1, "anna's own");
}

#[tokio::test]
async fn a_name_that_only_points_here_is_not_answered() {
    let world = World::open_with(Some("https://desk.example")).await;
    let anna = world.login().await;
    let own = format!("localhost:{}", world.port);
    for (host, answered) in [
        (own.as_str(), true),
        ("desk.example", true),
        ("evil.example", false),
        ("127.0.0.1", false),
        ("desk.example.evil", false),
    ] {
        let headers = [("host", host), (COOKIE.as_str(), anna.cookie.as_str())];
        for path in ["/", "/login", "/assets/page.js", "/events?page=nothing"] {
            let status = world.send(Method::GET, path, &headers, String::new()).await.status;
            assert_eq!(status == StatusCode::MISDIRECTED_REQUEST, !answered, "{host} {path}: {status}");
        }
        let origin = format!("http://{host}");
        let headers = [("host", host), (ORIGIN.as_str(), origin.as_str())];
        let status =
            world.post_with("/stop", Some(&anna), &[("csrf", &anna.csrf), ("level", "1")], &headers).await.status;
        assert_eq!(status == StatusCode::SEE_OTHER, answered && host == own, "{host}: {status}");
    }
    assert_eq!(world.script.asked("swarm.halt").len(), 1);
}

#[tokio::test]
async fn reading_changes_nothing_and_a_decision_is_no_address() {
    let world = World::open().await;
    let anna = world.login().await;
    let query = format!("?csrf={}&decision=approve&digest={DIGEST}&totp={CODE}", anna.csrf);
    for path in [decide_path(), decide_path() + &query, "/logout".to_owned()] {
        assert_eq!(world.get(&path, Some(&anna)).await.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    for path in PAGES {
        for query in [query.as_str(), "?said=1", "?level=1"] {
            assert_eq!(world.get(&format!("{path}{query}"), Some(&anna)).await.status, StatusCode::OK, "{path}{query}");
        }
    }
    let reads = ["approvals", "equity", "limits", "positions", "status", "trades", "web.login"];
    let asked: Vec<String> = world.script.subjects().into_iter().collect();
    assert_eq!(asked, reads.map(|name| format!("swarm.{name}")), "no act among them");
    assert_eq!(world.script.asked("swarm.web.login").len(), 1);
}

#[tokio::test]
async fn a_decision_takes_a_code_and_the_stop_button_none() {
    let world = World::open().await;
    let anna = world.login().await;
    for totp in ["", "12345", "1234567", "12345x", "      ", "１２３４５６"] {
        let answer = world.post(&decide_path(), Some(&anna), &approve(&anna.csrf, totp)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{totp:?}");
        assert!(answer.body.contains("six digits"), "{totp:?}");
    }
    let without = [("csrf", anna.csrf.as_str()), ("decision", "approve"), ("digest", DIGEST)];
    assert_eq!(world.post(&decide_path(), Some(&anna), &without).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(world.script.asked("swarm.decide.web").is_empty());
    let answer = world.post("/stop", Some(&anna), &[("csrf", &anna.csrf), ("level", "2"), ("reason", "fire")]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(world.script.asked("swarm.halt"), [json!({ "level": 2, "reason": "fire", "by": "anna", "way": "web" })]);
    for level in ["0", "5", "", "1e0"] {
        let answer = world.post("/stop", Some(&anna), &[("csrf", &anna.csrf), ("level", level)]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "a level is never lowered here: {level:?}");
    }
    assert_eq!(world.script.asked("swarm.halt").len(), 1);
    // What levels 3 and 4 do is said before their buttons.
    let page = world.get("/stop", Some(&anna)).await.body;
    for (level, words) in
        [("3", "every position of every account is sold"), ("4", "What is not sold by then stays held")]
    {
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text:?} in {page}"));
        assert!(at(words) < at(&format!("value=\"{level}\"")), "{level}");
        let answer = world.post("/stop", Some(&anna), &[("csrf", &anna.csrf), ("level", level)]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
    }
    assert_eq!(world.script.asked("swarm.halt").len(), 3);
}

#[tokio::test]
async fn codes_can_t_be_guessed_at_the_login() {
    let world = World::open().await;
    world.script.answer("swarm.web.login", json!({ "ok": false, "code": "LOGIN_REFUSED", "detail": "no" }));
    let world = &world;
    let guess = |code| async move { world.post("/login", None, &[("person", "anna"), ("totp", code)]).await };
    for code in ["000000", "000001", "000002", "000003", "000004"] {
        let answer = guess(code).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(!answer.headers.contains_key(SET_COOKIE));
    }
    let answer = guess("000005").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers["retry-after"], "901");
    assert_eq!(world.script.asked("swarm.web.login").len(), 5, "the sixth was not even asked");
    world.script.answer("swarm.web.login", json!({ "ok": true, "person": "anna", "user": "anna" }));
    assert_eq!(guess(CODE).await.status, StatusCode::TOO_MANY_REQUESTS, "not even with the right one");
    world.clock.advance_ms(15 * 60_000);
    assert_eq!(guess(CODE).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn codes_can_t_be_guessed_with_a_stolen_session() {
    let world = World::open().await;
    let anna = world.login().await;
    world.script.answer("swarm.decide.web", json!({ "ok": false, "code": "BAD_CODE", "detail": "no" }));
    for _ in 0..5 {
        let answer = world.post(&decide_path(), Some(&anna), &approve(&anna.csrf, "000000")).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert!(answer.body.contains("wrong or was used before"));
    }
    let answer = world.post(&decide_path(), Some(&anna), &approve(&anna.csrf, CODE)).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(world.script.asked("swarm.decide.web").len(), 5);
}

#[tokio::test]
async fn a_login_is_only_for_the_person_the_supervisor_names() {
    let world = World::open().await;
    world.script.answer("swarm.web.login", json!({ "ok": true, "person": "bert", "user": null }));
    for answer in [
        world.post("/login", None, &[("person", "anna"), ("totp", CODE)]).await,
        world.post("/login", None, &[("person", "anna"), ("totp", "12")]).await,
        world.post("/login", None, &[("person", "an na"), ("totp", CODE)]).await,
        world.post("/login", None, &[("person", "anna"), ("totp", CODE), ("user", "bert")]).await,
    ] {
        assert!(answer.status.is_client_error() && !answer.headers.contains_key(SET_COOKIE), "{}", answer.status);
    }
    assert_eq!(world.script.asked("swarm.web.login").len(), 1);
}

fn has_all_headers(headers: &HeaderMap, what: &str) {
    let policy =
        headers.get("content-security-policy").unwrap_or_else(|| panic!("{what}: no policy")).to_str().unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.split("; ").any(|rule| rule == part), "{what}: {part} not in {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(headers[name], value, "{what}");
    }
}

#[tokio::test]
async fn every_answer_tells_the_browser_what_this_page_may_never_do() {
    let world = World::open().await;
    let anna = world.login().await;
    for path in PAGES.into_iter().chain(["/login", "/no/such/page", "/approvals/x", "/assets/page.css", "/assets/none"])
    {
        for visitor in [Some(&anna), None] {
            let answer = world.get(path, visitor).await;
            has_all_headers(&answer.headers, path);
            let cached = answer.headers["cache-control"].to_str().unwrap();
            assert_eq!(cached == "no-store", path != "/assets/page.css", "{path}: {cached}");
        }
    }
    let refused = world.send(Method::GET, "/", &[("host", "evil.example")], String::new()).await;
    has_all_headers(&refused.headers, "wrong host");
    has_all_headers(&world.get(&decide_path(), Some(&anna)).await.headers, "wrong method");
}

#[tokio::test]
async fn no_page_holds_a_script_a_style_or_a_handler_of_its_own() {
    let world = World::open().await;
    let anna = world.login().await;
    for path in PAGES.into_iter().chain(["/login", "/no/such/page"]) {
        let page = world.get(path, Some(&anna)).await.body.to_lowercase();
        let scripts = page.matches("<script").count();
        assert_eq!(scripts, page.matches("<script src=\"/assets/page.js?v=").count(), "{path}");
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains("javascript:"), "{path}");
        for tag in page.split('<').filter_map(|rest| rest.split('>').next()) {
            assert!(!tag.split_whitespace().skip(1).any(|word| word.starts_with("on")), "{path}: <{tag}>");
        }
    }
}

#[tokio::test]
async fn the_cookie_is_for_this_page_alone() {
    let world = World::open_with(Some("https://desk.example")).await;
    let form = [("person", "anna"), ("totp", CODE)];
    let cookie = world.post("/login", None, &form).await.headers[SET_COOKIE].to_str().unwrap().to_owned();
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Domain"));
    let headers = [("host", "desk.example"), (ORIGIN.as_str(), "https://desk.example")];
    let behind_tls = world.post_with("/login", None, &form, &headers).await;
    let cookie = behind_tls.headers[SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("__Host-") && cookie.contains("; Secure"), "{cookie}");
    assert_ne!(
        cookie.split(';').next(),
        world.post("/login", None, &form).await.headers[SET_COOKIE].to_str().unwrap().split(';').next()
    );
}

#[tokio::test]
async fn a_form_larger_than_any_of_ours_is_not_read() {
    let world = World::open().await;
    let anna = world.login().await;
    let reason = "x".repeat(20_000);
    let answer = world.post("/stop", Some(&anna), &[("csrf", &anna.csrf), ("level", "1"), ("reason", &reason)]).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(world.script.asked("swarm.halt").is_empty());
}
