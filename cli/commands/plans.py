"""The commands about plans and tools: write, check, show, save, learn and list them. None of these commands runs a plan."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ...errors import ConfigError, InputRejected
from .. import screen
from ..command import (
    MOVES,
    PLANS,
    STORE,
    TOOLS,
    TOOLS_AND_STORE,
    CommandGroup,
    Inputs,
    PlanOrRun,
    SavedName,
    login_name,
)
from ..completion import complete_plans
from ..failure import Exit

if TYPE_CHECKING:
    from ...client import PlanEntry
    from ...executor import Run, WaitingCalls
    from ...planner import SavedPlan
    from ...planner.drafting.drafting import Preview
    from ...plans import Plan
    from ...tools import Toolset
    from ..invocation import Invocation
    from ..remote import AnyEngine

commands = CommandGroup()


class Format(StrEnum):
    """How `show` renders a plan or a run."""

    TEXT = "text"
    MERMAID = "mermaid"
    SVG = "svg"
    JSON = "json"
    YAML = "yaml"


PICTURES: Mapping[Format, Literal["text", "mermaid", "svg"]] = {
    Format.TEXT: "text",
    Format.MERMAID: "mermaid",
    Format.SVG: "svg",
}

PlanName = Annotated[
    str,
    typer.Argument(
        metavar="PLAN",
        help="A plan's file (-: standard input), or a saved plan's name.",
        autocompletion=complete_plans,
    ),
]
ShowFormat = Annotated[Format, typer.Option("--format", "-f", help="How to render it.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Where to write it: .json, .yaml or .yml."),
]


@commands.command(
    uses=PLANS, example="'Compare the weather in Rome and Oslo' --tools tools.py --output plan.yaml"
)
async def plan(
    invocation: Invocation, task: str, output: Output = None, inputs: Inputs = None, dry_run: bool = False
) -> int:
    """Turn a task in words into a checked plan. A saved plan that fits answers it, or else a model.

    Args:
        task (TASK): What to do, in words.
        dry_run: Show the prompt and its token count; send nothing.
    """
    from ..arguments import expect_plan_file, read_inputs

    values = read_inputs(inputs or (), None) or None
    if dry_run:
        return await _preview(invocation, task, values)
    expect_plan_file(output)
    async with invocation.engine() as engine:
        made = await engine.plan(task, inputs=values)
    if output is not None:
        made.save(output)
    _answer_plan(invocation, made, output)
    return Exit.OK


def _answer_plan(invocation: Invocation, made: Plan, output: Path | None) -> None:
    """Print the plan: its document on stdout if no file was named, and its picture beside the document."""
    from ..report import flags_of

    toolset = invocation.toolset
    if invocation.as_json:
        screen.document(made.to_dict())
    elif output is None:
        screen.note(made.render("text", toolset, width=screen.picture_width(sys.stderr)))
        screen.answer(made.to_json(), is_data=True)
    else:
        screen.answer(made.render("text", toolset, width=screen.picture_width()), is_data=True)
        flags = flags_of(invocation.settings, MOVES)
        screen.note(f"written to {output}; run it with `firmplan run {output}{flags}`")


async def _preview(invocation: Invocation, task: str, inputs: dict[str, Any] | None) -> int:
    """Print what a planner would be sent for a task, and about how many tokens that is."""
    from ..invocation import planner_of

    settings = invocation.settings
    async with invocation.look() as engine:
        saved, tools = await engine.list_plans(), await engine.learnt_tools()
    planner = planner_of(settings)
    preview = planner.preview(task, tools, inputs=inputs, saved=saved)
    invocation.answer(preview, _preview_text(preview), is_data=True)
    invocation.note(
        f"about {preview.prompt_tokens} tokens of messages and {preview.schema_tokens} of schema, "
        f"to {preview.model or 'no model: none is configured'}; nothing was sent"
    )
    if preview.choice is not None:
        invocation.note(
            f"before it about {preview.choice.tokens} tokens to choose tools; the tools above are chosen by words"
        )
    if preview.filling is not None:
        invocation.note(f"and first about {preview.filling.tokens} tokens to ask whether a saved plan fits")
    if preview.answered_by is not None:
        invocation.note(f"no request would be sent: {preview.answered_by} answers the task")
    return Exit.OK


def _preview_text(preview: Preview) -> str:
    from ...plans.values import canonical

    parts: list[str] = []
    for request, purpose in (
        (preview.filling, "to fill in a saved plan"),
        (preview.choice, "to choose tools"),
    ):
        if request is not None:
            parts += [f"--- {message.role}, {purpose}\n{message.content}\n" for message in request.messages]
            parts.append(f"--- schema\n{canonical(request.schema).decode()}\n")
    parts += [f"--- {message.role}\n{message.content}\n" for message in preview.messages]
    return "\n".join([*parts, f"--- schema ({preview.form})\n{canonical(preview.schema).decode()}"])


Traces = Annotated[
    list[str],
    typer.Option(
        "--trace",
        metavar="FILE",
        help="A trace, as JSON or JSON lines; repeatable for several traces of one task.",
    ),
]


@commands.command(uses=TOOLS, example="--trace trace.jsonl --tools tools.py --output plan.yaml")
def learn(invocation: Invocation, traces: Traces, task: str | None = None, output: Output = None) -> int:
    """Make a plan from what another agent did. Reads traces, finds where each argument came from, and rehearses the plan with their results. Calls nothing.

    Args:
        task: The words of the task, if the traces do not have them.
    """
    from ...trace_rehearsal import learn_from_trace
    from ..arguments import expect_plan_file
    from ..invocation import NO_TOOLS

    expect_plan_file(output)
    learned = learn_from_trace(traces, invocation.toolset, task=task)
    if output is not None:
        learned.plan.save(output)
    if invocation.as_json:
        screen.document(learned.to_dict())
    elif output is None:
        screen.note(str(learned))
        screen.answer(learned.plan.to_json(), is_data=True)
    else:
        screen.answer(str(learned))
        screen.note(f"written to {output}")
    if not len(invocation.toolset):
        invocation.note(NO_TOOLS)
    if not learned.report.ok:
        return Exit.WRONG
    return Exit.OK if learned.ok else Exit.FAILED


@commands.command(uses=TOOLS_AND_STORE, at_server=True, example="plan.yaml --tools tools.py")
async def check(invocation: Invocation, what: PlanName) -> int:
    """Find every fault of a plan before anything runs."""
    from ...executor.runs.request import with_severity
    from ..arguments import find_plan, report_on
    from ..invocation import NO_TOOLS, is_model_configured
    from ..report import report_text

    async with invocation.reach() as engine:
        report = await report_on(engine, await find_plan(engine, what))
    # A plan is often checked where nothing runs, such as in CI: no model has to be configured there.
    is_local = invocation.server is None
    if is_local and not invocation.settings.models and not is_model_configured(invocation.settings):
        report = with_severity(report, ("unknown-model",), "warning")
    invocation.answer(report, report_text(report))
    lacks_tools = invocation.server is None and not invocation.settings.tool_sources
    if lacks_tools and any(each.code == "unknown-tool" for each in report.problems):
        invocation.note(NO_TOOLS)
    return Exit.OK if report.ok else Exit.WRONG


@commands.command(uses=TOOLS_AND_STORE, at_server=True, example="plan.yaml --format mermaid")
async def show(
    invocation: Invocation,
    what: PlanOrRun,
    form: ShowFormat = Format.TEXT,
    failed: bool = False,
    traceback: bool = False,
) -> None:
    """Show a plan as a picture, or a run with its steps.

    Args:
        what (PLAN|RUN): A plan's file (-: standard input), a saved plan's name, or a run's id.
        failed: Of a run only the steps and items that failed.
        traceback: Of a run the last frames of the failures in the code of its tools.
    """
    from ...executor import Run
    from ..arguments import find_file
    from ..report import previews_text, retries_text, view_of

    form = Format.JSON if invocation.as_json else form
    if (file := find_file(what)) is not None:
        _show_plan(file.plan(), form, invocation.toolset)
        return
    async with invocation.reach() as engine:
        found = await _find_run_or_plan(engine, what)
        waiting, retries, previews = None, "", ""
        tracebacks = dict[str, str]()
        if isinstance(found, Run) and traceback:
            tracebacks = await _tracebacks_of(engine, found)
        elif isinstance(found, Run):
            waiting = await view_of(engine, found)
            if form is Format.TEXT and not failed:
                retries = await retries_text(engine, found)
                previews = await previews_text(engine, found)
    if isinstance(found, Run) and traceback:
        _show_tracebacks(found, tracebacks, invocation)
    elif isinstance(found, Run):
        added = {"retries": retries, "previews": previews}
        _show_run(found, waiting, form, invocation, added, only_failed=failed)
    else:
        _show_plan(found, form, invocation.toolset)


async def _tracebacks_of(engine: AnyEngine, run: Run) -> dict[str, str]:
    from ...engine import Engine

    return run.tracebacks() if isinstance(engine, Engine) else await engine.tracebacks(run.id)


async def _find_run_or_plan(engine: AnyEngine, what: str) -> Plan | Run:
    from ...errors import RunNotFound
    from ..arguments import nearest_name

    try:
        return await engine.get(what)
    except RunNotFound as error:
        if (found := await engine.find_plan(what)) is not None:
            return found
        saved = [each.name for each in await engine.list_plans()]
        near = nearest_name(what, saved, "`firmplan runs` and `firmplan plans` list what there is")
        raise RunNotFound(
            f"expected a plan's file, a saved plan's name or a run's id, found none under {what!r}; {near}"
        ) from error


def _show_plan(found: Plan, form: Format, toolset: Toolset) -> None:
    from ...plans import to_yaml

    if form is Format.JSON:
        screen.document(found.to_dict())
    elif form is Format.YAML:
        screen.answer(to_yaml(found).rstrip("\n"), is_data=True)
    else:
        screen.answer(
            found.render(PICTURES[form], toolset or None, width=screen.picture_width()).rstrip("\n"),
            is_data=True,
        )


def _show_tracebacks(run: Run, found: Mapping[str, str], invocation: Invocation) -> None:
    from ..report import summary, tracebacks_text

    document = {"run": run.id, "tracebacks": dict(found)}
    invocation.answer(document, f"{summary(run)}\n\n{tracebacks_text(run, found)}")


def _show_run(  # what is shown, and how
    run: Run,
    waiting: WaitingCalls | None,
    form: Format,
    invocation: Invocation,
    added: Mapping[str, str],
    *,
    only_failed: bool,
) -> None:
    from ..report import (
        STATUS_EXIT,
        advice,
        decisions_text,
        errors_text,
        failed_steps,
        guards_text,
        labels_text,
        output_text,
        steps_text,
        summary,
        warnings_text,
    )

    if form is Format.JSON:
        document = run.to_dict() | ({} if waiting is None else {"waiting": waiting.to_dict()["calls"]})
        if only_failed:
            document["steps"] = {path: step.to_dict() for path, step in failed_steps(run).items()}
        screen.document(document)
        return
    if form is not Format.TEXT:
        if run.plan is None:
            raise InputRejected(f"run {run.id} has no plan yet to show as {form.value}")
        _show_plan(run.plan, form, invocation.toolset)
        return
    task = f"task: {run.task}" if run.task else ""
    if only_failed:
        screen.page("\n\n".join(part for part in (summary(run), steps_text(run, only_failed=True)) if part))
        return
    parts = [summary(run), task, steps_text(run), decisions_text(run), added["retries"], guards_text(run)]
    parts += [errors_text(run), warnings_text(run)]
    if run.status == "succeeded":
        parts += [f"output: {output_text(run.output)}", added["previews"], labels_text(run)]
    elif STATUS_EXIT[run.status] is Exit.WAITING:
        parts.append(advice(run, invocation.settings, waiting))
    screen.page("\n\n".join(part for part in parts if part))


plan_commands = commands.group(
    "plans", "Save, show and list plans in the store. Without a further word, list them."
)


@plan_commands.command(uses=STORE, is_default=True, at_server=True, example="--json")
async def plans_list(invocation: Invocation) -> None:
    """List the saved plans."""
    from ..report import flags_of

    settings = invocation.settings
    async with invocation.reach() as engine:
        saved, altered = await _saved_plans(engine)
    document: dict[str, Any] = {
        "plans": [{**each.to_dict(), "task": each.task or "", "inputs": list(each.inputs)} for each in saved]
    }
    if altered:
        document["altered"] = [{"name": name, "message": message} for name, message in altered.items()]
    if not saved and not altered and not invocation.as_json:
        where = f"in {settings.store_name}" if invocation.server is None else f"at {invocation.server}"
        screen.note(f"no plans {where}; save one with `firmplan plans save NAME PLAN{flags_of(settings)}`")
        return
    rows = [
        (
            each.name,
            screen.short_digest(each.digest),
            str(each.uses.hits),
            str(each.uses.false_hits),
            ", ".join(each.inputs),
            each.task or "",
        )
        for each in saved
    ] + [(name, "altered", "", "", "", "does not run") for name in altered]
    head = ("NAME", "DIGEST", "HITS", "FALSE", "INPUTS", "TASK")
    invocation.answer(document, screen.table(head, sorted(rows)))


async def _saved_plans(engine: AnyEngine) -> tuple[list[PlanEntry], dict[str, str]]:
    """Return the saved plans, and what is wrong with plans that were altered in the store."""
    from ...client.results import PlanEntry
    from ...engine import Engine

    if not isinstance(engine, Engine):
        return await engine.list_plans(), {}
    uses, altered = await engine.plan_uses(), await engine.find_altered_plans()
    found = [
        PlanEntry(each.name, each.plan.digest, each.plan.task, each.plan.inputs, uses[each.name])
        for each in await engine.list_plans()
    ]
    return found, altered


@plan_commands.command(uses=TOOLS_AND_STORE, at_server=True, example="weather plan.yaml --tools tools.py")
async def plans_save(invocation: Invocation, name: str, file: str) -> None:
    """Save a plan under a name. Its task, with {input} where inputs stand, answers tasks in words.

    Args:
        name (NAME): What to call it.
        file (PLAN): The plan's file; -: standard input.
    """
    from ..arguments import checked, find_file, nearest_name

    target = find_file(file)
    if target is None:
        near = nearest_name(file, (), "name the file that holds the plan")
        raise InputRejected(f"expected a plan's file, found no file {file!r}; {near}")
    async with invocation.reach(makes_runs=True) as engine:
        accepted, _ = await checked(engine, target)
        saved = await engine.save_plan(name, accepted, by=login_name())
    digest = _digest_of(saved)
    invocation.answer({"name": saved.name, "digest": digest}, f"saved as {saved.name}\n{digest}")


@plan_commands.command(uses=TOOLS_AND_STORE, example="run_be40097b6b473dae --name weather")
async def plans_learn(
    invocation: Invocation,
    run_id: str,
    name: Annotated[str | None, typer.Option("-n")] = None,
    output: Output = None,
) -> None:
    """Make a template of a run's plan. What its task names becomes typed inputs.

    Args:
        run_id (RUN): The id of a run that succeeded.
        name: Save the template under this name.
    """
    from ...planner import learn
    from ...plans.values import canonical
    from ..arguments import expect_plan_file

    expect_plan_file(output)
    async with invocation.look() as engine:
        run = await engine.get(run_id)
        if run.status != "succeeded" or run.plan is None:
            raise InputRejected(f"expected a run that succeeded, found run {run_id} {run.status}")
        learned = learn(run.plan, run.inputs, task=run.task, tools=invocation.toolset)
        if name is not None:
            await engine.save_plan(name, learned.plan, by=login_name())
    if output is not None:
        learned.plan.save(output)
    for value in learned.kept:
        invocation.note(
            f"{canonical(value).decode()} stays in the plan, because it stands in places that take no input"
        )
    if name is not None:
        invocation.note(f"saved as {name}: it answers tasks such as '{learned.plan.task}'")
    if output is not None:
        invocation.note(f"written to {output}")
    lifted = {each.name: each.value for each in learned.lifted}
    invocation.answer(
        {"name": name, "plan": learned.plan.to_dict(), "lifted": lifted, "kept": list(learned.kept)},
        learned.plan.to_json(),
        is_data=True,
    )


def _digest_of(saved: SavedPlan | PlanEntry) -> str:
    from ...planner import SavedPlan

    return saved.plan.digest if isinstance(saved, SavedPlan) else saved.digest


@plan_commands.command(uses=STORE, at_server=True, example="weather")
async def plans_history(invocation: Invocation, name: SavedName) -> None:
    """List the versions that a saved plan had, newest first.

    Args:
        name (NAME): A saved plan's name.
    """
    async with invocation.reach() as engine:
        versions = await engine.plan_history(name)
    rows = [
        (
            str(each.version),
            screen.moment(each.saved),
            each.by or "",
            "deleted" if each.is_deletion else screen.short_digest(each.digest),
            "" if each.is_deletion else screen.short_digest(each.text_digest),
        )
        for each in versions
    ]
    document = {"name": name, "versions": [each.to_dict() for each in versions]}
    invocation.answer(document, screen.table(("VERSION", "SAVED", "BY", "DIGEST", "TEXT"), rows))


@plan_commands.command(uses=TOOLS_AND_STORE, at_server=True, example="weather 3 --tools tools.py")
async def plans_restore(invocation: Invocation, name: SavedName, version: str) -> None:
    """Save an earlier version of a plan again. It becomes the newest version, if no one saves another meanwhile.

    Args:
        name (NAME): A saved plan's name.
        version (VERSION): Its number in `plans history`, or a digest.
    """
    async with invocation.reach(makes_runs=True) as engine:
        now = await engine.find_plan(name)
        plan = await engine.plan_version(name, int(version) if version.isdecimal() else version)
        replaces = "" if now is None else now.text_digest
        saved = await engine.save_plan(name, plan, replaces=replaces, by=login_name())
    digest = _digest_of(saved)
    invocation.answer({"name": name, "digest": digest}, f"restored {name}\n{digest}")


@plan_commands.command(uses=STORE, at_server=True, example="weather")
async def plans_delete(invocation: Invocation, name: SavedName) -> None:
    """Delete a saved plan. Its history stays, so that `plans restore` brings it back.

    Args:
        name (NAME): A saved plan's name.
    """
    async with invocation.reach() as engine:
        await engine.delete_plan(name, by=login_name())
    invocation.answer({"name": name, "deleted": True}, f"deleted {name}")


@plan_commands.command(uses=STORE, at_server=True, example="weather --format yaml")
async def plans_show(
    invocation: Invocation, name: SavedName, form: ShowFormat = Format.TEXT, version: str | None = None
) -> None:
    """Show a saved plan.

    Args:
        name (NAME): A saved plan's name or digest.
        version (VERSION): An earlier version: its number in `plans history`, or a digest.
    """
    from ..arguments import get_saved_plan

    form = Format.JSON if invocation.as_json else form
    async with invocation.reach() as engine:
        if version is None:
            found = await get_saved_plan(engine, name)
            saved, _ = await _saved_plans(engine)
            uses = next((each.uses for each in saved if each.name == name), None)
        else:
            wanted = int(version) if version.isdecimal() else version
            found, uses = await engine.plan_version(name, wanted), None
    _show_plan(found, form, invocation.toolset)
    if form is Format.TEXT and uses is not None:
        screen.answer(f"\n{uses}")


tool_commands = commands.group(
    "tools",
    "List the tools, or find weak spots of them. Without a further word, list them.",
    example="--tools tools.py",
)


@tool_commands.command(uses=TOOLS, is_default=True, at_server=True, example="--tools tools.py --json")
async def tools_list(invocation: Invocation) -> None:
    """List the tools with their types and effects."""
    from ..invocation import NO_TOOLS

    head: tuple[str, ...] = ("NAME", "EFFECT", "TAKES", "DOES")
    if invocation.server is not None:
        async with invocation.reach_server() as engine:
            served = await engine.tools()
        lines = (
            (each.name, each.effect, _parameters(each.parameters), each.description.partition("\n")[0])
            for each in served
        )
        invocation.answer({"tools": [each.to_dict() for each in served]}, screen.table(head, lines))
        return
    toolset = invocation.toolset
    if not len(toolset) and not invocation.as_json:
        screen.note(NO_TOOLS)
        return
    opening = any(tool.opens for tool in toolset)
    head = (*head[:3], "OPENS", *head[3:]) if opening else head
    rows = (
        (
            tool.name,
            tool.effect.value,
            _parameters(tool.parameters),
            *([", ".join(each.name for each in tool.opens)] if opening else ()),
            tool.description.partition("\n")[0],
        )
        for tool in toolset
    )
    invocation.answer({"tools": toolset.to_list()}, screen.table(head, rows))


def _parameters(schema: Mapping[str, Any]) -> str:
    properties: Any = schema.get("properties", {})
    required: Any = schema.get("required", [])
    return ", ".join(name if name in required else f"{name}?" for name in properties)


@tool_commands.command(uses=TOOLS_AND_STORE, example="station --tools tools.py --store runs.db")
async def tools_accept(invocation: Invocation, server: str, dry_run: bool = False) -> None:
    """Consent to what a server says of its tools now. Shows what has changed; until then nothing is planned with its tools.

    Args:
        server (SERVER): The server's name, or its address or command as the error shows it.
        dry_run: Only show the differences.
    """
    async with invocation.engine() as engine:
        changes = await engine.accept_tools(server, dry_run=dry_run)
    document = {**changes.to_dict(), "accepted": bool(changes) and not dry_run}
    invocation.answer(document, str(changes))
    if changes and not dry_run:
        invocation.note("accepted: from now on this is what the server may say")


@tool_commands.command(example="https://mcp.example.com/mcp")
async def tools_login(  # the command's options
    invocation: Invocation,
    server: str,
    file: Path | None = None,
    keyring: str | None = None,
    client_id: str | None = None,
    port: Annotated[int, typer.Option(min=0, max=65535)] = 0,
    no_browser: bool = False,
) -> None:
    """Log in to an MCP server. A browser opens, and the tokens are kept for `Toolset.from_mcp(ADDRESS, oauth=True)`.

    Args:
        server (ADDRESS): The server's address.
        file (FILE): Where the tokens are kept; default: a file of the server in the folder of your settings.
        keyring (SERVICE/USER): An entry of the system's keyring in the place of a file.
        client_id (ID): A client that is registered already; its secret is in FIRMPLAN_OAUTH_CLIENT_SECRET, if it has one.
        port: Of the page on this machine to which the browser comes back; 0 takes a free one.
        no_browser: Only print the address to open.
    """
    oauth_module, oauth = _oauth_of(server, file, keyring, client_id, port)

    def show(address: str) -> None:
        import webbrowser

        screen.note(f"open this address and log in:\n{address}")
        if not no_browser:
            webbrowser.open(address)

    listing, is_asked = await oauth_module.log_in(server, oauth, show)
    place = oauth.place(server)
    tools = screen.plural(len(listing.tools), "tool")
    kept = bool(place.read().get("tokens"))
    said = f"logged in to {listing.name}: {tools}; the tokens are in {place}"
    if not is_asked:
        said = f"{listing.name} asks for no login now: {tools}" + (
            f"; you are logged in, by {place}" if kept else ""
        )
    document = {
        "server": listing.name,
        "tools": len(listing.tools),
        "asked": is_asked,
        "tokens": str(place) if kept else None,
    }
    invocation.answer(document, said)


@tool_commands.command(example="https://mcp.example.com/mcp")
def tools_logout(
    invocation: Invocation, server: str, file: Path | None = None, keyring: str | None = None
) -> None:
    """Forget the tokens of an MCP server.

    Args:
        server (ADDRESS): The server's address.
        file (FILE): Where the tokens are kept, if the login named it.
        keyring (SERVICE/USER): The entry of the system's keyring, if the login named it.
    """
    _, oauth = _oauth_of(server, file, keyring, None, 0)
    place = oauth.place(server)
    was_there = place.remove()
    invocation.answer(
        {"removed": was_there, "tokens": str(place)},
        f"removed: {place}" if was_there else f"there are no tokens: {place}",
    )


def _oauth_of(
    server: str, file: Path | None, keyring: str | None, client_id: str | None, port: int
) -> tuple[Any, Any]:
    """Return the module of logins, and how this server is logged in to. Raises: ConfigError: it is no address, or `mcp` is not installed."""
    from ...tools.provider import is_address

    if not is_address(server):
        raise ConfigError(
            f"expected the address of an MCP server, such as https://host/mcp, found {server!r}"
        )
    try:
        from ...tools.mcp import oauth
    except ModuleNotFoundError as missing:
        raise ConfigError(
            f"MCP servers need the package '{missing.name}', which is not installed: pip install 'firmplan[mcp]'"
        ) from missing
    given = {"file": file, "keyring": keyring, "client_id": client_id, "port": port}
    given["client_secret"] = os.environ.get("FIRMPLAN_OAUTH_CLIENT_SECRET") if client_id else None
    return oauth, oauth.OAuth.of({name: value for name, value in given.items() if value})


@tool_commands.command(uses=TOOLS, example="--tools tools.py")
def tools_lint(invocation: Invocation) -> int:
    """Find weak spots of the tools. They keep tools from being planned, checked, reused or retried well. Fails if a safeguard is missing."""
    from ...tools.fingerprint.lint import lint
    from ..invocation import NO_TOOLS

    toolset = invocation.toolset
    remarks = lint(toolset)
    code = Exit.WRONG if any(remark.severity == "error" for remark in remarks) else Exit.OK
    if invocation.as_json:
        screen.document({"tools": toolset.names, "remarks": [asdict(remark) for remark in remarks]})
        return code
    for remark in remarks:
        kind = "error: " if remark.severity == "error" else ""
        screen.answer(f"{kind}{remark.tool}: {remark.message} [{remark.code}]\n  hint: {remark.hint}")
    count = f"{screen.plural(len(toolset.names), 'tool')}, {screen.plural(len(remarks), 'remark')}"
    screen.note(count if len(toolset) else NO_TOOLS)
    return code
