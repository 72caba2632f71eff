"""Valid plans with everything that the language has, for Hypothesis: typed values, all actions but agents, all keys of a step.

Values are integers, texts, records `{n, t}`, and lists of these. Every expression is drawn for the type that its place wants, from
what is in scope there, so that a plan is right by construction: what the check says of it is the check's fault. Conditions have
no faults of their own; elsewhere steps may fail, at an argument whose number ends in 3 or for an index that is not there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firmplan.errors import ToolError
from firmplan.testing import unmarked
from firmplan.tools import Tool
from hypothesis import strategies as st

INTEGER, TEXT = {"type": "integer"}, {"type": "string"}
RECORD = {"type": "object", "properties": {"n": INTEGER, "t": TEXT}, "required": ["n", "t"]}
SCHEMAS = {"int": INTEGER, "text": TEXT, "record": RECORD}
SCHEMAS |= {f"{name}s": {"type": "array", "items": schema} for name, schema in SCHEMAS.items()}
TYPES = tuple(SCHEMAS)
DEPTH = 2
WORDS = ("a", "Bee", "cé", "", "x y")

TOOLS = {
    "double": ("pure", "world", "int"),
    "record": ("pure", "world", "record"),
    "several": ("read", "a", "ints"),
    "look": ("read", "world", "text"),
    "put_a": ("write", "a", "int"),
    "put": ("write", "world", "record"),
}


def answer(name: str, n: int, t: str = "-") -> Any:
    """What each tool does: a function of its arguments, or a failure."""
    if n % 10 == 3:
        raise ToolError(f"{name} does not like {n}")
    match TOOLS[name][2]:
        case "int":
            return n % 100 * 2 + len(t)
        case "ints":
            return list(range(n % 4))
        case "text":
            return f"{t}{n % 10}"
        case _:
            return {"n": n % 100, "t": t[:5]}


def reply(prompt: str, kind: str) -> Any:
    """What the model says to a prompt: a function of the text between `<` and `>`."""
    found = re.search(r"<([^<>]*)>", prompt)
    text = found[1] if found else ""
    n = sum(map(ord, text)) % 20
    return {"int": n, "text": f"~{text[:4]}", "record": {"n": n, "t": text[:4]}}[kind]


def decision(goal: str, kind: str, tools: list[str], results: list[Any]) -> dict[str, Any]:
    """What an agent decides next: a function of the text between `<` and `>`, and of what came of its calls so far.

    It makes up to three calls, of which some fail or lack an argument; its answer tells what it saw. Now and then it says neither.
    """
    found = re.search(r"<([^<>]*)>", goal)
    text = found[1] if found else ""
    n = sum(map(ord, text)) % 20
    if n == 17:
        return {}
    at = n + 3 * len(results)
    if tools and len(results) < n % 4:
        args = {} if at % 7 == 5 else {"n": at}
        return {"call": {"tool": tools[at % len(tools)], "args": args | ({"t": text[:3]} if at % 2 else {})}}
    seen = f"{len(results)}{str(results[-1])[:6]}" if results else "-"
    return {"answer": {"int": n + len(results), "text": seen, "record": {"n": n, "t": seen}}[kind]}


KINDS = {"integer": "int", "string": "text", "object": "record"}


def model_reply(request: Any) -> Any:
    """Answer a prompt as the oracle's model does, in the form that the request asks for."""
    schema = {"type": "string"}
    said = unmarked(request["messages"][-1]["content"])
    if "tools" in request:
        schema = request["tools"][0]["function"]["parameters"]
        properties = schema["properties"]
        if "reasoning" in properties:
            return {"reasoning": "so it is"} | agent_decision(said, properties)
        schema = properties.get("answer", schema)
    return reply(said, KINDS[schema["type"]])


def agent_decision(said: str, properties: Any) -> dict[str, Any]:
    """Decide as the oracle's agent does, by what the model is shown: the goal, and a line for what came of each call."""
    goal, _, calls = said.partition("# Calls so far")
    shown = [line.removeprefix("-> ") for line in calls.splitlines() if line.startswith("-> ")]
    results = ["failed" if line.startswith("failed [") else json.loads(line) for line in shown]
    tools = properties["call"]["properties"]["tool"]["enum"] if "call" in properties else []
    return decision(goal, KINDS[properties["answer"]["type"]], tools, results)


def _tool(name: str, effect: str, resource: str, kind: str) -> Tool:
    def called(n: int, t: str = "-") -> Any:
        return answer(name, n, t)

    parameters = {"type": "object", "properties": {"n": INTEGER, "t": TEXT}, "required": ["n"]}
    return Tool.from_callable(
        called,
        name=name,
        parameters=parameters,
        returns=SCHEMAS[kind],
        effect=effect,
        resource=resource,
        version=1,
    )


TYPED_TOOLS = [_tool(name, *settings) for name, settings in TOOLS.items()]


def _oracle_tool(name: str) -> Any:
    def called(**args: Any) -> Any:
        from oracle import Failed

        try:
            return answer(name, **args)
        except ToolError as fault:
            raise Failed from fault

    return called


ORACLE_TOOLS = {name: (_oracle_tool(name), effect, resource) for name, (effect, resource, _) in TOOLS.items()}


@dataclass(frozen=True)
class Scope:
    """What a place can refer to: expressions by the type of their value, each a step or a name.

    Attributes:
        safe: Whether expressions may not fault, as in conditions.
    """

    names: Mapping[str, tuple[str, ...]]
    safe: bool = False

    def of(self, kind: str) -> list[str]:
        return list(self.names.get(kind, ()))

    def having(self, kind: str, *names: str) -> Scope:
        return Scope({**self.names, kind: (*self.names.get(kind, ()), *names)}, self.safe)


def expression(draw: Any, kind: str, scope: Scope, depth: int = DEPTH) -> str:
    """Draw an expression of a type."""
    plain = _plain(draw, kind, scope)
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(plain))

    def inner(of: str) -> str:
        return expression(draw, of, scope, depth - 1)

    made = [lambda: f"({inner(kind)} if {condition(draw, scope, depth - 1)} else {inner(kind)})"]
    made += [lambda: f"first({', '.join((*(_plain(draw, kind, scope)[-1:]), inner(kind)))})"]
    match kind:
        case "int":
            made += [
                lambda: f"({inner('int')} + {inner('int')})",
                lambda: f"len({inner('texts')})",
                lambda: f"sum({inner('ints')})",
                lambda: f"max({inner('int')}, -{inner('int')})",
                lambda: f"{inner('record')}.n",
                lambda: f"sum([x.n for x in {inner('records')} if x.n % 2 == 0])",
            ]
            if not scope.safe:
                made += [
                    lambda: f"12 // (({inner('int')} + inputs.n) % 4)",
                    lambda: f"{inner('ints')}[inputs.n % 3]",
                ]
        case "text":
            made += [
                lambda: f"str({inner('int')})",
                lambda: f"({inner('text')} + {inner('text')}).upper()",
                lambda: f"join({inner('texts')}, '/')",
                lambda: f"{inner('record')}['t']",
            ]
        case "record":
            made += [lambda: f"{{'n': {inner('int')}, 't': {inner('text')}}}"]
            if not scope.safe:
                made += [lambda: f"{inner('records')}[inputs.n % 2]"]
        case "ints":
            made += [
                lambda: f"[x + 1 for x in {inner('ints')}]",
                lambda: f"[x.n for x in {inner('records')}]",
                lambda: f"[{inner('int')}]",
                lambda: f"sorted({inner('ints')}, key=lambda x: -x)",
                lambda: f"range({inner('int')} % 4)",
                lambda: f"{inner('ints')}[:2]",
            ]
        case "texts":
            made += [
                lambda: f"[str(x) for x in {inner('ints')}]",
                lambda: f"({inner('texts')} + {inner('texts')})",
                lambda: f"distinct({inner('texts')})",
                lambda: f"{inner('text')}.split(' ')",
            ]
        case _:
            made += [
                lambda: f"[{inner('record')}, {inner('record')}]",
                lambda: f"[{{'n': i, 't': x}} for i, x in enumerate({inner('texts')})]",
                lambda: f"sorted({inner('records')}, key=lambda x: x.n, reverse=True)",
            ]
    return draw(st.sampled_from(made))()


def _plain(draw: Any, kind: str, scope: Scope) -> list[str]:
    written = {
        "int": str(draw(st.integers(0, 9))),
        "text": repr(draw(st.sampled_from(WORDS))),
        "record": "{'n': 4, 't': \"q\"}",
        "ints": "[1, 2, 5]",
        "texts": "['u', \"v\"]",
        "records": "[{'n': 1, 't': 'r'}]",
    }
    return [written[kind], *scope.of(kind)]


def condition(draw: Any, scope: Scope, depth: int = 1) -> str:
    """Draw an expression that is true or false, and has no fault of its own."""
    scope = Scope(scope.names, safe=True)
    number, text = (expression(draw, kind, scope, max(depth, 0)) for kind in ("int", "text"))
    return draw(
        st.sampled_from(
            [
                f"{number} % 2 == 0",
                f"{text} != 'a'",
                f"0 <= {number} < 7",
                f"'a' in {text} or {number} > 2",
                "True",
            ]
        )
    )


def template(draw: Any, kind: str, scope: Scope) -> Any:
    """Draw a value of a type as plans write it: an expression, text around expressions, or JSON around them."""
    match kind:
        case "text" if draw(st.booleans()):
            return f"it is ${{{expression(draw, 'text', scope)}}}, $${{so}} ${{ {expression(draw, 'int', scope)} }}"
        case "record" if draw(st.booleans()):
            return {"n": template(draw, "int", scope), "t": template(draw, "text", scope)}
        case "ints" | "texts" | "records" if draw(st.booleans()):
            return [template(draw, kind[:-1], scope) for _ in range(draw(st.integers(1, 2)))]
        case "int" if draw(st.booleans()):
            return draw(st.integers(0, 9))
        case _:
            return f"${{{expression(draw, kind, scope)}}}"


def _fallback(draw: Any, kind: str) -> Any:
    return {"int": 7, "text": "none", "record": {"n": 1, "t": ""}, "ints": [], "texts": ["z"], "records": []}[
        kind
    ]


def _action(draw: Any, name: str, scope: Scope, plans: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """Draw an action and the type of its value."""
    match draw(
        st.sampled_from(["tool", "tool", "set", "set", "ask", "agent", "repeat", "plan" if plans else "set"])
    ):
        case "tool":
            tool = draw(st.sampled_from(sorted(TOOLS)))
            args = {"n": template(draw, "int", scope)}
            if draw(st.booleans()):
                args["t"] = template(draw, "text", scope)
            return {"tool": tool, "args": args}, TOOLS[tool][2]
        case "ask":
            kind = draw(st.sampled_from(["int", "text", "record"]))
            prompt = f"Say something about <${{{expression(draw, 'text', scope)}}}>"
            ask = {"prompt": prompt, "returns": SCHEMAS[kind]}
            return {"ask": ask if kind != "text" else {"prompt": prompt}}, kind
        case "agent":
            kind = draw(st.sampled_from(["int", "text", "record"]))
            agent: dict[str, Any] = {"goal": f"Find out about <${{{expression(draw, 'text', scope)}}}>"}
            agent["tools"] = draw(st.lists(st.sampled_from(sorted(TOOLS)), max_size=3, unique=True))
            agent["max_steps"] = draw(st.integers(1, 4))
            return {"agent": agent | ({} if kind == "text" else {"returns": SCHEMAS[kind]})}, kind
        case "repeat":
            most = draw(st.integers(1, 4))
            until = draw(st.sampled_from([f"{name} >= {draw(st.integers(0, 6))}", "True", f"{name} == 1"]))
            start = expression(draw, "int", Scope(scope.names, safe=True), 1)
            made = {
                "set": f"${{first(prev, {start}) + 1}}",
                "repeat": {"until": f"${{{until}}}", "max": most},
            }
            return made, "int"
        case "plan":
            plan = draw(st.sampled_from(sorted(plans)))
            args = {"n": template(draw, "int", scope)}
            if draw(st.booleans()):
                args["t"] = template(draw, "text", scope)
            return {"plan": plan, "args": args}, plans[plan]
        case _:
            kind = draw(st.sampled_from(TYPES))
            return {"set": template(draw, kind, scope)}, kind


def _step(
    draw: Any, name: str, scope: Scope, known: list[str], plans: Mapping[str, str]
) -> tuple[dict[str, Any], str]:
    """Draw a step and the type of its value."""
    step: dict[str, Any] = {"id": name}
    around = scope
    is_each = draw(st.integers(0, 3)) == 0
    if is_each:
        items = draw(st.sampled_from(["ints", "texts", "records"]))
        step["for_each"] = template(draw, items, scope)
        around = scope.having(items[:-1], "item").having("int", "index")
    action, kind = _action(draw, name, around, {} if is_each and not plans else plans)
    step |= action
    if draw(st.integers(0, 3)) == 0:
        is_filter = is_each and draw(st.booleans())
        test = condition(draw, around if is_filter else scope)
        step["when"] = f"${{index < 2 and {test}}}" if is_filter else f"${{{test}}}"
    if known and draw(st.integers(0, 3)) == 0:
        step["after"] = draw(st.lists(st.sampled_from(known), min_size=1, max_size=2, unique=True))
    match draw(st.integers(0, 5)):
        case 0:
            step["on_error"] = "skip"
        case 1:
            step["on_error"] = {"value": _fallback(draw, kind)}
        case 2:
            step["on_error"] = "fail"
    if draw(st.booleans()):
        step["why"] = "since {{it.must}} be, costs $a.b"
    if draw(st.booleans()):
        step["timeout"] = 60
    if is_each and kind not in ("int", "text", "record"):
        return step, ""  # a list of lists: nothing refers to it
    return step, f"{kind}s" if is_each else kind


def _steps(
    draw: Any, letter: str, count_max: int, scope: Scope, plans: Mapping[str, str]
) -> tuple[list[dict[str, Any]], Scope]:
    steps: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, count_max))):
        step, kind = _step(draw, f"{letter}{number}", scope, [each["id"] for each in steps], plans)
        steps.append(step)
        scope = scope.having(kind, step["id"]) if kind else scope
    return draw(st.permutations(steps)), scope


@st.composite
def typed_plans(draw: Any, count_max: int = 6) -> dict[str, Any]:
    """Draw a valid plan as a dict; its inputs are the integer `n` and the text `t`."""
    scope = Scope({"int": ("inputs.n",), "text": ("inputs.t",)})
    inputs = {"n": INTEGER, "t": {"type": "string", "default": "tee"}}
    plan: dict[str, Any] = {"firmplan": 1, "task": "drawn", "inputs": inputs}
    plans: dict[str, str] = {}
    if draw(st.booleans()):
        steps, left = _steps(draw, "i", 3, scope, {})
        kind = draw(st.sampled_from(["int", "text", "record"]))
        output = f"${{{expression(draw, kind, Scope({kind: left.of(kind)}, safe=True), 0)}}}"
        plan["plans"] = {"inner": {"inputs": inputs, "steps": steps, "output": output}}
        plans["inner"] = kind
    steps, left = _steps(draw, "s", count_max, scope, plans)
    kind = draw(st.sampled_from(TYPES))
    return {
        **plan,
        "steps": steps,
        "output": f"${{{expression(draw, kind, Scope(left.names, safe=True), 0)}}}",
    }
