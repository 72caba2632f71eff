"""The calls of a trace, read by the signatures of the tools: arguments as JSON, results in their type, failed calls apart.

A trace has results as text, because models read text. What the tool returned is found from its declared type; without one, text that is JSON, or the
`str` of a Python list or dictionary, is read as such. Frameworks tell a failure in the words of a result, so that these are looked at too. Pure.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, cast

from ...plans.signature import Effect, Signature, Signatures, properties_of
from ...plans.types.integers import with_integers
from ...plans.values import Json, NotJson, normal, normal_in_order, parse
from ...tools.declaration import NAME
from ...tools.types.schemas import Checker, is_loose
from .trace import Trace, TracedCall

_FAILURE: Final = re.compile(
    r"\s*(an? )?(unexpected )?(error|exception|traceback)\b(?=[:\s(])", re.IGNORECASE
)
"""How results of failed calls begin: `Error: ..` (LangGraph), `An error occurred while running the tool.` (Agents SDK), `Error executing tool`."""

_FAILURE_KEYS: Final = frozenset(
    {"error", "errors", "message", "code", "status", "detail", "type", "is_error", "isError", "ok", "success"}
)
_NO_EFFECT: Final = (Effect.PURE, Effect.READ, Effect.MODEL)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the agent made and that the plan may make again.

    Attributes:
        traced: The call in the trace.
        tool: The tool's signature; `None`: it is not among the tools.
        args: The arguments.
        result: The result.
        has_result: Whether the trace has one.
    """

    traced: TracedCall
    tool: Signature | None
    args: dict[str, Json]
    result: Json
    has_result: bool

    @property
    def name(self) -> str:
        """The name of the tool."""
        return self.traced.tool

    @property
    def is_write(self) -> bool:
        """Whether it may change the world; an unknown tool may."""
        return self.tool is None or self.tool.effect not in _NO_EFFECT

    @property
    def resource(self) -> str:
        """The resource that it touches."""
        return "world" if self.tool is None else self.tool.resource

    @property
    def has_order(self) -> bool:
        """Whether its place among the effects matters: a read or a write."""
        return self.is_write or (self.tool is not None and self.tool.effect is Effect.READ)

    def conflicts_with(self, other: Call) -> bool:
        """Whether the order of two calls matters: one writes, and both touch one resource."""
        shares = "world" in (self.resource, other.resource) or self.resource == other.resource
        return (self.is_write or other.is_write) and self.has_order and other.has_order and shares


@dataclass(frozen=True, slots=True)
class Dropped:
    """A call that the plan does not make.

    Attributes:
        traced: The call in the trace.
        reason: Why, as the rest of a sentence.
        is_unused: Whether it went well, and nothing used what it told.
    """

    traced: TracedCall
    reason: str
    is_unused: bool = False


def read_calls(trace: Trace, tools: Signatures) -> tuple[list[Call], list[Dropped]]:
    """Return the calls that had an effect or a result, and the ones that failed.

    Args:
        trace: The trace.
        tools: The tools, whose types tell what arguments and results are.
    """
    calls: list[Call] = []
    dropped: list[Dropped] = []
    for traced in trace.calls:
        tool = tools.find(traced.tool)
        if tool is None and not NAME.fullmatch(traced.tool):
            dropped.append(Dropped(traced, "has a name that no tool can have"))
            continue
        args = _arguments(traced, tool)
        if isinstance(args, str):
            dropped.append(Dropped(traced, args))
            continue
        result = _result(traced.value, tool)
        if traced.outcome == "failed" or _is_failure(traced.value, result, tool):
            dropped.append(Dropped(traced, f"failed: {_shortened(traced.value)}"))
            continue
        call = Call(traced, tool, args, result, traced.outcome == "returned")
        # A read that told nothing steered nothing; a write without a result may have taken effect.
        if not call.has_result and not call.is_write:
            dropped.append(Dropped(traced, "has no result in the trace"))
            continue
        calls.append(call)
    return calls, _with_retries(calls, dropped)


def _with_retries(calls: list[Call], dropped: list[Dropped]) -> list[Dropped]:
    """Return the dropped calls; the reason of each says where the agent called the tool again with success."""
    made: list[Dropped] = []
    for each in dropped:
        later = next(
            (
                call
                for call in calls
                if call.name == each.traced.tool and call.traced.index > each.traced.index
            ),
            None,
        )
        again = f"; the agent called it again ({later.traced.place})" if later is not None else ""
        made.append(replace(each, reason=each.reason + again))
    return made


def _arguments(traced: TracedCall, tool: Signature | None) -> dict[str, Json] | str:
    """Return the arguments, or why there are none."""
    value = traced.args
    if isinstance(value, str):
        try:
            value = parse(value) if value.strip() else {}
        except NotJson as fault:
            return f"has arguments that are no JSON: {str(fault).removeprefix('$: ')}"
    schema: Mapping[str, Json] = {} if tool is None else tool.parameters
    required = cast("list[str]", schema.get("required") or [])
    if value is None:
        if required or tool is None:
            return "has no arguments in the trace (instrumentations record them when capturing of message content is on)"
        value = {}
    if not isinstance(value, dict):
        return f"has arguments that are no object, but {type(value).__name__}"
    properties = properties_of(schema)
    kept = {
        name: each
        for name, each in value.items()
        # Models of strict mode give null for what they leave out.
        if each is not None or name in required or not _is_null_left_out(properties.get(name), schema)
    }
    return cast("dict[str, Json]", with_integers(normal_in_order(kept), schema)) if tool is not None else kept


def _is_null_left_out(schema: Json, root: Mapping[str, Json]) -> bool:
    """Whether null for an argument is the same as no value: it is the default, or no value of its type."""
    if not isinstance(schema, dict):
        return False
    if "default" in schema and schema["default"] is None:
        return True
    return not Checker({**schema, **({"$defs": root["$defs"]} if "$defs" in root else {})}).accepts(None)


def _result(raw: Json, tool: Signature | None) -> Json:
    """Return what a tool returned, from what the trace has of it."""
    schema = None if tool is None else tool.returns
    checker = None if schema is None else Checker(schema)
    if not isinstance(raw, str):
        return raw if checker is None else checker.with_integers(raw)
    read = _read(raw)
    if checker is None:
        return read
    # A text is what it says unless only its reading fits; of a quoted text (`"sunny"`) the reading is meant.
    is_quoted = isinstance(read, str) and read != raw
    for value in (read, raw) if is_quoted else (raw, read):
        if checker.accepts(whole := checker.with_integers(value)):
            return whole
    return read


def _read(text: str) -> Json:
    """Return the value that a text spells: JSON, or Python's `str` of a list or a dictionary; else the text."""
    try:
        return parse(text)
    except NotJson:
        pass
    if text.lstrip()[:1] in ("{", "["):
        try:
            return normal(ast.literal_eval(text.strip()))
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            pass
    return text


def _is_failure(raw: Json, result: Json, tool: Signature | None) -> bool:
    schema = None if tool is None else tool.returns
    if isinstance(result, str) and isinstance(raw, str):
        told = _read(raw)
        return _FAILURE.match(result) is not None or (
            isinstance(told, dict) and _is_failure(told, told, None)
        )
    match result:
        case {"error": told} | {"errors": told} if told:
            # A tool whose type has such an object returned it.
            is_own = schema is not None and not is_loose(schema) and Checker(schema).accepts(result)
            return not is_own and set(cast("dict[str, Json]", result)) <= _FAILURE_KEYS
        case {"isError": True} | {"is_error": True}:
            return True
        case _:
            return False


def _shortened(value: Json) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
