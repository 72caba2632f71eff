"""How a command is declared: one decorated function, with its own options, the shared options that it names, and its example.

    @command(app, "resume", uses=MOVES, example="run_be40097b6b473dae --tools tools.py")
    async def resume(invocation: Invocation, run_id: RunId, budget: Budget = None) -> int:

The decorator makes the function that typer sees: the command's own parameters, then the shared options, then `--json`. When the
command is called, the shared options become an `Invocation`, and a coroutine function is run in an event loop.

Modules of commands import only what is quick to import (this module, `screen`, `failure`). They import everything else inside the
command, so that `firmplan --help` loads no engine; `tests/arch/test_imports.py` checks this.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeVar, get_type_hints

import typer

Work = TypeVar("Work", bound=Callable[..., Any])

JsonFlag = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]

SHARED: Final[Mapping[str, object]] = {
    "tools": Annotated[
        list[str] | None,
        typer.Option(
            "--tools",
            "-t",
            metavar="FILE|MODULE",
            help="Python file or module that declares tools; repeatable. Also FIRMPLAN_TOOLS.",
        ),
    ],
    "store": Annotated[
        str | None,
        typer.Option("--store", "-s", metavar="PATH|URL", help="Where runs are kept. Also FIRMPLAN_STORE."),
    ],
    "model": Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Model name. Also FIRMPLAN_MODEL.")
    ],
    "base_url": Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help="OpenAI-compatible endpoint. Also FIRMPLAN_BASE_URL."),
    ],
    "concurrency": Annotated[
        int | None,
        typer.Option("--concurrency", min=1, help="Most calls in flight. Also FIRMPLAN_CONCURRENCY."),
    ],
}
"""Setting -> the option that sets it. The names are those of `config.Layer`."""

STORE: Final = ("store",)
TOOLS: Final = ("tools",)
TOOLS_AND_STORE: Final = ("tools", "store")
PLANS: Final = ("tools", "store", "model", "base_url")
"""Settings of a command that asks a planner."""
MOVES: Final = (*PLANS, "concurrency")
"""Settings of a command that moves a run."""

Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input", "-i", metavar="NAME=VALUE", help="One input, read by its declared type; repeatable."
    ),
]
Budget = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="NAME=AMOUNT",
        help="Stop and wait at this amount of steps, model_calls, tokens, usd or seconds; repeatable.",
    ),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as `firmplan runs` lists it.")]
StepPath = Annotated[
    str, typer.Argument(metavar="STEP", help="The step's path, such as mail, spots[3] or outer/inner.")
]


def command(
    app: typer.Typer,
    name: str,
    *,
    example: str,
    uses: tuple[str, ...] = (),
    is_default: bool = False,
    panel: str | None = None,
    loads_tools: bool = True,
    has_json: bool = True,
    **options: Any,  # noqa: ANN401  # typer's own
) -> Callable[[Work], Work]:
    """Return a decorator that adds a function to a group as a command. The function's first parameter is the `Invocation`.

    Args:
        app: The group.
        name: The command's name; empty: the function is only what the group does without a further word.
        example: What follows the command's name in the example that ends its help.
        uses: Names of the shared options that the command takes.
        is_default: Whether the group does this without a further word.
        panel: Heading in the list of commands.
        loads_tools: Whether a coroutine command that takes `--tools` needs the tools. They are imported before its event loop
            starts, because a module of tools may start a loop of its own.
        has_json: Whether the command takes `--json`.
        options: Further options of `typer.Typer.command`.
    """

    def register(work: Work) -> Work:
        if name:
            epilog = _epilog(f"{app.info.name or ''} {name}", example)
            app.command(name, epilog=epilog, rich_help_panel=panel, **options)(
                _callback(work, uses, loads_tools=loads_tools, has_json=has_json)
            )
        if is_default or not name:
            app.callback()(_callback(work, uses, loads_tools=loads_tools, has_json=has_json, is_group=True))
        return work

    return register


def group(app: typer.Typer, name: str, *, panel: str, text: str, example: str = "") -> typer.Typer:
    """Add a group of commands to a group and return it.

    Args:
        app: The group that gets the new one.
        name: The new group's name.
        panel: Heading in the list of commands.
        text: The group's help; its first sentence stands in the list of commands.
        example: As of `command`.
    """
    made = typer.Typer(name=name, invoke_without_command=True)
    app.add_typer(made, name=name, help=text, epilog=_epilog(name, example), rich_help_panel=panel)
    return made


def _epilog(path: str, example: str) -> str:
    r"""Return the end of a command's help; the leading `\b` keeps its lines from being filled."""
    return f"\b\nExample:\n  firmplan {path.strip()} {example}".rstrip()


def _callback(
    work: Callable[..., Any],
    uses: tuple[str, ...],
    *,
    loads_tools: bool,
    has_json: bool,
    is_group: bool = False,
) -> Callable[..., int]:
    """Return the function that typer calls; its signature is what the command line takes."""

    def callback(**given: Any) -> int:  # noqa: ANN401  # what the command line says
        context: typer.Context | None = given.pop("ctx", None)
        if context is not None and context.invoked_subcommand is not None:
            # Options that stand before the group's further word hold for that command.
            context.default_map = {
                context.invoked_subcommand: {key: each for key, each in given.items() if each}
            }
            return 0
        from .invocation import Invocation  # noqa: PLC0415  # loads the engine

        flags = {name: given.pop(name) for name in uses}
        invocation = Invocation(flags, as_json=given.pop("as_json", False))
        return invocation.perform(work, given, loads_tools=loads_tools and "tools" in uses)

    named, own = _own_parameters(work), inspect.Parameter.POSITIONAL_OR_KEYWORD
    shared = {name: (SHARED[name], None) for name in uses} | (
        {"as_json": (JsonFlag, False)} if has_json else {}
    )
    added = [
        inspect.Parameter(name, own, default=default, annotation=annotation)
        for name, (annotation, default) in shared.items()
    ]
    context = [inspect.Parameter("ctx", own, annotation=typer.Context)] if is_group else []
    callback.__name__, callback.__doc__ = work.__name__, None if is_group else work.__doc__
    callback.__signature__ = inspect.Signature([*context, *named, *added])  # type: ignore[attr-defined]  # read by `inspect`
    callback.__annotations__ = {}
    return callback


def _own_parameters(work: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters after the first, with their annotations evaluated.

    The first one's type is known to type checkers only, so that `inspect.signature(work, eval_str=True)` would fail.
    """
    _, *own = inspect.signature(work).parameters.values()

    def probe() -> None: ...

    probe.__annotations__ = {each.name: each.annotation for each in own}
    probe.__wrapped__ = work  # type: ignore[attr-defined]  # where `get_type_hints` finds the names
    hints = get_type_hints(probe, include_extras=True)
    return [each.replace(annotation=hints[each.name]) for each in own]
