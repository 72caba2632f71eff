"""The page on errors has every error that is raised, every code of a failure, and every reason, with what follows from it."""

from __future__ import annotations

import re
from pathlib import Path

import firmplan
import pytest
from firmplan import FirmplanError, errors
from firmplan.cli.failure import exit_code
from firmplan.executor.states import Reason
from firmplan.service.problems import STATUS

ROOT = Path(firmplan.__file__).parent
PAGE = (ROOT / "docs" / "ERRORS.md").read_text(encoding="utf-8")
MADE = {
    "PlanRejected": lambda: errors.PlanRejected(firmplan.check({}, [])),
    "RunFailed": lambda: errors.RunFailed("no", None),
    "RunDriven": lambda: errors.RunDriven("why", firmplan.RunOwner("r", "process 1", 0.0, is_here=False)),
    "Diverged": lambda: errors.Diverged(step="", field="digest", expected=1, found=2),
}
"""How errors are made that need more than a message."""
KINDS_OF_ITS_OWN = {"bad-literal", "lost"}
"""Codes of a check, and of what another model would have said: no run has them."""


def rows(head):
    lines = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


RAISED = {row[0].strip("`"): row for row in rows("error")}


def leaves(of):
    inner = [
        each for each in of.__subclasses__() if of is FirmplanError or each.__module__ == errors.__name__
    ]
    return [of] if not inner else [each for one in inner for each in leaves(one)]


def test_every_error_is_told():
    """All of the tree's leaves; those of other modules are not public."""
    public = {each.__name__ for each in leaves(FirmplanError) if each.__module__ == errors.__name__}
    assert set(RAISED) == public | {"ToolError"}
    assert set(RAISED) <= set(firmplan.__all__)


@pytest.mark.parametrize("name", RAISED)
def test_code_exit_and_status_are_as_told(name):
    _, code, _, carries, told_exit, told_status = RAISED[name]
    error = MADE.get(name, lambda: getattr(errors, name)("why"))()
    assert code.partition(",")[0].partition(";")[0] == f"`{error.code}`"
    for attribute in re.findall(r"`\.(\w+)`", carries):
        assert hasattr(error, attribute)
    codes = {int(number) for number in re.findall(r"\d", told_exit)}
    assert int(exit_code(error)) in codes
    status = next((int(status) for kind, status in STATUS if isinstance(error, kind)), 500)
    assert int(told_status) == status


def test_every_code_of_a_failure_is_told():
    """What the executor and the tools' room call a failure stands in the table, and the table has no others."""
    told = {
        code
        for row in rows("`code` | the call, or the step")
        for code in re.findall(r"`([a-z]+(?:-[a-z]+)*)`", row[0])
    }
    sources = [
        path
        for room in ("executor", "tools", "errors.py")
        for path in sorted((ROOT / room).rglob("*.py")) or [ROOT / room]
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    made = set(re.findall(r"(?:\bcode=|\b(?:Failed|Failure)\(\s*)\"([a-z-]+)\"", text))
    assert made - KINDS_OF_ITS_OWN - {"failed"} <= told
    expressions = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "plans").rglob("*.py"))
    assert [code for code in told if f'"{code}"' not in text + expressions] == []


def test_every_reason_is_told():
    assert [row[0].strip("`") for row in rows("`reason`")] == [reason.value for reason in Reason]
