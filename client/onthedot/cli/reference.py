"""`make docs`: the reference of the command line, written from the commands themselves."""

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from onthedot.cli.app import app
from onthedot.cli.command import CONNECTION
from onthedot.cli.exits import MEANINGS

HEAD = """\
# The command line

Made by `make docs` from `client/onthedot/cli`. Install it by `pip install './client[cli]'`.

Results go to stdout, everything else to stderr. Without a terminal there are no colours and no
progress bars.
"""
_SHARED = {each.name for each in CONNECTION}


def reference() -> str:
    """Write every command with its arguments and options, in Markdown."""
    root: Any = typer.main.get_command(app)
    parts = [HEAD, _connection(root), _exit_codes()]
    parts += [_command(path, each) for path, each in _commands("onthedot", root)]
    return "\n".join(parts)


def _commands(path: str, group: Any) -> Iterator[tuple[str, Any]]:
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from _commands(f"{path} {name}", each)
        else:
            yield f"{path} {name}", each


def _connection(root: Any) -> str:
    options = [each for each in root.params if each.name in _SHARED]
    variables = (
        "The environment has `ONTHEDOT_URL`, `ONTHEDOT_API_KEY` and `ONTHEDOT_PROFILE`. What the "
        "command line says goes first, then the environment, then the profile. The key of a "
        "profile is sent to that profile's server only."
    )
    return (
        f"## With every command\n\n{_table('Option', root, options)}\n{variables}\n\n"
        "`onthedot --install-completion` teaches your shell to complete commands and options.\n"
    )


def _exit_codes() -> str:
    rows = "\n".join(f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items())
    return f"## Exit codes\n\n| Code | Means |\n|---|---|\n{rows}\n"


def _command(path: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [
        each
        for each in command.params
        if each.param_type_name == "option" and each.name not in _SHARED and each.name != "help"
    ]
    usage = " ".join([path, *(_argument(each) for each in arguments), "[OPTIONS]" * bool(options)])
    text = inspect.cleandoc(command.help or "")
    parts = [f"## `{path}`\n", f"{text}\n", f"```\n{usage.strip()}\n```\n"]
    if arguments:
        parts.append(_table("Argument", command, arguments))
    if options:
        parts.append(_table("Option", command, options))
    return "\n".join(parts)


def _table(head: str, command: Any, parameters: list[Any]) -> str:
    context = command.make_context("", [], resilient_parsing=True)
    rows = [f"| {head} | |", "|---|---|"]
    for parameter in parameters:
        name, text = _argument(parameter), parameter.help or ""
        if parameter.param_type_name == "option":
            name, text = parameter.get_help_record(context)
        rows.append(f"| `{_cell(name)}` | {_cell(text)} |")
    return "\n".join(rows) + "\n"


def _argument(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace(" <bool>", "")


if __name__ == "__main__":
    print(reference(), end="")
