"""A Cohere on 127.0.0.1 made of Cohere's own Python SDK: its models take each request apart and put each answer together.

What they find missing, of another type, or do not know is refused with 422 and told. `/v2/chat` answers with every tool that
is offered called once, unless the last message is a result; with `{"n":0}` where JSON is wanted; else with "Hello.". What it
was sent is kept at `GET /last`.

The last user text steers it: "throttle", "too long", "denied" and "model error" are refused with that error, "break" ends
a stream in an error after the first words, "cut" ends the connection there.

    pip install cohere && python stub.py PORT
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pydantic
from cohere import types
from cohere.v2 import types as v2

KEY = "cohere-key-example"
LAST = {}
USAGE = types.Usage(
    billed_units=types.UsageBilledUnits(input_tokens=125, output_tokens=40), tokens=types.UsageTokens(input_tokens=700, output_tokens=55), cached_tokens=100
)
ERRORS = {
    "throttle": (429, "You are using a Trial key, which is limited to 20 API calls / minute."),
    "too long": (400, "too many tokens: size limit exceeded by 120 tokens."),
    "denied": (401, "invalid api token"),
    "model error": (500, "internal server error"),
}
MESSAGES = {"system": types.SystemChatMessageV2, "user": types.UserChatMessageV2, "assistant": types.AssistantChatMessageV2, "tool": types.ToolChatMessageV2}
PARTS = {"text": types.TextContent, "image_url": types.ImageUrlContent}
# Parameters of V2Client.chat that are plain values.
PLAIN = {
    "stream": bool, "model": str, "max_tokens": int, "temperature": float, "p": float, "k": int, "seed": int, "stop_sequences": list[str], "strict_tools": bool,
    "frequency_penalty": float, "presence_penalty": float, "tool_choice": v2.V2ChatRequestToolChoice, "safety_mode": v2.V2ChatRequestSafetyMode,
}  # fmt: skip


def take(model, value):
    """The value as the SDK's model; refused with what does not fit it. The SDK's models allow unknown names, this does not."""
    made = model.model_validate(value)
    unknown = [name for name in value if name not in {field.alias or known for known, field in model.model_fields.items()} | set(model.model_fields)]
    if unknown:
        raise ValueError(f"{model.__name__} has no {unknown}")
    return made


def read(request):
    """Takes a request apart with the SDK's models, piece by piece."""
    for message in request["messages"]:
        take(MESSAGES[message["role"]], {name: value for name, value in message.items() if name != "role"} | {"role": message["role"]})
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            take(PARTS[part["type"]], part)
        for call in message.get("tool_calls", ()):
            take(types.ToolCallV2, call)
            json.loads(take(types.ToolCallV2Function, call["function"]).arguments)
    for tool in request.get("tools", ()):
        take(types.ToolV2, tool)
        take(types.ToolV2Function, tool["function"])
    if "response_format" in request:
        take({"json_object": types.JsonObjectResponseFormatV2, "text": types.TextResponseFormatV2}[request["response_format"]["type"]], request["response_format"])
    if "thinking" in request:
        take(types.Thinking, request["thinking"])
    for name, value in request.items():
        if name not in ("messages", "tools", "response_format", "thinking"):
            pydantic.TypeAdapter(PLAIN[name]).validate_python(value, strict=PLAIN[name] is not float)


def spoken(request):
    """The last user's text."""
    content = next(message["content"] for message in reversed(request["messages"]) if message["role"] == "user")
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def calls_of(request):
    if request["messages"][-1]["role"] == "tool" or request.get("tool_choice") == "NONE":
        return []
    functions = [types.ToolCallV2Function(name=tool["function"]["name"], arguments=json.dumps({"n": n})) for n, tool in enumerate(request.get("tools", ()))]
    return [types.ToolCallV2(id=f"call_{n}", function=function) for n, function in enumerate(functions)]


def whole(request):
    calls, text = calls_of(request), '{"n":0}' if "response_format" in request else "Hello."
    content = [types.TextAssistantMessageResponseContentItem(text=text)]
    said = types.AssistantMessageResponse(tool_calls=calls, tool_plan="Hello.") if calls else types.AssistantMessageResponse(content=content)
    return v2.V2ChatResponse(id="c1", finish_reason="TOOL_CALL" if calls else "COMPLETE", message=said, usage=USAGE)


def events(request, steer):
    """The events of a stream, as the SDK's models have them."""
    calls, text = calls_of(request), '{"n":0}' if "response_format" in request else "Hello."
    said = types.ChatMessageStartEventDeltaMessage(role="assistant")
    yield v2.MessageStartV2ChatStreamResponse(id="c1", delta=types.ChatMessageStartEventDelta(message=said))
    for piece in (text[:3], text[3:]):
        if calls:
            plan = types.ChatToolPlanDeltaEventDeltaMessage(tool_plan=piece)
            yield v2.ToolPlanDeltaV2ChatStreamResponse(delta=types.ChatToolPlanDeltaEventDelta(message=plan))
        else:
            content = types.ChatContentDeltaEventDeltaMessageContent(text=piece)
            yield v2.ContentDeltaV2ChatStreamResponse(index=0, delta=types.ChatContentDeltaEventDelta(message=types.ChatContentDeltaEventDeltaMessage(content=content)))
        if steer in ("break", "cut"):
            break
    for n, call in enumerate(calls):
        begun = types.ToolCallV2(id=call.id, function=types.ToolCallV2Function(name=call.function.name, arguments=""))
        begun = types.ChatToolCallStartEventDelta(message=types.ChatToolCallStartEventDeltaMessage(tool_calls=begun))
        yield v2.ToolCallStartV2ChatStreamResponse(index=n, delta=begun)
        for piece in (call.function.arguments[:3], call.function.arguments[3:]):
            function = types.ChatToolCallDeltaEventDeltaMessageToolCallsFunction(arguments=piece)
            more = types.ChatToolCallDeltaEventDeltaMessage(tool_calls=types.ChatToolCallDeltaEventDeltaMessageToolCalls(function=function))
            yield v2.ToolCallDeltaV2ChatStreamResponse(index=n, delta=types.ChatToolCallDeltaEventDelta(message=more))
        yield v2.ToolCallEndV2ChatStreamResponse(index=n)
    if steer == "break":
        yield v2.MessageEndV2ChatStreamResponse(delta=types.ChatMessageEndEventDelta(error="It broke.", finish_reason="ERROR"))
    elif steer != "cut":
        yield v2.MessageEndV2ChatStreamResponse(delta=types.ChatMessageEndEventDelta(finish_reason="TOOL_CALL" if calls else "COMPLETE", usage=USAGE))


def text_of(model):
    return json.dumps(model.model_dump(by_alias=True, exclude_none=True, mode="json"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind="application/json"):
        data = body.encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), "x-debug-trace-id": "trace-1"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message):
        self.reply(status, json.dumps({"id": "e1", "message": message}))

    def do_GET(self):
        self.reply(200, json.dumps(LAST))

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        LAST.update(path=self.path, body=request)
        if self.path != "/v2/chat":
            return self.refuse(404, "no such endpoint")
        if self.headers["Authorization"] != f"Bearer {KEY}":
            return self.refuse(401, "invalid api token")
        try:
            read(request)
        except (ValueError, KeyError, TypeError) as problem:
            return self.refuse(422, f"{type(problem).__name__}: {problem}")
        steer = spoken(request)
        if steer in ERRORS:
            return self.refuse(*ERRORS[steer])
        if not request.get("stream"):
            return self.reply(200, text_of(whole(request)))
        data = "".join(f"event: {event.type}\ndata: {text_of(event)}\n\n" for event in events(request, steer))
        self.reply(200, data, kind="text/event-stream")


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
