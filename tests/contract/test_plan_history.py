"""Every store keeps the versions that the name of a saved plan had, also if it held the plan before it had histories."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

from firmplan.executor.stores import saved_plans
from firmplan.plans.values import digest, digest_of_text


def with_store(make, law):
    async def main():
        store = make()
        await store.open()
        try:
            return await law(store)
        finally:
            await store.close()

    return asyncio.run(main())


def told(versions):
    return [(each.version, each.digest, each.text_digest, each.saved, each.by) for each in versions]


def test_each_text_is_a_version_and_so_is_a_deletion(make_store):
    """Newest first; saving the same text again is no version, and a name that is used again goes on counting."""

    async def law(store):
        assert await store.list_plan_versions("a") == []
        await store.save_plan("a", "{1}", "sha256:1", 1.0, author="ann")
        await store.save_plan("a", "{1}", "sha256:1", 2.0, author="bob")
        await store.save_plan("a", "{1 }", "sha256:1", 3.0, author="")
        await store.save_plan("b", "{9}", "sha256:9", 3.0, author="")
        assert not await store.save_plan("a", "{7}", "sha256:7", 4.0, replaces="sha256:0", author="eve")
        assert not await store.delete_plan("a", 5.0, author="eve", digest="sha256:0")
        assert not await store.delete_plan("a", 5.0, author="eve", digest="sha256:1", of_text="{1}")
        assert await store.delete_plan("a", 5.0, author="cleo", digest="sha256:1", of_text="{1 }")
        assert not await store.delete_plan("a", 6.0, author="cleo")
        assert await store.find_plan("a") is None
        await store.save_plan("a", "{1}", "sha256:1", 7.0, replaces="", author="dan")
        versions = await store.list_plan_versions("a")
        one, prose = digest_of_text("{1}"), digest_of_text("{1 }")
        assert told(versions) == [
            (4, "sha256:1", one, 7.0, "dan"),
            (3, "", "", 5.0, "cleo"),
            (2, "sha256:1", prose, 3.0, ""),
            (1, "sha256:1", one, 1.0, "ann"),
        ]
        assert [each.is_deletion for each in versions] == [False, True, False, False]
        read = [await store.read_plan_version(each) for each in versions]
        assert [(each.text, each.is_altered) for each in read] == [
            (text, False) for text in ("{1}", "", "{1 }", "{1}")
        ]

    with_store(make_store, law)


def test_a_plan_from_before_histories_is_the_first_version(make_store):
    """It is shown at once, and written when the next one is saved; so is what an older firmplan has saved in between."""

    async def law(store):
        await store.save_plan("a", "{1}", "sha256:1", 1.0)
        (only,) = await store.list_plan_versions("a")
        assert told([only]) == [(1, "sha256:1", digest_of_text("{1}"), 1.0, "")]
        assert (await store.read_plan_version(only)).text == "{1}"
        await store.save_plan("a", "{2}", "sha256:2", 2.0, author="ann")
        await store.save_plan("a", "{3}", "sha256:3", 3.0)
        await store.delete_plan("a", 4.0, author="bob")
        found = await store.list_plan_versions("a")
        assert [(each.version, each.digest, each.saved, each.by) for each in found] == [
            (4, "", 4.0, "bob"),
            (3, "sha256:3", 3.0, ""),
            (2, "sha256:2", 2.0, "ann"),
            (1, "sha256:1", 1.0, ""),
        ]
        assert not (await store.read_plan_version(found[3])).is_altered

    with_store(make_store, law)


def test_a_history_is_bounded(make_store, monkeypatch):
    monkeypatch.setattr(saved_plans, "VERSIONS_MAX", 3)

    async def law(store):
        for number in range(6):
            await store.save_plan("a", f"{{{number}}}", f"sha256:{number}", float(number), author="")
        assert [each.version for each in await store.list_plan_versions("a")] == [6, 5, 4]

    with_store(make_store, law)


def test_savers_at_the_same_moment_get_versions_of_their_own(make_shared):
    """No version is lost and none is there twice, also if both find a plan from before histories."""
    with_store(make_shared, lambda store: store.save_plan("a", "{0}", "sha256:0", 0.0))

    def save(number):
        async def law(store):
            for turn in range(5):
                text = json.dumps([number, turn])
                await store.save_plan("a", text, f"sha256:{number}-{turn}", 1.0, author=str(number))

        with_store(make_shared, law)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, range(4)))
    versions = with_store(make_shared, lambda store: store.list_plan_versions("a"))
    assert [each.version for each in versions] == list(range(21, 0, -1))
    assert len({each.digest for each in versions}) == 21
    assert versions[-1].digest == "sha256:0"


def test_a_value_that_an_old_version_names_stays(make_store):
    """A restored plan finds its artifacts."""

    async def law(store):
        kept, gone = (digest(text) for text in (b"kept", b"gone"))
        await store.add_value(kept, b"kept", 1.0)
        await store.add_value(gone, b"gone", 1.0)
        await store.save_plan("a", json.dumps({"digest": kept}), "sha256:1", 1.0, author="")
        await store.save_plan("a", "{}", "sha256:2", 2.0, author="")
        assert (await store.prune_values(saved_before=9.0)).values == 1
        assert list(await store.find_values([kept, gone])) == [kept]

    with_store(make_store, law)
