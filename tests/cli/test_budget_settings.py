"""Budgets of `firmplan.toml` and the environment: for every command that runs; no limits where nothing is set."""

from __future__ import annotations

import json

import pytest
from firmplan.cli.config import SERVER_BUDGET_MAX, read_settings


@pytest.fixture
def list_file(plan_file):
    step = {"id": "s", "tool": "half", "for_each": [2, 4, 6], "args": {"n": "${item}"}}
    return plan_file(inputs={}, steps=[step], output="${s}", task=None)


def test_a_command_has_no_limits_of_its_own(firmplan, list_file):
    assert firmplan("run", list_file, "-t", "tools.py").code == 0


def test_a_default_and_a_ceiling_of_the_file(firmplan, home, list_file):
    """`--budget` goes before the default, and not past the ceiling."""
    (home / "firmplan.toml").write_text("[budget]\ncalls = 1\n[budget_max]\ncalls = 2\n")
    run = ("run", list_file, "-t", "tools.py", "--run-id", "r")
    stopped = firmplan(*run)
    assert (stopped.code, "the budget is used up (so far steps=1, " in stopped.out) == (4, True)
    refused = firmplan("resume", "r", "-t", "tools.py", "--budget", "calls=3")
    assert refused.code == 2
    assert (
        "budget: 'calls': expected at most 2, the ceiling of this engine (budget_max), found 3" in refused.err
    )
    assert firmplan("resume", "r", "-t", "tools.py", "--budget", "calls=2").code == 4


def test_a_held_list_is_told_with_its_items(firmplan, list_file):
    """On stderr as progress, and in the advice."""
    answer = firmplan("run", list_file, "-t", "tools.py", "--budget", "items=2", "--run-id", "r")
    assert answer.code == 4
    assert "WAIT s  waits for a larger budget: items, of which its list has 3" in answer.err
    assert "firmplan resume r" in answer.out
    assert firmplan("show", "r").code == 0
    assert json.loads(firmplan("resume", "r", "-t", "tools.py", "--budget", "items=3", "--json").out)[
        "output"
    ] == [
        1,
        2,
        3,
    ]


def test_the_environment_replaces_the_table_of_the_file(tmp_path):
    """As for every setting; numbers and `false` are read as JSON."""
    (tmp_path / "firmplan.toml").write_text("[budget_max]\nsteps = 5\nusd = 1.5\n")
    assert read_settings({}, {}, tmp_path).budget_max.amounts() == {"steps": 5, "usd": 1.5}
    env = {"FIRMPLAN_BUDGET_MAX": "seconds=60, steps=false", "FIRMPLAN_BUDGET": "tokens=7"}
    settings = read_settings({}, env, tmp_path)
    assert settings.budget_max.amounts() == {"seconds": 60}
    assert settings.budget.amounts() == {"tokens": 7}
    assert settings.budget_max.amounts(SERVER_BUDGET_MAX) == {
        **{name: most for name, most in SERVER_BUDGET_MAX.items() if name != "steps"},
        "seconds": 60,
    }


def test_a_default_above_a_servers_own_ceiling_raises_it(firmplan, home, monkeypatch):
    """A default that the settings name is meant; a ceiling that they name is kept, and the contradiction is an error."""
    from firmplan.cli.invocation import Invocation

    monkeypatch.setenv("FIRMPLAN_BUDGET", "steps=1000000")
    assert Invocation({}, as_json=False).budget_max(serves=True)["steps"] == 1_000_000
    monkeypatch.setenv("FIRMPLAN_BUDGET_MAX", "steps=10")
    refused = firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=1")
    assert refused.code == 2
    assert "budget: 'steps': expected at most 10, the ceiling of budget_max, found 1000000" in refused.err
