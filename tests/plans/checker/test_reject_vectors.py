"""Plans that must be rejected, with their exact codes and paths: kept for ever, so that no version grows lax or changes its words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from firmplan import PlanRejected, check
from firmplan.plans import Plan
from firmplan.plans.reports.codes import CODES

VECTORS = sorted((Path(__file__).parents[2] / "vectors" / "reject").glob("*.json"))


def _names_in(vector):
    """Return the names of secrets, policies and models that the check is told; older vectors have none."""
    return {name: vector.get(name) for name in ("secrets", "policies", "models")}


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_rejected_plan_stays_rejected_for_the_same_reasons(path, tools):
    vector = json.loads(path.read_text(encoding="utf-8"))
    report = check(vector["plan"], tools, **_names_in(vector))
    assert not report.ok
    assert [[problem.code, problem.path] for problem in report.errors] == vector["errors"]


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_rejected_plan_is_rejected_as_text_and_as_a_file(path, tools, tmp_path):
    """JSON text has the same faults, each with its line; loading looks at the shape only."""
    vector = json.loads(path.read_text(encoding="utf-8"))
    plan, names = vector["plan"], _names_in(vector)
    text = json.dumps(plan, indent=1)
    read = check(text, tools, **names).errors
    assert [problem.code for problem in read] == [
        problem.code for problem in check(plan, tools, **names).errors
    ]
    assert all(problem.line for problem in read)
    file = tmp_path / "plan.json"
    file.write_text(text, encoding="utf-8")
    if "bad-shape" in {problem.code for problem in check(plan, tools).problems}:
        with pytest.raises(PlanRejected):
            Plan.load(file)
    else:
        assert Plan.load(file).to_dict() == Plan.model_validate(plan).to_dict()


def test_every_error_has_a_vector():
    found = {code for path in VECTORS for code, _ in json.loads(path.read_text(encoding="utf-8"))["errors"]}
    assert found == {name for name, code in CODES.items() if code.severity == "error"}
