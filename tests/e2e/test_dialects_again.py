"""Each dialect against a second implementation of it, independent of the first (test_dialects.py):

- OpenAI, Azure, Anthropic, Gemini: LiteLLM's proxy, which translates them itself, before aimock; OpenAI and Anthropic also
  llama.cpp's server with a model that really answers (the last tests here, and test_llamacpp.py);
- Bedrock: botocore's service model and signer, with frames made by hand from AWS's description (tests/dialects/bedrock/stub.py).
  LiteLLM only passes Bedrock's requests on, and nothing else here speaks Converse;
- Cohere: the models of its own Python SDK (tests/dialects/cohere/stub.py), and its published specification (specs.py).

What a second one cannot do is left out: streams that break are ended by LiteLLM as it likes, and llama.cpp's small model sees no
images and calls no tools when asked to.
"""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import cohere
import openai
import pytest

import specs
from aimock import aimock
from dialects import CALLS, DATA_URL, DIALECTS, ERRORS, FIXTURES, HEAD, KEY, PASSED_THROUGH, TEXT, TOO_LONG, TOOLS, alone, answer_of, ask, holds, lone_providers, provider
from litellm_proxy import litellm
from sse import events
from tap import Tap
from waypost import error_of, serving

# Bedrock's stub knows these credentials, Cohere's this key.
ACCESS, SECRET, COHERE_KEY = "ASIAEXAMPLE", "secret+/=", "cohere-key-example"
SIGNED = 'region = "eu-central-1"\naccess_key = "env:DIALECT_ACCESS"\nsecret_key = "env:DIALECT_SECRET"\nsession_token = "env:DIALECT_TOKEN"'
STUBS = {"bedrock": SIGNED, "cohere": 'key = "env:DIALECT_COHERE"'}
OVER_LITELLM = [kind for kind in DIALECTS if kind not in STUBS]
SETTINGS = {kind: STUBS.get(kind, f'key = "env:DIALECT_KEY"\n{DIALECTS[kind].settings}') for kind in DIALECTS}
# What is answered to "count", to tools, and to a schema; prompt and answer tokens.
Second = namedtuple("Second", "text calls structured counts")
LITELLM = Second(TEXT, CALLS, {"city": "Paris", "degrees": 20}, (70, 30))
STUB = Second("Hello.", [("get_weather", {"n": 0}), ("get_time", {"n": 1})], {"n": 0}, (125, 40))
SECONDS = {kind: STUB if kind in STUBS else LITELLM for kind in DIALECTS}
MODES = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

# What the upstream is told to fail with -> its status, and what the client reads.
LITELLM_ERRORS = {
    "unwell": (500, 502, "upstream_failed"),
    "limited": (429, 429, "rate_limit_exceeded"),
    "wrong key": (401, 502, "upstream_failed"),
    "no such model": (404, 502, "upstream_failed"),
    "malformed": (400, 400, None),
    TOO_LONG: (400, 400, "context_length_exceeded"),
}
BEDROCK_ERRORS = {
    "throttle": (429, 429, "rate_limit_exceeded"),
    "too long": (400, 400, "context_length_exceeded"),
    "denied": (403, 502, "upstream_failed"),
    "model error": (424, 502, "upstream_failed"),
}
COHERE_ERRORS = BEDROCK_ERRORS | {"denied": (401, 502, "upstream_failed"), "model error": (500, 502, "upstream_failed")}
MAPPED = {kind: {"bedrock": BEDROCK_ERRORS, "cohere": COHERE_ERRORS}.get(kind, LITELLM_ERRORS) for kind in DIALECTS}


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextlib.contextmanager
def stub(kind):
    """The address of a stub, as long as the block."""
    port, program = free_port(), Path(__file__).parent.parent / f"dialects/{kind}/stub.py"
    process = subprocess.Popen([sys.executable, program, str(port)])
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None and time.monotonic() < deadline, f"{kind}'s stub does not start"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(15)


@pytest.fixture(scope="module")
def taps(node_folder, tmp_path_factory):
    """By dialect, a tap before its second implementation."""
    with contextlib.ExitStack() as stack:
        mock = stack.enter_context(aimock(node_folder, tmp_path_factory.mktemp("aimock"), FIXTURES))
        models = [f"{kind}-m" for kind in OVER_LITELLM]
        urls = {kind: stack.enter_context(stub(kind)) for kind in STUBS}
        proxy = stack.enter_context(litellm(tmp_path_factory.mktemp("litellm"), free_port(), f"{mock.url}/v1", models))
        taps = {kind: Tap(urls.get(kind, proxy)) for kind in DIALECTS}
        yield taps
        for tap in taps.values():
            tap.stop()


@pytest.fixture(scope="module")
def second(tmp_path_factory, taps):
    """Waypost before all of them."""
    config = HEAD.replace("request_timeout_ms = 3000", "request_timeout_ms = 30000")
    for kind, settings in SETTINGS.items():
        config += provider(kind, taps[kind].url, settings=settings) + lone_providers(kind, taps[kind].url, [*MAPPED[kind], "break", "cut"], settings)
    keys = {"DIALECT_KEY": KEY, "DIALECT_COHERE": COHERE_KEY, "DIALECT_ACCESS": ACCESS, "DIALECT_SECRET": SECRET, "DIALECT_TOKEN": "token/+="}
    with serving(tmp_path_factory.mktemp("again"), config, **keys) as server:
        yield server


@pytest.fixture(params=DIALECTS)
def kind(request, taps):
    """A dialect. Whatever is asked in it must be what its provider's specification calls a request."""
    taps[request.param].forget()
    yield request.param
    for asked in taps[request.param].all():
        specs.asks(request.param, asked.body)


def read(kind, response, stream):
    """The answer, checked; of what passes through LiteLLM leaves out a chunk's `finish_reason` that is null,
    and counts in a chunk with an empty choice.
    """
    return answer_of(response, stream, kind in PASSED_THROUGH)


@MODES
def test_chat(second, taps, kind, stream):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "count"}]
    response = ask(second, kind, "", stream, messages=messages, max_tokens=77, temperature=0.5)
    content, calls, finish, usage = read(kind, response, stream)
    prompt, answer = SECONDS[kind].counts
    assert (content, calls, finish) == (SECONDS[kind].text, None, "stop")
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (prompt, answer, prompt + answer)
    outcome = second.decision(response)["outcome"]
    assert outcome["end"] == "complete" and outcome["cost"] == pytest.approx((prompt * 1 + answer * 2) * 1e-6)
    asked = taps[kind].last().body
    assert holds(asked, 77) and holds(asked, 0.5) and "Be brief." in json.dumps(asked)


@MODES
def test_parallel_tool_calls_and_their_results(second, taps, kind, stream):
    content, calls, finish, _ = read(kind, ask(second, kind, "both", stream, tools=TOOLS), stream)
    assert finish == "tool_calls"
    assert [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls] == SECONDS[kind].calls
    assert len({call["id"] for call in calls}) == 2 and all(call["type"] == "function" for call in calls)
    assert holds(taps[kind].last().body, {"required": ["city"]}), "the first tool's schema"
    turns = [{"role": "user", "content": "both"}, {"role": "assistant", "content": content, "tool_calls": calls}]
    turns += [{"role": "tool", "tool_call_id": call["id"], "content": f"result {at}"} for at, call in enumerate(calls)]
    after = read(kind, ask(second, kind, "", stream, messages=turns, tools=TOOLS), stream)
    assert after[0] == (STUB.text if kind in STUBS else "Mild, at noon.") and after[2] == "stop"
    sent = json.dumps(taps[kind].last().body)
    assert "result 0" in sent and "result 1" in sent


@MODES
def test_an_image_arrives(second, taps, kind, stream):
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": DATA_URL}}]
    assert read(kind, ask(second, kind, parts, stream), stream)[0] == (STUB.text if kind in STUBS else "A dot.")
    assert holds(taps[kind].last().body, DIALECTS[kind].image), taps[kind].last().body


@MODES
def test_structured_output(second, kind, stream):
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}}, "required": ["city", "degrees"], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "weather", "strict": True, "schema": schema}}
    content, _, finish, _ = read(kind, ask(second, kind, "as json", stream, response_format=wanted), stream)
    assert (json.loads(content), finish) == (SECONDS[kind].structured, "stop")


@MODES
@pytest.mark.parametrize(("kind", "words"), [(kind, words) for kind in DIALECTS for words in MAPPED[kind]], indirect=["kind"], ids=lambda value: value.split(":")[0].replace(" ", "-"))
def test_errors(second, kind, words, stream):
    upstream, status, code = MAPPED[kind][words]
    response = ask(second, alone(kind, words, stream), words, stream)
    error = error_of(response, status, code)
    outcome = second.decision(response)["outcome"]
    assert (outcome["end"], outcome["cost"]) == ("refused" if status == 400 else "failed", None)
    assert outcome["attempts"][0]["status"] == upstream
    if status == 400 and words in ERRORS:
        assert words in error["message"]


@pytest.mark.parametrize("steer", ["break", "cut"])
@pytest.mark.parametrize("of", STUBS)
def test_a_break_is_told(second, of, steer):
    response = ask(second, alone(of, steer, True), steer, True)
    *before, last = events(response.content)
    assert json.loads(last)["error"]["code"] and "[DONE]" not in before
    assert second.decision(response)["outcome"]["end"] == "broken"


def test_azure_is_asked_as_its_own_sdk_asks(second, taps):
    tap, messages = taps["azure"], [{"role": "user", "content": "count"}]
    tap.forget()
    with openai.AzureOpenAI(azure_endpoint=tap.url, api_key=KEY, api_version="2024-10-21", max_retries=0) as client:
        assert client.chat.completions.create(model="azure-m", messages=messages, max_tokens=8).choices[0].message.content == TEXT
    theirs = tap.last()
    ask(second, "azure", "count")
    ours = tap.last()
    assert (ours.path, ours.body) == (theirs.path, theirs.body)
    assert ours.headers["api-key"] == theirs.headers["api-key"] == KEY
    assert ours.headers["content-type"] == theirs.headers["content-type"] and "authorization" not in ours.headers


@pytest.mark.parametrize("tools", [None, TOOLS], ids=["words", "tools"])
def test_cohere_is_asked_as_its_own_sdk_asks(second, taps, tools):
    tap, messages = taps["cohere"], [{"role": "user", "content": "count"}]
    tap.forget()
    client = cohere.ClientV2(api_key=COHERE_KEY, base_url=tap.url)
    answer = client.chat(model="cohere-m", messages=messages, max_tokens=8, **({"tools": tools} if tools else {}))
    assert (answer.message.tool_plan if tools else answer.message.content[0].text) == "Hello."
    theirs = tap.last()
    ask(second, "cohere", "count", **({"tools": tools} if tools else {}))
    ours = tap.last()
    assert ours.path == theirs.path and ours.headers["authorization"] == theirs.headers["authorization"]
    assert ours.body == {name: value for name, value in theirs.body.items() if name != "stream"} and theirs.body["stream"] is False


# llama.cpp's server speaks both, and its model really answers.
REAL = ("openai", "anthropic")


@pytest.fixture(scope="module")
def real(llama, tmp_path_factory):
    """Waypost before llama.cpp in either dialect."""
    config = HEAD.replace("request_timeout_ms = 3000", "request_timeout_ms = 60000")
    config += "".join(provider(kind, llama, name, 'key = "env:DIALECT_KEY"') for kind in REAL for name in (kind, f"{kind}-image", f"{kind}-long"))
    with serving(tmp_path_factory.mktemp("real"), config, DIALECT_KEY=KEY) as server:
        yield server


@MODES
@pytest.mark.parametrize("of", REAL)
def test_a_real_model_answers(real, of, stream):
    messages = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Name"}, {"role": "user", "content": "three colours."}]
    response = ask(real, of, "", stream, messages=messages, max_tokens=8, temperature=0)
    content, calls, finish, usage = read("openai", response, stream)
    assert content and calls is None and finish == "length"
    assert usage["completion_tokens"] == 8 and usage["prompt_tokens"] > 10 and usage["total_tokens"] == usage["prompt_tokens"] + 8
    assert real.decision(response)["outcome"]["usage"]["prompt_tokens"] == usage["prompt_tokens"]


def test_a_real_model_is_asked_the_same_in_both_dialects(real):
    """Greedily decoded: the same prompt gives the same words, so both dialects led to the same prompt."""
    messages = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Name three colours."}]
    messages += [{"role": "assistant", "content": "Red, green and blue."}, {"role": "user", "content": "And three more?"}]
    answers = [read("openai", ask(real, of, "", stream, messages=messages, max_tokens=24, temperature=0, top_p=1.0), stream) for of in REAL for stream in (False, True)]
    assert len({(content, usage["prompt_tokens"]) for content, _, _, usage in answers}) == 1, answers


@MODES
@pytest.mark.parametrize("of", REAL)
def test_a_real_refusal(real, of, stream):
    """This model sees no images and has room for 2,048 tokens a request."""
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": DATA_URL}}]
    response = ask(real, f"{of}-image", parts, stream)
    assert response.status_code in (400, 502) and "image" in json.dumps(real.decision(response)["outcome"]["attempts"]), response.text
    response = ask(real, f"{of}-long", "many words " * 5_000, stream)
    error_of(response, 400, "context_length_exceeded")
