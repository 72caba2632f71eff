"""Random plans in which untrusted data takes part in everything, the tools that they call, and the worlds in which they run.

A plan and all that happens to its run follow from one number. Two worlds differ in what the untrusted tools answer, and in nothing else. The
tools are the same objects in every world: a call finds its world in the context of its task. Values are integers and texts.
"""

from __future__ import annotations

import json
import re
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from firmplan import Context, Policy, ToolError
from firmplan.plans.values import canonical
from firmplan.testing import unmarked
from firmplan.tools import Tool

INTEGER, TEXT = {"type": "integer"}, {"type": "string"}
CONTACTS = ["Ann7", "Bob8", "Cy9"]
FACTS = [1, 2, 4]
NUMBERS = [None, 0, 1, 2, 3, 4]
"""What the untrusted tool `look` answers; with `None`, the untrusted tools fail."""
WORDS = ["Ann7", "Bob8", "Eve6", "x"]
BAD = 3  # a number that the writes do not accept


@dataclass
class World:
    """What untrusted data says, and what was called.

    Attributes:
        number: What untrusted tools answer.
        word: The same, as a text.
        writes: Path of a call of a write -> its arguments, without those that may hold untrusted data.
        sent: The same for reads that send their arguments away.
        made: Run and path of each of these calls.
        calls: How many calls of any tool there were.
        early: How many of them there were before the model had written the whole plan.
    """

    number: int | None
    word: str
    writes: dict[str, list[bytes]] = field(default_factory=dict)
    sent: dict[str, list[bytes]] = field(default_factory=dict)
    made: set[tuple[str, str]] = field(default_factory=set)
    calls: int = 0
    early: int = 0

    def call(self, name: str, args: dict[str, Any], ctx: Context) -> Any:
        """Note a call of a tool, and return its answer."""
        self.calls += 1
        kind = KINDS[name]
        record = self.writes if kind.effect == "write" else self.sent if "egress" in kind.options else None
        if record is not None:
            shown = {key: value for key, value in args.items() if key not in kind.may_hold}
            record.setdefault(ctx.step, []).append(canonical(shown))
            self.made.add((ctx.run_id, ctx.step))
        return self._answer(name, kind, args, ctx.attempt)

    def _answer(self, name: str, kind: Kind, args: dict[str, Any], attempt: int) -> Any:
        """Return what a tool answers: an untrusted tool what this world says, any other what follows from its arguments."""
        if kind.options.get("trust") == "untrusted":
            if self.number is None:
                raise ToolError("there is nothing")
            if name == "flaky" and attempt == 1 and self.number % 2:
                raise ToolError("not now", temporary=True)
            return self.word if kind.returns == TEXT else self.number + args.get("n", 0)
        match name:
            case "facts":
                return FACTS
            case "people":
                return CONTACTS
            case "search":
                return args["n"] + 1
        given = args.get("n", len(args.get("to", "")))
        if name == "again" and attempt == 1 and given % 2:
            raise ToolError("not now", temporary=True)
        if given % 10 == BAD:
            raise ToolError(f"no {name} of {given}")
        return given + 1


WORLD: ContextVar[World] = ContextVar("world")


@dataclass(frozen=True)
class Kind:
    """One tool.

    Attributes:
        effect: Its effect.
        resource: What it reads or writes.
        parameters: Name -> schema.
        returns: Schema of the result.
        may_hold: Parameters that may hold untrusted data.
        options: Further arguments of `Tool.from_callable`.
    """

    effect: str
    resource: str
    parameters: dict[str, Any]
    returns: dict[str, Any]
    may_hold: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def _rule(args: Any) -> bool:
    return args["n"] > 2


N, TO = {"n": INTEGER}, {"to": TEXT}
LIST_OF = {"integer": {"type": "array", "items": INTEGER}, "string": {"type": "array", "items": TEXT}}
UNTRUSTED = {"trust": "untrusted"}
KINDS = {
    "look": Kind("read", "web", {}, INTEGER, options=UNTRUSTED),
    "flaky": Kind("read", "web", {}, INTEGER, options=UNTRUSTED | {"retries": 1}),
    "page": Kind("read", "web", {}, TEXT, options=UNTRUSTED),
    "facts": Kind("read", "facts", {}, LIST_OF["integer"]),
    "people": Kind("read", "people", {}, LIST_OF["string"]),
    "fetch": Kind("read", "web", N, INTEGER, options=UNTRUSTED | {"egress": ("n",)}),
    "search": Kind("read", "index", N, INTEGER, options={"egress": ("n",), "approval": "untrusted"}),
    "pay": Kind("write", "bank", N, INTEGER),
    "bill": Kind("write", "bills", {"n": INTEGER, "m": INTEGER}, INTEGER, ("m",)),
    "again": Kind("write", "again", N, INTEGER, options={"idempotent": True, "retries": 1}),
    "pay_asked": Kind("write", "asked", N, INTEGER, options={"approval": "untrusted"}),
    "pay_always": Kind("write", "always", N, INTEGER, options={"approval": "always"}),
    "pay_ruled": Kind("write", "ruled", N, INTEGER, options={"approval": _rule}),
    "note": Kind("write", "notes", N, INTEGER, ("n",), {"approval": "untrusted"}),
    "choose": Kind("write", "choice", {"n": {"type": "integer", "enum": [0, 1, 2, 3, 4]}}, INTEGER),
    "set_to": Kind(
        "write",
        "level",
        {"n": {"type": "integer", "minimum": -99, "maximum": 99}},
        INTEGER,
        options={"harmless": ("n",)},
    ),
    "send": Kind("write", "mail", TO, INTEGER),
    "mail": Kind("write", "letters", TO, INTEGER, options={"approval": "untrusted"}),
}
READS = tuple(name for name, kind in KINDS.items() if kind.effect == "read")
WRITES = tuple(name for name, kind in KINDS.items() if kind.effect == "write")


def _tool(name: str, kind: Kind) -> Tool:
    def called(*, ctx: Context, **args: Any) -> Any:
        # Through the context: what a tool reaches by its code is hashed at each call, and here nothing may be reused.
        return WORLD.get().call(name, args, ctx)

    return Tool.from_callable(
        called,
        name=name,
        parameters={"type": "object", "properties": kind.parameters, "required": list(kind.parameters)},
        returns=kind.returns,
        effect=kind.effect,
        resource=kind.resource,
        allow_untrusted=kind.may_hold,
        isolation="inline",
        version=1,
        **kind.options,
    )


TOOLS = [_tool(name, kind) for name, kind in KINDS.items()]


# --- plans


@dataclass(frozen=True)
class Scope:
    """The names that expressions may use, by the type of their value."""

    numbers: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    many_numbers: tuple[str, ...] = ()
    many_texts: tuple[str, ...] = ()

    def having(self, schema: dict[str, Any], name: str, *, is_list: bool = False) -> Scope:
        """Return the scope with one more name."""
        if schema["type"] == "array":
            schema, is_list = schema["items"], True
        kind = ("many_" if is_list else "") + ("numbers" if schema == INTEGER else "texts")
        return replace(self, **{kind: (*getattr(self, kind), name)})


class Author:
    """Writes one plan.

    Args:
        random: Decides about everything.
        has_models: Whether `ask` and `agent` steps may be in the plan.
    """

    def __init__(self, random: Random, *, has_models: bool) -> None:
        self.random = random
        self.has_models = has_models
        self.made = 0
        self.plans: dict[str, Any] = {}

    def one_in(self, count: int) -> bool:
        return self.random.randrange(count) == 0

    def number(self, scope: Scope, depth: int = 1) -> str:
        """Return an expression with a number."""
        if depth == 0 or self.one_in(2):
            return self.random.choice([*scope.numbers * 3, str(self.random.randint(0, 4))])
        one, other = self.number(scope, depth - 1), self.number(scope, depth - 1)
        many = self.random.choice([*scope.many_numbers * 2, "[1, 2, 4]"])
        return self.random.choice(
            [
                f"{one} + {other}",
                f"6 // {one}",
                f"({one} if {self.test(scope)} else {other})",
                f"first({one}, 3)",
                f"{many}[{one} % 3]",
                f"{many}[{one}]",
                f"[x for x in {many} if x >= {one}][0]",
                f"len([x for x in [1, 2, 3] if x > {one}])",
                f"len({self.text(scope, 0)})",
                f"max({many})",
            ]
        )

    def text(self, scope: Scope, depth: int = 1) -> str:
        """Return an expression with a text."""
        if depth == 0 or self.one_in(2):
            return self.random.choice([*scope.texts * 3, "'Dora'"])
        one, other = self.text(scope, 0), self.text(scope, 0)
        many = self.random.choice([*scope.many_texts * 2, "['Dora', 'Eli']"])
        return self.random.choice(
            [
                f"({one} if {self.test(scope)} else {other})",
                f"{many}[{self.number(scope, 0)} % 2]",
                f"[x for x in {many} if x == {one}][0]",
                f"first({one}, 'none')",
                f"str({self.number(scope, 0)})",
            ]
        )

    def test(self, scope: Scope) -> str:
        """Return an expression that is true or false."""
        one, other, word = self.number(scope, 0), self.number(scope, 0), self.text(scope, 0)
        return self.random.choice(
            [f"{one} > 2", f"{one} == {other}", f"{one} % 2 == 0", f"{word} != 'Ann7'", f"'b' in {word}"]
        )

    def value(self, schema: dict[str, Any], scope: Scope) -> str:
        return f"${{{self.text(scope) if schema == TEXT else self.number(scope)}}}"

    def items(self, scope: Scope) -> tuple[Any, dict[str, Any]]:
        """Return a list to go over, and the schema of its items."""
        if scope.many_texts and self.one_in(4):
            return f"${{{self.random.choice(scope.many_texts)}}}", TEXT
        ways = [[1, 2, 4], "${range(0, 4)}", f"${{range(0, ({self.number(scope)}) % 4)}}"]
        ways += [f"${{{name}}}" for name in scope.many_numbers]
        return self.random.choice(ways), INTEGER

    def action(self, scope: Scope, writes: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return an action and the schema of its value; `None`: nothing may refer to it."""
        kinds = [*["read"] * 2, *["set"] * 2, *["write"] * 6, *["plan"] * 3 * bool(self.plans)]
        kinds += [*["ask", *["agent"] * 5] * self.has_models]
        match "write" if writes else self.random.choice(kinds):
            case "read":
                return self.call(self.random.choice(READS), scope)
            case "write":
                return self.call(self.random.choice(WRITES), scope)
            case "plan":
                name = self.random.choice(sorted(self.plans))
                args = {"x": self.value(INTEGER, scope), "y": self.value(TEXT, scope)}
                return {"plan": name, "args": args}, INTEGER
            case "ask":
                asked = {"prompt": f"Tell <${{{self.number(scope)}}}>", "returns": INTEGER}
                return {"ask": asked}, INTEGER
            case "agent":
                goal = f"Do <${{{self.number(scope)}}}>"
                tools = self.random.sample(("look", "fetch", "pay", "pay_asked", "note", "choose"), 2)
                return {"agent": {"goal": goal, "tools": tools, "returns": INTEGER, "max_steps": 3}}, INTEGER
            case _:
                schema = TEXT if self.one_in(4) else INTEGER
                return {"set": self.value(schema, scope)}, schema

    def call(self, name: str, scope: Scope) -> tuple[dict[str, Any], dict[str, Any]]:
        kind = KINDS[name]
        args = {
            key: self.value(TEXT if schema == TEXT else INTEGER, scope)
            for key, schema in kind.parameters.items()
        }
        return {"tool": name, "args": args}, kind.returns

    def step(self, letter: str, scope: Scope, known: list[str], *, writes: bool = False) -> Any:
        """Return a step and the scope of the next one."""
        self.made += 1
        name = f"{letter}{self.made}"
        step: dict[str, Any] = {"id": name}
        inside, shape = scope, self.random.choice(["one"] * 5 + ["each", "filter"])
        if shape != "one":
            step["for_each"], schema = self.items(scope)
            inside = scope.having(schema, "item").having(INTEGER, "index")
        action, schema = self.action(inside, writes)
        step |= action
        if self.one_in(6):
            step["repeat"] = {"until": f"${{{self.test(scope)}}}", "max": 2}
        if shape == "filter" or self.one_in(4):
            step["when"] = f"${{{self.test(inside if shape == 'filter' else scope)}}}"
        if known and self.one_in(4):
            step["after"] = [self.random.choice(known)]
        if self.one_in(3):
            value = None if schema is None else "Dora" if schema == TEXT else 1
            choices = ["skip", {"value": value}] if schema in (INTEGER, TEXT) else ["skip"]
            step["on_error"] = self.random.choice(choices)
        if step.get("tool") in ("flaky", "again") and self.one_in(3):
            step["retries"] = 2
        if schema is None or (shape != "one" and schema not in (INTEGER, TEXT)):
            return step, scope
        return step, scope.having(schema, name, is_list=shape != "one")

    def body(self, letter: str, scope: Scope, count: int) -> tuple[list[dict[str, Any]], Scope]:
        steps: list[dict[str, Any]] = []
        for position in range(count):
            step, scope = self.step(
                letter, scope, [each["id"] for each in steps], writes=position == count - 1
            )
            steps.append(step)
        return steps, scope

    def plan(self) -> dict[str, Any]:
        """Return a plan; its inputs are the integer `n` and the text `t`, either of which may be untrusted."""
        random = self.random
        for name in random.choice([(), ("p",), ("p", "q")]):
            inputs = {"x": INTEGER, "y": TEXT}
            inside = Scope(("inputs.x",), ("inputs.y",))
            first = self.first_reads("look", "page") if self.one_in(4) else []
            for step in first:
                inside = inside.having(KINDS[step["tool"]].returns, step["id"])
            steps, left = self.body(name, inside, random.randint(1, 3))
            output = f"${{{self.number(left, 0)}}}"
            self.plans[name] = {"inputs": inputs, "steps": [*first, *steps], "output": output}
        scope = Scope(("inputs.n",), ("inputs.t",))
        first = self.first_reads("look", "page", "facts", "people")
        for step in first:
            scope = scope.having(KINDS[step["tool"]].returns, step["id"])
        steps, left = self.body("s", scope, random.randint(2, 6))
        inputs = {
            name: {**schema, "x-trust": "untrusted"} if self.one_in(4) else schema
            for name, schema in {"n": INTEGER, "t": TEXT}.items()
        }
        made = {"firmplan": 1, "inputs": inputs}
        if self.plans:
            made["plans"] = self.plans
        return {**made, "steps": [*first, *steps], "output": f"${{{self.number(left, 0)}}}"}

    def first_reads(self, *names: str) -> list[dict[str, Any]]:
        steps = []
        for name in names:
            self.made += 1
            step: dict[str, Any] = {"id": f"r{self.made}", "tool": name}
            if KINDS[name].options == UNTRUSTED and self.one_in(3):
                other = "Dora" if KINDS[name].returns == TEXT else 2
                step["on_error"] = self.random.choice(["skip", {"value": other}])
            steps.append(step)
        return steps


# --- policies


def policies_of(random: Random, count: int) -> tuple[Policy, ...]:
    """Return some policies: by value, by labels, or both."""
    made = []
    for number in range(count):
        said, other = random.choice(["allow", "ask", "deny"]), random.choice(["allow", None])
        matters = random.choice(["value", "known", "untrusted", "fits"])
        pattern = random.choice(["pay*", "pay", "fetch", "*", "*", "*"])
        name, arg = f"policy {number}", random.choice(["n", "n", "*"])
        made.append(Policy(name, pattern, arg, _opinion(matters, said, other)))
    return tuple(made)


def _opinion(matters: str, said: Any, other: Any) -> Any:
    def opinion(value: Any, labels: Any) -> Any:
        match matters:
            case "value":
                is_so = len(str(value)) % 2 == 0 or value in (0, 2)
            case "known":
                is_so = labels.known
            case "untrusted":
                is_so = labels.untrusted
            case _:
                is_so = labels.fits is not None
        return said if is_so else other

    return opinion


# --- what models say


def answer_of(request: Any) -> Any:
    """Answer a prompt or decide for an agent: a function of the text between `<` and `>`, and of the results of the calls so far."""
    said = unmarked(request["messages"][-1]["content"])
    found = re.search(r"<([^<>]*)>", said)
    number = int(found[1]) if found and re.fullmatch(r"-?\d+", found[1]) else 1
    properties = request["tools"][0]["function"]["parameters"]["properties"]
    if "reasoning" not in properties:
        return number % 7
    results = [line for line in said.splitlines() if line.startswith("-> ")]
    tools = properties["call"]["properties"]["tool"]["enum"] if "call" in properties else []
    if tools and len(results) < 2:
        tool = tools[(number + len(results)) % len(tools)]
        last = results[-1].removeprefix("-> ") if results else "1"
        n = json.loads(last) if re.fullmatch(r"-?\d+", last) else 2
        call = {"tool": tool, "args": {"n": (number + n) % 5} if "n" in KINDS[tool].parameters else {}}
        return {"reasoning": "", "call": call}
    return {"reasoning": "", "answer": number % 7}
