"""Keeps a handler from starting while executors of an earlier version are alive.

A handler may accept what an earlier executor does not understand, and would fire as something else:
so executors are upgraded first. This is the init container of each handler.
"""

import os
import re
import time

import psycopg

from shared import VERSION

ALIVE = """
select distinct version from executors
where heartbeat_at > now() - lease_seconds * interval '1 second'
"""


def number(version: str) -> list[int]:
    """The three numbers of a version, to compare by."""
    return [int(part) for part in re.findall(r"\d+", version)[:3]]


def hindrance() -> str:
    """Why the handler has to wait; empty when it need not."""
    try:
        with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=5) as connection:
            alive = [version for (version,) in connection.execute(ALIVE)]
    except psycopg.errors.UndefinedTable:
        return ""  # before the first migration there is no executor
    except psycopg.Error as error:
        return f"Postgres does not answer: {type(error).__name__}"  # its message may hold the URL
    earlier = [version for version in alive if number(version) < number(VERSION)]
    return f"executors of {', '.join(sorted(earlier))} are alive" if earlier else ""


said = ""
while reason := hindrance():
    if reason != said:
        print(f"the handler {VERSION} waits: {reason}", flush=True)
    said = reason
    time.sleep(1)
