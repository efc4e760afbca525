"""`waypost simulate`: what a file of requests would have cost. The month is the README's own command."""

import json
import re
import subprocess
from pathlib import Path

from waypost import BIN, command, environment

ROOT = Path(__file__).parents[2]


def simulate(folder, lines, *arguments):
    (folder / "in.jsonl").write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return command("simulate", "--input", "in.jsonl", "--json", *arguments, cwd=folder)


def test_the_readme_s_month_costs_what_it_costs_by_hand(tmp_path):
    [line] = re.findall(r"^waypost simulate .*month.*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    words = line.split("#")[0].split()
    quiet = environment(WAYPOST_DATA=str(tmp_path))
    for_people = subprocess.run([BIN, *words[1:]], cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=600)
    assert for_people.returncode == 0, for_people.stderr
    done = subprocess.run([BIN, *words[1:], "--json", "--baseline", "month/mid"], cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=600)
    report = json.loads(done.stdout)
    # 200,000 x 0.00375 + 500,000 x 0.0000875 + 300,000 x 0.000015, see examples/month.toml
    assert report["routed"]["dollars"] == 798.25 and report["routed"]["requests"] == 1_000_000
    assert [(line["name"], line["role"], line["dollars"]) for line in report["baselines"]] == [
        ("month/strong", "best single", 3_750.0),
        ("month/small", "cheapest single", 15.0),
        ("month/mid", "baseline", 87.5),
    ]
    assert {share["name"]: share["dollars"] for share in report["classes"]} == {"advanced": 750.0, "general": 43.75, "basic": 4.5}
    assert report["baselines"][0]["saved"]["dollars"] == 2_951.75
    row = lambda name: next(line for line in for_people.stdout.splitlines() if name in line)
    assert " $798.25 " in row(" routed") and " $3,750.00 " in row("all on month/strong") and "$2,951.75 (78.7 %)" in row("all on month/strong")


def test_prompts_are_read_and_the_class_compared_with_the_label(tmp_path):
    lines = [
        {"prompt": "Write a Python function that merges two sorted lists.", "label": "code"},
        {"prompt": "Translate 'good night' into Polish.", "label": "translation", "count": 3},
        {"model": "gpt-nobody-knows", "messages": [{"role": "user", "content": "hi there"}], "label": "advanced", "tokens_out": 7},
    ]
    done = simulate(tmp_path, lines, "--provider", "openai", "--policy", "", "--policy", "best", "--plot", "plot.svg")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {share["name"] for share in report["classes"]} == {"code", "translation", "basic"}
    # The greeting needs no strong model, whatever its label says.
    assert report["routed"]["quality"] == 0.8 and report["unknown_model"] == 1
    assert [line["name"] for line in report["policies"]] == ["best"]
    best, cheapest = report["baselines"]
    assert (best["name"], best["quality"], cheapest["name"]) == ("openai/gpt-6.1-sol", 1.0, "openai/gpt-6-luna")
    assert 0 < cheapest["dollars"] < best["dollars"] and best["saved"]["dollars"] > 0
    assert "<svg" in (tmp_path / "plot.svg").read_text() and "gpt-6.1-sol" in (tmp_path / "plot.svg").read_text()


def test_what_cannot_be_read_is_told_and_counts_nowhere(tmp_path):
    done = simulate(tmp_path, [{"class": "code", "tokens_in": 10, "tokens_out": 10}, {"nothing": 1}, {"class": "nobody"}])
    assert done.returncode == 1
    assert "2 of 3 lines" in done.stderr and "line 2: expected `prompt`" in done.stderr and "line 3: `class`" in done.stderr
    assert json.loads(done.stdout)["routed"]["requests"] == 1
