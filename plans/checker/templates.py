"""The templates of a step: the values that may hold expressions.

Templates are in `args`, `set`, `for_each`, `when`, `repeat.until`, `on_error.value`, `ask.prompt`, `ask.system`,
`ask.examples`, `agent.goal` and a plan's `output`, and nowhere else. Each is parsed once and kept with its step.

A secret is the whole value of an argument of a `tool` step. The arguments' formula has a placeholder text instead
(`secret_text`), so a secret never is a value that flows through the plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from ..expressions.formula import Formula, LocalProblem, parse_formula
from ..immutable import immutable
from ..paths import key
from ..plan import AgentStep, AskStep, PlanStep, SetStep, ToolStep

if TYPE_CHECKING:
    from ..plan import StepKeys
    from ..values import Json


_NO_SECRETS: Mapping[str, str] = {}  # one for all: most steps have none


@immutable
class Template:
    """One value of a step that may hold expressions.

    Attributes:
        where: Its place in the step: `.args`, `.ask.prompt`.
        value: As the plan has it.
        formula: The value parsed, with placeholders for secrets.
        faults: The faults of its text.
        secrets: Argument -> name of the secret that is its whole value.
    """

    where: str
    value: Json
    formula: Formula
    faults: tuple[LocalProblem, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=lambda: _NO_SECRETS)

    @property
    def canonical(self) -> Json:
        """The value in canonical form, secrets as expressions."""
        spelled = self.formula.canonical
        if not self.secrets or not isinstance(spelled, dict):
            return spelled
        return {**spelled, **{arg: secret_text(name) for arg, name in self.secrets.items()}}


def secret_text(name: str) -> str:
    """Return the placeholder of a secret in arguments, keys and the journal: its expression, by name."""
    import json  # noqa: PLC0415  # rare

    return f"${{secret({json.dumps(name, ensure_ascii=False)})}}"


def template_of(where: str, value: Json) -> Template:
    """Return a value as a template."""
    formula, faults = parse_formula(value)
    return Template(where, value, formula, tuple(faults))


def templates_of(step: StepKeys) -> Mapping[str, Template]:
    """Return the templates of a step by their key, in the order of their problems."""
    made: dict[str, Template] = {}
    if step.has("when"):
        made["when"] = template_of(".when", step.when)
    if step.has("for_each"):
        made["for_each"] = template_of(".for_each", step.for_each)
    _add_action(made, step)
    if step.repeat is not None:
        made["until"] = template_of(".repeat.until", step.repeat.until)
    if not isinstance(step.on_error, str):
        made["fallback"] = template_of(".on_error.value", step.on_error.value)
    return made


def _add_action(made: dict[str, Template], step: StepKeys) -> None:
    match step:
        case ToolStep(args=args):
            made["args"] = _arguments(args)
        case PlanStep(args=args):
            made["args"] = template_of(".args", args)
        case SetStep():
            made["set"] = template_of(".set", step.set)
        case AskStep(ask=ask):
            made["prompt"] = template_of(".ask.prompt", ask.prompt)
            if ask.system is not None:
                made["system"] = template_of(".ask.system", ask.system)
            if ask.examples is not None:
                examples = ask.examples if isinstance(ask.examples, str) else list(ask.examples)
                made["examples"] = template_of(".ask.examples", examples)
        case AgentStep(agent=agent):
            made["goal"] = template_of(".agent.goal", agent.goal)
        case _:
            pass


def _arguments(args: dict[str, Json]) -> Template:
    """Return the arguments of a `tool` step, with its secrets taken out."""
    secrets: dict[str, str] = {}
    for name, value in args.items():
        if isinstance(value, str) and "secret" in value and value.lstrip().startswith("${"):
            secret = parse_formula(value)[0].secret
            if secret is not None:
                secrets[name] = secret
    if not secrets:
        return template_of(".args", args)
    stand_ins = {name: f"${secret_text(secret)}" for name, secret in secrets.items()}
    formula, faults = parse_formula({**args, **stand_ins})
    return Template(".args", args, formula, tuple(faults), secrets)


def argument_path(name: str) -> str:
    """Return the place of an argument in its step."""
    return f".args{key(name)}"
