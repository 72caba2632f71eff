"""Changes to a draft: what a model answers that is asked for its faulty steps only.

    {"changes": [{"id": "wb", "tool": "weather", "args": {"city": "Oslo"}}], "remove": ["wc"], "output": "${wb}"}

Steps are whole and go by their ids. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from ...plans.values import Json
from .draft import parsed, step_in, unwrapped

_BESIDE = ("inputs", "types", "output")


@dataclass(frozen=True, slots=True)
class Changes:
    """Steps that are to stand for those of a draft, and what else changes.

    Attributes:
        steps: Whole steps, by their ids; those with new ids stand before the next that is not new, else at the end.
        remove: Ids of steps that go.
        rest: `inputs`, `types` and `output`, where they change; inputs and types by name.
    """

    steps: tuple[dict[str, Json], ...]
    remove: tuple[str, ...] = ()
    rest: Mapping[str, Json] = field(default_factory=dict[str, Json])

    @classmethod
    def read(cls, value: Json) -> Changes | None:
        """Return the changes in a model's answer; `None` if it holds none, but a plan or something else."""
        value = parsed(value)
        if not isinstance(value, dict) or "steps" in unwrapped(value):
            return None
        steps = parsed(value.get("changes"))
        steps = [steps] if isinstance(steps, dict) else steps
        remove = value.get("remove")
        rest = _beside(value)
        if not isinstance(steps, list) and not rest and not remove:
            return None
        listed = steps if isinstance(steps, list) else []
        given = [cast("dict[str, Json]", step_in(each)) for each in listed if isinstance(each, dict)]
        gone = [str(each) for each in remove] if isinstance(remove, list) else []
        return cls(tuple(given), tuple(gone), rest)

    @classmethod
    def of_steps(cls, plan: Json) -> Changes | None:
        """Return a plan read as changes: models asked for some steps put them where the plan's steps stand."""
        if not isinstance(plan, dict) or not isinstance(steps := plan.get("steps"), list):
            return None
        return cls(tuple(each for each in steps if isinstance(each, dict)), (), _beside(plan))

    def applied_to(self, draft: Mapping[str, Json]) -> dict[str, Json]:
        """Return a draft with the changes; the draft's steps are a list of objects."""
        steps = [
            each
            for each in cast("list[dict[str, Json]]", draft["steps"])
            if each.get("id") not in self.remove
        ]
        places = {each.get("id"): index for index, each in enumerate(steps)}
        made: list[list[dict[str, Json]]] = [[each] for each in steps]
        new: list[dict[str, Json]] = []
        for step in self.steps:
            place = places.get(step.get("id"))
            if place is None:
                new.append(step)
            else:
                made[place] = [*new, step]
                new = []
        rest = {key: _over(draft.get(key), part, key) for key, part in self.rest.items()}
        return {**draft, **rest, "steps": [*(step for group in made for step in group), *new]}


def can_change(draft: Json) -> bool:
    """Whether the steps of a draft can be told apart by their ids."""
    steps = draft.get("steps") if isinstance(draft, dict) else None
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        return False
    ids = [cast("dict[str, Json]", step).get("id") for step in steps]
    return all(isinstance(each, str) for each in ids) and len({str(each) for each in ids}) == len(ids)


def steps_alone(plan: Json, draft: Mapping[str, Json]) -> Changes | None:
    """Return a plan of some of a draft's steps, without the draft's output, as changes; `None` if it is none."""
    changes = Changes.of_steps(plan)
    if changes is None or "output" in changes.rest or draft.get("output") is None:
        return None
    old = [step.get("id") for step in cast("list[dict[str, Json]]", draft["steps"])]
    new = [step.get("id") for step in changes.steps]
    return changes if 0 < len(new) < len(old) and all(each in old for each in new) else None


def _beside(value: Mapping[str, Json]) -> dict[str, Json]:
    """Return what else changes; the output is a value, and no JSON in a text."""
    given = {key: value[key] if key == "output" else parsed(value[key]) for key in _BESIDE if key in value}
    return {key: part for key, part in given.items() if part is not None}


def _over(old: Json, new: Json, key: str) -> Json:
    """Return inputs and types with new ones over the old, and any other part anew."""
    return {**old, **new} if key != "output" and isinstance(old, dict) and isinstance(new, dict) else new
