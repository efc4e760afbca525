"""An upstream of raw bytes, for faults that no HTTP library would commit.

Each fault is a script for a whole answer and one for a stream: bytes are sent, a number is seconds of silence, `Drip`
sends its bytes one by one, and the words below end the connection. The fault is named by the request's path,
`/FAULT/ROW/chat/completions`; `seen` counts the requests by that path's first two parts. Faults below HTTP (TLS, a name that
does not exist, a port where nobody listens) are addresses: `Stub.address`.
"""

import json
import select
import socket
import ssl
import struct
import threading
from collections import Counter, namedtuple

import trustme

FIN, RST, HANG = "FIN", "RST", "HANG"
Drip = namedtuple("Drip", "data seconds")

# Seconds after which a script gives up waiting for its caller to leave.
PATIENCE_S = 15
# Tokens in the bodies of failures: whoever charged for them would be seen.
NEVER_CHARGED = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000, "total_tokens": 2_000_000}
USAGE = {"prompt_tokens": 70, "completion_tokens": 30, "total_tokens": 100}


def json_bytes(value):
    return json.dumps(value, separators=(",", ":")).encode()


def chunk(choices, **fields):
    return {"id": "stub-1", "object": "chat.completion.chunk", "created": 1, "model": "stub", "choices": choices} | fields


def event(value):
    return b"data: " + (value if isinstance(value, bytes) else json_bytes(value)) + b"\n\n"


def delta(finish=None, **fields):
    return event(chunk([{"index": 0, "delta": fields, "finish_reason": finish}]))


WHOLE = json_bytes({"id": "stub-1", "object": "chat.completion", "created": 1, "model": "stub", "choices": [{"index": 0, "message": {"role": "assistant", "content": "one two"}, "finish_reason": "stop"}], "usage": USAGE})
UNCOUNTED = WHOLE.replace(b',"usage":' + json_bytes(USAGE), b"")
FIRST, SECOND, STOP, DONE = delta(role="assistant", content="one "), delta(content="two"), delta("stop"), event(b"[DONE]")
COUNT = event(chunk([], usage=USAGE))
STREAM = FIRST + SECOND + STOP + COUNT + DONE


def head(status="200 OK", kind=None, **headers):
    """A status line and headers, `_` for `-`."""
    named = ({} if kind is None else {"content-type": kind}) | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in named.items()), "connection: close", "", ""]
    return "\r\n".join(lines).encode()


def reply(body, status="200 OK", kind="application/json", length=None, **headers):
    return head(status, kind, content_length=len(body) if length is None else length, **headers) + body


def failure(status, **headers):
    """An error as providers send them, with tokens nobody may be charged for."""
    return reply(json_bytes({"error": {"message": "the stub says no", "type": "stub", "code": status}, "usage": NEVER_CHARGED}), status, **headers)


def chunked(*parts):
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


EVENTS = head(kind="text/event-stream")
CHUNKED = head(kind="text/event-stream", transfer_encoding="chunked")
GIANT = b"x" * (5 << 20)
# Time for what was sent to be read: a reset throws away what still waits.
READ = 0.2


def both(*script):
    return script, script


def whole(*script):
    return script, None


def streamed(*script):
    return None, script


def parts(whole, stream):
    return (whole,), (stream,)


# fault -> (script of the whole answer, script of the stream); None where the fault exists in the other alone.
FAULTS = {
    # Statuses.
    "429": both(failure("429 Too Many Requests")),
    "429-retry-after-1": both(failure("429 Too Many Requests", retry_after="1")),
    "429-retry-after-60": both(failure("429 Too Many Requests", retry_after="60")),
    "429-retry-after-date": both(failure("429 Too Many Requests", retry_after="Fri, 01 Jan 2100 00:00:00 GMT")),
    "500": both(failure("500 Internal Server Error")),
    "502-html": both(reply(b"<html><h1>502 Bad Gateway</h1></html>", "502 Bad Gateway", "text/html")),
    "503-retry-after-60": both(failure("503 Service Unavailable", retry_after="60")),
    "529": both(failure("529 Overloaded")),
    "401": both(failure("401 Unauthorized")),
    "404": both(failure("404 Not Found")),
    "400": both(failure("400 Bad Request")),
    "422": both(failure("422 Unprocessable Entity")),
    "redirect": both(reply(b"", "307 Temporary Redirect", location="http://127.0.0.1:1/v1/chat/completions")),
    "204": both(head("204 No Content")),
    # Connections and time.
    "closed-unanswered": both(FIN),
    "reset-unanswered": both(RST),
    "silent": both(HANG),
    "slow-first-byte": ((1.5, reply(WHOLE)), (1.5, EVENTS, STREAM)),
    "slow-but-in-time": ((0.3, reply(WHOLE)), (0.3, EVENTS, STREAM)),
    "drip-in-head": ((Drip(reply(WHOLE), 0.1),), (Drip(EVENTS, 0.1), STREAM)),
    "drip-in-body": ((reply(b"", length=len(WHOLE)), Drip(WHOLE, 0.1)), (EVENTS, Drip(STREAM, 0.1))),
    # What is no HTTP.
    "not-http": both(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "giant-header": both(head(kind="application/json", x_giant="x" * (2 << 20))),
    "length-too-long": parts(reply(WHOLE, length=len(WHOLE) + 100), reply(FIRST, kind="text/event-stream", length=1_000)),
    "length-too-short": parts(reply(WHOLE, length=len(WHOLE) - 20), reply(FIRST + SECOND, kind="text/event-stream", length=len(FIRST) + 20)),
    "chunk-size-broken": parts(head(kind="application/json", transfer_encoding="chunked") + b"zz\r\n", CHUNKED + chunked(FIRST) + b"zz\r\n"),
    "chunks-unfinished": parts(head(kind="application/json", transfer_encoding="chunked") + chunked(WHOLE[:50]), CHUNKED + chunked(FIRST)),
    "gzip-unasked": both(reply(b"\x1f\x8b\x08\x00\x00\x00\x00\x00", content_encoding="gzip")),
    # Answers that are none.
    "html": both(reply(b"<html>Welcome to the captive portal</html>", kind="text/html")),
    "wrong-kind": parts(reply(STREAM, kind="text/event-stream"), reply(WHOLE)),
    "untyped-stream": streamed(reply(STREAM, kind="text/plain")),
    "empty-200": parts(reply(b""), reply(b"", kind="text/event-stream")),
    "json-cut": parts(reply(WHOLE[:50]), reply(FIRST[:50], kind="text/event-stream")),
    "json-of-something-else": parts(reply(b'{"hello":"world"}'), reply(event(b'{"hello":"world"}'), kind="text/event-stream")),
    "no-choices": whole(reply(WHOLE.replace(b'"choices":[', b'"choices":[],"others":['))),
    "invalid-utf8": parts(reply(WHOLE.replace(b"one", b"\xff\xfe")), reply(FIRST.replace(b"one", b"\xff\xfe") + STOP + DONE, kind="text/event-stream")),
    "error-in-200": parts(reply(json_bytes({"error": {"message": "no", "type": "x", "code": None}, "usage": NEVER_CHARGED})), reply(event({"error": {"message": "no"}, "usage": NEVER_CHARGED}), kind="text/event-stream")),
    "giant-line": parts(reply(GIANT), EVENTS + b"data: " + GIANT),
    "no-sse": streamed(EVENTS, json_bytes(chunk([])) + b"\n\n"),
    "only-done": streamed(EVENTS, DONE),
    "only-comments": streamed(EVENTS, Drip([b": waiting\n\n"] * 100, 0.1)),
    # After the first byte.
    "cut-in-event": streamed(EVENTS, FIRST + SECOND[:30], READ, FIN),
    "reset-in-event": streamed(EVENTS, FIRST + SECOND[:30], READ, RST),
    "cut-between-events": streamed(EVENTS, FIRST + SECOND, READ, FIN),
    "reset-between-events": streamed(EVENTS, FIRST + SECOND, READ, RST),
    "error-later": streamed(EVENTS, FIRST + event({"error": {"message": "no"}}) + DONE),
    "json-cut-later": streamed(EVENTS, FIRST + event(b'{"choices":[{"del') + STOP + DONE),
    "no-sse-later": streamed(EVENTS, FIRST + json_bytes(chunk([])) + b"\n\n" + STOP + DONE),
    "giant-line-later": streamed(EVENTS, FIRST, b"data: " + GIANT),
    "silent-later": streamed(EVENTS, FIRST, HANG),
    "endless-drip-later": streamed(EVENTS, FIRST, Drip(b"data: " + b"x" * 100, 0.1)),
    # Odd, and complete all the same.
    "drip-later": streamed(EVENTS, FIRST, Drip(SECOND[:8], 0.05), SECOND[8:] + STOP + COUNT + DONE),
    "byte-by-byte": ((Drip(reply(WHOLE), 0.0002),), (EVENTS, Drip(STREAM, 0.0005))),
    "one-packet": streamed(EVENTS + STREAM),
    "no-done": streamed(EVENTS, FIRST + SECOND + STOP + COUNT),
    "more-after-done": streamed(EVENTS, STREAM + DONE + SECOND + event(chunk([], usage=NEVER_CHARGED))),
    "unfinished-after-done": streamed(CHUNKED, chunked(STREAM)),
    "usage-missing": parts(reply(UNCOUNTED), EVENTS + FIRST + SECOND + STOP + DONE),
    "early-hints": parts(b"HTTP/1.1 103 Early Hints\r\n\r\n" + reply(WHOLE), b"HTTP/1.1 103 Early Hints\r\n\r\n" + EVENTS + STREAM),
    "http-1.0": parts(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + WHOLE, b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + STREAM),
}
# Faults of an address: a request never reaches the stub's scripts.
ADDRESSES = ["refused", "unaccepted", "no-such-name", "tls-to-plain", "tls-unaccepted", "tls-self-signed"]


class Stub:
    """The upstream on a free port."""

    def __init__(self):
        self.seen, self.left = Counter(), Counter()
        self._lock = threading.Lock()
        self._sockets = {name: socket.create_server(("127.0.0.1", 0), backlog=128) for name in ("plain", "tls", "unaccepted")}
        # Bound, and not listened on: connections are refused as long as it is held.
        self._sockets["refused"] = socket.socket()
        self._sockets["refused"].bind(("127.0.0.1", 0))
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(self._tls)
        for name in ("plain", "tls"):
            threading.Thread(target=self._accept, args=(self._sockets[name], name == "tls"), daemon=True).start()

    def address(self, fault, row):
        """The base URL at which a fault is met; `row` keeps the counts apart."""
        where = {"refused": "http://{refused}", "unaccepted": "http://{unaccepted}", "no-such-name": "http://nowhere.invalid", "tls-to-plain": "https://{plain}", "tls-unaccepted": "https://{unaccepted}", "tls-self-signed": "https://{tls}"}
        places = {name: f"127.0.0.1:{held.getsockname()[1]}" for name, held in self._sockets.items()}
        return where.get(fault, "http://{plain}").format(**places) + f"/{fault}/{row}"

    def stop(self):
        for held in self._sockets.values():
            held.close()

    def _accept(self, listener, tls):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection, tls), daemon=True).start()

    def _serve(self, connection, tls):
        try:
            with self._tls.wrap_socket(connection, server_side=True) if tls else connection as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._answer(connection)
        except OSError:
            pass  # the caller left, or did not trust us

    def _answer(self, connection):
        asked = read_request(connection)
        if asked is None:
            return connection.sendall(head("400 Bad Request"))
        path, body = asked
        fault, row = path.split("/")[1:3]
        with self._lock:
            self.seen[fault, row] += 1
        script = FAULTS[fault][json.loads(body).get("stream") is True]
        try:
            run(connection, script)
        except ConnectionError:
            with self._lock:
                self.left[fault, row] += 1


def read_request(connection):
    """Path and body of one request; None for what is no HTTP."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65_536)
        if not more or not (received + more)[:4].isalpha():
            return None
        received += more
    start, _, body = received.partition(b"\r\n\r\n")
    lines = start.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65_536)
    return lines[0].split(" ")[1], body


def run(connection, script):
    """Raises ConnectionError when the caller leaves before the script's end."""
    for step in script:
        if step == RST:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        if step == FIN:
            return
        if step == HANG:
            pause(connection, PATIENCE_S)
        elif isinstance(step, (int, float)):
            pause(connection, step)
        elif isinstance(step, Drip):
            for part in step.data:
                connection.sendall(part if isinstance(part, bytes) else bytes([part]))
                pause(connection, step.seconds)
        else:
            connection.sendall(step)
    connection.shutdown(socket.SHUT_WR)


def pause(connection, seconds):
    """Waits, and notices a caller that leaves."""
    if select.select([connection], [], [], seconds)[0] and connection.recv(1) == b"":
        raise ConnectionResetError("the caller left")
