"""The results that were read a moment ago: the newest ones, without a look."""

from __future__ import annotations

import asyncio

import pytest
from appending import leave
from firmplan.executor import SqliteStore
from firmplan.executor.stores import recent_results, sqlite_store
from firmplan.executor.stores.recent_results import RecentResults
from firmplan.executor.stores.reuse_log import INLINE_BYTES_MAX, lines_in, segments_of
from firmplan.executor.stores.store import Reusable, ReuseEntries, RunRow
from firmplan.tools import tool
from rig import Rig, plan_of


def result(number, output=b"1"):
    return Reusable(f"sha256:{number:016x}{number:048x}", "r", f"s{number}", output, 1.0)


def lines_of(*results):
    (segment,) = segments_of(results)
    return lines_in(segment.results)


def keys_of(*results):
    return [each.key for each in results]


def outputs(found):
    return {key: each.output for key, each in found.items()}


def test_a_result_of_a_segment_that_was_read_is_there():
    """As it was written; others are left out."""
    recent = RecentResults()
    made = [result(number, b'"%d"' % number) for number in range(3)]
    assert recent.find(keys_of(*made)) == {}
    recent.keep({1: lines_of(*made)}, recent.changes)
    for _ in range(2):  # parsed, and again from memory
        assert recent.find(keys_of(made[0], made[2], result(9))) == {
            made[0].key: made[0],
            made[2].key: made[2],
        }


def test_a_result_that_has_a_newer_one_is_forgotten():
    """The others of its segment stay; of two segments the one that was read later counts."""
    recent = RecentResults()
    one, two = result(1), result(2)
    recent.keep({1: lines_of(one, two)}, recent.changes)
    recent.forget([one.key])
    assert recent.find(keys_of(one, two)) == {two.key: two}
    newer = result(1, b"2")
    recent.keep({2: lines_of(newer)}, recent.changes)
    assert recent.find(keys_of(one, two)) == {one.key: newer, two.key: two}


def test_what_was_read_before_a_newer_result_came_is_not_kept():
    """It may be the older one."""
    recent = RecentResults()
    changes = recent.changes
    recent.forget(["sha256:0"])
    recent.keep({1: lines_of(result(1))}, changes)
    assert recent.find(keys_of(result(1))) == {}


def test_the_segments_that_were_read_first_make_room(monkeypatch):
    """A result that a later segment has too stays."""
    segments = {
        number: lines_of(result(number), result(0), result(100 + number, b'"%b"' % (b"x" * 300)))
        for number in range(1, 5)
    }
    size = sum(len(line) for line in segments[1].values())
    monkeypatch.setattr(recent_results, "BYTES_MAX", 2 * size)
    recent = RecentResults()
    for number, lines in segments.items():
        recent.keep({number: lines}, recent.changes)
    there = recent.find(keys_of(*(result(number) for number in range(5))))
    assert set(there) == set(keys_of(result(0), result(3), result(4)))
    recent.keep({3: segments[3]}, recent.changes)  # once more: it counts once
    assert set(recent.find(keys_of(result(3), result(4)))) == set(keys_of(result(3), result(4)))


def test_a_result_whose_value_stands_elsewhere_is_not_kept():
    """The value may be removed; one whose output only looks like the name of a value is kept."""
    recent = RecentResults()
    large = result(1, b'"%b"' % (b"x" * INLINE_BYTES_MAX))
    alike = result(2, b'{"$value":"sha256:0"}')
    recent.keep({1: lines_of(large, alike)}, recent.changes)
    assert recent.find(keys_of(large, alike)) == {alike.key: alike}


def test_an_altered_line_stands_for_no_call():
    """However often it is asked for."""
    recent = RecentResults()
    recent.keep({1: {key: line.replace(b"s1", b"s2") for key, line in lines_of(result(1)).items()}}, 0)
    for _ in range(2):
        assert recent.find(keys_of(result(1)))[result(1).key].refused == "altered"


@pytest.fixture
def questions(monkeypatch):
    """Each question to the index: the keys."""
    asked = []
    find = sqlite_store._numbers_of
    monkeypatch.setattr(sqlite_store, "_numbers_of", lambda db, keys: asked.append(keys) or find(db, keys))
    return asked


def test_a_run_that_runs_again_asks_the_index_a_few_times(tmp_path, questions):
    """In the process that made its results, and in a new one; not once for each group of ready calls."""

    @tool(effect="pure", version=1)
    async def more(n: int) -> int:
        """Add."""
        return n + 1_000

    steps = [
        {"id": f"s{n}", "tool": "more", "args": {"n": f"${{s{n - 5}}}" if n > 4 else n}} for n in range(400)
    ]

    async def main():
        counts = []
        for runs in ((0, 400, 400), (400,)):
            async with Rig([more], str(tmp_path / "s.db")) as rig:
                for reused in runs:
                    questions.clear()
                    run = await rig.run(plan_of(*steps))
                    assert run.usage.get("reused", 0) == reused
                    counts.append(len(questions))
        return counts

    _, second, third, in_a_new_process = asyncio.run(main())
    assert second <= 20  # there are 80 groups, and two questions a segment
    assert third == 0
    assert in_a_new_process <= 20


def test_a_result_that_is_made_anew_is_found_at_once(tmp_path):
    """Not the older one, which was read before."""

    async def main():
        store = SqliteStore(tmp_path / "s.db")
        await store.open()
        await store.create_run(RunRow("r", "queued", None, None, None, 1.0, 1.0, "", {}))
        for number in range(5):
            made = [result(1, b"%d" % number), result(2)]
            await leave(store, ReuseEntries(results=made[: 1 if number else 2]))
            for _ in range(2):
                found = await store.find_reusable(keys_of(result(1), result(2)))
                assert outputs(found) == {result(1).key: b"%d" % number, result(2).key: b"1"}
        assert await store.shrink_cache(before=None, bytes_max=0) == 2
        assert await store.find_reusable(keys_of(result(1), result(2))) == {}
        await store.close()

    asyncio.run(main())
