"""Draw all code and values that decide what a function does, as named parts.

Starting from one function, the walk follows the names that the code reads: to project functions and classes, through
module attributes, closures, partials, bound methods, decorators that keep `__wrapped__`, base classes and
annotations of fields; to constants, by value. The standard library counts by name, installed code by name and
version. A part is named as people name it (`function parse_price`, `constant RATES`), never by file or line, so
that moving code changes nothing. What cannot be seen is said in `unseen`: fail closed.
"""

from __future__ import annotations

import ast
import dis
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, cast

from .origin import Origin, distributions_of, is_project_file, origin_of
from .syntax import FunctionNode, NoSource, class_nodes, function_node, spelled
from .tool import Tool

PARTS_MAX = 20_000  # functions, classes and values of one tool: more is a whole program, and the walk says so
_DYNAMIC = frozenset({"eval", "exec", "compile", "__import__", "globals", "locals", "vars"})
_BY_NAME = frozenset({"getattr", "setattr", "delattr"})  # seen only if the name is written out
_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_ABSENT: Any = object()


@dataclass
class Portrait:
    """What has been seen so far.

    Attributes:
        parts: Name -> text; equal texts mean equal behaviour.
        versions: Distribution -> version.
        unseen: What could not be seen, each as a sentence.
    """

    parts: dict[str, str] = field(default_factory=dict[str, str])
    versions: dict[str, str] = field(default_factory=dict[str, str])
    unseen: dict[str, None] = field(default_factory=dict[str, None])
