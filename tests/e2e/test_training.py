"""Training, measuring, refusing and rolling back, as an operator does it on the command line."""

import json
import random
import xml.dom.minidom
from pathlib import Path

import pytest

from waypost import command

ROOT = Path(__file__).resolve().parents[2]

RECIPE = (ROOT / "training/recipe.toml").read_text().replace("min_steps = 1_000 ", "min_steps = 150 ").replace("folds = 6 ", "folds = 3 ").replace("folds = 5\n", "folds = 3\n")
CLASSES = ["code", "tools", "translation", "creative"]


def run(*arguments, ok=True):
    done = command(*arguments, cwd=ROOT / "tests/e2e")
    assert (done.returncode == 0) == ok, done.stderr
    return done


def prompts(source):
    lines = (ROOT / f"data/exemplars/{source}.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if row["class"] in CLASSES and len(row["prompt"]) < 160]


def save(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    (folder / "recipe.toml").write_text(RECIPE)
    save(folder / "labels.jsonl", prompts("short"))
    run("train", "--labels", folder / "labels.jsonl", "--name", "mine", "--out", folder, "--recipe", folder / "recipe.toml")
    return folder


def outcomes(rows):
    """The small model answers well what is neither code nor creative."""
    def row(one):
        small = 0.2 if one["class"] in ("code", "creative") else 1.0
        return {"id": one["id"], "prompt": one["prompt"], "task": one["source"], "score": {"large": 1.0, "small": small}, "cost": {"large": 0.01, "small": 0.001}}
    return [row(one) for one in rows]


def test_a_first_version_serves_and_decides_in_its_own_classes(work):
    version = (work / "mine/current").read_text().split()[0]
    assert {"manifest.json", "head.safetensors", "exemplars.jsonl", "space.safetensors"} <= {file.name for file in (work / "mine" / version).iterdir()}
    save(work / "in.jsonl", [{"id": 1, "prompt": "Write a Rust function that reverses a string"}, {"id": 2, "prompt": "wake me at seven"}])
    run("decide", "--model", work / "mine", "--input", work / "in.jsonl", "--output", work / "out.jsonl")
    rows = [json.loads(line) for line in (work / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [1, 2]
    assert [max(CLASSES, key=row["quality"].get) for row in rows] == ["code", "tools"]


def test_poisoned_labels_are_refused_with_the_classes_that_suffer_and_force_and_rollback_work(work):
    before = (work / "mine/current").read_text()
    after = dict(zip(CLASSES, CLASSES[1:] + CLASSES[:1]))
    save(work / "poison.jsonl", [{**row, "class": after[row["class"]]} for row in prompts("short")])
    order = ["train", "--labels", work / "poison.jsonl", "--name", "mine", "--out", work, "--recipe", work / "recipe.toml", "--publish"]
    refused = run(*order, ok=False)
    assert "not published" in refused.stderr and any(f"{name} " in refused.stderr for name in CLASSES)
    assert (work / "mine/current").read_text() == before

    plain = ["decide", "--model", work / "mine", "--input", save(work / "some.jsonl", prompts("chat")[:40])]
    decided = lambda: run(*plain, "--output", "-").stdout
    strip = lambda text: [{k: v for k, v in json.loads(line).items() if k != "micros"} for line in text.splitlines()]
    first = strip(decided())
    run(*order, "--force")
    assert strip(decided()) != first
    run("models", "rollback", "mine", "--out", work)
    assert (work / "mine/current").read_text() == before and strip(decided()) == first
    listed = json.loads(run("models", "versions", "mine", "--out", work, "--json").stdout)
    assert len(listed) == 2 and [one["current"] for one in listed] == [True, False]


def test_a_current_version_that_cannot_be_read_loses_no_training(work, tmp_path):
    order = ["train", "--labels", work / "labels.jsonl", "--name", "mine", "--out", tmp_path, "--recipe", work / "recipe.toml"]
    run(*order)
    first = (tmp_path / "mine/current").read_text().split()[0]
    (tmp_path / "mine" / first / "head.safetensors").write_bytes(b"damaged")
    again = run(*order, "--seed", 2, "--publish", ok=False).stderr
    assert "cannot be read" in again and "--force" in again
    assert (tmp_path / "mine/current").read_text().split()[0] == first and len(list((tmp_path / "mine").glob("*/manifest.json"))) == 2
    run(*order, "--seed", 2, "--publish", "--force")
    assert (tmp_path / "mine/current").read_text().split()[0] != first


def test_outcomes_are_learned_measured_beside_baselines_and_drawn(work):
    save(work / "outcomes.jsonl", outcomes(prompts("short")))
    save(work / "test.jsonl", outcomes(prompts("traffic") + prompts("chat")))
    run("train", "--outcomes", work / "outcomes.jsonl", "--name", "pair", "--out", work, "--recipe", work / "recipe.toml")
    shown = run("eval", "--model", work / "pair", "--outcomes", work / "test.jsonl", "--plot", work / "plot.svg", "--json")
    report = json.loads(shown.stdout)
    routers = {router["name"]: router for router in report["routers"]}
    assert {"waypost", "random", "length alone", "best single", "kNN 10", "kNN 100", "task label given", "oracle"} == set(routers)
    assert report["strong"] == "large" and routers["oracle"]["pair"]["apgr"] >= routers["waypost"]["pair"]["apgr"]
    # What separates the two models is plain in the prompts: it must be found.
    assert routers["waypost"]["pair"]["apgr"] > 0.65
    assert abs(routers["best single"]["pair"]["apgr"] - 0.5) < 1e-9
    xml.dom.minidom.parse(str(work / "plot.svg"))


def test_outcome_names_are_mapped_onto_classes(work):
    save(work / "o.jsonl", outcomes(prompts("short")))
    (work / "map.toml").write_text('"large" = "advanced"\n"small" = "general"\n')
    run("train", "--outcomes", work / "o.jsonl", "--map", work / "map.toml", "--name", "mapped", "--out", work, "--recipe", work / "recipe.toml")
    version = (work / "mapped/current").read_text().split()[0]
    assert json.loads((work / "mapped" / version / "manifest.json").read_text())["classes"] == ["advanced", "general"]


def test_the_floor_is_calibrated_and_written_beside_what_is_there(work):
    save(work / "c.jsonl", outcomes(prompts("traffic")))
    config = work / "waypost.toml"
    config.write_text("# mine\n[policy]\nquality_floor = 0.9 # high\n")
    run("train", "--outcomes", work / "c.jsonl", "--name", "floor", "--out", work, "--recipe", work / "recipe.toml")
    chosen = json.loads(run("calibrate", "--model", work / "floor", "--outcomes", work / "c.jsonl", "--quality", 0.85, "--write", config, "--json").stdout)
    assert chosen["chosen"]["quality"] >= 0.85 and 0 < chosen["chosen"]["saving"] < 1
    assert "# mine" in config.read_text() and f'quality_floor = {chosen["chosen"]["quality_floor"]:g}' in config.read_text()
    assert "no floor does that" in run("calibrate", "--model", work / "floor", "--outcomes", work / "c.jsonl", "--saving", 0.99, ok=False).stderr


def test_out_of_scope_rows_are_measured_and_decisions_are_tried_for_stability(work):
    rows = prompts("chat")
    strange = [{"id": f"oos-{at}", "prompt": "".join(random.Random(at).choices("qxzjvkw 0987", k=60)), "class": "oos"} for at in range(30)]
    save(work / "mixed.jsonl", rows + strange)
    report = json.loads(run("eval", "--model", work / "mine", "--labels", work / "mixed.jsonl", "--json").stdout)
    assert report["prompts"] == len(rows) and report["out_of_scope"]["prompts"] == 30
    assert report["out_of_scope"]["auroc"] > 0.7
    assert report["coverage"][-1]["accuracy"] >= report["coverage"][0]["accuracy"]
    stable = json.loads(run("eval", "--model", work / "mine", "--labels", save(work / "s.jsonl", rows), "--stability", "--limit", 20, "--json").stdout)
    flips = {change["change"]: change["flipped"] for change in stable["changes"]}
    assert flips["lower case"] <= 0.2 and {"typos", "polite prefix", "white space"} <= set(flips)


@pytest.mark.parametrize("line,said", [
    ('{"prompt": "x"}', "neither a `class` nor a `score`"),
    ('{"prompt": "  ", "class": "code"}', "empty"),
    ('{"prompt": "x", "score": {"a": 2}}', "expected 0..1"),
    ('not json', "expected"),
])
def test_a_bad_line_is_named_with_its_file_and_place(tmp_path, line, said):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "fine", "class": "code"}\n' + line + "\n")
    error = run("train", "--labels", bad, "--name", "x", "--out", tmp_path, ok=False).stderr
    assert "bad.jsonl:2" in error and said in error
