"""Typed in and out: Python values as inputs, and `returns=` for outputs, with `run.value`."""

# No `from __future__ import annotations`: the types of the tools stand in this module as they are.
import asyncio
import dataclasses
import enum
import json
import typing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from firmplan import (
    ConfigError,
    Engine,
    InputRejected,
    Plan,
    PlanBuilder,
    Planner,
    PlanRejected,
    RunFailed,
    check,
    tool,
)
from firmplan.testing import ScriptedModel
from pydantic import BaseModel, Field, field_validator


class Color(enum.Enum):
    """An enum whose values are text."""

    RED = "red"
    BLUE = "blue"


class Span(typing.NamedTuple):
    """A pair."""

    low: int
    high: int = 9


class Tree(typing.TypedDict, total=False):
    """A dict of typing's own kind, which names itself."""

    name: typing.Required[str]
    weight: int
    parts: "list[Tree]"


@dataclasses.dataclass
class Cost:
    """A dataclass."""

    where: Path
    amount: Decimal = Decimal("1.50")
    took: timedelta = timedelta(minutes=1)


class Order(BaseModel):
    """A model with defaults."""

    day: date
    lines: list[str] = Field(default_factory=list)
    color: Color = Color.RED
    note: str | None = None


class Report(BaseModel):
    """What the runs below return."""

    title: str
    day: date = date(2026, 1, 1)

    @field_validator("title")
    @classmethod
    def _is_short(cls, title: str) -> str:
        if len(title) > 20:
            raise ValueError("expected a short title")
        return title


@tool(effect="pure")
def order(  # noqa: PLR0917  # one of each type
    day: date,
    at: datetime,
    took: timedelta,
    color: Color,
    key: UUID,
    amount: Decimal,
    path: Path,
    span: Span,
    tree: Tree,
    cost: Cost,
) -> Order:
    """Take a value of each type."""
    kinds = (date, datetime, timedelta, Color, UUID, Decimal, Path, Span, dict, Cost)
    given = (day, at, took, color, key, amount, path, span, tree, cost)
    assert all(isinstance(value, kind) for value, kind in zip(given, kinds, strict=True))
    return Order(day=day)


@tool(effect="pure")
def grow(name: str) -> Tree:
    """Return a tree."""
    return {"name": name, "parts": [{"name": "leaf", "weight": 1}]}


@tool(effect="pure")
def price(name: str) -> Cost:
    """Return a cost."""
    return Cost(Path(name))


GIVEN: dict[str, Any] = {
    "day": date(2026, 12, 1),
    "at": datetime(2026, 12, 1, 8, tzinfo=UTC),
    "took": timedelta(hours=2),
    "color": Color.BLUE,
    "key": UUID(int=7),
    "amount": Decimal("2.50"),
    "path": Path("a/b"),
    "span": Span(1),
    "tree": {"name": "root", "parts": [{"name": "leaf"}]},
    "cost": Cost(Path("c")),
}
TITLED: dict[str, Any] = {
    "firmplan": 1,
    "inputs": {"title": {"type": "string"}},
    "steps": [{"id": "t", "set": "${inputs.title.strip()}"}],
    "output": {"title": "${t}", "day": "2026-02-03"},
}


@pytest.fixture(scope="module")
def engine() -> Any:
    with Engine([order, grow, price], store="memory:") as made:
        yield made


def test_python_values_are_inputs_of_runs_and_arguments_of_tools(engine: Engine) -> None:
    """Each arrives in the tool as a value of its type; what stands in the store is JSON."""
    p = PlanBuilder()
    hints = typing.get_type_hints(order.fn)
    inputs = {name: p.input(name, hints[name]) for name in GIVEN}
    made = p.call(order, args=inputs)
    p.output({"made": made, "tree": p.call(grow, name="x"), "cost": p.call(price, name="y")})
    run = engine.run_sync(p.build(), inputs=GIVEN).raise_for_status()
    assert run.inputs["took"] == "PT2H"
    assert run.inputs["span"] == [1, 9]
    assert run.inputs["cost"] == {"where": "c", "amount": "1.50", "took": "PT1M"}
    assert run.output["made"] == {"day": "2026-12-01", "lines": [], "color": "red", "note": None}
    assert run.output["tree"]["parts"] == [{"name": "leaf", "weight": 1}]


def test_fields_with_defaults_are_there_in_results() -> None:
    """The check does not say that a field with a default may be absent; a key of a dict that is not required may be."""
    p = PlanBuilder()
    made = p.call(order, args={**GIVEN, "tree": {"name": "x"}})
    p.output({"color": made.color, "weight": p.call(grow, name="x").weight})
    assert order.returns is not None
    assert order.returns["required"] == ["day", "lines", "color", "note"]
    found = check(p.to_dict(), [order, grow]).problems
    assert [(each.code, each.path) for each in found] == [("maybe-missing", "$.output.weight")]


def test_an_instance_gives_the_inputs(engine: Engine) -> None:
    """A model or a dataclass has a field for each input."""

    @dataclasses.dataclass
    class Titled:
        title: str

    class TitledModel(BaseModel):
        title: str

    for given in (Titled("x"), TitledModel(title="x"), {"title": "x"}):
        assert engine.run_sync(TITLED, inputs=given).output == {"title": "x", "day": "2026-02-03"}
    with pytest.raises(InputRejected, match="the plan has no input 'where'"):
        engine.run_sync(TITLED, inputs=Cost(Path("x")))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({1}, "found a Python set, which JSON cannot carry; write a sorted list"),
        (b"x", "found a Python bytes, which JSON cannot carry; keep bytes with save_artifact"),
        (object(), "found a Python object, which JSON cannot carry"),
        ({"a": [date(2026, 1, 1), {2}]}, r"\$.inputs.title.a\[1\]"),
        ({1: 2}, "the key 1: expected text"),
        (date(2026, 1, 1), None),
        (Decimal(1), None),
        (Color.RED, None),
        (3, "expected text, found 3"),
    ],
)  # fmt: skip
def test_what_no_input_can_be_is_told(engine: Engine, value: Any, told: str | None) -> None:
    """With its place; a date, a decimal or an enum is text."""
    if told is None:
        assert engine.run_sync(TITLED, inputs={"title": value}).status == "succeeded"
        return
    with pytest.raises(InputRejected, match=told):
        engine.run_sync(TITLED, inputs={"title": value})
    with pytest.raises(InputRejected, match="inputs: expected an object of inputs by name, found a list"):
        engine.run_sync(TITLED, inputs=[value])  # type: ignore[arg-type]


def test_a_run_returns_a_value_of_the_type(engine: Engine) -> None:
    """A model, a dict of a type, a schema; the plan and its digest stay as they are."""
    run = engine.run_sync(TITLED, inputs={"title": " x "}, returns=Report)
    assert run.value == Report(title="x", day=date(2026, 2, 3))
    assert run.value is run.value
    assert run.plan is not None
    assert run.plan.digest == Plan.model_validate(TITLED).digest
    assert engine.run_sync(TITLED, inputs={"title": "x"}).value == {"title": "x", "day": "2026-02-03"}
    for again in (
        engine.get_sync(run.id, returns=Report),
        engine.wait_sync(run.id, returns=Report),
        engine.replay_sync(run.id, returns=Report),
        engine.submit_sync(TITLED, inputs={"title": " x "}, run_id=run.id, returns=Report),
        engine.get_sync(run.id).typed(Report),
    ):
        assert again.value == run.value
        assert again == engine.get_sync(run.id) or again.id != run.id or again.status == "succeeded"
    assert engine.fork_sync(run.id, inputs={"title": "y"}, returns=Report).value.title == "y"
    assert engine.run_sync(TITLED, inputs={"title": "x"}, returns=dict[str, str]).value["title"] == "x"
    assert "Report" not in repr(run)


def test_a_plan_that_cannot_give_the_type_is_refused_before_anything_runs() -> None:
    """In runs, forks, retries and resumes; a declared type counts in place of the inferred one."""

    class Other(BaseModel):
        title: int
        day: str

    declared = {**TITLED, "returns": {"type": "object", "properties": {"title": {"type": "string"}, "day": {"type": "string"}}, "required": ["title"]}}  # fmt: skip
    with Engine([grow], store="memory:") as fresh:
        for plan, path in ((TITLED, "$.output.title"), (declared, "$.returns")):
            with pytest.raises(PlanRejected) as refused:
                fresh.run_sync(plan, inputs={"title": "x"}, returns=Other)
            assert path in [each.path for each in refused.value.report.errors]
        assert not fresh.list_runs_sync().runs
        run = fresh.run_sync(TITLED, inputs={"title": "x"})
        for call in (fresh.fork_sync, fresh.resume_sync, fresh.retry_sync):
            with pytest.raises(PlanRejected):
                call(run.id, returns=Other)
        with pytest.raises(RunFailed, match="its output is no Other: title: expected integer"):
            _ = fresh.wait_sync(run.id, returns=Other).value


def test_what_a_validator_refuses_is_told_with_the_value(engine: Engine) -> None:
    """A validator of a model knows more than its schema; and a run that did not succeed has no value."""
    run = engine.run_sync(TITLED, inputs={"title": "x" * 21}, returns=Report)
    with pytest.raises(
        RunFailed, match="its output is no Report: title: Value error, expected a short title"
    ):
        _ = run.value
    failing = {"firmplan": 1, "steps": [{"id": "f", "fail": "no"}], "output": {"title": "x"}}
    with pytest.raises(RunFailed, match="failed: step 'f': no"):
        _ = engine.run_sync(failing, returns=Report).value


@pytest.mark.parametrize("wanted", [3, {1}, lambda: 1, object()])
def test_what_is_no_type_is_a_config_error(engine: Engine, wanted: Any) -> None:
    """Before anything is stored."""
    with pytest.raises(ConfigError, match="returns: expected a type"):
        engine.run_sync(TITLED, inputs={"title": "x"}, returns=wanted)


def test_what_people_give_may_be_python_values() -> None:
    """Answers, and values that a fork sets."""
    asks = {
        "firmplan": 1,
        "steps": [
            {"id": "day", "ask_person": "When?", "returns": {"type": "string", "format": "date"}},
            {"id": "t", "set": "${day + '!'}"},
        ],
        "output": "${t}",
    }
    with Engine([grow], store="memory:") as engine:
        run = engine.run_sync(asks)
        engine.answer_sync(run.id, "day", date(2026, 7, 1), by="ann")
        assert engine.resume_sync(run.id).output == "2026-07-01!"
        assert engine.fork_sync(run.id, set={"t": Color.RED}).output == "red"
        with pytest.raises(InputRejected, match="no JSON"):
            engine.fork_sync(run.id, set={"t": {1}})


def plan_of(output: Any) -> str:
    steps = [{"id": "g", "tool": "grow", "args": {"name": "Ada"}}]
    return json.dumps({"firmplan": 1, "steps": steps, "output": output})


def test_a_task_is_planned_for_the_type() -> None:
    """The planner is told the schema, a draft whose output does not fit is sent back, and the plan declares the type."""

    async def main() -> None:
        replies = [plan_of("${g.name}"), plan_of({"title": "${g.name}", "day": "2026-05-06"})]
        async with ScriptedModel(replies) as model:
            planner = Planner("m", base_url=model.base_url, api_key="k")
            async with Engine([grow, order], store="memory:", planner=planner) as engine:
                run = await engine.run("Grow Ada", run_id="r", returns=Report)
                assert run.value == Report(title="Ada", day=date(2026, 5, 6))
                assert run.plan is not None
                assert run.plan.returns is not None
                assert set(run.plan.returns["properties"]) == {"title", "day"}
                asked = [str(request) for request in model.requests]
                assert "must fit this JSON Schema" in asked[0]
                assert "$.output" in asked[1]
                # The same task with another type is another run; with the same type it is the run, and asks nobody.
                with pytest.raises(InputRejected, match="with another plan or task"):
                    await engine.run("Grow Ada", run_id="r")
                assert (await engine.run("Grow Ada", run_id="r", returns=Report)).value == run.value
                assert (await engine.run("Grow Ada", returns=Report)).value == run.value
                assert len(model.requests) == 2

    asyncio.run(main())


def test_steps_of_a_typed_task_start_while_its_plan_is_written() -> None:
    """A partial plan has no output yet, so its type is not looked at; and a saved plan answers only if its output fits."""

    async def main() -> None:
        replies = [plan_of({"title": "${g.name}"})]
        async with ScriptedModel(replies) as model:
            planner = Planner("m", base_url=model.base_url, api_key="k", adapt=False)
            async with Engine([grow, order], store="memory:", planner=planner) as engine:
                saved = json.loads(plan_of("${g.name}"))
                await engine.save_plan("grow", {**saved, "task": "Grow Ada"})
                assert (await engine.run("Grow Ada", returns=str)).value == "Ada"
                assert len(model.requests) == 0
                run = await engine.run("Grow Ada", returns=Report, stream=True)
                assert run.value == Report(title="Ada")
                assert len(model.requests) == 1

    asyncio.run(main())
