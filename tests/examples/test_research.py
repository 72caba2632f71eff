"""The research example: the right texts, one typed fact out of each, and arithmetic that is the plan's."""

from __future__ import annotations

from pathlib import Path

import firmplan
import pytest
from firmplan import Engine, Plan, Planner, Toolset, check
from firmplan.testing import ScriptedModel

FOLDER = Path(firmplan.__file__).parent / "examples" / "research"


@pytest.fixture(autouse=True)
def _there(monkeypatch):
    monkeypatch.chdir(FOLDER)


def test_plan_passes_its_check():
    """The plan is free of faults."""
    report = check(Plan.load("plan.yaml"), Toolset.load("tools.py"))
    assert [str(problem) for problem in report.errors] == []


def test_facts_are_read_compared_and_reused(tmp_path):
    """Eight texts are read by a model over HTTP; a second run asks it nothing and gives the same digest."""
    plan, toolset = Plan.load("plan.yaml"), Toolset.load("tools.py")
    with ScriptedModel(FOLDER / "recording.json") as model:
        planner = Planner("recorded", base_url=model.base_url, api_key="k")
        with Engine(toolset, store=str(tmp_path / "s.db"), planner=planner) as engine:
            run = (engine.run_sync(plan)).raise_for_status()
            asked = len(model.requests)
            again = (engine.run_sync(plan)).raise_for_status()
            assert (asked, len(model.requests)) == (8, 8)
    assert [fact["year"] for fact in run.output["measurements"]] == [1676, 1728, 1849, 1862, 1879, 1926, 1950]
    assert run.output["best"]["who"] == "Louis Essen"
    assert again.digest == run.digest


def test_a_task_in_words_finds_the_saved_plan(tmp_path):
    """Saved under its task, the plan answers the task in words without a planner's model."""
    with ScriptedModel(FOLDER / "recording.json") as model:
        planner = Planner("recorded", base_url=model.base_url, api_key="k")
        with Engine(Toolset.load("tools.py"), store=str(tmp_path / "s.db"), planner=planner) as engine:
            engine.save_plan_sync("research", Plan.load("plan.yaml"))
            run = (engine.run_sync((FOLDER / "task.txt").read_text().strip())).raise_for_status()
            assert len(model.requests) == 8
    assert run.output["best"]["year"] == 1950
