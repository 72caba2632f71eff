"""Telling calls that return at once from calls that wait.

Most calls of a plan that computes never wait: what there is to record of them is one thing that happened, not two. Whether a call
waits shows when it does, so it is begun first; nothing else can happen on the event loop before it waits.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from functools import partial
from types import coroutine
from typing import Any, TypeVar, cast

T = TypeVar("T")


@coroutine
def noticed(work: Coroutine[Any, Any, T], on_wait: Callable[[], None]) -> Generator[Any, Any, T]:
    """Return what a coroutine returns, as awaiting it would; `on_wait` is called right before it first waits, if it does."""
    try:
        waits_for = work.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    try:
        on_wait()
    except BaseException:
        work.close()
        raise
    while True:
        try:
            answer = yield waits_for
        except GeneratorExit:
            work.close()
            raise
        except BaseException as fault:  # noqa: BLE001  # whatever it is, it is for the coroutine
            go_on: Callable[[], Any] = partial(work.throw, fault)
        else:
            go_on = partial(work.send, answer)
        waits_for = (
            None  # a failed future holds the exception, whose traceback is about to hold this frame: a cycle
        )
        try:
            waits_for = go_on()
        except StopIteration as end:
            return cast("T", end.value)
        finally:
            del go_on  # the same, where it throws an exception
