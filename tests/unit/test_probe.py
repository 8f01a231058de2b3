"""The image's health check looks where the services answer."""

import pytest

from shared import probe
from shared.settings import ExecutorSettings, HandlerSettings


@pytest.mark.parametrize(
    ("service", "settings"),
    [("handler_service", HandlerSettings), ("executor_service", ExecutorSettings)],
)
def test_it_knows_the_defaults_of_the_settings_that_it_does_not_read(service, settings):
    host, port, default = probe.SERVICES[service]
    assert settings.model_fields[port.lower()].default == default
    assert settings.model_fields[host.lower()].default == probe.LOOPBACK
