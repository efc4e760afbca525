"""Each dialect against an independent implementation of it (aimock): the client speaks OpenAI's chat completions to Waypost,
the upstream its own. What reaches the upstream is read off the wire (tap.py): aimock forgets images and headers.
"""

import json

import pytest

import specs
from aimock import aimock
from dialects import CALLS, DATA_URL, DIALECTS, ERRORS, FIXTURES, HEAD, KEY, PASSED_THROUGH, TEXT, TOO_LONG, TOOLS, alone, answer_of, ask, holds, lone_providers, provider
from sse import events
from tap import Tap
from waypost import error_of, serving

FAULTS = [*ERRORS, "breaks", "malformedRate", "disconnectRate"]
MODES = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

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
    """Waypost before all dialects."""
    folder = tmp_path_factory.mktemp("dialects")
    with serving(folder, HEAD + "".join(provider(kind, tap.url) + lone_providers(kind, tap.url, FAULTS) for kind in DIALECTS), DIALECT_KEY=KEY) as server:
        yield server


@pytest.fixture(params=DIALECTS)
def kind(request, mock, tap):
    """A dialect. Whatever is asked in it must be what its provider's specification calls a request."""
    mock.chaos()
    mock.forget()
    tap.forget()
    yield request.param
    for asked in tap.all():
        specs.asks(request.param, asked.body)


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
    response = ask(polyglot, alone(kind, words, stream), words, stream)
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
    response = ask(polyglot, alone(kind, "breaks", True), "breaks", True)
    *before, last = events(response.content)
    assert json.loads(last)["error"]["code"] == "stream_broken" and "[DONE]" not in before
    said = "".join(choice["delta"].get("content") or "" for data in before for choice in json.loads(data)["choices"])
    assert said and TEXT.startswith(said) and said != TEXT
    assert polyglot.decision(response)["outcome"]["end"] == "broken"


@MODES
@pytest.mark.parametrize("fault", ["malformedRate", "disconnectRate"])
def test_chaos_before_the_first_byte(polyglot, mock, kind, fault, stream):
    mock.chaos(**{fault: 1})
    response = ask(polyglot, alone(kind, fault, stream), "count", stream)
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
