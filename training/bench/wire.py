"""Measures the wire side by side: what a gateway costs a non-streaming POST /v1/chat/completions on loopback.

    apt-get install -y wrk nginx-light nodejs npm      # uv: pip install uv
    WAYPOST_BIN=target/release/waypost uv run --no-project --with-requirements tests/e2e/requirements.txt \\
        python training/bench/wire.py [--sides upstream,waypost,...] [--seconds 5] [--rounds 5] [--json FILE]

    upstream        nginx, which answers every POST with the same chat completion
    waypost         Waypost, the request names its deployment: passed through
    waypost-auto    Waypost, `model: "auto"`: every prompt is read and routed
    litellm         `litellm[proxy]` of the Python index, on Granian with one worker process for each core: its fastest here
    portkey         `@portkey-ai/gateway` of npm

The last two are installed by uv and npm into --tools at first use; what cannot be installed or started is left out, and
why is said. Every gateway runs with its defaults, without keys, its log in a file, and all of them run all the time.
Prompts are random words, 32 tokens, no two the same, so no cache answers.

Each round goes over all sides twice, beginning with another one each round: requests/s at --connections (wrk), then latency
at one connection (a socket of this process: wrk adds samples to its percentiles for requests it takes to be omitted).
`added` is a side's percentile less the upstream's of the same round. The tables show medians over the rounds. wrk and nginx
share the cores with the gateway, so requests/s are those of this machine with its load on it: quote ratios.
"""

import argparse
import contextlib
import gc
import json
import os
import platform
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.append(str(ROOT / "tests/e2e"))
from waypost import BIN, ONE_DEPLOYMENT, environment, serving

# Without opentelemetry it tries to import that at every request, and takes twice the time.
LITELLM = ["litellm[proxy]==1.108.7", "opentelemetry-sdk==1.45.1", "opentelemetry-exporter-otlp==1.45.1"]
# Its own table of prices instead of one that is fetched at every start; no key asked of callers, as on the other sides.
LITELLM_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
}
PORTKEY = "@portkey-ai/gateway@1.15.2"
START_S = 120
GATEWAYS = ["waypost", "waypost-auto", "litellm", "portkey"]
OURS, THEIRS = GATEWAYS[:2], GATEWAYS[2:]

# Each is one token of the encoder; with its two special tokens 30 make 32.
WORDS = """river stone paper window garden market winter summer doctor letter music number city island bridge engine silver
golden yellow answer question travel simple strong gentle quiet open close write read build carry follow measure because
before after under between without never always people children animal forest ocean mountain station village history science
planet""".split()
PROMPT_WORDS = 30

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_750_000_000,
    "model": "ok",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "A brick builds walls, holds doors open, and keeps paper in its place.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 32, "completion_tokens": 16, "total_tokens": 48},
}

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; default_type application/json; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 '{answer}'; }} }}
}}
"""

class Unavailable(Exception):
    """Why a side is left out."""


@dataclass
class Side:
    port: int
    model: str
    headers: tuple = ()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def all_headers(self):
        return {"Content-Type": "application/json", "Authorization": "Bearer unused"} | dict(self.headers)

    def check(self):
        """One request, whose answer must be a chat completion with the upstream's text and usage."""
        body = {"model": self.model, "messages": [{"role": "user", "content": "Name three uses of a brick."}]}
        response = httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=self.all_headers(), timeout=30, trust_env=False)
        assert response.status_code == 200, f"{response.status_code}: {response.text[:300]}"
        answer = response.json()
        assert answer["choices"][0]["message"]["content"] == ANSWER["choices"][0]["message"]["content"], response.text
        assert answer["usage"]["total_tokens"] == ANSWER["usage"]["total_tokens"], response.text


# Starting the sides.


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextlib.contextmanager
def running(command, side, log, **extra):
    """A server in a process group of its own, from its first good answer to the end of the block."""
    with log.open("wb") as target:
        process = subprocess.Popen(command, cwd=log.parent, env=environment(**extra), stdin=subprocess.DEVNULL, stdout=target, stderr=target, start_new_session=True)
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                side.check()
                break
            except (httpx.HTTPError, AssertionError, ValueError, LookupError, TypeError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Unavailable(f"{command[0]} gave no good answer ({error}); its log ends:\n{log.read_text(errors='replace')[-1500:]}") from error
            time.sleep(0.2)
        yield side
    finally:
        end(process)


def end(process):
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)


def program(name, package):
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        raise Unavailable(f"no {name}: apt-get install -y {package}")
    return found


def install(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"`{' '.join(map(str, command))}` failed:\n{(done.stdout + done.stderr)[-1500:]}")


def upstream(folder):
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, answer=json.dumps(ANSWER)))
    command = [program("nginx", "nginx-light"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    return running(command, Side(port, "ok"), folder / "nginx.out")


def litellm(folder, url, options):
    home = options.tools / "litellm"
    if not (home / "bin/litellm").exists():
        uv = program("uv", "python3-pip && pip install uv")
        install(uv, "venv", "--quiet", "--clear", home)
        install(uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", home / "bin/python", *LITELLM)
    model = {"model_name": "ok", "litellm_params": {"model": "openai/ok", "api_base": url, "api_key": "unused"}}
    (folder / "litellm.yaml").write_text(json.dumps({"model_list": [model]}))
    port = free_port()
    command = [str(home / "bin/litellm"), "--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", str(options.litellm_workers), *options.litellm_arguments.split()]
    return running(command, Side(port, "ok"), folder / "litellm.log", **LITELLM_ENVIRONMENT)


def portkey(folder, url, options):
    home = options.tools / "portkey"
    server = home / "node_modules/@portkey-ai/gateway/build/start-server.js"
    if not server.exists():
        install(program("npm", "nodejs npm"), "install", "--silent", "--prefix", home, PORTKEY)
    port = free_port()
    headers = (("x-portkey-provider", "openai"), ("x-portkey-custom-host", url))
    command = [program("node", "nodejs"), str(server), f"--port={port}", "--headless"]
    return running(command, Side(port, "ok", headers), folder / "portkey.log", NODE_ENV="production")


def start(stack, folder, options):
    """The sides that run, by name, and why the others do not."""
    sides, missing = {"upstream": stack.enter_context(upstream(folder))}, {}
    url = f"{sides['upstream'].url}/v1"
    if any(name in options.sides for name in OURS):
        server = stack.enter_context(serving(folder, ONE_DEPLOYMENT.format(url=url)))
        port = int(server.url.rpartition(":")[2])
        ours = {"waypost": Side(port, "fake/ok"), "waypost-auto": Side(port, "auto")}
        sides |= {name: side for name, side in ours.items() if name in options.sides}
        for side in ours.values():
            side.check()
    for name, begin in (("litellm", litellm), ("portkey", portkey)):
        if name in options.sides:
            try:
                sides[name] = stack.enter_context(begin(folder, url, options))
            except Unavailable as why:
                missing[name] = str(why)
                print(f"{name} is left out: {why}", file=sys.stderr)
    return sides, missing


# Measuring.


def throughput(side, connections, seconds, seed):
    """Requests per second over some connections, each with one request at a time, and how many failed."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(HERE / "wire.lua")]
    command += [part for name, value in side.all_headers().items() for part in ("-H", f"{name}: {value}")]
    command += [f"{side.url}/v1/chat/completions", "--", side.model, str(seed), str(PROMPT_WORDS), *WORDS]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    counted = json.loads(printed.strip().rpartition("\n")[2])
    return {"requests_per_s": (counted["requests"] - counted["failed"]) / counted["us"] * 1e6, "failed": counted["failed"]}


def receive(connection):
    """One whole response."""
    data = bytearray()
    while True:
        part = connection.recv(65_536)
        if not part:
            raise ConnectionError("closed within a response")
        data += part
        head, found, body = bytes(data).partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:]) if found else {}
        if b"content-length" in fields and len(body) >= int(fields[b"content-length"]) or b"transfer-encoding" in fields and body.endswith(b"0\r\n\r\n"):
            return data


def latency(side, seconds, seed):
    """Percentiles, in microseconds, of requests sent one after the other over one connection."""
    words, took, failed = random.Random(seed), [], 0
    head = "".join(f"{name}: {value}\r\n" for name, value in ({"Host": f"127.0.0.1:{side.port}"} | side.all_headers()).items())
    deadline = time.perf_counter() + seconds
    connection = connect(side)
    gc.disable()
    while time.perf_counter() < deadline:
        body = json.dumps({"model": side.model, "messages": [{"role": "user", "content": " ".join(words.choices(WORDS, k=PROMPT_WORDS))}]})
        request = f"POST /v1/chat/completions HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        begun = time.perf_counter_ns()
        try:
            connection.sendall(request)
            answer = receive(connection)
        except OSError:
            answer, connection = b"", connect(side)
        took.append((time.perf_counter_ns() - begun) / 1e3)
        failed += not answer.startswith(b"HTTP/1.1 200 ")
    gc.enable()
    connection.close()
    took.sort()
    return {"requests": len(took), "failed": failed, "p50_us": took[len(took) // 2], "p99_us": took[int(len(took) * 0.99)]}


def connect(side):
    connection = socket.create_connection(("127.0.0.1", side.port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def unread(side):
    """Of the last 200 decisions of `auto`, how many prompts were not read in time: those cost less than a routed one."""
    page = httpx.get(f"{side.url}/explain", params={"limit": 200}, timeout=30, trust_env=False).json()["data"]
    return sum(decision["basis"] == "late" for decision in page)


def measure(sides, options):
    """Per side, what each round gave."""
    rounds, seed = {name: [] for name in sides}, 0
    for number in range(-1 if options.warm_up else 0, options.rounds):
        seconds = options.seconds if number >= 0 else options.warm_up
        shift = number % len(sides)
        order = [*sides.items()][shift:] + [*sides.items()][:shift]
        found = {}
        for name, side in order:
            seed += 1
            found[name] = throughput(side, options.connections, seconds, seed)
            if name == "waypost-auto":
                found[name]["unread_of_200"] = unread(side)
            time.sleep(0.3)
        for name, side in order:
            seed += 1
            found[name]["one"] = latency(side, seconds, seed)
            time.sleep(0.1)
        for name in sides if number >= 0 else ():
            one, base = found[name]["one"], found["upstream"]["one"]
            one |= {f"added_{p}": one[p] - base[p] for p in ("p50_us", "p99_us")}
            rounds[name].append(found[name])
        print(f"round {number + 1} of {options.rounds}" if number >= 0 else "warm", file=sys.stderr, flush=True)
    return rounds


# Telling.


def summary(rounds):
    middle = statistics.median
    return {
        name: {
            "requests_per_s": middle(each["requests_per_s"] for each in of),
            **{key: middle(each["one"][key] for each in of) for key in ("p50_us", "p99_us", "added_p50_us", "added_p99_us")},
            "failed": sum(each["failed"] + each["one"]["failed"] for each in of),
        }
        for name, of in rounds.items()
    }


def ratios(told):
    """How many times the requests per second of the others, and how many times their added latency over ours."""
    return {
        f"{ours} : {theirs}": {"requests_per_s": told[ours]["requests_per_s"] / told[theirs]["requests_per_s"]}
        | {key: told[theirs][key] / told[ours][key] for key in ("added_p50_us", "added_p99_us")}
        for ours in OURS
        for theirs in THEIRS
        if ours in told and theirs in told
    }


def show(told, compared, options):
    print(f"\n{'':24}{'requests/s':>12}{'p50 µs':>12}{'p99 µs':>12}{'added p50':>12}{'added p99':>12}{'failed':>10}")
    for name, of in told.items():
        added = [f"{of[key]:12.0f}" if name != "upstream" else f"{'-':>12}" for key in ("added_p50_us", "added_p99_us")]
        print(f"{name:24}{of['requests_per_s']:12.0f}{of['p50_us']:12.0f}{of['p99_us']:12.0f}{''.join(added)}{of['failed']:10}")
    if compared:
        print(f"\n{'times better':24}{'requests/s':>12}{'':24}{'added p50':>12}{'added p99':>12}")
    for name, of in compared.items():
        print(f"{name:24}{of['requests_per_s']:12.1f}{'':24}{of['added_p50_us']:12.1f}{of['added_p99_us']:12.1f}")
    print(f"\nrequests/s at {options.connections} connections, latency at one; medians of {options.rounds} rounds of {options.seconds} s; {os.cpu_count()} cores")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=lambda text: text.split(","), default=["upstream", *GATEWAYS], help="separated by commas; the upstream is always measured")
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=2, help="seconds of each measurement in a first round that does not count")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--litellm-workers", type=int, default=os.cpu_count())
    parser.add_argument("--litellm-arguments", default="--run_granian", help="more of its command line, e.g. --litellm-arguments=--run_gunicorn")
    parser.add_argument("--tools", type=Path, default=ROOT / "target/wire", help="where litellm and portkey are installed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if unknown := set(options.sides) - {"upstream", *GATEWAYS}:
        parser.error(f"no side is named {', '.join(sorted(unknown))}; there are upstream, {', '.join(GATEWAYS)}")
    options.tools = options.tools.resolve()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            program("wrk", "wrk")
            sides, missing = start(stack, folder, options)
        except Unavailable as why:
            sys.exit(str(why))
        rounds = measure(sides, options)
    told = summary(rounds)
    compared = ratios(told)
    show(told, compared, options)
    if options.json:
        versions = {"waypost": BIN, "litellm": LITELLM, "portkey": PORTKEY}
        about = {"machine": platform.platform(), "cores": os.cpu_count(), "options": {name: str(value) for name, value in vars(options).items()}, "versions": versions}
        options.json.write_text(json.dumps(about | {"missing": missing, "sides": told, "times_better": compared, "rounds": rounds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
