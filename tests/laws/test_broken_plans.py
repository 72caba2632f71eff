"""Valid plans broken in one place: the check tells that fault, with its code and its path, and no other error."""

from __future__ import annotations

import copy
import urllib.request

import hypothesis.strategies as st
import pytest
from firmplan import check
from firmplan.plans.reports.codes import CODES
from firmplan.plans.signature import Effect
from firmplan.tools import Tool
from hypothesis import given
from seeds import examples
from typed_plans import INTEGER, RECORD, TEXT, TYPED_TOOLS, typed_plans


def _never_called(**_):
    raise AssertionError


def _tool(name, properties, returns, **settings_):
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return Tool.from_callable(
        _never_called, name=name, parameters=parameters, returns=returns, version=1, **settings_
    )


TOOLS = [
    *TYPED_TOOLS,
    _tool("fetch", {"url": TEXT}, TEXT, effect=Effect.READ, trust="untrusted"),
    _tool("send", {"body": TEXT}, TEXT, effect=Effect.WRITE),
    _tool("anything", {}, None, effect=Effect.READ),
    _tool("choose", {"color": {"enum": ["red", "blue"]}}, TEXT, effect=Effect.PURE),
]
TOOLS.append(
    Tool.from_callable(
        urllib.request.urlopen,
        name="outside",
        parameters={"properties": {"url": INTEGER}},
        returns=TEXT,
        effect=Effect.READ,
    )
)
FETCHED = {"id": "zf", "tool": "fetch", "args": {"url": "https://example.org"}}
RECORDED = {"id": "zr", "tool": "record", "args": {"n": 1}}
DOUBLED = {"tool": "double", "args": {"n": 1}}


def set_to(value, **keys):
    return [{"id": "zz", "set": value, **keys}]


def call_of(tool="double", before=(), **args):
    return [*before, {"id": "zz", "tool": tool, "args": args}]


BROKEN = {
    "unknown tool": (call_of("nosuch", n=1), "unknown-tool", ".tool"),
    "tool left out of agent": ([{"id": "zz", "agent": {"goal": "g", "tools": ["nosuch"]}}], "unknown-tool", ".agent.tools[0]"),
    "argument left out": (call_of(), "missing-arg", ".args.n"),
    "argument added": (call_of(n=1, zz=2), "unknown-arg", ".args.zz"),
    "literal of another type": (call_of(n="many"), "bad-literal", ".args.n"),
    "literal not among the choices": (call_of("choose", color="green"), "bad-literal", ".args.color"),
    "expression of another type": (call_of(n="${'x'}"), "type-mismatch", ".args.n"),
    "record where a number goes": (call_of("double", [RECORDED], n="${zr}"), "type-mismatch", ".args.n"),
    "text around a number's expression": (call_of(n="n: ${1}"), "type-mismatch", ".args.n"),
    "a list in the prompt": ([{"id": "zz", "ask": {"prompt": "${[1]}"}}], "type-mismatch", ".ask.prompt"),
    "a secret that is not there": (call_of("fetch", url='${secret("K")}'), "unknown-secret", ".args.url"),
    "a model that is not there": ([{"id": "zz", "ask": {"prompt": "Say hi", "model": "nosuch"}}], "unknown-model", ".ask.model"),
    "a policy that is not there": ([{"id": "zz", "endorse": 1, "returns": {"type": "integer"}, "by": "nosuch"}], "unknown-policy", ".by"),
    "a name that is not there": (set_to("${nosuch + 1}"), "unknown-ref", ".set"),
    "a name that is not there, deep": (set_to({"a": [1, {"b c": "x ${nosuch}"}]}), "unknown-ref", '.set.a[1]["b c"]'),
    "an input that is not there": (set_to("${inputs.nosuch}"), "unknown-ref", ".set"),
    "item without for_each": (set_to("${item}"), "unknown-ref", ".set"),
    "index without for_each": (set_to("${index}"), "unknown-ref", ".set"),
    "prev without repeat": (set_to("${prev}"), "unknown-ref", ".set"),
    "after what is not there": (set_to(1, after=["nosuch"]), "unknown-ref", ".after[0]"),
    "a field that is not there": ([RECORDED, *set_to("${zr.nosuch}")], "unknown-field", ".set"),
    "a field of a number": ([RECORDED, *set_to("${zr.n.x}")], "unknown-field", ".set"),
    "an index into a record": ([RECORDED, *set_to("${zr[0]}")], "unknown-field", ".set"),
    "a name on a list": ([{"id": "zl", "tool": "several", "args": {"n": 1}}, *set_to("${zl.x}")], "unknown-field", ".set"),
    "no expression": (set_to("${1 +}"), "bad-expr", ".set"),
    "an empty expression": (set_to("a ${ } b"), "bad-expr", ".set"),
    "an unclosed expression": (set_to("${inputs.n"), "bad-expr", ".set"),
    "unbalanced brackets": (set_to("${(inputs.n]}"), "bad-expr", ".set"),
    "a forbidden construct": (set_to("${(lambda x: x)(1)}"), "bad-expr", ".set"),
    "a look into Python": (set_to("${inputs.n.__class__}"), "bad-expr", ".set"),
    "operands of other types": (set_to("${inputs.n + inputs.t}"), "bad-expr", ".set"),
    "a boolean as a number": (set_to("${True + 1}"), "bad-expr", ".set"),
    "a constant without a value": (set_to("${1 // 0}"), "bad-expr", ".set"),
    "a secret in a value": (set_to('${secret("KEY")}'), "bad-expr", ".set"),
    "a value past all bounds": (set_to("${[0] * 10 ** 9}"), "limit-exceeded", ".set"),
    "a power past all bounds": (set_to("${10 ** 10 ** 10}"), "bad-expr", ".set"),
    "a text past all bounds": (set_to("${'a' * 10 ** 9}"), "limit-exceeded", ".set"),
    "too many brackets": (set_to("${" + "(" * 200 + "1" + ")" * 200 + "}"), "limit-exceeded", ".set"),
    "a switch that is a number": (set_to(1, when="${inputs.n}"), "not-a-bool", ".when"),
    "a switch that is text": (set_to(1, when="true"), "not-a-bool", ".when"),
    "a switch that is null": (set_to(1, when=None), "not-a-bool", ".when"),
    "items that are a number": (set_to("${item}", for_each="${inputs.n}"), "not-a-list", ".for_each"),
    "items that are a record": ([RECORDED, *set_to("${item}", for_each="${zr}")], "not-a-list", ".for_each"),
    "an until that is a number": (set_to(1, repeat={"until": "${zz}", "max": 2}), "not-a-bool", ".repeat.until"),
    "an id with a capital": ([{"id": "Zz", "set": 1}], "bad-id", ".id"),
    "an id that is a keyword": ([{"id": "lambda", "set": 1}], "bad-id", ".id"),
    "an id that is a function": ([{"id": "len", "set": 1}], "bad-id", ".id"),
    "an id too long": ([{"id": "z" * 65, "set": 1}], "bad-id", ".id"),
    "an id twice": ([{"id": "zz", "set": 1}, {"id": "zz", "set": 2}], "duplicate-id", ".id"),
    "a reference to itself": (set_to("${zz}"), "cycle", ""),
    "after itself": (set_to(1, after=["zz"]), "cycle", ""),
    "a plan that is not there": ([{"id": "zz", "plan": "nosuch"}], "unknown-plan", ".plan"),
    "a type that is not there": ([{"id": "zz", "ask": {"prompt": "p", "returns": {"$ref": "#/types/No"}}}], "unknown-type", ".ask.returns"),
    "no type at all": ([{"id": "zz", "ask": {"prompt": "p", "returns": {"type": "strin"}}}], "bad-shape", ".ask.returns.type"),
    "a key that is not there": (set_to(1, whn=True), "bad-shape", ".whn"),
    "two actions": (set_to(1, tool="double"), "bad-shape", ""),
    "no action": ([{"id": "zz"}], "bad-shape", ""),
    "a number as an id": ([{"id": 3, "set": 1}], "bad-shape", ".id"),
    "retries below zero": (set_to(1, retries=-1), "bad-shape", ".retries"),
    "no rounds": (set_to(1, repeat={"until": "${True}", "max": 0}), "bad-shape", ".repeat.max"),
    "another on_error": (set_to(1, on_error="ignore"), "bad-shape", ".on_error"),
    "retries of a write": ([{"id": "zz", "tool": "send", "args": {"body": "b"}, "retries": 1}], "unsafe-retry", ".retries"),
    "untrusted data in a write": (call_of("send", [FETCHED], body="${zf}"), "unsafe-flow", ".args.body"),
    "untrusted choice in a write": (call_of("send", [FETCHED], body="${'a' if zf == 'x' else 'b'}"), "unsafe-flow", ".args.body"),
    "a null that may be": ([{**RECORDED, "when": "${inputs.n > 1}"}, *call_of(n="${first(zr.n, None)}")], "maybe-missing", ".args.n"),
    "an unknown type": ([{"id": "zr", "tool": "anything"}, *call_of(n="${zr}")], "unchecked-type", ".args.n"),
    "a step for nothing": ([{"id": "zz", **DOUBLED}], "unused-step", ""),
    "a write that untrusted data decides on": ([FETCHED, {"id": "zz", "tool": "send", "args": {"body": "b"}, "when": "${zf == 'x'}"}], "untrusted-condition", ".when"),
    "a tool from outside of unstated trust": ([{"id": "zz", "agent": {"goal": "g", "tools": ["outside"]}}], "unstated-trust", ".agent.tools[0]"),
    "another language's reference": (set_to("so {{zr.n}}"), "suspicious-text", ".set"),
}  # fmt: skip


def insert(plan, steps, position):
    """Return the plan with steps put in, and the path of the last of them; a step that is used is used by the output."""
    made = copy.deepcopy(plan)
    made["steps"][position:position] = copy.deepcopy(steps)
    return made, f"$.steps[{position + len(steps) - 1}]"


@pytest.mark.parametrize("what", BROKEN)
@examples(8)
@given(plan=typed_plans(count_max=4), data=st.data())
def test_one_fault_is_told_at_its_place_and_no_other(what, plan, data):
    """Whatever plan a faulty step is put into, its fault has the code and the path, and is the only error."""
    steps, code, suffix = BROKEN[what]
    made, path = insert(plan, steps, data.draw(st.integers(0, len(plan["steps"]))))
    report = check(made, TOOLS, secrets={}, policies=(), models=("default",))
    found = [(problem.code, problem.path) for problem in report.problems]
    assert (code, path + suffix) in found, str(report)
    # A write of untrusted data labels what it writes to, so a later step that reads it and writes is unsafe, too: its way leads through the faulty step.
    errors = [
        (problem.code, problem.path)
        for problem in report.errors
        if not (problem.code == "unsafe-flow" and "-> zz ->" in problem.message)
    ]
    assert errors == ([(code, path + suffix)] if CODES[code].severity == "error" else []), str(report)


@examples(8)
@given(plan=typed_plans(count_max=4))
def test_a_circle_is_told_once_whatever_else_there_is(plan):
    """Three steps in a circle, far apart: one fault, which names them in order."""
    first, *rest = plan["steps"]
    made = {
        **plan,
        "steps": [
            {"id": "za", "set": "${zb}"},
            first,
            {"id": "zb", "set": "x ${zc}"},
            *rest,
            {"id": "zc", "set": 1, "after": ["za"]},
        ],
    }
    report = check(made, TOOLS)
    assert [(problem.code, problem.path) for problem in report.errors] == [("cycle", "$.steps[0]")]
    assert "za -> zb -> zc -> za" in report.errors[0].message


@examples(8)
@given(plan=typed_plans(count_max=3))
def test_a_plan_that_runs_itself_is_told(plan):
    inner = {"steps": [{"id": "zz", "plan": "again"}], "output": "${zz}"}
    made = {**plan, "plans": {**plan.get("plans", {}), "again": inner}}
    made["steps"] = [*plan["steps"], {"id": "zz", "plan": "again"}]
    report = check(made, TOOLS)
    assert [(each.code, each.path) for each in report.errors] == [
        ("recursive-plan", "$.plans.again.steps[0].plan")
    ]


@examples(8)
@given(plan=typed_plans(count_max=3), schema=st.sampled_from([INTEGER, TEXT, RECORD]))
def test_faults_of_inputs_are_told(plan, schema):
    """A default that does not fit, an input that nothing uses, a name that cannot be."""
    made = {**plan, "inputs": {**plan["inputs"], "zz": {**schema, "default": None}, "Zz": {**schema}}}
    report = check(made, TOOLS)
    found = {(problem.code, problem.path) for problem in report.problems}
    assert {
        ("bad-input", "$.inputs.zz.default"),
        ("unused-input", "$.inputs.zz"),
        ("bad-id", "$.inputs.Zz"),
    } <= found
    assert {problem.code for problem in report.errors} == {"bad-input", "bad-id"}


def test_every_code_is_covered():
    """Each code of the catalogue is given by some break in this file."""
    told = {code for _, code, _ in BROKEN.values()} | {"cycle", "recursive-plan", "bad-input", "unused-input"}
    # Rules and private data have tables of their own: `tests/safety/test_policies.py`, `tests/safety/test_private_data.py`.
    told |= {"judged-flow", "private-flow", "private-condition", "unchecked-reader"}
    assert told == set(CODES)
