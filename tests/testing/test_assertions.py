"""Assertions about runs: their failures say what differs, and where."""

from __future__ import annotations

import re

import pytest
from firmplan import Engine, tool
from firmplan.testing import assert_same_run, assert_step, run_plan
from public import call, plan, within


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(effect="pure", name="add")
def add_wrongly(a: int, b: int) -> int:
    """Add, and one more."""
    return a + b + 1


SUM = plan(
    call("one", "add", args={"a": 1, "b": "${inputs.n}"}),
    call("two", "add", args={"a": "${one}", "b": 1}, for_each="${[1, 2]}"),
    inputs={"n": {"type": "integer"}},
    output="${two}",
)


def exported(path, tools, **inputs):
    async def go():
        async with Engine(tools, store="memory:") as engine:
            run = await engine.run(SUM, inputs=inputs)
            return await engine.export(run.id, path)

    return within(go())


def test_runs_that_came_out_alike_are_the_same():
    """Id, time, attempts and reuse are no difference."""
    assert_same_run(run_plan(SUM, [add], n=1), run_plan(SUM, [add], n=1))


def test_what_differs_is_told_by_step():
    """The message has the inputs, the first step that differs, and every output by path."""
    with pytest.raises(AssertionError) as caught:
        assert_same_run(run_plan(SUM, [add], n=1), run_plan(SUM, [add], n=4))
    text = str(caught.value)
    assert "inputs.n: 1 -> 4" in text
    assert "first divergence: step 'one'" in text
    assert "~ two  output[0]: 3 -> 6; output[1]: 3 -> 6" in text


def test_bundles_are_compared_with_their_reasons(tmp_path):
    """Of two bundles it is told that the tool changed between them; a bundle and a run can be compared too."""
    before = exported(tmp_path / "a.bundle", [add], n=1)
    after = exported(tmp_path / "b.bundle", [add_wrongly], n=1)
    with pytest.raises(AssertionError, match="the tool 'add' was changed between the runs"):
        assert_same_run(before, after)
    assert_same_run(before, run_plan(SUM, [add], n=1))
    with pytest.raises(AssertionError, match=r"~ one  output: 3 -> 2"):
        assert_same_run(str(after), run_plan(SUM, [add], n=1))


def test_another_plan_with_the_same_outcome_is_another_run():
    """A plan that says something else is a difference, even where nothing comes of it."""
    other = {**SUM, "steps": [*SUM["steps"], {"id": "more", "set": 1}]}
    with pytest.raises(AssertionError, match=re.escape("+ more")):
        assert_same_run(run_plan(SUM, [add], n=1), run_plan(other, [add], n=1))


def test_a_step_is_held_to_its_status_and_output():
    """One step, any of its keys; the failure names the place in the value."""
    run = run_plan(SUM, [add], n=1)
    assert_step(run, "one", output=2, status="succeeded", attempts=1, reused=False, error=None)
    assert_step(run, "two[1]", output=3)
    with pytest.raises(AssertionError, match=re.escape("step 'two': output[1]: 4 -> 3")):
        assert_step(run, "two", output=[3, 4])


def test_a_step_that_is_none_gets_a_suggestion():
    """A misspelt step, and a misspelt key, say what there is."""
    run = run_plan(SUM, [add], n=1)
    with pytest.raises(AssertionError, match=r"no step 'onw': did you mean 'one'"):
        assert_step(run, "onw", output=2)
    with pytest.raises(AssertionError, match=r"expected status, output, .* found 'outputs'"):
        assert_step(run, "one", outputs=2)


def test_a_failure_shows_with_the_step():
    """Where a step was expected to succeed and failed, its message is there."""

    @tool(effect="pure", name="add")
    def broken(a: int, b: int) -> int:
        raise ValueError("no more numbers")

    run = run_plan(SUM, [broken], n=1)
    with pytest.raises(AssertionError, match="no more numbers"):
        assert_step(run, "one", status="succeeded")
    assert_step(run, "one", status="failed", error="tool-error")
