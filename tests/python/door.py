"""People's doors, knocked at by a client that is not ours.

Everything here is `nats-py`, `nkeys` and `protobuf` from the package index; the messages are built from the compiled
contract that the Rust test writes to a file, so neither our codec nor `protoc` has a part in it. Each subcommand prints
JSON lines; what they must say is decided by `tests/tests/live_door`.
"""

import argparse
import asyncio
import json
import sys
import time

import nats
import nats.errors
import nats.js.errors
from google.protobuf import descriptor_pb2, message_factory

import door_cases

NOTICES = "system.all.notice.low"
SETTLE_SECONDS = 60


def say(**fields):
    """Prints one JSON line."""
    print(json.dumps(fields), flush=True)


def contract(path):
    """The message classes of the compiled contract, by full name."""
    files = descriptor_pb2.FileDescriptorSet()
    with open(path, "rb") as file:
        files.ParseFromString(file.read())
    return message_factory.GetMessages(list(files.file))


class Door:
    """A connection under one person's own NATS user."""

    def __init__(self, args):
        self.args = args
        self.classes = contract(args.descriptors)
        self.errors = []
        self.changed = asyncio.Event()

    async def __aenter__(self):
        self.client = await nats.connect(
            self.args.url.split(","),
            nkeys_seed=self.args.seed,
            inbox_prefix=self.args.inbox,
            error_cb=self.on_error,
            allow_reconnect=False,
            connect_timeout=5,
        )
        self.stream = self.client.jetstream(timeout=5)
        return self

    async def __aexit__(self, *_):
        await self.client.close()

    async def on_error(self, error):
        """The server tells of a missing right by an event, not by an answer."""
        self.errors.append(str(error))
        self.changed.set()

    def message(self, name, **fields):
        """A message of the contract."""
        return self.classes[f"swarm.v1.{name}"](**fields)

    async def ask(self, subject, body=b"", headers=None):
        """A request to a service, its answer read as JSON."""
        reply = await self.client.request(subject, body, timeout=10, headers=headers)
        return json.loads(reply.data)

    async def user_id(self, handle):
        """The account behind a short name, as the swarm itself tells it."""
        return (await self.ask("swarm.positions", json.dumps({"user": handle}).encode()))["user_id"]

    async def violation(self):
        """The next missing right the server tells of."""
        deadline = time.monotonic() + 5
        while not self.errors:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), max(0.01, deadline - time.monotonic()))
        return self.errors.pop(0)


async def send(door, case):
    """Publishes one case as it asks; returns what the server said about it."""
    headers = dict(case.headers)
    try:
        if case.how == "core":
            await door.client.publish(case.subject, case.payload, headers=headers or None)
            await door.client.flush()
            return {"stored": "unknown"}
        if case.how == "service":
            return {"answer": await door.ask(case.subject, case.payload, headers or None)}
        ack = await door.stream.publish(case.subject, case.payload, headers=headers or None)
        return {"stored": f"{ack.stream}:{ack.seq}", "duplicate": bool(ack.duplicate)}
    except nats.js.errors.NoStreamResponseError:
        return {"server": "NO_STREAM"}
    except nats.js.errors.APIError as error:
        return {"server": f"JETSTREAM_{error.err_code}"}
    except nats.errors.MaxPayloadError:
        return {"server": "MAX_PAYLOAD"}


async def publish(args, cases):
    """Publishes cases and repeats the notices that follow, until there is one for each that must have one."""
    async with Door(args) as door:
        heard = asyncio.Queue()
        subscription = None
        if args.notices:
            subscription = await door.client.subscribe(NOTICES, cb=heard.put)
            await door.client.flush()
        users = {handle: handle for handle in ("operator", "alice")}
        if args.notices:
            users = {handle: await door.user_id(handle) for handle in users}
        awaited = 0
        for case in cases(door, users):
            told = await send(door, case)
            awaited += case.expect.startswith("dlq:") and "stored" in told
            say(name=case.name, how=case.how, subject=case.subject, expect=case.expect, key=case.key, **told)
        deadline = time.monotonic() + SETTLE_SECONDS
        while subscription and awaited and time.monotonic() < deadline:
            try:
                message = await asyncio.wait_for(heard.get(), max(0.01, deadline - time.monotonic()))
            except asyncio.TimeoutError:
                break
            envelope = door.message("AgentMessage")
            envelope.ParseFromString(message.data)
            notice = envelope.notice
            if notice.code in ("SIGNAL_REJECTED", "MESSAGE_GIVEN_UP"):
                awaited -= 1
                say(notice=notice.code, user_id=envelope.user_id, numbers=dict(notice.numbers), text=notice.text)


async def ask(args):
    """One request to a service."""
    async with Door(args) as door:
        headers = {"Nats-Msg-Id": args.id} if args.id else None
        say(subject=args.subject, answer=await door.ask(args.subject, args.body.encode(), headers))


async def rights(args):
    """Tries what this person may not do; the server must say so each time."""
    async with Door(args) as door:
        for subject in args.publish:
            await door.client.publish(subject, b'{"action":"BUY","token_address":"BTCUSDT","notional_usd":"20"}')
            say(tried="publish", subject=subject, server=await door.violation())
        for subject in args.subscribe:
            await door.client.subscribe(subject)
            await door.client.flush()
            say(tried="subscribe", subject=subject, server=await door.violation())


async def letters(args):
    """Every dead letter's headers, read by the administrator of streams."""
    async with Door(args) as door:
        state = (await door.stream.stream_info("DLQ")).state
        for seq in range(max(1, state.first_seq), state.last_seq + 1):
            letter = await door.stream.get_msg("DLQ", seq)
            say(seq=seq, subject=letter.subject, headers=dict(letter.headers or {}), bytes=len(letter.data or b""))


async def streams(args):
    """How much each stream holds."""
    async with Door(args) as door:
        for name in ("TRADING_CRITICAL", "TRADING_HIGH", "DLQ"):
            state = (await door.stream.stream_info(name)).state
            say(stream=name, messages=state.messages, last_seq=state.last_seq)


COMMANDS = {
    "good": lambda args: publish(args, door_cases.good),
    "good-of-alice": lambda args: publish(args, door_cases.good_of_alice),
    "sale": lambda args: publish(args, door_cases.sale),
    "bad": lambda args: publish(args, door_cases.bad),
    "words": lambda args: publish(args, door_cases.words),
    "bad-of-alice": lambda args: publish(args, door_cases.bad_of_alice),
    "ask": ask,
    "rights": rights,
    "letters": letters,
    "streams": streams,
}


def main():
    """Reads the command line and runs one subcommand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=sorted(COMMANDS))
    parser.add_argument("--url", required=True, help="where NATS listens")
    parser.add_argument("--seed", required=True, help="file with the person's NKEY seed")
    parser.add_argument("--inbox", required=True, help="the person's inbox prefix")
    parser.add_argument("--descriptors", required=True, help="file with the compiled contract")
    parser.add_argument("--notices", action="store_true", help="listen to notices; only the operator may")
    parser.add_argument("--subject", default="", help="ask: the service")
    parser.add_argument("--body", default="", help="ask: what to send")
    parser.add_argument("--id", default="", help="ask: Nats-Msg-Id")
    parser.add_argument("--publish", nargs="*", default=[], help="rights: subjects")
    parser.add_argument("--subscribe", nargs="*", default=[], help="rights: subjects")
    args = parser.parse_args()
    asyncio.run(COMMANDS[args.command](args))


if __name__ == "__main__":
    sys.exit(main())
