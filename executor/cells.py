"""The running parts of a plan: frames, nodes, items and turns.

    Frame   one running instance of a plan: the root, or a sub-plan below a turn
    Node    one step of a frame
    Item    one run of a node's action: the whole step, or one item of a `for_each`
    Turn    one iteration of an item; the leaf that calls something, or holds an inner frame

Plain state that the machine moves; nothing here decides anything. Paths are made here and nowhere else: `step`,
`step[3]` (item), `step#2` (iteration), `outer/inner`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NewType, TypeAlias

from ..plans.expressions.faults import Skipped
from ..plans.program import Program, StepCode
from ..plans.values import Json
from .ledger import Ledger
from .sealed import Sealed
from .states import Reason, State

if TYPE_CHECKING:
    from .agency import Agency

StepPath = NewType("StepPath", str)
Order: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed."""

    code: str
    message: str
    temporary: bool = False


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


@dataclass(slots=True, eq=False)
class Turn:
    """One iteration of an item: a call, a computed value, or an inner frame.

    Attributes:
        frames: The inner frame of a sub-plan; of an agent one for each of its steps, in order.
        agency: What an agent has done so far.
        call: Sealed arguments or request, until the call has ended.
        attempts: Calls started so far.
        failed: Calls so far that failed, which is what retries are counted by: a call that a crash cut off is none of them.
        lost: Calls so far whose outcome stayed unknown.
        is_ruled: Whether it has been decided whether a person is needed.
        is_approved: Whether a person has allowed the call.
    """

    item: Item
    iteration: int
    path: StepPath
    order: Order
    state: State = State.PENDING
    reason: Reason | None = None
    output: Sealed | None = None
    failure: Failure | None = None
    frames: list[Frame] = field(default_factory=list["Frame"])
    agency: Agency | None = None
    verdict: Verdict | None = None
    call: Sealed | None = None
    attempts: int = 0
    failed: int = 0
    lost: int = 0
    pause_s: float | None = None
    is_ruled: bool = False
    is_approved: bool = False
    reused: bool = False
    usage: Mapping[str, Json] | None = None
    started: float | None = None
    finished: float | None = None

    @property
    def is_leaf(self) -> bool:
        """Whether the turn itself calls or computes, rather than holding inner steps."""
        return not self.frames and self.agency is None


@dataclass(slots=True, eq=False)
class Item:
    """One run of a node's action: with `for_each` one item, else the whole step."""

    node: Node
    index: int | None
    value: Json
    path: StepPath
    state: State = State.PENDING
    reason: Reason | None = None
    output: Sealed | None = None
    failure: Failure | None = None
    turns: list[Turn] = field(default_factory=list[Turn])


@dataclass(slots=True, eq=False)
class Node:
    """One step of a frame.

    Attributes:
        pending: Inputs and `after` steps that have not ended.
        pending_when: The part of them that `when` refers to.
        open_items: Items that have not ended.
    """

    frame: Frame
    code: StepCode
    path: StepPath
    pending: int
    pending_when: int
    state: State = State.PENDING
    reason: Reason | None = None
    output: Sealed | None = None
    failure: Failure | None = None
    is_switched: bool = False
    items: list[Item] = field(default_factory=list[Item])
    open_items: int = 0
    started: float | None = None
    finished: float | None = None


class Layout:
    """Who waits for whom in one program; shared by all frames that run it."""

    __slots__ = ("dependents", "pending", "pending_when")

    def __init__(self, program: Program) -> None:
        self.dependents: list[list[tuple[int, bool]]] = [[] for _ in program.steps]
        self.pending: list[int] = []
        self.pending_when: list[int] = []
        for step in program.steps:
            switches = frozenset(step.needs_when)
            inputs = sorted({*step.needs, *step.needs_when, *step.after})
            for position in inputs:
                self.dependents[position].append((step.position, position in switches))
            self.pending.append(len(inputs))
            self.pending_when.append(len(switches))


class Frame:
    """One running instance of a plan."""

    __slots__ = ("layout", "ledger", "nodes", "open_nodes", "order", "owner", "prefix", "program", "scope")

    def __init__(
        self,
        program: Program,
        layout: Layout,
        inputs: Mapping[str, Json],
        *,
        prefix: str = "",
        owner: Turn | None = None,
    ) -> None:
        self.program = program
        self.layout = layout
        self.prefix = prefix
        self.owner = owner
        self.order: Order = owner.order if owner else ()
        self.ledger = Ledger(program)
        self.scope: dict[str, Json | Skipped] = {"inputs": dict(inputs)}
        self.open_nodes = len(program.steps)
        self.nodes = [
            Node(
                self,
                code,
                StepPath(prefix + code.id),
                layout.pending[code.position],
                layout.pending_when[code.position],
            )
            for code in program.steps
        ]


def add_item(node: Node, index: int | None, value: Json = None) -> Item:
    """Append one run of the node's action."""
    path = node.path if index is None else StepPath(f"{node.path}[{index}]")
    item = Item(node, index, value, path)
    node.items.append(item)
    return item


def add_turn(item: Item) -> Turn:
    """Append the next iteration of an item."""
    iteration = len(item.turns)
    path = item.path if item.node.code.repeat is None else StepPath(f"{item.path}#{iteration}")
    order = (*item.node.frame.order, item.node.code.position, item.index or 0, iteration)
    turn = Turn(item, iteration, path, order)
    item.turns.append(turn)
    return turn


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
