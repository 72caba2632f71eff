"""From two plans to the patch that leads from the one to the other.

Steps are known by their ids, so both plans need unique ones, as every plan has that passes its check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from ..values import Json, canonical
from .moves import longest_rising
from .operations import Patch

if TYPE_CHECKING:
    from ..plan import Plan

_Raw = dict[str, Json]


def patch_between(before: Plan, after: Plan) -> Patch:
    """Return operations that make the second plan of the first: `before.apply(patch)` has the digest of `after`."""
    return Patch.of(list(_operations(before, after)))


def _operations(before: Plan, after: Plan) -> Iterator[_Raw]:
    old, new = before.to_dict(), after.to_dict()
    if (before.task, before.description) != (after.task, after.description):
        yield {"op": "task", "task": after.task, "description": after.description}
    for part, operation, key in (
        ("inputs", "input", "schema"),
        ("types", "type", "schema"),
        ("plans", "inner", "body"),
    ):
        for name, value in _changed(cast("_Raw", old.get(part, {})), cast("_Raw", new.get(part, {}))):
            yield {"op": operation, "name": name, key: value}
    yield from _step_operations(cast("list[_Raw]", old["steps"]), cast("list[_Raw]", new["steps"]))
    if canonical(old.get("output")) != canonical(new.get("output")):
        yield {"op": "output", "value": new.get("output")}


def _changed(old: Mapping[str, Json], new: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    """Yield names whose value is another now, with that: null for those that went."""
    for name in dict.fromkeys((*old, *new)):
        if canonical(old.get(name)) != canonical(new.get(name)):
            yield name, new.get(name)


def _step_operations(old: Sequence[_Raw], new: Sequence[_Raw]) -> Iterator[_Raw]:
    was = {str(step["id"]): step for step in old}
    is_ = {str(step["id"]): step for step in new}
    for id_ in was:
        if id_ not in is_:
            yield {"op": "remove", "step": id_}
    order = [id_ for id_ in was if id_ in is_]
    place_of = {id_: position for position, id_ in enumerate(order)}
    stays = {order[position] for position in longest_rising([place_of[id_] for id_ in is_ if id_ in was])}
    # The first step needs no place if it is first already, or if nothing is there to stand before.
    place: _Raw = {"before": order[0]} if order and order[0] != next(iter(is_)) else {}
    for id_, step in is_.items():
        if id_ not in was:
            yield {"op": "add", "step": step, **place}
        else:
            if canonical(was[id_]) != canonical(step):
                yield {"op": "replace", "step": id_, "with": step}
            if id_ not in stays:
                yield {"op": "move", "step": id_, **place}
        place = {"after": id_}
