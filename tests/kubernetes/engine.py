"""Docker, below Kubernetes: the images that a node runs, and what a person may ask of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.deployed.command import answer_of

ROOT = Path(__file__).parents[2]
BUILD_SECONDS = 900

# What holds a pod's network while its containers come and go: it does nothing, and ends at once.
PAUSE = """
FROM {services}
USER 0
HEALTHCHECK NONE
STOPSIGNAL SIGKILL
CMD ["sleep", "infinity"]
"""


class Images(NamedTuple):
    """The images that a node runs."""

    services: str
    pause: str


def docker(*arguments: str, given: str | None = None, seconds: float = 60) -> str:
    """Run docker, and answer what it printed; a failure tells what it complained of."""
    return answer_of("docker", *arguments, given=given, seconds=seconds)


@contextmanager
def images(name: str) -> Iterator[Images]:
    """Build them for this block."""
    built = Images(f"{name}:services", f"{name}:pause")
    docker("build", "--tag", built.services, str(ROOT), seconds=BUILD_SECONDS)
    docker("build", "--tag", built.pause, "-", given=PAUSE.format(services=built.services))
    try:
        yield built
    finally:
        docker("image", "rm", "--force", *built)
