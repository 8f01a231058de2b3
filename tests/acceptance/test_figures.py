"""`/ledger`, `/stats`, `/forecast`: what is counted is what is there."""

import asyncio
import json
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from handler_service import forecast, scans, stats
from handler_service.forecast import Buckets, Recurring, reckon
from handler_service.problems import TooMuchToCount
from handler_service.schemas.figures import ForecastQuery
from handler_service.schemas.instants import read_instant
from shared.database import Pool, Read
from shared.recurrence import Recurrence
from tests.acceptance.test_timers_contract import Handler
from tests.acceptance.test_timers_contract_refusals import Refuse, problem_of
from tests.eventually import eventually
from tests.integration.test_plans import indexes, plan_nodes, scanned
from tests.processes import Services
from tests.receiver import Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACES = ("pending", "executing", "done", "failed", "uncertain", "cancelled", "skipped")
ENDS = PLACES[2:]
DAY = "2026-01-02"


@pytest.fixture
def handler(handler: Handler) -> Handler:
    """With no timer and no history."""
    handler.clear()
    return handler


async def get(handler: Handler, path: str, **query: object) -> dict[str, Any]:
    answer = await handler.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return dict(answer.json())


def attempt(
    handler: Handler,
    *,
    job_id: int | None = None,
    at: str = f"{DAY} 03:04:05Z",
    state: str = "done",
    user: str | None = None,
    attempt: int = 1,
    lateness_ms: float | None = None,
    replayed_at: str | None = None,
) -> int:
    """An attempt that ended at that instant, of a job of its own unless one is named."""
    if job_id is None:
        [job] = handler.query(
            "insert into jobs (application_id, url, method, timeout_seconds, run_at, user_id) "
            "values (1, 'http://x/', 'POST', 5, %s, %s) returning id",
            *(at, user),
        )
        job_id = int(job["id"])
    handler.query(
        "insert into executions "
        "(job_id, scheduled_for, finished_at, state, attempt, lateness_ms, replayed_at) "
        "values (%s, %s, %s, %s, %s, %s, %s)",
        *(job_id, at, at, state, attempt, lateness_ms, replayed_at),
    )
    return job_id


def recur(
    handler: Handler,
    rule: Recurrence,
    *,
    due: str,
    state: str = "active",
    runs_begun: int = 0,
    spread_seconds: float | None = None,
) -> int:
    """A job that recurs, and its next occurrence."""
    [job] = handler.query(
        "insert into jobs (application_id, url, method, timeout_seconds, run_at, recurrence, "
        f"state, runs_begun) values (1, 'http://x/', 'POST', 5, {due}, %s, %s, %s) returning id",
        *(rule.document(), state, runs_begun),
    )
    handler.query(
        "insert into schedules (job_id, scheduled_for, due_at, is_next, spread_seconds) "
        f"values (%s, {due}, {due} + coalesce(%s, 0) * interval '1 second', true, %s)",
        *(job["id"], spread_seconds, spread_seconds),
    )
    return int(job["id"])


async def test_an_empty_ledger_adds_up(handler: Handler) -> None:
    assert await get(handler, "/ledger") == {
        "accepted": 0,
        **dict.fromkeys(PLACES, 0),
        "adds_up": True,
    }


async def test_the_ledger_counts_every_place_once(handler: Handler) -> None:
    for number, state in enumerate(ENDS, 1):
        for _ in range(number):
            attempt(handler, state=state)
    for state, count in (("pending", 7), ("executing", 2)):
        for _ in range(count):
            handler.make_job(state=state)
    retried = handler.make_job()
    attempt(handler, job_id=retried, state="retrying")
    attempt(handler, job_id=retried, state="abandoned", attempt=2)
    replayed = handler.make_job()
    attempt(handler, job_id=replayed, state="failed", replayed_at=f"{DAY} 04:00:00Z")
    assert await get(handler, "/ledger") == {
        "accepted": 26,
        "pending": 9,
        "executing": 2,
        **{state: number for number, state in enumerate(ENDS, 1)},
        "adds_up": True,
    }


async def test_a_run_that_was_lost_or_doubled_shows_in_the_ledger(handler: Handler) -> None:
    job_id = handler.make_job()
    handler.query("delete from schedules")
    assert (await get(handler, "/ledger"))["adds_up"] is False
    attempt(handler, job_id=job_id)
    assert (await get(handler, "/ledger"))["adds_up"] is True
    attempt(handler, job_id=job_id, attempt=2)
    assert (await get(handler, "/ledger"))["adds_up"] is False


async def test_the_ledger_is_the_callers_own_and_leaves_out_what_is_pruned(
    handler: Handler,
) -> None:
    attempt(handler)
    handler.make_job()
    handler.query("update jobs set application_id = 2")
    pruned = attempt(handler)
    handler.query("delete from jobs where id = %s", pruned)
    assert (await get(handler, "/ledger"))["accepted"] == 0
    assert (await get(handler, "/ledger"))["adds_up"] is True


@pytest.mark.asyncio(loop_scope="function")
async def test_the_ledger_adds_up_at_every_moment(services: Services, receiver: Receiver) -> None:
    """While timers are created, cancelled and fired."""
    service = await services.handler()
    await services.executors(2)
    async with httpx.AsyncClient(base_url=service.url, timeout=30) as http:
        for _ in range(10):
            timers = [{"seconds": 1, "url": receiver.url()}] * 20
            answer = await http.post("/timers/batch", json={"timers": timers})
            ids = [timer["id"] for timer in answer.json()["data"]]
            await http.delete(f"/timers/{ids[0]}")
            assert (await http.get("/ledger")).json()["adds_up"]

        async def all_is_over() -> None:
            ledger = (await http.get("/ledger")).json()
            assert ledger["adds_up"], ledger
            assert (ledger["accepted"], ledger["pending"] + ledger["executing"]) == (200, 0)
            assert ledger["done"] + ledger["cancelled"] == 200

        await eventually(all_is_over)


async def test_no_statistics_are_a_row_of_noughts(handler: Handler) -> None:
    found = await get(handler, "/stats")
    assert read_instant(found["to"]) - read_instant(found["from"]) == stats.SPAN_DEFAULT
    assert abs(read_instant(found["to"]).timestamp() - handler.clock()) < 60
    nothing = {
        "ended": dict.fromkeys(ENDS, 0),
        "attempts": 0,
        "lateness_ms": {"p50": None, "p95": None, "p99": None},
    }
    assert found["data"] == [nothing]
    assert (await get(handler, "/stats", group_by="hour,status"))["data"] == []


async def test_statistics_count_ends_attempts_and_how_late_first_attempts_began(
    handler: Handler,
) -> None:
    for number in range(1, 101):
        attempt(handler, lateness_ms=float(number))
    retried = attempt(handler, state="retrying", lateness_ms=200.0)
    attempt(handler, job_id=retried, state="failed", attempt=2, lateness_ms=9_999.0)
    attempt(handler, state="cancelled", attempt=0)
    attempt(handler, state="skipped", attempt=0)
    attempt(handler, state="uncertain", replayed_at=f"{DAY} 04:00:00Z")
    found = await get(handler, "/stats", **{"from": f"{DAY}T00:00:00Z", "to": f"{DAY}T23:00:00Z"})
    assert found == {
        "from": f"{DAY}T00:00:00.000Z",
        "to": f"{DAY}T23:00:00.000Z",
        "data": [
            {
                "ended": {"done": 100, "failed": 1, "uncertain": 0, "cancelled": 1, "skipped": 1},
                "attempts": 103,
                "lateness_ms": {"p50": 51.0, "p95": 96.0, "p99": 100.0},
            }
        ],
    }


async def test_days_and_hours_are_told_apart_in_utc_whatever_the_clocks_do(
    handler: Handler,
) -> None:
    """Around midnight, and while clocks in Europe are set back: 01:00 UTC, 2026-10-25."""
    for at in ("2026-10-24 23:59:59.999Z", "2026-10-25 00:00Z", "2026-10-25 00:59:59.999Z"):
        attempt(handler, at=at)
    for at in ("2026-10-25 02:30+02", "2026-10-25 02:30+01", "2026-10-26 00:00+01"):
        attempt(handler, at=at)
    handler.query("alter role current_user set timezone = 'Europe/Berlin'")
    span = {"from": "2026-10-24T00:00:00Z", "to": "2026-10-27T00:00:00Z"}
    by_day = (await get(handler, "/stats", group_by="day", **span))["data"]
    assert [(row["day"], row["attempts"]) for row in by_day] == [
        ("2026-10-24T00:00:00.000Z", 1),
        ("2026-10-25T00:00:00.000Z", 5),
    ]
    by_hour = (await get(handler, "/stats", group_by="hour", **span))["data"]
    assert [(row["hour"], row["attempts"]) for row in by_hour] == [
        ("2026-10-24T23:00:00.000Z", 1),
        ("2026-10-25T00:00:00.000Z", 3),
        ("2026-10-25T01:00:00.000Z", 1),
        ("2026-10-25T23:00:00.000Z", 1),
    ]
    handler.query("alter role current_user reset timezone")


async def test_statistics_are_told_apart_by_any_of_four_names(handler: Handler) -> None:
    attempt(handler, user="anna")
    attempt(handler, user="anna", state="failed")
    attempt(handler, state="retrying")
    span = {"from": f"{DAY}T00:00:00Z", "to": f"{DAY}T23:00:00Z"}
    rows = (await get(handler, "/stats", group_by="user,status,day,hour", **span))["data"]
    assert [(row["user"], row["status"], row["attempts"]) for row in rows] == [
        ("anna", "done", 1),
        ("anna", "failed", 1),
        (None, "retrying", 1),
    ]
    assert {(row["hour"], row["day"]) for row in rows} == {
        (f"{DAY}T03:00:00.000Z", f"{DAY}T00:00:00.000Z")
    }
    [anna, nobody] = (await get(handler, "/stats", group_by="user", **span))["data"]
    assert (anna["user"], anna["ended"]["done"], anna["ended"]["failed"]) == ("anna", 1, 1)
    assert (nobody["user"], nobody["attempts"]) == (None, 1)
    assert nobody.keys() == {"user", "ended", "attempts", "lateness_ms"}


async def test_statistics_of_others_and_of_another_time_are_left_out(handler: Handler) -> None:
    attempt(handler)
    handler.query("update jobs set application_id = 2")
    attempt(handler, at="2026-01-02 10:00:00Z")
    attempt(handler, at="2026-01-02 11:00:00Z")
    span = {"from": "2026-01-02T10:00:00Z", "to": "2026-01-02T11:00:00Z"}
    [row] = (await get(handler, "/stats", **span))["data"]
    assert row["attempts"] == 1


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"group_by": "week"}, "group_by"),
        ({"group_by": ""}, "group_by"),
        ({"group_by": "day,"}, "group_by"),
        ({"group_by": "day,day"}, "group_by"),
        ({"group_by": "day, user"}, "group_by"),
        ({"group_by": "Day"}, "group_by"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-01-02"}, "from"),
        ({"to": ""}, "to"),
        ({"from": "9000-01-01T00:00:00Z"}, "from"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-02T00:00:00Z"}, "from"),
        ({"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00.001Z"}, "from"),
        ({"since": "2026-01-01T00:00:00Z"}, "since"),
    ],
)
async def test_wrong_parameters_of_statistics_are_named(
    refuse: Refuse, query: dict[str, str], parameter: str
) -> None:
    problem = await refuse("GET", "/stats", 422, params=query)
    assert [error["pointer"] for error in problem["errors"]] == [parameter]


async def test_the_longest_and_the_first_span_of_statistics_are_answered(handler: Handler) -> None:
    await get(handler, "/stats", **{"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"})
    await get(handler, "/stats", to="0001-01-02T00:00:00Z")
    answer = await handler.http.get("/stats", params={"to": "0001-01-01T00:00:00Z"})
    assert answer.status_code == 422


async def test_statistics_of_too_many_rows_are_refused_with_a_remedy(
    handler: Handler, refuse: Refuse
) -> None:
    handler.query(
        "with job as (insert into jobs "
        "(application_id, url, method, timeout_seconds, run_at, user_id) "
        "select 1, 'http://x/', 'POST', 5, now(), n::text from generate_series(1, 10001) as n "
        "returning id) "
        "insert into executions (job_id, scheduled_for, finished_at, attempt, state) "
        f"select id, '{DAY}', '{DAY} 03:00Z', 1, 'done' from job"
    )
    query = {"from": f"{DAY}T00:00:00Z", "to": f"{DAY}T23:00:00Z", "group_by": "user"}
    problem = await refuse("GET", "/stats", 422, params=query)
    assert [error["pointer"] for error in problem["errors"]] == ["group_by"]
    assert "10,000" in problem["detail"]
    handler.query("delete from executions where job_id = (select min(job_id) from executions)")
    assert len((await get(handler, "/stats", **query))["data"]) == 10_000


async def test_an_empty_forecast_has_every_bucket(handler: Handler) -> None:
    found = await get(handler, "/forecast")
    assert (found["bucket"], found["overdue"], found["complete"]) == (60, 0, True)
    assert len(found["data"]) == 1_440
    assert {bucket["runs"] for bucket in found["data"]} == {0}
    first = read_instant(found["data"][0]["at"]).timestamp()
    assert first % 60 == 0
    assert -1 < handler.clock() - first < 65
    instants = [read_instant(bucket["at"]).timestamp() for bucket in found["data"]]
    assert instants == [first + 60 * number for number in range(1_440)]


async def test_days_of_a_forecast_begin_at_midnight_in_utc(handler: Handler) -> None:
    found = await get(handler, "/forecast", bucket=86_400, horizon=31 * 86_400)
    assert len(found["data"]) == 31
    assert {bucket["at"][10:] for bucket in found["data"]} == {"T00:00:00.000Z"}


async def test_a_forecast_counts_what_is_pending_where_it_is_due(handler: Handler) -> None:
    """Overdue, retried and triggered runs too; not what executes, is held, or comes later."""
    for due_in in (-3_600.0, 7_200.0, 7_200.0, 10_800.0, 5 * 3_600.0):
        handler.make_job(due_in=due_in)
    handler.make_job(due_in=7_200.0, state="executing")
    handler.make_job(due_in=7_200.0, state=None)
    held = handler.make_job(due_in=7_200.0)
    handler.query("update schedules set due_at = 'infinity' where job_id = %s", held)
    other = handler.make_job(due_in=7_200.0)
    handler.query("update jobs set application_id = 2 where id = %s", other)
    found = await get(handler, "/forecast", bucket=3_600, horizon=4 * 3_600)
    assert [bucket["runs"] for bucket in found["data"]] == [0, 0, 2, 1]
    assert found["overdue"] == 1


async def test_a_forecast_goes_on_with_what_recurs(handler: Handler) -> None:
    hour = "date_trunc('hour', now(), 'UTC') + interval '%s hours 1 second'"
    hourly = Recurrence(cron="1 0 * * * *")
    recur(handler, hourly, due=hour % 1)
    recur(handler, hourly, due=hour % 1)
    recur(handler, hourly, due=hour % 3)
    recur(handler, Recurrence(cron="1 0 * * * *", max_runs=5), due=hour % 1, runs_begun=3)
    recur(handler, Recurrence(cron="1 0 * * * *", jitter_seconds=7_200), due=hour % 1)
    jittered = "update schedules set spread_seconds = 4000, due_at = due_at + interval '4000 s'"
    handler.query(f"{jittered} where job_id = (select max(id) from jobs)")
    paused = recur(handler, hourly, due=hour % 1, state="paused")
    handler.query("update schedules set due_at = 'infinity' where job_id = %s", paused)
    recur(handler, hourly, due=hour % 1, state="ended")
    found = await get(handler, "/forecast", bucket=3_600, horizon=5 * 3_600)
    # Of the ended one what is left in the queue, until it is taken out.
    assert [bucket["runs"] for bucket in found["data"]] == [0, 4, 4, 4, 4]
    assert found["complete"] is True


async def test_a_forecast_of_an_overdue_occurrence_goes_on_from_now(handler: Handler) -> None:
    recur(handler, Recurrence(cron="1 0 * * * *"), due="now() - interval '30 days'")
    found = await get(handler, "/forecast", bucket=3_600, horizon=3 * 3_600)
    assert found["overdue"] == 1
    assert [bucket["runs"] for bucket in found["data"]] == [1, 1, 1]


async def test_a_forecast_that_cannot_reckon_everything_says_so(handler: Handler) -> None:
    for _ in range(3):
        recur(
            handler,
            Recurrence(every_seconds=1.0, anchor=read_instant(f"{DAY}T00:00:00Z")),
            due="now() + interval '1 second' * nextval('jobs_id_seq')",
        )
    found = await get(handler, "/forecast", bucket=86_400, horizon=31 * 86_400)
    assert found["complete"] is False
    assert sum(bucket["runs"] for bucket in found["data"]) > 1_000
    handler.clear()
    job_id = recur(handler, Recurrence(cron="0 * * * *"), due="now() + interval '1 second'")
    handler.query("update jobs set recurrence = '{\"cron\": 7}' where id = %s", job_id)
    found = await get(handler, "/forecast")
    assert found["complete"] is False
    assert sum(bucket["runs"] for bucket in found["data"]) == 1


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"bucket": "0"}, "bucket"),
        ({"bucket": "-1"}, "bucket"),
        ({"bucket": "1.5"}, "bucket"),
        ({"bucket": ""}, "bucket"),
        ({"bucket": "59", "horizon": "90000"}, "bucket"),
        ({"bucket": "57"}, "bucket"),
        ({"horizon": "0"}, "horizon"),
        ({"horizon": str(31 * 86_400 + 1), "bucket": "86400"}, "horizon"),
        ({"horizon": "PT1H"}, "horizon"),
        ({"until": "2026-01-01T00:00:00Z"}, "until"),
    ],
)
async def test_wrong_parameters_of_a_forecast_are_named(
    refuse: Refuse, query: dict[str, str], parameter: str
) -> None:
    problem = await refuse("GET", "/forecast", 422, params=query)
    assert [error["pointer"] for error in problem["errors"]] == [parameter]


async def test_the_finest_and_the_farthest_forecast_are_answered(handler: Handler) -> None:
    assert len((await get(handler, "/forecast", bucket=1, horizon=1_500))["data"]) == 1_500
    assert len((await get(handler, "/forecast", bucket=58))["data"]) == 1_490
    assert len((await get(handler, "/forecast", bucket=2_678_400, horizon=1))["data"]) == 1


async def test_what_cannot_be_counted_soon_is_refused(handler: Handler) -> None:
    with handler.database.transaction():
        handler.query("lock table schedules in access exclusive mode")
        refused = await handler.http.get("/forecast")
    assert problem_of(refused, 503)["code"] == "too_much_to_count"
    assert refused.headers["retry-after"] == "1"
    await get(handler, "/forecast")


@pytest.mark.asyncio(loop_scope="function")
async def test_one_figure_is_counted_at_a_time(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "WAIT_SECONDS_MAX", 0.1)
    context: Any = SimpleNamespace(pool=pool, counting=asyncio.Lock())
    async with scans.snapshot(context, seconds=9.0):
        with pytest.raises(TooMuchToCount, match="Other figures"):
            async with scans.snapshot(context, seconds=9.0):
                pass
    async with scans.snapshot(context, seconds=9.0):
        pass


@pytest.mark.asyncio(loop_scope="function")
async def test_a_count_is_given_up_after_its_seconds(pool: Pool) -> None:
    async with pool.connection():
        context: Any = SimpleNamespace(pool=pool, counting=asyncio.Lock())
        with pytest.raises(TooMuchToCount, match="longer than 1 seconds"):
            async with scans.snapshot(context, seconds=1.0) as connection:
                await connection.execute("select pg_sleep(4)")
        async with scans.snapshot(context, seconds=1.0) as connection:
            cursor = await connection.execute(
                "select current_setting('transaction_isolation'), "
                "current_setting('transaction_read_only')"
            )
            assert await cursor.fetchone() == ("repeatable read", "on")
        async with pool.connection() as connection:
            cursor = await connection.execute("show enable_seqscan")
            assert await cursor.fetchone() == ("off",)


def buckets_from(now: datetime) -> dict[str, Any]:
    return Buckets.of(ForecastQuery(), now)._asdict()


@pytest.mark.asyncio(loop_scope="function")
@pytest.mark.parametrize(
    ("read", "index"),
    [(forecast._DUE, "schedules_due"), (forecast._RECURRING, "schedules_next_due")],
)
async def test_a_forecast_reads_what_is_due_by_then_and_not_the_whole_queue(
    pool: Pool, read: Read, index: str
) -> None:
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(
            "with job as (insert into jobs "
            "(application_id, url, method, timeout_seconds, run_at, recurrence) "
            "select 1, 'http://x/', 'POST', 5, now() + n * interval '1 minute', "
            'case when mod(n, 2) = 0 then \'{"cron": "@daily"}\'::jsonb end '
            "from generate_series(1, 50000) as n returning id, run_at, recurrence) "
            "insert into schedules (job_id, scheduled_for, due_at, is_next) "
            "select id, run_at, run_at, recurrence is not null from job"
        )
        await connection.execute("analyze jobs, schedules")
        await connection.execute(scans.SETTINGS.encode(), ("60s",))
        [[now]] = await forecast._NOW.rows(connection)
        cursor = await connection.execute(
            b"explain (format json) " + read.sql.encode(),
            {**read._defaults, "application_id": 1, **buckets_from(now)},
        )
        row = await cursor.fetchone()
    assert row is not None
    nodes = list(plan_nodes(row[0][0]["Plan"]))
    assert index in indexes(nodes)
    assert "schedules" not in scanned(nodes)


async def test_reckoning_counts_jobs_that_recur_alike_at_once() -> None:
    start = read_instant("2026-03-29T00:00:00Z")
    buckets = Buckets(start, read_instant("2026-03-30T00:00:00Z"), 3_600)
    # The clocks of Berlin skip 02:30 on that day: it is made up for at the end of the gap.
    rule = json.loads(Recurrence(cron="30 2 * * *", timezone="Europe/Berlin").document())
    counts, is_complete = reckon([Recurring(rule, start, None, 0, 1_000)], buckets)
    assert (dict(counts), is_complete) == ({1: 1_000}, True)
