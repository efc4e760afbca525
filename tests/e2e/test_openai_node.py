"""openai-node works against Waypost: chat, stream, models, error classes."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from waypost import LOCAL

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def said(plain, node_folder):
    """What client.mjs saw."""
    shutil.copy(HERE / "client.mjs", node_folder)
    node = subprocess.run(["node", "client.mjs", plain.url], cwd=node_folder, capture_output=True, text=True, timeout=300)
    assert node.returncode == 0, node.stderr
    return json.loads(node.stdout)


def test_chat(said):
    assert said["chat"]["object"] == "chat.completion" and said["chat"]["choices"][0]["message"]["content"]
    assert said["deployment"] == LOCAL and said["requestID"]


def test_stream(said):
    *others, last = said["chunks"]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in others)
    assert others[-1]["choices"][0]["finish_reason"] in ("stop", "length") and 0 < last["usage"]["completion_tokens"] <= 6


def test_models(said):
    assert {"auto", "code", LOCAL} <= set(said["models"]) and said["model"]["id"] == LOCAL


def test_error_classes(said):
    def facts(name):
        return tuple(said[name][key] for key in ("name", "status", "code", "param", "type"))

    assert facts("unknown") == ("NotFoundError", 404, "model_not_found", "model", "invalid_request_error")
    assert facts("empty") == ("BadRequestError", 400, "empty_array", "messages", "invalid_request_error")
    assert facts("unknownModel")[:3] == ("NotFoundError", 404, "model_not_found")
    assert all(said[name]["requestID"] for name in ("unknown", "empty", "unknownModel"))
