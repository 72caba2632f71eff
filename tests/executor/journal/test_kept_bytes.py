"""What is kept of values and records is as long as it has to be: encoders hand out buffers of some pages."""

from __future__ import annotations

import tracemalloc

import pytest
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.events import CallMade
from firmplan.executor.journal.records import write_line
from firmplan.plans.values import canonical

COUNT = 1_000
OBJECT_BYTES = 100  # what Python needs for an object of bytes, and a place in a list


def line(number):
    return write_line(number, 1.5, CallMade("s", 1, "sha256:0", CanonicalValue(b"1"), 1.0))[0]


@pytest.mark.parametrize("make", [lambda number: canonical([number]), line], ids=["value", "record"])
def test_what_is_kept_is_as_long_as_its_spelling(make):
    tracemalloc.start()
    try:
        kept = [make(number) for number in range(COUNT)]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < sum(map(len, kept)) + COUNT * OBJECT_BYTES
