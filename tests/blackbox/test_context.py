"""Contract, 1: what a tool is handed as `Context`, and what using it means for reuse and replay."""

from __future__ import annotations

import random
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

import pytest
from firmplan import Context, Engine, PlanRejected, Run, ToolError, tool
from public import call, once, plan, within


def files_of(store: Path) -> bytes:
    """Return all bytes of a store: P and the plain files named P-*."""
    return b"".join(
        each.read_bytes() for each in sorted(store.parent.glob(store.name + "*")) if each.is_file()
    )


def test_a_context_is_injected_and_no_part_of_the_schema(tmp_path: Path):
    """A parameter annotated `Context` is injected and not part of the schema, whatever its name and place."""

    @tool(effect="read")
    def early(ctx: Context, x: int) -> str:
        """Take it first."""
        return f"{ctx.step} {x}"

    @tool(effect="read")
    async def last(x: int, *, world: Context) -> str:
        """Take it last."""
        return f"{world.step} {x}"

    @tool(effect="read")
    def maybe(x: int, ctx: Optional[Context] = None) -> str:  # noqa: UP045  # as people write it
        """Take it perhaps."""
        return f"{ctx.step if ctx else None} {x}"

    for each in (early, last, maybe):
        assert list(each.parameters["properties"]) == ["x"]
    steps = [call(each.name, each.name, args={"x": 1}) for each in (early, last, maybe)]
    run = once(
        [early, last, maybe], plan(*steps, output=["${early}", "${last}", "${maybe}"]), tmp_path / "s.db"
    )
    assert run.output == ["early 1", "last 1", "maybe 1"]


def test_a_context_has_every_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`ctx.now()`, `ctx.random`, `ctx.uuid()`, `ctx.env(name)`, `ctx.secret(name)`, .. `ctx.run_id`, `ctx.step`."""
    monkeypatch.setenv("FIRMPLAN_BLACKBOX", "set")
    seen: dict[str, Any] = {}

    @tool(effect="write", retries=1)
    def look(x: int, *, ctx: Context) -> int:
        """Look at everything."""
        seen.update(
            now=ctx.now(),
            random=ctx.random,
            uuid=ctx.uuid(),
            env=ctx.env("FIRMPLAN_BLACKBOX"),
            missing=ctx.env("FIRMPLAN_BLACKBOX_MISSING"),
            secret=ctx.secret("KEY"),
            key=ctx.idempotency_key,
            attempt=ctx.attempt,
            run_id=ctx.run_id,
            step=ctx.step,
        )
        ctx.progress(0.5, "half way")
        ctx.progress(1.0)
        ctx.log.debug("looked", x=x)
        return x

    run = once(
        [look], plan(call("s", "look", args={"x": 1})), tmp_path / "s.db", engine={"secrets": {"KEY": "hush"}}
    )
    assert run.status == "succeeded"
    assert isinstance(seen["now"], datetime)
    assert seen["now"].tzinfo is not None
    assert isinstance(seen["random"], random.Random)
    assert len(str(seen["uuid"])) == 36
    assert seen["env"] == "set"
    assert seen["missing"] is None
    assert seen["secret"] == "hush"
    assert seen["key"]
    assert isinstance(seen["key"], str)
    assert (seen["attempt"], seen["run_id"], seen["step"]) == (1, run.id, "s")


@pytest.mark.parametrize("what", ["now", "random", "uuid"])
def test_a_pure_tool_may_not_read_time_randomness_or_ids(what: str, tmp_path: Path):
    """In a `pure` tool, `now`, `random` and `uuid` raise `ToolError(code="impure")`."""
    raised: list[BaseException] = []

    @tool(effect="pure")
    def look(*, ctx: Context) -> int:
        """Look."""
        try:
            found = getattr(ctx, what)
            if what != "random":
                found()
        except ToolError as error:
            raised.append(error)
            raise
        return 1

    run = once([look], plan(call("s", "look")), tmp_path / "s.db")
    assert run.status == "failed"
    assert run.errors[0].code == "impure"
    assert [getattr(error, "code", None) for error in raised] == ["impure"]


def counted(effect: str, calls: list[str], body: Any, **options: Any) -> Any:
    """Return a tool that counts its calls in a list of the test."""

    @tool(effect=effect, version="1", **options)
    def look(x: int, *, ctx: Context) -> str:
        """Look."""
        calls.append(ctx.step)
        return str(body(ctx))

    return look


LOOKS = {
    "now": lambda ctx: ctx.now(),
    "random": lambda ctx: ctx.random.random(),
    "uuid": lambda ctx: ctx.uuid(),
}


@pytest.mark.parametrize("what", sorted(LOOKS))
@pytest.mark.parametrize("effect", ["read", "model"])
def test_their_use_makes_a_result_not_reusable(what: str, effect: str, tmp_path: Path):
    """In `read` and `model` their use makes the result not reusable later."""
    calls: list[str] = []
    options = {"reuse_for": "forever"} if effect == "read" else {}
    look = counted(effect, calls, LOOKS[what], **options)
    steps = plan(call("s", "look", args={"x": 1}))
    once([look], steps, tmp_path / "s.db")
    assert once([look], steps, tmp_path / "s.db").steps["s"].reused is False
    assert len(calls) == 2


@pytest.mark.parametrize("effect", ["pure", "read", "model"])
def test_attempt_step_and_key_do_not_hinder_reuse(effect: str, tmp_path: Path):
    """In `read` and `model` [now, random, uuid] make the result not reusable: nothing else does."""
    calls: list[str] = []
    options = {"reuse_for": "forever"} if effect == "read" else {}
    look = counted(effect, calls, lambda ctx: ctx.attempt, **options)
    steps = plan(call("s", "look", args={"x": 1}))
    once([look], steps, tmp_path / "s.db")
    assert once([look], steps, tmp_path / "s.db").steps["s"].reused is True
    assert len(calls) == 1


def test_what_env_read_must_match_for_reuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What `ctx.env` read is stored with the result and must match for reuse."""
    calls: list[str] = []
    look = counted("pure", calls, lambda ctx: ctx.env("FIRMPLAN_BLACKBOX"))
    steps = plan(call("s", "look", args={"x": 1}), output="${s}")
    monkeypatch.delenv("FIRMPLAN_BLACKBOX", raising=False)
    assert once([look], steps, tmp_path / "s.db").output == "None"
    monkeypatch.setenv("FIRMPLAN_BLACKBOX", "a")
    assert once([look], steps, tmp_path / "s.db").output == "a"
    again = once([look], steps, tmp_path / "s.db")
    assert (again.output, again.steps["s"].reused, len(calls)) == ("a", True, 2)
    monkeypatch.setenv("FIRMPLAN_BLACKBOX", "b")
    assert once([look], steps, tmp_path / "s.db").output == "b"
    assert len(calls) == 3


def test_the_idempotency_key_is_the_same_over_attempts_and_differs_between_calls(tmp_path: Path):
    """The digest of run id, step path (item and iteration included) and resolved arguments: the same over attempts."""
    keys: list[tuple[str, int, str]] = []

    @tool(effect="write", retries=2)
    def put(x: int, *, ctx: Context) -> int:
        """Write."""
        keys.append((ctx.step, ctx.attempt, ctx.idempotency_key))
        if ctx.attempt < 2:
            raise ToolError("busy", temporary=True)
        return x

    steps = plan(
        call("a", "put", args={"x": 1}),
        call("b", "put", args={"x": 1}),
        call("c", "put", args={"x": "${item}"}, for_each=[1, 1]),
        call("d", "put", args={"x": "${first(prev, 0) + 1}"}, repeat={"until": "${d >= 2}", "max": 3}),
    )
    run = once([put], steps, tmp_path / "s.db", run_id="one")
    assert run.status == "succeeded"
    by_step: dict[str, set[str]] = {}
    for step, _, key in keys:
        by_step.setdefault(step, set()).add(key)
    assert list(by_step) == ["a", "b", "c[0]", "c[1]", "d#0", "d#1"]
    assert all(len(found) == 1 for found in by_step.values())
    assert len(set.union(*by_step.values())) == 6
    first = set.union(*by_step.values())
    keys.clear()
    once([put], steps, tmp_path / "s.db", run_id="two")
    assert not first & {key for _, _, key in keys}
    other = {key for _, _, key in keys}
    keys.clear()
    once([put], steps, tmp_path / "other.db", run_id="two")
    assert {key for _, _, key in keys} == other


@pytest.mark.parametrize("effect", ["pure", "read", "write"])
@pytest.mark.parametrize("isolation", ["thread", "inline"])
def test_a_call_of_any_effect_has_a_key(effect: Any, isolation: Any, tmp_path: Path):
    """`ctx.idempotency_key` is the digest of run id, step path and resolved arguments: the same over attempts."""
    keys: list[str] = []

    @tool(effect=effect, retries=1, isolation=isolation, version="1")
    def look(x: int, *, ctx: Context) -> int:
        """Look."""
        keys.append(ctx.idempotency_key)
        if ctx.attempt < 2:
            raise ToolError("busy", temporary=True)
        return x

    steps = plan(call("a", "look", args={"x": 1}), call("b", "look", args={"x": 2}))
    assert once([look], steps, tmp_path / "s.db", max_concurrency=1).status == "succeeded"
    assert len(keys) == 4
    assert all(keys)
    assert len(set(keys)) == 2


def test_randomness_follows_the_seed_and_the_step(tmp_path: Path):
    """`ctx.random` (seeded `random.Random`): by run seed and step path; seed from plan and inputs unless given."""

    @tool(effect="read")
    def draw(*, ctx: Context) -> float:
        """Draw."""
        return ctx.random.random()

    steps = plan(call("a", "draw"), call("b", "draw"), output=["${a}", "${b}"])

    def outputs(**options: Any) -> Any:
        return once([draw], steps, tmp_path / "s.db", **options).output

    first = outputs()
    assert first[0] != first[1]
    assert outputs() == first
    seeded = outputs(seed=1)
    assert seeded != first
    assert outputs(seed=1) == seeded
    assert outputs(seed=2) != seeded


def test_a_retry_sees_the_time_and_ids_of_the_first_attempt(tmp_path: Path):
    """`ctx.now()` and `ctx.uuid()` are recorded on first use and replayed."""
    seen: list[tuple[Any, Any]] = []

    @tool(effect="write", retries=1)
    def put(*, ctx: Context) -> str:
        """Write."""
        seen.append((ctx.now(), ctx.uuid()))
        if ctx.attempt == 1:
            raise ToolError("busy", temporary=True)
        return "done"

    once([put], plan(call("s", "put")), tmp_path / "s.db").raise_for_status()
    assert seen[0] == seen[1]


def test_a_secret_stands_as_its_name_only(tmp_path: Path):
    """`secret("NAME")` .. stands as its name in journal, intents, keys, digests and approvals."""
    seen: list[tuple[str, str]] = []

    @tool(effect="write", approval="always")
    def put(token: str, x: str, *, ctx: Context) -> str:
        """Write."""
        seen.append((token, ctx.idempotency_key))
        return x

    @tool(effect="pure")
    def use(token: str) -> int:
        """Use."""
        return len(token)

    steps = plan(
        call("u", "use", args={"token": '${secret("TOKEN")}'}),
        call("s", "put", args={"token": '${secret("TOKEN")}', "x": "y"}),
        output="${u}",
    )

    async def go(secret: str, run_id: str) -> Run:
        async with Engine([put, use], store=tmp_path / "s.db", secrets={"TOKEN": secret}) as engine:
            run = await engine.run(steps, run_id=run_id)
            assert run.status == "waiting"
            await engine.approve(run_id, "s", by="me")
            return await engine.resume(run_id)

    first = within(go("hush-hush-one", "r1"))
    second = within(go("hush-hush-two!", "r2"))
    assert [token for token, _ in seen] == ["hush-hush-one", "hush-hush-two!"]
    assert (first.output, second.output) == (13, 14)
    assert b"hush-hush" not in files_of(tmp_path / "s.db")
    assert b"TOKEN" in files_of(tmp_path / "s.db")


def test_no_secret_is_there_unless_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`secrets=None` means none; `"environment"` opens the environment; a secret that is not there is no secret of a plan."""
    monkeypatch.setenv("BLACKBOX_TOKEN", "from-env")

    @tool(effect="read")
    def look(*, ctx: Context) -> int:
        """Look."""
        return len(ctx.secret("BLACKBOX_TOKEN"))

    steps = plan(call("s", "look"), output="${s}")
    opened = {"secrets": "environment"}
    assert once([look], steps, tmp_path / "s.db", engine=opened).output == 8
    for number, secrets in enumerate([None, {}]):
        run = once([look], steps, tmp_path / f"t{number}.db", engine={"secrets": secrets})
        assert run.status == "failed"
        assert "BLACKBOX_TOKEN" in run.errors[0].message
    argument = plan(call("s", "take", args={"x": '${secret("BLACKBOX_TOKEN")}'}), output="${s}")

    @tool(effect="pure")
    def take(x: str) -> int:
        """Take."""
        return len(x)

    assert once([take], argument, tmp_path / "u.db", engine=opened).output == 8
    for secrets in (None, {"OTHER": "x"}):
        with pytest.raises(PlanRejected) as rejected:
            once([take], argument, tmp_path / "v.db", engine={"secrets": secrets})
        assert [problem.code for problem in rejected.value.problems] == ["unknown-secret"]


def test_a_result_that_used_a_secret_is_not_reused(tmp_path: Path):
    """A result that used a secret is never reused across API keys or tenants."""
    calls: list[str] = []
    look = counted("pure", calls, lambda ctx: len(ctx.secret("K")))
    steps = plan(call("s", "look", args={"x": 1}), output="${s}")
    assert once([look], steps, tmp_path / "s.db", engine={"secrets": {"K": "a"}}).output == "1"
    assert once([look], steps, tmp_path / "s.db", engine={"secrets": {"K": "bb"}}).output == "2"


def test_step_paths_name_items_iterations_and_inner_steps(tmp_path: Path):
    """Paths: `step`, `step[3]` (item), `step#2` (iteration), `outer/inner`; nested as `step[3]#1/inner`."""
    seen: list[str] = []

    @tool(effect="write")
    def put(x: int, *, ctx: Context) -> int:
        """Write."""
        seen.append(ctx.step)
        return x

    inner = {
        "inputs": {"n": {"type": "integer"}},
        "steps": [call("deep", "put", args={"x": "${inputs.n}"})],
        "output": "${deep}",
    }
    steps = plan(
        call("a", "put", args={"x": 1}),
        {
            "id": "b",
            "plan": "inner",
            "for_each": [10, 20],
            "args": {"n": "${item + first(prev, 0)}"},
            "repeat": {"until": "${b > item}", "max": 5},
        },
        plans={"inner": inner},
        output="${b}",
    )
    run = once([put], steps, tmp_path / "s.db")
    run.raise_for_status()
    assert seen == ["a", "b[0]#0/deep", "b[0]#1/deep", "b[1]#0/deep", "b[1]#1/deep"]
    assert run.output == [20, 40]
    assert list(run.steps) == [
        "a",
        "b",
        "b[0]",
        "b[0]#0",
        "b[0]#0/deep",
        "b[0]#1",
        "b[0]#1/deep",
        "b[1]",
        "b[1]#0",
        "b[1]#0/deep",
        "b[1]#1",
        "b[1]#1/deep",
    ]


def test_progress_can_be_watched(tmp_path: Path):
    """`ctx.progress(fraction, note)`: out of range is held within, and nothing of it is needed to go on."""

    @tool(effect="read")
    async def slow(*, ctx: Context) -> int:
        """Tell."""
        ctx.progress(-1, "start")
        ctx.progress(7, "end")
        return 1

    assert once([slow], plan(call("s", "slow"), output="${s}"), tmp_path / "s.db").output == 1
