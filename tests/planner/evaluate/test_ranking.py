"""Retrieval is measured by its standard measures, over the rankings that planners use."""

from __future__ import annotations

from math import log2

import pytest
import yaml
from firmplan import ConfigError
from firmplan.planner.evaluate.ranking import ndcg, reciprocal_rank, retrieval_of
from firmplan.planner.evaluate.task_set import TaskSet

TOOLS = '''
from firmplan import tool

@tool(effect="pure")
def forecast(city: str) -> str:
    """The weather forecast of a city."""
    return city

@tool(effect="pure")
def weather_alerts(city: str) -> str:
    """Storm warnings."""
    return city

@tool(effect="pure")
def translate(text: str) -> str:
    """Translate a text."""
    return text
'''
PLAN = {"firmplan": 1, "steps": [{"id": "f", "tool": "forecast", "args": {"city": "Rome"}}], "output": "${f}"}


@pytest.mark.parametrize(
    ("ranked", "relevant", "rank", "gain"),
    [
        ("abc", "a", 1.0, 1.0),
        ("abc", "b", 0.5, 1 / log2(3)),
        ("abc", "ca", 1.0, (1 + 1 / log2(4)) / (1 + 1 / log2(3))),
        ("abcdefg", "g", 1 / 7, 0.0),
        ("abc", "x", 0.0, 0.0),
        ("", "x", 0.0, 0.0),
        ("abcdefg", "abcdefg", 1.0, 1.0),
        ("abc", "", 0.0, 0.0),
    ],
)
def test_ranks_and_gains_are_the_standard_ones(ranked, relevant, rank, gain):
    """By hand: the first hit counts for the rank; the first five for the gain, against the best order of all that is relevant."""
    assert reciprocal_rank(ranked, relevant) == pytest.approx(rank)
    assert ndcg(ranked, relevant) == pytest.approx(gain)


@pytest.fixture
def written(tmp_path):
    """Write a set with two saved plans, and load it."""
    (tmp_path / "tools.py").write_text(TOOLS)
    (tmp_path / "plans").mkdir()
    for name, words in (
        ("rome", "What is the weather forecast for Rome?"),
        ("words", "Translate the report"),
    ):
        (tmp_path / "plans" / f"{name}.yaml").write_text(yaml.safe_dump({**PLAN, "task": words}))

    def write(tasks, **more):
        document = {"eval": 1, "library": "plans", "groups": [{"tools": "tools.py", "tasks": tasks}], **more}
        (tmp_path / "set.yaml").write_text(yaml.safe_dump(document))
        return TaskSet.load(tmp_path / "set.yaml")

    return write


def test_tools_and_plans_are_ranked_by_the_words_of_tasks(written):
    """What shares no word is not found, whatever its place in the alphabet would be; tasks that expect nothing do not count."""
    found = written(
        [
            {"id": "a", "task": "The forecast for Rome", "expect": {"tools": ["forecast"], "plan": "rome"}},
            {"id": "b", "task": "Weather alerts", "expect": {"tools": ["forecast"], "plan": "words"}},
            {"id": "c", "task": "Say it in French", "expect": {"tools": ["translate"]}},
            {"id": "d", "task": "Translate"},
        ]
    )
    tools, plans = retrieval_of(found.tasks, found.library)
    assert (tools.what, tools.tasks, tools.documents) == ("tools", 3, 3)
    assert tools.mrr == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert tools.ndcg == pytest.approx((1 + 1 / log2(3) + 0) / 3)
    assert (plans.what, plans.tasks, plans.documents, plans.mrr) == ("saved plans", 2, 2, 0.5)
    assert plans.to_dict()["ndcg@5"] == plans.ndcg
    assert retrieval_of(found.only(["d"]).tasks, found.library) == ()


def test_a_pattern_that_matches_comes_before_shared_words(written, tmp_path):
    """As in a planner, which asks patterns first."""
    (tmp_path / "plans" / "any.yaml").write_text(
        yaml.safe_dump({**PLAN, "task": "{city} weather", "inputs": {"city": {"type": "string"}}})
    )
    found = written([{"id": "a", "task": "Rome weather", "expect": {"tools": [], "plan": "any"}}])
    (plans,) = retrieval_of(found.tasks, found.library)
    assert plans.mrr == 1


def test_a_saved_plan_that_is_not_there_is_named(written):
    """With the nearest name."""
    with pytest.raises(ConfigError, match=r"task 'a'.*found 'room'; did you mean 'rome'"):
        written([{"id": "a", "task": "x", "expect": {"plan": "room"}}])
    with pytest.raises(ConfigError, match="library: expected a folder"):
        written([{"id": "a", "task": "x"}], library=3)
