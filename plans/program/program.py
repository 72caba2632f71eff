"""A plan ready to run: every template compiled, every wait known.

The compiler (`compile.py`) makes a `Program` from a plan that passed its check, and the executor's machine reads
nothing else. A program is immutable and knows no run: no values, no status, no clock.

A step waits for three reasons. `needs` and `after` are positions in `Program.steps`. Effect order has no edges: `Touch` states its rule,
and the machine keeps, for each track, the steps that touch it in program order. This is exact across skipped steps, where
edges would not be, and linear in the size of the plan, where edges between all writes of one resource would be quadratic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from ..expressions.data_spans import NO_DATA, PromptData, Span
from ..immutable import immutable
from ..plan import PERSON
from ..values import Json

if TYPE_CHECKING:
    from ..expressions.formula import Formula
    from ..plan import Plan
    from ..signature import Signature


BRIEF_STEPS_MAX: Final = 50
"""The most steps of a plan whose runs are known to be short."""

QUESTION: Final = "question"
"""The name under which the text of an `ask_person` step is shown."""

ENDORSED: Final = "value"
"""The name under which the value of an `endorse` step is shown, and may be edited."""

WORLD: Final = "world"
"""The resource that conflicts with every other."""

Track: TypeAlias = tuple[str | None, bool]
"""A resource (`None`: all resources together), and whether the track holds its writes or its reads."""


@immutable
class Touch:
    """A read or a write of one resource by a step; the rule of effect order, stated here and nowhere else.

    On one resource, in program order, a write waits for every earlier read and write, and a read waits for every earlier write.
    A later touch waits for an earlier one exactly if it awaits a track that the earlier one is on. The longest chain of a check, pictures,
    the machine's ledger, the cone of a fork and the display of blocked steps all ask these two properties.
    """

    resource: str
    writes: bool

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks that the touch is on."""
        return (self.resource, self.writes), (None, self.writes)

    @property
    def awaited(self) -> tuple[Track, ...]:
        """The tracks whose earlier touches this one waits for."""
        # The track of `world` is awaited by every touch; a touch of `world` awaits the tracks of all resources, its own included.
        resources = (None,) if self.resource == WORLD else (self.resource, WORLD)
        writes = [(resource, True) for resource in resources]
        return (*writes, *((resource, False) for resource in resources)) if self.writes else tuple(writes)


@immutable
class CallTool:
    """Call the tool `tool` with `args` (an object); `secrets` maps arguments to the secret that stands there."""

    tool: str
    args: Formula
    secrets: Mapping[str, str]


@immutable
class AskModel:
    """Ask one small prompt.

    Attributes:
        returns: Self-contained JSON Schema of the answer.
        data: The parts of a constant prompt that are data all the same: those of a turn of an agent, whose text is put together in the run.
        turns: Of a turn of an agent: the same as the prompt says, in parts, for models that take calls of tools in a form of their own.
    """

    prompt: Formula
    system: Formula | None
    examples: Formula | None
    returns: Mapping[str, Json]
    model: str = "default"
    temperature: float | None = None
    max_tokens: int | None = None
    guard: tuple[Json, ...] = ()
    data: PromptData = NO_DATA
    turns: AgentTurns | None = None


@immutable
class AgentCall:
    """One call of an agent and its outcome.

    Attributes:
        outcome: The result or the error, as the model sees it.
        name: The word for the outcome in marks; empty: the outcome is firmplan's own words.
    """

    tool: str
    args: Mapping[str, Json]
    outcome: str
    name: str = ""


@immutable
class AgentTurn:
    """One turn of an agent that is over: the calls that its model chose, or what firmplan said of an answer that chose nothing."""

    reasoning: str = ""
    calls: tuple[AgentCall, ...] = ()
    note: str = ""


@immutable
class AgentTurns:
    """All that the model of an agent is told in a turn.

    Attributes:
        goal_data: The spans of the goal that are data.
        left_out: How many of the first calls are not among the turns.
    """

    goal: str
    goal_data: tuple[Span, ...]
    tools: tuple[Signature, ...]
    returns: Mapping[str, Json]
    turns: tuple[AgentTurn, ...] = ()
    left_out: int = 0


@immutable
class SetValue:
    """Compute a value; no call."""

    value: Formula


@immutable
class RunPlan:
    """Run an inner program with `args` (an object) as its inputs."""

    name: str
    program: Program
    args: Formula


@immutable
class RunAgent:
    """Let a model call tools, turn after turn.

    Attributes:
        instructions: The system prompt of every turn.
        instructions_data: The spans of it that are data.
        reply: JSON Schema of the model's answer in one turn.
        is_tainted: Its goal or one of its tools is untrusted, and so is everything that it passes to a tool.
        is_controlled: Untrusted data decides whether, or how often, it runs.
        signatures: Its tools, for models that are offered tools in a form of their own.
        call: Of a call of an `@agent` tool: the call. Its tool makes the prompt of each turn, so `goal`, `returns` and `reply` say nothing.
        calls_max: The most calls of tools; `None`: as many as turns.
    """

    goal: Formula
    tools: tuple[str, ...]
    returns: Mapping[str, Json]
    steps_max: int
    budget: Mapping[str, Json]
    instructions: str
    reply: Mapping[str, Json]
    is_tainted: bool = False
    is_controlled: bool = False
    instructions_data: tuple[Span, ...] = ()
    signatures: tuple[Signature, ...] = ()
    call: CallTool | None = None
    calls_max: int | None = None


@immutable
class AskAgent:
    """Ask the model of an `@agent` tool what to do next.

    Attributes:
        tool: The tool.
        request: `{"args": .., "turns": ..}`: the arguments of its call, and what came of its turns so far.
        secrets: As of `CallTool`.
        turns: The turns so far.
    """

    tool: str
    request: Json
    secrets: Mapping[str, str]
    turns: AgentTurns


@immutable
class RunPlanned:
    """Have the planner make a sub-plan, and run it.

    Attributes:
        words: What it is to do.
        given: An object: the inputs of the sub-plan, shown to the planner.
        hidden: Names of those that hold untrusted data.
        tools: The tools that its steps may call.
        steps_max: The most steps that it has.
        returns: Self-contained JSON Schema of its output.
        is_tainted: Whoever chose its calls may have seen untrusted data, so everything that it passes to a tool counts as untrusted.
        is_controlled: Untrusted data decides whether, or how often, it runs.
    """

    words: str
    given: Formula
    hidden: tuple[str, ...]
    tools: tuple[str, ...]
    steps_max: int
    returns: Mapping[str, Json]
    is_tainted: bool = False
    is_controlled: bool = False


@immutable
class AskPlanner:
    """Ask the planner for the sub-plan of a `plan_for` step.

    Attributes:
        request: An object: `task given tools max_steps returns`, and `answers` to earlier questions.
        hidden: As in `RunPlanned`.
    """

    request: Json
    hidden: tuple[str, ...] = ()


@immutable
class RunSubPlan:
    """Run the sub-plan of a `plan_for` step with values as its inputs."""

    program: Program
    inputs: Mapping[str, Json]


@immutable
class AskPerson:
    """Have a person give a value, or a person or a policy decide that a value counts as trusted.

    Attributes:
        args: What is shown, like the arguments of a call: `{"question": ..}` of an `ask_person` step, `{"value": ..}` of an `endorse` step.
        returns: Self-contained JSON Schema that the result must fit.
        by: `person`, or the name of a policy.
        is_question: Whether the person gives the value.
        expires_s: How long the decision is waited for; `None`: for ever.
    """

    args: Formula
    returns: Mapping[str, Json]
    by: str = PERSON
    is_question: bool = False
    expires_s: float | None = None


@immutable
class WaitUntil:
    """Wait until a time.

    Attributes:
        given: `{"for": duration}` or `{"until": time}` (`waits.py`).
    """

    given: Formula


@immutable
class FailWith:
    """Fail with a message."""

    message: Formula


Action: TypeAlias = (
    CallTool
    | AskModel
    | SetValue
    | RunPlan
    | RunAgent
    | AskAgent
    | RunPlanned
    | AskPlanner
    | RunSubPlan
    | AskPerson
    | WaitUntil
    | FailWith
)


@immutable
class Fail:
    """A failure fails the step."""


@immutable
class Skip:
    """A failure skips the step, or leaves the item out."""


@immutable
class UseFallback:
    """A value replaces the result of a failed step."""

    value: Formula


OnError: TypeAlias = Fail | Skip | UseFallback


@immutable
class RepeatUntil:
    """Repeat until `until` holds, at most `count_max` times."""

    until: Formula
    count_max: int


@immutable
class StepCode:
    """One step, compiled.

    Attributes:
        position: Index in the plan's list.
        when: A switch, or a filter over items where `when_filters`.
        needs_when: Positions that `when` as a switch refers to: waited for first, so that a false switch skips early.
        needs: Positions that anything in the step refers to (`needs_when` included).
        lenient: The part of `needs` that is referred to only inside `first(..)`.
        after: Positions named in `after`.
        touches: The resources that the step's effects touch, sorted by name.
        sequential: A `for_each` whose body holds a write: item after item.
        tainted: Arguments of a tool that hold data derived from untrusted tools, sorted.
        selected: The part of them that untrusted data selects from trusted lists (`checker.flow.selection`).
        controlled: Whether untrusted data decides if, or how often, the step calls its tool.
        controlled_inside: The same, once the plan runs in which the step is.
        reads_untrusted: Whether its tool may get untrusted data from its resource, where an earlier write of the plan has left it.
        retries: Further calls after a failed one; `None`: as the tool says.
    """

    position: int
    id: str
    action: Action
    when: Formula | None = None
    when_filters: bool = False
    for_each: Formula | None = None
    on_error: OnError = Fail()
    repeat: RepeatUntil | None = None
    retries: int | None = None
    timeout_s: float | None = None
    needs_when: tuple[int, ...] = ()
    needs: tuple[int, ...] = ()
    lenient: frozenset[int] = frozenset()
    after: tuple[int, ...] = ()
    touches: tuple[Touch, ...] = ()
    sequential: bool = False
    tainted: tuple[str, ...] = ()
    selected: tuple[str, ...] = ()
    controlled: bool = False
    controlled_inside: bool = False
    reads_untrusted: bool = False


@immutable
class Waits:
    """Who waits for whom in one program, by position, and what its runs do not need.

    Attributes:
        dependents: For each step: those that wait for it, and whether it is their `when` that does.
        pending: For each step: how many it waits for.
        pending_when: The part of them that its `when` refers to.
        first: The steps to look at when a run begins: nothing is waited for, or not by their `when`.
        has_effects: Whether a step touches a resource, so that runs have an effect order to keep.
        is_brief: Whether runs are known to be short: few steps, each of them one call or one value.
    """

    dependents: tuple[tuple[tuple[int, bool], ...], ...]
    pending: tuple[int, ...]
    pending_when: tuple[int, ...]
    first: tuple[int, ...]
    has_effects: bool
    is_brief: bool

    @classmethod
    def of(cls, steps: Sequence[StepCode]) -> Waits:
        """Return who waits for whom. O(steps and references)."""
        dependents: list[list[tuple[int, bool]]] = [[] for _ in steps]
        inputs = [sorted({*step.needs, *step.needs_when, *step.after}) for step in steps]
        for step, awaited in zip(steps, inputs, strict=True):
            for position in awaited:
                dependents[position].append((step.position, position in step.needs_when))
        return cls(
            dependents=tuple(map(tuple, dependents)),
            pending=tuple(map(len, inputs)),
            pending_when=tuple([len(set(step.needs_when)) if step.needs_when else 0 for step in steps]),
            first=tuple(
                [
                    step.position
                    for step, awaited in zip(steps, inputs, strict=True)
                    if not awaited or (step.when is not None and not step.needs_when)
                ]
            ),
            has_effects=any(step.touches for step in steps),
            is_brief=len(steps) <= BRIEF_STEPS_MAX and all(map(_is_single, steps)),
        )


def _is_single(step: StepCode) -> bool:
    return (
        step.for_each is None
        and step.repeat is None
        and isinstance(step.action, (CallTool, AskModel, SetValue))
    )


@immutable
class Program:
    """A plan ready to run.

    Attributes:
        plan: What it was compiled from.
        steps: In the plan's order.
        order: Positions in program order: the list, each step preceded by its not yet listed dependencies.
        output: The plan's output; `None` gives null.
        returns: Self-contained JSON Schema that the output has to fit; `None`: there is none.
        defaults: Input name -> default, for inputs that have one.
        waits: Who waits for whom.
    """

    plan: Plan
    steps: tuple[StepCode, ...]
    order: tuple[int, ...]
    output: Formula | None
    defaults: Mapping[str, Json]
    waits: Waits
    returns: Mapping[str, Json] | None = None
