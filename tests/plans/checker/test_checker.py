"""The check: every fault at once, with code, path and cure."""

from __future__ import annotations

import json
import math
import types

import jsonschema_rs
import pytest
from firmplan import Engine, InputRejected, Plan, Tool, check
from firmplan.plans.checker.names import close_name, is_name
from firmplan.plans.expressions.syntax import RESERVED
from firmplan.plans.inputs import fit_inputs
from firmplan.plans.limits import Limits


@pytest.fixture
def problems(tools):
    """Check parts of a plan; gives (code, path) of every problem."""

    def find(plan, more=(), **settings):
        report = check({"firmplan": 1, **plan}, [*tools, *more], **settings)
        return [(problem.code, problem.path) for problem in report.problems]

    return find


@pytest.fixture
def hints(tools):
    """Check parts of a plan; gives the hint of every problem."""

    def find(plan, **settings):
        return [problem.hint for problem in check({"firmplan": 1, **plan}, tools, **settings).problems]

    return find


EXAMPLE = {
    "task": "Compare two cities' weather, and tell me about the warmer one",
    "inputs": {"a": {"type": "string"}, "b": {"type": "string", "default": "Oslo"}},
    "types": {
        "Note": {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "places": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["text", "places"],
        }
    },
    "steps": [
        {"id": "wa", "tool": "weather", "args": {"city": "${inputs.a}"}},
        {"id": "wb", "tool": "weather", "args": {"city": "${inputs.b}"}},
        {"id": "warmer", "set": "${inputs.a if wa.celsius >= wb.celsius else inputs.b}"},
        {
            "id": "note",
            "ask": {
                "prompt": "One friendly sentence about ${warmer}, and two places to see there.",
                "returns": {"$ref": "#/types/Note"},
            },
        },
        {"id": "spots", "tool": "cities", "for_each": "${note.places}", "args": {"country": "${item}"}},
        {
            "id": "mail",
            "tool": "send_mail",
            "when": "${warmer == inputs.a}",
            "after": ["spots"],
            "args": {"to": "me@example.org", "body": "Hi! ${note.text}"},
        },
    ],
    "output": "${note.text}",
}


def test_the_plan_of_the_contract_is_without_problems(problems):
    assert problems(EXAMPLE) == []


def test_types_of_all_steps_are_inferred(tools):
    report = check({"firmplan": 1, **EXAMPLE}, tools)
    text = {"type": "string"}
    assert report.types["warmer"] == text
    assert report.types["wa"]["properties"] == {"celsius": {"type": "number"}, "text": text}
    assert report.types["spots"] == {"type": "array", "items": {"type": "array", "items": text}}
    assert list(report.types) == ["wa", "wb", "warmer", "note", "spots", "mail"]


def test_every_fault_is_found_at_once(problems):
    """Nothing hides anything else: shape, names, types, expressions and wiring in one report, in the plan's order."""
    plan = {
        "inputs": {"n": {"type": "integer", "default": "ten"}, "class": {"type": "string"}},
        "steps": [
            {"id": "a", "tool": "wether", "args": {"city": "Rome"}},
            {"id": "a", "set": "${1 +}"},
            {"id": "b", "tool": "weather", "args": {"town": 1}},
            {"id": "c", "set": "${nothing.x}", "wehn": True},
            {"id": "d", "set": "${e}"},
            {"id": "e", "set": "${d}"},
            {"id": "f", "when": "${inputs.n}", "set": 1},
            {"id": "g", "plan": "gone"},
        ],
        "output": "${b.celcius}",
    }
    assert problems(plan)[:13] == [
        ("bad-id", "$.inputs.class"),
        ("bad-input", "$.inputs.n.default"),
        ("unknown-tool", "$.steps[0].tool"),
        ("duplicate-id", "$.steps[1].id"),
        ("bad-expr", "$.steps[1].set"),
        ("unknown-arg", "$.steps[2].args.town"),
        ("missing-arg", "$.steps[2].args.city"),
        ("bad-shape", "$.steps[3].wehn"),
        ("unknown-ref", "$.steps[3].set"),
        ("cycle", "$.steps[4]"),
        ("not-a-bool", "$.steps[6].when"),
        ("unknown-plan", "$.steps[7].plan"),
        ("unknown-field", "$.output"),
    ]


@pytest.mark.parametrize(
    "id_",
    [
        "A",
        "1a",
        "a-b",
        "a b",
        "",
        "_a",
        "a" * 65,
        "class",
        "None".lower() + "",
        "sum",
        "first",
        "inputs",
        "item",
        "index",
        "prev",
    ],
)
def test_ids_are_names_that_expressions_can_use(problems, id_):
    found = problems({"steps": [{"id": id_, "set": 1}], "inputs": {id_: {}}})
    expected = [] if id_ == "none" else [("bad-id", "$.steps[0].id")]
    assert [pair for pair in found if pair[0] == "bad-id" and pair[1].startswith("$.steps")] == expected


def test_a_name_of_a_function_is_told_with_another_name():
    """What the name is, and a word of the same sense that no step has; the reference says that it cannot be one."""
    plan = {"firmplan": 1, "steps": [{"id": "sum", "set": 1}], "output": "${sum}"}
    named, used = check(plan, []).errors
    assert (
        named.message
        == "'sum' cannot be the name of a step: in expressions sum(..) is a function, so 'sum' could not refer to it"
    )
    assert named.hint == "write 'total'"
    assert used.hint == "call it: sum(..); no step and no input can have this name"
    plan["steps"].append({"id": "total", "set": 2})
    assert check(plan, []).errors[0].hint == "write 'sum_'"
    for name in RESERVED:
        assert is_name(close_name(name)), name


def test_ids_of_64_letters_are_allowed(problems):
    id_ = "a" * 64
    assert problems({"steps": [{"id": id_, "set": 1}], "output": f"${{{id_}}}"}) == []


@pytest.mark.parametrize(
    ("plan", "hint"),
    [
        ({"steps": [{"id": "w", "tool": "wether", "args": {}}]}, "did you mean 'weather'?"),
        (
            {"steps": [{"id": "w", "tool": "weather", "args": {"city": "a", "citi": "b"}}], "output": "${w}"},
            "leave it out",
        ),
        (
            {
                "steps": [
                    {"id": "a", "set": 1},
                    {"id": "b", "tool": "fetch", "args": {"url": "x"}, "after": ["aa"]},
                ],
                "output": "${b}",
            },
            "did you mean 'a'?",
        ),
        ({"steps": [{"id": "theName", "set": 1}], "output": "${theName}"}, "write 'the_name'"),
        (
            {"plans": {"report": {"steps": []}}, "steps": [{"id": "a", "plan": "reprot"}]},
            "did you mean 'report'?",
        ),
        (
            {
                "steps": [{"id": "a", "ask": {"prompt": "x", "returns": {"$ref": "#/types/Nte"}}}],
                "types": {"Note": {}},
                "output": "${a}",
            },
            "did you mean 'Note'?",
        ),
        ({"steps": [{"id": "a", "if": True, "set": 1}], "output": "${a}"}, "use 'when'"),
    ],
)
def test_the_nearest_name_is_suggested(hints, plan, hint):
    assert hint in hints(plan)


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        ("${wather.text}", "unknown-ref"),
        ("${steps.weather_now.text}", "unknown-ref"),
        ("${weather_now.output.text}", "unknown-field"),
        ("${weather_now.txt}", "unknown-field"),
    ],
)
def test_common_slips_of_references_have_hints(tools, expression, code):
    steps = [
        {"id": "weather_now", "tool": "weather", "args": {"city": "Rome"}},
        {"id": "t", "set": expression},
    ]
    report = check({"firmplan": 1, "steps": steps, "output": "${[t, weather_now]}"}, tools)
    assert [problem.code for problem in report.errors] == [code]
    assert "weather_now" in report.errors[0].hint or "text" in report.errors[0].hint


@pytest.mark.parametrize("value", ["${x.y}", "${item}", "${index}", "${prev}", "${inputs.x}"])
def test_names_out_of_scope_are_unknown(problems, value):
    assert problems({"steps": [{"id": "a", "set": value}], "output": "${a}"}) == [
        ("unknown-ref", "$.steps[0].set")
    ]


def test_inner_plans_see_neither_steps_nor_inputs_of_the_outer_plan(problems):
    plan = {
        "inputs": {"x": {"type": "string"}},
        "plans": {"p": {"steps": [{"id": "i", "set": ["${a}", "${inputs.x}"]}], "output": "${i}"}},
        "steps": [{"id": "a", "set": "${inputs.x}"}, {"id": "b", "plan": "p"}],
        "output": "${[a, b]}",
    }
    assert problems(plan) == [
        ("unknown-ref", "$.plans.p.steps[0].set[0]"),
        ("unknown-ref", "$.plans.p.steps[0].set[1]"),
    ]


def test_inner_plans_see_types_and_plans_of_the_outer_plan(tools):
    plan = {
        "firmplan": 1,
        "types": {"N": {"type": "integer"}},
        "plans": {
            "leaf": {"inputs": {"n": {"$ref": "#/types/N"}}, "steps": [], "output": "${inputs.n}"},
            "mid": {"steps": [{"id": "l", "plan": "leaf", "args": {"n": 1}}], "output": "${l}"},
        },
        "steps": [{"id": "m", "plan": "mid"}],
        "output": "${m}",
    }
    report = check(plan, tools)
    assert report.problems == ()
    assert report.types == {"m": {"type": "integer"}, "m/l": {"type": "integer"}}


class TestArguments:
    """Arguments of tools and plans: written, computed, mixed."""

    def test_a_computed_argument_is_judged_by_its_type(self, problems):
        plan = {"steps": [{"id": "w", "tool": "weather", "args": {"city": "${1 + 1}"}}], "output": "${w}"}
        assert problems(plan) == [("type-mismatch", "$.steps[0].args.city")]

    def test_a_tool_without_named_arguments_accepts_any(self, problems):
        settings = {"parameters": {"type": "object"}, "returns": {"type": "string"}, "effect": "read"}
        tool = Tool.from_callable(lambda **given: str(given), name="any", **settings)
        plan = {"steps": [{"id": "a", "tool": "any", "args": {"x": 1, "y": "${2}"}}], "output": "${a}"}
        assert problems(plan, [tool]) == []

    def test_text_with_an_expression_in_it_is_text(self, problems):
        plan = {"steps": [{"id": "w", "tool": "weather", "args": {"city": "no ${1 + 1}"}}], "output": "${w}"}
        assert problems(plan) == []

    def test_parts_of_an_argument_are_judged_where_they_stand(self, problems, make_tool):
        place = {
            "type": "object",
            "properties": {
                "lat": {"type": "number"},
                "name": {"type": "string", "minLength": 2},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["lat", "name"],
        }
        tool = make_tool("put", optional={"place": place}, returns={"type": "string"})
        args = {"place": {"lat": "${'x'}", "name": "y", "tags": ["a", 1, "${2}"], "zip": "${1}"}}
        assert problems({"steps": [{"id": "p", "tool": "put", "args": args}], "output": "${p}"}, [tool]) == [
            ("type-mismatch", "$.steps[0].args.place.lat"),
            ("bad-literal", "$.steps[0].args.place.name"),
            ("bad-literal", "$.steps[0].args.place.tags[1]"),
            ("type-mismatch", "$.steps[0].args.place.tags[2]"),
            ("bad-literal", "$.steps[0].args.place.zip"),
        ]

    def test_a_written_part_may_be_missing(self, problems, make_tool):
        place = {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]}
        tool = make_tool("put", optional={"place": place}, returns={"type": "string"})
        args = {"place": {"a": "${1}"}}
        assert problems({"steps": [{"id": "p", "tool": "put", "args": args}], "output": "${p}"}, [tool]) == [
            ("bad-literal", "$.steps[0].args.place")
        ]

    def test_alternatives_are_judged_as_a_whole(self, problems, make_tool):
        either = {
            "anyOf": [
                {"type": "array", "items": {"type": "integer"}},
                {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
            ]
        }
        tool = make_tool("put", optional={"x": either}, returns={"type": "string"})
        steps = [
            {"id": "a", "tool": "put", "args": {"x": {"n": "${1}"}}},
            {"id": "b", "tool": "put", "args": {"x": [1, "${2}"]}},
            {"id": "c", "tool": "put", "args": {"x": [1, "${'2'}"]}},
        ]
        found = problems({"steps": steps, "output": "${[a, b, c]}"}, [tool])
        assert [pair for pair in found if pair[1].startswith(("$.steps[0]", "$.steps[1]"))] == []
        assert [code for code, path in found if path.startswith("$.steps[2]")] in (
            ["type-mismatch"],
            ["bad-literal"],
        )

    @pytest.mark.parametrize(
        ("value", "fits"), [(2, True), (2.0, True), (2.5, False), ("2", False), (True, False), (None, False)]
    )
    def test_written_values_are_validated_as_json_schema_says(self, problems, make_tool, value, fits):
        tool = make_tool("take", optional={"n": {"type": "integer"}}, returns={"type": "string"})
        found = problems(
            {"steps": [{"id": "t", "tool": "take", "args": {"n": value}}], "output": "${t}"}, [tool]
        )
        assert found == ([] if fits else [("bad-literal", "$.steps[0].args.n")])

    def test_inner_plans_have_arguments_like_tools(self, problems):
        inner = {
            "inputs": {"n": {"type": "integer"}, "m": {"type": "string", "default": "x"}},
            "steps": [],
            "output": "${[inputs.n, inputs.m]}",
        }
        steps = [
            {"id": "a", "plan": "p", "args": {"n": 1}},
            {"id": "b", "plan": "p"},
            {"id": "c", "plan": "p", "args": {"n": "x", "o": 1}},
            {"id": "d", "plan": "p", "args": {"n": "${'x'}"}},
        ]
        assert problems({"plans": {"p": inner}, "steps": steps, "output": "${[a, b, c, d]}"}) == [
            ("missing-arg", "$.steps[1].args.n"),
            ("bad-literal", "$.steps[2].args.n"),
            ("unknown-arg", "$.steps[2].args.o"),
            ("type-mismatch", "$.steps[3].args.n"),
        ]

    def test_a_tool_without_a_result_schema_gives_anything(self, problems):
        steps = [
            {"id": "s", "tool": "search", "args": {"query": "x"}},
            {"id": "w", "tool": "weather", "args": {"city": "${s.city}"}},
        ]
        found = problems({"steps": steps, "output": "${w}"})
        assert {code for code, _ in found} == {"unchecked-type"}
        assert {path for _, path in found} == {"$.steps[1].args.city"}


class TestSecrets:
    """`secret` is the whole of an argument of a tool step, else a fault."""

    def test_as_a_whole_argument_it_is_text(self, problems, make_tool):
        tool = make_tool("take", "key", optional={"n": {"type": "integer"}}, returns={"type": "string"})
        args = {"key": '${secret("KEY")}', "n": "${ secret('N') }"}
        found = problems({"steps": [{"id": "t", "tool": "take", "args": args}], "output": "${t}"}, [tool])
        assert found == [("type-mismatch", "$.steps[0].args.n")]

    @pytest.mark.parametrize(
        "step",
        [
            {"set": '${secret("K")}'},
            {"tool": "weather", "args": {"city": 'x ${secret("K")}'}},
            {"tool": "weather", "args": {"city": '${secret("K") + ""}'}},
            {"ask": {"prompt": '${secret("K")}'}},
            {"plan": "p", "args": {"x": '${secret("K")}'}},
            {"tool": "weather", "args": {"city": '${secret("K", "L")}'}},
        ],
    )
    def test_anywhere_else_it_is_a_bad_expression(self, problems, step):
        plan = {
            "plans": {"p": {"inputs": {"x": {}}, "steps": [], "output": "${inputs.x}"}},
            "steps": [{"id": "a", **step}],
            "output": "${a}",
        }
        assert [code for code, _ in problems(plan)] == ["bad-expr"]


class TestSteps:
    """What the keys of a step mean for types."""

    def test_for_each_gives_a_list(self, tools):
        step = {"id": "w", "for_each": ["Rome", "Oslo"], "tool": "weather", "args": {"city": "${item}"}}
        report = check({"firmplan": 1, "steps": [step], "output": "${[x.celsius for x in w]}"}, tools)
        assert report.problems == ()
        assert report.types["w"]["type"] == "array"

    @pytest.mark.parametrize("value", ["x", 1, None, {"a": 1}, "${1}", "${'text'}"])
    def test_for_each_wants_a_list(self, problems, value):
        step = {"id": "s", "for_each": value, "set": "${item}"}
        assert problems({"steps": [step], "output": "${s}"}) == [("not-a-list", "$.steps[0].for_each")]

    @pytest.mark.parametrize("value", ["yes", 1, None, "${'yes'}", "${1}", "yes ${1}", []])
    def test_when_wants_a_boolean(self, problems, value):
        found = problems({"steps": [{"id": "s", "when": value, "set": 1}], "output": "${first(s, 0)}"})
        assert [code for code, _ in found] == ["not-a-bool"]

    def test_until_wants_a_boolean_and_sees_the_value_just_made(self, problems):
        until = {"id": "s", "set": "${first(prev, 0) + 1}", "repeat": {"until": "${s}", "max": 3}}
        assert problems({"steps": [until], "output": "${s}"}) == [("not-a-bool", "$.steps[0].repeat.until")]
        until["repeat"]["until"] = "${s > 2}"
        assert problems({"steps": [until], "output": "${s}"}) == []

    def test_prev_is_absent_at_first(self, problems):
        step = {"id": "s", "set": "${prev + 1}", "repeat": {"until": "${s == 3}", "max": 3}}
        found = problems({"steps": [step], "output": "${s}"})
        assert ("maybe-missing", "$.steps[0].set") in found or ("bad-expr", "$.steps[0].set") in found

    def test_prev_is_known_where_a_repeated_step_computes_and_not_where_it_is_switched(self, problems):
        step = {"id": "s", "set": 1, "repeat": {"until": "${s == first(prev, 0)}", "max": 3}}
        fallback = {"on_error": {"value": "${first(prev, 0)}"}}
        assert problems({"steps": [{**step, **fallback}], "output": "${s}"}) == []
        switch = {"when": "${first(prev, 0) == 1}"}
        assert problems({"steps": [{**step, **switch}], "output": "${s}"}) == [
            ("unknown-ref", "$.steps[0].when")
        ]

    def test_a_growing_value_of_repeat_has_a_type(self, tools):
        step = {"id": "s", "set": "${first(prev, []) + [1]}", "repeat": {"until": "${len(s) > 2}", "max": 5}}
        report = check({"firmplan": 1, "steps": [step], "output": "${s}"}, tools)
        assert report.problems == ()
        assert report.types["s"] == {"type": "array", "items": {"type": "integer"}}

    def test_a_fallback_joins_its_type(self, tools):
        step = {"id": "w", "tool": "weather", "args": {"city": "Rome"}, "on_error": {"value": None}}
        report = check({"firmplan": 1, "steps": [step], "output": "${w.text}"}, tools)
        assert [(problem.code, problem.path) for problem in report.problems] == [
            ("maybe-missing", "$.output")
        ]

    def test_a_skip_spreads_without_a_word_up_to_the_output(self, problems):
        inputs = {"x": {"type": "string"}}
        steps = [
            {"id": "go", "set": "${len(inputs.x) == 1}"},
            {"id": "a", "when": "${go}", "set": 1},
            {"id": "b", "set": "${a + 1}"},
            {"id": "c", "set": "${first(a, 0)}"},
        ]
        assert problems({"inputs": inputs, "steps": steps, "output": {"b": "${b}", "c": "${c}"}}) == [
            ("maybe-missing", "$.output.b")
        ]
        assert problems({"inputs": inputs, "steps": steps, "output": "${[first(b, 0), c]}"}) == []
        assert problems({"steps": steps, "output": "${[c, first(b, a)]}", "inputs": inputs})[0] == (
            "maybe-missing",
            "$.output",
        )

    def test_on_error_skip_may_skip(self, problems):
        step = {"id": "w", "tool": "weather", "args": {"city": "Rome"}, "on_error": "skip"}
        assert problems({"steps": [step], "output": "${w.text}"}) == [("maybe-missing", "$.output")]

    def test_items_that_are_left_out_skip_nothing(self, problems):
        step = {
            "id": "w",
            "for_each": ["a"],
            "tool": "weather",
            "args": {"city": "${item}"},
            "on_error": "skip",
        }
        assert problems({"steps": [step], "output": "${w}"}) == []

    def test_the_prompt_of_a_model_is_text(self, problems):
        steps = [
            {"id": "w", "tool": "weather", "args": {"city": "Rome"}},
            {"id": "a", "ask": {"prompt": "${w}"}},
        ]
        assert problems({"steps": steps, "output": "${a}"}) == [("type-mismatch", "$.steps[1].ask.prompt")]

    def test_agents_name_tools(self, problems):
        step = {"id": "a", "agent": {"goal": "do", "tools": ["weather", "gone"]}}
        assert problems({"steps": [step], "output": "${a}"}) == [
            ("unknown-tool", "$.steps[0].agent.tools[1]")
        ]


class TestWiring:
    """Circles, missing plans, recursion, limits."""

    def test_circles_through_after_count(self, problems):
        steps = [{"id": "a", "set": 1, "after": ["b"]}, {"id": "b", "set": "${a}"}]
        assert problems({"steps": steps, "output": "${b}"}) == [("cycle", "$.steps[0]")]

    @pytest.mark.parametrize(
        "step", [{"set": "${a}"}, {"set": 1, "after": ["a"]}, {"set": 1, "when": "${a == 1}"}]
    )
    def test_a_step_cannot_wait_for_itself(self, problems, step):
        assert [
            pair
            for pair in problems({"steps": [{"id": "a", **step}], "output": "${first(a, 0)}"})
            if pair[0] == "cycle"
        ] == [("cycle", "$.steps[0]")]

    def test_each_circle_is_told_once(self, problems):
        steps = [{"id": a, "set": f"${{{b}}}"} for a, b in ("ab", "ba", "cd", "de", "ec")]
        found = problems({"steps": steps})
        assert [pair for pair in found if pair[0] != "unused-step"] == [
            ("cycle", "$.steps[0]"),
            ("cycle", "$.steps[2]"),
        ]

    def test_plans_may_not_run_themselves_through_others(self, problems):
        plans = {"p": {"steps": [{"id": "a", "plan": "q"}]}, "q": {"steps": [{"id": "a", "plan": "p"}]}}
        found = problems({"plans": plans, "steps": []})
        assert [pair for pair in found if pair[0] != "unused-step"] == [
            ("recursive-plan", "$.plans.p.steps[0].plan")
        ]

    def test_saved_plans_are_checked_with_the_plan_that_runs_them(self, problems):
        saved = {
            "report": Plan.model_validate(
                {"firmplan": 1, "inputs": {"n": {"type": "integer"}}, "steps": [], "output": "${inputs.n}"}
            )
        }
        good = {"steps": [{"id": "r", "plan": "report", "args": {"n": 1}}], "output": "${r + 1}"}
        assert problems(good, plans=saved) == []
        bad = {
            "steps": [{"id": "r", "plan": "report", "args": {"n": "x"}}, {"id": "s", "plan": "rep"}],
            "output": "${[r, s]}",
        }
        assert problems(bad, plans=saved.get) == [
            ("bad-literal", "$.steps[0].args.n"),
            ("unknown-plan", "$.steps[1].plan"),
        ]

    def test_faults_of_a_saved_plan_are_told_at_the_step_that_runs_it(self, problems):
        saved = {
            "report": Plan.model_validate(
                {"firmplan": 1, "steps": [{"id": "a", "tool": "gone"}], "output": "${a}"}
            )
        }
        assert problems({"steps": [{"id": "r", "plan": "report"}], "output": "${r}"}, plans=saved) == [
            ("unknown-tool", "$.steps[0].plan")
        ]

    def test_nesting_and_growth_have_limits(self, problems):
        plans = {
            f"p{n}": {
                "steps": [{"id": "a", "plan": f"p{n + 1}"}, {"id": "b", "plan": f"p{n + 1}"}],
                "output": "${[a, b]}",
            }
            for n in range(40)
        }
        plans["p40"] = {"steps": [{"id": "a", "set": 1}], "output": "${a}"}
        found = problems({"plans": plans, "steps": [{"id": "a", "plan": "p0"}], "output": "${a}"})
        assert found == [("limit-exceeded", "$.steps")] * 2

    def test_the_number_of_steps_has_a_limit(self, problems):
        steps = [{"id": f"s{n}", "set": 1} for n in range(11)]
        assert problems({"steps": steps}, limits=Limits(steps_max=10)) == [("limit-exceeded", "$.steps")]


class TestWrites:
    """Retries and flows."""

    def test_retries_of_a_write_need_a_key_or_an_answer(self, problems, make_tool):
        tools = [
            make_tool("plain", effect="write", returns={}),
            make_tool("same", effect="write", idempotent=True, returns={}),
            make_tool("known", effect="write", can_reconcile=True, returns={}),
        ]
        steps = [
            {"id": f"s{n}", "tool": name, "retries": 1}
            for n, name in enumerate(("plain", "same", "known", "weather"))
        ]
        steps[3]["args"] = {"city": "Rome"}
        steps.append({"id": "zero", "tool": "plain", "retries": 0})
        assert problems({"steps": steps, "output": "${s3.text}"}, tools) == [
            ("unsafe-retry", "$.steps[0].retries")
        ]

    def flow(self, *steps, **plan):
        return {"steps": [{"id": "page", "tool": "fetch", "args": {"url": "u"}}, *steps], **plan}

    @pytest.mark.parametrize(
        "step",
        [
            {"id": "mid", "set": "${page + '!'}"},
            {"id": "mid", "set": "${'a' if len(page) > 3 else 'b'}"},
            {"id": "mid", "set": "${first('x', page)}"},
            {"id": "mid", "ask": {"prompt": "Sum up ${page}"}},
            {"id": "mid", "set": "constant", "when": "${page == 'x'}"},
            {"id": "mid", "plan": "echo", "args": {"x": "${page}"}},
            {"id": "mid", "agent": {"goal": "Read ${page}"}},
        ],
    )
    def test_labels_follow_data_and_control(self, problems, step):
        mail = {"id": "mail", "tool": "send_mail", "args": {"to": "me", "body": "${mid}"}}
        plans = {"echo": {"inputs": {"x": {"type": "string"}}, "steps": [], "output": "${inputs.x}"}}
        assert ("unsafe-flow", "$.steps[2].args.body") in problems(self.flow(step, mail, plans=plans))

    def test_a_plan_that_does_not_pass_data_on_labels_nothing(self, problems):
        plans = {
            "size": {
                "inputs": {"x": {"type": "string"}},
                "steps": [{"id": "n", "set": "${len(inputs.x)}"}],
                "output": "done",
            }
        }
        call = {"id": "mid", "plan": "size", "args": {"x": "${page}"}}
        mail = {"id": "mail", "tool": "send_mail", "args": {"to": "me", "body": "${mid}"}}
        assert [
            code for code, _ in problems(self.flow(call, mail, plans=plans)) if code == "unsafe-flow"
        ] == []

    def test_what_a_tool_allows_or_a_person_approves_is_safe(self, problems, make_tool):
        tools = [
            make_tool("post", "body", effect="write", allow_untrusted=("body",), returns={}),
            make_tool("asks", "body", effect="write", asks_approval=True, returns={}),
        ]
        steps = [{"id": name, "tool": name, "args": {"body": "${page}"}} for name in ("post", "asks")]
        assert problems(self.flow(*steps), tools) == []

    def test_flows_into_inner_plans_are_told_at_the_inner_write(self, problems):
        plans = {
            "post": {
                "inputs": {"x": {"type": "string"}},
                "steps": [{"id": "m", "tool": "send_mail", "args": {"to": "me", "body": "${inputs.x}"}}],
            }
        }
        bad = {"id": "a", "plan": "post", "args": {"x": "${page}"}}
        good = {"id": "b", "plan": "post", "args": {"x": "clean"}}
        assert problems(self.flow(bad, good, plans=plans)) == [
            ("unsafe-flow", "$.plans.post.steps[0].args.body")
        ]

    def test_conditions_around_an_inner_plan_are_told_where_they_stand(self, problems):
        plans = {"post": {"steps": [{"id": "m", "tool": "send_mail", "args": {"to": "me", "body": "x"}}]}}
        call = {"id": "a", "plan": "post", "when": "${page == 'x'}"}
        assert problems(self.flow(call, plans=plans)) == [("untrusted-condition", "$.steps[1].when")]

    def test_the_flow_is_told_from_its_source(self, tools):
        plan = self.flow(
            {"id": "mid", "set": "${page}"},
            {"id": "mail", "tool": "send_mail", "args": {"to": "me", "body": "${mid}"}},
        )
        assert "page -> mid -> mail.body" in check({"firmplan": 1, **plan}, tools).errors[0].message

    @pytest.mark.parametrize("key", [{"when": "${page == 'x'}"}, {"for_each": "${page.split()}"}])
    def test_conditions_from_outside_are_warned_of(self, problems, key):
        mail = {"id": "mail", **key, "tool": "send_mail", "args": {"to": "me", "body": "x"}}
        assert problems(self.flow(mail)) == [("untrusted-condition", f"$.steps[1].{next(iter(key))}")]


class TestUse:
    """What is there and not used."""

    def test_what_changes_the_world_is_used(self, problems):
        steps = [
            {"id": "m", "tool": "send_mail", "args": {"to": "x", "body": "y"}},
            {"id": "w", "tool": "weather", "args": {"city": "Rome"}},
        ]
        assert problems({"steps": steps}) == [("unused-step", "$.steps[1]")]

    def test_after_is_use(self, problems):
        steps = [
            {"id": "w", "tool": "weather", "args": {"city": "Rome"}},
            {"id": "m", "tool": "send_mail", "args": {"to": "x", "body": "y"}, "after": ["w"]},
        ]
        assert problems({"steps": steps}) == []

    def test_inputs_as_a_whole_use_every_input(self, problems):
        inputs = {"a": {"type": "string"}, "b": {"type": "string"}}
        assert (
            problems({"inputs": inputs, "steps": [{"id": "k", "set": "${keys(inputs)}"}], "output": "${k}"})
            == []
        )
        found = problems(
            {"inputs": inputs, "steps": [{"id": "k", "set": '${inputs["a"]}'}], "output": "${k}"}
        )
        assert found == [("unused-input", "$.inputs.b")]


class TestSchemas:
    """Types, inputs and results that a plan declares."""

    def test_unknown_types_are_told_where_they_are_named(self, problems):
        plan = {
            "types": {"A": {"type": "array", "items": {"$ref": "#/types/B"}}},
            "inputs": {"x": {"$ref": "#/types/C"}},
            "steps": [
                {
                    "id": "a",
                    "agent": {
                        "goal": "do",
                        "returns": {"type": "object", "properties": {"k": {"$ref": "#/types/D"}}},
                    },
                }
            ],
            "output": "${[a, inputs.x]}",
        }
        assert problems(plan) == [
            ("unknown-type", "$.inputs.x"),
            ("unknown-type", "$.types.A.items"),
            ("unknown-type", "$.steps[0].agent.returns.properties.k"),
        ]

    @pytest.mark.parametrize(
        ("schema", "use", "kind"),
        [
            ({"properties": {"n": {"type": "integer"}}, "required": ["n"]}, "${x.n + 1}", "object"),
            ({"items": {"type": "integer"}}, "${sum(x)}", "array"),
            ({"minimum": 1}, "${x + 1}", "number"),
            ({"minLength": 1}, "${x.upper()}", "string"),
        ],
    )
    def test_a_schema_without_a_type_admits_every_kind(self, problems, hints, schema, use, kind):
        """The check says what validation does: whether such a value has fields, items or a sum is known only in the run."""
        returned = {"steps": [{"id": "x", "ask": {"prompt": "p", "returns": schema}}], "output": use}
        assert problems(returned) == [
            ("unchecked-type", "$.steps[0].ask.returns"),
            ("unchecked-type", "$.output"),
        ]
        assert hints(returned)[0] == f'write "type": "{kind}" beside it'
        typed = {
            "steps": [{"id": "x", "ask": {"prompt": "p", "returns": {**schema, "type": kind}}}],
            "output": use,
        }
        assert problems(typed) == []
        tool = Tool.from_callable(lambda: 1, name="t", parameters={}, returns=schema, effect="pure")
        called = {"steps": [{"id": "x", "tool": "t"}], "output": use}
        assert problems(called, [tool]) == [("unchecked-type", "$.output")]
        given = {"inputs": {"x": schema}, "steps": [], "output": use.replace("x", "inputs.x", 1)}
        assert problems(given)[0] == ("unchecked-type", "$.inputs.x")
        for value in (None, True, "", {}, [], 2):
            is_valid = jsonschema_rs.is_valid(schema, value)
            assert (
                fit_inputs(Plan.model_validate({"firmplan": 1, **given}), {"x": value})[1] == []
            ) is is_valid

    def test_a_result_of_another_kind_fails_where_it_is_used(self, problems):
        """The warning comes true: the tool's result passes its schema, and has no such field."""
        tool = Tool.from_callable(
            lambda: "text", name="t", parameters={}, returns={"properties": {"n": {"type": "integer"}}}
        )
        plan = {"steps": [{"id": "x", "tool": "t"}, {"id": "y", "set": "${x.n}"}], "output": "${y}"}
        assert problems(plan, [tool]) == [("unchecked-type", "$.steps[1].set")]
        with Engine([tool], store="memory:") as engine:
            run = engine.run_sync({"firmplan": 1, **plan})
        assert (run.steps["x"].status, run.steps["y"].status) == ("succeeded", "failed")

    def test_a_schema_that_is_none_is_a_fault_of_shape(self, problems):
        plan = {"inputs": {"x": {"type": "text"}}, "steps": [], "output": "${inputs.x}"}
        assert problems(plan) == [("bad-shape", "$.inputs.x.type")]

    def test_types_may_hold_themselves(self, problems):
        tree = {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "kids": {"type": "array", "items": {"$ref": "#/types/Tree"}},
            },
            "required": ["name", "kids"],
        }
        plan = {
            "types": {"Tree": tree},
            "inputs": {
                "t": {"$ref": "#/types/Tree", "default": {"name": "a", "kids": [{"name": "b", "kids": []}]}}
            },
            "steps": [{"id": "s", "set": "${[k.name for k in inputs.t.kids]}"}],
            "output": "${s}",
        }
        assert problems(plan) == []
        plan["inputs"]["t"]["default"] = {"name": "a", "kids": [{"name": 7, "kids": []}]}
        assert problems(plan) == [("bad-input", "$.inputs.t.default.kids[0].name")]


class TestReports:
    """What a report says beside problems."""

    def test_bounds_are_known_before_anything_runs(self, tools):
        steps = [
            {"id": "a", "ask": {"prompt": "x"}, "retries": 2},
            {"id": "w", "for_each": ["a", "b"], "tool": "weather", "args": {"city": "${item}"}},
            {"id": "s", "set": "${[a, w]}"},
        ]
        bounds = check({"firmplan": 1, "steps": steps, "output": "${s}"}, tools).bounds
        assert (bounds.calls_max, bounds.model_calls_max, bounds.critical_path, bounds.finite) == (
            5,
            3,
            ("a", "s"),
            True,
        )

    def test_lengths_that_a_plan_says_are_known(self, tools):
        """A list that is written, computed from one of known length, or made of as many items, has a greatest length."""
        weather = {"tool": "weather", "args": {"city": "${item}"}}
        steps = [
            {"id": "names", "set": ["a", "b", "c"]},
            {"id": "one", "for_each": "${names}", **weather},
            {
                "id": "two",
                "for_each": "${[w.text for w in sorted(one, key=lambda w: w.celsius) if w.celsius > 3]}",
                **weather,
            },
            {"id": "three", "for_each": "${[names[0], two[0].text]}", **weather},
        ]
        assert check({"firmplan": 1, "steps": steps, "output": "${three}"}, tools).bounds.calls_max == 8

    def test_bounds_that_depend_on_data_are_not_finite(self, tools):
        steps = [
            {"id": "c", "tool": "cities", "args": {"country": "x"}},
            {"id": "w", "for_each": "${c}", "tool": "weather", "args": {"city": "${item}"}},
        ]
        bounds = check({"firmplan": 1, "steps": steps, "output": "${w}"}, tools).bounds
        assert (bounds.calls_max, bounds.finite) == (None, False)

    def test_a_report_is_json(self, tools):
        report = check({"firmplan": 1, **EXAMPLE, "output": "${note.txt}"}, tools)
        assert json.loads(report.to_json()) == json.loads(json.dumps(report.to_dict()))
        assert not report.ok
        assert "unknown-field" in str(report)

    def test_text_has_lines(self, tools):
        report = check(
            '{"firmplan": 1,\n "steps": [\n  {"id": "a",\n   "set": "${b}"}],\n "output": "${a}"}', tools
        )
        assert [(problem.path, problem.line) for problem in report.problems] == [("$.steps[0].set", 4)]

    def test_equal_plans_have_equal_reports(self, tools):
        plan = {"firmplan": 1, **EXAMPLE, "output": "${[noe, wa.x, first(mail, 1) + 1]}"}
        assert (
            check(plan, tools) == check(json.dumps(plan), tools)
            or check(plan, tools).problems == check(Plan.model_validate(plan), tools).problems
        )


@pytest.mark.parametrize(
    "plan",
    [
        None, 7, math.nan, [], "", "just words", b"\xff", object(), {1: 2}, {"steps": {1, 2}}, lambda: None, Plan,
        {"firmplan": 1}, {"firmplan": 1, "steps": None}, {"firmplan": 1, "steps": [None, 7, {}]}, "[" * 100_000,
        {"firmplan": 1, "steps": [{"id": None, "set": 1}]}, {"firmplan": True, "steps": []}, {"firmplan": "1", "steps": []},
        {"firmplan": 1, "steps": [], "types": {"A": {"$ref": "#/types/A"}}, "inputs": {"a": {"$ref": "#/types/A", "default": 1}}},
        {"firmplan": 1, "steps": [{"id": "a", "tool": "weather", "args": {"city": float("inf")}}]},
        types.MappingProxyType({"firmplan": 1, "steps": []}),
    ],
)  # fmt: skip
def test_what_is_no_plan_is_a_fault_of_the_plan(plan, tools):
    report = check(plan, tools)
    assert not report.ok or isinstance(plan, types.MappingProxyType)
    assert {problem.code for problem in report.errors} <= {"bad-shape", "limit-exceeded"}


@pytest.mark.parametrize("version", [2, 0, "1", 1.0, True, None])
def test_another_version_is_a_fault_of_shape_that_names_it(tools, version):
    report = check({"firmplan": version, "steps": []}, tools)
    assert [(problem.code, problem.path) for problem in report.problems] == [("bad-shape", "$.firmplan")]
    assert "version 1" in report.problems[0].message


def test_a_list_of_tools_will_do_and_none_too():
    assert check({"firmplan": 1, "steps": [{"id": "a", "set": 1}], "output": "${a}"}, []).problems == ()
    assert check({"firmplan": 1, "steps": [{"id": "a", "set": 1}], "output": "${a}"}).ok


def test_a_tool_is_judged_by_its_schemas_of_today(make_tool):
    """Of two tools of one name each check asks the one that it is given, whatever checks came before; messages list fields in that tool's order."""

    def found(parameters, returns, value="${b.x}"):
        tools = [make_tool("take", optional={"a": parameters}, returns=returns)]
        steps = [
            {"id": "b", "tool": "take", "args": {"a": {"x": 1}}},
            {"id": "a", "tool": "take", "args": {"a": value}},
        ]
        report = check({"firmplan": 1, "steps": steps, "output": "${a}"}, tools)
        return [(each.code, each.path, each.message) for each in report.problems]

    integer, text = {"type": "integer"}, {"type": "string"}
    row = {"type": "object", "properties": {"x": integer}, "additionalProperties": False, "required": ["x"]}
    assert found(row, row, "${b}") == []
    assert [each[0] for each in found(row, {**row, "properties": {"x": text}}, "${b}")] == ["type-mismatch"]
    assert found(row, row, "${b}") == []
    assert [each[0] for each in found(row, row)] == ["type-mismatch"]
    names = [
        found({**row, "properties": dict.fromkeys(order, integer), "required": []}, row, {"z": 1})[0][2]
        for order in ("xvw", "wvx", "xvw")
    ]
    assert names[0] == names[2] != names[1]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        pytest.param("pair", ["${inputs.n}", 1], None, id="all-places-alike"),
        pytest.param("pair", ["${inputs.n}"], "bad-literal", id="too-short-a-list"),
        pytest.param("row", ["${inputs.n}", "x"], "unchecked-type", id="places-that-differ"),
        pytest.param("unique", ["${inputs.n}", 1], "unchecked-type", id="by-what-is-computed"),
        pytest.param("map", {"a": "${inputs.n}"}, "bad-literal", id="too-few-fields"),
        pytest.param("map", {"a": "${inputs.n}", "b": 1}, "bad-literal", id="a-name-that-does-not-fit"),
        pytest.param("map", {"a": "${inputs.n}", "ab": 1}, None, id="names-and-number"),
    ],
)
def test_values_that_are_computed_in_part_are_judged_as_a_whole(name, value, code, make_tool):
    """Length and names are known before a run; what rests on computed parts is checked when the step runs."""
    number, two = {"type": "number"}, {"minItems": 2, "maxItems": 2}
    arguments = {
        "pair": {"type": "array", "prefixItems": [number, number], **two},
        "row": {"type": "array", "prefixItems": [number, {"type": "string"}], **two},
        "unique": {"type": "array", "items": number, "uniqueItems": True},
        "map": {"additionalProperties": number, "type": "object", "minProperties": 2, "propertyNames": {"pattern": "^a"}},
    }  # fmt: skip
    steps = [{"id": "a", "tool": "take", "args": {name: value}}]
    plan = {"firmplan": 1, "inputs": {"n": {"type": "integer"}}, "steps": steps, "output": "${a}"}
    problems = check(plan, [make_tool("take", optional=arguments)]).problems
    path = f"$.steps[0].args.{name}"
    assert [(one.code, one.path) for one in problems] == ([] if code is None else [(code, path)])


@pytest.mark.parametrize(
    ("budget", "path", "wanted"),
    [
        ({"usd": -1}, ".usd", "a number of at least 0"),
        ({"steps": -0.5}, ".steps", "a number of at least 0"),
        ({"tokens": "many"}, ".tokens", "a number of at least 0"),
        ({"seconds": True}, ".seconds", "a number of at least 0"),
        ({"dollars": 1}, ".dollars", "'steps', 'model_calls', 'tokens', 'usd' or 'seconds'"),
    ],
)
def test_budgets_of_agents_are_amounts(budget, path, wanted):
    """A budget says how much of what, and nothing is less than none."""
    agent = {"goal": "Go", "budget": budget}
    report = check({"firmplan": 1, "steps": [{"id": "a", "agent": agent}], "output": "${a}"}, [])
    told = [(problem.code, problem.path, problem.message) for problem in report.errors]
    at = f"$.steps[0].agent.budget{path}"
    assert [(code, where) for code, where, _ in told] == [("bad-shape", at)]
    assert told[0][2].startswith(f"expected {wanted} at {at}, found")


def test_literals_are_judged_as_the_values_that_they_will_be(problems, make_tool):
    """Where `$${` stands for `${`, that is what the schema sees, deep inside and beside expressions too."""
    choice, short = {"enum": ["${x}", "y"]}, {"type": "string", "maxLength": 4}
    tool = make_tool("take", optional={"c": choice, "s": short, "l": {"type": "array", "items": choice}})

    def found(**args):
        steps = [{"id": "n", "set": "y"}, {"id": "a", "tool": "take", "args": args}]
        return problems({"steps": steps, "output": "${[a, n]}"}, [tool])

    assert found(c="$${x}", s="$${a}", l=["$${x}"]) == []
    assert found(c="$${x}", l=["$${x}", "${n}"]) == []
    assert found(c="$${y}") == [("bad-literal", "$.steps[1].args.c")]
    assert found(s="$${ab}", l=["${n}", "$${y}"]) == [
        ("bad-literal", "$.steps[1].args.s"),
        ("bad-literal", "$.steps[1].args.l[1]"),
    ]


SHAPES = {
    "either": {"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
    "both": {"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "dependentRequired": {"a": ["b"]}},
    "shape": {"oneOf": [
        {"properties": {"k": {"const": "c"}, "a": {"type": "integer"}}, "required": ["k", "a"]},
        {"properties": {"k": {"const": "s"}, "b": {"type": "string"}}, "required": ["k", "b"]},
    ]},
    "if": {"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "if": {"required": ["a"]}, "then": {"required": ["b"]}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "args", "found"),
    [
        ("either", {}, ("bad-literal", "")),
        ("either", {"a": 1}, None),
        ("either", {"a": "${inputs.n}"}, ("unchecked-type", "")),
        ("either", {"a": "x"}, ("bad-literal", ".a")),
        ("either", {"a": 1, "z": 2}, ("unknown-arg", ".z")),
        ("both", {"a": 1}, ("bad-literal", "")),
        ("both", {"a": "${inputs.n}"}, ("bad-literal", "")),
        ("both", {"a": "${inputs.n}", "b": "x"}, None),
        ("shape", {"k": "c", "a": 1}, None),
        ("shape", {"k": "z", "a": 1}, ("bad-literal", ".k")),
        ("shape", {"k": "c", "b": "x"}, ("bad-literal", "")),
        ("shape", {"k": "c", "a": "${inputs.n}"}, None),
        ("shape", {"k": "s", "b": "${inputs.n}"}, ("type-mismatch", "")),
        ("if", {"a": 1}, ("bad-literal", "")),
        ("if", {"b": "x"}, None),
    ],
)
def test_arguments_are_judged_together(shape, args, found):
    """What a tool's schema demands of its arguments as a whole is checked once each of them is right."""
    parameters = {"type": "object", **SHAPES[shape]}
    tool = Tool.from_callable(
        lambda **_: 1, name="take", parameters=parameters, returns={"type": "integer"}, version=1
    )
    steps = [{"id": "a", "tool": "take", "args": args}]
    report = check(
        {"firmplan": 1, "inputs": {"n": {"type": "integer"}}, "steps": steps, "output": "${a}"}, [tool]
    )
    told = [(problem.code, problem.path) for problem in report.problems if problem.code != "unused-input"]
    assert told == ([] if found is None else [(found[0], f"$.steps[0].args{found[1]}")])


def test_a_path_is_the_file_of_a_plan(tmp_path):
    """Problems have the lines of the file, as those of text have; a file that is not there is told with its path."""
    file = tmp_path / "p.yaml"
    file.write_text("firmplan: 1\nsteps:\n- {id: a, tool: nothing}\n")
    (fault,) = check(file).problems
    assert (fault.code, fault.line) == ("unknown-tool", 3)
    with pytest.raises(InputRejected, match=r"expected a plan file, found nothing at .*missing\.yaml"):
        check(tmp_path / "missing.yaml")
