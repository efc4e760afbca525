"""A wire tap before an upstream: passes bytes on in both directions, and keeps what was asked."""

import json
import socket
import threading
from collections import namedtuple
from urllib.parse import urlsplit

Asked = namedtuple("Asked", "path headers body")


class Tap:
    def __init__(self, url):
        at = urlsplit(url)
        self._target, self._connections = (at.hostname, at.port), []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        self._listener.close()

    def forget(self):
        for heard in self._connections:
            heard.clear()

    def last(self):
        """The newest request of the connection that was used last; bodies are JSON."""
        heard = max((heard for heard in self._connections if heard), key=lambda heard: heard[-1][0])
        return list(requests(b"".join(data for _, data in heard)))[-1]

    def all(self):
        """All requests since the last `forget`, by connection."""
        return [asked for heard in self._connections for asked in requests(b"".join(data for _, data in heard))]

    def _accept(self):
        count = iter(range(1 << 62))
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            upstream, heard = socket.create_connection(self._target), []
            self._connections.append(heard)
            threading.Thread(target=pump, args=(caller, upstream, lambda data, heard=heard: heard.append((next(count), data))), daemon=True).start()
            threading.Thread(target=pump, args=(upstream, caller, lambda _: None), daemon=True).start()


def pump(source, sink, keep):
    """Passes bytes on until either side ends; then both do, and what broke stays broken."""
    try:
        while data := source.recv(65_536):
            keep(data)
            sink.sendall(data)
    except OSError:
        pass
    for held in (source, sink):
        try:
            held.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def requests(data):
    """The requests of one connection, in order."""
    while data:
        start, _, data = data.partition(b"\r\n\r\n")
        line, *lines = start.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers.get("content-length", 0))
        yield Asked(line.split(" ")[1], headers, json.loads(data[:length] or b"null"))
        data = data[length:]
