"""When work is looked for in a store that tells of changes."""

from __future__ import annotations

import math

import pytest
from firmplan.executor.runs import changes
from firmplan.executor.runs.changes import Lookout


class Told:
    """What a store tells, and a clock that a test moves."""

    def __init__(self):
        self.count = 0
        self.now = 1_000.0

    def monotonic(self):
        """Return the time."""
        return self.now


@pytest.fixture
def told(monkeypatch):
    """Return what is told, on a clock of its own."""
    told = Told()
    monkeypatch.setattr(changes, "time", told)
    return told


def look(lookout, left_s=math.inf):
    """Look, without trouble, and return whether the next look is due at once."""
    lookout.begin()
    lookout.end(left_s)
    return lookout.is_due()


def settled(told, **options):
    """Return a lookout that has looked and found nothing."""
    lookout = Lookout(lambda: told.count, **options)
    assert lookout.is_due()
    look(lookout)
    told.now += changes.AGAIN_S
    assert lookout.is_due()
    assert not look(lookout)
    return lookout


def test_without_changes_a_look_is_due_from_time_to_time(told):
    """So a notification that is lost costs some seconds."""
    lookout = settled(told)
    told.now += changes.UNTOLD_MAX_S - 1
    assert not lookout.is_due()
    told.now += 1
    assert lookout.is_due()
    assert not look(lookout)


def test_a_change_asks_for_a_look_and_one_more(told):
    """A process that makes many changes tells not of each."""
    lookout = settled(told)
    told.count += 1
    assert lookout.is_due()
    assert not look(lookout)
    told.now += changes.AGAIN_S / 2
    assert not look(lookout)
    told.now += changes.AGAIN_S / 2
    assert lookout.is_due()
    assert not look(lookout)
    told.now += 1
    assert not lookout.is_due()


def test_what_is_told_during_a_look_asks_for_another_one(told):
    """It may have come too late for the look."""
    lookout = settled(told)
    lookout.begin()
    told.count += 1
    lookout.end()
    assert lookout.is_due()


def test_a_look_that_fails_is_repeated(told):
    """Whatever was told before it is not forgotten."""
    lookout = settled(told)
    told.count += 1
    lookout.begin()
    assert lookout.is_due()
    told.now += changes.UNTOLD_MAX_S
    assert lookout.is_due()
    assert not look(lookout)


def test_a_time_that_is_known_is_waited_for(told):
    """Such as the next time of a schedule; none: there is something left to do."""
    lookout = settled(told)
    assert look(lookout, 0.0)
    assert not look(lookout, 5.0)
    told.now += 5.0
    assert lookout.is_due()


def test_looks_go_on_for_work_that_follows_a_change(told):
    """A decision is told before it is recorded."""
    lookout = Lookout(lambda: told.count, 10.0)
    assert look(lookout)
    told.now += 9.0
    assert look(lookout)
    told.now += 2.0
    assert not look(lookout)


def test_where_nothing_is_told_a_look_is_always_due(told):
    """In a file, and while no session listens."""
    told.count = None
    lookout = Lookout(lambda: told.count)
    assert look(lookout)
    assert look(lookout)
    told.count = 7
    assert lookout.is_due()
    assert not look(lookout)
