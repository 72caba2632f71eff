"""The two tasks of "execution lineage" (arXiv 2605.06365), measured: `python lineage.py`.

1. An update in an unrelated branch: the press source changes. The memo must be the same, byte for byte, and no step may run
   outside the branch.
2. An edited intermediate artifact: a person corrects the evidence. Everything upstream must be kept, and exactly what depends on the
   evidence must run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmplan import Engine, Plan, Run, Toolset
from firmplan.testing import ScriptedModel

HERE = Path(__file__).parent
SOURCES = ("market", "policy", "press")
LATE_NEWS = " On Friday it printed 3 more."


@dataclass(frozen=True)
class Measured:
    """What a change cost.

    Attributes:
        ran: Steps of which a call was made, in plan order; an item counts for its step.
        kept: Steps that were not run, and have the value that they had, byte for byte.
        calls: Calls made.
        model_calls: Calls of a model among them.
        is_same_memo: Whether the memo is the same, byte for byte.
    """

    task: str
    ran: tuple[str, ...]
    kept: tuple[str, ...]
    calls: int
    model_calls: int
    is_same_memo: bool


async def measure(store: str = "memory:") -> list[Measured]:
    """Return the numbers of the first run and of both tasks."""
    plan, tools = Plan.load(HERE / "plan.yaml"), Toolset.load(str(HERE / "tools.py"))
    sources = {name: (HERE / "sources" / f"{name}.txt").read_text(encoding="utf-8") for name in SOURCES}
    async with ScriptedModel(HERE / "recording.json") as model:
        models: Mapping[str, Any] = {"default": {"name": "recorded", "base_url": model.base_url}}
        async with Engine(tools, store=store, models=models) as engine:
            first = (await engine.run(plan, inputs=sources)).raise_for_status()
            newer = {**sources, "press": sources["press"].strip() + LATE_NEWS}
            unrelated = (await engine.run(plan, inputs=newer)).raise_for_status()
            evidence = [dict(claim) for claim in first.steps["evidence"].output]
            corrected = [
                {"text": claim["text"].replace("31 percent", "90 percent"), "number": claim["number"]}
                for claim in evidence
            ]
            edited = (await engine.fork(first.id, set={"evidence": corrected})).raise_for_status()
    return [
        measured("first run", first, first),
        measured("update in an unrelated branch", first, unrelated),
        measured("edited intermediate artifact", first, edited),
    ]


def measured(task: str, before: Run, after: Run) -> Measured:
    """Return what `after` ran and kept of `before`."""
    steps = [step.id for step in after.plan.steps] if after.plan is not None else []
    ran = tuple(step for step in steps if after.steps[step].attempts)
    kept = tuple(
        step
        for step in steps
        if step not in ran and after.steps[step].output_digest == before.steps[step].output_digest
    )
    return Measured(
        task,
        ran,
        kept,
        calls=int(str(after.usage["calls"])),
        model_calls=int(str(after.usage["model_calls"])),
        is_same_memo=before.output["memo"] == after.output["memo"],
    )


def table(rows: list[Measured]) -> str:
    """Return the numbers as a table."""
    lines = [f"{'':31}{'steps run':>10}{'kept':>6}{'calls':>7}{'model':>7}  memo"]
    for row in rows:
        memo = "the same bytes" if row.is_same_memo else "another"
        lines.append(
            f"{row.task:31}{len(row.ran):>10}{len(row.kept):>6}{row.calls:>7}{row.model_calls:>7}  {memo}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    found = asyncio.run(measure())
    print(table(found))
    for row in found[1:]:
        print(f"{row.task}: ran {', '.join(row.ran)}")
