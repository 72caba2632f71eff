"""`run --stream` starts steps of a task while its plan is still being written."""

from __future__ import annotations

import pytest
from awaiting import TOOLS, awaiting
from firmplan.testing import ScriptedModel


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_step_runs_before_the_plan_is_whole(firmplan, home, words):
    """The model writes the end of its plan only once a step has run."""
    (home / "tools.py").write_text(TOOLS)
    reply, was_there = awaiting(home / "looked")
    with ScriptedModel([reply]) as model:
        endpoint = ("--model", "m", "--base-url", model.base_url)
        ran = firmplan("run", "Look six times", "--tools", "tools.py", *endpoint, "--stream", *words)
        assert model.requests[0]["stream"] is True
    assert ran.code == 0, ran.err
    assert was_there == [True]
    if words:
        assert ran.document["output"] == 5


def test_without_it_the_plan_comes_first(firmplan, home):
    """An answer that is not streamed is asked for, as before."""
    (home / "tools.py").write_text(TOOLS)
    (home / "looked").touch()
    reply, _ = awaiting(home / "looked")
    with ScriptedModel([reply]) as model:
        endpoint = ("--model", "m", "--base-url", model.base_url)
        assert firmplan("run", "Look six times", "--tools", "tools.py", *endpoint).code == 0
        assert "stream" not in model.requests[0]
