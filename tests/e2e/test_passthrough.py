"""Bytes that Waypost does not read pass untouched in both directions; keys and prompts stay where they belong."""

import json

import pytest

from conftest import KEY
from fakes import DONE, ODD, ODD_EVENTS, WHOLE
from waypost import counts

CLIENT_KEY = "client-secret-0815"
PROMPT = "a very private prompt 1123581321"

# No whitespace between the top-level fields, so that nothing may differ but the model's name.
BODY = (
    b'{"zeta":1.50,"model":"%s","x_exp":1e3,"x_big":123456789012345678901234567890,"x_spaced":{ "a" : [ 1 ,2 ] },'
    b'"messages":[{"role":"user","content":"caf\\u00e9 \xc3\xa9 \\ud83d\\ude00","cache_control":{"type":"ephemeral"}}],'
    b'"x_null":null,"stream":%s,"stream_options":{"include_usage":true,"x":-0.0},"temperature":0.70,"logit_bias":{"50256":-100}}'
)


@pytest.mark.parametrize("stream", [b"false", b"true"])
def test_a_request_reaches_the_upstream_byte_for_byte(fleet, seen, stream):
    response = fleet.http.post("/v1/chat/completions", content=BODY % (b"fake/ok", stream))
    assert response.status_code == 200
    ((path, headers, raw),) = seen
    assert path == "/v1/chat/completions" and headers["content-type"] == "application/json"
    assert raw == BODY % (b"ok", stream)


def test_a_request_keeps_its_bytes_when_usage_is_asked_for(fleet, seen):
    body = BODY.replace(b',"stream_options":{"include_usage":true,"x":-0.0}', b"")
    fleet.http.post("/v1/chat/completions", content=body % (b"fake/ok", b"true"))
    added = b',"stream_options":{"include_usage":true}'
    assert added in seen[0][2] and seen[0][2].replace(added, b"") == body % (b"ok", b"true")


def test_a_fallback_gets_the_same_bytes(fleet, seen):
    fleet.http.post("/v1/chat/completions", content=BODY % (b"try-error500-5", b"false"))
    assert [raw for _, _, raw in seen] == [BODY % (b"error500", b"false"), BODY % (b"ok", b"false")]


def test_a_request_without_a_model_gets_one(fleet, seen):
    response = fleet.http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]})
    assert response.status_code == 200 and json.loads(seen[0][2])["model"] == "ok"


def test_an_answer_reaches_the_client_byte_for_byte(fleet):
    response = fleet.chat(model="fake/ok")
    assert response.content == WHOLE
    outcome = fleet.decision(response)["outcome"]
    assert counts(outcome) == {"prompt_tokens": 7, "cached_tokens": 2, "completion_tokens": 3} and outcome["upstream_request_id"] == "up-req-1"


# The same at every depth of a request; nothing stands between the fields at the top, where `model` is put in.
ODD_BODY = (
    b'{"x_first":{ "z":[ 1.50 , 1E3,-0.0,12345678901234567890123 ],"a" :{"deep":{ "b":null,"a":"\\u0041\\/\\ud83d\\ude00\xf0\x9f\x98\x80"}}},"x_tools":[ {"x_kind":1.0e-06,'
    b'"type":"function","function":{"parameters" : { "x_z":1,"type":"object" ,"properties":{"b":{"minimum":1.0},"a":{}} },"name":"f"} } ],"model":"%s",'
    b'"messages":[ {"x_new":{"z":1,"a":2 },"content":[ {"x_twice":1,"x_twice":2,"text":"caf\\u00e9  \xc3\xa9","type":"text" } ],\n\t"role":"user" } ],"stream":%s,"stream_options":{ "include_usage":true }}'
)


def test_what_is_spelled_oddly_stays_so_in_both_directions(fleet, seen):
    response = fleet.http.post("/v1/chat/completions", content=ODD_BODY % (b"fake/odd", b"false"))
    assert (response.status_code, response.content) == (200, ODD)
    assert seen[0][2] == ODD_BODY % (b"odd", b"false")
    assert fleet.decision(response)["outcome"]["usage"]["completion_tokens"] == 3


def test_what_is_spelled_oddly_stays_so_in_streams(fleet, seen):
    response = fleet.http.post("/v1/chat/completions", content=ODD_BODY % (b"fake/odd", b"true"))
    assert (response.status_code, response.content) == (200, b"".join(ODD_EVENTS) + DONE)
    assert seen[0][2] == ODD_BODY % (b"odd", b"true")
    outcome = fleet.decision(response)["outcome"]
    assert (outcome["end"], outcome["usage"]["completion_tokens"]) == ("complete", 3)


def test_aliases_and_deployments_are_named_alike(fleet, seen):
    for name in ("fake/ok", "alias-ok"):
        response = fleet.chat(model=name)
        assert response.headers["x-waypost-deployment"] == "fake/ok"
        assert fleet.decision(response)["basis"] == "deployment_named"
    assert len(seen) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_only_the_configured_key_goes_upstream(fleet, seen, stream):
    own = {"authorization": f"Bearer {CLIENT_KEY}", "x-api-key": CLIENT_KEY, "x-goog-api-key": CLIENT_KEY, "cookie": f"k={CLIENT_KEY}"}
    for model in ("fake/ok", "keyless/ok"):
        assert fleet.chat(model=model, headers=own, stream=stream).status_code == 200
    (_, with_key, _), (_, without_key, _) = [(path, {name.lower(): value for name, value in headers.items()}, raw) for path, headers, raw in seen]
    assert with_key["authorization"] == f"Bearer {KEY}" and "authorization" not in without_key
    assert CLIENT_KEY not in str(seen)


@pytest.mark.parametrize("model", ["fake/ok", "try-unauthorized", "fake/unauthorized", "fake/refuse", "fake/error-event", "fake/breaks", "fake/html", "auto", "no-such-model"])
@pytest.mark.parametrize("stream", [False, True])
def test_neither_keys_nor_prompts_are_logged_or_told(fleet, model, stream):
    """Among these are upstreams that repeat the key and the prompt in their errors."""
    if model == "fake/error-event" and not stream:
        model = "fake/error500"
    before = len(fleet.log())
    response = fleet.chat(PROMPT, model=model, stream=stream, headers={"authorization": f"Bearer {CLIENT_KEY}"})
    assert KEY not in response.text
    if decision := response.headers.get("x-waypost-decision"):
        assert decision in fleet.log(), "the request has its line in the log"
        kept = fleet.http.get(f"/explain/{decision}").text
        assert KEY not in kept and PROMPT not in kept
    for secret in (KEY, CLIENT_KEY, PROMPT):
        assert secret not in fleet.log()[before:]


def test_malformed_bodies_are_not_logged(fleet):
    before = len(fleet.log())
    fleet.http.post("/v1/chat/completions", content=b'{"messages": "' + PROMPT.encode() + b'", }')
    fleet.http.post("/v1/chat/completions", json={"messages": [{"role": PROMPT, "content": PROMPT}], "stream": PROMPT})
    assert "request refused" in fleet.log()[before:] and PROMPT not in fleet.log()[before:]
