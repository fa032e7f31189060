"""Reads which case to play from standard input, a JSON object a line, and says how it went, a JSON object a line.

The first line that is written lists the cases, so that the other side can see that none is left out.
"""

import json
import sys
import traceback

CASES = {}


def case(play):
    """Marks a function as a case by its name."""
    CASES[play.__name__] = play
    return play


def equal(got, wanted, what="value"):
    """Fails unless they are."""
    if got != wanted:
        raise AssertionError(f"{what}: {got!r}, not {wanted!r}")


def raised(kind, play):
    """What `play` raises, which must be a `kind`."""
    try:
        answer = play()
    except kind as error:
        return error
    raise AssertionError(f"{kind} was not raised; the answer was {answer!r}")


def run(**about):
    """Plays cases until there are no more."""

    def say(**line):
        print(json.dumps(line), flush=True)

    say(cases=sorted(CASES), **about)
    for line in sys.stdin:
        told = json.loads(line)
        try:
            CASES[told["case"]](told)
            say(case=told["case"], ok=True)
        except Exception:  # every end of a case is told, whatever it was
            say(case=told["case"], ok=False, why=traceback.format_exc())


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "price_of",
            "description": "The last price of an instrument",
            "parameters": {
                "type": "object",
                "properties": {"symbol": {"type": "string"}},
                "required": ["symbol"],
                "additionalProperties": False,
            },
        },
    }
]

REVIEW = {
    "type": "json_schema",
    "json_schema": {
        "name": "review",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "verdict": {"type": "string", "enum": ["agree", "object"]},
                "confidence_percent": {"type": "integer", "minimum": 0, "maximum": 100},
                "reasoning": {"type": "string"},
            },
            "required": ["verdict", "confidence_percent", "reasoning"],
            "additionalProperties": False,
        },
    },
}


def ask(text):
    """A conversation of one question."""
    return [{"role": "user", "content": text}]
