"""What a builder is given for a step, as a plan holds it: the keys that every step may have, and arguments by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

from ...errors import ConfigError
from ..signature import Signature
from .reference import Reference, in_plan, step_of

Callee: TypeAlias = "Signature | str"
After: TypeAlias = "Reference | str | Iterable[Reference | str]"
OnError: TypeAlias = "str | Mapping[str, object]"
RepeatRule: TypeAlias = "Mapping[str, object] | tuple[Callable[[Reference], object] | object, int]"


def option_keys(  # noqa: PLR0913, PLR0917  # the keys of a step
    for_each: object = None,
    when: object = None,
    after: After = (),
    on_error: OnError | None = None,
    repeat: RepeatRule | None = None,
    retries: int | None = None,
    timeout: float | None = None,
    why: str | None = None,
) -> dict[str, Any]:
    """Return the keys that were given, as a plan holds them; an `until` that is a function stays one."""
    ids = _ids(after)
    given = {
        "for_each": in_plan(for_each),
        "when": in_plan(when),
        "after": ids or None,
        "on_error": in_plan(on_error),
        "repeat": _repeat(repeat),
        "retries": retries,
        "timeout": timeout,
        "why": why,
    }
    return {key: value for key, value in given.items() if value is not None}


def _ids(after: After) -> list[str]:
    every = [after] if isinstance(after, Reference | str) else list(after)
    return [each if isinstance(each, str) else _id(each) for each in every]


def _id(reference: Reference) -> str:
    step = step_of(reference)
    if step is None:
        raise ConfigError(f"expected a step in after=, found {reference!r}: name the step itself")
    return step


def _repeat(rule: RepeatRule | None) -> dict[str, Any] | None:
    if rule is None:
        return None
    if isinstance(rule, tuple):
        until, most = rule
        rule = {"until": until, "max": most}
    until = rule.get("until")
    is_function = callable(until) and not isinstance(until, Reference)
    rest = cast("dict[str, Any]", in_plan({key: value for key, value in rule.items() if key != "until"}))
    return {"until": until if is_function else in_plan(until), **rest}


def by_name(tool: Callee, positional: tuple[object, ...]) -> dict[str, object]:
    """Return positional arguments by the names of the tool's parameters."""
    if not positional:
        return {}
    if isinstance(tool, str):
        raise ConfigError(
            f"expected arguments of the tool '{tool}' by name: only a tool itself knows the order of its parameters"
        )
    names = list(cast("Mapping[str, object]", tool.parameters.get("properties", {})))
    if len(positional) > len(names):
        raise ConfigError(
            f"expected at most {len(names)} arguments for the tool '{tool.name}', found {len(positional)}"
        )
    return dict(zip(names, positional, strict=False))
