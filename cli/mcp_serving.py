"""`mcp`: an MCP server over stdin and stdout, with one engine behind it, until the client goes or a signal comes.

Nothing but the protocol goes to stdout: it is taken before the tools are loaded, and whatever they print goes to stderr.
No tool here approves, denies or resolves a call: what waits for a person is told, with the command that the person types.
A client that gives up on a call does not end its run.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..engine import Engine
from ..errors import ConfigError, FirmplanError, InputRejected
from ..executor import Run
from ..plans.nearest import did_you_mean
from ..tools.logbook import open_log
from . import mcp_requests as asked
from . import screen
from .config import Settings
from .failure import Exit, exit_code, failure_document, failure_text
from .mcp_answers import ARTIFACT_BYTES_MAX, RUN_SCHEMA, Document, content_of, run_document, run_text
from .mcp_plans import description, input_schema, plan_tools
from .session import drive, load_toolset, open_engine, settings_of

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.types import (
        CallToolRequestParams,
        CallToolResult,
        ContentBlock,
        ListToolsResult,
        PaginatedRequestParams,
    )

INSTRUCTIONS = (
    "firmplan runs agents by deterministic plans. To do something: call a saved plan (tools named plan_..), or list_tools, "
    "write a plan, check_plan until it has no faults, run_plan. A run that waits for approval needs a person: tell them "
    "what stands in `advice`."
)


def mcp_command(flags: Mapping[str, object], wait_s: float) -> int:
    """Serve until the client closes stdin, or a signal; runs under way stay resumable.

    Raises:
        ConfigError: The extra `mcp` is not installed, or a setting is wrong.
    """
    try:
        from mcp.server.stdio import stdio_server  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as missing:
        raise ConfigError(
            f"serving MCP needs the package '{missing.name}', which is not installed: pip install 'firmplan[mcp]'"
        ) from missing
    settings = settings_of(flags)

    async def work() -> int:
        async with stdio_server() as (incoming, outgoing):
            try:
                with screen.stdout_for_the_document():
                    toolset = load_toolset(settings)
                    async with open_engine(settings, toolset) as engine:
                        server = make_server(engine, settings, wait_s)
                        await server.run(incoming, outgoing, server.create_initialization_options())
            except asyncio.CancelledError:
                # The engine is closed. What reads stdin sits in a thread that nothing wakes, and would be waited for.
                os._exit(Exit.OK)
            except FirmplanError as error:
                screen.note(failure_text(error))
                os._exit(exit_code(error))  # as above
        return Exit.OK

    return drive(work, stopped=Exit.OK)


def make_server(engine: Engine, settings: Settings, wait_s: float) -> Any:  # noqa: ANN401  # of a package that is an extra
    """Return the server for an open engine, which the caller closes."""
    from mcp.server.lowlevel import Server  # noqa: PLC0415  # an extra

    desk = _Desk(engine, settings, wait_s)
    return Server[dict[str, Any]](
        "firmplan",
        version=version("firmplan"),
        instructions=INSTRUCTIONS,
        on_list_tools=desk.list_tools,
        on_call_tool=desk.call_tool,
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer: a document, what a model reads first, and whether the call went wrong."""

    document: Document
    text: str
    is_error: bool = False
    part: ContentBlock | None = None


@dataclass(frozen=True, slots=True)
class _Desk:
    """Takes requests in, and answers them."""

    engine: Engine
    settings: Settings
    wait_s: float

    async def list_tools(
        self, _context: ServerRequestContext[dict[str, Any]], _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        """List firmplan's own tools, then the saved plans."""
        from mcp.types import ListToolsResult, Tool, ToolAnnotations  # noqa: PLC0415  # an extra

        own = [
            Tool(
                name=name,
                description=" ".join((request.__doc__ or "").split()),
                input_schema=request.model_json_schema(),
                output_schema=RUN_SCHEMA if name in _RUNS else {"type": "object"},
                annotations=ToolAnnotations(read_only_hint=name not in asked.CHANGING),
            )
            for name, request in asked.REQUESTS.items()
        ]
        plans = [
            Tool(
                name=name,
                description=description(saved),
                input_schema=input_schema(saved.plan),
                output_schema=RUN_SCHEMA,
            )
            for name, saved in plan_tools(await self.engine.list_plans()).items()
        ]
        return ListToolsResult(tools=own + plans)

    async def call_tool(
        self, _context: ServerRequestContext[dict[str, Any]], params: CallToolRequestParams
    ) -> CallToolResult:
        """Answer a call; whatever goes wrong is an answer too, that says what to do."""
        from mcp.types import CallToolResult, TextContent  # noqa: PLC0415  # an extra

        try:
            answer = await self._answer(params.name, dict(params.arguments or {}))
        except FirmplanError as error:
            answer = _Answer(failure_document(error), failure_text(error), is_error=True)
        except Exception as error:  # noqa: BLE001  # the client is told, as the command line tells people
            open_log().error("a call of an MCP client failed", tool=params.name, error=repr(error))
            said = f"{type(error).__name__}: {error} (this is a bug in firmplan; please report it)"
            answer = _Answer({"error": {"code": "engine-bug", "message": said}}, said, is_error=True)
        whole = json.dumps(answer.document, ensure_ascii=False)
        content: list[ContentBlock] = [
            TextContent(type="text", text=f"{answer.text}\n\n{whole}" if answer.text else whole)
        ]
        if answer.part is not None:
            content.append(answer.part)
        return CallToolResult(content=content, structured_content=answer.document, is_error=answer.is_error)

    async def _answer(self, name: str, arguments: Document) -> _Answer:
        if name in asked.REQUESTS:
            return await self._of(_read(name, arguments))
        plans = plan_tools(await self.engine.list_plans())
        if name not in plans:
            hint = did_you_mean(name, [*asked.REQUESTS, *plans])
            raise InputRejected(f"there is no tool '{name}'" + (f"; {hint}" if hint else ""))
        return await self._waited(await self.engine.submit(plans[name].plan, inputs=arguments))

    async def _of(self, request: asked.Request) -> _Answer:  # noqa: C901, PLR0911, PLR0912  # one answer for each request: a table
        engine = self.engine
        match request:
            case asked.RunPlan():
                plan = request.plan if request.plan is not None else await self._saved(request.name or "")
                return await self._waited(await engine.submit(plan, **_options(request)))
            case asked.RunTask():
                return await self._waited(await engine.submit(request.task, **_options(request)))
            case asked.MakePlan():
                plan = await engine.plan(request.task, inputs=request.inputs)
                return _Answer({"plan": plan.to_dict(), "digest": plan.digest}, "")
            case asked.CheckPlan():
                report = await engine.check_plan(request.plan)
                return _Answer(report.to_dict(), "")
            case asked.ListPlans():
                return _Answer(
                    {"plans": [_plan_line(each.name, each.plan) for each in await engine.list_plans()]}, ""
                )
            case asked.ListTools():
                return _Answer({"tools": engine.tools.to_list()}, "")
            case asked.ListRuns():
                page = await engine.list_runs(
                    status=request.status, limit=request.limit, cursor=request.cursor
                )
                return _Answer({"runs": [run.to_dict() for run in page.runs], "cursor": page.cursor}, "")
            case asked.GetRun():
                return _Answer((await engine.get(request.run_id)).to_dict(), "")
            case asked.WaitRun():
                return await self._waited(await engine.get(request.run_id))
            case asked.ResumeRun():
                return await self._resumed(request)
            case asked.Explain():
                return await self._explained(request)
            case asked.ReadArtifact():
                return await self._read(request)
            case _:
                raise InputRejected(f"there is no answer to {type(request).__name__}")

    async def _saved(self, name: str) -> Any:  # noqa: ANN401  # a plan
        plan = await self.engine.find_plan(name)
        if plan is None:
            saved = [each.name for each in await self.engine.list_plans()]
            hint = did_you_mean(name, saved)
            raise InputRejected(f"no plan is saved as {name!r}" + (f"; {hint}" if hint else ""))
        return plan

    async def _waited(self, run: Run) -> _Answer:
        """Return what came of a run, or where it stands when the client has waited long enough."""
        try:
            async with asyncio.timeout(self.wait_s):
                run = await self.engine.wait(run.id)
        except TimeoutError:
            run = await self.engine.get(run.id)
        return self._told(run)

    def _told(self, run: Run) -> _Answer:
        is_error = run.status in ("failed", "cancelled")
        return _Answer(run_document(run, self.settings), run_text(run, self.settings), is_error=is_error)

    async def _resumed(self, request: asked.ResumeRun) -> _Answer:
        try:
            async with asyncio.timeout(self.wait_s):
                run = await self.engine.resume(request.run_id, budget=_amounts(request.budget))
        except TimeoutError:
            run = await self.engine.get(request.run_id)
        return self._told(run)

    async def _explained(self, request: asked.Explain) -> _Answer:
        if request.step is None:
            found = await self.engine.explain_all(request.run_id)
        else:
            found = [await self.engine.explain(request.run_id, request.step)]
        return _Answer(
            {"run": request.run_id, "steps": [each.to_dict() for each in found]},
            "\n".join(str(each) for each in found),
        )

    async def _read(self, request: asked.ReadArtifact) -> _Answer:
        data = await self.engine.read_artifact(request.artifact)
        if len(data) > ARTIFACT_BYTES_MAX:
            raise InputRejected(
                f"the artifact has {len(data)} bytes; expected at most {ARTIFACT_BYTES_MAX} for an answer: let a step of a plan "
                "work on it"
            )
        return _Answer(request.artifact, "", part=content_of(data, request.artifact))


_RUNS = asked.CHANGING | {"wait_run"}


def _read(name: str, arguments: Document) -> asked.Request:
    try:
        return asked.REQUESTS[name].model_validate(arguments, strict=True)
    except ValidationError as fault:
        from ..tools.schemas import pydantic_faults  # noqa: PLC0415  # only where something does not fit

        raise InputRejected(f"{name}: {'; '.join(pydantic_faults(fault))}") from fault


def _options(request: asked.RunPlan | asked.RunTask) -> dict[str, Any]:
    return {"inputs": request.inputs, "budget": _amounts(request.budget), "run_id": request.run_id}


def _amounts(budget: Mapping[Any, float] | None) -> dict[str, float] | None:
    """Return a budget whose whole amounts are whole: steps are counted."""
    if budget is None:
        return None
    return {str(name): int(amount) if amount == int(amount) else amount for name, amount in budget.items()}


def _plan_line(name: str, plan: Any) -> Document:  # noqa: ANN401  # a plan
    return {
        "name": name,
        "digest": plan.digest,
        "task": plan.task,
        "description": plan.description,
        "inputs": input_schema(plan),
    }
