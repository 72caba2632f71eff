"""The running parts of a plan: frames, nodes, items and turns.

    Frame   one running instance of a plan: the root, or a sub-plan below a turn
    Node    one step of a frame
    Item    one run of a node's action: the whole step, or one item of a `for_each`
    Turn    one iteration of an item; the leaf that calls something, or holds an inner frame

A step that runs once is its own item, and an item that is not repeated its own turn: so most steps are one cell. What most cells never
have stays with the class, as a default, which makes them cheap to build.

Plain state that the machine moves; nothing here decides anything. Paths are made here and nowhere else: `step`,
`step[3]` (item), `step#2` (iteration), `outer/inner`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NewType, TypeAlias

from ..plans.program import CallTool, Program, StepCode
from ..plans.values import Json
from .ledger import Ledger
from .policy import MODEL_POLICY, CallPolicy
from .sealed import Sealed, Values
from .states import Reason, State

if TYPE_CHECKING:
    from .agency import Agency

StepPath = NewType("StepPath", str)
Order: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed.

    Attributes:
        took_effect: Whether it is a write that is done: only its result was refused.
    """

    code: str
    message: str
    temporary: bool = False
    took_effect: bool = False


INNER_FAILED: Final = Failure("inner-failed", "a step of the inner plan failed")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person decided about a call."""

    what: str
    by: str = ""
    reason: str = ""
    edit: Sealed | None = None

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON, without what is not said."""
        said: dict[str, Json] = {"decision": self.what, "by": self.by, "reason": self.reason}
        edit: dict[str, Json] = {} if self.edit is None else {"args": self.edit.value}
        return {name: value for name, value in said.items() if value} | edit


class Turn:
    """One iteration of an item: a call, a computed value, or an inner frame.

    Attributes:
        frames: The inner frame of a sub-plan; of an agent one for each of its steps, in order.
        agency: What an agent has done so far.
        call: Sealed arguments or request, until the call has ended.
        is_call: Whether it calls something, rather than computing a value or holding inner steps.
        attempts: Calls started so far.
        failed: Calls so far that failed, which is what retries are counted by: a call that a crash cut off is none of them.
        lost: Calls so far whose outcome stayed unknown.
        is_cut_off: Whether the process died in the last call, so that another call uses budget again.
        is_ruled: Whether it has been decided whether a person is needed.
        is_approved: Whether a person has allowed the call.
        is_ahead: Whether a person was asked about the call before its item's turn in an ordered `for_each`.
    """

    path: StepPath
    item: Item
    iteration: int = 0
    state: State = State.PENDING
    reason: Reason | None = None
    output: Sealed | None = None
    failure: Failure | None = None
    frames: Sequence[Frame] = ()
    agency: Agency | None = None
    verdict: Verdict | None = None
    call: Sealed | None = None
    is_call: bool = False
    attempts: int = 0
    failed: int = 0
    lost: int = 0
    is_cut_off: bool = False
    pause_s: float | None = None
    is_ruled: bool = False
    is_approved: bool = False
    is_ahead: bool = False
    reused: bool = False
    usage: Mapping[str, Json] | None = None
    started: float | None = None
    finished: float | None = None

    def __init__(self, path: StepPath, item: Item, iteration: int) -> None:
        self.path = path
        self.item = item
        self.iteration = iteration

    @property
    def is_leaf(self) -> bool:
        """Whether the turn itself calls or computes, rather than holding inner steps."""
        return not self.frames and self.agency is None

    @property
    def order(self) -> Order:
        """Where it stands in the plan: calls that become ready together start in this order."""
        item = self.item
        frame = item.node.frame
        return (*frame.order, item.node.code.position, item.index or 0, self.iteration)


class Item(Turn):
    """One run of a node's action: with `for_each` one item, else the whole step.

    Attributes:
        is_replaced: Whether it failed, and the value of its `on_error` stands for it.
    """

    node: Node
    index: int | None = None
    value: Json = None
    is_replaced: bool = False
    turns: Sequence[Turn] = ()

    def __init__(self, path: StepPath, node: Node, index: int, value: Json) -> None:
        self.path = path
        self.item = self
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
        self.frame = frame
        self.code = code
        self.policy = policy
        self.pending = pending
        self.pending_when = pending_when

    @property
    def is_plain(self) -> bool:
        """Whether it is one cell: it has no items, iterations or inner steps of their own."""
        return self.code.for_each is None and self.code.repeat is None and not self.frames


def policies_of(program: Program, policies: Mapping[str, CallPolicy]) -> Sequence[CallPolicy]:
    """Return how the calls of each step are treated; `MODEL_POLICY` where it calls no tool."""
    return [
        policies[step.action.tool] if isinstance(step.action, CallTool) else MODEL_POLICY
        for step in program.steps
    ]


class Frame:
    """One running instance of a plan.

    Attributes:
        policies: How the calls of each step are treated.
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
        owner: Turn | None = None,
    ) -> None:
        self.program = program
        self.policies = policies
        self.prefix = prefix
        self.owner = owner
        self.order: Order = owner.order if owner else ()
        self.ledger = Ledger(program)
        self.scope = Values({"inputs": dict(inputs)})
        self.open_nodes = len(program.steps)
        self.is_well = True
        waits = program.waits
        self.nodes = [
            Node(StepPath(prefix + code.id), self, code, policy, pending, pending_when)
            for code, policy, pending, pending_when in zip(
                program.steps, policies, waits.pending, waits.pending_when, strict=True
            )
        ]


def add_item(node: Node, index: int, value: Json) -> Item:
    """Return one item of a step, which keeps it among its items."""
    return Item(StepPath(f"{node.path}[{index}]"), node, index, value)


def add_turn(item: Item) -> Turn:
    """Append the next iteration of an item; one that is not repeated is its own."""
    if item.node.code.repeat is None:
        item.turns = (item,)
        return item
    turn = Turn(StepPath(f"{item.path}#{len(item.turns)}"), item, len(item.turns))
    if isinstance(item.turns, list):
        item.turns.append(turn)
    else:
        item.turns = [turn]
    return turn


def first_turn_of(item: Item) -> StepPath:
    """Return the path of the first iteration of an item that is repeated."""
    return StepPath(f"{item.path}#0")


def sample_of(turn: Turn) -> tuple[int, ...]:
    """Return which one of several equal questions a leaf asks: item index and iteration, of the items around a sub-plan too."""
    found: tuple[int, ...] = (turn.item.index or 0, turn.iteration)
    around = turn.item.node.frame.owner
    while around is not None:
        found = (around.item.index or 0, around.iteration, *found)
        around = around.item.node.frame.owner
    while len(found) > 2 and found[:2] == (
        0,
        0,
    ):  # a sub-plan that is no item asks what a plan by itself asks
        found = found[2:]
    return found


def is_bad(cell: Node | Item | Turn, soft: frozenset[Reason]) -> bool:
    """Whether it ended in a way that blocks later effects: failed, refused, stopped, or skipped because of such."""
    match cell.state:
        case State.FAILED | State.CANCELLED:
            return True
        case State.SKIPPED:
            return cell.reason not in soft
        case _:
            return False


def is_asked(turn: Turn) -> bool:
    """Whether the turn waits for a person to allow its call."""
    return turn.state is State.WAITING and turn.reason is Reason.APPROVAL


def is_decided(turn: Turn) -> bool:
    """Whether a person has allowed the turn's call and the call has not been made yet."""
    return turn.state is State.READY and turn.verdict is not None


def undecided_attempt(turn: Turn) -> int | None:
    """Return the attempt, counted from 1, that a person has to decide about; `None`: no decision is due.

    Before a call this is the next attempt; after a call of unknown outcome it is the last attempt.
    """
    if is_asked(turn):
        return turn.attempts + 1
    return turn.attempts if turn.state is State.INDETERMINATE else None
