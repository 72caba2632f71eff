"""Golden tests as pytest sees them: a file each, with an item for each thing that is looked at.

A bundle has two items: `replay`, that this firmplan still concludes what was recorded; and `rehearsal`, that plan and tools as they are
now come out the same. A case has one: `golden`. What they say is `golden.py`'s.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from ..errors import FirmplanError

if TYPE_CHECKING:
    from .golden import Golden

TOOLS_OF_NONE = "no tools are configured: name them in `firmplan_tools` of pytest's configuration, in firmplan.toml, or in a case"


class GoldenMismatch(AssertionError):  # noqa: N818  # an answer of a test, not a fault of the program
    """A golden test's run is not what it should be; the message is for people."""


class GoldenFile(pytest.File):
    """A file of a golden test."""

    @override
    def collect(self) -> Iterator[pytest.Item]:
        from .golden import BUNDLE, has_case  # noqa: PLC0415  # loads the engine: only where there is a test

        if self.path.suffix != BUNDLE:
            yield self._item(GoldenItem, "golden")
            return
        yield self._item(ReplayItem, "replay")
        if not has_case(self.path):
            yield self._item(GoldenItem, "rehearsal")

    def _item(self, kind: type[pytest.Item], name: str) -> pytest.Item:
        return kind.from_parent(self, name=name)  # pyright: ignore[reportUnknownMemberType]  # pytest leaves it open


class _Item(pytest.Item):
    """What the items share: how they fail."""

    @override
    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, GoldenMismatch | FirmplanError):
            return f"{self.nodeid}\n{excinfo.value}"
        return super().repr_failure(excinfo, style)

    @override
    def reportinfo(self) -> tuple[os.PathLike[str], int | None, str]:
        return self.path, None, f"{self.path.name} {self.name}"


class ReplayItem(_Item):
    """A recorded run still replays."""

    @override
    def runtest(self) -> None:
        from .golden import replay_fault  # noqa: PLC0415  # see above

        if (fault := replay_fault(self.path)) is not None:
            raise GoldenMismatch(fault)


class GoldenItem(_Item):
    """A run comes out as it was recorded or written down."""

    @override
    def runtest(self) -> None:
        from .golden import golden_fault, is_rehearsable, read_golden, tools_for  # noqa: PLC0415  # see above

        golden = read_golden(self.path)
        if not is_rehearsable(golden):
            pytest.skip("a run that was cancelled or stopped by its budget is only replayed")
        configured = configured_tools(self.config, self.path.parent)
        self._expect_tools(golden, configured)
        tools = tools_for(golden, configured)
        update = bool(self.config.getoption("firmplan_update"))
        if (fault := golden_fault(golden, tools, update=update)) is not None:
            raise GoldenMismatch(fault)

    def _expect_tools(self, golden: Golden, configured: Sequence[str]) -> None:
        """Skip the rehearsal of a bundle that would only repeat its replay."""
        if not golden.tools and not configured and self.path.suffix == ".bundle":
            pytest.skip(TOOLS_OF_NONE)


def configured_tools(config: pytest.Config, folder: Path) -> tuple[str, ...]:
    """Return the files and modules of tools that pytest's configuration names, else those of `firmplan.toml`. Raises: ConfigError."""
    named: list[str] = config.getini("firmplan_tools")
    if named:
        root = config.rootpath
        return tuple(str(root / each) if each.endswith(".py") or "/" in each else each for each in named)
    from ..cli.config import read_settings  # noqa: PLC0415  # only where pytest is told nothing

    return read_settings({}, os.environ, folder).tools
