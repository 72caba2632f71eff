"""Who watches the runs of an engine from outside: traces, and metrics of a server.

An observer hears the events of each run that this process drives, right after the journal took them, and may stand around each call. It decides
nothing: what it raises is logged once and goes no further. Without an observer a run pays one comparison an event. A replay is not observed,
because nothing happens in it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Final, Protocol, TypeVar

from ..plans.immutable import immutable, record
from ..tools.logbook import RequestContext, open_log
from ..tools.models.completion import Asked, Completion, ModelCall
from .events import JournalEvent

T = TypeVar("T")
R = TypeVar("R")


@record
class ObservedRun:
    """What observers are told of a run.

    Attributes:
        source: Where its plan is from, as its planning says (`saved:NAME`, `model`); `None`: it was submitted with its plan.
        context: The request that submitted it, and the trace that it is a part of; `None`: there is none.
        is_continued: Whether the run has begun before.
        tool_of: Returns the tool of a step; `None` for one without a tool.
        has_ended: Returns whether a step, an item or an iteration has ended.
    """

    id: str
    created: float
    plan_digest: str | None = None
    source: str | None = None
    parent: str | None = None
    context: RequestContext | None = None
    is_continued: bool = False
    tool_of: Callable[[str], str | None] = lambda _: None
    has_ended: Callable[[str], bool] = lambda _: False


@immutable
class ObservedCall:
    """One attempt of a call, right before it is made.

    Attributes:
        tool: `None`: the step asks a model itself, or plans.
        args: The arguments as canonical JSON, with the names of secrets in place of their values.
        is_planning: Whether a planner makes the step's sub-plan.
    """

    step: str
    attempt: int
    tool: str | None
    effect: str | None
    args: bytes
    is_planning: bool = False


class RunObserver(Protocol):
    """Watches one run while this process drives it.

    Attributes:
        stands_around: Whether `around` ever returns something.
    """

    stands_around: bool

    def note(self, event: JournalEvent, at: float, /) -> None:
        """Hear an event that the journal took; `at` are Unix seconds."""

    def note_wait(self, step: str, seconds: float, /) -> None:
        """Hear how long a call that was ready has waited until it was made."""

    def around(self, call: ObservedCall, /) -> AbstractContextManager[None] | None:
        """Return what is active while a call is made, in its task; `None`: nothing."""

    def around_planning(self) -> AbstractContextManager[None] | None:
        """Return what is active while a task is planned; `None`: nothing."""

    def end(self, status: str | None, at: float, /) -> None:
        """Hear that this process stops driving the run, which has this status now; `None`: it goes on elsewhere or later."""


class Observer(Protocol):
    """Watches the runs and the model requests of an engine."""

    def begin_run(self, run: ObservedRun, /) -> RunObserver:
        """Begin to watch a run that this process drives from now on."""
        ...

    def begin_request(self, call: ModelCall, /) -> Asked | None:
        """Begin to watch a request to a model, in the task that sends it."""

    def begin_trace(self, run_id: str, context: RequestContext | None, /) -> RequestContext | None:
        """Return the place in a trace for a run that is being submitted; `None`: leave the one of the request, if there is one."""


class RunWatch:
    """All observers of one run, as one.

    Attributes:
        run: The run, as far as it is known.
        stands_around: Whether an observer wants to be active while calls are made.
    """

    def __init__(
        self, run: ObservedRun, observers: Sequence[RunObserver], forget: Callable[[str], object]
    ) -> None:
        self.run = run
        self.stands_around = any(each.stands_around for each in observers)
        self._observers = observers
        self._forget = forget

    def note(self, event: JournalEvent, at: float) -> None:
        """See `RunObserver.note`."""
        for (
            each
        ) in self._observers:  # not `_tell`, as below: on a server every event and every call comes here
            try:
                each.note(event, at)
            except Exception as fault:  # noqa: BLE001  # see the module
                _report(each, fault)

    def note_wait(self, step: str, seconds: float) -> None:
        """See `RunObserver.note_wait`."""
        for each in self._observers:
            try:
                each.note_wait(step, seconds)
            except Exception as fault:  # noqa: BLE001  # see the module
                _report(each, fault)

    @contextmanager
    def around(self, call: ObservedCall | None) -> Generator[None]:
        """Be active around a call; `None`: around the planning."""
        scopes = _tell(
            self._observers, lambda each: each.around_planning() if call is None else each.around(call)
        )
        with ExitStack() as stack:
            _tell([scope for scope in scopes if scope is not None], stack.enter_context)
            yield

    def end(self, status: str | None, at: float) -> None:
        """See `RunObserver.end`. The second time nothing happens."""
        observers, self._observers = self._observers, ()
        self._forget(self.run.id)
        _tell(observers, lambda each: each.end(status, at))


class Observers:
    """The observers of one engine.

    Attributes:
        are_some: Whether there is an observer.
    """

    def __init__(self) -> None:
        self._observers: list[Observer] = []
        self._runs: dict[str, RunWatch] = {}
        self.are_some = False

    def add(self, observer: Observer) -> None:
        """Have an observer watch the runs that begin or continue from now on."""
        if observer not in self._observers:
            self._observers.append(observer)
            self.are_some = True

    def begin_run(self, run: ObservedRun) -> RunWatch:
        """Watch a run. One that is watched already, because it was planned here, stays watched, and is from now on known as `run`."""
        watch = self._runs.get(run.id)
        if watch is None:
            begun = _tell(self._observers, lambda each: each.begin_run(run))
            watch = self._runs[run.id] = RunWatch(run, begun, lambda run_id: self._runs.pop(run_id, None))
        known = watch.run
        known.plan_digest, known.source = run.plan_digest, run.source
        known.tool_of, known.has_ended = run.tool_of, run.has_ended
        return watch

    def end_run(self, run_id: str, at: float) -> None:
        """Stop watching a run; nothing happens if nobody watches it."""
        if (watch := self._runs.get(run_id)) is not None:
            watch.end(None, at)

    def begin_trace(self, run_id: str, context: RequestContext | None) -> RequestContext | None:
        """Return the context to keep with a run that is being submitted."""
        given = _tell(self._observers, lambda each: each.begin_trace(run_id, context))
        return next((each for each in given if each is not None), context)

    def begin_request(self, call: ModelCall) -> Asked | None:
        """Watch a request to a model."""
        begun = _tell(self._observers, lambda each: each.begin_request(call))
        asked = [each for each in begun if each is not None]
        return _AllAsked(asked) if asked else None


class _AllAsked:
    """The observers of one request, as one."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        self._asked = asked

    def answered(self, completion: Completion) -> None:
        """See `Asked.answered`."""
        _tell(reversed(self._asked), lambda each: each.answered(completion))

    def failed(self, error: BaseException) -> None:
        """See `Asked.failed`."""
        _tell(reversed(self._asked), lambda each: each.failed(error))


def _tell(observers: Iterable[T], tell: Callable[[T], R]) -> list[R]:
    """Return what each observer answers; what one raises is logged, once for each kind of error."""
    found: list[R] = []
    for each in observers:
        try:
            found.append(tell(each))
        except Exception as fault:  # noqa: BLE001  # see the module
            _report(each, fault)
    return found


def _report(observer: object, fault: Exception) -> None:
    name = type(observer).__name__
    key = f"{name} {type(fault).__name__} {fault}"
    if key not in _reported and len(_reported) < REPORTS_MAX:
        _reported.add(key)
        open_log().error("an observer failed", observer=name, exc_info=fault)


REPORTS_MAX: Final = 100
_reported: Final[set[str]] = set()
