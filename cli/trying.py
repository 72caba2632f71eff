"""`bisect` and `shadow`: what puts recorded runs to the test, in words or as a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..plans import Plan
from ..tools import Model
from . import screen
from .failure import Exit
from .session import drive, load_toolset, look, settings_of

if TYPE_CHECKING:
    from ..tools.models.models import Spec


@dataclass(frozen=True, slots=True)
class Trial:
    """What stood on the command line of `shadow`."""

    run_id: str
    model: str | None
    base_url: str | None
    plan: Path | None
    exit_code: bool

    @property
    def spec(self) -> Spec | None:
        """The new model; `None`: each step's own."""
        return self.model if self.base_url is None else Model(self.model, base_url=self.base_url)


def bisect_command(
    run_ids: Sequence[str],
    step: str | None,
    output: str,
    flags: Mapping[str, object],
    *,
    exit_code: bool,
    as_json: bool,
) -> int:
    """Show where an output changed; that it changed is an answer, and a failure only if one asks for it."""
    settings = settings_of(flags)

    async def work() -> int:
        async with look(settings) as engine:
            found = await engine.bisect(run_ids, step=step, output=output)
        if as_json:
            screen.document(found.to_dict())
        else:
            screen.answer(str(found))
        return Exit.FAILED if exit_code and found else Exit.OK

    return drive(work)


def shadow_command(trial: Trial, flags: Mapping[str, object], *, as_json: bool) -> int:
    """Show what another model, or another plan, would have changed."""
    settings = settings_of(flags)
    toolset = load_toolset(settings)
    plan = Plan.load(trial.plan) if trial.plan is not None else None

    async def work() -> int:
        async with look(settings, toolset) as engine:
            found = await engine.shadow(trial.run_id, model=trial.spec, plan=plan)
        if as_json:
            screen.document(found.to_dict())
        else:
            screen.answer(str(found))
        return Exit.FAILED if trial.exit_code and found else Exit.OK

    return drive(work)
