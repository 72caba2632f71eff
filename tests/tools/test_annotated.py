"""Laws of a tool's types: JSON Schema's strictness, one normal form of arguments and results, fresh values for every call."""

import datetime as dt
import enum
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NotRequired

import pytest
from firmplan import ConfigError, Context, Tool, ToolError, tool
from firmplan.plans.values import canonical, parse_canonical
from pydantic import BaseModel, Field
from typing_extensions import TypedDict


class Page(BaseModel):
    title: str
    size: int = 0


@dataclass
class Point:
    x: float
    y: float = 0.0


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Options(TypedDict):
    deep: bool
    limit: NotRequired[int]


def of(annotation: Any, default: Any = ...) -> Tool:
    """Return a tool with one argument and a result of that type."""

    def same(x):
        return x

    same.__annotations__ = {"x": annotation, "return": annotation}
    if default is not ...:
        same.__defaults__ = (default,)
    return tool(same)


def bound(made: Tool, value: Any) -> Any:
    return parse_canonical(made.bind({"x": value}))["x"]


FITS = [
    (int, 3, 3),
    (int, 3.0, 3),
    (float, 3, 3.0),
    (float, 2.5, 2.5),
    (str, "2", "2"),
    (bool, True, True),
    (list[int], [1, 2.0], [1, 2]),
    (dict[str, int], {"a": 1.0}, {"a": 1}),
    (int | str, 2.0, 2),
    (int | None, None, None),
    (Literal["a", 1], 1, 1),
    (Colour, "red", "red"),
    (dt.date, "2024-02-29", "2024-02-29"),
    (Page, {"title": "t"}, {"title": "t", "size": 0}),
    (Page, {"title": "t", "size": 4.0}, {"title": "t", "size": 4}),
    (Point, {"x": 1}, {"x": 1.0, "y": 0.0}),
    (Options, {"deep": True}, {"deep": True}),
    (tuple[int, str], [1, "a"], [1, "a"]),
    (Annotated[int, Field(gt=2)], 3, 3),
    (Any, {"a": [1, None]}, {"a": [1, None]}),
    (set[int], [3, 1, 2], [1, 2, 3]),
]


@pytest.mark.parametrize(("annotation", "given", "expected"), FITS)
def test_what_fits_is_normalised(annotation, given, expected):
    """What JSON Schema accepts is bound; integral floats become integers, integers numbers, defaults are filled in."""
    assert canonical(bound(of(annotation), given)) == canonical(expected)


REFUSED = [
    (int, "2"),
    (int, True),
    (int, 2.5),
    (int, None),
    (float, "2.5"),
    (float, True),
    (float, False),
    (str, 2),
    (bool, 1),
    (bool, "true"),
    (list[int], ["1"]),
    (list[int], {"a": 1}),
    (dict[str, int], {"a": "1"}),
    (Literal[1], True),
    (Literal["a"], "b"),
    (Colour, "green"),
    (dt.date, "yesterday"),
    (Page, {"size": 1}),
    (Page, {"title": 1}),
    (Point, {"x": "1"}),
    (Annotated[int, Field(gt=2)], 2),
    (tuple[int, str], [1]),
]


@pytest.mark.parametrize(("annotation", "given"), REFUSED)
def test_what_does_not_fit_is_refused(annotation, given):
    """Text is no number, `true` is no number, nothing is repaired; the message names tool and argument."""
    with pytest.raises(ToolError) as raised:
        of(annotation).bind({"x": given})
    assert raised.value.code == "bad-args"
    assert "tool 'same'" in str(raised.value)
    assert "$.x" in str(raised.value)


@pytest.mark.parametrize(("annotation", "given"), REFUSED)
def test_results_are_held_to_the_same_rules(annotation, given):
    """A result that its annotation forbids fails the call."""
    with pytest.raises(ToolError) as raised:
        of(annotation).seal(given)
    assert raised.value.code == "bad-result"


@pytest.mark.parametrize(("annotation", "given", "expected"), FITS)
def test_results_are_normalised_likewise(annotation, given, expected):
    """A result leaves as its type writes it."""
    if annotation != set[int]:
        assert of(annotation).seal(given) == canonical(expected)


def test_results_may_be_objects():
    """Models, dataclasses, enums, dates and sets leave as JSON."""
    assert of(Page).seal(Page(title="t")) == b'{"size":0,"title":"t"}'
    assert of(Point).seal(Point(1, 2)) == b'{"x":1.0,"y":2.0}'
    assert of(Colour).seal(Colour.RED) == b'"red"'
    assert of(list[dt.date]).seal([dt.date(2024, 1, 2)]) == b'["2024-01-02"]'
    assert of(set[str]).seal({"b", "a"}) == b'["a","b"]'


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, Page, object(), 2**70, "\ud800"])
def test_what_is_not_json_is_refused_with_its_place(value):
    """NaN, sets, classes, integers past 64 bits and lone surrogates fail the call, with the place."""
    with pytest.raises(ToolError) as raised:
        of(Any).seal({"a": [value]})
    assert raised.value.code == "bad-result"
    assert "$" in str(raised.value)


def test_missing_and_unknown_arguments_are_named():
    """All argument faults are told at once, with the nearest name."""

    @tool
    def send(recipient: str, body: str, *, urgent: bool = False) -> None:
        """Send."""

    with pytest.raises(ToolError) as raised:
        send.bind({"recipent": "a", "body": "b"})
    assert "argument 'recipient': expected a value" in str(raised.value)
    assert "did you mean 'recipient'" in str(raised.value)
    assert parse_canonical(send.bind({"recipient": "a", "body": "b"})) == {
        "recipient": "a",
        "body": "b",
        "urgent": False,
    }


def test_equal_calls_have_equal_bytes():
    """Order of arguments, spelled-out defaults and integral floats do not tell calls apart."""

    @tool
    def find(text: str, limit: int = 10, tags: frozenset[str] = frozenset()) -> list[str]:
        """Find."""
        return []

    same = {
        find.bind({"text": "a"}),
        find.bind({"limit": 10, "text": "a"}),
        find.bind({"limit": 10.0, "text": "a", "tags": []}),
    }
    assert len(same) == 1
    assert find.bind({"text": "a", "tags": ["y", "x"]}) == find.bind({"text": "a", "tags": ["x", "y"]})


def test_every_call_gets_values_of_its_own():
    """A tool that changes what it was handed changes nothing else."""

    @tool
    def spoil(items: list[int]) -> int:
        items.append(1)
        return len(items)

    args = spoil.bind({"items": [1]})
    assert [spoil.invoke(args, Context()) for _ in range(3)] == [2, 2, 2]


def test_schemas_are_self_contained():
    """Parameters are an object with a property for each argument; models are under `$defs`; the context is not there."""

    @tool
    def fetch(url: str, page: Page, *, ctx: Context) -> list[Page]:
        """Fetch."""
        return [page]

    assert list(fetch.parameters["properties"]) == ["url", "page"]
    assert fetch.parameters["required"] == ["url", "page"]
    assert fetch.parameters["additionalProperties"] is False
    assert "Page" in fetch.parameters["$defs"]
    assert fetch.returns["type"] == "array"
    assert "ctx" not in str(fetch.parameters)


def test_a_result_of_any_type_has_no_schema():
    """`-> Any` says nothing, and so does `returns`."""
    assert of(Any).returns is None
    assert of(None).seal(None) == b"null"


class TestSchemas:
    """Tools of functions without annotations."""

    PARAMETERS: ClassVar = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "s": {"type": "string", "default": "a"}},
        "required": ["n"],
    }

    def test_from_callable_calls_by_keyword(self):
        made = Tool.from_callable(
            lambda n, s: {"n": n, "s": s}, name="x", parameters=self.PARAMETERS, effect="pure"
        )
        args = made.bind({"n": 2.0})
        assert args == b'{"n":2,"s":"a"}'
        assert made.invoke(args, Context()) == {"n": 2, "s": "a"}
        assert made.returns is None

    def test_from_callable_checks_results(self):
        made = Tool.from_callable(
            lambda n, s: n, name="x", parameters=self.PARAMETERS, returns={"type": "integer"}
        )
        assert made.seal(3.0) == b"3"
        with pytest.raises(ToolError, match='expected integer, found "2"'):
            made.seal("2")

    @pytest.mark.parametrize(
        "given", [{"n": "2"}, {"n": True}, {"n": 2.5}, {}, {"n": 1, "t": 1}, {"n": 1, "s": 2}]
    )
    def test_from_callable_is_as_strict(self, given):
        made = Tool.from_callable(lambda n, s: n, name="x", parameters=self.PARAMETERS)
        with pytest.raises(ToolError) as raised:
            made.bind(given)
        assert raised.value.code == "bad-args"

    def test_from_callable_injects_the_context(self):
        def given(n, s, ctx: Context):
            return ctx.step

        made = Tool.from_callable(given, name="x", parameters=self.PARAMETERS)
        assert made.invoke(made.bind({"n": 1}), Context(step="here")) == "here"

    @pytest.mark.parametrize(
        ("parameters", "words"),
        [
            ({"type": "array"}, "found type 'array'"),
            ({"properties": {"m": {}}}, "found 'm'"),
            ({"properties": {"n": {}}}, "needs 's'"),
            ({"properties": {"n": {"type": "whole"}, "s": {}}}, "valid JSON Schema"),
            ({"properties": {"n": {"$ref": "http://example.org/x"}, "s": {}}}, "JSON Schema"),
            ([], "JSON Schema object"),
        ],
    )
    def test_schemas_that_cannot_be(self, parameters, words):
        with pytest.raises(ConfigError) as raised:
            Tool.from_callable(lambda n, s: n, name="x", parameters=parameters)
        assert words in str(raised.value)


def test_annotations_that_are_missing_are_named():
    """A tool without annotations is refused where it is declared, with what to write."""
    with pytest.raises(ConfigError, match="parameter 'x' has no annotation"):

        @tool
        def f(x):
            """F."""

    with pytest.raises(ConfigError, match="the result has no annotation"):

        @tool
        def g(x: int):
            """G."""


def test_types_that_json_cannot_carry_are_named():
    """Which part, what stands there, and what can be."""
    import threading

    with pytest.raises(ConfigError, match="parameter 'x': expected a type that JSON can carry"):
        of(threading.Thread)
    with pytest.raises(ConfigError, match="expected a default that fits"):
        of(int, "x")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def f(*a: int) -> int: ...", "`*a`"),
        ("def f(**k: int) -> int: ...", "`**k`"),
        ("def f(a: int, /) -> int: ...", "positional-only"),
        ("def f() -> int:\n  yield 1", "generator"),
        ("def f(a: Context, b: Context) -> int: ...", "one parameter annotated Context"),
        ("class f: ...", "expected a function"),
        ("f = staticmethod(len)", "staticmethod"),
        ("@tool\ndef f() -> int: ...", "a tool already"),
        ("f = 3", "expected a function, found 3"),
    ],
)
def test_signatures_that_plans_cannot_call(source, words):
    """Each gets one message that says what to write instead."""
    scope = {"tool": tool, "Context": Context}
    exec(source, scope)
    with pytest.raises(ConfigError) as raised:
        tool(scope["f"])
    assert words in str(raised.value)


def test_a_class_defined_further_down_is_found_later():
    """An annotation may name what is defined after the tool."""
    scope = {"tool": tool, "__name__": __name__}
    exec("from __future__ import annotations\n@tool\ndef f(x: Later) -> int:\n    return x.n\n", scope)
    with pytest.raises(ConfigError, match="'Later', which is not defined"):
        _ = scope["f"].types
