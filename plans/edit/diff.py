"""The changes from one plan to another, by step and field, and the patch that makes them.

Steps are matched by id; a step that only has another id now counts as renamed. Values are compared in canonical form with defaults filled
in, so that spacing and explicit defaults are no change. `diff.to_patch()` returns the operations that lead from the one plan to
the other.

    plan diff: 1 step changed, 1 added
    ~ wa.args.city   ${inputs.a} -> ${inputs.b}
    + spots          geocode(name=${item})
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

from typing_extensions import override

from ..checker.templates import template_of
from ..digest import canonical_step
from ..values import Json, canonical
from .differences import cut_pair, cut_text, differing
from .renaming import NameCapturedError, rename_step

if TYPE_CHECKING:
    from ..plan import InnerPlan, Plan, Step
    from .patch import Patch


ChangeKind: TypeAlias = Literal["added", "removed", "changed", "renamed", "moved"]
_MARKS: Mapping[ChangeKind, str] = {
    "added": "+",
    "removed": "-",
    "changed": "~",
    "renamed": "=",
    "moved": ">",
}
_DEFAULTS: Mapping[str, Json] = {"after": [], "on_error": "fail", "args": {}}


@dataclass(frozen=True, slots=True)
class PlanChange:
    """One change.

    Attributes:
        part: `task`, `description`, `left_out`, `inputs`, `types`, `plans`, `steps`, `output`, `returns` or `deadline`.
        name: The name of the step, input, type or inner plan; `None` for the plan itself.
        field: The place in it, such as `args.city`; empty: all of it.
        before: The value before; `None` if it was added.
        after: The value after; `None` if it was removed.
        plan: The inner plan that has the change; `None` for the plan itself.
    """

    kind: ChangeKind
    part: str
    name: str | None
    field: str = ""
    before: Json = None
    after: Json = None
    plan: str | None = None

    @property
    def place(self) -> str:
        """The place for people: `wa.args.city`, `inputs.a`, `output`."""
        head = self.name if self.part == "steps" else ".".join(filter(None, (self.part, self.name)))
        inner = f"{self.plan}/" if self.plan is not None else ""
        dot = "" if not self.field or self.field.startswith("[") else "."
        return f"{inner}{head}{dot}{self.field}"

    @override
    def __str__(self) -> str:
        return f"{_MARKS[self.kind]} {self.place}  {self.text}".rstrip()

    @property
    def text(self) -> str:
        """The change for people, without its place."""
        match self.kind:
            case "added":
                return cut_text(_line(self.after))
            case "removed":
                return cut_text(_line(self.before))
            case "moved":
                return f"to place {self.after}"
            case "changed" | "renamed":
                return " -> ".join(cut_pair(_line(self.before), _line(self.after)))

    def to_dict(self) -> dict[str, Json]:
        """Return the change as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PlanDiff:
    """The changes from one plan to another; false if there are none.

    Attributes:
        changes: In the plan's order.
        before: The first plan.
        after: The second plan.
    """

    changes: tuple[PlanChange, ...]
    before: Plan = field(repr=False, compare=False)
    after: Plan = field(repr=False, compare=False)

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def same_digest(self) -> bool:
        """Whether both plans do the same, so that at most prose differs."""
        return self.before.digest == self.after.digest

    @property
    def added(self) -> tuple[str, ...]:
        """Ids of added steps."""
        return self._steps("added")

    @property
    def removed(self) -> tuple[str, ...]:
        """Ids of removed steps."""
        return self._steps("removed")

    @property
    def changed(self) -> tuple[str, ...]:
        """Ids of the steps that differ in some field."""
        return self._steps("changed")

    def _steps(self, kind: ChangeKind) -> tuple[str, ...]:
        steps = (change for change in self.changes if change.part == "steps" and change.plan is None)
        # A field that was added or removed changes its step.
        found = [change for change in steps if ("changed" if change.field else change.kind) == kind]
        return tuple(dict.fromkeys(str(change.name) for change in found))

    @override
    def __str__(self) -> str:
        if not self.changes:
            return "no difference"
        width = min(max(len(change.place) for change in self.changes), 32)
        lines = [
            f"{_MARKS[change.kind]} {change.place:<{width}}  {change.text}".rstrip()
            for change in self.changes
        ]
        note = ["only prose differs: both plans have the same digest"] if self.same_digest else []
        return "\n".join([self._summary(), *note, *lines])

    def _summary(self) -> str:
        counts = [(len(self._steps(kind)), kind) for kind in ("changed", "added", "removed", "renamed")]
        parts = [f"{count} {'step' if count == 1 else 'steps'} {word}" for count, word in counts if count]
        others = sum(
            1
            for change in self.changes
            if change.part != "steps" or change.plan is not None or change.kind == "moved"
        )
        if others:
            parts.append(f"{others} other {'change' if others == 1 else 'changes'}")
        return f"plan diff: {', '.join(parts)}"

    def to_dict(self) -> dict[str, Json]:
        """Return the diff as JSON."""
        return {
            "same_digest": self.same_digest,
            "before": self.before.digest,
            "after": self.after.digest,
            "changes": [change.to_dict() for change in self.changes],
        }

    def to_patch(self) -> Patch:
        """Return operations that turn the first plan into the second: `before.apply(patch)` has the digest of `after`.

        Steps are matched by their ids, so both plans need unique ones, as every plan has that passes its check.
        """
        from .patch import Patch  # noqa: PLC0415  # the models of operations take time to build, and few diffs need them

        return Patch.of(list(_operations(self.before, self.after)))


def diff_plans(before: Plan, after: Plan) -> PlanDiff:
    """Return the changes from one plan to another. O(size of both)."""
    changes = [*_prose(before, after), *_bodies(before, after, None)]
    for name in dict.fromkeys((*before.plans, *after.plans)):
        old, new = before.plans.get(name), after.plans.get(name)
        if old is None or new is None:
            changes.append(_change("plans", name, _inner_text(old), _inner_text(new)))
        else:
            changes += _bodies(old, new, name)
    return PlanDiff(tuple(changes), before, after)


def _prose(before: Plan, after: Plan) -> Iterator[PlanChange]:
    for part in ("task", "description", "deadline"):
        old, new = cast("Json", getattr(before, part)), cast("Json", getattr(after, part))
        if old != new:
            yield _change(part, None, old, new)
    if before.left_out != after.left_out:
        old_texts, new_texts = (list[Json](plan.left_out) or None for plan in (before, after))
        yield _change("left_out", None, old_texts, new_texts)


def _change(part: str, name: str | None, old: Json, new: Json, plan: str | None = None) -> PlanChange:
    """Return the change of a part that the plan has (before or after) or has not: `None`."""
    kind: ChangeKind = "added" if old is None else "removed" if new is None else "changed"
    return PlanChange(kind, part, name, "", old, new, plan)


def _bodies(before: Plan | InnerPlan, after: Plan | InnerPlan, plan: str | None) -> Iterator[PlanChange]:
    for part in ("inputs", "types"):
        old = cast("dict[str, Json]", getattr(before, part))
        new = cast("dict[str, Json]", getattr(after, part))
        for name in dict.fromkeys((*old, *new)):
            if name not in old or name not in new:
                yield _change(part, name, old.get(name), new.get(name), plan)
            else:
                yield from _fields(part, name, old[name], new[name], plan)
    yield from _step_changes(before, after, plan)
    was, is_ = (template_of(".output", body.output).canonical for body in (before, after))
    if canonical(was) != canonical(is_):
        yield PlanChange("changed", "output", None, "", was, is_, plan)
    declared, now = before.returns, after.returns
    if canonical(declared) != canonical(now):
        yield _change("returns", None, declared, now, plan)


def _fields(part: str, name: str, old: Json, new: Json, plan: str | None) -> Iterator[PlanChange]:
    for found in differing(old, new):
        yield PlanChange(found.kind, part, name, found.path, found.before, found.after, plan)


def _step_changes(
    before: Plan | InnerPlan, after: Plan | InnerPlan, plan: str | None
) -> Iterator[PlanChange]:
    old = {step.id: _step(step) for step in before.steps}
    new = {step.id: _step(step) for step in after.steps}
    renamed = renamed_steps(before, after)
    came_from = {later: earlier for earlier, later in renamed.items()}
    for id_, step in old.items():
        if id_ not in new and id_ not in renamed:
            yield PlanChange("removed", "steps", id_, "", _trimmed(step), None, plan)
    for id_, step in new.items():
        if id_ in came_from:
            yield PlanChange("renamed", "steps", id_, "", came_from[id_], id_, plan)
        elif id_ not in old:
            yield PlanChange("added", "steps", id_, "", None, _trimmed(step), plan)
        else:
            yield from _fields("steps", id_, old[id_], step, plan)
    kept = [id_ for id_ in old if id_ in new or id_ in renamed]
    # Added and removed steps move others by position; only steps that changed their order relative to the rest count as moved.
    yield from _moves(
        [renamed.get(id_, id_) for id_ in kept], [id_ for id_ in new if id_ in old or id_ in came_from], plan
    )


def _step(step: Step) -> dict[str, Json]:
    made = canonical_step(step)
    return made if step.why is None else {**made, "why": step.why}


def _trimmed(step: Mapping[str, Json]) -> dict[str, Json]:
    """Return a step without its id and without defaults."""
    return {
        key: value
        for key, value in step.items()
        if key != "id" and not (key in _DEFAULTS and _DEFAULTS[key] == value)
    }


def renamed_steps(before: Plan | InnerPlan, after: Plan | InnerPlan) -> dict[str, str]:
    """Return the steps that only have another id in the second plan, also where a step refers to another one of them: old id -> new id."""
    new = {step.id: _step(step) for step in after.steps}
    found: dict[str, str] = {}
    while True:
        old = {step.id: _step(step) for step in before.steps}
        more = _renamed(old, new)
        if not more:
            return found
        found |= more
        if all(id_ in new or id_ in more for id_ in old):
            return found
        # What refers to a renamed step may only have another id itself.
        before = with_new_ids(before, more)


Body = TypeVar("Body", "Plan", "InnerPlan", "Plan | InnerPlan")


def with_new_ids(plan: Body, names: Mapping[str, str]) -> Body:
    """Return a plan whose steps have other ids, in references, too; a reference that a loop variable of the new name would capture stays.

    Args:
        plan: The plan.
        names: Old id -> new id.
    """
    raw: dict[str, Any] = plan.model_dump(mode="json", exclude_unset=True)
    for old, new in names.items():
        # Renamed on a copy: a refusal may come after some of the references were renamed.
        made = deepcopy(raw)
        with suppress(NameCapturedError):
            rename_step(made, old, new)
            raw = made
    for step in raw["steps"]:
        step["id"] = names.get(step["id"], step["id"])
    return type(plan).model_validate(raw)


def _renamed(old: Mapping[str, dict[str, Json]], new: Mapping[str, dict[str, Json]]) -> dict[str, str]:
    """Return the steps that only have another id now: old id -> new id."""
    # A step counts as renamed if its canonical form, the id left out, is equal; of several equal steps, the first ones are paired.
    came: dict[bytes, list[str]] = {}
    for id_, step in new.items():
        if id_ not in old:
            came.setdefault(canonical(_trimmed(step)), []).append(id_)
    found: dict[str, str] = {}
    for id_, step in old.items():
        if id_ not in new and (same := came.get(canonical(_trimmed(step)))):
            found[id_] = same.pop(0)
    return found


def _moves(old: list[str], new: list[str], plan: str | None) -> Iterator[PlanChange]:
    """Yield the fewest steps whose moving gives the new order."""
    place, stays = {id_: position for position, id_ in enumerate(old)}, _staying(old, new)
    for position, id_ in enumerate(new):
        if id_ not in stays:
            yield PlanChange("moved", "steps", id_, "", place[id_], position, plan)


def _staying(old: Sequence[str], new: Sequence[str]) -> set[str]:
    """Return the most ids that can keep their places when a list of ids gets the order of `new`."""
    place = {id_: position for position, id_ in enumerate(old)}
    return {old[position] for position in _longest_rising([place[id_] for id_ in new])}


def _inner_text(plan: InnerPlan | None) -> Json:
    return None if plan is None else f"{len(plan.steps)} {'step' if len(plan.steps) == 1 else 'steps'}"


def _line(value: Json) -> str:
    """Return a value on one line: text as it is, a tool step as a call, everything else as JSON."""
    if isinstance(value, dict) and "tool" in value:
        args = cast("dict[str, Json]", value.get("args", {}))
        rest: dict[str, Json] = {key: each for key, each in value.items() if key not in ("tool", "args")}
        call = f"{value['tool']}({', '.join(f'{name}={_line(each)}' for name, each in args.items())})"
        text = f"{call} {_line(rest)}" if rest else call
    else:
        text = value if isinstance(value, str) else canonical(value).decode()
    return " ".join(text.split())


_Raw = dict[str, Json]


def _operations(before: Plan, after: Plan) -> Iterator[_Raw]:
    old, new = before.to_dict(), after.to_dict()
    if (before.task, before.description) != (after.task, after.description):
        yield {"op": "task", "task": after.task, "description": after.description}
    if before.left_out != after.left_out:
        yield {"op": "left_out", "value": list[Json](after.left_out)}
    if before.deadline != after.deadline:
        yield {"op": "deadline", "value": cast("Json", after.deadline)}
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
    if canonical(old.get("returns")) != canonical(new.get("returns")):
        yield {"op": "returns", "schema": new.get("returns")}


def _changed(old: Mapping[str, Json], new: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    """Yield the names whose value changed, with the new value: null for removed ones."""
    for name in dict.fromkeys((*old, *new)):
        if canonical(old.get(name)) != canonical(new.get(name)):
            yield name, new.get(name)


def _step_operations(old: Sequence[_Raw], new: Sequence[_Raw]) -> Iterator[_Raw]:
    # Operations work on the JSON as written, not on the canonical form: the patch should restore spelling and prose too.
    was = {str(step["id"]): step for step in old}
    is_ = {str(step["id"]): step for step in new}
    for id_ in was:
        if id_ not in is_:
            yield {"op": "remove", "step": id_}
    order = [id_ for id_ in was if id_ in is_]
    stays = _staying(order, [id_ for id_ in is_ if id_ in was])
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


def _longest_rising(numbers: Sequence[int]) -> list[int]:
    """Return a longest rising subsequence: the part of a list that need not move to get into order. O(n log n)."""
    # Patience sorting: `ends[n]` is the smallest number that ends a rising subsequence of length n + 1, `at[n]` its index.
    ends: list[int] = []
    at: list[int] = []
    before: list[int] = []
    for index, number in enumerate(numbers):
        length = bisect_left(ends, number)
        before.append(at[length - 1] if length else -1)
        ends[length : length + 1] = [number]
        at[length : length + 1] = [index]
    found: list[int] = []
    index = at[-1] if at else -1
    while index >= 0:
        found.append(numbers[index])
        index = before[index]
    return found
