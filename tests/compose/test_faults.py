"""What is deployed breaks, and is scaled, under load: nothing is lost, early, or doubled.

But for what was in flight with an executor that fell, which docs/guarantees.md excepts.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from tests.deployed.inbox import eventually
from tests.deployed.trial import (
    AFTER_A_RESCUE,
    AFTER_AN_OUTAGE,
    AT_ONCE,
    WHILE_STARTING,
    UnderLoad,
    await_rescue,
)

from .stack import Stack, is_ready

pytestmark = [pytest.mark.compose, pytest.mark.timeout(300)]

LEASE_SECONDS = 5.0  # the default
NOTICED_WITHIN_SECONDS = 90

Fault = Callable[[Stack, str, str], AbstractContextManager[None]]


@contextmanager
def crashed(stack: Stack, service: str, container: str) -> Iterator[None]:
    """Crash a container, and wait after the block until the engine has started it again."""
    before = restarts(stack, service)
    stack.crash(container)
    yield

    def look() -> None:
        assert restarts(stack, service) == before + 1
        assert all(is_ready(found) for found in stack.containers(service))

    eventually(look, within_seconds=NOTICED_WITHIN_SECONDS)


@contextmanager
def paused(stack: Stack, _service: str, container: str) -> Iterator[None]:
    """Freeze all processes of a container for this block; connections stay open."""
    # An engine gives up where processes start faster than it freezes them, as health checks may.
    eventually(lambda: stack.docker("pause", container), within_seconds=NOTICED_WITHIN_SECONDS)
    try:
        yield
    finally:
        stack.docker("unpause", container)


@contextmanager
def cut_off(stack: Stack, service: str, container: str) -> Iterator[None]:
    """Take a container off the network of Postgres and Redis for this block.

    Nobody is told: packets go nowhere. An executor still reaches its receivers.
    """
    network = f"{stack.project}_data"
    stack.docker("network", "disconnect", network, container)
    try:
        yield
    finally:
        stack.docker("network", "connect", "--alias", service, network, container)


def restarts(stack: Stack, service: str) -> int:
    return sum(container["RestartCount"] for container in stack.containers(service))


def await_readiness(stack: Stack, *, is_expected: bool) -> None:
    """Wait until the engine has noticed that no handler or executor is ready, or that all are."""

    def look() -> None:
        seen = [is_ready(container) for container in stack.containers("handler", "executor")]
        assert seen == [is_expected] * 3

    eventually(look, within_seconds=NOTICED_WITHIN_SECONDS)


def test_executors_are_added_and_taken_away(stack: Stack, load: UnderLoad):
    with load(WHILE_STARTING) as trial:
        stack.up("--scale", "executor=5", "--no-recreate")
        assert [is_ready(executor) for executor in stack.containers("executor")] == [True] * 5
        trial.gets_calls(200)
        stack.up("--scale", "executor=2", "--no-recreate")
        assert len(stack.containers("executor")) == 2


@pytest.mark.parametrize("service", ["postgres", "redis", "handler"])
def test_a_service_is_killed_and_comes_back(stack: Stack, load: UnderLoad, service: str):
    with (
        load(AFTER_AN_OUTAGE if service == "postgres" else AT_ONCE),
        crashed(stack, service, stack.container(service)),
    ):
        pass


@pytest.mark.parametrize("service", ["postgres", "redis"])
def test_a_server_is_cut_off_and_comes_back(stack: Stack, load: UnderLoad, service: str):
    with (
        load(AFTER_AN_OUTAGE if service == "postgres" else AT_ONCE) as trial,
        cut_off(stack, service, stack.container(service)),
    ):
        if service == "postgres":
            await_readiness(stack, is_expected=False)
        else:
            trial.gets_calls(400)
    await_readiness(stack, is_expected=True)


def test_postgres_stands_still_for_longer_than_every_lease(stack: Stack, load: UnderLoad):
    with load(AFTER_AN_OUTAGE), paused(stack, "postgres", stack.container("postgres")):
        await_readiness(stack, is_expected=False)
    await_readiness(stack, is_expected=True)


@pytest.mark.parametrize(
    ("fault", "sends_on_for_seconds"),
    [(crashed, 0.0), (paused, 0.0), (cut_off, LEASE_SECONDS)],
)
def test_an_executor_falls_and_comes_back(
    stack: Stack, load: UnderLoad, fault: Fault, sends_on_for_seconds: float
):
    with load(AFTER_A_RESCUE) as trial, ExitStack() as block:
        holder = trial.holder()
        with trial.falls(holder, sends_on_for_seconds=sends_on_for_seconds):
            block.enter_context(fault(stack, "executor", holder.container))
        await_rescue(stack, holder)
    await_readiness(stack, is_expected=True)
