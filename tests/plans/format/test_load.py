"""Plans in files: JSON and YAML, written whole or not at all."""

from __future__ import annotations

import pytest
from firmplan import InputRejected, Plan, PlanRejected

PLAN = {
    "firmplan": 1,
    "steps": [
        {"id": "a", "set": {"yes": "yes", "n": 4.0, "i": 4, "time": "12:30", "big": "1_000", "nothing": None}}
    ],
    "output": "${a}",
}


@pytest.mark.parametrize("name", ["plan.json", "plan.yaml", "plan.yml", "plan"])
def test_a_saved_plan_loads_as_the_same_plan(tmp_path, name):
    """Text stays text and numbers keep their kind in either format."""
    plan = Plan.model_validate(PLAN)
    plan.save(tmp_path / name)
    loaded = Plan.load(tmp_path / name)
    assert (loaded.digest, repr(loaded.to_dict())) == (plan.digest, repr(plan.to_dict()))


def test_saving_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text("old", encoding="utf-8")
    Plan.model_validate(PLAN).save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]
    assert Plan.load(path).steps[0].id == "a"


def test_yaml_is_read_by_the_rules_of_yaml_1_2(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(
        "firmplan: 1\nsteps:\n- {id: a, set: {x: yes, y: 12:30, z: 0o17, w: 1e3}}\n", encoding="utf-8"
    )
    assert Plan.load(path).to_dict()["steps"][0]["set"] == {"x": "yes", "y": "12:30", "z": 15, "w": 1000.0}


@pytest.mark.parametrize("name", ["gone.json", "."])
def test_what_is_no_file_is_input_rejected(tmp_path, name):
    with pytest.raises(InputRejected, match="expected a plan file"):
        Plan.load(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'{"firmplan": 1, "steps": [}', "bad-shape"),
        (b"firmplan: 1\nsteps: [", "bad-shape"),
        (b"\xff\xfe", "bad-shape"),
        (b'{"firmplan": 1, "steps": [], "steps": []}', "bad-shape"),
        (b'{"firmplan": 1, "steps": [{"id": "a", "set": NaN}]}', "bad-shape"),
        (b"[" * 100_000, "limit-exceeded"),
        (b"a: &a [*a]", "bad-shape"),
        (b"a: !!python/object:os.system {}", "bad-shape"),
        (b"just words", "bad-shape"),
        (b"", "bad-shape"),
    ],
)
def test_text_that_holds_no_plan_is_rejected(tmp_path, text, code):
    path = tmp_path / "plan"
    path.write_bytes(text)
    with pytest.raises(PlanRejected) as caught:
        Plan.load(path)
    assert caught.value.report.errors[0].code == code


def test_faults_in_a_file_have_lines(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("firmplan: 1\nsteps:\n- id: a\n  set: 1\n  wehn: true\n", encoding="utf-8")
    with pytest.raises(PlanRejected) as caught:
        Plan.load(path)
    assert [(found.path, found.line) for found in caught.value.report.problems] == [("$.steps[0].wehn", 5)]


def test_another_version_is_named(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text('{"firmplan": 2, "steps": []}', encoding="utf-8")
    with pytest.raises(PlanRejected, match="the integer 2"):
        Plan.load(path)
