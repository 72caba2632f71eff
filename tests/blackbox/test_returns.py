"""`returns` of a plan: the declared type of its output, in the check, in runs, and for whoever runs the plan."""

from __future__ import annotations

from typing import Any

import pytest
from firmplan import Engine, Plan, PlanBuilder, check, tool
from pydantic import BaseModel

NUMBER = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}
PLAN: dict[str, Any] = {
    "firmplan": 1,
    "inputs": {"x": {"type": "integer"}},
    "steps": [{"id": "a", "tool": "half", "args": {"x": "${inputs.x}"}}],
    "output": {"n": "${a}"},
}
TYPED = {**PLAN, "returns": NUMBER}


@tool(effect="pure")
def half(x: int) -> float:
    """Halve a number."""
    return x / 2


def declared(**properties: Any) -> dict[str, Any]:
    """Return the plan with a declared output whose fields are all required."""
    return {
        **PLAN,
        "returns": {"type": "object", "properties": properties, "required": sorted(properties)},
    }


def told(plan: Any, **plans: Any) -> list[tuple[str, str]]:
    return [(each.code, each.path) for each in check(plan, [half], plans=plans).problems]


@pytest.mark.parametrize(
    ("plan", "found"),
    [
        (TYPED, []),
        ({**TYPED, "returns": None}, []),
        (declared(n={"type": "string"}), [("type-mismatch", "$.output.n")]),
        (declared(n={"type": "integer"}), [("unchecked-type", "$.output.n")]),
        (declared(n={"type": "number"}, m={"type": "string"}), [("bad-literal", "$.output")]),
        ({**declared(), "output": "${a}"}, [("type-mismatch", "$.output")]),
        ({**declared(m={}), "output": {"m": 1, "k": "${a}"}}, [("bad-literal", "$.output.k")]),
        ({**PLAN, "returns": {"enum": ["x", "y"]}, "output": "z"}, [("bad-literal", "$.output")]),
        ({**PLAN, "returns": "number"}, [("bad-shape", "$.returns")]),
        ({**PLAN, "returns": {"type": "nmber"}}, [("bad-shape", "$.returns.type")]),
        ({**PLAN, "returns": {"$ref": "#/types/No"}}, [("unknown-type", "$.returns")]),
        ({**PLAN, "types": {"No": NUMBER}, "returns": {"$ref": "#/types/No"}}, []),
    ],
)  # fmt: skip
def test_the_check_compares_the_output_with_it(plan: Any, found: list[tuple[str, str]]) -> None:
    """What cannot fit is a fault at its place in the output, what may fit a warning, and a faulty schema is told once."""
    assert [each for each in told(plan) if each[0] != "unused-step"] == found


def test_an_output_that_may_be_null_is_told_unless_null_is_declared() -> None:
    """A skipped step makes the output null: a schema with null says that this is meant."""
    steps = [{**PLAN["steps"][0], "when": "${inputs.x > 1}"}]
    skips = {**PLAN, "steps": steps, "output": "${a}"}
    assert told({**skips, "returns": {"type": "number"}}) == [("maybe-missing", "$.output")]
    assert told({**skips, "returns": {"type": ["number", "null"]}}) == []


def test_a_run_is_held_to_it() -> None:
    """What the check cannot know is validated when the plan has run, and integral numbers become integers; a replay agrees."""
    with Engine([half], store="memory:") as engine:
        whole = engine.run_sync(declared(n={"type": "integer"}), inputs={"x": 4})
        assert (whole.status, whole.output) == ("succeeded", {"n": 2})
        assert isinstance(whole.output["n"], int)
        assert engine.replay_sync(whole.id).digest == whole.digest
        broken = engine.run_sync(declared(n={"type": "integer"}), inputs={"x": 3})
        assert (broken.status, [each.code for each in broken.errors]) == ("failed", ["bad-output"])
        assert "n: expected integer, found 1.5" in broken.errors[0].message


def test_who_runs_the_plan_gets_the_declared_type() -> None:
    """Of an inner plan and of a saved one, and a sub-plan whose output does not fit fails its step."""
    inner = {key: part for key, part in declared(n={"type": "integer"}).items() if key != "firmplan"}
    outer = {
        "firmplan": 1,
        "plans": {"sub": inner},
        "steps": [{"id": "s", "plan": "sub", "args": {"x": 3}, "on_error": {"value": {"n": -1}}}],
        "output": "${s.n}",
        "returns": {"type": "integer"},
    }
    assert ("unchecked-type", "$.output") not in told(outer)
    saved = {"firmplan": 1, "steps": [{"id": "s", "plan": "sub", "args": {"x": 4}}], "output": "${s.n}"}
    report = check(saved, [half], plans={"sub": declared(n={"type": "integer"})})
    assert report.types["s"]["properties"] == {"n": {"type": "integer"}}
    with Engine([half], store="memory:") as engine:
        assert engine.run_sync(outer).output == -1
        engine.save_plan_sync("sub", declared(n={"type": "integer"}))
        assert engine.run_sync(saved).output == 2


def test_it_comes_back_from_every_spelling(tmp_path: Any) -> None:
    """JSON, YAML, a builder, a diff and a patch have it, and so has the schema of the format; a picture shows it."""
    plan, less = Plan.model_validate(TYPED), Plan.model_validate(PLAN)
    for name in ("plan.json", "plan.yaml"):
        plan.save(tmp_path / name)
        assert Plan.load(tmp_path / name).to_dict() == TYPED
    assert PlanBuilder.of(plan, [half]).build().digest == plan.digest
    for before, after in ((less, plan), (plan, less), (plan, Plan.model_validate(declared()))):
        difference = before.diff(after)
        assert [change.part for change in difference.changes] == ["returns"]
        assert before.apply(difference.to_patch()).digest == after.digest
    inner = {"firmplan": 1, "plans": {"p": {"steps": []}}, "steps": []}
    patched = Plan.model_validate(inner).apply([{"op": "returns", "plan": "p", "schema": NUMBER}])
    assert patched.plans["p"].returns == NUMBER
    assert Plan.json_schema()["properties"]["returns"]["anyOf"][0]["type"] == "object"
    assert "output  {n: a}: object" in plan.render()


def test_an_absent_key_changes_no_digest() -> None:
    """Null is as good as absent; a schema counts."""
    bare = Plan.model_validate(PLAN).digest
    assert Plan.model_validate({**PLAN, "returns": None}).digest == bare
    assert Plan.model_validate(TYPED).digest != bare


def test_a_builder_takes_a_type() -> None:
    """A model, or a schema, of an inner plan too."""

    class Half(BaseModel):
        n: float

    p = PlanBuilder()
    p.output({"n": p.call(half, x=3)}, returns=Half)
    assert p.build().returns == {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}
    q = PlanBuilder()
    sub = q.inner("sub")
    sub.output(sub.call(half, x=3), returns={"type": "number"})
    q.output(q.plan(sub))
    assert q.build().plans["sub"].returns == {"type": "number"}
