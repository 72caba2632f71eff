"""The header of a run: read back as it was written, and refused where a newer firmplan wrote it."""

from __future__ import annotations

import pytest
from firmplan import Plan, StoreError
from firmplan.executor import Header, Lock

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


@pytest.mark.parametrize("part", ["format", "expressions"])
def test_a_header_of_a_newer_firmplan_is_refused(part):
    """Its run would be evaluated otherwise than it was."""
    with pytest.raises(StoreError, match=r"this firmplan (reads|evaluates)"):
        Header.from_dict({**header().to_dict(), part: 99})
