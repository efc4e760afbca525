"""Each dialect against an independent implementation of it (aimock): the client speaks OpenAI's chat completions to Waypost,
the upstream its own. What reaches the upstream is read off the wire (tap.py): aimock forgets images and headers.
"""

import json
from collections import namedtuple

import pytest

from aimock import aimock
from sse import chunks, events
from tap import Tap
from waypost import command, error_of, serving

KEY = "dialect-secret-0815"
TEXT = "one two three four five six seven eight nine ten"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
# Every provider's names for the same counts; aimock takes those of the protocol it is asked in. Of cached tokens it knows none.
COUNTS = {"prompt_tokens": 70, "completion_tokens": 30, "input_tokens": 70, "output_tokens": 30, "promptTokenCount": 70, "candidatesTokenCount": 30}
CALLS = [("get_weather", {"city": "Paris"}), ("get_time", {"zone": "CET"})]
# In the words of Anthropic, Bedrock and Gemini: without a code of their own, it is the words that tell.
TOO_LONG = "prompt is too long: Input is too long for requested model: The input token count (300000) exceeds the maximum number of tokens allowed (200000)."
ERRORS = {
    "unwell": (500, "server_error", None),
    "overloaded": (529, "overloaded_error", None),
    "limited": (429, "rate_limit_error", "rate_limit_exceeded"),
    "wrong key": (401, "authentication_error", "invalid_api_key"),
    "no such model": (404, "not_found_error", "model_not_found"),
    "malformed": (400, "invalid_request_error", None),
    TOO_LONG: (400, "invalid_request_error", "context_length_exceeded"),
}
FIXTURES = [  # the first that matches counts
    # aimock hands the type on as Google's status.
    {"match": {"userMessage": TOO_LONG, "model": "gemini-m"}, "response": {"status": 400, "error": {"message": TOO_LONG, "type": "INVALID_ARGUMENT"}}},
    *({"match": {"userMessage": words}, "response": {"status": status, "retryAfter": 30, "error": {"message": words, "type": kind, **({"code": code} if code else {})}}} for words, (status, kind, code) in ERRORS.items()),
    {"match": {"userMessage": "count"}, "response": {"content": TEXT, "usage": COUNTS}, "chunkSize": 8},
    {"match": {"userMessage": "both", "hasToolResult": False}, "response": {"toolCalls": [{"name": name, "arguments": arguments} for name, arguments in CALLS], "usage": COUNTS}, "chunkSize": 5},
    {"match": {"userMessage": "both", "hasToolResult": True}, "response": {"content": "Mild, at noon."}},
    {"match": {"userMessage": "as json"}, "response": {"content": {"city": "Paris", "degrees": 20}}},
    {"match": {"userMessage": "see"}, "response": {"content": "A dot."}},
    {"match": {"userMessage": "breaks"}, "response": {"content": TEXT}, "chunkSize": 8, "latency": 30, "truncateAfterChunks": 4},
]

# `base`: below aimock's root; `secret`: the header that carries the key; `image`: an image in this dialect's words.
Dialect = namedtuple("Dialect", "base secret value image settings", defaults=("",))
DATA_URL = f"data:image/png;base64,{PNG}"
OPENAI_IMAGE = {"type": "image_url", "image_url": {"url": DATA_URL}}
DIALECTS = {
    "openai": Dialect("/v1", "authorization", f"Bearer {KEY}", OPENAI_IMAGE),
    "azure": Dialect("", "api-key", KEY, OPENAI_IMAGE, 'api_version = "2024-10-21"'),
    "anthropic": Dialect("/v1", "x-api-key", KEY, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}),
    "gemini": Dialect("/v1beta", "x-goog-api-key", KEY, {"inlineData": {"mimeType": "image/png", "data": PNG}}),
    "bedrock": Dialect("", "authorization", f"Bearer {KEY}", {"image": {"format": "png", "source": {"bytes": PNG}}}, 'region = "eu-central-1"'),
    "cohere": Dialect("", "authorization", f"Bearer {KEY}", OPENAI_IMAGE),
}
# Of these the client's bytes go on as they are.
PASSED_THROUGH = ("openai", "azure")
MODES = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

PROVIDER = """
[[provider]]
name = "{name}"
kind = "{kind}"
base_url = "{url}{base}"
key = "env:DIALECT_KEY"
first_byte_timeout_ms = 2000
{settings}
"""
DEPLOYMENT = """
[[deployment]]
name = "{name}/m"
provider = "{name}"
model = "{kind}-m"
classes = ["*"]
input = 1.0
output = 2.0
context_tokens = 100_000
max_output_tokens = 10_000
vision = true
tools = true
json_schema = true
"""
HEAD = '[server]\nrequest_timeout_ms = 3000\n[[provider]]\nname = "local"\nenabled = false\n[[provider]]\nname = "ollama"\nenabled = false\n'


# Providers of each kind that fail in one test each: a breaker that opened, or a limit that was told, is no other test's.
SPARE = 24
spares = {kind: iter(range(SPARE)) for kind in DIALECTS}


def provider(kind, url, name=None):
    dialect, name = DIALECTS[kind], name or kind
    return PROVIDER.format(kind=kind, name=name, url=url, base=dialect.base, settings=dialect.settings) + DEPLOYMENT.format(kind=kind, name=name)


def spare(kind):
    """A deployment that no other test asks."""
    return f"{kind}-{next(spares[kind])}/m"


def is_spoken(kind, folder):
    """Whether this binary knows the dialect: a configuration with it is a sound one."""
    (folder / f"{kind}.toml").write_text(HEAD + provider(kind, "http://127.0.0.1:9"))
    return command("config", "check", "--config", folder / f"{kind}.toml", cwd=folder, DIALECT_KEY=KEY).returncode == 0


@pytest.fixture(scope="module")
def mock(node_folder, tmp_path_factory):
    with aimock(node_folder, tmp_path_factory.mktemp("aimock"), FIXTURES) as server:
        yield server


@pytest.fixture(scope="module")
def tap(mock):
    tap = Tap(mock.url)
    yield tap
    tap.stop()


@pytest.fixture(scope="module")
def polyglot(tmp_path_factory, tap):
    """Waypost before all dialects that it speaks."""
    folder = tmp_path_factory.mktemp("dialects")
    spoken = [kind for kind in DIALECTS if is_spoken(kind, folder)]
    with serving(folder, HEAD + "".join(provider(kind, tap.url, name) for kind in spoken for name in [kind, *(f"{kind}-{at}" for at in range(SPARE))]), DIALECT_KEY=KEY) as server:
        server.spoken = spoken
        yield server


@pytest.fixture(params=DIALECTS)
def kind(request, polyglot, mock, tap):
    if request.param not in polyglot.spoken:
        pytest.skip(f"this binary does not speak {request.param}")
    mock.chaos()
    mock.forget()
    tap.forget()
    return request.param


def ask(server, kind, prompt, stream=False, **fields):
    if stream:
        fields = {"stream": True, "stream_options": {"include_usage": True}} | fields
    return server.chat(prompt, **{"model": f"{kind}/m"} | fields)


def answer_of(response, stream):
    """Content, tool calls, finish reason and usage of an answer, however it came; its shape is checked."""
    assert response.status_code == 200, response.text
    if not stream:
        body = response.json()
        assert body["object"] == "chat.completion" and body["id"] and isinstance(body["created"], int) and body["model"]
        [choice] = body["choices"]
        assert choice["index"] == 0 and choice["message"]["role"] == "assistant"
        return choice["message"].get("content"), choice["message"].get("tool_calls"), choice["finish_reason"], body["usage"]
    return streamed_answer(chunks(response.content))


def streamed_answer(found):
    assert len({chunk["id"] for chunk in found}) == 1 and all(chunk["object"] == "chat.completion.chunk" for chunk in found)
    *others, last = found
    assert last["choices"] == [] and all(len(chunk["choices"]) == 1 for chunk in others)
    choices = [chunk["choices"][0] for chunk in others]
    assert choices[0]["delta"]["role"] == "assistant" and all("role" not in choice["delta"] or choice["delta"]["role"] == "assistant" for choice in choices)
    finished = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    assert len(finished) == 1 and choices[-1]["finish_reason"]
    calls = {}
    for piece in (piece for choice in choices for piece in choice["delta"].get("tool_calls") or []):
        if piece["index"] not in calls:
            assert piece["id"] and piece["type"] == "function" and piece["function"]["name"]
            calls[piece["index"]] = {"id": piece["id"], "type": "function", "function": {"name": piece["function"]["name"], "arguments": ""}}
        calls[piece["index"]]["function"]["arguments"] += piece["function"].get("arguments") or ""
    assert list(calls) == list(range(len(calls)))
    content = "".join(choice["delta"].get("content") or "" for choice in choices)
    return content or None, list(calls.values()) or None, finished[0], last["usage"]


def holds(value, wanted):
    """Whether `wanted` stands somewhere in a JSON value: an object with these members and perhaps more."""
    if isinstance(wanted, dict) and isinstance(value, dict) and all(name in value and holds(value[name], inner) for name, inner in wanted.items()):
        return True
    if value == wanted:
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(holds(part, wanted) for part in inner)


@MODES
def test_chat(polyglot, mock, tap, kind, stream):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "count"}]
    response = ask(polyglot, kind, "", stream, messages=messages, max_tokens=77, temperature=0.5)
    content, calls, finish, usage = answer_of(response, stream)
    assert (content, calls, finish) == (TEXT, None, "stop")
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (70, 30, 100)
    outcome = polyglot.decision(response)["outcome"]
    assert outcome["end"] == "complete" and outcome["cost"] == pytest.approx((70 * 1 + 30 * 2) * 1e-6)
    assert outcome["upstream_request_id"]
    [seen] = mock.journal()
    assert [(message["role"], message["content"]) for message in seen["body"]["messages"]] == [("system", "Be brief."), ("user", "count")]
    assert (seen["body"]["max_tokens"], seen["body"]["temperature"]) == (77, 0.5)
    asked = tap.last()
    assert asked.headers[DIALECTS[kind].secret] == DIALECTS[kind].value
    assert [name for name, value in asked.headers.items() if KEY in value] == [DIALECTS[kind].secret] and KEY not in asked.path


TOOLS = [
    {"type": "function", "function": {"name": name, "description": f"Calls {name}.", "parameters": {"type": "object", "properties": {key: {"type": "string"} for key in arguments}, "required": list(arguments)}}}
    for name, arguments in CALLS
]


@MODES
def test_parallel_tool_calls_and_their_results(polyglot, mock, tap, kind, stream):
    content, calls, finish, usage = answer_of(ask(polyglot, kind, "both", stream, tools=TOOLS), stream)
    assert finish == "tool_calls" and usage["completion_tokens"] == 30
    assert [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls] == CALLS
    assert len({call["id"] for call in calls}) == 2 and all(call["type"] == "function" for call in calls)
    [seen] = mock.journal()
    assert [tool["function"]["name"] for tool in seen["body"]["tools"]] == ["get_weather", "get_time"]
    assert holds(tap.last().body, {"required": ["city"]}), "the first tool's schema"
    mock.forget()
    turns = [{"role": "user", "content": "both"}, {"role": "assistant", "content": content, "tool_calls": calls}]
    turns += [{"role": "tool", "tool_call_id": call["id"], "content": f"result {at}"} for at, call in enumerate(calls)]
    assert answer_of(ask(polyglot, kind, "", stream, messages=turns, tools=TOOLS), stream)[0] == "Mild, at noon."
    [seen] = mock.journal()
    made = next(message for message in seen["body"]["messages"] if message.get("tool_calls"))
    results = [message for message in seen["body"]["messages"] if message["role"] == "tool"]
    assert [json.loads(call["function"]["arguments"]) for call in made["tool_calls"]] == [arguments for _, arguments in CALLS]
    assert [message["tool_call_id"] for message in results] == [call["id"] for call in made["tool_calls"]]
    assert [f"result {at}" in message["content"] for at, message in enumerate(results)] == [True, True]


@MODES
def test_an_image_arrives(polyglot, tap, kind, stream):
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": DATA_URL}}]
    assert answer_of(ask(polyglot, kind, parts, stream), stream)[0] == "A dot."
    assert holds(tap.last().body, DIALECTS[kind].image), tap.last().body


@MODES
def test_structured_output(polyglot, tap, kind, stream):
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}}, "required": ["city", "degrees"], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "weather", "strict": True, "schema": schema}}
    content, _, finish, _ = answer_of(ask(polyglot, kind, "as json", stream, response_format=wanted), stream)
    assert (json.loads(content), finish) == ({"city": "Paris", "degrees": 20}, "stop")
    # Bedrock takes the schema as text within the JSON.
    assert '"required":["city","degrees"]' in json.dumps(tap.last().body, separators=(",", ":")).replace("\\", "")


# What the upstream says -> what the client of a lone deployment reads.
MAPPED = {
    "unwell": (502, "upstream_failed"),
    "overloaded": (429, "rate_limit_exceeded"),
    "limited": (429, "rate_limit_exceeded"),
    "wrong key": (502, "upstream_failed"),
    "no such model": (502, "upstream_failed"),
    "malformed": (400, None),
    TOO_LONG: (400, "context_length_exceeded"),
}


@MODES
@pytest.mark.parametrize("words", ERRORS, ids=lambda words: words.split(":")[0].replace(" ", "-"))
def test_errors(polyglot, kind, words, stream):
    status, code = MAPPED[words]
    response = ask(polyglot, kind, words, stream, model=spare(kind))
    # Of Bedrock, aimock sends errors in Anthropic's shape and not in AWS's: their words are not read.
    error = error_of(response, status, None if kind == "bedrock" and words == TOO_LONG else code)
    outcome = polyglot.decision(response)["outcome"]
    assert (outcome["end"], outcome["cost"]) == ("refused" if status == 400 else "failed", None)
    assert outcome["attempts"][0]["status"] == ERRORS[words][0]
    if status == 400:
        assert words in error["message"]
    if words == "limited":
        assert 25 <= int(response.headers["retry-after"]) <= 30


def test_a_break_is_told(polyglot, kind):
    response = ask(polyglot, kind, "breaks", True, model=spare(kind))
    *before, last = events(response.content)
    assert json.loads(last)["error"]["code"] == "stream_broken" and "[DONE]" not in before
    said = "".join(choice["delta"].get("content") or "" for data in before for choice in json.loads(data)["choices"])
    assert said and TEXT.startswith(said) and said != TEXT
    assert polyglot.decision(response)["outcome"]["end"] == "broken"


@MODES
@pytest.mark.parametrize("fault", ["malformedRate", "disconnectRate"])
def test_chaos_before_the_first_byte(polyglot, mock, kind, fault, stream):
    mock.chaos(**{fault: 1})
    response = ask(polyglot, kind, "count", stream, model=spare(kind))
    error_of(response, 502, "upstream_failed")
    assert polyglot.decision(response)["outcome"]["cost"] is None


@MODES
def test_what_a_dialect_cannot_say_is_told(polyglot, tap, kind, stream):
    response = ask(polyglot, kind, "count", stream, logit_bias={"50256": -100}, x_new=[1.5])
    assert answer_of(response, stream)[0] == TEXT
    body, warning = tap.last().body, response.headers.get("x-waypost-warning", "")
    for name in ("logit_bias", "x_new"):
        assert (name in body) != (name in warning), f"{name}: sent or warned of, one of the two"
        assert name in body or kind not in PASSED_THROUGH
