"""Laws of the check: it never raises, it is deterministic, it does not touch what it is given, and it scales."""

from __future__ import annotations

import copy
import json
from contextlib import suppress

from firmplan import Plan, PlanRejected, check
from firmplan.plans import compile_plan
from firmplan.plans.reports.codes import CODES
from hypothesis import given
from hypothesis import strategies as st
from seeds import examples

PLAN = {
    "firmplan": 1,
    "task": "t",
    "inputs": {"a": {"type": "string"}, "n": {"type": ["integer", "null"], "default": 2}},
    "types": {"Note": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}},
    "plans": {
        "inner": {
            "inputs": {"x": {"type": "string"}},
            "types": {"L": {"type": "array", "items": {"$ref": "#/types/Note"}}},
            "steps": [{"id": "i", "ask": {"prompt": "${inputs.x}", "returns": {"$ref": "#/types/L"}}}],
            "output": "${i[0].text}",
        }
    },
    "steps": [
        {"id": "wa", "tool": "weather", "args": {"city": "${inputs.a}"}, "retries": 2, "timeout": 1.5},
        {"id": "page", "tool": "fetch", "args": {"url": "https://x"}, "on_error": {"value": "${inputs.a}"}},
        {"id": "cnt", "set": "${first(prev, 0) + 1}", "repeat": {"until": "${cnt >= 3}", "max": 5}},
        {
            "id": "many",
            "plan": "inner",
            "for_each": "${[inputs.a, wa.text]}",
            "when": "${index > 0}",
            "args": {"x": "${item}"},
        },
        {
            "id": "act",
            "agent": {"goal": "Do ${many}", "tools": ["weather"], "max_steps": 3, "budget": {"steps": 2}},
        },
        {
            "id": "mail",
            "tool": "send_mail",
            "when": "${cnt > 1}",
            "after": ["act"],
            "args": {"to": "x", "body": "Hi ${wa.text}"},
        },
    ],
    "output": {"m": "${first(mail, None)}", "p": "${page}", "n": "${inputs.n}"},
}

expressions = st.sampled_from(
    [
        "${", "${}", "${a", "}", "${inputs}", "${inputs.n + 1}", "${wa}", "${wa.text.x}", "${many[0][0]}", "${first()}",
        "${first(wa.x, page)}", "${[x for x in many]}", "${{}}", "${{'a': wa}}", "${item}", "${prev}", "${cnt}", "${1/0}",
        "${'a' * 10 ** 9}", "${[1] * 10 ** 9}", "${sorted(many, key=lambda x: x)}", "${secret('K')}", "{{wa.text}}", "$wa.text",
        "$${x}", "${mail}", "${wa['text']}", "${-wa.celsius}", "${not wa}", "${zip(many, many)}", "${max([])}", "${str(wa)}", "é${'é'}\ud7ff",
    ]
)  # fmt: skip
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), expressions,
    st.sampled_from([2**63, -(2**70), "\ud800", b"bytes", object, {1, 2}, "set", "tool", "wa", "inner", "#/types/Note", "sha256:"]),
)  # fmt: skip
keys = st.one_of(
    st.text(max_size=4),
    st.sampled_from(
        ["id", "tool", "set", "ask", "plan", "agent", "args", "for_each", "when", "after", "on_error", "repeat", "until", "max",
         "retries", "value", "prompt", "returns", "type", "properties", "items", "anyOf", "$ref", "enum", "const", "default", "required",
         "additionalProperties", "steps", "inputs", "types", "plans", "output", "goal", "tools", "examples", "guard", "x", "city"]
    ),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)


def _places(value, path=()):
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _places(part, (*path, key))


PLACES = list(_places(PLAN))[1:]


@st.composite
def mutants(draw):
    """A plan with some of its parts exchanged, added, taken out or doubled."""
    plan = copy.deepcopy(PLAN)
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(PLACES))
        holder = plan
        try:
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue
        if isinstance(holder, str):
            continue  # an exchanged part, whose characters are no parts
        match draw(st.integers(0, 3)):
            case 0:
                del holder[path[-1]]
            case 1 if isinstance(holder, dict):
                holder[draw(keys)] = draw(values)
            case 2 if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[path[-1]]))
            case _:
                holder[path[-1]] = draw(values)
    return plan


@examples(400)
@given(mutants())
def test_a_check_never_raises_and_its_codes_are_known(tools, plan):
    """Whatever is done to a plan, there is a report; and a plan that passes compiles."""
    report = check(plan, tools)
    assert {problem.code for problem in report.problems} <= set(CODES)
    assert all(problem.path.startswith("$") and problem.message for problem in report.problems)
    json.dumps(report.to_dict(), allow_nan=False)
    assert str(report)
    if report.ok:
        compile_plan(Plan.model_validate(plan), tools)
    elif "bad-shape" not in {problem.code for problem in report.problems}:
        Plan.model_validate(plan)


@examples(100)
@given(values)
def test_anything_at_all_has_a_report(tools, value):
    assert isinstance(check(value, tools).ok, bool)


@examples(150)
@given(mutants())
def test_a_program_is_made_or_refused(tools, plan):
    """The compiler meets plans that no check has seen: it refuses them, or makes a program."""
    with suppress(PlanRejected, ValueError):
        compile_plan(Plan.model_validate(plan), tools)


@examples(100)
@given(mutants())
def test_checks_repeat_and_leave_the_plan_alone(tools, plan):
    before = repr(plan)
    first = check(plan, tools)
    assert check(plan, tools).to_dict() == first.to_dict()
    assert repr(plan) == before


@examples(60)
@given(st.text(max_size=200) | st.binary(max_size=100))
def test_any_text_has_a_report(tools, text):
    assert isinstance(check(text, tools).ok, bool)
