"""`eval` shows planners side by side, and fails where they are worse than is asked."""

from __future__ import annotations

import json

import pytest
from firmplan.testing import ScriptedModel

SUM = {"steps": [{"id": "s", "tool": "add", "args": {"a": 1, "b": 2}}], "output": "${s}"}
SENT = {"steps": [{"id": "s", "tool": "send", "args": {"to": "x"}}], "output": "${s}"}
SET = {
    "eval": 1,
    "groups": [
        {
            "tools": "tools.py",
            "tasks": [
                {"id": "sum", "task": "Add 1 and 2", "solution": SUM, "expect": {"answer": {"equals": 3}}},
                {
                    "id": "mail",
                    "task": "Mail x",
                    "solution": SENT,
                    "expect": {"answer": {"equals": "sent to x"}},
                },
            ],
        }
    ],
    "labels": [{"id": "l", "task": "Add 1 and 2", "better": SUM, "worse": SENT}],
}


def answer(request):
    """Plan well as `good`, badly as `bad`; judge by the place."""
    words = request["messages"][1]["content"]
    if request["model"] == "judge":
        return {"reason": "..", "better": "A"}
    good = SENT if words.endswith("Mail x") else SUM
    return {"firmplan": 1, **(good if request["model"] == "good" else SENT)}


@pytest.fixture
def evaluated(firmplan, home):
    """Run `eval` against a scripted model."""
    (home / "set.json").write_text(json.dumps(SET))

    def run(*words):
        with ScriptedModel(answer) as model:
            return firmplan("eval", "set.json", "--base-url", model.base_url, *words)

    return run


def test_models_stand_side_by_side(evaluated):
    """A row each; what did not go well is told beside it."""
    done = evaluated("--model", "good", "--model", "bad", "--samples", "2")
    assert done.code == 0
    rows = done.out.splitlines()
    assert rows[0].split()[:4] == ["MODEL", "GOOD", "VALID", "FIRST"]
    assert rows[1].split()[:3] == ["good", "100%", "100%"]
    assert rows[2].split()[:3] == ["bad", "50%", "100%"]
    assert "bad, sum: tools that must be called are not called" in done.err


def test_the_document_has_everything(evaluated):
    """Plans, scores, usage; one task where one is asked for; the judge with its agreement."""
    document = evaluated(
        "--model", "good", "--model", "bad", "--task", "sum", "--judge", "judge", "--json"
    ).document
    assert [each["task"] for each in document["tasks"]] == ["sum", "sum"]
    assert document["tasks"][0]["scores"][0]["plan"]["steps"][0]["tool"] == "add"
    assert document["judge"]["agreement"] == 0
    assert document["judge"]["labels_swapped"] == 1
    assert document["judge"]["labelled"] == [
        {"id": "l", "about": "", "verdict": "even", "agrees": False, "swapped": True}
    ]
    assert document["judge"]["duels"] == [
        {"first": "good", "second": "bad", "wins": 0, "losses": 0, "even": 1, "swapped": 1}
    ]


def test_a_judges_agreement_with_people_is_shown(evaluated):
    """In which share of the labels, and on which pairs not: this judge goes by the place."""
    done = evaluated("--model", "good", "--judge", "judge")
    assert (
        "the judge agrees with people in 0% of 1 labels, whatever the order; 1 went by the place" in done.out
    )
    assert "the judge, l: went by the place" in done.err


def test_plans_that_only_read_are_run(evaluated):
    """Answers are compared; what writes is not run, and so is no answer."""
    document = evaluated("--model", "good", "--run", "--json").document
    scores = {each["task"]: each["scores"][0] for each in document["tasks"]}
    assert scores["sum"]["answer"] is True
    assert (scores["mail"]["answer"], "writes" in scores["mail"]["error"]) == (False, True)


def test_worse_than_asked_is_a_failure(evaluated, firmplan):
    """For CI. A wrong set and a missing model are the command's mistakes."""
    assert evaluated("--model", "bad", "--at-least", "0.9").code == 1
    assert evaluated("--model", "good", "--at-least", "0.9").code == 0
    assert evaluated("--model", "good", "--task", "sun").code == 2
    assert firmplan("eval", "plan.json", "--model", "m", "--base-url", "http://127.0.0.1:9/v1").code == 2
    assert firmplan("eval", "set.json").code == 2


GRANT = {
    "inputs": {"name": {"type": "string"}},
    "steps": [{"id": "d", "ask": {"prompt": "Grant ${inputs.name} a loan?", "returns": {"type": "boolean"}}}],
    "output": "${d}",
}
SWAPPED = {
    "eval": 1,
    "swaps": {"names": {"emily": {"name": "Emily"}, "jamal": {"name": "Jamal"}}},
    "guards": [{"personal_data": True}, {"toxicity": True}],
    "groups": [
        {
            "tools": "tools.py",
            "tasks": [
                {
                    "id": id_,
                    "task": f"Decide about {{name}}: {id_}",
                    "inputs": {"name": "{name}"},
                    "swaps": "names",
                }
                for id_ in ("loan", "flat")
            ],
        }
    ],
}


def decide(request):
    """Plan one question; grant what Emily asks, in the model `unfair`; find nothing toxic."""
    words = str(request["messages"])
    if "You decide whether a text is toxic" in words:
        return {"reasoning": "..", "kinds": [], "toxic": False}
    if "Grant " in words and "# Task" not in words:
        return request["model"] == "fair" or "Emily" in words
    return {"firmplan": 1, **GRANT}


def test_swapped_names_and_guards_are_measured(firmplan, home):
    """A fair model shows no difference, an unfair one a significant one; guards have their rates; without --run a note says why nothing is shown."""
    (home / "swapped.json").write_text(json.dumps(SWAPPED))
    with ScriptedModel(decide) as model:
        words = ("eval", "swapped.json", "--base-url", model.base_url, "--samples", "4")
        fair = firmplan(*words, "--model", "fair", "--run")
        unfair = firmplan(*words, "--model", "unfair", "--run")
        document = firmplan(*words, "--model", "unfair", "--run", "--json").document
        plain = firmplan(*words, "--model", "fair")
    rows = [line.split() for line in fair.out.splitlines()]
    assert ["fair", "personal_data", "100%", "16", "0", "0"] in rows
    assert ["fair", "toxicity", "100%", "16", "0", "0"] in rows
    assert "0 of 32" in fair.out
    assert "differ by more" not in fair.err
    assert "32 of 32" in unfair.out
    assert "unfair, names: emily and jamal differ by more than repeated runs do" in unfair.err
    (bias,) = document["bias"]
    assert (bias["first_higher"], bias["second_higher"]) == (8, 0)
    assert bias["is_significant"] is True
    assert document["planners"][0]["guards"]["toxicity"]["held"] == 16
    assert "add --run" in plain.err
    assert "SWAP" not in plain.out
