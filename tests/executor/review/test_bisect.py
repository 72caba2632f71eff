"""`bisect`: in a line of runs, where an output changed, at which step first, and why."""

from __future__ import annotations

import pytest
from firmplan import Engine, InputRejected, RunNotFound, tool
from firmplan.testing import MemoryStore
from hypothesis import given
from hypothesis import strategies as st
from public import call, plan, within
from seeds import examples

SUM = plan(
    call("one", "add", args={"a": "${inputs.n}", "b": 1}),
    {"id": "whole", "set": {"total": "${one}", "parts": ["${one}", 1]}},
    output="${whole}",
    inputs={"n": {"type": "integer"}},
)


def adding(more):
    @tool(effect="pure", name="add", version=str(more))
    def add(a: int, b: int) -> int:
        return a + b + more

    return add


def bisected(runs, **options):
    """Run SUM once for each `(n, more)`, and bisect the runs."""

    async def main():
        store = MemoryStore()
        await store.open()
        try:
            ids = [
                (await Engine([adding(more)], store=store).run(SUM, inputs={"n": n}, run_id=f"r{at}")).id
                for at, (n, more) in enumerate(runs)
            ]
            return await Engine([], store=store).bisect(ids, **options)
        finally:
            await store.close()

    return within(main())


def test_nothing_changed():
    """Runs that all came out alike: false, and the value."""
    found = bisected([(1, 0), (1, 0), (1, 0)])
    assert not found
    assert str(found) == 'output is the same in all 3 runs: {"parts":[2,1],"total":2}'


def test_a_changed_tool_is_found():
    """Between which runs, at which step first, and that its tool was changed."""
    found = bisected([(1, 0), (1, 0), (1, 5), (1, 5)])
    assert found
    assert [(change.a, change.b) for change in found.changes] == [("r1", "r2")]
    assert found.changes[0].first.step == "one"
    assert str(found).splitlines() == [
        "output changed once in 4 runs",
        '  r0  {"parts":[2,1],"total":2}',
        "  r1  =",
        '> r2  {"parts":[7,1],"total":7}',
        "  r3  =",
        "between r1 and r2:",
        "  first divergence: step 'one': the tool 'add' was changed between the runs",
        "  ~ one  output: 2 -> 7  [the tool 'add' was changed between the runs]",
    ]


def test_a_change_and_its_return_are_both_found():
    """An output that changed and changed back changed twice."""
    found = bisected([(1, 0), (1, 3), (1, 0)])
    assert [(change.a, change.b) for change in found.changes] == [("r0", "r1"), ("r1", "r2")]


def test_an_input_is_named():
    """Where the inputs differed to begin with, that is the reason."""
    found = bisected([(1, 0), (2, 0)])
    assert "  inputs.n: 1 -> 2" in str(found).splitlines()


def test_only_the_place_that_is_looked_at_counts():
    """A change elsewhere in the output is none; the place is told."""
    assert not bisected([(1, 0), (2, 0)], output="parts[1]")
    found = bisected([(1, 0), (2, 0)], output="parts[0]")
    assert str(found).startswith("output at parts[0] changed once in 2 runs")
    assert [each.value for each in found.seen] == [2, 3]
    assert not bisected([(1, 0), (2, 0)], output="nowhere.at.all")


def test_a_step_can_be_looked_at():
    """The value of a step, and a place in it."""
    assert bisected([(1, 0), (2, 0)], step="one")
    assert not bisected([(1, 0), (2, 0)], step="whole", output=".parts[1]")


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        ([(1, 0)], {}, "at least 2 runs"),
        ([(1, 0), (1, 0)], {"step": "onne"}, "did you mean 'one'"),
        ([(1, 0), (1, 0)], {"output": "a..b"}, "expected a place"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(runs, options, message):
    """Too few runs, a step that none has, a path that is none."""
    with pytest.raises(InputRejected, match=message):
        bisected(runs, **options)


def test_an_unknown_run_is_said():
    """A run that is not there is named."""
    with Engine([], store="memory:") as engine, pytest.raises(RunNotFound, match="nowhere"):
        engine.bisect_sync(["nowhere", "nowhere"])


@examples(25)
@given(more=st.lists(st.integers(0, 2), min_size=2, max_size=6))
def test_every_change_is_found_and_no_other(more):
    """The changes are exactly the neighbours that differ."""
    found = bisected([(1, each) for each in more])
    wanted = [(f"r{at}", f"r{at + 1}") for at in range(len(more) - 1) if more[at] != more[at + 1]]
    assert [(change.a, change.b) for change in found.changes] == wanted
    assert found.to_dict()["changed"] == bool(wanted)
