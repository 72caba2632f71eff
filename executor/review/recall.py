"""One run with the arguments of its calls, rebuilt from its journal: the input of comparing, verifying and shadowing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import EngineBug
from ..canonical_value import CanonicalValue
from ..journal.restore import load_entries, rebuilt
from ..runs.archive import snapshot

if TYPE_CHECKING:
    from ...plans import Plan
    from ..journal.header import Header
    from ..journal.records import Entry
    from ..machine import Machine
    from ..runs.run import Run
    from ..stores.store import RunRow, Store


@dataclass(frozen=True, slots=True)
class Recall:
    """A run, rebuilt from its journal.

    Attributes:
        calls: Path of each leaf that was called or reused -> its arguments, or its rendered prompt; secrets by name.
    """

    run: Run
    plan: Plan
    header: Header
    machine: Machine
    entries: Sequence[Entry]
    calls: Mapping[str, CanonicalValue]


async def recall(store: Store, row: RunRow) -> Recall:
    """Rebuild a run from its journal; every conclusion is computed and compared again.

    Raises:
        InputRejected: The run has no plan.
        Diverged: The plan language or the machine concludes something else than what was recorded.
        StoreError: The journal was changed outside firmplan.
    """
    entries = await load_entries(store, row)
    calls: dict[str, CanonicalValue] = {}
    header, machine = await rebuilt(row, entries, calls)
    if header.plan is None:
        raise EngineBug(f"run {row.id} was rebuilt without a plan")
    return Recall(snapshot(row, header, machine), header.plan, header, machine, entries, calls)
