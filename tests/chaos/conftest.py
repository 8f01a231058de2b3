"""Servers to break, and the report at the end of it all."""

from collections.abc import Iterator

import pytest

from tests.chaos.report import table
from tests.chaos.stack import OwnServers, own_servers


@pytest.fixture(scope="session")
def breakable_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServers]:
    with own_servers(tmp_path_factory.mktemp("breakable")) as servers:
        yield servers


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table: figures travel with each test's result, from whichever process it ran in."""
    rows = [
        row
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, row in getattr(report, "user_properties", ())
        if name == "chaos" and report.when == "call"
    ]
    if rows:
        terminalreporter.section("chaos")
        terminalreporter.write_line(table(sorted(rows)))
