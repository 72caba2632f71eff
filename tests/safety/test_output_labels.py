"""A run's output says with which untrusted content it was made: the same in every view, and in a replay."""

from __future__ import annotations

import json
import pickle

import pytest
from firmplan import Engine, Plan, Toolset, tool
from firmplan.plans.checker.flow.sources import VISITED_MAX, Sources


@tool(effect="read", trust="untrusted", resource="web")
def get_webpage(url: str) -> str:
    """Read a page."""
    return f"page of {url}"


@tool(effect="read", trust="untrusted", resource="mail")
def read_mail() -> list[str]:
    """Read the mail."""
    return ["one", "two"]


@tool(effect="pure")
def count(text: str) -> int:
    """Count characters."""
    return len(text)


TOOLS = [get_webpage, read_mail, count]


def plan_of(*steps, **keys):
    return Plan.model_validate({"firmplan": 1, "steps": list(steps), **keys})


PAGE = {"id": "page", "tool": "get_webpage", "args": {"url": "http://x"}}
OWN = {"id": "own", "tool": "count", "args": {"text": "mine"}}


def test_each_field_names_its_own_sources(tmp_path):
    """Fields of the output's text are told apart, derived values and conditions count, and clean fields are absent."""
    plan = plan_of(
        PAGE,
        OWN,
        {"id": "mails", "tool": "read_mail"},
        {"id": "length", "tool": "count", "args": {"text": "${page}"}},
        {"id": "chosen", "set": "${own if length > 3 else 0}"},
        output={
            "title": "${page}",
            "own": "${own}",
            "chosen": "${chosen}",
            "both": ["${mails[0] + page}", 7],
            "odd key": "${mails}",
        },
    )
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        run = engine.run_sync(plan)
        assert dict(run.output_labels) == {
            "$.title": ("get_webpage",),
            "$.chosen": ("get_webpage",),
            "$.both[0]": ("get_webpage", "read_mail"),
            '$["odd key"]': ("read_mail",),
        }
        again = engine.replay_sync(run.id)
        assert again.output_labels == run.output_labels
        assert again.to_dict()["output_labels"] == run.to_dict()["output_labels"]
        bundle = engine.export_sync(run.id, tmp_path / "b")
    elsewhere = Engine(Toolset(), store="memory:").replay_sync(bundle)
    assert elsewhere.output_labels == run.output_labels
    assert pickle.loads(pickle.dumps(run)).output_labels == run.output_labels
    json.dumps(run.to_dict())


def test_labels_come_out_of_inner_plans_and_agents_tools():
    """An inner plan's own reads count, and what the caller passes on counts only where the inner output mentions it."""
    inner = {
        "inputs": {"text": {"type": "string"}, "unused": {"type": "string"}},
        "steps": [{"id": "n", "set": "${inputs.text}"}],
        "output": "${n}",
    }
    reads = {"steps": [{"id": "deep", "tool": "read_mail"}], "output": "${deep}"}
    plan = plan_of(
        PAGE,
        {"id": "passed", "plan": "inner", "args": {"text": "${page}", "unused": "x"}},
        {"id": "clean", "plan": "inner", "args": {"text": "fixed", "unused": "${page}"}},
        {"id": "each", "plan": "reads", "for_each": "${range(0, 2)}", "args": {}},
        plans={"inner": inner, "reads": reads},
        output={"passed": "${passed}", "clean": "${clean}", "each": "${each}"},
    )
    found = Sources(plan, TOOLS).of_output()
    assert found == {"$.passed": ("get_webpage",), "$.each": ("read_mail",)}


def test_a_clean_output_has_no_labels_and_neither_has_a_run_without_one():
    """Reading a page labels nothing that was not made of it; a failed run has no output to label."""
    with Engine(TOOLS, store="memory:") as engine:
        assert dict(engine.run_sync(plan_of(PAGE, OWN, output="${own}")).output_labels) == {}
        fails = plan_of(PAGE, {"id": "bad", "set": "${1 // (len(page) - len(page))}"}, output="${page}")
        run = engine.run_sync(fails)
        assert (run.status, dict(run.output_labels)) == ("failed", {})


def test_a_whole_expression_is_one_place():
    """What a single expression builds is labelled as a whole: the text of the plan does not tell its parts apart."""
    plan = plan_of(PAGE, OWN, output="${{'page': page, 'own': own}}")
    assert Sources(plan, TOOLS).of_output() == {"$": ("get_webpage",)}


def test_failures_and_declared_inputs_count():
    """What a failure tells is content too: an inner step that untrusted data makes fail is named, also where `on_error` hides the failure."""
    fails = {
        "inputs": {"hook": {"type": "string", "x-trust": "untrusted"}},
        "steps": [
            {"id": "page", "tool": "get_webpage", "args": {"url": "http://x"}},
            {"id": "bad", "set": "${1 // len(page)}"},
            {"id": "good", "set": "${2 // len(inputs.hook)}"},
        ],
        "output": 1,
    }
    plan = plan_of(
        {"id": "tried", "plan": "fails", "args": {"hook": "x"}, "on_error": {"value": 0}},
        OWN,
        {"id": "later", "tool": "count", "args": {"text": "x"}, "after": ["tried"]},
        inputs={"ticket": {"type": "string", "x-trust": "untrusted"}, "mine": {"type": "string"}},
        plans={"fails": fails},
        output={"tried": "${tried}", "own": "${own}", "ticket": "${inputs.ticket}", "mine": "${inputs.mine}"},
    )
    assert Sources(plan, TOOLS).of_output() == {
        "$.tried": ("get_webpage", "tried/inputs.hook"),
        "$.ticket": ("inputs.ticket",),
    }


def test_a_long_chain_of_ends_is_no_recursion():
    """Thousands of steps that wait for one another, each of which untrusted data may make fail."""
    steps = [PAGE, {"id": "s0", "set": "${1 // len(page)}", "on_error": "skip"}]
    steps += [
        {"id": f"s{n}", "set": "${1 // len(page)}", "after": [f"s{n - 1}"], "on_error": "skip"}
        for n in range(1, 5_000)
    ]
    plan = plan_of(*steps, output="${first(s4999, 0)}")
    assert Sources(plan, TOOLS).of_output() == {"$": ("get_webpage",)}


def test_a_plan_too_large_to_walk_names_every_untrusted_tool():
    """Past the bound the answer errs on the safe side, and comes soon."""
    steps = [PAGE, {"id": "s0", "set": "${page}"}]
    steps += [{"id": f"s{n}", "set": f"${{s{n - 1}}}"} for n in range(1, VISITED_MAX + 10)]
    plan = plan_of(*steps, output=f"${{s{VISITED_MAX + 9}}}")
    assert Sources(plan, TOOLS).of_output() == {"$": ("get_webpage", "read_mail")}


@pytest.mark.parametrize("depth", [30])
def test_nested_plans_do_not_multiply_without_bound(depth):
    """Each level runs the next one twice: the walk stops at its bound and names every untrusted tool."""
    plans = {
        f"p{depth}": {
            "steps": [{"id": "page", **{k: PAGE[k] for k in ("tool", "args")}}],
            "output": "${page}",
        }
    }
    for level in range(depth):
        both = [{"id": name, "plan": f"p{level + 1}", "args": {}} for name in ("left", "right")]
        plans[f"p{level}"] = {"steps": both, "output": "${left + right}"}
    plan = plan_of({"id": "top", "plan": "p0", "args": {}}, plans=plans, output="${top}")
    assert Sources(plan, TOOLS).of_output() == {"$": ("get_webpage", "read_mail")}
