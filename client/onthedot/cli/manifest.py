"""The file that `onthedot apply` takes: jobs by their keys, under a namespace of their own."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
import yaml

from onthedot.cli import values
from onthedot.options import KeyedJobOptions

NAMESPACE_LABEL = "onthedot/namespace"
_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,63}")
_KEY = re.compile(r"[A-Za-z0-9._:@~+=-]{1,255}")
_KNOWN = {"namespace", "defaults", "jobs"}
_WHEN = ("cron", "every", "rrule", "run_at")
_REMEDIES = {
    "key": "the job's place is its key",
    "on_conflict": "a job that is there is changed where it differs",
    "delay": "it would count from each apply; say run_at",
}
_FIELDS = {"url", *KeyedJobOptions.__optional_keys__} - _REMEDIES.keys()
_DURATIONS = ("every", "jitter", "timeout", "max_lateness")


@dataclass(frozen=True)
class Manifest:
    """Jobs as they should be: by key, as `PUT /jobs/by-key` takes them, their label included."""

    namespace: str
    jobs: dict[str, dict[str, Any]]


def read(path: Path) -> Manifest:
    """Read a manifest; a usage error says what is wrong, and where."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            document = json.loads(text, object_pairs_hook=_once_each)
        else:
            document = yaml.load(text, Loader=_Loader)  # noqa: S506  # a safe one
        return parse(values.sendable(document))
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, OverflowError, RecursionError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"{path}: {error}") from None


def parse(document: Any) -> Manifest:
    """Make a manifest of a parsed document; raises ValueError, which names the place."""
    if not isinstance(document, dict):
        raise ValueError("must be a mapping with namespace and jobs")  # noqa: TRY004
    unknown = set(document) - _KNOWN
    if unknown:
        raise ValueError(f"{unknown.pop()!r} is unknown; there are {', '.join(sorted(_KNOWN))}")
    namespace = document.get("namespace")
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
        raise ValueError("namespace: must be 1 to 63 letters, digits, dots and dashes")
    defaults = _known(_mapping(document.get("defaults") or {}, "defaults"), "defaults")
    jobs = _mapping(document.get("jobs") or {}, "jobs")
    return Manifest(
        namespace,
        {
            _key(key): _job(namespace, defaults, _mapping(job, f"jobs.{key}"), f"jobs.{key}")
            for key, job in jobs.items()
        },
    )


def _known(job: dict[str, Any], place: str) -> dict[str, Any]:
    """Answer the fields of a job, all of which may be said in a file."""
    for name in job:
        if name in _REMEDIES:
            raise ValueError(f"{place}.{name}: leave it out; {_REMEDIES[name]}")
        if name not in _FIELDS:
            raise ValueError(f"{place}.{name}: is unknown; there are {', '.join(sorted(_FIELDS))}")
    return job


def _job(
    namespace: str, defaults: dict[str, Any], own: dict[str, Any], place: str
) -> dict[str, Any]:
    job = defaults | _known(own, place)
    if not isinstance(job.get("url"), str):
        raise ValueError(f"{place}.url: must say what to call")  # noqa: TRY004
    if all(job.get(name) is None for name in _WHEN):
        raise ValueError(f"{place}: must say when, by one of {', '.join(_WHEN)}")
    _mapping(job.get("dst") or {}, f"{place}.dst")
    if "COUNT=" in str(job.get("rrule", "")).upper():
        raise ValueError(f"{place}.rrule: say max_runs in place of COUNT, which cannot be compared")
    labels = _mapping(job.get("labels") or {}, f"{place}.labels")
    if NAMESPACE_LABEL in labels:
        raise ValueError(f"{place}.labels.{NAMESPACE_LABEL}: is set by the namespace")
    for name in _DURATIONS:
        if isinstance(job.get(name), str):
            try:
                job[name] = values.duration(job[name])
            except typer.BadParameter as error:
                raise ValueError(f"{place}.{name}: {error}") from None
    job["labels"] = labels | {NAMESPACE_LABEL: namespace}
    return _on_its_clock(job, own, place)


def _on_its_clock(job: dict[str, Any], own: dict[str, Any], place: str) -> dict[str, Any]:
    """Say a local `run_at` as the instant that it is; drop a default zone that nothing goes by."""
    if any(job.get(name) is not None for name in ("cron", "rrule")):
        return job
    local = _local(job.get("run_at"))
    if local is None:
        without = {name for name in ("timezone", "dst") if name not in own}
        return {name: value for name, value in job.items() if name not in without}
    try:
        zone = ZoneInfo(job.get("timezone") or "")
    except (ValueError, OSError, TypeError, ZoneInfoNotFoundError):
        return job  # the server says what is wrong with it
    fold = (job.get("dst") or {}).get("fold") == "second"
    try:
        run_at = local.replace(tzinfo=zone, fold=fold).astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{place}.run_at: is no instant; choose another year") from None
    if run_at.astimezone(zone).replace(tzinfo=None) != local:
        raise ValueError(f"{place}.run_at: the clocks skip that local time; choose another")
    rest = {name: value for name, value in job.items() if name not in {"timezone", "dst"}}
    return rest | {"run_at": run_at}


def _local(run_at: object) -> datetime | None:
    """Answer a local time; None: it says its offset, or is none."""
    try:
        read = datetime.fromisoformat(run_at) if isinstance(run_at, str) else None
    except ValueError:
        return None
    return read if read is not None and read.tzinfo is None else None


def _key(key: object) -> str:
    if not isinstance(key, str) or not _KEY.fullmatch(key) or key in {".", ".."}:
        raise ValueError(f"jobs.{key}: a key has 1 to 255 letters, digits and any of ._:@~+=-")
    return key


def _mapping(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: must be a mapping")  # noqa: TRY004
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        twice = next(name for name, _ in pairs if [each for each, _ in pairs].count(name) > 1)
        raise ValueError(f"{twice!r} comes twice")
    return read


class _Loader(yaml.SafeLoader):
    """YAML as JSON means it: `no`, `12:30` and `2031-01-01` are texts; no key comes twice."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  # the name and form that PyYAML has

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that comes twice, of which YAML would take the last."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} comes twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


for _tag, _form, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"-?(?:0|[1-9][0-9]*)", list("-0123456789")),
    ("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", list("-0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_form})\Z"), _first
    )
