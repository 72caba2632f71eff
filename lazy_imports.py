"""What a process makes on first use: names of packages, modules, and regular expressions, so that an importer of one small name does not pay for the rest.

A package whose public names are imported on first use imports them under `TYPE_CHECKING`, and says in a table which of its modules has which names.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, AnyStr, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from types import ModuleType


def on_first_use(
    package: str, modules: Mapping[str, Collection[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package.

    Args:
        package: Its name.
        modules: Module of the package, or of one above it (`.tools.artifact`: of the package around it) -> the public names that it has.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def find(name: str) -> Any:  # noqa: ANN401  # any public name
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(_imported(f".{homes[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    return find, lambda: sorted({*vars(sys.modules[package]), *homes})


class LazyModule:
    """A module of the package that is imported at the first question for one of its names.

    Args:
        name: Its name, with a point before it.
        package: The package that the name is relative to.
    """

    def __init__(self, name: str, package: str) -> None:
        self.__name, self.__package = name, package

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # any name
        value = getattr(_imported(self.__name, self.__package), name)
        setattr(self, name, value)
        return value


def _imported(name: str, package: str) -> ModuleType:
    # What an import makes stays: scans for garbage among it would be a tenth of the import's time.
    from .plans.collecting import collector_paused  # noqa: PLC0415  # `plans` imports this module

    with collector_paused():
        return import_module(name, package)


def late_pattern(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return a regular expression that is compiled when it is first used: most of those of a module never are, in most processes.

    Args:
        text: The expression.
        flags: Those of `re.compile`.
    """
    return cast("re.Pattern[AnyStr]", _LatePattern(text, flags))


class _LatePattern:
    def __init__(self, text: str | bytes, flags: int) -> None:
        self.__text, self.__flags = text, flags

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # any name
        value = getattr(re.compile(self.__text, self.__flags), name)
        setattr(self, name, value)  # found before `__getattr__` is asked again
        return value
