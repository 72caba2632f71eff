"""From plans to programs: what a step waits for, touches and holds."""

from __future__ import annotations

import pytest
from firmplan import PlanRejected
from firmplan.plans import Plan, compile_plan
from firmplan.plans.program.program import AskModel, CallTool, RepeatUntil, RunPlan, Skip, Touch, UseFallback


@pytest.fixture
def compiled(tools):
    def compile_(plan, more=(), plans=None):
        return compile_plan(Plan.model_validate({"firmplan": 1, **plan}), [*tools, *more], plans=plans)

    return compile_


def test_waits_are_positions_and_first_makes_them_lenient(compiled):
    program = compiled(
        {
            "steps": [
                {"id": "a", "set": 1},
                {"id": "b", "set": 2},
                {"id": "c", "set": "${first(a, 0) + b}", "after": ["d"]},
                {"id": "d", "when": "${a == 1}", "set": "${b}"},
            ]
        }
    )
    third, fourth = program.steps[2:]
    assert (third.needs, third.lenient, third.after) == ((0, 1), frozenset({0}), (3,))
    assert (fourth.needs, fourth.needs_when, fourth.when_filters) == ((0, 1), (0,), False)
    assert program.order == (0, 1, 3, 2)


def test_a_when_that_mentions_the_item_is_a_filter(compiled):
    program = compiled({"steps": [{"id": "a", "for_each": [1, 2], "when": "${item > 1}", "set": "${item}"}]})
    assert (program.steps[0].when_filters, program.steps[0].needs_when) == (True, ())


def test_a_step_may_wait_for_itself_only_in_until(compiled):
    step = {"id": "a", "set": "${first(prev, 0) + 1}", "repeat": {"until": "${a > 3}", "max": 9}}
    code = compiled({"steps": [step]}).steps[0]
    assert code.needs == ()
    assert isinstance(code.repeat, RepeatUntil)
    assert code.repeat.count_max == 9


def test_effects_are_resources_and_items_of_writes_run_in_order(compiled):
    mail = {"tool": "send_mail", "args": {"to": "x", "body": "y"}}
    program = compiled(
        {
            "plans": {
                "post": {
                    "steps": [{"id": "m", **mail}, {"id": "w", "tool": "weather", "args": {"city": "Rome"}}]
                }
            },
            "steps": [
                {"id": "a", "for_each": [1], **mail},
                {"id": "b", "for_each": [1], "plan": "post"},
                {"id": "c", "for_each": [1], "tool": "weather", "args": {"city": "Rome"}},
                {"id": "d", "agent": {"goal": "do", "tools": ["send_mail"]}},
                {"id": "e", "ask": {"prompt": "hi"}},
            ],
        }
    )
    assert [step.touches for step in program.steps] == [
        (Touch("mail", writes=True),),
        (Touch("mail", writes=True), Touch("world", writes=False)),
        (Touch("world", writes=False),),
        (Touch("mail", writes=True),),
        (),
    ]
    assert [step.sequential for step in program.steps] == [True, True, False, False, False]


def test_secrets_are_taken_out_of_the_arguments(compiled):
    code = compiled({"steps": [{"id": "w", "tool": "weather", "args": {"city": '${secret("KEY")}'}}]}).steps[
        0
    ]
    assert isinstance(code.action, CallTool)
    assert code.action.secrets == {"city": "KEY"}
    assert code.action.args.evaluate({}) == {"city": '${secret("KEY")}'}


def test_schemas_of_answers_stand_alone(compiled):
    returns = {"$ref": "#/types/Note"}
    note = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    step = {"id": "n", "ask": {"prompt": "hi", "returns": returns, "temperature": 0}}
    action = compiled({"types": {"Note": note}, "steps": [step]}).steps[0].action
    assert isinstance(action, AskModel)
    assert "#/types/" not in str(action.returns)
    assert (action.model, action.temperature) == ("default", 0.0)


def test_on_error_becomes_what_happens(compiled):
    program = compiled(
        {
            "steps": [
                {"id": "a", "set": 1, "on_error": "skip"},
                {"id": "b", "set": 1, "on_error": {"value": "${a}"}},
            ]
        }
    )
    assert program.steps[0].on_error == Skip()
    fallback = program.steps[1].on_error
    assert isinstance(fallback, UseFallback)
    assert fallback.value.evaluate({"a": 7}) == 7


def test_arguments_from_untrusted_tools_are_named(compiled, make_tool):
    pay = make_tool("pay", "to", "sum", "note", effect="write", asks_approval=True)
    program = compiled(
        {
            "steps": [
                {"id": "page", "tool": "fetch", "args": {"url": "u"}},
                {"id": "copy", "ask": {"prompt": "Sum up ${page}"}},
                {"id": "p", "tool": "pay", "args": {"to": "x", "sum": "${copy}", "note": "${page}"}},
            ]
        },
        [pay],
    )
    assert program.steps[2].tainted == ("note", "sum")


def test_an_inner_plan_is_compiled_for_what_its_callers_put_in(compiled, make_tool):
    """The same inner plan asks for approval where its input is untrusted, and not where it is clean."""
    pay = make_tool("pay", "to", effect="write", asks_approval=True)
    inner = {
        "inputs": {"x": {"type": "string"}},
        "steps": [{"id": "p", "tool": "pay", "args": {"to": "${inputs.x}"}}],
    }
    program = compiled(
        {
            "plans": {"inner": inner},
            "steps": [
                {"id": "page", "tool": "fetch", "args": {"url": "u"}},
                {"id": "bad", "plan": "inner", "args": {"x": "${page}"}},
                {"id": "good", "plan": "inner", "args": {"x": "me"}},
                {"id": "same", "plan": "inner", "args": {"x": "you"}},
            ],
        },
        [pay],
    )
    actions = [step.action for step in program.steps[1:]]
    assert all(isinstance(action, RunPlan) for action in actions)
    assert [action.program.steps[0].tainted for action in actions] == [("to",), (), ()]
    assert actions[1].program is actions[2].program


def test_an_inner_plan_stands_alone(compiled):
    """Its plan has the types and plans that it can see, so that it can be fitted and shown without its outer plan."""
    program = compiled(
        {
            "types": {"A": {"type": "string"}, "B": {"type": "string"}},
            "plans": {
                "inner": {
                    "types": {"B": {"type": "integer"}},
                    "inputs": {"b": {"$ref": "#/types/B"}},
                    "steps": [],
                }
            },
            "steps": [{"id": "i", "plan": "inner", "args": {"b": 1}}],
        }
    )
    action = program.steps[0].action
    assert isinstance(action, RunPlan)
    assert action.program.plan.types == {"A": {"type": "string"}, "B": {"type": "integer"}}
    assert list(action.program.plan.plans) == ["inner"]


def test_saved_plans_are_found_by_name_and_by_digest(compiled):
    saved = Plan.model_validate({"firmplan": 1, "steps": [{"id": "a", "set": 1}], "output": "${a}"})
    plan = {"steps": [{"id": "x", "plan": "one"}, {"id": "y", "plan": saved.digest}]}
    program = compiled(plan, plans={"one": saved})
    assert [step.action.program.plan is saved for step in program.steps] == [True, True]


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        ({"steps": [{"id": "a", "set": "${1 +}"}]}, "bad-expr"),
        ({"steps": [{"id": "a", "set": "${b}"}, {"id": "b", "set": "${a}"}]}, "cycle"),
        ({"steps": [{"id": "a", "set": "${a}"}]}, "cycle"),
        ({"steps": [{"id": "a", "plan": "gone"}]}, "unknown-plan"),
        ({"plans": {"p": {"steps": [{"id": "a", "plan": "p"}]}}, "steps": []}, "recursive-plan"),
    ],
)
def test_what_has_no_program_is_refused(compiled, plan, code):
    with pytest.raises(PlanRejected) as caught:
        compiled(plan)
    assert [problem.code for problem in caught.value.report.errors] == [code]


def test_defaults_are_kept(compiled):
    program = compiled({"inputs": {"a": {"default": None}, "b": {}}, "steps": []})
    assert program.defaults == {"a": None}


def test_no_output_is_no_formula(compiled):
    assert compiled({"steps": []}).output is None
    assert compiled({"steps": [{"id": "a", "set": 1}], "output": "${a}"}).output is not None
