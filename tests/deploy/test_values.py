"""Values: what is refused, by which name; that each is described, and does what it says."""

from collections.abc import Iterator
from typing import Any

import pytest

from shared.settings import ExecutorSettings, HandlerSettings, Settings
from tests.deploy.render import CHART, Object, RefusedError, Renderer, value_set
from tests.deploy.values_table import default_of, leaves, readme, schema

# Set by the chart itself, by a value of another name, or by a Secret.
NOT_BY_SETTINGS = {
    "DATABASE_URL",
    "REDIS_URL",
    "PORT",
    "HEALTH_PORT",
    "ALLOWED_PRIVATE_NETWORKS",
}


def at(path: str, value: Any) -> Object:
    for name in reversed(path.split(".")):
        value = {name: value}
    return value  # type: ignore[no-any-return]


def over(base: Object, more: Object) -> Object:
    merged = dict(base)
    for name, value in more.items():
        both = isinstance(value, dict) and isinstance(base.get(name), dict)
        merged[name] = over(base[name], value) if both else value
    return merged


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("postgres.existingSecret", "", "postgres.existingSecret: name a Secret"),
        ("redis.existingSecret", "", "redis.existingSecret: name a Secret"),
        ("redis.valkey.enabled", True, "redis.valkey.existingSecret: name a Secret"),
        ("image.tag", "latest", "/image/tag"),
        ("image.digest", "sha256:abc", "/image/digest"),
        ("redis.valkey.image.tag", "latest", "/redis/valkey/image/tag"),
        ("executor.keda", {"enabled": True}, "'keda' not allowed"),  # it and an HPA at once
        ("executor.autoscaling.type", ["hpa", "keda"], "/executor/autoscaling/type"),
        ("handler.autoscaling.type", "keda", "/handler/autoscaling/type"),
        ("executor.autoscaling.minReplicas", 0, "/executor/autoscaling/minReplicas"),
        ("executor.autoscaling.minReplicas", 11, "executor.autoscaling.minReplicas is above"),
        ("handler.replicas", "2", "/handler/replicas"),
        ("handler.settings.DATABASE_CONECTIONS", 4, "'DATABASE_CONECTIONS' not allowed"),
        ("handler.settings.STOP_GRACE_SECONDS", 4, "'STOP_GRACE_SECONDS' not allowed"),
        ("executor.settings.STOP_GRACE_SECONDS", "15s", "STOP_GRACE_SECONDS"),
        ("settings.DATABASE_URL", "postgresql://u:p@h/d", "'DATABASE_URL' not allowed"),
        ("executor.extraEnv", [{"name": "REDIS_URL", "value": "x"}], "/executor/extraEnv/0/name"),
        ("executor.allowedPrivateNetworks", ["10.0.0.1"], "/executor/allowedPrivateNetworks/0"),
        ("executor.resources.limits.memory", None, "'memory'"),
        ("handler.ingress.enabled", True, "/handler/ingress/hosts"),
        ("handler.httpRoute.enabled", True, "/handler/httpRoute/parentRefs"),
        ("handler.podDisruptionBudget.maxUnavailable", "0%", "maxUnavailable"),
        ("networkPolicy.dns", [], "/networkPolicy/dns"),
        ("monitoring.rules.runbookUrl", "runbooks", "/monitoring/rules/runbookUrl"),
        ("monitoring.monitors.intervalSeconds", 60, "/monitoring/monitors/intervalSeconds"),
        ("migrations.extraEnv", [{"name": "DATABASE_URL"}], "/migrations/extraEnv/0/name"),
        ("migration", {}, "'migration' not allowed"),
    ],
)
def test_wrong_values_are_refused_by_their_name(
    renderer: Renderer, path: str, value: Any, named: str
) -> None:
    with pytest.raises(RefusedError) as refusal:
        renderer.render(over(value_set("external"), at(path, value)))
    assert named in str(refusal.value)


def test_a_prometheus_without_an_address_is_refused(renderer: Renderer) -> None:
    keda = {"trigger": "prometheus", "backlogRuns": 500}
    values = over(value_set("keda"), at("executor.autoscaling.keda", keda))
    with pytest.raises(RefusedError, match=r"keda\.prometheusAddress: say where"):
        renderer.render(values)


def test_a_backlog_that_prometheus_cannot_tell_is_refused(renderer: Renderer) -> None:
    keda = {"trigger": "prometheus", "prometheusAddress": "http://prometheus:9090"}
    autoscaling = {"type": "keda", "keda": keda | {"backlogRuns": 2_000}, "maxReplicas": 5}
    values = over(value_set("external"), at("executor.autoscaling", autoscaling))
    renderer.render(values)
    with pytest.raises(RefusedError, match=r"keda\.backlogRuns × maxReplicas .* 10000: lower"):
        renderer.render(over(values, at("executor.autoscaling.maxReplicas", 6)))


def test_a_drain_lasts_as_long_as_the_setting_lets_it() -> None:
    (described,) = [each for name, each in leaves(schema()) if name == "handler.settings"]
    drain = described["properties"]["DRAIN_SECONDS"]
    field = HandlerSettings.model_json_schema()["properties"]["drain_seconds"]
    assert (drain["minimum"], drain["maximum"]) == (field["minimum"], field["maximum"])


def test_without_any_value_the_chart_says_what_it_needs(renderer: Renderer) -> None:
    with pytest.raises(RefusedError, match=r"postgres\.existingSecret: name a Secret"):
        renderer.render({})


def test_every_value_has_a_default_and_every_default_is_described() -> None:
    described = {path for path, _ in leaves(schema())}
    for path in described:
        default_of(path)

    def paths(values: Object, prefix: str = "") -> Iterator[str]:
        for name, value in values.items():
            path = f"{prefix}{name}"
            if path in described:
                yield path
            else:
                assert isinstance(value, dict), f"{path} is not in values.schema.json"
                yield from paths(value, f"{path}.")

    found = set(
        paths({name: default_of(name) for name in schema()["properties"] if name != "global"})
    )
    assert found == described


def test_the_schema_lets_nothing_pass_that_it_does_not_describe() -> None:
    def objects(part: Object) -> Iterator[Object]:
        if "properties" in part:
            yield part
            for each in part["properties"].values():
                yield from objects(each)

    for each in objects(schema()):
        assert each["additionalProperties"] is False, each.get("description")
    for path, each in leaves(schema()):
        assert each["description"].endswith("."), path


def test_the_readme_has_every_value() -> None:
    assert (CHART / "README.md").read_text() == readme(), "run `make docs`"


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("settings", Settings),
        ("handler.settings", HandlerSettings),
        ("executor.settings", ExecutorSettings),
    ],
)
def test_the_schema_knows_every_setting(path: str, model: type[Settings]) -> None:
    (described,) = [each for name, each in leaves(schema()) if name == path]
    wanted = {name.upper() for name in model.model_fields} - NOT_BY_SETTINGS
    assert set(described["properties"]) == wanted
    for name in set(described["properties"]):
        is_number = isinstance(model.model_fields[name.lower()].default, int | float)
        assert (described["properties"][name]["type"] == "number") is is_number, name


def test_the_defaults_that_stop_an_executor_are_those_of_the_settings() -> None:
    defaults = default_of("executor.settings")
    for name in ("STOP_GRACE_SECONDS", "LEASE_SECONDS"):
        assert defaults[name] == ExecutorSettings.model_fields[name.lower()].default
    assert (
        default_of("handler.settings.DATABASE_CONNECTIONS")
        == HandlerSettings.model_fields["database_connections"].default
    )


def test_a_setting_of_one_service_counts_for_more_than_the_common_one(renderer: Renderer) -> None:
    values = over(value_set("external"), at("executor.settings.LOG_LEVEL", "debug"))
    release = renderer.render(values)
    levels = {
        each["metadata"]["name"]: entry["value"]
        for each in release.of_kind("Deployment")
        for entry in each["spec"]["template"]["spec"]["containers"][0]["env"]
        if entry["name"] == "LOG_LEVEL"
    }
    assert levels == {"onthedot-executor": "debug", "onthedot-handler": "info"}
