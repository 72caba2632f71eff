"""Contract, 1: tools as a user writes them: declarations, types, contexts of names, toolsets."""

from __future__ import annotations

import asyncio
import inspect
import sys
import textwrap
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Optional, Union
from uuid import UUID

import firmplan
import pytest
from firmplan import Artifact, ConfigError, Context, Engine, Tool, ToolError, Toolset, agent, check, tool
from public import call, once, plan, within
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

# --- names and defaults


def test_every_name_of_the_contract_imports_from_firmplan():
    """Every name below imports from `firmplan`."""
    names = (
        "tool agent Tool Toolset Context ToolError OutcomeUnknown Artifact check Plan PlanBuilder CheckReport Engine Planner "
        "PlanRejected PlanningFailed InputRejected RunNotFound Diverged StoreError ConfigError FirmplanError EngineBug Run"
    )
    for name in names.split():
        assert hasattr(firmplan, name), name
        assert name in firmplan.__all__, name


def test_the_defaults_of_tool_are_those_of_the_contract():
    """`tool(fn=None, *, name=None, description=None, effect="write", ..)`."""
    expected = {
        "fn": None,
        "name": None,
        "description": None,
        "effect": "write",
        "idempotent": False,
        "reuse_for": None,
        "version": None,
        "timeout": None,
        "retries": 0,
        "retry_on": None,
        "max_concurrency": None,
        "rate": None,
        "approval": None,
        "trust": "trusted",
        "resource": "world",
        "allow_untrusted": (),
        "isolation": "thread",
        "reconcile": None,
        "fingerprint_extra": None,
    }
    found = {name: each.default for name, each in inspect.signature(tool).parameters.items()}
    later = {
        "private": False,
        "readers": (),
        "egress": (),
        "harmless": (),
        "approval_expires": None,
        "guard": (),
    }
    later |= {"results": None, "example": None, "queue": None}
    assert found == expected | later
    assert list(found)[: len(expected)] == list(expected)


def test_the_defaults_of_agent_are_those_of_the_contract():
    """`@agent(model="default", temperature=None, examples=[..], max_tokens=None, guard=[..], retries=2)`."""
    found = {name: each.default for name, each in inspect.signature(agent).parameters.items()}
    assert found["model"] == "default"
    assert found["temperature"] is None
    assert found["max_tokens"] is None
    assert found["retries"] == 2
    assert list(found["examples"]) == []
    assert list(found["guard"]) == []


def test_the_defaults_of_engine_are_those_of_the_contract():
    """`Engine(tools, *, store="firmplan.db", planner=None, models=None, max_concurrency=64, flow="enforce", ..)`."""
    found = {name: each.default for name, each in inspect.signature(Engine).parameters.items()}
    assert {name: found[name] for name in list(found)[1:8]} == {
        "store": "firmplan.db",
        "planner": None,
        "models": None,
        "max_concurrency": 64,
        "flow": "enforce",
        "secrets": None,
        "recover": False,
    }


def test_an_undeclared_effect_is_write():
    """An undeclared effect is `write`."""

    @tool
    def plain() -> None:
        """Do something."""

    @tool()
    def called() -> None:
        """Do something."""

    assert plain.effect == "write"
    assert called.effect == "write"


def test_a_tool_is_called_as_the_function_that_it_was():
    """`@tool` keeps the function usable, sync and async."""

    @tool(effect="pure")
    def add(a: float, b: float = 2) -> float:
        """Add two numbers."""
        return a + b

    @tool(effect="read")
    async def later(a: int) -> int:
        """Wait."""
        return a

    assert add(1, b=3) == 4
    assert add(1) == 3
    assert asyncio.run(later(4)) == 4
    assert add.name == "add"
    assert add.description == "Add two numbers."
    assert add.__name__ == "add"


@pytest.mark.parametrize("name", ["a", "_x", "mail.send", "github-create_issue", "A9", "x" * 128])
def test_a_name_may_hold_dots_and_dashes(name: str, tmp_path: Path):
    """A name is the function's, or any `[A-Za-z_][A-Za-z0-9_.-]{0,127}`."""

    @tool(name=name, effect="pure")
    def one() -> int:
        """Return one."""
        return 1

    assert one.name == name
    assert once([one], plan(call("s", name), output="${s}"), tmp_path / "s.db").output == 1


@pytest.mark.parametrize("name", ["9a", "-a", ".a", "a b", "é", "x" * 129, "a/b", "a\n"])
def test_other_names_are_config_errors(name: str):
    """A name is .. any `[A-Za-z_][A-Za-z0-9_.-]{0,127}`."""
    with pytest.raises(ConfigError):

        @tool(name=name)
        def one() -> int:
            """Return one."""
            return 1


@pytest.mark.parametrize(
    "options",
    [
        {"effect": "reed"},
        {"effect": "read", "reuse_for": "soon"},
        {"timeout": 0},
        {"timeout": -1},
        {"retries": -1},
        {"max_concurrency": 0},
        {"rate": "fast"},
        {"approval": "sometimes"},
        {"trust": "somewhat"},
        {"isolation": "moon"},
        {"allow_untrusted": ("nobody",)},
        {"reconcile": "no function"},
        {"retry_on": "no class"},
    ],
)
def test_a_declaration_that_means_nothing_is_a_config_error(options: dict[str, Any]):
    """`ConfigError`s: a declaration is wrong."""
    with pytest.raises(ConfigError) as caught:

        @tool(**options)
        def one(body: str) -> int:
            """Return one."""
            return 1

    assert caught.value.code == "config-error"


def test_durations_may_be_numbers_texts_or_timedeltas():
    """`reuse_for="1h", timeout=10`; `"forever"` allowed."""
    for given in ("1h", 3600, timedelta(hours=1), "forever", "60 min", "90s", "7d"):

        @tool(effect="read", reuse_for=given, timeout=10)
        def one() -> int:
            """Return one."""
            return 1

        assert isinstance(one, Tool)


# --- types


class Kind(StrEnum):
    BILL = "bill"
    OTHER = "other"


class Level(Enum):
    LOW = 1
    HIGH = 2


class Line(BaseModel):
    what: str
    price: Decimal
    count: int = 1


class Invoice(BaseModel):
    kind: Kind
    lines: list[Line]
    note: str | None = None


@dataclass
class Point:
    x: int
    y: int = 0


class Address(TypedDict):
    street: str
    town: NotRequired[str]


class Pair(NamedTuple):
    left: int
    right: str


@tool(effect="pure")
def every_type(  # noqa: PLR0917  # one of each
    invoice: Invoice,
    point: Point,
    address: Address,
    pair: Pair,
    level: Level,
    when: datetime,
    day: date,
    amount: Decimal,
    where: Path,
    ident: UUID,
    either: Union[int, str],  # noqa: UP007  # as people write it
    maybe: Optional[str],  # noqa: UP045  # as people write it
    choice: Literal["a", "b"],
    couple: tuple[int, str],
    many: tuple[int, ...],
    table: dict[str, list[int]],
    bounded: Annotated[int, Field(ge=0, le=10)],
    anything: Any,
) -> dict[str, Any]:
    """Say what arrived."""
    return {
        "invoice": type(invoice).__name__
        + type(invoice.lines[0].price).__name__
        + type(invoice.kind).__name__,
        "point": point.x + point.y,
        "address": address.get("town", "none"),
        "pair": pair.left,
        "level": level.name,
        "when": when.isoformat(),
        "day": day.isoformat(),
        "amount": str(amount),
        "where": type(where).__name__ in ("PosixPath", "WindowsPath"),
        "ident": isinstance(ident, UUID),
        "either": either,
        "maybe": maybe,
        "choice": choice,
        "couple": isinstance(couple, tuple),
        "many": isinstance(many, tuple),
        "table": table,
        "bounded": bounded,
        "anything": anything,
    }


ARGS: dict[str, Any] = {
    "invoice": {"kind": "bill", "lines": [{"what": "tea", "price": "1.10"}]},
    "point": {"x": 3},
    "address": {"street": "Via"},
    "pair": [1, "r"],
    "level": 2,
    "when": "2026-01-02T03:04:05Z",
    "day": "2026-01-02",
    "amount": "1.50",
    "where": "/tmp/x",
    "ident": "12345678-1234-5678-1234-567812345678",
    "either": "x",
    "maybe": None,
    "choice": "a",
    "couple": [1, "b"],
    "many": [1, 2, 3],
    "table": {"a": [1]},
    "bounded": 3,
    "anything": {"deep": [None, 1.5]},
}


def test_types_are_whatever_pydantic_can_validate(tmp_path: Path):
    """Input and output types come from the annotations (whatever pydantic can validate and serialise to JSON)."""
    run = once([every_type], plan(call("s", "every_type", args=ARGS), output="${s}"), tmp_path / "s.db")
    run.raise_for_status()
    assert run.output == {
        "invoice": "InvoiceDecimalKind",
        "point": 3,
        "address": "none",
        "pair": 1,
        "level": "HIGH",
        "when": "2026-01-02T03:04:05+00:00",
        "day": "2026-01-02",
        "amount": "1.50",
        "where": True,
        "ident": True,
        "either": "x",
        "maybe": None,
        "choice": "a",
        "couple": True,
        "many": True,
        "table": {"a": [1]},
        "bounded": 3,
        "anything": {"deep": [None, 1.5]},
    }


@tool(effect="pure")
def give_model() -> Invoice:
    """Give a model."""
    return Invoice(kind=Kind.OTHER, lines=[Line(what="tea", price=Decimal("2.50"))])


@tool(effect="pure")
def give_dict() -> Invoice:
    """Give a dict for a model."""
    return {"kind": "other", "lines": []}  # type: ignore[return-value]  # people do


@tool(effect="pure")
def give_point() -> Point:
    """Give a dataclass."""
    return Point(1, 2)


@tool(effect="pure")
def give_time() -> datetime:
    """Give a time."""
    return datetime(2026, 1, 2, tzinfo=UTC)


@tool(effect="pure")
def give_path() -> Path:
    """Give a path."""
    return Path("a") / "b"


@tool(effect="pure")
def give_pair() -> tuple[int, str]:
    """Give a tuple."""
    return (1, "a")


@tool(effect="pure")
def give_level() -> Level:
    """Give an enum."""
    return Level.HIGH


@tool(effect="pure")
def give_address() -> Address:
    """Give a typed dict."""
    return {"street": "Via", "town": "Roma"}


@tool(effect="pure")
def give_none() -> None:
    """Give nothing."""


@tool(effect="pure")
def give_union() -> int | Point | None:
    """Give one of several."""
    return Point(5)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            give_model,
            {"kind": "other", "lines": [{"what": "tea", "price": "2.50", "count": 1}], "note": None},
        ),
        (give_dict, {"kind": "other", "lines": [], "note": None}),
        (give_point, {"x": 1, "y": 2}),
        (give_time, "2026-01-02T00:00:00Z"),
        (give_path, "a/b"),
        (give_pair, [1, "a"]),
        (give_level, 2),
        (give_address, {"street": "Via", "town": "Roma"}),
        (give_none, None),
        (give_union, {"x": 5, "y": 0}),
    ],
    ids=lambda value: value.name if isinstance(value, Tool) else "",
)
def test_results_are_serialised_to_json(given: Tool, expected: object, tmp_path: Path):
    """Input and output types come from the annotations (whatever pydantic can .. serialise to JSON)."""
    run = once([given], plan(call("s", given.name), output="${s}"), tmp_path / "s.db")
    run.raise_for_status()
    assert run.output == expected


@tool(effect="pure")
def want_int(n: int) -> int:
    """Take an integer."""
    return n


@tool(effect="pure")
def want_float(x: float) -> str:
    """Take a number."""
    return f"{type(x).__name__} {x}"


@tool(effect="pure")
def want_text(x: str) -> str:
    """Take a text."""
    return x


@tool(effect="pure")
def want_bool(x: bool) -> bool:
    """Take a boolean."""
    return x


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("want_int", "n", "2"),
        ("want_int", "n", True),
        ("want_int", "n", 2.5),
        ("want_int", "n", None),
        ("want_float", "x", "2.0"),
        ("want_float", "x", True),
        ("want_text", "x", 2),
        ("want_bool", "x", 1),
        ("want_bool", "x", "true"),
    ],
)
def test_validation_is_json_schemas(name: str, argument: str, value: object, tmp_path: Path):
    """Validation is JSON Schema's, not pydantic's lax mode: `"2"` is no integer, `true` no number."""
    tools = Toolset([want_int, want_float, want_text, want_bool])
    report = check(plan(call("s", name, args={argument: value})), tools)
    assert not report.ok
    assert [each.code for each in report.problems if each.severity == "error"] == ["bad-literal"]
    free = plan(
        {"id": "v", "tool": "loose", "args": {"x": value}},
        call("s", name, args={argument: "${v}"}),
    )

    @tool(effect="pure")
    def loose(x: Any) -> Any:
        """Return it."""
        return x

    run = once([*tools, loose], free, tmp_path / "s.db")
    assert run.status == "failed"
    assert run.steps["s"].status == "failed"
    assert run.errors[0].step == "s"


def test_an_integer_fits_a_number_and_an_integral_float_an_integer(tmp_path: Path):
    """An integer fits a number; an integral float where an integer is wanted becomes one."""
    run = once(
        [want_int, want_float],
        plan(
            call("i", "want_int", args={"n": 4.0}),
            call("f", "want_float", args={"x": 4}),
            call("g", "want_int", args={"n": "${8 / 2}"}),
            output=["${i}", "${f}", "${g}"],
        ),
        tmp_path / "s.db",
    )
    run.raise_for_status()
    assert run.output == [4, "float 4.0", 4]
    assert [type(value) for value in run.output] == [int, str, int]


def test_results_are_validated_after_the_call(tmp_path: Path):
    """Arguments are validated .. before the call .., results after it."""

    @tool(effect="pure")
    def lie() -> int:
        """Lie."""
        return "two"  # type: ignore[return-value]  # what is tested

    run = once([lie], plan(call("s", "lie")), tmp_path / "s.db")
    assert run.status == "failed"
    assert [error.step for error in run.errors] == ["s"]
    assert "integer" in run.errors[0].message


def test_a_missing_annotation_is_a_config_error():
    """Input and output types come from the annotations."""
    with pytest.raises(ConfigError, match="annotation"):

        @tool
        def f(a) -> int:  # type: ignore[no-untyped-def]  # what is tested
            """Take anything."""
            return 1


def test_a_tool_that_mutates_its_input_changes_nothing_stored(tmp_path: Path):
    """Values handed to tools are the tool's own."""

    @tool(effect="pure")
    def make() -> list[int]:
        """Make."""
        return [3, 1, 2]

    @tool(effect="pure")
    def spoil(xs: list[int]) -> int:
        """Sort in place."""
        xs.sort()
        xs.append(9)
        return len(xs)

    @tool(effect="pure")
    def look(xs: list[int]) -> list[int]:
        """Look."""
        return xs

    run = once(
        [make, spoil, look],
        plan(
            call("m", "make"),
            call("s", "spoil", args={"xs": "${m}"}),
            call("l", "look", args={"xs": "${m}"}, after=["s"]),
            output=["${m}", "${l}", "${s}"],
        ),
        tmp_path / "s.db",
    )
    assert run.output == [[3, 1, 2], [3, 1, 2], 4]


# --- from_callable


def shout(text, times=1):  # no usable annotations: what is tested
    return text.upper() * times


def test_from_callable_wraps_a_function_without_annotations(tmp_path: Path):
    """`Tool.from_callable(fn, *, name, parameters=.., returns=.., effect=.., ...)` .. calls it by keyword."""
    parameters: Any = {
        "type": "object",
        "properties": {"text": {"type": "string"}, "times": {"type": "integer"}},
        "required": ["text"],
    }
    made = Tool.from_callable(
        shout, name="shout.loud", parameters=parameters, returns={"type": "string"}, effect="pure"
    )
    assert made.name == "shout.loud"
    assert made.effect == "pure"
    steps = plan(call("s", "shout.loud", args={"text": "a", "times": 2}), output="${s}")
    assert once([made], steps, tmp_path / "s.db").output == "AA"
    assert not check(plan(call("s", "shout.loud", args={"text": 3})), [made]).ok


def test_from_callable_without_returns_gives_anything(tmp_path: Path):
    """(`returns=None`: anything, warned of as `unchecked-type`)."""
    parameters: Any = {"type": "object", "properties": {}}
    made = Tool.from_callable(lambda: {"a": [1]}, name="free", parameters=parameters, effect="pure")
    source = plan(call("s", "free"), call("t", "want_int", args={"n": "${s.a[0]}"}), output="${t}")
    report = check(source, [made, want_int])
    assert report.ok
    assert "unchecked-type" in [each.code for each in report.problems]
    assert once([made, want_int], source, tmp_path / "s.db").output == 1


def test_from_callable_takes_async_functions_and_defaults_to_write():
    """`Tool.from_callable(fn, *, name, parameters, returns, effect=.., ...)`."""

    async def go(n):  # what is tested
        return n

    made = Tool.from_callable(
        go, name="go", parameters={"type": "object", "properties": {"n": {}}, "required": ["n"]}
    )
    assert made.effect == "write"
    assert made.is_async


# --- toolsets


def test_a_toolset_knows_its_tools_by_sorted_names():
    """`Toolset([...])`, `a + b`, `.get(name)`, `.names` (sorted)."""
    a, b = Toolset([want_text, want_bool]), Toolset([want_float])
    both = a + b
    assert list(both.names) == ["want_bool", "want_float", "want_text"]
    assert both.get("want_bool") is want_bool
    assert list(a.names) == ["want_bool", "want_text"]
    assert (a + [want_int]).get("want_int") is want_int  # noqa: RUF005  # what is tested
    with pytest.raises(ConfigError, match="want_float"):
        both.get("want_flaot")


def test_two_tools_of_one_name_are_a_config_error():
    """`Toolset([...])`: by name."""

    @tool(name="want_int")
    def other() -> int:
        """Return one."""
        return 1

    with pytest.raises(ConfigError, match="want_int"):
        Toolset([want_int, other])
    with pytest.raises(ConfigError, match="want_int"):
        Toolset([want_int]) + Toolset([other])


TOOLS_FILE = '''
"""Tools of a project."""
from dataclasses import dataclass

from firmplan import Context, tool
from helper_of_blackbox import RATE


@dataclass
class Money:
    amount: float
    currency: str = "EUR"


@tool(effect="pure")
def convert(money: Money) -> Money:
    """Convert money."""
    return Money(money.amount * RATE, "USD")


@tool(effect="read", reuse_for="1h")
async def where(*, ctx: Context) -> str:
    """Say where this runs."""
    return ctx.step


def no_tool() -> int:
    return 1
'''


def test_a_toolset_loads_from_a_file(tmp_path: Path):
    """`Toolset.load("tools.py" | "package.module" | [..])`."""
    (tmp_path / "helper_of_blackbox.py").write_text("RATE = 2.0\n")
    (tmp_path / "tools.py").write_text(TOOLS_FILE)
    tools = Toolset.load(str(tmp_path / "tools.py"))
    assert list(tools.names) == ["convert", "where"]
    steps = plan(
        call("c", "convert", args={"money": {"amount": 2}}), call("w", "where"), output=["${c}", "${w}"]
    )
    assert once(tools, steps, tmp_path / "s.db").output == [{"amount": 4.0, "currency": "USD"}, "w"]
    assert list(Toolset.load(tmp_path / "tools.py").names) == ["convert", "where"]


def test_a_toolset_loads_from_modules_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`Toolset.load("tools.py" | "package.module" | [..])`."""
    package = tmp_path / "shop_of_blackbox"
    package.mkdir()
    (package / "__init__.py").write_text("")
    source = 'from firmplan import tool\n\n@tool(effect="pure")\ndef price() -> int:\n    """Say."""\n    return 3\n'
    (package / "prices.py").write_text(source)
    (tmp_path / "more.py").write_text(source.replace("price", "weight"))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert list(Toolset.load("shop_of_blackbox.prices").names) == ["price"]
    both = Toolset.load(["shop_of_blackbox.prices", str(tmp_path / "more.py")])
    assert list(both.names) == ["price", "weight"]
    sys.modules.pop("shop_of_blackbox.prices", None)


def test_a_source_that_is_missing_or_broken_is_a_config_error(tmp_path: Path):
    """`ConfigError`s with a stable `.code`."""
    with pytest.raises(ConfigError):
        Toolset.load(str(tmp_path / "none.py"))
    with pytest.raises(ConfigError):
        Toolset.load("no_such_package_of_blackbox.tools")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        Toolset.load(str(tmp_path / "broken.py"))


def test_wherever_a_toolset_is_wanted_a_list_will_do(tmp_path: Path):
    """Wherever a toolset is wanted, a list of tools will do."""
    steps = plan(call("s", "want_int", args={"n": 1}), output="${s}")
    assert check(steps, [want_int]).ok
    assert once([want_int], steps, tmp_path / "s.db").output == 1
    assert once((want_int,), steps, tmp_path / "t.db").output == 1


# --- fingerprints


def _fingerprint(source: str, folder: Path, name: str = "f") -> str | None:
    path = folder / "prints.py"
    path.write_text(textwrap.dedent(source))
    return Toolset.load(str(path)).get(name).fingerprint


BASE = '''
from firmplan import tool

RATE = 2

def helper(x: int) -> int:
    return x * RATE

@tool(effect="pure")
def f(x: int) -> int:
    """Compute."""
    return helper(x) + 1
'''


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ("return helper(x) + 1", "return helper(x) + 1  # a comment", False),
        ('"""Compute."""', '"""Compute, in other words."""', False),
        ("\n\ndef helper", "\n\n\n\n\ndef helper", False),
        ("return helper(x) + 1", "return helper(x) + 2", True),
        ("return x * RATE", "return x + RATE", True),
        ("RATE = 2", "RATE = 3", True),
        ("def f(x: int) -> int", "def f(x: int) -> float", True),
        ('effect="pure"', 'effect="pure", version="2"', True),
        ('effect="pure"', 'effect="pure", fingerprint_extra={"a": 1}', True),
    ],
)
def test_a_fingerprint_covers_what_decides_a_call(old: str, new: str, differs: bool, tmp_path: Path):
    """`tool.fingerprint`: A comment changes nothing; a changed helper does."""
    first = _fingerprint(BASE, tmp_path)
    assert first is not None
    assert old in BASE
    assert (_fingerprint(BASE.replace(old, new), tmp_path) != first) is differs


# --- artifacts


def test_an_artifact_is_bytes_by_digest(tmp_path: Path):
    """Bytes and files are `Artifact(digest, media_type, size, name)`; their bytes live in the store."""

    @tool(effect="read")
    def write_report(text: str, *, ctx: Context) -> Artifact:
        """Make a file."""
        return ctx.save(text.encode(), media_type="text/plain", name="report.txt")

    @tool(effect="read")
    def read_report(file: Artifact, *, ctx: Context) -> str:
        """Read a file."""
        return ctx.open(file).decode() + f" {file.size} {file.media_type} {file.name}"

    steps = plan(
        call("w", "write_report", args={"text": "hello"}),
        call("r", "read_report", args={"file": "${w}"}),
        output=["${w.digest}", "${r}"],
    )
    run = once([write_report, read_report], steps, tmp_path / "s.db")
    run.raise_for_status()
    assert run.output == [
        "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "hello 5 text/plain report.txt",
    ]
    assert b"hello" not in (tmp_path / "other.db").read_bytes() if (tmp_path / "other.db").exists() else True


def test_the_bytes_of_an_artifact_outlive_the_engine(tmp_path: Path):
    """.. their bytes live in the store."""
    made: list[Artifact] = []

    @tool(effect="write")
    def write_report(*, ctx: Context) -> Artifact:
        """Make a file."""
        made.append(ctx.save(b"\x00\xff" * 100_000, name="big.bin"))
        return made[-1]

    @tool(effect="read")
    def size(file: Artifact, *, ctx: Context) -> int:
        """Count."""
        return len(ctx.open(file))

    once([write_report], plan(call("w", "write_report")), tmp_path / "s.db").raise_for_status()
    steps = plan(
        call("r", "size", args={"file": "${inputs.file}"}),
        inputs={"file": {"type": "object", "additionalProperties": True}},
        output="${r}",
    )
    run = once([size], steps, tmp_path / "s.db", inputs={"file": made[0].model_dump()})
    run.raise_for_status()
    assert run.output == 200_000


def test_an_unknown_artifact_fails_the_step(tmp_path: Path):
    """Bytes .. live in the store."""

    @tool(effect="read")
    def size(*, ctx: Context) -> int:
        """Count."""
        return len(ctx.open(Artifact(digest="sha256:" + "0" * 64, size=1)))

    run = once([size], plan(call("r", "size")), tmp_path / "s.db")
    assert run.status == "failed"


# --- sync and async


def test_async_functions_run_on_the_loop_and_others_beside_it(tmp_path: Path):
    """Async functions run on the loop; `isolation="thread"` is a thread, `"inline"` the loop itself."""
    import threading

    @tool(effect="read")
    async def on_loop() -> int:
        """Say which thread."""
        return threading.get_ident()

    @tool(effect="read")
    def beside() -> int:
        """Say which thread."""
        return threading.get_ident()

    @tool(effect="read", isolation="inline")
    def inline() -> int:
        """Say which thread."""
        return threading.get_ident()

    async def go() -> None:
        async with Engine([on_loop, beside, inline], store=tmp_path / "s.db") as engine:
            run = await engine.run(
                plan(
                    call("a", "on_loop"),
                    call("b", "beside"),
                    call("c", "inline"),
                    output=["${a}", "${b}", "${c}"],
                )
            )
        own = threading.get_ident()
        assert run.output[0] == own
        assert run.output[1] != own
        assert run.output[2] == own

    within(go())


def test_a_method_of_an_instance_is_a_tool(tmp_path: Path):
    """Tools as users write them: a bound method."""

    class Shop:
        def __init__(self, rate: int) -> None:
            self.rate = rate

        @tool(effect="pure")
        def price(self, n: int) -> int:
            """Say the price."""
            return self.rate * n

    shop = Shop(3)
    assert (
        once([shop.price], plan(call("s", "price", args={"n": 2}), output="${s}"), tmp_path / "s.db").output
        == 6
    )


def test_tool_error_carries_code_and_temporary():
    """`ToolError(message, *, code=None, temporary=False)`."""
    error = ToolError("no", code="x", temporary=True)
    assert (str(error), error.code, error.temporary) == ("no", "x", True)
    plain = ToolError("no")
    assert plain.temporary is False
    assert plain.code
