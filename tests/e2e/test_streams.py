"""Streams pass through as they come; a break is an explicit error and never a clean end; a client that leaves is noticed upstream."""

import json
import time

import pytest

from fakes import DONE, EVENTS, USAGE
from sse import chunks, events
from waypost import counts, error_of


def test_events_pass_through_byte_for_byte(fleet):
    response = fleet.chat(model="fake/ok", stream=True, stream_options={"include_usage": True})
    assert response.content == b"".join(EVENTS) + USAGE + DONE
    outcome = fleet.decision(response)["outcome"]
    assert counts(outcome) == {"prompt_tokens": 7, "completion_tokens": 3}
    assert outcome["cost"] == pytest.approx(10e-6)


def test_usage_is_asked_for_upstream_and_stripped_again(fleet, seen):
    response = fleet.chat(model="fake/ok", stream=True)
    assert json.loads(seen[0][2])["stream_options"] == {"include_usage": True}
    assert response.content == b"".join(EVENTS) + DONE
    assert fleet.decision(response)["outcome"]["usage"]["completion_tokens"] == 3


def test_an_event_arrives_before_the_next_is_sent(fleet, upstream):
    upstream.go_on.clear()
    with fleet.http.stream("POST", "/v1/chat/completions", json={"model": "fake/stepwise", "stream": True, "messages": [{"role": "user", "content": "hi"}]}) as response:
        parts = response.iter_raw()
        first = next(parts)
        assert first == EVENTS[0] and not upstream.go_on.is_set()
        upstream.go_on.set()
        rest = b"".join(parts)
    assert rest.endswith(DONE) and len(chunks(first + rest)) == 3


@pytest.mark.parametrize("name", ["breaks", "unfinished", "idle"])
def test_a_break_is_an_error_event_and_no_end(fleet, name):
    response = fleet.chat(model=f"try-{name}", stream=True)
    assert response.status_code == 200
    found = events(response.content)
    assert "[DONE]" not in found
    error = json.loads(found[-1])["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("upstream_error", "stream_broken") and f"fake/{name}" in error["message"]
    assert response.content.startswith(EVENTS[0]), "what came before the break is delivered"
    outcome = fleet.decision(response)["outcome"]
    assert (outcome["end"], outcome["deployment"]) == ("broken", f"fake/{name}")
    assert [bool(attempt["error"]) for attempt in outcome["attempts"]] == [True]


def test_an_end_without_done_is_completed(fleet):
    response = fleet.chat(model="try-no-done", stream=True)
    assert chunks(response.content)[-1]["choices"][0]["finish_reason"] == "stop"
    assert fleet.decision(response)["outcome"]["end"] == "complete"


def left(upstream, before, limit_s=3):
    """Seconds until the upstream noticed that its caller is gone."""
    begun = time.monotonic()
    while len(upstream.gone) == before:
        assert time.monotonic() - begun < limit_s, "the upstream's connection is still open"
        time.sleep(0.02)
    return upstream.gone[-1] - begun


def test_a_client_that_leaves_a_stream_cancels_the_upstream(fleet, upstream):
    before = len(upstream.gone)
    with fleet.http.stream("POST", "/v1/chat/completions", json={"model": "fake/slow", "stream": True, "messages": [{"role": "user", "content": "hi"}]}) as response:
        parts = response.iter_raw()
        assert next(parts) == EVENTS[0]
        assert fleet.decision(response, wait_s=0)["outcome"] is None, "the answer is still under way"
    assert left(upstream, before) < 2
    outcome = fleet.decision(response)["outcome"]
    assert (outcome["end"], outcome["deployment"]) == ("cancelled", "fake/slow")


def test_a_client_that_leaves_before_the_first_byte_cancels_the_upstream(fleet, upstream, seen):
    before = len(upstream.gone)
    with pytest.raises(Exception, match="timed out"):
        fleet.http.post("/v1/chat/completions", json={"model": "fake/slow", "messages": [{"role": "user", "content": "hi"}]}, timeout=1)
    assert len(seen) == 1 and left(upstream, before) < 2
    newest = fleet.http.get("/explain?limit=1").json()["data"][0]
    assert (newest["deployment"], newest["outcome"]["end"]) == ("fake/slow", "cancelled")


def test_a_client_that_leaves_the_local_model_frees_its_place(plain):
    """Both places are taken by long answers whose clients leave; a third request is served at once."""
    long = {"model": "auto", "stream": True, "max_tokens": 512, "messages": [{"role": "user", "content": "Count up from one, slowly."}]}
    for _ in range(3):
        with plain.http.stream("POST", "/v1/chat/completions", json=long) as response:
            parts = response.iter_raw()
            next(parts), next(parts)
        assert plain.decision(response)["outcome"]["end"] == "cancelled"
    assert plain.chat(max_tokens=1).status_code == 200


def test_a_whole_answer_where_a_stream_was_asked_for_is_no_stream(fleet):
    error_of(fleet.chat(model="fake/html", stream=True), 502)
