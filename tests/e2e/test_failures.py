"""Upstreams that fail before the first byte: the next deployment answers, or the client reads a clear error; /explain shows each attempt."""

import time

import openai
import pytest

from fakes import WHOLE
from sse import chunks
from waypost import error_of

# What the fake does -> its status as Waypost records it, and the client's status and code when nobody else is asked.
WHOLE_FAILURES = {
    "dead": (None, 502, "upstream_failed"),
    "error500": (500, 502, "upstream_failed"),
    "busy": (429, 429, "rate_limit_exceeded"),
    "unauthorized": (401, 502, "upstream_failed"),
    "html": (None, 502, "upstream_failed"),
    "cut": (None, 502, "upstream_failed"),
    "silent": (None, 504, "upstream_timeout"),
}
# A silent stream has begun by then: see test_streams.py.
STREAM_FAILURES = {name: expected for name, expected in WHOLE_FAILURES.items() if name != "silent"} | {"error-event": (None, 502, "upstream_failed")}
BOTH = [(False, name, *expected) for name, expected in WHOLE_FAILURES.items()]
BOTH += [(True, name, *expected) for name, expected in STREAM_FAILURES.items()]
cases = pytest.mark.parametrize(("stream", "name", "upstream_status", "status", "code"), BOTH, ids=[f"{name}-{'stream' if stream else 'whole'}" for stream, name, *_ in BOTH])


@cases
def test_the_next_deployment_answers(fleet, stream, name, upstream_status, status, code):
    name = f"{name}-2" if stream else name
    response = fleet.chat(model=f"try-{name}", stream=stream)
    assert response.status_code == 200, response.text
    assert response.headers["x-waypost-deployment"] == "fake/ok" and response.headers["x-waypost-class"] == f"try-{name}"
    if stream:
        assert chunks(response.content)[-1]["choices"][0]["finish_reason"] == "stop"
    else:
        assert response.content == WHOLE
    decision = fleet.decision(response)
    assert (decision["deployment"], decision["fallbacks"], decision["basis"]) == (f"fake/{name}", ["fake/ok"], "class_named")
    outcome = decision["outcome"]
    assert (outcome["end"], outcome["deployment"], outcome["status"], outcome["upstream_request_id"]) == ("complete", "fake/ok", 200, "up-req-1")
    first, second = outcome["attempts"]
    assert (first["deployment"], second["deployment"]) == (f"fake/{name}", "fake/ok")
    assert first["error"] and second["error"] is None and second["status"] == 200
    if upstream_status:
        assert first["status"] == upstream_status
    assert outcome["duration_ms"] >= first["duration_ms"] + second["duration_ms"] - 1


@cases
def test_without_another_the_client_reads_why(fleet, stream, name, upstream_status, status, code):
    # What is over soon is tried again at the same deployment, not where that asks for 7 s, or may have answered already.
    tries = 3 if name in ("dead", "error500") else 1
    name = f"{name}-4" if stream else f"{name}-3"
    response = fleet.chat(model=f"fake/{name}", stream=stream)
    assert error_of(response, status, code)["message"].count(f"fake/{name}") == tries
    assert response.headers["x-waypost-deployment"] == f"fake/{name}"
    outcome = fleet.decision(response)["outcome"]
    assert (outcome["end"], outcome["status"], outcome["deployment"], outcome["usage"]) == ("failed", status, None, None)
    assert len(outcome["attempts"]) == tries


def test_retry_after_comes_through(fleet):
    for left in [(7,), (6, 7)]:  # the second time without asking the upstream
        response = fleet.chat(model="fake/busy-5")
        assert error_of(response, 429)["type"] == "rate_limit_error"
        assert int(response.headers["retry-after"]) in left


def test_attempts_are_bounded_by_the_policy(fleet, seen):
    response = fleet.chat(model="try-error500", headers={"x-waypost-policy": "max_attempts=1"})
    error_of(response, 502)
    assert len(seen) == 1 and len(fleet.decision(response)["outcome"]["attempts"]) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_refused_request_is_passed_on_and_not_tried_elsewhere(fleet, seen, stream):
    response = fleet.chat("the 4711 of it", model="try-refuse", stream=stream)
    error = error_of(response, 400)
    assert error == {"message": "cannot do that: the 4711 of it", "type": "invalid_request_error", "param": None, "code": "400"}
    outcome = fleet.decision(response)["outcome"]
    assert (outcome["end"], outcome["status"]) == ("refused", 400) and len(seen) == 1


def test_a_failing_deployment_pays_for_it(fleet):
    for _ in range(3):
        fleet.chat(model="fake/error500")
    failing = next(score for score in fleet.explain(model="try-error500")["deployments"] if score["deployment"] == "fake/error500")
    working = next(score for score in fleet.explain(model="fake/ok")["deployments"] if score["deployment"] == "fake/ok")
    assert failing["measured"] == 0 and working["failure_cost"] == 0
    costly = fleet.explain(model="try-error500", headers={"x-waypost-policy": "value_of_second=1"})["deployments"]
    assert next(score for score in costly if score["deployment"] == "fake/error500")["failure_cost"] > 0


def test_a_silent_upstream_is_not_waited_for_long(fleet):
    begun = time.monotonic()
    error_of(fleet.chat(model="fake/silent"), 504, "upstream_timeout")
    assert time.monotonic() - begun < 5


def test_an_sdk_that_retries_is_helped(fleet, seen):
    """openai-python retries a 429 once its Retry-After is over; Waypost's own fallback spares it that."""
    with openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=2) as client:
        assert client.chat.completions.create(model="try-busy-6", messages=[{"role": "user", "content": "hi"}]).id == "up-1"
    assert [b'"model":"busy"' in raw for _, _, raw in seen] == [True, False]
