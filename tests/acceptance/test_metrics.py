"""What an executor's metrics say, and that no label of any service grows without end."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
from prometheus_client.parser import text_string_to_metric_families

from tests.eventually import eventually
from tests.processes import Service, Services, free_port
from tests.receiver import Receiver

Read = Callable[..., Awaitable[float]]


async def read(service: Service, sample: str, /, **labels: str) -> float:
    """The sum of the samples of this name that carry these labels."""
    async with httpx.AsyncClient() as http:
        metrics = (await http.get(f"{service.url}/metrics")).text
    return sum(
        found.value
        for family in text_string_to_metric_families(metrics)
        for found in family.samples
        if found.name == sample and found.labels.items() >= labels.items()
    )


async def test_attempts_are_counted_by_outcome_and_timed(
    services: Services, api: httpx.AsyncClient, receiver: Receiver
) -> None:
    executor = await services.executor(BREAKER_FAILURES="1000")
    nobody = f"http://127.0.0.1:{free_port()}/"
    timers = [
        {"seconds": 1, "url": receiver.url(path), "retry": "none"}
        for path in ("/well", "/well", "/status/404", "/status/503")
    ]
    timers.append({"seconds": 1, "url": nobody, "retry": {"max_attempts": 2, "base": 60}})
    timers.append({"seconds": 1, "url": "http://10.0.0.1/", "retry": "none"})
    created = await api.post("/timers/batch", json={"timers": timers})
    ids = [timer["id"] for timer in created.json()["data"]]

    async def recorded() -> None:
        assert await read(executor, "onthedot_webhooks_fired_total") == 6

    await eventually(recorded)
    for move, count in {"deliver": 2, "bury": 3, "retry": 1}.items():
        assert await read(executor, "onthedot_webhooks_fired_total", move=move) == count
    for error, count in {"status": 2, "connect": 1, "egress": 1}.items():
        assert await read(executor, "onthedot_webhook_failures_total", error=error) == count
    assert await read(executor, "onthedot_webhook_seconds_count") == 6
    assert await read(executor, "onthedot_lateness_seconds_count") == 6
    assert await read(executor, "onthedot_build_info", service="executor") == 1

    failed = {
        event["job_id"]: event for event in executor.events() if event["event"] == "attempt.failed"
    }
    assert {job: (e["error"], e["move"], e["level"]) for job, e in failed.items()} == {
        ids[2]: ("status", "bury", "info"),
        ids[3]: ("status", "bury", "info"),
        ids[5]: ("egress", "bury", "info"),
    }
    run_ids = {call.webhook_id for call in receiver.calls}
    assert {failed[ids[2]]["run_id"], failed[ids[3]]["run_id"]} < run_ids


async def test_a_backlog_that_nobody_takes_is_told_with_its_age(
    services: Services, database_url: str
) -> None:
    executor = await services.executor(CLAIM_BATCH="1", ROOM="1")
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute(
            "insert into jobs (application_id, url, method, timeout_seconds, run_at, state)"
            " select 1, 'http://127.0.0.1:9/', 'POST', 1, now() - interval '1 hour', 'active'"
            " from generate_series(1, 300)"
        )
        # Whoever looks at them waits: so they stay a backlog.
        with psycopg.connect(database_url) as holder:
            holder.execute(
                "insert into schedules (job_id, scheduled_for, due_at)"
                " select id, run_at, run_at from jobs"
            )
            holder.commit()
            holder.execute("select from schedules for update")

            async def told() -> None:
                assert await read(executor, "onthedot_backlog_runs") == 300
                assert 3_600 < await read(executor, "onthedot_backlog_age_seconds") < 3_700
                assert await read(executor, "onthedot_postgres_oldest_snapshot_seconds") > 0
                assert await read(executor, "onthedot_postgres_oldest_xmin_transactions") >= 0

            await eventually(told)
            holder.rollback()
        database.execute("truncate schedules, jobs")

    async def gone() -> None:
        assert await read(executor, "onthedot_backlog_runs") == 0
        assert await read(executor, "onthedot_backlog_age_seconds") == 0

    await eventually(gone)


async def test_redis_clock_and_partitions_are_told(services: Services) -> None:
    executor, without_redis, handler, alone = await asyncio.gather(
        services.executor(),
        services.executor(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0"),
        services.handler(),
        services.handler(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0"),
    )
    up = [
        await read(service, "onthedot_redis_up")
        for service in (executor, without_redis, handler, alone)
    ]
    assert up == [1, 0, 1, 0]

    async def told() -> None:
        assert await read(executor, "onthedot_history_days_ahead") == 7
        assert 0 < abs(await read(executor, "onthedot_clock_offset_seconds")) < 1  # one machine
        assert await read(executor, "onthedot_lease_renewals_total", result="renewed") > 0

    await eventually(told)


async def test_a_missing_day_of_history_is_told(services: Services, database_url: str) -> None:
    executor = await services.executor()
    later = datetime.now(UTC) + timedelta(days=4)

    async def made() -> None:
        assert await read(executor, "onthedot_history_days_ahead") == 7

    await eventually(made)
    await executor.stop()
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute(f"drop table executions_{later:%Y_%m_%d}")
        with psycopg.connect(database_url) as reader:
            reader.execute("lock table executions in access share mode")
            second = await services.executor()

            async def missing() -> None:
                assert await read(second, "onthedot_history_days_ahead") == 3

            await eventually(missing)


BOUNDED = {
    "le",
    "method",
    "route",
    "status",
    "version",
    "service",
    "move",
    "error",
    "lock",
    "result",
    "what",
    "state",
    "kind",
    "generation",  # Python's own
    "implementation",
    "major",
    "minor",
    "patchlevel",
}


async def test_no_label_tells_one_job_from_another(
    services: Services, api: httpx.AsyncClient, receiver: Receiver
) -> None:
    """Else a million jobs were a million series."""
    executor = await services.executor()

    async def series() -> set[str]:
        async with httpx.AsyncClient() as http:
            texts = [
                (await http.get(f"{url}/metrics")).text for url in (executor.url, api.base_url)
            ]
        found = {
            f"{sample.name}{sorted(sample.labels.items())}"
            for text in texts
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        labels = {
            label
            for text in texts
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            for label in sample.labels
        }
        assert labels <= BOUNDED
        return found

    async def use(number: int) -> None:
        path = f"/status/{404 if number % 2 else 204}/{number}"
        job = await api.post(
            "/jobs", json={"url": receiver.url(path), "key": f"k{number}", "retry": "none"}
        )
        job_id = job.json()["id"]

        async def ended() -> None:
            last = (await api.get(f"/jobs/{job_id}")).json()["last_run"]
            assert last is not None
            assert last["state"] in {"done", "failed"}, last

        await eventually(ended)
        await api.get(f"/jobs?key=k{number}")
        await api.get(f"/nothing/{number}")

    for number in range(2):
        await use(number)
    await series()  # which is a request too
    before = await series()
    await asyncio.gather(*(use(number) for number in range(2, 20)))
    assert await series() == before
