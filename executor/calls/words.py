"""The words of models, told to listeners while they are written: a live side channel, of which journal, digests and replays know nothing.

`Engine.run(.., on_words=told)` calls `told` with `Words`: the path of the step, the text since the last ones, and the number of the answer. A model that is asked
again (its answer did not fit, a guard refused it, its connection broke) begins another answer: the number grows, and what was told of the step before is void.

A listener cannot harm its run. It is called beside the run, a function on a thread of its own and a coroutine function on the event loop; while it is behind, the words
of a step are joined. One that raises, or is too far behind, hears no more, and a line of the log says why. The end of a run waits for it for a moment only.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, TypeAlias, cast

from ...errors import ConfigError, FirmplanError
from ...plans.immutable import immutable
from ...tools.logbook import masked_text, open_log, spellings_of

PENDING_CHARACTERS_MAX: Final = 1_000_000
"""Characters that a listener may be behind: several complete answers of the longest kind."""
DELIVERY_GRACE_S: Final = 1.0
"""The longest that the end of a run waits for the last words to be heard."""


@immutable
class Words:
    """Words that a model has written.

    Attributes:
        step: Path of the leaf that asks the model.
        text: The words since the last ones of the step; empty when an answer begins.
        answer: The number of the answer that is being written, from 1. A higher number than before means that what was told of the step is void.
    """

    step: str
    text: str
    answer: int


OnWords: TypeAlias = Callable[[Words], object]


class WordsListener:
    """Tells the words of one run to one function. Made and used on the event loop of the engine.

    Args:
        tell: The function.
        run_id: The run, for the log.
        remove: Called when it is closed.
    """

    def __init__(self, tell: OnWords, run_id: str, remove: Callable[[WordsListener], None]) -> None:
        self._tell = tell
        self._remove = remove
        self._run_id = run_id
        self._answers: dict[str, int] = {}
        self._pending: deque[Words] = deque()
        self._behind = 0  # characters
        self._lock = threading.Condition()
        self._following: asyncio.Task[None] | None = None
        self._is_over = False
        self._is_deaf = False
        self._loop = asyncio.get_running_loop()
        self._drained = asyncio.Event()
        self._came = asyncio.Event()
        # A coroutine function has its turns on the loop; any other function may take its time.
        self._task: asyncio.Task[None] | None = None
        if inspect.iscoroutinefunction(tell) or inspect.iscoroutinefunction(type(tell).__call__):
            self._task = self._loop.create_task(self._tell_on_loop(), name=f"firmplan words {run_id}")
        else:
            # A daemon: a function that never returns must not keep the process alive.
            threading.Thread(target=self._tell_on_thread, name="firmplan-words", daemon=True).start()

    def next_answer(self, step: str) -> int:
        """Return the number of the answer that begins."""
        self._answers[step] = number = self._answers.get(step, 0) + 1
        return number

    def take(self, words: Words) -> None:
        """Take words for the function; never waits and never raises."""
        with self._lock:
            if self._is_deaf or self._is_over:
                return
            self._behind += len(words.text)
            if self._behind > PENDING_CHARACTERS_MAX:
                self._give_up(f"it is more than {PENDING_CHARACTERS_MAX} characters behind")
                return
            last = self._pending[-1] if self._pending else None
            # The beginning of an answer is told for itself: listeners know by it that what they have heard before is void.
            if last is not None and last.text and (last.step, last.answer) == (words.step, words.answer):
                self._pending[-1] = replace(last, text=last.text + words.text)
            else:
                self._pending.append(words)
            self._lock.notify()
        self._came.set()

    def close_after(self, run: Awaitable[object]) -> None:
        """Close when a run has ended or waits; `WordsListeners.close` does not wait for it."""

        async def follow() -> None:
            with suppress(FirmplanError):  # whoever waits for the run gets the error as well
                await run
            await self.close()

        self._following = self._loop.create_task(follow(), name=f"firmplan words {self._run_id}")

    async def close(self) -> None:
        """Wait for a moment until all words are heard; tell no more after that."""
        self._remove(self)
        with self._lock:
            self._is_over = True
            self._lock.notify()
        self._came.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(DELIVERY_GRACE_S):
                await self._drained.wait()
        with self._lock:
            self._is_deaf = True
            self._pending.clear()
        if self._task is not None:
            self._task.cancel()

    async def abandon(self) -> None:
        """Close although the run may go on elsewhere."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        await self.close()

    def _give_up(self, why: str) -> None:
        self._is_deaf = True
        self._pending.clear()
        open_log().warning("a listener to words hears no more", run=self._run_id, why=why)

    def _next(self) -> Words | None:
        """Take the next words out; `None`: there are none. The lock is held."""
        if not self._pending:
            return None
        found = self._pending.popleft()
        self._behind -= len(found.text)
        return found

    def _failed(self, fault: Exception) -> None:
        with self._lock:
            self._give_up(f"it raised {fault!r:.300}")

    def _tell_on_thread(self) -> None:
        while True:
            with self._lock:
                while not (self._pending or self._is_over or self._is_deaf):
                    self._lock.wait()
                words = self._next()
            if words is None:
                break
            try:
                self._tell(words)
            except Exception as fault:  # noqa: BLE001  # a function of the user's
                self._failed(fault)
        with suppress(RuntimeError):  # the loop has closed meanwhile
            self._loop.call_soon_threadsafe(self._drained.set)

    async def _tell_on_loop(self) -> None:
        tell: Callable[[Words], Any] = self._tell
        while True:
            with self._lock:
                words, is_done = self._next(), self._is_over or self._is_deaf
            if words is None:
                if is_done:
                    break
                self._came.clear()
                await self._came.wait()
                continue
            try:
                await tell(words)
            except Exception as fault:  # noqa: BLE001  # a function of the user's
                self._failed(fault)
        self._drained.set()


class WordsListeners:
    """Who hears the words of which run of an engine. Hardly any run has a listener."""

    def __init__(self) -> None:
        self._by_run: dict[str, list[WordsListener]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nobody listens to any run."""
        return not self._by_run

    def add(self, run_id: str, tell: OnWords) -> WordsListener:
        """Have a function hear the words of a run, until the listener is closed. Raises: ConfigError: it is no function."""
        if not callable(cast("object", tell)):
            raise ConfigError(f"on_words: expected a function that takes `Words`, found {tell!r}")
        made = WordsListener(tell, run_id, self._remove)
        self._by_run.setdefault(run_id, []).append(made)
        return made

    async def close(self) -> None:
        """Close all listeners: the engine closes."""
        for listener in {id(each): each for listed in self._by_run.values() for each in listed}.values():
            await listener.abandon()

    def follow(self, run_id: str, next_id: str) -> None:
        """Have those who hear the words of a run hear those of the run that goes on with it."""
        if run_id in self._by_run:
            self._by_run[next_id] = self._by_run[run_id]

    def _remove(self, listener: WordsListener) -> None:
        for run_id, listed in list(self._by_run.items()):
            left = [each for each in listed if each is not listener]
            if left:
                self._by_run[run_id] = left
            else:
                del self._by_run[run_id]

    def of(self, run_id: str, step: str, secrets: Mapping[str, str]) -> AnswerWords | None:
        """Return what hears the answers to a call; `None`: nobody listens.

        Args:
            run_id: The run.
            step: Path of the leaf.
            secrets: Name -> value of those that the call was given: they are told as their names.
        """
        listed = self._by_run.get(run_id)
        return AnswerWords(listed, step, secrets) if listed else None


class AnswerWords:
    """Hears the answers to one call, as `tools/models/transport.py` tells them."""

    def __init__(self, listeners: list[WordsListener], step: str, secrets: Mapping[str, str]) -> None:
        self._listeners = listeners
        self._step = step
        self._secrets = secrets
        self._sought = tuple(_forms_of(secrets))
        self._numbers: list[int] = []
        self._held = ""
        self._has_heard = False

    def begin(self) -> None:
        """See `Listener`."""
        self._held, self._has_heard = "", False
        self._numbers = [each.next_answer(self._step) for each in self._listeners]
        self._tell("", is_beginning=True)

    def hear(self, words: str) -> None:
        """See `Listener`."""
        self._has_heard = True
        if not self._sought:
            self._tell(words)
            return
        # A secret may come in pieces, so what may be the beginning of one is held back.
        text = masked_text(self._held + words, self._secrets)
        keep = next(
            (size for size in range(min(len(text), self._longest), 0, -1) if self._may_begin(text[-size:])), 0
        )
        self._held = text[len(text) - keep :]
        self._tell(text[: len(text) - keep])

    def end(self, answer: str) -> None:
        """The answer is complete; one that did not come as a stream is told in one piece."""
        if not self._has_heard:
            self.begin()
            self._tell(masked_text(answer, self._secrets) if self._secrets else answer)
        elif self._held:
            held, self._held = self._held, ""
            self._tell(held)

    @property
    def _longest(self) -> int:
        return max(map(len, self._sought)) - 1

    def _may_begin(self, text: str) -> bool:
        return any(form.startswith(text) for form in self._sought)

    def _tell(self, text: str, *, is_beginning: bool = False) -> None:
        if text or is_beginning:
            for listener, number in zip(self._listeners, self._numbers, strict=False):
                listener.take(Words(self._step, text, number))


def _forms_of(secrets: Mapping[str, str]) -> Iterator[str]:
    for secret in secrets.values():
        if secret:
            yield from spellings_of(secret)
