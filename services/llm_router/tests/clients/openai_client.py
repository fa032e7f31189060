"""The official `openai` client, as it comes, before the router."""

import asyncio
import json

import openai
import pydantic
from openai import OpenAI

from bench import REVIEW, TOOLS, ask, case, equal, raised, run

MODEL = "trading-llm"


def client(told, **more):
    return OpenAI(base_url=told["url"], api_key=told["key"], **{"max_retries": 0, "timeout": 20, **more})


def chat(told, text="hello", **more):
    return client(told).chat.completions.create(model=MODEL, messages=ask(text), **more)


class Review(pydantic.BaseModel):
    verdict: str
    confidence_percent: int
    reasoning: str


@case
def chat_answers(told):
    answer = chat(told)
    equal(answer.object, "chat.completion")
    equal(answer.choices[0].message.content, told["says"])
    equal((answer.choices[0].message.role, answer.choices[0].finish_reason), ("assistant", "stop"))
    usage = answer.usage
    equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "tokens")
    assert usage.completion_tokens > 0 and answer.id and answer.created > 0, answer


@case
def every_usual_parameter(told):
    answer = chat(
        told,
        temperature=0.2, top_p=0.9, seed=7, stop=["\n\n"], presence_penalty=0.1, frequency_penalty=0.1,
        max_completion_tokens=64, n=1, user="me", metadata={"tenant": "t1"}, store=False, logprobs=False,
        reasoning_effort="low", parallel_tool_calls=None, service_tier="auto",
    )
    equal(answer.choices[0].message.content, told["says"])


@case
def provenance_in_raw_response(told):
    raw = client(told).chat.completions.with_raw_response.create(
        model=MODEL, messages=ask("hello"), extra_headers={"x-swarm-priority": "9"}
    )
    equal(raw.headers["x-swarm-tier"], told["tier"])
    equal(raw.parse().choices[0].message.content, told["says"])


@case
def stream(told):
    chunks = list(chat(told, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    equal(text, told["says"])
    equal(chunks[0].choices[0].delta.role, "assistant")
    equal([c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason], ["stop"])
    equal([chunk.usage for chunk in chunks if chunk.usage], [], "usage that nobody asked for")
    equal({chunk.object for chunk in chunks}, {"chat.completion.chunk"})
    equal(len({chunk.id for chunk in chunks}), 1, "ids")


@case
def stream_with_usage(told):
    chunks = list(chat(told, stream=True, stream_options={"include_usage": True}))
    equal("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), told["says"])
    last = chunks[-1]
    equal(last.choices, [])
    equal(last.usage.total_tokens, last.usage.prompt_tokens + last.usage.completion_tokens)
    assert last.usage.completion_tokens > 0, last
    equal([chunk.usage for chunk in chunks[:-1] if chunk.usage], [], "usage before the end")


@case
def stream_from_the_cache(told):
    first = "".join(c.choices[0].delta.content or "" for c in chat(told, stream=True))
    again = client(told).chat.completions.with_raw_response.create(model=MODEL, messages=ask("hello"), stream=True)
    equal(again.headers["x-swarm-cache"], "exact")
    equal("".join(c.choices[0].delta.content or "" for c in again.parse()), first)


@case
def stream_helper(told):
    with client(told).chat.completions.stream(model=MODEL, messages=ask("hello")) as events:
        deltas = [event.delta for event in events if event.type == "content.delta"]
        final = events.get_final_completion()
    equal("".join(deltas), told["says"])
    equal(final.choices[0].message.content, told["says"])


@case
def async_stream(told):
    async def play():
        async with openai.AsyncOpenAI(base_url=told["url"], api_key=told["key"], max_retries=0) as asks:
            answer = await asks.chat.completions.create(model=MODEL, messages=ask("hello"), stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in answer])

    equal(asyncio.run(play()), told["says"])


@case
def tools_round_trip(told):
    messages = ask("What is BTC-USD?")
    asks = client(told)
    answer = asks.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS, tool_choice="auto")
    equal(answer.choices[0].finish_reason, "tool_calls")
    message = answer.choices[0].message
    equal(message.content, None)
    (call,) = message.tool_calls
    equal((call.type, call.function.name), ("function", "price_of"))
    equal(json.loads(call.function.arguments), {"symbol": "BTC-USD"})
    assert call.id, call
    # As the client's own pages show it: the message goes back as it came.
    messages.append(message)
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "64000"})
    answer = asks.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    equal(answer.choices[0].message.content, "It is 64000.")


@case
def streamed_tool_calls(told):
    name, call_id, arguments, ends = None, None, "", []
    for chunk in chat(told, "What is BTC-USD?", tools=TOOLS, stream=True):
        choice = chunk.choices[0]
        for call in choice.delta.tool_calls or []:
            equal(call.index, 0)
            name = name or call.function.name
            call_id = call_id or call.id
            arguments += call.function.arguments or ""
        if choice.finish_reason:
            ends.append(choice.finish_reason)
    equal((name, ends), ("price_of", ["tool_calls"]))
    equal(json.loads(arguments), {"symbol": "BTC-USD"})
    assert call_id


@case
def streamed_tool_calls_by_the_helper(told):
    with client(told).chat.completions.stream(model=MODEL, messages=ask("What is BTC-USD?"), tools=TOOLS) as events:
        for _ in events:
            pass
        (call,) = events.get_final_completion().choices[0].message.tool_calls
    equal((call.function.name, json.loads(call.function.arguments)), ("price_of", {"symbol": "BTC-USD"}))


@case
def json_schema(told):
    answer = chat(told, "Review: buy 1 BTC", response_format=REVIEW)
    said = json.loads(answer.choices[0].message.content)
    equal(said, {"verdict": "object", "confidence_percent": 80, "reasoning": "too large"})


@case
def json_object(told):
    answer = chat(told, "Review: buy 1 BTC, as JSON", response_format={"type": "json_object"})
    equal(json.loads(answer.choices[0].message.content)["verdict"], "object")


@case
def parse_into_pydantic(told):
    asks = client(told)
    answer = asks.chat.completions.parse(model=MODEL, messages=ask("Review: buy 1 BTC"), response_format=Review)
    equal(answer.choices[0].message.parsed, Review(verdict="object", confidence_percent=80, reasoning="too large"))


@case
def parse_a_stream_into_pydantic(told):
    with client(told).chat.completions.stream(
        model=MODEL, messages=ask("Review: buy 1 BTC"), response_format=Review
    ) as events:
        for _ in events:
            pass
        parsed = events.get_final_completion().choices[0].message.parsed
    equal(parsed, Review(verdict="object", confidence_percent=80, reasoning="too large"))


def near(got, wanted):
    equal(len(got), len(wanted), "dimensions")
    assert all(abs(a - b) < 1e-6 for a, b in zip(got, wanted)), (got[:4], wanted[:4])


@case
def embeddings_as_the_client_asks(told):
    # Without an encoding_format the client asks for base64 and decodes it.
    texts = list(told["vectors"])
    answer = client(told).embeddings.create(model="embed", input=texts)
    equal([row.index for row in answer.data], list(range(len(texts))))
    for row, text in zip(answer.data, texts):
        near(row.embedding, told["vectors"][text])
    assert answer.usage.total_tokens > 0, answer.usage


@case
def embeddings_as_floats(told):
    text = next(iter(told["vectors"]))
    answer = client(told).embeddings.create(model="embed", input=text, encoding_format="float")
    near(answer.data[0].embedding, told["vectors"][text])


@case
def models_are_listed(told):
    names = {model.id for model in client(told).models.list()}
    equal(names, {"trading-llm", "reasoning-llm", "embed"})


@case
def one_model_is_told(told):
    model = client(told).models.retrieve("trading-llm")
    equal((model.id, model.object, model.owned_by), ("trading-llm", "model", "swarm"))
    equal(raised(openai.NotFoundError, lambda: client(told).models.retrieve("gpt-9")).code, "model_not_found")


@case
def wrong_key(told):
    error = raised(openai.AuthenticationError, lambda: chat({**told, "key": "nobody's"}))
    equal((error.status_code, error.code), (401, "invalid_api_key"))


@case
def unknown_model(told):
    asks = client(told)
    error = raised(
        openai.NotFoundError, lambda: asks.chat.completions.create(model="gpt-9", messages=ask("hello"))
    )
    equal((error.status_code, error.code, error.param), (404, "model_not_found", "model"))
    assert "gpt-9" in error.message, error.message
    error = raised(openai.NotFoundError, lambda: asks.embeddings.create(model="gpt-9", input="hello"))
    equal(error.code, "model_not_found")


@case
def bad_parameter(told):
    error = raised(openai.BadRequestError, lambda: chat(told, temperature=9))
    equal((error.param, error.code, error.type), ("temperature", "invalid_value", "invalid_request_error"))
    error = raised(openai.BadRequestError, lambda: chat(told, n=2))
    equal((error.param, error.code), ("n", "unsupported_parameter"))
    error = raised(openai.BadRequestError, lambda: chat(told, extra_body={"no_such": 1}))
    equal(error.param, "no_such")


@case
def context_too_long(told):
    error = raised(openai.BadRequestError, lambda: chat(told))
    equal(error.code, "context_length_exceeded")


@case
def all_tiers_down(told):
    for stream in [False, True]:
        error = raised(openai.InternalServerError, lambda: chat(told, stream=stream))
        equal((error.status_code, error.code), (503, "no_tier_answered"))
        for tier in ["local", "groq", "openrouter"]:
            assert tier in error.message, error.message


@case
def the_clients_own_retry_finds_a_tier_that_is_back(told):
    # The double fails until its faults are played; the client sees one 503 and asks again by itself.
    answer = client(told, max_retries=2).chat.completions.create(model=MODEL, messages=ask("hello"))
    equal(answer.choices[0].message.content, told["says"])


@case
def error_in_the_middle_of_a_stream(told):
    seen = []

    def play():
        for chunk in chat(told, stream=True):
            seen.append(chunk.choices[0].delta.content or "")
        return "".join(seen)

    error = raised(openai.APIError, play)
    equal(error.code, told["code"])
    assert "".join(seen) and told["says"].startswith("".join(seen)), seen


@case
def client_times_out(told):
    raised(openai.APITimeoutError, lambda: client(told, timeout=0.5).chat.completions.create(
        model=MODEL, messages=ask("hello"), extra_headers={"x-swarm-priority": "5"}))


@case
def deadline_of_the_request(told):
    error = raised(
        openai.InternalServerError, lambda: chat(told, extra_headers={"x-swarm-deadline-ms": "300"})
    )
    equal((error.status_code, error.code), (504, "deadline"))


if __name__ == "__main__":
    run(client=f"openai {openai.__version__}")
