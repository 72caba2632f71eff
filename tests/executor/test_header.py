"""The header of a run: read back as it was written, and refused where a newer firmplan wrote it."""

from __future__ import annotations

import pytest
from firmplan import Plan, StoreError
from firmplan.executor import Header, Lock
from firmplan.executor.journal.header import ASKING_FORMAT, RULES_ONCE
from firmplan.executor.machine import RULES_VERSION
from firmplan.plans.expressions.functions import EXPRESSION_VERSION

PLAN = Plan.model_validate({"firmplan": 1, "steps": [{"id": "a", "set": "${1 + 1}"}]})


def header():
    return Header(PLAN, {"x": 1}, "seed", Lock(()))


def test_a_header_is_read_back_as_it_was_written():
    """Nothing is lost on the way."""
    assert Header.from_dict(header().to_dict()).to_dict() == header().to_dict()


def test_a_header_without_a_version_of_the_language_is_of_the_first():
    """As the first release wrote it."""
    written = header().to_dict()
    del written["expressions"]
    assert Header.from_dict(written).to_dict() == header().to_dict()


@pytest.mark.parametrize(
    ("part", "version"),
    [
        ("format", 0),
        ("format", ASKING_FORMAT + 1),
        ("expressions", EXPRESSION_VERSION + 1),
        ("rules", RULES_VERSION + 1),
    ],
)
def test_a_header_of_a_newer_firmplan_is_refused(part, version):
    """Its run would be evaluated otherwise than it was, also by the version right before."""
    with pytest.raises(StoreError, match=r"this firmplan (reads|evaluates|knows)"):
        Header.from_dict({**header().to_dict(), part: version})


def test_a_header_that_does_not_say_its_rules_is_of_the_first():
    """As versions wrote it that knew no others; and so it is written again."""
    written = header().to_dict()
    del written["rules"]
    found = Header.from_dict(written)
    assert found.rules == RULES_ONCE
    assert found.to_dict() == written
