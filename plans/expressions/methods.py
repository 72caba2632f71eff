"""The methods of text: the whole table, and what each does at run time; as `functions.py` for functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from ..faults import EvalFault
from ..values import Json
from .frame import ITEMS_MAX
from .functions import Apply, Function, a_text, an_integer, joined

if TYPE_CHECKING:
    from .frame import Frame


def _method(name: str, call: Callable[..., Json], *kinds: str) -> Apply:
    """Return the implementation of a method of text whose arguments have the given kinds."""
    what = f".{name}(..)"

    def apply(frame: Frame, base: Json, *arguments: Json) -> Json:
        text = a_text(base, what)
        frame.pay_text(len(text))
        for argument, kind in zip(arguments, kinds, strict=False):
            if kind == "text":
                a_text(argument, what)
            elif kind == "integer":
                an_integer(argument, what)
            elif argument is not None or kind != "text or null":
                a_text(argument, what)
        try:
            return call(frame, text, *arguments)
        except ValueError as error:  # an empty separator
            raise EvalFault("bad-value", f"{what}: {error}") from None

    return apply


def _plain(call: Callable[..., Json]) -> Callable[..., Json]:
    """Return a method whose work is paid for by the length of its text."""

    def run(_frame: Frame, text: str, *arguments: Json) -> Json:
        return call(text, *arguments)

    return run


def _longer(call: Callable[[str], str]) -> Callable[..., Json]:
    """Return a change of case, which can make a text up to three times longer."""

    def changed(frame: Frame, text: str) -> Json:
        frame.pay_text(3 * len(text) if not text.isascii() else len(text))
        return call(text)

    return changed


def _replace(frame: Frame, text: str, old: str, new: str, count: int = -1) -> Json:
    found = text.count(old)
    times = found if count < 0 else min(found, count)
    frame.pay_text(len(text) + times * max(len(new) - len(old), 0))
    return text.replace(old, new, count)


def _split(frame: Frame, text: str, separator: str | None = None, count: int = -1) -> Json:
    parts = text.split(separator, count if 0 <= count <= ITEMS_MAX else ITEMS_MAX)
    frame.pay_items(len(parts))
    return cast("list[Json]", parts)


def _splitlines(frame: Frame, text: str) -> Json:
    lines = text.splitlines()
    frame.pay_items(len(lines))
    return cast("list[Json]", lines)


def _join_method(frame: Frame, base: Json, values: Json) -> Json:
    return joined(frame, values, a_text(base, ".join(..)"))


METHODS: dict[str, Function] = {
    "lower": Function(".lower() -> text", 0, 0, _method("lower", _longer(str.lower))),
    "upper": Function(".upper() -> text", 0, 0, _method("upper", _longer(str.upper))),
    "title": Function(".title() -> text", 0, 0, _method("title", _longer(str.title))),
    "strip": Function(
        ".strip(chars: text = whitespace) -> text",
        0,
        1,
        _method("strip", _plain(str.strip), "text or null"),
    ),
    "split": Function(
        ".split(sep: text = whitespace, most: integer = -1) -> list[text]",
        0,
        2,
        _method("split", _split, "text or null", "integer"),
    ),
    "splitlines": Function(".splitlines() -> list[text]", 0, 0, _method("splitlines", _splitlines)),
    "replace": Function(
        ".replace(old: text, new: text, most: integer = -1) -> text",
        2,
        3,
        _method("replace", _replace, "text", "text", "integer"),
    ),
    "startswith": Function(
        ".startswith(prefix: text) -> boolean",
        1,
        1,
        _method("startswith", _plain(str.startswith), "text"),
    ),
    "endswith": Function(
        ".endswith(suffix: text) -> boolean",
        1,
        1,
        _method("endswith", _plain(str.endswith), "text"),
    ),
    "join": Function(".join(xs: list[text]) -> text", 1, 1, _join_method, generators=True),
    "count": Function(
        ".count(part: text) -> integer",
        1,
        1,
        _method("count", _plain(str.count), "text"),
    ),
    "find": Function(
        ".find(part: text) -> integer",
        1,
        1,
        _method("find", _plain(str.find), "text"),
    ),
}
