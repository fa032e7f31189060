//! What strangers wrote: it is text, it stays in its place, and it changes no number.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::samples::{SMALL, positions, small, status};
use crate::support::{World, between};

const HOSTILE: &str = "</blockquote></div><script>alert(1)</script><img src=x onerror=alert(1)>\"'`{{7*7}}";

async fn page_with(row: Value) -> String {
    let world = World::open().await;
    let anna = world.login().await;
    world.script.answer("swarm.approvals", json!({ "ok": true, "approvals": [row] }));
    world.get(&format!("/approvals/{SMALL}"), Some(&anna)).await.body
}

/// The part of a page that says what is decided on.
fn decided_on(page: &str) -> String {
    between(page, "<h2 id=\"h-what\">", "</section>").to_owned()
}

#[tokio::test]
async fn prose_can_neither_change_nor_hide_a_number() {
    let calm = page_with(small()).await;
    let rendered = decided_on(&calm);
    for part in ["BUY 0.5 ETHUSDT", "$3000.00", "$1500.00", "copper lantern orbit maple"] {
        assert!(rendered.contains(part), "{part} in {rendered}");
    }
    assert!(!rendered.contains("pullback"), "prose stands apart");
    assert!(calm.find("BUY 0.5").unwrap() < calm.find("agent says (unverified)").unwrap(), "numbers come first");
    for prose in [
        "A".repeat(10_000),
        "\u{202e}005,1$ :tsom tA\u{202c}\n\n\n\u{2066}At most: $5\u{2069}".to_owned(),
        "At most\r\n$1.00\nWorst price\n$1.00".to_owned(),
        "Αt most ＄１.００ – аpproved by Αnna ✓".to_owned(),
        "\u{200b}\u{feff}\u{0}\u{7}\u{1b}[2J\u{85}\u{2028}".to_owned(),
        "e\u{301}\u{302}\u{303}".repeat(200),
        HOSTILE.to_owned(),
    ] {
        let mut row = small();
        // Whether or not the supervisor has cleaned it.
        row["prose"] = if prose.starts_with('A') { prose.clone().into() } else { Value::Null };
        row["agent_says_unverified"] = prose.clone().into();
        let page = page_with(row).await;
        assert_eq!(decided_on(&page), rendered, "{prose:?}");
        let said = page.split_once("agent says (unverified)").map_or("", |(_, rest)| rest);
        let said = said.split_once("<blockquote dir=\"ltr\">").map_or("", |(_, rest)| rest);
        let said = said.split_once("</blockquote>").map_or("", |(said, _)| said);
        assert!(said.chars().count() <= 500 * 6, "500 characters, escaped: {}", said.len());
        let marks =
            ['\u{202e}', '\u{202c}', '\u{2066}', '\u{2069}', '\u{200b}', '\u{feff}', '\u{0}', '\u{7}', '\u{1b}', '\n'];
        let words = said.replace("<p>", "").replace("</p>", "");
        assert!(!words.contains(marks) && !words.contains('<'), "{said:?}");
        assert_eq!(page.matches("agent says (unverified)").count(), usize::from(!said.is_empty()));
    }
}

#[tokio::test]
async fn no_field_can_hold_html() {
    let world = World::open().await;
    let mut row = small();
    for field in [
        "summary",
        "prose",
        "agent_says_unverified",
        "requested_by",
        "digest",
        "quantity",
        "worst_price",
        "side",
        "order_id",
    ] {
        row[field] = HOSTILE.into();
    }
    row["rendering"] = json!([[HOSTILE, HOSTILE], ["Action", HOSTILE]]);
    row["digest_words"] = json!([HOSTILE, HOSTILE]);
    row["entries"] = json!([{ "person_id": HOSTILE, "decision": HOSTILE, "channel": HOSTILE, "at": HOSTILE }]);
    world.script.answer("swarm.approvals", json!({ "ok": true, "approvals": [row] }));
    let mut state = status(1);
    state["kill"]["reason"] = HOSTILE.into();
    state["kill"]["by"] = HOSTILE.into();
    state["market"][0]["instrument"] = HOSTILE.into();
    state["agents"][0] = json!({ "agent": HOSTILE, "verdict": HOSTILE, "lacks": [HOSTILE], "quarantined": HOSTILE });
    world.script.answer("swarm.status", state);
    let mut ledger = positions();
    ledger["positions"][0]["instrument"] = HOSTILE.into();
    ledger["positions"][0]["quantity"] = HOSTILE.into();
    ledger["recent_decisions"][0] =
        json!({ "at": HOSTILE, "outcome": HOSTILE, "code": HOSTILE, "numbers": { HOSTILE: HOSTILE } });
    world.script.answer("swarm.positions", ledger);
    let trade = json!({ "at_ms": HOSTILE, "instrument": HOSTILE, "side": HOSTILE, "quantity": HOSTILE, "price": HOSTILE, "order_id": HOSTILE });
    world.script.answer("swarm.trades", json!({ "ok": true, "trades": [trade] }));
    let limits = json!({ HOSTILE: HOSTILE, "position_usd": HOSTILE, "rate_window_ms": HOSTILE });
    let used = json!({ "risk_permits": HOSTILE, "day_profit_usd": HOSTILE });
    world
        .script
        .answer("swarm.limits", json!({ "ok": true, "policy_version": HOSTILE, "limits": limits, "used": used }));
    world.script.answer("swarm.equity", json!({ "ok": false, "code": HOSTILE, "detail": HOSTILE }));
    // Of another account nothing is kept from before.
    world.script.answer("swarm.web.login", json!({ "ok": true, "person": "anna", "user": "fresh" }));
    let anna = world.login().await;
    for path in ["/", "/trades", "/agents", "/limits", "/stop", &format!("/approvals/{SMALL}")] {
        let page = world.get(path, Some(&anna)).await.body;
        for tag in ["<script>", "<img", "onerror=alert(1)>"] {
            assert!(!page.contains(tag), "{path}: {tag}");
        }
        assert!(page.contains("&lt;script&gt;"), "{path} shows it as text");
    }
    for typed in [HOSTILE, "\"><b>"] {
        let answer = world.post("/login", None, &[("person", typed), ("totp", "1")]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(!answer.body.contains("<b>") && !answer.body.contains("<img"), "{}", answer.body);
    }
}
