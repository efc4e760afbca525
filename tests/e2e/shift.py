"""Traffic over minutes: upstreams whose time to first token changes, a steady stream of requests, and its picture.

`run` gives one `Seen` a request. `plot` writes scenarios side by side: above the share of requests each deployment gets,
below what the client waited for the first byte.
"""

import asyncio
import json
import math
import random
from collections import namedtuple

import httpx

NAMES = ("a", "b", "c")
HANG = None

# When it was sent (seconds), whom the decision chose, whether to learn of it, who answered, and the wait in seconds.
Seen = namedtuple("Seen", "at_s chosen explored answered ttft_s status")
# `worlds`: for each deployment, what its first token takes (seconds) after so many seconds; `HANG`: it never comes.
Scenario = namedtuple("Scenario", "title strategy worlds seconds marks")

PROVIDER = """
[[provider]]
name = "{name}"
kind = "openai"
base_url = "http://127.0.0.1:{port}/{name}"
first_byte_timeout_ms = {timeout_ms}
[[deployment]]
name = "{name}/model"
provider = "{name}"
model = "model"
classes = ["*"]
input = 0.1
output = 0.4
context_tokens = 100_000
max_output_tokens = 1_000
"""
OFF = '[[provider]]\nname = "{}"\nenabled = false\n'


def config(strategy, port, timeout_ms):
    head = f'[routing]\nstrategy = ["{strategy}"]\n[record]\nkeep = 10_000\n'
    return head + "".join(OFF.format(name) for name in ("local", "ollama")) + "".join(PROVIDER.format(name=name, port=port, timeout_ms=timeout_ms) for name in NAMES)


def event(**fields):
    return b"data: " + json.dumps({"id": "shift-1", "object": "chat.completion.chunk", "created": 1, "model": "model", "choices": []} | fields).encode() + b"\n\n"


def choice(finish=None, **delta):
    return [{"index": 0, "delta": delta, "finish_reason": finish}]


USAGE = {"prompt_tokens": 10, "completion_tokens": 40, "total_tokens": 50}
STREAM = event(choices=choice(role="assistant", content="one ")) + event(choices=choice("stop", content="two")) + event(usage=USAGE) + b"data: [DONE]\n\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(STREAM)


class Upstreams:
    """All deployments of a scenario behind one port; `/a/chat/completions` is the one named `a`."""

    def __init__(self, scenario):
        self.worlds, self.random, self.begun = scenario.worlds, random.Random(5), None

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    def begin(self):
        self.begun = asyncio.get_running_loop().time()

    def second(self):
        return asyncio.get_running_loop().time() - self.begun

    async def serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length:"))
                await reader.readexactly(length)
                delay_s = self.worlds[head.split("/")[1]](self.second(), self.random)
                if delay_s is HANG:
                    await reader.read()
                    break
                await asyncio.sleep(delay_s)
                writer.write(HEAD + STREAM)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def noisy(seconds, chance):
    """With the noise of a network: between 0.8 and 1.25 of the usual."""
    return seconds * 1.25 ** chance.uniform(-1, 1)


async def run(scenario, upstreams, url, per_s):
    """Sends `per_s` requests a second, whatever becomes of those before, and tells what became of each."""
    port = httpx.URL(url).port
    upstreams.begin()
    sent = []
    while upstreams.second() < scenario.seconds:
        sent.append(asyncio.create_task(ask(port, upstreams)))
        await asyncio.sleep(max(0.0, len(sent) / per_s - upstreams.second()))
    answers = await asyncio.gather(*sent)
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        decisions = await recent(client, len(sent))
    seen = []
    for at_s, ttft_s, status, id, answered in answers:
        decision = decisions[id]
        seen.append(Seen(at_s, decision["deployment"][0], decision["explored"], answered[0], ttft_s, status))
    return seen


BODY = json.dumps({"model": "general", "max_tokens": 40, "stream": True, "messages": [{"role": "user", "content": "Name three uses of a brick."}]})
ASK = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n{BODY}".encode()


async def ask(port, upstreams):
    """One request on a connection of its own, by hand: a client's own work, on a busy machine, would count as latency."""
    at_s = upstreams.second()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(ASK)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    await reader.read(1)
    ttft_s = upstreams.second() - at_s
    assert (await reader.read()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), "a stream ended before its end"
    writer.close()
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
    return at_s, ttft_s, int(head.split(" ")[1]), headers["x-waypost-decision"], headers["x-waypost-deployment"]


async def recent(client, count):
    """The last decisions by id."""
    found, before = {}, None
    while len(found) < count:
        page = (await client.get("/explain", params={"limit": 100} | ({"before": before} if before else {}))).json()["data"]
        assert page, f"{len(found)} of {count} decisions are kept"
        found |= {decision["id"]: decision for decision in page}
        before = page[-1]["id"]
    return found


WIDTH, HEIGHT, LEFT, TOP, GAP = 300, 120, 46, 30, 26
COLOURS = {"a": "#c4500c", "b": "#1f6fb4", "c": "#4a8f3c"}
LEAST_S, MOST_S = 0.02, 10.0


def plot(runs):
    """SVG of `[(scenario, seen)]`; a dot is a path of no length, and drawn once, so that thousands of them stay small."""
    parts = [f'<rect width="100%" height="100%" fill="white"/><g font-family="sans-serif" font-size="11" fill="#333">']
    for at, (scenario, seen) in enumerate(runs):
        parts.append(f'<g transform="translate({LEFT + at * (WIDTH + GAP)} {TOP})">{column(scenario, seen, first=at == 0)}</g>')
    legend = "".join(f'<tspan fill="{COLOURS[name]}" dx="8">&#9679; {name}</tspan>' for name in NAMES)
    parts.append(f'<text x="{LEFT}" y="{TOP + 2 * HEIGHT + GAP + 34}">deployments: {legend}</text></g>')
    width, height = LEFT + len(runs) * (WIDTH + GAP), TOP + 2 * HEIGHT + GAP + 44
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">{"".join(parts)}</svg>\n'


def column(scenario, seen, first):
    def x(at_s):
        return round(at_s / scenario.seconds * WIDTH, 1)

    def lower(ttft_s):
        high = math.log(min(max(ttft_s, LEAST_S), MOST_S) / LEAST_S) / math.log(MOST_S / LEAST_S)
        return 2 * HEIGHT + GAP - high * HEIGHT

    parts = [f'<text y="-12">{scenario.title}</text>']
    for top in (0, HEIGHT + GAP):
        parts.append(f'<rect y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#bbb"/>')
        parts += [f'<path d="M{x(mark)} {top}v{HEIGHT}" stroke="#999" stroke-dasharray="3 3"/>' for mark in scenario.marks]
    for name in NAMES:
        shares = [HEIGHT * (1 - share(seen, name, second, second + 1)) for second in range(scenario.seconds)]
        line = "".join(f'{"M" if second == 0 else "L"}{x(second + 0.5)} {height:.0f}' for second, height in enumerate(shares))
        places = {(round(x(one.at_s)), round(lower(one.ttft_s))) for one in seen if one.answered == name}
        dots = "".join(f"M{at} {height}h0" for at, height in sorted(places))
        parts.append(f'<path d="{line}" fill="none" stroke="{COLOURS[name]}" stroke-width="1.5"/>')
        parts.append(f'<path d="{dots}" stroke="{COLOURS[name]}" stroke-width="2.4" stroke-linecap="round" stroke-opacity="0.6"/>')
    parts += [f'<text x="{x(second)}" y="{2 * HEIGHT + GAP + 14}" text-anchor="middle">{second} s</text>' for second in range(0, scenario.seconds + 1, 10)]
    if first:
        parts += [f'<text x="-5" y="{HEIGHT * (1 - part) + 4:.0f}" text-anchor="end">{part:.0%}</text>' for part in (0, 0.5, 1)]
        parts += [f'<text x="-5" y="{lower(wait) + 4:.0f}" text-anchor="end">{wait:g} s</text>' for wait in (0.05, 0.2, 1, 10)]
        parts.append('<text x="4" y="12" fill="#777">share of requests</text>')
        parts.append(f'<text x="4" y="{HEIGHT + GAP + 12}" fill="#777">wait for the first byte</text>')
    return "".join(parts)


def share(seen, name, from_s, until_s):
    """Of the requests sent in a span of time, the part for which a deployment was chosen."""
    span = [one for one in seen if from_s <= one.at_s < until_s]
    return sum(one.chosen == name for one in span) / max(len(span), 1)
