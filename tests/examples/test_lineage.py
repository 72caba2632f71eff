"""The lineage example: what a change costs, to the step, and no step more."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

import firmplan
import pytest
from firmplan import Plan, Toolset, check

FOLDER = Path(firmplan.__file__).parent / "examples" / "lineage"


@pytest.fixture(scope="module")
def lineage():
    spec = importlib.util.spec_from_file_location("lineage_example", FOLDER / "lineage.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def rows(lineage):
    return asyncio.run(lineage.measure())


def test_plan_passes_its_check():
    """The plan is free of faults and warnings."""
    assert not check(Plan.load(FOLDER / "plan.yaml"), Toolset.load(str(FOLDER / "tools.py"))).problems


def test_an_update_in_an_unrelated_branch_leaves_the_memo(rows):
    """The memo is the same, byte for byte, with zero steps run outside the branch and no model asked."""
    _, unrelated, _ = rows
    assert unrelated.is_same_memo
    assert unrelated.ran == ("press_items", "press")
    assert len(unrelated.kept) == 7
    assert (unrelated.calls, unrelated.model_calls) == (2, 0)


def test_an_edited_artifact_keeps_upstream_and_runs_exactly_the_cone(rows):
    """All that made the artifact is kept; exactly what depends on it runs again."""
    _, _, edited = rows
    assert not edited.is_same_memo
    assert edited.kept == ("market_claims", "policy_claims", "press_items", "press")
    assert edited.ran == ("position", "headings", "sections", "letter")
    assert edited.model_calls == 1


def test_on_a_store_on_disk_the_numbers_are_the_same(lineage, rows, tmp_path):
    """What is kept outlives the process that made it."""
    assert asyncio.run(lineage.measure(str(tmp_path / "s.db"))) == rows


def test_the_page_has_the_numbers(lineage, rows):
    """The table of the README is what the script prints."""
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    printed = "\n".join("    " + line for line in lineage.table(rows).splitlines())
    assert printed in page
    for row in rows[1:]:
        assert f"    {row.task}: ran {', '.join(row.ran)}\n" in page
