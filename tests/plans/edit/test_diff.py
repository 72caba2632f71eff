"""Laws of plan diffs: what is said is what changed, by step and field."""

import copy

import pytest
from firmplan import Plan

PLAN = {
    "firmplan": 1,
    "task": "Compare",
    "inputs": {"a": {"type": "string"}, "b": {"type": "string", "default": "Oslo"}},
    "plans": {"p": {"inputs": {}, "steps": [{"id": "x", "set": 1}], "output": "${x}"}},
    "steps": [
        {"id": "wa", "tool": "weather", "args": {"city": "${inputs.a}", "days": [1, 2]}},
        {"id": "wb", "tool": "weather", "args": {"city": "${inputs.b}"}},
        {"id": "note", "ask": {"prompt": "About ${wa} and ${wb}", "returns": {"type": "string"}}},
        {"id": "mail", "tool": "send_mail", "args": {"body": "${note}"}, "when": "${wa.celsius > 3}"},
    ],
    "output": "${note}",
}


def changed(edit) -> Plan:
    raw = copy.deepcopy(PLAN)
    edit(raw)
    return Plan.model_validate(raw)


before = Plan.model_validate(PLAN)


def test_equal_plans_have_no_difference():
    """A plan differs in nothing from itself, and the diff is false."""
    diff = before.diff(Plan.model_validate(PLAN))
    assert not diff
    assert diff.same_digest
    assert str(diff) == "no difference"
    assert diff.to_dict()["changes"] == []


def test_spelling_and_spelled_out_defaults_are_no_difference():
    """What the digest does not see, the diff does not show, but for prose."""

    def edit(raw):
        raw["steps"][0]["args"]["city"] = "${ inputs . a }"
        raw["steps"][1] |= {"after": [], "on_error": "fail"}
        raw["steps"][3]["when"] = "${(wa.celsius) > 3}"
        raw["types"] = {}

    assert not before.diff(changed(edit))


def test_prose_is_shown_and_said_to_change_nothing():
    def edit(raw):
        raw["task"] = "Compare two cities"
        raw["steps"][0]["why"] = "to know"

    diff = before.diff(changed(edit))
    assert diff.same_digest
    assert str(diff) == (
        "plan diff: 1 step changed, 1 other change\n"
        "only prose differs: both plans have the same digest\n"
        "~ task    Compare -> Compare two cities\n"
        "+ wa.why  to know"
    )


def test_a_field_is_named_to_its_depth():
    """The smallest place that differs is named; lists of another length are wholes."""

    def edit(raw):
        raw["steps"][0]["args"]["city"] = "${inputs.b}"
        raw["steps"][0]["args"]["days"][1] = 3
        raw["steps"][3]["when"] = "${wa.celsius > 4}"
        raw["steps"][2]["ask"]["temperature"] = 0
        del raw["inputs"]["b"]["default"]

    diff = before.diff(changed(edit))
    assert [(change.kind, change.place) for change in diff.changes] == [
        ("removed", "inputs.b.default"),
        ("changed", "wa.args.city"),
        ("changed", "wa.args.days[1]"),
        ("added", "note.ask.temperature"),
        ("changed", "mail.when"),
    ]
    assert diff.changed == ("wa", "note", "mail")
    assert "~ wa.args.city          ${inputs.a} -> ${inputs.b}" in str(diff)


def test_steps_come_go_and_move():
    def edit(raw):
        raw["steps"].insert(0, raw["steps"].pop(2))
        raw["steps"].pop()
        raw["steps"].append({"id": "new", "tool": "geocode", "args": {"name": "${note}"}, "when": "${True}"})

    diff = before.diff(changed(edit))
    assert diff.added == ("new",)
    assert diff.removed == ("mail",)
    assert diff.changed == ()
    assert [(change.kind, change.name) for change in diff.changes] == [
        ("removed", "mail"),
        ("added", "new"),
        ("moved", "note"),
    ]
    assert str(diff.changes[1]) == '+ new  geocode(name=${note}) {"when":"${True}"}'


def test_a_step_under_another_id_only_is_renamed():
    """Its dependants show how they refer to it now."""

    def edit(raw):
        raw["steps"][1]["id"] = "other"
        raw["steps"][2]["ask"]["prompt"] = "About ${wa} and ${other}"

    diff = before.diff(changed(edit))
    assert [str(change) for change in diff.changes] == [
        "= other  wb -> other",
        "~ note.ask.prompt  About ${wa} and ${wb} -> About ${wa} and ${other}",
    ]


def test_renamed_steps_may_refer_to_one_another():
    """A step whose references alone follow a renamed step has another id only; one whose own text differs has not."""

    def edit(raw):
        raw["steps"][0]["id"] = "first_one"
        raw["steps"][2] |= {
            "id": "text",
            "ask": {**raw["steps"][2]["ask"], "prompt": "About ${first_one} and ${wb}"},
        }
        raw["steps"][3] |= {"id": "post", "args": {"body": "${text}!"}, "when": "${first_one.celsius > 3}"}
        raw["output"] = "${text}"

    diff = before.diff(changed(edit))
    assert [(change.kind, change.name) for change in diff.changes] == [
        ("removed", "mail"),
        ("renamed", "first_one"),
        ("renamed", "text"),
        ("added", "post"),
        ("changed", None),
    ]


def test_inner_plans_are_compared_inside():
    def edit(raw):
        raw["plans"]["p"]["steps"][0]["set"] = 2
        raw["plans"]["q"] = {"steps": []}
        raw["output"] = None

    diff = before.diff(changed(edit))
    assert [(change.kind, change.place) for change in diff.changes] == [
        ("changed", "output"),
        ("changed", "p/x.set"),
        ("added", "plans.q"),
    ]


def test_numbers_of_another_kind_differ():
    """`1` is not `1.0`, nor is it true: digests tell them apart, and so does the diff."""
    one, real, true = (
        Plan.model_validate({"firmplan": 1, "steps": [{"id": "x", "set": value}]}) for value in (1, 1.0, True)
    )
    assert [str(change) for change in one.diff(real).changes] == ["~ x.set  1 -> 1.0"]
    assert one.diff(true)
    assert one.diff(real).to_dict()["changes"][0]["kind"] == "changed"


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [1, 0, 3, 2], [1, 2, 3, 0], [0, 1, 2, 3]])
def test_moving_is_told_by_the_fewest_steps(order):
    """As many steps move as are not in a longest part that stayed in order."""
    after = changed(lambda raw: raw.update(steps=[raw["steps"][at] for at in order]))
    moved = [change for change in before.diff(after).changes if change.kind == "moved"]
    assert len(moved) == {(3, 2, 1, 0): 3, (1, 0, 3, 2): 2, (1, 2, 3, 0): 1, (0, 1, 2, 3): 0}[tuple(order)]
