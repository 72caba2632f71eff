"""The draft in a model's answer: a plan, or changes to the last draft.

Any JSON object is read, and the check reports its problems. Only additions of models for the wire format are removed: `reasoning`, nulls
for keys that are not used, an object around the plan, steps and arguments as JSON in a string. Pure.

If the model is asked for the faulty steps only, it answers with complete steps by their ids:

    {"changes": [{"id": "wb", "tool": "weather", "args": {"city": "Oslo"}}], "remove": ["wc"], "output": "${wb}"}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from ...plans.plan import ACTIONS
from ...plans.values import Json, NotJson, parse
from .left_out import texts_in

WRAPPERS = ("plan", "answer")
"""Keys under which models put the plan into an object of their own."""

_PLAN_KEYS_OFTEN_NULL = ("task", "description", "inputs", "types", "plans", "output")
_STEP_KEYS_OFTEN_NULL = (
    "args",
    "for_each",
    "when",
    "after",
    "on_error",
    "repeat",
    "retries",
    "timeout",
    "why",
)
_BESIDE_A_PLAN = ("reasoning", "cannot", "question")
"""What a model may say besides a plan; `outcomes.py` reads the last two."""
_CHANGED_BESIDE_STEPS = ("inputs", "types", "output", "left_out")


def plan_in(value: Json, task: str, returns: Mapping[str, Json] | None = None) -> Json:
    """Return the plan in a model's answer; a missing version and a missing task are filled in.

    Args:
        value: The answer.
        task: The task.
        returns: The schema that the output has to fit: it is a part of the plan, whatever the model writes. `None`: no schema is wanted.
    """
    if not isinstance(value, dict):
        return value
    plan = {
        key: part
        for key, part in unwrapped(value).items()
        if key not in _BESIDE_A_PLAN and not (part is None and key in _PLAN_KEYS_OFTEN_NULL)
    }
    steps = parsed(plan.get("steps"))
    if isinstance(steps, list):
        plan["steps"] = [_step_in(step) if isinstance(step, dict) else step for step in steps]
    # Models fill in a field that has nothing to say: `"left_out": "none"`.
    if (left_out := texts_in(parsed(plan.pop("left_out", None)))) is not None:
        plan["left_out"] = left_out
    return {"firmplan": 1, "task": task, **plan, **({} if returns is None else {"returns": dict(returns)})}


def unwrapped(value: dict[str, Json]) -> dict[str, Json]:
    """Return the plan inside an object around it."""
    # A wrapper counts only if the object has no steps of its own: a plan may have an input called `answer`.
    for wrapper in WRAPPERS:
        inner = parsed(value.get(wrapper))
        if "steps" not in value and isinstance(inner, dict) and "steps" in inner:
            return inner
    return value


def parsed(value: Json) -> Json:
    """Return the value of JSON in a string; any other value, and any other string, as it is."""
    if not isinstance(value, str):
        return value
    try:
        return parse(value)
    except NotJson:
        return value


def _step_in(step: Mapping[str, Json]) -> Json:
    """Return a step without nulls for keys that are not used; `"set": null` is an action if it is the only one."""
    # `null` is a value that a step may set, so that it is dropped only beside another action.
    is_other_action = any(step.get(key) is not None for key in ACTIONS)
    unused = (*_STEP_KEYS_OFTEN_NULL, *(key for key in ACTIONS if key != "set" or is_other_action))
    kept = {key: part for key, part in step.items() if not (part is None and key in unused)}
    if isinstance(args := parsed(kept.get("args")), dict):
        kept["args"] = args
    return cast("Json", kept)


@dataclass(frozen=True, slots=True)
class DraftChanges:
    """Changes to a draft.

    Attributes:
        steps: Whole steps, which replace those of their ids. A step with a new id stands before the next step that replaces one, else at
            the end.
        remove: Ids of steps to remove.
        rest: `inputs`, `types`, `output` and `left_out`, if they change; inputs and types by name, and null for one that goes.
    """

    steps: tuple[dict[str, Json], ...]
    remove: tuple[str, ...] = ()
    rest: Mapping[str, Json] = field(default_factory=dict[str, Json])

    @classmethod
    def read(cls, value: Json) -> DraftChanges | None:
        """Return the changes in a model's answer; `None` if it holds a plan, or something else."""
        value = parsed(value)
        if not isinstance(value, dict) or "steps" in unwrapped(value):
            return None
        changes = parsed(value.get("changes"))
        steps = [changes] if isinstance(changes, dict) else changes
        remove, rest = value.get("remove"), _beside_steps(value)
        # Something else entirely, such as prose in an object: the answer is read as a plan, and the check says
        # what is missing.
        if not isinstance(steps, list) and not rest and not remove:
            return None
        listed = steps if isinstance(steps, list) else []
        whole = [cast("dict[str, Json]", _step_in(each)) for each in listed if isinstance(each, dict)]
        return cls(tuple(whole), tuple(map(str, remove)) if isinstance(remove, list) else (), rest)

    @classmethod
    def of_some_steps(cls, plan: Json, draft: Mapping[str, Json]) -> DraftChanges | None:
        """Return a plan as changes if it has only some of a draft's steps and no output although the draft has one; else `None`."""
        if not isinstance(plan, dict) or not isinstance(listed := plan.get("steps"), list):
            return None
        steps = tuple(each for each in listed if isinstance(each, dict))
        rest = _beside_steps(plan)
        if "output" in rest or draft.get("output") is None:
            return None
        old = [step.get("id") for step in cast("list[dict[str, Json]]", draft["steps"])]
        new = [step.get("id") for step in steps]
        is_part = 0 < len(new) < len(old) and all(each in old for each in new)
        return cls(steps, (), rest) if is_part else None

    def applied_to(self, draft: Mapping[str, Json]) -> dict[str, Json]:
        """Return a draft with the changes; the steps of the draft are objects."""
        old = cast("list[dict[str, Json]]", draft["steps"])
        steps = [each for each in old if each.get("id") not in self.remove]
        # A changed step keeps its place, since order decides the order of effects. A new step goes where the
        # model wrote it: before the changed step that follows it.
        places = {each.get("id"): index for index, each in enumerate(steps)}
        groups = [[each] for each in steps]
        new: list[dict[str, Json]] = []
        for step in self.steps:
            place = places.get(step.get("id"))
            if place is None:
                new.append(step)
            else:
                groups[place] = [*new, step]
                new = []
        rest = {key: _merged(draft.get(key), part, key) for key, part in self.rest.items()}
        return {**draft, **rest, "steps": [*(step for group in groups for step in group), *new]}


def can_change(draft: Json) -> bool:
    """Whether the steps of a draft are objects with distinct ids, so that changes can name them."""
    steps = draft.get("steps") if isinstance(draft, dict) else None
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        return False
    ids = [cast("dict[str, Json]", step).get("id") for step in steps]
    return all(isinstance(each, str) for each in ids) and len({str(each) for each in ids}) == len(ids)


def _beside_steps(value: Mapping[str, Json]) -> dict[str, Json]:
    """Return what changes beside the steps. An output that is a string stays a string: it is a value, not wrapped JSON."""
    parts = {
        key: value[key] if key == "output" else parsed(value[key])
        for key in _CHANGED_BESIDE_STEPS
        if key in value
    }
    if "left_out" in parts:
        # An empty list says that nothing is left out any more.
        said = texts_in(parts["left_out"])
        parts["left_out"] = [] if said is None and isinstance(parts["left_out"], list) else said
    return {key: part for key, part in parts.items() if part is not None}


def _merged(old: Json, new: Json, key: str) -> Json:
    """Return inputs and types with the new ones added to the old, without those that are null; a new output replaces the old one."""
    if key not in ("inputs", "types") or not isinstance(new, dict):
        return new
    together = {**(old if isinstance(old, dict) else {}), **new}
    # A schema is never null, so that null can say that an input goes, as where it gets another name.
    return {name: part for name, part in together.items() if part is not None}
