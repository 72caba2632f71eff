"""From any value to a plan of the right shape, with every fault of shape named.

pydantic finds the faults; this module puts them into the plan's own words and paths. What is faulty is then left out and the
rest kept, so that one slip does not hide the other faults of a plan: `Draft.broken` names the steps that no longer
say what their author meant, and nothing is reported about them or because of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError

from ..immutable import immutable
from ..plan import ACTIONS, OWNED, STEPS, Agent, Ask, Budgeted, Fallback, InnerPlan, Plan, Repeat, StepKeys
from ..reports.nearest import did_you_mean, listing
from ..reports.paths import Part, key, parts_of, path_of
from ..reports.problems import Problem, problem
from ..values import Json, NotJson, normal_in_order

NOT_JSON_MAX = 20
"""Places without a JSON value that are named one by one before the rest is given up: each costs a walk."""
_ROUNDS_MAX = 6
"""Rounds of leaving out what is faulty; each round leaves strictly less, and nesting is this shallow."""

_SLIPS = {
    "if": "when",
    "condition": "when",
    "depends_on": "after",
    "needs": "after",
    "foreach": "for_each",
    "loop": "for_each",
    "map": "for_each",
    "name": "id",
    "arguments": "args",
    "params": "args",
    "parameters": "args",
    "input": "args",
    "inputs": "args",
    "with": "args",
    "retry": "retries",
    "description": "why",
    "comment": "why",
    "on_failure": "on_error",
    "fallback": "on_error",
    "version": "firmplan",
    "goal": "task",
    "result": "output",
    "outputs": "output",
    "schema": "returns",
    "returns": "returns",
}
"""What authors write for a key that has another name here."""
_EXPECTED_AT = {
    "firmplan": "the format version 1",
    "steps": "a list of steps",
    "after": "a list of step ids",
    "on_error": '"fail", "skip" or {"value": ..}',
    "repeat": '{"until": "${..}", "max": n}',
    "until": "an expression in text",
    "max": "an integer of at least 1",
    "max_steps": "an integer of at least 1",
    "max_tokens": "an integer of at least 1",
    "retries": "an integer of at least 0",
    "timeout": "a number of seconds above 0",
    "temperature": "a number of at least 0",
    "expires": 'a duration above 0, in seconds or such as "24h"',
    "ask_person": "a question in text",
    "fail": "a message in text",
    "wait": '{"for": "2h"} or {"until": "${..}"}',
    "ask": '{"prompt": ".."}',
    "agent": '{"goal": "..", "tools": [..]}',
    "plan_for": "what to plan, in words",
    "given": "an object of values by name",
    "examples": "a list, or an expression in text",
}
_EXPECTED = {
    "string_type": "text",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "tuple_type": "a list",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
}


@immutable
class Draft:
    """A plan as far as its shape is right.

    Attributes:
        plan: The plan without what was faulty; `None` if nothing could be kept.
        broken: Steps that lost something they cannot do without: (inner plan or `None`, position).
        whole: Whether nothing was left out.
        problems: The faults of shape.
    """

    plan: Plan | None
    broken: frozenset[tuple[str | None, int]] = frozenset()
    whole: bool = True
    problems: tuple[Problem, ...] = ()


def draft_of(given: object, *, owned: bool = False) -> Draft:
    """Return the plan in `given`, which may be anything; `owned` says that it is canonical JSON already.

    Linear in the size of `given`, for a bounded number of values that are no JSON.
    """
    if isinstance(given, Plan):
        return Draft(given)
    # A shape that is at fault ends nothing: what is right is kept, and checked with the rest.
    problems: list[Problem] = []
    read = given if owned else _as_json(given, problems)
    what = describe(read)
    if not isinstance(read, dict):
        found = problem(
            "bad-shape", "$", f"expected a plan, that is an object with 'firmplan' and 'steps', found {what}"
        )
        return Draft(None, whole=False, problems=(*problems, found))
    raw = cast("dict[str, Any]", read)
    # Right plans, which most are, pass through pydantic once; everything below is for those that do not.
    try:
        plan = Plan.model_validate(raw, context={OWNED: True})
    except ValidationError as fault:
        return _mend(raw, fault, problems)
    return Draft(plan, whole=not problems, problems=tuple(problems))


def describe(value: object) -> str:  # noqa: PLR0911  # one case, one line
    """Return a value in a few words: its kind, and the value itself where it is short."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return f"the integer {value}" if abs(value) < 10**20 else "a huge integer"
        case float():
            return f"the number {value!r}"
        case str():
            return f"the text {value!r}" if len(value) <= 60 else f"the text {value[:57]!r}.."
        case list() | tuple():
            return "an empty list" if not value else "a list"
        case dict():
            return "an empty object" if not value else "an object"
        case _:
            return f"a Python {type(value).__name__}"


def _as_json(given: object, problems: list[Problem]) -> Json:
    """Return a canonical copy with null in the place of what is not JSON, which is noted in `problems`."""
    # `normal_in_order` stops at the first such place, so each round replaces one and tries again.
    current = given
    for _ in range(NOT_JSON_MAX):
        try:
            return normal_in_order(current)
        except NotJson as fault:
            hint = "a plan holds only JSON: null, true, false, finite numbers, text, lists, and objects with text keys"
            code = "limit-exceeded" if fault.is_limit else "bad-shape"
            problems.append(problem(code, fault.path, f"expected JSON, found {fault}", hint))
            parts = parts_of(fault.path)
            if not parts:
                return None
            current = _replaced(current, parts, None)
    return None


def _replaced(value: object, parts: tuple[Part, ...], new: Json) -> Any:  # noqa: ANN401  # any value, with one place exchanged
    """Return `value` with what stands at `parts` exchanged; containers on the way are copied, others shared."""
    # Only what leads to the place is copied: the rest of a large value is shared.
    if not parts:
        return new
    head, rest = parts[0], parts[1:]
    if isinstance(value, dict):
        known = cast("dict[Part, object]", value)
        return {**known, head: _replaced(known[head], rest, new)} if head in known else new
    if isinstance(value, list | tuple) and isinstance(head, int):
        items = list(cast("Sequence[object]", value))
        return [
            *items[:head],
            *(_replaced(item, rest, new) for item in items[head : head + 1]),
            *items[head + 1 :],
        ]
    return new


def _mend(raw: dict[str, Any], fault: ValidationError, problems: list[Problem]) -> Draft:
    """Leave out what is faulty until the rest has the shape of a plan."""
    broken: set[tuple[str | None, int]] = set()
    current = raw
    for _ in range(_ROUNDS_MAX):
        # pydantic may hide faults behind others (a step without a clear action is not looked into), hence the rounds.
        places: list[tuple[Part, ...]] = []
        seen = {found.path for found in problems}
        for parts, kind, context in _faults(current, fault):
            path = path_of(parts)
            if path not in seen:
                seen.add(path)
                problems.append(_problem(current, parts, kind, context))
            # Also a place that was reported before: it has to go, or the next round would find it again.
            places.append(parts)
        current = _without(current, places, broken)
        try:
            plan = Plan.model_validate(current, context={OWNED: True})
        except ValidationError as again:
            fault = again
            continue
        return Draft(plan, frozenset(broken), whole=False, problems=tuple(problems))
    return Draft(None, whole=False, problems=tuple(problems))


def _faults(
    raw: dict[str, Any], fault: ValidationError
) -> Iterator[tuple[tuple[Part, ...], str, dict[str, Any]]]:
    for error in fault.errors(include_url=False, include_input=False):
        yield _place(raw, error["loc"], error["type"]), error["type"], error.get("ctx", {})


def _place(raw: object, loc: tuple[Part, ...], kind: str) -> tuple[Part, ...]:
    """Return pydantic's location as a place in the plan: without the names of union members."""
    parts: list[Part] = []
    current: Any = raw
    # pydantic's location holds, beside keys and indices, the names of union members and of validators: what does not exist in the value is skipped. The tag of a
    # step's action looks like a key that exists, so it is recognised by where it stands.
    for number, part in enumerate(loc):
        is_tag = (
            part in ACTIONS
            and len(parts) >= 2
            and parts[-2] == "steps"
            and isinstance(parts[-1], int)
            and number == len(parts)
        )
        if is_tag:
            continue
        if _holds(current, part):
            current = current[part]
        elif not (kind == "missing" and number == len(loc) - 1):
            continue
        parts.append(part)
    return tuple(parts)


def _holds(value: object, part: Part) -> bool:
    """Whether a list or an object has something at an index or a key."""
    if isinstance(value, dict):
        return part in cast("dict[Part, object]", value)
    return isinstance(value, list) and isinstance(part, int) and part < len(cast("list[object]", value))


def _at(raw: object, parts: tuple[Part, ...]) -> Any:  # noqa: ANN401  # any JSON
    current: Any = raw
    for part in parts:
        try:
            current = current[part]
        except (KeyError, IndexError, TypeError):
            return None
    return current


def _problem(raw: dict[str, Any], parts: tuple[Part, ...], kind: str, context: dict[str, Any]) -> Problem:
    path = path_of(parts)
    last = parts[-1] if parts else ""
    if kind == "union_tag_not_found":
        return _no_single_action(path, _at(raw, parts))
    # Keys of other formats come first: they mean something else than the nearest key.
    if kind == "extra_forbidden":
        known = _known_keys(raw, parts)
        hint = (
            f"use '{_SLIPS[str(last)]}'" if _SLIPS.get(str(last)) in known else did_you_mean(str(last), known)
        )
        return problem(
            "bad-shape", path, f"unknown key '{last}' at {path}: expected one of {listing(known, 20)}", hint
        )
    if kind == "missing":
        wanted = _EXPECTED_AT.get(str(last), "a value")
        hint = 'write "firmplan": 1' if last == "firmplan" else f"add {key(str(last))[1:]}"
        return problem("bad-shape", path, f"'{last}' is missing: expected {wanted} at {path}", hint)
    is_amount = "budget" in parts[-2:-1] and kind != "literal_error"  # of the keys' names pydantic says it
    at_key = "a number of at least 0" if is_amount else _EXPECTED_AT.get(str(last))
    wanted = at_key or _EXPECTED.get(kind) or context.get("expected") or "another value"
    return problem("bad-shape", path, f"expected {wanted} at {path}, found {describe(_at(raw, parts))}")


def _no_single_action(path: str, given: object) -> Problem:
    what = describe(given)
    step = cast("dict[str, object]", given) if isinstance(given, dict) else None
    if step is None:
        return problem("bad-shape", path, f"expected a step, that is an object, at {path}, found {what}")
    found = [name for name in ACTIONS if name in step]
    if found:
        both = " and ".join(f"'{name}'" for name in found)
        return problem(
            "bad-shape", path, f"expected exactly one action at {path}, found {both}", "make one step of each"
        )
    # A misspelt action is among the keys that no step has. Each is compared with all actions, so only some are.
    keys = [name for name in step if name not in StepKeys.model_fields]
    guesses = (did_you_mean(name, ACTIONS) for name in keys[:20])
    hint = next(
        (guess for guess in guesses if guess),
        "give the step a 'tool', 'ask', 'set', 'plan', 'agent', 'plan_for', 'ask_person', 'wait', 'endorse' or 'fail'",
    )
    return problem(
        "bad-shape", path, f"expected exactly one action ({', '.join(ACTIONS)}) at {path}, found none", hint
    )


def _known_keys(raw: dict[str, Any], parts: tuple[Part, ...]) -> tuple[str, ...]:
    """Return the keys that the object around `parts` may have, as the models of the format have them."""
    match parts[:-1]:
        case ():
            return tuple(Plan.model_fields)
        case ("plans", _):
            return tuple(InnerPlan.model_fields)
        case (*_, "steps", int()):
            # Of a step without an action most authors mean a tool.
            action = next((name for name in ACTIONS if name in _at(raw, parts[:-1])), "tool")
            fields = STEPS[action].model_fields
            return (*(name for name in fields if name not in StepKeys.model_fields), *StepKeys.model_fields)
        case (*_, "budget"):
            return get_args(Budgeted)
        case (*_, "wait"):
            return ("for", "until")
        case _:
            models: dict[str, type[BaseModel]] = {"ask": Ask, "agent": Agent, "repeat": Repeat}
            return tuple(models.get(str(parts[-2]), Fallback).model_fields)


def _without(  # noqa: C901  # one case for each place
    raw: dict[str, Any], places: list[tuple[Part, ...]], broken: set[tuple[str | None, int]]
) -> dict[str, Any]:
    """Return the plan without its faulty places; steps that need them become a null of the same id."""
    # What was given belongs to the caller: only copies are changed.
    mended: dict[str, Any] = {name: _copy(value) for name, value in raw.items()}
    for parts in places:
        match parts:
            # Whatever version was meant, the rest is read as version 1.
            case ("firmplan",) | ("firmplan", *_):
                mended["firmplan"] = 1
            case ("steps",):
                mended["steps"] = list[Any]()
            case ("steps", int() as position, *inside):
                _mend_step(mended["steps"], position, inside, (None, position), broken)
            case ("plans", str() as name, "steps", int() as position, *inside):
                _mend_step(mended["plans"][name]["steps"], position, inside, (name, position), broken)
            case ("plans", str() as name, str() as part):
                _mend_body(mended["plans"][name], part)
            # The name stays, so that the steps which run the plan are not at fault, too.
            case ("plans", str() as name):
                mended["plans"][name] = {"steps": []}
            case ("plans", str() as name, ("inputs" | "types") as part, *inside):
                mended["plans"][name][part][inside[0]] = {}
            case (("inputs" | "types") as part, str() as name, *_):
                mended[part][name] = {}
            case (str() as part, *_):
                mended.pop(part, None)
            case _:
                pass
    return mended


def _copy(value: object) -> Any:  # noqa: ANN401  # any JSON
    """Return a copy whose containers down to the keys of a step are new; deeper ones are only replaced, never changed."""
    if isinstance(value, dict):
        return {name: _copy(inner) for name, inner in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        items = cast("list[object]", value)
        return [{**cast("dict[str, object]", inner)} if isinstance(inner, dict) else inner for inner in items]
    return value


def _mend_body(body: dict[str, Any], part: str) -> None:
    if part == "steps":
        body["steps"] = []
    else:
        body.pop(part, None)


def _mend_step(
    steps: list[Any],
    position: int,
    inside: list[Part],
    where: tuple[str | None, int],
    broken: set[tuple[str | None, int]],
) -> None:
    step: Any = steps[position]
    match inside:
        case [("ask" | "agent") as action, str() as part] if part in step.get(action, {}) and part not in (
            "prompt",
            "goal",
        ):
            step[action] = {name: value for name, value in step[action].items() if name != part}
        # A wrong modifier is dropped and the step stays; without its action, id or arguments a step does not say what its author meant.
        case [str() as part, *_] if part in step and part not in (*ACTIONS, "id", "args"):
            del step[part]
        case _:
            steps[position] = {"id": _id_of(step), "set": None}
            broken.add(where)


def _id_of(step: object) -> str:
    """Return the id that a step was given, or nothing if it is no text."""
    given = cast("dict[str, object]", step).get("id") if isinstance(step, dict) else None
    return given if isinstance(given, str) else ""
