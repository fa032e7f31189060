"""`litellm`, as it comes, with the router as an OpenAI-compatible endpoint."""

import asyncio
import importlib.metadata
import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches prices from the internet at import

import litellm  # noqa: E402

from bench import REVIEW, TOOLS, ask, case, equal, raised, run  # noqa: E402

litellm.telemetry = False
litellm.suppress_debug_info = True
MODEL = "openai/trading-llm"


def door(told, **more):
    return {"api_base": told["url"], "api_key": told["key"], "max_retries": 0, "timeout": 20, **more}


def chat(told, text="hello", **more):
    return litellm.completion(**{"model": MODEL, "messages": ask(text), **door(told), **more})


@case
def chat_answers(told):
    answer = chat(told, temperature=0.2, max_tokens=64, user="me")
    equal(answer.choices[0].message.content, told["says"])
    equal(answer.choices[0].finish_reason, "stop")
    assert answer.usage.completion_tokens > 0, answer


@case
def stream(told):
    chunks = list(chat(told, stream=True))
    equal("".join(chunk.choices[0].delta.content or "" for chunk in chunks), told["says"])
    equal([c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason], ["stop"])


@case
def stream_with_usage(told):
    chunks = list(chat(told, stream=True, stream_options={"include_usage": True}))
    equal("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), told["says"])
    usages = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    equal(len(usages), 1, "usages")
    whole = litellm.stream_chunk_builder(chunks)
    equal(whole.choices[0].message.content, told["says"])
    equal(whole.usage.total_tokens, usages[0].total_tokens)


@case
def async_stream(told):
    async def play():
        answer = await litellm.acompletion(model=MODEL, messages=ask("hello"), stream=True, **door(told))
        return "".join([chunk.choices[0].delta.content or "" async for chunk in answer])

    equal(asyncio.run(play()), told["says"])


@case
def tools_round_trip(told):
    messages = ask("What is BTC-USD?")
    answer = litellm.completion(model=MODEL, messages=messages, tools=TOOLS, tool_choice="auto", **door(told))
    equal(answer.choices[0].finish_reason, "tool_calls")
    message = answer.choices[0].message
    (call,) = message.tool_calls
    equal((call.function.name, json.loads(call.function.arguments)), ("price_of", {"symbol": "BTC-USD"}))
    messages.append(message)
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "64000"})
    answer = litellm.completion(model=MODEL, messages=messages, tools=TOOLS, **door(told))
    equal(answer.choices[0].message.content, "It is 64000.")


@case
def streamed_tool_calls(told):
    chunks = list(chat(told, "What is BTC-USD?", tools=TOOLS, stream=True))
    (call,) = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls
    equal((call.function.name, json.loads(call.function.arguments)), ("price_of", {"symbol": "BTC-USD"}))
    equal([c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason], ["tool_calls"])


@case
def json_schema(told):
    answer = chat(told, "Review: buy 1 BTC", response_format=REVIEW)
    said = json.loads(answer.choices[0].message.content)
    equal(said, {"verdict": "object", "confidence_percent": 80, "reasoning": "too large"})


@case
def embeddings(told):
    texts = list(told["vectors"])
    for more in [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}]:
        answer = litellm.embedding(model="openai/embed", input=texts, **door(told), **more)
        for row, text in zip(answer.data, texts):
            got, wanted = row["embedding"], told["vectors"][text]
            if isinstance(got, str):  # base64 that was asked for is left as it is
                import array, base64

                got = list(array.array("f", base64.b64decode(got)))
            equal(len(got), len(wanted), "dimensions")
            assert all(abs(a - b) < 1e-6 for a, b in zip(got, wanted)), (got[:4], wanted[:4])


@case
def models_are_listed(told):
    names = litellm.get_valid_models(
        check_provider_endpoint=True, custom_llm_provider="openai",
        api_base=told["url"].removesuffix("/v1"), api_key=told["key"],
    )
    equal({name.removeprefix("openai/") for name in names}, {"trading-llm", "reasoning-llm", "embed"})


@case
def wrong_key(told):
    error = raised(litellm.AuthenticationError, lambda: chat({**told, "key": "nobody's"}))
    equal(error.status_code, 401)


@case
def unknown_model(told):
    error = raised(litellm.NotFoundError, lambda: chat(told, model="openai/gpt-9"))
    equal(error.status_code, 404)
    assert "gpt-9" in str(error), error


@case
def bad_parameter(told):
    error = raised(litellm.BadRequestError, lambda: chat(told, temperature=9))
    equal(error.status_code, 400)
    assert "temperature" in str(error), error


@case
def context_too_long(told):
    raised(litellm.ContextWindowExceededError, lambda: chat(told))


@case
def all_tiers_down(told):
    for stream in [False, True]:
        error = raised(litellm.ServiceUnavailableError, lambda: chat(told, stream=stream))
        equal(error.status_code, 503)
        assert "openrouter" in str(error), error


@case
def error_in_the_middle_of_a_stream(told):
    seen = []

    def play():
        for chunk in chat(told, stream=True):
            seen.append(chunk.choices[0].delta.content or "")
        return "".join(seen)

    # Its word for a stream that broke; it holds nothing back of what came before.
    raised((litellm.exceptions.MidStreamFallbackError, litellm.APIError, litellm.APIConnectionError), play)
    assert "".join(seen) and told["says"].startswith("".join(seen)), seen


@case
def client_times_out(told):
    raised(litellm.Timeout, lambda: chat(told, timeout=0.5))


@case
def deadline_of_the_request(told):
    error = raised(litellm.Timeout, lambda: chat(told, extra_headers={"x-swarm-deadline-ms": "300"}))
    assert "deadline" in str(error), error


if __name__ == "__main__":
    run(client=f"litellm {importlib.metadata.version('litellm')}")
