"""The plans of the very statements we ship: each finds its rows by an index, at every size."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from executor_service import prune, prune_history
from shared.database import Pool
from shared.runs import moves
from shared.runs.moves import Attempt, DeadLetters
from tests.claims import a_claim

EXECUTOR = UUID(int=7)
MANY = 50_000


def plan_nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from plan_nodes(child)


async def explain(pool: Pool, name: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of a move's plan, planned on an executor's kind of connection and then undone."""
    async with pool.connection() as connection, connection.transaction(force_rollback=True):
        cursor = await connection.execute(b"explain (format json) " + moves.SQL[name], values)
        row = await cursor.fetchone()
    assert row is not None
    return list(plan_nodes(row[0][0]["Plan"]))


def indexes(nodes: list[dict[str, Any]]) -> set[str]:
    return {node["Index Name"] for node in nodes if "Index Name" in node}


def scanned(nodes: list[dict[str, Any]]) -> set[str]:
    return {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}


@pytest.fixture(params=[200, MANY])
async def filled(request: pytest.FixtureRequest, pool: Pool) -> int:
    """So many runs overdue and as many ahead, with statistics, and an executor to claim them."""
    async with pool.connection() as connection:
        await connection.execute(
            """
            with job as (
                insert into jobs (application_id, url, method, timeout_seconds, run_at)
                select 1, 'http://x/', 'POST', 5,
                    now() + (case when mod(n, 2) = 0 then -1 else 1 end) * n * interval '1 second'
                from generate_series(1, %s) as n
                returning id, run_at
            )
            insert into schedules (job_id, scheduled_for, due_at) select id, run_at, run_at from job
            """,
            (request.param * 2,),
        )
        await connection.execute(
            "insert into executors (id, lease_seconds, claim_ahead_seconds, host, version) "
            "values (%s, 5, 1.2, '', '')",
            (EXECUTOR,),
        )
        await connection.execute("analyze")
    return int(request.param)


@pytest.mark.parametrize("most", [1, 100, 500])
@pytest.mark.parametrize(("late", "ahead"), [(5.0, 1.2), (1e10, -5.0)])
async def test_a_claim_reads_the_due_index_and_scans_nothing(
    pool: Pool, filled: int, most: int, late: float, ahead: float
) -> None:
    nodes = await explain(
        pool,
        "claim",
        {
            "executor_id": EXECUTOR,
            "late_seconds": late,
            "ahead_seconds": ahead,
            "most": most,
        },
    )
    assert {"schedules_due", "schedules_run", "jobs_pkey"} <= indexes(nodes)
    assert scanned(nodes) == set()
    assert filled


@pytest.mark.parametrize("name", ["mark", "deliver", "retry", "bury", "doubt", "skip", "release"])
@pytest.mark.parametrize("size", [1, 500])
async def test_recording_finds_runs_by_their_key(
    pool: Pool, filled: int, name: str, size: int
) -> None:
    claims = [a_claim(number, executor_id=str(EXECUTOR)) for number in range(1, size + 1)]
    attempts = [Attempt(claim, 1.0, 1.0, 0.5, 204, None, "", 5.0) for claim in claims]
    values = moves.columns(attempts) | {
        "errors": ["status"] * size,
        "delays": [5.0] * size,
    }
    nodes = await explain(pool, name, values)
    assert "schedules_run" in indexes(nodes)
    assert scanned(nodes) == set()
    assert filled


@pytest.mark.parametrize("name", moves.RESCUES)
async def test_rescue_reads_what_is_due_and_not_the_whole_table(
    pool: Pool, filled: int, name: str
) -> None:
    values = {"lapsed": [EXECUTOR], "max_attempts": 5}
    nodes = await explain(pool, name, values)
    assert "schedules_due" in indexes(nodes)
    assert scanned(nodes) == set()
    assert filled


async def test_what_an_executor_holds_is_read_from_what_is_due(pool: Pool, filled: int) -> None:
    nodes = await explain(pool, "held", {"executor_id": EXECUTOR, "ahead_seconds": 1.2})
    assert "schedules_due" in indexes(nodes)
    assert scanned(nodes) == set()
    assert filled


async def test_what_executes_under_nobody_is_read_from_what_is_due(pool: Pool, filled: int) -> None:
    nodes = await explain(pool, "orphans", {})
    assert "schedules_due" in indexes(nodes)
    assert scanned(nodes) == set()
    assert filled


async def test_cancelling_finds_the_run_by_its_key(pool: Pool, filled: int) -> None:
    nodes = await explain(pool, "cancel", {"job_ids": [5], "application_id": 1})
    assert "schedules_run" in indexes(nodes)
    assert scanned(nodes) == set()
    assert filled


@pytest.mark.parametrize(("late", "ahead"), [(5.0, 1.2), (1e10, -5.0)])
async def test_what_occurs_is_read_from_the_index_of_next_occurrences(
    pool: Pool, filled: int, late: float, ahead: float
) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "update jobs set recurrence = '{\"every_seconds\": 60}' where mod(id, 3) = 0"
        )
        await connection.execute("update schedules set is_next = true where mod(job_id, 3) = 0")
        await connection.execute("analyze")
    values = {"late_seconds": late, "ahead_seconds": ahead, "most": 500}
    nodes = await explain(pool, "heads", values)
    found = indexes(nodes)
    assert "jobs_pkey" in found
    # Where they are few, they may be sorted as well.
    assert "schedules_next_due" in found or (filled < MANY and "schedules_one_next" in found)
    assert scanned(nodes) == set()
    assert filled


ONE = {"job_ids": [5], "scheduled_fors": [5]}
OF_A_JOB = {
    "occur": {**ONE, "next_fors": [6], "spreads": [0.0], "queues": [False]},
    "wait": {**ONE, "seconds": 1.0},
    "pass_over": {
        "job_id": 5,
        "scheduled_for": 5,
        "passed": [5],
        "next_for": 6,
        "spread": 0.0,
        "reason": "missed",
    },
    "hold": {"job_ids": [5]},
    "resume": {"job_id": 5},
    "trigger": {"job_id": 5, "application_id": 1},
    "rearm": {
        "job_id": 5,
        "application_id": 1,
        "run_at": None,
        "delay_seconds": 5.0,
        "is_next": False,
        "spread": None,
    },
}


@pytest.mark.parametrize(("name", "values"), OF_A_JOB.items())
async def test_what_moves_the_runs_of_a_job_finds_them_by_its_key(
    pool: Pool, filled: int, name: str, values: dict[str, Any]
) -> None:
    nodes = await explain(pool, name, values)
    # What is held of a job is found by infinity as well as by the job.
    by_key = {"schedules_run", "schedules_one_next", "jobs_pkey"}
    assert (by_key | ({"schedules_due"} if name == "resume" else set())) & indexes(nodes)
    assert scanned(nodes) == set()
    assert filled


async def test_an_edit_finds_the_run_by_its_key(pool: Pool, filled: int) -> None:
    values = {
        "job_id": 5,
        "application_id": 1,
        "is_retimed": True,
        "run_at": None,
        "delay_seconds": 5.0,
        "is_next": False,
        "spread": None,
    }
    nodes = await explain(pool, "edit", values)
    assert "schedules_run" in indexes(nodes)
    assert scanned(nodes) == set()
    assert filled


@pytest.mark.parametrize(
    "letters", [DeadLetters(1), DeadLetters(1, 7, 5), DeadLetters(1, host="x")]
)
async def test_a_replay_reads_the_dead_letters_and_not_the_history(
    pool: Pool, letters: DeadLetters
) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            """
            with job as (
                insert into jobs (application_id, url, method, timeout_seconds, run_at)
                select 1, 'http://x/', 'POST', 5, now() from generate_series(1, 20000) as n
                returning id, run_at
            )
            insert into executions (job_id, scheduled_for, finished_at, attempt, state)
            select id, run_at, now(), 1, case when mod(id, 100) = 0 then 'failed' else 'done' end
            from job
            """
        )
        await connection.execute("analyze")
    values = {"most": 1_000, "attempt_max": moves.REPLAYED_ATTEMPT_MAX}
    nodes = await explain(pool, "replay", letters._asdict() | values)
    # A letter of a job may be found by the job's own key as well.
    reader = "job_id_scheduled_for" if letters.job_id else "finished_at_job_id_scheduled_for"
    assert any(reader in name for name in indexes(nodes))
    assert scanned(nodes) == set()


async def test_a_history_of_a_job_is_read_by_its_key(pool: Pool) -> None:
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "explain (format json) select * from executions where job_id = 5"
        )
        row = await cursor.fetchone()
    assert row is not None
    nodes = list(plan_nodes(row[0][0]["Plan"]))
    assert any("executions" in name for name in indexes(nodes))
    assert scanned(nodes) == set()


async def test_the_pins_are_what_keeps_a_large_claim_on_the_index(database_url: str) -> None:
    """The settings that `open_pool` makes are the ones that the plans above were made under."""
    pool_settings = await settings_of(database_url, pin_plans=True)
    assert set(pool_settings.values()) == {"off"}
    unpinned = await settings_of(database_url, pin_plans=False)
    assert set(unpinned.values()) == {"on"}


async def settings_of(database_url: str, *, pin_plans: bool) -> dict[str, str]:
    from shared import database  # noqa: PLC0415  # the module, beside its names

    pool = database.open_pool(database_url, name="test", connections=1, pin_plans=pin_plans)
    async with pool, pool.connection() as connection:
        found = {}
        for name in database.PINNED_PLANS:
            cursor: psycopg.AsyncCursor[Any] = await connection.execute(f"show {name}".encode())
            row = await cursor.fetchone()
            assert row is not None
            found[name] = row[0]
        return found


async def explain_statement(
    pool: Pool, statement: str, values: dict[str, Any]
) -> list[dict[str, Any]]:
    async with pool.connection() as connection, connection.transaction(force_rollback=True):
        cursor = await connection.execute(b"explain (format json) " + statement.encode(), values)
        row = await cursor.fetchone()
    assert row is not None
    return list(plan_nodes(row[0][0]["Plan"]))


async def test_pruning_finds_what_is_old_by_an_index(pool: Pool, filled: int) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "insert into executions (job_id, scheduled_for, finished_at, attempt, state) "
            "select id, run_at, run_at, 1, 'done' from jobs"
        )
        await connection.execute("analyze executions_default")
    long_ago = datetime(2000, 1, 1, tzinfo=UTC)
    job_ids = list(range(filled // 2, filled // 2 + 100))
    after = prune_history.BEGINNING._replace(job_id=job_ids[0])._asdict()
    last = prune_history.BEGINNING._replace(job_id=job_ids[-1])._asdict()
    values = {
        "after": 0,
        "application_id": 1,
        "before": long_ago,
        "after_run_at": long_ago,
        "after_id": 0,
        "most": 1_000,
        "job_ids": job_ids,
        "locked": job_ids,
        "all_of_it": True,
        **after,
        **{f"last_{name}": value for name, value in last.items()},
    }
    history = "executions_default_pkey"
    for statement, readers in (
        (prune.NEXT_APPLICATION, set()),
        (prune.OLD_JOBS, {"jobs_by_instant"}),
        (prune.FORGET_JOBS, {"jobs_pkey", "schedules_run", history, "job_labels_of_job"}),
        (prune.FORGET_KEYS, {"idempotency_keys_by_age", "idempotency_keys_of_application"}),
        (prune_history.about("executions_default", prune_history.ROWS), {history}),
        (prune_history.about("executions_default", prune_history.FORGET_ROWS), {history}),
    ):
        nodes = await explain_statement(pool, statement, values)
        assert readers <= indexes(nodes)
        assert scanned(nodes) == set()
