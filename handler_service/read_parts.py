"""The parts that several reads have in common."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Integer, Text, bindparam, func, literal_column

from shared.runs.model import HOST, jobs

ours = jobs.c.application_id == bindparam("application_id", type_=Integer)
# Written as the index `jobs_of_host` has it. Only `jobs` has a URL.
host: ColumnElement[str] = literal_column(HOST, type_=Text)


def microseconds(instant: ColumnElement[datetime] | ColumnElement[Any]) -> ColumnElement[int]:
    """Answer an instant as epoch microseconds, in which every instant of ours is exact."""
    return (func.extract("epoch", instant) * 1_000_000).cast(BigInteger)
