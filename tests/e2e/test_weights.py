"""Weights come from the hub, verified and whole or not at all; --offline names what is missing; damage is found."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from hub import Hub
from waypost import BIN, command, environment, serving

ENCODER = "all-minilm-l6-v2"


@pytest.fixture(scope="module")
def files(plain, tmp_path_factory):
    """The encoder's files out of the cache, which `plain` has filled."""
    rows = json.loads(command("models", "list", "--json", cwd=tmp_path_factory.mktemp("list")).stdout)
    folder = Path(next(row["folder"] for row in rows if row["name"] == ENCODER))
    return {name: (folder / name).read_bytes() for name in ("config.json", "tokenizer.json", "model.safetensors")}


@pytest.fixture
def hub(files):
    hub = Hub(files)
    yield hub
    hub.stop()


def only_the_hub(hub, cache):
    """An environment in which pip is not to be found, so that nothing but the hub is asked."""
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache / "hf"), "WAYPOST_CACHE": str(cache), "PATH": "/nowhere"}


def kept(cache):
    """Files of models in the cache: path -> SHA-256."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (cache / "models").rglob("*") if path.is_file()}


def hashes(files):
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_list_names_every_manifest(plain, tmp_path):
    done = command("models", "list", "--json", cwd=tmp_path)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 0
    assert {ENCODER, "smollm2-135m-instruct", "bge-small-en-v1.5", "paraphrase-multilingual-minilm-l12-v2"} <= set(rows)
    assert rows[ENCODER]["state"] == rows["smollm2-135m-instruct"]["state"] == "ready"
    assert all(row["licence"] and row["repository"].count("/") == 1 and row["kind"] in ("encoder", "chat") for row in rows.values())


def test_verify_is_content_with_what_was_fetched(plain, tmp_path):
    done = command("models", "verify", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [("serve", "--listen", "127.0.0.1:0"), ("explain", "hi"), ("models", "pull", ENCODER)])
def test_offline_names_what_is_missing_and_where_to_put_it(tmp_path, hub, files, arguments):
    done = command("--offline", *arguments, cwd=tmp_path, **only_the_hub(hub, tmp_path / "cache"))
    assert done.returncode == 1 and hub.asked == []
    for name, sha256 in hashes(files).items():
        assert str(tmp_path / "cache" / "models" / ENCODER / name) in done.stderr and sha256 in done.stderr


def test_pull_takes_the_files_from_the_hub_and_damage_is_found(tmp_path, hub, files):
    cache = tmp_path / "cache"
    done = command("models", "pull", ENCODER, cwd=tmp_path, **only_the_hub(hub, cache))
    assert done.returncode == 0, done.stderr
    assert kept(cache) == hashes(files) and not list(cache.rglob("*.part"))
    assert all("/sentence-transformers/all-MiniLM-L6-v2/resolve/main/" in path for path in hub.asked)
    asked = len(hub.asked)
    assert command("models", "pull", ENCODER, cwd=tmp_path, **only_the_hub(hub, cache)).returncode == 0
    assert len(hub.asked) == asked, "what is there is not fetched again"

    damaged = cache / "models" / ENCODER / "config.json"
    damaged.write_bytes(files["config.json"].replace(b"384", b"385"))
    done = command("models", "verify", "--json", cwd=tmp_path, **only_the_hub(hub, cache))
    (row,) = json.loads(done.stdout)
    assert done.returncode == 1 and (row["state"], row["files"]) == ("damaged", ["config.json"])
    damaged.unlink()
    done = command("models", "verify", ENCODER, cwd=tmp_path, **only_the_hub(hub, cache))
    assert done.returncode == 1 and "config.json" in done.stdout and ENCODER in done.stderr


@pytest.mark.parametrize("damage", [lambda data: data[:-100] + b"x" + data[-99:], lambda data: data[: len(data) // 2], lambda data: data + b"\n"], ids=["a byte", "half", "a byte more"])
def test_a_damaged_file_is_refused_and_not_kept(tmp_path, hub, files, damage):
    cache = tmp_path / "cache"
    hub.files["tokenizer.json"] = damage(files["tokenizer.json"])
    done = command("models", "pull", ENCODER, cwd=tmp_path, **only_the_hub(hub, cache))
    assert done.returncode == 1
    assert hashes(files)["tokenizer.json"] in done.stderr and hashes(hub.files)["tokenizer.json"] in done.stderr
    assert kept(cache).items() <= hashes(files).items() and "tokenizer.json" not in kept(cache)
    hub.files, hub.etag = dict(files), 1
    done = command("models", "pull", ENCODER, cwd=tmp_path, **only_the_hub(hub, cache))
    assert done.returncode == 0 and kept(cache) == hashes(files), done.stderr


def test_an_interrupted_pull_leaves_nothing_half_written_and_goes_on(tmp_path, hub, files):
    cache = tmp_path / "cache"
    hub.stalls_at = "model.safetensors"
    process = subprocess.Popen([BIN, "models", "pull", ENCODER], cwd=tmp_path, env=environment(**only_the_hub(hub, cache)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert hub.stalled.wait(120)
    finally:
        process.kill()
        process.wait()
    assert kept(cache).items() <= hashes(files).items() and "model.safetensors" not in kept(cache)
    hub.stalls_at = None
    hub.go_on.set()
    done = command("models", "pull", ENCODER, cwd=tmp_path, **only_the_hub(hub, cache))
    assert done.returncode == 0 and kept(cache) == hashes(files), done.stderr
    assert not (cache / "hub").exists(), "the hub's own copy would double the size"


def test_two_pulls_at_once_do_each_other_no_harm(tmp_path, hub, files):
    cache = tmp_path / "cache"
    both = [subprocess.Popen([BIN, "models", "pull", ENCODER], cwd=tmp_path, env=environment(**only_the_hub(hub, cache)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert kept(cache) == hashes(files)
    assert [process.returncode for process in both] == [0, 0], said


def test_any_encoder_on_the_hub_can_be_named_and_is_pinned(tmp_path, hub, files):
    cache = tmp_path / "cache"
    done = command("models", "pull", "someone/their-bert", cwd=tmp_path, **only_the_hub(hub, cache))
    assert done.returncode == 0, done.stderr
    sums = kept(cache)
    sums.pop("SHA256SUMS")
    assert sums == hashes(files) and all("/someone/their-bert/resolve/main/" in path for path in hub.asked)
    (cache / "models" / "someone--their-bert" / "config.json").write_bytes(b"{}")
    assert command("models", "verify", "someone/their-bert", cwd=tmp_path, **only_the_hub(hub, cache)).returncode == 1


def test_a_hub_that_has_nothing_is_said(tmp_path, hub):
    hub.files.clear()
    done = command("models", "pull", ENCODER, cwd=tmp_path, **only_the_hub(hub, tmp_path / "cache"))
    assert done.returncode == 1 and "404" in done.stderr and "sentence-transformers/all-MiniLM-L6-v2" in done.stderr
    done = command("models", "pull", "no-such-model", cwd=tmp_path, **only_the_hub(hub, tmp_path / "cache"))
    assert done.returncode == 1 and ENCODER in done.stderr


def test_a_filled_cache_serves_offline(tmp_path, files, upstream, refusing, hub):
    """Only the encoder is needed where no local model serves."""
    from conftest import fleet_config

    cache = tmp_path / "cache" / "models" / ENCODER
    cache.mkdir(parents=True)
    for name, data in files.items():
        (cache / name).write_bytes(data)
    with serving(tmp_path, fleet_config(upstream.url, refusing), FAKE_KEY="k", **only_the_hub(hub, tmp_path / "cache")) as server:
        assert server.chat().status_code == 200 and hub.asked == []
    shutil.rmtree(cache)
