"""Keys of the store: how they are kept, when they hold, who may approve, and what becomes of wrong ones."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import asynccontextmanager

import httpx2
import pytest
from firmplan import Engine, InputRejected, tool
from firmplan.service import auth, callers
from firmplan.service.app import create_app
from firmplan.service.routes import runs as routes
from served import MAIL, Server

STORES = ["file", pytest.param("postgres", marks=pytest.mark.postgres)]


@tool(effect="write", approval="always", resource="mail")
def send(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


@asynccontextmanager
async def served(*, tools=(), **options):
    """A function from a key to a client, and the engine, of an application in this process."""
    async with Engine([send, *tools], store="memory:") as engine:
        app = create_app(engine, **options)
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url="http://localhost"
        ) as client:

            async def ask(key, method="GET", path="/v1/runs", **more):
                headers = {"Authorization": f"Bearer {getattr(key, 'text', key)}"}
                return await client.request(method, path, headers=headers, **more)

            yield ask, engine


@pytest.mark.parametrize("kind", STORES)
def test_the_store_has_the_hash_of_a_key_only(kind, tmp_path, request):
    """Nothing in it is the key, or a part of the secret; another engine finds the key by its text alone."""
    store = tmp_path / "s.db" if kind == "file" else request.getfixturevalue("postgres_url")
    with Engine([], store=store) as engine:
        key = engine.add_key_sync("ann", scopes=["submit", "read"], tenant="acme", expires="1h")
        assert key.text.startswith(f"fpk_{key.id}_")
        assert "text" not in repr(key)
        assert key.text not in repr(key)
    with Engine([], store=store) as engine:
        found = engine.find_key_sync(key.text)
        assert (found.name, found.scopes, found.tenant, found.text) == ("ann", ("read", "submit"), "acme", "")
        assert found.expires - found.created == pytest.approx(3600)
        secret = key.text.rpartition(f"{key.id}_")[2]
        wrong = secret[:-1] + ("a" if secret[-1] != "a" else "b")
        for text in (
            "",
            "fpk_",
            key.id,
            secret,
            key.text[:-1],
            key.text + "x",
            f"fpk_{key.id}_{wrong}",
            "é" * 64,
        ):
            assert engine.find_key_sync(text) is None, text
        (listed,) = engine.list_keys_sync()
        assert listed.used is not None
        assert engine.revoke_key_sync(key.id)[0].revoked is not None
        assert not engine.find_key_sync(key.text).is_valid(time.time())
    if kind == "file":
        data = b"".join(each.read_bytes() for each in tmp_path.iterdir())
        assert secret.encode() not in data
        with sqlite3.connect(store) as db:
            assert "UPDATE" not in str(db.execute("SELECT * FROM api_keys").fetchall())
        db.close()


def test_a_name_is_one_identity():
    """It may have several keys, in one tenant; all are revoked together, or one by its id."""
    with Engine([], store="memory:") as engine:
        first = engine.add_key_sync("ann", scopes=["read"], tenant="acme")
        engine.add_key_sync("ann", scopes=["admin"], tenant="acme")
        with pytest.raises(InputRejected, match="the tenant 'acme'; expected another name"):
            engine.add_key_sync("ann", scopes=["read"])
        assert [key.id for key in engine.revoke_key_sync(first.id)] == [first.id]
        assert len(engine.revoke_key_sync("ann")) == 1
        with pytest.raises(InputRejected, match="revoked already"):
            engine.revoke_key_sync("ann")
        with pytest.raises(InputRejected, match="found 'nobody'"):
            engine.revoke_key_sync("nobody")
        assert engine.add_key_sync("ann", scopes=["read"]).tenant == ""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": ""}, "a key's name"),
        ({"name": "a b"}, "a key's name"),
        ({"name": "x" * 129}, "a key's name"),
        ({"scopes": []}, "at least one"),
        ({"scopes": ["raed"]}, "did you mean 'read'"),
        ({"tenant": "a:b"}, "tenant"),
        ({"tenant": "sha256"}, "tenant"),
        ({"tenant": None}, "tenant"),
        ({"expires": "soon"}, "expires"),
        ({"expires": 0}, "expires"),
    ],
)
def test_a_bad_key_is_refused(given, words):
    """Nothing is stored."""
    with Engine([], store="memory:") as engine:
        wanted = {"name": "ann", "scopes": ["read"], **given}
        with pytest.raises(InputRejected, match=words):
            engine.add_key_sync(wanted.pop("name"), **wanted)
        assert engine.list_keys_sync() == []


def test_a_key_holds_until_it_expires_or_is_revoked(monkeypatch):
    """Both count after two seconds at most; an expired name may be given to another tenant."""
    now = [0.0]
    monkeypatch.setattr(callers.KeyRing.__init__, "__defaults__", ((), None, lambda: now[0]))

    async def main():
        async with served() as (ask, engine):
            assert (await ask("")).status_code == 200  # no key is needed as long as there is none
            key = await engine.add_key("ann", scopes=["read"])
            now[0] += callers.LOOK_S
            assert (await ask("")).status_code == 401
            assert (await ask(key)).status_code == 200
            await engine.revoke_key("ann")
            now[0] += callers.LOOK_S / 2
            assert (await ask(key)).status_code == 200  # the store was asked a moment ago
            now[0] += callers.LOOK_S / 2
            refused = await ask(key)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
            # The last key that is revoked does not open the server.
            assert (await ask("")).status_code == 401
            brief = await engine.add_key("ann", scopes=["read"], expires=0.05)
            await asyncio.sleep(0.06)
            assert (await ask(brief)).status_code == 401

    asyncio.run(main())


def test_who_submits_approves_only_with_leave():
    """A key's name is recorded with its runs and decisions; `may_approve_own` and keys of the settings approve their own."""

    async def main():
        async with served(api_keys=("plain",)) as (ask, engine):
            scopes = ["read", "submit", "approve"]
            ann = await engine.add_key("ann", scopes=scopes)
            free = await engine.add_key("free", scopes=scopes, may_approve_own=True)
            reader = await engine.add_key("reader", scopes=["read"])

            async def approves(key, run, **body):
                return await ask(key, "POST", f"/v1/runs/{run}/steps/mail/approve", json=body)

            for key in (ann, free, "plain"):
                run = (await ask(key, "POST", json={"plan": MAIL})).json()["id"]
                await engine.wait(run)
                refused = await approves(reader, run)
                assert (refused.status_code, refused.json()["code"]) == (403, "needs-approve")
                assert (
                    refused.headers["www-authenticate"]
                    == 'Bearer error="insufficient_scope", scope="approve"'
                )
                if key is ann:
                    own = await approves(ann, run)
                    assert (own.status_code, own.json()["code"]) == (403, "own-run")
                    posing = await approves(free, run, by="ann")
                    assert (posing.status_code, posing.json()["code"]) == (403, "other-name")
                    key = free  # noqa: PLW2901  # another person
                assert (
                    await approves(key, run, **({"by": "me"} if key == "plain" else {}))
                ).status_code == 200
                done = await engine.wait(run)
                assert done.steps["mail"].decision["by"] == getattr(key, "name", "me")

    asyncio.run(main())


def test_wrong_keys_are_limited_by_address(monkeypatch):
    """After a burst 429 with `Retry-After`, also for a right key that was never seen; those that were seen go on."""
    monkeypatch.setattr(auth, "WRONG_KEYS_MAX", 3)

    async def main():
        async with served(api_keys=("plain",)) as (ask, engine):
            seen, unseen = [await engine.add_key(name, scopes=["read"]) for name in ("a", "b")]
            assert (await ask(seen)).status_code == 200
            codes = [
                (await ask(wrong)).status_code
                for wrong in ("x", unseen.text[:-1], f"fpk_{'0' * 16}_{'a' * 43}", "y")
            ]
            assert codes == [401, 401, 401, 429]
            refused = await ask(unseen)
            assert (refused.status_code, refused.json()["code"]) == (429, "too-many-wrong-keys")
            assert 0 < int(refused.headers["retry-after"]) <= 6
            for key in (seen, "plain"):
                assert (await ask(key)).status_code == 200

    asyncio.run(main())


def test_a_right_key_costs_no_token(monkeypatch):
    """Any number of clients may come from one address."""
    monkeypatch.setattr(auth, "WRONG_KEYS_MAX", 3)

    async def main():
        async with served() as (ask, engine):
            for number in range(8):
                key = await engine.add_key(f"k{number}", scopes=["read"])
                assert (await ask(key)).status_code == 200

    asyncio.run(main())


def test_a_stream_of_a_revoked_key_ends(monkeypatch):
    """Also while no event comes."""
    monkeypatch.setattr(callers, "LOOK_S", 0.05)
    monkeypatch.setattr(routes, "LOOK_S", 0.05)
    hold = {"firmplan": 1, "steps": [{"id": "h", "tool": "hold_on"}], "output": "${h}"}

    async def main():
        begun, sent, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @tool(effect="read", version=1)
        async def hold_on() -> int:
            """Wait."""
            begun.set()
            await release.wait()
            return 1

        async with served(tools=[hold_on]) as (ask, engine):
            events = engine.events

            async def noted(*given, **more):
                async for event in events(*given, **more):
                    yield event
                    sent.set()

            monkeypatch.setattr(engine, "events", noted)
            key = await engine.add_key("ann", scopes=["read", "submit"])
            run = (await ask(key, "POST", json={"plan": hold})).json()["id"]
            await begun.wait()
            following = asyncio.create_task(ask(key, path=f"/v1/runs/{run}/events"))
            await asyncio.wait_for(sent.wait(), 20)
            assert not following.done()
            await engine.revoke_key("ann")
            found = await asyncio.wait_for(following, 20)
            assert "RunFinished" not in found.text
            assert "RunStarted" in found.text
            release.set()
            await engine.wait(run)

    asyncio.run(main())


@pytest.mark.parametrize("kind", STORES)
def test_a_key_revoked_beside_the_servers_is_refused_by_both(kind, tmp_path, request):
    """Two processes on one store hear of it within seconds."""
    store = str(tmp_path / "s.db") if kind == "file" else request.getfixturevalue("postgres_url")
    with Engine([], store=store) as engine:
        key = engine.add_key_sync("ann", scopes=["read", "submit"], tenant="acme")
    with (
        Server(tmp_path, "--store", store) as first,
        Server(tmp_path, "--store", store, "--host", "0.0.0.0") as second,
    ):
        headers = {"Authorization": f"Bearer {key.text}"}
        ports = [server.url.rpartition(":")[2] for server in (first, second)]
        at = [f"http://127.0.0.1:{port}/v1/runs" for port in ports]
        clients = (first.client, second.client)
        assert [
            client.get(url, headers=headers).status_code for client, url in zip(clients, at, strict=True)
        ] == [200, 200]
        assert [client.get(url).status_code for client, url in zip(clients, at, strict=True)] == [401, 401]
        with Engine([], store=store) as engine:
            engine.revoke_key_sync("ann")
        until = time.monotonic() + 20
        while time.monotonic() < until:
            codes = [
                client.get(url, headers=headers).status_code for client, url in zip(clients, at, strict=True)
            ]
            if codes == [401, 401]:
                break
            time.sleep(0.05)
        assert codes == [401, 401]


def test_what_a_server_remembers_of_keys_is_bounded(monkeypatch):
    """The key not seen for longest is looked up again, and still holds."""
    monkeypatch.setattr(callers, "SEEN_MAX", 2)

    async def main():
        async with Engine([], store="memory:") as engine:
            keys = [await engine.add_key(name, scopes=["read"]) for name in "abc"]
            ring = callers.KeyRing(engine)
            for key in keys:
                assert (await ring.find(key.text)).name == key.name
            assert [ring.is_seen(key.text) for key in keys] == [False, True, True]
            assert (await ring.find(keys[0].text)).name == "a"

    asyncio.run(main())
