"""What the parts of a check share: the bodies, the tools with their types, the problems found so far.

Nothing is judged here. Types of tools and of schemas are read once, however many steps use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from ..errors import LocalProblem
from ..limits import Limits
from ..signature import Signature, Signatures
from ..types.definitions import named_parts
from ..types.read import read_schema, read_with_warnings
from ..types.types import NEVER, TEXT, UNKNOWN, ObjectType, Type
from ..values import Json
from .body import Bodies, Body
from .findings import Findings

_PLAIN_TEXT = {"type": "string"}


@dataclass(frozen=True, slots=True)
class Accepted:
    """The arguments that a tool or an inner plan accepts.

    Attributes:
        owner: In words, such as `tool 'weather'`.
        types: Argument -> its type.
        schemas: Argument -> its schema, self-contained or resting on `definitions`.
        definitions: The types that the schemas name.
        required: Arguments that must be given, in order.
        extra: Type of arguments beyond those; `None`: there are none.
        whole: The type of all arguments together, where that of each does not say all, with its schema.
    """

    owner: str
    types: Mapping[str, Type]
    schemas: Mapping[str, Mapping[str, Json]]
    definitions: Mapping[str, Json]
    required: tuple[str, ...]
    extra: Type | None
    whole: tuple[Type, Mapping[str, Json]] | None = None


@dataclass(slots=True)
class Checking:
    """One check under way.

    Attributes:
        outputs: For each body that was looked at: the type of its output.
        steps: For each body that was looked at: the types of its steps by position.
        named_parts_left: Parts of named types that schemas may still rest on.
    """

    bodies: Bodies
    toolset: Signatures
    limits: Limits
    findings: Findings
    outputs: dict[int, Type] = field(default_factory=dict[int, Type])
    steps: dict[int, list[Type]] = field(default_factory=dict[int, "list[Type]"])
    named_parts_left: int = field(init=False)
    _read: dict[tuple[int, str | int], tuple[Type, list[LocalProblem], list[LocalProblem]]] = field(
        default_factory=dict["tuple[int, str | int]", "tuple[Type, list[LocalProblem], list[LocalProblem]]"]
    )
    _returns: dict[str, Type] = field(default_factory=dict[str, Type])
    _tools: dict[str, Accepted] = field(default_factory=dict[str, Accepted])
    _inputs: dict[int, Accepted] = field(default_factory=dict[int, Accepted])

    def __post_init__(self) -> None:
        self.named_parts_left = self.limits.named_parts_max

    def returned_by(self, tool: Signature) -> Type:
        """Return the type of a tool's results."""
        if tool.name not in self._returns:
            self._returns[tool.name] = UNKNOWN if tool.returns is None else read_schema(tool.returns)[0]
        return self._returns[tool.name]

    def accepted_by(self, tool: Signature) -> Accepted:
        """Return what a tool accepts."""
        if tool.name not in self._tools:
            self._tools[tool.name] = _accepted_by(tool)
        return self._tools[tool.name]

    def inputs_of(self, number: int) -> Accepted:
        """Return what a body accepts as its inputs."""
        if number not in self._inputs:
            body = self.bodies.every[number]
            self._inputs[number] = Accepted(
                owner="the plan" if body.name is None else f"the plan '{body.name}'",
                types={name: self._reading(body, schema)[0] for name, schema in body.inputs.items()},
                schemas=body.inputs,
                definitions=body.types,
                required=tuple(name for name, schema in body.inputs.items() if "default" not in schema),
                extra=None,
            )
        return self._inputs[number]

    def read(self, body: Body, schema: Mapping[str, Json], path: str) -> Type:
        """Return the type of a schema of the plan, with what is wrong with it noted."""
        if schema == _PLAIN_TEXT:
            return TEXT
        made, faults, warnings = self._reading(body, schema)
        told = (replace(fault, inner=fault.inner.removesuffix('["$ref"]')) for fault in (*faults, *warnings))
        self.findings.add_faults(body, path, told)
        return NEVER if faults else made

    def _reading(
        self, body: Body, schema: Mapping[str, Json]
    ) -> tuple[Type, list[LocalProblem], list[LocalProblem]]:
        """Return the type of a schema of the plan, its faults and its warnings; each schema, and each name alone, is read once."""
        ref = schema.get("$ref") if len(schema) == 1 else None
        key = (
            id(body.types),
            ref if isinstance(ref, str) else id(schema),
        )  # the plan holds both while it is checked
        if key not in self._read:
            parts = named_parts(cast("Json", schema), body.types, self.named_parts_left)
            self.named_parts_left -= parts
            if self.named_parts_left < 0:
                most = self.limits.named_parts_max
                message = f"expected schemas that rest on at most {most} parts of named types, counted for each schema, found more"
                hint = "name fewer types in one another, or raise Limits.named_parts_max"
                return NEVER, [LocalProblem("limit-exceeded", message, hint)], []
            self._read[key] = read_with_warnings(schema, body.types)
        return self._read[key]


def _accepted_by(tool: Signature) -> Accepted:
    parameters = tool.parameters
    wanted = read_schema(parameters)[0]
    given = parameters.get("properties")
    properties = given if isinstance(given, dict) else {}
    definitions = {name: parameters[name] for name in ("$defs", "definitions") if name in parameters}
    is_open = not properties and "additionalProperties" not in parameters
    schemas = {
        name: {**definitions, **schema} for name, schema in properties.items() if isinstance(schema, dict)
    }
    if not isinstance(wanted, ObjectType):
        required = parameters.get("required")
        names = tuple(str(name) for name in required) if isinstance(required, list) else ()
        return Accepted(
            owner=f"the tool '{tool.name}'",
            types=dict.fromkeys(properties, UNKNOWN),
            schemas=schemas,
            definitions={},
            required=names,
            extra=UNKNOWN,
            whole=(wanted, parameters),
        )
    return Accepted(
        owner=f"the tool '{tool.name}'",
        types={name: known.type for name, known in wanted.fields.items()},
        schemas=schemas,
        definitions={},
        required=tuple(name for name, known in wanted.fields.items() if known.required),
        extra=UNKNOWN if is_open else wanted.extra,
        whole=None if wanted.exact else (wanted, parameters),
    )
