"""LiteLLM's proxy as an upstream: it speaks Anthropic's, Gemini's, Azure's and OpenAI's protocols before any endpoint that
speaks OpenAI's. It lives in an environment of its own, which uv makes (some 15 s from an empty cache), so that its many
packages meet none of ours.
"""

import contextlib
import json
import os
import re
import subprocess
import time

import httpx

PACKAGE = "litellm[proxy]==1.108.7"
START_S = 240
# Its own table of prices instead of one that is fetched at every start; no key asked of callers.
ENVIRONMENT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}


@contextlib.contextmanager
def litellm(folder, port, url, models):
    """The proxy's address, as long as the block; `models` are asked for at `url` under the same names."""
    listed = [{"model_name": name, "litellm_params": {"model": f"hosted_vllm/{name}", "api_base": url, "api_key": "unused"}} for name in models]
    routes = {"num_retries": 0, "disable_cooldowns": True}
    (folder / "litellm.yaml").write_text(json.dumps({"model_list": listed, "litellm_settings": {"num_retries": 0}, "router_settings": routes}))
    out = re.compile(r"_API_KEY$|_PROXY$", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not out.search(name)} | ENVIRONMENT
    command = ["uv", "run", "--quiet", "--no-project", "--with", PACKAGE, "litellm"]
    command += ["--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    log = folder / "litellm.log"
    with log.open("wb") as target:
        process = subprocess.Popen(command, cwd=folder, env=kept, stdin=subprocess.DEVNULL, stdout=target, stderr=target)
    try:
        address = f"http://127.0.0.1:{port}"
        wait(process, address, log)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def wait(process, address, log):
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/health/liveliness", timeout=5, trust_env=False).status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError(f"LiteLLM was not ready in {START_S} s:\n{log.read_text()[-3000:]}")
