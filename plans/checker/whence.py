"""Where untrusted data came from, told of one argument of a step that was about to run.

The check tells this of a whole plan (`flow.py`); here one step is asked about, inside however many plans, once it is known to
be unsafe. What the labels mean is `labels.py`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..format.shape import Draft
from ..plan import AgentStep, Plan, PlanStep, ToolStep
from ..signature import Signature, Signatures
from ..toolbox import toolbox
from .body import SavedPlans, bodies_of
from .labels import CLEAN, UNTRUSTED, Labels
from .survey import survey_of
from .templates import Template, template_of


class Whence:
    """The flows of a plan that passed its check, to be asked about. O(size of the plan and of all that it runs).

    Args:
        plan: The plan.
        signatures: The tools, as they are trusted now.
        plans: Saved plans by name or digest.
    """

    def __init__(
        self, plan: Plan, signatures: Signatures | Iterable[Signature], plans: SavedPlans | None = None
    ) -> None:
        self._survey = survey_of(bodies_of(Draft(plan), plan, plans), toolbox(signatures))

    def of(self, positions: Sequence[int], argument: str) -> tuple[str, ...]:
        """Return the paths of the steps that lead to an argument, the untrusted source first; empty: none is known.

        Args:
            positions: Of the step in its body, after those of the `plan` steps that run this body, outermost first.
            argument: Of a tool; of an agent's calls all are as untrusted as its goal and its tools.
        """
        numbers = [0]
        for position in positions[:-1]:
            numbers.append(self._survey.bodies.every[numbers[-1]].calls[position])
        hops: list[str] = []
        for depth in reversed(range(len(positions))):
            labels, position = self._survey.flows[numbers[depth]].labels, positions[depth]
            prefix = self._prefix(numbers, positions[:depth])
            templates = list(_templates(labels, position, argument))
            label = labels.of(templates[0], position) if templates else CLEAN
            if label & UNTRUSTED or isinstance(labels.body.steps[position], AgentStep):
                known = labels.flow(labels.origin(templates))
                return (*(prefix + step for step in known), *hops)
            if depth > 0:
                hops.insert(0, prefix.removesuffix("/"))
                outer = self._survey.flows[numbers[depth - 1]].labels
                argument = _given_by(outer, positions[depth - 1], labels, label)
        return ()

    def _prefix(self, numbers: Sequence[int], positions: Sequence[int]) -> str:
        bodies = self._survey.bodies.every
        return "".join(
            f"{bodies[number].steps[at].id}/" for number, at in zip(numbers, positions, strict=False)
        )


def _templates(labels: Labels, position: int, argument: str) -> Iterator[Template]:
    """Yield the templates through which data comes to an argument, the likeliest first."""
    step = labels.body.steps[position]
    if isinstance(step, ToolStep | PlanStep) and argument in step.args:
        yield template_of("", step.args[argument])
    if "for_each" in step.templates:
        yield step.templates["for_each"]
    yield from step.templates.values()


def _given_by(outer: Labels, position: int, inner: Labels, label: int) -> str:
    """Return the input through which a caller's untrusted data has this label in the plan that it runs."""
    step = outer.body.steps[position]
    given = [name for name in getattr(step, "args", ()) if label & inner.bits.get(name, CLEAN)]
    return max(given, key=lambda name: outer.of_argument(position, name) & UNTRUSTED, default="")
