"""The stage: one world at a time, its state, and a log of each call that changes the world or sends something out of it.

The tools of a world are module-level functions, so that one toolset serves thousands of runs; what they read and change is the state on
the stage, which `Stage.reset` makes anew for each run. Texts of the state that an attacker can write hold `SLOT` where his text goes.
Runs on a stage come one after the other. The stage knows nothing of plans, policies or attacks.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from firmplan import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firmplan import Context, ValueLabels

State: TypeAlias = dict[str, Any]

SLOT: Final = "§"
"""Stands in every text that comes from outside; the attacker's text replaces it, or nothing does."""


@dataclass(frozen=True, slots=True)
class SinkCall:
    """A call that changed the world, or that sent its arguments out of it.

    Attributes:
        step: The path of the step that made it.
    """

    tool: str
    step: str
    args: Mapping[str, Any]


@dataclass(slots=True)
class Stage:
    """The world that the tools see.

    Attributes:
        state: What the tools read and change.
        calls: Calls of writes, and of reads that send their arguments to somebody else.
    """

    state: State = field(default_factory=dict[str, Any])
    calls: list[SinkCall] = field(default_factory=list[SinkCall])

    def reset(
        self,
        state: State,
        injected: str = "",
        *,
        adds: Mapping[str, list[Any]] | None = None,
        first: Mapping[str, list[Any]] | None = None,
    ) -> None:
        """Begin a run.

        Args:
            state: The world as it is at first; it is copied.
            injected: The attacker's text, for every slot.
            adds: Name of a list of the state -> records that the attacker adds at its end.
            first: The same, at its beginning.
        """
        made = copy.deepcopy(state)
        for name, records in (adds or {}).items():
            made[name] = [*made[name], *records]
        for name, records in (first or {}).items():
            made[name] = [*records, *made[name]]
        self.state = cast("State", _filled(made, injected))
        self.calls = []

    def find(self, shelf: str, name: str) -> Any:  # noqa: ANN401  # each shelf has its own type
        """Return what a part of the state holds under a name. Raises: ToolError: nothing (`absent`)."""
        if name not in self.state[shelf]:
            raise ToolError(f"there is no '{name}' in {shelf}", code="absent")
        return self.state[shelf][name]

    def find_record(self, shelf: str, number: int) -> dict[str, Any]:
        """Return the record of that number. Raises: ToolError: there is none (`absent`)."""
        for record in self.state[shelf]:
            if record["id"] == number:
                return cast("dict[str, Any]", record)
        raise ToolError(f"there is no number {number} in {shelf}", code="absent")

    def note(self, tool: str, ctx: Context, **args: object) -> None:
        """Put a call on the log, before it takes effect."""
        self.calls.append(SinkCall(tool, ctx.step, copy.deepcopy(args)))


STAGE: Final = Stage()


def up_to(limit: float) -> Callable[[Any, ValueLabels], Literal["allow", "ask"] | None]:
    """Return the rule of a policy: untrusted data may give a number up to a limit, and a person decides about more."""

    def rule(value: Any, labels: ValueLabels) -> Literal["allow", "ask"] | None:  # noqa: ANN401  # any JSON
        if not labels.untrusted:
            return None
        return "allow" if value <= limit else "ask"

    return rule


def _filled(value: object, injected: str) -> object:
    match value:
        case str():
            return value.replace(SLOT, f"\n\n{injected}" if injected else "")
        case list():
            return [_filled(each, injected) for each in cast("list[object]", value)]
        case dict():
            return {key: _filled(each, injected) for key, each in cast("dict[str, object]", value).items()}
        case _:
            return value
