"""What results of tools looked like, gathered while runs go on, and kept in the store for planners.

Results are looked at whose declared type is missing, tells little, or is not relied on (`Tool.is_learnt`). A run never waits for it: results are put aside, and
are read and merged into the store a moment later, before a planning, or when the engine closes. A process that is killed loses what it had put aside, which is
a count or two. After enough results of the same structure they are only counted, and counts alone are written when there is another reason to.

No run depends on anything of this: what was learnt reaches prompts, never a check or a replay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import field
from typing import TYPE_CHECKING, Final

from ...errors import StoreError
from ...plans.immutable import record
from ...plans.types.learnt import LearntType, merged, shape_of, structure_of
from ...plans.values import Json, canonical, digest
from ...tools import Tool
from ...tools.logbook import open_log
from ..canonical_value import CanonicalValue
from ..stores.store import LearntKey

if TYPE_CHECKING:
    from ..stores.store import Store

FLUSH_S: Final = 1.0  # after the first new result: a run with many calls is one write
VALUES_MAX: Final = 32  # results of one tool that are put aside between two flushes; more are counted
VALUE_BYTES_MAX: Final = 1024 * 1024  # a larger result is only counted: to look at it takes long
SETTLED: Final = 40  # results in a row that taught nothing, after which results of a tool are only counted


@record
class _Lesson:
    """What is put aside of one tool."""

    tool: Tool
    values: list[CanonicalValue] = field(default_factory=list[CanonicalValue])
    results: int = 0
    unfit: int = 0
    structure: Json = None
    unchanged: int = 0

    @property
    def is_settled(self) -> bool:
        return self.unchanged >= SETTLED


class LearntTypes:
    """The learnt types of a store, as one engine adds to them.

    Args:
        store: Keeps them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lessons: dict[str, _Lesson] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._flushing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, tool: Tool, output: CanonicalValue, at: float, *, is_unfit: bool) -> None:
        """Put a result aside.

        Args:
            tool: The tool.
            output: What it returned.
            at: Unix seconds.
            is_unfit: Whether it does not fit the declared type.
        """
        lesson = self._lessons.get(tool.name)
        if lesson is None or lesson.tool is not tool:
            lesson = self._lessons[tool.name] = _Lesson(tool)
        lesson.results += 1
        lesson.unfit += is_unfit
        if lesson.is_settled and not is_unfit:
            return
        if len(lesson.values) < VALUES_MAX and len(output.data) <= VALUE_BYTES_MAX:
            lesson.values.append(output)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush_soon, at)

    def _flush_soon(self, at: float) -> None:
        task = asyncio.get_running_loop().create_task(self.flush(at))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def flush(self, at: float) -> None:
        """Merge what was put aside into the store. A store that cannot be written keeps nothing, and says so in the log."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        async with self._flushing:
            lessons = [lesson for lesson in self._lessons.values() if lesson.results]
            if not lessons or self._store.is_read_only:
                return
            taken = [(lesson, lesson.results, lesson.unfit, lesson.values) for lesson in lessons]
            for lesson in lessons:
                lesson.results, lesson.unfit, lesson.values = 0, 0, []
            # Values may be large, so that they are read beside the event loop.
            learnt = await asyncio.to_thread(
                lambda: {
                    _key_of(lesson.tool): LearntType(results, unfit, _shape_of(values))
                    for lesson, results, unfit, values in taken
                }
            )
            for (lesson, _, _, values), each in zip(taken, learnt.values(), strict=True):
                _count_unchanged(lesson, len(values), each)
            try:
                rows = {key: each.write() for key, each in learnt.items()}
                await self._store.merge_learnt(rows, at, _merged)
            except StoreError as fault:
                open_log().warning("learnt types not kept", error=str(fault))

    async def close(self, at: float) -> None:
        """Merge what was put aside, and stop."""
        await self.flush(at)
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def find(self, tools: Iterable[Tool], at: float) -> dict[str, LearntType]:
        """Return tool name -> what is known of its results, for those tools of which something is."""
        await self.flush(at)
        wanted = [tool for tool in tools if tool.is_learnt]
        if not wanted:
            return {}
        keys = {tool.name: _key_of(tool) for tool in wanted}
        found = await self._store.list_learnt(list(keys.values()))
        return {name: LearntType.read(found[key]) for name, key in keys.items() if key in found}


def _key_of(tool: Tool) -> LearntKey:
    """Return under which key something is kept of a tool: of code that cannot be seen in full, its types have to do."""
    types: Json = [tool.parameters, tool.types.returns]
    return LearntKey(tool.name, tool.fingerprint or digest(canonical(types)))


def _shape_of(values: Iterable[CanonicalValue]) -> dict[str, Json]:
    return merged(shape_of(each.value) for each in values)


def _count_unchanged(lesson: _Lesson, values: int, learnt: LearntType) -> None:
    """Count the results that taught nothing new, as far as this process knows."""
    structure = structure_of(learnt.shape)
    if lesson.structure == structure:
        lesson.unchanged += values
    elif values:
        lesson.structure, lesson.unchanged = structure, 0


def _merged(kept: bytes, added: bytes) -> bytes:
    return (LearntType.read(kept) + LearntType.read(added)).write()
