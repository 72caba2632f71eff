"""The values handed to a plan as its inputs, made to fit: known names, right types, defaults filled in.

The rules are those of every value in a plan: JSON Schema's, not Python's (`"2"` is no integer, `true` no number), and an
integral float where an integer is wanted becomes one. Inputs come in the order in which the plan declares them, so equal
inputs are equal bytes whoever wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, TypeAlias, cast

from ..lazy_imports import late_pattern
from .format.shape import describe
from .plan import InnerPlan, Plan
from .reports.nearest import did_you_mean, listing
from .reports.paths import key
from .reports.problems import Problem, problem
from .types.integers import with_integers
from .types.validate import ValueSchema
from .values import Json, NotJson, canonical, parse_canonical, shared_copy

InputSchemas: TypeAlias = Mapping[str, ValueSchema]


def input_schemas(plan: Plan | InnerPlan) -> InputSchemas:
    """Return the schema of each input, to be compiled with the first value: for plans that run again and again."""
    return {name: ValueSchema(schema, plan.types) for name, schema in plan.inputs.items()}


def fit_inputs(
    plan: Plan | InnerPlan,
    given: object,
    *,
    bytes_max: int | None = None,
    schemas: InputSchemas | None = None,
) -> tuple[dict[str, Json], list[Problem]]:
    """Return the plan's inputs, and all that is wrong with what was given (code `bad-input`, path `$.inputs.name`).

    What is at fault is left out; inputs without a value have their default. O(size of the values).

    Args:
        plan: Declares the inputs; for an inner plan that names types of its outer plan, the plan that a program has.
        given: An object of values by input name.
        bytes_max: A larger value, as canonical JSON, has the code `limit-exceeded`; `None`: no value is too large.
        schemas: The plan's `input_schemas`, where they are known.
    """
    if not isinstance(given, Mapping):
        message = f"expected an object of inputs by name, found {describe(given)}"
        return {}, [problem("bad-input", "$.inputs", message)]
    values = cast("Mapping[object, object]", given)
    wanted = input_schemas(plan) if schemas is None else schemas
    made: dict[str, Json] = {}
    found: list[Problem] = []
    for name, schema in plan.inputs.items():
        if name in values:
            value, faults = fit_value(name, values[name], wanted[name], bytes_max=bytes_max)
        elif "default" in schema:
            value, faults = fit_value(name, schema["default"], wanted[name])
        else:
            message = f"the input '{name}' is missing: expected a value for it, found none"
            value, faults = (
                None,
                [problem("bad-input", f"$.inputs{key(name)}", message, f"give the plan '{name}'")],
            )
        found += faults
        if not faults:
            made[name] = value
    found += [_unknown(name, plan.inputs) for name in values if name not in plan.inputs]
    return made, found


GIVEN_KEY: Final = "x-given"
"""The key of an input's schema that says what gives the input a value if nobody else does: `today`."""
TODAY: Final = "today"


def is_given(schema: Mapping[str, Json]) -> bool:
    """Whether an input has a value when its run begins, whoever starts the run: today's date."""
    return schema.get(GIVEN_KEY) == TODAY


def given_by_clock(plan: Plan, now: Callable[[], float]) -> dict[str, Json]:
    """Return the inputs that a plan wants the clock to give: today's date, in UTC, as ISO text.

    Args:
        plan: The plan.
        now: Returns the time in Unix seconds; called only if an input wants it.
    """
    given: dict[str, Json] = {}
    today = ""  # one for all inputs, also at midnight
    for name, schema in plan.inputs.items():
        if GIVEN_KEY in schema and is_given(schema):
            today = today or datetime.fromtimestamp(now(), UTC).date().isoformat()
            given[name] = today
    return given


def fit_given(plan: Plan, given: Mapping[str, Json]) -> tuple[dict[str, Json], list[Problem]]:
    """Return the same as `fit_inputs`, where inputs that the clock will give are not missing."""
    made, problems = fit_inputs(plan, given)
    later = {
        f"$.inputs{key(name)}"
        for name, schema in plan.inputs.items()
        if is_given(schema) and name not in given
    }
    return made, [each for each in problems if each.path not in later]


def fit_value(
    name: str,
    given: object,
    schema: ValueSchema,
    *,
    bytes_max: int | None = None,
) -> tuple[Json, list[Problem]]:
    """Return one input's value in canonical form, and its problems. Arguments are as in `fit_inputs`."""
    where = f"$.inputs{key(name)}"
    try:
        try:
            data = canonical(given)
        except NotJson as fault:
            if fault.is_limit:
                raise
            from .python_types import to_json  # noqa: PLC0415  # most inputs are JSON

            given = to_json(given)
            data = canonical(given)
    except NotJson as fault:
        at = where + fault.path.removeprefix("$")
        what = str(fault).removeprefix(f"{fault.path}: ")
        return None, [problem("bad-input", at, f"input '{name}': expected JSON, found {what}")]
    if bytes_max is not None and len(data) > bytes_max:
        return None, [too_large(name, len(data), bytes_max)]
    # The caller may change its object later, so the run works on a copy in canonical form. The bytes are dropped before validation, which needs memory too.
    copy = shared_copy(given, data)
    value = with_integers(parse_canonical(data) if copy is None else copy, schema.alone)
    del data
    faults = schema.problems(value)
    return value, [
        problem("bad-input", where + fault.inner, f"input '{name}': {fault.message}", fault.hint)
        for fault in faults
    ]


def too_large(name: str, size: int, bytes_max: int) -> Problem:
    """Return the problem of an input whose value is too large.

    Args:
        name: The input.
        size: Bytes of its value as canonical JSON.
        bytes_max: The most that it may have.
    """
    mib = 1024 * 1024
    message = f"input '{name}': expected at most {bytes_max / mib:g} MiB of JSON, found {size / mib:.1f} MiB"
    hint = "keep bytes with save_artifact and hand over the Artifact, or have a tool read them"
    return problem("limit-exceeded", f"$.inputs{key(name)}", message, hint)


def _unknown(name: object, known: Mapping[str, object]) -> Problem:
    shown = name if isinstance(name, str) else repr(name)
    where = f"$.inputs{key(shown)}" if len(shown) <= 200 else "$.inputs"
    message = f"the plan has no input '{shown[:200]}': expected one of {listing(known)}"
    return problem(
        "bad-input", where, message, did_you_mean(shown, known, "leave it out, or declare it in 'inputs'")
    )


# --- Tasks with placeholders: `Compare {a} and {b}`, where `a` and `b` are inputs of the plan; other braces are text


HOLE: Final = late_pattern(r"\{\s*([a-z][a-z0-9_]{0,63})\s*\}")
VALUE_SHOWN_MAX: Final = 80
"""Characters of one value in a filled task: enough to tell runs apart in a list."""


def filled(task: str, inputs: Mapping[str, Json]) -> str:
    """Return a task with values in the place of its holes: text as it is, lists comma separated, all else as JSON, cut short."""
    return HOLE.sub(lambda hole: _shown(inputs[hole[1]]) if hole[1] in inputs else hole[0], task)


def _shown(value: Json) -> str:
    text = ", ".join(map(_plain, value)) if isinstance(value, list) and value else _plain(value)
    return text if len(text) <= VALUE_SHOWN_MAX else f"{text[: VALUE_SHOWN_MAX - 2]}.."


def _plain(value: Json) -> str:
    return value if isinstance(value, str) else canonical(value).decode()
