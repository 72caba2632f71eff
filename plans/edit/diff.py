"""What changes from one plan to another, by step and field.

Steps are matched by id; a step that is there under another id only counts as renamed. Values are compared in canonical
spelling with defaults filled in, so that spacing and spelled-out defaults are no change. `diff.to_patch()` are the operations that lead
from the one plan to the other.

    plan diff: 1 step changed, 1 added
    ~ wa.args.city   ${inputs.a} -> ${inputs.b}
    + spots          geocode(name=${item})
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from typing_extensions import override

from ..checker.templates import template_of
from ..digest import canonical_step
from ..paths import path_of
from ..values import Json, canonical
from .moves import longest_rising

if TYPE_CHECKING:
    from ..plan import InnerPlan, Plan, Step
    from .patch import Patch

SHOWN_MAX = 70
"""Characters of a value that the text of a diff shows."""
AROUND = 16
"""Characters before a difference that are shown with it."""

ChangeKind: TypeAlias = Literal["added", "removed", "changed", "renamed", "moved"]
_MARKS: Mapping[ChangeKind, str] = {
    "added": "+",
    "removed": "-",
    "changed": "~",
    "renamed": "=",
    "moved": ">",
}
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        part: `task`, `description`, `inputs`, `types`, `plans`, `steps` or `output`.
        name: Of the step, input, type or inner plan; `None` for the plan itself.
        field: Where in it, such as `args.city`; empty for the whole.
        before: The value there; `None` if it was added.
        after: The value there now; `None` if it was removed.
        plan: The inner plan in which it is; `None` for the plan itself.
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
        """Where it is, for people: `wa.args.city`, `inputs.a`, `output`."""
        head = self.name if self.part == "steps" else ".".join(filter(None, (self.part, self.name)))
        inner = f"{self.plan}/" if self.plan is not None else ""
        dot = "" if not self.field or self.field.startswith("[") else "."
        return f"{inner}{head}{dot}{self.field}"

    @override
    def __str__(self) -> str:
        return f"{_MARKS[self.kind]} {self.place}  {self.text}".rstrip()

    @property
    def text(self) -> str:
        """What changed there."""
        match self.kind:
            case "added":
                return _shown(self.after)
            case "removed":
                return _shown(self.before)
            case "moved":
                return f"to place {self.after}"
            case "changed" | "renamed":
                before, after = _line(self.before), _line(self.after)
                pairs = enumerate(zip(before, after, strict=False))
                same = next((at for at, (old, new) in pairs if old != new), min(len(before), len(after)))
                return f"{_cut(before, same)} -> {_cut(after, same)}"

    def to_dict(self) -> dict[str, Json]:
        """Return the change as JSON."""
        return {
            "kind": self.kind,
            "part": self.part,
            "name": self.name,
            "field": self.field,
            "before": self.before,
            "after": self.after,
            "plan": self.plan,
        }


@dataclass(frozen=True, slots=True)
class PlanDiff:
    """What changes from one plan to another; false if nothing does.

    Attributes:
        changes: In the plan's order: what came, went, changed, was renamed or moved.
        before: The one plan.
        after: The other.
    """

    changes: tuple[Change, ...]
    before: Plan = field(repr=False, compare=False)
    after: Plan = field(repr=False, compare=False)

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def same_digest(self) -> bool:
        """Whether both plans do the same: at most prose differs."""
        return self.before.digest == self.after.digest

    @property
    def added(self) -> tuple[str, ...]:
        """Ids of the steps that came."""
        return self._steps("added")

    @property
    def removed(self) -> tuple[str, ...]:
        """Ids of the steps that went."""
        return self._steps("removed")

    @property
    def changed(self) -> tuple[str, ...]:
        """Ids of the steps that differ in some field."""
        return self._steps("changed")

    def _steps(self, kind: ChangeKind) -> tuple[str, ...]:
        chosen = (change for change in self.changes if change.part == "steps" and change.plan is None)
        fields = [change for change in chosen if change.kind == kind or (kind == "changed" and change.field)]
        wanted = [change for change in fields if bool(change.field) == (kind == "changed")]
        return tuple(dict.fromkeys(str(change.name) for change in wanted))

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
        counts = [(len(self.changed), "changed"), (len(self.added), "added"), (len(self.removed), "removed")]
        told = [f"{count} {'step' if count == 1 else 'steps'} {word}" for count, word in counts if count]
        others = sum(
            1
            for change in self.changes
            if change.part != "steps" or change.plan is not None or change.kind in ("renamed", "moved")
        )
        if others:
            told.append(f"{others} other {'change' if others == 1 else 'changes'}")
        return f"plan diff: {', '.join(told)}"

    def to_dict(self) -> dict[str, Json]:
        """Return the diff as JSON."""
        return {
            "same_digest": self.same_digest,
            "before": self.before.digest,
            "after": self.after.digest,
            "changes": [change.to_dict() for change in self.changes],
        }

    def to_patch(self) -> Patch:
        """Return operations that make the second plan of the first."""
        from .mending import patch_between  # noqa: PLC0415  # only when asked

        return patch_between(self.before, self.after)


def diff_plans(before: Plan, after: Plan) -> PlanDiff:
    """Return what changes from one plan to another. O(size of both)."""
    changes = [*_prose(before, after), *_bodies(before, after, None)]
    for name in dict.fromkeys((*before.plans, *after.plans)):
        old, new = before.plans.get(name), after.plans.get(name)
        if old is None or new is None:
            kind: ChangeKind = "added" if old is None else "removed"
            changes.append(Change(kind, "plans", name, "", _inner_text(old), _inner_text(new)))
        else:
            changes += _bodies(old, new, name)
    return PlanDiff(tuple(changes), before, after)


def _prose(before: Plan, after: Plan) -> Iterator[Change]:
    for part in ("task", "description"):
        old, new = cast("str | None", getattr(before, part)), cast("str | None", getattr(after, part))
        if old != new:
            kind: ChangeKind = "added" if old is None else "removed" if new is None else "changed"
            yield Change(kind, part, None, "", old, new)


def _bodies(before: Plan | InnerPlan, after: Plan | InnerPlan, plan: str | None) -> Iterator[Change]:
    for part in ("inputs", "types"):
        old, new = (
            cast("dict[str, Json]", getattr(before, part)),
            cast("dict[str, Json]", getattr(after, part)),
        )
        for name in dict.fromkeys((*old, *new)):
            for path, was, is_ in _differences(old.get(name, _ABSENT), new.get(name, _ABSENT)):
                yield _change(part, name, path, was, is_, plan)
    yield from _step_changes(before.steps, after.steps, plan)
    was, is_ = (template_of(".output", body.output).canonical for body in (before, after))
    if canonical(was) != canonical(is_):
        yield Change("changed", "output", None, "", was, is_, plan)


def _step_changes(before: Sequence[Step], after: Sequence[Step], plan: str | None) -> Iterator[Change]:
    old = {step.id: _step(step) for step in before}
    new = {step.id: _step(step) for step in after}
    renamed = _renamed(old, new)
    came_from = {later: earlier for earlier, later in renamed.items()}
    for id_, step in old.items():
        if id_ not in new and id_ not in renamed:
            yield Change("removed", "steps", id_, "", _trimmed(step), None, plan)
    for id_, step in new.items():
        if id_ in came_from:
            yield Change("renamed", "steps", id_, "", came_from[id_], id_, plan)
        elif id_ not in old:
            yield Change("added", "steps", id_, "", None, _trimmed(step), plan)
        else:
            for path, was, is_ in _differences(old[id_], step):
                yield _change("steps", id_, path, was, is_, plan)
    kept = [id_ for id_ in old if id_ in new or id_ in renamed]
    yield from _moves(
        [renamed.get(id_, id_) for id_ in kept], [id_ for id_ in new if id_ in old or id_ in came_from], plan
    )


def _step(step: Step) -> dict[str, Json]:
    made = canonical_step(step)
    return made if step.why is None else {**made, "why": step.why}


def _trimmed(step: Mapping[str, Json]) -> dict[str, Json]:
    """Return a step without its id and without what every step has by default."""
    defaults: dict[str, Json] = {"after": [], "on_error": "fail", "args": {}}
    return {key: value for key, value in step.items() if key != "id" and defaults.get(key, _ABSENT) != value}


def _renamed(old: Mapping[str, dict[str, Json]], new: Mapping[str, dict[str, Json]]) -> dict[str, str]:
    """Return which steps went and came back under another id: old id -> new id."""
    came: dict[bytes, list[str]] = {}
    for id_, step in new.items():
        if id_ not in old:
            came.setdefault(canonical(_trimmed(step)), []).append(id_)
    found: dict[str, str] = {}
    for id_, step in old.items():
        if id_ not in new and (same := came.get(canonical(_trimmed(step)))):
            found[id_] = same.pop(0)
    return found


def _moves(old: list[str], new: list[str], plan: str | None) -> Iterator[Change]:
    """Yield the fewest steps whose moving gives the new order."""
    place = {id_: position for position, id_ in enumerate(old)}
    stays = set(longest_rising([place[id_] for id_ in new]))
    for position, id_ in enumerate(new):
        if place[id_] not in stays:
            yield Change("moved", "steps", id_, "", place[id_], position, plan)


def _change(
    part: str, name: str, path: tuple[str | int, ...], was: object, is_: object, plan: str | None
) -> Change:
    kind: ChangeKind = "added" if was is _ABSENT else "removed" if is_ is _ABSENT else "changed"
    old, new = (None if each is _ABSENT else cast("Json", each) for each in (was, is_))
    return Change(kind, part, name, path_of(path, "").removeprefix("."), old, new, plan)


def _differences(
    before: object, after: object, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], object, object]]:
    """Yield the smallest places in which two values differ; lists of unequal length differ as wholes."""
    if _are_objects(before, after):
        old, new = cast("dict[str, object]", before), cast("dict[str, object]", after)
        for name in dict.fromkeys((*old, *new)):
            yield from _differences(old.get(name, _ABSENT), new.get(name, _ABSENT), (*path, name))
    elif _are_lists_of_one_length(before, after):
        pairs = zip(cast("list[object]", before), cast("list[object]", after), strict=True)
        for index, (old_part, new_part) in enumerate(pairs):
            yield from _differences(old_part, new_part, (*path, index))
    elif before is _ABSENT or after is _ABSENT or canonical(before) != canonical(after):
        yield path, before, after


def _are_objects(one: object, other: object) -> bool:
    return isinstance(one, dict) and isinstance(other, dict)


def _are_lists_of_one_length(one: object, other: object) -> bool:
    if not isinstance(one, list) or not isinstance(other, list):
        return False
    return len(cast("list[object]", one)) == len(cast("list[object]", other))


def _inner_text(plan: InnerPlan | None) -> Json:
    return None if plan is None else f"{len(plan.steps)} {'step' if len(plan.steps) == 1 else 'steps'}"


def _shown(value: Json) -> str:
    return _cut(_line(value))


def _line(value: Json) -> str:
    """Return a value on one line: text as it is, a tool's step as a call, the rest as JSON."""
    if isinstance(value, dict) and "tool" in value:
        args = cast("dict[str, Json]", value.get("args", {}))
        rest: dict[str, Json] = {key: each for key, each in value.items() if key not in ("tool", "args")}
        call = f"{value['tool']}({', '.join(f'{name}={_line(each)}' for name, each in args.items())})"
        text = f"{call} {_line(rest)}" if rest else call
    else:
        text = value if isinstance(value, str) else canonical(value).decode()
    return " ".join(text.split())


def _cut(text: str, same: int = 0) -> str:
    """Return as much of a line as is shown; of one whose first `same` characters are nothing new, the part around what is."""
    start = max(min(same - AROUND, len(text) - SHOWN_MAX), 0) if len(text) > SHOWN_MAX else 0
    shown = f"..{text[start + 2 :]}" if start else text
    return shown if len(shown) <= SHOWN_MAX else f"{shown[: SHOWN_MAX - 2]}.."
