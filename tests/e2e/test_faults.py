"""The fault table: what an upstream can do wrong, and what then becomes of the request.

A row is a fault (tcp_stub.py), met by a request for a whole answer or a stream, alone or with a healthy second
deployment. EXPECTED says what the client of a lone deployment gets; the rest follows from it. No row may hang past the
deadline, end a broken answer as if it were whole, charge for an answer nobody got, or panic.
"""

import json
import re
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from fakes import WHOLE as SECOND_WHOLE
from sse import chunks, events
from tables import Table
from tcp_stub import ADDRESSES, FAULTS, FIRST, Stub
from tcp_stub import WHOLE as STUB_WHOLE
from waypost import error_of, serving

REQUEST_S, IDLE_S = 2.0, 0.7
# What a busy machine and a development build may add.
SLACK_S = 1.0
# Seconds after which a client that still waits is counted as hanging.
HANGS_S = 12
TRIES = 3

STUB_PRICE, SECOND_PRICE = 0.5, 1.0
# Dollars: tokens of an answer times price, see tcp_stub.USAGE and fakes.USAGE.
STUB_COST, SECOND_COST = 100 * STUB_PRICE * 1e-6, 10 * SECOND_PRICE * 1e-6

# What the client gets of one deployment alone. `end` is what is recorded.
Expect = namedtuple("Expect", "end status code")
BUSY = Expect("failed", 429, "rate_limit_exceeded")
DOWN = Expect("failed", 502, "upstream_failed")
LATE = Expect("failed", 504, "upstream_timeout")
BROKEN = Expect("broken", 200, "stream_broken")
COMPLETE = Expect("complete", 200, None)


def refused(status):
    return Expect("refused", status, None)


# fault -> (whole answer, stream, attempts at a deployment that is alone). A pair is the fewest and the most: there either is right.
ANY = (1, TRIES)
EXPECTED = {
    # Refused without a word on when to come back: it is left alone for 1 s, then for 2, and by then the time is over.
    "429": (BUSY, BUSY, 2),
    "429-retry-after-1": (BUSY, BUSY, 2),
    "429-retry-after-60": (BUSY, BUSY, 1),
    "429-retry-after-date": (BUSY, BUSY, 1),
    "500": (DOWN, DOWN, 3),
    "502-html": (DOWN, DOWN, 3),
    "503-retry-after-60": (DOWN, DOWN, 1),
    "529": (BUSY, BUSY, 3),
    "401": (DOWN, DOWN, 1),
    "404": (DOWN, DOWN, 1),
    "400": (refused(400), refused(400), 1),
    "422": (refused(422), refused(422), 1),
    "redirect": (DOWN, DOWN, 1),
    "204": (DOWN, DOWN, 1),
    "refused": (DOWN, DOWN, 3),
    "no-such-name": (DOWN, DOWN, ANY),
    "unaccepted": (LATE, LATE, 1),
    "tls-to-plain": (DOWN, DOWN, ANY),
    "tls-unaccepted": (LATE, LATE, ANY),
    "tls-self-signed": (DOWN, DOWN, ANY),
    "closed-unanswered": (DOWN, DOWN, ANY),
    "reset-unanswered": (DOWN, DOWN, ANY),
    "silent": (LATE, LATE, 1),
    "slow-first-byte": (LATE, LATE, 1),
    "slow-but-in-time": (COMPLETE, COMPLETE, 1),
    "drip-in-head": (LATE, LATE, 1),
    "drip-in-body": (LATE, LATE, 1),
    "not-http": (DOWN, DOWN, ANY),
    "giant-header": (DOWN, DOWN, ANY),
    "length-too-long": (DOWN, BROKEN, ANY),
    "length-too-short": (DOWN, BROKEN, 1),
    "chunk-size-broken": (DOWN, BROKEN, ANY),
    "chunks-unfinished": (DOWN, BROKEN, ANY),
    "gzip-unasked": (DOWN, DOWN, 1),
    "html": (DOWN, DOWN, 1),
    "wrong-kind": (DOWN, DOWN, 1),
    "untyped-stream": (None, DOWN, 1),
    "empty-200": (DOWN, DOWN, 1),
    "json-cut": (DOWN, DOWN, 1),
    "json-of-something-else": (DOWN, DOWN, 1),
    "no-choices": (DOWN, None, 1),
    "invalid-utf8": (DOWN, DOWN, 1),
    "error-in-200": (DOWN, DOWN, ANY),
    "giant-line": (DOWN, DOWN, 1),
    "no-sse": (None, DOWN, 1),
    "only-done": (None, DOWN, 1),
    "only-comments": (None, LATE, 1),
    "cut-in-event": (None, BROKEN, 1),
    "reset-in-event": (None, BROKEN, 1),
    "cut-between-events": (None, BROKEN, 1),
    "reset-between-events": (None, BROKEN, 1),
    "error-later": (None, BROKEN, 1),
    "json-cut-later": (None, BROKEN, 1),
    "no-sse-later": (None, BROKEN, 1),
    "giant-line-later": (None, BROKEN, 1),
    "silent-later": (None, BROKEN, 1),
    "endless-drip-later": (None, BROKEN, 1),
    "drip-later": (None, COMPLETE, 1),
    "byte-by-byte": (COMPLETE, COMPLETE, 1),
    "one-packet": (None, COMPLETE, 1),
    "no-done": (None, COMPLETE, 1),
    "more-after-done": (None, COMPLETE, 1),
    "unfinished-after-done": (None, COMPLETE, 1),
    "usage-missing": (COMPLETE, COMPLETE, 1),
    "early-hints": (COMPLETE, COMPLETE, 1),
    "http-1.0": (COMPLETE, COMPLETE, 1),
}

# class -> faults of its deployments, in the order in which they are tried; `fake/ok` comes after them.
CHAINS = {
    "all-silent": ["silent", "silent", "silent"],
    "two-fail": ["500", "json-cut"],
    "few-attempts": ["500", "json-cut"],
    "left-early": ["slow-but-in-time"],
    "left-in-stream": ["drip-later"],
    "left-before-the-second": ["silent"],
}

Row = namedtuple("Row", "fault mode company")
ROWS = [Row(fault, mode, company) for fault, expected in EXPECTED.items() for at, mode in enumerate(("whole", "stream")) if expected[at] for company in ("alone", "pair")]
Got = namedtuple("Got", "response content ms decision reached")

DEPLOYMENT = """
[[deployment]]
name = "{name}"
provider = "{provider}"
model = "{model}"
classes = {classes}
input = {price}
output = {price}
context_tokens = 10_000_000
max_output_tokens = 10_000
"""
# Each row has a provider of its own, so that nothing learned of one (failures, a breaker) touches another.
ROW = """
[[provider]]
name = "{name}"
kind = "openai"
base_url = "{url}"
connect_timeout_ms = 300
first_byte_timeout_ms = 700
idle_timeout_ms = 700
"""


def row_name(row):
    return "-".join(row)


def config(stub, second_url):
    """Every row's deployment, and `fake/ok`, which serves every class at twice the price."""
    parts = [f"[server]\nrequest_timeout_ms = {REQUEST_S * 1e3:.0f}\n[policy]\nvalue_of_second = 0.0\nmax_attempts = {TRIES}\n"]
    parts += [f'[[provider]]\nname = "{name}"\nenabled = false\n' for name in ("local", "ollama")]
    parts.append(f'[[provider]]\nname = "fake"\nkind = "openai"\nbase_url = "{second_url}"\n')
    parts.append(DEPLOYMENT.format(name="fake/ok", provider="fake", model="ok", classes=["*"], price=SECOND_PRICE))
    for chain, faults in CHAINS.items():
        parts.append(f'[[class]]\nname = "{chain}"\noutput_tokens = 100\n')
        for at, fault in enumerate(faults):
            name = f"{chain}-{at}"
            parts.append(ROW.format(name=name, url=stub.address(fault, name)))
            parts.append(DEPLOYMENT.format(name=f"stub/{name}", provider=name, model="stub", classes=[chain], price=STUB_PRICE * (at + 1) / 10))
    for row in ROWS:
        name, classes = row_name(row), []
        if row.company == "pair":
            classes = [f"try-{name}"]
            parts.append(f'[[class]]\nname = "try-{name}"\noutput_tokens = 100\n')
        parts.append(ROW.format(name=name, url=stub.address(row.fault, f"{row.mode}-{row.company}")))
        parts.append(DEPLOYMENT.format(name=f"stub/{name}", provider=name, model="stub", classes=classes, price=STUB_PRICE))
    return "\n".join(parts)


@pytest.fixture(scope="module")
def stub():
    server = Stub()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def faulty(tmp_path_factory, stub, upstream):
    """Waypost before the stub and a healthy second upstream."""
    with serving(tmp_path_factory.mktemp("faults"), config(stub, upstream.url)) as server:
        yield server


def meet(server, stub, row):
    """Sends the row's one request and waits for the end of its answer, or for so long that it counts as hanging."""
    target = f"try-{row_name(row)}" if row.company == "pair" else f"stub/{row_name(row)}"
    body = {"model": target, "messages": [{"role": "user", "content": "hi"}]}
    if row.mode == "stream":
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    begun, content = time.monotonic(), b""
    with server.http.stream("POST", "/v1/chat/completions", json=body, timeout=HANGS_S) as response:
        for part in response.iter_raw():
            content += part
            if time.monotonic() - begun > HANGS_S:
                break
        response._content = content  # so that it can be read like any other
    ms = (time.monotonic() - begun) * 1e3
    return Got(response, content, ms, server.decision(response), stub.seen[row.fault, f"{row.mode}-{row.company}"])


@pytest.fixture(scope="module")
def results(request, faulty, stub):
    """What came of every row that is asked for: they are met eight at a time, since most of the time is waiting."""
    asked = {item.callspec.params["row"] for item in request.session.items if "row" in getattr(getattr(item, "callspec", None), "params", {})}
    wanted = [row for row in ROWS if row in asked]

    def met(row):
        try:
            return meet(faulty, stub, row)
        except httpx.HTTPError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(wanted, pool.map(met, wanted), strict=True))
    tabulate(found)
    return found


def describe(got):
    """What the client got, its attempts, what was recorded and the time, for a person to read."""
    if not isinstance(got, Got):
        return f"nothing: {type(got).__name__}", "?", "?", f"> {HANGS_S * 1e3:.0f}"
    outcome = got.decision["outcome"]
    code = re.search(rb'"code":"?(\w+)', got.content) if b'"error"' in got.content else None
    answer = "the second's answer" if outcome["deployment"] == "fake/ok" else "the answer"
    client = f"{got.response.status_code} {code[1].decode() if code else answer}"
    cost = "no cost" if outcome["cost"] is None else f"${outcome['cost']:.6f}"
    return client, len(outcome["attempts"]), f"{outcome['end']}, {cost}", f"{got.ms:.0f}"


def tabulate(found):
    table = Table("faults", "Faults of an upstream, and what became of the request", "fault", "asked", "alone: client got", "attempts", "recorded", "ms", "with a second: client got", "attempts", "recorded", "ms")
    for row, got in found.items():
        second = found.get(row._replace(company="pair"))
        if row.company == "alone":
            table.add(row.fault, row.mode, *describe(got), *(describe(second) if second else [""] * 4))


def test_every_fault_of_the_stub_has_its_rows():
    assert len(EXPECTED) >= 20 and set(EXPECTED) == set(FAULTS) | set(ADDRESSES)


@pytest.mark.parametrize("row", ROWS, ids=row_name)
def test_a_fault(results, row):
    got = results[row]
    assert isinstance(got, Got), f"the client waited {HANGS_S} s in vain: {got}"
    whole, stream, attempts = EXPECTED[row.fault]
    expected = whole if row.mode == "whole" else stream
    if row.company == "pair" and expected.end == "failed":
        check_second(row, got)
    elif expected.end == "complete":
        check_complete(row, got)
    elif expected.end == "broken":
        check_broken(row, got)
    else:
        check_error(row, got, expected)
    check_record(row, got, attempts if row.company == "alone" else (2 if expected.end == "failed" else 1))


def check_second(row, got):
    """The second deployment's answer, whole, and its cost alone."""
    assert got.response.status_code == 200, got.content
    assert got.response.headers["x-waypost-deployment"] == "fake/ok"
    if row.mode == "whole":
        assert got.content == SECOND_WHOLE
    else:
        assert {chunk["id"] for chunk in chunks(got.content)} == {"up-1"}, "an event of the first is in the second's stream"
    outcome = got.decision["outcome"]
    assert (outcome["end"], outcome["deployment"]) == ("complete", "fake/ok")
    assert outcome["cost"] == pytest.approx(SECOND_COST)
    assert [attempt["deployment"] for attempt in outcome["attempts"]] == [f"stub/{row_name(row)}", "fake/ok"]


def check_complete(row, got):
    """The stub's own answer, whole; without a count of tokens its cost is unknown and never zero."""
    assert got.response.status_code == 200, got.content
    if row.mode == "whole":
        assert json.loads(got.content)["id"] == "stub-1"
        assert got.content == STUB_WHOLE or row.fault == "usage-missing"
    else:
        text = [choice["delta"].get("content") or "" for chunk in chunks(got.content) for choice in chunk["choices"]]
        assert "".join(text) == "one two"
    outcome = got.decision["outcome"]
    assert outcome["end"] == "complete"
    if row.fault == "usage-missing":
        assert outcome["usage"] is None and outcome["cost"] != 0
    else:
        assert outcome["cost"] == pytest.approx(STUB_COST)


def check_broken(row, got):
    """What came before the fault, then an error event, and no end."""
    assert got.response.status_code == 200 and got.content.startswith(FIRST), got.content[:500]
    *before, last = events(got.content)
    assert "[DONE]" not in before and last != "[DONE]"
    error = json.loads(last)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("upstream_error", BROKEN.code)
    assert all("error" not in json.loads(data) for data in before)
    outcome = got.decision["outcome"]
    assert outcome["end"] == "broken" and outcome["attempts"][-1]["error"]
    assert (outcome["cost"] or 0) <= STUB_COST


def check_error(row, got, expected):
    """An error in OpenAI's shape, and nothing charged."""
    error_of(got.response, expected.status, expected.code)
    outcome = got.decision["outcome"]
    assert (outcome["end"], outcome["status"], outcome["deployment"], outcome["usage"], outcome["cost"]) == (expected.end, expected.status, None, None, None)
    assert all(attempt["error"] for attempt in outcome["attempts"])
    if row.fault == "429-retry-after-60":
        assert 50 <= int(got.response.headers["retry-after"]) <= 60
    elif expected is BUSY:
        assert int(got.response.headers["retry-after"]) >= 1


def check_record(row, got, attempts):
    """As many attempts as there ought to be, each seen by the upstream, and all within the deadline."""
    outcome = got.decision["outcome"]
    least, most = attempts if isinstance(attempts, tuple) else (attempts, attempts)
    tried = [attempt["deployment"] for attempt in outcome["attempts"]]
    assert least <= len(tried) <= most, outcome["attempts"]
    if row.fault in FAULTS:
        assert got.reached == tried.count(f"stub/{row_name(row)}"), "the upstream was asked more or less often than is recorded"
    limit_s = REQUEST_S + SLACK_S + (IDLE_S if outcome["end"] == "broken" else 0)
    assert got.ms <= limit_s * 1e3
    assert sum(attempt["duration_ms"] for attempt in outcome["attempts"]) <= outcome["duration_ms"] + 5
    assert outcome["duration_ms"] <= got.ms + 50


def tried(server, response):
    outcome = server.decision(response)["outcome"]
    return outcome, [attempt["deployment"] for attempt in outcome["attempts"]]


def test_one_deadline_over_all_attempts(faulty):
    begun = time.monotonic()
    response = faulty.chat(model="all-silent")
    error_of(response, 504, "upstream_timeout")
    assert time.monotonic() - begun <= REQUEST_S + SLACK_S
    assert tried(faulty, response)[1] == ["stub/all-silent-0", "stub/all-silent-1", "stub/all-silent-2"]


def test_the_third_answers_after_two_that_fail_unlike(faulty):
    response = faulty.chat(model="two-fail")
    assert response.content == SECOND_WHOLE
    outcome, deployments = tried(faulty, response)
    assert deployments == ["stub/two-fail-0", "stub/two-fail-1", "fake/ok"]
    assert outcome["cost"] == pytest.approx(SECOND_COST)


def test_attempts_of_all_deployments_are_counted_together(faulty, stub):
    response = faulty.chat(model="few-attempts", headers={"x-waypost-policy": "max_attempts=2"})
    error_of(response, 502, "upstream_failed")
    assert tried(faulty, response)[1] == ["stub/few-attempts-0", "stub/few-attempts-1"]
    assert stub.seen["500", "few-attempts-0"] == stub.seen["json-cut", "few-attempts-1"] == 1


def newest(server, model, limit_s=5):
    """The newest decision about `model`, once its outcome is there."""
    deadline = time.monotonic() + limit_s
    while True:
        found = next(decision for decision in server.http.get("/explain?limit=20").json()["data"] if decision["requested"] == model)
        if found["outcome"] is not None or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


@pytest.mark.parametrize(("model", "fault", "stream"), [("left-early", "slow-but-in-time", False), ("left-before-the-second", "silent", False), ("left-in-stream", "drip-later", True)])
def test_an_answer_after_the_client_left_is_not_charged(faulty, stub, model, fault, stream):
    """The upstream is told by its connection, nobody else is asked, and nothing is charged."""
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    try:
        with faulty.http.stream("POST", "/v1/chat/completions", json=body, timeout=0.15) as response:
            assert stream and next(response.iter_raw()) == FIRST
    except httpx.ReadTimeout:
        assert not stream
    outcome = newest(faulty, model)["outcome"]
    assert (outcome["end"], outcome["usage"], outcome["cost"]) == ("cancelled", None, None)
    assert [attempt["deployment"] for attempt in outcome["attempts"]] == [f"stub/{model}-0"]
    deadline = time.monotonic() + 3
    while not stub.left[fault, f"{model}-0"]:
        assert time.monotonic() < deadline, "the upstream's connection is still open"
        time.sleep(0.02)
    assert stub.seen[fault, f"{model}-0"] == 1
