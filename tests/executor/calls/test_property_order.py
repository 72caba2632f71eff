"""A model is asked for the properties of its answer in the order of the plan's author, whichever way the plan came to the engine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from firmplan import Engine, Model, Plan, PlanBuilder, agent, tool
from firmplan.executor.calls.identity import model_key
from firmplan.plans.format.property_order import arranged, as_written, property_order
from firmplan.plans.types.standalone import self_contained
from firmplan.plans.values import canonical, digest
from firmplan.testing import ScriptedModel
from pydantic import BaseModel

VERDICT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "why": {"type": "string"},
        "holds": {"type": "boolean"},
        "deep": {
            "type": "object",
            "properties": {"z": {"type": "integer"}, "a": {"type": "integer"}},
            "required": ["z", "a"],
        },
    },
    "required": ["why", "holds", "deep"],
}
ANSWER = {"why": "w", "holds": True, "deep": {"z": 1, "a": 2}}
AUTHORS = [["why", "holds", "deep"], ["z", "a"]]
SORTED = [["deep", "holds", "why"], ["a", "z"]]


class Deep(BaseModel):
    z: int
    a: int


class Verdict(BaseModel):
    why: str
    holds: bool
    deep: Deep


@agent
def judge(x: str) -> Verdict:
    """Judge ${x}."""


@tool(effect="write", approval="always")
def go() -> int:
    """Let the rest go on."""
    return 1


STEPS: dict[str, dict[str, Any]] = {
    "direct": {"id": "q", "ask": {"prompt": "Judge.", "returns": VERDICT}},
    "ref": {"id": "q", "ask": {"prompt": "Judge.", "returns": {"$ref": "#/types/Verdict"}}},
    "list": {"id": "q", "ask": {"prompt": "Judge.", "returns": {"type": "array", "items": {"$ref": "#/types/Verdict"}}}},
    "inner": {"id": "q", "plan": "inner"},
    "agent-step": {"id": "q", "agent": {"goal": "Judge.", "returns": {"$ref": "#/types/Verdict"}}},
    "agent-tool": {"id": "q", "tool": "judge", "args": {"x": "it"}},
}  # fmt: skip


def plan_of(way: str, verdict: dict[str, Any] = VERDICT) -> dict[str, Any]:
    """Return a plan that asks for a verdict in one of several ways, after a person has let it."""
    inner = [{"id": "i", "ask": {"prompt": "Judge.", "returns": {"$ref": "#/types/Verdict"}}}]
    step = (
        STEPS[way]
        if verdict is VERDICT
        else json.loads(json.dumps(STEPS[way]).replace(json.dumps(VERDICT), json.dumps(verdict)))
    )
    return {
        "firmplan": 1,
        "types": {"Verdict": verdict},
        "plans": {"inner": {"steps": inner, "output": "${i}"}},
        "steps": [{"id": "go", "tool": "go"}, {**step, "after": ["go"]}],
        "output": "${q}",
    }  # fmt: skip


def reordered(schema: Any) -> Any:
    """Return the same with the keys of every object the other way round."""
    if isinstance(schema, dict):
        return {name: reordered(part) for name, part in reversed(schema.items())}
    return [reordered(part) for part in schema] if isinstance(schema, list) else schema


def orders(request: Any) -> list[list[str]]:
    """Return the properties that a request asks for, of each object that is a verdict or a part of one."""
    found: list[list[str]] = []

    def look(part: Any) -> None:
        if isinstance(part, dict):
            if isinstance(part.get("properties"), dict):
                found.append(list(part["properties"]))
            for inner in part.values():
                look(inner)
        elif isinstance(part, list):
            for inner in part:
                look(inner)

    look({name: part for name, part in request.items() if name != "messages"})
    return [names for names in found if set(names) in ({"why", "holds", "deep"}, {"z", "a"})]


def answer_of(way: str) -> Any:
    return {"agent-step": {"reasoning": "r", "answer": ANSWER}, "list": {"answer": [ANSWER]}}.get(way, ANSWER)


def _asked_in(store: Any, way: str, plan: Any) -> tuple[Any, list[list[str]]]:
    """Return the run of a plan that waits in one engine and is asked in another, and what was asked for."""
    with ScriptedModel([answer_of(way)]) as model:
        models = {"default": Model("m", base_url=model.base_url)}
        with Engine([judge, go], store=store, models=models) as engine:
            run = engine.run_sync(plan, run_id="r")
            assert run.status == "waiting"
        with Engine([judge, go], store=store, models=models) as engine:
            engine.approve_sync("r", "go", by="me")
            done = engine.resume_sync("r")
            assert done.status == "succeeded", done.errors
            assert engine.replay_sync("r").digest == done.digest
        return done, orders(model.requests[0])


@pytest.mark.parametrize("way", STEPS)
def test_the_order_is_the_authors_after_a_stay_in_the_store(tmp_path, way):
    """Asked by another engine than the one that took the plan: of an `ask`, an agent, an inner plan, named and nested types."""
    _, asked = _asked_in(tmp_path / "s.db", way, plan_of(way))
    assert [names for names in asked if names not in AUTHORS] == []
    assert len(asked) >= 2


@pytest.mark.postgres
def test_the_order_is_the_authors_after_a_stay_in_postgresql(postgres_url):
    """The same there: a header is kept as text."""
    assert _asked_in(postgres_url, "ref", plan_of("ref"))[1][:2] == AUTHORS


@pytest.mark.parametrize("form", ["json", "yaml", "saved", "bundle-plan", "builder", "patch"])
def test_the_order_survives_every_form_of_a_plan(tmp_path, form):
    """Files, saved plans, the builder and patches keep it."""
    given = plan_of("ref")
    plan = Plan.model_validate(given)
    match form:
        case "json" | "yaml":
            plan.save(tmp_path / f"p.{form}")
            plan = Plan.load(tmp_path / f"p.{form}")
        case "saved":
            with Engine([judge, go], store=tmp_path / "s.db") as engine:
                engine.save_plan_sync("p", plan)
            with Engine([judge, go], store=tmp_path / "s.db") as engine:
                plan = engine.find_plan_sync("p")
        case "bundle-plan":
            with Engine(
                [judge, go],
                store=tmp_path / "s.db",
                models={"default": Model("m", base_url="http://127.0.0.1:9/v1")},
            ) as engine:
                engine.run_sync(plan, run_id="x")
                engine.export_sync("x", tmp_path / "x.bundle")
                plan = engine.replay_sync(tmp_path / "x.bundle").plan
        case "builder":
            p = PlanBuilder("Judge")
            p.call(go)
            p.output(p.ask("Judge.", returns=Verdict))
            built = p.build([judge, go])
            assert set(map(tuple, orders(built.to_dict()))) == set(map(tuple, AUTHORS))
        case "patch":
            plan = plan.apply([{"op": "set", "step": "q", "at": "ask.prompt", "value": "Judge it."}])
            plan = plan.apply([{"op": "set", "step": "q", "at": "ask.prompt", "value": "Judge."}])
    assert plan is not None
    assert list(plan.types["Verdict"]["properties"]) == AUTHORS[0]
    assert plan.digest == Plan.model_validate(given).digest
    assert _asked_in(tmp_path / "again.db", "ref", plan)[1][:2] == AUTHORS


def test_another_order_is_the_same_plan_and_another_question(tmp_path):
    """One digest, another model key: the second plan is asked anew, in its own order; the first is reused, and why is told."""
    plans = [
        {"firmplan": 1, "steps": [{"id": "q", "ask": {"prompt": "Judge.", "returns": verdict}}], "output": "${q}"}
        for verdict in (VERDICT, reordered(VERDICT))
    ]  # fmt: skip
    assert Plan.model_validate(plans[0]).digest == Plan.model_validate(plans[1]).digest
    with ScriptedModel([ANSWER, ANSWER]) as model:
        models = {"default": Model("m", base_url=model.base_url)}
        with Engine([], store=tmp_path / "s.db", models=models) as engine:
            runs = [engine.run_sync(plan) for plan in (*plans, *plans)]
            assert [run.steps["q"].reused for run in runs] == [False, False, True, True]
            assert len({run.digest for run in runs}) == 1
            why = engine.explain_sync(runs[1].id, "q")
            assert "the order of the output's properties changed" in str(why)
            assert Plan.model_validate(plans[0]).diff(Plan.model_validate(plans[1])).changed == ()
        assert [orders(request)[:2] for request in model.requests] == [AUTHORS, SORTED]


@pytest.mark.parametrize("mode", ["tools", "json_schema", "json", "md_json"])
def test_every_way_to_ask_for_structure_has_the_order(mode):
    """As a tool, a format of the response, or words in the prompt."""
    plan = {"firmplan": 1, "steps": [{"id": "q", "ask": {"prompt": "Judge.", "returns": VERDICT}}], "output": "${q}"}  # fmt: skip
    with ScriptedModel([ANSWER]) as model:
        with Engine([], store="memory:", models={"default": Model("m", base_url=model.base_url, mode=mode)}) as engine:  # fmt: skip
            assert engine.run_sync(plan).status == "succeeded"
        text = json.dumps(model.requests[0]).replace('\\"', '"').replace("\\\\n", " ")
    assert text.index('"why"') < text.index('"holds"') < text.index('"deep"')
    assert text.index('"z"') < text.index('"a"')


def test_worked_examples_show_answers_in_the_order_of_the_schema():
    """An example that gives the verdict before its reason would teach that."""
    ask = {
        "prompt": "Judge.",
        "returns": VERDICT,
        "examples": [{"input": "it", "output": {"deep": {"a": 2, "z": 1}, "holds": True, "why": "w"}}],
    }
    with ScriptedModel([ANSWER]) as model:
        with Engine([], store="memory:", models={"default": Model("m", base_url=model.base_url)}) as engine:
            assert engine.run_sync(
                {"firmplan": 1, "steps": [{"id": "q", "ask": ask}], "output": "${q}"}
            ).output
        (shown,) = [each["content"] for each in model.requests[0]["messages"] if each["role"] == "assistant"]
    assert shown == '{"why":"w","holds":true,"deep":{"z":1,"a":2}}'


def test_a_sorted_schema_has_the_key_that_it_always_had():
    """What was reused before the order counted is reused."""
    plain = as_written(self_contained({"type": "object", "properties": {"a": {}, "b": {}}}))
    parts = {"models": ["m"], "messages": [], "schema": plain, "temperature": 0}
    assert property_order(plain) == {}
    assert model_key(parts, (), 0).key == digest(canonical(["model", {"format": 1, **parts}]))
    other = {**parts, "schema": as_written(VERDICT)}
    assert model_key(other, (), 0).parts["order"] == {
        "/properties": ["why", "holds", "deep"],
        "/properties/deep/properties": ["z", "a"],
    }


def test_equal_schemas_of_one_order_are_one_text():
    """Only properties have an order: keywords are sorted, so that a key stands for one text."""
    shuffled = {
        "required": VERDICT["required"],
        **VERDICT,
        "$defs": {"B": {"properties": {"y": {}, "x": {}}}, "A": {}},
    }
    assert json.dumps(as_written(shuffled)) == json.dumps(as_written(dict(reversed(shuffled.items()))))
    assert list(as_written(shuffled)["$defs"]["B"]["properties"]) == ["y", "x"]
    assert canonical(as_written(shuffled)) == canonical(shuffled)
    told = {"$ref": "#/$defs/T", "$defs": {"T": {"properties": {"b": {"items": {"$ref": "#"}}, "a": {}}}}}
    value = {"a": 1, "b": [{"z": 1, "a": 2, "b": []}]}
    assert json.dumps(arranged(value, told)) == '{"b": [{"b": [], "a": 2, "z": 1}], "a": 1}'
