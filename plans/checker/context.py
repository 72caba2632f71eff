"""What the parts of one check share: the bodies, the tools with their types, and the problems found so far.

This module judges nothing. It reads the schemas of tools, inputs and types once, however many steps use them.
A body of a saved plan has no place in the plan that is checked, so its problems are reported at the step that leads to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import field, replace
from functools import lru_cache
from typing import cast

from ..immutable import immutable, record
from ..limits import LIMITS, Limits
from ..reports.errors import LocalProblem
from ..reports.nearest import did_you_mean
from ..reports.problems import Problem, problem
from ..signature import KnownModels, SecretPlaces, Signature, Signatures
from ..types.definitions import named_parts
from ..types.read import read_schema, read_with_warnings
from ..types.types import NEVER, TEXT, UNKNOWN, ObjectType, Type
from ..types.validate import ValueSchema
from ..values import Json, parse_canonical, text_in_given_order
from .body import Bodies, PlanBody

_PLAIN_TEXT = {"type": "string"}


@record
class ProblemList:
    """The problems that a check has found so far.

    Attributes:
        misshapen: Paths of values without the right shape; nothing more is reported about them.
        suggestions_left: How many nearest names may still be searched for. Each search compares all known names, so a hostile plan must not
            buy one for every problem.
    """

    problems: list[Problem] = field(default_factory=list[Problem])
    misshapen: tuple[str, ...] = ()
    suggestions_left: int = LIMITS.suggestions_max

    @property
    def suggests(self) -> bool:
        """Whether nearest names may still be searched for."""
        return self.suggestions_left > 0

    def suggestion(self, name: str, known: Iterable[str], otherwise: str = "") -> str:
        """Return `did you mean 'x'?` for the closest known name, else `otherwise`.

        Args:
            name: The unknown name.
            known: The names that exist.
            otherwise: The hint if none of them is close, or if no search is left.
        """
        if not self.suggests:
            return otherwise
        self.suggestions_left -= 1
        return did_you_mean(name, known, otherwise)

    def add(
        self,
        body: PlanBody,
        code: str,
        path: str,
        message: str,
        hint: str = "",
        at: tuple[int, int] | None = None,
    ) -> None:
        """Add a problem of a body.

        Args:
            body: The body that has the problem.
            code: One of `CODES`.
            path: The place in the body's own plan.
            message: Expected, found, where.
            hint: What to do.
            at: Start and end in the text at `path`.
        """
        if (
            self.misshapen
            and not body.unit
            and any(_is_inside(path, reported) for reported in self.misshapen)
        ):
            return
        if body.unit:
            message, path, at = f"in a saved plan, at {path}: {message}", body.reported_at, None
        self.problems.append(problem(code, path, message, hint, at))

    def add_local(
        self,
        body: PlanBody,
        path: str,
        faults: Iterable[LocalProblem],
        codes: Mapping[str, str] | None = None,
    ) -> None:
        """Add the faults of the value at `path`.

        Args:
            body: The body that has the value.
            path: The place of the value.
            faults: Their `inner` paths begin at the value.
            codes: LocalProblem code -> the code to report instead, where the place has a more specific one.
        """
        for fault in faults:
            code = fault.code if codes is None else codes.get(fault.code, fault.code)
            at = (fault.start, fault.end) if fault.end > fault.start else None
            self.add(body, code, path + fault.inner, fault.message, fault.hint, at)

    def add_inferred(self, body: PlanBody, path: str, faults: Iterable[LocalProblem]) -> None:
        """Add faults of expressions. Inference may have searched a nearest name for each, so each uses up one search.

        Args:
            body: The body that has the template.
            path: The place of the template.
            faults: Their `inner` paths begin at the template.
        """
        found = list(faults)
        self.suggestions_left -= len(found)
        self.add_local(body, path, found)


def _is_inside(path: str, outer: str) -> bool:
    return path.startswith(outer) and path[len(outer) : len(outer) + 1] in ("", ".", "[")


@immutable
class Parameters:
    """The arguments that a tool or an inner plan accepts.

    Attributes:
        owner: Its name in messages, such as `the tool 'weather'`.
        types: Argument -> its type.
        schemas: Argument -> its schema, self-contained or with names from `definitions`.
        definitions: The types that the schemas name.
        required: Arguments that must be given, in order.
        extra: The type of all other arguments; `None`: there are none.
        together: Type and schema of the object of all arguments, where the types of the single arguments do not say everything.
        fitting: Argument -> the last type that was found to be exactly the wanted one. Steps pass on the results of few tools.
    """

    owner: str
    types: Mapping[str, Type]
    schemas: Mapping[str, Mapping[str, Json]]
    definitions: Mapping[str, Json]
    required: tuple[str, ...]
    extra: Type | None
    together: tuple[Type, Mapping[str, Json]] | None = None
    fitting: dict[str, Type] = field(default_factory=dict[str, Type])
    _values: dict[str, ValueSchema] = field(default_factory=dict[str, ValueSchema])

    def value_schema(self, name: str) -> ValueSchema | None:
        """Return what judges literal values of an argument more exactly than its type does; `None`: the argument has no schema."""
        found = self._values.get(name)
        if found is None and name in self.schemas:
            found = self._values[name] = ValueSchema(self.schemas[name], self.definitions)
        return found


_Reading = tuple[Type, list[LocalProblem], list[LocalProblem]]
"""The type of a schema, its faults, and its warnings."""


@record
class CheckContext:
    """One check in progress.

    Attributes:
        secrets: Name -> the places that may have the secret; `None`: the check knows no names.
        policies: The names that `endorse` steps may use; `None`: the check knows none of them.
        models: The models that steps may ask; `None`: the check knows none of them.
        outputs: Body number -> the type of its output, for bodies that inference has finished.
        steps: Body number -> the types of its steps by position, for the same bodies.
        named_parts_left: How many parts of named types the remaining schemas may rest on.
    """

    bodies: Bodies
    tools: Signatures
    limits: Limits
    problems: ProblemList
    secrets: SecretPlaces | None = None
    policies: Collection[str] | None = None
    models: KnownModels | None = None
    outputs: dict[int, Type] = field(default_factory=dict[int, Type])
    steps: dict[int, list[Type]] = field(default_factory=dict[int, "list[Type]"])
    named_parts_left: int = field(init=False)
    _readings: dict[tuple[int, str | int], _Reading] = field(
        default_factory=dict["tuple[int, str | int]", _Reading]
    )
    _returns: dict[str, Type] = field(default_factory=dict[str, Type])
    _model_faults: dict[str, tuple[str, str] | None] = field(
        default_factory=dict[str, "tuple[str, str] | None"]
    )
    _tools: dict[str, Parameters] = field(default_factory=dict[str, Parameters])
    _inputs: dict[int, Parameters] = field(default_factory=dict[int, Parameters])

    def __post_init__(self) -> None:
        self.named_parts_left = self.limits.named_parts_max

    def model_fault(self, name: str) -> tuple[str, str] | None:
        """Return why no model of that name can be asked, and what to do; `None`: one can."""
        if self.models is None:
            return None
        if name not in self._model_faults:
            self._model_faults[name] = self.models.find_fault(name)
        return self._model_faults[name]

    def result_type(self, tool: Signature) -> Type:
        """Return the type of a tool's results."""
        if tool.name not in self._returns:
            self._returns[tool.name] = UNKNOWN if tool.returns is None else _result_type(tool.returns)
        return self._returns[tool.name]

    def parameters(self, tool: Signature) -> Parameters:
        """Return the arguments that a tool accepts."""
        if tool.name not in self._tools:
            self._tools[tool.name] = _parameters(tool)
        return self._tools[tool.name]

    def inputs(self, number: int) -> Parameters:
        """Return the inputs that a body accepts."""
        if number not in self._inputs:
            body = self.bodies.every[number]
            self._inputs[number] = Parameters(
                owner="the plan" if body.name is None else f"the plan '{body.name}'",
                types={name: self._reading(body, schema)[0] for name, schema in body.inputs.items()},
                schemas=body.inputs,
                definitions=body.types,
                required=tuple(name for name, schema in body.inputs.items() if "default" not in schema),
                extra=None,
            )
        return self._inputs[number]

    def read(self, body: PlanBody, schema: Mapping[str, Json], path: str) -> Type:
        """Return the type of a schema of the plan, and add the problems of the schema; `NEVER` if it has an error.

        Args:
            body: The body in whose scope the schema's names are looked up.
            schema: The schema.
            path: Its place.
        """
        if schema == _PLAIN_TEXT:
            return TEXT
        found, faults, warnings = self._reading(body, schema)
        placed = (
            replace(fault, inner=fault.inner.removesuffix('["$ref"]')) for fault in (*faults, *warnings)
        )
        self.problems.add_local(body, path, placed)
        return NEVER if faults else found

    def _reading(self, body: PlanBody, schema: Mapping[str, Json]) -> _Reading:
        """Read a schema of the plan once, however often it stands there as one object or as one bare `$ref`."""
        ref = schema.get("$ref") if len(schema) == 1 else None
        # Identity is a safe key: the plan keeps both objects alive during the check.
        key = (id(body.types), ref if isinstance(ref, str) else id(schema))
        if key not in self._readings:
            # Reading costs time for every part of every type that the schema names, so a short plan could cost quadratic time.
            self.named_parts_left -= named_parts(cast("Json", schema), body.types, self.named_parts_left)
            if self.named_parts_left < 0:
                most = self.limits.named_parts_max
                message = f"expected schemas that rest on at most {most} parts of named types, counted for each schema, found more"
                hint = "name fewer types in one another, or raise Limits.named_parts_max"
                return NEVER, [LocalProblem("limit-exceeded", message, hint)], []
            self._readings[key] = read_with_warnings(schema, body.types)
        return self._readings[key]


# Reading the schemas of one tool takes most of the time of the check of a small plan, and engines check plan after plan with the same tools. The text of a
# schema is the key, with its properties in their order, which messages show.
TOOLS_KEPT = 256
"""Tools whose parameters and results are kept as types."""


def _result_type(schema: Mapping[str, Json]) -> Type:
    text = text_in_given_order(schema)
    return read_schema(schema)[0] if text is None else _result_type_again(text)


@lru_cache(TOOLS_KEPT)
def _result_type_again(text: bytes) -> Type:
    return read_schema(cast("Mapping[str, Json]", parse_canonical(text)))[0]


def _parameters(tool: Signature) -> Parameters:
    text = text_in_given_order(tool.parameters)
    return (
        _read_parameters(tool.name, tool.parameters) if text is None else _parameters_again(tool.name, text)
    )


@lru_cache(TOOLS_KEPT)
def _parameters_again(name: str, text: bytes) -> Parameters:
    return _read_parameters(name, cast("Mapping[str, Json]", parse_canonical(text)))


def _read_parameters(name: str, schema: Mapping[str, Json]) -> Parameters:
    found = read_schema(schema)[0]
    declared = schema.get("properties")
    properties = declared if isinstance(declared, dict) else {}
    definitions = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    owner = f"the tool '{name}'"
    schemas = {name: {**definitions, **each} for name, each in properties.items() if isinstance(each, dict)}
    if not isinstance(found, ObjectType):  # a union, say: only the object of all arguments has a known type
        required = schema.get("required")
        names = tuple(map(str, required)) if isinstance(required, list) else ()
        types = dict.fromkeys(properties, UNKNOWN)
        return Parameters(owner, types, schemas, {}, names, UNKNOWN, (found, schema))
    is_open = not properties and "additionalProperties" not in schema
    return Parameters(
        owner=owner,
        types={name: known.type for name, known in found.fields.items()},
        schemas=schemas,
        definitions={},
        required=tuple(name for name, known in found.fields.items() if known.required),
        extra=UNKNOWN if is_open else found.extra,
        together=(found, schema) if found.constraints else None,
    )
