"""Where the parts of a plan stand in its text: the line of each path that a report names.

Only called when there is something to report, so reading a right plan costs nothing here. One walk over the text for
all paths. What is missing from the text has the line of what should hold it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import yaml

from ..immutable import record
from ..reports.paths import Part, parts_of
from .source import SourceError
from .yaml_text import events_of

_TOKEN = re.compile(r'[{}\[\],:]|"(?:[^"\\]|\\.)*"|[^\s{}\[\],:"]+')


@record
class _Place:
    """A wanted place, or one on the way to it."""

    line: int | None = None
    inner: dict[Part, _Place] = field(default_factory=dict["Part", "_Place"])


@dataclass(slots=True)
class _Open:
    place: _Place | None
    is_list: bool
    index: int = 0
    key: _Place | None = None
    wants_key: bool = True


def lines_of(text: str, paths: Iterable[str], *, is_json: bool) -> dict[str, int]:
    """Return the line, from 1, of each path in the text. O(text + paths).

    Args:
        text: The text of a plan, which was parsed before.
        paths: Places as reports name them.
        is_json: Whether the text is JSON; else it is YAML.
    """
    # Only the wanted paths are in the tree: the walk notes a line where text and tree meet, and forgets all else.
    root = _Place(line=1)
    wanted = {path: parts_of(path) for path in paths}
    for parts in wanted.values():
        place = root
        for part in parts:
            place = place.inner.setdefault(part, _Place())
    (_walk_json if is_json else _walk_yaml)(text, root)
    return {path: _deepest(root, parts) for path, parts in wanted.items()}


def _deepest(root: _Place, parts: tuple[Part, ...]) -> int:
    line = root.line or 1
    place = root
    for part in parts:
        place = place.inner[part]
        if place.line is None:
            return line
        line = place.line
    return line


def _enter(stack: list[_Open], root: _Place, line: int) -> _Place | None:
    """Return the wanted place of the value that starts now, with its line noted."""
    if not stack:
        return root
    top = stack[-1]
    if not top.is_list:
        top.wants_key = True
        return top.key
    place = top.place.inner.get(top.index) if top.place is not None else None
    top.index += 1
    if place is not None:
        place.line = line
    return place


def _name(top: _Open, name: str, line: int) -> None:
    """Note the key of the value that comes next; its line is the key's."""
    top.key = top.place.inner.get(name) if top.place is not None else None
    if top.key is not None:
        top.key.line = line
    top.wants_key = False


def _walk_json(text: str, root: _Place) -> None:
    stack: list[_Open] = []
    line, counted = 1, 0
    # The text was parsed before, so tokens are enough: the walk never has to decide whether the JSON is right.
    for match in _TOKEN.finditer(text):
        line += text.count("\n", counted, match.start())
        counted = match.start()
        word = match.group()
        top = stack[-1] if stack else None
        if word in "{[":
            stack.append(_Open(_enter(stack, root, line), is_list=word == "["))
        elif word in "}]":
            if stack:
                stack.pop()
        elif word in ":,":
            continue
        elif top is not None and not top.is_list and top.wants_key:
            _name(top, _key_of(word), line)
        else:
            _enter(stack, root, line)


def _key_of(token: str) -> str:
    if "\\" not in token:
        return token[1:-1]
    import json  # noqa: PLC0415  # rare

    try:
        return str(json.loads(token))
    except ValueError:
        return token


def _walk_yaml(text: str, root: _Place) -> None:
    stack: list[_Open] = []
    try:
        for event in events_of(text):
            line = event.start_mark.line + 1
            match event:
                case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                    is_list = isinstance(event, yaml.SequenceStartEvent)
                    stack.append(_Open(_enter(stack, root, line), is_list=is_list))
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    stack.pop()
                case yaml.ScalarEvent() if stack and not stack[-1].is_list and stack[-1].wants_key:
                    _name(stack[-1], event.value, line)
                case yaml.ScalarEvent() | yaml.AliasEvent():
                    _enter(stack, root, line)
                case _:
                    pass
    except SourceError:
        return
