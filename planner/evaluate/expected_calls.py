"""The calls that a task expects, as sets of function-calling tasks write them, and whether the calls that were made are these.

A call is expected with exact arguments, or, in the form of the Berkeley Function Calling Leaderboard (BFCL), with the values that each argument may have.
Made calls are right if each of them is one expected call, and none is missing; their order does not count, since calls that do not depend on
each other have none. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from ...plans.values import Json

_IGNORED: Final = re.compile(r"[ ,./\-_*^]")
"""The characters that BFCL leaves out where it compares texts."""


@dataclass(frozen=True, slots=True)
class MadeCall:
    """A call of a tool that was made."""

    tool: str
    args: Mapping[str, Json]

    def to_dict(self) -> dict[str, Json]:
        """Return the call as JSON."""
        return {"tool": self.tool, "args": dict(self.args)}


@dataclass(frozen=True, slots=True)
class ExpectedCall:
    """A call that should be made.

    Attributes:
        tool: The tool.
        args: Argument -> the values that it may have.
        optional: Arguments that may be left out.
        is_lenient: Whether texts are compared as BFCL does: without spaces, punctuation and case; and whether objects in values list their
            options too.
    """

    tool: str
    args: Mapping[str, tuple[Json, ...]]
    optional: frozenset[str] = frozenset()
    is_lenient: bool = False

    @classmethod
    def exact(cls, tool: str, args: Mapping[str, Json]) -> ExpectedCall:
        """Return a call that is expected with exactly these arguments."""
        return cls(tool, {name: (value,) for name, value in args.items()})

    @classmethod
    def of_options(cls, tool: str, options: Mapping[str, Sequence[Json]]) -> ExpectedCall:
        """Return a call in BFCL's form: argument -> the values that it may have; the value `""` says that it may be left out."""
        args = {name: tuple(values) for name, values in options.items()}
        optional = frozenset(name for name, values in args.items() if "" in values)
        return cls(tool, args, optional, is_lenient=True)

    def fits(self, call: MadeCall) -> bool:
        """Whether a call that was made is this one."""
        return (
            call.tool == self.tool
            and all(name in self.args for name in call.args)
            and all(name in call.args or name in self.optional for name in self.args)
            and all(
                any(self._is(value, option) for option in self.args[name])
                for name, value in call.args.items()
            )
        )

    def _is(self, value: Json, option: Json) -> bool:  # noqa: PLR0911  # one kind of value, one line
        match value, option:
            case bool() | None, _:
                return value is option
            case int() | float(), int() | float() if not isinstance(option, bool):
                return value == option
            case str(), str():
                return value == option or (self.is_lenient and _bare(value) == _bare(option))
            case list(), list():
                return len(value) == len(option) and all(
                    self._is(one, other) for one, other in zip(value, option, strict=True)
                )
            case dict(), dict() if self.is_lenient and all(
                isinstance(each, list) for each in option.values()
            ):
                listed = cast("dict[str, list[Json]]", option)
                return all(
                    any(self._is(each, may) for may in listed.get(name, [])) for name, each in value.items()
                ) and all(name in value or "" in values for name, values in listed.items())
            case dict(), dict():
                return set(value) == set(option) and all(
                    self._is(each, option[name]) for name, each in value.items()
                )
            case _:
                return False


def are_expected(made: Sequence[MadeCall], expected: Sequence[ExpectedCall]) -> bool:
    """Return whether the made calls are the expected ones, each exactly once, in any order."""
    if len(made) != len(expected):
        return False
    # A made call may fit several expected ones, so that taking the first one could leave another call without its own: Kuhn's algorithm
    # finds a pairing if there is one.
    taken: dict[int, int] = {}

    def place(call: int, seen: set[int]) -> bool:
        for index, each in enumerate(expected):
            if index not in seen and each.fits(made[call]):
                seen.add(index)
                if index not in taken or place(taken[index], seen):
                    taken[index] = call
                    return True
        return False

    return all(place(call, set()) for call in range(len(made)))


def _bare(text: str) -> str:
    return _IGNORED.sub("", text).casefold().replace("'", '"')
