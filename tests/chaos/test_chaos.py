"""Every scenario at full scale, with the settings that are shipped."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.scenarios import FULL, SCENARIOS, Scenario, play
from tests.chaos.stack import OwnServers

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(150)]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_every_promise_is_kept(
    scenario: Scenario,
    breakable_servers: OwnServers,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    verdict = await play(scenario, breakable_servers, tmp_path, scale=FULL)
    record_property("chaos", report.row(scenario.name, verdict))
    assert verdict.is_kept, report.told(verdict.breaches)
