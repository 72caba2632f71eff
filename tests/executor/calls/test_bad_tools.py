"""Tools that misbehave: each is one failed step with a message, and nothing else is harmed."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated, Any

import pytest
from firmplan import Engine, agent
from firmplan.errors import ConfigError, EngineBug, StoreError, ToolError
from firmplan.executor import limits
from firmplan.testing import ScriptedModel
from firmplan.tools import Context, Tool, tool
from pydantic import AfterValidator
from rig import Rig, one_run, plan_of, statuses

PLAN = plan_of(
    {"id": "bad", "tool": "bad"},
    {"id": "next", "set": "${bad}"},
    {"id": "other", "tool": "good", "args": {"xs": [1, [2]]}},
    output="${next}",
)


@tool(effect="pure", version=1)
def good(xs: list[Any]) -> int:
    """Count, and take the list apart: it is the tool's own."""
    count = len(xs)
    xs.clear()
    return count


class Strange(BaseException):
    """No Exception at all."""


class MuteError(Exception):
    """An error that says nothing, not even what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class EndlessError(Exception):
    """An error with much to say."""

    def __str__(self) -> str:
        return "no " * 1_000_000


FAULTS = [
    MuteError(),
    EndlessError(),
    ValueError("half a character \ud800"),
    FileNotFoundError(2, "no file", "a name of bytes \udcff"),
    ValueError("no"),
    KeyError("k"),
    RuntimeError(),
    StopIteration("end"),
    StopAsyncIteration("end"),
    GeneratorExit(),
    SystemExit(3),
    KeyboardInterrupt(),
    asyncio.CancelledError("mine"),
    Strange("strange"),
    RecursionError("deep"),
    MemoryError(),
    ExceptionGroup("many", [ValueError("a"), TypeError("b")]),
    ConfigError("a setting"),
    StoreError("a store of its own"),
    EngineBug("said by a tool"),
    AssertionError(),
]


def variants(body) -> dict[str, Tool]:
    """The same body as a coroutine, on a thread and inline."""

    async def bad_async() -> int:
        return body()

    def bad_sync() -> int:
        return body()

    def made(fn, **options):
        options |= {"version": 1, "results": "enforce"}
        return Tool.from_callable(
            fn, name="bad", parameters={"type": "object"}, returns={"type": "integer"}, **options
        )

    return {
        "async": made(bad_async, effect="read"),
        "thread": made(bad_sync, effect="read"),
        "inline": made(bad_sync, effect="read", isolation="inline"),
    }


@pytest.mark.parametrize("kind", ["async", "thread", "inline"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_whatever_a_tool_raises_is_a_failed_step(fault, kind):
    """The run ends, dependants are skipped, the message names the exception, others have run."""

    def body():
        raise fault

    run = one_run(PLAN, variants(body)[kind], good)
    assert run.status == "failed"
    assert statuses(run) == {"bad": "failed", "next": "skipped:dependency-failed", "other": "succeeded"}
    (error,) = run.errors
    assert (error.step, error.temporary) == ("bad", False)
    assert type(fault).__name__ in error.message or str(fault) in error.message


@pytest.mark.parametrize("kind", ["async", "thread", "inline"])
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (ValueError("half \ud800"), ("tool-error", "ValueError: half \\ud800", False)),
        (ToolError("half \ud800", code="c\udcff"), ("c\\udcff", "half \\ud800", False)),
        (ToolError("no", code=5), ("5", "no", False)),  # type: ignore[arg-type]
        (ToolError("no", code=""), ("tool-error", "no", False)),
        (ToolError("no", code="c" * 500), ("c" * 128, "no", False)),
        (ToolError("no", temporary="yes"), ("tool-error", "no", True)),  # type: ignore[arg-type]
        (ToolError("no", temporary=object()), ("tool-error", "no", True)),  # type: ignore[arg-type]
        (MuteError(), ("tool-error", "MuteError", False)),
        (ConnectionError("half \ud800"), ("connection-error", "ConnectionError: half \\ud800", True)),
    ],
    ids=repr,
)
def test_what_an_error_says_is_text_that_can_be_written_down(fault, told, kind):
    """Whatever message, code and flag an error was made with: the run is recorded, ends, and replays."""

    def body():
        raise fault

    async def main():
        async with Rig([variants(body)[kind], good]) as rig:
            run = await rig.run(PLAN, "r")
            assert (await rig.execution.replays.replay("r", keep=False)).errors == run.errors
            return run

    (error,) = asyncio.run(main()).errors
    assert (error.code, error.message, error.temporary) == told


def test_the_message_of_an_error_is_bounded():
    """It stands in journal, answers and logs: of a long one the beginning, and how long it was."""

    def body():
        raise EndlessError

    (error,) = one_run(PLAN, variants(body)["thread"], good).errors
    assert error.message.startswith("EndlessError: no no no")
    assert error.message.endswith("(3000014 characters)")
    assert len(error.message) < 11_000


def test_a_retry_on_that_fails_means_no_retry():
    """The call's own failure is what is told."""

    def retry_on(error):
        raise LookupError("confused")

    @tool(effect="read", retries=3, retry_on=retry_on, version=1)
    def bad() -> int:
        """Fail."""
        raise ValueError("no")

    run = one_run(PLAN, bad, good)
    assert (run.errors[0].message, run.steps["bad"].attempts) == ("ValueError: no", 1)


@pytest.mark.parametrize("fraction", [math.nan, math.inf, -1, 10**30])
@pytest.mark.parametrize("note", [None, 5, b"x", "half \ud800", {}, "long " * 100_000], ids=repr)
def test_what_a_tool_says_of_its_progress_does_not_stop_its_run(fraction, note):
    """A fraction is held within 0 and 1, and a note is text."""

    @tool(effect="read", version=1)
    async def bad(*, ctx: Context) -> int:
        """Tell strange things."""
        ctx.progress(fraction, note)
        await asyncio.sleep(0)
        return 1

    async def main():
        async with Rig([bad, good]) as rig:
            run = await rig.run(PLAN, "r")
            return run, [event async for event in rig.execution.events("r")]

    run, events = asyncio.run(main())
    assert run.status == "succeeded"
    (told,) = [event.data for event in events if event.type == "CallProgressed"]
    assert told["fraction"] in (0.0, 1.0)
    assert len(told.get("note", "")) < 1_000


def test_an_environment_variable_may_hold_bytes(monkeypatch):
    """It is recorded spelled out, and compared so: the result is reused while it is the same."""
    seen = []

    @tool(effect="pure", version=1)
    def bad(*, ctx: Context) -> int:
        """Read it."""
        seen.append(ctx.env("FIRMPLAN_BYTES"))
        return len(seen)

    async def main():
        async with Rig([bad, good]) as rig:
            for value in ("\udcff", "\udcff", "\udcfe"):
                monkeypatch.setenv("FIRMPLAN_BYTES", value)
                yield await rig.run(PLAN)

    async def outputs():
        return [run.output async for run in main()]

    assert asyncio.run(outputs()) == [1, 1, 2]
    assert seen == ["\udcff", "\udcfe"]


@pytest.mark.parametrize("kind", ["async", "thread", "inline"])
@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        {1, 2},
        pytest.param(object(), id="object()"),
        int,
        "\ud800",
        2**63,
        {1: 2},
        b"\xff",
        "text",
        None,
        [1],
        1.5,
        True,
    ],
    ids=repr,
)
def test_what_its_type_forbids_or_is_not_json_is_a_failed_step(value, kind):
    """Code `bad-result`; no attempt is repeated."""
    run = one_run(PLAN, variants(lambda: value)[kind], good)
    (error,) = run.errors
    assert (error.step, error.code) == ("bad", "bad-result")
    assert "'bad'" in error.message
    assert run.steps["bad"].attempts == 1
    assert statuses(run)["other"] == "succeeded"


class Unreadable:
    """A result that harms whoever looks at it."""

    def __getattribute__(self, name):
        raise RuntimeError("do not look")


@pytest.mark.parametrize("kind", ["async", "thread", "inline"])
@pytest.mark.parametrize(
    "made", [lambda: "text", lambda: math.nan, Unreadable], ids=["unfit", "no JSON", "unreadable"]
)
@pytest.mark.parametrize("is_idempotent", [False, True])
def test_a_write_whose_result_is_refused_is_not_repeated(made, kind, is_idempotent):
    """Its effect happened: the message says so, and neither retries nor `retry_on` have it happen again."""
    effects = []

    def pay():
        effects.append("paid")
        return made()

    async def pay_async():
        return pay()

    paying = Tool.from_callable(
        pay_async if kind == "async" else pay,
        name="bad",
        parameters={"type": "object"},
        returns={"type": "integer"},
        effect="write",
        idempotent=is_idempotent,
        isolation="inline" if kind == "inline" else "thread",
        retries=3,
        retry_on=lambda error: True,
        resource="bank",
        version=1,
        results="enforce",
    )
    plan = plan_of(
        {"id": "bad", "tool": "bad"},
        {"id": "next", "set": "${bad}"},
        {"id": "later", "tool": "note"},
    )
    note = Tool.from_callable(
        lambda: effects.append("noted"),
        name="note",
        parameters={"type": "object"},
        effect="write",
        resource="bank",
    )
    run = one_run(plan, paying, note)
    (error,) = run.errors
    assert (error.step, error.code, effects) == ("bad", "bad-result", ["paid"])
    assert "the call took effect" in error.message
    assert statuses(run) == {"bad": "failed", "next": "skipped:dependency-failed", "later": "skipped:blocked"}


def test_a_write_whose_result_is_too_large_took_effect(monkeypatch):
    """For its own limit and for the run's; of a read nothing is said of effects."""
    note = Tool.from_callable(
        lambda: "x" * 5_000, name="bad", parameters={"type": "object"}, effect="write", version=1
    )
    read = Tool.from_callable(
        lambda: "x" * 5_000, name="bad", parameters={"type": "object"}, effect="read", version=1
    )
    for limit in ("VALUE_BYTES_MAX", "RUN_BYTES_MAX"):
        with monkeypatch.context() as patched:
            patched.setattr(limits, limit, 4_000)
            for tried, is_told in ((note, True), (read, False)):
                (error,) = one_run(plan_of({"id": "bad", "tool": "bad"}), tried).errors
                assert (error.code, "the call took effect" in error.message) == ("limit-exceeded", is_told)


def test_a_value_that_no_type_guards_must_still_be_json():
    """`returns=None` takes anything that is JSON."""
    for value in (math.nan, {1}, object):
        bad = Tool.from_callable(
            lambda value=value: value, name="bad", parameters={"type": "object"}, effect="read", version=1
        )
        (error,) = one_run(PLAN, bad, good).errors
        assert error.code == "bad-result"


def test_a_tool_that_changes_its_arguments_changes_nothing_else():
    """Each call gets its own copy; recorded and later values are whole."""
    plan = plan_of(
        {"id": "xs", "set": [1, [2]]},
        {"id": "a", "tool": "good", "args": {"xs": "${xs}"}},
        {"id": "b", "tool": "good", "args": {"xs": "${xs}"}, "after": ["a"]},
        output="${xs}",
    )
    run = one_run(plan, good)
    assert (run.steps["a"].output, run.steps["b"].output, run.output) == (2, 2, [1, [2]])


def test_a_result_that_changes_afterwards_was_recorded_as_it_was():
    """The value is sealed when it is returned."""
    kept: list[int] = [1]

    @tool(effect="read")
    def bad() -> list[int]:
        """Hand out a list that it keeps."""
        return kept

    @tool(effect="read", name="good")
    def spoil(xs: list[Any]) -> int:
        """Change it."""
        kept.append(99)
        return len(xs)

    plan = plan_of(
        {"id": "bad", "tool": "bad"},
        {"id": "s", "tool": "good", "args": {"xs": "${bad}"}},
        {"id": "n", "set": "${len(bad) + s}"},
        output="${n}",
    )
    assert one_run(plan, bad, spoil).output == 2


def test_the_store_is_usable_after_bad_tools():
    """A run of the same engine goes well afterwards."""

    def body():
        raise SystemExit

    async def main():
        async with Rig([variants(body)["thread"], good]) as rig:
            assert (await rig.run(PLAN)).status == "failed"
            plan = plan_of({"id": "a", "tool": "good", "args": {"xs": []}}, output="${a}")
            assert (await rig.run(plan)).output == 0

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["async", "thread"])
def test_a_write_that_cancels_itself_is_of_unknown_outcome(kind):
    """A cancel in mid-call leaves open what happened."""

    def body():
        raise asyncio.CancelledError

    bad = variants(body)[kind]
    write = Tool.from_callable(bad.fn, name="bad", parameters={"type": "object"}, effect="write", version=1)
    run = one_run(PLAN, write, good)
    assert run.status == "indeterminate"


def test_a_write_with_a_broken_connection_inside_a_group_is_of_unknown_outcome():
    """Tools that use task groups wrap their errors."""

    def body():
        raise ExceptionGroup(
            "calls", [ValueError("x"), ExceptionGroup("inner", [ConnectionResetError("cut")])]
        )

    bad = variants(body)["async"]
    write = Tool.from_callable(bad.fn, name="bad", parameters={"type": "object"}, effect="write", version=1)
    assert one_run(PLAN, write, good).status == "indeterminate"


@pytest.mark.parametrize(
    ("args", "name"),
    [({"xs": 3}, "xs"), ({}, "xs"), ({"xs": [], "ys": 1}, "ys")],
)
def test_arguments_that_do_not_fit_fail_the_step_before_the_call(args, name):
    """Code `bad-args`; nothing was called. A check says so before the run."""
    run = one_run(plan_of({"id": "a", "tool": "good", "args": args}), good)
    (error,) = run.errors
    assert (error.step, error.code, run.steps["a"].attempts) == ("a", "bad-args", 0)
    assert name in error.message


def test_a_tool_that_ignores_its_cancel_does_not_disturb_the_run():
    """It was stopped; what it returns afterwards is dropped."""
    called = asyncio.Event()

    @tool(effect="read", name="bad", version=1)
    async def stubborn() -> int:
        """Refuse to stop."""
        called.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return 1
        return 2

    async def main():
        async with Rig([stubborn, good]) as rig:
            await rig.start(PLAN, "r")
            await called.wait()
            await rig.decisions.cancel("r")
            run = await rig.execution.wait("r")
            assert (run.status, statuses(run)["bad"]) == ("cancelled", "cancelled:cancelled")

    asyncio.run(main())


@pytest.mark.parametrize("effect", ["read", "write"])
def test_a_tool_that_cancels_the_task_of_its_call_is_told(effect):
    """No outcome is left of the call: whoever waits hears of it, and of what to do; with a timeout the step itself says so."""

    def made(**options):
        @tool(effect=effect, name="bad", **options)
        async def cancelling() -> int:
            """Cancel whatever runs this."""
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(10)
            return 1

        return cancelling

    async def main():
        async with Rig([made(), good]) as rig:
            await rig.start(PLAN, "r")
            with pytest.raises(ConfigError, match="step 'bad' left no outcome: its tool 'bad' has cancelled"):
                await rig.execution.wait("r")
        async with Rig([made(timeout=5), good]) as rig:
            run = await rig.run(PLAN, "r")
            assert run.steps["bad"].status == ("failed" if effect == "read" else "indeterminate")
            assert "cancelled itself" in run.steps["bad"].error.message
            assert statuses(run)["other"] == "succeeded"

    asyncio.run(main())


def wrong(_value: object) -> int:
    """Go wrong as a validator should not."""
    raise KeyError("k")


def test_a_validator_that_goes_wrong_fails_the_step():
    """What is no `ValueError` is a fault of the tool's types: of arguments nothing was called, of results the call counts."""
    called: list[int] = []

    @tool(effect="write", name="bad")
    def write(x: Annotated[int, AfterValidator(wrong)]) -> int:
        """Write."""
        called.append(x)
        return x

    @tool(effect="write", name="bad")
    def answer(x: int) -> Annotated[int, AfterValidator(wrong)]:
        """Write, and say what."""
        called.append(x)
        return x

    source = plan_of({"id": "bad", "tool": "bad", "args": {"x": "${1 + 1}"}}, output="${bad}")

    async def main():
        async with Rig([write]) as rig:
            (error,) = (await rig.run(source, "r")).errors
            assert (error.code, called) == ("bad-args", [])
            assert "tool 'bad': its arguments cannot be read: KeyError: 'k'" in error.message
        async with Rig([answer]) as rig:
            (error,) = (await rig.run(source, "r")).errors
            assert (error.code, called) == ("bad-result", [2])

    asyncio.run(main())


def test_a_validator_of_an_agents_answer_that_goes_wrong_fails_the_step():
    """The answer of a model is read by the same types: the run goes on without it."""

    @agent
    def bad(x: int) -> Annotated[int, AfterValidator(wrong)]:
        """Think of ${x}."""

    async def main():
        async with ScriptedModel([3] * 9) as model:
            models = {"default": {"name": "m", "base_url": model.base_url, "api_key": "k"}}
            async with Engine([bad], store="memory:", models=models) as engine:
                steps = [{"id": "bad", "tool": "bad", "args": {"x": 1}}]
                run = await engine.run({"firmplan": 1, "steps": steps})
                assert [error.code for error in run.errors] == ["bad-result"]

    asyncio.run(main())
