"""The scenarios: what is broken, how late that may make a timer, and how one of them is played."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.chaos.checker import Breach, Verdict, check
from tests.chaos.faults import combined, executors, handlers, postgres, redis
from tests.chaos.ledger import gather_evidence
from tests.chaos.stack import OwnServers, Scale, Stack, running
from tests.eventually import eventually

DRAIN_SECONDS_MAX = 60.0

FULL = Scale(
    per_second=210,
    delay_seconds_max=5,
    executors=3,
    lease_seconds=5.0,
    outage_seconds=3.0,
    long_outage_seconds=20.0,
    calls_before=300,
    accepted_after=300,
)
BRIEF = Scale(
    per_second=60,
    delay_seconds_max=2,
    executors=2,
    lease_seconds=4.0,
    outage_seconds=1.0,
    long_outage_seconds=4.0,
    calls_before=30,
    accepted_after=40,
    # A short lease makes a rescue quick; the proportions are those of the defaults.
    settings={
        "POLL_SECONDS": "0.5",
        "CLAIM_AHEAD_SECONDS": "0.6",
        "LEASE_SECONDS": "4",
        "LEASE_MARGIN_SECONDS": "0.3",
    },
)


@dataclass(frozen=True)
class Scenario:
    """One fault under load, and how late a timer may be because of it."""

    name: str
    fault: Callable[[Stack], Awaitable[None]]
    lateness_seconds_max: float
    slow_share: float = 0.1


# While nothing is out, a poll, and what the machine adds that runs all this and more.
AT_ONCE = 5.0
# Until a lease has lapsed and a rescue has come.
AFTER_A_RESCUE = 12.0
# Until Postgres is back, everyone has had a lease's time to record, and a rescue has come.
AFTER_AN_OUTAGE = 30.0

SCENARIOS = (
    Scenario("nothing", combined.nothing, AT_ONCE),
    Scenario("executor killed before the send", executors.killed_before_the_send, AFTER_A_RESCUE),
    Scenario(
        "executor killed during the send",
        executors.killed_during_the_send,
        AFTER_A_RESCUE,
        slow_share=0.9,
    ),
    Scenario("executor killed after the send", executors.killed_after_the_send, AFTER_A_RESCUE),
    Scenario("executor replaced", executors.replaced, AT_ONCE),
    Scenario("all executors replaced in turn", executors.all_replaced_in_turn, AT_ONCE),
    Scenario("executor stalled within lease", executors.stalled_within_the_lease, AFTER_A_RESCUE),
    Scenario("executor stalled beyond lease", executors.stalled_beyond_the_lease, AFTER_A_RESCUE),
    Scenario("Postgres killed", postgres.killed, AFTER_AN_OUTAGE),
    Scenario("Postgres stopped", postgres.stopped, AFTER_AN_OUTAGE),
    Scenario("connections terminated", postgres.terminates_every_connection, AFTER_AN_OUTAGE),
    Scenario("out of connections", postgres.out_of_connections, AFTER_AN_OUTAGE),
    Scenario("Postgres read-only", postgres.read_only, AFTER_AN_OUTAGE),
    Scenario("Postgres silent", postgres.silent, 20.0 + AFTER_AN_OUTAGE),
    Scenario("a snapshot held", postgres.holds_a_snapshot, AT_ONCE),
    Scenario("Redis killed", redis.killed, AT_ONCE),
    Scenario("Redis silent", redis.silent, AT_ONCE),
    Scenario("Redis flushed", redis.flushed, AT_ONCE),
    Scenario("lock deleted under its holder", redis.loses_the_lock, AT_ONCE),
    Scenario("handler killed mid-request", handlers.killed_mid_request, AT_ONCE),
    Scenario(
        "executor and Postgres killed", combined.executor_and_postgres_killed, AFTER_AN_OUTAGE
    ),
    Scenario(
        "executor killed, Postgres silent",
        combined.executor_killed_while_postgres_is_silent,
        AFTER_AN_OUTAGE,
    ),
    Scenario(
        "Redis killed, executor stalled",
        combined.redis_killed_and_executor_stalled,
        AFTER_A_RESCUE,
    ),
    Scenario("power cut", combined.power_cut, AFTER_AN_OUTAGE),
)


async def play(
    scenario: Scenario, servers: OwnServers, directory: Path, *, scale: Scale
) -> Verdict:
    """Start the load, break things in its midst, let everything come to rest, and judge."""
    async with running(servers, scale, directory, slow_share=scenario.slow_share) as stack:
        load = asyncio.create_task(stack.load.run())
        try:
            await stack.gets_calls(scale.calls_before)
            await scenario.fault(stack)
            await stack.accepts(scale.accepted_after)
        finally:
            stack.load.stop()
            await load
        # What does not drain is the checker's to tell.
        with contextlib.suppress(AssertionError):
            await eventually(stack.is_drained, within=DRAIN_SECONDS_MAX, every=0.1)
        complaints = await _end(stack)
        evidence = await gather_evidence(
            stack.database_url, stack.load.accepted, stack.receiver.calls, stack.casualties
        )
    verdict = check(evidence, lateness_seconds_max=scenario.lateness_seconds_max)
    return replace(verdict, breaches=[*verdict.breaches, *complaints])


async def _end(stack: Stack) -> list[Breach]:
    """Stop the services; one that ends badly, or logged a traceback, is a breach too."""
    try:
        await stack.services.stop()
    except AssertionError as complaint:
        return [Breach("ended badly", 0, str(complaint)[-4_000:])]
    return []
