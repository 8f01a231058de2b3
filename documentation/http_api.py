"""The HTTP API, a page for each of its themes, from `docs/openapi.json`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from documentation.markdown import code, head, table

Schema = dict[str, Any]

DOCUMENT: Schema = orjson.loads(
    (Path(__file__).parent.parent / "docs" / "openapi.json").read_bytes()
)

DIRECTORY = "reference/http"
OPENING = """
JSON in and out. Instants are RFC 3339, answered in UTC with milliseconds; durations are seconds
or ISO 8601. Unknown fields are refused. Lists come in pages: `limit`, `cursor`, `next_cursor`.
Refusals are [problems](../problems.md). The same contract as an OpenAPI 3.1 document: `GET
/openapi.json` of any handler; `GET /docs` shows it, from that handler alone.
[Objects](objects.md) has the fields of every body.
"""
LIMITS = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " items"),
    ("minProperties", "maxProperties", " entries"),
)


def pages() -> dict[str, str]:
    """Render a page for each tag, one for the call we make, one for the objects, and the index."""
    tags = [tag["name"] for tag in DOCUMENT["tags"]]
    made = {_file(tag["name"]): _tag(tag) for tag in DOCUMENT["tags"]}
    made["index.md"] = _index(tags)
    made["webhook.md"] = _webhooks()
    made["objects.md"] = _objects()
    return {f"{DIRECTORY}/{name}": text for name, text in made.items()}


def _file(tag: str) -> str:
    return f"{tag.replace(' ', '-')}.md"


def _operations(tag: str) -> Iterator[tuple[str, str, Schema]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield method.upper(), path, operation


def _index(tags: list[str]) -> str:
    rows = [
        (
            code(f"{method} {path}"),
            f"[{operation['summary']}]({_file(tag)}#{operation['operationId']})",
        )
        for tag in tags
        for method, path, operation in _operations(tag)
    ]
    return "\n".join([head("HTTP API", OPENING.strip()), table(("call", "does"), rows)])


def _tag(tag: Schema) -> str:
    parts = [head(tag["name"].capitalize(), tag["description"])]
    parts += [_operation(*operation) for operation in _operations(tag["name"])]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: Schema) -> str:
    parts = [
        f"## {operation['summary']} {{ #{operation['operationId']} }}\n",
        f"{code(f'{method} {path}')}\n",
        f"{operation['description']}\n",
    ]
    if parameters := operation.get("parameters"):
        rows = [_parameter(each) for each in parameters]
        parts.append(table(("parameter", "in", "type", "means"), rows))
    if body := operation.get("requestBody"):
        kinds = ", ".join(
            f"{_type(of['schema'])} as `{kind}`" for kind, of in body["content"].items()
        )
        parts.append(f"Takes {kinds}.\n")
    good = {status: said for status, said in operation["responses"].items() if status < "300"}
    rows = [_answer(status, answer) for status, answer in good.items()]
    parts.append(table(("status", "means", "body", "headers"), rows))
    if refusals := [
        f"{status} {_code_of(answer)}"
        for status, answer in operation["responses"].items()
        if status not in good and status.isdecimal()
    ]:
        parts.append(f"Refused by {', '.join(refusals)}, and [others](../problems.md).\n")
    return "\n".join(parts)


def _code_of(refusal: Schema) -> str:
    """The code that a refusal's example has, as a link to what it means."""
    [content] = refusal["content"].values()
    if "example" not in content or "code" not in content["example"]:
        return ""
    name = content["example"]["code"]
    return f"[{code(name)}](../problems.md#{name})"


def _parameter(parameter: Schema) -> tuple[str, ...]:
    star = " (required)" if parameter.get("required") and parameter["in"] != "path" else ""
    means = parameter.get("description", "")
    if "default" in parameter["schema"]:
        means += f" Unless said otherwise: {code(parameter['schema']['default'])}."
    return code(parameter["name"]) + star, parameter["in"], _type(parameter["schema"]), means


def _answer(status: str, answer: Schema) -> tuple[str, ...]:
    content = answer.get("content", {})
    kinds = [
        _type(of["schema"]) if "$ref" in of.get("schema", {}) else code(kind)
        for kind, of in content.items()
    ]
    headers = ", ".join(map(code, answer.get("headers", {})))
    return code(status), answer["description"], ", ".join(kinds), headers


def _webhooks() -> str:
    [call] = DOCUMENT["webhooks"].values()
    call = call["post"]
    [body] = call["requestBody"]["content"].values()
    rows = [(code(each["name"]), each["description"]) for each in call["parameters"]]
    return "\n".join(
        [
            head(call["summary"], call["description"]),
            table(("header", "means"), rows),
            "The body is the job's payload. Without one it is this event:\n",
            _json(body["example"]),
            "[Verify webhooks](../../how-to/verify-webhooks.md) says how to check the signature.\n",
        ]
    )


def _objects() -> str:
    parts = [head("Objects", "What travels in the bodies of requests and answers.")]
    for name, schema in DOCUMENT["components"]["schemas"].items():
        parts.append(f"## {name} {{ #{name.lower()} }}\n\n{schema.get('description', '')}\n")
        if "enum" in schema:
            parts.append(f"One of {', '.join(code(value) for value in schema['enum'])}.\n")
        if fields := schema.get("properties"):
            required = set(schema.get("required", ()))
            rows = [_field(field, of, required) for field, of in fields.items()]
            parts.append(table(("field", "type", "means"), rows))
        if examples := schema.get("examples"):
            parts.append(f"For example:\n\n{_json(examples[0])}")
    return "\n".join(parts)


def _field(name: str, schema: Schema, required: set[str]) -> tuple[str, ...]:
    star = " (required)" if name in required else ""
    means = schema.get("description", "")
    if schema.get("default") is not None:
        means += f" Unless said otherwise: {code(orjson.dumps(schema['default']).decode())}."
    return code(name) + star, _type(schema), means


def _type(schema: Schema) -> str:
    """Say what a value may be, with its limits; an object by its name, linked."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](objects.md#{name.lower()})"
    if choices := schema.get("anyOf"):
        return " or ".join(map(_type, choices))
    if "enum" in schema:
        return " or ".join(code(value) for value in schema["enum"])
    limits = "; ".join(filter(None, (_limit(schema, *limit) for limit in LIMITS)))
    limits = f" ({limits})" if limits else ""
    if schema.get("type") == "array":
        return f"list{limits} of {_type(schema.get('items', {}))}"
    if isinstance(of := schema.get("additionalProperties"), dict):
        return f"object{limits} of {_type(of)}"
    return (schema.get("format") or schema.get("type") or "any JSON") + limits


def _limit(schema: Schema, least: str, most: str, unit: str) -> str:
    if least in schema and most in schema:
        return f"{schema[least]:,} to {schema[most]:,}{unit}"
    if least in schema:
        return f"{schema[least]:,} or more{unit}"
    return f"{schema[most]:,}{unit} at most" if most in schema else ""


def _json(value: object) -> str:
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return f"```json\n{text}\n```\n"
