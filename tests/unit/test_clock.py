"""The database's clock as seen from here: never ahead of it, soon close to it."""

from datetime import UTC, datetime
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_service import clock
from executor_service.clock import DRIFT, DatabaseClock


class World:
    """Two clocks that we set: the database's, and this machine's monotonic one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.elapsed = 1_000.0
        self.offset = 1_800_000_000.0
        monkeypatch.setattr(clock, "monotonic", lambda: self.elapsed)

    @property
    def database(self) -> float:
        return self.elapsed + self.offset

    def observe(self, ours: DatabaseClock, *, there: float, back: float) -> bool:
        """Ask and hear, with so many seconds on the way there and back."""
        asked_at = self.elapsed
        self.elapsed += there
        reading = datetime.fromtimestamp(self.database, UTC)
        self.elapsed += back
        return ours.observe(reading, asked_at=asked_at, heard_at=self.elapsed)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


milliseconds = st.floats(min_value=0.0, max_value=0.5)


@given(trips=st.lists(st.tuples(milliseconds, milliseconds), min_size=1, max_size=20))
def test_it_is_never_ahead_of_the_database_however_long_the_answers_take(
    trips: list[tuple[float, float]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World(patch)
        ours = DatabaseClock()
        for there, back in trips:
            world.observe(ours, there=there, back=back)
            assert ours.now() <= world.database + 1e-6
            world.elapsed += 1.0
            assert ours.now() <= world.database + 1e-6


def test_it_lags_by_no_more_than_the_fastest_answer_took(world: World) -> None:
    ours = DatabaseClock()
    for back in (0.2, 0.001, 0.3, 0.2):
        world.observe(ours, there=0.0, back=back)
    assert world.database - ours.now() < 0.001 + 4 * DRIFT


def test_it_follows_a_database_clock_that_was_set(world: World) -> None:
    ours = DatabaseClock()
    for step in (0.0, -3_600.0, 7_200.0):
        world.offset += step
        world.elapsed += 1.0
        world.observe(ours, there=0.0005, back=0.0005)
        assert world.database - 0.002 < ours.now() <= world.database


def test_it_says_whether_the_database_clock_goes_as_it_went(world: World) -> None:
    ours = DatabaseClock()
    for step, goes_on in ((0.0, True), (0.0, True), (10.0, False), (0.0, True), (-10.0, False)):
        world.offset += step
        world.elapsed += 1.0
        assert world.observe(ours, there=0.3, back=0.3) == goes_on


def test_it_does_not_run_ahead_of_a_database_clock_that_is_slewed(world: World) -> None:
    """NTP slows a clock by up to 500 ppm."""
    ours = DatabaseClock()
    for _ in range(30):
        world.observe(ours, there=0.0, back=0.0001)
        world.elapsed += 1.0
        world.offset -= 500e-6
        assert ours.now() <= world.database + 1e-6


def test_it_tells_the_time_of_the_reading() -> None:
    ours = DatabaseClock()
    asked_at = monotonic()
    ours.observe(datetime.now(UTC), asked_at=asked_at, heard_at=monotonic())
    assert abs(ours.now() - datetime.now(UTC).timestamp()) < 0.1
