"""Timers that are asked for without a pause while something is exchanged, and what came of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from tests.chaos.checker import check
from tests.chaos.ledger import gather_evidence
from tests.chaos.load import Load, Mix
from tests.chaos.report import told
from tests.eventually import eventually
from tests.receiver import Receiver

# On a machine that is busy with other tests, any lateness will do.
LATENESS_SECONDS_MAX = 60.0


class Traffic:
    """A load on one port, its receiver, and the database that both are judged by."""

    def __init__(self, database_url: str, receiver: Receiver, *, port: int) -> None:
        mix = Mix(per_second=60, delay_seconds_max=3)
        self.load = Load(port, mix, receiver.url)
        self._database_url = database_url
        self._receiver = receiver

    @asynccontextmanager
    async def flows(self) -> AsyncIterator[None]:
        """Ask for timers during this block, and before and after it."""
        task = asyncio.create_task(self.load.run())
        try:
            await self.goes_on()
            yield
            await self.goes_on()
        finally:
            self.load.stop()
            await task

    async def goes_on(self, timers: int = 30) -> None:
        """Wait until so many more timers are accepted."""
        wanted = len(self.load.accepted) + timers

        def were_accepted() -> None:
            accepted = len(self.load.accepted)
            assert accepted >= wanted, f"{accepted} of {wanted}; {self.load.refusals[-3:]}"

        await eventually(were_accepted, within=60)

    async def was_served_well(self) -> None:
        """Raise AssertionError if a request was refused, or a timer lost, early or doubled."""
        await eventually(self._is_drained, within=60, every=0.1)
        evidence = await gather_evidence(
            self._database_url, self.load.accepted, self._receiver.calls
        )
        verdict = check(evidence, lateness_seconds_max=LATENESS_SECONDS_MAX)
        assert not self.load.refusals, self.load.refusals
        assert verdict.is_kept, told(verdict.breaches)
        assert verdict.fired == verdict.accepted > 0, verdict

    async def _is_drained(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._database_url) as connection:
            cursor = await connection.execute("select count(*) from schedules")
            assert await cursor.fetchone() == (0,)
