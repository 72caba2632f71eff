"""The templates of a step: the values that may hold expressions.

Templates are in the places of `TEMPLATE_PLACES` and in a plan's `output`, and nowhere else. Each is parsed once and kept with its step.

A secret is the whole value of an argument of a `tool` step. The arguments' formula has a placeholder text instead
(`secret_text`), so a secret never is a value that flows through the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cache
from typing import TYPE_CHECKING, cast

from ..expressions.formula import Formula, read_formula
from ..immutable import immutable
from ..plan import ToolStep
from ..reports.errors import LocalProblem
from ..reports.paths import key

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
        misread: The faults of its text, without those of constants.
        secrets: Argument -> name of the secret that is its whole value.
    """

    where: str
    value: Json
    formula: Formula
    misread: tuple[LocalProblem, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=lambda: _NO_SECRETS)

    @property
    def faults(self) -> tuple[LocalProblem, ...]:
        """The faults of its text, those of constants included: they are worked out if that was not done before."""
        if not self.formula.foldable or self.formula.secret is not None:
            return self.misread
        return (*self.misread, *self.formula.constant_problems())

    @property
    def canonical(self) -> Json:
        """The value in canonical form, secrets as expressions."""
        canonical = self.formula.canonical
        if not self.secrets or not isinstance(canonical, dict):
            return canonical
        return {**canonical, **{arg: secret_text(name) for arg, name in self.secrets.items()}}

    def part(self, name: str) -> Template:
        """Return one field of a template that is an object. It is not parsed again, so its strings keep their places in the whole object."""
        value = cast("Mapping[str, Json]", self.value)[name]
        if name in self.secrets:  # the formula has a placeholder there
            return template_of("", value)
        return Template("", value, self.formula.part(name))


def secret_text(name: str) -> str:
    """Return the placeholder of a secret in arguments, keys and the journal: its expression, by name."""
    import json  # noqa: PLC0415  # rare

    return f"${{secret({json.dumps(name, ensure_ascii=False)})}}"


def template_of(where: str, value: Json) -> Template:
    """Return a value as a template."""
    formula, faults = read_formula(value)
    return Template(where, value, formula, tuple(faults), _NO_SECRETS)


TEMPLATE_PLACES: Mapping[str, tuple[str, ...]] = {
    "when": ("when",),
    "for_each": ("for_each",),
    "args": ("args",),
    "set": ("set",),
    "prompt": ("ask", "prompt"),
    "system": ("ask", "system"),
    "examples": ("ask", "examples"),
    "goal": ("agent", "goal"),
    "given": ("given",),
    "ask_person": ("ask_person",),
    "endorse": ("endorse",),
    "wait": ("wait",),
    "fail": ("fail",),
    "until": ("repeat", "until"),
    "fallback": ("on_error", "value"),
}
"""Template -> its place in a step, in the order in which problems are reported."""


def templates_of(step: StepKeys) -> Mapping[str, Template]:
    """Return the templates of a step by their key."""
    made: dict[str, Template] = {}
    given = step.model_fields_set
    for name, first, last, where, is_optional in _places_of(type(step)):
        if is_optional and first not in given:
            continue
        held: object = getattr(step, first)
        if last and (held is None or isinstance(held, str)):
            continue  # no `repeat`, or an `on_error` without a value
        value = cast("Json", getattr(held, last) if last else held)
        # An explicit null of `when` or `for_each` is a fault that the check reports; of `system` or `examples` it means absence.
        if value is None and name not in given and name not in ("set", "fallback", "endorse"):
            continue
        if name == "args" and isinstance(step, ToolStep):
            made[name] = _arguments(step.args)
        elif name == "examples" and not isinstance(value, str):
            made[name] = template_of(where, [*cast("Sequence[Json]", value)])  # the model holds a tuple
        else:
            made[name] = template_of(where, value)
    return made


@cache
def _places_of(kind: type[StepKeys]) -> tuple[tuple[str, str, str, str, bool], ...]:
    """Return the places of a kind of step: key, field of the step, field of that (may be empty), both as a path, and whether a step without it has no template there."""
    return tuple(
        (name, place[0], "".join(place[1:]), "." + ".".join(place), _is_optional(kind, place[0]))
        for name, place in TEMPLATE_PLACES.items()
        if place[0] in kind.model_fields
    )


def _is_optional(kind: type[StepKeys], field: str) -> bool:
    """Whether the default of a field holds no template: nothing, or the word that `on_error` has."""
    default: object = kind.model_fields[field].default  # that of `args` and `given` is made by a factory
    return default is None or isinstance(default, str)


def _arguments(args: dict[str, Json]) -> Template:
    """Return the arguments of a `tool` step, with its secrets taken out."""
    secrets: dict[str, str] = {}
    for name, value in args.items():
        if isinstance(value, str) and "secret" in value and value.lstrip().startswith("${"):
            secret = read_formula(value)[0].secret
            if secret is not None:
                secrets[name] = secret
    if not secrets:
        return template_of(".args", args)
    stand_ins = {name: f"${secret_text(secret)}" for name, secret in secrets.items()}
    formula, faults = read_formula({**args, **stand_ins})
    return Template(".args", args, formula, tuple(faults), secrets)


def argument_path(name: str) -> str:
    """Return the place of an argument in its step."""
    return f".args{key(name)}"
