"""The blocks that cannot run where the tests do, why, and what is checked of them instead."""

import re
import subprocess
from collections.abc import Iterator

import yaml

from tests.docs.blocks import ROOT, Block

# By the command that a block begins with.
NOT_HERE = {
    "docker": "needs a Docker engine; `make compose-test` runs the stack",
    "kubectl": "needs a cluster",
    "helm": "needs helm and a cluster; tests/deploy renders the chart",
    "redis-cli": "comes with Redis, and the tests' own server has no client",
    "git": "needs the address that the reader has it from; `make newcomer` makes a clone",
    "pip": "would install into the tests' own Python; tests/client/test_packaging.py does it apart",
    "promtool": "comes with Prometheus",
    "make up": "the tutorial's test follows it",
    "make test": "is what runs this",
}


def runs_elsewhere(block: Block) -> bool:
    return block.language == "sh" and not block.title and block.command in NOT_HERE


def faults(block: Block) -> Iterator[str]:
    """Say what can be seen to be wrong with a block, without running it."""
    parsed = subprocess.run(
        ["bash", "-n"], input=block.text, check=False, capture_output=True, text=True
    )
    if parsed.returncode:
        yield parsed.stderr
    for word in re.findall(r"(?<![\w/:.-])(?:deploy|docs|examples)/[\w./-]+", block.text):
        if (ROOT / word.split("/")[0]).exists() and not (ROOT / word).exists():
            yield f"there is no {word}"
    if block.command == "helm":
        yield from _unknown_values(block.text)
    if block.command == "docker":
        yield from _unknown_services(block.text)


def unknown_keys(given: object, known: object, at: str = "") -> Iterator[str]:
    """Name the keys of values that the chart has not; what it leaves open (`{}`) takes any."""
    if isinstance(given, dict) and isinstance(known, dict) and known:
        for name, value in given.items():
            if name not in known:
                yield f"the chart has no value {at}{name}"
            else:
                yield from unknown_keys(value, known[name], f"{at}{name}.")


def chart_values() -> object:
    """The chart's values with their defaults; None while there is no chart."""
    path = ROOT / "deploy/helm/onthedot/values.yaml"
    return yaml.safe_load(path.read_text()) if path.exists() else None


def _unknown_values(text: str) -> Iterator[str]:
    known = chart_values()
    for path in re.findall(r"--set(?:-string)?[ =]'?([\w.\[\]]+)=", text):
        given: object = ""
        for name in reversed(re.sub(r"\[\d+\].*", "", path).split(".")):
            given = {name: given}
        yield from unknown_keys(given, known)


def _unknown_services(text: str) -> Iterator[str]:
    known = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    named = re.findall(r"--scale (\w+)=", text)
    named += re.findall(r"docker compose (?:logs|exec|restart|stop|kill)(?: --?\w+)* (\w+)", text)
    yield from (f"there is no service {name}" for name in named if name not in known)
