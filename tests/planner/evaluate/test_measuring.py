"""Planners are measured by what their plans do, the same way every time, and judges before they are believed."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import firmplan
import pytest
import yaml
from firmplan import ConfigError, Plan, Planner, check
from firmplan.planner.evaluate.judging import compare, judge_pairs
from firmplan.planner.evaluate.measuring import PlanShape, Ran, agreement, f1, is_answer, measure
from firmplan.planner.evaluate.task_set import TaskSet
from firmplan.plans.values import canonical
from firmplan.testing import ScriptedModel, Text
from firmplan.tools import Model, Models

STARTER = Path(firmplan.__file__).parent / "examples" / "evals" / "starter.yaml"
TOOLS = '''
from firmplan import tool

@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add."""
    return a + b

@tool(effect="pure")
def double(n: int) -> int:
    """Double."""
    return 2 * n

@tool
def wipe(n: int) -> int:
    """Wipe."""
    return n
'''


def call(id_, name="add", **args):
    return {"id": id_, "tool": name, "args": args or {"a": 1, "b": 2}}


SUM = {"steps": [call("s")], "output": "${s}"}
DOUBLED = {"steps": [call("s"), {"id": "x", "set": "${s}"}, call("d", "double", n="${x}")], "output": "${d}"}
WIPED = {"steps": [call("s"), call("w", "wipe", n="${s}")], "output": "${w}"}


def task(id_, words, solution, **expect):
    return {"id": id_, "task": words, "expect": expect, "solution": solution}


@pytest.fixture
def small(tmp_path):
    """A set of two tasks and two labels."""
    (tmp_path / "tools.py").write_text(TOOLS)
    document = {
        "eval": 1,
        "groups": [
            {
                "tools": "tools.py",
                "tasks": [
                    task("sum", "Add 1 and 2", SUM, forbidden=["wipe"], answer={"equals": 3}, steps_max=2),
                    task("twice", "Add 1 and 2, doubled", DOUBLED),
                ],
            }
        ],
        "labels": [
            {"id": "a", "task": "Add 1 and 2", "better": SUM, "worse": DOUBLED},
            {"id": "b", "task": "Add 1 and 2", "better": SUM, "worse": WIPED},
        ],
    }
    path = tmp_path / "set.yaml"
    path.write_text(yaml.safe_dump(document))
    return TaskSet.load(path)


def plan_of(solution):
    return Plan.model_validate({"firmplan": 1, **solution})


def measured(tasks, script, *, run=None, samples=1, planners=("m",)):
    async def main():
        async with ScriptedModel(script) as model:
            every = {name: Planner(name, base_url=model.base_url) for name in planners}
            return await measure(tasks, every, samples=samples, concurrency=1, run=run)

    return asyncio.run(main())


def test_an_outline_is_what_a_plan_does():
    """Names of steps and steps that compute do not count; the same action twice counts twice."""
    one = PlanShape.of(plan_of(DOUBLED))
    assert (one.actions, one.edges) == (("add", "double"), (("add", "double"),))
    straight = {"steps": [call("first_one"), call("z", "double", n="${first_one + 0}")], "output": "${z}"}
    assert PlanShape.of(plan_of(straight)) == one
    twice = {"steps": [call("s"), {"id": "q", "ask": {"prompt": "${s}"}, "after": ["t"]}, call("t")]}
    assert PlanShape.of(plan_of(twice)).edges == (("add", "ask"), ("add", "ask"))


def test_f1_and_agreement_are_between_nothing_and_all():
    """Equal bags are 1, bags apart 0; two of the same with one other are in between."""
    assert (f1("ab", "ab"), f1("a", "b"), f1("", ""), f1("aab", "ab")) == (1, 0, 1, 0.8)
    one, other = PlanShape.of(plan_of(SUM)), PlanShape.of(plan_of(DOUBLED))
    assert agreement([one, one]) == 1
    assert agreement([one]) is None
    assert 0 < agreement([one, one, other]) < 1


@pytest.mark.parametrize(
    ("output", "wanted", "is_it"),
    [
        (3, {"equals": 3}, True),
        ("three", {"equals": 3}, False),
        ({"x": ["It is Rome."]}, {"contains": "rome"}, True),
        (["a", "b"], {"contains": ["a", "b"]}, True),
        (["a"], {"contains": ["a", "b"]}, False),
        ([1], {"schema": {"type": "array", "items": {"type": "string"}}}, False),
    ],
)
def test_answers_are_compared_as_they_are_expected(output, wanted, is_it):
    """By value, by what they hold, by type."""
    assert is_answer(output, wanted) is is_it


def test_a_good_planner_scores_full(small):
    """Plans as good as the solutions, valid at once."""
    result = measured(small, [{"firmplan": 1, **SUM}, {"firmplan": 1, **DOUBLED}])
    (summary,) = result.summaries
    assert (summary.good, summary.valid_first, summary.steps, summary.edges, summary.rounds) == (
        1,
        1,
        1,
        1,
        0,
    )
    assert (summary.tools, summary.forbidden, summary.answer, summary.agreement) == (1, 0, None, None)
    assert summary.tokens > 0
    assert json.loads(json.dumps(result.to_dict()))["planners"][0]["planner"] == "m"


def test_every_fault_shows(small):
    """Repairs, no plan, forbidden tools, missing tools, too many steps."""
    bad = {"firmplan": 1, "steps": [call("s", "nope")]}
    result = measured(
        small.only(["sum"]), [bad, {"firmplan": 1, **WIPED}, Text("no")] + [Text("no")] * 9, samples=2
    )
    repaired, none = result.results[0].scores
    assert (repaired.valid, repaired.valid_first, repaired.rounds) == (True, False, 1)
    assert (repaired.forbidden, repaired.good) == (("wipe",), False)
    assert (none.valid, none.good, "no JSON" in none.error) == (False, False, True)
    lazy = {"firmplan": 1, "steps": [{"id": each, "set": 3} for each in "abc"], "output": "${a}"}
    (score,) = measured(small.only(["sum"]), [lazy]).results[0].scores
    assert (score.tools, score.brief, score.steps, score.good) == (False, False, 0, False)


def test_samples_and_planners_stand_side_by_side(small):
    """In the order of planners and tasks; agreement is over samples."""

    def answer(request):
        is_twice = "doubled" in request["messages"][1]["content"].rpartition("# Task")[2]
        return {"firmplan": 1, **(DOUBLED if is_twice and request["model"] == "good" else SUM)}

    result = measured(small, answer, samples=3, planners=("good", "lazy"))
    assert [each.planner for each in result.summaries] == ["good", "lazy"]
    good, lazy = result.summaries
    assert (good.good, lazy.good, good.samples) == (1, 0.5, 6)
    assert good.agreement == lazy.agreement == 1


def test_answers_are_looked_at_where_plans_are_run(small):
    """An output that is not expected, and a run that gives none, are no answers."""

    async def run(_, planned):
        return Ran(3 if len(planned.plan.steps) == 1 else 4)

    script = [{"firmplan": 1, **SUM}, {"firmplan": 1, **DOUBLED}]
    result = measured(small.only(["sum"]), script, run=run, samples=2)
    assert [score.answer for score in result.results[0].scores] == [True, False]


def test_a_set_says_where_it_is_wrong(tmp_path):
    """The file, the entry, the nearest name."""
    (tmp_path / "tools.py").write_text(TOOLS)
    path = tmp_path / "set.yaml"
    group = {"tools": "tools.py", "tasks": [task("a", "x", SUM)]}
    for document, words in (
        ({"eval": 2}, "expected"),
        ({"eval": 1, "groups": [{"tools": 3}]}, r"groups\[0\]"),
        ({"eval": 1, "groups": [{**group, "tasks": [{"id": "a"}]}]}, r"groups\[0\]\.tasks\[0\]"),
        (
            {"eval": 1, "groups": [{**group, "tasks": [{**group["tasks"][0], "expects": {}}]}]},
            "did you mean 'expect'",
        ),
        ({"eval": 1, "groups": [{**group, "tasks": [task("a", "x", {"steps": 3})]}]}, "solution"),
        ({"eval": 1, "groups": [group, group]}, "'a' twice"),
        ({"eval": 1, "groups": [group], "labels": [{"id": "x"}]}, r"labels\[0\]"),
    ):
        path.write_text(yaml.safe_dump(document))
        with pytest.raises(ConfigError, match=words):
            TaskSet.load(path)
    with pytest.raises(ConfigError, match="nothing at"):
        TaskSet.load(tmp_path / "none.yaml")


def judging(script, work):
    async def main():
        async with ScriptedModel(script) as model:
            return await work(Models({"default": Model("j", model.base_url)})), model.requests

    return asyncio.run(main())


def verdict(better):
    return {"reason": "..", "better": better}


@pytest.mark.parametrize(
    ("forth", "back", "found"),
    [
        ("A", "B", ("first", False)),
        ("B", "A", ("second", False)),
        ("A", "A", ("even", True)),
        ("even", "even", ("even", False)),
        ("A", "even", ("even", True)),
    ],
)
def test_a_verdict_counts_only_in_both_orders(forth, back, found):
    """A judge that goes by the place finds nothing."""
    one, other = plan_of(SUM), plan_of(DOUBLED)
    compared, requests = judging(
        [verdict(forth), verdict(back)], lambda models: compare(models, "x", one, other)
    )
    assert (compared.verdict, compared.swapped) == found
    assert len(requests) == compared.usage.requests == 2
    shown = [request["messages"][1]["content"] for request in requests]
    assert [text.index("double") > text.index("plan_b") for text in shown] == [True, False]


def test_equal_plans_are_even_without_a_question():
    """Nobody is asked what is known."""
    compared, requests = judging([], lambda models: compare(models, "x", plan_of(SUM), plan_of(SUM)))
    assert (compared.verdict, requests) == ("even", [])


def test_a_judge_is_measured_by_labels(small):
    """Its agreement with people stands beside what it says of planners."""

    def answer(request):
        is_lazy = request["model"] == "lazy"
        return {"firmplan": 1, **(DOUBLED if is_lazy else SUM)}

    result = measured(small.only(["sum"]), answer, planners=("good", "lazy"))

    def judge(request):
        words = request["messages"][1]["content"]
        first = words.partition("<plan_b-")[0]
        return verdict("B" if "double" in first else "A")

    judged, _ = judging(judge, lambda models: judge_pairs(models, result, small.labels))
    assert (judged.agreement, judged.labels) == (0.5, 2)
    (duel,) = judged.duels
    assert (duel.first, duel.wins, duel.losses, duel.even) == ("good", 1, 0, 0)


def test_labels_say_what_people_found(small, tmp_path):
    """A pair may be even, or have the solution of a task for the better plan; all of them may stand in a file of their own."""
    document = yaml.safe_load((tmp_path / "set.yaml").read_text())
    labels = [
        {"id": "of", "of": "sum", "worse": DOUBLED, "about": "it doubles"},
        {"id": "even", "task": "Add", "even": [SUM, WIPED]},
    ]
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(labels))
    (tmp_path / "set.yaml").write_text(yaml.safe_dump({**document, "labels": "labels.yaml"}))
    one, other = TaskSet.load(tmp_path / "set.yaml").labels
    assert (one.task, one.better.digest, one.even, one.about) == (
        "Add 1 and 2",
        plan_of(SUM).digest,
        False,
        "it doubles",
    )
    assert (other.task, other.even) == ("Add", True)
    for wrong, words in (
        ("nothing.yaml", "nothing.yaml"),
        ({"id": "x"}, "expected a list"),
        ([{"id": "x", "of": "smu", "worse": SUM}], r"labels\[0\].of: .*did you mean 'sum'"),
        ([{"id": "x", "worse": SUM}], 'expected "task" or "of"'),
        ([{"id": "x", "task": "Add", "worse": SUM}], r"labels\[0\]: expected"),
        ([{"id": "x", "of": "sum", "wrose": SUM}], "did you mean 'worse'"),
        ([{"id": "x", "of": "sum", "even": [SUM]}], r"labels\[0\]: expected"),
    ):
        (tmp_path / "set.yaml").write_text(yaml.safe_dump({**document, "labels": wrong}))
        with pytest.raises(ConfigError, match=words):
            TaskSet.load(tmp_path / "set.yaml")


# The starter set.


def test_the_starter_set_has_sixty_tasks_over_the_three_examples():
    """Twenty each."""
    tasks = TaskSet.load(STARTER).tasks
    assert Counter(task.folder.name for task in tasks) == {
        "research": 20,
        "invoices": 20,
        "licence_audit": 20,
    }


def test_every_solution_is_a_plan_that_passes():
    """And does what is expected of a plan for its task."""
    for each in TaskSet.load(STARTER).tasks:
        expected = each.expected
        report = check(expected.solution, each.tools)
        assert report.ok, f"{each.id}: {report}"
        assert expected.solution.inputs == {}
        assert not set(expected.forbidden) & PlanShape.of(expected.solution).tools, each.id
        assert all(each.tools.find(name) for name in expected.forbidden), each.id


def test_every_labelled_plan_passes_its_check():
    """What decides between two of them is what they do, not that one does not run; no two of a pair are the same."""
    tasks = TaskSet.load(STARTER)
    tools = {each.task: each.tools for each in tasks.tasks}
    assert len({label.id for label in tasks.labels}) == len(tasks.labels) >= 24
    for label in tasks.labels:
        assert label.better.digest != label.worse.digest, label.id
        assert label.about, label.id
        for plan in (label.better, label.worse):
            report = check(plan, tools[label.task])
            assert report.ok, f"{label.id}: {report}"


def _text(plan):
    return canonical({key: part for key, part in plan.to_dict().items() if key != "task"}).decode()


def judged_by(answer):
    """Return what a scripted judge, asked over HTTP, makes of the labels; `answer` is handed what it is shown, and their plans."""
    tasks = TaskSet.load(STARTER)
    pairs = {
        (label.task, _text(one), _text(other)): (label, one, other)
        for label in tasks.labels
        for one, other in ((label.better, label.worse), (label.worse, label.better))
    }

    def judge(request):
        words = request["messages"][1]["content"]
        shown = (
            words.partition(f"<{name}-")[2].partition(">")[2].partition(f"</{name}-")[0].strip()
            for name in ("task", "plan_a", "plan_b")
        )
        return verdict(answer(*pairs[tuple(shown)]))

    empty = measured(tasks.only([]), [])
    return judging(judge, lambda models: judge_pairs(models, empty, tasks.labels))


def test_a_judges_agreement_with_the_labels_is_measured_in_both_orders():
    """One that knows agrees in all; one that goes by the place in none; one that counts steps in the pairs where that is right."""

    def knows(label, one, other):
        return "even" if label.even else "A" if one.digest == label.better.digest else "B"

    def counts(_label, one, other):
        few, many = len(one.steps), len(other.steps)
        return "even" if few == many else "A" if few < many else "B"

    every, requests = judged_by(knows)
    assert (every.agreement, every.swapped) == (1, 0)
    assert len(requests) == every.usage.requests == 2 * every.labels
    by_place, _ = judged_by(lambda *_: "A")
    assert (by_place.agreement, by_place.swapped) == (0, by_place.labels)
    by_length, _ = judged_by(counts)
    labels = TaskSet.load(STARTER).labels
    right = [
        len(each.better.steps) == len(each.worse.steps)
        if each.even
        else len(each.better.steps) < len(each.worse.steps)
        for each in labels
    ]
    assert [each.agrees for each in by_length.labelled] == right
    assert 0 < by_length.agreement < 1
    assert by_length.to_dict()["labelled"][0]["id"] == "r02-by-model"


def test_a_model_that_knows_the_solutions_scores_full():
    """Through real HTTP, with nobody there but the script."""
    tasks = TaskSet.load(STARTER)
    known = {each.task: each.expected.solution.to_dict() for each in tasks.tasks}

    def answer(request):
        return known[request["messages"][1]["content"].rpartition("# Task\n\n")[2]]

    (summary,) = measured(tasks, answer).summaries
    assert (summary.samples, summary.good, summary.valid_first, summary.steps, summary.edges) == (
        60,
        1,
        1,
        1,
        1,
    )


def test_a_rival_that_cannot_begin_ends_no_evaluation(small):
    """Its failure is its score; the plan is measured all the same."""

    async def rival(_):
        raise ConfigError("no tools today")

    async def main():
        async with ScriptedModel([{"firmplan": 1, **SUM}]) as model:
            planners = {"m": Planner("m", base_url=model.base_url)}
            return await measure(small.only(["sum"]), planners, rivals={"m": rival})

    (score,) = asyncio.run(main()).results[0].scores
    assert (score.valid, score.react.answer, score.react.run.error) == (True, False, "no tools today")
