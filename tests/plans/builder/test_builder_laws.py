"""Plans that are opened in a builder, and plans that a builder writes step by step: JSON, YAML and builder say the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from firmplan import Plan, PlanBuilder, check, tool
from firmplan.plans.format.load import to_yaml
from firmplan.plans.format.source import parse_source
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from seeds import examples
from typed_plans import TYPED_TOOLS, typed_plans

OPTIONS = ("for_each", "when", "after", "on_error", "repeat", "retries", "timeout", "why")


class Weather(BaseModel):
    celsius: float
    wind: dict[str, float]


@tool(effect="read")
def weather(city: str) -> Weather:
    """Tell the weather."""
    raise NotImplementedError


def written(body: dict[str, Any], p: PlanBuilder) -> PlanBuilder:
    """Write a plan's body with a builder's methods, a call for each thing it has."""
    for name, schema in body.get("inputs", {}).items():
        p.input(name, schema)
    for step in body["steps"]:
        options = {key: step[key] for key in OPTIONS if key in step} | {"id": step["id"]}
        match step:
            case {"tool": name}:
                p.call(name, args=step["args"], **options)
            case {"plan": name}:
                p.plan(name, args=step["args"], **options)
            case {"set": value}:
                p.set(value, **options)
            case {"ask": {"prompt": prompt, **rest}}:
                p.ask(prompt, **rest, **options)
            case {"agent": {"goal": goal, **rest}}:
                p.agent(goal, **rest, **options)
    p.output(body["output"])
    return p


@examples(60)
@given(typed_plans())
def test_a_builder_can_write_every_plan(raw: dict[str, Any]) -> None:
    """What the builder's methods write is the plan whose steps they were given."""
    p = PlanBuilder(raw["task"])
    for name, inner in raw.get("plans", {}).items():
        written(inner, p.inner(name))
    assert written(raw, p).build(TYPED_TOOLS).digest == Plan.model_validate(raw).digest


@examples(60)
@given(typed_plans())
def test_an_opened_plan_builds_itself(raw: dict[str, Any]) -> None:
    """From JSON to YAML to a builder and back: one digest, and nothing of the plan is changed or lost."""
    plan = Plan.model_validate(raw)
    from_yaml = Plan.model_validate(parse_source(to_yaml(plan)).value)
    p = PlanBuilder.of(from_yaml, TYPED_TOOLS)
    assert p.build() == plan
    assert p.build().digest == plan.digest
    assert p.to_dict() == plan.to_dict()
    assert list(p.steps) == [step.id for step in plan.steps]


@examples(60)
@given(typed_plans())
def test_an_opened_plan_goes_on(raw: dict[str, Any]) -> None:
    """Steps that are added refer to those that are there; the plan that was opened stays as it was."""
    plan = Plan.model_validate(raw)
    p = PlanBuilder.of(plan, TYPED_TOOLS)
    p.output({"before": p.set([*p.steps.values()], id="all_of_it"), "n": p.inputs.n})
    more = p.build()
    assert check(more, TYPED_TOOLS).ok
    assert [step.id for step in more.steps] == [*(step.id for step in plan.steps), "all_of_it"]
    assert more.diff(plan).to_patch() is not None
    assert plan == Plan.model_validate(raw)
    assert more.apply(more.diff(plan).to_patch()).digest == plan.digest


SPELLINGS = [
    "yes", "no", "null", "~", "1", "1.0", "1e3", "0x1", "0o7", "1_000", "1:30", "+1", ".5", "5.",
    ".inf", ".nan", "true", "True", "ON", "<<", "=", "-", "?", ":", "---", "...", "|", ">", "%", "@",
    "`", "!", "&", "*", "{", "[", "#", "'", '"', "", " x", "x ", "\n", "a\nb\n\n", "a: b", "# c",
    "- a", "2020-01-01", "\t", "\x85", "\u2028", "\ufeff", "\x00", "\r\n",
]  # fmt: skip
_texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(SPELLINGS)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@examples(300)
@given(_values, _texts)
def test_values_come_through_every_form(value: Any, text: str) -> None:
    """Whatever text looks like, YAML, JSON and the builder give it back, and numbers keep their kind."""
    step = {"id": "a", "set": value, "why": text}
    plan = Plan.model_validate({"firmplan": 1, "task": text, "steps": [step], "output": "${a}"})
    for form in (to_yaml(plan), plan.to_json()):
        again = Plan.model_validate(parse_source(form).value)
        assert repr(PlanBuilder.of(again).to_dict()) == repr(plan.to_dict())


def test_inner_plans_are_gone_on_with() -> None:
    """`inner` gives the plan of that name that is there."""
    p = PlanBuilder("Outer")
    inner = p.inner("city")
    inner.output(inner.call(weather, city=inner.input("name")).celsius)
    p.output(p.plan(inner, name="Oslo"))
    q = PlanBuilder.of(p.build(), [weather])
    again = q.inner("city")
    again.output({"celsius": again.steps.weather.celsius, "of": again.inputs.name})
    assert q.build().plans["city"].output == {"celsius": "${weather.celsius}", "of": "${inputs.name}"}
    assert p.inner("city") is inner


def test_handles_complete_names() -> None:
    """Editors see steps, inputs and the fields of what tools give, through lists and maps."""
    p = PlanBuilder()
    cities = p.input("cities", list[Weather])
    p.call(weather, city="Oslo", id="one")
    p.call(weather, city=p.item, for_each=["Oslo"], id="many")
    p.ask("Hi", returns=p.type("Told", Weather), id="told")
    q = PlanBuilder.of(p.build(), [weather])
    for each in (p, q):
        assert {"one", "many", "told"} <= set(dir(each.steps))
        assert "cities" in dir(each.inputs)
        for handle in (each.steps.one, each.steps.many[0], each.steps.told, each.inputs["cities"][0]):
            assert {"celsius", "wind"} <= set(dir(handle))
        assert "celsius" not in dir(each.steps.many)
        assert "celsius" not in dir(each.steps.one.wind)
    assert "celsius" in dir(cities[-1])
    assert "celsius" in dir(copy.deepcopy(p.steps.one))
    assert repr(q.steps) == "<steps one, many, told>"


def test_handles_name_what_is_near() -> None:
    """A step or an input that is not there is told with the nearest name."""
    p = PlanBuilder()
    p.call(weather, city=p.input("city"))
    with pytest.raises(
        AttributeError,
        match=r"expected a step of the plan \(weather\), found 'wether': did you mean 'weather'",
    ):
        _ = p.steps.wether
    with pytest.raises(KeyError, match=r"did you mean 'city'"):
        _ = p.inputs["cit"]
    assert not hasattr(p.steps, "__array__")
