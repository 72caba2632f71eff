"""What to say of a name that means nothing: the slips that people and models make, each with its cure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ..nearest import did_you_mean, listing
from ..types.types import ObjectType, Type
from .functions import FUNCTIONS

_STEP_WORDS = frozenset(
    {"steps", "step", "outputs", "output", "results", "tasks", "nodes", "variables", "vars"}
)
_INPUT_WORDS = frozenset({"input", "args", "arguments", "params", "parameters", "inputs"})
_WORDS = {
    "true": "True",
    "false": "False",
    "null": "None",
    "none": "None",
    "nil": "None",
    "undefined": "None",
}
_PLACES = {
    "item": ("'item' is known only in a step with 'for_each'", "add 'for_each', or refer to the list's step"),
    "index": (
        "'index' is known only in a step with 'for_each'",
        "add 'for_each', or count with enumerate(..)",
    ),
    "prev": ("'prev' is known only in a step with 'repeat'", "add 'repeat', or refer to another step"),
}
_NAMES_LISTED_MAX = 8


def unknown_name(  # noqa: PLR0911  # one case, one line for each slip
    name: str,
    following: str | None,
    scope: Mapping[str, Type],
    *,
    suggestions: bool,
    caller: str | None = None,
) -> tuple[str, str]:
    """Return message and hint for a name that is not in scope.

    Args:
        name: As it stands in an expression.
        following: The field that is taken of it.
        scope: The names that there are.
        suggestions: Whether the nearest may be looked for.
        caller: The step that calls the tool of this name.
    """
    if name in _PLACES:
        return _PLACES[name]
    message = f"'{name}' is neither a step nor a name in scope"
    inputs = scope.get("inputs")
    fields: Collection[str] = inputs.fields if isinstance(inputs, ObjectType) else ()
    if name.lower() in _WORDS:
        return message, f"write: {_WORDS[name.lower()]}"
    if name in _STEP_WORDS and following is not None and following in scope:
        return message, f"a step is referred to by its id alone, write: {following}"
    if name in _INPUT_WORDS and following is not None and following in fields:
        return message, f"write: inputs.{following}"
    if name in FUNCTIONS:
        return message, f"it is a function, call it: {name}(..)"
    if name in fields:
        return message, f"it is an input, write: inputs.{name}"
    if caller is not None:
        return message, f"it is a tool; refer to the step that calls it, write: {caller}"
    if name in _STEP_WORDS:
        return message, "a step is referred to by its id alone, as in: id.field"
    if not suggestions:
        return message, ""
    known = [known for known in _some(scope) if known != "inputs"] + ["inputs"]
    return message, did_you_mean(name, known, f"in scope: {listing(known, _NAMES_LISTED_MAX)}")


def _some(scope: Mapping[str, Type]) -> Iterable[str]:
    return sorted(scope) if len(scope) <= 100 else scope


def unknown_input(name: str, known: Iterable[str], *, suggestions: bool) -> tuple[str, str]:
    """Return message and hint for an input that the plan does not declare."""
    names = list(known)
    message = f"there is no input '{name}': the plan declares {listing(names)}"
    otherwise = "declare it under 'inputs'"
    return message, did_you_mean(name, names, otherwise) if suggestions else otherwise
