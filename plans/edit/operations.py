"""The operations of a patch: typed, made from JSON, turned back into it.

What they do to a plan is in `patch.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from ...errors import PlanRejected
from ..problems import CheckReport, Problem, problem
from ..values import Json


class _Operation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class _Inside(_Operation):
    plan: str | None = Field(
        default=None, description="The inner plan to work on; the plan itself by default."
    )


class _Placed(_Inside):
    before: str | None = Field(default=None, description="The step before which it goes.")
    after: str | None = Field(
        default=None, description="The step after which it goes; at the end by default."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.before is not None and self.after is not None:
            raise ValueError("expected 'before' or 'after', found both")
        return self


class AddStep(_Placed):
    """Add a step."""

    op: Literal["add"] = "add"
    step: dict[str, Any]


class RemoveStep(_Inside):
    """Remove a step; references to it stay, for the check to name."""

    op: Literal["remove"] = "remove"
    step: str


class ReplaceStep(_Inside):
    """Put another step in the place of one; the id may change."""

    op: Literal["replace"] = "replace"
    step: str
    new: dict[str, Any] = Field(alias="with")


class MoveStep(_Placed):
    """Put a step elsewhere in the list."""

    op: Literal["move"] = "move"
    step: str


class SetKey(_Inside):
    """Set one place of a step: `args.city`, `when`, `ask.prompt`, `args.rows[0]`."""

    op: Literal["set"] = "set"
    step: str
    at: str
    value: Any


class UnsetKey(_Inside):
    """Remove one place of a step."""

    op: Literal["unset"] = "unset"
    step: str
    at: str


class Rename(_Inside):
    """Give a step or an input another name, in every reference too."""

    op: Literal["rename"] = "rename"
    step: str | None = None
    input: str | None = None
    to: str

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if (self.step is None) == (self.input is None):
            raise ValueError("expected 'step' or 'input', and not both")
        return self


class SetInput(_Inside):
    """Declare an input, or remove it: `schema` null."""

    op: Literal["input"] = "input"
    name: str
    declared: dict[str, Any] | None = Field(alias="schema")


class SetType(_Inside):
    """Name a type, or remove it: `schema` null."""

    op: Literal["type"] = "type"
    name: str
    declared: dict[str, Any] | None = Field(alias="schema")


class SetInner(_Operation):
    """Set an inner plan, or remove it: `body` null."""

    op: Literal["inner"] = "inner"
    name: str
    body: dict[str, Any] | None


class SetOutput(_Inside):
    """Set the output."""

    op: Literal["output"] = "output"
    value: Any


class SetTask(_Operation):
    """Set the task, the description or both; null removes one."""

    op: Literal["task"] = "task"
    task: str | None = None
    description: str | None = None


Operation: TypeAlias = (
    AddStep | RemoveStep | ReplaceStep | MoveStep | SetKey | UnsetKey | Rename
    | SetInput | SetType | SetInner | SetOutput | SetTask
)  # fmt: skip
_Every: TypeAlias = Annotated[Operation, Field(discriminator="op")]
_OPERATION: TypeAdapter[Operation] = TypeAdapter(_Every)


class Patch(BaseModel):
    """Operations on a plan, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operations: Annotated[tuple[_Every, ...], Field(strict=False)] = ()

    @classmethod
    def of(cls, given: Patch | Mapping[str, Any] | Sequence[Any]) -> Patch:
        """Return a patch from operations, or from JSON: a list, or an object with `operations`.

        Raises:
            PlanRejected: An operation is none; every fault is named, with its place in the patch.
        """
        if isinstance(given, Patch):
            return given
        listed: object = given.get("operations") if isinstance(given, Mapping) else given
        if not isinstance(listed, list | tuple):
            raise rejected([_fault("$", 'expected a list of operations, or {"operations": [..]}')])
        found: list[Operation] = []
        problems: list[Problem] = []
        for number, each in enumerate(cast("Sequence[object]", listed)):
            try:
                found.append(_OPERATION.validate_python(each))
            except ValidationError as fault:
                problems += _shape_faults(number, fault)
        if problems:
            raise rejected(problems)
        return cls(operations=tuple(found))

    def to_dict(self) -> dict[str, Json]:
        """Return the patch as JSON; `Patch.of` reads it back."""
        return {"operations": [_written(each) for each in self.operations]}


def rejected(problems: Sequence[Problem]) -> PlanRejected:
    """Return the error of a patch that cannot be applied."""
    return PlanRejected(CheckReport(tuple(problems)))


def _fault(path: str, message: str) -> Problem:
    return problem("bad-shape", path, message)


def _shape_faults(number: int, fault: ValidationError) -> list[Problem]:
    found: list[Problem] = []
    for error in fault.errors(include_url=False, include_input=False):
        inside = [str(part) for part in error["loc"][1:]]
        path = ".".join([f"$.operations[{number}]", *inside])
        found.append(_fault(path, f"operation {number}: {error['msg'][:1].lower()}{error['msg'][1:]}"))
    return found


def _written(operation: Operation) -> dict[str, Json]:
    given = operation.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {"op": operation.op, **given}
