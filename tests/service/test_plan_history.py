"""The history of a saved plan over HTTP: versions with author and time, restore, delete."""

from __future__ import annotations

import sqlite3

import pytest
from firmplan import Engine
from firmplan.errors import InputRejected, StoreError
from served import PLAN

CHANGED = {**PLAN, "task": "Sum {a} and {b}"}
OTHER = {**PLAN, "output": "${total + 1}"}


def test_an_old_version_is_read_and_restored_by_its_digest(server):
    """A restore is a save with If-Match, and becomes the newest version; a version of other prose has a digest of its own."""
    put = server.client.put
    first = put("/v1/plans/old", json=PLAN)
    put("/v1/plans/old", json=CHANGED)
    last = put("/v1/plans/old", json=OTHER)
    history = server.get("/v1/plans/old/history").json()
    assert history["name"] == "old"
    assert [(each["version"], each["deleted"]) for each in history["versions"]] == [
        (3, False),
        (2, False),
        (1, False),
    ]
    assert history["versions"][0]["digest"] == last.json()["digest"]
    assert f'"{history["versions"][2]["text_digest"]}"' == first.headers["etag"]
    assert len({each["digest"] for each in history["versions"]}) == 2
    assert all(each["saved"] > 1_700_000_000 and each["by"] is None for each in history["versions"])

    wanted = history["versions"][2]["text_digest"]
    version = server.get(f"/v1/plans/old/history/{wanted}")
    assert (version.json()["task"], version.headers["etag"]) == (PLAN["task"], first.headers["etag"])
    assert (
        server.get(f"/v1/plans/old/history/{history['versions'][2]['digest']}").json()["task"]
        == CHANGED["task"]
    )
    late = put("/v1/plans/old", json=version.json(), headers={"If-Match": first.headers["etag"]})
    assert late.status_code == 412
    restored = put("/v1/plans/old", json=version.json(), headers={"If-Match": last.headers["etag"]})
    assert (restored.status_code, restored.headers["etag"]) == (200, first.headers["etag"])
    assert server.get("/v1/plans/old/history").json()["versions"][0]["version"] == 4
    assert server.client.head("/v1/plans/old/history").status_code == 200


def test_a_deleted_plan_keeps_its_history_and_its_digest(server):
    """Deleting takes the ETag into account; what names the plan by digest still finds it."""
    saved = server.client.put("/v1/plans/gone", json=PLAN)
    wrong = server.client.delete("/v1/plans/gone", headers={"If-Match": '"sha256:0"'})
    assert (wrong.status_code, wrong.json()["code"]) == (412, "replaced")
    assert server.get("/v1/plans/gone").status_code == 200
    deleted = server.client.delete("/v1/plans/gone", headers={"If-Match": saved.headers["etag"]})
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert server.get("/v1/plans/gone").status_code == 404
    again = server.client.delete("/v1/plans/gone")
    assert (again.status_code, again.json()["code"]) == (404, "unknown-plan")
    assert "gone" not in [each["name"] for each in server.get("/v1/plans").json()["plans"]]
    assert server.post("/v1/runs", {"plan_name": "gone", "inputs": {"a": 1}}).status_code == 404
    by_digest = server.post("/v1/runs", {"plan_digest": saved.json()["digest"], "inputs": {"a": 1}})
    assert by_digest.status_code == 202
    versions = server.get("/v1/plans/gone/history").json()["versions"]
    assert [(each["version"], each["deleted"]) for each in versions] == [(2, True), (1, False)]
    assert server.get(f"/v1/plans/gone/history/{versions[1]['text_digest']}").json()["task"] == PLAN["task"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/plans/never/history",
        "/v1/plans/never/history/sha256:0",
        "/v1/plans/a%20b/history",
        "/v1/plans/%C3%A4/history/1",
    ],
)
def test_what_was_never_saved_has_no_history(server, path):
    refused = server.get(path)
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown-plan")


def test_a_named_key_is_the_author(tmp_path):
    """The key's name stands in the history; what a request says cannot change it."""
    import asyncio

    import httpx2
    from firmplan.service.app import create_app

    async def main():
        async with Engine([], store="memory:") as engine:
            app = create_app(engine, named_keys={"ann": "a" * 20, "bob": "b" * 20})
            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
                plan = {"firmplan": 1, "steps": [{"id": "x", "set": 1}]}
                ann, bob = ({"Authorization": f"Bearer {letter * 20}"} for letter in "ab")
                await client.put("/v1/plans/mine", json=plan, headers=ann)
                await client.delete("/v1/plans/mine", headers=bob)
                return (await client.get("/v1/plans/mine/history", headers=ann)).json()["versions"]

    assert [each["by"] for each in asyncio.run(main())] == ["bob", "ann"]


def test_an_altered_version_is_refused(tmp_path):
    """It is still listed, and no other version suffers."""
    path = tmp_path / "s.db"
    plan = {"firmplan": 1, "steps": [{"id": "x", "set": 1}]}
    with Engine([], store=path) as engine:
        engine.save_plan_sync("a", plan, by="ann")
        engine.save_plan_sync("a", {**plan, "output": "${x}"})
    with sqlite3.connect(path) as db:
        db.execute("UPDATE plan_versions SET plan=plan || ' ' WHERE version=1")
    db.close()
    with Engine([], store=path) as engine:
        assert len(engine.plan_history_sync("a")) == 2
        with pytest.raises(StoreError, match="is not as it was saved"):
            engine.plan_version_sync("a", 1)
        assert engine.plan_version_sync("a", 2).output is not None
        with pytest.raises(InputRejected, match="had no version '3'") as fault:
            engine.plan_version_sync("a", 3)
        assert fault.value.code == "unknown-plan"
        with pytest.raises(InputRejected, match="expected the digest of the plan to delete"):
            engine.delete_plan_sync("a", replaces="")
