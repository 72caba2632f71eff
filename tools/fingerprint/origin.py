"""The origin of code: the project, the standard library, an installed distribution, or firmplan itself.

Project code is code that people edit: any file outside site-packages and the standard library, editable installs included. All other
code is hashed by name, and an installed distribution by its version too.
"""

from __future__ import annotations

import csv
import site
import sys
import sysconfig
from enum import Enum
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distributions, version
from importlib.util import find_spec
from inspect import getmodulename
from pathlib import Path
from types import FunctionType
from typing import Final

_OWN = __name__.partition(".")[0]


class Origin(Enum):
    """Who maintains a module."""

    PROJECT = "project"
    STANDARD = "standard library"
    INSTALLED = "installed"
    OWN = "firmplan"


def origin_of(module: str) -> Origin:
    """Return the origin of a module by its name. The module need not be imported."""
    top = module.partition(".")[0]
    if top == "__main__":
        return Origin.PROJECT
    # firmplan's own code counts by name, without a version: an update of firmplan must not make every result
    # anew. A change of the rules raises `FORMAT`.
    if top == _OWN:
        return Origin.OWN
    if top in sys.stdlib_module_names:
        return Origin.STANDARD
    # A submodule may be made at run time and have no file of its own; then its top package decides.
    folders = _places(module) or _places(top)
    return Origin.PROJECT if folders and not any(map(_is_installed, folders)) else Origin.INSTALLED


def is_project_file(filename: str) -> bool:
    """Whether code in a file is the project's."""
    return not filename.startswith("<frozen") and not _is_installed(filename)


def is_project_function(fn: FunctionType) -> bool:
    """Whether a function is the project's, so that its code is followed; other code is known by its name and version."""
    # Both are asked: a function of the project may have been compiled from generated text, and generated code may run in a module of the
    # project.
    home = str(fn.__globals__.get("__name__", ""))
    return (not home or origin_of(home) is Origin.PROJECT) and is_project_file(fn.__code__.co_filename)


def is_missing(module: str) -> bool:
    """Whether a module's top package is missing, so that its import fails. A present package is not searched."""
    top = module.partition(".")[0]
    if top in sys.modules:
        return False
    try:
        return find_spec(top) is None
    except (ImportError, ValueError):
        return False


def distributions_of(module: str) -> dict[str, str | None]:
    """Return the distributions that provide a module, with their versions (`None`: not known)."""
    top = module.partition(".")[0]
    names = sorted({each.metadata["Name"] for each in _providers().get(top, ())})
    if not names:
        return {top: getattr(sys.modules.get(top), "__version__", None)}
    return {name: _version(name) for name in names}


def _places(module: str) -> list[str]:
    """Return the file of a module, or the folders of a package that has no file."""
    found = sys.modules.get(module)
    if found is not None:
        file = getattr(found, "__file__", None)
        return [file] if file else [str(folder) for folder in getattr(found, "__path__", ())]
    if "." in module:
        return []  # asking for it would import its package
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    return [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or ())


@cache
def _providers() -> dict[str, list[Distribution]]:
    """Return top-level module -> distributions: reads every distribution's file list, so once.

    Equal to `importlib.metadata.packages_distributions` of the running Python, in a fifth of its time: that makes a path object of each
    installed file and reads the metadata of each distribution, 0.2 s of every process that fingerprints a tool.
    """
    found: dict[str, list[Distribution]] = {}
    for distribution in distributions():
        declared = (distribution.read_text("top_level.txt") or "").split()
        for module in set(declared) or _modules_in(distribution):
            found.setdefault(module, []).append(distribution)
    return found


def _modules_in(distribution: Distribution) -> set[str]:
    """Return the top-level modules among a distribution's files."""
    record = distribution.read_text("RECORD")
    if record is None:
        paths = [str(path) for path in distribution.files or ()]
    else:
        paths = [row[0] for row in csv.reader(record.splitlines()) if row]
    found: set[str] = set()
    for path in paths:
        top, is_nested, _ = path.partition("/")
        if _ONLY_SOURCE:
            if path.endswith(".py"):
                found.add(top if is_nested else top.removesuffix(".py"))
        elif "." not in (name := top if is_nested else getmodulename(top) or top):
            found.add(name)
    return found


# Since Python 3.12 the standard library also counts extension modules and folders without source, and fingerprints of each version go
# on as they were.
_ONLY_SOURCE: Final = sys.version_info < (3, 12)


@cache
def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@cache
def _installed_folders() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [sysconfig.get_paths()[name] for name in names]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple(dict.fromkeys(Path(folder).resolve() for folder in folders))


@cache
def _is_installed(filename: str) -> bool:
    path = Path(filename).resolve()
    # Also for a virtual environment that this process does not run in, such as a vendored copy.
    if "site-packages" in path.parts or "dist-packages" in path.parts:
        return True
    return any(path.is_relative_to(folder) for folder in _installed_folders())


# Code of the standard library is hashed by name, and its home changes between Python versions: `io.open` became `_io.open`. A moved
# name would change the fingerprint of every tool that opens a file, so it keeps the first name that we knew. A name that is missing
# here costs one more call, and never a wrong result.


_MOVED_MODULES: Final = {
    "_io": "io",  # 3.12
    "zipfile._path": "zipfile",  # 3.12
    "_decimal": "decimal",  # 3.13
    "pathlib._local": "pathlib",  # 3.13
}
_MOVED_NAMES: Final = {
    "_asyncio.current_task": "asyncio.tasks.current_task",  # 3.12
    "genericpath.islink": "posixpath.islink",  # 3.12
    "genericpath.lexists": "posixpath.lexists",  # 3.13
    "posix._path_normpath": "posixpath.normpath",  # 3.13
    "_thread.lock": "_thread.allocate_lock",  # 3.13: `threading.Lock` became a class
    "re.PatternError": "re.error",  # 3.13
}


def lasting_name(module: str, name: str) -> str:
    """Return the full name of a function or class, the same for each version of Python."""
    full = f"{_MOVED_MODULES.get(module, module)}.{name}"
    return _MOVED_NAMES.get(full, full)
