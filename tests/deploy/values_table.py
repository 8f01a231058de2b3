"""The table of values in the chart's README, from what the schema says of each and its default."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from tests.deploy.render import CHART, Object

MARK = "<!-- values: made by `make docs` from values.schema.json and values.yaml -->\n"


def leaves(schema: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    """Each value that the schema describes, by its path; a map of free names is one value."""
    for name, each in schema["properties"].items():
        if "properties" in each and name != "settings":
            yield from leaves(each, f"{path}{name}.")
        elif name != "global":
            yield f"{path}{name}", each


@cache
def _defaults() -> Any:
    return yaml.safe_load((CHART / "values.yaml").read_text())


def default_of(path: str) -> Any:
    """What values.yaml says at a path; KeyError where it says nothing."""
    value = _defaults()
    for name in path.split("."):
        value = value[name]
    return value


def schema() -> Object:
    """values.schema.json."""
    read: Object = json.loads((CHART / "values.schema.json").read_text())
    return read


def readme() -> str:
    """The README with the table as it should be."""
    head, mark, _ = (CHART / "README.md").read_text().partition(MARK)
    assert mark, "the README has no place for the table"
    rows = ["| value | default | is |", "|---|---|---|"]
    for path, each in leaves(schema()):
        default = json.dumps(default_of(path))
        rows.append(f"| `{path}` | `{default}` | {each['description']} |")
    return head + mark + "\n" + "\n".join(rows) + "\n"
