"""Opens a backend by its name: a URL, whose scheme is the kind of backend."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Final, cast
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..executor.stores.location import shown
from .backend import Backend

SCHEMES: Final = {"temporal": ("temporalio", "temporal")}
"""Scheme -> the package that the backend needs, and the extra of firmplan that installs it. The module `backends.SCHEME` has `open_backend(url)`."""
METHODS: Final = ("open", "close", "enqueue", "wake", "cancel", "take")
_EXAMPLE: Final = "temporal://localhost:7233/default?queue=default"


def backend_of(given: object) -> Backend:
    """Return the backend that an engine is given: a URL, or a backend.

    Raises:
        ConfigError: It is none, or what it needs is not installed.
    """
    if isinstance(given, str):
        return _opened(given)
    if isinstance(given, type) or not all(callable(getattr(given, each, None)) for each in METHODS):
        raise ConfigError(
            f"backend: expected None, a URL such as {_EXAMPLE!r} or a Backend ({', '.join(METHODS)}), found {given!r}"
        )
    if not isinstance(getattr(given, "drives_here", None), bool):
        raise ConfigError(f"backend: expected `drives_here` to be True or False, found none in {given!r}")
    return cast("Backend", given)


def _opened(url: str) -> Backend:
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme not in SCHEMES:
        raise ConfigError(
            f"backend: expected a URL that begins with {' or '.join(f'{each}://' for each in SCHEMES)}, such as {_EXAMPLE!r}, found '{shown(url)}'"
        )
    package, extra = SCHEMES[scheme]
    try:
        is_there = find_spec(package) is not None
        module = import_module(f".{scheme}", __package__) if is_there else None
    except ModuleNotFoundError:
        module = None
    if module is None:
        raise ConfigError(
            f"backend: {scheme}:// needs the package {package}, which is not installed: pip install 'firmplan[{extra}]'"
        )
    return cast("Backend", module.open_backend(url))
