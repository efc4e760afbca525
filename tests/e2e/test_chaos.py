"""Chaos of an independent upstream: two aimocks serve each class, of which the cheaper one fails as a row says.

Whatever happens, every request is answered by one of the two, every attempt that an upstream saw is recorded and no other, and
the answer that was delivered is the only one paid for.
"""

import json
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest

from aimock import aimock
from sse import chunks, events
from tables import Table
from waypost import error_of, serving

TEXT = "one two three four five six seven eight nine ten"
USAGE = {"prompt_tokens": 70, "completion_tokens": 30, "total_tokens": 100}
FIXTURES = [
    {"match": {"userMessage": "breaks"}, "response": {"content": TEXT}, "chunkSize": 8, "latency": 30, "truncateAfterChunks": 3},
    {"match": {"userMessage": "count"}, "response": {"content": TEXT, "usage": USAGE}, "chunkSize": 8},
]
FIRST_PRICE, SECOND_PRICE = 0.1, 1.0

# `alone`: status and code of a request whose only deployment fails so each time; None where it does not.
Chaos = namedtuple("Chaos", "rates requests alone")
ROWS = {
    "calm": Chaos({}, 20, None),
    "drop": Chaos({"dropRate": 1}, 20, (502, "upstream_failed")),
    "rate-limit": Chaos({"rateLimitRate": 1}, 20, (429, "rate_limit_exceeded")),
    "malformed": Chaos({"malformedRate": 1}, 20, (502, "upstream_failed")),
    "disconnect": Chaos({"disconnectRate": 1}, 20, (502, "upstream_failed")),
    "late": Chaos({"latencyMs": 1_500}, 6, (504, "upstream_timeout")),
    # One in three fails: 0.1 of each, rolled one after another.
    "a-third": Chaos({"dropRate": 0.1, "malformedRate": 0.1, "rateLimitRate": 0.1, "disconnectRate": 0.1}, 200, None),
}

ENTRY = """
[[provider]]
name = "{name}"
kind = "openai"
base_url = "{url}/v1"
first_byte_timeout_ms = 700
idle_timeout_ms = 700
[[deployment]]
name = "{name}"
provider = "{name}"
model = "gpt-4o"
classes = {classes}
input = {price}
output = {price}
context_tokens = 100_000
max_output_tokens = 10_000
"""

table = Table("chaos", "Chaos of the first of two deployments", "fault", "asked", "requests", "answered", "by the second", "attempts at the first", "at the second", "dollars", "alone: client got", "attempts")


def config(first, second):
    """A class and a lone deployment for each row and way of asking; providers of their own, so that none learns from another."""
    parts = ["[server]\nrequest_timeout_ms = 3000\n[policy]\nvalue_of_second = 0.0\nmax_attempts = 3\n"]
    parts += [f'[[provider]]\nname = "{name}"\nenabled = false\n' for name in ("local", "ollama")]
    parts.append(ENTRY.format(name="rest", url=second.url, classes=["*"], price=100))
    for name in [f"{row}-{mode}" for row in [*ROWS, "breaks"] for mode in ("whole", "stream")]:
        parts.append(f'[[class]]\nname = "{name}"\noutput_tokens = 30\n')
        parts.append(ENTRY.format(name=f"first/{name}", url=first.url, classes=[name], price=FIRST_PRICE))
        parts.append(ENTRY.format(name=f"second/{name}", url=second.url, classes=[name], price=SECOND_PRICE))
        parts.append(ENTRY.format(name=f"alone/{name}", url=first.url, classes=[], price=FIRST_PRICE))
    return "\n".join(parts)


@pytest.fixture(scope="module")
def mocks(node_folder, tmp_path_factory):
    with aimock(node_folder, tmp_path_factory.mktemp("first"), FIXTURES) as first, aimock(node_folder, tmp_path_factory.mktemp("second"), FIXTURES) as second:
        yield first, second


@pytest.fixture(scope="module")
def chaotic(tmp_path_factory, mocks):
    with serving(tmp_path_factory.mktemp("chaos"), config(*mocks)) as server:
        yield server


def ask(server, model, stream, prompt="count"):
    response = server.chat(prompt, model=model, stream=stream)
    return response, server.decision(response)["outcome"]


def text_of(response, stream):
    if not stream:
        return response.json()["choices"][0]["message"]["content"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks(response.content) for choice in chunk["choices"])


@pytest.mark.parametrize("mode", ["whole", "stream"])
@pytest.mark.parametrize("row", ROWS)
def test_every_request_is_answered_and_paid_for_once(chaotic, mocks, row, mode):
    name, stream, (first, second) = f"{row}-{mode}", mode == "stream", mocks
    first.chaos(**ROWS[row].rates)
    first.forget(), second.forget()
    with ThreadPoolExecutor(8) as pool:
        answered = list(pool.map(lambda _: ask(chaotic, name, stream), range(ROWS[row].requests)))
    for response, outcome in answered:
        assert response.status_code == 200, response.text
        assert text_of(response, stream) == TEXT
        price = FIRST_PRICE if outcome["deployment"] == f"first/{name}" else SECOND_PRICE
        assert outcome["end"] == "complete" and outcome["usage"]["completion_tokens"] == USAGE["completion_tokens"]
        assert outcome["cost"] == pytest.approx(USAGE["total_tokens"] * price * 1e-6)
        assert [bool(attempt["error"]) for attempt in outcome["attempts"]] == [True] * (len(outcome["attempts"]) - 1) + [False]
    tried = Counter(attempt["deployment"].partition("/")[0] for _, outcome in answered for attempt in outcome["attempts"])
    # A request that aimock answers too late was given up by its caller: it is not in the journal.
    if row != "late":
        assert tried["first"] == len(first.journal())
    assert tried["second"] == len(second.journal()) and tried["first"] >= 1
    dollars = sum(outcome["cost"] for _, outcome in answered)
    by_second = sum(outcome["deployment"].startswith("second/") for _, outcome in answered)
    table.add(row, mode, len(answered), len(answered), by_second, tried["first"], tried["second"], f"{dollars:.6f}", *alone(chaotic, first, row, mode))


def alone(server, first, row, mode):
    """The same fault where nobody else can be asked."""
    if ROWS[row].alone is None:
        return "", ""
    status, code = ROWS[row].alone
    first.forget()
    response, outcome = ask(server, f"alone/{row}-{mode}", mode == "stream")
    error_of(response, status, code)
    assert (outcome["end"], outcome["usage"], outcome["cost"]) == ("failed", None, None)
    assert len(outcome["attempts"]) <= 3 and all(attempt["error"] for attempt in outcome["attempts"])
    if row != "late":
        assert len(outcome["attempts"]) == len(first.journal())
    if status == 429:
        assert int(response.headers["retry-after"]) >= 1
    return f"{status} {code}", len(outcome["attempts"])


def test_a_disconnect_within_a_stream_is_told(chaotic, mocks):
    mocks[0].chaos()
    mocks[1].forget()
    response, outcome = ask(chaotic, "breaks-stream", True, prompt="breaks")
    assert response.status_code == 200
    *before, last = events(response.content)
    error = json.loads(last)["error"]
    assert (set(error), error["code"]) == ({"message", "type", "param", "code"}, "stream_broken")
    said = "".join(choice["delta"].get("content") or "" for data in before for choice in json.loads(data)["choices"])
    assert said and TEXT.startswith(said) and said != TEXT
    assert outcome["end"] == "broken" and outcome["cost"] is None
    assert len(outcome["attempts"]) == 1 and mocks[1].journal() == []
