"""Three tools with few, fixed answers: populations, a small encyclopaedia, and a calculator."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from firmplan import tool

CITIES: Final = {
    "rome": ("Italy", 2_748_109),
    "oslo": ("Norway", 717_710),
    "bern": ("Switzerland", 134_591),
    "lyon": ("France", 522_250),
    "turin": ("Italy", 841_600),
}

PAGES: Final = (
    (
        "The bicycle",
        "In 1817 Karl Drais rode a wooden machine with two wheels through Mannheim. Pedals came in the 1860s, and tyres with air in 1888.",
    ),
    (
        "Volcanoes of Iceland",
        "Iceland has some thirty active volcanoes. Katla lies under a glacier, and Hekla has erupted more than twenty times since 874.",
    ),
    ("Tea", "Tea came to Europe in 1610 with Dutch ships. Most of it grows in China, India and Kenya."),
)

_OPERATIONS: Final[dict[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True, slots=True)
class City:
    """A city."""

    name: str
    country: str
    population: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the encyclopaedia."""

    title: str
    text: str


@tool(effect="read")
def city(name: str) -> City:
    """Country and population of a city."""
    country, population = CITIES[name.strip().casefold()]
    return City(name, country, population)


@tool(effect="read")
def search(query: str) -> list[Page]:
    """Pages of an encyclopaedia about a subject, the best first."""
    words = {word.rstrip("s") for word in query.casefold().split()}

    def hits(page: tuple[str, str]) -> int:
        return sum(word.strip(".,").rstrip("s") in words for word in " ".join(page).casefold().split())

    return [Page(*page) for page in sorted(PAGES, key=hits, reverse=True) if hits(page)]


@tool(effect="pure")
def calculate(expression: str) -> float:
    """The value of an arithmetic expression, such as `2 * (3 + 4)`."""
    return _value(ast.parse(expression, mode="eval").body)


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(int() | float() as number):
            return number
        case ast.BinOp(left, by, right) if type(by) in _OPERATIONS:
            return _OPERATIONS[type(by)](_value(left), _value(right))
        case ast.UnaryOp(ast.USub(), of):
            return -_value(of)
        case _:
            raise ValueError("expected numbers, + - * / and parentheses")
