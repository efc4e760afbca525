"""openai-python works against Waypost: chat, streams, models, headers, error classes, parameters, both clients."""

import asyncio

import openai
import pytest

from waypost import ANSWER_S, LOCAL

HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
def client(plain):
    with openai.OpenAI(base_url=f"{plain.url}/v1", api_key="none", timeout=ANSWER_S, max_retries=0) as client:
        yield client


def test_chat(client):
    answer = client.chat.completions.create(model="auto", messages=HELLO, max_tokens=8)
    assert answer.object == "chat.completion" and answer.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id


def test_stream(client):
    stream = client.chat.completions.create(model="auto", messages=HELLO, max_tokens=8, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")
    assert 0 < chunks[-1].usage.completion_tokens <= 8


def test_the_stream_helper_accumulates(client):
    with client.chat.completions.stream(model="auto", messages=HELLO, max_tokens=8) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        assert stream.current_completion_snapshot.choices[0].message.content == text != ""


def test_models(client):
    listed = {model.id: model for model in client.models.list()}
    assert {"auto", "code", LOCAL} <= set(listed)
    for name in ("auto", "code", LOCAL):
        assert client.models.retrieve(name) == listed[name]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_headers_of_the_raw_response(client):
    raw = client.chat.completions.with_raw_response.create(model="basic", messages=HELLO, max_tokens=4)
    assert raw.headers["x-waypost-class"] == "basic" and raw.headers["x-waypost-deployment"] == LOCAL
    assert raw.headers["x-waypost-decision"] and raw.request_id == raw.headers["x-request-id"]
    assert raw.parse().choices[0].message.role == "assistant"


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_not_found(client, stream):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-none", messages=HELLO, stream=stream)
    assert (caught.value.code, caught.value.param, caught.value.type) == ("model_not_found", "model", "invalid_request_error")
    assert set(caught.value.body) == {"message", "type", "param", "code"} and caught.value.request_id


def test_empty_messages_are_a_bad_request(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="auto", messages=[])
    assert (caught.value.code, caught.value.param) == ("empty_array", "messages")


@pytest.mark.parametrize("bad", [{"temperature": 9}, {"top_p": 1.5}, {"max_tokens": 0}, {"n": 3}, {"seed": "x"}, {"max_completion_tokens": -1}])
def test_parameters_out_of_range_are_named(client, bad):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="auto", messages=HELLO, **bad)
    assert caught.value.param == next(iter(bad)) and caught.value.code


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_both_limits_of_length_hold(client, name):
    answer = client.chat.completions.create(model="auto", messages=HELLO, temperature=0, **{name: 3})
    assert answer.usage.completion_tokens == 3 and answer.choices[0].finish_reason == "length"


def say(client, **settings):
    messages = [{"role": "user", "content": "Write a long story about the sea."}]
    return client.chat.completions.create(model="auto", messages=messages, max_tokens=12, **settings).choices[0]


def test_the_same_seed_gives_the_same_text(client):
    settings = {"temperature": 1.2, "top_p": 0.9}
    first, second = (say(client, seed=11, **settings).message.content for _ in range(2))
    assert first == second
    assert any(say(client, seed=seed, **settings).message.content != first for seed in (12, 13, 14))


def test_temperature_zero_is_greedy(client):
    assert say(client, temperature=0, seed=1).message.content == say(client, temperature=0, seed=2).message.content


def test_top_p_zero_is_greedy(client):
    greedy = say(client, temperature=0).message.content
    assert greedy == say(client, temperature=1.5, top_p=1e-6, seed=3).message.content == say(client, temperature=1.5, top_p=0, seed=3).message.content


def test_stop_ends_the_text_before_it(client):
    whole = say(client, temperature=0).message.content
    middle = len(whole) // 2
    stop = whole[middle : middle + 4]
    cut = say(client, temperature=0, stop=stop)
    assert cut.message.content == whole[: whole.index(stop)] and cut.finish_reason == "stop"
    assert say(client, temperature=0, stop=["\x00never", stop]).message.content == cut.message.content
    stream = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "Write a long story about the sea."}], max_tokens=12, temperature=0, stop=stop, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == cut.message.content


def test_the_async_client(plain):
    async def talk():
        async with openai.AsyncOpenAI(base_url=f"{plain.url}/v1", api_key="none", timeout=ANSWER_S, max_retries=0) as client:
            async def streamed():
                stream = await client.chat.completions.create(model="auto", messages=HELLO, max_tokens=4, stream=True)
                return [chunk async for chunk in stream]

            whole = client.chat.completions.create(model="auto", messages=HELLO, max_tokens=4)
            answer, chunks = await asyncio.gather(whole, streamed())
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="gpt-none", messages=HELLO)
            return answer, chunks

    answer, chunks = asyncio.run(talk())
    assert answer.choices[0].message.content and chunks[-1].choices[0].finish_reason


def test_an_upstream_error_has_its_class(fleet):
    with openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="none", timeout=ANSWER_S, max_retries=0) as client:
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="fake/busy", messages=HELLO)
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="fake/error500", messages=HELLO)
        with pytest.raises(openai.APIError, match="broke off"):
            list(client.chat.completions.create(model="fake/breaks", messages=HELLO, stream=True))
