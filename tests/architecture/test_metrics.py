"""Metrics are named as Prometheus asks: a prefix, a unit, and words that say what is counted.

https://prometheus.io/docs/practices/naming/
"""

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric

from documentation.modules import modules

list(modules())  # each registers its own as it is imported
OURS = [metric for metric in REGISTRY.collect() if metric.name.startswith("onthedot")]
# What is counted when it is no time: the last word of a gauge's or a histogram's name.
COUNTED = {
    "ahead",
    "flight",
    "info",
    "listeners",
    "open",
    "room",
    "runs",
    "size",
    "transactions",
    "up",
    "waiting",
}


def test_there_are_metrics_to_look_at() -> None:
    assert len(OURS) > 30


@pytest.mark.parametrize("metric", OURS, ids=lambda metric: metric.name)
def test_a_metric_says_what_it_counts_and_in_which_unit(metric: Metric) -> None:
    assert metric.documentation.endswith("."), "its help is a sentence"
    last = metric.name.rpartition("_")[2]
    if metric.type == "counter":
        assert last != "total", "the library adds it"
    else:
        assert last in COUNTED | {"seconds", "bytes"}, "name the unit, or what is counted"
