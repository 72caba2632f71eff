"""Runs that use every event of the journal: what golden stores are made of.

`python tests/support/golden_runs.py FOLDER` writes them as this version does: `store.sqlite`, and `runs.json` with what they came to and their
journals as text. Made once for each format that was released, and kept for ever: `tests/safety/test_golden_journals.py` reads them all.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from firmplan import Engine, Model, OutcomeUnknown, Planner, ToolError
from firmplan.backends import EmbeddedBackend
from firmplan.executor import Run
from firmplan.executor.far_call import FarCall, FarListener, NeverBegun
from firmplan.testing import ScriptedModel
from firmplan.tools import Artifact, Context, Tool, tool

PLAIN: dict[str, Any] = {
    "firmplan": 1,
    "task": "Use all that a plan can do",
    "inputs": {"n": {"type": "integer", "default": 3}},
    "plans": {
        "inner": {
            "inputs": {"x": {"type": "integer"}},
            "steps": [{"id": "twice", "tool": "double", "args": {"x": "${inputs.x}"}}],
            "output": "${twice}",
        }
    },
    "steps": [
        {"id": "a", "tool": "double", "args": {"x": "${inputs.n}"}},
        {"id": "same", "tool": "double", "args": {"x": "${inputs.n}"}, "after": ["a"]},
        {
            "id": "each",
            "tool": "double",
            "for_each": "${range(3)}",
            "when": "${item != 1}",
            "args": {"x": "${item}"},
        },
        {"id": "never", "tool": "double", "when": "${a > 100}", "args": {"x": 1}},
        {"id": "reader", "set": "${never + 1}"},
        {
            "id": "grown",
            "repeat": {"until": "${grown > 10}", "max": 5},
            "tool": "double",
            "args": {"x": "${first(prev, a)}"},
        },
        {"id": "sub", "plan": "inner", "args": {"x": "${a}"}},
        {"id": "half", "tool": "halve", "args": {"x": "${a}"}},
        {"id": "seen", "tool": "look"},
        {"id": "unsteady", "tool": "flaky"},
        {"id": "bad", "tool": "fail", "on_error": {"value": 0}},
        {"id": "large", "tool": "make_large", "args": {"size": 20000}},
        {"id": "file", "tool": "make_file"},
        {"id": "word", "ask": {"prompt": "One word about ${a}"}},
        {"id": "note", "tool": "put", "args": {"text": "${word} ${sum(each)} ${len(large)}"}},
    ],
    "output": {
        "sub": "${sub}",
        "grown": "${grown}",
        "word": "${word}",
        "note": "${note}",
        "large": "${len(large)}",
    },
}
DECISIONS: dict[str, Any] = {
    "firmplan": 1,
    "steps": [
        {"id": "pay", "tool": "pay", "args": {"amount": 5}},
        {"id": "no", "tool": "pay", "args": {"amount": 6}, "after": ["pay"]},
        {"id": "ruled", "tool": "ruled", "for_each": [1, 50], "args": {"amount": "${item}"}},
        {"id": "then", "set": "${pay}"},
    ],
    "output": "${then}",
}
UNKNOWN: dict[str, Any] = {
    "firmplan": 1,
    "steps": [
        {"id": "done", "tool": "lose", "args": {"box": "a"}},
        {"id": "again", "tool": "lose_b", "args": {"box": "b"}},
        {"id": "failed", "tool": "lose_c", "args": {"box": "c"}},
        {"id": "keyed", "tool": "lose_once"},
    ],
    "output": "${done + again}",
}
DEAR = {
    "firmplan": 1,
    "inputs": {"n": {"type": "integer", "default": 100_000}},
    "steps": [
        {"id": "a", "set": "${sum([x + 1 for x in range(inputs.n)])}"},
        {"id": "b", "set": "${sum([x + 2 for x in range(inputs.n)]) - a}"},
        {"id": "c", "set": "${b + a - a}"},
    ],
    "output": "${c}",
}
COUNTED: dict[str, Any] = {
    "firmplan": 1,
    "steps": [{"id": "a", "tool": "double", "for_each": "${range(5)}", "args": {"x": "${item + 100}"}}],
    "output": "${sum(a)}",
}
LISTED: dict[str, Any] = {
    "firmplan": 1,
    "steps": [{"id": "a", "tool": "double", "for_each": "${range(3)}", "args": {"x": "${item}"}}],
    "output": "${sum(a)}",
}
WAITING: dict[str, Any] = {
    "firmplan": 1,
    "steps": [
        {"id": "a", "tool": "double", "args": {"x": 4}},
        {"id": "pay", "tool": "pay", "args": {"amount": "${a}"}},
    ],
    "output": "${pay}",
}
ASKED: dict[str, Any] = {
    "firmplan": 1,
    "steps": [
        {"id": "many", "ask_person": "How many?", "returns": {"type": "integer"}},
        {"id": "trusted", "endorse": "${many}", "returns": {"type": "integer"}},
        {"id": "fine", "fail": "too many", "when": "${many > 5}"},
    ],
    "output": "${trusted} ${many}",
}
EXPIRED: dict[str, Any] = {
    "firmplan": 1,
    "steps": [{"id": "late", "ask_person": "Who?", "expires": 0.5, "on_error": {"value": "nobody"}}],
    "output": "${late}",
}
TIMED: dict[str, Any] = {
    "firmplan": 1,
    "steps": [
        {"id": "pause", "wait": {"for": 0.1}},
        {"id": "past", "wait": {"until": "2026-01-31"}},
        {"id": "pay", "tool": "pay", "args": {"amount": 4}, "after": ["pause", "past"]},
    ],
    "output": "${pay}",
}
PLAN_FOR: dict[str, Any] = {
    "firmplan": 1,
    "steps": [
        {"id": "a", "tool": "double", "args": {"x": 4}},
        {
            "id": "rest",
            "plan_for": "Pay what is due",
            "given": {"due": "${a}"},
            "tools": ["double", "pay"],
            "max_steps": 3,
            "returns": {"type": "integer"},
        },
    ],
    "output": "${rest}",
}
SUB_PLAN: dict[str, Any] = {
    "firmplan": 1,
    "inputs": {"due": {"type": "integer"}},
    "steps": [
        {"id": "twice", "tool": "double", "args": {"x": "${inputs.due}"}},
        {"id": "paid", "tool": "pay", "args": {"amount": "${twice}"}},
    ],
    "output": "${paid}",
}
PARKED: dict[str, Any] = {"firmplan": 1, "steps": [{"id": "bite", "tool": "kill"}], "output": "${bite}"}
FAILED: dict[str, Any] = {
    "firmplan": 1,
    "steps": [
        {"id": "bad", "tool": "fail"},
        {"id": "b", "set": "${bad}"},
        {"id": "p", "tool": "put", "args": {"text": "x"}, "after": ["bad"]},
    ],
}


BLOCKING: dict[str, Any] = {"firmplan": 1, "steps": [{"id": "held", "tool": "hold"}], "output": "${held}"}


def tools_of(calls: list[str]) -> list[Tool]:  # noqa: C901  # one tool after the other
    """Return the tools of these plans; they note their calls."""

    def losing(name: str, resource: str) -> Tool:
        def lose(box: str) -> int:
            calls.append(name)
            if calls.count(name) == 1:
                raise OutcomeUnknown(f"no answer from {box}")
            return 7

        return Tool.from_callable(
            lose,
            name=name,
            parameters={"type": "object", "properties": {"box": {"type": "string"}}, "required": ["box"]},
            returns={"type": "integer"},
            effect="write",
            resource=resource,
            version=1,
        )

    @tool(effect="pure", version=1)
    def double(x: int) -> int:
        """Double."""
        calls.append("double")
        return 2 * x

    @tool(effect="pure", version=1)
    async def halve(x: int) -> int:
        """Halve, without waiting for anything."""
        return x // 2

    @tool(effect="read", resource="clock", version=1)
    def look(*, ctx: Context) -> str:
        """Look at time, chance and environment, and say how far it is."""
        ctx.progress(1.0, "seen")
        return f"{ctx.now().year > 2000} {ctx.uuid().version} {ctx.random.random() < 1} {ctx.env('GOLDEN')}"

    @tool(effect="read", resource="clock", retries=2, version=1)
    def flaky(*, ctx: Context) -> int:
        """Fail once."""
        if ctx.attempt == 1:
            raise ToolError("not yet", code="busy", temporary=True)
        return ctx.attempt

    @tool(effect="read", resource="clock", version=1)
    def fail() -> int:
        """Fail."""
        raise ValueError("it cannot be")

    @tool(effect="read", resource="clock", version=1)
    def make_large(size: int) -> str:
        """Make a value that stands out of line."""
        return "x" * size

    @tool(effect="read", resource="clock", version=1)
    def make_file(*, ctx: Context) -> Artifact:
        """Keep bytes."""
        return ctx.save(b"golden", name="golden.txt")

    @tool(effect="write", resource="box", version=1)
    def put(text: str) -> int:
        """Change something."""
        calls.append("put")
        return len(text)

    @tool(effect="write", resource="till", approval="always", version=1)
    def pay(amount: int) -> int:
        """Pay, if a person says so."""
        calls.append("pay")
        return amount

    @tool(effect="write", resource="purse", approval=lambda args: args["amount"] > 10, version=1)
    def ruled(amount: int) -> int:
        """Pay little without being asked."""
        calls.append("ruled")
        return amount

    @tool(effect="write", resource="d", idempotent=True, version=1)
    def lose_once(*, ctx: Context) -> int:
        """Leave open what happened, once."""
        if ctx.attempt == 1:
            raise ConnectionError("cut")
        return ctx.attempt

    @tool(effect="write", resource="lair", idempotent=True, version=1)
    def kill() -> int:
        """End the process."""
        os._exit(9)

    @tool(effect="read", resource="clock", version=1)
    async def hold() -> int:
        """Block the event loop."""
        time.sleep(0.8)  # noqa: ASYNC251  # the run warns of it
        return 1

    lost = [losing("lose", "a"), losing("lose_b", "b"), losing("lose_c", "c")]
    return [
        double,
        halve,
        look,
        flaky,
        fail,
        make_large,
        make_file,
        put,
        pay,
        ruled,
        lose_once,
        kill,
        hold,
        *lost,
    ]


async def make(store: Path) -> None:
    """Write the runs into a store."""
    os.environ["GOLDEN"] = "yes"
    tools = tools_of([])
    async with ScriptedModel(["gold", "silver"]) as model:
        models = {"default": Model("golden", base_url=model.base_url)}
        async with Engine(tools, store=store, models=models) as engine:
            await engine.run(PLAIN, run_id="plain", budget={"steps": 100, "tokens": 100_000})
            await _decided(engine)
            await _unknown(engine)
            await _asked(engine)
            await engine.run(COUNTED, run_id="counted", budget={"steps": 2})
            await engine.resume("counted", budget={"steps": 10})
            await engine.run(LISTED, run_id="listed", budget={"items": 2})
            await engine.resume("listed", budget={"items": 3})
            await engine.run(DEAR, run_id="dear")
            await engine.run(WAITING, run_id="cancelled")
            await engine.cancel("cancelled")
            await engine.resume("cancelled")
            await engine.run(WAITING, run_id="resumed")
            await engine.run(WAITING, run_id="waiting")
            await engine.run(FAILED, run_id="failed")
            await engine.run(BLOCKING, run_id="blocking")
            await engine.save_plan("golden", COUNTED)
        async with Engine(tools, store=store, models=models) as engine:
            await engine.approve("resumed", "pay", by="me")
            await engine.resume("resumed")
            await engine.fork("plain", set={"a": 10}, allow_writes=True)
            await engine.replay("plain", keep=True)
    await asyncio.to_thread(subprocess.run, [sys.executable, __file__, "kill", store], check=False)
    async with Engine(tools, store=store, models=models, park_after=1) as engine:
        await engine.go_on("parked")
    await _changed(store, tools)
    await _timed(store, tools)
    await _planned(store, tools)
    await _queued(store)


class Unserved(EmbeddedBackend):
    """Has the calls of tools with a queue made by workers, of which there is none."""

    @property
    def far_calls(self) -> Unserved:
        """Itself."""
        return self

    async def begin(self, call: FarCall) -> None:
        """Take a call."""

    async def follow(self, call: FarCall, listener: FarListener) -> NeverBegun:
        """Say that nobody makes it."""
        listener.unserved(call.queue)
        return NeverBegun("no worker made the call")


async def _queued(store: Path) -> None:
    """Call a tool whose queue has no worker."""

    @tool(effect="read", queue="gpu")
    def far() -> int:
        """Return a number."""
        return 1

    plan = {"firmplan": 1, "steps": [{"id": "far", "tool": "far"}]}
    async with Engine([far], store=store, backend=Unserved()) as engine:
        await engine.run(plan, run_id="queued")


async def _changed(store: Path, tools: list[Tool]) -> None:
    """Edit a tool after its call was approved."""

    @tool(effect="write", resource="till", approval="always", version=2)
    def pay(amount: int) -> int:
        """Pay, if a person says so."""
        return amount + 1

    async with Engine(tools, store=store) as engine:
        await engine.run(WAITING, run_id="changed")
        await engine.approve("changed", "pay", by="me")
    async with Engine([pay if each.name == "pay" else each for each in tools], store=store) as engine:
        await engine.resume("changed")
        await engine.approve("changed", "pay", by="me")
        await engine.resume("changed")


async def _timed(store: Path, tools: list[Tool]) -> None:
    """Have the time of a wait, of an approval and of a run come."""
    async with Engine(tools, store=store, approval_expires=0.2) as engine:
        await engine.run(TIMED, run_id="timed")
        await _ended(engine, "timed")
    async with Engine(tools, store=store) as engine:
        await engine.run(WAITING, run_id="late", deadline=0.3)
        await _ended(engine, "late")


async def _ended(engine: Engine, run_id: str) -> None:
    while (await engine.get(run_id)).status == "waiting":  # noqa: ASYNC110  # its time comes by itself
        await asyncio.sleep(0.01)
    await engine.wait(run_id)


async def _planned(store: Path, tools: list[Tool]) -> None:
    """Have a planner make the plan of a run, and the patch of another's."""
    drafts = [
        COUNTED,
        FAILED,
        {"operations": [{"op": "set", "step": "bad", "at": "on_error", "value": {"value": 1}}]},
    ]
    async with ScriptedModel(drafts) as model:
        planner = Planner("golden", base_url=model.base_url, adapt=False)
        async with Engine(tools, store=store, planner=planner) as engine:
            await engine.run("Double five numbers", run_id="planned", budget={"tokens": 1_000_000})
            await engine.run("Fail, and do without", run_id="patched", replan=1)
    await _planned_inside(store, tools)


async def _planned_inside(store: Path, tools: list[Tool]) -> None:
    """Have a planner make a part of a run: over its budget at first, then with a question, then with a write that needs an approval."""
    question = {
        "firmplan": 1,
        "steps": [],
        "question": {"text": "All of it?", "returns": {"type": "boolean"}},
    }
    unfit = {**SUB_PLAN, "output": "paid"}
    async with ScriptedModel([unfit, question, SUB_PLAN]) as model:
        planner = Planner("golden", base_url=model.base_url, adapt=False)
        async with Engine(tools, store=store, planner=planner) as engine:
            await engine.run(PLAN_FOR, run_id="part", budget={"model_calls": 1})
            await engine.resume("part", budget={"model_calls": 10})
            await engine.answer("part", "rest/ask0", True, by="me")
            await engine.resume("part")
            await engine.approve("part", "rest/run/paid", by="me")
            await engine.resume("part")


async def _kill(store: Path) -> None:
    """Run a step that ends this process."""
    async with Engine(tools_of([]), store=store) as engine:
        await engine.run(PARKED, run_id="parked")


async def _decided(engine: Engine) -> None:
    await engine.run(DECISIONS, run_id="decisions")
    await engine.approve("decisions", "pay", by="me", edit={"amount": 4})
    await engine.resume("decisions")
    await engine.deny("decisions", "no", by="me", reason="once is enough")
    await engine.approve("decisions", "ruled[1]", by="me")
    await engine.resume("decisions")


async def _asked(engine: Engine) -> None:
    await engine.run(ASKED, run_id="asked")
    await engine.answer("asked", "many", 3, by="me")
    await engine.resume("asked")
    await engine.approve("asked", "trusted", by="me", edit={"value": 4})
    await engine.resume("asked")
    await engine.run(EXPIRED, run_id="expired")
    while (await engine.get("expired")).status != "succeeded":  # noqa: ASYNC110  # it expires by itself
        await asyncio.sleep(0.01)


async def _unknown(engine: Engine) -> None:
    await engine.run(UNKNOWN, run_id="unknown")
    await engine.resolve("unknown", "done", done=5)
    await engine.resolve("unknown", "again", retry=True)
    await engine.resolve("unknown", "failed", fail="looked, it did nothing")
    await engine.resume("unknown")


def journals(store: Path) -> dict[str, list[str]]:
    """Return each run's journal, as lines of text."""
    found: dict[str, list[str]] = {}
    with sqlite3.connect(store) as db:
        for run_id, lines in db.execute("SELECT run_id, lines FROM journal ORDER BY run_id, first_seq"):
            found.setdefault(run_id, []).extend(lines.decode().split("\n"))
    db.close()
    return found


def stored_part(error: dict[str, Any]) -> dict[str, Any]:
    """Return what the journal says of an error; firmplan words the message of a parked run when it is read, and may reword it."""
    return {name: part for name, part in error.items() if name != "message" or error["code"] != "parked"}


async def told(store: Path) -> dict[str, Any]:
    """Return what the runs of a store came to, without any tool."""
    async with Engine([], store=store) as engine:
        page = await engine.list_runs(limit=100)
        runs = [await engine.get(each.id) for each in page.runs]
    return {run.id: _told(run) for run in runs}


def _told(run: Run) -> dict[str, Any]:
    steps = {
        path: [view.status, view.reason, view.attempts, view.reused, view.output_digest]
        for path, view in run.steps.items()
    }
    return {
        "status": run.status,
        "output": run.output,
        "digest": run.digest,
        "parent": run.parent,
        "errors": [stored_part(error.to_dict()) for error in run.errors],
        "usage": dict(run.usage),
        "steps": steps,
    }


def main() -> None:
    """Write `store.sqlite` and `runs.json`; or, told so, end while a run of a store is under way."""
    if sys.argv[1] == "kill":
        asyncio.run(_kill(Path(sys.argv[2])))
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    store = folder / "store.sqlite"
    asyncio.run(make(store))
    runs = asyncio.run(told(store))
    lines = journals(store)
    for run_id, run in runs.items():
        run["journal"] = lines[run_id]
    db = sqlite3.connect(store, isolation_level=None)
    for statement in ("PRAGMA journal_mode=DELETE", "DELETE FROM calls", "DELETE FROM codes", "VACUUM"):
        db.execute(statement)
    db.close()
    (folder / "runs.json").write_text(json.dumps(runs, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
