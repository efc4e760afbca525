"""What requests cost by the shipped catalogue, against genai-prices: an independent table and an independent calculator.

Each case is equal to the micro-dollar, or every rate that it differs in stands in catalog_differences.json with both published
prices and the reason. A difference that is not there fails, and so does a line of it that no longer is one.
"""

import json
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from genai_prices import Usage
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import TieredPrices

from waypost import command

HERE = Path(__file__).parent
CATALOG = HERE.parents[1] / "data/catalog/catalog.json"
DIFFERENCES = HERE / "catalog_differences.json"
MICRO_DOLLAR = Decimal("0.000001")

# A Wednesday outside and inside DeepSeek's peak hours, and a Sunday at the hour of the peak.
TIMES = {"usual": "2026-11-25T12:00:00Z", "peak": "2026-11-25T08:00:00Z", "weekend": "2026-11-29T08:00:00Z"}

# Our providers and theirs. Of OpenRouter only what the shipped configuration calls: its prices follow the cheapest host by the
# day, and the two tables were read half a year apart.
PROVIDERS = {
    "openai": "openai", "anthropic": "anthropic", "gemini": "google", "mistral": "mistral", "groq": "groq", "deepseek": "deepseek",
    "xai": "x-ai", "together": "together", "fireworks": "fireworks", "openrouter": "openrouter", "cohere": "cohere",
    "perplexity": "perplexity", "cerebras": "cerebras", "novita": "novita", "bedrock": "aws", "azure": "azure",
    "ovhcloud": "ovhcloud", "meta": "meta", "minimax": "minimax", "moonshot": "moonshotai", "zai": "zai", "baseten": "baseten",
    "cloudflare": "cloudflare",
}  # fmt: skip
OPENROUTER = {"openai/gpt-oss-20b", "deepseek/deepseek-v4-flash", "deepseek/deepseek-v4-pro"}

# Our name of a rate, theirs, and where both look when it is not published.
RATES = [("input", "input_mtok", None), ("cached_input", "cache_read_mtok", "input"), ("cache_write", "cache_write_mtok", "input"), ("cache_write_1h", "cache_write_1h_mtok", "cache_write"), ("output", "output_mtok", None)]  # fmt: skip


def tokens(prompt, answer, cached=0, written=0, hour=0):
    """Tokens of each rate: what is read from and written to the cache is part of the prompt, `hour` part of what is written."""
    return {"input": prompt - cached - written, "cached_input": cached, "cache_write": written - hour, "cache_write_1h": hour, "output": answer}


def usages(entry, theirs):
    """Requests that between them use every rate of a model, and both sides of every border between its tiers."""
    yield tokens(1_234, 357)
    yield tokens(54_321, 999, cached=43_210)
    if "cache_write" in json.dumps(entry) or theirs.cache_write_mtok:
        yield tokens(54_321, 999, cached=10_000, written=33_333)
        yield tokens(54_321, 999, written=33_333, hour=22_222)
    tiered = [price for price in vars(theirs).values() if isinstance(price, TieredPrices)]
    borders = {tier["above"] for tier in entry["prices"].get("tiers", [])} | {tier.start for price in tiered for tier in price.tiers}
    for border in sorted(borders):
        yield tokens(border, 1_000)
        yield tokens(border + 1, 1_000, cached=7_777)


def published(prices, prompt):
    """Their rates for a prompt of this length; absent where they publish none."""
    rates = {}
    for ours, name, _ in RATES:
        price = getattr(prices, name)
        if isinstance(price, TieredPrices):
            price = next((tier.price for tier in reversed(price.tiers) if prompt > tier.start), price.base)
        rates[ours] = price
    return rates


def effective(rates, name):
    """The rate paid: its own, or that of what it is part of."""
    below = {ours: fallback for ours, _, fallback in RATES}
    while rates.get(name) is None:
        name = below[name]
    return Decimal(str(rates[name]))


def is_same(entry, model):
    """Whether theirs is the very model, not one that its name merely begins like. Bedrock's names say the region, theirs only its kind."""
    name = entry["model"].lower()
    return entry["provider"] in ("bedrock", "azure") or model.id.lower() in (name, name.split("/")[-1])


def cases():
    """All (model, usage, time) that both know, with their price."""
    providers = {provider.id: provider for provider in get_snapshot().providers}
    for entry in json.loads(CATALOG.read_text())["models"]:
        if entry["provider"] not in PROVIDERS or "prices" not in entry:
            continue
        if entry["provider"] == "openrouter" and entry["model"] not in OPENROUTER:
            continue
        provider = providers[PROVIDERS[entry["provider"]]]
        model = provider.find_model(entry["model"])
        if model is None or not is_same(entry, model):
            continue
        for when in TIMES if "periods" in entry["prices"] else ["usual"]:
            at = datetime.fromisoformat(TIMES[when]).astimezone(timezone.utc)
            prices = model.get_prices(at)
            for counts in usages(entry, prices):
                yield {"model": f"{entry['provider']}/{entry['model']}", "when": when, "counts": counts, "prices": prices}


def their_dollars(case):
    counts = case["counts"]
    usage = Usage(
        input_tokens=prompt_of(counts),
        output_tokens=counts["output"],
        cache_read_tokens=counts["cached_input"],
        cache_write_tokens=counts["cache_write"] + counts["cache_write_1h"],
        **({"cache_write_1h_tokens": counts["cache_write_1h"]} if counts["cache_write_1h"] else {}),
    )
    return case["prices"].calc_price(usage)["total_price"]


def prompt_of(counts):
    return sum(counts.values()) - counts["output"]


def question(number, case):
    counts = case["counts"]
    details = {"cached_tokens": counts["cached_input"], "cache_write_tokens": counts["cache_write"] + counts["cache_write_1h"], "cache_write_1h_tokens": counts["cache_write_1h"]}
    usage = {"prompt_tokens": prompt_of(counts), "completion_tokens": counts["output"], "prompt_tokens_details": details}
    return json.dumps({"id": number, "model": case["model"], "usage": usage, "at": TIMES[case["when"]]})


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Every case with both results: a list of (case, our dollars, their dollars, rates that differ)."""
    folder = tmp_path_factory.mktemp("catalog")
    all_cases = list(cases())
    lines = "\n".join(question(number, case) for number, case in enumerate(all_cases))
    done = command("catalog", "price", "--input", "-", cwd=folder, stdin=lines, WAYPOST_DATA=str(folder))
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == list(range(len(all_cases)))
    return [compare(case, answer) for case, answer in zip(all_cases, answers)]


def compare(case, answer):
    ours, theirs = answer["rates"], published(case["prices"], prompt_of(case["counts"]))
    dollars = Decimal(answer["picodollars"]) / 10**12
    differing, explained = [], Decimal(0)
    for name, count in case["counts"].items():
        difference = effective(theirs, name) - effective(ours, name)
        explained += count * difference / 10**6
        if count and difference:
            differing.append((name, ours.get(name), None if theirs[name] is None else float(theirs[name])))
    fee = Decimal(case["prices"].requests_kcount or 0) / 1000
    if fee != Decimal(str(answer["per_request"])):
        explained += fee - Decimal(str(answer["per_request"]))
        differing.append(("per_request", answer["per_request"], float(fee)))
    total = their_dollars(case)
    # The arithmetic is the same: what two totals differ by is what the rates differ by, to the picodollar.
    assert abs(total - dollars - explained) < Decimal("1e-11"), (case["model"], case["counts"])
    return case, dollars, total, differing


def line(case, rate):
    """How a difference stands in the table."""
    name, ours, theirs = rate
    prompt = prompt_of(case["counts"])
    long = {"prompt_tokens": prompt} if prompt not in (1_234, 54_321) else {}
    when = {"when": case["when"]} if case["when"] != "usual" else {}
    return {"model": case["model"], "rate": name, **long, **when, "ours": ours, "theirs": theirs}


def differences(compared):
    """The lines of all rates in which cases differ, each once."""
    found = {}
    for case, ours, theirs, differing in compared:
        if abs(ours - theirs) >= MICRO_DOLLAR:
            for rate in differing:
                found[json.dumps(line(case, rate), sort_keys=True)] = line(case, rate)
    return found


def test_costs_are_equal_to_the_micro_dollar_or_the_difference_is_explained(compared):
    table = json.loads(DIFFERENCES.read_text())
    explained = {json.dumps({key: value for key, value in row.items() if key != "reason"}, sort_keys=True): row for row in table["differences"]}
    found = differences(compared)
    unexplained = [row for key, row in found.items() if key not in explained]
    assert not unexplained, f"{len(unexplained)} differences without a reason, such as {unexplained[:5]}"
    stale = [row for key, row in explained.items() if key not in found]
    assert not stale, f"{len(stale)} lines that are no difference any more, such as {stale[:5]}"
    assert {row["reason"] for row in table["differences"]} == set(table["reasons"])
    contexts = {f"{entry['provider']}/{entry['model']}": entry["context_tokens"] for entry in json.loads(CATALOG.read_text())["models"] if "context_tokens" in entry}
    assert all(row["prompt_tokens"] > contexts[row["model"]] for row in table["differences"] if row["reason"] == "beyond-context")


def test_the_comparison_is_wide_and_most_of_it_equal(compared):
    equal = [case for case, ours, theirs, _ in compared if abs(ours - theirs) < MICRO_DOLLAR]
    assert len(compared) >= 1_000 and len(equal) >= 0.8 * len(compared)
    assert len({case["model"].split("/")[0] for case in equal}) >= 20
    for rate in ("cached_input", "cache_write", "cache_write_1h"):
        assert sum(case["counts"][rate] > 0 for case in equal) >= 100, rate
    assert sum(prompt_of(case["counts"]) not in (1_234, 54_321) for case in equal) >= 60, "long prompts"


# Three tables in the shape that is published, of which the last one changes the first.
LITELLM = {
    "openai/m-1": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, "max_input_tokens": 1000, "max_output_tokens": 100},
    "openai/m-2": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 0.0, "output_cost_per_token": 0.0},
}  # fmt: skip


def test_a_table_is_imported_shown_compared_and_priced(tmp_path):
    (tmp_path / "table.json").write_text(json.dumps(LITELLM))
    changed = {"openai/m-1": {**LITELLM["openai/m-1"], "input_cost_per_token": 1.5e-06}, "openai/m-3": LITELLM["openai/m-1"]}
    (tmp_path / "next.json").write_text(json.dumps(changed))

    def run(*arguments):
        return command("catalog", *arguments, cwd=tmp_path, WAYPOST_DATA=str(tmp_path / "data"))

    done = run("import", "table.json")
    assert done.returncode == 0 and "2 models of 1 providers, 1 of unknown price" in done.stdout, done.stderr
    shown = json.loads(run("show", "openai/m-1", "--json").stdout)
    assert shown["prices"] == {"input": 1.0, "output": 2.0} and shown["context_tokens"] == 1000
    assert "m-2" in run("show", "openai").stdout and "openai" in run("show").stdout
    told = {row["model"]: row for row in json.loads(run("diff", "next.json", "--json").stdout)}
    assert {model: row["kind"] for model, row in told.items()} == {"openai/m-1": "changed", "openai/m-2": "gone", "openai/m-3": "new"}
    assert told["openai/m-1"]["changes"] == [{"key": "input", "from": 1.0, "to": 1.5, "percent": 50.0}]
    assert "+50.0" in run("diff", "next.json").stdout
    usage = json.dumps({"prompt_tokens": 1000, "completion_tokens": 10})
    assert json.loads(run("price", "openai/m-1", "--usage", usage, "--json").stdout)["picodollars"] == 1_020_000_000
    for arguments, words in {
        ("price", "openai/m-2", "--usage", usage): "price of `openai/m-2` is not known",
        ("price", "openai/m-9", "--usage", usage): "no `openai/m-9`",
        ("show", "nobody"): "nobody",
        ("import", "nowhere.json"): "nowhere.json",
        ("update", "--url", "http://127.0.0.1:9/x"): "could not be fetched",
        ("update", "--offline"): "offline",
    }.items():
        failed = run(*arguments)
        assert failed.returncode == 1 and words in failed.stderr and "panicked" not in failed.stderr, failed.stderr


def test_an_update_is_fetched_and_takes_effect(tmp_path, upstream):
    data = {"WAYPOST_DATA": str(tmp_path / "data")}
    assert command("catalog", "update", "--url", f"{upstream.url}/no-such-file", cwd=tmp_path, **data).returncode == 1
    (tmp_path / "table.json").write_text(json.dumps(LITELLM))
    with files(tmp_path) as url:
        done = command("catalog", "update", "--url", f"{url}/table.json", cwd=tmp_path, **data)
    assert done.returncode == 0 and "models differ" in done.stdout, done.stderr
    providers = json.loads(command("catalog", "show", "--json", cwd=tmp_path, **data).stdout)["providers"]
    assert providers == [{"provider": "openai", "models": 2}]


def files(folder):
    """Serves a folder on a free port."""
    import contextlib
    import functools
    import http.server
    import threading

    @contextlib.contextmanager
    def serving():
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()

    return serving()


def test_a_deployment_takes_what_it_leaves_out_and_an_unknown_price_is_said(tmp_path):
    provider = '[[provider]]\nname = "openai"\nkey = "env:K"\n[[provider]]\nname = "mine"\nkind = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n'
    limits = "context_tokens = 1000\nmax_output_tokens = 100\n"
    entry = '[[deployment]]\nname = "{name}"\nprovider = "mine"\nmodel = "{name}"\nclasses = ["code"]\n'
    known = entry.format(name="named") + 'catalog = "openai/gpt-4o-mini"\n'
    (tmp_path / "waypost.toml").write_text(provider + known + entry.format(name="guess") + limits)
    done = command("config", "check", cwd=tmp_path, K="x", WAYPOST_DATA=str(tmp_path))
    assert done.returncode == 0 and "WARNING: the price of guess is not known" in done.stdout, done.stderr
    assert "price of named" not in done.stdout
    (tmp_path / "waypost.toml").write_text(provider + entry.format(name="guess"))
    done = command("config", "check", cwd=tmp_path, K="x", WAYPOST_DATA=str(tmp_path))
    assert done.returncode == 1 and "context_tokens" in done.stderr and "catalogue" in done.stderr
