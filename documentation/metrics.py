"""The metrics of both services, as their modules register them."""

from collections.abc import Iterator
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric

from documentation.markdown import code, head, table
from documentation.modules import modules, services_of

SUFFIX = {"counter": "_total", "info": "_info"}
OPENING = """
Each process answers its own at `/metrics`: a handler on `PORT`, an executor on `HEALTH_PORT`.
Beside these stand the usual `process_…` and `python_…` metrics. A histogram has `_bucket`, `_sum`
and `_count`. [What to watch](../operating.md#what-to-watch) says what they are for.
"""


def page() -> str:
    """Render every metric of ours: name, kind, labels, whose it is, meaning."""
    rows = sorted(
        (
            code(metric.name + SUFFIX.get(metric.type, "")),
            metric.type,
            ", ".join(map(code, labels)),
            service,
            metric.documentation,
        )
        for metric, labels, service in _registered()
    )
    header = ("name", "kind", "labels", "of", "means")
    return "\n".join([head("Metrics", OPENING.strip()), table(header, rows)])


def _registered() -> Iterator[tuple[Metric, tuple[str, ...], str]]:
    packages = _packages()
    # What is registered is not public; what a collector says of itself is.
    for collector in list(REGISTRY._collector_to_names):
        for metric in getattr(collector, "describe", lambda: ())():
            if metric.name.startswith("onthedot_"):
                labels = tuple(getattr(collector, "_labelnames", ()))
                yield metric, labels, services_of(packages.get(id(collector), {"shared"}))


def _packages() -> dict[int, set[str]]:
    """In which packages each value of a module is known, by its identity."""
    found: dict[int, set[str]] = {}
    for module in modules():
        value: Any
        for value in vars(module).values():
            found.setdefault(id(value), set()).add(module.__name__.partition(".")[0])
    return found
