"""YAML text to a JSON value, by YAML 1.2's core schema: `yes` is text, and so are `1_000`, `12:30` and dates.

Built on the parser's events rather than on its constructor: no classes can be named, nesting cannot exhaust the stack, keys
cannot repeat, and what aliases multiply is counted. Linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml
from typing_extensions import override

from ..reports.paths import Part, path_of
from ..reports.visible import has_invisible, visible
from ..values import DEPTH_MAX, Json
from .source import SourceError

ALIASED_MAX = 100_000
"""Values that all aliases together may repeat."""

_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z")
_TAG = "tag:yaml.org,2002:"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_Event: TypeAlias = Any
"""PyYAML's events carry no useful types."""


@dataclass(slots=True)
class _Open:
    """A list or an object whose end has not come yet."""

    value: list[Json] | dict[str, Json]
    anchor: str | None
    key: str | None = None
    count: int = 1


@dataclass(slots=True)
class _Reading:
    root: Json = None
    done: bool = False
    stack: list[_Open] = field(default_factory=list[_Open])
    anchors: dict[str, tuple[Json, int]] = field(default_factory=dict[str, tuple[Json, int]])
    aliased: int = 0
    is_lenient: bool = False

    def place(self) -> list[Part]:
        """Return where the next value goes."""
        inside = (open_.key if isinstance(open_.value, dict) else len(open_.value) for open_ in self.stack)
        return [part for part in inside if part is not None]


def events_of(text: str) -> Iterator[_Event]:
    """Yield the parser's events.

    Raises:
        SourceError: The text is no YAML.
    """
    try:
        yield from yaml.parse(text, Loader=_LOADER)  # pyright: ignore[reportUnknownMemberType]  # PyYAML carries no types
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "an unknown place"
        raise SourceError(
            f"not YAML: {fault.problem} at {where}", line=mark.line + 1 if mark else None
        ) from fault
    except yaml.YAMLError as fault:
        raise SourceError(f"not YAML: {' '.join(str(fault).split())}") from fault


def parse_yaml(text: str, *, is_lenient: bool = False) -> Json:
    """Return the value of one YAML document.

    Args:
        text: The document.
        is_lenient: Whether keys may be numbers and the like, which are read as the text that stands there, and integers of more than 64
            bits are read as the nearest number: documents of others have both.

    Raises:
        SourceError: The text is no YAML, or has no value in JSON: with the place and the line.
    """
    # The stack of open lists and objects is ours, so hostile nesting ends at a bound instead of in Python's recursion.
    reading = _Reading(is_lenient=is_lenient)
    for event in events_of(text):
        match event:
            case yaml.DocumentStartEvent() if reading.done:
                raise _fault(reading, event, "expected one document, found a second")
            case yaml.ScalarEvent():
                _scalar(reading, event)
            case yaml.AliasEvent():
                _alias(reading, event)
            case yaml.SequenceStartEvent():
                _open(reading, event, [])
            case yaml.MappingStartEvent():
                _open(reading, event, {})
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                closed = reading.stack.pop()
                _put(reading, closed.value, closed.anchor, closed.count)
            case _:
                pass
    return reading.root


def _fault(reading: _Reading, event: _Event, message: str) -> SourceError:
    return SourceError(message, path=path_of(reading.place()), line=event.start_mark.line + 1)


def _open(reading: _Reading, event: _Event, value: list[Json] | dict[str, Json]) -> None:
    if event.tag not in (None, "!", f"{_TAG}seq", f"{_TAG}map"):
        raise _fault(reading, event, f"expected plain YAML, found the tag {event.tag}")
    if len(reading.stack) >= DEPTH_MAX:
        raise SourceError(
            f"lists and objects are nested deeper than {DEPTH_MAX}",
            code="limit-exceeded",
            line=event.start_mark.line + 1,
        )
    if reading.stack and isinstance(reading.stack[-1].value, dict) and reading.stack[-1].key is None:
        raise _fault(reading, event, "expected a key in text, found a list or an object")
    reading.stack.append(_Open(value, event.anchor))


def _scalar(reading: _Reading, event: _Event) -> None:
    top = reading.stack[-1] if reading.stack else None
    if top is None or isinstance(top.value, list) or top.key is not None:
        _put(reading, _resolved(reading, event), event.anchor, 1)
        return
    value = event.value if reading.is_lenient else _resolved(reading, event)
    if not isinstance(value, str):
        raise _fault(reading, event, f"expected a key in text, found {event.value!r}: put it in quotes")
    if value in top.value:
        raise _fault(reading, event, f"the key {value!r} stands twice in one object")
    top.key = value
    if event.anchor is not None:
        reading.anchors[event.anchor] = (value, 1)


def _put(reading: _Reading, value: Json, anchor: str | None, count: int) -> None:
    if anchor is not None:
        reading.anchors[anchor] = (value, count)
    if not reading.stack:
        reading.root, reading.done = value, True
        return
    top = reading.stack[-1]
    top.count += count
    if isinstance(top.value, list):
        top.value.append(value)
    else:
        assert top.key is not None
        top.value[top.key] = value
        top.key = None


def _alias(reading: _Reading, event: _Event) -> None:
    if event.anchor not in reading.anchors:
        raise _fault(
            reading, event, f"the alias *{event.anchor} stands for nothing that is complete before it"
        )
    # An alias repeats the same object, which costs nothing here; but whoever walks the value walks it each time ("billion laughs").
    value, count = reading.anchors[event.anchor]
    reading.aliased += count
    if reading.aliased > ALIASED_MAX:
        raise SourceError(
            f"aliases repeat more than {ALIASED_MAX} values: write them out",
            code="limit-exceeded",
            line=event.start_mark.line + 1,
        )
    top = reading.stack[-1] if reading.stack else None
    if top is not None and isinstance(top.value, dict) and top.key is None:
        raise _fault(reading, event, "expected a key in text, found an alias")
    _put(reading, value, None, count)


def _resolved(reading: _Reading, event: _Event) -> Json:
    """Return the value of a scalar: by its tag, else by its spelling if it is plain."""
    # YAML 1.1 readers, PyYAML's constructor among them, would read `yes`, `12:30` and `1_000` as other values than text.
    text: str = event.value
    tag = event.tag
    if tag in ("!", f"{_TAG}str") or (tag is None and not event.implicit[0]):
        return text
    if tag is not None and tag not in {f"{_TAG}{kind}" for kind in ("null", "bool", "int", "float")}:
        raise _fault(reading, event, f"expected plain YAML, found the tag {tag}")
    if _NULL.match(text):
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INTEGER.match(text):
        return _integer(reading, event, text)
    if _NUMBER.match(text):
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise _fault(reading, event, f"expected a finite number, found {text[:40]}")
        return value
    if _NOT_FINITE.match(text):
        raise _fault(reading, event, f"expected a finite number, found {text}")
    if tag is not None:
        raise _fault(reading, event, f"expected a value of {tag.removeprefix(_TAG)}, found {text[:40]!r}")
    return text


def _integer(reading: _Reading, event: _Event, text: str) -> int | float:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    # The length is tested first: Python's conversion of long digits takes quadratic time.
    value = int(text, base) if len(text) <= 64 else 2**64
    if not -(2**63) <= value < 2**63:
        if reading.is_lenient and base == 10 and len(text) <= 64:
            return float(text)
        raise _fault(reading, event, f"expected an integer of at most 64 bits, found {text[:40]}")
    return value


# --- Writing: YAML text that YAML 1.1 and YAML 1.2 readers take for the same value


WIDTH = 110
"""Characters of a line before text is folded."""

_NUMBER_1_2 = re.compile(f"{_NUMBER.pattern}|{_INTEGER.pattern}")


class _Dumper(yaml.SafeDumper):
    """Writes every value out (no aliases), and puts text that either version reads as something else in quotes."""

    @override
    def ignore_aliases(self, data: object) -> bool:
        return True


_Dumper.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType]  # PyYAML's stubs leave it out
    "tag:yaml.org,2002:float", _NUMBER_1_2, list("-+0123456789.")
)


def _text(_dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Between double quotes an escape is the character that it stands for.
    style = '"' if has_invisible(text) else None
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def dump_yaml(value: Json) -> str:
    """Return YAML text; keys keep their order, and invisible characters are escapes."""
    return visible(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH))
