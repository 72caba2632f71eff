"""Contract, 3: raised are only the errors that it names, whatever the front door is handed; nothing is kept of such a call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from firmplan import ConfigError, Engine, FirmplanError, InputRejected, OutcomeUnknown, RunNotFound, tool
from public import call, plan, within


@tool(effect="write", approval="always", resource="a")
def put(x: int) -> int:
    """Write, once a person allows it."""
    return x


@tool(effect="write", resource="b")
def lose(x: int) -> int:
    """Write, and nobody knows."""
    raise OutcomeUnknown("no answer")


ASKED = plan(call("p", "put", args={"x": 1}), output="${p}")
LOST = plan(call("l", "lose", args={"x": 1}))

STRANGE: list[Any] = [
    None,
    0,
    -1,
    1.5,
    float("nan"),
    True,
    "",
    "x\0",
    "\ud800",
    b"x",
    [],
    [1],
    {},
    {1: 2},
    (),
    object(),
    set[int](),
    "a" * 100_000,
    2**80,
]

TAKEN: dict[str, list[Any]] = {
    "run_id": [None],
    "seed": [None, 0, -1, "", "x\0", "a" * 100_000, 2**80],
    "budget": [None, {}],
    "budget amount": [0, 1.5],
    "concurrency of a run": [None],
    "reuse": [],
    "replan": [0],
    "inputs of a fork": [None, {}],
    "set of a fork": [None, {}],
    "step of a fork": [None],
    "run of wait": [],
    "run of resume": [],
    "run of events": [],
    "after of events": [0],
    "run of replay": [],
    "run of approve": [],
    "step of approve": [],
    "run of resolve": [],
    "step of resolve": [],
    "edit": [],
    "by": ["a" * 100_000],
    "reason": ["x\0", "", None, "a" * 100_000],
    "step of explain": [],
    "path of export": [],
    "path of backup": [],
    "file of an artifact": [b"x"],
    "status of a list": [None],
    "limit of a list": [],
    "cursor of a list": [None],
    "name of a plan": ["a" * 100_000],
    "task": [],
    "inputs of a task": [],
    "runs of bisect": [],
    "bytes of the cache": [None, 0],
}
"""What is an answer: of these the call may do what it is for."""


def cases(engine: Engine) -> dict[str, Callable[[Any], Awaitable[Any]]]:
    """Return each argument of the front door, as a call with one value for it."""

    async def events(run_id: Any, after: Any) -> list[Any]:
        return [event async for event in engine.events(run_id, after=after)]

    return {
        "run_id": lambda v: engine.run(ASKED, run_id=v),
        "seed": lambda v: engine.run(ASKED, seed=v),
        "budget": lambda v: engine.run(ASKED, budget=v),
        "budget amount": lambda v: engine.run(ASKED, budget={"steps": v}),
        "concurrency of a run": lambda v: engine.run(ASKED, max_concurrency=v),
        "reuse": lambda v: engine.run(ASKED, reuse=v),
        "replan": lambda v: engine.run(ASKED, replan=v),
        "inputs of a fork": lambda v: engine.fork("asked", inputs=v),
        "set of a fork": lambda v: engine.fork("asked", set=v),
        "step of a fork": lambda v: engine.fork("asked", at=v),
        "run of wait": engine.wait,
        "run of resume": engine.resume,
        "run of events": lambda v: events(v, 0),
        "after of events": lambda v: events("asked", v),
        "run of replay": engine.replay,
        "run of approve": lambda v: engine.approve(v, "p", by="me"),
        "step of approve": lambda v: engine.approve("asked", v, by="me"),
        "run of resolve": lambda v: engine.resolve(v, "l", retry=True),
        "step of resolve": lambda v: engine.resolve("lost", v, retry=True),
        "edit": lambda v: engine.approve("asked", "p", by="me", edit={"x": "1"} if v in (None, {}) else v),
        "by": lambda v: engine.deny("asked", "q" if isinstance(v, str) else "p", by=v, reason="no"),
        "reason": lambda v: engine.deny("asked", "q" if isinstance(v, str) else "p", by="me", reason=v),
        "step of explain": lambda v: engine.explain("asked", v),
        "path of export": lambda v: engine.export("asked", v),
        "path of backup": engine.backup_store,
        "file of an artifact": engine.save_artifact,
        "status of a list": lambda v: engine.list_runs(status=v),
        "limit of a list": lambda v: engine.list_runs(limit=v),
        "cursor of a list": lambda v: engine.list_runs(cursor=v),
        "name of a plan": lambda v: engine.save_plan(v, ASKED),
        "task": engine.plan,
        "inputs of a task": lambda v: engine.plan("Write 1", inputs=v),
        "runs of bisect": engine.bisect,
        "bytes of the cache": lambda v: engine.shrink_cache(max_bytes=v),
    }


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_no_argument_is_refused_in_words(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Never an error of Python's, nor one that blames the store; and the run that was there is as it was."""
    monkeypatch.chdir(tmp_path)

    async def go() -> list[str]:
        wrong: list[str] = []
        async with Engine([put, lose], store=tmp_path / "s.db") as engine:
            before = await engine.run(ASKED, run_id="asked")
            await engine.run(LOST, run_id="lost")
            ask = cases(engine)[name]
            for value in STRANGE:
                if any(
                    value is taken or value == taken for taken in TAKEN[name] if type(taken) is type(value)
                ):
                    continue
                try:
                    result = await ask(value)
                except FirmplanError as fault:
                    if fault.code in ("store-error", "engine-bug") or not fault.message:
                        wrong.append(f"{value!r:.40}: {fault!r:.200}")
                except Exception as fault:  # noqa: BLE001  # what this test is for
                    wrong.append(f"{value!r:.40}: {fault!r:.200}")
                else:
                    wrong.append(f"{value!r:.40}: taken, gave {result!r:.60}")
            after = await engine.get("asked")
            assert (after.status, after.last_event) == (before.status, before.last_event)
        return wrong

    assert within(go()) == []


def test_each_kind_of_argument_has_its_error():
    """`InputRejected` for what was handed over, `ConfigError` for options, `RunNotFound` for runs."""

    async def go() -> None:
        async with Engine([put, lose], store="memory:") as engine:
            await engine.run(ASKED, run_id="asked")
            nowhere: Any = None
            with pytest.raises(RunNotFound, match="expected the id of a run, found null"):
                await engine.wait(nowhere)
            with pytest.raises(RunNotFound, match="there is no run 'other'"):
                await engine.wait("other")
            with pytest.raises(InputRejected, match="expected the path of a step, such as 'pay'"):
                await engine.explain("asked", nowhere)
            with pytest.raises(ConfigError, match="replan: expected an integer from 0 to 20"):
                await engine.run(ASKED, replan=nowhere)
            with pytest.raises(ConfigError, match="seed: expected text or an integer"):
                await engine.run(ASKED, seed=1.5)  # type: ignore[arg-type]
            with pytest.raises(InputRejected, match="expected the path of a file"):
                await engine.replay(nowhere)
            with pytest.raises(InputRejected, match="limit: expected an integer from 1 to 1000"):
                await engine.list_runs(limit=1001)
            assert await engine.find_plan("\ud800") is None

    asyncio.run(go())
