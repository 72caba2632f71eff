"""The small profile: a planning that models of one to four billion parameters can do.

Such models lose their way in the full format, search and ask without need, and write what a schema does not forbid. So they are told less (tool
calls, references, one kind of question, an output), their answer is held to a schema of just these tools while it is decoded, and of the
faults of a draft they hear one at a time. The answer is read here and becomes an ordinary plan, which passes the same check as every other.

    {"calls": 1, "steps": [{"id": "a", "tool": "city", "args": {"name": "Oslo"}}], "output": "${a.population}"}

Reading also corrects the usual slips of small models: references without their braces, an output that is the text of a formula, calls of
tools inside expressions, numbers as text, and calls that nothing needs. All other faults are left to the check. A plan in the full format is read as it is.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final, Literal, TypeAlias, cast

from ...plans.expressions.formula import parse_formula
from ...plans.expressions.functions import FUNCTIONS
from ...plans.plan import Plan
from ...plans.reports.paths import parts_of
from ...plans.reports.problems import Problem, problem
from ...plans.signature import Effect, Signature, properties_of
from ...plans.values import Json, NotJson, canonical, parse, with_texts
from ...tools.models.answer import AnswerForm
from ...tools.models.completion import Message
from ...tools.tool import Tool
from ...tools.toolset import Toolset
from ..library.library import SavedPlan
from ..request import PlanRequest, input_schemas
from .adapting import nearest_plans
from .attempt import Attempt
from .conversation import Reading
from .draft import plan_in
from .drafting import Drafting, ModelRequest, Preview, preview_of
from .prompt import fault_line, small_messages, small_repair_messages
from .tool_choice import choose_tools, with_writing_tools

Profile: TypeAlias = Literal["full", "small"]

TOOLS_MAX: Final = 6
"""Tools that are shown, the nearest to the task's words: more cost a small model its attention, and the prompt its bound."""

STEPS_MAX: Final = 5
"""Steps of one plan that the schema has room for: a task of more is none for a small model."""

SETTLED_STEPS_MAX: Final = 40
SETTLED_CHARACTERS_MAX: Final = 20_000
"""Steps of a plan, and characters of a text in it, that are read as what a small model may have meant; a larger one is read as it is."""

OPTIONS_MAX: Final = 24
"""Choices of an argument that the schema lists."""

EXAMPLE_CHARACTERS_MAX: Final = 1_000
"""Characters of a saved plan that is shown as an example, about 250 tokens."""

ADVICE: Final = (
    'Planner(profile="small") knows calls of tools, references, one kind of question and an output. For lists, conditions, agents or more '
    'steps use Planner(profile="full") with a larger model, or save a plan that answers the task.'
)

_Object = dict[str, Json]
_TEXT: Json = {"type": "string"}
_PLACEHOLDER: Final = re.compile(r"\$\{[^{}]*\}")
_PATH: Final = re.compile(r"([A-Za-z_]\w*)((?:\[\d+\])*(?:\.[A-Za-z_]\w*)?)")
_BRACE: Final = re.compile(r"(\$\{|\})")
_OTHER_BRACES: Final = re.compile(r"\$?\{\{\s*([^{}]+?)\s*\}\}")
_ARITHMETIC: Final = re.compile(r"[\d\s.()]*(?:\s[-+*/]\s[\d\s.()]*)+")
_WHOLE_RESULT: Final = ("result", "output", "value", "answer")
"""Names by which models call the whole result of a step, if its type has no such field."""


@dataclass(slots=True)
class SmallDrafting(Drafting):
    """The drafts of one planning in the small profile."""

    # A small model that is asked about warnings makes faults of them.
    is_warned: bool = True

    def _opening(self) -> tuple[Message, ...]:
        return opening(self.request, self._near(), self.examples)

    def _first_request(self) -> ModelRequest:
        return ModelRequest(self._opening(), small_answer(self._near()))

    def _near(self) -> list[Tool]:
        return nearest(self.request.task, self.shown)

    async def _read(self, value: Json, approach: str) -> Reading:  # noqa: ARG002  # every approach asks for a whole plan
        draft, problems = plan_of(value, self.request)
        # The form has no word for what is left out, so that a write which goes is named by firmplan.
        self.draft, _ = self.writes.settle(draft, may_ask=False)
        self.writes.note(draft)
        plan, report = await self._checked(self.draft)
        return plan, (*problems, *report.problems)

    def _next(self, ask: ModelRequest, attempt: Attempt) -> ModelRequest:  # noqa: ARG002  # every request has the same form
        """Return the request that follows a bad draft: its first fault; if the fault came back, the fault without the draft."""
        faults = attempt.faults
        first = None if attempt.error is not None else first_fault(faults)
        said = attempt.error or ("" if first is None else fault_line(first))
        seen = [("", said)] if first is None else [(first.code, first.message)]
        self.repair = self.repair.after(seen)
        # A model that sees its draft again tends to write it again.
        is_shown = not self.repair.stage and not attempt.is_cut
        shown = attempt.text if is_shown else ""
        approach = "simple" if self.repair.stage else "whole"
        again = small_repair_messages(shown, said, has_provided=self.request.has_provided)
        messages = (*self._opening(), *again)
        return ModelRequest(messages, small_answer(self._near()), approach)

    @property
    def _advice(self) -> str:
        return ADVICE


# --- the request


def small_preview(
    request: PlanRequest, answered_by: str | None, model: str | None, *, adapts: bool, choose_over: int | None
) -> Preview:
    """Return the first requests of a planning in the small profile, as `preview_of` does of the full one."""
    preview = preview_of(request, answered_by, model, adapts=adapts, choose_over=choose_over)
    shown = nearest(request.task, [tool for tool in request.tools if tool.name in preview.tools])
    return replace(
        preview,
        messages=opening(request, shown, nearest_plans(request)),
        schema=small_answer(shown).wire_schema,
        form="typed",
        tools=tuple(tool.name for tool in shown),
    )


def opening(
    request: PlanRequest, shown: Sequence[Tool], examples: Sequence[SavedPlan]
) -> tuple[Message, ...]:
    """Return the messages that begin every request: the form, the tools, the nearest saved plan, the task.

    Args:
        request: The request of the planning.
        shown: The tools that the model is shown.
        examples: Saved plans for similar tasks, the nearest first; the first one that has a short small form is shown.
    """
    written = (small_form_of(each.plan) for each in examples)
    fitting = (each for each in written if each is not None and len(each) <= EXAMPLE_CHARACTERS_MAX)
    return small_messages(request, shown, next(fitting, None))


def nearest(task: str, tools: Iterable[Tool]) -> list[Tool]:
    """Return the tools that a small model is shown: a few, and a write among them if there is one."""
    every = list(tools)
    return with_writing_tools(task, every, choose_tools(task, every, TOOLS_MAX))


def small_answer(tools: Sequence[Signature]) -> AnswerForm:
    """Return the answer that is asked for: a number of calls, as many steps that call just these tools, and an output.

    The model settles how many calls it takes before it writes the first, and a schema of its own for each number holds it to that: small
    models begin to repeat themselves in a list that has no end. Naming the calls in place of counting them tempts them to name more.
    """
    step: _Object = {"anyOf": [*(_call(tool) for tool in tools), _object(id=_TEXT, ask=_TEXT)]}

    def steps(count: int) -> Json:
        return {"type": "array", "items": {"$ref": "#/$defs/step"}, "minItems": count, "maxItems": count}

    plans = [
        _object(calls={"const": count}, steps=steps(count), output=_TEXT) for count in range(1, STEPS_MAX + 1)
    ]
    schema: _Object = {"type": "object", "anyOf": [*plans, _object(cannot=_TEXT)], "$defs": {"step": step}}
    return AnswerForm({"type": "object"}, name="plan", purpose="A short plan.", shown_schema=schema)


def _call(tool: Signature) -> Json:
    parameters = properties_of(tool.parameters)
    required = cast("list[Json]", tool.parameters.get("required") or [])
    args: _Object = {
        "type": "object",
        "properties": {name: _argument(each) for name, each in parameters.items()},
        "required": required,
        "additionalProperties": False,
    }
    return _object(id=_TEXT, tool={"const": tool.name}, args=args)


def _object(**properties: Json) -> Json:
    """Return the schema of an object with exactly these properties, in this order: a decoder writes them in order."""
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def _argument(schema: Json) -> Json:
    """Return the schema of an argument as it is shown: its kind, its choices, and text, since a reference is text."""
    match schema:
        case {"enum": list(options)} if len(options) <= OPTIONS_MAX:
            return {"enum": options}
        case {"type": "string"}:
            return _TEXT
        case {"type": "integer" | "number" | "boolean" | "array" | "object" as kind}:
            return {"anyOf": [{"type": kind}, _TEXT]}
        case {"anyOf": list(parts)}:
            kinds = [_argument(part) for part in parts if part != {"type": "null"}]
            distinct = [kind for index, kind in enumerate(kinds) if kind not in kinds[:index]]
            return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}
        case _:
            return {}


def first_fault(faults: Sequence[Problem]) -> Problem | None:
    """Return the one fault that a small model is told: of the first step that has one, since later faults often follow from it."""

    def place(fault: Problem) -> tuple[int, int]:
        match parts_of(fault.path):
            case ("steps", int(index), *_):
                return 0, index
            case _:
                return 1, 0

    return min(faults, key=place, default=None)


# --- the answer


def plan_of(value: Json, request: PlanRequest) -> tuple[Json, tuple[Problem, ...]]:
    """Return the ordinary plan that an answer in the small form stands for, and what only this form can have wrong.

    Args:
        value: The model's answer.
        request: The request of the planning, with the tools and the given inputs.
    """
    draft = plan_in(value, request.task, request.returns)
    if isinstance(draft, dict):
        draft = {key: part for key, part in draft.items() if key != "calls"}
    steps = draft.get("steps") if isinstance(draft, dict) else None
    # A plan of so many steps is none in the small form, and settling it would take long.
    if not isinstance(draft, dict) or not isinstance(steps, list) or len(steps) > SETTLED_STEPS_MAX:
        return draft, ()
    results: dict[str, Json] = {}
    made: list[Json] = []
    args: dict[str, Mapping[str, Json]] = {}
    hoisting = _Hoisting(request.tools, {*map(_id, steps)})
    # In their order: a reference means a step before it, and the type of that step's result decides how it is read.
    for step in steps:
        read = _Settled(results, request.tools, args).step(step) if isinstance(step, dict) else step
        made += [*hoisting.steps_of(read)]
        results |= {id_: schema for each in made for id_, schema in _result_of(each, request).items()}
        given = read.get("args") if isinstance(read, dict) else None
        args |= {_id(read): given if isinstance(given, dict) else {}}
    inputs = {name: parse(schema) for name, schema in input_schemas(request.inputs).items()}
    own = draft.get("inputs")
    plan: _Object = {**draft, "steps": made}
    if inputs or own is not None:
        plan["inputs"] = {**inputs, **own} if isinstance(own, dict) else own or inputs
    if "output" in draft:
        output = hoisting.value_of(_Settled(results, request.tools, args).output(draft["output"]))
        plan |= {"steps": [*made, *hoisting.taken()], "output": output}
    faults = _without_reference(plan, request)
    return (plan, faults) if faults else (_needed(plan, request), ())


def _result_of(step: Json, request: PlanRequest) -> dict[str, Json]:
    """Return the id of a step with the schema of its result; empty for what is no step."""
    if not isinstance(step, dict) or not isinstance(id_ := step.get("id"), str):
        return {}
    name = step.get("tool")
    tool = request.tools.find(name) if isinstance(name, str) else None
    returns = None if tool is None or tool.returns is None else dict(tool.returns)
    return {id_: _TEXT if "ask" in step else returns}


@dataclass(frozen=True, slots=True)
class _Settled:
    """Reads the texts of one step, or of the output, as references to the steps before it.

    Attributes:
        results: Id of an earlier step -> the schema of its result; `None`: it is not known.
        tools: The tools.
        args: Id of an earlier step -> its arguments.
    """

    results: Mapping[str, Json]
    tools: Toolset
    args: Mapping[str, Mapping[str, Json]] = field(default_factory=dict[str, Mapping[str, Json]])

    def step(self, step: Mapping[str, Json]) -> Json:
        """Return a step with its references settled, and a question in the full format."""
        made = dict(step)
        if isinstance(ask := made.get("ask"), str):
            made["ask"] = {"prompt": self.text(ask)}
        if isinstance(args := made.get("args"), dict):
            name = made.get("tool")
            tool = self.tools.find(name) if isinstance(name, str) else None
            known: Mapping[str, Json] = {} if tool is None else properties_of(tool.parameters)
            made["args"] = {key: self.argument(part, known.get(key)) for key, part in args.items()}
        return made

    def argument(self, value: Json, schema: Json) -> Json:
        """Return an argument: a number that stands in a text as a number, if the tool takes no text."""
        if not isinstance(value, str):
            return value
        is_number = isinstance(schema, dict) and schema.get("type") in ("integer", "number", "boolean")
        if is_number and not _PLACEHOLDER.search(value):
            try:
                return parse(value)
            except NotJson:
                return self.formula(value) or self.text(value)
        is_text = isinstance(schema, dict) and schema.get("type") == "string"
        return self._in_words(self.text(value)) if is_text else self.text(value)

    def _in_words(self, text: str) -> str:
        """Return an argument that has to be text; a number, as in `${a.price * 3}` for a calculator, as text."""
        whole = _PLACEHOLDER.fullmatch(text)
        if whole is None:
            return text
        path = _PATH.fullmatch(text[2:-1])
        kind = None if path is None else self._kind(path[1], path[2])
        # Text stays text under `str`. A whole object is left to the check, since a field of it is meant.
        is_list = text.startswith("${[")
        is_number = (path is None and not is_list) if kind is None else kind in ("integer", "number")
        return f"${{str({text[2:-1]})}}" if is_number else text

    def _kind(self, id_: str, path: str) -> Json:
        """Return the type of a step's result, or of a field of it, as its schema names it; `object` if that is not known."""
        schema, name = self.results.get(id_), path.rpartition(".")[2]
        found = _fields(schema, schema if isinstance(schema, dict) else {}).get(name) if name else schema
        return found.get("type", "object") if isinstance(found, dict) else "object"

    def output(self, value: Json) -> Json:
        """Return the output; the text of a formula is the formula."""
        if not isinstance(value, str):
            return value
        if (formula := self.formula(value)) is not None:
            return formula
        text = self.text(value)
        # `${a.price} - ${b.price}` is meant as a difference: an answer that shows two numbers and a minus says nothing.
        if len(_PLACEHOLDER.findall(text)) > 1 and _ARITHMETIC.fullmatch(_PLACEHOLDER.sub("", text)):
            return f"${{{_PLACEHOLDER.sub(lambda found: f'({found[0][2:-1]})', text)}}}"
        return text

    def formula(self, text: str) -> str | None:
        """Return a text without braces that is an expression over steps or calls, with them; `None`: it is none."""
        if "${" in text or len(text) > SETTLED_CHARACTERS_MAX:
            return None
        try:
            names = {
                node.id
                for node in ast.walk(ast.parse(text.strip(), mode="eval"))
                if isinstance(node, ast.Name)
            }
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        meant = {*self.results, *(tool.name for tool in self.tools)}
        is_meant = bool(names & meant) and names <= {*meant, *FUNCTIONS}
        return f"${{{self.expression(text.strip())}}}" if is_meant else None

    def text(self, text: str) -> str:
        """Return a text whose references all have the form `${step.field}`."""
        if len(text) > SETTLED_CHARACTERS_MAX:
            return text
        text = _unnested(_OTHER_BRACES.sub(lambda found: f"${{{found[1]}}}", text))
        parts: list[str] = []
        end = 0
        for found in _PLACEHOLDER.finditer(text):
            parts += [self._bare(text[end : found.start()]), f"${{{self.expression(found[0][2:-1])}}}"]
            end = found.end()
        return "".join([*parts, self._bare(text[end:])])

    def expression(self, text: str) -> str:
        """Return an expression in which the whole result of a step is called by the step's id alone."""
        text = re.sub(r"\bsteps\.(?=[A-Za-z_])", "", text)
        text = _python_choice(text)
        for id_, args in self.args.items():
            text = self._with_echoes(text, id_, args)
        # A field that the type has stays: only a name that can be no field means the whole result.
        for id_, schema in self.results.items():
            for name in _WHOLE_RESULT:
                if not _has_field(schema, name):
                    text = re.sub(rf"(?<![\w.]){re.escape(id_)}\.{name}\b", id_, text)
        return text

    def _with_echoes(self, text: str, id_: str, args: Mapping[str, Json]) -> str:
        """Return an expression with the argument of a step where it is called a field of the result, and `len` of a list for its `length`."""
        schema = self.results.get(id_)
        name = rf"(?<![\w.]){re.escape(id_)}\.([A-Za-z_]\w*)\b(?!\()"

        def echoed(found: re.Match[str]) -> str:
            if isinstance(schema, dict) and schema.get("type") == "array" and found[1] in ("length", "size"):
                return f"len({id_})"
            value = args.get(found[1])
            is_plain = isinstance(value, str | int | float) and "${" not in str(value)
            is_echo = is_plain and bool(_fields(schema, {})) and not _has_field(schema, found[1])
            return (
                json.dumps(value, ensure_ascii=False) if is_echo and not isinstance(value, bool) else found[0]
            )

        return re.sub(name, echoed, text)

    def _bare(self, text: str) -> str:
        """Return plain text in which `a.price` and `$a.price` are references, if step `a` has such a field."""
        for id_, schema in self.results.items():
            if text == f"${id_}":
                return f"${{{id_}}}"
            pattern = rf"(?<![\w.$])\$?{re.escape(id_)}((?:\[\d+\])*)\.([A-Za-z_]\w*)"

            def settled(found: re.Match[str], id_: str = id_, schema: Json = schema) -> str:
                is_field = _has_field(schema, found[2])
                return f"${{{id_}{found[1]}.{found[2]}}}" if is_field else found[0]

            text = re.sub(pattern, settled, text)
        return text


@dataclass(slots=True)
class _Hoisting(ast.NodeTransformer):
    """Makes steps of calls of tools that stand inside expressions: `${a.price * rate("EUR")}` is code that a model of code writes.

    Calls of writes are not made steps: whoever wants one has to write it as a step.

    Attributes:
        tools: The tools.
        ids: The ids that are taken.
        made: The steps so far that stand nowhere yet.
    """

    tools: Toolset
    ids: set[str]
    made: list[Json] = field(default_factory=list[Json])

    def steps_of(self, step: Json) -> list[Json]:
        """Return a step, and before it the calls in its expressions as steps of their own."""
        read = (
            {key: part if key == "id" else self.value_of(part) for key, part in step.items()}
            if isinstance(step, dict)
            else step
        )
        return [*self.taken(), read]

    def taken(self) -> list[Json]:
        """Return the steps that stand nowhere yet."""
        steps, self.made = self.made, []
        return steps

    def value_of(self, value: Json) -> Json:
        """Return a value whose expressions refer to steps in the place of calls."""
        return with_texts(
            value,
            lambda text: _PLACEHOLDER.sub(lambda found: f"${{{self._expression(found[0][2:-1])}}}", text),
        )

    def _expression(self, text: str) -> str:
        if len(text) > SETTLED_CHARACTERS_MAX:
            return text
        try:
            tree = ast.parse(text.strip(), mode="eval")
            before = len(self.made)
            changed = self.visit(tree)
            return ast.unparse(changed) if len(self.made) > before else text
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return text

    def visit_Call(self, node: ast.Call) -> ast.AST:  # ast's name
        """Return a reference to a new step in the place of a call of a tool."""
        # Inner calls first: their steps have to stand before the step that uses them.
        inner = self.generic_visit(node)
        tool = self.tools.find(node.func.id) if isinstance(node.func, ast.Name) else None
        if tool is None or tool.effect is Effect.WRITE or tool.name in FUNCTIONS:
            return inner
        names = properties_of(tool.parameters)
        named = [(each.arg or "", each.value) for each in node.keywords]
        args = {name: _written(each) for name, each in (*zip(names, node.args, strict=False), *named)}
        id_ = next(each for number in count(1) if (each := f"{tool.name}_{number}") not in self.ids)
        self.ids.add(id_)
        self.made.append({"id": id_, "tool": tool.name, "args": args})
        return ast.Name(id_, ast.Load())


def _written(node: ast.expr) -> Json:
    """Return an argument of a call as an argument of a step."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | None):
        return node.value
    return f"${{{ast.unparse(node)}}}"


def _python_choice(text: str) -> str:
    """Return `x ? y : z` as `y if x else z`, which no Python means; any other text as it is."""
    condition, mark, rest = text.partition("?")
    yes, colon, no = rest.partition(":")
    is_choice = (
        bool(mark and colon) and not any(each in condition for each in ":'\"") and not set("?:") & set(no)
    )
    return f"{yes.strip()} if {condition.strip()} else {no.strip()}" if is_choice else text


def _unnested(text: str) -> str:
    """Return a text in which references inside an expression, as in `${2 * ${a}}`, have no braces of their own."""
    made: list[str] = []
    depth = 0
    for part in _BRACE.split(text):
        if part == "${":
            made.append("${" if depth == 0 else "(")
            depth += 1
        elif part == "}" and depth:
            depth -= 1
            made.append("}" if depth == 0 else ")")
        else:
            made.append(part)
    return text if depth else "".join(made)


def _has_field(schema: Json, name: str) -> bool:
    """Whether a result, or an item of it, is known to have a field of this name."""
    return name in _fields(schema, schema if isinstance(schema, dict) else {})


def _fields(schema: Json, root: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the fields of a result, or of its items, with their schemas; empty if they are not known."""
    match schema:
        case {"$ref": str(ref)}:
            # The definition is read without definitions, so that one which names itself ends.
            definitions = cast("Mapping[str, Json]", root.get("$defs") or {})
            return _fields(definitions.get(ref.rpartition("/")[2]), {})
        case {"type": "array", "items": items}:
            return _fields(items, root)
        case {"properties": dict(properties)}:
            return properties
        case _:
            return {}


# --- what a plan needs


def _without_reference(plan: Mapping[str, Json], request: PlanRequest) -> tuple[Problem, ...]:
    """Return the fault of an output that names no step, although the plan does nothing but read."""
    output, steps = plan.get("output"), cast("list[Json]", plan["steps"])
    ids = [id_ for id_ in map(_id, steps) if id_]
    if not ids or _names(output) & {*ids, "inputs"} or any(_writes(step, request) for step in steps):
        return ()
    # The model has seen no result, so that a text of its own is a guess.
    found = "no output" if output is None else f"{canonical(output).decode()[:80]}, which names no step"
    message = f"expected an output that is made of the results of steps, found {found}"
    return (
        problem("bad-shape", "$.output", message, f"write the answer as a reference, such as ${{{ids[-1]}}}"),
    )


def _needed(plan: _Object, request: PlanRequest) -> _Object:
    """Return a plan without the calls whose results nothing needs: small models search and ask to be sure."""
    steps = cast("list[Json]", plan["steps"])
    uses = {
        id_: _names({key: part for key, part in step.items() if key != "id"}) | _awaited(step)
        for step in steps
        if isinstance(step, dict) and (id_ := _id(step))
    }
    wanted = [*_names(plan.get("output")), *(_id(step) for step in steps if _writes(step, request))]
    # Needed is what the output, a write, or another needed step refers to.
    needed: set[str] = set()
    while wanted:
        if (id_ := wanted.pop()) not in needed and id_ in uses:
            needed.add(id_)
            wanted += uses[id_]
    return {
        **plan,
        "steps": [
            step for step in steps if not isinstance(step, dict) or not _id(step) or _id(step) in needed
        ],
    }


def _awaited(step: Mapping[str, Json]) -> set[str]:
    """Return the ids that a step of the full format waits for without a reference."""
    after = step.get("after")
    return {each for each in after if isinstance(each, str)} if isinstance(after, list) else set()


def _id(step: Json) -> str:
    id_ = step.get("id") if isinstance(step, dict) else None
    return id_ if isinstance(id_, str) else ""


def _writes(step: Json, request: PlanRequest) -> bool:
    """Whether a step may change something, as far as it can be seen: what is no call of a known reading tool may."""
    if not isinstance(step, dict) or "ask" in step:
        return False
    name = step.get("tool")
    tool = request.tools.find(name) if isinstance(name, str) else None
    return tool is None or tool.effect is Effect.WRITE


def _names(value: Json) -> set[str]:
    """Return the names that the expressions of a value use."""
    return set(parse_formula(value)[0].names)


# --- saved plans in the small form


def small_form_of(plan: Plan) -> str | None:
    """Return a saved plan as an example in the small form; `None`: the form has no words for it.

    The defaults of its inputs stand in the place of references to them, as a small model would write them.
    """
    document = plan.to_dict()
    task, output = document.get("task"), document.get("output")
    steps: list[Json] = []
    for step in cast("list[_Object]", document["steps"]):
        match step:
            case {"id": str(id_), "tool": str(tool), "args": dict(args), **rest} if not rest:
                steps.append({"id": id_, "tool": tool, "args": args})
            case {"id": str(id_), "tool": str(tool), **rest} if not rest:
                steps.append({"id": id_, "tool": tool, "args": {}})
            case {"id": str(id_), "ask": {"prompt": str(prompt), **more}, **rest} if not rest and not more:
                steps.append({"id": id_, "ask": prompt})
            case _:
                return None
    if not isinstance(task, str) or not isinstance(output, str):
        return None
    defaults = {name: schema["default"] for name, schema in plan.inputs.items() if "default" in schema}
    filled = _filled({"steps": steps, "output": output}, defaults)
    if "inputs" in _names(filled):
        return None
    for name, default in defaults.items():
        task = task.replace(f"{{{name}}}", _as_text(default))
    written = json.dumps({"calls": len(steps), **cast("_Object", filled)}, ensure_ascii=False)
    return f"Task: {task}\n{written}"


def _filled(value: Json, defaults: Mapping[str, Json]) -> Json:
    """Return a value with the defaults of inputs in the place of references to them."""

    def filled(text: str) -> Json:
        for name, default in defaults.items():
            reference = f"${{inputs.{name}}}"
            if text == reference:
                return default
            text = text.replace(reference, _as_text(default))
        return text

    return with_texts(value, filled)


def _as_text(value: Json) -> str:
    return value if isinstance(value, str) else canonical(value).decode()
