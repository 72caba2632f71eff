"""Laws of the context: injected and no argument, everything taken is recorded, pure tools get nothing that varies."""

import asyncio
import copy
import pickle
import threading
from datetime import UTC, datetime
from uuid import UUID

import pytest
from firmplan import Context, ToolError, tool
from firmplan.plans.signature import Effect
from firmplan.tools import Used


def test_a_context_is_injected_by_its_annotation():
    """The parameter annotated `Context` is handed the context, whatever its name and place; it is no argument."""

    @tool
    def where(prefix: str, ctx: Context, *, suffix: str = "") -> str:
        """Where."""
        return prefix + ctx.step + suffix

    @tool
    def optional(*, here: Context | None = None) -> str:
        """Here."""
        return here.step if here else "nowhere"

    @tool
    def quoted(c: "Context") -> str:
        """Quoted."""
        return c.step

    ctx = Context(step="s[1]")
    assert where.invoke(where.bind({"prefix": "<"}), ctx) == "<s[1]"
    assert list(where.parameters["properties"]) == ["prefix", "suffix"]
    assert optional.invoke(optional.bind({}), ctx) == "s[1]"
    assert optional() == "nowhere"
    assert quoted.invoke(quoted.bind({}), ctx) == "s[1]"
    with pytest.raises(ToolError, match="argument 'ctx': not a parameter"):
        where.bind({"prefix": "", "ctx": 1})


@pytest.mark.parametrize("what", ["now", "random", "uuid"])
def test_pure_tools_get_nothing_that_varies(what):
    """In a pure tool, time, randomness and ids raise a ToolError with code `impure` that says what to do."""
    ctx = Context(step="s", effect=Effect.PURE)
    with pytest.raises(ToolError, match="a pure tool asked for ctx") as raised:
        getattr(ctx, what) if what == "random" else getattr(ctx, what)()
    assert raised.value.code == "impure"
    assert not ctx.used.varies


@pytest.mark.parametrize("effect", [Effect.READ, Effect.MODEL, Effect.WRITE])
@pytest.mark.parametrize("what", ["now", "random", "uuid"])
def test_what_varies_is_recorded(what, effect):
    """Elsewhere they may be used, and that they were is on record."""
    ctx = Context(effect=effect)
    assert not ctx.used.varies
    _ = ctx.random.random() if what == "random" else getattr(ctx, what)()
    assert ctx.used.varies


def test_time_and_ids_are_the_clock_and_the_maker_handed_in():
    """Time is the engine's, in UTC."""
    ctx = Context(clock=lambda: 86400.0, new_uuid=lambda: UUID(int=7))
    assert ctx.now() == datetime(1970, 1, 2, tzinfo=UTC)
    assert ctx.uuid() == UUID(int=7)
    assert (ctx.used.now, ctx.used.uuids) == ([86400.0], [str(UUID(int=7))])


def test_a_repeated_call_gets_what_the_first_got():
    """Recorded times and ids are handed out again in order; past them new ones are made."""
    first = Context(clock=iter([1.0, 2.0]).__next__, new_uuid=iter([UUID(int=1), UUID(int=2)]).__next__)
    seen = [first.now(), first.now(), first.uuid()]
    again = Context(clock=lambda: 99.0, new_uuid=lambda: UUID(int=9), recorded=first.used)
    assert [again.now(), again.now(), again.uuid()] == seen
    assert again.now().timestamp() == 99.0
    assert again.uuid() == UUID(int=9)


def test_randomness_follows_from_seed_and_step():
    """The same seed and step give the same numbers in every attempt; another step or seed gives others."""

    def numbers(**given):
        return [Context(**given).random.random() for _ in range(2)]

    one = numbers(seed="a", step="s", attempt=1)
    assert one[0] == one[1] == numbers(seed="a", step="s", attempt=2)[0]
    assert len({one[0], numbers(seed="b", step="s")[0], numbers(seed="a", step="t")[0]}) == 3


def test_environment_is_recorded_with_its_value():
    """What was read and what was not set are both on record, and `default` is not."""
    ctx = Context(env={"HOME": "/h"}, effect=Effect.PURE)
    assert ctx.env("HOME") == "/h"
    assert ctx.env("MISSING") is None
    assert ctx.env("MISSING", "d") == "d"
    assert ctx.used.env == {"HOME": "/h", "MISSING": None}
    assert not ctx.used.varies


def test_secrets_are_recorded_by_name_only():
    """A secret's value is nowhere in the record or in a repr; a missing one says how to give it."""
    ctx = Context(step="s", secrets={"KEY": "sk-123"})
    assert ctx.secret("KEY") == ctx.secret("KEY") == "sk-123"
    assert ctx.used.secrets == ["KEY"]
    assert "sk-123" not in repr(ctx) + repr(ctx.used)
    with pytest.raises(
        ToolError, match=r"secret \'OTHER\', which is not set; give it as Engine\(secrets="
    ) as raised:
        ctx.secret("OTHER")
    assert raised.value.code == "no-secret"


def test_progress_is_held_within_bounds():
    """Fractions stay between 0 and 1, and nobody has to listen."""
    told = []
    ctx = Context(on_progress=lambda fraction, note: told.append((fraction, note)))
    ctx.progress(0.5, "half")
    ctx.progress(7)
    ctx.progress(-1, "x")
    assert told == [(0.5, "half"), (1.0, ""), (0.0, "x")]
    Context().progress(0.1)


def test_a_context_stays_in_its_call():
    """It is neither copied nor pickled, and its repr names run, step and attempt."""
    ctx = Context(run_id="r", step="s", attempt=2, idempotency_key="k")
    assert repr(ctx) == "Context(run_id='r', step='s', attempt=2)"
    assert (ctx.run_id, ctx.step, ctx.attempt, ctx.idempotency_key) == ("r", "s", 2, "k")
    for act in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="belongs to one call"):
            act(ctx)


def test_the_log_is_made_when_it_is_first_used():
    """A logger takes text and keywords, bound to its step; one that is handed in is used."""
    assert Context(log="mine").log == "mine"
    assert Context(run_id="r", step="s").log.bind(extra=1) is not None


def test_async_tools_are_native_and_sync_tools_are_not():
    """`invoke` of an async tool returns an awaitable; of a sync one the result, in the thread that called it."""

    @tool
    async def slow(x: int, *, ctx: Context) -> int:
        """Slow."""
        await asyncio.sleep(0)
        return x + ctx.attempt

    @tool
    def plain() -> str:
        """Plain."""
        return threading.current_thread().name

    assert slow.is_async
    assert not plain.is_async
    assert asyncio.run(slow.invoke(slow.bind({"x": 1}), Context(attempt=3))) == 4
    assert plain.invoke(plain.bind({}), Context()) == threading.current_thread().name


def test_a_tool_is_still_its_function():
    """Called directly it behaves, and looks, as if it had never been made a tool; methods bind."""

    @tool
    def add(a: float, b: float) -> float:
        """Add two numbers."""
        return a + b

    class Till:
        def __init__(self, rate):
            self.rate = rate

        @tool(effect="pure")
        def price(self, net: float) -> float:
            """Price with tax."""
            return net * self.rate

    assert add(1, b=2) == 3
    assert (add.__name__, add.__doc__) == ("add", "Add two numbers.")
    made = Till(2.0).price
    assert made.invoke(made.bind({"net": 3}), Context()) == 6.0
    assert Till.price.needs_instance
    assert made.name == "price"


def test_used_starts_empty():
    """A record of nothing is reusable."""
    assert not Used().varies
