"""`plans learn`: a template from a run that went well, shown, written or saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import InputRejected
from ..planner.library.learning import learn
from ..plans.values import canonical
from . import screen
from .failure import Exit
from .session import drive, load_toolset, look, settings_of
from .target import expect_plan_file


def learn_command(
    run_id: str, name: str | None, output: Path | None, flags: Mapping[str, object], *, as_json: bool
) -> int:
    """Lift what the task of a run names into typed inputs; save the template where a name is given."""
    expect_plan_file(output)
    settings = settings_of(flags)
    toolset = load_toolset(settings)

    async def work() -> int:
        async with look(settings, toolset) as engine:
            run = await engine.get(run_id)
            if run.status != "succeeded" or run.plan is None:
                raise InputRejected(f"expected a run that succeeded, found run {run_id} {run.status}")
            learned = learn(run.plan, run.inputs, task=run.task, tools=toolset)
            if name is not None:
                await engine.save_plan(name, learned.plan)
        if output is not None:
            learned.plan.save(output)
        lifted = {each.name: each.value for each in learned.lifted}
        if as_json:
            plan = learned.plan.to_dict()
            screen.document({"name": name, "plan": plan, "lifted": lifted, "kept": list(learned.kept)})
            return Exit.OK
        for value in learned.kept:
            screen.note(f"{canonical(value).decode()} stays: it stands in places where it cannot be lifted")
        if name is not None:
            screen.note(f"saved as {name}: it answers tasks such as '{learned.plan.task}'")
        if output is not None:
            screen.note(f"written to {output}")
        screen.answer(learned.plan.to_json())
        return Exit.OK

    return drive(work)
