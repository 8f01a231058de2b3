"""`python -m onthedot`, and the console script: the command line, if what it needs is there."""

import sys


def main() -> None:
    """Run the command line; 1 where it was not installed."""
    try:
        from onthedot.cli.app import app  # noqa: PLC0415  # the library alone has no need of it
    except ModuleNotFoundError as missing:
        if missing.name in {"typer", "rich", "yaml", "tomli_w"}:
            print(  # noqa: T201
                f"The command line needs {missing.name}: pip install './client[cli]'",
                file=sys.stderr,
            )
            sys.exit(1)
        raise
    app(prog_name="onthedot")


if __name__ == "__main__":
    main()
