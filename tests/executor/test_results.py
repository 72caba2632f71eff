"""Result types of others are advice: `results=` on tools, toolsets and engines, and outputs that ask for absent fields."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest
from firmplan import ConfigError, Engine, Plan, Tool, Toolset, check, tool
from firmplan.executor import machine
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.events import CallMade, CallSucceeded
from firmplan.executor.journal.records import read_entry
from firmplan.executor.machine import ABSENT_OUTPUT_SINCE
from firmplan.testing import ScriptedTool
from rig import Rig

CITY = {"type": "object", "properties": {"celsius": {"type": "number"}}, "required": ["celsius"]}


def source(value, **options):
    """Return a tool with a declared type that always returns this value."""
    given = {"returns": CITY, "effect": "read", "version": 1, **options}
    return Tool.from_callable(lambda: value, name="look", parameters={"type": "object"}, **given)


@tool(effect="read")
def count() -> int:
    """Count."""
    return "three"


def plan_of(name="look", output="${a}", **more):
    return {"firmplan": 1, "steps": [{"id": "a", "tool": name, **more}], "output": output}


def run_of(tools, plan=None, **options):
    with Engine(tools, store="memory:", **options) as engine:
        run = engine.run_sync(plan or plan_of())
        if run.status in ("succeeded", "failed"):
            again = engine.replay_sync(run.id)
            assert (again.digest, again.output, again.warnings) == (run.digest, run.output, run.warnings)
        return run


# --- who decides


def test_schemas_beside_a_function_warn_and_annotations_are_enforced():
    """Without a word of anybody: the types of `from_callable` are advice, those of a Python function are kept."""
    warm = run_of([source({"celsius": "warm"})])
    assert (warm.status, warm.output, len(warm.warnings)) == ("succeeded", {"celsius": "warm"}, 1)
    (error,) = run_of([count], plan_of("count")).errors
    assert error.code == "bad-result"


@pytest.mark.parametrize(
    ("of_tool", "of_toolset", "of_engine", "warns"),
    [
        (None, None, None, True),
        (None, None, "enforce", None),
        (None, "warn", "enforce", True),
        (None, "enforce", "warn", None),
        ("warn", "enforce", "enforce", True),
        ("enforce", "warn", "warn", None),
        ("learn", "enforce", "enforce", False),
        (None, None, "learn", False),
    ],
)
def test_the_tool_decides_over_the_toolset_over_the_engine(of_tool, of_toolset, of_engine, warns):
    """`None`: the run fails."""
    tools = Toolset([source({"celsius": "warm"}, results=of_tool)], results=of_toolset)
    run = run_of(tools, results=of_engine)
    assert run.status == ("failed" if warns is None else "succeeded")
    assert bool(run.warnings) is bool(warns)


def test_an_engine_can_relax_annotations():
    """A function whose annotation is wrong goes on with what it returned."""
    run = run_of([count], plan_of("count"), results="warn")
    assert (run.status, run.output) == ("succeeded", "three")
    assert "'count'" in run.warnings[0].message


@pytest.mark.parametrize(
    "make", [lambda: tool(results="no", name="x")(lambda: 1), lambda: Toolset([], results="no")]
)
def test_a_rule_that_is_none_is_refused(make):
    """Where it is written, with the words that there are."""
    with pytest.raises(
        ConfigError, match=r'results: expected one of "enforce", "warn", "learn", found \'no\''
    ):
        make()
    with pytest.raises(ConfigError, match="results: expected one of"):
        Engine([], store="memory:", results="enforced")


def test_scripted_tools_of_tests_keep_their_types():
    """A result that a test writes against the type is a mistake of the test, unless somebody says otherwise."""
    wrong = ScriptedTool("look", [{"celsius": "warm"}], returns=CITY, effect="read")
    assert run_of([wrong]).errors[0].code == "bad-result"
    again = ScriptedTool("look", [{"celsius": "warm"}], returns=CITY, effect="read")
    assert run_of([again], results="warn").status == "succeeded"


# --- what it does


def test_a_mismatch_is_told_once_and_types_what_came():
    """With the place, what was expected and what came; the journal has it with the call."""
    run = run_of([source({"celsius": "warm"})])
    (warning,) = run.warnings
    assert (warning.step, warning.code) == ("a", "result-mismatch")
    assert "$.celsius" in warning.message
    assert "expected number" in warning.message
    assert '"warm"' in warning.message
    assert run.to_dict()["warnings"] == [{"step": "a", "code": "result-mismatch", "message": warning.message}]


def test_a_list_of_a_hundred_wrong_items_warns_once():
    """Items differ in value and place; what is wrong with the declared type is one thing."""
    many = [{"celsius": f"no {n}"} for n in range(40)]
    tool_of = source(many, returns={"type": "array", "items": CITY})
    plan = {
        "firmplan": 1,
        "steps": [{"id": "a", "for_each": [1, 2, 3], "tool": "look"}, {"id": "b", "tool": "look"}],
    }
    run = run_of([tool_of], plan)
    assert (run.status, len(run.warnings)) == ("succeeded", 1)
    assert run.warnings[0].message.count("expected") == 1


def test_a_second_mismatch_of_the_same_tool_is_told():
    """Another place is another mismatch."""
    results = iter([{"celsius": "warm"}, {"celsius": 1.5, "place": 1}, {"celsius": "hot"}])
    closed = {**CITY, "additionalProperties": False}
    look = Tool.from_callable(
        lambda: next(results),
        name="look",
        parameters={"type": "object"},
        returns=closed,
        effect="write",
        version=1,
    )
    steps = [{"id": name, "tool": "look"} for name in "abc"]
    run = run_of([look], {"firmplan": 1, "steps": steps})
    assert [warning.step for warning in run.warnings] == ["a", "b"]


def test_the_mismatches_of_a_run_are_bounded(monkeypatch):
    """A tool that returns something else each time does not fill the journal."""
    monkeypatch.setattr(machine, "MISMATCHES_MAX", 5)
    results = iter(range(100))
    closed = {"type": "object", "properties": {}, "additionalProperties": False}
    look = Tool.from_callable(
        lambda: {f"key_{next(results)}": 1},
        name="look",
        parameters={"type": "object"},
        returns=closed,
        effect="write",
        version=1,
    )
    run = run_of([look], {"firmplan": 1, "steps": [{"id": "a", "for_each": list(range(20)), "tool": "look"}]})
    assert (run.status, len(run.warnings)) == ("succeeded", 5)


def test_expressions_that_do_not_work_with_what_came_still_fail():
    """The step that reads it fails, with the fault of its expression; the call itself stands."""
    run = run_of(
        [source({"degrees": 3})],
        plan_of()
        | {"output": "${a}", "steps": [{"id": "a", "tool": "look"}, {"id": "b", "set": "${a.celsius + 1}"}]},
    )
    assert [(error.step, error.code) for error in run.errors] == [("b", "absent-field")]
    assert run.steps["a"].status == "succeeded"


@pytest.mark.parametrize("rule", ["warn", "learn"])
@pytest.mark.parametrize(
    "value",
    [{"celsius": "warm"}, object(), {1, 2}, float("nan"), "\ud800"],
    ids=["unfit", "object", "set", "nan", "surrogate"],
)
def test_a_write_that_took_effect_never_fails_by_its_type(rule, value):
    """What is no JSON is null, with a warning; what is, stands."""
    effects = []

    def pay():
        effects.append("paid")
        return value

    pays = Tool.from_callable(
        pay, name="look", parameters={"type": "object"}, returns=CITY, effect="write", version=1, results=rule
    )
    run = run_of([pays])
    is_json = isinstance(value, dict)
    assert (run.status, effects) == ("succeeded", ["paid"])
    assert run.output == (value if is_json else None)
    assert bool(run.warnings) is (rule == "warn" or not is_json)


def test_what_is_no_json_still_fails_a_read():
    """No value stands for it."""
    assert run_of([source({1, 2})]).errors[0].code == "bad-result"


@dataclass
class Other:
    celsius: str


def test_an_object_of_another_class_is_read_as_json():
    """Of an annotated function whose types are advice."""

    @tool(effect="read", results="warn")
    def look() -> dict[str, float]:
        """Look."""
        return Other("warm")  # type: ignore[return-value]

    run = run_of([look])
    assert (run.output, len(run.warnings)) == ({"celsius": "warm"}, 1)


def test_integral_floats_become_integers_also_beside_a_mismatch():
    """Equal values keep equal digests."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "t": {"type": "string"}}}
    run = run_of([source({"n": 2.0, "t": 1}, returns=schema)])
    assert json.dumps(run.output) == '{"n": 2, "t": 1}'


def test_learn_relies_on_no_declared_type():
    """The check takes the result for anything, so that a field that the schema lacks is no fault."""
    plan = plan_of(output="${a.degrees}")
    assert [
        problem.code
        for problem in check(plan, [source({}, returns={**CITY, "additionalProperties": False})]).problems
    ] == ["unknown-field"]
    learns = source({"degrees": 3}, returns={**CITY, "additionalProperties": False}, results="learn")
    assert check(plan, [learns]).ok
    run = run_of([learns], plan)
    assert (run.output, run.warnings) == (3, ())


def test_secrets_are_masked_in_a_warning():
    """What the tool was given does not reach the journal by way of a mismatch."""

    @tool(effect="read", results="warn")
    def look(key: str) -> int:
        """Look."""
        return f"no number: {key}"  # type: ignore[return-value]

    plan = plan_of(args={"key": '${secret("KEY")}'})
    run = run_of([look], plan, secrets={"KEY": "s3cr3t-value"})
    assert (run.status, len(run.warnings)) == ("succeeded", 1)
    assert "s3cr3t-value" not in json.dumps(run.to_dict())


def test_the_log_has_no_part_of_a_result(capfd, monkeypatch):
    """It says how many places do not fit, and the journal says which."""
    monkeypatch.setenv("FIRMPLAN_LOG", "info")
    run_of([source({"celsius": "s3cr3t-value"})])
    said = capfd.readouterr().err
    assert "mismatch" in said
    assert "s3cr3t-value" not in said


def test_a_tool_in_a_process_does_as_the_engine_says(tmp_path):
    """Its child process loads the tool anew, and knows neither toolset nor engine."""
    (tmp_path / "own.py").write_text(
        "from firmplan import tool\n\n@tool(effect='read', isolation='process')\ndef look() -> int:\n"
        "    '''Look.'''\n    return 'three'\n"
    )
    tools = Toolset.load(tmp_path / "own.py")
    assert run_of(tools).errors[0].code == "bad-result"
    run = run_of(tools, results="warn")
    assert (run.output, len(run.warnings)) == ("three", 1)


def test_a_person_may_resolve_with_what_really_came():
    """The value of a write of unknown outcome is held against a type only where results are."""

    def pay():
        raise TimeoutError

    def resolved(rule):
        pays = Tool.from_callable(
            pay,
            name="look",
            parameters={"type": "object"},
            returns=CITY,
            effect="write",
            version=1,
            results=rule,
        )
        with Engine([pays], store="memory:") as engine:
            run = engine.run_sync(plan_of())
            engine.resolve_sync(run.id, "a", done={"celsius": "warm"})
            return engine.resume_sync(run.id)

    assert resolved("warn").output == {"celsius": "warm"}
    with pytest.raises(Exception, match="is no result of step 'a'"):
        resolved("enforce")


def test_results_that_stood_do_not_stand_for_a_tool_that_enforces(tmp_path):
    """The rule is a part of the fingerprint where it is not the usual one of such tools."""
    looked: list[str] = []

    def look():
        looked.append("look")
        return {"celsius": "warm"}

    def run_with(rule):
        tried = Tool.from_callable(
            look, name="look", parameters={"type": "object"}, returns=CITY,
            effect="read", reuse_for="forever", version=1, results=rule,
        )  # fmt: skip
        with Engine([tried], store=tmp_path / "s.db") as engine:
            return engine.run_sync(plan_of()).status

    assert [run_with(rule) for rule in (None, "warn", "learn", "enforce")] == ["succeeded"] * 3 + ["failed"]
    assert len(looked) == 2


def test_records_without_a_mismatch_are_as_they_were():
    """An absent field adds nothing to a line, and lines of older journals are read."""
    old = b'{"n":3,"at":1.0,"type":"CallSucceeded","step":"a","output":{"$json":3}}'
    event = read_entry(old, lambda digest: CanonicalValue(b"")).event
    assert isinstance(event, CallSucceeded)
    assert event.mismatch is None
    told = b'{"n":3,"at":1.0,"type":"CallMade","step":"a","attempt":1,"args":"x","output":{"$json":3},"started":1.0,"mismatch":["$: no"]}'
    event = read_entry(told, lambda digest: CanonicalValue(b"")).event
    assert isinstance(event, CallMade)
    assert event.mismatch == ["$: no"]


def test_a_warning_survives_another_process(tmp_path):
    """It is in the journal, so every later look has it."""
    with Engine([source({"celsius": "warm"})], store=tmp_path / "s.db") as engine:
        run = engine.run_sync(plan_of())
    with Engine([], store=tmp_path / "s.db") as engine:
        assert engine.get_sync(run.id).warnings == run.warnings
        assert engine.replay_sync(run.id).warnings == run.warnings
        engine.export_sync(run.id, tmp_path / "r.bundle")
        assert engine.replay_sync(str(tmp_path / "r.bundle")).warnings == run.warnings


# --- outputs


@tool(effect="write")
def send() -> dict[str, Any]:
    """Send."""
    return {"id": "m1", "nothing": None}


@pytest.mark.parametrize(
    ("output", "gives", "places"),
    [
        ("${a.sent_at}", None, ["$"]),
        ({"id": "${a.id}", "at": "${a.sent_at}"}, {"id": "m1", "at": None}, ["$.at"]),
        (["${a.id}", "sent at ${a.sent_at}"], ["m1", None], ["$[1]"]),
        ({"x": {"y": "${a.nothing.z}"}, "z": "${a['q']}"}, {"x": {"y": None}, "z": None}, ["$.x.y", "$.z"]),
        ("${first(a.sent_at, 'unknown')}", "unknown", []),
    ],
)
def test_an_output_that_asks_for_an_absent_field_is_null_there(output, gives, places):
    """A run does not fail after its writes for a field that its result need not have; a warning says which."""
    run = run_of([send], plan_of("send", output))
    assert (run.status, run.output) == ("succeeded", gives)
    assert [warning.code for warning in run.warnings] == ["absent-field"] * len(places)
    for place, warning in zip(places, run.warnings, strict=True):
        assert (warning.step, f"output at {place} is null" in warning.message) == ("", True)


@pytest.mark.parametrize(
    ("output", "code"),
    [("${1 / len(a['nothing'] or [])}", "division-by-zero"), ("${[1][len(a)]}", "index-out-of-range")],
)
def test_other_faults_of_an_output_still_fail_the_run(output, code):
    """Only what is not there is null."""
    run = run_of([send], plan_of("send", output))
    assert [(error.step, error.code) for error in run.errors] == [("", code)]


def test_a_plan_in_a_step_still_fails_by_an_absent_field():
    """What reads the value of the step relies on the type that the check found."""
    plan = {
        "firmplan": 1,
        "plans": {"inner": plan_of("send", "${a.sent_at}") | {"inputs": {}}},
        "steps": [{"id": "b", "plan": "inner"}],
        "output": "${b}",
    }
    del plan["plans"]["inner"]["firmplan"]
    assert run_of([send], plan).errors[0].code == "absent-field"


def test_a_run_of_earlier_rules_fails_as_it_did():
    """A run keeps the rules that it began with: its journal replays to the same end."""

    async def main():
        async with Rig([send]) as rig:
            for rules, status in ((ABSENT_OUTPUT_SINCE - 1, "failed"), (ABSENT_OUTPUT_SINCE, "succeeded")):
                run = await rig.run(
                    Plan.model_validate(plan_of("send", "${a.sent_at}")), f"r{rules}", rules=rules
                )
                again = await rig.execution.archive.replayed(await rig.execution.archive.row(run.id))
                assert run.status == again.status == status
                assert [error.code for error in again.errors] == ["absent-field"] * (status == "failed")

    asyncio.run(main())
