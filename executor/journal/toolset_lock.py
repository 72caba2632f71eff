"""The toolset lock of a run: the tools as they were when it started.

A run keeps the signature and the policy of every tool that its plan names. So a resume or a replay compiles the same program and decides in
the same way, with tools that have changed since, or without any tools. Code is never kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import cached_property
from hashlib import sha256
from itertools import chain
from typing import Any, Final, Literal, cast
from weakref import WeakKeyDictionary

import orjson

from ...plans.edit.differences import differences
from ...plans.immutable import immutable
from ...plans.plan import AgentStep, Plan, PlanForStep, ToolStep
from ...plans.reports.nearest import listing
from ...plans.signature import AgentTools, Effect, called_by
from ...plans.values import Json, canonical, digest
from ...tools import Tool, Toolset
from ..policy import ApprovalKind, CallPolicy

CHANGES_TOLD: Final = 3  # places of a signature that a message names
DIGITS: Final = 16  # of the digest of a toolset, which people compare by eye
_PROSE: Final = (
    "title",
    "description",
    "examples",
)  # of a schema; a parameter of that name has an object there

_LATER: Final = (
    "private",
    "readers",
    "egress",
    "asks_judge",
    "harmless",
    "is_provided",
    "approval_expires_s",
    "agent_tools",
)


# A lock holds no code and no Python types, only what decides about calls: the header of a run has to be readable where the tools are not
# installed, and by every later version.
@immutable
class ToolLock:
    """One tool as a run knows it; satisfies `plans.signature.Signature`.

    Attributes:
        asks_judge: Whether a model judges its results; locks of older versions do not say so, and theirs were not judged.
    """

    name: str
    description: str
    effect: Effect
    parameters: Mapping[str, Json]
    returns: Mapping[str, Json] | None
    resource: str
    trust: Literal["trusted", "untrusted"]
    idempotent: bool
    can_reconcile: bool
    asks_approval: bool
    allow_untrusted: Collection[str]
    approval: ApprovalKind
    retries: int
    timeout_s: float | None
    fingerprint: str | None
    harmless: Collection[str] = ()
    asks_judge: bool = False
    private: bool = False
    readers: Collection[str] = ()
    egress: Collection[str] = ()
    is_provided: bool = False
    approval_expires_s: float | None = None
    agent_tools: AgentTools | None = None

    @classmethod
    def of(cls, tool: Tool) -> ToolLock:
        """Return the lock of a tool. Nobody changes a tool, so each tool has one lock."""
        # Kept by weak references: tools of a server that were replaced must not stay in memory for the sake of their locks.
        if (known := _LOCKS.get(tool)) is not None:
            return known
        # A lock has the attributes of its tool, by the same names; only two of them have to be put into another form.
        made: dict[str, Any] = {field.name: getattr(tool, field.name) for field in fields(cls)}
        made |= {"allow_untrusted": tuple(sorted(tool.allow_untrusted)), "approval": approval_kind(tool)}
        _LOCKS[tool] = lock = cls(**made)
        return lock

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ToolLock:
        """Read it back from `to_dict`."""
        # Only some fields are no JSON as they are. A field that is missing or unknown raises a TypeError, which the header turns into a StoreError.
        settled: dict[str, Any] = dict(data)
        settled["effect"] = Effect(data["effect"])
        settled["allow_untrusted"] = tuple(data["allow_untrusted"])
        for name in ("harmless", "readers", "egress"):
            settled[name] = tuple(data.get(name, ()))
        if (agent := data.get("agent_tools")) is not None:
            settled["agent_tools"] = replace(AgentTools(**agent), tools=tuple(agent["tools"]))
        return cls(**settled)

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        data: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in _LATER:  # a tool without these declarations has the lock that it had before they existed
            if not data[name]:
                del data[name]
            elif isinstance(data[name], AgentTools):
                data[name] = {**asdict(data[name]), "tools": list(data[name].tools)}
            elif isinstance(data[name], Collection):
                data[name] = list(data[name])
        return {**data, "effect": self.effect.value, "allow_untrusted": list(self.allow_untrusted)}

    def find_broken_promise(self, tool: Tool) -> str | None:
        """Return in words a property that the run relies on and the tool has lost: then its calls may not go on. `None`: there is none."""
        # The run has ordered its steps by the effects, and decides about lost calls by the other two. A changed signature breaks no promise by
        # itself (`find_changed_signature`).
        if tool.effect != self.effect:
            return f"had the effect '{self.effect}', and has '{tool.effect}' now"
        if self.idempotent and not tool.idempotent:
            return "was idempotent, and is not any more"
        if self.can_reconcile and not tool.can_reconcile:
            return "had a reconcile, and has none any more"
        return None

    def find_changed_signature(self, tool: Tool) -> str | None:
        """Return in words how the parameters or the result of a tool have changed; descriptions do not count."""
        for what, before, now in (
            ("parameters", self.parameters, tool.parameters),
            ("result", self.returns, tool.returns),
        ):
            # Most schemas are equal, and comparing them as they are costs less than making bare copies.
            if before != now and (old := _bare(before)) != (new := _bare(now)):
                places = "; ".join(map(str, differences(old, new)[:CHANGES_TOLD]))
                return f"its {what} changed: {places}"
        return None

    @property
    def unstated_reach(self) -> None:
        """Nothing: a run settles the trust of its tools when it is submitted."""
        return

    @property
    def policy(self) -> CallPolicy:
        """What the machine needs to know."""
        return CallPolicy(
            effect=self.effect,
            retries=self.retries,
            timeout_s=self.timeout_s,
            idempotent=self.idempotent,
            can_reconcile=self.can_reconcile,
            approval=self.approval,
            approval_expires_s=self.approval_expires_s,
            asks_model=self.effect is Effect.MODEL or self.asks_judge,
            # Only a write is compared with earlier calls by its arguments, where a default counts as if it had been given.
            defaults=self.defaults if self.effect is Effect.WRITE else {},
        )

    @property
    def defaults(self) -> Mapping[str, Json]:
        """The arguments that a call may leave out, with the values that they then have."""
        match self.parameters:
            case {"properties": dict(known)}:
                return {
                    name: part["default"]
                    for name, part in known.items()
                    if isinstance(part, dict) and "default" in part
                }
            case _:
                return {}


def _bare(schema: Json | Mapping[str, Json]) -> Json:
    """Return a schema without its descriptive keywords."""
    match schema:
        case dict():
            return {
                name: _bare(part)
                for name, part in schema.items()
                if name not in _PROSE or not isinstance(part, str | list)
            }
        case list():
            return [_bare(part) for part in schema]
        case _:
            return cast("Json", schema)


_LOCKS: Final[WeakKeyDictionary[Tool, ToolLock]] = WeakKeyDictionary()


class ToolsetLock:
    """The tools of one run; satisfies `plans.signature.Signatures`.

    Attributes:
        names: Tool names, sorted.
    """

    def __init__(self, tools: Sequence[ToolLock]) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self.names: Sequence[str] = sorted(self._tools)

    @classmethod
    def of(cls, plans: Iterable[Plan], tools: Toolset) -> ToolsetLock:
        """Return the lock of the tools that these plans name."""
        # Sorted, so that the same tools give the same header. A name without a tool is left to the check, which says so.
        names = sorted({name for plan in plans for name in tool_names(plan)})
        found = [tools.find(name) for name in names]
        more = {name: None for tool in found for name in called_by(tool) if name not in names}
        found += map(tools.find, sorted(more))
        return cls([ToolLock.of(tool) for tool in found if tool is not None])

    def items(self) -> Iterable[tuple[str, ToolLock]]:
        """Tool names with their tools."""
        return self._tools.items()

    def find(self, name: str) -> ToolLock | None:
        """Return the tool of that name, or `None`."""
        return self._tools.get(name)

    def find_differences(self, tools: Toolset) -> Mapping[str, str]:
        """Return in words, by name, what keeps a run from going on with these tools: one is missing, or has lost a property that the run relies on."""
        found: dict[str, str] = {}
        for name, locked in self._tools.items():
            if (tool := tools.find(name)) is None:
                found[name] = f"which this engine has not; it has {listing(tools.names)}"
            elif (broken := locked.find_broken_promise(tool)) is not None:
                found[name] = f"which {broken}"
        return found

    def steps_with(self, name: str, plans: Iterable[Plan]) -> Sequence[str]:
        """Return the ids of the steps that may call a tool, also by way of a tool whose model calls it."""
        by_way = {name, *(tool.name for tool in self._tools.values() if name in called_by(tool))}
        return [step for step, names in _steps(plans) if not by_way.isdisjoint(names)]

    def with_untrusted(self, names: Collection[str]) -> ToolsetLock:
        """Return the lock with these tools untrusted too; itself where they are."""
        if all(tool.trust == "untrusted" for tool in self._tools.values() if tool.name in names):
            return self
        return ToolsetLock(
            [
                replace(tool, trust="untrusted") if tool.name in names else tool
                for tool in self._tools.values()
            ]
        )

    # Derived once: a resume, a replay and every view of a run ask for them, and nobody changes a lock.

    @cached_property
    def policies(self) -> Mapping[str, CallPolicy]:
        """Tool name -> policy."""
        return {name: tool.policy for name, tool in self._tools.items()}

    @cached_property
    def written(self) -> Mapping[str, str]:
        """Names of the tools that write -> the resource that each writes."""
        return {name: tool.resource for name, tool in self._tools.items() if tool.effect is Effect.WRITE}

    @cached_property
    def idempotent(self) -> Collection[str]:
        """Names of the tools that are idempotent."""
        return {name for name, tool in self._tools.items() if tool.idempotent}

    def to_list(self) -> list[Json]:
        """Return it as JSON, sorted by name. The list is shared, and never to be changed."""
        return self._as_json

    @cached_property
    def name(self) -> bytes:
        """What names it among the locks of other tools: the digest of its JSON."""
        # In the order of `to_dict`, not canonical: the name stands in no store, and only has to tell locks of one process apart.
        return sha256(orjson.dumps(self.to_list())).digest()

    @cached_property
    def _as_json(self) -> list[Json]:
        return [cast("Json", self._tools[name].to_dict()) for name in self.names]

    @classmethod
    def from_list(cls, data: Sequence[Mapping[str, Any]]) -> ToolsetLock:
        """Read it back from `to_list`."""
        return cls([ToolLock.from_dict(entry) for entry in data])


def digest_of_toolset(tools: Toolset) -> str:
    """Return 16 hexadecimal digits for all that `find_broken_promise` and `find_changed_signature` compare: where they are equal, runs go on alike."""
    # Not the fingerprints: another version of a tool's code is no reason to keep its runs from going on.
    promises = [
        [
            *(name, tool.effect.value, tool.idempotent, tool.can_reconcile),
            *(_bare(tool.parameters), _bare(tool.returns) if tool.returns is not None else None),
        ]
        for name in tools.names
        for tool in (tools.get(name),)
    ]
    return digest(canonical(promises)).removeprefix("sha256:")[:DIGITS]


def tool_names(plan: Plan) -> Iterator[str]:
    """Yield the names of the tools that a plan's steps call, those of its inner plans included."""
    for _, names in _steps([plan]):
        yield from names


def _steps(plans: Iterable[Plan]) -> Iterator[tuple[str, Collection[str]]]:
    """Yield the ids of steps that call tools, those of inner plans included, and the names of the tools."""
    for plan in plans:
        for step in chain(plan.steps, *(inner.steps for inner in plan.plans.values())):
            match step:
                case ToolStep(tool=name):
                    yield step.id, (name,)
                case AgentStep() | PlanForStep():
                    yield step.id, step.may_call
                case _:
                    pass


def approval_kind(tool: Tool) -> ApprovalKind:
    """Return how a tool asks for a person."""
    match tool.approval:
        case None:
            return "never"
        case "always" | "untrusted" as kind:
            return kind
        case _:
            return "rule"
