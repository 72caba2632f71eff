"""Docstrings that decide a result: those that code hands to somebody who may read them.

A docstring is no code. But libraries that speak to models send docstrings along: of classes that say what an answer looks like, of
functions that are offered as tools. So the docstrings of what is handed to installed code, or to what nobody here knows, count,
those of functions that installed code has decorated, of classes that extend its classes, and of all classes where code
asks a type for its schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import cleandoc
from types import FunctionType, ModuleType

from .decorators import ABSENT, Find
from .names import Path, Reading
from .revealing import reads_docstrings

_SELF = frozenset({"self", "cls"})


class Docstrings:
    """The functions and classes of one portrait whose docstrings count."""

    def __init__(self) -> None:
        self._handed: dict[int, FunctionType | type] = {}
        self._drawn: dict[str, FunctionType | type] = {}
        self._tells_types = False

    def drawn(self, code: FunctionType | type, name: str) -> None:
        """Take note that a function or class is a part, by that name."""
        self._drawn[name] = code
        if isinstance(code, type) and any(reads_docstrings(each) for each in (type(code), *code.__mro__)):
            self.count(code)

    def count(self, code: FunctionType | type) -> None:
        """Let the docstring of a function or class count."""
        self._handed[id(code)] = code

    def look(self, reading: Reading, find: Find) -> None:
        """Take note of what code hands to whom."""
        self._tells_types = self._tells_types or reading.tells_types
        for name, chains in reading.handed.items():
            to = find(name) if name else ABSENT
            if name in _SELF or not (to is ABSENT or reads_docstrings(to)):
                continue
            for chain in chains:
                code = _reached(find, chain)
                if isinstance(code, FunctionType | type):
                    self.count(code)
                    self._tells_types = self._tells_types or isinstance(code, type)

    def parts(self, digest: Callable[[str], str]) -> Mapping[str, str]:
        """Return the docstrings that count, as parts."""
        found = {
            f"docstring of {name}": code.__doc__
            for name, code in self._drawn.items()
            if id(code) in self._handed or (self._tells_types and isinstance(code, type))
        }
        # Since Python 3.13 the indentation is gone before anyone can read it.
        return {name: digest(cleandoc(text)) for name, text in found.items() if text}


def _reached(find: Find, chain: Path) -> object:
    """Return what a chain of attributes leads to, as far as that is looked up in modules."""
    value = find(chain[0])
    for attribute in chain[1:]:
        if not isinstance(value, ModuleType):
            return ABSENT
        value = vars(value).get(attribute, ABSENT)
    return value
