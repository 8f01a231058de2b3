"""The chaos suite's faults under a small load, so that a breach is seen before `make chaos`.

Those that `test_faults.py` and `test_postgres_misbehaves.py` do not try already. Faults that are
soon mended share a stack, one after the other: starting it takes longer than they do.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.faults import combined, executors, handlers, postgres, redis
from tests.chaos.scenarios import BRIEF, Scenario, play
from tests.chaos.stack import OwnServers, own_servers

# On a machine that is busy with other tests, any lateness will do.
LATENESS_SECONDS_MAX = 60.0

FAULTS = {
    "Redis is silent, emptied, and forgets who holds the lock": combined.in_turn(
        redis.silent, redis.flushed, redis.loses_the_lock
    ),
    "Postgres ends every session, has none left, restarts, and keeps old rows": combined.in_turn(
        postgres.terminates_every_connection,
        postgres.out_of_connections,
        postgres.stopped,
        postgres.holds_a_snapshot,
    ),
    "an executor stalls within its lease, and all are replaced": combined.in_turn(
        executors.stalled_within_the_lease, executors.all_replaced_in_turn
    ),
    "the handler is killed in the middle of requests": handlers.killed_mid_request,
    "an executor is killed with answers unrecorded": executors.killed_after_the_send,
    "an executor and Postgres are killed": combined.executor_and_postgres_killed,
    "an executor is killed while Postgres is silent": (
        combined.executor_killed_while_postgres_is_silent
    ),
    "Redis is killed and an executor stalls": combined.redis_killed_and_executor_stalled,
    "the power is cut": combined.power_cut,
}


@pytest.fixture(scope="module")
def breakable_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServers]:
    with own_servers(tmp_path_factory.mktemp("breakable")) as servers:
        yield servers


@pytest.mark.parametrize("name", FAULTS)
async def test_every_promise_is_kept_while(
    name: str, breakable_servers: OwnServers, tmp_path: Path
) -> None:
    verdict = await play(
        Scenario(name, FAULTS[name], LATENESS_SECONDS_MAX),
        breakable_servers,
        tmp_path,
        scale=BRIEF,
    )
    assert verdict.is_kept, report.told(verdict.breaches)
