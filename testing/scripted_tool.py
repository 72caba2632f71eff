"""`ScriptedTool`: a fake tool that answers from a script and remembers its calls.

    weather = ScriptedTool("weather", [{"celsius": 21.5}, ToolError("down", temporary=True), {"celsius": 9.0}])
    ...
    assert weather.calls == [{"city": "Rome"}, ...]

A script is a list of answers, one for each call, or a function of the arguments. An answer is a value, an exception
(raised), a `Held` answer (given when the test releases it: a delay without a clock), or a function of the arguments. A call
past the end of the script fails with a `ToolError` (code `script-ended`).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from threading import Lock
from typing import Any, TypeAlias

from typing_extensions import Unpack

from ..errors import ToolError
from ..plans.values import Json, NotJson, canonical, digest
from ..tools import Context, Tool, ToolSettings, make_tool
from ..tools.types.schemas import SchemaTypes

Script: TypeAlias = "Sequence[Any] | Callable[..., Any]"


class Gate:
    """An event that happens once. It can be awaited on any loop, and opened from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self.is_open = False

    def open(self) -> None:
        """Wake every waiting task; later waits return immediately."""
        with self._lock:
            self.is_open = True
            waiting, self._waiting = self._waiting, []
        for loop, event in waiting:
            loop.call_soon_threadsafe(event.set)

    async def wait(self) -> None:
        """Return when the gate is open."""
        # An asyncio event belongs to one loop, and the tool may be called on another loop than the test's: each waiter has its own event.
        event = asyncio.Event()
        with self._lock:
            if self.is_open:
                return
            self._waiting.append((asyncio.get_running_loop(), event))
        await event.wait()


@dataclass(frozen=True, slots=True)
class Held:
    """An answer that the test releases.

    Attributes:
        answer: The answer that is given then: anything that a script may hold.
        called: Opens when the tool is called.
        released: Open it (`held.release()`) to give the answer.
    """

    answer: Any = None
    called: Gate = field(default_factory=Gate)
    released: Gate = field(default_factory=Gate)

    def release(self) -> None:
        """Give the answer."""
        self.released.open()


@dataclass(frozen=True, slots=True)
class Played:
    """One call, with what its context said."""

    args: dict[str, Json]
    run_id: str
    step: str
    attempt: int
    idempotency_key: str


class ScriptedTool(Tool[..., Any]):
    """A tool that answers from a script.

    Args:
        name: The tool's name.
        script: Answers in the order of calls, or a function of the arguments; by default each call answers null.
        parameters: JSON Schema of the arguments; by default any are taken.
        returns: JSON Schema of the result; by default anything.
        options: As for `@tool`. The version is `"1"` by default, because a script has no code to fingerprint.

    Attributes:
        played: Every call, in the order in which they came in.
    """

    played: list[Played]

    def __init__(
        self,
        name: str,
        script: Script | None = None,
        *,
        parameters: Mapping[str, Json] | None = None,
        returns: Mapping[str, Json] | None = None,
        **options: Unpack[ToolSettings],
    ) -> None:
        player = _Player(name, script)
        types = SchemaTypes(
            f"scripted tool '{name}'",
            parameters or {"additionalProperties": True},
            returns,
            "firmplan_context",
        )
        options.setdefault("version", "1")
        options.setdefault("fingerprint_extra", player.script_digest)
        made = make_tool(player.play, types=types, name=name, **options)
        for each in fields(made):
            object.__setattr__(self, each.name, getattr(made, each.name))
        object.__setattr__(self, "types", types)
        object.__setattr__(self, "played", player.played)

    @property
    def calls(self) -> list[dict[str, Json]]:
        """The arguments of every call, in the order in which they came in."""
        return [each.args for each in self.played]


class _Player:
    """Plays one script."""

    def __init__(self, name: str, script: Script | None) -> None:
        self.name = name
        self.script = script
        self.played: list[Played] = []
        self._lock = Lock()

    @property
    def script_digest(self) -> Json:
        """The digest of the script for the fingerprint, if the script is JSON."""
        try:
            return (
                None if self.script is None or callable(self.script) else digest(canonical(list(self.script)))
            )
        except NotJson:
            return None

    async def play(self, firmplan_context: Context | None = None, **args: Json) -> object:
        """Answer one call."""
        ctx = firmplan_context or Context()
        with self._lock:
            at = len(self.played)
            self.played.append(Played(args, ctx.run_id, ctx.step, ctx.attempt, ctx.idempotency_key))
        if self.script is None:
            return None
        if callable(self.script):
            return await self._answered(self.script, args)
        if at >= len(self.script):
            raise ToolError(
                f"scripted tool '{self.name}': the script has {len(self.script)} answers, and this is call {at + 1}; "
                "add an answer, or give a function of the arguments",
                code="script-ended",
            )
        return await self._answered(self.script[at], args)

    async def _answered(self, answer: object, args: Mapping[str, Json]) -> object:
        match answer:
            case Held():
                answer.called.open()
                await answer.released.wait()
                return await self._answered(answer.answer, args)
            case BaseException():
                raise answer
            case _ if callable(answer):
                made = answer(**args)
                return await self._answered(await made if inspect.isawaitable(made) else made, args)
            case _:
                return answer
