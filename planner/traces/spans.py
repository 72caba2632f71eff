"""Spans of OpenTelemetry's GenAI conventions: the `execute_tool` spans are the calls, the messages of `chat` and `invoke_agent` spans the words.

Read are the OTLP export as JSON (`resourceSpans`, attributes as a list of typed values), and spans as Python's and JavaScript's exporters print them
(`attributes` as an object). Where spans have the messages of the conversation, these tell which calls one turn made, and the `execute_tool` spans add what
the messages lack; without messages, calls that overlap in time are one turn. Pure.

Source: open-telemetry/semantic-conventions, docs/gen-ai/gen-ai-spans.md and gen-ai-agent-spans.md; opentelemetry-proto, trace.proto (JSON mapping).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from ...errors import InputRejected
from ...plans.values import Json
from .messages import Conversations, Raw, events_of, object_of, objects_in, placed_objects
from .trace import Answered, Called, Event, Said, Trace, trace_of

OPERATION: Final = "gen_ai.operation.name"
TOOL: Final = "gen_ai.tool.name"
CALL_ID: Final = "gen_ai.tool.call.id"
ARGUMENTS: Final = "gen_ai.tool.call.arguments"
RESULT: Final = "gen_ai.tool.call.result"
INPUT: Final = "gen_ai.input.messages"
OUTPUT: Final = "gen_ai.output.messages"
SYSTEM: Final = "gen_ai.system_instructions"
ERROR: Final = "error.type"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS: Final = re.compile(r"-?[0-9]{1,19}")
_NESTED_MAX: Final = 50
"""Values inside values of an attribute."""


@dataclass(frozen=True, slots=True)
class Span:
    """One span, whatever its spelling.

    Attributes:
        trace_id: The trace that it belongs to; empty if there is none.
        name: Its name.
        attributes: Name -> value.
        start: When it began, in nanoseconds.
        end: When it ended, in nanoseconds; the same as `start` if it is not known.
        is_error: Whether its status is an error.
        message: The message of its status.
        place: Where it stands in the file.
    """

    trace_id: str
    name: str
    attributes: Mapping[str, Json]
    start: int
    end: int
    is_error: bool
    message: str
    place: str

    @property
    def is_tool(self) -> bool:
        """Whether it is the execution of a tool."""
        operation = self.attributes.get(OPERATION)
        return operation == "execute_tool" or (operation is None and self.name.startswith("execute_tool"))


def is_span(raw: Raw) -> bool:
    """Whether an object is a span, or an export of spans."""
    return "resourceSpans" in raw or ("attributes" in raw and "name" in raw)


def spans_of(raw: Raw, place: str) -> Iterator[Span]:
    """Yield the spans of an export, or the one span.

    Args:
        raw: The export or the span.
        place: Where it stands, for messages.

    Raises:
        InputRejected: It is neither.
    """
    if "resourceSpans" not in raw:
        yield _span(raw, place)
        return
    for resource, path in _each(raw, "resourceSpans", place):
        for scope, inner in _each(resource, "scopeSpans", path):
            for span, where in _each(scope, "spans", inner):
                yield _span(span, where)


def _each(raw: Raw, key: str, place: str) -> list[tuple[Raw, str]]:
    return placed_objects(raw.get(key, []), f"{place}.{key}", "an object")


def _span(raw: Raw, place: str) -> Span:
    context = object_of(raw.get("context")) or object_of(raw.get("spanContext")) or {}
    status = object_of(raw.get("status")) or {"code": raw.get("status")}
    code = status.get("code", status.get("status_code", status.get("statusCode")))
    start = _time(raw, ("startTimeUnixNano", "start_time", "startTime", "start_time_unix_nano"), place)
    end = _time(raw, ("endTimeUnixNano", "end_time", "endTime", "end_time_unix_nano"), place)
    trace_id = (
        raw.get("traceId") or raw.get("trace_id") or context.get("trace_id") or context.get("traceId") or ""
    )
    return Span(
        str(trace_id),
        str(raw.get("name", "")),
        _attributes(raw.get("attributes"), place),
        start,
        max(start, end),
        code in (2, "2", "ERROR", "STATUS_CODE_ERROR", "StatusCode.ERROR", "error"),
        str(status.get("message") or status.get("description") or ""),
        place,
    )


def _time(raw: Raw, names: Sequence[str], place: str) -> int:
    """Return a time in nanoseconds: a number, the digits of one, ISO text, or seconds and nanoseconds as JavaScript's exporter has them."""
    name = next((each for each in names if raw.get(each) is not None), None)
    value = raw.get(name) if name is not None else None
    match value:
        case None:
            return 0
        case int() | float():
            return int(value)
        case str() if _DIGITS.fullmatch(value):
            return int(value)
        case [int(seconds), int(nanos)]:
            return seconds * 10**9 + nanos
        case str():
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                pass
            else:
                # Not `timestamp()`: it reads a time without an offset by the zone of the machine.
                delta = moment.replace(tzinfo=UTC) - (moment.utcoffset() or timedelta()) - _EPOCH
                return ((delta.days * 86_400 + delta.seconds) * 10**6 + delta.microseconds) * 1000
        case _:
            pass
    raise InputRejected(f"{place}.{name}: expected a time (nanoseconds, or ISO 8601), found {value!r}")


def _attributes(raw: object, place: str) -> dict[str, Json]:
    if isinstance(raw, dict):
        return dict(cast("dict[str, Json]", raw))
    if not isinstance(raw, list):
        raise InputRejected(
            f"{place}.attributes: expected an object, or a list of keys and values, found {type(raw).__name__}"
        )
    found: dict[str, Json] = {}
    for index, each in enumerate(cast("list[object]", raw)):
        match each:
            case {"key": str(name)}:
                value = cast("Raw", each).get("value", {})
                found[name] = _value(value, f"{place}.attributes[{index}].value", _NESTED_MAX)
            case _:
                raise InputRejected(
                    f"{place}.attributes[{index}]: expected a key and a value, found {each!r:.80}"
                )
    return found


def _value(raw: object, place: str, room: int) -> Json:
    """Return the value of a typed value of OTLP."""
    typed = object_of(raw)
    if typed is None or len(typed) > 1:
        raise InputRejected(
            f"{place}: expected a value of OTLP (stringValue, intValue, ..), found {raw!r:.80}"
        )
    for kind, value in typed.items():
        inner = object_of(value)
        if kind in ("stringValue", "boolValue", "bytesValue") and isinstance(value, str | bool):
            return value
        if kind == "intValue" and _DIGITS.fullmatch(str(value)):
            return int(value)
        if kind == "doubleValue" and isinstance(value, int | float):
            return float(value)
        if kind == "arrayValue" and inner is not None and room > 0:
            values = cast("list[object]", inner.get("values") or [])
            return [_value(each, f"{place}[{index}]", room - 1) for index, each in enumerate(values)]
        if kind == "kvlistValue" and inner is not None and room > 0:
            pairs = objects_in(inner.get("values"))
            return {str(each.get("key")): _value(each.get("value", {}), place, room - 1) for each in pairs}
        raise InputRejected(
            f"{place}: expected a value of OTLP (stringValue, intValue, ..), found {raw!r:.80}"
        )
    return None


# --- From spans to traces


def traces_of_spans(name: str, spans: Iterable[Span], remarks: Sequence[str] = ()) -> list[Trace]:
    """Return a trace for each trace id, in the order in which they began.

    Args:
        name: The file.
        spans: All spans of the file.
        remarks: What was odd about the file.

    Raises:
        InputRejected: A message of a span is none.
    """
    grouped: dict[str, list[Span]] = {}
    # Exporters write a span when it ends, so that order in the file is not order in time.
    for span in sorted(spans, key=lambda each: each.start):
        grouped.setdefault(span.trace_id, []).append(span)
    made = [_trace(name, group, remarks) for group in grouped.values()]
    made = [trace for trace in made if trace.calls]
    if len(made) < 2:
        return made
    return [replace(trace, name=f"{trace.name}, trace {number}") for number, trace in enumerate(made, 1)]


def _trace(name: str, spans: Sequence[Span], remarks: Sequence[str]) -> Trace:
    tools = [span for span in spans if span.is_tool]
    talk = _talk(spans)
    told = [event for event in talk if isinstance(event, Called)]
    odd = list(remarks)
    if not told:
        asked = [event for event in talk if isinstance(event, Said) and event.role != "model"]
        said = [event for event in talk if isinstance(event, Said) and event.role == "model"]
        return trace_of(name, [*asked, *_timed(tools), *said[-1:]], odd)
    # The messages have the order and the turns; spans fill in the results and arguments that the messages lack.
    by_id = {str(span.attributes[CALL_ID]): span for span in tools if span.attributes.get(CALL_ID)}
    answered = {event.id for event in talk if isinstance(event, Answered)}
    events: list[Event] = []
    for at, event in enumerate(talk):
        if isinstance(event, Called):
            span = by_id.get(event.id)
            if span is not None and event.args is None:
                event = replace(event, args=span.attributes.get(ARGUMENTS))  # noqa: PLW2901  # the same call, complete
        events.append(event)
        is_last = not (at + 1 < len(talk) and isinstance(talk[at + 1], Called))
        if isinstance(event, Called) and is_last:
            turn = _turn_before(talk, at)
            events += [
                _answer(by_id[call.id]) for call in turn if call.id in by_id and call.id not in answered
            ]
    unseen = [span for span in tools if str(span.attributes.get(CALL_ID)) not in {call.id for call in told}]
    named = {call.tool for call in told}
    odd += [
        f"{span.place}: a call of '{_tool(span)}' that no message tells of; it is passed over"
        for span in unseen
        if _tool(span) not in named or span.attributes.get(CALL_ID)
    ]
    return trace_of(name, events, odd)


def _turn_before(talk: Sequence[Event], at: int) -> list[Called]:
    """Return the calls that stand together up to a place."""
    found: list[Called] = []
    while at >= 0 and isinstance(event := talk[at], Called):
        found.append(event)
        at -= 1
    return found[::-1]


def _talk(spans: Sequence[Span]) -> list[Event]:
    """Return what the messages of the spans say, each once."""
    conversations = Conversations()
    systems: list[Event] = []
    # A `chat` span has one request; the span of the agent around them has the same words again, and counts only where nothing else has any.
    chats = [
        span
        for span in spans
        if span.attributes.get(OPERATION) in ("chat", "generate_content", "text_completion")
    ]
    telling = [span for span in chats if span.attributes.get(INPUT) or span.attributes.get(OUTPUT)]
    for span in telling or [span for span in spans if not span.is_tool]:
        asked = _messages(span, INPUT)
        said = _messages(span, OUTPUT)
        if not asked and not said:
            continue
        conversation = conversations.add_request(asked)
        conversation.extend_with_new(said)
        systems += [Said("system", text) for text in _instructions(span)]
    events = [
        event for each in conversations.every for raw, place in each.items for event in events_of(raw, place)
    ]
    return [*systems, *events]


def _messages(span: Span, key: str) -> list[tuple[Raw, str]]:
    """Return the messages of an attribute: a list, or the JSON text of one."""
    place = f"{span.place} '{key}'"
    value = span.attributes.get(key)
    if isinstance(value, str):
        try:
            value = cast("Json", json.loads(value))
        except ValueError as error:
            raise InputRejected(f"{place}: expected JSON, found invalid JSON: {error}") from error
    return placed_objects([] if value is None else value, place, "a message")


def _instructions(span: Span) -> list[str]:
    told = span.attributes.get(SYSTEM)
    parts: object = told
    if isinstance(told, str):
        try:
            parts = json.loads(told)
        except ValueError:
            return [told]
    return [
        str(part["content"]) for part in objects_in(parts) if part.get("type") == "text" and "content" in part
    ]


def _timed(tools: Sequence[Span]) -> Iterator[Event]:
    """Yield calls and results of tool spans by time: calls that overlap are one turn, since none of them had the result of another."""
    waiting: list[Span] = []
    turn = 0
    for span in tools:
        if waiting and span.start >= max(each.end for each in waiting):
            yield from map(_answer, waiting)
            waiting, turn = [], turn + 1
        id_ = str(span.attributes.get(CALL_ID) or span.place)
        yield Called(id_, _tool(span), span.attributes.get(ARGUMENTS), span.place, turn)
        waiting.append(span)
    yield from map(_answer, waiting)


def _answer(span: Span) -> Answered:
    id_ = str(span.attributes.get(CALL_ID) or span.place)
    is_error = span.is_error or bool(span.attributes.get(ERROR))
    value = span.attributes.get(RESULT)
    if is_error and value is None:
        value = span.message or str(span.attributes.get(ERROR) or "")
    return Answered(id_, value, is_error, span.place)


def _tool(span: Span) -> str:
    name = span.attributes.get(TOOL) or span.name.removeprefix("execute_tool").strip()
    if not isinstance(name, str) or not name:
        raise InputRejected(f"{span.place}: expected the tool's name as '{TOOL}', found none")
    return name
