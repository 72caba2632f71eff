"""A script of a model's answers: a list in order, or exchanges that are found by their request.

The file is what `firmplan traffic` writes (one exchange a line, after a line `{"recording": 1}`), a list of replies, or

    {"recording": 1, "exchanges": [
      {"match": "words that stand in the request", "reply": {"firmplan": 1, "steps": []}},
      {"request": "sha256:..", "reply": "found by the request's fingerprint"},
      {"refusal": "found by neither: the next in order"},
      {"match": ["all", "of these"], "error": {"status": 429, "headers": {"retry-after": "1"}}}
    ]}

An exchange answers in one of: `reply` (a value, or a whole chat completion), `text` (content as it is), `refusal`,
`truncated` (a value cut in the middle), `error` (`status`, `message`, `headers`), `empty: true`, `body` (an HTTP body as it
is, with its `content_type`); `seconds` delays any of them. It answers one request, or every one it fits where `always` is
true. Of the exchanges that fit, the first unused one answers; those with a condition come before those without, so that
requests sent at the same time find their own answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..tools.models.recorder import fingerprint
from .replies import Body, Empty, HttpError, Json, Refusal, Reply, Request, Scripted, Slow, Text, Truncated

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answer and the requests that it is for.

    Attributes:
        words: Texts that must all stand in the request's messages.
        fingerprint: The fingerprint that the request must have; `None`: any.
        always: Whether it answers more than one request.
    """

    reply: Reply
    words: tuple[str, ...] = ()
    fingerprint: str | None = None
    always: bool = False

    @property
    def is_conditional(self) -> bool:
        """Whether it looks at the request at all."""
        return bool(self.words) or self.fingerprint is not None

    def fits(self, request: Request) -> bool:
        """Whether this is an answer to `request`."""
        if self.fingerprint is not None and self.fingerprint != fingerprint(request):
            return False
        text = _text(request.get("messages"))
        return all(word in text for word in self.words)


class Script:
    """The exchanges that are still to come. Not thread-safe: one server takes from it."""

    def __init__(self, exchanges: Iterable[Exchange]) -> None:
        self._left = list(exchanges)
        self.count = len(self._left)

    @property
    def left(self) -> int:
        """How many are still to come."""
        return len(self._left)

    def take(self, request: Request) -> Reply | None:
        """Return the answer to `request` and use it up; `None` where nothing fits."""
        fitting = [exchange for exchange in self._left if exchange.fits(request)]
        if not fitting:
            return None
        chosen = next((exchange for exchange in fitting if exchange.is_conditional), fitting[0])
        if not chosen.always:
            self._left.remove(chosen)
        return chosen.reply


def read_recording(path: str | Path) -> list[Exchange]:
    """Read a recording from a file. Raises: ValueError that names the file and the faulty entry; OSError."""
    text = Path(path).read_text(encoding="utf-8")
    try:
        head, _, lines = text.partition("\n")
        if head.strip() == '{"recording": 1}':
            entries: Json = [json.loads(line) for line in lines.splitlines() if line.strip()]
            return exchanges_of({"recording": FORMAT, "exchanges": entries})
        document: Json = json.loads(text)
        return exchanges_of(document)
    except ValueError as fault:
        raise ValueError(f"{path} is no recording of a model's answers: {fault}") from fault


def exchanges_of(document: Json) -> list[Exchange]:
    """Return the exchanges of a recording that has been read. Raises: ValueError."""
    match document:
        case list(replies):
            return [Exchange(reply) for reply in replies]
        case {"recording": 1, "exchanges": list(entries)}:
            return [_exchange(entry, index) for index, entry in enumerate(entries)]
        case _:
            raise ValueError(f'expected a list of replies, or {{"recording": {FORMAT}, "exchanges": [..]}}')


def _exchange(entry: Json, index: int) -> Exchange:
    if not isinstance(entry, dict):
        raise ValueError(f"exchanges[{index}]: expected an object, found {type(entry).__name__}")  # noqa: TRY004  # a fault of the file
    words, digest, seconds = entry.get("match", []), entry.get("request"), entry.get("seconds", 0)
    reply = _reply(entry, index)
    return Exchange(
        reply=Slow(reply, float(seconds)) if isinstance(seconds, int | float) and seconds else reply,
        words=(words,)
        if isinstance(words, str)
        else tuple(map(str, words if isinstance(words, list) else ())),
        fingerprint=digest if isinstance(digest, str) else None,
        always=entry.get("always") is True,
    )


def _reply(entry: Mapping[str, Json], index: int) -> Scripted:  # noqa: PLR0911  # one case, one line
    match entry:
        case {"reply": value}:
            return value
        case {"text": str(text)}:
            return Text(text)
        case {"refusal": str(text)}:
            return Refusal(text)
        case {"truncated": value}:
            return Truncated(value)
        case {"error": {"status": int(status), **rest}}:
            headers = rest.get("headers")
            fields = (
                {name: str(value) for name, value in headers.items()} if isinstance(headers, dict) else {}
            )
            return HttpError(status, str(rest.get("message", "")), fields)
        case {"empty": True}:
            return Empty()
        case {"body": str(text), **rest}:
            return Body(text, str(rest.get("content_type", "application/json")))
        case _:
            raise ValueError(
                f"exchanges[{index}]: expected one of reply, text, refusal, truncated, error, empty, body"
            )


def _text(messages: Json) -> str:
    """Return all text of a request's messages."""
    if not isinstance(messages, list):
        return ""
    return "\n".join(str(message.get("content")) for message in messages if isinstance(message, dict))
