"""Fixtures: Waypost without a configuration, Waypost before a fake upstream, and everything ended at the end."""

import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import tables
from fakes import Upstream
from waypost import command, serving

KEY = "upstream-secret-4711"

# What the fake does, and the class in which it is tried before the deployment that answers.
FAILING = ["dead", "error500", "busy", "unauthorized", "html", "cut", "error-event", "silent"]
OTHERS = ["refuse", "breaks", "unfinished", "no-done", "stepwise", "slow", "idle", "tardy", "odd"]

DEPLOYMENT = """
[[deployment]]
name = "fake/{name}"
provider = "{provider}"
model = "{model}"
aliases = ["alias-{name}"]
classes = {classes}
input = {price}
output = {price}
context_tokens = 10_000_000
max_output_tokens = 10_000
"""


# Failing deployments come several times over: what a test makes Waypost learn of one (stay away for 7 s, a breaker that
# opens) is no other test's. `busy-2` fails as `busy` does.
TWINS = [f"{name}-{at}" for name in FAILING for at in (2, 3, 4)] + ["busy-5", "busy-6", "error500-5"]


def fleet_config(url, dead_url):
    """Only fake deployments: each failing one is free, and so is tried before `fake/ok` in the class `try-NAME`."""
    provider = '[[provider]]\nname = "{}"\nkind = "openai"\nbase_url = "{}"\n{}\n'
    parts = ["[policy]\nvalue_of_second = 0.0\n"]
    parts += [f'[[provider]]\nname = "{name}"\nenabled = false\n' for name in ("local", "ollama")]
    parts.append(provider.format("fake", url, 'key = "env:FAKE_KEY"'))
    parts.append(provider.format("keyless", url, ""))
    impatient = "first_byte_timeout_ms = 700\nidle_timeout_ms = 700"
    settings = {"dead": "connect_timeout_ms = 2000", "silent": impatient, "idle": impatient}
    for name in FAILING + TWINS + OTHERS:
        model = re.sub(r"-\d$", "", name)
        parts.append(f'[[class]]\nname = "try-{name}"\noutput_tokens = 100\n')
        parts.append(provider.format(f"fake-{name}", dead_url if model == "dead" else url, 'key = "env:FAKE_KEY"\n' + settings.get(model, "")))
        parts.append(DEPLOYMENT.format(name=name, model=model, provider=f"fake-{name}", classes=[f"try-{name}"], price=0.0))
    parts.append(DEPLOYMENT.format(name="ok", model="ok", provider="fake", classes=["*"], price=1.0))
    parts.append(DEPLOYMENT.format(name="ok", model="ok", provider="keyless", classes=[], price=1.0).replace("fake/ok", "keyless/ok").replace("alias-ok", "alias-keyless"))
    return "\n".join(parts)


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """Waypost as a newcomer starts it: no key, no configuration."""
    with serving(tmp_path_factory.mktemp("plain")) as server:
        yield server


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory):
    """A temporary folder in which the packages of package.json are installed."""
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(Path(__file__).parent / "package.json", folder)
    npm = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, capture_output=True, text=True, timeout=300)
    assert npm.returncode == 0, npm.stderr
    return folder


@pytest.fixture(scope="session")
def upstream():
    fake = Upstream()
    yield fake
    fake.stop()


@pytest.fixture(scope="session")
def refusing():
    """The address of a port that refuses connections as long as the session lasts: bound, and not listened on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1"


@pytest.fixture(scope="session")
def fleet(tmp_path_factory, upstream, refusing):
    """Waypost before the fake upstream."""
    with serving(tmp_path_factory.mktemp("fleet"), fleet_config(upstream.url, refusing), FAKE_KEY=KEY) as server:
        yield server


@pytest.fixture(scope="session")
def llama(plain, tmp_path_factory):
    """llama.cpp with the GGUF that Waypost itself has fetched."""
    rows = json.loads(command("models", "list", "--json", cwd=tmp_path_factory.mktemp("list")).stdout)
    folder = next(row["folder"] for row in rows if row["name"] == "smollm2-135m-instruct")
    weights = Path(folder) / "SmolLM2-135M-Instruct.Q4_1.gguf"
    script = Path(__file__).with_name("llama_server.py")
    with subprocess.Popen([sys.executable, script, weights], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()
        process.wait(30)


@pytest.fixture
def seen(upstream):
    """The requests that reach the fake upstream during one test."""
    upstream.seen.clear()
    return upstream.seen


def pytest_terminal_summary(terminalreporter):
    tables.finish(terminalreporter.write_line)
