"""A real llama.cpp server as a second upstream, chosen by class, beside the local model."""

import json

import openai
import pytest

from sse import chunks
from waypost import ANSWER_S, LOCAL, serving

LLAMA = "llama/smollm2"
CODE = "Write a Python function that merges two sorted lists into one, with type hints."
POEM = "Write a short poem about autumn leaves falling on a quiet street."

CONFIG = """
[policy]
value_of_second = 0.0

[[provider]]
name = "llama"
kind = "openai"
base_url = "{url}/v1"

[[deployment]]
name = "llama/smollm2"
provider = "llama"
model = "smollm2"
aliases = ["coder"]
classes = ["code"]
input = 0.0
output = 0.0
context_tokens = 2_000
max_output_tokens = 1_000
json_schema = true
"""


@pytest.fixture(scope="module")
def two(llama, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("two"), CONFIG.format(url=llama)) as server:
        yield server


def came_from(response, deployment):
    assert response.status_code == 200, response.text
    assert response.headers["x-waypost-deployment"] == deployment
    assert ("x-waypost-warning" in response.headers) == (deployment == LOCAL)


def test_a_code_prompt_goes_to_llama_cpp(two):
    response = two.chat(CODE)
    came_from(response, LLAMA)
    assert response.headers["x-waypost-class"] == "code"
    assert response.json()["choices"][0]["message"]["content"] and "timings" in response.json(), "llama.cpp's own field"
    outcome = two.decision(response)["outcome"]
    assert outcome["usage"]["completion_tokens"] == response.json()["usage"]["completion_tokens"] == 8


def test_another_prompt_stays_local(two):
    response = two.chat(POEM)
    came_from(response, LOCAL)
    assert response.headers["x-waypost-class"] != "code"


def test_the_local_model_is_on_standby_for_code(two):
    decision = two.explain(CODE)
    local = next(score for score in decision["deployments"] if score["deployment"] == LOCAL)
    assert decision["deployment"] == LLAMA and local["in_class"] is False


def test_streams_pass_through(two):
    response = two.chat(CODE, stream=True)
    came_from(response, LLAMA)
    found = chunks(response.content)
    assert found[-1]["choices"][0]["finish_reason"] == "length" and not any(chunk.get("usage") for chunk in found)
    assert two.decision(response)["outcome"]["usage"]["completion_tokens"] == 8
    *_, last = chunks(two.chat(CODE, stream=True, stream_options={"include_usage": True}).content)
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 8


def test_unknown_fields_do_no_harm_and_known_ones_arrive(two):
    assert two.chat(CODE, x_unknown={"deep": [1, None]}, metadata={"a": "b"}, store=False).status_code == 200
    grammar = two.chat("Is the sky blue?", model=LLAMA, grammar='root ::= "yes" | "no"').json()
    assert grammar["choices"][0]["message"]["content"] in ("yes", "no"), "llama.cpp's own field `grammar` took effect"


def test_a_response_schema_goes_where_it_is_understood(two):
    schema = {"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"], "additionalProperties": False}
    response = two.chat("Is seven prime? Answer as JSON.", model=LLAMA, max_tokens=60, temperature=0, response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})
    assert json.loads(response.json()["choices"][0]["message"]["content"])["n"] in (True, False)


@pytest.mark.parametrize("name", [LLAMA, "coder", "code"])
def test_deployment_alias_and_class_by_name(two, name):
    came_from(two.chat(POEM, model=name), LLAMA)


def test_the_class_header_overrides(two):
    response = two.chat(POEM, headers={"x-waypost-class": "code"})
    came_from(response, LLAMA)
    assert response.headers["x-waypost-class"] == "code" and two.decision(response)["basis"] == "class_named"
    came_from(two.chat(CODE, headers={"x-waypost-class": "creative"}), LOCAL)
    came_from(two.chat(CODE, model=LLAMA, headers={"x-waypost-class": "creative"}), LOCAL)


def test_an_error_of_llama_cpp_is_brought_into_shape(two):
    with openai.OpenAI(base_url=f"{two.url}/v1", api_key="none", timeout=ANSWER_S, max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=LLAMA, messages=[{"role": "user", "content": "hi"}], response_format={"type": "nonsense"})
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    assert isinstance(caught.value.code, str) and caught.value.body["message"]


def test_its_names_are_listed(two):
    assert {LLAMA, "coder"} <= {model["id"] for model in two.http.get("/v1/models").json()["data"]}
