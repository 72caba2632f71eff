"""The licence audit: sorting licences, the saved plan, and the demonstration in every circumstance."""

from __future__ import annotations

import json
import os
import signal
from importlib.metadata import distributions
from pathlib import Path

import firmplan
import pytest
from firmplan import Engine, Plan, Planner, Toolset, check
from firmplan.demo import tools
from firmplan.testing import ScriptedModel
from forked import Program

FOLDER = Path(firmplan.__file__).parent / "examples" / "licence_audit"
UNSET = ("OPENAI_API_KEY", "FIRMPLAN_BASE_URL", "FIRMPLAN_MODEL", "FIRMPLAN_STORE", "FIRMPLAN_TOOLS")


@pytest.fixture(scope="module")
def plan():
    return Plan.load(FOLDER / "plan.yaml")


@pytest.fixture(scope="module")
def toolset():
    return Toolset.load("firmplan.demo.tools")


@pytest.mark.parametrize(
    ("expression", "family"),
    [
        ("MIT", "permissive"),
        ("MIT OR GPL-2.0-only", "permissive"),
        ("LGPL-3.0-or-later AND MIT", "weak copyleft"),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", "weak copyleft"),
        ("GPL-3.0-only WITH GCC-exception-3.1", "weak copyleft"),
        ("AGPL-3.0-only", "strong copyleft"),
        ("(MIT OR Apache-2.0) AND LicenseRef-Own", "unknown"),
    ],
)
def test_family_of_an_expression(expression, family):
    """Of `OR` the mildest part counts, of `AND` the strictest."""
    assert tools.family_of(expression) == family


@pytest.mark.parametrize(
    ("fields", "licence", "family"),
    [
        ({"expression": "BSD-3-Clause"}, "BSD-3-Clause", "permissive"),
        ({"classifiers": ["License :: OSI Approved :: MIT License"]}, "MIT License", "permissive"),
        (
            {"classifiers": ["License :: OSI Approved"], "licence": "GNU General Public License v3"},
            "GPL",
            "strong copyleft",
        ),
        ({"licence": "GNU Lesser General Public License"}, "LGPL", "weak copyleft"),
        ({"licence": "see LICENSE"}, "see LICENSE", "unknown"),
        ({}, "none stated", "unknown"),
    ],
)
def test_classify(fields, licence, family):
    """The expression wins over classifiers, those over free text; what nobody states is unknown."""
    blank = {"expression": "", "licence": "", "classifiers": [], "requires": []}
    found = tools.classify(tools.Metadata("x", "1", **{**blank, **fields}))
    assert (found.licence, found.family) == (licence, family)


def test_plan_passes_its_check(plan, toolset):
    """The plan is free of faults and of warnings."""
    assert [str(problem) for problem in check(plan, toolset).problems] == []


def test_saved_plan_answers_the_task_in_words(plan, toolset, tmp_path, monkeypatch):
    """The task's words fill the plan's input, every package is in the report, and no planner's model is asked."""
    monkeypatch.chdir(tmp_path)
    with ScriptedModel(FOLDER / "recording.json") as model:
        planner = Planner("recorded", base_url=model.base_url, api_key="k")
        with Engine(toolset, store="memory:", planner=planner) as engine:
            engine.save_plan_sync("audit", plan)
            task = (FOLDER / "task.txt").read_text().strip().replace("licences.md", "out/all.md")
            run = (engine.run_sync(task)).raise_for_status()
            assert len(model.requests) == 1
    names = {tools._plain(each.metadata["Name"]) for each in distributions()}
    assert run.output["packages"] == len(names) == sum(run.output["counts"].values())
    lines = (tmp_path / "out" / "all.md").read_text().splitlines()
    assert len([line for line in lines if line.startswith("| ")]) == len(names) + 2


def test_recorded_drafts_are_a_faulty_one_and_the_plan(plan, toolset):
    """The first draft has the faults that the demo shows repaired; the second is the saved plan, but for its words."""
    exchanges = json.loads((FOLDER / "recording.json").read_text())["exchanges"]
    bad, good = (exchange["reply"] for exchange in exchanges if "match" not in exchange)
    assert [problem.code for problem in check(bad, toolset).errors] == ["unknown-tool", "unknown-field"]
    recorded, saved = Plan.model_validate(good), plan
    assert recorded.steps == saved.steps
    assert recorded.output == saved.output


def demo(folder, cwd, **environment):
    kept = {key: value for key, value in os.environ.items() if key not in UNSET}
    return Program(["-m", "firmplan", "demo", "--folder", folder], cwd=cwd, env={**kept, **environment})


def told_by(process):
    """Return the exit code and all that was printed."""
    out, err = process.communicate(timeout=100)
    return process.returncode, out + err


def test_demo_from_any_folder_twice(tmp_path):
    """The demo shows a repair, a run, reuse and equal digests; so does a second one there, on a poorer terminal."""
    (tmp_path / "elsewhere").mkdir()
    for encoding in ("utf-8", "ascii"):
        code, told = told_by(demo(tmp_path / "chosen", tmp_path / "elsewhere", PYTHONIOENCODING=encoding))
        assert code == 0, told
        assert "recording" in told
        assert "did you mean 'list_packages'" in told
        assert "The digests are equal" in told
        assert "What to try next" in told
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "chosen" / "licences.md").is_file()


def test_demo_killed_midway_leaves_a_usable_folder(tmp_path):
    """Killed in the middle of its run, the demo works in the same folder right after."""
    process = demo(tmp_path, tmp_path)
    for line in process.stdout:
        if "packages" in line and "✓" in line:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    code, told = told_by(demo(tmp_path, tmp_path))
    assert code == 0, told


def test_demo_asks_the_endpoint_that_is_set(tmp_path):
    """Where an endpoint is set, it is asked for the plan and for the summary, and the screen says so."""
    with ScriptedModel(FOLDER / "recording.json") as model:
        code, told = told_by(
            demo(tmp_path, tmp_path, FIRMPLAN_BASE_URL=model.base_url, FIRMPLAN_MODEL="live")
        )
        assert code == 0, told
        assert [request["model"] for request in model.requests] == ["live"] * 3
    assert f"Planned by the model live at {model.base_url}" in told
    assert "recording" not in told


def test_demo_of_an_endpoint_that_is_not_there(tmp_path):
    """An endpoint that cannot be reached is one message and an exit code, without a traceback."""
    nowhere = {"FIRMPLAN_BASE_URL": "http://127.0.0.1:9/v1", "FIRMPLAN_MODEL": "live"}
    code, told = told_by(demo(tmp_path, tmp_path, **nowhere))
    assert code in (1, 2)
    assert "Traceback" not in told
    assert "127.0.0.1:9" in told
