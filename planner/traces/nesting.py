"""Steps as an inner plan: calls of several tools in turn, for each element of a list, whose order matters.

The steps are found with the names of the outer plan in scope; an inner plan sees none of them. So each outer name that they use becomes an input of the inner plan,
and the step that runs it hands the value over. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from ...plans.edit.renaming import rename_step
from ...plans.expressions.formula import read_formula
from ...plans.values import Json, with_texts
from .questions import TASK

_OUTER: Final = "outer__"
_TASK_INPUT: Final = "task_words"
_OWN_NAMES: Final = {"item": "element", "index": "position"}
"""Names of a loop, which mean something else in an inner plan, and the inputs that have their values."""


@dataclass(frozen=True, slots=True)
class Nested:
    """An inner plan, and what the step that runs it hands over.

    Attributes:
        plan: The inner plan.
        args: Its arguments.
    """

    plan: dict[str, Json]
    args: dict[str, Json]


def nested(steps: Sequence[Mapping[str, Json]], ids: Sequence[str]) -> Nested:
    """Return steps as an inner plan whose output has the value of each step, by its id.

    Args:
        steps: The steps, with outer names in their templates.
        ids: The ids of the steps whose values are the output.
    """
    body: dict[str, Any] = {
        "steps": json.loads(json.dumps(steps)),
        "output": {id_: f"${{{id_}}}" for id_ in ids},
    }
    formula, _ = read_formula([dict(step) for step in steps])
    own = {str(step["id"]) for step in steps}
    outer = sorted(formula.names - own - {"inputs"})
    names = {name: _OWN_NAMES.get(name, name) for name in outer}
    for name in outer:
        rename_step(body, name, f"{_OUTER}{name}")
    handed = {f"{_OUTER}{name}": f"inputs.{inner}" for name, inner in names.items()}
    args: dict[str, Json] = {inner: f"${{{name}}}" for name, inner in names.items()}
    args |= {name: f"${{inputs.{name}}}" for name in sorted(formula.inputs)}
    if TASK in json.dumps(steps, ensure_ascii=False).replace("\\u0000", "\x00"):
        # The words of the task name inputs of the outer plan.
        handed[TASK], args[_TASK_INPUT] = f"${{inputs.{_TASK_INPUT}}}", TASK
    declared: dict[str, Json] = {name: {} for name in args}
    # The longest first: one name may begin as another does.
    names_handed = sorted(handed, key=len, reverse=True)

    def inside(text: str) -> str:
        for name in names_handed:
            text = text.replace(name, handed[name])
        return text

    return Nested({"inputs": declared, **cast("dict[str, Json]", with_texts(body, inside))}, args)
