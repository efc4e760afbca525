"""Measures, and asserts nothing (pytest does not collect it): do 50 routed requests a second feel a retraining on 5,000
exemplars through the admin API? Prints latencies before and while it runs, and what failed.

    WAYPOST_BIN=target/release/waypost uv run --no-project --with-requirements tests/e2e/requirements.txt \\
        python tests/e2e/measure_retraining.py
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from fakes import Upstream
from waypost import ONE_DEPLOYMENT, command, serving

DATA = Path(__file__).resolve().parents[2] / "data/exemplars"
CONFIG = """
[routing]
model = "{model}"
[policy]
value_of_second = 0.0
"""


def exemplars():
    lines = [line for file in sorted(DATA.glob("*.jsonl")) for line in file.read_text().splitlines()]
    random.Random(1).shuffle(lines)
    return [json.loads(line) for line in lines]


async def serve(url, rate, prompts, until):
    """Sends requests at a fixed rate, whatever becomes of those before; returns the seconds each took, or its failure."""
    results, running, number = [], set(), 0
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, limits=httpx.Limits(max_connections=500)) as http:

        async def one(prompt):
            begun = time.perf_counter()
            try:
                answer = await http.post("/v1/chat/completions", json={"model": "auto", "messages": [{"role": "user", "content": prompt}]})
                results.append(time.perf_counter() - begun if answer.status_code == 200 and answer.json()["choices"] else answer.text[:200])
            except httpx.HTTPError as error:
                results.append(repr(error))

        begun = time.perf_counter()
        while not await until():
            task = asyncio.create_task(one(prompts[number % len(prompts)]))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
            await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        await asyncio.gather(*running)
    return results


def show(what, results):
    failed = [result for result in results if isinstance(result, str)]
    took = sorted(result * 1e3 for result in results if not isinstance(result, str))
    print(f"{what:18} {len(results):6} requests, {len(failed)} failed, median {statistics.median(took):6.1f} ms, p99 {took[int(len(took) * 0.99)]:6.1f} ms", flush=True)
    for failure in failed[:3]:
        print("   ", failure)
    return took[int(len(took) * 0.99)]


async def measure(options, server, sent, prompts):
    async def after(seconds):
        end = time.perf_counter() + seconds

        async def over():
            return time.perf_counter() > end

        return await serve(server.url, options.rate, prompts, over)

    await after(5)
    quiet = show("before", await after(options.seconds))
    async with httpx.AsyncClient(base_url=server.url, timeout=120, trust_env=False) as admin:
        begun = time.perf_counter()
        (await admin.post("/admin/retrain", json={"exemplars": sent})).raise_for_status()
        asked, state = time.perf_counter(), {"state": "running"}

        async def ended():
            nonlocal asked, state
            if time.perf_counter() - asked > 1:
                asked = time.perf_counter()
                state = (await admin.get("/admin/retrain")).json()
            return state["state"] != "running" or time.perf_counter() - begun > options.most

        busy = show("while retraining", await serve(server.url, options.rate, prompts, ended))
        print(f"retraining: {json.dumps(state)[:300]} after {time.perf_counter() - begun:.0f} s; p99 ratio {busy / quiet:.2f}")
    show("after", await after(options.seconds))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--exemplars", type=int, default=5_000)
    parser.add_argument("--most", type=float, default=1_800, help="seconds after which the retraining is not waited for")
    options = parser.parse_args()
    folder, known = Path(tempfile.mkdtemp()), exemplars()
    few, sent = known[:400], known[400 : 400 + options.exemplars]
    (folder / "few.jsonl").write_text("".join(json.dumps(line) + "\n" for line in few))
    trained = command("train", "--labels", "few.jsonl", "--name", "small", "--out", "models", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    prompts = [line["prompt"] for line in known[400 + options.exemplars :] if len(line["prompt"]) < 300]
    upstream = Upstream()
    with serving(folder, CONFIG.format(model=folder / "models/small") + ONE_DEPLOYMENT.format(url=upstream.url)) as server:
        asyncio.run(measure(options, server, sent, prompts))
    upstream.stop()


if __name__ == "__main__":
    main()
