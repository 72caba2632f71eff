"""Where code comes from: the project, the standard library, an installed distribution, or firmplan itself.

Project code is what people edit: any file outside site-packages and the standard library, editable installs
included. Everything else counts by name, and installed distributions by version too.
"""

from __future__ import annotations

import site
import sys
import sysconfig
from enum import Enum
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

_OWN = __name__.partition(".")[0]


class Origin(Enum):
    """Who maintains a module."""

    PROJECT = "project"
    STANDARD = "standard library"
    INSTALLED = "installed"
    OWN = "firmplan"


@cache
def origin_of(module: str) -> Origin:
    """Return where a module comes from, by its name."""
    top = module.partition(".")[0]
    if top == _OWN:
        return Origin.OWN
    if top in sys.stdlib_module_names:
        return Origin.STANDARD if top != "__main__" else Origin.PROJECT
    file = getattr(sys.modules.get(module) or sys.modules.get(top), "__file__", None)
    if file is None:
        return Origin.PROJECT if top == "__main__" else Origin.INSTALLED
    return Origin.INSTALLED if _is_installed(file) else Origin.PROJECT


def is_project_file(filename: str) -> bool:
    """Whether code in a file is the project's."""
    return not filename.startswith("<frozen") and not _is_installed(filename)


def distributions_of(module: str) -> dict[str, str | None]:
    """Return the distributions that provide a module, with their versions (`None`: not known)."""
    top = module.partition(".")[0]
    names = sorted(set(_providers().get(top, ())))
    if not names:
        return {top: getattr(sys.modules.get(top), "__version__", None)}
    return {name: _version(name) for name in names}


@cache
def _providers() -> dict[str, list[str]]:
    """Return module -> distributions: reads every distribution's file list, so once."""
    return dict(packages_distributions())


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
    if "site-packages" in path.parts or "dist-packages" in path.parts:
        return True
    return any(path.is_relative_to(folder) for folder in _installed_folders())
