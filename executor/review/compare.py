"""Compare two runs step by step, and say why a step ended differently.

Steps are aligned by path. The causes are tried from the certain ones to the guesses: an edit of the step, an earlier step or an input that differs,
other arguments, an override of a fork, the code of the tool, and only then the world, the model or chance. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from ...plans.edit.diff import diff_plans, renamed_steps, with_new_ids
from ...plans.edit.differences import Difference, differences
from ...plans.plan import Plan
from ...plans.program.program import CallTool, StepCode
from ...plans.signature import Effect
from ..execution_tree import Iteration, Node, walk
from ..fork import changed_steps, root_of, steps_of_inputs
from ..runs.run import Run, StepView, iterations_of
from .recall import Recall
from .run_diff import RunDiff, StepChange, StepDiff

_PARTS = ("[", "#", "/")
_OPEN = ("pending", "running", "waiting", "indeterminate")

T = TypeVar("T")


def compare(a: Recall, b: Recall) -> RunDiff:
    """Return the differences between two runs, in which a step that was only renamed is one step. O(size of both)."""
    names = _new_names(a.run, b.run)
    a = _under_new_names(a, names)
    # All changes are found first: the reason of a step names the step before it that differs.
    pairs = list(_pairs(a.run, b.run))
    changes: dict[str, StepChange] = {path: _change(old, new) for path, old, new in pairs}
    reasons = _Reasons(a, b, changes)
    spent = {_path_under(path, names): count for path, count in _tokens(a).items()}, _tokens(b)
    steps = [_step_diff(path, old, new, changes[path], reasons, spent) for path, old, new in pairs]
    return _run_diff(a.run, b.run, steps, names)


def compare_snapshots(a: Run, b: Run) -> RunDiff:
    """Return what differs between two snapshots: without reasons, arguments and tokens, which only journals have."""
    names = _new_names(a, b)
    a = _run_under(a, names)
    steps = [
        StepDiff(
            path, _change(old, new), _both(old, new, lambda step: step.status), output=_outputs(old, new)
        )
        for path, old, new in _pairs(a, b)
    ]
    return _run_diff(a, b, steps, names)


def _new_names(a: Run, b: Run) -> dict[str, str]:
    """Return the steps that only have another id in the plan of the second run: old id -> new id."""
    if a.plan is None or b.plan is None or a.steps.keys() == b.steps.keys():
        return {}
    return renamed_steps(a.plan, b.plan)


def _path_under(path: str, names: Mapping[str, str]) -> str:
    root = root_of(path)
    return names[root] + path[len(root) :] if root in names else path


def _run_under(run: Run, names: Mapping[str, str]) -> Run:
    """Return a run whose steps have their new ids; its plan stays as it was."""
    if not names:
        return run
    return replace(run, steps={_path_under(path, names): step for path, step in run.steps.items()})


def _under_new_names(recalled: Recall, names: Mapping[str, str]) -> Recall:
    """Return a run whose steps have their new ids, also where others refer to them: what is left differs for another reason."""
    if not names or recalled.header.plan is None:
        return recalled
    return replace(
        recalled,
        run=_run_under(recalled.run, names),
        header=replace(recalled.header, plan=with_new_ids(recalled.header.plan, names)),
        calls={_path_under(path, names): args for path, args in recalled.calls.items()},
    )


def _run_diff(a: Run, b: Run, steps: Sequence[StepDiff], names: Mapping[str, str]) -> RunDiff:
    came_from = {new: old for old, new in names.items()}
    if came_from:
        steps = [
            replace(step, renamed_from=_path_under(step.step, came_from))
            if root_of(step.step) in came_from
            else step
            for step in steps
        ]
    return RunDiff(
        a.id,
        b.id,
        (a.status, b.status),
        tuple(steps),
        diff_plans(_plan_of(a), _plan_of(b)),
        differences(dict(a.inputs), dict(b.inputs)),
        differences(a.output, b.output),
        _first(steps),
        (a.usage, b.usage),
    )


def _plan_of(run: Run) -> Plan:
    return run.plan or Plan.model_validate({"firmplan": 1, "steps": []})


def _pairs(a: Run, b: Run) -> Iterator[tuple[str, StepView | None, StepView | None]]:
    return ((path, a.steps.get(path), b.steps.get(path)) for path in _aligned(a, b))


def _aligned(a: Run, b: Run) -> Iterator[str]:
    """Yield the paths of both runs, in the order of `b`; paths that only `a` has stand where `a` has them."""
    # A merge, not a sorted union: the paths have no order of their own, and plan order is what readers see everywhere else.
    rest = iter([*a.steps, None])
    for path in b.steps:
        if path in a.steps:
            while (old := next(rest, None)) is not None and old != path:
                if old not in b.steps:
                    yield old
        yield path
    yield from (old for old in rest if old is not None and old not in b.steps)


def _change(old: StepView | None, new: StepView | None) -> StepChange:
    if old is None:
        return "only_b"
    if new is None:
        return "only_a"
    # Digests, not values: outputs may be large, and equal digests mean equal canonical values.
    is_same = (old.status, old.output_digest) == (new.status, new.output_digest)
    return "same" if is_same else "changed"


def _tokens(recalled: Recall) -> Mapping[str, int]:
    """Return how many tokens each step, item and iteration of a run used, without those that used none."""
    used = {node.path: sum(map(_used, iterations_of(node))) for node in walk(recalled.machine.root)}
    return {path: count for path, count in used.items() if count}


def _used(iteration: Iteration) -> int:
    found = iteration.usage.get("tokens") if iteration.usage is not None else None
    return found if isinstance(found, int) else 0


def _step_diff(
    path: str,
    old: StepView | None,
    new: StepView | None,
    change: StepChange,
    reasons: _Reasons,
    tokens: tuple[Mapping[str, int], Mapping[str, int]],
) -> StepDiff:
    args = reasons.args(path)
    return StepDiff(
        path,
        change,
        _both(old, new, lambda step: step.status),
        reasons.why(path, args) if change != "same" else "",
        _outputs(old, new),
        args,
        _both(old, new, lambda step: step.reused),
        _both(old, new, lambda step: step.cost),
        _both(old, new, _seconds),
        (
            tokens[0].get(path, 0) if old is not None else None,
            tokens[1].get(path, 0) if new is not None else None,
        ),
    )


def _outputs(old: StepView | None, new: StepView | None) -> tuple[Difference, ...]:
    if old is None or new is None or _change(old, new) == "same":
        return ()
    return differences(old.output, new.output)


def _both(
    old: StepView | None, new: StepView | None, part: Callable[[StepView], T]
) -> tuple[T | None, T | None]:
    return part(old) if old is not None else None, part(new) if new is not None else None


def _seconds(step: StepView) -> float | None:
    if step.started is None or step.finished is None:
        return None
    return round(step.finished - step.started, 6)


def _first(steps: Sequence[StepDiff]) -> StepDiff | None:
    """Return the first step that differs; if it has parts, its first differing part."""
    changed = [step for step in steps if step.change != "same"]
    first = next(iter(changed), None)
    # Parts come after their step in plan order, so the step itself is found first; its first differing part says more.
    while first is not None:
        inside = tuple(first.step + mark for mark in _PARTS)
        part = next((step for step in changed if step.step.startswith(inside)), None)
        if part is None:
            return first
        first = part
    return None


class _Reasons:
    """Finds out why steps of two runs differ."""

    def __init__(self, a: Recall, b: Recall, changes: Mapping[str, StepChange]) -> None:
        self._a, self._b = a, b
        self._changes = changes
        self._nodes: dict[str, Node] = {
            node.path: node for node in walk(b.machine.root) if isinstance(node, Node)
        }
        self._edited = set(changed_steps(a.header, b.header))
        self._by_input = set(steps_of_inputs(b.machine.root.program, a.header.inputs, b.header.inputs))

    def args(self, path: str) -> tuple[Difference, ...]:
        """Return the places in which the arguments of a leaf differ."""
        old, new = self._a.calls.get(path), self._b.calls.get(path)
        if old is None or new is None or old == new:
            return ()
        return differences(old.value, new.value)

    def why(self, path: str, args: Sequence[Difference]) -> str:
        """Return why a step differs, as a sentence."""
        # The order is the point: each cause explains the causes below it (an edited step has other arguments, other arguments have another
        # result), so the first cause that holds is the one to name.
        change, root = self._changes[path], root_of(path)
        if change in ("only_a", "only_b"):
            return self._why_alone(path, change, root)
        if root in self._edited:
            return "the plan is different here"
        if (upstream := self._upstream(path)) is not None:
            return f"it depends on '{upstream}', which differs"
        if root in self._by_input:
            return "it depends on an input that differs"
        if args:
            return f"it was called with other arguments: args.{args[0]}"
        return self._why_given(path) or self._why_open(path) or self._why_same_call(path)

    def _why_given(self, path: str) -> str:
        """Return a sentence if one of the runs is a fork with an override for this step, else an empty text."""
        forks = [recall.header.fork for recall in (self._a, self._b)]
        is_given = any(fork is not None and path in fork.overrides for fork in forks)
        return "a fork gave it its value" if is_given else ""

    def _why_open(self, path: str) -> str:
        """Return a sentence that names the run in which the step has not ended; empty: it has ended in both."""
        for recall in (self._a, self._b):
            if (status := recall.run.steps[path].status) in _OPEN:
                return f"it has not ended in run {recall.run.id}, where it is {status}"
        return ""

    def _why_alone(self, path: str, change: StepChange, root: str) -> str:
        if self._changes.get(root) in ("only_a", "only_b") or root == path:
            return "the other plan has no such step"
        run = self._a.run.id if change == "only_a" else self._b.run.id
        return f"only run {run} came to this part of '{root}'"

    def _upstream(self, path: str) -> str | None:
        """Return the first step that a step refers to or comes after, and that differs."""
        node = self._node(path)
        if node is None:
            return None
        # Only steps that this one refers to or comes after: effect order does not carry values, so it cannot explain a difference.
        code: StepCode = node.code
        needs = [node.frame.nodes[at].path for at in (*code.needs_when, *code.needs, *code.after)]
        return next((need for need in needs if self._changes.get(need, "same") != "same"), None)

    def _node(self, path: str) -> Node | None:
        while path not in self._nodes:
            cut = max(path.rfind(mark) for mark in _PARTS)
            if cut < 0:
                return None
            path = path[:cut]
        return self._nodes[path]

    def _why_same_call(self, path: str) -> str:
        """Return why a call with the same arguments had another result."""
        # Nothing in the plan, the inputs or the arguments differs here. What is left depends on the effect of the tool: a pure tool has no
        # excuse, a read may have seen another world, a model may answer anything.
        node = self._node(path)
        action = node.code.action if node is not None else None
        if not isinstance(action, CallTool):
            is_prompt = path in self._b.calls
            return (
                "the model answered otherwise to the same prompt" if is_prompt else "one of its parts differs"
            )
        old, new = self._a.header.lock.find(action.tool), self._b.header.lock.find(action.tool)
        if path not in self._a.calls or path not in self._b.calls:
            is_part = path in self._nodes and any(
                each.startswith(path) and each != path for each in self._changes
            )
            return "one of its parts differs" if is_part else "only one of the runs called it"
        if old is not None and new is not None and old.fingerprint != new.fingerprint:
            return f"the tool '{action.tool}' was changed between the runs"
        match new.effect if new is not None else None:
            case Effect.PURE:
                return f"the same call of '{action.tool}' had another result: `firmplan verify` checks whether it is deterministic"
            case Effect.MODEL:
                return "the model answered otherwise to the same prompt"
            case _:
                return f"the same call of '{action.tool}' found the world changed"
