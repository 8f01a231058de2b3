"""Every module of the services but those that start one."""

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

PACKAGES = ("handler_service", "executor_service", "shared")


def modules() -> Iterator[ModuleType]:
    """Import and answer them, in the order of their names within each package."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def services_of(packages: set[str]) -> str:
    """Name the services that have what stands in these packages."""
    both = {"handler_service", "executor_service"}
    names = both if packages == {"shared"} or both <= packages else packages - {"shared"}
    return ", ".join(sorted(name.removesuffix("_service") for name in names))
