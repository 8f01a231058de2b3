"""What the handler and the executors agree on: settings, the database, the runs, the wake-up."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("onthedot-server")
except PackageNotFoundError:  # run from a checkout, as `make up` does
    VERSION = "0.1.0"
