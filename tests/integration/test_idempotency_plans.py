"""What is asked of `idempotency_keys` finds its row by an index, at any size."""

from collections.abc import Iterator
from typing import Any

import pytest

from handler_service import idempotency
from shared.database import Pool

MANY = 50_000
FORGET = b"delete from idempotency_keys where created_at < now() - interval '24 hours'"
VALUES = {
    "application_id": 1,
    "key": "17",
    "fingerprint": b"",
    "status": 201,
    "headers": "{}",
    "body": b"",
}


def plan_nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from plan_nodes(child)


@pytest.fixture
async def filled(pool: Pool) -> None:
    """Fifty thousand keys, a minute apart from each other but for the newest; with statistics."""
    async with pool.connection() as connection:
        await connection.execute(
            "insert into idempotency_keys "
            "(application_id, key, fingerprint, status, headers, body, created_at) "
            "select 1, n::text, '', 201, '{}', '', now() - n * interval '1.75 s' "
            "from generate_series(1, %s) as n",
            (MANY,),
        )
        await connection.execute("analyze idempotency_keys")


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize(
    ("sql", "index"),
    [
        (idempotency._FIRST.sql.encode(), "idempotency_keys_of_application"),
        (FORGET, "idempotency_keys_by_age"),
    ],
    ids=["first answer", "forget"],
)
async def test_a_key_is_found_by_its_index(
    pool: Pool, sql: bytes, index: str, *, pinned: bool
) -> None:
    async with pool.connection() as connection, connection.transaction(force_rollback=True):
        if not pinned:
            await connection.execute("set local enable_seqscan = on")
            await connection.execute("set local enable_bitmapscan = on")
        cursor = await connection.execute(b"explain (analyze, format json) " + sql, VALUES)
        row = await cursor.fetchone()
    assert row is not None
    scans = [node for node in plan_nodes(row[0][0]["Plan"]) if "Index Name" in node]
    assert {node["Index Name"] for node in scans} == {index}
    assert all(node.get("Rows Removed by Filter", 0) == 0 for node in scans)
