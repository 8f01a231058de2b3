"""The chart, rendered once for each of its sets of values."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.deploy.render import CHART, Release, Renderer, value_set

SETS = sorted(path.name.removesuffix("-values.yaml") for path in CHART.glob("ci/*-values.yaml"))
# With a database of its own a release is not upgraded as it is installed.
RELEASES = [*SETS, "operators, upgraded"]


@pytest.fixture(scope="session")
def renderer() -> Iterator[Renderer]:
    with Renderer.started() as renderer:
        yield renderer


def _render(name: str) -> Release:
    values, _, upgraded = name.partition(", ")
    with Renderer.started() as renderer:
        return renderer.render(value_set(values), upgrade=bool(upgraded))


@pytest.fixture(scope="session")
def releases() -> dict[str, Release]:
    """Helm waits more than it works: so all at once."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(RELEASES, pool.map(_render, RELEASES), strict=True))


@pytest.fixture(params=RELEASES)
def release(releases: dict[str, Release], request: pytest.FixtureRequest) -> Release:
    return releases[request.param]
