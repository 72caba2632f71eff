"""Saved plans as tools of the MCP server: their names, their schemas, and the notice to clients when they change.

The tool's name is `plan_` and the plan's name, in letters that every client accepts. `run_plan`, which takes every plan by its own name,
remains for plans whose tool names would be equal, and for plans past `PLANS_MAX`. Another process may save a plan in the same store, so
the store is asked at intervals whether its plans have changed, as long as a client has looked at the tools.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ServerEvent, ToolsListChanged
from typing_extensions import override

from ...engine import Engine
from ...errors import StoreError
from ...executor.lru_cache import LruCache
from ...executor.runs.changes import Lookout
from ...planner import SavedPlan
from ...plans import Json, Plan
from ...plans.types.standalone import find_validator, self_contained
from ...plans.values import canonical
from .calls import Context, session_of

PLAN_PREFIX: Final = "plan_"
NAME_MAX: Final = 64  # characters that the strictest clients accept
PLANS_MAX: Final = 100  # more tools than that help no model to choose
POLL_S: Final = 1.0  # how often the store is asked whether its plans have changed, where it does not tell
LISTENERS_MAX: Final = 10_000  # sessions that are told of changes, as many as the SDK's HTTP server keeps


@dataclass(frozen=True, slots=True)
class PlanTool:
    """A saved plan as a tool.

    Attributes:
        saved: The plan and its name.
        parameters: JSON Schema of its inputs, self-contained.
        returns: JSON Schema of its output, as far as the check knows it, self-contained; `{}`: it knows nothing.
    """

    saved: SavedPlan
    parameters: Mapping[str, Json]
    returns: Mapping[str, Json]

    def fits(self, output: Json) -> bool:
        """Whether an output is as the schema says. Where results of tools are not enforced, it may be otherwise."""
        validator = find_validator(canonical(dict(self.returns)))
        return validator is None or validator.is_valid(output)


class Notices(InMemorySubscriptionBus):
    """The SDK's bus to clients without a session, which knows how many of them listen.

    Attributes:
        listeners: How many listen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.listeners = 0

    @override
    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        leave = super().subscribe(listener)
        self.listeners += 1

        def unsubscribe() -> None:
            nonlocal leave
            leave()
            # The SDK may call it twice.
            if leave is not _gone:
                self.listeners -= 1
                leave = _gone

        return unsubscribe


def _gone() -> None:
    """Do nothing."""


class PlanTools:
    """The saved plans of an engine's store as tools, and the clients that are told when they change.

    Args:
        engine: The engine that answers.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._revision: str | None = None
        self._tools: dict[str, PlanTool] = {}
        self._outputs: LruCache[str, Mapping[str, Json]] = LruCache(PLANS_MAX * 10, weight_min=1)
        self._listeners: dict[str, ServerSession] = {}
        self._loading = asyncio.Lock()
        self.bus = Notices()  # to clients that speak the protocol of 2026-07-28

    async def read(self) -> Mapping[str, PlanTool]:
        """Return tool name -> plan, in the order of the plans' names."""
        async with self._loading:
            revision = await self._engine.plans_revision()
            if revision != self._revision:
                saved = plan_tools(await self._engine.list_plans())
                self._tools = {name: await self._tool(each) for name, each in saved.items()}
                self._revision = revision
            return self._tools

    async def _tool(self, saved: SavedPlan) -> PlanTool:
        plan = saved.plan
        known = self._outputs.find(plan.digest)
        if known is None:
            known = await self._output_schema(plan)
            self._outputs.keep(plan.digest, known)
        return PlanTool(saved, input_schema(plan), known)

    async def _output_schema(self, plan: Plan) -> Mapping[str, Json]:
        """Return the type of a plan's output: that of a step whose value it would be."""
        types = cast("Mapping[str, Json]", plan.types)
        if plan.returns is not None:
            return self._nullable(plan.returns, types)
        if plan.output is None:
            return {"type": "null"}
        last = "output_"
        while any(each.id == last for each in plan.steps):
            last += "_"
        document = plan.to_dict()
        steps = [*cast("Sequence[Json]", document["steps"]), {"id": last, "set": document["output"]}]
        report = await self._engine.check_plan({**document, "steps": steps, "output": f"${{{last}}}"})
        if not (schema := report.types.get(last, {})):
            return {}
        return self._nullable(schema, types)

    @staticmethod
    def _nullable(schema: Json, types: Mapping[str, Json]) -> Mapping[str, Json]:
        # The output is null as long as the run has not succeeded, and where a skipped step would have given it.
        made = self_contained({"anyOf": [schema, {"type": "null"}]}, types)
        # The schema becomes a part of the answer's schema, in which `#` means another root.
        return {} if b'"$ref":"#"' in canonical(made) else made

    # --- notices

    def listen(self, context: Context) -> None:
        """Have the client of a request told when the tools change."""
        key = session_of(context)
        if key in self._listeners or len(self._listeners) < LISTENERS_MAX:
            self._listeners[key] = context.session

    async def watch(self) -> None:
        """Tell the clients whenever the saved plans have changed; runs until it is cancelled."""
        known: str | None = None
        lookout = Lookout(lambda: self._engine.change_count("plans"))
        while True:
            if not self._listeners and not self.bus.listeners:
                known = None  # nobody hears it, so the store is not asked
            elif known is None or lookout.is_due():
                lookout.begin()
                # A store that cannot be read for a moment is asked again; calls say what is wrong with it.
                with suppress(StoreError):
                    revision = await self._engine.plans_revision()
                    # What a client has listed before the first look counts, too.
                    if revision != (known or self._revision or revision):
                        await self._tell()
                    known = revision
                    lookout.end()
            await asyncio.sleep(POLL_S)

    async def _tell(self) -> None:
        await self.bus.publish(ToolsListChanged())
        for key, session in list(self._listeners.items()):
            try:
                await session.send_tool_list_changed()
            except Exception:  # noqa: BLE001  # the client has left, in whatever way its transport says so
                self._listeners.pop(key, None)


def plan_tools(saved: Sequence[SavedPlan]) -> dict[str, SavedPlan]:
    """Return tool name -> plan, in the order of the plans' names."""
    found: dict[str, SavedPlan] = {}
    for each in sorted(saved, key=lambda each: each.name):
        name = (PLAN_PREFIX + re.sub(r"[^A-Za-z0-9_-]", "_", each.name))[:NAME_MAX]
        if len(found) < PLANS_MAX:
            # Of two plans whose tool names are equal, the first by name keeps the tool.
            found.setdefault(name, each)
    return found


def plan_description(saved: SavedPlan) -> str:
    """Return what a model reads of a plan: its task, its description, and its name in the store."""
    left_out = (f"It leaves out: {text}" for text in saved.plan.left_out)
    own = f"Runs the saved plan '{saved.name}'."
    parts = [saved.plan.task or "", saved.plan.description or "", own, *left_out]
    return "\n".join(part for part in parts if part)


def input_schema(plan: Plan) -> dict[str, Any]:
    """Return the JSON Schema of a plan's inputs, self-contained."""
    inputs = cast("dict[str, Json]", dict(plan.inputs))
    required: list[Json] = [name for name, schema in plan.inputs.items() if "default" not in schema]
    schema: dict[str, Json] = {
        "type": "object",
        "properties": inputs,
        "required": required,
        "additionalProperties": False,
    }
    return self_contained(schema, cast("Mapping[str, Json]", plan.types))
