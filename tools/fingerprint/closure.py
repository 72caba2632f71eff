"""The code closure of a function: all code and values that decide its behaviour, as named parts.

From one function the walk follows the names that the code reads: to project functions and classes, through module attributes,
captured variables, partials, bound methods, decorators that keep `__wrapped__`, base classes and annotations; and to constants,
by value. The standard library is hashed by name, installed code by name and version.

- A part is named as people name it (`function parse_price`, `constant RATES`), never by file or line: moving code changes nothing.
- Fail closed: whatever cannot be followed is a sentence in `unseen`, and then there is no fingerprint.
- Parts hold digests, so that no constant (which may be a secret) is written into a journal.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import field
from hashlib import sha256
from inspect import cleandoc
from types import FunctionType
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ...plans.immutable import record
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
from .constants import Unseen, ValueText
from .mutable_state import mutations_in
from .names import NamesRead, read_names
from .observations import Observations
from .opaque_calls import reads_docstrings
from .reach import Kind
from .references import ProjectReferences, captured
from .resolution import NameResolver, NameScope, reached
from .syntax import ABSENT, NoSource, class_node, function_node, syntax_text, without_own_decorators

PARTS_MAX = 20_000  # functions, classes and values of one tool: more is a whole program, and the walk says so
_SELF = frozenset({"self", "cls"})


@record
class CodeClosure:
    """The result of a walk.

    Attributes:
        parts: Name -> digest; equal digests mean equal behaviour.
        versions: Distribution -> version.
        unseen: The gaps, each as a sentence.
        functions: The functions that were reached, in that order.
        observations: What the walk looked at.
        reach: The networks, files and processes that the code uses: name -> kind.
    """

    parts: dict[str, str] = field(default_factory=dict[str, str])
    versions: dict[str, str] = field(default_factory=dict[str, str])
    unseen: dict[str, None] = field(default_factory=dict[str, None])
    functions: list[FunctionType] = field(default_factory=list[FunctionType])
    observations: Observations = field(default_factory=Observations)
    reach: dict[str, Kind] = field(default_factory=dict[str, Kind])


def close_over(
    source: object | None, annotations: Mapping[str, object], influences: tuple[object, ...] = ()
) -> CodeClosure:
    """Return the code closure of a callable. Reads source files: O(code that it reaches).

    Args:
        source: A function, method, partial or callable object; `None`: there is none, only types and influences.
        annotations: Its resolved types by parameter, `return` included: classes that only they name count too.
        influences: Further values and functions that decide a result.
    """
    walk = ClosureWalk()
    if source is not None:
        walk.constant("entry", "", source)
    if annotations:
        for each in annotations.values():
            walk.closure.observations.add_value(each)
        walk.note("types", "", dict(annotations))
    if influences:
        walk.constant("influences", "", influences)
    walk.finish()
    return walk.closure


class ClosureWalk:
    """One walk. Functions and classes wait in a queue, so that long chains of calls need no deep stack."""

    def __init__(self) -> None:
        self.closure = CodeClosure()
        self.references = ProjectReferences(self.closure.versions)
        self.closure.reach = self.references.reach.found
        self._docstrings = _Docstrings()
        self._constants: dict[tuple[str, str], str] = {}

    def finish(self) -> None:
        """Add everything that was referred to."""
        while self.references.waiting:
            if len(self.references) > PARTS_MAX:
                self.unseen(f"it reaches more than {PARTS_MAX} functions and classes")
                break
            # First in, first out: names such as `class Page (2)` follow from the order, which has to be the same in
            # every process.
            value, name = self.references.waiting.popleft()
            self._docstrings.add(value, name)
            # Looking at a value may run any code: proxies, lazy objects, descriptors. Whatever they raise is a gap,
            # never an error of the program.
            try:
                if isinstance(value, type):
                    self._add_class(value, name)
                else:
                    self._add_function(value, name)
            except Exception as error:  # noqa: BLE001  # proxies and lazy objects raise anything when looked at
                self.unseen(f"{name} reads what cannot be looked at ({type(error).__name__}: {error})")
        for code in self.references.shown:
            self._docstrings.count(code)
        self.closure.parts |= {name: _digest(text) for name, text in self._docstrings.texts().items()}

    def constant(self, kind: str, name: str, value: object, owner: str = "it") -> str:
        """Return the reference to a value that code reads, and observe the value. Args: as `note`."""
        self.closure.observations.add_value(value)
        return self.note(kind, name, value, owner)

    def note(self, kind: str, name: str, value: object, owner: str = "it") -> str:
        """Return the reference to a value; a value that says more than a name becomes a part.

        Args:
            kind: The kind of access: `constant`, `captured`, `default` ..
            name: The name by which the code reads it.
            value: The value.
            owner: The name of the part whose code reads it.
        """
        try:
            text = ValueText(self.references).text(value)
        except Unseen as error:
            self.unseen(f"{owner} uses '{name}', {error}" if name else f"the tool itself is {error}")
            return "unseen"
        except Exception as error:  # noqa: BLE001  # proxies and lazy objects raise anything when looked at
            self.unseen(f"{owner} uses '{name}', which cannot be looked at ({type(error).__name__}: {error})")
            return "unseen"
        # Code is a part of its own, so its reference says all; only the entry point gets a part, which tells bound
        # arguments and objects.
        if self.references.code(value) is not None:
            if kind == "entry":
                self.closure.parts["entry"] = _digest(text)
            return text
        label = f"{kind} {name}".strip()
        # Equal values under one name share a part; different values under one name are told apart by a number.
        known = self._constants.get((label, text))
        if known is None:
            known = self._constants[label, text] = self.references.free(label)
            self.closure.parts[known] = _digest(text)
        return known

    def unseen(self, sentence: str) -> None:
        """Record a gap."""
        self.closure.unseen[sentence] = None

    def _add_function(self, fn: FunctionType, name: str) -> None:
        self.closure.functions.append(fn)
        try:
            node = function_node(fn.__code__, fn.__globals__)
        except NoSource as error:
            self.unseen(f"{name} {error}")
            self.references.reach.see_code(fn)
            return
        observations = self.closure.observations
        observations.add_function(fn)
        scope = NameScope(name, fn.__code__.co_filename, fn.__globals__, captured(fn), observations, node)
        read = read_names(node, fn.__code__, decorators=id(fn) in self.references.decorated)
        lines = [syntax_text(without_own_decorators(node, scope.find)), *self._follow(node, read, scope)]
        lines += [
            f"default {key}={self.constant('default', key, value, name)}"
            for key, value in defaults_of(fn).items()
        ]
        lines += [
            f"attribute {key}={self.constant('attribute', key, value, name)}"
            for key, value in sorted(vars(fn).items())
            if key not in MARKS
        ]
        self.closure.parts[name] = _digest("\n".join(lines))

    def _follow(self, node: ast.AST, read: NamesRead, scope: NameScope) -> list[str]:
        """Return a line for each name that a function or class reads, and follow the names."""
        # Types that stand as text (`list['Item']`) are resolved where the value is read.
        self.references.find = scope.find
        self._docstrings.look(read, scope)
        self.references.reach.see_files(node, scope)
        return NameResolver(self, scope).follow(read, mutations_in(node))

    def _add_class(self, cls: type, name: str) -> None:
        module = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
        filename = file_of(cls, module)
        # Methods that `dataclass`, `attrs` or `NamedTuple` generated come from no file; their text follows from the
        # fields.
        own = [each for each in methods_of(cls) if each.__code__.co_filename == filename]
        try:
            node, code = class_node(cls, filename, module)
            for each in own:  # a method whose source changed after the import makes the class unseen
                function_node(each.__code__, each.__globals__)
        except NoSource as error:
            self._add_made_class(cls, name, error)
            return
        # A class has no closure of its own. The variables that its methods captured are those of the function around
        # it.
        cells = {key: value for each in own for key, value in captured(each).items()}
        self.closure.observations.add_class(cls)
        scope = NameScope(name, filename, module, cells, self.closure.observations)
        lines = [syntax_text(node), *self._follow(node, read_names(node, code), scope)]
        lines += [f"base {self.constant('base', each.__name__, each, name)}" for each in cls.__bases__]
        # The metaclass may change whatever the body made.
        lines.append(f"kind {self.constant('kind', type(cls).__name__, type(cls), name)}")
        lines += [
            f"field {key}: {self.constant('type', key, each.annotation, name)}"
            for key, each in _fields_of(cls).items()
        ]
        for key, value in declared_values(cls).items():
            with suppress(Unseen):  # the text says the same, as long as nobody changed it afterwards
                lines.append(f"declared {key}: {ValueText(self.references).text(value)}")
        lines += [
            f"attribute {key}: {self.constant('attribute', key, value, name)}"
            for key, value in held_values(cls, bound_in(code)).items()
        ]
        self.closure.parts[name] = _digest("\n".join(lines))

    def _add_made_class(self, cls: type, name: str, missing: NoSource) -> None:
        """Add a class that a call made: `namedtuple(..)`, `Enum("Name", ..)`."""
        self.closure.observations.end()
        # Named tuples and enumerations made by a call hold all that decides them; any other made class is a gap.
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
            self.closure.parts[name] = _digest(f"{bases}{ValueText(self.references).text(members)}")
        except Unseen as error:
            self.unseen(f"{name} holds {error}")


class _Docstrings:
    """The docstrings that decide a result: those of code that is handed to somebody who may read them.

    A docstring is no code. But libraries that call models send docstrings of classes that describe an answer, and of
    functions that are offered as tools. So a docstring counts where its function or class is passed to installed code or to an
    unknown object, where installed code decorated the function, where a class extends an installed class, and for all classes
    where code asks a type for its schema. Counting every docstring would be simpler, but then each edit of prose would cost a
    call.
    """

    def __init__(self) -> None:
        self._counted: set[int] = set()
        self._parts: dict[str, FunctionType | type] = {}
        self._asks_schemas = False

    def add(self, code: FunctionType | type, name: str) -> None:
        """Record a function or class that is a part, with the name of the part."""
        self._parts[name] = code
        if isinstance(code, type) and any(reads_docstrings(each) for each in (type(code), *code.__mro__)):
            self.count(code)

    def count(self, code: FunctionType | type) -> None:
        """Let the docstring of a function or class count. Parts keep their code alive, so that ids stay unique."""
        self._counted.add(id(code))

    def look(self, read: NamesRead, scope: NameScope) -> None:
        """Count the docstrings of functions and classes that code passes to a receiver which may read them."""
        self._asks_schemas = self._asks_schemas or read.asks_schemas
        for name, chains in read.handed.items():
            receiver = scope.find(name) if name else ABSENT
            if name in _SELF or not (receiver is ABSENT or reads_docstrings(receiver)):
                continue
            for chain in chains:
                code = reached(scope.find(chain[0]), chain[1:], scope.observations)
                if isinstance(code, FunctionType | type):
                    self.count(code)
                    self._asks_schemas = self._asks_schemas or isinstance(code, type)

    def texts(self) -> Mapping[str, str]:
        """Return the docstrings that count, by the name of their part."""
        found = {
            f"docstring of {name}": code.__doc__
            for name, code in self._parts.items()
            if id(code) in self._counted or (self._asks_schemas and isinstance(code, type))
        }
        # Since Python 3.13 the indentation is gone before anyone can read it.
        return {name: cleandoc(text) for name, text in found.items() if text}


def _fields_of(cls: type) -> Mapping[str, FieldInfo]:
    """Return the fields of a pydantic model, whose types may be named nowhere else."""
    return cls.model_fields if issubclass(cls, BaseModel) else {}


def _digest(text: str) -> str:
    return "sha256:" + sha256(text.encode()).hexdigest()
