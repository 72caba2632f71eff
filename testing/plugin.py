"""The pytest plugin: the fakes as fixtures, found by pytest wherever firmplan is installed.

    def test_a_plan(scripted_model, firmplan_engine):
        model = scripted_model(["Hello"])
        engine = firmplan_engine([weather], models={"default": {"name": "m", "base_url": model.base_url}})
        assert engine.run_sync(PLAN).output == "Hello"

Whatever a fixture opens it closes when the test has ended. It loads nothing of firmplan until a test asks for a fixture, so that
it costs other people's tests nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from ..engine import Engine
    from .fake_clock import FakeClock
    from .memory_store import MemoryStore
    from .scripted_model import ScriptedModel

    MakeModel: TypeAlias = Callable[..., ScriptedModel]
    MakeEngine: TypeAlias = Callable[..., Engine]


@pytest.fixture
def memory_store() -> MemoryStore:
    """A store in memory, new for each test."""
    from .memory_store import MemoryStore  # noqa: PLC0415  # only tests that ask pay

    return MemoryStore()


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that jumps over every pause; hand it to `Engine(clock=..)`."""
    from .fake_clock import FakeClock  # noqa: PLC0415  # only tests that ask pay

    return FakeClock()


@pytest.fixture
def scripted_model() -> Iterator[MakeModel]:
    """`scripted_model(replies)` serves a scripted model until the test has ended."""
    from .scripted_model import ScriptedModel  # noqa: PLC0415  # only tests that ask pay

    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(ScriptedModel(*args, **options))


@pytest.fixture
def firmplan_engine() -> Iterator[MakeEngine]:
    """`firmplan_engine(tools, ..)` opens an engine, on a store in memory if none is given, until the test has ended."""
    from ..engine import Engine  # noqa: PLC0415  # only tests that ask pay

    def make(tools: Any, **options: Any) -> Engine:  # noqa: ANN401  # as `Engine` takes them
        settled: dict[str, Any] = {"store": "memory:", **options}
        return stack.enter_context(Engine(tools, **settled))

    with ExitStack() as stack:
        yield make
