"""Policies that `firmplan.toml` writes down."""

from __future__ import annotations

import pytest
from firmplan import ConfigError, ValueLabels
from firmplan.executor.calls.flow.policies import written_policy

TOOLS = '''
from firmplan import tool

@tool(effect="read", trust="untrusted", resource="web")
def page() -> dict[str, str]:
    """Read a page."""
    return {"mail": "bob@example.org", "evil": "eve@example.net"}

@tool(effect="write", resource="mail")
def send(to: str) -> str:
    """Send a mail."""
    return to
'''
SETTINGS = """
[[policies]]
name = "own domain"
tool = "send"
arg = "to"
verdict = "allow"
matches = '.*@example\\.org'
"""


@pytest.fixture
def mail(home, plan_file):
    (home / "tools.py").write_text(TOOLS)

    def plan(field):
        steps = [{"id": "p", "tool": "page"}, {"id": "s", "tool": "send", "args": {"to": f"${{p.{field}}}"}}]
        return plan_file(inputs={}, steps=steps, output="${s}", task=None)

    return plan


def test_a_policy_of_the_file_decides(firmplan, home, mail):
    """Without it the check refuses the plan; with it the value decides, and `explain` names the rule."""
    assert firmplan("run", mail("mail"), "-t", "tools.py").code == 2
    (home / "firmplan.toml").write_text(SETTINGS)
    assert firmplan("run", mail("mail"), "-t", "tools.py", "--run-id", "r").code == 0
    assert "the rule 'own domain' allowed the untrusted data in 'to'" in firmplan("explain", "r", "s").out
    assert firmplan("run", mail("evil"), "-t", "tools.py").code == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("matches = '('", "matches: expected a regular expression"),
        ("verdict = 'perhaps'", "policies"),
        ("colour = 'red'", "policies"),
    ],
)
def test_a_faulty_policy_is_refused_with_its_place(firmplan, home, mail, line, words):
    key = line.split(" ")[0]
    kept = "\n".join(each for each in SETTINGS.splitlines() if not each.startswith(key))
    (home / "firmplan.toml").write_text(f"{kept}\n{line}\n")
    answer = firmplan("run", mail("mail"), "-t", "tools.py")
    assert answer.code == 2
    assert words in answer.err
    assert "firmplan.toml" in answer.err


TRUSTED, OUTSIDE = ValueLabels(), ValueLabels(("page",))


@pytest.mark.parametrize(
    ("conditions", "value", "labels", "holds"),
    [
        ({}, 1, TRUSTED, True),
        ({"matches": "a.c"}, "abc", TRUSTED, True),
        ({"matches": "a.c"}, "abcd", TRUSTED, False),
        ({"matches": "1"}, 1, TRUSTED, False),
        ({"one_of": ["a", 1]}, 1, TRUSTED, True),
        ({"one_of": ["a", 1]}, True, TRUSTED, False),
        ({"above": 3}, 4, TRUSTED, True),
        ({"above": 3}, 3, TRUSTED, False),
        ({"above": 3}, "4", TRUSTED, False),
        ({"at_most": 3}, 3.0, TRUSTED, True),
        ({"at_most": 3}, True, TRUSTED, False),
        ({"untrusted": True}, 1, OUTSIDE, True),
        ({"untrusted": True}, 1, TRUSTED, False),
        ({"known": True}, 1, ValueLabels(("page",), known=True), True),
        ({"above": 3, "untrusted": True}, 4, TRUSTED, False),
    ],
)
def test_all_conditions_have_to_hold(conditions, value, labels, holds):
    policy = written_policy("p", "send", "to", "deny", **conditions)
    assert policy.judge(value, labels) == ("deny" if holds else None)


def test_a_faulty_expression_is_named():
    with pytest.raises(ConfigError, match="policy 'p': matches: expected a regular expression"):
        written_policy("p", "send", "to", "deny", matches="(")
