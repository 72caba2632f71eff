"""Recordings of model traffic: one request with its response a line of JSON, secrets masked.

    with recording("calls.jsonl"):
        await engine.run("task in words")

`ScriptedModel` reads the file: it finds an answer by the fingerprint of its request, which covers all of the request but the model's
name. A recording covers the whole process, since models are asked from several threads and event loops. `FIRMPLAN_RECORD` names a file
for times when no block is open. Headers are not recorded. Keys, environment variables with the name of a secret, and texts that look
like a key are masked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias, cast

from ...errors import ConfigError
from ...plans.values import Json
from ..private_file import private_opener
from ..secret import SECRET_CHARACTERS_MIN, SECRET_TEXT, environment_secrets

if TYPE_CHECKING:
    import httpx2

RequestJson: TypeAlias = "dict[str, Any]"

FORMAT = 1
NOT_IDENTITY = frozenset({"model", "stream", "stream_options"})
"""The parts of a request that do not decide its answer."""

_KEPT_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry")
_MASK = "***"
_LINE_END = re.compile(r"\r\n|\r|\n")


class Recorder:
    """A recording that is being written.

    Args:
        path: The file; exchanges are added to one that is there.
        secrets: Texts to be masked, beside those of the environment.

    Raises:
        ConfigError: The file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], secrets: Iterable[str] = ()) -> None:
        self.path = Path(path)
        named = environment_secrets().values()
        found = {each for each in (*secrets, *named) if len(each) >= SECRET_CHARACTERS_MIN}
        self._secrets = sorted(found, key=lambda each: (-len(each), each))
        self._lock = Lock()
        try:
            with self._append() as file:
                if not file.tell():
                    file.write(json.dumps({"recording": FORMAT}) + "\n")
        except OSError as error:
            raise ConfigError(f"expected a file to record to, found {self.path}: {error}") from error

    def add(
        self, request: RequestJson, status: int, headers: Mapping[str, str], body: str, key: str = ""
    ) -> None:
        """Write one exchange.

        Args:
            request: The body of the request.
            status: HTTP status of the response.
            headers: Headers of the response.
            body: RequestJson of the response; a stream as it came.
            key: The key of the request, to be masked.
        """
        # The words of the request are for people who read the file; its digest finds the answer.
        asked = [{"role": each.get("role"), "content": each.get("content")} for each in _messages(request)]
        entry: RequestJson = {
            "request": request_digest(request),
            **_reply(status, headers, body),
            "asked": asked,
        }
        line = self._without_secrets(json.dumps(entry, ensure_ascii=False), key)
        with self._lock, self._append() as file:
            file.write(line + "\n")

    def _append(self) -> TextIO:
        return open(self.path, "a", encoding="utf-8", opener=private_opener)  # a `Path` takes no opener

    def _without_secrets(self, line: str, key: str) -> str:
        for secret in (key, *self._secrets) if len(key) >= SECRET_CHARACTERS_MIN else self._secrets:
            # Secrets are masked in the line of JSON, where they stand escaped.
            line = line.replace(json.dumps(secret, ensure_ascii=False)[1:-1], _MASK)
        return SECRET_TEXT.sub(_MASK, line)


_open: list[Recorder] = []
_of_environment: dict[str, Recorder] = {}


@contextmanager
def recording(path: str | os.PathLike[str], secrets: Iterable[str] = ()) -> Generator[Recorder]:
    """Record all model traffic of this process while the block runs. Raises: ConfigError."""
    recorder = Recorder(path, secrets)
    _open.append(recorder)
    try:
        yield recorder
    finally:
        _open.remove(recorder)


def recorders() -> list[Recorder]:
    """Return the recordings that are being written. Raises: ConfigError: the environment's cannot be."""
    named = os.environ.get("FIRMPLAN_RECORD")
    if _open or not named:
        return list(_open)
    if named not in _of_environment:
        _of_environment[named] = Recorder(named)
    return [_of_environment[named]]


async def record_exchange(response: httpx2.Response) -> None:
    """Record a response and its request: a hook of an httpx client."""
    listening = recorders()
    if not listening:
        return
    await response.aread()
    try:
        request = json.loads(response.request.content)
    except ValueError:
        return
    key = response.request.headers.get("authorization", "").removeprefix("Bearer ")
    for recorder in listening:
        recorder.add(request, response.status_code, dict(response.headers), response.text, key)


def request_digest(request: Mapping[str, Any]) -> str:
    """Return the digest of a request without its model's name and the options of its transport."""
    identity = {key: value for key, value in request.items() if key not in NOT_IDENTITY}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _messages(request: RequestJson) -> list[RequestJson]:
    messages: Json = request.get("messages")
    return [each for each in messages if isinstance(each, dict)] if isinstance(messages, list) else []


def _reply(status: int, headers: Mapping[str, str], body: str) -> RequestJson:
    """Return a response in the form of the file."""
    document = _document(headers, body)
    if status >= 300:  # HTTP's
        said = document.get("error") if isinstance(document, dict) else None
        message = said.get("message") if isinstance(said, dict) else body[:2000]
        kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
        return {"error": {"status": status, "message": str(message or ""), "headers": kept}}
    if isinstance(document, dict):
        return {"reply": document}
    return {"body": body, "content_type": headers.get("content-type", "text/plain")}


def _document(headers: Mapping[str, str], body: str) -> Json:
    """Return the JSON of a body; of a stream the completion that its chunks make, `None` where there is none."""
    try:
        if not headers.get("content-type", "").startswith("text/event-stream"):
            return cast("Json", json.loads(body))
        # Not `splitlines`, which also splits at characters that JSON texts may hold as they are (U+2028, U+0085).
        lines = _LINE_END.split(body)
        events = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
        chunks = [json.loads(event) for event in events if event != "[DONE]"]
    except ValueError:
        return None
    from .transport import StreamedCompletion  # noqa: PLC0415  # loaded with the first call

    made = StreamedCompletion()
    for chunk in chunks:
        if isinstance(chunk, dict):
            made.add(cast("RequestJson", chunk))
    return made.document()
