"""What is sent to the doors, as tables: a name, a way in, the bytes, the headers, and the code it must end with.

`expect` is one of
  trade            one decision, and it fills
  held             noted, nothing planned
  known            dropped by the inbox: the same message again
  dlq:CODE         a dead letter with this code, and a notice with the same
  rails:CODE       read and planned, then refused by a rail
  server:CODE      refused by the NATS server, before any stream
  answer:CODE      refused in the answer of a service
"""

import dataclasses
import json
import time
import uuid

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}
DOOR = "trading.buy_bot.signal.critical"
# A user's id is a function of the short name; alice may not ask the swarm for it.
OPERATOR = "faf8912c-9639-8ced-83d7-3eb9b86364d4"
GOOD = {"action": "BUY", "token_address": "BTCUSDT", "notional_usd": "20"}


@dataclasses.dataclass
class Case:
    """One thing that is sent."""

    name: str
    payload: bytes
    expect: str
    subject: str = DOOR
    headers: dict = dataclasses.field(default_factory=dict)
    how: str = "stream"
    # What makes the message the same again: `id:<Nats-Msg-Id>` or a whole message's id.
    key: str = ""


def text(value):
    """JSON of a value, as bytes."""
    return json.dumps(value).encode()


def bare(**fields):
    """A good bare signal with some fields replaced, or taken out by None."""
    return text({key: value for key, value in {**GOOD, **fields}.items() if value is not None})


def amount(value):
    """A bare signal for this much of the base asset."""
    return bare(notional_usd=None, amount=value)


def whole(signal=None, **fields):
    """A good whole message in JSON with some fields replaced, or taken out by None."""
    usual = {
        "messageId": str(uuid.uuid4()),
        "correlationId": str(uuid.uuid4()),
        "sourceAgent": "nats-py",
        "timestampNs": str(time.time_ns()),
        "priority": 9,
        "tradingSignal": GOOD if signal is None else signal,
    }
    return text({key: value for key, value in {**usual, **fields}.items() if value is not None})


def wire(door, **fields):
    """A good whole message in Protobuf with some fields replaced, or taken out by None."""
    usual = {
        "message_id": str(uuid.uuid4()),
        "correlation_id": str(uuid.uuid4()),
        "source_agent": "nats-py",
        "timestamp_ns": time.time_ns(),
        "priority": 9,
        "trading_signal": door.message("TradingSignal", **GOOD),
    }
    kept = {key: value for key, value in {**usual, **fields}.items() if value is not None}
    return door.message("AgentMessage", **kept).SerializeToString()


def keyed(key):
    """Headers, way in and key of a bare signal with an id of its sender's."""
    return {"Nats-Msg-Id": key}, "stream", f"id:{key}"


def good(door, users):
    """Signals that must each become exactly one decision and a fill, and their repetitions, which must not."""
    ids = [str(uuid.uuid4()) for _ in range(13)]
    high, message = "trading.buy_bot.signal.high", whole(messageId=ids[7])
    soon = int(time.time() * 1000) + 30_000
    full = bare(price_limit="61000", confidence=0.8, reasoning="breakout \u202e\u0007 <b>now</b>", expiry_timestamp=soon)
    spaced = b'\n  { "action" : "BUY", "tokenAddress":"BTCUSDT",\n "amount":"0.0004" }\n'
    yield Case("bare, core", bare(), "trade", how="core")
    yield Case("bare, core, own id", bare(), "trade", DOOR, {"Nats-Msg-Id": ids[0]}, "core", f"id:{ids[0]}")
    yield Case("bare, stream", bare(), "trade", DOOR, *keyed(ids[1]))
    yield Case("bare, high", bare(), "trade", high, *keyed(ids[2]))
    yield Case("bare, low", bare(), "trade", "trading.buy_bot.signal.low", *keyed(ids[3]))
    yield Case("bare, three tokens", bare(), "trade", "trading.signal.urgent", *keyed(ids[4]))
    yield Case("bare, amount, spaces, header", spaced, "trade", DOOR, {**JSON, "Nats-Msg-Id": ids[5]}, key=f"id:{ids[5]}")
    yield Case("bare, all fields", full, "trade", DOOR, {"traceparent": "garbage", "Nats-Msg-Id": ids[6]}, key=f"id:{ids[6]}")
    yield Case("whole, JSON", message, "trade", key=ids[7])
    yield Case("whole, JSON, again on another stream", message, "known", high, key=ids[7])
    yield Case("whole, JSON, again under another id", message, "known", headers={"Nats-Msg-Id": ids[8]}, key=ids[7])
    yield Case("whole, JSON, named user", whole(messageId=ids[8], userId=users["operator"]), "trade", key=ids[8])
    yield Case("whole, Protobuf", wire(door, message_id=ids[9]), "trade", headers=PROTOBUF, key=ids[9])
    yield Case("whole, Protobuf, again as JSON", whole(messageId=ids[9]), "known", key=ids[9])
    yield Case("bare, same id again", bare(), "known", DOOR, *keyed(ids[1]))
    yield Case("bare, same id, another stream", bare(), "known", "trading.buy_bot.signal.normal", *keyed(ids[1]))
    yield Case("HOLD", bare(action="HOLD", notional_usd=None), "held", DOOR, *keyed(ids[10]))
    yield Case("service", bare(), "trade", "swarm.signal", {"Nats-Msg-Id": ids[12]}, "service", f"id:{ids[12]}")
    yield Case("service, same id again", bare(), "known", "swarm.signal", {"Nats-Msg-Id": ids[12]}, "service", f"id:{ids[12]}")
    yield Case("service's id at the door", bare(), "known", high, *keyed(ids[12]))
    yield Case("service, Protobuf", wire(door, message_id=ids[8]), "known", "swarm.signal", PROTOBUF, "service", ids[8])


def sale(_door, _users):
    """For when something is held."""
    yield Case("sale", bare(action="SELL", notional_usd="10"), "trade", DOOR, *keyed(str(uuid.uuid4())))


def good_of_alice(door, _users):
    """The same through another person's own door."""
    ids = [str(uuid.uuid4()) for _ in range(2)]
    own = "trading.buy_bot.signal-alice.critical"
    yield Case("alice, bare", bare(), "trade", own, *keyed(ids[0]))
    yield Case("alice, Protobuf", wire(door, message_id=ids[1]), "trade", own, PROTOBUF, key=ids[1])


def bad_of_alice(_door, _users):
    """A person without the right to hear notices gets dead letters all the same."""
    own = "trading.buy_bot.signal-alice.critical"
    yield Case("alice, the operator's user_id", whole(userId=OPERATOR), "dlq:WRONG_USER", own)
    yield Case("alice, garbage", b"{", "dlq:BAD_JSON", own)


def words(door, _users):
    """What passes for a person's decision at treasury's own subject, where only the supervisor may publish."""
    subject, place = "trading.treasury.approval.critical", {"subject": "trading.treasury.approval.critical", "headers": PROTOBUF}
    said = {"approval_id": str(uuid.uuid4()), "decision": 3, "approver_id": "operator", "approved_at": int(time.time() * 1000)}

    def response(*gone, **fields):
        kept = {key: value for key, value in {**said, **fields}.items() if key not in gone}
        answer = door.message("ApprovalResponse", **kept)
        head = {"source_agent": "supervisor", "user_id": OPERATOR, "trading_signal": None}
        return wire(door, **head, approval_response=answer)

    yield Case("an empty message", b"", "dlq:EMPTY", **place)
    yield Case("garbage", bytes(range(255, 0, -1)), "dlq:BAD_PROTOBUF", **place)
    yield Case("garbage as JSON", b"{", "dlq:BAD_JSON", subject)
    yield Case("cut short", response()[:-4], "dlq:BAD_PROTOBUF", **place)
    yield Case("an empty response", response(*said), "dlq:BAD_ID", **place)
    yield Case("decision 0", response("decision"), "dlq:BAD_ENUM", **place)
    yield Case("decision 9", response(decision=9), "dlq:BAD_ENUM", **place)
    yield Case("with an order of its own", response(modified_params={"quantity": "9"}), "dlq:NOT_SUPPORTED", **place)
    yield Case("no approver", response("approver_id"), "dlq:MISSING_FIELD", **place)
    yield Case("an unknown request", response(), "dlq:BAD_ID", **place)
    yield Case("an unknown approver", response(approver_id="mallory"), "dlq:BAD_ID", **place)
    yield Case("expired", wire(door, source_agent="supervisor", user_id=OPERATOR, trading_signal=None, ttl_ms=1,
                               timestamp_ns=time.time_ns() - 10**10, approval_response=door.message("ApprovalResponse", **said)),
               "dlq:EXPIRED", **place)
    yield Case("a signed act that is none", wire(door, source_agent="supervisor", user_id=OPERATOR, trading_signal=None,
                                                 task=door.message("Task", capability="reset_breaker")),
               "dlq:MISSING_FIELD", "trading.treasury.act.critical", PROTOBUF)


def bad(door, users):
    """Every malformed thing, each with the one code it must end with."""
    yield from bytes_and_forms()
    yield from decimals()
    yield from fields()
    yield from heads(users)
    yield from protobufs(door)
    yield from other_ways()
    yield from refusals()


def bytes_and_forms():
    """What is no message at all."""

    def nested(depth):
        return b'{"action":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"

    rows = [
        ("empty", b"", "dlq:EMPTY"),
        ("whitespace", b" \r\n\t ", "dlq:UNKNOWN_CONTENT_TYPE"),
        ("open brace", b"{", "dlq:BAD_JSON"),
        ("array", b"[]", "dlq:UNKNOWN_CONTENT_TYPE"),
        ("null", b"null", "dlq:UNKNOWN_CONTENT_TYPE"),
        ("words", b"BUY 1 BTCUSDT now", "dlq:UNKNOWN_CONTENT_TYPE"),
        ("empty object", b"{}", "dlq:WRONG_PAYLOAD"),
        ("two objects", bare() + bare(), "dlq:BAD_JSON"),
        ("cut short", bare()[:-3], "dlq:BAD_JSON"),
        ("comment", b"{/* buy */" + bare()[1:], "dlq:BAD_JSON"),
        ("byte order mark", b"\xef\xbb\xbf" + bare(), "dlq:UNKNOWN_CONTENT_TYPE"),
        ("UTF-16", bare().decode().encode("utf-16"), "dlq:UNKNOWN_CONTENT_TYPE"),
        ("bad UTF-8", b'{"action":"BUY","token_address":"BTC\xff\xfe","amount":"1"}', "dlq:BAD_JSON"),
        ("NUL bytes", b"\x00" * 64, "dlq:UNKNOWN_CONTENT_TYPE"),
        ("raw control character", b'{"action":"BUY","token_address":"BTCUSDT","amount":"1","reasoning":"\x07"}', "dlq:BAD_JSON"),
        ("lone surrogate", b'{"action":"BUY","token_address":"BTCUSDT","amount":"1","reasoning":"\\ud800"}', "dlq:BAD_JSON"),
        ("depth 100", nested(100), "dlq:TOO_DEEP"),
        ("depth 30,000", nested(30_000), "dlq:TOO_DEEP"),
        ("depth 100,000", nested(100_000), "server:JETSTREAM_10054"),
        ("65,537 bytes", b" " * (65_537 - len(bare())) + bare(), "server:JETSTREAM_10054"),
        ("1 MB", b"x" * 1_000_000, "server:JETSTREAM_10054"),
        ("3 MB", b"x" * 3_000_000, "server:MAX_PAYLOAD"),
        ("duplicate key", b'{"action":"BUY","amount":"1","amount":"2","token_address":"BTCUSDT"}', "dlq:BAD_JSON"),
        ("both spellings of a key", bare(tokenAddress="ETHUSDT"), "dlq:BAD_JSON"),
        ("unknown field", bare(leverage="20"), "dlq:UNKNOWN_FIELD"),
        ("unknown field of a whole message", whole(admin=True), "dlq:UNKNOWN_FIELD"),
        ("unknown field inside", whole({**GOOD, "leverage": "20"}), "dlq:UNKNOWN_FIELD"),
    ]
    return [Case(*row) for row in rows]


def decimals():
    """Texts that are no amounts, and amounts out of range."""
    wrong = ["NaN", "Infinity", "-Infinity", "1e400", "1e3", "1E-3", "-1", "+1", "0", "0.000", " 1", "1 ", "1,000", "1_000", "0x10",
             "12345678901234567890123456789", "0.1234567890123456789", "10000000000000", "\uff11", "\u0663", ".5", "5.", "1.2.3",
             "9" * 70, "1\n", "$5", "\u221e", "all"]
    for value in wrong:
        yield Case(f"amount {value[:24]!r}", amount(value), "dlq:BAD_DECIMAL")
    for value in ["-1", "NaN", "0", "1e400"]:
        yield Case(f"notional {value!r}", bare(notional_usd=value), "dlq:BAD_DECIMAL")
    for value in ["0", "-60000", "NaN", "1e5"]:
        yield Case(f"price_limit {value!r}", bare(price_limit=value), "dlq:BAD_DECIMAL")
    for value in ["2", "-1", "-0.0001", '"NaN"', '"Infinity"', "1e400"]:
        yield Case(f"confidence {value}", bare()[:-1] + b', "confidence":' + value.encode() + b"}", "dlq:BAD_DECIMAL")
    yield Case("confidence NaN", bare()[:-1] + b', "confidence":NaN}', "dlq:BAD_JSON")
    yield Case("amount empty", amount(""), "dlq:AMBIGUOUS_AMOUNT")
    yield Case("amount as a number", amount(1), "dlq:BAD_JSON")
    yield Case("amount as an object", amount({"value": "1"}), "dlq:BAD_JSON")
    yield Case("amount as an array", amount(["1"]), "dlq:BAD_JSON")
    yield Case("amount as a bool", amount(True), "dlq:BAD_JSON")
    yield Case("amount NaN unquoted", b'{"action":"BUY","token_address":"BTCUSDT","amount":NaN}', "dlq:BAD_JSON")
    yield Case("under the step", amount("0.000000001"), "dlq:TOO_SMALL")
    yield Case("under the minimum notional", bare(notional_usd="0.01"), "dlq:TOO_SMALL")


def fields():
    """Bare signals whose fields are wrong, or wrong together."""
    now = int(time.time() * 1000)
    rows = [
        ("both amounts", bare(amount="1"), "dlq:AMBIGUOUS_AMOUNT"),
        ("neither amount", bare(notional_usd=None), "dlq:AMBIGUOUS_AMOUNT"),
        ("HOLD with an amount", bare(action="HOLD"), "dlq:AMBIGUOUS_AMOUNT"),
        ("action in words", bare(action="buy me"), "dlq:BAD_ENUM"),
        ("action in small letters", bare(action="buy"), "dlq:BAD_ENUM"),
        ("action SHORT", bare(action="SHORT"), "dlq:BAD_ENUM"),
        ("action empty", bare(action=""), "dlq:MISSING_FIELD"),
        ("action missing", bare(action=None), "dlq:MISSING_FIELD"),
        ("action as a number", bare(action=1), "dlq:BAD_JSON"),
        ("token missing", bare(token_address=None), "dlq:MISSING_FIELD"),
        ("token empty", bare(token_address=""), "dlq:MISSING_FIELD"),
        ("token with a line break", bare(token_address="BTC\nUSDT"), "dlq:BAD_TEXT"),
        ("token with a turned text", bare(token_address="BTC\u202eUSDT"), "dlq:BAD_TEXT"),
        ("token of 300 letters", bare(token_address="A" * 300), "dlq:BAD_TEXT"),
        ("token of 100 letters", bare(token_address="A" * 100), "dlq:UNKNOWN_INSTRUMENT"),
        ("token with dots", bare(token_address="BTC.USDT"), "dlq:UNKNOWN_INSTRUMENT"),
        ("token with spaces", bare(token_address="BTC USDT"), "dlq:UNKNOWN_INSTRUMENT"),
        ("token with wildcards", bare(token_address="market.>"), "dlq:UNKNOWN_INSTRUMENT"),
        ("token of SQL", bare(token_address="'; DROP TABLE fills; --"), "dlq:UNKNOWN_INSTRUMENT"),
        ("token of emoji", bare(token_address="\U0001f680"), "dlq:UNKNOWN_INSTRUMENT"),
        ("token in Cyrillic", bare(token_address="\u0412\u0422\u0421USDT"), "dlq:UNKNOWN_INSTRUMENT"),
        ("instrument of nowhere", bare(token_address="DOGEUSDT"), "dlq:UNKNOWN_INSTRUMENT"),
        ("instrument in small letters", bare(token_address="btcusdt"), "dlq:UNKNOWN_INSTRUMENT"),
        ("reasoning of 10 kB", bare(reasoning="x" * 10_000), "dlq:BAD_TEXT"),
        ("reasoning of 100 kB", bare(reasoning="x" * 100_000), "server:JETSTREAM_10054"),
        ("a strategy of a person", bare(strategy="momentum"), "dlq:NOT_SUPPORTED"),
        ("expired", bare(expiry_timestamp=now - 1_000), "dlq:EXPIRED"),
        ("expiry in seconds", bare(expiry_timestamp=now // 1_000 + 60), "dlq:EXPIRED"),
        ("expiry negative", bare(expiry_timestamp=-1), "dlq:EXPIRED"),
        ("expiry in nanoseconds", bare(expiry_timestamp=now * 1_000_000), "dlq:FROM_THE_FUTURE"),
        ("expiry over 64 bits", bare(expiry_timestamp=10**30), "dlq:BAD_JSON"),
        ("expiry in words", bare(expiry_timestamp="tomorrow"), "dlq:BAD_JSON"),
    ]
    return [Case(*row) for row in rows]


def heads(users):
    """Whole messages whose head is wrong."""
    ns, nil = time.time_ns(), "00000000-0000-0000-0000-000000000000"
    kinds = {
        "approvalResponse": {"decision": "APPROVE", "approvalId": str(uuid.uuid4()), "approverId": "operator"},
        "permit": {"schema": "x", "permitId": str(uuid.uuid4())},
        "orderIntent": {"intentId": str(uuid.uuid4()), "all": True},
        "haltChanged": {"level": 0, "epoch": "9", "by": "me", "reason": "go on"},
        "command": {"command": "drain"},
    }
    rows = [
        ("another's user_id", whole(userId=users["alice"]), "dlq:WRONG_USER"),
        ("a stranger's user_id", whole(userId=str(uuid.uuid4())), "dlq:WRONG_USER"),
        ("user_id no UUID", whole(userId="operator"), "dlq:BAD_ID"),
        ("user_id nil", whole(userId=nil), "dlq:BAD_ID"),
        ("message_id missing", whole(messageId=None), "dlq:BAD_ID"),
        ("message_id no UUID", whole(messageId="1"), "dlq:BAD_ID"),
        ("message_id nil", whole(messageId=nil), "dlq:BAD_ID"),
        ("topic of another subject", whole(topic="trading.buy_bot.signal.low"), "dlq:WRONG_PAYLOAD"),
        ("target of another agent", whole(targetAgent="treasury"), "dlq:WRONG_PAYLOAD"),
        ("unknown schema version", whole(schemaVersion=99), "dlq:UNKNOWN_VERSION"),
        ("priority 10", whole(priority=10), "dlq:BAD_ENUM"),
        ("priority -1", whole(priority=-1), "dlq:BAD_ENUM"),
        ("stamped a minute ahead", whole(timestampNs=str(ns + 60 * 10**9)), "dlq:FROM_THE_FUTURE"),
        ("stamped in negative time", whole(timestampNs="-1"), "dlq:MISSING_FIELD"),
        ("valid_until passed", whole(validUntilMs=str(ns // 10**6 - 1_000)), "dlq:EXPIRED"),
        ("ttl passed", whole(timestampNs=str(ns - 10**10), ttlMs=1_000), "dlq:EXPIRED"),
        ("ttl negative", whole(ttlMs=-1), "dlq:EXPIRED"),
        ("no payload", whole(tradingSignal=None), "dlq:WRONG_PAYLOAD"),
        ("signal of the wrong type", whole("BUY"), "dlq:BAD_JSON"),
    ]
    yield from [Case(*row) for row in rows]
    for kind, content in kinds.items():
        yield Case(f"{kind} at the door", whole(tradingSignal=None, **{kind: content}), "dlq:WRONG_PAYLOAD")
    yield Case("two payloads", whole(permit={"schema": "x"}), "dlq:BAD_JSON")


def protobufs(door):
    """Protobuf that is none, or comes under the wrong name."""
    message = wire(door)
    wrong_kind = wire(door, trading_signal=None, halt_changed=door.message("HaltChanged", level=0, epoch=9, by="me", reason="go"))
    nan = door.message("TradingSignal", **GOOD, confidence=float("nan"))
    yield Case("garbage as Protobuf", bytes(range(255, 0, -1)), "dlq:BAD_PROTOBUF", headers=PROTOBUF)
    yield Case("Protobuf cut short", message[:-4], "dlq:BAD_PROTOBUF", headers=PROTOBUF)
    yield Case("Protobuf with bad UTF-8", b"\x0a\x02\xff\xfe", "dlq:BAD_PROTOBUF", headers=PROTOBUF)
    yield Case("Protobuf with a wrong wire type", b"\x08\x01", "dlq:BAD_PROTOBUF", headers=PROTOBUF)
    yield Case("JSON as Protobuf", bare(), "dlq:BAD_PROTOBUF", headers=PROTOBUF)
    yield Case("Protobuf as JSON", message, "dlq:BAD_JSON", headers=JSON)
    yield Case("Protobuf without its header", message, "dlq:UNKNOWN_CONTENT_TYPE")
    yield Case("wrong content-type", bare(), "dlq:UNKNOWN_CONTENT_TYPE", headers={"content-type": "text/html"})
    yield Case("a bare signal in Protobuf", door.message("TradingSignal", **GOOD).SerializeToString(), "dlq:WRONG_PAYLOAD",
               headers=PROTOBUF)
    yield Case("Protobuf of nothing", b"", "dlq:EMPTY", headers=PROTOBUF)
    yield Case("HaltChanged in Protobuf", wrong_kind, "dlq:WRONG_PAYLOAD", headers=PROTOBUF)
    yield Case("confidence NaN in Protobuf", wire(door, trading_signal=nan), "dlq:BAD_DECIMAL", headers=PROTOBUF)
    yield Case("message_id missing in Protobuf", wire(door, message_id=None), "dlq:BAD_ID", headers=PROTOBUF)


def other_ways():
    """The same faults by other ways in: no acknowledgement, other subjects, the service."""
    for name, payload, code in [("core, garbage", b"{", "BAD_JSON"), ("core, -1", amount("-1"), "BAD_DECIMAL")]:
        key = str(uuid.uuid4())
        yield Case(name, payload, f"dlq:{code}", headers={"Nats-Msg-Id": key}, how="core", key=f"id:{key}")
    yield Case("id of 300 letters", bare(), "dlq:BAD_ID", headers={"Nats-Msg-Id": "x" * 300})
    yield Case("low priority, garbage", b"{", "dlq:BAD_JSON", "trading.buy_bot.signal.low")
    yield Case("three tokens, garbage", b"{", "dlq:BAD_JSON", "trading.signal.urgent")
    yield Case("three tokens, no name", bare(), "dlq:UNKNOWN_SUBJECT", "trading.si$gnal.urgent")
    yield Case("a header that would empty the stream", bare(), "server:JETSTREAM_10111", DOOR, {"Nats-Rollup": "all"})
    yield Case("a header that sets the age", bare(), "server:JETSTREAM_10166", DOOR, {"Nats-TTL": "1s"})
    yield Case("a header that waits for a place", bare(), "server:JETSTREAM_10071", DOOR, {"Nats-Expected-Last-Sequence": "1"})
    yield Case("no such priority", bare(), "server:NO_STREAM", "trading.buy_bot.signal.now")
    rows = [
        ("swarm.signal", b"", "EMPTY"), ("swarm.signal", b"{", "BAD_JSON"), ("swarm.signal", b"x" * 1_000_000, "OVERSIZED"),
        ("swarm.signal", amount("1e400"), "BAD_DECIMAL"), ("swarm.signal", bare(leverage="9"), "UNKNOWN_FIELD"),
        ("swarm.signal", whole(messageId="1"), "BAD_ID"), ("swarm.signal", bare(expiry_timestamp=1), "EXPIRED"),
        ("swarm.positions", b"{", "BAD_JSON"), ("swarm.positions", b"[]", "BAD_JSON"),
        ("swarm.positions", b'{"user":7}', "BAD_TEXT"), ("swarm.positions", b'{"user":"../../etc"}', "BAD_TEXT"),
        ("swarm.positions", b'{"user":"nobody"}', "UNKNOWN_USER"),
        ("swarm.halt", b"{", "BAD_JSON"), ("swarm.halt", b'{"level":9}', "BAD_LEVEL"), ("swarm.halt", b'{"level":-1}', "BAD_LEVEL"),
        ("swarm.halt", b'{"level":"1"}', "BAD_LEVEL"), ("swarm.halt", b'{"level":1e400}', "BAD_JSON"),
        ("swarm.approve", b"", "NOT_SIGNED"), ("swarm.approve", b'{"approve":"last"}', "NOT_SIGNED"),
        ("swarm.resume", b"", "NOT_SIGNED"), ("swarm.breaker", b"\xff\xff", "NOT_SIGNED"),
    ]
    for subject, payload, code in rows:
        yield Case(f"{subject} {payload[:24]!r}", payload, f"answer:{code}", subject, how="service")


def refusals():
    """Well-formed, and too much: the rails say no."""
    rows = [
        ("price outside the collar", bare(price_limit="90000"), "PRICE_COLLAR"),
        ("more than the limit", bare(notional_usd="12000"), "POSITION"),
        ("a sale of what is not held", bare(action="SELL", token_address="ETHUSDT", notional_usd=None, amount="1"), "SPOT_SHORT"),
    ]
    for name, payload, code in rows:
        key = str(uuid.uuid4())
        yield Case(name, payload, f"rails:{code}", DOOR, *keyed(key))
