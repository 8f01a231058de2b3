"""Which jobs are on a page of a list, and where in it each of them stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb
from sqlalchemy import ColumnElement, func, literal_column, select

from handler_service.job_list_selects import ENDED, FEW, FILTERS, Shape, labelled, sort, walk
from handler_service.read_parts import lent, ours, windows
from handler_service.schemas.instants import from_microseconds
from shared.database import Connection, Pool, Read
from shared.runs.model import job_labels, jobs

_one: ColumnElement[int] = literal_column("1")


def _is_few(statement: Any) -> Read:
    some = statement.limit(FEW + 1).subquery()
    return Read(select(func.count() <= FEW).select_from(some), depends_on_values=True)


_ARE_FEW = {
    "user": _is_few(select(_one).select_from(jobs).where(ours, FILTERS["user"])),
    "label": _is_few(select(_one).select_from(job_labels).where(labelled)),
    "host": _is_few(select(_one).select_from(jobs).where(ours, FILTERS["host"])),
    "all": _is_few(select(_one).select_from(jobs).where(ours)),
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
        read, values = await plan(connection, wanted)
        if wanted.status not in ENDED or wanted.is_ascending or read is sort(_shape(wanted)):
            rows = await read.rows(connection, **values)
            return [Place(*row) for row in rows]
        latest = wanted.instant_to
        if wanted.after is not None and wanted.after.instant is not None:
            latest = from_microseconds(wanted.after.instant)
        # Of history, no more days are looked at than it takes.
        rows = []
        for earliest in windows(latest, wanted.instant_from):
            bounded = values if earliest is None else {**values, "instant_from": earliest}
            rows = await walk(_shape(wanted, bounded)).rows(connection, **bounded)
            if len(rows) >= wanted.most:
                break
        return [Place(*row) for row in rows]


async def plan(connection: Connection, wanted: Wanted) -> tuple[Read, dict[str, Any]]:
    """Answer the select to make for a list, and its values.

    Its jobs are sorted if a filter leaves but a few; else an index is walked.
    """
    values = _values(wanted)
    filters: list[str] = [name for name in ("user", "host") if name in values]
    is_single = len(filters) + len(wanted.labels) <= 1 and wanted.status is None
    if wanted.key is not None:
        return sort(_shape(wanted)), values
    if is_single:  # an index has that filter, and the order
        return walk(_shape(wanted)), values
    if not filters and not wanted.labels:
        filters = ["all"] if wanted.status in ENDED else []
    for name in filters:
        if await _holds(_ARE_FEW[name], connection, values):
            return sort(_shape(wanted)), values
    for label in wanted.labels:
        by_label = {**values, **_driver(label)}
        if await _holds(_ARE_FEW["label"], connection, by_label):
            return sort(_shape(wanted)), by_label
    return walk(_shape(wanted)), values


async def _holds(read: Read, connection: Connection, values: Mapping[str, Any]) -> bool:
    [[holds]] = await read.rows(connection, **values)
    return bool(holds)


def _shape(wanted: Wanted, values: Mapping[str, Any] | None = None) -> Shape:
    values = _values(wanted) if values is None else values
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
