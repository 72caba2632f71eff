"""Messages and items of OpenAI's two dialects, and of OpenTelemetry's GenAI messages, read as what was said, called and answered.

Chat messages have `role` and `tool_calls`, items of the Responses API have `type`, messages of the semantic conventions have `parts`. All may be
mixed with their requests and responses: a request repeats the conversation so far, so that `Conversations` takes from each only what is new. Pure.

Sources: platform.openai.com/docs/api-reference (chat, responses); open-telemetry/semantic-conventions, docs/gen-ai/gen-ai-input-messages.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, cast

from ...errors import InputRejected
from ...plans.reports.nearest import listing
from ...plans.values import Json, canonical
from .trace import Answered, Called, Event, Said

Raw: TypeAlias = Mapping[str, Any]

ITEM_TYPES: Final = ("message", "function_call", "function_call_output", "reasoning")
"""Types of items of the Responses API that tell what an agent did."""

_HOSTED: Final = (
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "computer_call",
    "image_generation_call",
    "mcp_call",
)
_ROLES: Final[Mapping[str, Literal["user", "system", "model"]]] = {
    "user": "user",
    "system": "system",
    "developer": "system",
    "assistant": "model",
}
_RESULT_ROLES: Final = ("tool", "function")


def object_of(value: object) -> Raw | None:
    """Return a value that is an object; `None`: it is none."""
    return cast("Raw", value) if isinstance(value, dict) else None


def objects_in(value: object) -> list[Raw]:
    """Return the objects in a list; of what is no list, none."""
    listed = cast("list[object]", value) if isinstance(value, list) else []
    return [found for each in listed if (found := object_of(each)) is not None]


def placed_objects(given: object, place: str, what: str) -> list[tuple[Raw, str]]:
    """Return the objects of a list, each with its place.

    Args:
        given: What should be a list of objects.
        place: Where it stands, for messages.
        what: What each of them is, for messages.

    Raises:
        InputRejected: It is no list, or one of its elements is no object.
    """
    if not isinstance(given, list | tuple):
        raise InputRejected(f"{place}: expected a list, found {type(given).__name__}")
    found: list[tuple[Raw, str]] = []
    for index, each in enumerate(cast("Sequence[object]", given)):
        if (raw := object_of(each)) is None:
            raise InputRejected(f"{place}[{index}]: expected {what}, found {type(each).__name__}")
        found.append((raw, f"{place}[{index}]"))
    return found


def is_item(raw: Raw) -> bool:
    """Whether an object is a message or an item of a conversation."""
    return "role" in raw or raw.get("type") in (*ITEM_TYPES, *_HOSTED)


def events_of(raw: Raw, place: str) -> Iterator[Event]:
    """Yield what a message or an item says.

    Args:
        raw: The message or the item.
        place: Where it stands, for messages.

    Raises:
        InputRejected: It is neither.
    """
    role, kind = raw.get("role"), raw.get("type")
    if isinstance(parts := raw.get("parts"), list):
        yield from _parts(role, cast("list[object]", parts), place)
    elif kind == "function_call":
        yield Called(
            _text(raw, "call_id", place) or _text(raw, "id", place),
            _name(raw, place),
            raw.get("arguments"),
            place,
        )
    elif kind == "function_call_output":
        is_error = raw.get("status") == "incomplete"
        yield Answered(_text(raw, "call_id", place), _content(raw.get("output")), is_error, place)
    elif kind == "mcp_call":
        # The endpoint called the tool itself: one item is the call and its result.
        yield Called(_text(raw, "id", place), _name(raw, place), raw.get("arguments"), place)
        error = raw.get("error")
        yield Answered(_text(raw, "id", place), cast("Json", error or raw.get("output")), bool(error), place)
    elif kind == "reasoning" or kind in _HOSTED:
        return
    elif role in _RESULT_ROLES:
        is_error = raw.get("status") == "error" or raw.get("is_error") is True
        yield Answered(_text(raw, "tool_call_id", place), _content(raw.get("content")), is_error, place)
    elif isinstance(role, str) and role in _ROLES:
        yield from _message(raw, _ROLES[role], place)
    else:
        known = listing([*_ROLES, *_RESULT_ROLES])
        found = f"role {role!r}" if "role" in raw else f"type {kind!r}"
        raise InputRejected(
            f"{place}: expected a message with a role ({known}) or an item ({listing(ITEM_TYPES)}), found {found}"
        )


def _message(raw: Raw, role: Literal["user", "system", "model"], place: str) -> Iterator[Event]:
    content = _content(raw.get("content"))
    if isinstance(content, str) and content:
        yield Said(role, content)
    for body, where in placed_objects(raw.get("tool_calls") or [], f"{place}.tool_calls", "a call"):
        yield _call(body, where)
    if (old := object_of(raw.get("function_call"))) is not None:  # how calls were told before `tool_calls`
        yield _call({"function": old}, f"{place}.function_call")


def _call(raw: Raw, place: str) -> Called:
    # LangChain writes the calls of a message without `function`: {"name", "args", "id"}.
    body = object_of(raw.get("function")) or raw
    args = body["arguments"] if "arguments" in body else body.get("args", body.get("input"))
    return Called(_text(raw, "id", place), _name(body, place), args, place)


def _parts(role: object, parts: Sequence[object], place: str) -> Iterator[Event]:
    """Yield what the parts of a message of the semantic conventions say."""
    for index, part in enumerate(parts):
        where = f"{place}.parts[{index}]"
        match part:
            case {"type": "text", "content": str(text)} if text:
                # Of a `tool` message the parts are results; text beside them is nobody's.
                if isinstance(role, str) and role in _ROLES:
                    yield Said(_ROLES[role], text)
            case {"type": "tool_call"}:
                raw = cast("Raw", part)
                yield Called(_text(raw, "id", where), _name(raw, where), raw.get("arguments"), where)
            case {"type": "tool_call_response"}:
                raw = cast("Raw", part)
                value = raw["response"] if "response" in raw else raw.get("result")
                yield Answered(_text(raw, "id", where), _content(value), raw.get("is_error") is True, where)
            case _:
                pass  # images, reasoning, and what others add


def _content(content: object) -> Json:
    """Return the content of a message: text, the text of its parts, or another value as it is."""
    if content is None or not isinstance(content, list):
        return cast("Json", content)
    parts = cast("list[object]", content)
    texts: list[str] = []
    for part in parts:
        match part:
            case {"type": "text" | "input_text" | "output_text", "text": str(text)} | {
                "type": "refusal",
                "refusal": str(text),
            }:
                texts.append(text)
            case {
                "type": "image_url"
                | "input_image"
                | "input_file"
                | "input_audio"
                | "file"
                | "image"
                | "refusal"
            }:
                pass
            case _:
                return cast("Json", content)  # a result that is a list
    return "\n".join(texts) if texts or not parts else None


def _text(raw: Raw, key: str, place: str) -> str:
    value = raw.get(key)
    if value is None:
        return ""
    if not isinstance(value, str | int):
        raise InputRejected(f"{place}.{key}: expected text, found {type(value).__name__}")
    return str(value)


def _name(raw: Raw, place: str) -> str:
    name = raw.get("name")
    if not isinstance(name, str) or not name:
        raise InputRejected(f"{place}: expected a call with the name of a tool, found {name!r} as its name")
    return name


# --- Requests and responses: each request repeats the conversation so far.


@dataclass(slots=True)
class Conversation:
    """One conversation, with each message once."""

    items: list[tuple[Raw, str]] = field(default_factory=list[tuple[Raw, str]])
    keys: list[bytes] = field(default_factory=list[bytes])
    id: str = ""

    def extend(self, items: Sequence[tuple[Raw, str]]) -> None:
        """Add messages."""
        self.items += items
        self.keys += [_key(raw) for raw, _ in items]

    def extend_with_new(self, items: Sequence[tuple[Raw, str]]) -> None:
        """Add the messages that are not there yet."""
        self.extend([item for item in items if _key(item[0]) not in self.keys])


@dataclass(slots=True)
class Conversations:
    """The conversations of a file, from its requests and responses in order."""

    every: list[Conversation] = field(default_factory=list[Conversation])

    def add_request(self, items: Sequence[tuple[Raw, str]], previous: str = "") -> Conversation:
        """Return the conversation that a request continues, with what the request adds to it.

        Args:
            items: The messages of the request.
            previous: The id of the response that it follows, in the Responses API.
        """
        keys = [_key(raw) for raw, _ in items]
        calls = _call_ids(items)
        for each in reversed(self.every):
            if (
                previous and each.id == previous
            ):  # the endpoint knows the conversation, and the request only what is new
                each.extend(items)
                return each
            if each.keys and keys[: len(each.keys)] == each.keys:
                each.extend(items[len(each.keys) :])
                return each
            # An agent that shortens its history, or changes messages in it, still names the same calls. Ids alone do not tell: some
            # frameworks number the calls of each conversation.
            words = [key for (raw, _), key in zip(items, keys, strict=True) if raw.get("role") == "user"]
            if calls & _call_ids(each.items) and all(key in each.keys for key in words[:1]):
                each.extend_with_new(items)
                return each
        made = Conversation()
        made.extend(items)
        self.every.append(made)
        return made


def _call_ids(items: Sequence[tuple[Raw, str]]) -> set[str]:
    """Return the ids of the calls that messages name."""
    found: set[str] = set()
    for raw, _ in items:
        named = [each.get("id") for key in ("tool_calls", "parts") for each in objects_in(raw.get(key))]
        found |= {
            each
            for each in (*named, raw.get("call_id"), raw.get("tool_call_id"))
            if isinstance(each, str) and each
        }
    return found


def _key(raw: Raw) -> bytes:
    """Return what makes two spellings of one message equal: a response and its repetition in the next request differ in nulls and extras."""
    if isinstance(raw.get("parts"), list):
        return canonical([raw.get("role"), raw["parts"]])
    calls: list[Json] = []
    for call in objects_in(raw.get("tool_calls")):
        body = object_of(call.get("function")) or call
        calls.append([call.get("id"), body.get("name"), body.get("arguments")])
    kind = raw.get("type") if raw.get("type") != "message" else None
    # Repeated words are the same message only where nothing tells them apart: items of one kind have ids, results the id of their call.
    name = raw.get("call_id") or raw.get("tool_call_id")
    said = _content(raw.get("content")) or None
    return canonical([raw.get("role"), kind, said, calls, name, raw.get("arguments"), raw.get("output")])
