"""From two plans to the patch that leads from the one to the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from . import operations as to
from .moves import longest_rising
from .values import Json, canonical

if TYPE_CHECKING:
    from .plan import Plan


def patch_between(before: Plan, after: Plan) -> to.Patch:
    """Return operations that make the second plan of the first: `before.apply(patch)` has the digest of `after`."""
    return to.Patch(operations=tuple(_operations(before, after)))


def _operations(before: Plan, after: Plan) -> Iterator[to.Operation]:
    old, new = before.to_dict(), after.to_dict()
    if (before.task, before.description) != (after.task, after.description):
        yield to.SetTask(task=after.task, description=after.description)
    own: tuple[tuple[str, type[to.SetInput | to.SetType]], ...] = (
        ("inputs", to.SetInput),
        ("types", to.SetType),
    )
    for part, operation in own:
        was, is_ = cast("dict[str, Json]", old.get(part, {})), cast("dict[str, Json]", new.get(part, {}))
        for name in dict.fromkeys((*was, *is_)):
            if was.get(name) != is_.get(name):
                yield operation(name=name, declared=cast("dict[str, Json] | None", is_.get(name)))
    was, is_ = cast("dict[str, Json]", old.get("plans", {})), cast("dict[str, Json]", new.get("plans", {}))
    for name in dict.fromkeys((*was, *is_)):
        if was.get(name) != is_.get(name):
            yield to.SetInner(name=name, body=cast("dict[str, Json] | None", is_.get(name)))
    yield from _step_operations(
        cast("list[dict[str, Json]]", old["steps"]), cast("list[dict[str, Json]]", new["steps"])
    )
    if canonical(old.get("output")) != canonical(new.get("output")):
        yield to.SetOutput(value=new.get("output"))


def _step_operations(
    old: Sequence[dict[str, Json]], new: Sequence[dict[str, Json]]
) -> Iterator[to.Operation]:
    was = {str(step["id"]): step for step in old}
    is_ = {str(step["id"]): step for step in new}
    yield from (to.RemoveStep(step=id_) for id_ in was if id_ not in is_)
    order = [id_ for id_ in was if id_ in is_]
    place_of = {id_: position for position, id_ in enumerate(order)}
    stays = {order[position] for position in longest_rising([place_of[id_] for id_ in is_ if id_ in was])}
    before: str | None = None
    first = order[0] if order else None
    for id_, step in is_.items():
        place: dict[str, str | None] = (
            {"after": before} if before is not None else {"before": first if first != id_ else None}
        )
        if id_ not in was:
            yield to.AddStep(step=step, **place)
        else:
            if canonical(was[id_]) != canonical(step):
                yield to.ReplaceStep(step=id_, new=step)
            if id_ not in stays:
                yield to.MoveStep(step=id_, **place)
        before = id_
