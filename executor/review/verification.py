"""`Verification`: which pure tools of a run gave the same results again, and where the others did not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from ...plans.edit.differences import Difference
from ...plans.values import Json

ToolFinding: TypeAlias = Literal["deterministic", "differs", "changed", "unchecked"]

PLACES_SHOWN = 3  # differing places that the text shows; `differences` has all


@dataclass(frozen=True, slots=True)
class ToolVerdict:
    """What calling one tool again showed.

    Attributes:
        finding: `deterministic`: every call gave what is recorded; `differs`: at least one did not; `changed`: its code is not what
            it was in the run, so nothing was called; `unchecked`: there is nothing to compare, and `detail` says why.
        calls: Calls made again, and compared.
        step: The first step in plan order that came out differently.
        differences: Where its output differs from the recorded one.
        detail: More in words: an error in place of a result, why it was not called, that it was called in this process.
    """

    tool: str
    finding: ToolFinding
    calls: int
    step: str | None = None
    differences: tuple[Difference, ...] = ()
    detail: str = ""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        times = f"{self.calls} call{'s' * (self.calls != 1)}"
        match self.finding:
            case "deterministic":
                return f"'{self.tool}': {times} again, the same results{detail}"
            case "differs":
                places = "; ".join(_at(each) for each in self.differences[:PLACES_SHOWN])
                return f"'{self.tool}' is not deterministic: step '{self.step}' came out differently{': ' * bool(places)}{places}{detail}"
            case "changed":
                return f"'{self.tool}' was changed since the run: not called{detail}"
            case "unchecked":
                return f"'{self.tool}' could not be compared{detail}"

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "tool": self.tool,
            "finding": self.finding,
            "calls": self.calls,
            "step": self.step,
            "differences": [cast("Json", each.to_dict()) for each in self.differences],
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class Verification:
    """What calling a run's pure steps again showed, tool by tool.

    Attributes:
        tools: One verdict for each pure tool that the run called, by name.
    """

    run_id: str
    tools: tuple[ToolVerdict, ...]

    @property
    def ok(self) -> bool:
        """Whether no tool came out differently; tools that could not be called do not count."""
        return not self.differing

    @property
    def differing(self) -> tuple[str, ...]:
        """The tools that are not deterministic, by name."""
        return tuple(each.tool for each in self.tools if each.finding == "differs")

    @property
    def calls(self) -> int:
        """Calls made again, and compared."""
        return sum(each.calls for each in self.tools)

    def __str__(self) -> str:
        if not self.tools:
            return f"run {self.run_id} called no pure tool: there is nothing to verify"
        return "\n".join(str(each) for each in self.tools)

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "run": self.run_id,
            "ok": self.ok,
            "calls": self.calls,
            "tools": [cast("Json", each.to_dict()) for each in self.tools],
        }


def _at(each: Difference) -> str:
    dot = "" if not each.path or each.path.startswith("[") else "."
    text = str(each).removeprefix(f"{each.path}: ") if each.path else str(each)
    return f"output{dot}{each.path}: {text}"
