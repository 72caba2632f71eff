"""How a command is declared: one decorated function, whose signature and docstring are its options and its help.

    @commands.command(uses=MOVES, example="run_be40097b6b473dae --tools tools.py")
    async def resume(invocation: Invocation, run_id: RunId, budget: Budget = None, take_over: bool = False) -> int:
        '''Continue a run after a crash or a decision.

Args:
            take_over: Take the run from a process that drives it and hangs.
        '''

The function returns an exit code, or nothing if it succeeds. A parameter with a default is an option, another one is an argument; `name (METAVAR): help` under `Args` is its line in the help. Only a short
name, bounds or another spelling need a `typer.Option` in the annotation. The decorator makes the function that typer sees: the command's own
parameters, then the shared options that `uses` names, then `--json`. When the command is called, the shared options become an `Invocation`,
and a coroutine function is run in an event loop.

Modules of commands import only what is quick to import (this module, `screen`, `failure`). They import everything else inside the
command, so that `firmplan --help` loads no engine; `tests/arch/test_imports.py` checks this.
"""

from __future__ import annotations

import copy
import getpass
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeVar, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import OptionInfo, ParameterInfo

from .completion import complete_plans, complete_plans_and_runs, complete_runs, complete_steps
from .wrapping import wrapped

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
    "artifacts": Annotated[
        str | None,
        typer.Option(
            "--artifacts",
            metavar="FOLDER|URL",
            help="Where new artifacts and large values go, such as s3://bucket/prefix. Also FIRMPLAN_ARTIFACTS.",
        ),
    ],
    "backend": Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="URL",
            help="What hands runs to workers, such as temporal://host:port/namespace?queue=default. Also FIRMPLAN_BACKEND.",
        ),
    ],
    "slots": Annotated[
        int | None, typer.Option("--slots", min=1, help="Most runs at a time. Also FIRMPLAN_SLOTS.")
    ],
    "server": Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="URL",
            help="A `firmplan serve` that the runs are at, in the place of a store. Also FIRMPLAN_SERVER; its key is FIRMPLAN_API_KEY.",
        ),
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
"""Setting -> the option that sets it. The names are those of `config.Settings`."""

STORE: Final = ("store",)
TOOLS: Final = ("tools",)
TOOLS_AND_STORE: Final = ("tools", "store")
PLANS: Final = ("tools", "store", "model", "base_url")
"""Settings of a command that asks a planner."""
MOVES: Final = (*PLANS, "artifacts", "concurrency")
"""Settings of a command that moves a run."""
DISPATCHES: Final = frozenset(
    {
        "run", "resume", "retry", "fork", "schedules add", "schedules fire",
        "schedules pause", "schedules resume", "schedules remove", "serve", "mcp", "worker",
        "approve", "answer", "deny", "decide", "resolve", "cancel",
    }
)  # fmt: skip
"""Commands that start runs or decide about them, and so need the backend that the settings name; the others only read the store."""

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
        help="Stop and wait at this amount of steps, calls, items, model_calls, tokens, usd or seconds; repeatable.",
    ),
]
RunId = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="The run's id, as `firmplan runs` lists it.", autocompletion=complete_runs
    ),
]
StepPath = Annotated[
    str,
    typer.Argument(
        metavar="STEP",
        help="The step's path, such as mail, spots[3] or outer/inner.",
        autocompletion=complete_steps,
    ),
]
AnyRun = Annotated[str, typer.Argument(autocompletion=complete_runs)]
PlanOrTask = Annotated[str, typer.Argument(autocompletion=complete_plans)]
PlanOrRun = Annotated[str, typer.Argument(autocompletion=complete_plans_and_runs)]
SavedName = Annotated[str, typer.Argument(autocompletion=complete_plans)]


class LoginName(str):
    """The name under which a decision is made where the command names nobody: that of the login."""

    __slots__ = ()


def login_name() -> LoginName:
    """Return the name of the login; empty: it has none."""
    try:
        return LoginName(getpass.getuser())
    except (KeyError, OSError):
        return LoginName()


class _WithExample:
    """A help whose example is broken for the width of the help."""

    epilog: str | None

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002  # typer's own
        """Write the example."""
        if text := self.epilog:
            formatter.write_paragraph()
            with formatter.indentation():
                lines = wrapped(text.removeprefix(UNFILLED), formatter.width - formatter.current_indent)
                formatter.write_text(f"{UNFILLED}{lines}")


class HelpedCommand(_WithExample, TyperCommand):
    """A command."""


class HelpedGroup(_WithExample, TyperGroup):
    """A group of commands."""


class CommandGroup:
    """Commands that are declared together: at the top level, or under a name such as `plans`.

    Args:
        name: The word before the commands' names; empty at the top level.
        does_something: Whether the name alone does something; else it prints the help.
    """

    def __init__(self, name: str = "", *, does_something: bool = True) -> None:
        self._name = name
        does = bool(name) and does_something
        self.app = typer.Typer(name=name or None, invoke_without_command=does, no_args_is_help=not does)

    def group(self, name: str, text: str, example: str = "", *, does_something: bool = True) -> CommandGroup:
        """Add a group of commands to this one and return it.

        Args:
            name: The new group's name.
            text: The group's help; its first sentence stands in the list of commands.
            example: As of `command`.
            does_something: As of `CommandGroup`.
        """
        made = CommandGroup(name, does_something=does_something)
        self.app.add_typer(made.app, name=name, cls=HelpedGroup, help=text, epilog=_epilog(name, example))
        return made

    def command(
        self,
        *,
        uses: tuple[str, ...] = (),
        example: str = "",
        name: str | None = None,
        is_default: bool = False,
        loads_tools: bool = True,
        has_json: bool = True,
        at_server: bool | None = False,
        **options: Any,  # noqa: ANN401  # typer's own
    ) -> Callable[[Work], Work]:
        """Return a decorator that adds a function as a command. The function's first parameter is the `Invocation`.

        Args:
            uses: Names of the shared options that the command takes.
            example: What follows the command's name in the example that ends its help.
            name: The command's name; by default the function's, without the group's. Empty: the function is only what the group
                does without a further word.
            is_default: Whether the group does this without a further word.
            loads_tools: Whether a coroutine command that takes `--tools` needs the tools. They are imported before its event loop
                starts, because a module of tools may start a loop of its own.
            has_json: Whether the command takes `--json`.
            at_server: Whether the command takes `--server`; `None`: it does not, and the setting means nothing to it.
            options: Further options of `typer.Typer.command`.
        """

        def register(work: Work) -> Work:
            word = work.__name__.removeprefix(f"{self._name}_") if name is None else name
            shared = _with_server(uses) if at_server else uses
            parameters = [*_own_parameters(work), *_shared_parameters(shared, has_json=has_json)]
            path = f"{self._name} {word}".strip()
            called = _callback(work, shared, path, at_server=at_server, loads_tools=loads_tools)
            if word:
                epilog = _epilog(f"{self._name} {word}", example)
                options.setdefault("cls", HelpedCommand)
                self.app.command(word, help=_help(work), epilog=epilog, **options)(_typed(called, parameters))
            # typer calls a group's callback before each of its commands, and alone where no further word follows.
            if is_default or not word:
                context = inspect.Parameter("ctx", KIND, annotation=typer.Context)
                self.app.callback()(_typed(_in_group(called), [context, *parameters]))
            return work

        return register


UNFILLED: Final = "\b\n"
"""Begins a text whose lines typer leaves as they are."""
KIND: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD


def _epilog(path: str, example: str) -> str:
    """Return the end of a command's help."""
    return f"{UNFILLED}Example:\n  firmplan {path.strip()} {example}".rstrip()


def _help(work: Callable[..., Any]) -> str:
    return inspect.cleandoc(work.__doc__ or "").partition("\n\nArgs:")[0]


def _with_server(uses: tuple[str, ...]) -> tuple[str, ...]:
    """Return shared options with `--server` after the store, in whose place it stands."""
    place = uses.index("store") + 1 if "store" in uses else len(uses)
    return (*uses[:place], "server", *uses[place:])


def _callback(
    work: Callable[..., Any], uses: tuple[str, ...], path: str, *, at_server: bool | None, loads_tools: bool
) -> Callable[..., int]:
    """Return the function that makes an `Invocation` of the shared options and calls the command with it.

    Args:
        work: The command.
        uses: The shared options.
        path: The command's words, for messages.
        at_server: As of `CommandGroup.command`.
        loads_tools: As of `CommandGroup.command`.
    """

    def callback(**given: Any) -> int:  # noqa: ANN401  # what the command line says
        from .invocation import Invocation  # noqa: PLC0415  # loads the engine

        flags = {name: given.pop(name) for name in uses}
        invocation = Invocation(flags, as_json=given.pop("as_json", False), command=path, at_server=at_server)
        return invocation.perform(work, given, loads_tools=loads_tools and "tools" in uses)

    return callback


def _in_group(called: Callable[..., int]) -> Callable[..., int]:
    """Return what a group does: it calls its default command, unless a further word names another one."""

    def callback(ctx: typer.Context, **given: Any) -> int:  # noqa: ANN401  # what the command line says
        if ctx.invoked_subcommand is None:
            return called(**given)
        # Options that stand before the group's further word hold for that command.
        ctx.default_map = {ctx.invoked_subcommand: {key: each for key, each in given.items() if each}}
        return 0

    return callback


def _typed(called: Callable[..., int], parameters: list[inspect.Parameter]) -> Callable[..., int]:
    """Give a function the signature that typer reads the command line by."""
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by `inspect`
    called.__annotations__ = {}
    return called


def _shared_parameters(uses: tuple[str, ...], *, has_json: bool) -> list[inspect.Parameter]:
    shared: dict[str, tuple[object, object]] = {name: (SHARED[name], None) for name in uses}
    if has_json:
        shared["as_json"] = (JsonFlag, False)
    return [
        inspect.Parameter(name, KIND, default=default, annotation=annotation)
        for name, (annotation, default) in shared.items()
    ]


def _own_parameters(work: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters after the first, with their annotations evaluated and their help from the docstring.

    The first one's type is known to type checkers only, so that `inspect.signature(work, eval_str=True)` would fail.
    """
    _, *own = inspect.signature(work).parameters.values()

    def probe() -> None: ...

    probe.__annotations__ = {each.name: each.annotation for each in own}
    probe.__wrapped__ = work  # type: ignore[attr-defined]  # where `get_type_hints` finds the names
    hints = get_type_hints(probe, include_extras=True)
    lines = documented(inspect.cleandoc(work.__doc__ or ""), "Args")
    return [
        each.replace(annotation=_described(each, hints[each.name], *lines.get(each.name, ("", ""))))
        for each in own
    ]


def _described(parameter: inspect.Parameter, annotation: Any, metavar: str, text: str) -> Any:  # noqa: ANN401  # any type
    """Return the annotation with a parameter's help; the shared ones, such as `RunId`, have theirs already."""
    if not text:
        return annotation
    is_option = parameter.default is not inspect.Parameter.empty
    kind, *given = get_args(annotation) if hasattr(annotation, "__metadata__") else (annotation,)
    info: ParameterInfo = copy.copy(given[0]) if given else typer.Option() if is_option else typer.Argument()
    info.help, info.metavar = text, metavar or None
    # typer takes the first spelling for the default, as long as it has not read the annotation.
    spellings = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
    if isinstance(info, OptionInfo) and not any(each.startswith("--") for each in spellings):
        # Named explicitly, a flag has no `--no-..` twin.
        info.param_decls, info.default = (f"--{parameter.name.replace('_', '-')}", *spellings), ...
    return Annotated[kind, info]


def documented(text: str, heading: str) -> dict[str, tuple[str, str]]:
    """Return name -> (metavar, description) of the entries `name (METAVAR): description` under a docstring's heading.

    Args:
        text: The docstring, cleaned of its indentation.
        heading: Such as `Args`.
    """
    found = re.search(rf"^{heading}:\n((?:    .*\n|\n)+)", f"{text}\n", re.MULTILINE)
    entries = re.findall(
        r"^    \**(\w+)(?: \((\S+)\))?: (.*(?:\n      .*)*)", found[1] if found else "", re.MULTILINE
    )
    return {name: (metavar, " ".join(description.split())) for name, metavar, description in entries}
