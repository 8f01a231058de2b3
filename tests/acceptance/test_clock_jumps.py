"""Executors whose wall clocks are wrong, or are set while they run: timers do not notice.

Only the executors' wall clock is shifted, see tests/skewed_executor.py. The database, this test and
the receiver share the true one, so an arrival can be held against the instant it was planned for.
"""

import asyncio
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from time import time
from typing import Any

import pytest

from tests.acceptance.test_attempts import attempts
from tests.acceptance.test_faults import history
from tests.conftest import MakeRun
from tests.eventually import eventually
from tests.processes import Service, Services, free_port
from tests.receiver import Call, Receiver

HOUR = 3_600.0
LATE_SECONDS_MAX = 30.0  # a very busy machine; a wrong clock is off by an hour


class SkewedExecutor:
    """An executor with a clock of its own, that can be set."""

    def __init__(self, services: Services, directory: Path, name: str) -> None:
        self._skew_file = directory / f"{name}.skew"
        self._services = services
        self.service = Service(
            "tests.skewed_executor",
            port := free_port(),
            directory / f"{name}.log",
            {
                **services.environment,
                "HEALTH_PORT": str(port),
                "SKEW_FILE": str(self._skew_file),
            },
        )

    async def start(self, *, skew_seconds: float) -> None:
        self.set_clock(skew_seconds)
        self._services.started.append(self.service)
        await self.service.start()

    def set_clock(self, skew_seconds: float) -> None:
        """Replace the file in one step: it is read at any moment."""
        written = self._skew_file.with_suffix(".new")
        written.write_text(str(skew_seconds))
        written.rename(self._skew_file)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.service.events() if event["event"] == name]

    def skew_told(self, event: str) -> float:
        """How far off its own clock was when it logged this."""
        told = datetime.fromisoformat(self.events(event)[-1]["timestamp"])
        return told.timestamp() - time()


async def fired_on_time(services: Services, receiver: Receiver, jobs: list[int]) -> None:
    """Each run arrived once, not before its instant nor much after, and history says the same."""

    async def recorded() -> list[dict[str, Any]]:
        rows = await history(services.environment["DATABASE_URL"])
        assert len(rows) >= len(jobs)
        return rows

    rows = await eventually(recorded)
    assert [row["job_id"] for row in rows] == jobs, "one attempt each, none abandoned"
    for row in rows:
        assert (row["state"], row["attempt"]) == ("done", 1)
        assert 0 <= row["lateness_ms"] < LATE_SECONDS_MAX * 1000
        assert row["scheduled_for"] <= row["started_at"] <= row["finished_at"]
        assert abs(row["finished_at"].timestamp() - time()) < 60, "by the database's clock"
    assert sorted(call.job_id for call in receiver.calls) == jobs
    for call in receiver.calls:
        was_on_time(call)


def was_on_time(call: Call) -> None:
    assert 0 <= call.arrived_at - call.planned_at < LATE_SECONDS_MAX
    assert abs(int(call.headers["webhook-timestamp"]) - call.arrived_at) < 3


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_timers_go_on_arriving_when_the_wall_clock_is_set_while_they_wait(
    jump: float, services: Services, make_run: MakeRun, receiver: Receiver, tmp_path: Path
) -> None:
    executor = SkewedExecutor(services, tmp_path, "jumping")
    await executor.start(skew_seconds=0.0)
    jobs = [await make_run(url=receiver.url(), due_in=0.5 + number / 20) for number in range(100)]
    for skew_seconds, seen in ((jump, 20), (0.0, 80)):
        await eventually(lambda seen=seen: arrived(receiver, seen))
        executor.set_clock(skew_seconds)
    await fired_on_time(services, receiver, jobs)
    await eventually(lambda: noticed(executor, [jump, -jump]))


def noticed(executor: SkewedExecutor, steps: list[float]) -> None:
    assert [round(event["seconds"], -1) for event in executor.events("clock.set")] == steps


def arrived(receiver: Receiver, count: int) -> None:
    assert len(receiver.calls) >= count


async def test_executors_whose_clocks_disagree_work_together(
    services: Services, make_run: MakeRun, receiver: Receiver, tmp_path: Path
) -> None:
    """Each holds its lease in the others' eyes: nothing is rescued, nothing is sent twice."""
    skews = {"ahead": HOUR, "behind": -HOUR, "yesteryear": -400 * 24 * HOUR}
    executors = {name: SkewedExecutor(services, tmp_path, name) for name in skews}
    async with asyncio.TaskGroup() as group:
        for name, executor in executors.items():
            group.create_task(executor.start(skew_seconds=skews[name]))
    jobs = [await make_run(url=receiver.url(), due_in=0.5 + number / 20) for number in range(80)]
    await fired_on_time(services, receiver, jobs)
    for name, executor in executors.items():
        assert abs(executor.skew_told("executor.started") - skews[name]) < 60, "it was skewed"
        assert not executor.events("clock.set")
        assert not executor.events("lease.lost")


@pytest.mark.parametrize("skew_seconds", [HOUR, -HOUR])
async def test_a_retry_comes_after_its_delay_whatever_the_wall_clock_says(
    skew_seconds: float,
    services: Services,
    make_run: MakeRun,
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    """A date in Retry-After is an instant of the world: ours is the database's."""
    executor = SkewedExecutor(services, tmp_path, "skewed")
    await executor.start(skew_seconds=skew_seconds)
    date = format_datetime(datetime.fromtimestamp(int(time()) + 4, UTC), usegmt=True)
    job_id = await make_run(url=receiver.url(f"/retry-after/{date.replace(' ', '%20')}"))
    first, second = await attempts(services, job_id, count=2)
    assert (first["state"], second["state"]) == ("retrying", "done")
    assert 1 < (second["started_at"] - first["started_at"]).total_seconds() < 6
    for row in (first, second):
        assert 0 <= row["lateness_ms"] < LATE_SECONDS_MAX * 1000
