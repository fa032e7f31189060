//! What the fuzzer starts from: one good input of each kind, made here or taken from the shipped configuration.

use std::io::Write as _;

use domain::canonical::Sha256Digest;
use domain::ids::{ApprovalId, UserId};
use domain::money::Quantity;
use domain::order::{OrderEnvelope, PermitBody};
use domain::person::{Act, Change, PersonAct, Vote};
use domain::time::UnixMs;
use ed25519_dalek::SigningKey;
use prost::Message as _;
use proto::v1;
use rails::signature::{PermitSigner, sign_act};
use store::audit::{AuditHead, Chain, sign_head};

/// Inputs.
pub type Seeds = Vec<Vec<u8>>;

/// Payloads of whole messages, as proto3 JSON writes them. `ENVELOPE` stands for [`ENVELOPE`].
const PAYLOADS: [&str; 22] = [
    r#""tradingSignal":{"action":"BUY","tokenAddress":"BTCUSDT","amount":"0.01","priceLimit":"60000.5","confidence":0.75,"reasoning":"because","strategy":"trend"}"#,
    r#""tradingSignal":{"action":"SELL","tokenAddress":"ETHUSDT","amount":"all","expiryTimestamp":"1790000060000"}"#,
    r#""tradingSignal":{"action":"HOLD","tokenAddress":"BTCUSDT"}"#,
    r#""tradingSignal":{"action":"BUY","tokenAddress":"BTCUSDT","notionalUsd":"600"}"#,
    r#""approvalRequest":{"actionType":"place","description":"why","approvalId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a15","envelope":ENVELOPE,"digest":"0707070707070707070707070707070707070707070707070707070707070707","tier":1,"expiresAtMs":"1790000900000"}"#,
    r#""approvalResponse":{"decision":"APPROVE","reason":"looks good","approverId":"operator","approvedAt":"1790000000000","approvalId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a15"}"#,
    r#""healthCheck":{}"#,
    r#""command":{"command":"drain"}"#,
    r#""orderIntent":{"intentId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a12","signalId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a13","leg":1,"userId":"USER","person":"operator","instrument":{"venue":"VENUE_PAPER","symbol":"BTCUSDT"},"side":"SIDE_BUY","orderType":"ORDER_TYPE_LIMIT","timeInForce":"TIME_IN_FORCE_IOC","quantity":"0.01","worstPrice":"60600","validUntilMs":"1790000060000","reasoning":"r"}"#,
    r#""orderIntent":{"intentId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a12","signalId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a13","userId":"USER","agent":"buy_bot/trend","instrument":{"venue":"VENUE_BINANCE","symbol":"ETHUSDT"},"side":"SIDE_SELL","orderType":"ORDER_TYPE_MARKET","timeInForce":"TIME_IN_FORCE_GTC","all":true,"worstPrice":"2500","reduceOnly":true,"validUntilMs":"1790000060000"}"#,
    r#""orderDecision":{"orderId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a14","signalId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a13","instrument":{"venue":"VENUE_PAPER","symbol":"BTCUSDT"},"refused":{"code":"POSITION","numbers":{"limit":"10000"}}}"#,
    r#""orderDecision":{"orderId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a14","signalId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a13","instrument":{"venue":"VENUE_JUPITER","symbol":"BTCUSDT"},"needsHuman":{"approvalId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a15"}}"#,
    r#""permit":{"schema":"swarm.permit.v1","permitId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a16","envelope":ENVELOPE,"killEpoch":"3","signedAtMs":"1790000000000","expiresAtMs":"1790000060000","keyId":"0011223344556677","signature":"SIGNATURE"}"#,
    r#""executionReport":{"orderId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a14","state":"ORDER_STATE_FILLED","filled":"0.01","code":"X"}"#,
    r#""positionChanged":{"instrument":{"venue":"VENUE_PAPER","symbol":"BTCUSDT"},"quantity":"0.01","costUsd":"600.6","realisedUsd":"-1.5","cashUsd":"49400"}"#,
    r#""marketTick":{"instrument":{"venue":"VENUE_PAPER","symbol":"BTCUSDT"},"bid":"60000","bidQuantity":"1","ask":"60000.01","askQuantity":"2","receivedAtMs":"1790000000000"}"#,
    r#""candle":{"instrument":{"venue":"VENUE_PAPER","symbol":"BTCUSDT"},"intervalMs":"60000","openTimeMs":"1789999980000","open":"1","high":"2","low":"0.5","close":"1.5","volume":"7","trades":"9"}"#,
    r#""tokenVerdict":{"venue":"VENUE_PAPER_DEX","mint":"So11111111111111111111111111111111111111112","allowed":true,"maxNotionalUsd":"10","reason":"known","validUntilMs":"1790000060000"}"#,
    r#""alert":{"name":"feed_stale","severity":"SEVERITY_CRITICAL","text":"no data"}"#,
    r#""taskResult":{"capability":"token_verdict","ok":true,"results":{"mint":"x"}}"#,
    r#""heartbeat":{"agent":"monitor","bootId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a17","pid":7,"progress":"9","busy":true,"oldestInFlightMs":"5","rssBytes":"1000","queueDepth":"1","dependencies":{"nats":"1790000000000"},"inHand":["$JS.ACK.x"],"lacks":["voice"],"draining":true}"#,
    r#""haltChanged":{"level":1,"epoch":"4","by":"operator","reason":"looking"}"#,
];

/// Payloads with maps alone.
const MAPS: [&str; 3] = [
    r#""notice":{"code":"SIGNAL_REJECTED","text":"no","numbers":{"code":"EXPIRED"}}"#,
    r#""task":{"capability":"reset_breaker","arguments":{"act":"{}"}}"#,
    r#""lessonProposed":{"text":"wait","evidence":{"order":"1"}}"#,
];

const ENVELOPE: &str = r#"{"schema":"swarm.order.v1","action":"place","userId":"USER","clientOrderId":"s0190a5c87d3e7a558b1d0d2f6e0c1a14","orderId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a14","intentId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a12","instrument":{"venue":"VENUE_PAPER","symbol":"BTCUSDT"},"side":"SIDE_BUY","orderType":"ORDER_TYPE_LIMIT","timeInForce":"TIME_IN_FORCE_IOC","quantity":"0.01","worstPrice":"60600","maxNotionalUsd":"606","maxSlippageBps":100,"minOut":"0","validUntilMs":"1790000060000","policyVersion":"0123456789abcdef"}"#;

/// Whole messages as JSON, one for each payload.
fn messages() -> Vec<String> {
    let user = UserId::of_handle("operator").to_string();
    let head = format!(
        r#"{{"messageId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a11","correlationId":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a10","sourceAgent":"reflector","timestampNs":"1790000000000000000","priority":7,"userId":"{user}","schemaVersion":1,"#
    );
    let payloads = PAYLOADS.iter().chain(&MAPS).map(|payload| {
        payload.replace("ENVELOPE", ENVELOPE).replace("USER", &user).replace("SIGNATURE", &"07".repeat(64))
    });
    payloads.map(|payload| format!("{head}{payload}}}")).collect()
}

const SIGNALS: [&str; 4] = [
    r#"{"action":"BUY","token_address":"BTCUSDT","notional_usd":"600"}"#,
    r#"{"action":"SELL","token_address":"BTCUSDT","amount":"all","confidence":0.5,"reasoning":"r","price_limit":"59000.5"}"#,
    r#"{"action":"HOLD","tokenAddress":"ETHUSDT"}"#,
    r#"{"action":"BUY","token_address":"So11111111111111111111111111111111111111112","amount":"1.5","expiry_timestamp":1790000060000}"#,
];

fn bytes<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Seeds {
    texts.into_iter().map(|text| text.as_ref().to_vec()).collect()
}

/// Messages as Protobuf.
pub fn protobuf() -> Seeds {
    let read = |text: &String| serde_json::from_str::<v1::AgentMessage>(text).expect("a seed is of the contract");
    messages().iter().map(|text| read(text).encode_to_vec()).collect()
}

/// Messages and bare signals as JSON.
pub fn json() -> Seeds {
    bytes(messages().iter().map(String::as_str).chain(SIGNALS))
}

/// Messages with their subjects and headers.
pub fn door() -> Seeds {
    let signal = SIGNALS[0];
    let whole = messages().swap_remove(0);
    bytes([
        format!("trading.buy_bot.signal.urgent\nNats-Msg-Id: mine\n\n{signal}"),
        format!("trading.buy_bot.signal-alice.high\ncontent-type: application/json\n\n{signal}"),
        format!("trading.signal.low\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n\n{signal}"),
        format!("trading.buy_bot.idea.normal\ncontent-type: application/json\n\n{whole}"),
        format!("trading.buy_bot.idea.critical\ncontent-type: application/x-protobuf\n\n{}", "\u{a}\u{0}"),
        format!("market.paper.tick.BTCUSDT\n\n{}", messages()[15]),
        format!("system.monitor.command.low\n\n{}", messages()[7]),
        format!("monitoring.all.alert.low\n\n{}", messages()[18]),
    ])
}

/// Amounts.
pub fn money() -> Seeds {
    bytes([
        "0.01\n60000.5\n600",
        "1000000000000\n0.000000000000000001\n999999999999.9999999999999999",
        "0001.500\n.5\n5.",
        "12345678901234567890123456789\n1e5\n-1",
        "1234567890.123456789012345678\n0.00000001\n3",
        "\n0\n",
    ])
}

const FEED: [&str; 8] = [
    r#"{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1790000000000,"s":"BTCUSDT","U":101,"u":103,"b":[["59999.50000000","0.00000000"],["59998.00000000","1.25000000"]],"a":[["60000.50000000","0.75000000"]]}}"#,
    r#"{"stream":"btcusdt@trade","data":{"e":"trade","E":1790000000001,"s":"BTCUSDT","t":77,"p":"60000.00000000","q":"0.00100000","T":1790000000000,"m":true,"M":true}}"#,
    r#"{"stream":"btcusdt@bookTicker","data":{"u":103,"s":"BTCUSDT","b":"59998.00000000","B":"1.25000000","a":"60000.50000000","A":"0.75000000"}}"#,
    r#"{"e":"bookTicker","u":104,"s":"BTCUSDT","b":"1.0","B":"2.0","a":"3.0","A":"4.0"}"#,
    r#"{"lastUpdateId":100,"bids":[["59999.50","1.0",[]]],"asks":[["60000.50","2.0"],["60001.00","3"]]}"#,
    r#"{"e":"aggTrade","E":1,"s":"BTCUSDT","a":5,"p":"1","q":"2","f":1,"l":2,"T":3,"m":false}"#,
    r#"{"result":null,"id":1}"#,
    r#"{"data":{"e":"trade","E":1,"t":1,"p":"1","q":"1","T":1,"m":false},"stream":"ethusdt@trade"}"#,
];

/// Messages of the exchange, and one as a line.
pub fn feed() -> Seeds {
    let mut seeds = bytes(FEED);
    seeds.push(format!("1790000000000000000 {}\n", FEED[1]).into_bytes());
    seeds
}

/// Recordings.
pub fn recording() -> Seeds {
    let line = |at: usize| format!("179000000000000000{at} {}\n", FEED[at]);
    let snapshot = line(4);
    let plain = [&snapshot, &line(0), &line(1), &line(2), &line(6)].map(String::as_str).concat();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(plain.as_bytes()).expect("memory takes it");
    vec![plain.into_bytes(), packed.finish().expect("memory takes it"), snapshot.into_bytes()]
}

const FILTERS: &str = r#"[{"filterType":"PRICE_FILTER","minPrice":"0.01","maxPrice":"1000000","tickSize":"0.01"},{"filterType":"LOT_SIZE","minQty":"0.00001","maxQty":"9000","stepSize":"0.00001"},{"filterType":"MARKET_LOT_SIZE","minQty":"0","maxQty":"100.5","stepSize":"0"},{"filterType":"NOTIONAL","minNotional":"5","applyMinToMarket":true,"maxNotional":"9000000","applyMaxToMarket":false,"avgPriceMins":5},{"filterType":"MIN_NOTIONAL","minNotional":"5","applyToMarket":true},{"filterType":"PERCENT_PRICE","multiplierUp":"1.3","multiplierDown":"0.7","avgPriceMins":5},{"filterType":"PERCENT_PRICE_BY_SIDE","bidMultiplierUp":"5","bidMultiplierDown":"0.2","askMultiplierUp":"5","askMultiplierDown":"0.2","avgPriceMins":5},{"filterType":"MAX_NUM_ORDERS","maxNumOrders":200},{"filterType":"MAX_POSITION","maxPosition":"10"},{"filterType":"TRAILING_DELTA","minTrailingAboveDelta":10}]"#;

/// exchangeInfo and filters.
pub fn exchange_info() -> Seeds {
    let info = |status: &str| {
        format!(
            r#"{{"timezone":"UTC","symbols":[{{"symbol":"BTCUSDT","status":"{status}","baseAsset":"BTC","quoteAsset":"USDT","filters":{FILTERS}}}]}}"#
        )
    };
    bytes([info("TRADING"), info("BREAK"), FILTERS.to_owned()])
}

/// Journals: lines without checksums, and a file as it is.
pub fn journal() -> Seeds {
    let opened = r#"[{"kind":"opened","venue":"paper","balances":{"USDT":"10000","BTC":"20"}}]"#;
    let request = |side: &str, id: &str| {
        format!(
            r#"{{"client_order_id":"{id}","order_id":"0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a14","instrument":{{"venue":"paper","symbol":"BTCUSDT"}},"side":"{side}","order_type":"limit","time_in_force":"gtc","quantity":"0.5","worst_price":"100"}}"#
        )
    };
    let accepted = |side: &str, id: &str, number: u8, locked: &str| {
        format!(
            r#"[{{"kind":"accepted","request":{},"venue_order_id":{number},"base":"BTC","quote":"USDT","locked":"{locked}","at":1790000000000}}]"#,
            request(side, id)
        )
    };
    let filled = |id: &str, number: u8, price: &str| {
        format!(
            r#"[{{"kind":"filled","client_order_id":"{id}","trade_id":{number},"price":"{price}","quantity":"0.25","fee":"0.02","at":1790000000001}}]"#
        )
    };
    let rejected = format!(
        r#"[{{"kind":"rejected","request":{},"venue_order_id":9,"code":"FILTER_LOT_SIZE","at":1790000000002}}]"#,
        request("buy", "s3")
    );
    let ended = r#"[{"kind":"ended","client_order_id":"s1","at":1790000000003}]"#;
    let story = [
        opened.to_owned(),
        accepted("buy", "s1", 1, "50.1"),
        filled("s1", 2, "99.5"),
        accepted("sell", "s2", 3, "0.5"),
        filled("s2", 4, "101"),
        rejected,
        ended.to_owned(),
    ];
    bytes([story.join("\n"), story[..3].join("\n"), "!0011223344556677 []\n".to_owned(), "!".to_owned()])
}

macro_rules! shipped {
    ($name:literal) => {
        include_str!(concat!("../../../config/", $name))
    };
}

/// The file without its comments: they only take up room.
fn bare(text: &str) -> String {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim_end());
    lines.filter(|line| !line.is_empty()).fold(String::new(), |all, line| all + line + "\n")
}

/// Limits, alone and with tighter ones of a person.
pub fn limits() -> Seeds {
    let house = bare(shipped!("limits.toml"));
    let own =
        r#"{"position_usd":"500","approval_window_ms":600000,"rate_risk_increasing":5,"worst_fee_percent":"0.2"}"#;
    bytes([house.clone(), format!("{house}\n---\n{own}"), format!("{house}\n---\n{{\"daily_loss_percent\":\"1.5\"}}")])
}

/// The planner's files.
pub fn planner() -> Seeds {
    bytes([bare(shipped!("planner.toml")), bare(shipped!("strategies.toml")), bare(shipped!("review.toml"))])
}

/// Replay and record.
pub fn replay() -> Seeds {
    bytes([bare(shipped!("replay.toml")), bare(shipped!("record.toml"))])
}

/// Desk and people.
pub fn desk() -> Seeds {
    bytes([bare(shipped!("desk.toml")), bare(shipped!("people.toml"))])
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// Acts, an envelope, a permit and keys, signed with the key of the target.
pub fn signed() -> Seeds {
    let act = |what| PersonAct {
        schema: PersonAct::SCHEMA.to_owned(),
        person_id: "operator".to_owned(),
        what,
        reason: "looked at it".to_owned(),
        signed_at: UnixMs(1_790_000_000_000),
    };
    let user_id = UserId::of_handle("operator");
    let acts = [
        Act::Vote {
            approval_id: ApprovalId(uuid::Uuid::from_u128(7)),
            digest: Sha256Digest([7; 32]),
            vote: Vote::Approve,
        },
        Act::Modify {
            approval_id: ApprovalId(uuid::Uuid::from_u128(7)),
            digest: Sha256Digest([7; 32]),
            change: Change { quantity: Quantity::parse("0.5").ok(), worst_price: None },
        },
        Act::Revoke { approval_id: ApprovalId(uuid::Uuid::from_u128(7)), digest: Sha256Digest([7; 32]) },
        Act::LinkTelegram { code_hash: Sha256Digest([7; 32]) },
        Act::LowerKill { level: 0, epoch: 7 },
        Act::ResetBreaker { user_id, latched_at: UnixMs(1_789_999_000_000) },
    ];
    let envelope: OrderEnvelope = serde_json::from_value(serde_json::json!({
        "schema": OrderEnvelope::SCHEMA, "action": "place", "user_id": user_id,
        "client_order_id": "s0190a5c87d3e7a558b1d0d2f6e0c1a14",
        "order_id": "0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a14", "intent_id": "0190a5c8-7d3e-7a55-8b1d-0d2f6e0c1a12",
        "venue": "paper", "symbol": "BTCUSDT", "side": "buy", "order_type": "limit", "time_in_force": "ioc",
        "quantity": "0.01", "worst_price": "60600", "max_notional_usd": "606", "max_slippage_bps": 100,
        "min_out": "0", "reduce_only": false, "valid_until": 1_790_000_060_000_i64, "policy_version": "0123456789abcdef",
    }))
    .expect("a seed is an envelope");
    let body = PermitBody {
        schema: PermitBody::SCHEMA.to_owned(),
        permit_id: domain::ids::PermitId(uuid::Uuid::from_u128(7)),
        envelope: envelope.clone(),
        kill_epoch: 3,
        signed_at: UnixMs(1_790_000_000_000),
        expires_at: UnixMs(1_790_000_060_000),
        key_id: String::new(),
    };
    let permit = PermitSigner::new(key()).sign(body).expect("a permit is signed");
    let mut seeds: Vec<String> = acts
        .into_iter()
        .map(|what| sign_act(&key(), act(what)).expect("an act is signed"))
        .map(|signed| serde_json::to_string(&signed).expect("it has a form"))
        .collect();
    seeds.push(serde_json::to_string(&permit).expect("it has a form"));
    seeds.push(serde_json::to_string(&envelope).expect("it has a form"));
    seeds.push(hex::encode(key().verifying_key().as_bytes()));
    bytes(seeds)
}

/// Signed heads.
pub fn anchors() -> Seeds {
    let head = |chain, seq| {
        let head = AuditHead { seq, hash: Sha256Digest([7; 32]) };
        let signed = sign_head(chain, head, seq, UnixMs(1_790_000_000_000), &key()).expect("a head is signed");
        serde_json::to_string(&signed).expect("it has a form")
    };
    let user = Chain::User(UserId::of_handle("operator"));
    bytes([format!("{}\n{}\n", head(Chain::Governance, 3), head(user, 8)), format!("{}\n\nx\n", head(user, 9))])
}

/// One of each file.
pub fn small_files() -> Seeds {
    bytes([
        "2 17\n",
        r#"{"agents":[{"name":"monitor","launch":{"program":"bin/monitor","env":{"SWARM_NATS_URL":"nats://127.0.0.1:4222"},"log":"log/monitor.log"}},{"name":"dexter"}],"run_dir":"run"}"#,
        r#"{"nats_url":"nats://127.0.0.1:4222","nkey_file":"a","person_id":"operator","person_key_file":"b","audit_pg_url_file":"c","anchors_file":"d","anchor_public_keys_file":"e"}"#,
        r#"{"trend:BTCUSDT":{"quantity":"0.5","stop":"59000","bars":3}}"#,
    ])
}

/// A press as Telegram reports it, a code, a button, and prose that tries to be more.
pub fn words() -> Seeds {
    use domain::telegram_button::{Press, encode};
    let id = ApprovalId(uuid::Uuid::from_u128(7));
    let mut seeds: Vec<String> = [Press::Approve, Press::Confirm, Press::Half, Press::OnePercent]
        .map(|press| {
            serde_json::json!({
                "update_id": 7,
                "callback_query": {
                    "id": "1", "from": { "id": 99, "is_bot": false, "first_name": "Zoe" }, "chat_instance": "1",
                    "message": { "message_id": 11, "date": 1, "chat": { "id": 99, "type": "private" } },
                    "data": encode(b"key", id, press, 99),
                },
            })
            .to_string()
        })
        .to_vec();
    seeds.push(encode(b"key", id, Press::Reject, 99));
    seeds.push("0123-AB1X".to_owned());
    seeds.push("fine\nOrder: BUY 1\u{2028}At most: $1\u{202e}\u{200b}\u{301}\u{301}\u{301}\r\n> \u{0}".to_owned());
    seeds.into_iter().map(String::into_bytes).collect()
}
