"""Brings up a node, what the chart expects to find there, and the manifests; once for all tests."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

# The figures of trials are printed as those of `make chaos` are.
from tests.chaos.conftest import pytest_terminal_summary  # noqa: F401  # a hook of pytest
from tests.deployed.engine import refuse_without_engine
from tests.deployed.trial import UnderLoad, judged

from . import node
from .cluster import Cluster, outside_servers
from .engine import images

# A kubelet keeps what holds a pod together from being killed when memory is short; not every
# machine allows that.
LIKE_A_SANDBOX = ("--network", "none", "--oom-score-adj", "-998")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A node with the manifests applied; afterwards nothing of it is left but the build cache."""
    refuse_without_engine()
    try:
        programs = node.programs(os.environ.get("KUBERNETES_BIN", ""))  # noqa: TID251
    except node.MissingError as error:
        pytest.skip(str(error))
    directory = tmp_path_factory.mktemp("node")
    with ExitStack() as block:
        built = block.enter_context(images(f"onthedot-test-{secrets.token_hex(4)}"))
        refuse_without_engine(("run", "--rm", *LIKE_A_SANDBOX, built.services, "true"))
        servers = block.enter_context(outside_servers())
        running = block.enter_context(
            node.running(programs, directory, bridge=servers.bridge, pause_image=built.pause)
        )
        cluster = Cluster(running, built.services, servers)
        cluster.install()
        yield cluster


@pytest.fixture
def load(
    cluster: Cluster, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> UnderLoad:
    """A load around a block, and the judgement of it."""
    return judged(cluster, request.node.name, record_property)
