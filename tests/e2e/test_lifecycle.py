"""A failed request leaves one line in the log; a server that is told to stop finishes what runs, and ends."""

import time

import pytest

from conftest import fleet_config
from sse import chunks
from waypost import serving


def lines_of(server, work):
    """The log's lines that a request adds."""
    before = len(server.log())
    work()
    time.sleep(0.2)
    return [line for line in server.log()[before:].splitlines() if line.strip()]


@pytest.mark.parametrize("model", ["fake/ok", "fake/error500", "fake/dead", "fake/refuse", "fake/breaks", "try-busy", "no-such-model"])
def test_a_request_is_one_line_in_the_log(fleet, model):
    lines = lines_of(fleet, lambda: fleet.chat(model=model, stream=model == "fake/breaks"))
    assert len(lines) == 1, lines


def test_a_bad_request_is_one_line_in_the_log(fleet):
    lines = lines_of(fleet, lambda: fleet.http.post("/v1/chat/completions", content=b"{"))
    assert len(lines) == 1 and "400" in lines[0], lines


def test_prompts_are_logged_only_when_asked_for(tmp_path, upstream, refusing):
    config = fleet_config(upstream.url, refusing) + "\n[server]\nlog_prompts = true\n"
    with serving(tmp_path, config, FAKE_KEY="k") as server:
        server.chat("a prompt to be logged", model="fake/ok")
        assert "a prompt to be logged" in server.log()


def test_told_to_stop_it_finishes_what_runs_and_ends(tmp_path, upstream, refusing):
    upstream.go_on.clear()
    with serving(tmp_path, fleet_config(upstream.url, refusing), FAKE_KEY="k") as server:
        body = {"model": "fake/stepwise", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
            parts = response.iter_raw()
            first = next(parts)
            server.stop()
            time.sleep(0.5)
            assert server.process.poll() is None, "an answer is still under way"
            upstream.go_on.set()
            assert len(chunks(first + b"".join(parts))) == 3
        server.http.close()
        assert server.process.wait(10) == 0
