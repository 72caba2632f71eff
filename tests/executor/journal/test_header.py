"""The header of a run: read back as it was written, and refused where a newer firmplan wrote it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from firmplan import Plan, StoreError
from firmplan.executor import Header, ToolsetLock
from firmplan.executor.events import PlanMade
from firmplan.executor.fork import Fork, PastWrite
from firmplan.executor.journal.header import ASKING_FORMAT, HEADER_FORMAT, RULES_ONCE, default_seed
from firmplan.executor.machine import RULES_VERSION
from firmplan.plans.expressions.functions import EXPRESSION_VERSION

PLAN = Plan.model_validate({"firmplan": 1, "steps": [{"id": "a", "set": "${1 + 1}"}]})


def header():
    return Header(PLAN, {"x": 1}, "seed", ToolsetLock(()))


def test_a_header_is_read_back_as_it_was_written():
    """Nothing is lost on the way."""
    assert Header.from_dict(header().to_dict()).to_dict() == header().to_dict()


def test_a_header_without_a_version_of_the_language_is_of_the_first():
    """As the first release wrote it."""
    written = header().to_dict()
    del written["expressions"]
    assert Header.from_dict(written).to_dict() == {**header().to_dict(), "expressions": 1}


@pytest.mark.parametrize(
    ("part", "version"),
    [
        ("format", 0),
        ("format", ASKING_FORMAT + 1),
        ("expressions", EXPRESSION_VERSION + 1),
        ("rules", RULES_VERSION + 1),
    ],
)
def test_a_header_of_a_newer_firmplan_is_refused(part, version):
    """Its run would be evaluated otherwise than it was, also by the version right before."""
    with pytest.raises(StoreError, match=r"this firmplan (reads|evaluates|knows)"):
        Header.from_dict({**header().to_dict(), part: version})


def test_a_header_that_does_not_say_its_rules_is_of_the_first():
    """As versions wrote it that knew no others; and so it is written again."""
    written = header().to_dict()
    del written["rules"]
    found = Header.from_dict(written)
    assert found.rules == RULES_ONCE
    assert found.to_dict() == written


def test_a_header_says_no_more_than_it_has_to():
    """What older versions do not know stands in it only where it matters, so that the same run has the same header."""
    names = set(header().to_dict())
    assert "replan" not in names
    assert "rules" in names
    replanned = replace(header(), replan=2).to_dict()
    assert set(replanned) - names == {"replan"}
    assert Header.from_dict(replanned).replan == 2


@pytest.mark.parametrize(
    ("fork", "version"),
    [
        (None, HEADER_FORMAT),
        (Fork(at="a"), HEADER_FORMAT),
        (Fork(past_writes={"a": PastWrite("unknown")}), ASKING_FORMAT),
        (Fork(done_writes={"pay": {"sha256:0": "r"}}), ASKING_FORMAT),
        (Fork(again=frozenset()), ASKING_FORMAT),
    ],
)
def test_a_fork_that_asks_a_person_is_of_a_format_that_older_versions_refuse(fork, version):
    """They would make calls that wait for a person here."""
    written = replace(header(), fork=fork).to_dict()
    assert written["format"] == version
    assert Header.from_dict(written).to_dict() == written


@pytest.mark.parametrize(
    "change",
    [
        *(
            {"without": name}
            for name in ("plan", "plans", "inputs", "seed", "lock", "task", "budget", "fork")
        ),
        *({name: 1} for name in ("plan", "plans", "lock", "fork")),
        {"lock": [{"name": "pay"}]},
        {"expressions": "new"},
    ],
)
def test_a_header_that_was_changed_is_a_store_error(change):
    """It says so, and is no error of the language."""
    written = {**header().to_dict(), **change}
    if "without" in change:
        del written[written.pop("without")]
    with pytest.raises(StoreError, match="says too little or too much"):
        Header.from_dict(written)


def test_what_planning_has_cost_counts_against_the_budget():
    """By the names of a budget; what is no number, or no cost of planning, does not count, and neither does what no version told."""
    cost = {"model_calls": 2, "tokens": 30, "usd": 0.5, "seconds": "long", "calls": 9}
    planned = replace(header(), planning={"source": "model", "cost": cost})
    assert planned.planning_cost == {"model_calls": 2.0, "tokens": 30.0, "usd": 0.5}
    assert planned.plan_made == PlanMade("model", cost)
    for planning in (None, {"source": "model"}, {"source": "model", "cost": None}):
        assert replace(header(), planning=planning).planning_cost == {}
        assert replace(header(), planning=planning).plan_made is None


def test_the_seed_of_a_run_that_was_given_none_is_the_same_in_every_version():
    """It decides what tools draw: another one would make other values of the same plan and inputs."""
    assert default_seed(PLAN, {"x": 1}) == "1477976768c316c5d65d3ff40d8e0539"
    assert default_seed(PLAN, {"x": 2}) != default_seed(PLAN, {"x": 1})
