"""The demo profile: a receiver that shows what comes, and the one address that it opens."""

import re

import pytest

from tests.deployed.inbox import eventually

from .stack import Stack
from .test_compose import await_end, create

pytestmark = pytest.mark.compose


def test_the_demo_receiver_shows_each_webhook_its_lateness_and_that_it_is_signed(stack: Stack):
    stack.up("--build", profiles=("demo",))
    jobs = create(stack, "/demo", seconds=1, receiver="http://receiver:9000")
    assert await_end(stack, jobs) == {"done": 1}

    def look() -> None:
        shown = [
            line
            for line in stack.logs("--no-log-prefix", "receiver").splitlines()
            if "/demo" in line
        ]
        assert len(shown) == 1
        assert re.search(r"POST /demo .*late: \d+\.\d ms .*signature: holds ", shown[0])

    eventually(look, within_seconds=10)


def test_nothing_else_on_the_demo_network_is_ever_called(stack: Stack):
    gateway = f"http://{stack.demo_network}.1:9000"
    jobs = create(stack, "/refused", seconds=1, receiver=gateway)

    assert await_end(stack, jobs) == {"failed": 1}
    [[error]] = stack.select(f"select error from executions where job_id = {jobs[0]}")
    assert error.startswith("egress")
