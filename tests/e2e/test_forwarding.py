"""What a policy may ask of forwarding, seen from both sides: the client's answer, and what each upstream was sent.

Each test has a class of its own with a deployment `NAME/a` that goes first and a dearer `NAME/b`, whose upstream does what the test says.
"""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fakes import Handler, Upstream
from sse import chunks, events
from waypost import error_of, serving

PRICE = {"a": 1.0, "b": 2.0}
USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
COST = {name: 30 * price * 1e-6 for name, price in PRICE.items()}
QUEUE = 4

# class -> keys of its deployments' provider, and of the deployments.
CLASSES = {
    "hedge": ("", ""),
    "fail-refusal-whole": ("", ""),
    "fail-refusal-stream": ("", ""),
    "fail-filter-whole": ("", ""),
    "fail-filter-stream": ("", ""),
    "fail-empty-whole": ("", ""),
    "fail-empty-stream": ("", ""),
    "goes-on": ("", ""),
    "calls": ("", ""),
    "told": ("", ""),
    "trips": ("", ""),
    "money": ("first_byte_timeout_ms = 300", ""),
    "hurry": ("", ""),
}
HEAD = f"""
[server]
request_timeout_ms = 20_000
[policies.going-on]
continue_streams = true
[policy]
value_of_second = 0.0
strategy = ["priority"]
[record]
explore_share = 0.0
assumed_ttft_ms = 50
[queue]
length = {QUEUE}
[[provider]]
name = "local"
enabled = false
[[provider]]
name = "ollama"
enabled = false
"""
ENTRY = """
[[provider]]
name = "{name}"
kind = "{kind}"
base_url = "{url}"
{provider}
[[deployment]]
name = "{name}"
provider = "{name}"
model = "{name}"
classes = {classes}
input = {price}
output = {price}
priority = {price:.0f}
context_tokens = 100_000
max_output_tokens = 1_000
tools = true
json_schema = true
{deployment}
"""


class Actor(Handler):
    """Does what `acts` says of the request's model."""

    def do_POST(self):
        self.request_body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.streamed = self.request_body.get("stream") is True
        stage = self.server.upstream
        stage.seen.append((self.request_body["model"], self.request_body))
        stage.acts[self.request_body["model"]](self)

    def says(self, *parts, finish="stop", usage=USAGE, **headers):
        """An answer of these deltas, whole or streamed."""
        if not self.streamed:
            message = {"role": "assistant", "content": "".join(part.get("content") or "" for part in parts), "refusal": None}
            message |= {name: value for part in parts for name, value in part.items() if name != "content"}
            return self.whole(200, as_json({"id": "a-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}), **headers)
        self.begin()
        self.deltas({"role": "assistant", "content": ""}, *parts)
        self.send(event([{"index": 0, "delta": {}, "finish_reason": finish}]), event([], usage=usage), b"data: [DONE]\n\n")
        self.end()

    def deltas(self, *parts):
        self.send(*(event([{"index": 0, "delta": part, "finish_reason": None}]) for part in parts))


def as_json(value):
    return json.dumps(value).encode()


def event(choices, **fields):
    return b"data: %s\n\n" % as_json({"id": "a-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices} | fields)


def text(*words):
    return [{"content": word} for word in words]


def well(handler):
    handler.says(*text("well"))


def hangs(handler):
    handler.wait_until_gone()


class Stage(Upstream):
    def __init__(self):
        super().__init__(Actor)
        self.acts = {}

    def count(self, model):
        return sum(asked == model for asked, _ in self.seen)


@pytest.fixture(scope="module")
def stage():
    stage = Stage()
    yield stage
    stage.stop()


def config(url):
    parts = [HEAD]
    for name, (provider, deployment) in CLASSES.items():
        parts.append(f'[[class]]\nname = "{name}"\noutput_tokens = 30\n')
        for which, price in PRICE.items():
            parts.append(ENTRY.format(name=f"{name}/{which}", kind="openai", url=url, classes=[name], price=price, provider=provider, deployment=deployment))
    parts.append('[[class]]\nname = "narrow"\noutput_tokens = 30\n')
    parts.append(ENTRY.format(name="narrow/a", kind="openai", url=url, classes=["narrow"], price=1.0, provider="", deployment="max_in_flight = 1"))
    parts.append(ENTRY.format(name="cohere/m", kind="cohere", url=url, classes=["hurry"], price=9.0, provider='key = "env:COHERE_TEST_KEY"', deployment=""))
    return "\n".join(parts)


@pytest.fixture(scope="module")
def road(tmp_path_factory, stage):
    with serving(tmp_path_factory.mktemp("forwarding"), config(stage.url), COHERE_TEST_KEY="k") as server:
        yield server


def ask(server, model, policy=None, stream=False, content="hi", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()} | ({"x-waypost-policy": policy} if policy else {})
    return server.chat(content, model=model, stream=stream, headers=headers)


def outcome_of(server, response):
    return server.decision(response)["outcome"]


def told(outcome):
    return [(attempt["deployment"], attempt["why"], attempt["error"]) for attempt in outcome["attempts"]]


def said(response):
    assert response.status_code == 200, response.text
    if not response.headers["content-type"].startswith("text/event-stream"):
        return response.json()["choices"][0]["message"]["content"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks(response.content) for choice in chunk["choices"])


def wait_for(holds, limit_s=5):
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.02)


def test_a_hedge_asks_a_second_whoever_answers_first_counts(tmp_path, stage):
    """On a server of its own: what others ask earns hedges too."""
    stage.acts |= {"hedge/a": well, "hedge/b": well}
    with serving(tmp_path, config(stage.url), COHERE_TEST_KEY="k") as server:
        asked = [ask(server, "hedge", "hedge=true", stream=True) for _ in range(20)]
        assert {response.headers["x-waypost-deployment"] for response in asked} == {"hedge/a"}
        stage.acts["hedge/a"] = hangs
        gone = len(stage.gone)
        response = ask(server, "hedge", "hedge=true", stream=True)
        assert said(response) == "well"
        outcome = outcome_of(server, response)
        assert told(outcome) == [("hedge/a", "first", "another answered first"), ("hedge/b", "hedge", None)]
        assert (outcome["deployment"], outcome["cost"]) == ("hedge/b", pytest.approx(COST["b"]))
        wait_for(lambda: len(stage.gone) > gone)

        def slow(handler):
            time.sleep(0.6)
            well(handler)

        stage.acts["hedge/a"] = slow
        with ThreadPoolExecutor(8) as pool:
            asked += [response, *pool.map(lambda _: ask(server, "hedge", "hedge=true", stream=True), range(40))]
        hedged = sum(attempt["why"] == "hedge" for response in asked for attempt in outcome_of(server, response)["attempts"])
        assert 1 <= hedged <= 0.05 * len(asked)
        response = ask(server, "hedge", stream=True)
        assert [attempt["why"] for attempt in outcome_of(server, response)["attempts"]] == ["first"]


# What counts as a failure -> how an upstream says it, and what is noted.
FAILS = {
    "refusal": (lambda handler: handler.says({"refusal": "I cannot help with that."}), "refusal", "refused to answer"),
    "filter": (lambda handler: handler.says(finish="content_filter"), "refusal", "refused to answer"),
    "empty": (lambda handler: handler.says(), "empty", "answered nothing"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", FAILS)
def test_an_answer_that_counts_as_a_failure(road, stage, fault, stream):
    act, key, noted = FAILS[fault]
    name = f"fail-{fault}-{'stream' if stream else 'whole'}"
    stage.acts |= {f"{name}/a": act, f"{name}/b": well}
    for _ in range(6):  # more than would open a breaker: what an answer says is no fault of its deployment
        response = ask(road, name, f"fail_on={key}", stream)
        assert said(response) == "well"
        outcome = outcome_of(road, response)
        assert told(outcome) == [(f"{name}/a", "first", noted), (f"{name}/b", "failover", None)]
        assert outcome["cost"] == pytest.approx(COST["b"])
    for model, policy in [(name, None), (f"{name}/a", f"fail_on={key}")]:
        response = ask(road, model, policy, stream)
        assert response.headers["x-waypost-deployment"] == f"{name}/a" and said(response) == "", "whoever is alone answers as it will"


def test_a_broken_stream_is_continued_where_that_is_allowed(road, stage):
    def breaks(handler):
        handler.begin()
        handler.deltas({"role": "assistant", "content": ""}, *text("one ", "two "))
        handler.hang_up()

    stage.acts |= {"goes-on/a": breaks, "goes-on/b": lambda handler: handler.says(*text("three"))}
    response = ask(road, "goes-on", stream=True)
    assert json.loads(events(response.content)[-1])["error"]["code"] == "stream_broken"
    assert stage.count("goes-on/b") == 0
    response = ask(road, "goes-on", "going-on", stream=True, content="count")
    assert said(response) == "one two three" and events(response.content)[-1] == "[DONE]" and b'"error"' not in response.content
    first, then, *_ = [message for _, body in stage.seen if body["model"] == "goes-on/b" for message in body["messages"]]
    assert (first, then) == ({"role": "user", "content": "count"}, {"role": "assistant", "content": "one two "})
    outcome = outcome_of(road, response)
    assert (outcome["end"], outcome["deployment"], outcome["usage"]["completion_tokens"]) == ("complete", "goes-on/b", 10)
    assert outcome["cost"] == pytest.approx(COST["b"])
    [broken, rest] = told(outcome)
    assert broken[:2] == ("goes-on/a", "first") and broken[2] and rest == ("goes-on/b", "continuation", None)
    assert outcome["ttft_ms"] <= outcome["attempts"][0]["duration_ms"]


def test_a_stream_of_tool_calls_is_not_continued(road, stage):
    def breaks(handler):
        handler.begin()
        handler.deltas({"role": "assistant", "content": "Let me see."}, {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a'}}]})
        handler.hang_up()

    stage.acts |= {"calls/a": breaks, "calls/b": well}
    response = ask(road, "calls", "going-on", stream=True)
    assert json.loads(events(response.content)[-1])["error"]["code"] == "stream_broken"
    assert (stage.count("calls/b"), outcome_of(road, response)["end"]) == (0, "broken")


class Line:
    """Answers after a while, and notes whom it served, in what order, and how many at once."""

    def __init__(self, seconds):
        self.seconds, self.served, self.now, self.most, self.lock = seconds, [], 0, 0, threading.Lock()

    def __call__(self, handler):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.served.append(handler.request_body["messages"][-1]["content"])
        time.sleep(self.seconds)
        with self.lock:
            self.now -= 1
        well(handler)


def test_all_at_a_limit_are_answered_in_turn(road, stage):
    line = stage.acts["narrow/a"] = Line(0.1)
    with ThreadPoolExecutor(5) as pool:
        asked = list(pool.map(lambda _: ask(road, "narrow"), range(5)))
    assert [response.status_code for response in asked] == [200] * 5
    assert (len(line.served), line.most) == (5, 1)
    waited = sorted(outcome_of(road, response)["attempts"][0]["waited_ms"] for response in asked)
    assert waited[0] < 50 and waited[-1] >= 300


def test_the_urgent_go_first(road, stage):
    line = stage.acts["narrow/a"] = Line(0.4)
    with ThreadPoolExecutor(4) as pool:
        for priority, content in [("normal", "first"), ("low", "low"), ("normal", "normal"), ("high", "high")]:
            pool.submit(ask, road, "narrow", content=content, x_waypost_priority=priority)
            time.sleep(0.1)
    assert line.served == ["first", "high", "normal", "low"]


def test_a_full_queue_refuses(road, stage):
    stage.acts["narrow/a"] = Line(0.3)
    with ThreadPoolExecutor(QUEUE + 3) as pool:
        asked = list(pool.map(lambda _: ask(road, "narrow"), range(QUEUE + 3)))
    refused = [response for response in asked if response.status_code != 200]
    assert len(refused) == 2
    for response in refused:
        error_of(response, 429, "rate_limit_exceeded")
        assert 1 <= int(response.headers["retry-after"]) <= 10
        assert outcome_of(road, response)["attempts"] == []


def test_nothing_is_sent_past_a_limit_that_was_told(road, stage):
    window = {"x_ratelimit_limit_requests": "10", "x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "2"}
    stage.acts |= {"told/a": lambda handler: handler.says(*text("a"), **window), "told/b": lambda handler: handler.says(*text("b"))}
    begun = time.monotonic()
    assert [said(ask(road, "told")) for _ in range(4)] == ["a", "b", "b", "b"]
    shown = next(score for score in road.explain(model="told")["deployments"] if score["deployment"] == "told/a")
    assert "told by provider" in shown["held"] and "0 of 10 requests left" in shown["held"]
    assert stage.count("told/a") == 1
    time.sleep(max(0.0, 2.1 - (time.monotonic() - begun)))
    assert said(ask(road, "told")) == "a"


def test_a_breaker_keeps_traffic_away_until_probes_succeed(road, stage):
    stage.acts |= {"trips/a": Handler.as_error500, "trips/b": well}
    for _ in range(5):
        assert told(outcome_of(road, ask(road, "trips")))[0] == ("trips/a", "first", "answered 500")
    for _ in range(5):
        assert told(outcome_of(road, ask(road, "trips"))) == [("trips/b", "first", None)]
    assert stage.count("trips/a") == 5
    assert "breaker: open" in next(score["held"] for score in road.explain(model="trips")["deployments"] if score["deployment"] == "trips/a")
    time.sleep(1.3)  # the first pause, and its jitter
    assert [attempt[0] for attempt in told(outcome_of(road, ask(road, "trips")))] == ["trips/a", "trips/b"], "a probe fails: that opens it anew"
    assert told(outcome_of(road, ask(road, "trips"))) == [("trips/b", "first", None)]
    stage.acts["trips/a"] = well
    time.sleep(2.6)  # twice the first
    assert [ask(road, "trips").headers["x-waypost-deployment"] for _ in range(4)] == ["trips/a"] * 4
    assert all(score["held"] is None for score in road.explain(model="trips")["deployments"])


def test_what_a_failure_may_have_cost_counts_against_max_cost(road, stage):
    stage.acts |= {"money/a": hangs, "money/b": well}
    scores = {score["deployment"]: score["input_cost"] + score["output_cost"] for score in road.explain(model="money", max_tokens=8)["deployments"]}
    dear = scores["money/b"]
    response = ask(road, "money", f"max_cost={dear * 1.2:.9f}")
    error_of(response, 504, "upstream_timeout")
    assert [attempt[0] for attempt in told(outcome_of(road, response))] == ["money/a"]
    response = ask(road, "money", f"max_cost={(dear + scores['money/a']) * 1.1:.9f}")
    assert said(response) == "well" and response.headers["x-waypost-deployment"] == "money/b"


def test_the_policys_deadline_ends_all_attempts(road, stage):
    stage.acts |= {"hurry/a": hangs, "hurry/b": hangs}
    begun, gone = time.monotonic(), len(stage.gone)
    response = ask(road, "hurry", "deadline_ms=300")
    error_of(response, 504, "upstream_timeout")
    assert 0.3 <= time.monotonic() - begun <= 1.3
    assert [attempt["deployment"] for attempt in outcome_of(road, response)["attempts"]] == ["hurry/a"]
    wait_for(lambda: len(stage.gone) > gone)


def test_a_need_that_a_dialect_cannot_meet_is_explained_also_where_the_deployment_is_named(road):
    response = road.chat(model="cohere/m", n=2)
    error = error_of(response, 400, "no_deployment_fits")
    assert "cohere/m" in error["message"] and "dialect" in error["message"]
    assert "hurry/a" not in error["message"], "whom nobody asked for is not the reason"
