"""The plans of what the handler reads: each by an index, and no more rows than it answers."""

from collections.abc import Iterator
from typing import Any

import pytest

from handler_service import reads
from shared.database import Pool, Read

MANY = 50_000


def plan_nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from plan_nodes(child)


@pytest.fixture
async def filled(pool: Pool) -> None:
    """Fifty thousand timers, with statistics."""
    async with pool.connection() as connection:
        await connection.execute(
            "insert into jobs (application_id, url, method, timeout_seconds, run_at) "
            "select 1, 'http://x/', 'POST', 5, now() + n * interval '1 second' "
            "from generate_series(1, %s) as n",
            (MANY,),
        )
        await connection.execute("analyze jobs")


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize(
    ("read", "values", "rows"),
    [
        (reads._TIMER, {"timer_id": 17}, 1),
        (reads._TIMER, {"timer_id": 2**63 - 1}, 0),
        (reads._CANCELLED, {"timer_id": 17}, 0),
        (reads._TIMERS, {"before": 2**63 - 1, "most": 51}, 51),
        (reads._TIMERS, {"before": MANY // 2, "most": 201}, 201),
        (reads._TIMERS, {"before": 1, "most": 51}, 0),
    ],
)
async def test_a_read_finds_its_rows_by_the_key_and_looks_at_no_others(
    pool: Pool, read: Read, values: dict[str, int], rows: int, *, pinned: bool
) -> None:
    async with pool.connection() as connection, connection.transaction():
        if not pinned:  # a hint that may be dropped some day; the index must not hang on it
            await connection.execute("set local enable_seqscan = on")
            await connection.execute("set local enable_bitmapscan = on")
        cursor = await connection.execute(
            b"explain (analyze, format json) " + read.sql.encode(),
            {**read._defaults, "application_id": 1, **values},
        )
        row = await cursor.fetchone()
    assert row is not None
    nodes = list(plan_nodes(row[0][0]["Plan"]))
    [scan] = [node for node in nodes if "Relation Name" in node]
    assert scan["Relation Name"] == "jobs"
    assert scan["Node Type"] == "Index Scan"
    assert scan["Index Name"] == "jobs_pkey"
    assert "id" in scan["Index Cond"]
    assert scan["Actual Rows"] == rows
    assert scan.get("Rows Removed by Filter", 0) <= 1
    assert not [node for node in nodes if node["Node Type"] == "Sort"]
