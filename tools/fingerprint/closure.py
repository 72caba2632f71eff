"""Draw all code and values that decide what a function does, as named parts.

Starting from one function, the walk follows the names that the code reads: to project functions and classes, through
module attributes, closures, partials, bound methods, decorators that keep `__wrapped__`, base classes and
annotations; to constants, by value. The standard library counts by name, installed code by name and version. A part
is named as people name it (`function parse_price`, `constant RATES`), never by file or line, so that moving code
changes nothing. What cannot be seen is said in `unseen`: fail closed.

Parts hold digests, so that no constant (which may be a secret) is written into a journal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from inspect import cleandoc
from types import FunctionType, ModuleType
from typing import Any

from pydantic import BaseModel

from .attributes import (
    MARKS,
    bound_in,
    declared_values,
    defaults_of,
    file_of,
    functions_in,
    held_values,
    is_written,
    methods_of,
)
from .constants import Spelling, Unseen
from .mutable_state import changes_in, settled
from .names import Path, Reading, read_names
from .opaque_calls import reads_docstrings
from .references import ProjectReferences, captured
from .resolution import Edges, Scope, spoken_names
from .syntax import (
    ABSENT,
    Find,
    NoSource,
    class_nodes,
    function_node,
    spelled,
    texts_in,
    without_own,
    words_in,
)

PARTS_MAX = 20_000  # functions, classes and values of one tool: more is a whole program, and the walk says so


@dataclass
class Portrait:
    """What has been seen.

    Attributes:
        parts: Name -> digest; equal digests mean equal behaviour.
        versions: Distribution -> version.
        unseen: What could not be seen, each as a sentence.
        functions: The functions that were reached, in the order in which they were.
    """

    parts: dict[str, str] = field(default_factory=dict[str, str])
    versions: dict[str, str] = field(default_factory=dict[str, str])
    unseen: dict[str, None] = field(default_factory=dict[str, None])
    functions: list[FunctionType] = field(default_factory=list[FunctionType])


def draw(
    source: object | None, annotations: Mapping[str, object], influences: tuple[object, ...] = ()
) -> Portrait:
    """Return the portrait of a callable.

    Args:
        source: A function, method, partial or callable object; `None`: there is none, only types and influences.
        annotations: Its resolved types by parameter, `return` included: classes that only they name count too.
        influences: Further values and functions that decide a result.
    """
    walk = _Walk()
    if source is not None:
        walk.constant("entry", "", settled(source))
    if annotations:
        walk.constant("types", "", dict(annotations))
    if influences:
        walk.constant("influences", "", influences)
    walk.finish()
    return walk.portrait


class _Walk:
    """One walk. Functions and classes wait in a queue, so that long chains of calls need no deep stack."""

    def __init__(self) -> None:
        self.portrait = Portrait()
        self.references = ProjectReferences(self.portrait.versions)
        self._docstrings = Docstrings()
        self._constants: dict[tuple[str, str], str] = {}

    def finish(self) -> None:
        """Draw everything that was referred to."""
        while self.references.waiting:
            if len(self.references) > PARTS_MAX:
                self.unseen(f"it reaches more than {PARTS_MAX} functions and classes")
                break
            value, name = self.references.waiting.popleft()
            self._docstrings.drawn(value, name)
            try:
                if isinstance(value, type):
                    self._draw_class(value, name)
                else:
                    self._draw_function(value, name)
            except Exception as fault:  # noqa: BLE001  # proxies and lazy objects raise anything when looked at
                self.unseen(f"{name} reads what cannot be looked at ({type(fault).__name__}: {fault})")
        for code in self.references.shown:
            self._docstrings.count(code)
        self.portrait.parts |= self._docstrings.parts(_digest)

    def constant(self, kind: str, name: str, value: object, owner: str = "it") -> str:
        """Return how a value that code reads is referred to; values that say more than a name become a part."""
        try:
            text = Spelling(self.references).text(value)
        except Unseen as fault:
            self.unseen(f"{owner} uses '{name}', {fault}" if name else f"the tool itself is {fault}")
            return "unseen"
        except Exception as fault:  # noqa: BLE001  # proxies and lazy objects raise anything when looked at
            self.unseen(f"{owner} uses '{name}', which cannot be looked at ({type(fault).__name__}: {fault})")
            return "unseen"
        if self.references.code(value) is not None:
            if kind == "entry":
                self.portrait.parts["entry"] = _digest(text)
            return text
        label = f"{kind} {name}".strip()
        known = self._constants.get((label, text))
        if known is None:
            known = self._constants[label, text] = self.references.free(label)
            self.portrait.parts[known] = _digest(text)
        return known

    def unseen(self, sentence: str) -> None:
        self.portrait.unseen[sentence] = None

    def _draw_function(self, fn: FunctionType, name: str) -> None:
        self.portrait.functions.append(fn)
        try:
            node = function_node(fn.__code__, fn.__globals__)
        except NoSource as fault:
            self.unseen(f"{name} {fault}")
            return
        scope = Scope(name, fn.__code__.co_filename, fn.__globals__, captured(fn), node)
        self.references.find = scope.find
        reading = read_names((node,), (fn.__code__,), decorators=id(fn) in self.references.decorated)
        self._docstrings.look(reading, scope.find)
        lines = [
            spelled(without_own(node, scope.find), spoken_names(reading, scope)),
            *Edges(self, scope).follow(reading, changes_in((node,))),
        ]
        lines += [
            f"default {key}={self.constant('default', key, value, name)}"
            for key, value in defaults_of(fn).items()
        ]
        lines += [
            f"attribute {key}={self.constant('attribute', key, value, name)}"
            for key, value in sorted(vars(fn).items())
            if key not in MARKS
        ]
        self.portrait.parts[name] = _digest("\n".join(lines))

    def _draw_class(self, cls: type, name: str) -> None:
        module = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
        filename = file_of(cls, module)
        own = [each for each in methods_of(cls) if each.__code__.co_filename == filename]
        try:
            found = class_nodes(cls, filename, module)
            running = [(each, function_node(each.__code__, each.__globals__)) for each in own]
        except NoSource as fault:
            self._draw_made_class(cls, name, fault)
            return
        nodes, codes = tuple(node for node, _ in found), tuple(code for _, code in found)
        cells = {key: value for each in own for key, value in captured(each).items()}
        scope = Scope(name, filename, module, cells, nodes[0])
        self.references.find = scope.find
        reading = read_names(nodes, codes)
        self._docstrings.look(reading, scope.find)
        fixed = spoken_names(reading, scope) | words_in(*(text for node in nodes for text in texts_in(node)))
        lines = [spelled(node, fixed) for node in nodes]
        if len(nodes) > 1:  # one of several branches ran: its methods say which
            lines += [f"method {each.__code__.co_name}: {spelled(node, fixed)}" for each, node in running]
        lines += Edges(self, scope).follow(reading, changes_in(nodes))
        lines += [f"base {self.constant('base', each.__name__, each, name)}" for each in cls.__bases__]
        lines.append(f"kind {self.constant('kind', type(cls).__name__, type(cls), name)}")
        lines += self._fields(cls, name)
        lines += self._declared(cls, several=len(nodes) > 1)
        lines += [
            f"attribute {key}: {self.constant('attribute', key, value, name)}"
            for key, value in held_values(cls, bound_in(codes)).items()
        ]
        self.portrait.parts[name] = _digest("\n".join(lines))

    def _fields(self, cls: type, name: str) -> list[str]:
        """Return the types of a pydantic model's fields, which may be named nowhere else."""
        if not issubclass(cls, BaseModel):
            return []
        hints = {key: found.annotation for key, found in cls.model_fields.items()}
        return [f"field {key}: {self.constant('type', key, hint, name)}" for key, hint in hints.items()]

    def _declared(self, cls: type, *, several: bool) -> list[str]:
        """Return what the declarations of a class have become, as far as it can be written: its text says it too."""
        lines: list[str] = []
        for key, value in declared_values(cls, several=several).items():
            with suppress(Unseen):
                lines.append(f"declared {key}: {Spelling(self.references).text(value)}")
        return lines

    def _draw_made_class(self, cls: type, name: str, missing: NoSource) -> None:
        """Draw a class that a call made: `namedtuple(..)`, `Enum("Name", ..)`."""
        held: dict[str, Any] = dict(vars(cls))
        members: object = None
        if "_member_map_" in held:
            members = {key: member.value for key, member in held["_member_map_"].items()}
        elif "_fields" in held and "_field_defaults" in held:
            members = [held["_fields"], held["_field_defaults"]]
        if members is None or any(is_written(fn) for each in held.values() for fn in functions_in(each)):
            self.unseen(f"{name} {missing}")
            return
        bases = [self.constant("base", base.__name__, base, name) for base in cls.__bases__]
        try:
            self.portrait.parts[name] = _digest(f"{bases}{Spelling(self.references).text(members)}")
        except Unseen as fault:
            self.unseen(f"{name} holds {fault}")


def _digest(text: str) -> str:
    return "sha256:" + sha256(text.encode()).hexdigest()


# --- Docstrings that decide a result: those that code hands to somebody who may read them.
#
# A docstring is no code. But libraries that speak to models send docstrings along: of classes that say what an answer looks like, of
# functions that are offered as tools. So the docstrings of what is handed to installed code, or to what nobody here knows, count,
# those of functions that installed code has decorated, of classes that extend its classes, and of all classes where code
# asks a type for its schema.


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
