"""A local server shaped like the model hub's file endpoint, whose files a test may damage."""

import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        hub = self.server.hub
        hub.asked.append(self.path)
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if not found or found[3] not in hub.files:
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        data = hub.files[found[3]]
        begin, end = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["range"] or "bytes=0-").groups()
        begin, end = int(begin), min(int(end or len(data) - 1), len(data) - 1)
        self.send_response(206)
        self.send_header("x-repo-commit", "0" * 40)
        self.send_header("etag", f'"{found[3]}-{len(data)}-{hub.etag}"')
        self.send_header("content-range", f"bytes {begin}-{end}/{len(data)}")
        self.send_header("content-length", str(end + 1 - begin))
        self.end_headers()
        body = data[begin : end + 1]
        if self.command == "HEAD":
            return
        if len(body) > 1 and found[3] == hub.stalls_at:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            hub.stalled.set()
            hub.go_on.wait(60)
            self.close_connection = True
            return
        self.wfile.write(body)

    do_HEAD = do_GET


class Quiet(ThreadingHTTPServer):
    """A caller that hangs up is no error here."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Hub:
    """`files` are served for any repository and revision; a file named `stalls_at` stops half-way."""

    def __init__(self, files):
        self.files, self.asked, self.etag, self.stalls_at = dict(files), [], 0, None
        self.stalled, self.go_on = threading.Event(), threading.Event()
        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.server.hub = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()
