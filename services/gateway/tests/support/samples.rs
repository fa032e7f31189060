//! Answers as the supervisor gives them.

use serde_json::{Value, json};

use super::Script;

/// The page's clock: 2026-11-21 17:40:00 UTC.
pub const NOW_MS: i64 = 1_795_282_800_000;
/// A request of tier 1.
pub const SMALL: &str = "0192f3c1-0000-7000-8000-000000000001";
/// A request of tier 2.
pub const LARGE: &str = "0192f3c1-0000-7000-8000-000000000002";
/// The first one's digest.
pub const DIGEST: &str = "9f2c4b7a11d0e8835c6f0a92b4d37e1f8a55c0d96e2b41f7733a9be0c4d1f208";

/// Everything is well, two requests wait.
pub fn fill(script: &Script) {
    script.answer("swarm.web.login", json!({ "ok": true, "person": "anna", "user": "anna" }));
    script.answer("swarm.status", status(0));
    script.answer("swarm.approvals", json!({ "ok": true, "approvals": [small(), large()] }));
    script.answer("swarm.positions", positions());
    script.answer("swarm.equity", equity());
    script.answer("swarm.trades", trades());
    script.answer("swarm.limits", limits());
    script.answer("swarm.halt", json!({ "ok": true, "level": 1, "epoch": 2, "by": "anna", "reason": "looking" }));
    script.answer(
        "swarm.decide.web",
        json!({ "ok": true, "approval_id": SMALL, "status": "allowed", "superseded_by": null }),
    );
}

/// The lines of a hashed envelope, as the rails render them.
fn rendering(order: &str, price: &str, most: &str, tier: u8, digest: &str, words: &str) -> Value {
    json!([
        ["Order", order],
        ["Worst price", price],
        ["At most", most],
        ["Slippage at most", "1.00 %"],
        ["Only reduces", "no"],
        ["Kind", "place (limit, what does not trade at once is cancelled)"],
        ["Venue", "paper"],
        ["Valid until", "2026-11-21T17:54:18.000Z"],
        ["Tier", tier.to_string()],
        ["Account", "5b6962dd-3f90-8c93-8f61-eabfa4a803e2"],
        ["Order id", "0192f3c1-0000-8000-8000-00000000000a"],
        ["Policy", "5f0c2a9be4417d83"],
        ["Digest", digest],
        ["Digest words", words],
    ])
}

/// A request of tier 1: one approval is enough.
pub fn small() -> Value {
    json!({
        "approval_id": SMALL, "user_id": "5b6962dd-3f90-8c93-8f61-eabfa4a803e2", "status": "pending", "tier": 1,
        "digest": DIGEST, "digest_words": ["copper", "lantern", "orbit", "maple"], "needed": 1, "entries": [],
        "summary": "buy 0.5 ETHUSDT at 3000.00 or better, at most $1500.00",
        "rendering": rendering("BUY 0.5 ETHUSDT", "$3000.00 per unit", "$1500.00", 1, DIGEST, "copper lantern orbit maple"),
        "side": "buy", "instrument": "paper:ETHUSDT", "quantity": "0.5", "worst_price": "3000.00",
        "requested_by": "buy_bot", "requested_at_ms": NOW_MS - 42_000, "expires_at_ms": NOW_MS + 858_000,
        "order_id": "0192f3c1-0000-8000-8000-00000000000a", "superseded_by": null,
        "prose_heading": "agent says (unverified)",
        "prose": "> Trend over 20 candles is up,\n> and the last pullback held at 2,960.",
        "agent_says_unverified": "Trend over 20 candles is up, and the last pullback held at 2,960.",
    })
}

/// A request of tier 2, of which one of two needed people has approved.
pub fn large() -> Value {
    let mut row = small();
    row["approval_id"] = LARGE.into();
    row["tier"] = 2.into();
    row["needed"] = 2.into();
    row["digest"] = "1".repeat(64).into();
    row["digest_words"] = json!(["velvet", "harbor", "thunder", "pencil"]);
    row["entries"] = json!([
        { "person_id": "bert", "decision": "approve", "channel": "telegram", "at": "2026-11-21T17:39:12.000Z" },
    ]);
    row["summary"] = "sell 0.1 BTCUSDT at 59800.00 or better, at most $5980.00".into();
    let (digest, words) = ("1".repeat(64), "velvet harbor thunder pencil");
    row["rendering"] = rendering("SELL 0.1 BTCUSDT", "$59800.00 per unit", "$5980.00", 2, &digest, words);
    row["side"] = "sell".into();
    row["quantity"] = "0.1".into();
    row["worst_price"] = "59800.00".into();
    row["prose"] = "> Momentum is gone; taking the position down before the close.".into();
    row["agent_says_unverified"] = "Momentum is gone; taking the position down before the close.".into();
    row
}

/// All at a glance.
pub fn status(kill: u64) -> Value {
    let agents = [
        "treasury",
        "online_trading",
        "buy_bot",
        "dexter",
        "launchpad_governor",
        "monitor",
        "reflector",
        "telegram_jarvis",
        "jarvis_x",
        "gateway",
    ];
    let agent = |name: &str| {
        json!({
            "agent": name, "verdict": if name == "dexter" { "stuck" } else { "healthy" }, "pid": 4242, "up_ms": 5_025_000,
            "restarts_in": { "60s": 0, "15min": u8::from(name == "dexter"), "24h": u8::from(name == "dexter") },
            "rss_bytes": 19_500_000, "quarantined": null,
            "lacks": if name == "jarvis_x" { json!(["X and voice: it neither reads nor posts"]) } else { json!([]) },
        })
    };
    json!({
        "ok": true, "now": "2026-11-21T17:40:00.000Z", "supervisor_pid": 4200, "pending_approvals": 2,
        "kill": { "level": kill, "epoch": 3, "by": "bert", "reason": if kill > 0 { "prices look odd" } else { "first start" } },
        "market": [
            { "instrument": "paper:BTCUSDT", "mark": "60012.55", "age_ms": 240 },
            { "instrument": "paper:ETHUSDT", "mark": "2981.07", "age_ms": 41_000 },
        ],
        "agents": agents.map(agent), "accounts": [],
    })
}

/// A ledger with two positions.
pub fn positions() -> Value {
    json!({
        "ok": true, "user": "anna", "cash_usd": "43120.4471", "equity_usd": "50718.337", "fees_usd": "11.9021", "fills": 14,
        "day": { "baseline_equity_usd": "50404.11", "profit_usd": "314.227" },
        "risk_permits_last_hour": 6, "breaker": { "losses_in_a_row": 1, "latched_at": null }, "open_reservations": 1,
        "positions": [
            {
                "instrument": "paper:BTCUSDT", "quantity": "0.1", "cost_usd": "5950.10", "mark": "60012.55",
                "value_usd": "6001.255", "unrealised_usd": "51.155",
            },
            {
                "instrument": "paper:ETHUSDT", "quantity": "0.53567", "cost_usd": "1611.94", "mark": "2981.07",
                "value_usd": "1596.87", "unrealised_usd": "-15.07",
            },
        ],
        "recent_decisions": [
            {
                "at": "2026-11-21T17:39:18.000Z", "outcome": "needs_human", "code": null,
                "numbers": { "notional_usd": "1500.00", "over_usd": "1000" },
            },
            {
                "at": "2026-11-21T17:31:02.000Z", "outcome": "refused", "code": "POSITION_LIMIT",
                "numbers": { "limit_usd": "10000", "would_be_usd": "11204.50" },
            },
        ],
    })
}

/// A day's curve.
pub fn equity() -> Value {
    let points: Vec<Value> = (0..96_i64)
        .map(|i| {
            let wave = (i * i * 37 + i * 113) % 271 - 120;
            json!({ "at_ms": NOW_MS - (95 - i) * 900_000, "equity_usd": format!("{}.5", 50_000 + i * 7 + wave) })
        })
        .collect();
    json!({ "ok": true, "points": points })
}

/// Three fills.
pub fn trades() -> Value {
    let fill = |i: i64, side: &str, symbol: &str, quantity: &str, price: &str, notional: &str| {
        json!({
            "at_ms": NOW_MS - i * 1_260_000, "instrument": format!("paper:{symbol}"), "side": side, "quantity": quantity,
            "price": price, "notional_usd": notional, "fee_usd": "0.61", "order_id": format!("0192f3c1-0000-8000-8000-0000000000{i:02}"),
        })
    };
    json!({ "ok": true, "trades": [
        fill(1, "buy", "BTCUSDT", "0.01", "59998.20", "599.982"),
        fill(2, "sell", "ETHUSDT", "0.2", "3010.44", "602.088"),
        fill(80, "buy", "ETHUSDT", "0.2", "2987.00", "597.4"),
    ] })
}

/// The limits, one of them unknown to the page.
pub fn limits() -> Value {
    json!({
        "ok": true, "user": "anna", "policy_version": "5f0c2a9be4417d83",
        "limits": {
            "position_usd": "5000", "total_exposure_percent": "100", "price_collar_percent": "5", "daily_loss_percent": "5",
            "approval_over_usd": "1000", "approval_window_ms": "300000", "approval_ttl_ms": "900000",
            "approval_prompts_per_hour": "12", "rate_risk_increasing": "20", "rate_exits": "60",
            "rate_window_ms": "3600000", "breaker_losses": "3", "breaker_loss_percent": "2", "mark_max_age_ms": "30000",
            "some_new_limit": "7",
        },
        "used": {
            "risk_permits": 6, "exit_permits": 1, "approval_prompts": 2, "losses_in_a_row": 1,
            "breaker_latched_at": null, "day_profit_usd": "314.227", "day_baseline_usd": "50404.11",
        },
    })
}
