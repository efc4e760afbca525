"""What a request cost, end to end in every dialect: a stub answers with recorded words of the provider (tests/dialects), and
the decision's cost is what its counts make at the catalogue's prices, to the picodollar.
"""

import importlib.util
import json
import threading
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dialects import HEAD, answer_of, ask
from waypost import command, serving

RECORDED = Path(__file__).parent.parent / "dialects"
# The dialect, the catalogue's model, what goes before the path, and what else its provider needs.
MODELS = {
    "openai": ("openai/gpt-6-luna", "/v1", ""),
    "azure": ("azure/gpt-4o-2024-08-06", "", 'api_version = "2024-10-21"'),
    "anthropic": ("anthropic/claude-opus-5-5", "/v1", ""),
    "gemini": ("gemini/gemini-2.5-flash", "/v1beta", ""),
    "bedrock": ("bedrock/anthropic.claude-opus-5-5", "", 'region = "eu-central-1"'),
    "cohere": ("cohere/command-r-08-2024", "", ""),
}
# Tokens of each rate, as the recorded answers have them: whole, and streamed. A reasoning token is one of the answer.
COUNTED = {
    "openai": ({"input": 1_000, "cached_input": 1_920, "output": 333}, {"input": 1_000, "cached_input": 1_920, "output": 333}),
    "azure": ({"input": 1_000, "cached_input": 1_920, "output": 333}, {"input": 1_000, "cached_input": 1_920, "output": 333}),
    "anthropic": ({"input": 20, "cached_input": 4_000, "cache_write": 500, "cache_write_1h": 1_000, "output": 90}, {"input": 20, "cached_input": 4_000, "output": 90}),
    "gemini": ({"input": 55, "cached_input": 40, "audio_input": 10, "output": 50}, {"input": 18, "cached_input": 32, "output": 25}),
    "bedrock": ({"input": 5, "cached_input": 100, "cache_write": 5, "cache_write_1h": 15, "output": 40}, {"input": 5, "cached_input": 100, "cache_write_1h": 20, "output": 40}),
    "cohere": ({"input": 6_260, "cached_input": 512, "output": 248}, {"input": 4, "cached_input": 16, "output": 9}),
}
# Where a rate is not published, what is paid instead.
INSTEAD = {"cached_input": "input", "cache_write": "input", "cache_write_1h": "cache_write", "audio_input": "input"}
USAGE = {"prompt_tokens": 2_920, "completion_tokens": 333, "total_tokens": 3_253, "prompt_tokens_details": {"cached_tokens": 1_920}, "completion_tokens_details": {"reasoning_tokens": 200}}
CHOICE = {"index": 0, "logprobs": None, "finish_reason": "stop"}
OPENAI = {"id": "c1", "created": 1, "model": "m"}


def recorded(kind, name):
    return (RECORDED / kind / name).read_text(encoding="utf-8")


def sent(events):
    return "".join(f"data: {event}\n\n" for event in events).encode()


def openai_stream():
    chunk = OPENAI | {"object": "chat.completion.chunk"}
    deltas = [chunk | {"choices": [CHOICE | {"delta": delta, "finish_reason": finish}]} for delta, finish in (({"role": "assistant", "content": "Hi."}, None), ({}, "stop"))]
    return sent([*map(json.dumps, [*deltas, chunk | {"choices": [], "usage": USAGE}]), "[DONE]"])


def bedrock_stream():
    """AWS's binary frames of the recorded events, made by the stub's encoder."""
    spec = importlib.util.spec_from_file_location("bedrock_stub", RECORDED / "bedrock/stub.py")
    stub = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stub)
    lines = (line.split(" ", 1) for line in recorded("bedrock", "tools.stream.txt").splitlines() if line)
    return b"".join(stub.event(name, **json.loads(data)) for name, data in lines)


def answers():
    """By dialect: a whole answer and a streamed one, in bytes."""
    message = {"role": "assistant", "content": "Hi.", "refusal": None}
    whole = json.dumps(OPENAI | {"object": "chat.completion", "choices": [CHOICE | {"message": message}], "usage": USAGE}).encode()
    lines = {kind: [line for line in recorded(kind, "stream.txt").splitlines() if line] for kind in ("gemini", "cohere")}
    return {
        "openai": (whole, openai_stream()),
        "azure": (whole, openai_stream()),
        "anthropic": (recorded("anthropic", "answer.json").encode(), recorded("anthropic", "stream.txt").encode() + b"\n\n"),
        "gemini": (recorded("gemini", "answer.json").encode(), sent(lines["gemini"])),
        "bedrock": (recorded("bedrock", "tools.answer.json").encode(), bedrock_stream()),
        "cohere": (recorded("cohere", "answer.json").encode(), sent(lines["cohere"])),
    }


class Stub(BaseHTTPRequestHandler):
    """Answers for the dialect that its path begins with."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        _, kind, *rest = self.path.split("/")
        streamed = body.get("stream") is True or "stream" in rest[-1].lower()
        data = self.server.answers[kind][streamed]
        self.send_response(200)
        streaming = "application/vnd.amazon.eventstream" if kind == "bedrock" else "text/event-stream"
        for name, value in {"content-type": streaming if streamed else "application/json", "content-length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture(scope="module")
def paid(tmp_path_factory):
    """Waypost before the stub, at the catalogue's prices."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    server.answers = answers()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    config = HEAD
    for kind, (entry, base, settings) in MODELS.items():
        url = f"http://127.0.0.1:{server.server_port}/{kind}{base}"
        config += f'[[provider]]\nname = "{kind}"\nkind = "{kind}"\nbase_url = "{url}"\nkey = "env:DIALECT_KEY"\n{settings}\n'
        config += f'[[deployment]]\nname = "{kind}/m"\nprovider = "{kind}"\nmodel = "m"\ncatalog = "{entry}"\nclasses = ["*"]\n'
    with serving(tmp_path_factory.mktemp("paid"), config, DIALECT_KEY="k") as waypost:
        yield waypost
    server.shutdown()
    server.server_close()


def picodollars(entry, counted, folder):
    """The sum by the catalogue's rates, dollars per million tokens, which are a million picodollars for a token."""
    prices = json.loads(command("catalog", "show", entry, "--json", cwd=folder).stdout, parse_float=Decimal)["prices"]
    assert "periods" not in prices, "a price that changes with the time of day is no fixed sum"
    total = 0
    for rate, tokens in counted.items():
        while rate not in prices:
            rate = INSTEAD[rate]
        total += tokens * Decimal(prices[rate]) * 1_000_000
    assert total == int(total)
    return int(total)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_cached_prompt_costs_what_the_catalogue_says(paid, tmp_path, kind, stream):
    response = ask(paid, kind, "hi", stream)
    usage = answer_of(response, stream)[3]
    counted = COUNTED[kind][stream]
    prompt = sum(tokens for rate, tokens in counted.items() if rate != "output")
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompt, counted["output"])
    assert usage["prompt_tokens_details"]["cached_tokens"] == counted["cached_input"]
    cost = Decimal(str(paid.decision(response)["outcome"]["cost"])) * 10**12
    assert cost == picodollars(MODELS[kind][0], counted, tmp_path)
