"""`waypost decide` and `waypost explain` on the command line: the same decisions as the server's, one a line and in order."""

import json

import pytest

from waypost import LOCAL, command

LINES = [
    {"id": "a", "prompt": "Write a Python function that merges two sorted lists."},
    {"id": 7, "messages": [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Translate 'good night' into Polish."}]},
    {"prompt": "hi there"},
    {"id": "same", "prompt": "Schreibe ein Gedicht über den Herbst."},
    {"id": "same", "prompt": "Schreibe ein Gedicht über den Herbst."},
    {"id": "empty", "prompt": ""},
    {"id": "long", "prompt": "Summarise this: " + "the meeting went on and on. " * 20_000},
]
CLASSES = {"basic", "general", "code", "reasoning", "creative", "summarization", "translation", "extraction", "tools", "advanced"}


def decide(folder, text, *arguments):
    (folder / "in.jsonl").write_text(text, encoding="utf-8")
    done = command("decide", "--input", "in.jsonl", "--output", "out.jsonl", *arguments, cwd=folder)
    return done, [json.loads(line) for line in (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def decided(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decide")
    text = "\n".join(json.dumps(line) for line in LINES[:3]) + "\n\n" + "\n".join(json.dumps(line) for line in LINES[3:])
    done, rows = decide(folder, text)
    assert done.returncode == 0, done.stderr
    return rows


def test_ids_and_order_are_kept(decided):
    assert [row["id"] for row in decided] == ["a", 7, 3, "same", "same", "empty", "long"]


def test_a_line_has_the_promised_form(decided):
    for row in decided:
        assert set(row) == {"id", "class", "quality", "confidence", "abstained", "micros"}
        assert row["class"] in CLASSES and isinstance(row["abstained"], bool) and isinstance(row["micros"], int)
        assert 0 <= row["confidence"] <= 1 and all(0 <= value <= 1 + 1e-6 for value in row["quality"].values())
        assert set(row["quality"]) == (CLASSES if row["id"] != "empty" else set())
    assert decided[5]["abstained"] and decided[5]["class"] == "general"
    assert {key: value for key, value in decided[3].items() if key != "micros"} == {key: value for key, value in decided[4].items() if key != "micros"}


def test_clear_prompts_get_their_class(decided):
    assert [row["class"] for row in decided if row["id"] in ("a", 7, "long")] == ["code", "translation", "summarization"]


def test_the_server_decides_the_same(decided, fleet):
    for row, line in zip(decided, LINES, strict=True):
        messages = line.get("messages") or [{"role": "user", "content": line["prompt"]}]
        served = fleet.explain(messages=messages, headers={"x-waypost-policy": "value_of_second=0"})
        if row["id"] == "empty":
            assert served["class"] == row["class"]
            continue
        assert {score["class"]: pytest.approx(score["quality"], abs=1e-5) for score in served["classes"] if score["class"] in CLASSES} == row["quality"]
        assert (served["confidence"], served["abstained"]) == (pytest.approx(row["confidence"], abs=1e-5), row["abstained"])


def test_one_thread_and_the_pipe_give_the_same(decided, tmp_path):
    text = "\n".join(json.dumps(line) for line in LINES[:2])
    done = command("decide", "--input", "-", "--output", "-", "--threads", "1", cwd=tmp_path, stdin=text)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["id"], row["class"], row["quality"]) for row in rows] == [(row["id"], row["class"], row["quality"]) for row in decided[:2]]


@pytest.mark.parametrize("bad", ["not json", '{"id":"b"}', '{"id":"b","prompt":"x","messages":[]}', '{"id":"b","messages":[]}', '{"id":"b","prompt":5}', '["x"]'])
def test_a_bad_line_is_told_and_the_others_are_decided(tmp_path, bad):
    good = json.dumps(LINES[0])
    done, rows = decide(tmp_path, f"{good}\n{bad}\n{good}\n")
    assert done.returncode == 1 and "1 of 3 lines" in done.stderr
    assert [set(row) >= {"class"} for row in rows] == [True, False, True]
    assert set(rows[1]) == {"id", "error"} and rows[1]["error"]
    assert rows[1]["id"] in ("b", 2)


def test_a_line_of_invalid_utf8_does_not_stop_the_others(tmp_path):
    good = json.dumps(LINES[0]).encode()
    (tmp_path / "in.jsonl").write_bytes(good + b'\n{"prompt":"\xff"}\n' + good + b"\n")
    done = command("decide", "--input", "in.jsonl", "--output", "out.jsonl", cwd=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert done.returncode == 1 and ["class" in row for row in rows] == [True, False, True]


def test_explain_as_json_is_the_decision(tmp_path, plain):
    done = command("explain", "--json", LINES[0]["prompt"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    decision, served = json.loads(done.stdout), plain.explain(LINES[0]["prompt"])
    assert set(decision) == set(served) and decision["class"] == served["class"] == "code"
    assert decision["deployment"] == LOCAL and decision["outcome"] is None


def test_explain_in_the_terminal_shows_every_part(tmp_path):
    done = command("explain", "--policy", "best", "-", cwd=tmp_path, stdin=LINES[0]["prompt"])
    assert done.returncode == 0, done.stderr
    assert ("similarity" in done.stdout) != ("decided early" in done.stdout)
    assert all(word in done.stdout for word in ["confidence", "quality", LOCAL, "another class", "another deployment", "µs", *CLASSES])


def test_a_wrong_command_line_is_exit_2(tmp_path):
    done = command("decide", "--input", "x", cwd=tmp_path)
    assert done.returncode == 2 and "--output" in done.stderr
    done = command("decide", "--input", "missing.jsonl", "--output", "-", cwd=tmp_path)
    assert done.returncode == 1 and "missing.jsonl" in done.stderr


def test_help_teaches(tmp_path):
    shown = command("--help", cwd=tmp_path).stdout
    assert all(word in shown for word in ("serve", "explain", "decide", "train", "eval", "models", "config", "--offline", "OPENAI_API_KEY"))
