"""Laws of the fast path of types: what it takes, the long way takes with the same bytes; and which types have it."""

import datetime as dt
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar, cast

import pytest
from firmplan import ToolError
from firmplan.plans.values import NotJson, canonical, parse_canonical
from firmplan.tools.types.annotated import PythonTypes
from firmplan.tools.types.callables import EMPTY, Annotations, Parameter
from firmplan.tools.types.schemas import SchemaTypes
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    WithJsonSchema,
    computed_field,
    field_validator,
    model_serializer,
    with_config,
)
from typing_extensions import TypedDict

# --- types whose values have a fast path


class Item(TypedDict):
    name: str
    count: int
    price: float


class Options(TypedDict):
    deep: bool
    limit: NotRequired[int | None]


class Row(BaseModel):
    name: str
    count: int = 0
    price: float | None = None


class Told(BaseModel):
    """A model with prose."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="A title")
    name: str = Field(description="A name", examples=["x"])
    kind: Literal["a", 1, True] | None = "a"


class Page(BaseModel):
    rows: list[Row]
    by_name: dict[str, Row] = {}
    first: Row | None = None
    more: Any = None


@dataclass
class Point:
    x: float
    y: float = 0.0
    tags: list[str] = field(default_factory=list)


@dataclass
class Line:
    start: Point
    end: Point | int


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    content: T


FAST = (
    *(int, str, bool, float, None, list[int], dict[str, float], int | None, int | float),
    *(
        list[str | None] | bool,
        dict[str, list[dict[str, int]]],
        Any,
        dict,
        list,
        dict[str, Any],
        Literal[1, "a"],
    ),
    *(Item, Options, list[Item], Row, Told, Page, Row | int, dict[str, Row | None], Point, Line, Box[Item]),
    *(Literal[1] | float, list[int] | list[float], Annotated[int, Field(description="Words alone.")]),
)

# --- types with which pydantic does more than the core schema's plain keys say


class Tree(BaseModel):
    name: str
    parts: list["Tree"] = []


class Short(BaseModel):
    name: Annotated[str, Field(max_length=1)]


class Renamed(BaseModel):
    name: str = Field(alias="other")


class Narrow(BaseModel):
    model_config = ConfigDict(json_schema_extra={"required": ["name", "count"]})
    name: str
    count: int = 0


class NarrowField(BaseModel):
    name: str = Field(json_schema_extra={"maxLength": 1})
    count: Annotated[int, WithJsonSchema({"type": "integer", "maximum": 1})] = 0


class Loud(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def loud(cls, value: str) -> str:
        return value.upper()


class Counted(BaseModel):
    name: str

    @computed_field
    def size(self) -> int:
        return len(self.name)


class Written(BaseModel):
    name: str

    @model_serializer
    def written(self) -> dict[str, Any]:
        return {"name": self.name + "!"}


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


class Tidy(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)
    name: str


class Private(BaseModel):
    name: str
    _seen: int = PrivateAttr(default=3)


class Hidden(BaseModel):
    name: str
    count: int = Field(default=1, exclude=True)


class Names(RootModel[list[str]]):
    pass


@with_config(ConfigDict(str_to_lower=True))
class TidyDict(TypedDict):
    name: str


@dataclass
class Made:
    name: str
    count: int = field(init=False, default=3)


@dataclass
class Changed:
    name: str

    def __post_init__(self) -> None:
        self.name = self.name + "!"


@dataclass(slots=True)
class Slotted:
    name: str


class Colour(enum.Enum):
    RED = "x"


class Level(enum.IntEnum):
    ONE = 1


SLOW = (
    *(
        Tree,
        Short,
        Renamed,
        Narrow,
        NarrowField,
        Loud,
        Counted,
        Written,
        Open,
        Tidy,
        Private,
        Hidden,
        Names,
        TidyDict,
    ),
    *(
        Made,
        Changed,
        Slotted,
        Colour,
        Level,
        dt.date,
        tuple[int, str],
        set[int],
        bytes,
        Annotated[int, Field(gt=1)],
    ),
    *(Item | Options, Row | Told, list[Any] | list[float], Any | float, Row | list[int], Literal[Colour.RED]),
)

# --- values: JSON that comes near to the types, and instances of the classes

NAMES = st.sampled_from(
    ["name", "count", "price", "deep", "limit", "kind", "x", "y", "rows", "start", "end", "other"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.integers(-(2**64), 2**64)
    | st.floats()
    | st.text(st.characters(), max_size=2)
    | st.sampled_from(
        ["\ud800", -0.0, 2.0, 1e300, 1e16, 1e-7, "a", "x", " A ", "2024-02-29", 2**63, b"x", Level.ONE]
    )
)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return dicts and instances whose fields have such values, checked by nobody."""
    texts, numbers = st.sampled_from(["x", "a", "\ud800"]) | inner, st.just(1) | st.just(0.5) | inner
    fitting = st.fixed_dictionaries(
        {"name": texts, "count": numbers, "price": numbers}, optional={"kind": inner, "x": inner}
    )
    points = st.builds(Point, st.just(1.5) | inner, st.just(0.0) | inner, st.lists(texts, max_size=2) | inner)
    rows = st.builds(Row.model_construct, name=texts, count=numbers, price=numbers)
    extra = st.builds(Row.model_construct, name=texts, count=numbers, price=numbers, other=inner)
    pages = st.builds(
        Page.model_construct, rows=st.lists(rows | fitting, max_size=2), first=rows | inner, more=inner
    )
    return (
        fitting
        | st.fixed_dictionaries({"name": texts}, optional={"count": numbers, "other": texts, "kind": inner})
        | st.fixed_dictionaries({"deep": st.booleans()}, optional={"limit": numbers})
        | st.fixed_dictionaries({"x": numbers, "y": numbers, "tags": st.lists(texts, max_size=2)})
        | st.fixed_dictionaries(
            {"rows": st.lists(fitting, max_size=2)}, optional={"first": fitting, "more": inner}
        )
        | st.fixed_dictionaries({"content": fitting})
        | rows
        | extra
        | pages
        | points
        | st.builds(Line, points | inner, points | numbers)
        | st.builds(Told.model_construct, name=texts, kind=inner)
        | st.builds(lambda content: Box[Item].model_construct(content=content), fitting)
        | st.builds(Open, name=st.just("x"), other=inner)
        | st.builds(Slotted, texts)
        | st.builds(Made, texts)
    )


VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        objects(inner)
        | st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(NAMES, inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.dictionaries(st.integers(0, 1), inner, max_size=1)
        | st.frozensets(st.integers(0, 3), max_size=2)
    ),
    max_leaves=6,
)


def types_of(annotation: object, *, is_fast: bool = True) -> PythonTypes:
    """Return the types of a function from one argument of a type to a result of that type."""
    made = PythonTypes("a tool", "f", Annotations((Parameter("x", annotation, EMPTY),), annotation, None))
    if not is_fast:
        made._exact = made._exact_result = None  # pyright: ignore[reportPrivateUsage]  # the long way, to compare with
    return made


def outcome(work: Callable[[], Any]) -> object:
    """Return what came of it, in a form that compares: `1` and `1.0` differ, and so do orders of keys."""
    try:
        return repr(work())
    except ToolError as fault:
        return fault.code, str(fault)


BOTH = [(types_of(each), types_of(each, is_fast=False)) for each in (*FAST, *SLOW)]


@given(value=VALUES)
@example(value={"name": "x", "count": 1, "price": 0.5})
@example(value={"name": "x", "count": 1, "price": 1})
@example(value={"name": "x"})
@example(value=Row(name="x", price=float("nan")))
@example(value=Row(name="x", price=1e16))
@example(value=Page(rows=[Row(name="x")], more=Row(name="y")))
@example(value=Page(rows=[], more={"b": (1, 2), "a": {1}}))
@example(value=Line(Point(1.0), Point(-0.0)))
@example(value=True)
def test_the_short_way_gives_what_the_long_way_gives(value: Any) -> None:
    """Bound arguments, their values, results, and every refusal are the same, for each type."""
    # One value is tried with all types: to draw it takes longer than to try it.
    for annotation, (fast, slow) in zip((*FAST, *SLOW), BOTH, strict=True):
        bound = outcome(partial(fast.bind, {"x": value}))
        assert bound == outcome(partial(slow.bind, {"x": value})), annotation
        assert outcome(partial(fast.seal, value)) == outcome(partial(slow.seal, value)), annotation
        assert outcome(partial(fast.accept, value)) == outcome(partial(slow.accept, value)), annotation
        if isinstance(bound, str):
            args = fast.bind({"x": value})
            assert fast.bind_canonical(args) == slow.bind_canonical(args), annotation
            assert outcome(partial(fast.unpack, args)) == outcome(partial(slow.unpack, args)), annotation


@pytest.mark.parametrize("annotation", FAST, ids=str)
def test_plain_types_have_the_short_way(annotation: object) -> None:
    made = types_of(annotation)
    assert made._exact is not None  # pyright: ignore[reportPrivateUsage]
    assert made._exact_result is not None  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("annotation", SLOW, ids=str)
def test_types_that_pydantic_changes_or_judges_have_no_short_way(annotation: object) -> None:
    made = types_of(annotation)
    assert made._exact is None  # pyright: ignore[reportPrivateUsage]
    assert made._exact_result is None  # pyright: ignore[reportPrivateUsage]


def test_the_arguments_of_the_short_way_belong_to_the_call() -> None:
    """A tool that changes its argument changes neither the next call's nor the bytes."""
    for annotation, value in [
        (Item, {"count": 1, "name": "x", "price": 0.5}),
        (dict[str, Any], {"a": {"b": [1]}}),
    ]:
        types = types_of(annotation)
        args = types.bind({"x": value})
        types.unpack(args)["x"].clear()
        assert types.unpack(args)["x"] == value
        assert value
    types = types_of(Row)
    args = types.bind({"x": {"count": 1, "name": "x", "price": 0.5}})
    types.unpack(args)["x"].name = "y"
    assert types.unpack(args)["x"].name == "x"


def test_a_model_that_iterates_over_something_else_is_a_result() -> None:
    """As pydantic's documentation of root models writes it."""

    class Listed(RootModel[list[str]]):
        def __iter__(self):
            return iter(self.root)

    assert types_of(Listed).seal(Listed(["a", "bc"])) == b'["a","bc"]'


# --- tools whose types are JSON Schemas

SCHEMAS: tuple[dict[str, Any], ...] = (
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
        "required": ["name"],
    },
    {"properties": {"count": {"type": "integer", "default": 3}, "price": {"type": ["number", "null"]}}},
    {
        "properties": {"name": {}},
        "patternProperties": {"^c": {"type": "integer"}},
        "additionalProperties": False,
    },
    {"properties": {"name": {}}, "additionalProperties": {"type": "integer"}, "required": ["price"]},
    {
        "properties": {"name": {"anyOf": [{"type": "integer"}, {"enum": [1.5, "x", True]}]}},
        "maxProperties": 1,
    },
    {
        "properties": {"name": {"$ref": "#/$defs/n"}},
        "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}},
    },
    {},
)


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
@given(value=st.dictionaries(NAMES, VALUES, max_size=3))
@example(value={"name": "x", "count": 2.0})
@example(value={"name": "x", "price": 1})
@example(value={"name": "x", "price": 1e16})
@example(value={"name": "x", "count": 1})
@example(value={"name": [[], [[]]]})
def test_canonical_arguments_are_bound_as_others_are(schema: dict[str, Any], value: dict[str, Any]) -> None:
    """Canonical bytes bind to the same bytes as the value that they spell, or are refused with the same words."""
    types = SchemaTypes("a tool", schema, None, None)
    try:
        args = canonical(value)
    except NotJson:
        return
    bound = outcome(lambda: types.bind(cast("dict[str, Any]", parse_canonical(args))))
    assert outcome(lambda: types.bind_canonical(args)) == bound
    assert outcome(lambda: types.bind_canonical(args, parse_canonical(args))) == bound
