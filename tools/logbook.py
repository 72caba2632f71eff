"""The log: structlog, set up once for firmplan and for `ctx.log`; quiet unless it is asked to speak.

`FIRMPLAN_LOG` holds words, in any order: `json` or `console` for the form, `debug info warning error off` for the least level. Without it
only warnings are shown, on the console; a form alone shows `info`, one line for each change of a run's state. A program that
configures structlog itself gets the events in its own processors instead. Lines go to stderr: stdout is for answers.

Rules: no line contains a secret that a call was given, no field is longer than `FIELD_LENGTH_MAX`, and lines that nobody
can read any more (a pipe whose reader is gone, a full disk) are lost and stop no run. A line that is written while a request
of another program is answered has the id of that request.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TextIO, TypeAlias
from weakref import WeakSet

from ..errors import ConfigError
from ..plans.immutable import immutable
from ..plans.reports.visible import visible, visible_json, visible_line
from ..plans.values import Json, canonical, parse

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor


SETTING: Final = "FIRMPLAN_LOG"
FIELD_LENGTH_MAX: Final = 2_000  # characters: a log is read by people, and the text of a tool may be endless
FIELDS_MAX: Final = 40  # of one event

Form: TypeAlias = Literal["json", "console"]
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "off": 60}
CRITICAL: Final = 50
TRACEBACK: Final = "exception"  # structlog's field for it
REQUEST_FIELD: Final = "request_id"


@immutable
class RequestContext:
    """The request of another program that this code answers.

    Attributes:
        id: Its id: the one that the program sent, or a new one; empty: there is no request, only a trace.
        traceparent: Its place in a trace, as of W3C Trace Context; empty: it has none.
        tracestate: What vendors add to that.
    """

    id: str = ""
    traceparent: str = ""
    tracestate: str = ""

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON; what it does not have is left out."""
        given = {"id": self.id, "traceparent": self.traceparent, "tracestate": self.tracestate}
        return {name: value for name, value in given.items() if value}


current_request: Final[ContextVar[RequestContext | None]] = ContextVar("firmplan_request", default=None)
"""The request that is being answered. The work that it starts in the background keeps it."""


class StepListener(Protocol):
    """Hears what steps log, whatever the log itself shows of it."""

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take a line: its fields, `event`, `level`, `run`, `step` and `attempt` among them. It is called on the thread of the tool."""
        ...


step_listeners: Final[WeakSet[StepListener]] = WeakSet()
"""Who hears the lines from `info` up that the tools of this process log. A listener that nobody holds any more hears nothing."""


def read_setting(environ: Mapping[str, str]) -> tuple[Form, int]:
    """Return form and least level. Raises: ConfigError: `FIRMPLAN_LOG` has a word that is none of these."""
    form: Form = "console"
    words = environ.get(SETTING, "").replace(",", " ").replace(":", " ").lower().split()
    level = "info" if words else "warning"
    for word in words:
        if word in ("json", "console"):
            form = "json" if word == "json" else "console"
        elif word in LEVELS:
            level = word
        else:
            expected = ", ".join(("json", "console", *LEVELS))
            raise ConfigError(f"{SETTING}: expected words out of {expected}, found '{word}'")
    return form, LEVELS[level]


def is_enabled(level: Literal["debug", "info"]) -> bool:
    """Whether an event of that level would be shown. Cheap: structlog is not loaded for it."""
    # Another thread may be importing structlog at this moment: then the module exists, but is incomplete.
    is_configured = getattr(sys.modules.get("structlog"), "is_configured", None)
    if is_configured is not None and is_configured():
        return True
    return SETTING in os.environ and read_setting(os.environ)[1] <= LEVELS[level]


def open_log(secrets: Callable[[], Mapping[str, str]] = dict, **bound: object) -> FilteringBoundLogger:
    """Return a log whose lines all have these fields.

    Args:
        secrets: Returns, for each line, the secrets that the line must not contain, by name.
        **bound: Fields of every line.
    """
    import structlog  # noqa: PLC0415  # 100 ms that a quiet run never needs

    def safe(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if (request := current_request.get()) is not None:
            event.setdefault(REQUEST_FIELD, request.id)
        return _bounded(event, secrets())

    hears = bool(step_listeners) and "step" in bound
    shown = 0

    def tell(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for listener in list(step_listeners):
            listener.hear(event)
        # The line came this far for those who listen.
        if LEVELS.get(str(event.get("level")), CRITICAL) < shown:
            raise structlog.DropEvent
        return event

    first: list[Processor] = [structlog.processors.add_log_level, structlog.processors.format_exc_info, safe]
    if hears:
        first.append(tell)
    if structlog.is_configured():
        config = structlog.get_config()
        log = structlog.wrap_logger(
            config["logger_factory"]("firmplan"),
            processors=[*first, *config["processors"]],
            wrapper_class=config["wrapper_class"],
            context_class=config["context_class"],
        )
    else:
        form, shown = read_setting(os.environ)
        level = min(shown, LEVELS["info"]) if hears else shown
        is_off = shown == LEVELS["off"]  # structlog knows no level above critical: those lines are dropped
        log = structlog.wrap_logger(
            _Lines(None if is_off else sys.stderr),
            processors=[structlog.processors.TimeStamper(fmt="iso", utc=True), *first, _renderer(form)],
            wrapper_class=structlog.make_filtering_bound_logger(min(level, CRITICAL)),
            context_class=dict,
        )
    found: FilteringBoundLogger = log.bind(**bound)
    return found


class _Lines:
    """Writes lines to a stream, as a logger of structlog. A line that the stream does not take is dropped."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream  # a process may have been started without one

    def msg(self, line: str) -> None:
        """Write a line in one piece."""
        if self._stream is None:
            return
        with suppress(OSError, ValueError):  # a ValueError: the stream is closed
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = log = msg


# --- lines of others
#
# A log shipper that expects JSON loses, or cuts to pieces, every line that is none: a traceback of a library becomes forty events. So where a
# process serves others and JSON is asked for, lines that do not come from firmplan take its form, too.

OTHERS_LEVEL: Final = logging.WARNING  # libraries report each request as `info`


def is_json() -> bool:
    """Whether the log of this process has one JSON object a line. Raises: ConfigError: as `read_setting`."""
    return read_setting(os.environ)[0] == "json"


def render_others_as_json() -> None:
    """Write the lines of Python's `logging`, warnings and uncaught exceptions as JSON, from warnings up (with `debug` all of them).

    A program that has handlers of its own, or configures structlog, keeps what it has.
    """
    is_configured = getattr(sys.modules.get("structlog"), "is_configured", None)
    root = logging.getLogger()
    if root.handlers or (is_configured is not None and is_configured()):
        return
    level = read_setting(os.environ)[1]
    root.addHandler(_OthersLines())
    root.setLevel(logging.DEBUG if level <= logging.DEBUG else max(level, OTHERS_LEVEL))
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(
        args.exc_type,
        args.exc_value or args.exc_type(),
        args.exc_traceback,
        thread=str(args.thread and args.thread.name),
    )
    sys.unraisablehook = lambda args: _log_uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback, where=args.err_msg or ""
    )


class _OthersLines(logging.Handler):
    """Writes the records of other programs' loggers as lines of this log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a record whose own arguments do not fit its text is written without them."""
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  # whatever a `__str__` of theirs raises
            text = str(record.msg)
        more: dict[str, object] = (
            {"exc_info": record.exc_info} if record.exc_info and record.exc_info[0] else {}
        )
        with suppress(Exception):  # `logging` would print the traceback, which is no JSON
            open_log(logger=record.name).log(max(record.levelno, logging.DEBUG), text, **more)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None, **fields: object
) -> None:
    """Write an exception that nothing has caught. A keyboard interrupt is no error."""
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    with suppress(Exception):
        open_log().critical("uncaught exception", exc_info=(kind, error, trace), **fields)


def _renderer(form: Form) -> Processor:
    import structlog  # noqa: PLC0415  # as above

    if form == "json":
        as_json = structlog.processors.JSONRenderer(sort_keys=True, default=repr)
        return lambda log, name, event: visible_json(str(as_json(log, name, event)))
    as_line = structlog.dev.ConsoleRenderer(
        colors=sys.stderr is not None and sys.stderr.isatty(), sort_keys=True
    )
    return lambda log, name, event: as_line(log, name, _visible_event(event))


def _visible_event(event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return the event with its texts as a terminal may have them. The renderer adds its colours after this."""
    # A line break would let a text look like a line of the log. A traceback has lines of its own.
    return {
        visible_line(name): value
        if not isinstance(value, str)
        else visible(value)
        if name == TRACEBACK
        else visible_line(value)
        for name, value in event.items()
    }


def _bounded(event: MutableMapping[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    """Return the event as text and numbers, each field of bounded length and without secrets."""
    fields = list(event.items())[:FIELDS_MAX]
    return {str(name): _field(value, secrets, is_trace=name == TRACEBACK) for name, value in fields}


def _field(value: object, secrets: Mapping[str, str], *, is_trace: bool) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = masked_text(value if isinstance(value, str) else repr(value), secrets)
    if len(text) <= FIELD_LENGTH_MAX:
        return text
    size = f"({len(text)} characters)"
    # The end of a traceback says what was raised, and where; its beginning is the same for all.
    return f"{size} ...{text[-FIELD_LENGTH_MAX:]}" if is_trace else f"{text[:FIELD_LENGTH_MAX]}... {size}"


# Masking: `${secret("NAME")}` stands wherever the value of a secret would be written down.


# Characters of a secret that is searched in values: a shorter one occurs in them by chance.
MASKED_LENGTH_MIN: Final = 4


def masked_text(text: str, secrets: Mapping[str, str]) -> str:
    """Return a text with each of these secrets (name -> value) masked, also where it is escaped inside quotes."""
    return _replaced(text, {name: spellings_of(secret) for name, secret in _longest_first(secrets)})


def masked_value(data: bytes, secrets: Mapping[str, str]) -> bytes:
    """Return a canonical value with each of these secrets masked; a value that holds none is returned as it is."""
    sought = [(name, secret) for name, secret in _longest_first(secrets) if len(secret) >= MASKED_LENGTH_MIN]
    if not sought:
        return data
    found = canonical(_masked(parse(data), {name: spellings_of(secret) for name, secret in sought}))
    return data if found == data else found


def _masked(value: Json, sought: Mapping[str, Sequence[str]]) -> Json:
    match value:
        case str():
            return _replaced(value, sought)
        # A number that is a secret, such as a PIN, becomes text too: the result does not fit its type then, but shows nothing.
        case int() | float() if not isinstance(value, bool):
            return next((_expression(name) for name, forms in sought.items() if str(value) in forms), value)
        case list():
            return [_masked(item, sought) for item in value]
        case dict():
            return {str(_masked(key, sought)): _masked(item, sought) for key, item in value.items()}
        case _:
            return value


def _replaced(text: str, sought: Mapping[str, Sequence[str]]) -> str:
    for name, forms in sought.items():
        for form in forms:
            text = text.replace(form, _expression(name))
    return text


def _longest_first(secrets: Mapping[str, str]) -> list[tuple[str, str]]:
    found = [(name, secret) for name, secret in secrets.items() if secret]
    return sorted(found, key=lambda pair: (-len(pair[1]), pair[0]))


def _expression(name: str) -> str:
    return f'${{secret("{name}")}}'


def spellings_of(secret: str) -> Sequence[str]:
    """Return the spellings of a secret in texts, longest first: its quotes and backslashes are escaped inside a JSON text or a `repr`."""
    return sorted(
        {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]},
        key=len,
        reverse=True,
    )
