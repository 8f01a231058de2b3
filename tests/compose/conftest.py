"""Brings the stack up once for all tests here, and tells its logs where one of them fails."""

import secrets
import subprocess
from collections.abc import Callable, Generator, Iterator

import pytest

# The figures of trials are printed as those of `make chaos` are.
from tests.chaos.conftest import pytest_terminal_summary  # noqa: F401  # a hook of pytest
from tests.deployed.engine import refuse_without_engine
from tests.deployed.trial import UnderLoad, judged

from .stack import Stack

LATEST = ("--timestamps", "--tail", "300")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The stack, built, up and ready; afterwards nothing of it is left but the build cache."""
    refuse_without_engine(("compose", "version"))
    running = Stack(f"onthedot-test-{secrets.token_hex(4)}")
    try:
        try:
            running.up("--build")
        except (AssertionError, subprocess.TimeoutExpired) as failure:
            failure.add_note(running.logs(*LATEST))
            raise
        yield running
    finally:
        running.compose("--profile", "demo", "down", "--volumes", "--remove-orphans")
        running.docker("image", "rm", "--force", running.image, f"{running.image}-demo")


@pytest.fixture
def load(
    stack: Stack, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> UnderLoad:
    """A load around a block, and the judgement of it."""
    return judged(stack, request.node.name, record_property)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the services' logs to the report of a test that failed."""
    report = yield
    running = getattr(item, "funcargs", {}).get("stack")
    if call.when == "call" and report.failed and running:
        report.sections.append(("docker compose logs", running.logs(*LATEST)))
    return report
