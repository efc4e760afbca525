"""Reads server-sent events as a client must: strictly."""

import json


def events(body):
    """The data of each event, in order; comments are left out. Everything before the last blank line must be well formed."""
    text = body.decode("utf-8").replace("\r\n", "\n")
    assert text.endswith("\n\n"), text[-200:]
    found = []
    for block in text[:-2].split("\n\n"):
        lines = [line for line in block.split("\n") if not line.startswith(":")]
        assert all(line.startswith("data: ") for line in lines), block
        if lines:
            found.append("\n".join(line.removeprefix("data: ") for line in lines))
    return found


def chunks(body):
    """The chunks of a complete stream, which ends with exactly one [DONE]."""
    found = events(body)
    assert found[-1] == "[DONE]" and found.count("[DONE]") == 1, found[-3:]
    return [json.loads(data) for data in found[:-1]]
