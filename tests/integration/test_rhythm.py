"""The rhythm goes on whatever is done to the wall clock."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from executor_service import rhythm
from executor_service.rhythm import Rhythm
from tests.eventually import eventually


@pytest.mark.parametrize("hours", [-1, 1])
async def test_beats_go_on_when_the_wall_clock_is_set(
    hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """APScheduler alone would stand still for an hour after a step back."""
    step = 0.0

    class Wall(datetime):
        @classmethod
        def now(cls, _tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(seconds=step)

    monkeypatch.setattr(rhythm, "time", lambda: Wall.now().timestamp())
    monkeypatch.setattr(rhythm, "datetime", Wall)
    monkeypatch.setattr("apscheduler.schedulers.base.datetime", Wall)
    monkeypatch.setattr("apscheduler.triggers.interval.datetime", Wall)
    beats = 0

    async def beat() -> None:
        nonlocal beats
        beats += 1

    kept = Rhythm()
    kept.every(0.1, beat, name="beat")
    task = asyncio.create_task(kept.run())
    await eventually(lambda: at_least(beats, 3))
    step = hours * 3_600.0
    before = beats
    await eventually(lambda: at_least(beats, before + 15), within=5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def at_least(found: int, wanted: int) -> None:
    assert found >= wanted


async def test_a_beat_that_outlasts_the_stop_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Pruning may wait for a lock just when SIGTERM comes."""
    begun, end = asyncio.Event(), asyncio.Event()

    async def beat() -> None:
        begun.set()
        await end.wait()

    kept = Rhythm()
    kept.every(3_600, beat, name="beat")
    task = asyncio.create_task(kept.run())
    await begun.wait()
    await kept.finish(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for _ in range(5):
        await asyncio.sleep(0)  # what the scheduler says of it, it says in the loop's next turns
    end.set()
    assert caplog.records == []
