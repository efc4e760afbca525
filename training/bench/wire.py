"""Measures the wire side by side: what a gateway costs a non-streaming POST /v1/chat/completions on loopback.

    apt-get install -y wrk nginx-light nodejs npm      # uv: pip install uv
    WAYPOST_BIN=target/release/waypost uv run --no-project --with-requirements tests/e2e/requirements.txt \\
        python training/bench/wire.py [--sides upstream,waypost,...] [--seconds 5] [--rounds 5] [--json FILE]

    upstream                 nginx, which answers every POST with the same chat completion
    waypost                  Waypost, the request names its deployment: passed through
    waypost-auto             Waypost, `model: "auto"`: every prompt is read and routed
    waypost-auto-random      the same with prompts of random words, hardly any of which leaves early: the worst case
    waypost-auto-1-thread    as waypost-auto, with `[embedder] threads = 1`; the default is one for each core
    litellm                  `litellm[proxy]` of the Python index as it starts: `litellm --config FILE`, one worker
    litellm-fastest          the same on Granian with one worker process for each core, and its advice for production
    portkey                  `@portkey-ai/gateway` of npm

The last three are installed by uv and npm into --tools at first use; what cannot be installed or started is left out, and
why is said. Every gateway runs without keys and otherwise with its defaults, its log in a file, and all of them run all the
time; Waypost waits for a late reading in place of letting the default class answer (`deadline_ms`), so that every prompt is
read.

Prompts are the held-out ones (data/exemplars/heldout) that have 24 to 40 tokens with what makes them distinct: a reference
of six digits at the end, "[#482134]". Some 500 texts with 900,000 references each are never remembered by anyone, and of the
ways to make them distinct that were tried this one changes least how many leave early (38 % in place of 43 % without it; a
name and a number in words before the text: 30 %) and how many are classified as labelled. Random prompts are 24 words with
such a reference, 32 tokens.

Each round goes over all sides twice, beginning with another one each round: requests/s at --connections (wrk), then latency
at one connection (a socket of this process: wrk adds samples to its percentiles for requests it takes to be omitted).
`added` is a side's percentile less the upstream's of the same round. The tables show medians over the rounds. wrk and nginx
share the cores with the gateway, so requests/s are those of this machine with its load on it: quote ratios. `late` is the
share of the last decisions whose prompt was not read, `early` of those by an early exit. Memory is resident, after the last
round; sides that one process serves have the same.

At the end --clients connections ask each waypost-auto side but the random one, started anew with its deadline as it is by
default: requests that failed (no answer, or a status of 400 and more), how long the last decisions took (`timing.total_us`
in GET /explain: from the request read to the deployment chosen), how many of them went unread to the default class because
the queue was full or the deadline had passed, and whether the deadline was held: p99 at most 5 ms after it.
"""

import argparse
import contextlib
import gc
import json
import os
import platform
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.append(str(ROOT / "tests/e2e"))
from waypost import BIN, ONE_DEPLOYMENT, Server, environment, serving
from waypost import command as run_waypost

# Without opentelemetry it tries to import that at every request, and takes twice the time.
LITELLM = ["litellm[proxy]==1.108.7", "opentelemetry-sdk==1.45.1", "opentelemetry-exporter-otlp==1.45.1"]
# Its own table of prices instead of one that is fetched at every start; no key asked of callers, as on the other sides.
LITELLM_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}
LITELLM_PRODUCTION = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
PORTKEY = "@portkey-ai/gateway@1.15.2"
START_S = 120
# What each has in [embedder].
AUTO = {"waypost-auto": "", "waypost-auto-1-thread": "threads = 1\n"}
RANDOM = "waypost-auto-random"
THEIRS = ["litellm", "litellm-fastest", "portkey"]
GATEWAYS = ["waypost", "waypost-auto", RANDOM, *[name for name in AUTO if name != "waypost-auto"], *THEIRS]
HELD_MS = 5

HELDOUT = ROOT / "data/exemplars/heldout"
TOKENS = range(24, 41)
# Each is one token of the encoder; with a reference of 6 and its two special tokens 24 make 32.
WORDS = """river stone paper window garden market winter summer doctor letter music number city island bridge engine silver
golden yellow answer question travel simple strong gentle quiet open close write read build carry follow measure because
before after under between without never always people children animal forest ocean mountain station village history science
planet""".split()
PROMPT_WORDS = 24

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
class Prompts:
    """Prompts no two of which are alike: some lines of a file side by side, and a reference. Lines are escaped as in JSON."""

    file: Path
    count: int

    def endless(self, seed):
        lines, chance = self.file.read_text(encoding="utf-8").splitlines(), random.Random(seed)
        while True:
            yield referred(" ".join(chance.choices(lines, k=self.count)), chance.randint(100_000, 999_999))


@dataclass
class Side:
    port: int
    model: str
    headers: tuple = ()
    prompts: Prompts | None = None
    server: Server | None = None

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


# What is asked.


def referred(text, number):
    return f"{text} [#{number}]"


def asked(folder):
    """Held-out texts whose prompts have TOKENS tokens."""
    texts = [json.loads(line)["prompt"] for file in sorted(HELDOUT.glob("*.jsonl")) for line in file.open(encoding="utf-8")]
    prompts = "".join(json.dumps({"prompt": referred(text, 482_134)}) + "\n" for text in texts)
    done = run_waypost("embed", cwd=folder, stdin=prompts)
    assert done.returncode == 0, done.stderr
    tokens = [json.loads(line)["tokens"] for line in done.stdout.splitlines()]
    return prompts_of(folder / "asked", [text for text, count in zip(texts, tokens, strict=True) if count in TOKENS], 1)


def prompts_of(file, lines, count):
    file.write_text("".join(json.dumps(line, ensure_ascii=False)[1:-1] + "\n" for line in lines), encoding="utf-8")
    return Prompts(file, count)


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


def litellm(folder, url, options, fastest=False):
    home = options.tools / "litellm"
    if not (home / "bin/litellm").exists():
        uv = program("uv", "python3-pip && pip install uv")
        install(uv, "venv", "--quiet", "--clear", home)
        install(uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", home / "bin/python", *LITELLM)
    model = {"model_name": "ok", "litellm_params": {"model": "openai/ok", "api_base": url, "api_key": "unused"}}
    (folder / "litellm.yaml").write_text(json.dumps({"model_list": [model]}))
    port = free_port()
    command = [str(home / "bin/litellm"), "--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    if not fastest:
        return running(command, Side(port, "ok"), folder / "litellm.log", **LITELLM_ENVIRONMENT)
    command += ["--num_workers", str(options.litellm_workers), *options.litellm_arguments.split()]
    return running(command, Side(port, "ok"), folder / "litellm-fastest.log", **LITELLM_ENVIRONMENT, **LITELLM_PRODUCTION)


def litellm_fastest(folder, url, options):
    return litellm(folder, url, options, fastest=True)


def portkey(folder, url, options):
    home = options.tools / "portkey"
    server = home / "node_modules/@portkey-ai/gateway/build/start-server.js"
    if not server.exists():
        install(program("npm", "nodejs npm"), "install", "--silent", "--prefix", home, PORTKEY)
    port = free_port()
    headers = (("x-portkey-provider", "openai"), ("x-portkey-custom-host", url))
    command = [program("node", "nodejs"), str(server), f"--port={port}", "--headless"]
    return running(command, Side(port, "ok", headers), folder / "portkey.log", NODE_ENV="production")


@contextlib.contextmanager
def waypost(folder, url, settings):
    """Waypost with these settings of [embedder], asked for `auto`."""
    folder.mkdir()
    with serving(folder, f"{ONE_DEPLOYMENT.format(url=url)}\n[embedder]\n{settings}") as server:
        side = Side(int(server.url.rpartition(":")[2]), "auto", server=server)
        side.check()
        yield side


def start(stack, folder, options):
    """The sides that run, by name, and why the others do not."""
    sides, missing = {"upstream": stack.enter_context(upstream(folder))}, {}
    url = f"{sides['upstream'].url}/v1"
    texts, words = asked(folder), prompts_of(folder / "random", WORDS, PROMPT_WORDS)
    for name, settings in AUTO.items():
        # One process serves those three.
        served = {name, "waypost", RANDOM} if name == "waypost-auto" else {name}
        if served & set(options.sides):
            auto = stack.enter_context(waypost(folder / name, url, settings))
            variants = {"waypost": replace(auto, model="fake/ok"), name: auto, RANDOM: replace(auto, prompts=words)}
            sides |= {of: side for of, side in variants.items() if of in served & set(options.sides)}
    for name, begin in (("litellm", litellm), ("litellm-fastest", litellm_fastest), ("portkey", portkey)):
        if name in options.sides:
            try:
                sides[name] = stack.enter_context(begin(folder, url, options))
            except Unavailable as why:
                missing[name] = str(why)
                print(f"{name} is left out: {why}", file=sys.stderr)
    for side in sides.values():
        side.prompts = side.prompts or texts
    return sides, missing


# Measuring.


def throughput(side, connections, seconds, seed):
    """Requests per second over some connections, each with one request at a time, and how many failed."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(HERE / "wire.lua")]
    command += [part for name, value in side.all_headers().items() for part in ("-H", f"{name}: {value}")]
    command += [f"{side.url}/v1/chat/completions", "--", side.model, str(seed), str(side.prompts.file), str(side.prompts.count)]
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
    prompts, took, failed = side.prompts.endless(seed), [], 0
    head = "".join(f"{name}: {value}\r\n" for name, value in ({"Host": f"127.0.0.1:{side.port}"} | side.all_headers()).items())
    deadline = time.perf_counter() + seconds
    connection = connect(side)
    gc.disable()
    while time.perf_counter() < deadline:
        body = f'{{"model":"{side.model}","messages":[{{"role":"user","content":"{next(prompts)}"}}]}}'.encode()
        request = f"POST /v1/chat/completions HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
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


def decisions(side, since):
    """Those since then that are kept (`[record] keep`), newest first."""
    kept, page = [], {"has_more": True}
    while page["has_more"]:
        older = {"before": kept[-1]["id"]} if kept else {}
        page = httpx.get(f"{side.url}/explain", params={"limit": 200} | older, timeout=30, trust_env=False).json()
        kept += page["data"]
    return [decision for decision in kept if decision["created_ms"] > since * 1e3]


def shares(of):
    """Of decisions, how many prompts were not read in time, which cost less than a routed one, and how many left early."""
    late = sum(decision["basis"] == "late" for decision in of)
    return {"late": late / len(of), "early": sum(decision["exit"] is not None for decision in of) / len(of)}


def memory_mb(side):
    return side.server and side.server.memory_kb("VmRSS") / 1e3


def clients(folder, sides, options):
    """Per side of AUTO, what many connections at once meet."""
    found = {}
    for name, settings in AUTO.items():
        if name in sides:
            settings += "# deadline_ms as it is by default\n"
            with waypost(folder / f"{name}-clients", f"{sides['upstream'].url}/v1", settings) as side:
                side.prompts = sides[name].prompts
                throughput(side, options.clients, options.warm_up or 1, 0)
                begun = time.time()
                gave = throughput(side, options.clients, options.seconds, 1)
                last = decisions(side, begun)
                took = sorted(decision["timing"]["total_us"] / 1e3 for decision in last)
                deadline_ms = int(re.search(r"(\d+) ms a decision", side.server.log())[1])
                p99_ms = took[int(len(took) * 0.99)]
                found[name] = {
                    **gave,
                    **shares(last),
                    "decisions": len(last),
                    "p50_ms": took[len(took) // 2],
                    "p99_ms": p99_ms,
                    "deadline_ms": deadline_ms,
                    "deadline_held": p99_ms <= deadline_ms + HELD_MS,
                    "memory_mb": memory_mb(side),
                }
    return found


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
            begun = time.time()
            found[name] = throughput(side, options.connections, seconds, seed)
            if side.model == "auto":
                found[name] |= shares(decisions(side, begun))
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


def summary(rounds, sides):
    middle = statistics.median
    return {
        name: {
            "requests_per_s": middle(each["requests_per_s"] for each in of),
            **{key: middle(each["one"][key] for each in of) for key in ("p50_us", "p99_us", "added_p50_us", "added_p99_us")},
            "failed": sum(each["failed"] + each["one"]["failed"] for each in of),
            **{key: middle(each[key] for each in of) for key in ("late", "early") if key in of[0]},
            "memory_mb": memory_mb(sides[name]),
        }
        for name, of in rounds.items()
    }


def ratios(told):
    """How many times the requests per second of the others, and how many times their added latency over ours."""
    return {
        f"{ours} : {theirs}": {"requests_per_s": told[ours]["requests_per_s"] / told[theirs]["requests_per_s"]}
        | {key: told[theirs][key] / told[ours][key] for key in ("added_p50_us", "added_p99_us")}
        for ours in ("waypost", "waypost-auto")
        for theirs in THEIRS
        if ours in told and theirs in told and told[theirs]["requests_per_s"]
    }


def show(told, compared, crowd, options):
    print(f"\n{'':32}{'requests/s':>12}{'p50 µs':>12}{'p99 µs':>12}{'added p50':>12}{'added p99':>12}{'failed':>10}{'late':>8}{'early':>8}{'memory MB':>12}")
    for name, of in told.items():
        added = [f"{of[key]:12.0f}" if name != "upstream" else f"{'-':>12}" for key in ("added_p50_us", "added_p99_us")]
        read = [f"{of[key]:8.1%}" if key in of else f"{'-':>8}" for key in ("late", "early")]
        memory = f"{of['memory_mb']:12.0f}" if of["memory_mb"] else f"{'-':>12}"
        print(f"{name:32}{of['requests_per_s']:12.0f}{of['p50_us']:12.0f}{of['p99_us']:12.0f}{''.join(added)}{of['failed']:10}{''.join(read)}{memory}")
    if compared:
        print(f"\n{'times better':32}{'requests/s':>12}{'':24}{'added p50':>12}{'added p99':>12}")
    for name, of in compared.items():
        print(f"{name:32}{of['requests_per_s']:12.1f}{'':24}{of['added_p50_us']:12.1f}{of['added_p99_us']:12.1f}")
    print(f"\nrequests/s at {options.connections} connections, latency at one; medians of {options.rounds} rounds of {options.seconds} s; {os.cpu_count()} cores")
    if crowd:
        print(f"\n{f'{options.clients} clients':32}{'requests/s':>12}{'failed':>10}{'p50 ms':>10}{'p99 ms':>10}{'deadline':>10}{'held':>8}{'late':>8}{'early':>8}{'memory MB':>12}")
    for name, of in crowd.items():
        held = "yes" if of["deadline_held"] else "no"
        print(f"{name:32}{of['requests_per_s']:12.0f}{of['failed']:10}{of['p50_ms']:10.1f}{of['p99_ms']:10.1f}{of['deadline_ms']:10}{held:>8}{of['late']:8.1%}{of['early']:8.1%}{of['memory_mb']:12.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=lambda text: text.split(","), default=["upstream", *GATEWAYS], help="separated by commas; the upstream is always measured")
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=2, help="seconds of each measurement in a first round that does not count")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--litellm-workers", type=int, default=os.cpu_count(), help="of litellm-fastest")
    parser.add_argument("--litellm-arguments", default="--run_granian", help="more of litellm-fastest's command line, e.g. --litellm-arguments=--run_gunicorn")
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
        told = summary(rounds, sides)
        crowd = clients(folder, sides, options)
    compared = ratios(told)
    show(told, compared, crowd, options)
    if options.json:
        versions = {"waypost": BIN, "litellm": LITELLM, "portkey": PORTKEY}
        about = {"machine": platform.platform(), "cores": os.cpu_count(), "options": {name: str(value) for name, value in vars(options).items()}, "versions": versions}
        options.json.write_text(json.dumps(about | {"missing": missing, "sides": told, "times_better": compared, "clients": crowd, "rounds": rounds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
