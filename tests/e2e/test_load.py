"""A 5 MB prompt costs what a short one does, and a hundred requests at once leave the server bounded and alive."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import fleet_config
from waypost import error_of, serving

WORDS = "Please look closely at every one of these words and tell me what they have in common. "
HUGE = (WORDS * (5_000_000 // len(WORDS) + 1))[:5_000_000]
SHORT = HUGE[:2_000]
KINDS = {"words": HUGE, "one word": "x" * 5_000_000, "umlauts": "ä" * 2_500_000, "blank end": "Hello." + " " * 5_000_000, "escapes": '"\\\n' * 1_000_000}
# A development build, while other builds run, needs seconds for what a release build does in milliseconds.
SLOW_S = 6


def timed(work):
    begun = time.monotonic()
    result = work()
    return result, time.monotonic() - begun


def test_5_mb_do_not_fit_the_local_model_and_that_is_said_quickly(plain):
    for path in ("/v1/chat/completions", "/explain"):
        body = {"model": "auto", "messages": [{"role": "user", "content": HUGE}]}
        response, seconds = timed(lambda: plain.http.post(path, json=body))
        error = error_of(response, 400, "context_length_exceeded")
        assert error["param"] == "messages" and "2048" in error["message"] and len(error["message"]) < 1_000
        assert seconds < SLOW_S


@pytest.mark.parametrize("kind", KINDS)
def test_5_mb_are_decided_like_2_kb(fleet, kind):
    def spent(content):
        found = [timed(lambda: fleet.explain(content)) for _ in range(3)]
        return min(decision["timing"]["total_us"] for decision, _ in found), min(seconds for _, seconds in found)

    (short_us, short_s), (huge_us, huge_s) = spent(SHORT), spent(KINDS[kind])
    assert huge_us < 2 * short_us + 50_000
    assert huge_s < short_s + SLOW_S


def test_5_mb_are_forwarded_whole(fleet, seen):
    response, seconds = timed(lambda: fleet.chat(HUGE))
    assert response.status_code == 200 and response.json()["id"] == "up-1" and seconds < SLOW_S
    assert HUGE.encode() in seen[0][2]
    assert fleet.decision(response)["features"]["tokens_in"] == pytest.approx(5_000_000 / 4, rel=0.01)


def at_once(count, work):
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def test_a_hundred_requests_at_once_are_answered_or_told_when_to_return(plain):
    before = plain.memory_kb("VmRSS")
    responses = at_once(100, lambda number: plain.chat(f"Say the number {number}.", max_tokens=2, stream=number % 2 == 0))
    for response in responses:
        if response.status_code != 200:
            assert response.status_code in (429, 503), response.text
            error_of(response, response.status_code)
            assert int(response.headers["retry-after"]) > 0
    assert sum(response.status_code == 200 for response in responses) >= 2 + 16, "the places and the queue are used"
    assert plain.memory_kb("VmHWM") - before < 300_000
    assert plain.chat(max_tokens=1).status_code == 200


def test_a_hundred_large_requests_at_once_stay_in_memory(fleet):
    fleet.chat(HUGE)
    before = fleet.memory_kb("VmRSS")
    responses = at_once(100, lambda number: fleet.chat(f"{number} {HUGE[:500_000]}"))
    assert {response.status_code for response in responses} == {200}
    assert len({response.headers["x-waypost-decision"] for response in responses}) == 100
    assert fleet.memory_kb("VmHWM") - before < 500_000
    kept = {decision["id"]: decision for decision in fleet.http.get("/explain?limit=100").json()["data"]}
    assert {response.headers["x-waypost-decision"] for response in responses} == set(kept)
    assert {decision["outcome"]["end"] for decision in kept.values()} == {"complete"}


def test_past_max_in_flight_the_caller_is_told_when_to_return(tmp_path, upstream, refusing):
    config = fleet_config(upstream.url, refusing) + "\n[server]\nmax_in_flight = 2\n"
    stream = {"model": "fake/slow", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with serving(tmp_path, config, FAKE_KEY="k") as server:
        with server.http.stream("POST", "/v1/chat/completions", json=stream) as first, server.http.stream("POST", "/v1/chat/completions", json=stream) as second:
            assert (first.status_code, second.status_code) == (200, 200)
            refused = server.chat(model="fake/ok")
            error_of(refused, 503, "server_overloaded")
            assert int(refused.headers["retry-after"]) > 0
            assert server.http.get("/healthz").status_code == 200
        deadline = time.monotonic() + 3
        while (answer := server.chat(model="fake/ok")).status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert answer.status_code == 200, "places come back when clients leave"
