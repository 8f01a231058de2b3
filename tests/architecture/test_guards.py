"""The list of guards is about the code as it is."""

import pytest

from tests.architecture.test_generated_files import ROOT
from tests.guard_list import GUARDS, Guard


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: f"{guard.file}: {guard.name}")
def test_a_listed_guard_stands_where_the_list_says(guard: Guard) -> None:
    assert guard.code in (ROOT / guard.file).read_text()
    assert guard.code != guard.without
