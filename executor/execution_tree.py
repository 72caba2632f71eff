"""The execution tree of a run: its frames, nodes, items and iterations, what their formulas see, and the digest of a finished run.

    Frame      one running instance of a plan: the root, or a sub-plan below an iteration
    Node       one step of a frame
    Item       one run of a node's action: the whole step, or one item of a `for_each`
    Iteration  one round of an item; the leaf that calls a tool or a model, or holds an inner frame

A step that runs once is its own item, and an item that is not repeated is its own iteration, so that most steps are one object.

The tree is plain state: the machine moves it, and nothing here decides about a move. Paths are made here and nowhere else: `step`,
`step[3]` (item), `step#2` (iteration), `outer/inner`. This module does not know events, commands, tools or time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from itertools import chain
from typing import TYPE_CHECKING, Final, NewType, TypeAlias, cast

from ..lazy_imports import late_pattern
from ..plans.expressions.data_spans import NO_DATA, PromptData, Span, data_indices
from ..plans.expressions.formula import Formula
from ..plans.expressions.operators import kind_of
from ..plans.immutable import immutable
from ..plans.program.program import (
    ENDORSED,
    Action,
    AskAgent,
    AskModel,
    AskPerson,
    CallTool,
    Program,
    StepCode,
)
from ..plans.reports.errors import SKIPPED, EvaluationError, LocalProblem, RefersToSkipped, Skipped
from ..plans.types.integers import with_integers
from ..plans.types.validate import value_problems
from ..plans.values import Json, digest_of_pieces, shared_copy, spelled_in_pieces
from .canonical_value import CanonicalValue, Scope
from .ledger import Ledger
from .policy import MODEL_POLICY, CallPolicy, endorse_policy
from .states import PENDING, Reason, State

if TYPE_CHECKING:
    from .loops import AgentLoop, PlanningLoop


StepPath = NewType("StepPath", str)
Order: TypeAlias = tuple[int, ...]


@immutable
class Failure:
    """Why something failed.

    Attributes:
        took_effect: Whether it is a write that is done: only its result was refused.
        frames: The last frames of the error in the tool's own code; empty if nothing is known of them.
    """

    code: str
    message: str
    temporary: bool = False
    took_effect: bool = False
    frames: str = field(default="", compare=False)


@immutable
class RunWarning:
    """What went other than declared in a run and failed nothing.

    Attributes:
        step: Path of the leaf; empty: it is about the run's output, or about the run.
        code: `result-mismatch`, `absent-field`, `loop-blocked`, `unserved-queue` or `unfit-worker`.
    """

    step: str
    code: str
    message: str


BLOCKED_HINT: Final = (
    "write it as a plain `def`, which runs in a thread, await what takes long, or declare isolation='process'"
)
"""What to do about a tool that blocks the event loop."""


def unserved_hint(queue: str) -> str:
    """Return what to do about a queue without workers."""
    return f"start `firmplan worker --queue {queue}` where its tools can run; the call then begins by itself"


INNER_FAILED: Final = Failure("inner-failed", "a step of the inner plan failed")


@immutable
class PersonDecision:
    """The decision of a person about a call."""

    what: str
    by: str = ""
    reason: str = ""
    edit: CanonicalValue | None = None

    def to_dict(self) -> dict[str, Json]:
        """Return the decision as JSON, without empty fields."""
        said: dict[str, Json] = {"decision": self.what, "by": self.by, "reason": self.reason}
        edit: dict[str, Json] = {} if self.edit is None else {"args": self.edit.value}
        return {name: value for name, value in said.items() if value} | edit


# Fields that most objects of the tree never set are class attributes with a default: a plan of 100,000 steps makes 100,000 nodes, and each
# assignment in `__init__` would cost time and memory for all of them. Therefore these classes are not dataclasses, and they have no `__slots__`,
# which would not allow defaults. `state` is set all the same: it is read at each station, and a default is the slower to read.
class Iteration:
    """One round of an item: a call, a computed value, or an inner frame.

    Attributes:
        data: The parts of the request to a model that are data; they are kept when the call has ended.
        frames: The inner frame of a sub-plan; for an agent or a `plan_for` step, one frame for each step of its loop, in order.
        agent_loop: The progress of an agent or of a `plan_for` step; `None`: the iteration is neither.
        call: The arguments or the request, until the call has ended.
        is_call: Whether the iteration makes a call, instead of computing a value or holding inner steps.
        attempts: Calls started so far.
        failed: Failed calls so far, by which retries are counted; a call that a crash cut off is not counted.
        lost: Calls of unknown outcome so far.
        is_cut_off: Whether the process died during the last call, so that another call uses budget again.
        is_ruled: Whether the question if the call needs a person has been answered.
        is_approved: Whether a person has allowed the call.
        voided: How often a person was asked anew because the tool had changed.
        why_anew: Why that was so the last time, as a sentence; empty: it never was.
        asked: When a person was asked, in Unix seconds; `None`: nobody was.
        until: When its wait ends: that of a `wait` step, or the time in which a person can decide. `None`: it waits for ever, or not at all.
        question: What the last call wants to know of a person (`CallFailed.question`), until that is answered.
        answers: What earlier calls wanted to know, each with the answer: `[resume, answer]`.
        is_ahead: Whether a person was asked about the call before the earlier items of an ordered `for_each` have ended.
    """

    path: StepPath
    item: Item
    number: int = 0
    state: State
    reason: Reason | None = None
    output: CanonicalValue | None = None
    failure: Failure | None = None
    frames: Sequence[Frame] = ()
    agent_loop: AgentLoop | PlanningLoop | None = None
    decision: PersonDecision | None = None
    call: CanonicalValue | None = None
    data: PromptData = NO_DATA
    is_call: bool = False
    attempts: int = 0
    failed: int = 0
    lost: int = 0
    is_cut_off: bool = False
    pause_s: float | None = None
    is_ruled: bool = False
    is_approved: bool = False
    is_ahead: bool = False
    question: CanonicalValue | None = None
    answers: tuple[Json, ...] = ()
    voided: int = 0
    why_anew: str = ""
    asked: float | None = None
    until: float | None = None
    reused: bool = False
    usage: Mapping[str, Json] | None = None
    started: float | None = None
    finished: float | None = None

    def __init__(self, path: StepPath, item: Item, number: int) -> None:
        self.path = path
        self.item = item
        self.state = PENDING
        self.number = number

    @property
    def is_leaf(self) -> bool:
        """Whether the iteration itself calls or computes, instead of holding inner steps."""
        return not self.frames and self.agent_loop is None

    @property
    def order(self) -> Order:
        """The place of the iteration in the plan: calls that become ready together start in this order."""
        item = self.item
        frame = item.node.frame
        return (*frame.order, item.node.code.position, item.index or 0, self.number)


class Item(Iteration):
    """One run of a node's action: with `for_each` one item, else the whole step.

    Attributes:
        is_replaced: Whether it failed, and the value of its `on_error` stands for it.
    """

    node: Node
    index: int | None = None
    value: Json = None
    is_replaced: bool = False
    iterations: Sequence[Iteration] = ()

    def __init__(self, path: StepPath, node: Node, index: int, value: Json) -> None:
        self.path = path
        self.item = self
        self.state = PENDING
        self.node = node
        self.index = index
        self.value = value


class Node(Item):
    """One step of a frame.

    Attributes:
        policy: How its calls are treated.
        pending: Inputs and `after` steps that have not ended.
        pending_when: The part of them that `when` refers to.
        is_due: Whether it is its own only item, and that is about to start.
        open_items: Items of a list that have not ended.
    """

    frame: Frame
    code: StepCode
    policy: CallPolicy
    pending: int
    pending_when: int
    is_switched: bool = False
    is_due: bool = False
    items: Sequence[Item] = ()
    open_items: int = 0

    def __init__(
        self,
        path: StepPath,
        frame: Frame,
        code: StepCode,
        policy: CallPolicy,
        pending: int,
        pending_when: int,
    ) -> None:
        self.path = path
        self.item = self
        self.node = self
        self.state = PENDING
        self.frame = frame
        self.code = code
        self.policy = policy
        self.pending = pending
        self.pending_when = pending_when

    @property
    def is_plain(self) -> bool:
        """Whether the node is its only item and that item's only iteration, without inner steps."""
        return self.code.for_each is None and self.code.repeat is None and not self.frames


def policies_of(program: Program, policies: Mapping[str, CallPolicy]) -> Sequence[CallPolicy]:
    """Return how the calls of each step are treated."""
    return [
        policies[step.action.tool] if type(step.action) is CallTool else _policy_of(step.action, policies)
        for step in program.steps
    ]


def _policy_of(action: Action, policies: Mapping[str, CallPolicy]) -> CallPolicy:
    match action:
        case CallTool(tool=tool) | AskAgent(tool=tool):
            return policies[tool]
        case AskPerson(by=by):
            return endorse_policy(by)
        case _:
            return MODEL_POLICY


class Frame:
    """One running instance of a plan.

    Attributes:
        policies: How the calls of each step are treated.
        ledger: The effect order; `None`: no step has one.
        scope: What its formulas see.
        is_well: Whether every step that has ended so far has succeeded.
    """

    __slots__ = (
        "is_well",
        "ledger",
        "nodes",
        "open_nodes",
        "order",
        "owner",
        "policies",
        "prefix",
        "program",
        "scope",
    )

    def __init__(
        self,
        program: Program,
        policies: Sequence[CallPolicy],
        inputs: Mapping[str, Json],
        *,
        prefix: str = "",
        owner: Iteration | None = None,
    ) -> None:
        self.program = program
        self.policies = policies
        self.prefix = prefix
        self.owner = owner
        self.order: Order = owner.order if owner else ()
        self.ledger = Ledger(program) if program.waits.has_effects else None
        self.scope = Scope({"inputs": dict(inputs)})
        self.open_nodes = len(program.steps)
        self.is_well = True
        waits = program.waits
        self.nodes = [
            # A path is a `NewType`, whose call would cost as much as half of a node.
            Node(prefix + code.id, self, code, policy, pending, pending_when)  # type: ignore[arg-type]
            for code, policy, pending, pending_when in zip(
                program.steps, policies, waits.pending, waits.pending_when, strict=True
            )
        ]

    def dissolve(self) -> None:
        """Break the circles of references in the tree below, which is of no use after that. O(its parts)."""
        # Every part of the tree refers to itself or to what it is a part of. Left to the garbage collector, the trees of small runs would stay:
        # a run's start freezes them (`heap_frozen`), and for objects that were thawed Python makes no full collection.
        for node in self.nodes:
            if node.is_plain:  # nothing but its own names lead back to it
                del node.item, node.node
                node.items = node.iterations = ()
                continue
            for item in node.items or (node,):
                for iteration in item.iterations:
                    for inner in iteration.frames:
                        inner.dissolve()
                    iteration.__dict__.clear()
                item.__dict__.clear()
            node.__dict__.clear()
        self.nodes.clear()


def add_item(node: Node, index: int, value: Json) -> Item:
    """Return one item of a step, which keeps it among its items."""
    return Item(StepPath(f"{node.path}[{index}]"), node, index, value)


def add_iteration(item: Item) -> Iteration:
    """Append the next iteration of an item; one that is not repeated is its own."""
    if item.node.code.repeat is None:
        item.iterations = (item,)
        return item
    iteration = Iteration(StepPath(f"{item.path}#{len(item.iterations)}"), item, len(item.iterations))
    if isinstance(item.iterations, list):
        item.iterations.append(iteration)
    else:
        item.iterations = [iteration]
    return iteration


def first_iteration_of(item: Item) -> StepPath:
    """Return the path of the first iteration of an item that is repeated."""
    return StepPath(f"{item.path}#0")


def sample_of(iteration: Iteration) -> tuple[int, ...]:
    """Return the number of the sample that a leaf asks for: item index and iteration, also of the items around a sub-plan."""
    found: tuple[int, ...] = (iteration.item.index or 0, iteration.number)
    around = iteration.item.node.frame.owner
    while around is not None:
        found = (around.item.index or 0, around.number, *found)
        around = around.item.node.frame.owner
    # A sub-plan that is not an item asks for the same samples as the plan by itself, so that results are reused between the two.
    while len(found) > 2 and found[:2] == (0, 0):
        found = found[2:]
    return found


def is_bad(part: Node | Item | Iteration, soft: frozenset[Reason]) -> bool:
    """Whether a part ended in a way that blocks later effects: failed, refused, stopped, or skipped for such a reason."""
    match part.state:
        case State.FAILED | State.CANCELLED:
            return True
        case State.SKIPPED:
            return part.reason not in soft
        case _:
            return False


def is_asked(iteration: Iteration) -> bool:
    """Whether the iteration waits for a person to allow its call, or to answer its question."""
    return iteration.state is State.WAITING and iteration.reason in (Reason.APPROVAL, Reason.QUESTION)


def is_question(iteration: Iteration) -> bool:
    """Whether the iteration waits for the answer to its question."""
    return iteration.state is State.WAITING and iteration.reason is Reason.QUESTION


def shown_of(iteration: Iteration) -> CanonicalValue | None:
    """Return what a person decides about: the question of a call, else the arguments of the call or of the question."""
    return iteration.question or iteration.call


def answer_schema(iteration: Iteration) -> Mapping[str, Json]:
    """Return the JSON Schema of the answer to the question that waits."""
    action = iteration.item.node.code.action
    if iteration.question is not None:
        return cast("Mapping[str, Json]", cast("dict[str, Json]", iteration.question.value)["returns"])
    return action.returns if isinstance(action, AskPerson) else {}


def is_timed(iteration: Iteration) -> bool:
    """Whether the iteration waits for a time."""
    return iteration.state is State.WAITING and iteration.reason is Reason.TIMER


def expiry_of(iteration: Iteration) -> float | None:
    """Return when a question or an approval that waits expires, in Unix seconds; `None`: never."""
    return iteration.until if is_asked(iteration) else None


def is_decided(iteration: Iteration) -> bool:
    """Whether a person has allowed the call of the iteration and the call has not been made yet."""
    return iteration.state is State.READY and iteration.decision is not None


def undecided_attempt(iteration: Iteration) -> int | None:
    """Return the attempt, counted from 1, that a person has to decide about; `None`: no decision is due.

    Before a call this is the next attempt; after a call of unknown outcome it is the last attempt. A request that was voided counts as an attempt,
    because one decision stands for an attempt, and the person decides anew.
    """
    if is_asked(iteration):
        return iteration.attempts + 1 + iteration.voided
    return iteration.attempts if iteration.state is State.INDETERMINATE else None


# --- evaluation of formulas
#
# A formula sees the values of the steps of its frame that have ended, and the names of its own item (`item`, `index`, `prev`). The machine
# decides which failure an evaluation error becomes.


class ItemScope:
    """The scope of a frame with the names of an item, for the length of one evaluation.

    The names are put into the dictionary of the frame and removed again, because a copy for every call would cost time in the size of the plan.
    Scopes may be nested: a `set` that repeats evaluates its `until` while its value is being made.
    """

    __slots__ = ("_extra", "_hidden", "_item", "_scope")

    def __init__(self, item: Item, made: Iteration | None = None) -> None:
        self._item = item
        self._scope = item.node.frame.scope
        extra: dict[str, Json] = {}
        if item.index is not None:
            extra["item"], extra["index"] = item.value, item.index
        now = made.number if made is not None else len(item.iterations) - 1
        previous = item.iterations[now - 1] if now > 0 else None
        if previous is not None and previous.output is not None:
            extra["prev"] = previous.output.value
        if made is not None and made.output is not None:
            extra[item.node.code.id] = made.output.value
        self._extra = extra
        self._hidden = {name: self._scope[name] for name in extra if name in self._scope}

    def __enter__(self) -> Scope:
        self._scope.update(self._extra)
        return self._scope

    def __exit__(self, *_: object) -> None:
        for name in self._extra:
            del self._scope[name]
        self._scope.update(self._hidden)


def canonical_value_of(formula: Formula, scope: Scope) -> CanonicalValue:
    """Return a template's value; a large value shares memory with existing values. Raises: EvaluationError, RefersToSkipped, NotJson."""
    data, value = formula.serialize(scope, scope.canonical)
    copy = None if value is None else shared_copy(value, data)
    if copy is None:
        return CanonicalValue(data)
    made = CanonicalValue.known(data, copy)
    known = [scope.canonical[name] for name in sorted(formula.names) if name in scope.canonical]
    made.texts = [each for each in known if each.is_large_text]
    return made


def output_of(frame: Frame, absent: list[RunWarning] | None = None) -> CanonicalValue:
    """Return the output of a plan whose steps have all ended; null where it refers to a skipped step.

    Args:
        frame: The frame of the plan.
        absent: Gets a warning for each text of the output that asks for a field which is not there: that text is null. `None`: it is an error.

    Raises:
        EvaluationError: The output has no value, or it does not fit the plan's `returns`.
    """
    returns = frame.program.returns
    found = _any_output(frame, absent)
    return found if returns is None else _fitting(found, returns)


def _fitting(output: CanonicalValue, returns: Mapping[str, Json]) -> CanonicalValue:
    """Return an output as the plan declares it. Raises: EvaluationError: it does not fit."""
    value = with_integers(output.value, returns)
    if faults := value_problems(value, returns):
        told = "; ".join(
            f"{fault.inner.lstrip('.')}: {fault.message}" if fault.inner else fault.message
            for fault in faults
        )
        raise EvaluationError("bad-output", f"the output does not fit the schema in `returns`: {told}")
    return output if value is output.value else CanonicalValue.of(value)


def _any_output(frame: Frame, absent: list[RunWarning] | None) -> CanonicalValue:
    formula = frame.program.output
    if formula is None:
        return CanonicalValue(b"null")
    known = frame.scope.canonical.get(formula.whole or "")
    if known is not None:
        return known  # the value of a step, as it is
    if any(frame.scope[step] is SKIPPED for step in formula.strict):
        return CanonicalValue(b"null")
    try:
        return CanonicalValue.of(_output_value(formula, frame.scope, absent))
    except RefersToSkipped:
        return CanonicalValue(b"null")


def _output_value(formula: Formula, scope: Scope, absent: list[RunWarning] | None) -> Json:
    try:
        return formula.evaluate(scope)
    except EvaluationError as fault:
        if absent is None or not fault.is_absent:
            raise
    value, faults = formula.evaluate_present(scope)
    absent += [
        RunWarning("", "absent-field", f"the output at ${inner} is null: {fault}") for inner, fault in faults
    ]
    return value


def mismatch_kind(tool: str, sentence: str) -> str:
    """Return what two sentences about results of a tool have in common if they tell of the same mismatch: the value, and the place in a list, differ."""
    return f"{tool} {_INDEX.sub('[]', sentence.partition(', found ')[0])}"


_INDEX: Final = late_pattern(r"\[\d+\]")


def request_of(ask: AskModel, scope: Mapping[str, Json | Skipped]) -> tuple[Json, PromptData]:
    """Return a prompt, rendered: {prompt, system, examples}; and the parts of it that are data. Raises: EvaluationError, RefersToSkipped."""
    prompt, spans = ask.prompt.evaluate_with_spans(scope)
    request: dict[str, Json] = {"prompt": prompt}
    in_system: tuple[Span, ...] = ()
    examples: tuple[int, ...] = ()
    if ask.system is not None:
        request["system"], in_system = ask.system.evaluate_with_spans(scope)
    if ask.examples is not None:
        listed = request["examples"] = ask.examples.evaluate(scope)
        examples = data_indices(ask.examples.tree, len(listed) if isinstance(listed, list) else 0)
    return request, ask.data or PromptData(spans, in_system, examples)


def shown_to_person(action: AskPerson, call: CanonicalValue) -> CanonicalValue:
    """Return what a person is shown: a question, or a value to endorse. Raises: EvaluationError: the value does not fit the step's schema."""
    if action.is_question:
        return call
    given = cast("dict[str, Json]", call.value)
    if faults := value_problems(given[ENDORSED], action.returns):
        raise EvaluationError(
            "bad-value", f"the value does not fit the schema in `returns`: {told_places(faults)}"
        )
    return call


def told_places(faults: Iterable[LocalProblem]) -> str:
    """Return the problems of a value as one text, each with its place. Journals hold the text, so it never changes."""
    return "; ".join(f"{fault.inner}: {fault.message}" if fault.inner else fault.message for fault in faults)


def evaluate_bool(formula: Formula, scope: Mapping[str, Json | Skipped], where: str) -> bool:
    """Return a condition's value.

    Args:
        formula: The condition.
        scope: What it sees.
        where: The key that has it, for the message: `when`, `until`.

    Raises:
        EvaluationError: It has no value, or one that is no boolean.
        RefersToSkipped: It refers to a skipped step.
    """
    value = formula.evaluate(scope)
    if not isinstance(value, bool):
        raise EvaluationError("not-a-bool", f"`{where}` needs a boolean, found {kind_of(value)}")
    return value


def failure_of(fault: Exception) -> Failure:
    """Return an evaluation's fault as the failure of a step."""
    return Failure(getattr(fault, "code", "bad-value"), str(fault))


# --- the digest of a run
#
# The digest covers the plan's digest, the inputs, and the status and output of every step in plan order. It covers no time, no process, no
# attempt and no reuse: two runs with equal digests had equal outcomes, however they got there.


DIGEST_FORMAT: Final = 1


def walk(frame: Frame) -> Iterator[Iteration]:
    """Yield each step of a frame, in plan order, followed by its items, iterations and inner steps."""
    for node in frame.nodes:
        yield node
        iterations = node.iterations
        if len(iterations) == 1 and iterations[0] is node and not node.frames:  # as `is_plain`, of most steps
            continue
        for item in node.items:
            if item is not node:
                yield item
            for iteration in item.iterations:
                if iteration is not item:
                    yield iteration
                for inner in iteration.frames:
                    yield from walk(inner)


def run_digest(root: Frame, inputs: Mapping[str, Json]) -> str:
    """Return the digest of a finished run: over `[format, plan digest, inputs, [[path, status, output digest], ..]]`, canonical."""
    # A path holds no character that JSON escapes.
    steps = ",".join(
        [
            f'["{part.path}","{part.state}",null]'
            if (output := part.output) is None
            else f'["{part.path}","{part.state}","{output.digest}"]'
            for part in walk(root)
        ]
    )
    before = b'[%d,"%b",' % (DIGEST_FORMAT, root.program.plan.digest.encode())
    after = b",[%b]]" % steps.encode()
    # Hash in pieces: the inputs may be large, and one copy is in memory already.
    return digest_of_pieces(chain([before], spelled_in_pieces(dict(inputs)), [after]))
