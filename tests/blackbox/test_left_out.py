"""`left_out`: what a plan does not do of its task is a part of the plan as prose, and every run of the plan shows it."""

from __future__ import annotations

import asyncio
import json

import pytest
from firmplan import Engine, Plan, PlanBuilder, PlanRejected, check, tool
from firmplan.plans.format.load import to_yaml

WHY = "send_mail: nobody is written to, because the address stands only in the page; ask for it as an input"
LESS = {
    "firmplan": 1,
    "task": "Add 1 and 2 and mail the sum",
    "steps": [{"id": "total", "tool": "add", "args": {"a": 1, "b": 2}}],
    "output": "${total}",
}
PLAN = {**LESS, "left_out": [WHY]}


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def test_it_is_prose_and_moves_no_digest():
    """Plans that differ only in `left_out` do the same, so they have one digest; a plan without it is written without it."""
    assert Plan.model_validate(PLAN).digest == Plan.model_validate(LESS).digest
    assert Plan.model_validate({**LESS, "left_out": []}).digest == Plan.model_validate(LESS).digest
    assert "left_out" not in Plan.model_validate(LESS).to_dict()


def test_it_comes_back_from_every_spelling(tmp_path):
    """JSON, YAML, a builder and a patch give it back."""
    plan = Plan.model_validate(PLAN)
    for name in ("plan.json", "plan.yaml"):
        plan.save(tmp_path / name)
        assert Plan.load(tmp_path / name).to_dict() == PLAN
    assert "left_out:" in to_yaml(plan)
    assert PlanBuilder.of(plan, [add]).build().left_out == (WHY,)
    less = Plan.model_validate(LESS)
    for before, after in (
        (less, plan),
        (plan, less),
        (plan, plan.model_copy(update={"left_out": ("x", WHY)})),
    ):
        difference = before.diff(after)
        assert [change.part for change in difference.changes] == ["left_out"]
        assert before.apply(difference.to_patch()).left_out == after.left_out
    assert Plan.json_schema()["properties"]["left_out"]["items"] == {"type": "string"}


@pytest.mark.parametrize("wrong", ["a text", [1], {"a": "b"}, [None]])
def test_what_is_no_list_of_texts_is_bad_shape(wrong):
    """The check names the place; the patch refuses it too."""
    report = check({**LESS, "left_out": wrong}, [add])
    assert [(each.code, each.path.startswith("$.left_out")) for each in report.problems] == [
        ("bad-shape", True)
    ]
    with pytest.raises(PlanRejected):
        Plan.model_validate(LESS).apply([{"op": "left_out", "value": wrong}])


@pytest.mark.parametrize("form", ["text", "mermaid", "svg"])
def test_every_picture_shows_it_complete_and_harmless(form):
    """A long sentence is wrapped and not cut, and control characters of it reach no terminal."""
    long = "left: " + " ".join(f"word{number}" for number in range(60)) + " \x1b[2J end"
    shown = Plan.model_validate({**LESS, "left_out": [WHY, long]}).render(form)
    assert "\x1b" not in shown
    assert "word59" in shown
    assert "send_mail" in shown
    assert "left out" not in Plan.model_validate(LESS).render(form)


def test_a_run_shows_what_its_plan_and_the_saved_plans_in_it_leave_out():
    """The run succeeds, and says what it did not do: of its own plan, and with the name of each saved plan that it runs."""

    async def work():
        async with Engine([add], store="memory:") as engine:
            run = await engine.run(PLAN)
            assert (run.status, run.output, run.left_out) == ("succeeded", 3, (WHY,))
            assert json.loads(json.dumps(run.to_dict()))["left_out"] == [WHY]
            assert (await engine.get(run.id)).left_out == (WHY,)
            assert (await engine.replay(run.id)).left_out == (WHY,)
            # The digest is the same, and yet this run's plan leaves nothing out.
            assert (await engine.run(LESS)).left_out == ()
            await engine.save_plan("adding", Plan.model_validate(PLAN))
            outer = await engine.run(
                {"firmplan": 1, "steps": [{"id": "p", "plan": "adding"}], "left_out": ["own"]}
            )
            assert outer.left_out == ("own", f"adding: {WHY}")

    asyncio.run(work())
