"""What an endpoint creates by: the group commit, or a transaction of its request's own."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Protocol

from shared.database import Connection
from shared.runs import moves
from shared.runs.moves import Created, NewJob


class Creator(Protocol):
    """What an endpoint creates by, whether or not the request came with an Idempotency-Key."""

    async def create(self, job: NewJob) -> Created:
        """Create a job."""

    async def create_together(self, jobs: list[NewJob]) -> list[Created]:
        """Create jobs, all or none; answer them in order."""

    def transaction(
        self, *, seconds: float | None = None
    ) -> AbstractAsyncContextManager["Transaction"]:
        """Lend the transaction for whatever else an endpoint makes, if one is begun for so long."""


class Transaction:
    """The transaction of one request; what must not be said before the commit waits for it."""

    def __init__(
        self,
        connection: Connection,
        announce: Callable[[Sequence[NewJob], Sequence[Created]], None],
    ) -> None:
        self.connection = connection
        self._announce = announce
        self._afterwards: list[Callable[[], None]] = []

    async def create(self, job: NewJob) -> Created:
        """Create a job; it is announced once it is committed."""
        [created] = await self.create_together([job])
        return created

    async def create_together(self, jobs: list[NewJob]) -> list[Created]:
        """Create jobs, in order; they are announced once they are committed."""
        created = await moves.create(self.connection, jobs)
        self.after_commit(partial(self._announce, jobs, created))
        return created

    @asynccontextmanager
    async def transaction(self, *, seconds: float | None = None) -> AsyncIterator["Transaction"]:  # noqa: ARG002
        """Lend this transaction itself: what is made in it is committed with everything else."""
        yield self

    def after_commit(self, act: Callable[[], None]) -> None:
        """Do this once the transaction is committed, and never if it is not."""
        self._afterwards.append(act)

    def committed(self) -> None:
        """Do what waited for the commit."""
        for act in self._afterwards:
            act()
