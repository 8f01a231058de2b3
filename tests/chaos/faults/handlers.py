"""The handler is killed in the middle of requests."""

from tests.chaos.stack import Stack
from tests.eventually import eventually


async def killed_mid_request(stack: Stack) -> None:
    """SIGKILL, first while requests are read, then while Postgres is kept from committing.

    What the second one was writing is committed after its death: such timers exist, fire, and
    nobody was told.
    """
    await eventually(lambda: _are_waiting(stack, 1), every=0)
    await stack.handler.kill()
    await stack.handler.start()
    await stack.accepts(int(stack.scale.per_second / 4))
    async with stack.sql() as connection, connection.transaction():
        await connection.execute("lock table jobs in exclusive mode")
        await eventually(lambda: _are_waiting(stack, 10))
        await stack.handler.kill()
    await stack.handler.start()


def _are_waiting(stack: Stack, requests: int) -> None:
    assert stack.load.waiting >= requests
