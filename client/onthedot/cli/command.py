"""Makes commands of functions: adds the options that many share, and ends each one well."""

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import typer

from onthedot.cli.exits import errors_told
from onthedot.cli.session import Said, Session

PANEL = "Connection and output"


class Shared(NamedTuple):
    """An option that several commands have: its parameter, and its field in the API."""

    name: str
    annotation: Any
    field: str = ""


CONNECTION = (
    Shared(
        "server",
        Annotated[
            str | None,
            typer.Option("--server", metavar="URL", help="The server.", rich_help_panel=PANEL),
        ],
    ),
    Shared(
        "api_key",
        Annotated[
            str | None,
            typer.Option("--api-key", metavar="KEY", help="The key.", rich_help_panel=PANEL),
        ],
    ),
    Shared(
        "profile",
        Annotated[
            str | None,
            typer.Option(
                "--profile", metavar="NAME", help="A server of your own.", rich_help_panel=PANEL
            ),
        ],
    ),
    Shared(
        "server_timeout",
        Annotated[
            float | None,
            typer.Option(
                "--server-timeout",
                min=0.001,
                metavar="SECONDS",
                help="How long to wait for the server.",
                rich_help_panel=PANEL,
            ),
        ],
    ),
    Shared(
        "as_json",
        Annotated[
            bool | None,
            typer.Option("--json", help="Print JSON, a document a line.", rich_help_panel=PANEL),
        ],
    ),
)


def command(
    group: typer.Typer, name: str, *, takes: Sequence[Shared] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command.

    It is given a `Session` first, and by `said` those options of `takes` that were said, under
    their names in the API.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function).parameters.values())[1:]
        own = [each for each in own if each.name != "said"]
        shared = [_optional(each) for each in (*takes, *CONNECTION)]

        def run(ctx: typer.Context, **values: Any) -> None:
            connection = Said(**{each.name: values.pop(each.name) for each in CONNECTION})
            said = {each.field: values.pop(each.name) for each in takes}
            if takes:
                values["said"] = {
                    field: value for field, value in said.items() if value not in (None, [])
                }
            session = Session(connection.over(ctx.find_root().obj or Said()))
            try:
                with errors_told(session):
                    function(session, **values)
            finally:
                session.close()

        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        run.__signature__ = inspect.Signature([context, *parameters, *shared])  # type: ignore[attr-defined]
        run.__annotations__ = {}
        run.__doc__ = function.__doc__
        group.command(name)(run)
        return function

    return register


def connected(run: Callable[..., None]) -> Callable[..., None]:
    """Give the root of all commands the options of the connection, for those who say them first."""

    def root(ctx: typer.Context, **values: Any) -> None:
        ctx.obj = Said(**{each.name: values.pop(each.name) for each in CONNECTION})
        run(**values)

    own = inspect.signature(run).parameters.values()
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    root.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [context, *parameters, *(_optional(each) for each in CONNECTION)]
    )
    root.__annotations__ = {}
    root.__doc__ = run.__doc__
    return root


def _optional(shared: Shared) -> inspect.Parameter:
    return inspect.Parameter(
        shared.name, inspect.Parameter.KEYWORD_ONLY, annotation=shared.annotation, default=None
    )
