"""Every knob of the services: its name in the environment, its default, unit and reason.

The environment is read only where a service starts, in its `__main__`. `python -m shared.settings`
prints all of it as `.env.example`.
"""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from redis.asyncio.connection import parse_url

Network = IPv4Network | IPv6Network
# Letters, digits, "-" and "_", and a last label that is no number (that would be an address), as a
# URL's host is read. (WHATWG URL, host parsing)
HOST_NAME = re.compile(
    r"\.?([a-z0-9_-]{1,63}\.)*(?!\d+\.?$|0x[0-9a-f]*\.?$)[a-z0-9_-]{1,63}\.?",
    re.ASCII | re.IGNORECASE,
)
Seconds = Annotated[float, Field(gt=0, le=86_400)]


def parse_networks(text: str) -> str:
    """Refuse a list of networks with a word that is no network, naming it."""
    for word in text.replace(",", " ").split():
        ip_network(word)
    return text


def parse_ports(text: str) -> str:
    """Refuse a list of ports with a word that is no port, naming it."""
    for word in text.replace(",", " ").split():
        if not (word.isascii() and word.isdigit() and 1 <= int(word) <= 65_535):
            raise ValueError(f"{word!r} is no port: write numbers from 1 to 65535")
    return text


def parse_hosts(text: str) -> str:
    """Refuse a list of hosts with a word that no webhook's host could equal, naming it."""
    for word in text.replace(",", " ").split():
        if _read_network(word) is None and not HOST_NAME.fullmatch(word):
            raise ValueError(
                f"{word!r} is no host: write a name (example.com), a name and all under it "
                "(.example.com), an address or a network; no scheme, port or *; xn-- for the rest"
            )
    return text


def _read_network(word: str) -> Network | None:
    try:
        return ip_network(word)
    except ValueError:
        return None


def _check_database_url(url: SecretStr) -> SecretStr:
    try:
        conninfo_to_dict(url.get_secret_value())
    except ProgrammingError:  # its message quotes the URL, password and all
        raise ValueError("is not a libpq URL: postgresql://user:password@host:5432/name") from None
    return url


def _check_redis_url(url: SecretStr) -> SecretStr:
    try:
        parse_url(url.get_secret_value())
    except ValueError:
        raise ValueError("is not a Redis URL: redis://:password@host:6379/0") from None
    return url


def _check_endpoint(url: str) -> str:
    parts = urlsplit(url)
    if url and not (parts.scheme in {"http", "https"} and parts.hostname):
        raise ValueError("is not a URL of a collector: http://collector:4318")
    if parts.username or parts.password:  # the endpoint is written to the log
        raise ValueError("holds credentials: put them into OTEL_EXPORTER_OTLP_HEADERS")
    return url


DatabaseUrl = Annotated[SecretStr, AfterValidator(_check_database_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_check_redis_url)]


class Settings(BaseSettings):
    """What every service needs."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    database_url: DatabaseUrl = Field(
        SecretStr("postgresql://postgres:postgres@127.0.0.1:5432/postgres"),
        description="Postgres 15 or newer, as a libpq URL",
    )
    redis_url: RedisUrl = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis 7 or Valkey 8, or newer: the claim lock and wake-ups; never the truth",
    )
    log_format: Literal["auto", "json", "pretty"] = Field(
        "auto", description="auto is pretty on a terminal and json elsewhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least severe event that is written"
    )
    otel_exporter_otlp_endpoint: Annotated[str, AfterValidator(_check_endpoint)] = Field(
        "",
        description="an OpenTelemetry collector's URL for traces (OTLP by HTTP); none: no traces",
    )


class HandlerSettings(Settings):
    """The HTTP API."""

    host: str = Field("127.0.0.1", description="address to listen on; a container wants 0.0.0.0")
    port: int = Field(8080, ge=0, le=65_535, description="port to listen on; 0 takes any free one")
    database_connections: int = Field(
        4, ge=2, le=100, description="connections of one handler; creates use two, reads the rest"
    )
    payload_bytes_max: int = Field(
        262_144, ge=1, le=16_777_216, description="bytes of one payload, encoded; beyond it, 413"
    )
    create_wait_seconds: Seconds = Field(
        5.0, description="how long a create waits to be written, and then to be committed; then 503"
    )
    creates_waiting_max: int = Field(
        5_000, ge=1, le=100_000, description="creates waiting for a commit; beyond it, 503"
    )
    drain_seconds: float = Field(
        5.0,
        ge=0,
        le=600,
        description="how long it serves on after SIGTERM, not ready, so that balancers leave it",
    )
    events_window_seconds: int = Field(
        600,
        ge=10,
        le=86_400,
        description="how long events are kept for those who come back, while Redis has room",
    )
    events_listeners_max: int = Field(
        100, ge=1, le=10_000, description="listeners of /events at once; beyond it, 503"
    )


class ExecutorSettings(Settings):
    """Claims, fires, records, rescues, prunes."""

    health_host: str = Field("127.0.0.1", description="address of /healthz, /readyz and /metrics")
    health_port: int = Field(
        8081, ge=0, le=65_535, description="port of /healthz, /readyz and /metrics; 0 takes any"
    )
    allowed_private_networks: Annotated[str, NoDecode, AfterValidator(parse_networks)] = Field(
        "",
        description="networks that webhooks may reach though they are not public: CIDRs, by comma",
    )
    denied_hosts: Annotated[str, NoDecode, AfterValidator(parse_hosts)] = Field(
        "",
        description="hosts that webhooks may not reach: names, .names with all under them, CIDRs",
    )
    denied_ports: Annotated[str, NoDecode, AfterValidator(parse_ports)] = Field(
        # As browsers do (WHATWG Fetch, bad ports): what listens there is no HTTP, and might read
        # the lines of a caller's payload as commands: a shell's door, and three of mail.
        "22,25,465,587",
        description="ports that webhooks may not reach, by comma (SSH, mail); none: a comma",
    )
    extra_ca_file: str = Field(
        "", description="PEM file of certificate authorities to trust besides the system's"
    )
    poll_seconds: Seconds = Field(1.0, description="the rhythm of polls, heartbeats and rescues")
    claim_ahead_seconds: Seconds = Field(
        1.2, description="how far before its instant a run may be claimed; more than poll_seconds"
    )
    missed_after_seconds: Seconds = Field(
        30.0,
        description="an occurrence of a job that recurs is missed, not late, when overdue by more",
    )
    claim_batch: int = Field(
        500,
        ge=1,
        le=1_000,
        description="runs claimed at once; small, so that executors share a herd",
    )
    room: int = Field(
        12_000,
        ge=1,
        le=100_000,
        description="runs one executor holds at most, waiting or in flight",
    )
    room_bytes: int = Field(
        67_108_864, ge=1, description="bytes of payload held beyond which nothing more is claimed"
    )
    in_flight_max: int = Field(
        1_000, ge=1, le=20_000, description="webhooks one executor has in flight at most"
    )
    in_flight_per_destination_max: int = Field(
        128, ge=1, le=20_000, description="of these, to one destination (scheme, host and port)"
    )
    lease_seconds: Seconds = Field(
        5.0, description="how long a silent executor keeps its claims before others rescue them"
    )
    lease_margin_seconds: Seconds = Field(
        0.5, description="an executor stops sending this long before its own lease ends"
    )
    lock_wait_seconds: Seconds = Field(
        0.25, description="how long a claim waits for the Redis lock before it goes without"
    )
    stop_grace_seconds: Seconds = Field(
        15.0, description="how long webhooks in flight may take to finish after SIGTERM"
    )
    connect_seconds: Seconds = Field(5.0, description="how long connecting to a receiver may take")
    resolve_seconds: Seconds = Field(5.0, description="how long looking up a name may take")
    breaker_failures: int = Field(
        10,
        ge=1,
        le=1_000,
        description="failures to connect and timeouts in a row that open a destination's breaker",
    )
    breaker_open_seconds: Seconds = Field(
        5.0, description="how long runs to a destination whose breaker opened are put off at first"
    )
    breaker_open_seconds_max: Seconds = Field(
        60.0, description="how long at most, as each probe that fails doubles it"
    )
    breaker_put_off_seconds_max: Seconds = Field(
        3_600.0,
        description="how long breakers may put a run off in all; then it is sent all the same",
    )
    retention_days: int = Field(
        30,
        ge=1,
        le=36_500,
        description="days that history, and a job of which nothing is outstanding, are kept",
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Refuse settings that contradict each other, naming both."""
        rules = {
            "CLAIM_AHEAD_SECONDS must exceed POLL_SECONDS, or runs between two polls fire late": (
                self.claim_ahead_seconds > self.poll_seconds
            ),
            "LEASE_SECONDS must be at least 3 × POLL_SECONDS + LEASE_MARGIN_SECONDS, "
            "or one missed heartbeat loses every claim": (
                self.lease_seconds >= 3 * self.poll_seconds + self.lease_margin_seconds
            ),
            "IN_FLIGHT_PER_DESTINATION_MAX must not exceed IN_FLIGHT_MAX": (
                self.in_flight_per_destination_max <= self.in_flight_max
            ),
            "ROOM must be at least CLAIM_BATCH": self.room >= self.claim_batch,
            "BREAKER_OPEN_SECONDS_MAX must not be below BREAKER_OPEN_SECONDS": (
                self.breaker_open_seconds_max >= self.breaker_open_seconds
            ),
        }
        for remedy, holds in rules.items():
            if not holds:
                raise ValueError(remedy)
        return self

    @property
    def private_networks(self) -> tuple[Network, ...]:
        """The networks of `allowed_private_networks`."""
        return tuple(
            ip_network(word) for word in self.allowed_private_networks.replace(",", " ").split()
        )

    @property
    def denied_networks(self) -> tuple[Network, ...]:
        """The addresses and networks of `denied_hosts`."""
        found = map(_read_network, self.denied_hosts.replace(",", " ").split())
        return tuple(network for network in found if network is not None)

    @property
    def denied_names(self) -> frozenset[str]:
        """The names of `denied_hosts`, as a URL's host is written: a leading dot stays."""
        return frozenset(
            word.lower().removesuffix(".")
            for word in self.denied_hosts.replace(",", " ").split()
            if _read_network(word) is None
        )

    @property
    def denied_port_numbers(self) -> frozenset[int]:
        """The numbers of `denied_ports`."""
        return frozenset(int(word) for word in self.denied_ports.replace(",", " ").split())


def explain(refusal: ValidationError) -> str:
    """One line per wrong setting, by its name in the environment; never the value of a secret."""
    lines = []
    for error in refusal.errors(include_url=False, include_input=False, include_context=False):
        name = "_".join(str(part) for part in error["loc"]).upper()
        message = error["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {message}" if name else message)
    return "\n".join(lines)


def env_example() -> str:
    """Render `.env.example`: every setting with its default, commented out."""
    seen: set[str] = set()
    lines = [
        "# Every setting, with its default. Made by `make docs`; edit shared/settings.py instead."
    ]
    for service in (Settings, HandlerSettings, ExecutorSettings):
        lines += ["", f"# {service.__doc__}"]
        for name, field in service.model_fields.items():
            if name not in seen:
                lines += [f"# {field.description}", f"#{name.upper()}={_default(field)}"]
        seen |= set(service.model_fields)
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return ""
    value = field.default
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


if __name__ == "__main__":
    print(env_example(), end="")  # noqa: T201  # its output is a file
