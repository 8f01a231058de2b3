"""Which jobs are on a page of a list, and where in it each of them stands."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb
from sqlalchemy import ColumnElement, func, literal_column, select

from handler_service.job_list_selects import (
    ENDED,
    FEW,
    FILTERS,
    MANY,
    Shape,
    labelled,
    sieve,
    sort,
    walk,
)
from handler_service.read_parts import WINDOWS, lent, ours, windows
from handler_service.schemas.instants import from_microseconds
from shared.database import Connection, Pool, Read
from shared.runs.model import job_labels, jobs

_one: ColumnElement[int] = literal_column("1")


def _count(statement: Any) -> Read:
    some = statement.limit(MANY + 1).subquery()
    return Read(select(func.count()).select_from(some), depends_on_values=True)


# How many jobs a filter leaves, up to one more than many.
_COUNTS = {
    "user": _count(select(_one).select_from(jobs).where(ours, FILTERS["user"])),
    "label": _count(select(_one).select_from(job_labels).where(labelled)),
    "host": _count(select(_one).select_from(jobs).where(ours, FILTERS["host"])),
    "all": _count(select(_one).select_from(jobs).where(ours)),
}


class Place(NamedTuple):
    """Where a job stands in a list."""

    job_id: int
    instant: int | None  # epoch microseconds; None: never, it is held by a pause
    payload_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which jobs: `most` of those that fit every field and come after a place in the list."""

    application_id: int
    status: str | None = None
    user: str | None = None
    key: str | None = None
    labels: Sequence[tuple[str, str]] = ()
    host: str | None = None  # in lower case
    instant_from: datetime | None = None
    instant_to: datetime | None = None
    after: Place | None = None
    is_ascending: bool = False
    most: int = 50


async def places(source: Pool | Connection, wanted: Wanted) -> list[Place]:
    """Answer the places of jobs, in order."""
    async with lent(source) as connection:
        way, values = await plan(connection, wanted)
        if wanted.status not in ENDED or wanted.is_ascending or way is sort:
            rows = await way(_shape(wanted, values)).rows(connection, **values)
            return [Place(*row) for row in rows]
        latest = wanted.instant_to
        if wanted.after is not None and wanted.after.instant is not None:
            latest = from_microseconds(wanted.after.instant)
        # Of history, no more days are looked at than it takes; a sieve takes several.
        rows = []
        for earliest in windows(latest, wanted.instant_from, widths=WINDOWS[way is sieve :]):
            bounded = values if earliest is None else {**values, "instant_from": earliest}
            rows = await way(_shape(wanted, bounded)).rows(connection, **bounded)
            if len(rows) >= wanted.most:
                break
        return [Place(*row) for row in rows]


async def plan(
    connection: Connection, wanted: Wanted
) -> tuple[Callable[[Shape], Read], dict[str, Any]]:
    """Answer which select to make for a list, and its values.

    Its jobs are sorted if a filter leaves but a few; else an index is walked, with the jobs that
    fit at hand if they are not too many.
    """
    values = _values(wanted)
    if wanted.key is not None:
        return sort, values
    drivers: list[tuple[str, dict[str, Any]]]
    drivers = [(name, values) for name in ("user", "host") if name in values]
    drivers += [("label", {**values, **_driver(label)}) for label in wanted.labels]
    if wanted.status is None and len(drivers) <= 1:  # an index has that filter, and the order
        return walk, values
    if not drivers and wanted.status in ENDED:
        drivers = [("all", values)]
    fewest = MANY + 1
    for name, driven in drivers:
        [[count]] = await _COUNTS[name].rows(connection, **driven)
        if count < fewest:
            fewest, values = count, driven
        if count <= FEW:
            return sort, values
    return walk if wanted.status is None or fewest > MANY else sieve, values


def _shape(wanted: Wanted, values: Mapping[str, Any]) -> Shape:
    names = ("user", "key", "host", "instant_from", "instant_to", "after")
    given = frozenset(name for name in names if name in values)
    return Shape(wanted.status, given, min(len(wanted.labels), 2), wanted.is_ascending)


def _values(wanted: Wanted) -> dict[str, Any]:
    names = ("application_id", "user", "key", "host", "instant_from", "instant_to", "most")
    values = {name: getattr(wanted, name) for name in names if getattr(wanted, name) is not None}
    if wanted.labels:
        values |= _driver(wanted.labels[0])
        values["labels"] = [Jsonb({name: value}) for name, value in wanted.labels]
    if wanted.after is not None:
        job_id, instant, _ = wanted.after
        values["after_job"] = job_id
        values["after"] = "infinity" if instant is None else from_microseconds(instant).isoformat()
    return values


def _driver(label: tuple[str, str]) -> dict[str, str]:
    return {"label_name": label[0], "label_value": label[1]}
