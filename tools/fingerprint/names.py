"""The names that a function or class reads from outside, and the reads that no name shows.

The compiled code says whether a name is global, since the compiler knows scopes. The syntax says the rest: the attributes that are read
of a name (`prices.RATES`), the imports inside the code, the names in annotations. All results are sorted. The module knows no values:
`resolution.py` finds the value of a name.
"""

from __future__ import annotations

import ast
import dis
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import CodeType
from typing import Final

from ...plans.immutable import immutable

TREES_KEPT: Final = 4_096
"""Size of the caches of facts about syntax trees. Each run looks at its tools again, and a tree never changes."""

_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_CELL_WRITES = frozenset({"STORE_DEREF", "DELETE_DEREF"})
_HIDDEN = {
    "__doc__": "docstrings, which do not count as code",
    "__subclasses__": "the subclasses of a class, which may stand anywhere",
    "__globals__": "globals, so what it reads does not stand in its code",
    "f_globals": "globals, so what it reads does not stand in its code",
    "f_locals": "the names of its caller, so what it reads does not stand in its code",
}
_SCHEMAS = frozenset({"model_json_schema", "json_schema", "models_json_schema", "schema_json", "schema_of"})
_HIDDEN_CELLS = frozenset({"__class__", "__classdict__", "__conditional_annotations__"})
_ANNOTATING = frozenset(
    {"__annotate__", "__annotate_func__"}
)  # Python 3.14: annotations are read from the syntax
_CLASS_MADE = frozenset(
    {"__annotations__", "__name__", "__module__", "__qualname__", "__static_attributes__", "__firstlineno__"}
)

Path = tuple[str, ...]


@immutable
class Imported:
    """A name bound by an import inside a function.

    Attributes:
        name: The name as it is used.
        module: The module that is imported, relative to the function's package if `level` is not 0.
        part: The name taken from it; `None`: the module itself.
        level: Number of leading dots.
        full_name: For `import a.b`: `a` is bound, though `a.b` is imported.
    """

    name: str
    module: str
    part: str | None
    level: int
    full_name: str = ""


@immutable
class NamesRead:
    """The names that one function or class reads.

    Attributes:
        names: Names looked up outside, sorted.
        paths: Name -> the chains of attributes that are read of it; the empty chain is the name itself.
        imports: The imports inside it.
        annotated: Names in annotations: types, which may not exist at run time.
        assigned: Names that it assigns outside.
        hidden: Reads that no name shows, as the ends of sentences.
        handed: The first name in the called expression (empty: it has none) -> the chains of attributes in its arguments.
        asks_schemas: Whether it asks a type for its schema, and so for its docstrings.
    """

    names: tuple[str, ...]
    paths: Mapping[str, tuple[Path, ...]]
    imports: tuple[Imported, ...]
    annotated: tuple[str, ...]
    assigned: tuple[str, ...]
    hidden: tuple[str, ...]
    handed: Mapping[str, tuple[Path, ...]]
    asks_schemas: bool


@lru_cache(TREES_KEPT)
def read_names(node: ast.AST, code: CodeType, *, decorators: bool = False) -> NamesRead:
    """Return the names that a function or class reads.

    Args:
        node: Its syntax.
        code: Its compiled code, which contains the code nested in it.
        decorators: Whether names in the decorators of a function count.
    """
    visitor = _Visitor(decorators=decorators)
    visitor.visit_root(node)
    # The compiler has resolved scopes (comprehensions, class bodies, `nonlocal`), so its decision about globals is
    # taken. A walk over the syntax would have to repeat Python's scoping rules.
    names, assigned = _outside(code)
    names |= visitor.outer
    return NamesRead(
        names=tuple(sorted(names)),
        paths={name: tuple(sorted(found)) for name, found in sorted(visitor.paths.items())},
        imports=tuple(visitor.imports),
        annotated=tuple(sorted(visitor.annotated - names)),
        assigned=tuple(sorted(assigned)),
        hidden=tuple(sorted(visitor.hidden)),
        handed={name: tuple(sorted(found)) for name, found in sorted(visitor.handed.items())},
        asks_schemas=visitor.asks_schemas,
    )


def all_codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and all that are nested in it."""
    yield code
    for const in code.co_consts:
        # Since Python 3.14 the compiler puts annotations into functions of their own; an older version has no
        # such code, and the fingerprint must be the same.
        if isinstance(const, CodeType) and const.co_name not in _ANNOTATING:
            yield from all_codes(const)


def names_in(annotation: ast.AST) -> set[str]:
    """Return the names that an annotation mentions, also inside quotes."""
    found: set[str] = set()
    for node in ast.walk(annotation):
        match node:
            case ast.Name(id=name):
                found.add(name)
            case ast.Constant(value=str() as text):
                try:
                    quoted = ast.parse(text, mode="eval").body
                except (SyntaxError, ValueError):
                    continue
                if not isinstance(quoted, ast.Constant):
                    found |= names_in(quoted)
            case _:
                pass
    return found


def _outside(outermost: CodeType) -> tuple[set[str], set[str]]:
    """Return the names that code looks up outside, and those that it assigns there."""
    # A captured variable of the outermost code stands for something outside; the captured variables of nested code are
    # local to the outermost code.
    names = set(outermost.co_freevars) - _HIDDEN_CELLS
    written: set[str] = set()
    for code in all_codes(outermost):
        instructions = list(dis.get_instructions(code))
        # A class body looks up its own names with the same instruction as outside names, so the names that it stores
        # are its own.
        own = {each.argval for each in instructions if each.opname == "STORE_NAME"} | _CLASS_MADE
        for each in instructions:
            name = str(each.argval)
            if each.opname == "LOAD_GLOBAL" or (each.opname in _READS and name not in own):
                names.add(name)
            elif each.opname in _WRITES or (each.opname in _CELL_WRITES and name in outermost.co_freevars):
                written.add(name)
    return names, written


class _Visitor(ast.NodeVisitor):
    """One walk over the syntax."""

    def __init__(self, *, decorators: bool) -> None:
        self.decorators = decorators
        self.paths: dict[str, set[Path]] = {}
        self.imports: list[Imported] = []
        self.annotated: set[str] = set()
        self.outer: set[str] = set()
        self.hidden: set[str] = set()
        self.handed: dict[str, set[Path]] = {}
        self.asks_schemas = False

    def visit_root(self, node: ast.AST) -> None:
        """Visit a function or class, without the parts of its head that other code runs (decorators, bases, defaults)."""
        head: list[ast.AST] = []
        body: list[ast.AST] = [node]
        match node:
            # The decorators, bases and keywords of a class run once, when it is made, and decide what it is.
            case ast.ClassDef():
                head, body = [*node.decorator_list, *node.bases, *node.keywords], [*node.body]
            # The defaults of a function are hashed by value, and its decorators by the wrappers that they left.
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                head, body = [*node.decorator_list] if self.decorators else [], [*node.body]
                self._annotation(node.returns)
                body += [each for each in ast.walk(node.args) if isinstance(each, ast.arg)]
            case _:
                pass
        for part in head:
            self.outer |= {each.id for each in ast.walk(part) if isinstance(each, ast.Name)}
        for part in (*head, *body):
            self.visit(part)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._annotation(node.returns)
        self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815  # as `ast` calls it

    def visit_arg(self, node: ast.arg) -> None:
        self._annotation(node.annotation)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._annotation(node.annotation)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self.asks_schemas = self.asks_schemas or node.id in _SCHEMAS
        self._path(node.id, ())

    def visit_Attribute(self, node: ast.Attribute) -> None:
        # A chain of attributes is read to its end: of `prices.RATES.get` the module's table counts, not the module.
        inner, attributes = attribute_chain(node)
        self.hidden |= {_HIDDEN[name] for name in attributes if name in _HIDDEN}
        self.asks_schemas = self.asks_schemas or not _SCHEMAS.isdisjoint(attributes)
        if isinstance(inner, ast.Name):
            self._path(inner.id, attributes)
        else:
            self.visit(inner)

    def visit_Call(self, node: ast.Call) -> None:
        # What is handed to a call may have its docstring read there; see `_Docstrings` in `closure.py`.
        given = (*node.args, *(each.value for each in node.keywords))
        if chains := {chain for part in given for chain in _chains(part)}:
            self.handed.setdefault(_first_name(node.func), set()).update(chains)
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for each in node.names:
            if each.asname:
                self.imports.append(Imported(each.asname, each.name, None, 0))
            else:
                # `import a.b` binds `a`, and loads `a.b` all the same.
                top = each.name.partition(".")[0]
                self.imports.append(Imported(top, top, None, 0, full_name=each.name))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.imports += [
            Imported(each.asname or each.name, node.module or "", each.name, node.level)
            for each in node.names
        ]

    def _annotation(self, hint: ast.expr | None) -> None:
        if hint is not None:
            self.annotated |= names_in(hint)
            for part in _parts(hint):
                self.visit(part)

    def _path(self, name: str, path: Path) -> None:
        self.paths.setdefault(name, set()).add(path)


def attribute_chain(node: ast.AST) -> tuple[ast.AST, Path]:
    """Return what a chain of attributes begins with, and the attributes: of `a.b.c` the name `a`, and `b` and `c`."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.insert(0, node.attr)
        node = node.value
    return node, tuple(attributes)


def _first_name(node: ast.AST) -> str:
    """Return the name that an expression such as `client.chat(x).create` begins with; empty: it begins with none."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Await):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _chains(node: ast.AST) -> Iterator[Path]:
    """Yield the chains of attributes in an argument, without those inside a call of its own."""
    inner, attributes = attribute_chain(node)
    match inner:
        case ast.Name(id=name):
            yield (name, *attributes)
        case ast.Call():
            pass
        case _:
            for child in ast.iter_child_nodes(inner):
                yield from _chains(child)


def _parts(annotation: ast.AST) -> list[ast.AST]:
    """Return an annotation, parsed if it is quoted."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            return [ast.parse(annotation.value, mode="eval").body]
        except (SyntaxError, ValueError):
            return []
    return [annotation]
