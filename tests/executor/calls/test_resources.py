"""Resources are opened once an engine, at their first use, and closed with it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Annotated, Any, Self

import pytest
import structlog
from firmplan import (
    ConfigError,
    Context,
    Engine,
    PlanBuilder,
    Resource,
    Secret,
    Tool,
    Toolset,
    agent,
    resource,
    tool,
)
from structlog.testing import capture_logs

LOG: list[str] = []


@pytest.fixture(autouse=True)
def _fresh():
    LOG.clear()
    yield
    structlog.reset_defaults()


class Pool:
    """A pool of connections."""

    def __init__(self, size: int) -> None:
        self.size = size


class Client:
    """A client, which needs a pool."""

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.pool = pool
        self.loop = loop


@resource
def pool() -> Iterator[Pool]:
    LOG.append("open pool")
    opened_by = threading.get_ident()
    yield Pool(7)
    LOG.append("close pool" if threading.get_ident() == opened_by else "another thread")


@resource
async def client(pool: Pool) -> AsyncIterator[Client]:
    LOG.append("open client")
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    try:
        yield Client(pool, loop)
    finally:
        LOG.append("close client" if asyncio.current_task() is task else "another task")


@tool(effect="read", resource="a")
async def fetch(n: int, client: Client) -> int:
    """Fetch."""
    await asyncio.sleep(0)
    return n + client.pool.size if asyncio.get_running_loop() is client.loop else -1


@tool(effect="read", resource="a")
def query(n: int, *, ctx: Context, pool: Pool, limit: int = 1) -> int:
    """Query."""
    return n + pool.size * limit


@tool(effect="read", resource="a")
def asking(n: int, ctx: Context) -> int:
    """Ask for it in a thread."""
    return n + ctx.resource(Pool).size


@tool(effect="read", resource="a")
async def awaiting(n: int, ctx: Context) -> int:
    """Ask for it on the event loop."""
    return n + (await ctx.resource(client)).pool.size


@tool(effect="read", isolation="inline", resource="a")
def inline(n: int, pool: Pool) -> int:
    """Run on the event loop."""
    return n + pool.size


def plan_of(*tools: str, **step: Any) -> dict[str, Any]:
    steps = [{"id": f"s{at}", "tool": name, "args": {"n": at}, **step} for at, name in enumerate(tools)]
    return {
        "firmplan": 1,
        "steps": steps,
        "output": "${[" + ", ".join(f"s{at}" for at in range(len(tools))) + "]}",
    }


TOOLS = [fetch, query, asking, awaiting, inline]
EVERY = plan_of("fetch", "query", "asking", "awaiting", "inline", "fetch")


def test_a_resource_is_no_argument():
    """Schemas, signatures and bound arguments know nothing of it."""
    assert list(query.parameters["properties"]) == ["n", "limit"]
    assert [each.name for each in fetch.opens] == ["pool", "client"]
    assert [each.name for each in asking.opens] == ["pool"]
    assert query.bind({"n": 1}) == b'{"limit":1,"n":1}'


def test_one_an_engine_from_first_use_to_the_end():
    """Concurrent first uses open it once, what needs it is closed before it, and each engine has its own."""
    for _ in range(2):
        LOG.clear()
        with Engine(TOOLS, store="memory:") as engine:
            assert LOG == []
            for _ in range(2):
                run = engine.run_sync(EVERY)
                assert run.output == [7, 8, 9, 10, 11, 12], run.errors
            assert LOG == ["open pool", "open client"]
        assert LOG == ["open pool", "open client", "close client", "close pool"]


async def _both_ways(engine):
    assert (await engine.run(EVERY)).output == [7, 8, 9, 10, 11, 12]
    other = await asyncio.to_thread(engine.run_sync, EVERY)
    assert other.output == [7, 8, 9, 10, 11, 12]


def test_methods_and_their_twins_share_it_on_the_loop_of_the_engine():
    async def main():
        async with Engine(TOOLS, store="memory:") as engine:
            await _both_ways(engine)

    asyncio.run(main())
    assert LOG == ["open pool", "open client", "close client", "close pool"]


def test_an_engine_that_nobody_closes_closes_with_its_loop():
    """What is asynchronous is closed by the end of `asyncio.run`."""

    async def main():
        engine = Engine([fetch], store="memory:")
        await engine.run(plan_of("fetch"))

    asyncio.run(main())
    assert "close client" in LOG


@pytest.mark.parametrize("effect", ["read", "write"])
def test_a_failure_to_open_names_it_and_the_next_use_tries_again(effect):
    """A write has done nothing then, and is retried only where the failure passes."""
    faults = [ConnectionError("refused"), RuntimeError("no such host")]

    @resource
    async def flaky() -> AsyncIterator[Client]:
        if faults:
            raise faults.pop(0)
        yield Client(Pool(1))

    @resource
    def above(flaky: Client) -> Iterator[Pool]:
        yield flaky.pool

    @tool(effect=effect, retries=1)
    async def use(n: int, above: Pool) -> int:
        return n + above.size

    with Engine([use], store="memory:") as engine:
        run = engine.run_sync(plan_of("use"))
        (error,) = run.errors
        assert (error.code, run.steps["s0"].status, run.steps["s0"].attempts) == (
            "resource-failed",
            "failed",
            2,
        )
        assert "resource 'above'" in error.message
        assert "resource 'flaky' could not be opened: RuntimeError: no such host" in error.message
        assert engine.run_sync(plan_of("use")).output == [1]


def test_a_slow_opening_counts_against_the_limit_and_goes_on():
    """A call that stops waiting does not take the resource from the next."""
    opened = threading.Event()

    @resource
    def slow() -> Iterator[Pool]:
        LOG.append("open slow")
        opened.wait(30)
        yield Pool(3)

    @tool(effect="write", idempotent=True, timeout=0.05)
    def use(n: int, slow: Pool) -> int:
        return n + slow.size

    with Engine([use], store="memory:") as engine:
        (error,) = engine.run_sync(plan_of("use")).errors
        assert (error.code, "'slow' was not open within 0.05 s" in error.message) == ("timeout", True)
        opened.set()
        run = engine.run_sync(plan_of("use", retries=50))
        assert run.output == [3], run.errors
    assert LOG == ["open slow"]


def test_an_error_in_closing_is_logged_and_the_others_close():
    @resource
    async def broken(pool: Pool) -> AsyncIterator[Client]:
        yield Client(pool)
        raise RuntimeError("it is gone")

    @tool(effect="read")
    async def use(n: int, broken: Annotated[Client, broken]) -> int:
        return n

    with capture_logs() as logs, Engine([use], store="memory:") as engine:
        engine.run_sync(plan_of("use"))
    assert LOG == ["open pool", "close pool"]
    (line,) = [each for each in logs if each.get("resource") == "broken"]
    assert (line["event"], "it is gone" in line["error"]) == ("a resource failed to close", True)


def test_a_replay_opens_nothing(tmp_path):
    with Engine(TOOLS, store=tmp_path / "f.db") as engine:
        run = engine.run_sync(EVERY)
    LOG.clear()
    with Engine(TOOLS, store=tmp_path / "f.db") as engine:
        assert engine.replay_sync(run.id).digest == run.digest
    assert LOG == []


def test_every_form_of_a_context_manager():
    """Generators, context managers, classes, functions that return one, coroutines, and plain values."""

    @resource
    class Browser:
        def __enter__(self) -> Self:
            LOG.append("open browser")
            return self

        def __exit__(self, *_: object) -> None:
            LOG.append("close browser")

    @resource
    @contextmanager
    def one() -> Iterator[Pool]:
        yield Pool(1)
        LOG.append("close one")

    @resource
    @asynccontextmanager
    async def two() -> AsyncIterator[Pool]:
        yield Pool(2)
        LOG.append("close two")

    @resource(name="three")
    def third() -> Pool:
        return Pool(3)

    @resource
    async def four() -> Pool:
        return Pool(4)

    @resource
    def connection() -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(":memory:"))

    @tool(effect="read")
    async def use(
        n: int,
        browser: Browser,
        a: Annotated[Pool, one],
        b: Annotated[Pool, two],
        c: Annotated[Pool, third],
        d: Annotated[Pool, four],
        e: Annotated[sqlite3.Connection, connection],
    ) -> list[str]:
        return [type(browser).__name__, str(a.size + b.size + c.size + d.size), type(e).__name__]

    with Engine([use], store="memory:") as engine:
        assert engine.run_sync(plan_of("use")).output == [["Browser", "10", "Connection"]]
    assert LOG == ["open browser", "close two", "close one", "close browser"]
    with one() as direct:
        assert direct.size == 1


def test_tools_of_every_kind_take_them():
    """Tools of `from_callable`, and methods."""

    def power(base, pool: Pool):
        return base * pool.size

    class Shop:
        @tool(effect="read")
        def stock(self, n: int, pool: Pool) -> int:
            """Count the stock."""
            return n + pool.size

    schema = {"type": "object", "properties": {"base": {"type": "integer"}}, "required": ["base"]}
    made = Tool.from_callable(power, name="power", parameters=schema, effect="read")
    steps = [
        {"id": "a", "tool": "power", "args": {"base": 2}},
        {"id": "b", "tool": "stock", "args": {"n": 2}},
    ]
    with Engine([made, Shop().stock], store="memory:") as engine:
        assert engine.run_sync({"firmplan": 1, "steps": steps, "output": "${[a, b]}"}).output == [14, 9]
    p = PlanBuilder("x")
    p.output(p.call(query, n=1))
    assert p.build([query]).steps[0].args == {"n": 1}


# --- what stands for resources in tests


def test_a_fake_stands_for_a_resource_and_its_results_are_not_reused(tmp_path):
    """By type or by name; a value is used as it is, and never closed."""
    with Engine(
        TOOLS, store=tmp_path / "f.db", resources={Pool: Pool(100), client: Client(Pool(50))}
    ) as engine:
        run = engine.run_sync(plan_of("query", "asking", "awaiting", "inline"))
        assert run.output == [100, 101, 52, 103], run.errors
        fake = engine.tools.get("query")
        assert fake.fingerprint is None
        assert "a value stands for the resource 'pool'" in fake.unseen
    assert LOG == []
    assert query.fingerprint is not None


def test_another_resource_stands_for_one():
    @resource
    def small() -> Iterator[Pool]:
        LOG.append("open small")
        yield Pool(1)
        LOG.append("close small")

    with Engine([query], store="memory:", resources={Pool: small}) as engine:
        assert engine.run_sync(plan_of("query")).output == [1]
        assert engine.tools.get("query").fingerprint not in (None, query.fingerprint)
    assert LOG == ["open small", "close small"]


def test_a_context_of_a_test_has_them():
    ctx = Context(resources={Pool: Pool(2)})
    assert query.invoke(query.bind({"n": 1}), ctx) == 3
    assert asking.invoke(asking.bind({"n": 1}), ctx) == 3
    with pytest.raises(ConfigError, match="the tool needs the resource 'pool'"):
        query.invoke(query.bind({"n": 1}), Context())


# --- fingerprints


def _made(source: str) -> Tool:
    names: dict[str, Any] = {}
    code = f"from collections.abc import Iterator\nfrom firmplan import resource, tool\n{source}"
    exec(compile(code, __file__, "exec"), names)  # the code is this test's
    return names["use"]


def test_the_fingerprint_has_the_declaration_and_not_what_is_open(tmp_path):
    """An edit of the resource's function is an edit of each tool that uses it; an edit of a comment is none."""
    source = '''from collections.abc import Iterator
from firmplan import Context, resource, tool
class Pool:
    size = {size}
def size() -> int:
    return {size}
@resource
def pool() -> Iterator[Pool]:
    """{words}"""
    assert size()
    yield Pool()
@tool(effect="read")
def use(n: int, pool: Pool) -> int:
    return n
@tool(effect="read")
def ask(n: int, ctx: Context) -> int:
    return n + ctx.resource(Pool).size
'''
    found = []
    for at, (size, words) in enumerate([(1, "a"), (1, "b"), (2, "a")]):
        path = tmp_path / str(at) / "tools.py"
        path.parent.mkdir()
        path.write_text(source.format(size=size, words=words))
        tools = Toolset.load(path)
        found.append([tools.get(name).fingerprint for name in ("use", "ask")])
    assert found[0] == found[1]
    assert None not in found[0]
    assert all(one != other for one, other in zip(found[0], found[2], strict=True))


# --- mistakes


def test_two_resources_of_one_type_have_to_be_named():
    @resource
    def primary() -> Iterator[Client]:
        yield Client(Pool(1))

    @resource
    def replica() -> Iterator[Client]:
        yield Client(Pool(2))

    with pytest.raises(
        ConfigError, match=r"found .*primary.*; name the one that is meant: Annotated\[Client, "
    ):

        @tool(effect="read")
        def use(n: int, c: Client) -> int:
            return n

    @tool(effect="read")
    def named(n: int, c: Annotated[Client, replica]) -> int:
        return n + c.pool.size

    with Engine([named], store="memory:") as engine:
        assert engine.run_sync(plan_of("named")).output == [2]


def test_mistakes_are_told_where_they_are():
    class Unknown:
        pass

    with pytest.raises(
        ConfigError, match=r"found Unknown.*its @resource has to have a name in the tool's module"
    ):
        tool(effect="read", name="x")(_annotated(lambda x: None, x=Unknown))
    with pytest.raises(ConfigError, match="expected the type that it gives after `->`"):
        resource(lambda: None)

    @resource
    def wants(url: str) -> Iterator[Unknown]:
        yield Unknown()

    with pytest.raises(ConfigError, match="parameter 'url': expected a resource, a Context, or a default"):

        @tool(effect="read")
        def use(n: int, x: Unknown) -> int:
            return n

    with pytest.raises(ConfigError, match="isolation='process' expects resources that are plain"):

        @tool(effect="read", isolation="process")
        def far(n: int, c: Annotated[Client, client]) -> int:
            return n

    with pytest.raises(ConfigError, match="the body of an agent is never run"):

        @agent
        def ask(n: int, pool: Pool) -> str:
            """Say ${n}."""

    with pytest.raises(ConfigError, match="expected a mapping"):
        Engine([query], store="memory:", resources=[pool])
    with pytest.raises(ConfigError, match="expected keys that are types"):
        Engine([query], store="memory:", resources={"pool": 1})


def test_resources_in_a_circle_are_refused():
    names: dict[str, Any] = {}

    class One:
        pass

    class Two:
        pass

    @resource
    def one(two: Two) -> Iterator[One]:
        yield One()

    @resource
    def two(one: One) -> Iterator[Two]:
        yield Two()

    one._local = two._local = {"one": one, "two": two, "One": One, "Two": Two}
    assert isinstance(one, Resource)
    with pytest.raises(ConfigError, match="need each other in a circle: one -> two -> one"):

        @tool(effect="read")
        def use(n: int, x: One) -> int:
            return n

    assert names == {}


def _annotated(fn, **hints):
    fn.__annotations__ = {**hints, "return": int}
    return fn


def test_an_unknown_type_is_told_by_the_step():
    @tool(effect="read")
    def use(n: int, ctx: Context) -> int:
        return ctx.resource(dict)

    with Engine([use], store="memory:") as engine:
        (error,) = engine.run_sync(plan_of("use")).errors
    assert "no resource gives <class 'dict'>" in error.message


class Session:
    """A session that was opened with a key."""

    def __init__(self, key: str) -> None:
        self.key = key


@resource
def session(ctx: Context) -> Iterator[Session]:
    """Open a session, and say so with more than is good."""
    key = ctx.secret("SHOP_KEY")
    ctx.log.warning("session opened", key=key, mode=ctx.env("MODE", "plain"))
    yield Session(key)
    raise RuntimeError(f"{key} was refused")


@resource
async def cart(session: Session, ctx: Context | None = None) -> AsyncIterator[list[str]]:
    assert ctx is not None
    yield [session.key]


@tool(effect="read", resource="shop", reuse_for="1h")
async def orders(session: Session) -> str:
    """Return what nobody should see."""
    return f"as {session.key}"


@tool(effect="read", resource="shop")
def lost(*, ctx: Context) -> str:
    """Fail with it, and log it."""
    key = ctx.resource(cart)[0]
    ctx.log.warning("about to fail", key=key)
    raise ValueError(f"no {key} here")


def test_a_resource_reads_secrets_that_stand_nowhere(tmp_path):
    """Not in its own log, nor in results, errors, frames and logs of the tools that use it; and no other key gets a result made with it."""
    plan = {
        "firmplan": 1,
        "steps": [{"id": "a", "tool": "orders"}, {"id": "b", "tool": "lost", "on_error": {"value": ""}}],
        "output": "${a}",
    }
    with capture_logs() as logs:
        with Engine([orders, lost], store=tmp_path / "s.db", secrets={"SHOP_KEY": "sesame"}) as engine:
            run = engine.run_sync(plan)
            assert run.output == 'as ${secret("SHOP_KEY")}'
            assert run.steps["b"].error.message == 'ValueError: no ${secret("SHOP_KEY")} here'
            assert engine.run_sync(plan).steps["a"].reused is False
        said = {line["event"]: line for line in logs}
        assert said["session opened"]["key"] == said["about to fail"]["key"] == '${secret("SHOP_KEY")}'
        assert (said["session opened"]["resource"], said["session opened"]["mode"]) == ("session", "plain")
        assert "${secret" in said["a resource failed to close"]["error"]
    assert "sesame" not in str(logs)
    assert b"sesame" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_secret_is_for_the_resources_that_it_names(monkeypatch):
    """The name of a resource stands among the places of a secret as that of a tool does; an error of opening has no secret in it."""

    @resource
    def picky(ctx: Context) -> Iterator[Session]:
        raise ValueError(f"{ctx.secret('MINE')} {ctx.secret('OTHERS')}")
        yield

    @tool(effect="read")
    def use(found: Annotated[Session, picky]) -> str:
        """Use it."""
        return found.key

    monkeypatch.setenv("TWO", "two")
    plan = {"firmplan": 1, "steps": [{"id": "a", "tool": "use"}]}
    for others, message in (
        (
            Secret(env="TWO", tools=("use",)),
            "the resource 'picky' asks for the secret 'OTHERS' at ctx.secret in picky; it is only for use",
        ),
        (Secret(env="TWO", tools=("picky",)), 'ValueError: ${secret("MINE")} ${secret("OTHERS")}'),
    ):
        with Engine([use], store="memory:", secrets={"MINE": "one", "OTHERS": others}) as engine:
            (error,) = engine.run_sync(plan).errors
        assert error.code == "resource-failed"
        assert message in error.message


def test_two_contexts_of_one_resource_are_refused():
    @resource
    def twice(a: Context, b: Context) -> Iterator[Session]:
        yield Session("")

    def use(found: Annotated[Session, twice]) -> str:
        """Use it."""
        return found.key

    with pytest.raises(ConfigError, match="expected one parameter annotated Context, found a, b"):
        tool(effect="read")(use)
