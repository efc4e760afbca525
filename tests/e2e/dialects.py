"""What the tests of dialects share: each dialect's words for the same thing, a provider that speaks it, and a client that
checks every answer's shape, by OpenAI's own specification too (specs.py).
"""

import json
from collections import namedtuple

from specs import conforms
from sse import chunks

KEY = "dialect-secret-0815"
TEXT = "one two three four five six seven eight nine ten"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
# Every provider's names for the same counts; aimock takes those of the protocol it is asked in. Of cached tokens it knows none.
COUNTS = {"prompt_tokens": 70, "completion_tokens": 30, "input_tokens": 70, "output_tokens": 30, "promptTokenCount": 70, "candidatesTokenCount": 30}
CALLS = [("get_weather", {"city": "Paris"}), ("get_time", {"zone": "CET"})]
# In the words of Anthropic, Bedrock and Gemini: without a code of their own, it is the words that tell.
TOO_LONG = "prompt is too long: Input is too long for requested model: The input token count (300000) exceeds the maximum number of tokens allowed (200000)."
ERRORS = {
    "unwell": (500, "server_error", None),
    "overloaded": (529, "overloaded_error", None),
    "limited": (429, "rate_limit_error", "rate_limit_exceeded"),
    "wrong key": (401, "authentication_error", "invalid_api_key"),
    "no such model": (404, "not_found_error", "model_not_found"),
    "malformed": (400, "invalid_request_error", None),
    TOO_LONG: (400, "invalid_request_error", "context_length_exceeded"),
}
FIXTURES = [  # the first that matches counts
    # aimock hands the type on as Google's status.
    {"match": {"userMessage": TOO_LONG, "model": "gemini-m"}, "response": {"status": 400, "error": {"message": TOO_LONG, "type": "INVALID_ARGUMENT"}}},
    *({"match": {"userMessage": words}, "response": {"status": status, "retryAfter": 30, "error": {"message": words, "type": kind, **({"code": code} if code else {})}}} for words, (status, kind, code) in ERRORS.items()),
    {"match": {"userMessage": "count"}, "response": {"content": TEXT, "usage": COUNTS}, "chunkSize": 8},
    {"match": {"userMessage": "both", "hasToolResult": False}, "response": {"toolCalls": [{"name": name, "arguments": arguments} for name, arguments in CALLS], "usage": COUNTS}, "chunkSize": 5},
    {"match": {"userMessage": "both", "hasToolResult": True}, "response": {"content": "Mild, at noon."}},
    {"match": {"userMessage": "as json"}, "response": {"content": {"city": "Paris", "degrees": 20}}},
    {"match": {"userMessage": "see"}, "response": {"content": "A dot."}},
    {"match": {"userMessage": "breaks"}, "response": {"content": TEXT}, "chunkSize": 8, "latency": 30, "truncateAfterChunks": 4},
]

# `base`: below aimock's root; `secret`: the header that carries the key; `image`: an image in this dialect's words.
Dialect = namedtuple("Dialect", "base secret value image settings", defaults=("",))
DATA_URL = f"data:image/png;base64,{PNG}"
OPENAI_IMAGE = {"type": "image_url", "image_url": {"url": DATA_URL}}
DIALECTS = {
    "openai": Dialect("/v1", "authorization", f"Bearer {KEY}", OPENAI_IMAGE),
    "azure": Dialect("", "api-key", KEY, OPENAI_IMAGE, 'api_version = "2024-10-21"'),
    "anthropic": Dialect("/v1", "x-api-key", KEY, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}),
    "gemini": Dialect("/v1beta", "x-goog-api-key", KEY, {"inlineData": {"mimeType": "image/png", "data": PNG}}),
    "bedrock": Dialect("", "authorization", f"Bearer {KEY}", {"image": {"format": "png", "source": {"bytes": PNG}}}, 'region = "eu-central-1"'),
    "cohere": Dialect("", "authorization", f"Bearer {KEY}", OPENAI_IMAGE),
}
# Of these the client's bytes go on as they are.
PASSED_THROUGH = ("openai", "azure")

PROVIDER = """
[[provider]]
name = "{name}"
kind = "{kind}"
base_url = "{url}{base}"
{settings}
"""
DEPLOYMENT = """
[[deployment]]
name = "{name}/m"
provider = "{name}"
model = "{kind}-m"
classes = ["*"]
input = 1.0
output = 2.0
context_tokens = 100_000
max_output_tokens = 10_000
vision = true
tools = true
json_schema = true
"""
HEAD = '[server]\nrequest_timeout_ms = 3000\n[retry]\nfirst_ms = 20\nmost_ms = 40\n[[provider]]\nname = "local"\nenabled = false\n[[provider]]\nname = "ollama"\nenabled = false\n'


def provider(kind, url, name=None, settings=None):
    """A provider that speaks a dialect, and its one deployment. `name`: without it the dialect's; `settings`: likewise."""
    dialect = DIALECTS[kind]
    named = {"kind": kind, "name": name or kind}
    usual = f'key = "env:DIALECT_KEY"\nfirst_byte_timeout_ms = 2000\n{dialect.settings}'
    return PROVIDER.format(**named, url=url, base=dialect.base, settings=settings or usual) + DEPLOYMENT.format(**named)


def alone(kind, words, stream=False):
    """The name of a provider that is asked for nothing else: after a failure, one is left in peace for a while."""
    return f"{kind}-{words.split(':')[0].replace(' ', '-')}-{'stream' if stream else 'whole'}"


def lone_providers(kind, url, faults, settings=None):
    return "".join(provider(kind, url, alone(kind, words, stream), settings) for words in faults for stream in (False, True))


TOOLS = [
    {"type": "function", "function": {"name": name, "description": f"Calls {name}.", "parameters": {"type": "object", "properties": {key: {"type": "string"} for key in arguments}, "required": list(arguments)}}}
    for name, arguments in CALLS
]


def ask(server, name, prompt, stream=False, **fields):
    if stream:
        fields = {"stream": True, "stream_options": {"include_usage": True}} | fields
    return server.chat(prompt, model=f"{name}/m", **fields)


def answer_of(response, stream, passed_through=False):
    """Content, tool calls, finish reason and usage of an answer, however it came; its shape is checked."""
    assert response.status_code == 200, response.text
    if not stream:
        body = response.json()
        conforms("CreateChatCompletionResponse", body, passed_through)
        assert body["object"] == "chat.completion" and body["id"] and isinstance(body["created"], int) and body["model"]
        [choice] = body["choices"]
        assert choice["index"] == 0 and choice["message"]["role"] == "assistant"
        return choice["message"].get("content"), choice["message"].get("tool_calls"), choice["finish_reason"], body.get("usage")
    return streamed_answer(chunks(response.content), passed_through)


def streamed_answer(found, passed_through=False):
    for chunk in found:
        conforms("CreateChatCompletionStreamResponse", chunk, passed_through)
    assert len({chunk["id"] for chunk in found}) == 1 and all(chunk["object"] == "chat.completion.chunk" for chunk in found)
    *others, last = found
    if passed_through and last["choices"] == [{"index": 0, "delta": {}}]:
        last = last | {"choices": []}
    assert last["choices"] == [] and all(len(chunk["choices"]) == 1 for chunk in others)
    choices = [chunk["choices"][0] for chunk in others]
    assert choices[0]["delta"]["role"] == "assistant" and all("role" not in choice["delta"] or choice["delta"]["role"] == "assistant" for choice in choices)
    finished = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    assert len(finished) == 1 and choices[-1]["finish_reason"]
    calls = {}
    for piece in (piece for choice in choices for piece in choice["delta"].get("tool_calls") or []):
        if piece["index"] not in calls:
            assert piece["id"] and piece["type"] == "function" and piece["function"]["name"]
            calls[piece["index"]] = {"id": piece["id"], "type": "function", "function": {"name": piece["function"]["name"], "arguments": ""}}
        calls[piece["index"]]["function"]["arguments"] += piece["function"].get("arguments") or ""
    assert list(calls) == list(range(len(calls)))
    content = "".join(choice["delta"].get("content") or "" for choice in choices)
    return content or None, list(calls.values()) or None, finished[0], last["usage"]


def holds(value, wanted):
    """Whether `wanted` stands somewhere in a JSON value: an object with these members and perhaps more."""
    if isinstance(wanted, dict) and isinstance(value, dict) and all(name in value and holds(value[name], inner) for name, inner in wanted.items()):
        return True
    if value == wanted:
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(holds(part, wanted) for part in inner)
