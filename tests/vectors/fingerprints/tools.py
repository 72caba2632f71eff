"""Tools whose fingerprints are written down in `fingerprints.json`: every kind of syntax and of value that code reaches.

Never edited: a line that changes here changes what is written there.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import decimal
import functools
import logging
import operator
import os
import re
import zipfile
from collections import Counter, namedtuple
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, Flag, IntEnum, StrEnum, auto
from functools import cached_property, lru_cache, partial, singledispatch, total_ordering, wraps
from operator import itemgetter
from os.path import normpath
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar

from firmplan import Context, ToolError, tool

T = TypeVar("T")
RATES = {"EUR": decimal.Decimal("1.0"), "USD": decimal.Decimal("1.1")}
WORDS = re.compile(r"(?i)\b\w+\b", re.MULTILINE)
NAMES = frozenset({"a", "b", "ü"})
LOCK = Lock()
LOG = logging.getLogger(__name__)
ROOT = Path("/data")
BY = {"two": lambda row: (row["a"], -row["b"]), "name": itemgetter("a"), "none": lambda _row: None}
Small = Annotated[int, "small"]
Side = Literal["left", "right"]


class Colour(Enum):
    """Colours."""

    RED = 1
    BLUE = "b"

    def mixed(self, other: Colour) -> str:
        return f"{self.name}-{other.value!r:>{10}}"


class Level(IntEnum):
    LOW = auto()
    HIGH = auto()


class Word(StrEnum):
    A = auto()
    B = "x"


class Right(Flag):
    READ = auto()
    WRITE = auto()
    BOTH = READ | WRITE


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Point:
    """A point
    in the plane."""

    x: float = 0.0
    y: float = field(default=1.0, compare=False)
    tags: list[str] = field(default_factory=list)
    kind: ClassVar[str] = "point"

    @property
    def far(self) -> bool:
        return self.x**2 + self.y**2 > 4

    @classmethod
    def of(cls, *values: float) -> Point:
        return cls(**dict(zip(("x", "y"), values, strict=False)))


@total_ordering
class Version:
    __slots__ = ("__hidden", "number")

    def __init__(self, number: int) -> None:
        self.number = self.__hidden = number

    def __lt__(self, other: Version) -> bool:
        return self.number < other.number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)


class Pair(NamedTuple):
    first: int
    second: str = "x"


Made = namedtuple("Made", "a b", defaults=[3])


class Shape(Protocol):
    def area(self) -> float: ...


class Base(abc.ABC, Generic[T]):
    @abc.abstractmethod
    def go(self, value: T) -> T: ...

    @cached_property
    def slow(self) -> int:
        return sum(number for number in range(10) if number % 2)


class Whole(Base[int]):
    table = [left * right for left in range(3) for right in range(3) if left != right]
    look = {key: value for key, value in zip("ab", (1, 2), strict=True)}

    def go(self, value: int) -> int:
        return value + self.slow + len(self.table) + self.look["a"]


def careful(fn: Any) -> Any:
    @wraps(fn)
    def inner(*args: Any, **more: Any) -> Any:
        try:
            return fn(*args, **more)
        except (ValueError, re.error) as fault:
            raise ToolError(str(fault)) from fault

    return inner


def times(count: int) -> Any:
    def decorate(fn: Any) -> Any:
        @wraps(fn)
        def inner(*args: Any, **more: Any) -> Any:
            for _ in range(count):
                found = fn(*args, **more)
            return found

        return inner

    return decorate


@lru_cache(maxsize=None)
def fibonacci(number: int) -> int:
    return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)


@singledispatch
def kind_of(_value: object) -> str:
    return "object"


@kind_of.register
def _(_value: int) -> str:
    return "integer"


@contextlib.contextmanager
def borrowed(value: int) -> Any:
    yield value


double = partial(operator.mul, 2)


class Client:
    def __init__(self, base: str) -> None:
        self.base = base
        self.options = {"a": (1, 2.5, None, True, b"x", 3 + 4j, ...)}

    def get(self, text: str) -> str:
        """Get it."""
        return self.base + text


@tool(effect="pure")
def formats(number: int, width: int = 3) -> str:
    """Write a number in many ways."""
    name = "n"
    text = f"{number!r:>{width}} {number=} {number + 1 = !s:} {{}} {name:x<{width}.{width}}" "tail" rf"\d{number}"
    lines = f"""multi
    {number:,} {
        number
    }"""
    return text + lines + f"{number:}" + f"{number!a}" + f"{(lambda it: it)(number)}" + f"{ {'k': 1}['k'] }end"


@tool(effect="pure")
def comprehensions(rows: list[dict[str, int]]) -> list[int]:
    def inner(upto: int) -> int:
        return sum(upto * each for each in range(upto))

    found = [row["a"] for row in rows if (count := row.get("b")) and any(count > other["a"] for other in rows)]
    tables = {each: [part for part in range(each)] for each in found}
    flat = {part for parts in tables.values() for part in parts}
    late = [lambda: each for each in found]
    return sorted([*map(inner, found), *flat, *(each() for each in late)], key=lambda each: (-each, str(each)))


@tool(effect="pure")
def matches(value: Any) -> Any:
    match value:
        case {"a": int() as number, **rest} if number > 2:
            return [number, rest]
        case [_, *others]:
            return others
        case Point(x=0.0) | Pair(first=1):
            return 1
        case Colour.RED | "x" | None:
            return 2
        case _:
            pass
    try:
        return value["k"]
    except* (KeyError, TypeError) as faults:
        raise ToolError(str(faults.exceptions)) from None
    finally:
        LOG.info("done")


@tool(effect="read", reuse_for="1h")
async def awaits(url: str, *, ctx: Context) -> list[str]:
    async def numbers() -> Any:
        for number in range(3):
            yield number

    async with asyncio.timeout(3), asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))
    LOG.info("%s %s", asyncio.current_task(), ctx.step)
    return [url + str(number) async for number in numbers()]


@tool(effect="read", reuse_for="1h")
def files(path: str) -> str:
    with open(path, encoding="utf-8") as file, LOCK:
        here = Path(path).resolve() / normpath(path) if os.path.islink(path) else ROOT / PurePosixPath(path)
        inside = zipfile.Path(zipfile.ZipFile(path))
        return file.read() + str(here) + str(inside)


@tool(effect="pure")
@careful
def decorated(text: str) -> list[str]:
    """Find words,
    or names."""
    return WORDS.findall(text) or sorted(NAMES)


@tool(effect="pure")
@times(3)
def repeated(number: int) -> int:
    return double(number) + fibonacci(number) + len(kind_of(number))


@tool(effect="pure")
def classes(number: int) -> list[str]:
    with borrowed(number) as got:
        seen = [Whole().go(got), Version(1) < Version(2), Made(1), Pair(1), Right.BOTH, Level.HIGH, Word.A]
    point: Annotated[Point, "here"] = replace(Point.of(1.0), y=2.0)
    return [*map(str, seen), Colour.RED.mixed(Colour.BLUE), str(point.far), str(Counter("aab")["a"])]


@tool(effect="pure")
def numbers(text: str) -> str:
    with decimal.localcontext() as context:
        context.rounding = decimal.ROUND_HALF_UP
        made = decimal.Decimal(text) * RATES["EUR"] + decimal.getcontext().prec
    later = datetime.fromisoformat("2020-01-01").replace(tzinfo=UTC) + timedelta(days=1)
    return f"{made} {later} {functools.reduce(operator.add, [1, 2])} {BY['two']({'a': 1, 'b': 2})} {BY['name']}"


@tool(effect="pure")
def closures(number: int) -> int:
    total = 0

    class Local:
        step = 3

        def go(self) -> int:
            return self.step + number

    def add(more: int) -> None:
        nonlocal total
        total += more

    for each in range(number):
        add(each)
    else:
        add(1)
    while True:
        break
    assert total >= 0, f"bad {total}"
    return total + Local().go() + (lambda *_args, more=1, **_rest: more)(1)


@tool(effect="pure")
def statements(values: list[int]) -> list[Any]:
    first, *others = values
    del values[0]
    first += 1
    values[::2] = []
    small: Small = 3
    side: Side = "left"
    return [first, *others, -small, ~small, side, first if first < 1 <= small != first is not None else 0x10, 1e5, b"x", "é\U0001f600"]


_count = 0
_seen: dict[str, int] = {"start": 1}


@tool(effect="pure")
def remembers(text: str) -> int:
    global _count
    _count += 1
    _seen[text] = _seen.get(text, 0) + 1
    return _seen[text]


def _adder(more: int) -> Any:
    @tool(name=f"add_{more}", effect="pure")
    def made(number: int) -> int:
        return number + more

    return made


add_1, add_2 = _adder(1), _adder(2)
gets = tool(Client("http://x").get, name="gets", effect="pure")
