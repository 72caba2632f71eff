"""Load tools from files and modules: the edge between a toolset and Python's import system.

A file gets a module name made from its path, so that it hides nothing and nothing hides it; its own folder can be
imported from, as when a script is run, but comes last. Loaded again, it is read again. What goes wrong in it is a
`ConfigError` with file, line and the original error.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import traceback
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from os import PathLike, fspath
from pathlib import Path
from types import CodeType, ModuleType

from ..errors import ConfigError
from .tool import Tool


def load_tools(source: str | PathLike[str]) -> list[Tool]:
    """Return the tools that a file or a module holds as global names, alone or in toolsets, in the order of definition.

    Raises:
        ConfigError: It is missing, fails when imported, or holds no tool.
    """
    name = fspath(source)
    module = _load_file(Path(name)) if _is_file(source) else _load_module(name)
    from .toolset import Toolset  # noqa: PLC0415  # which loads by this module

    found: list[Tool] = []
    for value in list(vars(module).values()):
        # Asked of the type: proxies answer `isinstance` for what they stand for, or raise when nothing is there yet.
        if issubclass(type(value), Toolset):
            found += value
        elif issubclass(type(value), Tool):
            found.append(value)
    found = list(dict.fromkeys(found))
    found = [tool for tool in found if not tool.needs_instance]
    if not found:
        raise ConfigError(
            f"{name}: expected functions decorated with @tool, found none; add one, or load another file"
        )
    return found


def home_of(source: str | PathLike[str]) -> str:
    """Return what a source is, however it is written: two sources with one home are the same."""
    return str(Path(source).resolve()) if _is_file(source) else fspath(source)


def _is_file(source: str | PathLike[str]) -> bool:
    name = fspath(source)
    return not isinstance(source, str) or name.endswith(".py") or "/" in name or "\\" in name


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "nothing"
        raise ConfigError(
            f"{path}: expected a Python file with tools, found {kind} there; check the path (now in {Path.cwd()})"
        )
    where = path.resolve()
    name = f"firmplan_tools_{where.stem}_{sha256(str(where).encode()).hexdigest()[:12]}"
    loader = _FromSource(name, str(where))
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, loader, origin=str(where)))
    module.__file__ = str(where)
    earlier = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and pydantic look their module up while it loads
    try:
        _make_importable(where.parent)
        loader.exec_module(module)
    except BaseException as error:
        if earlier is None:
            del sys.modules[name]
        else:
            sys.modules[name] = earlier
        if isinstance(error, Exception | SystemExit):
            raise _told(str(path), error) from error
        raise
    return module


class _FromSource(SourceFileLoader):
    """Compiles the file as it is now: compiled copies go by its time, too coarse for a file that is being edited."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  # importlib's signature
        """Return the file's code."""
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _load_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(
            f'{name!r}: expected a file such as "tools.py" or a module such as "package.module"'
        )
    try:
        _make_importable(Path.cwd())
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            hint = f"; to load the file, write {name}.py" if Path(f"{name}.py").is_file() else ""
            raise ConfigError(
                f"{name}: expected a module that can be imported, found no '{error.name}'{hint}"
            ) from error
        raise _told(name, error) from error
    except (Exception, SystemExit) as error:
        raise _told(name, error) from error


def _make_importable(folder: Path) -> None:
    """Let modules of a folder be imported, now and by calls later, as long as nothing else has their name."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _told(source: str, error: BaseException) -> ConfigError:
    """Return one message for what went wrong inside a loaded file."""
    if isinstance(error, ConfigError):
        return error
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
    else:
        steps = [
            step for step in traceback.extract_tb(error.__traceback__) if not _is_machinery(step.filename)
        ]
        place = f"{steps[-1].filename}:{steps[-1].lineno}" if steps else source
    reason = error.msg if isinstance(error, SyntaxError) else str(error)
    return ConfigError(
        f"{source} cannot be loaded: {type(error).__name__} at {place}: {reason}; correct it and try again"
    )


def _is_machinery(filename: str) -> bool:
    """Whether a frame is this module's or the import system's."""
    return filename == __file__ or filename.startswith("<frozen importlib")
