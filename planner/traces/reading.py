"""Files of traces: JSON or JSON lines, in any of the formats, read into traces. A file may have several conversations.

`messages.py` and `spans.py` know the formats; this module finds out which one a file has. Errors name the file, the line and the place in it. A last
line that is cut off is passed over with a remark: the program that wrote it may have died.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias, cast

from ...errors import InputRejected
from ...plans.values import Json, NotJson, canonical
from .messages import (
    Conversation,
    Conversations,
    Raw,
    events_of,
    is_item,
    object_of,
    objects_in,
    placed_objects,
)
from .spans import Span, is_span, spans_of, traces_of_spans
from .trace import Trace, trace_of

BYTES_MAX: Final = 256 * 1024 * 1024
"""Of one file: more is no trace of one task."""

FORMATS: Final = 'chat messages ([{"role": ..}]), chat requests and responses, items of the Responses API, or spans of OpenTelemetry (resourceSpans, or one a line)'

TraceLike: TypeAlias = "str | PathLike[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]] | Trace"
"""A file, or what one holds: a list of messages, items or spans, or one object."""


@dataclass(frozen=True, slots=True)
class _Document:
    """One JSON value of a file, and where it stands."""

    value: Json
    place: str


def read_traces(source: TraceLike) -> list[Trace]:
    """Return the conversations of a file, or of what one holds.

    Raises:
        InputRejected: The file cannot be read, is no JSON, or holds no trace; the message names line and place.
    """
    if isinstance(source, Trace):
        return [source]
    if isinstance(source, str | PathLike):
        path = Path(fspath(source))
        return _traces(path.name, *_documents(path.name, _text(path)))
    try:
        canonical(source)
    except NotJson as fault:
        raise InputRejected(f"the trace: expected JSON, found another value: {fault}") from fault
    return _traces("the trace", [_Document(cast("Json", source), "the trace: $")], [])


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > BYTES_MAX:
            raise InputRejected(
                f"the trace {path}: expected at most {BYTES_MAX // 1024 // 1024} MiB, found more"
            )
        return path.read_bytes().decode()
    except OSError as error:
        raise InputRejected(f"the trace {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputRejected(
            f"the trace {path}: expected UTF-8, found another byte at {error.start}"
        ) from error


def _documents(name: str, text: str) -> tuple[list[_Document], list[str]]:
    """Return the JSON values of a text, and what was odd about it."""
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise InputRejected(f"{name}: expected {FORMATS}, found an empty file")
    try:
        return [_Document(_parsed(name, text, 1), f"{name}: $")], []
    except InputRejected as whole:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        # A text whose first line is a value of its own is JSON lines; else the fault is one of a whole document.
        if len(lines) < 2 or not _is_json(lines[0][1]):
            raise whole from None
        return _lines(name, lines)


def _lines(name: str, lines: Sequence[tuple[int, str]]) -> tuple[list[_Document], list[str]]:
    found: list[_Document] = []
    for number, line in lines:
        try:
            found.append(_Document(_parsed(name, line, number), f"{name}, line {number}: $"))
        except InputRejected:
            if number != lines[-1][0]:
                raise
            return found, [f"{name}, line {number}: the last line is cut off; it is ignored"]
    return found, []


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(name: str, text: str, first_line: int) -> Json:
    """Return the value of JSON text. Raises: InputRejected: it is none, with line and column."""
    try:
        value = json.loads(text, parse_constant=_refuse)
        canonical(value)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise InputRejected(
            f"{name}, line {line}, column {error.colno}: expected JSON, found invalid JSON: {error.msg}"
        ) from error
    except NotJson as fault:
        raise InputRejected(f"{name}, line {first_line}: {fault}") from fault
    except (ValueError, RecursionError) as error:
        raise InputRejected(
            f"{name}, line {first_line}: expected JSON, found invalid JSON: {error}"
        ) from error
    return cast("Json", value)


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


# --- Which format it is


def _traces(name: str, documents: Sequence[_Document], remarks: list[str]) -> list[Trace]:
    conversations = Conversations()
    spans: list[Span] = []
    # Messages that stand alone, one a line or in one list, are one conversation.
    loose: list[tuple[Raw, str]] = []
    for raw, place in _objects(documents):
        if is_span(raw):
            spans += spans_of(raw, place)
        elif is_item(raw):
            loose.append((raw, place))
        else:
            _add_exchange(conversations, raw, place)
    if loose:
        alone = Conversation()
        alone.extend(loose)
        conversations.every.append(alone)
    found: list[Trace] = []
    many = len(conversations.every) > 1
    for number, each in enumerate(conversations.every, 1):
        events = [event for raw, place in each.items for event in events_of(raw, place)]
        found.append(trace_of(f"{name}, conversation {number}" if many else name, events, remarks))
    found += traces_of_spans(name, spans, remarks)
    made = [trace for trace in found if trace.calls]
    if not made:
        seen = "no call of a tool" if found else "no conversation"
        raise InputRejected(f"{name}: expected {FORMATS}, with calls of tools; found {seen}")
    return made


def _objects(documents: Iterable[_Document]) -> Iterator[tuple[Raw, str]]:
    """Yield the objects of the documents, those in lists one by one."""
    for document in documents:
        if isinstance(document.value, dict):
            yield cast("Raw", document.value), document.place
        elif isinstance(document.value, list):
            for index, each in enumerate(document.value):
                yield from _objects([_Document(each, f"{document.place}[{index}]")])
        else:
            raise InputRejected(
                f"{document.place}: expected an object, found {type(document.value).__name__}"
            )


def _add_exchange(conversations: Conversations, raw: Raw, place: str) -> None:
    """Add a request, a response, or both."""
    # Recorders write an exchange as {"request", "response"}, sometimes with the body inside.
    parts = [(object_of(raw.get(key)), f"{place}.{key}") for key in ("request", "response")]
    bodies = [(object_of(each.get("body")) or each, where) for each, where in parts if each is not None]
    bodies = bodies or [(raw, place)]
    conversation: Conversation | None = None
    for body, where in bodies:
        asked, said = _asked(body, where), _said(body, where)
        if asked is None and said is None:
            raise InputRejected(
                f"{where}: expected {FORMATS}, found an object with {', '.join(sorted(body)[:6]) or 'nothing'}"
            )
        previous = str(body.get("previous_response_id") or "")
        if asked is not None:
            conversation = conversations.add_request(asked, previous)
        if said is not None:
            if conversation is None:
                conversation = (
                    conversations.every[-1] if conversations.every else conversations.add_request([])
                )
            conversation.extend_with_new(said)
            conversation.id = str(body.get("id") or conversation.id)


def _asked(raw: Raw, place: str) -> list[tuple[Raw, str]] | None:
    """Return the messages of a request; `None`: it is none."""
    if isinstance(raw.get("messages"), list):
        return _listed(raw["messages"], f"{place}.messages")
    given: object = raw.get("input")
    if isinstance(given, str):
        return [({"role": "user", "content": given}, f"{place}.input")]
    if isinstance(given, list):
        system = raw.get("instructions")
        head: list[tuple[Raw, str]] = []
        if isinstance(system, str) and system:
            head = [({"role": "system", "content": system}, f"{place}.instructions")]
        return [*head, *_listed(cast("object", given), f"{place}.input")]
    return None


def _said(raw: Raw, place: str) -> list[tuple[Raw, str]] | None:
    """Return the messages of a response; `None`: it is none."""
    if isinstance(raw.get("choices"), list):
        found = [each["message"] for each in objects_in(raw["choices"])[:1] if "message" in each]
        return _listed(found, f"{place}.choices")
    if isinstance(raw.get("output"), list):
        return _listed(raw["output"], f"{place}.output")
    return None


def _listed(given: object, place: str) -> list[tuple[Raw, str]]:
    return placed_objects(given, place, "a message or an item")
