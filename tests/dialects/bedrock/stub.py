"""A Bedrock on 127.0.0.1 that believes nothing: for trying the dialect against AWS's own code.

It checks the signature with botocore's signer and the body with botocore's service model (names, types, limits), and
answers `/model/{id}/converse` and `/converse-stream` with tools called where any are offered, with `{"n":0}` where JSON is. The binary frames are
encoded here, from the format's description, not by botocore. What it was sent is kept at `GET /last`.

The last user text steers it: "throttle", "too long", "denied" and "model error" are refused with that error, "break"
streams an exception after the first words, "cut" ends the connection within a frame, "corrupt" flips a bit.

    pip install botocore && python stub.py PORT
"""

import base64
import json
import struct
import sys
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import botocore.session
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.validate import ParamValidator

KEYS = {"AKIDEXAMPLE": ("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None), "ASIAEXAMPLE": ("secret+/=", "token/+=")}
BEARER = "bedrock-api-key-example"
MODEL = botocore.session.Session().get_service_model("bedrock-runtime")
LAST = {}
USAGE = {"inputTokens": 5, "outputTokens": 40, "totalTokens": 165, "cacheReadInputTokens": 100,
         "cacheWriteInputTokens": 20, "cacheDetails": [{"ttl": "1h", "inputTokens": 15}]}
ERRORS = {"throttle": (429, "ThrottlingException", "Too many tokens, please wait before trying again."),
          "too long": (400, "ValidationException", "Input is too long for requested model."),
          "denied": (403, "AccessDeniedException", "You don't have access to the model with the specified model ID."),
          "model error": (424, "ModelErrorException", "The model failed.")}


def frame(headers, payload):
    """One message: lengths, checksum, headers of type 7 (text), payload, checksum."""
    head = b"".join(struct.pack(">B", len(name)) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
                    for name, value in headers.items())
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(head) + len(body), len(head))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + body
    return whole + struct.pack(">I", zlib.crc32(whole))


def event(name, **payload):
    kind = "exception" if name.endswith("Exception") else "event"
    return frame({f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}, payload)


def unsigned(handler, body):
    """Why the request's signature is not right; None where it is."""
    given = handler.headers.get("Authorization", "")
    if given == f"Bearer {BEARER}":
        return None
    fields = dict(field.strip().split("=", 1) for field in given.removeprefix("AWS4-HMAC-SHA256 ").split(",") if "=" in field)
    access, day, region, service, _ = fields.get("Credential", "////").split("/")
    if access not in KEYS or service != "bedrock":
        return "The security token included in the request is invalid."
    secret, token = KEYS[access]
    names = fields["SignedHeaders"].split(";")
    request = AWSRequest("POST", f"http://{handler.headers['Host']}{handler.path}", data=body,
                         headers={name: handler.headers[name] for name in names if name != "x-amz-date"})
    request.context["timestamp"] = handler.headers["X-Amz-Date"]
    signer = auth.SigV4Auth(Credentials(access, secret, token), "bedrock", region)
    request.headers["X-Amz-Date"] = handler.headers["X-Amz-Date"]
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    if token and handler.headers.get("X-Amz-Security-Token") != token:
        return "The security token included in the request is invalid."
    return None if signature == fields["Signature"] else f"The request signature we calculated does not match. {signer.canonical_request(request)}"


def native(shape, value):
    """The value as botocore's validator wants it: blobs as bytes."""
    if shape.type_name == "structure" and isinstance(value, dict) and not getattr(shape, "is_document_type", False):
        return {name: native(shape.members[name], item) if name in shape.members else item for name, item in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [native(shape.member, item) for item in value]
    return base64.b64decode(value, validate=True) if shape.type_name == "blob" else value


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind="application/json", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), "x-amzn-RequestId": "req-1", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, name, message):
        self.reply(status, {"message": message}, **{"x-amzn-ErrorType": name})

    def do_GET(self):
        self.reply(200, LAST)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if why := unsigned(self, body):
            return self.refuse(403, "InvalidSignatureException", why)
        _, _, model, operation = self.path.split("/")
        request = json.loads(body)
        shape = MODEL.operation_model({"converse": "Converse", "converse-stream": "ConverseStream"}[operation]).input_shape
        report = ParamValidator().validate({**native(shape, request), "modelId": unquote(model)}, shape)
        LAST.update(model=unquote(model), operation=operation, body=request, problems=report.generate_report())
        if report.has_errors():
            return self.refuse(400, "ValidationException", report.generate_report())
        texts = [block["text"] for block in request["messages"][-1]["content"] if "text" in block]
        steer = texts[-1] if texts else ""
        if steer in ERRORS:
            return self.refuse(*ERRORS[steer])
        config = request.get("toolConfig", {})
        chosen = config.get("toolChoice", {}).get("tool", {}).get("name")
        tools = [tool["toolSpec"]["name"] for tool in config.get("tools", []) if "toolSpec" in tool]
        calls = [] if any("toolResult" in block for block in request["messages"][-1]["content"]) else [chosen] if chosen else tools
        text = '{"n":0}' if "textFormat" in request.get("outputConfig", {}) else "Hello."
        if operation == "converse":
            self.whole(calls, text)
        else:
            self.stream(calls, text, steer)

    def whole(self, calls, text):
        content = [{"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}}, {"text": text}]
        content += [{"toolUse": {"toolUseId": f"tooluse_{n}", "name": name, "input": {"n": n}}} for n, name in enumerate(calls)]
        self.reply(200, {"output": {"message": {"role": "assistant", "content": content}}, "usage": USAGE,
                         "stopReason": "tool_use" if calls else "end_turn", "metrics": {"latencyMs": 1}})

    def stream(self, calls, text, steer):
        def delta(block, **what):
            return event("contentBlockDelta", contentBlockIndex=block, delta=what)
        frames = [event("messageStart", role="assistant", p="abc"), delta(0, reasoningContent={"text": "Hm."}),
                  delta(0, reasoningContent={"signature": "c2ln"}), event("contentBlockStop", contentBlockIndex=0),
                  delta(1, text=text[:3]), delta(1, text=text[3:]), event("contentBlockStop", contentBlockIndex=1)]
        for n, name in enumerate(calls):
            start = {"toolUse": {"toolUseId": f"tooluse_{n}", "name": name}}
            frames += [event("contentBlockStart", contentBlockIndex=n + 2, start=start), delta(n + 2, toolUse={"input": '{"n":'}),
                       delta(n + 2, toolUse={"input": f"{n}}}"}), event("contentBlockStop", contentBlockIndex=n + 2)]
        frames += [event("messageStop", stopReason="tool_use" if calls else "end_turn"),
                   event("metadata", usage=USAGE, metrics={"latencyMs": 1})]
        if steer == "break":
            frames[5:] = [event("modelStreamErrorException", message="It broke.")]
        data = b"".join(frames)
        if steer == "cut":
            data = data[:len(data) // 2]
        if steer == "corrupt":
            data = data[:len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1:]
        self.reply(200, data, kind="application/vnd.amazon.eventstream")


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
