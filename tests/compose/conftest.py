"""Brings the stack up once for all tests here, and tells its logs where one of them fails."""

import secrets
import subprocess
from collections.abc import Generator, Iterator

import pytest

# The figures of trials are printed as those of `make chaos` are.
from tests.chaos.conftest import pytest_terminal_summary  # noqa: F401  # a hook of pytest

from .stack import Stack

LATEST = ("--timestamps", "--tail", "300")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The stack, built, up and ready; afterwards nothing of it is left but the build cache."""
    refuse_without_engine()
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


def refuse_without_engine() -> None:
    """Skip where docker, its compose plugin or its engine is missing, and say which."""
    for question in (("version",), ("compose", "version")):
        try:
            answer = subprocess.run(
                ["docker", *question], capture_output=True, text=True, timeout=60, check=False
            )
        except OSError as error:
            pytest.skip(f"there is no docker command: {error}")
        if answer.returncode:
            pytest.skip(f"docker {' '.join(question)} says: {answer.stderr.strip()}")


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
