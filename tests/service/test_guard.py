"""What stands before every route: keys, rates, sizes, and who may be asked from where."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import httpx2
from firmplan import Engine, tool
from firmplan.service import auth, run_queue
from firmplan.service.app import create_app
from firmplan.service.auth import Buckets, ServerLimits


@asynccontextmanager
async def served(tools=(), **options):
    """A client of an application in this process."""
    async with Engine(list(tools), store="memory:") as engine:
        app = create_app(engine, **options)
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


def test_too_many_requests_are_told_when_to_come_back():
    """Past the burst a client gets 429 with `Retry-After`; another client, and the health checks, go on."""

    async def main():
        limits = ServerLimits(rate_per_s=0.001, burst=2)
        async with served(api_keys=("one", "two"), limits=limits) as client:
            one, two = ({"Authorization": f"Bearer {key}"} for key in ("one", "two"))
            codes = [(await client.get("/v1/runs", headers=one)).status_code for _ in range(3)]
            assert codes == [200, 200, 429]
            refused = await client.get("/v1/runs", headers=one)
            assert refused.json()["code"] == "rate-limited"
            assert refused.headers["content-type"] == "application/problem+json"
            assert 0 < int(refused.headers["retry-after"]) <= 1000
            assert (await client.get("/v1/runs", headers=two)).status_code == 200
            assert (await client.get("/healthz")).status_code == 200

    asyncio.run(main())


def test_a_bucket_fills_with_time():
    """`burst` at once, then `rate` a second, never more than `burst`."""
    now = [0.0]
    buckets = Buckets(2.0, 3, lambda: now[0])
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    now[0] += 0.5
    assert [buckets.take("a"), buckets.take("a")] == [0, 0.5]
    now[0] += 100
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_body_without_a_length_is_counted():
    """A body that is sent in pieces is cut off where it passes the limit, with 413."""

    async def pieces(count):
        for _ in range(count):
            yield b" " * 1000

    async def main():
        async with served(limits=ServerLimits(body_bytes=5_000)) as client:
            headers = {"Content-Type": "application/json"}
            large = await client.post("/v1/tasks", content=pieces(6), headers=headers)
            assert (large.status_code, large.json()["code"]) == (413, "body-too-large")
            assert "at most 5,000 bytes" in large.json()["detail"]
            small = await client.post("/v1/tasks", content=pieces(5), headers=headers)
            assert small.status_code == 422

    asyncio.run(main())


def test_an_upload_has_a_limit_of_its_own():
    """An artifact that is posted may be larger than another body; past its limit nothing of it is an artifact. Unknown parameters are refused."""

    async def pieces(count):
        for _ in range(count):
            yield b" " * 1000

    async def main():
        async with served(limits=ServerLimits(body_bytes=10, upload_bytes=5_000)) as client:
            large = await client.post("/v1/artifacts", content=pieces(6))
            assert (large.status_code, large.json()["code"]) == (413, "body-too-large")
            made = await client.post("/v1/artifacts?name=a.csv", content=pieces(5))
            assert (made.status_code, made.json()["size"], made.json()["media_type"]) == (
                201,
                5_000,
                "text/csv",
            )
            assert (await client.post("/v1/artifacts?nme=x", content=b"x")).status_code == 422
            assert (await client.post("/v1/artifacts", content=b"")).json()["size"] == 0

    asyncio.run(main())


def test_keys_are_taken_as_bearers_only():
    """Another scheme, an empty key and a key's beginning are refused, with the header that says what is wanted."""

    async def main():
        async with served(api_keys=("secret",)) as client:
            for given in (
                "",
                "secret",
                "Basic secret",
                "Bearer",
                "Bearer ",
                "Bearer secre",
                "Bearer secrets",
                "Bearer sécret",
            ):
                headers = {"Authorization": given.encode()} if given else {}
                refused = await client.get("/v1/runs", headers=headers)
                assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized"), given
                assert refused.headers["www-authenticate"] == "Bearer"
                assert "secret" not in refused.text
            for given in ("Bearer secret", "bearer secret", "BEARER  secret"):
                assert (await client.get("/v1/runs", headers={"Authorization": given})).status_code == 200, (
                    given
                )

    asyncio.run(main())


def test_other_sites_change_nothing():
    """A page of another site may not submit; a name that points here from elsewhere is not answered."""

    async def main():
        async with served(hosts=("localhost",)) as client:
            evil = await client.post(
                "/v1/tasks", json={"task": "a b"}, headers={"Origin": "http://evil.example"}
            )
            assert (evil.status_code, evil.json()["code"]) == (403, "wrong-origin")
            own = await client.post("/v1/tasks", json={"task": "a b"}, headers={"Origin": "http://localhost"})
            assert own.status_code == 202
            rebound = await client.get("/v1/runs", headers={"Host": "evil.example"})
            assert (rebound.status_code, rebound.json()["code"]) == (421, "wrong-host")
            # What is no URL at all is refused as well, and is no error of the server.
            for headers, expected in (
                ({"Origin": "http://["}, (403, "wrong-origin")),
                ({"Origin": "null"}, (403, "wrong-origin")),
                ({"Host": "["}, (421, "wrong-host")),
            ):
                broken = await client.post("/v1/tasks", json={"task": "a b"}, headers=headers)
                assert (broken.status_code, broken.json()["code"]) == expected

    asyncio.run(main())


def test_a_queue_may_be_longer_than_a_page_of_runs():
    """Runs are counted page by page, however many the server takes."""
    waiting = {"firmplan": 1, "steps": [{"id": "a", "set": 1}], "output": "${a}"}

    async def main():
        async with served(limits=ServerLimits(queue=100_000)) as client:
            for _ in range(3):
                assert (await client.post("/v1/runs", json={"plan": waiting})).status_code == 202
            assert "firmplan_runs_active" in (await client.get("/metrics")).text

    asyncio.run(main())


def test_what_a_server_remembers_is_bounded(monkeypatch):
    """Rates of clients, its own runs: the one not seen for longest is forgotten first."""
    for module, name in ((auth, "CLIENTS_MAX"), (run_queue, "OWN_MAX")):
        monkeypatch.setattr(module, name, 3)
    buckets = Buckets(1.0, 1, lambda: 0.0)
    for client in "abc":
        assert buckets.take(client) == 0
    assert buckets.take("a") > 0  # seen again: now `b` is the oldest
    assert buckets.take("d") == 0
    assert [buckets.take(client) > 0 for client in "acd"] == [True, True, True]
    assert buckets.take("b") == 0
    taken = run_queue.RunQueue(None, ServerLimits(), None)
    for run_id in "abcad":
        taken.adopt(run_id)
    assert [run_id for run_id in "abcd" if taken._own.find(run_id)] == ["a", "c", "d"]


def test_a_queue_ends_at_its_limit():
    """As many runs as the limit says are queued or running; one more is refused, and told when to come back."""

    async def main():
        release = asyncio.Event()

        @tool(effect="read", version=1)
        async def wait() -> int:
            """Wait until the test says so."""
            await release.wait()
            return 1

        plan = {"firmplan": 1, "steps": [{"id": "a", "tool": "wait"}]}
        async with served(tools=[wait], limits=ServerLimits(queue=2)) as client:
            answers = [await client.post("/v1/runs", json={"plan": plan}) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [202, 202, 429]
            assert answers[2].json()["code"] == "queue-full"
            assert answers[2].headers["retry-after"] == str(run_queue.RETRY_AFTER_S)
            release.set()

    asyncio.run(main())
