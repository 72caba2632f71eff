"""Laws of patches: applied wholly or not at all, references followed, and every diff is a patch."""

import json

import pytest
from firmplan import Plan, PlanRejected
from firmplan.plans.edit.patch import AddStep, Patch, Rename
from hypothesis import given
from hypothesis import strategies as st

RAW = {
    "firmplan": 1,
    "task": "Compare",
    "inputs": {"a": {"type": "string"}, "b": {"type": "string"}},
    "plans": {"p": {"steps": [{"id": "x", "set": 1}], "output": "${x}"}},
    "steps": [
        {"id": "wa", "tool": "weather", "args": {"city": "${inputs.a}", "days": [1, 2]}},
        {"id": "wb", "tool": "weather", "args": {"city": "${inputs['b']}"}},
        {
            "id": "note",
            "ask": {"prompt": "About ${wa} and $${wa} and 'wa' and ${wb.wa}", "examples": ["${wa}"]},
        },
        {
            "id": "mail",
            "tool": "send_mail",
            "when": "${wa.celsius > 3}",
            "after": ["wa"],
            "args": {"body": "${note}"},
        },
    ],
    "output": {"w": "${first(wa.celsius, 0)}", "all": ["${[wa for wa in [1]]}", "${'wa' + wa.text}"]},
}
plan = Plan.model_validate(RAW)


def ids(made: Plan) -> list[str]:
    return [step.id for step in made.steps]


def test_steps_are_added_moved_replaced_and_removed_by_id():
    patched = plan.apply([
        {"op": "add", "step": {"id": "end", "set": 1}},
        {"op": "add", "step": {"id": "start", "set": 1}, "before": "wa"},
        {"op": "add", "step": {"id": "mid", "set": 1}, "after": "wa"},
        {"op": "move", "step": "note", "before": "start"},
        {"op": "move", "step": "wb"},
        {"op": "replace", "step": "mail", "with": {"id": "post", "set": 2}},
        {"op": "remove", "step": "end"},
    ])  # fmt: skip
    assert ids(patched) == ["note", "start", "wa", "mid", "post", "wb"]
    assert ids(plan) == ["wa", "wb", "note", "mail"], "the plan itself stays as it is"


def test_places_of_a_step_are_set_and_unset():
    patched = plan.apply([
        {"op": "set", "step": "wa", "at": "args.city", "value": "${inputs.b}"},
        {"op": "set", "step": "wa", "at": ".args.days[1]", "value": 3},
        {"op": "set", "step": "wa", "at": "repeat.max", "value": 3},
        {"op": "set", "step": "wa", "at": "repeat.until", "value": True},
        {"op": "set", "step": "wb", "at": 'args["any key"]', "value": None},
        {"op": "unset", "step": "mail", "at": "when"},
    ]).to_dict()  # fmt: skip
    wa, wb, _, mail = patched["steps"]
    assert wa["args"] == {"city": "${inputs.b}", "days": [1, 3]}
    assert wa["repeat"] == {"max": 3, "until": True}
    assert wb["args"]["any key"] is None
    assert "when" not in mail


def test_a_rename_follows_every_reference_and_nothing_else():
    """Expressions, `after` and text holes follow; escapes, quotes, fields and loop names of the same spelling stay."""
    patched = plan.apply([{"op": "rename", "step": "wa", "to": "rome"}]).to_dict()
    assert patched["steps"][0]["id"] == "rome"
    assert patched["steps"][2]["ask"] == {
        "prompt": "About ${rome} and $${wa} and 'wa' and ${wb.wa}",
        "examples": ["${rome}"],
    }
    assert patched["steps"][3]["when"] == "${rome.celsius > 3}"
    assert patched["steps"][3]["after"] == ["rome"]
    assert patched["output"] == {
        "w": "${first(rome.celsius, 0)}",
        "all": ["${[wa for wa in [1]]}", "${'wa' + rome.text}"],
    }


def test_an_input_is_renamed_in_its_place():
    patched = plan.apply([{"op": "rename", "input": "b", "to": "second"}]).to_dict()
    assert list(patched["inputs"]) == ["a", "second"]
    assert patched["steps"][1]["args"]["city"] == '${inputs["second"]}'
    assert patched["steps"][0]["args"]["city"] == "${inputs.a}"


def test_the_rest_of_a_plan():
    patched = plan.apply({
        "operations": [
            {"op": "task", "task": "Other"},
            {"op": "input", "name": "c", "schema": {"type": "integer"}},
            {"op": "input", "name": "a", "schema": None},
            {"op": "type", "name": "T", "schema": {"type": "string"}},
            {"op": "inner", "name": "q", "body": {"steps": []}},
            {"op": "inner", "name": "p", "body": None},
            {"op": "add", "plan": "q", "step": {"id": "y", "set": 1}},
            {"op": "output", "plan": "q", "value": "${y}"},
            {"op": "output", "value": None},
        ]
    }).to_dict()  # fmt: skip
    assert patched["task"] == "Other"
    assert list(patched["inputs"]) == ["b", "c"]
    assert patched["types"] == {"T": {"type": "string"}}
    assert patched["plans"] == {"q": {"steps": [{"id": "y", "set": 1}], "output": "${y}"}}
    assert patched["output"] is None


@pytest.mark.parametrize(
    ("patch", "code", "path", "says"),
    [
        ([{"op": "remove", "step": "nte"}], "unknown-ref", "$.operations[0].step", "did you mean 'note'"),
        ([{"op": "move", "step": "wa", "after": "nope"}], "unknown-ref", "$.operations[0].after", "nope"),
        ([{"op": "add", "step": {"id": "wa", "set": 1}}], "duplicate-id", "$.operations[0].step.id", "another step"),
        ([{"op": "rename", "step": "wa", "to": "wb"}], "duplicate-id", "$.operations[0].to", "another step"),
        ([{"op": "rename", "input": "a", "to": "b"}], "duplicate-id", "$.operations[0].to", "another input"),
        ([{"op": "rename", "input": "z", "to": "b"}], "unknown-ref", "$.operations[0].input", "'z'"),
        ([{"op": "set", "step": "wa", "at": "args.days[7]", "value": 1}], "unknown-field", "$.operations[0].at", "days"),
        ([{"op": "unset", "step": "wa", "at": "args.no"}], "unknown-field", "$.operations[0].at", "args.no"),
        ([{"op": "set", "step": "wa", "at": "", "value": 1}], "bad-shape", "$.operations[0].at", "args.city"),
        ([{"op": "set", "step": "wa", "at": "wehn", "value": True}], "bad-shape", "$.steps[0].wehn", "did you mean 'when'"),
        ([{"op": "set", "step": "wa", "at": "when", "value": float("nan")}], "bad-shape", "$.operations[0].value", "JSON"),
        ([{"op": "output", "plan": "pp", "value": 1}], "unknown-plan", "$.operations[0].plan", "did you mean 'p'"),
        ([{"op": "fly"}], "bad-shape", "$.operations[0]", "'fly'"),
        ([{"op": "remove", "step": "wa"}, {"op": "add", "stp": {}}], "bad-shape", "$.operations[1].step", "operation 1"),
        ([{"op": "rename", "to": "x"}], "bad-shape", "$.operations[0]", "'step' or 'input'"),
        ([{"op": "move", "step": "wa", "before": "wb", "after": "wb"}], "bad-shape", "$.operations[0]", "found both"),
        ({"steps": []}, "bad-shape", "$", "operations"),
    ],
)  # fmt: skip
def test_a_patch_that_does_not_fit_is_rejected_as_a_whole(patch, code, path, says):
    """The report names the operation, and the plan stays as it is."""
    digest = plan.digest
    with pytest.raises(PlanRejected) as caught:
        plan.apply(patch)
    found = caught.value.report.errors[0]
    assert (found.code, found.path) == (code, path)
    assert says in str(caught.value)
    assert plan.digest == digest == Plan.model_validate(RAW).digest


def test_a_new_name_that_a_loop_hides_is_refused():
    """A rename never makes a reference mean something else."""
    hidden = Plan.model_validate({
        "firmplan": 1,
        "steps": [{"id": "a", "set": 1}, {"id": "b", "set": "${[x + a for x in [1]]}"}],
    })  # fmt: skip
    with pytest.raises(PlanRejected, match="loop"):
        hidden.apply([{"op": "rename", "step": "a", "to": "x"}])
    assert (
        hidden.apply([{"op": "rename", "step": "a", "to": "y"}]).to_dict()["steps"][1]["set"]
        == "${[x + y for x in [1]]}"
    )


def test_patches_are_values_that_go_through_json():
    patch = Patch(operations=(AddStep(step={"id": "x", "set": 1}, after="wa"), Rename(step="wa", to="w")))
    again = Patch.of(json.loads(json.dumps(patch.to_dict())))
    assert again == patch
    assert plan.apply(again).digest == plan.apply(patch).digest
    assert ids(plan.apply(patch)) == ["w", "x", "wb", "note", "mail"]


names = st.sampled_from(["a", "b", "c", "d", "e", "f"])
plans = st.builds(
    lambda order, values, task, output, inputs: Plan.model_validate({
        "firmplan": 1,
        "steps": [{"id": name, "set": values[name]} for name in order],
        "output": output,
        "inputs": {name: {"type": "integer"} for name in inputs},
        **({} if task is None else {"task": task}),
    }),
    st.lists(names, unique=True),
    st.fixed_dictionaries(dict.fromkeys("abcdef", st.integers(0, 2))),
    st.none() | st.text(max_size=3),
    st.none() | st.integers(0, 2),
    st.lists(names, unique=True),
)  # fmt: skip


@given(plans, plans)
def test_every_diff_is_a_patch(one, other):
    """`one.apply(one.diff(other).to_patch())` is the other, prose and order of steps included."""
    patch = one.diff(other).to_patch()
    made = one.apply(Patch.of(patch.to_dict()))
    assert made.digest == other.digest
    assert ids(made) == ids(other)
    assert made.task == other.task
    assert not made.diff(other)
