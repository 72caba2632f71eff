"""Lint of a toolset: declarations that are allowed but will cost someone time later (`firmplan tools lint`).

A remark has a code, the name of the tool, the finding and a remedy; most are advice, and those of `_ERRORS` are errors, with which
`firmplan tools lint` fails. A declaration that is not allowed is no remark: it is a `ConfigError` where the tool is declared. Remarks come by
tool name, and for each tool in the order of `_RULES`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from ...plans.checker.flow.secrecy import receivers_of
from ...plans.signature import Effect
from ...plans.values import Json
from ..tool import Tool
from ..types.callables import plain_function
from .closure import close_over
from .names import read_names
from .reach import FILES, HARMLESS, NETWORK, PROCESSES
from .syntax import NoSource, function_node

if TYPE_CHECKING:
    from ..toolset import Toolset


NAME_SHOWN = 40  # characters of a name that models and people still take in at a glance
SUMMARY_MIN = 8  # characters below which a description says nothing that the name does not
PARAMETERS_MAX = 10  # more are seldom filled in right by a model


@dataclass(frozen=True, slots=True)
class Remark:
    """One declaration that will cost someone time later.

    Attributes:
        code: A stable word for programs, such as `no-description`.
        tool: The tool's name.
        message: The finding.
        hint: The remedy.
        severity: `error`: a safeguard is missing; `advice`: all else.
    """

    code: str
    tool: str
    message: str
    hint: str
    severity: Literal["error", "advice"] = "advice"

    def __str__(self) -> str:
        return f"{self.tool}: {self.message} [{self.code}]; {self.hint}"


def lint(toolset: Toolset | Iterable[Tool]) -> list[Remark]:
    """Return the remarks on tools. Deterministic; reads source files, calls nothing."""
    tools = sorted(toolset, key=lambda tool: tool.name)
    return [
        Remark(code, tool.name, message, hint, "error" if code in _ERRORS else "advice")
        for tool in tools
        for code, find, hint in _RULES
        for message in find(tool)
    ]


def _description(tool: Tool) -> Iterator[str]:
    text = tool.description.strip()
    if len(text) < SUMMARY_MIN:
        yield f"the description is {tool.description!r}" if text else "there is no description"


def _resource(tool: Tool) -> Iterator[str]:
    if tool.effect in (Effect.READ, Effect.WRITE) and tool.resource == "world" and tool.is_effect_declared:
        yield f'the {tool.effect} touches "world", which conflicts with every other tool'


def _untyped_arguments(tool: Tool) -> Iterator[str]:
    for name, schema in _properties(tool).items():
        # A default says what is sent without the argument, and nothing of what may be sent.
        if not isinstance(schema, dict) or not {*schema} - {"title", "description", "default"}:
            yield f"argument '{name}' may be anything"


def _impure(tool: Tool) -> Iterator[str]:
    if tool.effect is not Effect.PURE:
        return
    # The tool's own code comes first, and a helper is named only for calls that the tool does not make itself.
    own = plain_function(tool.source)
    found = dict.fromkeys(impure_calls(own), "")
    for helper in close_over(tool.source, {}).functions:
        if helper is not own:
            found = {**dict.fromkeys(impure_calls(helper), f" in {helper.__qualname__}"), **found}
    for name, where in sorted(found.items()):
        yield f"it is declared pure but uses {name}{where}"


def _unstated_trust(tool: Tool) -> Iterator[str]:
    if (reach := tool.unstated_reach) is not None:
        yield f"it {reach}, and its trust is not stated, so that its results may steer writes"


def _unseen(tool: Tool) -> Iterator[str]:
    if tool.effect is not Effect.WRITE and tool.fingerprint is None:
        yield f"results are never reused: {tool.unseen}"


def _if(condition: Callable[[Tool], bool], message: str) -> Callable[[Tool], Iterable[str]]:
    """Return a rule with one message."""
    return lambda tool: [message] if condition(tool) else []


# One remedy must fit every finding of a rule, so a message only says what was found.
_RULES: Final[tuple[tuple[str, Callable[[Tool], Iterable[str]], str], ...]] = (
    (
        "no-description",
        _description,
        "write a docstring that says what it does and what comes back: planners choose tools by it",
    ),
    (
        "undeclared-effect",
        _if(
            lambda tool: not tool.is_effect_declared,
            "no effect is declared, so it counts as a write: never reused, one at a time",
        ),
        'say effect="pure", "read" or "write"',
    ),
    (
        "unstated-trust",
        _unstated_trust,
        'say trust="untrusted" if strangers can write what it returns, else trust="trusted"',
    ),
    (
        "no-egress",
        _if(
            lambda tool: tool.effect is Effect.READ and not tool.egress and bool(receivers_of(tool)),
            "an argument looks like an address, so that untrusted data could say where the call sends something",
        ),
        'name the argument: egress=("url",), or allow it: allow_untrusted=("url",)',
    ),
    (
        "no-reuse",
        _if(
            lambda tool: tool.effect is Effect.READ and tool.reuse_for_s is None,
            "a read without reuse_for is called again in every run",
        ),
        'say how old a result may be: reuse_for="1h"',
    ),
    ("no-resource", _resource, 'name what it touches: resource="mail"'),
    (
        "unsafe-after-crash",
        _if(
            lambda tool: tool.effect is Effect.WRITE and not tool.idempotent and not tool.can_reconcile,
            "after a crash in mid-call a person has to decide whether it took place",
        ),
        "pass ctx.idempotency_key on and say idempotent=True, or give reconcile=",
    ),
    (
        "key-not-used",
        _if(
            lambda tool: tool.effect is Effect.WRITE and tool.idempotent and not tool.wants_context,
            "it says idempotent=True but takes no Context, so it cannot see the idempotency key",
        ),
        "take `*, ctx: Context` and use ctx.idempotency_key, unless calling twice changes nothing anyway",
    ),
    (
        "no-timeout",
        _if(
            lambda tool: tool.effect in (Effect.READ, Effect.WRITE) and tool.timeout_s is None,
            "a call may hang for ever",
        ),
        'give a limit: timeout="30s"',
    ),
    (
        "untyped-result",
        _if(
            lambda tool: tool.returns is None,
            "the result may be anything, so plans that use it cannot be checked",
        ),
        "annotate or describe it",
    ),
    ("untyped-argument", _untyped_arguments, "annotate it with a type"),
    (
        "long-name",
        lambda tool: [f"the name has {len(tool.name)} characters"] if len(tool.name) > NAME_SHOWN else [],
        f"use at most {NAME_SHOWN}",
    ),
    (
        "many-arguments",
        lambda tool: (
            [f"it takes {len(_properties(tool))} arguments"]
            if len(_properties(tool)) > PARAMETERS_MAX
            else []
        ),
        "group some in a model, or make two tools of it",
    ),
    ("impure", _impure, 'declare effect="read", or pass the value in as an argument'),
    ("not-reusable", _unseen, 'change that, or declare version="1" and count it up'),
)
_ERRORS: Final = frozenset({"unstated-trust"})


def _properties(tool: Tool) -> dict[str, Json]:
    return cast("dict[str, Json]", tool.parameters.get("properties") or {})


# Impure calls: the names of clocks, dice, files, networks and processes that a function uses. The list is advice and proves
# nothing, so that it may be short.


_OUTSIDE = NETWORK | FILES | PROCESSES | {
    "builtins.input", "ctypes", "decimal.getcontext", "importlib.metadata", "importlib.resources", "locale", "nt", "os", "posix", "random", "secrets",
    "select", "shutil", "tempfile", "time", "uuid",
}  # fmt: skip
_HARMLESS = HARMLESS | {
    "os.PathLike", "os.fspath", "os.linesep", "os.path", "os.sep", "posixpath", "time.gmtime", "time.strftime", "time.strptime", "time.struct_time",
    "uuid.UUID", "uuid.uuid3", "uuid.uuid5",
}  # fmt: skip
_CLOCKS = frozenset(
    {"datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"}
)
_OF_FILES = frozenset(
    {"read_text", "read_bytes", "write_text", "write_bytes", "iterdir", "rglob", "exists", "is_file"}
)  # of paths: no name tells, but their methods do


def impure_calls(fn: Callable[..., Any]) -> list[str]:
    """Return the qualified names of clocks, files, networks and processes that a function uses, sorted; none if it has no source."""
    function = plain_function(fn)
    code = getattr(function, "__code__", None)
    scope: Mapping[str, object] = getattr(function, "__globals__", {})
    if code is None:
        return []
    try:
        node = function_node(code, scope)
    except NoSource:
        return []
    reading = read_names(node, code)
    builtin: Mapping[str, object] = getattr(function, "__builtins__", {})
    # Module names hide builtins, as in Python.
    known = {**builtin, **scope}
    found = {
        name
        for each in reading.names
        if each in known
        for path in reading.paths.get(each, ((),))
        for name in _qualified(known[each], path)
    }
    # An import inside the function binds no global, so its names are known by the text of the import.
    for each in reading.imports:
        head = each.module if each.part is None else f"{each.module}.{each.part}"
        found |= {".".join((head, *path)) for path in reading.paths.get(each.name, ((),))}
    ambient = {f"the context variable '{each.name}'" for each in _variables(reading.names, scope)}
    return sorted({*filter(_is_outside, found), *ambient, *_file_methods(node)})


def _variables(names: Iterable[str], scope: Mapping[str, object]) -> Iterator[ContextVar[object]]:
    # The value of a context variable is that of the caller: an argument that no key has.
    for name in names:
        if isinstance(value := scope.get(name), ContextVar):
            yield cast("ContextVar[object]", value)


def _file_methods(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and each.attr in _OF_FILES:
            yield f".{each.attr}"


def _qualified(value: object, path: tuple[str, ...]) -> Iterator[str]:
    """Yield the full name of an attribute of a module, class or function."""
    home = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    if isinstance(value, ModuleType):
        yield ".".join((value.__name__, *path))
    # An instance has no qualified name. What its class reaches is for `reach.py`.
    elif name is None:
        return
    elif home is None:  # methods of a hidden instance: `from random import random`
        yield ".".join((type(getattr(value, "__self__", None)).__module__, str(name), *path))
    else:
        yield ".".join((str(home), str(name), *path))


def _is_outside(name: str) -> bool:
    parts = name.split(".")
    # As in `reach.py`, any beginning of the name may stand in the table.
    heads = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
    if name == "random.Random":  # seeded by its user
        return False
    # A harmless part of an impure module, such as `os.path` of `os`, is harmless with everything below it.
    return name in _CLOCKS or (bool(heads & _OUTSIDE) and not heads & _HARMLESS)
