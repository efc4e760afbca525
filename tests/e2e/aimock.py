"""aimock as an upstream: an independent implementation of many providers' protocols, with faults that are set while it runs."""

import contextlib
import json
import re
import subprocess
import time

import httpx

START_S = 30


class Aimock:
    """A running aimock. `url` is its root; each protocol has its provider's paths below it."""

    def __init__(self, process, url):
        self.process, self.url = process, url
        self.http = httpx.Client(base_url=url, timeout=10, trust_env=False)

    def chaos(self, **rates):
        """Sets rates (0 to 1): `dropRate` answers 500, `malformedRate` a 200 of broken JSON, `rateLimitRate` 429 with
        Retry-After and x-ratelimit-*, `disconnectRate` closes unanswered; `latencyMs` delays each. They are rolled in
        this order, each for what the one before let pass. None: no faults.
        """
        self.http.post("/__aimock/chaos", json=rates).raise_for_status()

    def journal(self):
        """Every request since the last `forget`, with what was answered."""
        return self.http.get("/__aimock/journal").raise_for_status().json()

    def forget(self):
        self.http.post("/__aimock/reset/journal").raise_for_status()


@contextlib.contextmanager
def aimock(node_folder, folder, fixtures):
    """aimock with these fixtures, as long as the block."""
    (folder / "fixtures.json").write_text(json.dumps({"fixtures": fixtures}))
    program = node_folder / "node_modules/@copilotkit/aimock/dist/cli.js"
    log = folder / "aimock.log"
    with log.open("wb") as target:
        process = subprocess.Popen(["node", program, "-f", folder / "fixtures.json", "-p", "0", "--journal-max", "0", "--validate-on-load"], stdin=subprocess.DEVNULL, stdout=target, stderr=target)
    try:
        server = Aimock(process, address(process, log))
        with server.http:
            yield server
    finally:
        process.terminate()
        process.wait(15)


def address(process, log):
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if found := re.search(r"listening on (http://127\.0\.0\.1:\d+)", log.read_text()):
            return found[1]
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(f"aimock was not ready in {START_S} s:\n{log.read_text()}")
