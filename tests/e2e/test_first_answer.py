"""With no key and no configuration Waypost answers, streams, names its decision, and describes itself."""

import openapi_spec_validator
import pytest

from sse import chunks
from waypost import LOCAL, error_of

CLASSES = {"basic", "general", "code", "reasoning", "creative", "summarization", "translation", "extraction", "tools", "advanced"}
STREAM = {"stream": True, "max_tokens": 6}


def test_a_chat_answer_in_openais_shape(plain):
    response = plain.chat("Name three uses of a brick.")
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["object"] == "chat.completion" and body["id"] and body["created"] > 0 and body["model"]
    (choice,) = body["choices"]
    assert choice["index"] == 0 and choice["finish_reason"] in ("stop", "length") and choice["logprobs"] is None
    assert choice["message"]["role"] == "assistant" and choice["message"]["content"] and choice["message"]["refusal"] is None
    usage = body["usage"]
    assert 0 < usage["completion_tokens"] <= 8 < usage["prompt_tokens"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_the_headers_name_the_decision(plain):
    response = plain.chat()
    assert response.headers["x-waypost-class"] in CLASSES
    assert response.headers["x-waypost-deployment"] == LOCAL
    assert response.headers["x-waypost-decision"].startswith("dec_")
    assert response.headers["x-request-id"]
    assert "demonstration" in response.headers["x-waypost-warning"]
    assert plain.chat().headers["x-waypost-decision"] != response.headers["x-waypost-decision"]


def test_the_callers_request_id_comes_back(plain):
    assert plain.http.get("/healthz", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("stream", [False, True])
def test_explain_knows_that_very_request(plain, stream):
    response = plain.chat("Is seven a prime number?", stream=stream)
    decision = plain.decision(response)
    assert decision["id"] == response.headers["x-waypost-decision"]
    assert decision["class"] == response.headers["x-waypost-class"]
    assert decision["deployment"] == decision["outcome"]["deployment"] == LOCAL
    assert decision["features"]["stream"] is stream
    outcome = decision["outcome"]
    assert (outcome["end"], outcome["status"], outcome["cost"]) == ("complete", 200, 0)
    assert [(attempt["deployment"], attempt["status"], attempt["error"]) for attempt in outcome["attempts"]] == [(LOCAL, 200, None)]
    assert 0 < outcome["ttft_ms"] <= outcome["duration_ms"]
    assert 0 < outcome["usage"]["completion_tokens"] <= 8 and outcome["usage"]["prompt_tokens"] > 0
    if not stream:
        usage = response.json()["usage"]
        assert {key: outcome["usage"][key] for key in ("prompt_tokens", "completion_tokens")} == {key: usage[key] for key in ("prompt_tokens", "completion_tokens")}


def test_a_stream_is_proper_server_sent_events(plain):
    response = plain.chat(**STREAM)
    assert response.headers["content-type"].startswith("text/event-stream")
    found = chunks(response.content)
    assert {chunk["object"] for chunk in found} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in found}) == 1
    choices = [choice for chunk in found for choice in chunk["choices"]]
    assert choices[0]["delta"]["role"] == "assistant"
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    assert choices[-1]["finish_reason"] in ("stop", "length")
    assert any(choice["delta"].get("content") for choice in choices)


def test_usage_is_streamed_only_when_asked_for(plain):
    assert all(chunk.get("usage") is None and chunk["choices"] for chunk in chunks(plain.chat(**STREAM).content))
    assert all(chunk.get("usage") is None for chunk in chunks(plain.chat(**STREAM, stream_options={"include_usage": False}).content))
    *others, last = chunks(plain.chat(**STREAM, stream_options={"include_usage": True}).content)
    assert last["choices"] == [] and all(chunk["usage"] is None for chunk in others)
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + last["usage"]["completion_tokens"] > 0


def test_a_stream_says_the_same_as_a_whole_answer(plain):
    settings = {"seed": 7, "temperature": 0.8, "max_tokens": 12}
    whole = plain.chat("Tell me about rivers.", **settings).json()
    streamed = chunks(plain.chat("Tell me about rivers.", stream=True, **settings).content)
    assert "".join(choice["delta"].get("content") or "" for chunk in streamed for choice in chunk["choices"]) == whole["choices"][0]["message"]["content"]


def test_models_lists_every_name_that_model_takes(plain):
    listed = plain.http.get("/v1/models").json()
    assert listed["object"] == "list"
    assert {"auto", LOCAL} | CLASSES == {model["id"] for model in listed["data"]}
    for model in listed["data"]:
        assert plain.http.get(f"/v1/models/{model['id']}").json() == model
        assert plain.chat(model=model["id"], max_tokens=1).status_code == 200
    error_of(plain.http.get("/v1/models/none"), 404, "model_not_found")


def test_health_and_readiness(plain):
    health = plain.http.get("/healthz")
    assert health.status_code == 200 and health.json()["status"] == "ok"
    ready = plain.http.get("/readyz")
    assert ready.status_code == 200 and ready.json()["deployments"] == 1 and ready.json()["encoder"] == "all-minilm-l6-v2"


def test_the_openapi_document_is_valid_and_complete(plain):
    document = plain.http.get("/openapi.json").json()
    openapi_spec_validator.validate(document)
    assert document["openapi"].startswith("3.1")
    methods = {path: set(item) for path, item in document["paths"].items()}
    assert methods == {
        "/v1/chat/completions": {"post"},
        "/v1/models": {"get"},
        "/v1/models/{id}": {"get"},
        "/v1/feedback": {"post"},
        "/admin/deployments": {"get"},
        "/admin/exemplars": {"get", "post", "delete"},
        "/admin/exemplars/{id}": {"delete"},
        "/admin/exemplars/export": {"get"},
        "/admin/exemplars/candidates": {"get"},
        "/admin/exemplars/candidates/{id}": {"post"},
        "/admin/retrain": {"get", "post", "delete"},
        "/admin/models": {"get"},
        "/admin/models/{version}/activate": {"post"},
        "/admin/models/rollback": {"post"},
        "/explain": {"get", "post"},
        "/explain/{id}": {"get"},
        "/healthz": {"get"},
        "/readyz": {"get"},
        "/openapi.json": {"get"},
    }


def test_the_openapi_document_tells_where_parameters_stand(plain):
    paging = plain.http.get("/openapi.json").json()["paths"]["/explain"]["get"]["parameters"]
    assert {item["name"]: (item["in"], item.get("required", False)) for item in paging} == {"limit": ("query", False), "before": ("query", False)}
