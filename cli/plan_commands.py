"""The commands about plans and tools: write, check, show, save, list. None of them runs anything."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from . import options

PANEL = "Plans and tools"

plans_app = typer.Typer(help="Save, show and list plans in the store.", invoke_without_command=True)
tools_app = typer.Typer(help="List the tools, or look for weak spots in them.", invoke_without_command=True)


class Format(StrEnum):
    """How `show` spells a plan or a run."""

    TEXT = "text"
    MERMAID = "mermaid"
    SVG = "svg"
    JSON = "json"
    YAML = "yaml"


def register(app: typer.Typer) -> None:
    """Add the commands and the two groups to the group."""
    for command in (plan, check, show):
        app.command(rich_help_panel=PANEL)(command)
    app.add_typer(plans_app, name="plans", rich_help_panel=PANEL)
    app.add_typer(tools_app, name="tools", rich_help_panel=PANEL)


PlanFile = Annotated[str, typer.Argument(metavar="PLAN", help="A plan's file, or a saved plan's name.")]
ShowFormat = Annotated[Format, typer.Option("--format", "-f", help="How to spell it.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Where to write it: .json, .yaml or .yml."),
]


def plan(
    task: Annotated[str, typer.Argument(metavar="TASK", help="What to do, in words.")],
    output: Output = None,
    tools: options.Tools = None,
    inputs: options.Inputs = None,
    store: options.Store = None,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the prompt and its token count; send nothing.")
    ] = False,
    as_json: options.Json = False,
) -> int:
    """Turn a task in words into a checked plan. A saved plan that fits answers it, or else a model."""
    from .planning import plan_command, preview_command

    flags = {"tools": tools, "store": store, "model": model, "base_url": base_url}
    if dry_run:
        return preview_command(task, tuple(inputs or ()), flags, as_json=as_json)
    return plan_command(task, tuple(inputs or ()), output, flags, as_json=as_json)


def check(
    what: PlanFile, tools: options.Tools = None, store: options.Store = None, as_json: options.Json = False
) -> int:
    """Find every fault of a plan before anything runs."""
    from .planning import check_command

    return check_command(what, {"tools": tools, "store": store}, as_json=as_json)


def show(
    what: Annotated[
        str, typer.Argument(metavar="PLAN|RUN", help="A plan's file, a saved plan's name, or a run's id.")
    ],
    form: ShowFormat = Format.TEXT,
    tools: options.Tools = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Show a plan as a picture, or a run with its steps."""
    from .showing import show_command

    return show_command(what, Format.JSON if as_json else form, {"tools": tools, "store": store})


@plans_app.callback()
def plans(ctx: typer.Context, store: options.Store = None, as_json: options.Json = False) -> int:
    """Save, show and list plans in the store. Without a further word, list them."""
    from .listing import plans_command

    if options.hand_down(ctx, store=store, as_json=as_json):
        return 0
    return plans_command({"store": store}, as_json=as_json)


@plans_app.command("list")
def plans_list(store: options.Store = None, as_json: options.Json = False) -> int:
    """List the saved plans."""
    from .listing import plans_command

    return plans_command({"store": store}, as_json=as_json)


@plans_app.command("save")
def plans_save(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    file: Annotated[str, typer.Argument(metavar="PLAN", help="The plan's file.")],
    tools: options.Tools = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Save a plan under a name. Its task, with {input} where inputs stand, answers tasks in words."""
    from .planning import save_command

    return save_command(name, file, {"tools": tools, "store": store}, as_json=as_json)


@plans_app.command("learn")
def plans_learn(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run that succeeded.")],
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Save the template under this name.")
    ] = None,
    output: Output = None,
    tools: options.Tools = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Make a template of a run's plan. What its task names becomes typed inputs."""
    from .learning import learn_command

    return learn_command(run, name, output, {"tools": tools, "store": store}, as_json=as_json)


@plans_app.command("show")
def plans_show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A saved plan's name or digest.")],
    form: ShowFormat = Format.TEXT,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Show a saved plan."""
    from .showing import show_saved_command

    return show_saved_command(name, Format.JSON if as_json else form, {"store": store})


@tools_app.callback()
def tools(ctx: typer.Context, tools: options.Tools = None, as_json: options.Json = False) -> int:
    """List the tools, or look for weak spots in them. Without a further word, list them."""
    from .listing import tools_command

    if options.hand_down(ctx, tools=tools, as_json=as_json):
        return 0
    return tools_command({"tools": tools}, as_json=as_json)


@tools_app.command("list")
def tools_list(tools: options.Tools = None, as_json: options.Json = False) -> int:
    """List the tools with their types and effects."""
    from .listing import tools_command

    return tools_command({"tools": tools}, as_json=as_json)


@tools_app.command("lint")
def tools_lint(tools: options.Tools = None, as_json: options.Json = False) -> int:
    """Find weak spots of the tools. Named is what keeps them from being planned, checked, reused or retried well."""
    from .linting import lint_command

    return lint_command({"tools": tools}, as_json=as_json)
