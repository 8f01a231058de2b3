"""Settings that contradict each other or make no sense refuse to start, and say which and why."""

import pytest
from pydantic import ValidationError

from shared.settings import ExecutorSettings, HandlerSettings, explain


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"CLAIM_AHEAD_SECONDS": "0.5"}, ["CLAIM_AHEAD_SECONDS", "POLL_SECONDS"]),
        ({"LEASE_SECONDS": "2"}, ["LEASE_SECONDS", "LEASE_MARGIN_SECONDS"]),
        ({"IN_FLIGHT_MAX": "10"}, ["IN_FLIGHT_PER_DESTINATION_MAX", "IN_FLIGHT_MAX"]),
        ({"ROOM": "10"}, ["ROOM", "CLAIM_BATCH"]),
        (
            {"ALLOWED_PRIVATE_NETWORKS": "10.0.0.0/8, office"},
            ["ALLOWED_PRIVATE_NETWORKS", "office"],
        ),
        (
            {"BREAKER_OPEN_SECONDS_MAX": "1"},
            ["BREAKER_OPEN_SECONDS_MAX", "BREAKER_OPEN_SECONDS"],
        ),
        ({"CLAIM_BATCH": "many"}, ["CLAIM_BATCH"]),
        ({"LOG_FORMAT": "xml"}, ["LOG_FORMAT"]),
    ],
)
def test_a_bad_setting_is_named_by_its_variable(
    variables: dict[str, str], named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as refusal:
        ExecutorSettings()
    lines = explain(refusal.value)
    assert all(word in lines for word in named), lines


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "")
    assert HandlerSettings().port == 8080


def test_networks_may_be_parted_by_commas_or_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_PRIVATE_NETWORKS", "10.0.0.0/8,::1/128 127.0.0.0/8")
    networks = [str(network) for network in ExecutorSettings().private_networks]
    assert networks == ["10.0.0.0/8", "::1/128", "127.0.0.0/8"]


def test_an_explanation_never_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:s3cr3t@host/db")
    monkeypatch.setenv("PORT", "s3cr3t")
    with pytest.raises(ValidationError) as refusal:
        HandlerSettings()
    assert "s3cr3t" not in explain(refusal.value)
    assert "PORT" in explain(refusal.value)
