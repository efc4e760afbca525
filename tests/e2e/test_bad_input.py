"""Bad requests get the right status in OpenAI's shape, odd but valid ones an answer; nothing brings the server down."""

import socket

import pytest

from waypost import error_of

HI = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/explain"])
@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b"[]", "invalid_json", None),
        (b"null", "invalid_json", None),
        (b'{"messages":[{"role":"user","content":"hi"}]} trailing', "invalid_json", None),
        (b'{"messages":[{"role":"user","content":"\xff\xfe"}]}', "invalid_utf8", None),
        (b'{"messages":[{"role":"user","content":"\\ud800"}]}', "invalid_type", "messages[0].content"),
        (b"{}", "missing_required_parameter", "messages"),
        (b'{"messages":[]}', "empty_array", "messages"),
        (b'{"messages":"hi"}', "invalid_type", "messages"),
        (b'{"messages":null}', "invalid_type", "messages"),
        (b'{"messages":["hi"]}', "invalid_type", "messages[0]"),
        (b'{"messages":[["user","hi"]]}', "invalid_type", "messages[0]"),
        (b'{"messages":[{"content":"hi"}]}', "invalid_type", "messages[0]"),
        (b'{"messages":[{"role":"wizard","content":"hi"}]}', "invalid_type", "messages[0]"),
        (b'{"messages":[{"role":"user","content":"a"},{"role":"user","content":7}]}', "invalid_type", "messages[1].content"),
        (b'{"messages":[{"role":"user","content":[{"text":"no type"}]}]}', "invalid_type", "messages[0].content"),
        (b'{"messages":[{"role":"user","content":[["text","hi"]]}]}', "invalid_type", "messages[0].content"),
        (b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_type", "messages[0]"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_read_is_named(fleet, path, body, code, param):
    error = error_of(fleet.http.post(path, content=body, headers={"content-type": "application/json"}), 400, code)
    assert error["type"] == "invalid_request_error" and error["param"] == param


@pytest.mark.parametrize(
    ("field", "value"),
    [("model", 5), ("stream", "yes"), ("stream_options", 1), ("stream_options", [True]), ("max_tokens", "many"), ("max_tokens", 0), ("max_tokens", -1), ("max_tokens", 1.5), ("max_completion_tokens", 0), ("tools", {}), ("response_format", "json")],
)
def test_fields_of_the_wrong_type_are_named(fleet, field, value):
    error = error_of(fleet.http.post("/v1/chat/completions", json={"messages": HI, field: value}), 400)
    assert error["param"] == field and error["code"] in ("invalid_type", "invalid_value") and field in error["message"]


def test_an_unknown_class_header_is_named(fleet):
    error = error_of(fleet.chat(headers={"x-waypost-class": "wizardry"}), 400, "unknown_class")
    assert error["param"] == "x-waypost-class" and "code" in error["message"]
    error_of(fleet.chat(headers={"x-waypost-class": b"\xff"}), 400, "invalid_header")


def test_unknown_names_are_404(fleet):
    for body in ({"model": "gpt-none"}, {"model": ""}, {"model": "AUTO"}):
        assert error_of(fleet.http.post("/v1/chat/completions", json=body | {"messages": HI}), 404, "model_not_found")["param"] == "model"


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/embeddings", "/explain/", "/explain/a/b", "/v1/models/", "/v1/models/%ff", "/explain/%ff", "/v1/chat/completions/"])
def test_an_unknown_route_is_404_in_shape(fleet, path):
    error_of(fleet.http.get(path), 404)


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/chat/completions"), ("POST", "/v1/models"), ("DELETE", "/explain"), ("POST", "/explain/dec_1"), ("PUT", "/healthz")])
def test_a_wrong_method_is_405_in_shape(fleet, method, path):
    response = fleet.http.request(method, path)
    error_of(response, 405, "method_not_allowed")
    assert response.headers["allow"]


def test_a_body_over_the_limit_is_413(fleet):
    body = b'{"messages":[{"role":"user","content":"' + b"x" * 21_000_000 + b'"}]}'
    for path in ("/v1/chat/completions", "/explain"):
        assert "20971520" in error_of(fleet.http.post(path, content=body), 413, "request_too_large")["message"]
    error_of(fleet.http.post("/explain", content=(body[at : at + 1_000_000] for at in range(0, len(body), 1_000_000))), 413, "request_too_large")


def test_a_body_that_breaks_off_harms_nobody(fleet):
    host, port = fleet.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
    assert fleet.chat(model="fake/ok").status_code == 200


MANY = [{"role": "user" if at % 2 == 0 else "assistant", "content": f"turn {at}"} for at in range(199)] + [{"role": "user", "content": "And now?"}]
PARTS = [{"type": "text", "text": "Which language is this?"}, {"type": "text", "text": "Der Zug ist spät."}]
TOOL = [
    {"role": "user", "content": "What is the weather?"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "rain"},
]


@pytest.mark.parametrize(
    ("messages", "features"),
    [
        (MANY, {"messages": 200, "user_turns": 101}),
        ([{"role": "user", "content": PARTS}], {"messages": 1, "images": 0}),
        ([{"role": "user", "content": ""}], {"messages": 1}),
        ([{"role": "user", "content": " \n\t "}], {"messages": 1}),
        ([{"role": "user", "content": []}], {"messages": 1}),
        ([{"role": "user", "content": "\u0000\u200b\ufeff"}], {"messages": 1}),
        ([{"role": "user", "content": "🦀" * 100}], {"messages": 1}),
        ([{"role": "system", "content": "You are terse."}], {"user_turns": 0}),
        ([{"role": "developer", "content": "You are terse."}, *HI], {"messages": 2, "user_turns": 1}),
        (TOOL, {"messages": 3, "user_turns": 1}),
    ],
    ids=["200 messages", "parts", "empty", "blank", "no parts", "invisible", "emoji", "system only", "developer", "tool result"],
)
@pytest.mark.parametrize("server", ["plain", "fleet"])
def test_odd_conversations_are_answered(request, server, messages, features):
    server = request.getfixturevalue(server)
    response = server.chat(messages=messages, max_tokens=2)
    assert response.status_code == 200, response.text
    read = server.decision(response)["features"]
    assert {key: read[key] for key in features} == features


def test_text_of_no_content_goes_to_the_default_class(fleet):
    decision = fleet.explain("")
    assert (decision["basis"], decision["class"], decision["confidence"]) == ("no_text", "general", None)


def test_images_go_only_to_who_can_see(plain):
    image = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    assert "vision" in error_of(plain.chat(messages=[{"role": "user", "content": image}]), 400, "no_deployment_fits")["message"]
