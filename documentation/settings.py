"""The settings of both services, as `shared/settings.py` declares them."""

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from documentation.markdown import code, head, table
from shared.settings import ExecutorSettings, HandlerSettings, Settings

SECTIONS = (
    ("Both services", Settings),
    ("Handler", HandlerSettings),
    ("Executor", ExecutorSettings),
)
OPENING = """
Read once, from the environment, when a service starts. An empty variable counts as not set.
Settings that cannot be used, or that contradict each other, refuse to start and say so. The
effective ones are logged at start, secrets as asterisks. `.env.example` lists the same. Seconds
may have a fraction.
"""


def page() -> str:
    """Render every setting: name, default, limits, meaning."""
    seen: set[str] = set()
    parts = [head("Settings", OPENING.strip())]
    for title, service in SECTIONS:
        rows = [
            (code(name.upper()), code(_default(field)), _limits(field), f"{field.description}")
            for name, field in service.model_fields.items()
            if name not in seen
        ]
        seen |= set(service.model_fields)
        parts.append(f"## {title}\n\n{table(('name', 'default', 'limits', 'means'), rows)}")
    return "\n".join(parts)


def _limits(field: FieldInfo) -> str:
    found = {
        sign: getattr(rule, word)
        for rule in field.metadata
        for word, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if hasattr(rule, word)
    }
    return ", ".join(f"{sign} {number:,}" for sign, number in found.items())


def _default(field: FieldInfo) -> object:
    value = field.default
    return value.get_secret_value() if isinstance(value, SecretStr) else value
