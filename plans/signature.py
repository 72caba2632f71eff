"""Signatures: the facts about tools that the plan language needs, never their code.

`firmplan.tools.Tool` satisfies `Signature` and `Toolset` satisfies `Signatures`; `plans/` must not import either.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Literal, Protocol, TypeAlias, cast

from .immutable import immutable
from .reports.nearest import did_you_mean, listing, short
from .values import Json

REFERENCES_MAX = 8
"""References through which the schema of a parameter is looked for."""


class Effect(StrEnum):
    """What a call may do to the world."""

    PURE = "pure"
    READ = "read"
    MODEL = "model"
    WRITE = "write"


class Signature(Protocol):
    """One tool as the checker sees it."""

    @property
    def name(self) -> str:
        """Its name in plans."""
        ...

    @property
    def description(self) -> str:
        """Its purpose, for people and models."""
        ...

    @property
    def effect(self) -> Effect:
        """Its effect on the world."""
        ...

    @property
    def parameters(self) -> Mapping[str, Json]:
        """JSON Schema of an object, one property for each argument, self-contained (`$defs` inside)."""
        ...

    @property
    def returns(self) -> Mapping[str, Json] | None:
        """JSON Schema of the result, self-contained; `None`: anything."""
        ...

    @property
    def resource(self) -> str:
        """The resource that its effect touches; `world` conflicts with every other."""
        ...

    @property
    def trust(self) -> Literal["trusted", "untrusted"]:
        """Whether its results may steer writes."""
        ...

    @property
    def unstated_reach(self) -> str | None:
        """Where results of unstated trust come from, in words ("reaches the network (httpx.get)"); `None`: trust is stated, or they come from nowhere outside."""
        ...

    @property
    def is_provided(self) -> bool:
        """Whether somebody else, such as an MCP server, describes it: then what it says of itself is data."""
        ...

    @property
    def idempotent(self) -> bool:
        """Whether a call with the same key happens only once."""
        ...

    @property
    def can_reconcile(self) -> bool:
        """Whether it can find out whether a call took effect."""
        ...

    @property
    def asks_approval(self) -> bool:
        """Whether the tool carries an approval of any kind (`always`, `untrusted` or a callable)."""
        ...

    @property
    def allow_untrusted(self) -> Collection[str]:
        """Parameters that may hold untrusted data."""
        ...

    @property
    def harmless(self) -> Collection[str]:
        """Parameters of a narrow type that untrusted data may fill in, each as a whole."""
        ...

    @property
    def private(self) -> bool:
        """Whether its results may reach only its readers."""
        ...

    @property
    def readers(self) -> Collection[str]:
        """Who may have its results: tools, `tool.argument`, `prefix*` of tools, `model`, models, domains, addresses of people."""
        ...

    @property
    def egress(self) -> Collection[str]:
        """Parameters that name who gets what the call sends: a URL, a recipient."""
        ...


class Signatures(Protocol):
    """A set of tools as the checker sees it."""

    @property
    def names(self) -> Sequence[str]:
        """All tool names, sorted."""
        ...

    def find(self, name: str) -> Signature | None:
        """Return the tool of that name, or `None`."""
        ...


@immutable
class _Listed:
    by_name: Mapping[str, Signature]

    @property
    def names(self) -> Sequence[str]:
        return sorted(self.by_name)

    def find(self, name: str) -> Signature | None:
        return self.by_name.get(name)


_SEEN = tuple(name for name, kind in vars(Signature).items() if isinstance(kind, property))
"""What a signature says of a tool."""


@immutable
class AgentTools:
    """What the model of an `@agent` tool may do before it answers.

    Attributes:
        tools: Names of the tools that it may call, as they were given.
        max_steps: The most turns of the model.
        max_calls: The most calls of tools, all turns together.
    """

    tools: tuple[str, ...]
    max_steps: int
    max_calls: int


def agent_tools_of(tool: Signature | None) -> AgentTools | None:
    """Return what the model of a tool may do before it answers; `None`: it answers at once, or asks no model."""
    # Not a part of `Signature`: hardly any tool has it, and tools of other programs do not know it.
    found: AgentTools | None = getattr(tool, "agent_tools", None)
    return found


def called_by(tool: Signature | None) -> tuple[str, ...]:
    """Return the names of the tools that calls of a tool may call themselves."""
    bounds = agent_tools_of(tool)
    return () if bounds is None else bounds.tools


def is_same_signature(one: Signature | None, other: Signature | None) -> bool:
    """Whether two signatures say the same of a tool, but for words."""
    if one is None or other is None:
        return one is other
    return agent_tools_of(one) == agent_tools_of(other) and all(
        getattr(one, name) == getattr(other, name) for name in _SEEN if name not in _WORDS
    )


_WORDS = ("description", "unstated_reach", "is_provided")
"""What is for people and models."""


def signatures_of(toolset: Signatures | Iterable[Signature]) -> Signatures:
    """Return a toolset, or a list of tools, as signatures; of two tools with one name, the last."""
    if isinstance(toolset, Iterable) and not hasattr(toolset, "find"):
        found = {tool.name: tool for tool in toolset}
        # As in a toolset, agents bring the tools that they may call.
        for tool in list(found.values()):
            for each in cast("Iterable[Signature | str]", getattr(tool, "called", ())):
                if not isinstance(each, str):
                    found.setdefault(each.name, each)
        return _Listed(found)
    return cast("Signatures", toolset)  # checking a protocol with properties at run time is slow


def properties_of(schema: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the fields of an object's schema, by name: of the schema of parameters the parameters."""
    return cast("Mapping[str, Json]", schema.get("properties") or {})


def parameter_schema(parameters: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    """Return the schema of a parameter: of `T | None` that of `T`, and the definition in place of its name; empty if there is none."""
    properties, definitions = parameters.get("properties"), parameters.get("$defs")
    schema = properties.get(name) if isinstance(properties, dict) else None
    for _ in range(REFERENCES_MAX):  # a schema of somebody else may name itself
        match schema:
            case {"$ref": str(reference)} if isinstance(definitions, dict):
                schema = definitions.get(reference.removeprefix("#/$defs/"))
            case {"anyOf": [only, {"type": "null"}]} | {"anyOf": [{"type": "null"}, only]}:
                schema = only
            case _:
                return schema if isinstance(schema, dict) else {}
    return {}


def has_options(parameters: Mapping[str, Json], name: str) -> bool:
    """Whether the schema of a parameter lists its values."""
    schema = parameter_schema(parameters, name)
    return "enum" in schema or "const" in schema


def is_narrow(parameters: Mapping[str, Json], name: str) -> bool:
    """Whether a parameter has a narrow type: a boolean, a number with both bounds, a date or time, or options."""
    schema = parameter_schema(parameters, name)
    match schema.get("type"):
        case "boolean":
            return True
        case "integer" | "number":
            return all(not schema.keys().isdisjoint(bounds) for bounds in _BOUNDS)
        case "string" if schema.get("format") in ("date", "time", "date-time"):
            return True
        case _:
            return has_options(parameters, name)


_BOUNDS = (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))

SecretPlaces: TypeAlias = Mapping[str, Collection[str]]
"""Name of a secret -> the places that may have it, `tool` or `tool.argument`; none: all."""


DEFAULT_MODEL = "default"
"""The alias of the model that answers an `ask` step without `model`, and the model of an `agent` step."""


class KnownModels(Protocol):
    """What a check knows of the models that steps may ask."""

    def find_fault(self, name: str) -> tuple[str, str] | None:
        """Return why no model of that name can be asked, and what to do; `None`: one can."""
        ...

    def find_planner_fault(self) -> tuple[str, str] | None:
        """Do the same for the planner, which `plan_for` steps ask."""
        ...


@immutable
class NamedModels:
    """Models of which only the names are known; nothing is known of the planner."""

    names: Collection[str]

    def find_fault(self, name: str) -> tuple[str, str] | None:
        """See `KnownModels`."""
        if name in self.names:
            return None
        if name == DEFAULT_MODEL and not self.names:
            return (
                "no model is configured",
                "leave out what asks a model, or configure one: Engine(models={..})",
            )
        without = "; leave 'model' out for the default" if DEFAULT_MODEL in self.names else ""
        known = (
            f"the models are {listing(sorted(self.names))}{without}"
            if self.names
            else "there are none: Engine(models={..})"
        )
        return f"there is no model '{short(name)}'", did_you_mean(name, self.names, known)

    def find_planner_fault(self) -> tuple[str, str] | None:
        """See `KnownModels`."""
        return None


def models_known(given: KnownModels | Collection[str] | None) -> KnownModels | None:
    """Return what a check knows of models, from names or as it is; `None`: it knows nothing of them."""
    return NamedModels(given) if isinstance(given, Collection) else given


def models_asked_by(tool: Signature) -> Sequence[str]:
    """Return the names of the models that calls of a tool ask: its own, if it is an agent, and its judges."""
    # Not a part of `Signature`: a tool of a recorded run, or of a server, says nothing of the models that it asked.
    return cast("Sequence[str]", getattr(tool, "asked_models", ()))


def is_place(places: Collection[str], tool: str, argument: str | None) -> bool:
    """Whether a secret with these places may stand at an argument of a tool, or be read inside the tool (`None`).

    Args:
        places: The places of the secret.
        tool: The tool.
        argument: The argument; `None`: the inside of the tool.
    """
    return not places or tool in places or (argument is not None and f"{tool}.{argument}" in places)
