"""Opaque calls: functions that run text, import by name, or look at docstrings, sources and frames.

Code that calls one of them reads what does not stand in it, so that a fingerprint cannot follow it. The functions are known by
identity and not by the name that code uses: `e = eval` is `eval`. The module also says which code may read the docstrings of its arguments.
"""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Final

from .origin import Origin, origin_of

_RUNS_TEXT: Final = "which runs text"
_BY_NAME: Final = "which imports by name"
_FRAMES: Final = "which looks at the names of its callers"
_TEXTS: Final = "which reads docstrings or source"
_ANYTHING: Final = "which looks at whatever there is"

# The list names functions that run or find code by text. It is short: a function that takes a callable is
# followed through the callable, and a library's own tricks are fixed by its version.
_OPAQUE: Final = {
    **dict.fromkeys(("builtins.eval", "builtins.exec", "builtins.compile"), _RUNS_TEXT),
    **dict.fromkeys(("builtins.globals", "builtins.locals"), _FRAMES),
    **dict.fromkeys(("sys._getframe", "inspect.currentframe", "inspect.stack", "inspect.trace"), _FRAMES),
    **dict.fromkeys(("builtins.__import__", "pkgutil.resolve_name", "pkgutil.get_data", "pydoc.locate"), _BY_NAME),
    **dict.fromkeys(("_pickle.loads", "_pickle.load", "_pickle.Unpickler", "marshal.loads"), _BY_NAME),
    **dict.fromkeys(
        [f"inspect.{name}" for name in ("getdoc", "getcomments", "getsource", "getsourcelines", "findsource")],
        _TEXTS,
    ),
    **dict.fromkeys(("pydoc.getdoc", "pydoc.render_doc", "linecache.getline", "linecache.getlines"), _TEXTS),
    **dict.fromkeys(("importlib.metadata.entry_points", "importlib.metadata.EntryPoint"), _BY_NAME),
    **dict.fromkeys(("gc.get_objects", "gc.get_referrers", "gc.get_referents"), _ANYTHING),
}  # fmt: skip
_IMPORTERS: Final = frozenset(
    {"importlib", "importlib._bootstrap", "importlib._bootstrap_external", "importlib.util", "runpy", "imp"}
)  # whatever they have imports by name
HOMES: Final = frozenset({*_IMPORTERS, *(name.partition(".")[0].lstrip("_") for name in _OPAQUE)})
"""Modules of the standard library that have such functions."""

_BARE: Final = frozenset({"builtins", "importlib", "runpy", "imp"})
_NO_READERS: Final = frozenset({"pydantic", "pydantic_core", "attr", "attrs", "tenacity"})
"""Installed packages that look at no docstring, or, as pydantic, only where they are asked for a schema."""


def find_opaque(value: object) -> str | None:
    """Return why calls of a function are opaque, as the end of a sentence; `None`: they are not, for all that is known."""
    if isinstance(value, ModuleType):
        # `import importlib` is harmless; the module as a value may have any of its functions called by a computed
        # name.
        return f"the module {value.__name__} as a value" if value.__name__ in _BARE else None
    if not isinstance(value, FunctionType | BuiltinFunctionType | type):
        return None
    home = str(getattr(value, "__module__", None) or "")
    name = f"{home}.{value.__qualname__}"
    # Known by the qualified name of the object and not by the name in the code: `e = eval` is still `eval`.
    why = _OPAQUE.get(name) or (_BY_NAME if home in _IMPORTERS else None)
    return f"{name}, {why}: what that is does not stand in the code" if why else None


def reads_docstrings(value: object) -> bool:
    """Whether the receiver of an argument may read the argument's docstring: installed code may, except for packages that are known not to."""
    if isinstance(value, ModuleType):
        home = value.__name__
    else:
        home = str(getattr(value, "__module__", None) or type(value).__module__)
    return origin_of(home) is Origin.INSTALLED and home.partition(".")[0] not in _NO_READERS
