"""The pytest plugin: the fakes as fixtures, found by pytest wherever firmplan is installed.

    def test_a_plan(scripted_model, firmplan_engine):
        model = scripted_model(["Hello"])
        engine = firmplan_engine([weather], models={"default": {"name": "m", "base_url": model.base_url}})
        assert engine.run_sync(PLAN).output == "Hello"

A fixture closes what it opens when the test has ended. `pytest --firmplan` also collects golden tests (`golden.py`): recorded runs
and written expectations. The plugin loads nothing of firmplan until a test asks for a fixture or there is a golden test, so that
it costs other tests nothing. `docs/TESTING.md` shows all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from ..engine import Engine
    from .fakes import FakeClock, MemoryStore
    from .scripted_model import ScriptedModel

    MakeModel: TypeAlias = Callable[..., ScriptedModel]
    MakeEngine: TypeAlias = Callable[..., Engine]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and settings."""
    group = parser.getgroup("firmplan", "golden tests of firmplan")
    group.addoption(
        "--firmplan",
        action="store_true",
        dest="firmplan_golden",
        help="Collect recorded runs (*.bundle) and golden cases (*.golden.yaml) as tests.",
    )
    group.addoption(
        "--firmplan-update",
        action="store_true",
        dest="firmplan_update",
        help="Collect them, and replace what they expect with the present results.",
    )
    parser.addini(
        "firmplan_tools",
        type="args",
        default=[],
        help="Python files and modules that declare the tools of golden tests.",
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Return a file of golden tests, where they are asked for."""
    options = parent.config
    if not (options.getoption("firmplan_golden") or options.getoption("firmplan_update")):
        return None
    if not file_path.name.endswith((".bundle", ".golden.yaml", ".golden.yml", ".golden.json")):
        return None
    from .golden import GoldenFile  # noqa: PLC0415  # loads the engine: only where there are golden tests

    made: pytest.Collector = GoldenFile.from_parent(parent, path=file_path)  # pyright: ignore[reportUnknownMemberType]  # pytest leaves it open
    return made


@pytest.fixture
def memory_store() -> MemoryStore:
    """A store in memory, new for each test."""
    from .fakes import MemoryStore  # noqa: PLC0415  # only tests that ask pay

    return MemoryStore()


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that jumps over every pause; hand it to `Engine(clock=..)`."""
    from .fakes import FakeClock  # noqa: PLC0415  # only tests that ask pay

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
