"""Starts and ends the program under test: servers on free ports, and single commands."""

import contextlib
import os
import re
import subprocess
import time
from pathlib import Path

import httpx

BIN = str(Path(os.environ.get("WAYPOST_BIN", "target/release/waypost")).resolve())
# A first start may fetch 190 MB of weights, and a development build is slow.
START_S = 600
ANSWER_S = 120

LOCAL = "local/smollm2-135m"


# One deployment that serves every class, at an upstream's `url`, and no other: for measuring.
ONE_DEPLOYMENT = """
[[provider]]
name = "local"
enabled = false
[[provider]]
name = "ollama"
enabled = false
[[provider]]
name = "fake"
kind = "openai"
base_url = "{url}"
[[deployment]]
name = "fake/ok"
provider = "fake"
model = "ok"
classes = ["*"]
input = 1.0
output = 1.0
context_tokens = 100_000
max_output_tokens = 10_000
"""


def environment(**extra):
    """This process's environment without provider keys, proxies and hub settings."""
    out = re.compile(r"_API_KEY$|_PROXY$|^HF_|^WAYPOST_(?!CACHE)|^RUST_LOG$", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not out.search(name)}
    return kept | {"NO_COLOR": "1", "RUST_BACKTRACE": "0"} | extra


def command(*arguments, cwd, stdin="", timeout=START_S, **extra):
    """Runs one command to its end, in a folder without a waypost.toml unless the test wrote one."""
    return subprocess.run([BIN, *map(str, arguments)], cwd=cwd, env=environment(**extra), input=stdin, capture_output=True, text=True, timeout=timeout)


class Server:
    """A running `waypost serve`."""

    def __init__(self, process, log):
        self.process, self._log, self.stopped = process, log, False
        self.url = self._address()
        self.http = httpx.Client(base_url=self.url, timeout=ANSWER_S, trust_env=False)

    def _address(self):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"waypost ended at its start:\n{self.log()}"
            if found := re.search(r"listens on (http://127\.0\.0\.1:\d+)", self.log()):
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"{found[1]}/readyz", timeout=10, trust_env=False).status_code == 200:
                        return found[1]
            time.sleep(0.1)
        raise AssertionError(f"waypost was not ready in {START_S} s:\n{self.log()}")

    def log(self):
        return self._log.read_text(encoding="utf-8", errors="replace")

    def chat(self, content="Say hello.", headers=None, **fields):
        """One chat request; `content` is the only user turn unless `messages` is given."""
        body = {"model": "auto", "max_tokens": 8, "messages": [{"role": "user", "content": content}]} | fields
        return self.http.post("/v1/chat/completions", json=body, headers=headers)

    def explain(self, content="Say hello.", headers=None, **fields):
        """The decision about a chat request, which is not forwarded."""
        body = {"model": "auto", "messages": [{"role": "user", "content": content}]} | fields
        response = self.http.post("/explain", json=body, headers=headers)
        assert response.status_code == 200, response.text
        return response.json()

    def decision(self, response, wait_s=10):
        """The decision of a response with its outcome, which is written when the answer ends."""
        path = f"/explain/{response.headers['x-waypost-decision']}"
        deadline = time.monotonic() + wait_s
        while True:
            decision = self.http.get(path).raise_for_status().json()
            if decision["outcome"] is not None or time.monotonic() > deadline:
                return decision
            time.sleep(0.05)

    def stop(self):
        """Asks it to end, as an operator does."""
        self.stopped = True
        self.process.terminate()

    def memory_kb(self, key):
        """`VmRSS` or `VmHWM` (the peak) of the process, in kB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE)[1])


@contextlib.contextmanager
def serving(folder, config=None, **extra):
    """A server that runs as long as the block."""
    assert Path(BIN).is_file(), f"no binary at {BIN}: set WAYPOST_BIN"
    arguments = [BIN, "serve", "--listen", "127.0.0.1:0"]
    if config is not None:
        # A loaded machine is no reason to decide unread, unless a test says so.
        if "deadline_ms" not in config:
            head, table, rest = config.partition("[embedder]\n")
            config = f"{head}[embedder]\ndeadline_ms = 10_000\n{rest}" if table else f"{config}\n[embedder]\ndeadline_ms = 10_000\n"
        (folder / "served.toml").write_text(config)
        arguments += ["--config", str(folder / "served.toml")]
    log = folder / "waypost.log"
    with log.open("wb") as target:
        process = subprocess.Popen(arguments, cwd=folder, env=environment(**{"WAYPOST_DATA": str(folder / "data")} | extra), stdin=subprocess.DEVNULL, stdout=target, stderr=target)
    try:
        server = Server(process, log)
        with server.http:
            yield server
        assert server.stopped or process.poll() is None, f"waypost ended before it was told to:\n{server.log()[-3000:]}"
        assert "panicked" not in server.log(), server.log()[-3000:]
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def counts(outcome):
    """The tokens of an outcome that are more than none."""
    return {name: count for name, count in outcome["usage"].items() if count}


def error_of(response, status, code=None):
    """The error of a response; its status and shape are checked: exactly OpenAI's four keys."""
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"].startswith("application/json")
    body = response.json()
    assert list(body) == ["error"]
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["message"]
    assert isinstance(error["type"], str) and error["type"]
    assert all(error[key] is None or isinstance(error[key], str) for key in ("param", "code"))
    assert response.headers["x-request-id"]
    if code is not None:
        assert error["code"] == code
    return error
