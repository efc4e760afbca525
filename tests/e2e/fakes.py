"""A fake upstream that speaks OpenAI's chat completions and misbehaves as the request's `model` tells it."""

import json
import select
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What `ok` answers: fields that no specification knows, and numbers whose spelling matters, stand between the known ones.
WHOLE = (
    b'{"id":"up-1","object":"chat.completion","created":1,"model":"ok","x_new":{"a":[1.50,1e3],"big":12345678901234567890123},'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"caf\\u00e9","x_thought":"hm"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,"prompt_tokens_details":{"cached_tokens":2}}}'
)
EVENTS = [
    b'data: {"id":"up-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"x_new":1.50}\n\n',
    b": keep-alive\n\n",
    b'data: {"id":"up-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"caf\\u00e9"},"finish_reason":null}]}\r\n\r\n',
    b'data: {"id":"up-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
]
# What `odd` answers: nothing that a parser and a printer would leave as it is. Numbers spelled in their own way, escapes that need
# not be, keys in no order and one of them twice, whitespace wherever it may stand, at every depth.
ODD = (
    b'{ "x_first" : {"z":[ 1.50 , 1E3,-0.0,12345678901234567890123 ],"a" :{"deep":{ "b":null,"a":"\\u0041\\/\\ud83d\\ude00\xf0\x9f\x98\x80"}}},\n'
    b'\t"usage":{"total_tokens":10,"x_cost":1.0e-06,"completion_tokens":3 , "prompt_tokens":7},  "model":"odd","created":1,"choices" : [ {"x_new":[{}, [] ],'
    b'"finish_reason":"stop","index":0,"message":{"x_twice":1,"x_twice":2,"content":"caf\\u00e9  \xc3\xa9","role":"assistant" } } ],"object":"chat.completion","id":"up-1"}'
)
ODD_EVENTS = [
    b'data: { "x_first" : {"z":[ 1.50 , 1E3,-0.0,12345678901234567890123 ]},"choices" : [ {"delta":{"x_new":{"b":null,"a":"\\u0041\\/"},"content":"caf\\u00e9 \xc3\xa9","role":"assistant" },"index":0 } ],"id":"up-1"}\n\n',
    b'data: {"id":"up-1","choices":[{"x_twice":1,"x_twice":2,"index":0,"delta":{ },  "finish_reason":"stop"}]}\n\n',
    b'data: {"usage":{"total_tokens":10,"x_cost":1.0e-06,"completion_tokens":3 , "prompt_tokens":7},"choices":[ ],"id":"up-1"}\n\n',
]
USAGE = b'data: {"id":"up-1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}\n\n'
DONE = b"data: [DONE]\n\n"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["content-length"]))
        self.request_body = json.loads(raw)
        self.streamed = self.request_body.get("stream") is True
        self.server.upstream.seen.append((self.path, dict(self.headers.items()), raw))
        getattr(self, "as_" + self.request_body["model"].replace("-", "_"))()

    def whole(self, status, body, kind="application/json", **headers):
        self.send_response(status)
        for name, value in ({"content-type": kind, "content-length": str(len(body)), "x-request-id": "up-req-1"} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def error(self, status, message, **headers):
        body = {"error": {"message": message, "type": "whatever", "code": status}}
        self.whole(status, json.dumps(body).encode(), **headers)

    def begin(self):
        self.send_response(200)
        for name, value in {"content-type": "text/event-stream", "transfer-encoding": "chunked", "x-request-id": "up-req-1"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()

    def send(self, *events):
        for event in events:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()

    def end(self):
        self.wfile.write(b"0\r\n\r\n")

    def hang_up(self):
        self.close_connection = True

    def wait_until_gone(self, limit_s=30):
        """Waits until the caller closes the connection, and notes whether it did."""
        readable, _, _ = select.select([self.connection], [], [], limit_s)
        if readable and self.connection.recv(1) == b"":
            self.server.upstream.gone.append(time.monotonic())
        self.hang_up()

    def as_ok(self):
        if not self.streamed:
            return self.whole(200, WHOLE)
        self.begin()
        self.send(*EVENTS)
        if (self.request_body.get("stream_options") or {}).get("include_usage"):
            self.send(USAGE)
        self.send(DONE)
        self.end()

    def as_odd(self):
        if not self.streamed:
            return self.whole(200, ODD)
        self.begin()
        self.send(*ODD_EVENTS, DONE)
        self.end()

    def as_tardy(self):
        time.sleep(0.4)
        self.as_ok()

    def as_error500(self):
        self.error(500, "boom")

    def as_busy(self):
        self.error(429, "slow down", retry_after="7")

    def as_unauthorized(self):
        self.error(401, f"bad key {self.headers['authorization']}")

    def as_refuse(self):
        self.error(400, f"cannot do that: {self.request_body['messages'][-1]['content']}")

    def as_html(self):
        self.whole(200, b"<html><body>Welcome to the captive portal</body></html>", kind="text/html")

    def as_cut(self):
        """Ends before the first byte of the answer."""
        if self.streamed:
            self.begin()
            self.send(b": keep-alive\n\n")
        self.hang_up()

    def as_error_event(self):
        """A stream whose first event is an error, which repeats what it was sent."""
        self.begin()
        self.send(b"data: %s\n\n" % json.dumps({"error": {"message": f"{self.headers['authorization']} {self.request_body['messages']}"}}).encode())
        self.end()

    def as_breaks(self):
        self.begin()
        self.send(*EVENTS[:3])
        self.hang_up()

    def as_unfinished(self):
        """A stream that ends properly on the wire, with neither a finish_reason nor [DONE]."""
        self.begin()
        self.send(*EVENTS[:3])
        self.end()

    def as_no_done(self):
        self.begin()
        self.send(*EVENTS)
        self.end()

    def as_stepwise(self):
        """Sends the rest only once the test has seen the first event."""
        self.begin()
        self.send(EVENTS[0])
        self.server.upstream.go_on.wait(30)
        self.send(*EVENTS[2:], DONE)
        self.end()

    def as_slow(self):
        """Begins a stream (or nothing at all), then waits for the caller to go away."""
        if self.streamed:
            self.begin()
            self.send(EVENTS[0])
        self.wait_until_gone()

    as_silent = as_idle = as_slow


class Quiet(ThreadingHTTPServer):
    """A caller that hangs up is no error here."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Upstream:
    """The fake as a server on a free port. `seen` holds (path, headers, raw body) of every request."""

    def __init__(self, handler=Handler):
        self.seen, self.gone, self.go_on = [], [], threading.Event()
        self.server = Quiet(("127.0.0.1", 0), handler)
        self.server.upstream = self
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
