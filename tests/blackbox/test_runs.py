"""Contract, 3: what a `Run` is: fields, statuses, views of steps, errors, digest."""

from __future__ import annotations

import asyncio
import json
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from firmplan import Context, Engine, FirmplanError, Plan, Run, Tool, ToolError, tool
from public import call, once, plan, statuses, within


@tool(effect="pure")
def double(x: int) -> int:
    """Double; odd hundreds fail."""
    if x >= 100:
        raise ToolError(f"{x} is too large", code="large", temporary=x > 200)
    return x * 2


@tool(effect="read")
def look(x: int) -> int:
    """Look."""
    return x


def echo(value: Any) -> Any:
    """Return what was bound."""
    return value


TOOLS = [double, look]
INNER = {
    "inputs": {"n": {"type": "integer"}},
    "steps": [call("one", "double", args={"x": "${inputs.n}"}), {"id": "two", "set": "${one + 1}"}],
    "output": "${two}",
}


def test_a_run_has_every_field(tmp_path: Path):
    """`Run`: `id`, `status`, `output`, `errors`, `digest`, `plan`, `inputs`, `steps`, `usage`, `parent`."""
    source = plan(
        call("s", "double", args={"x": "${inputs.n}"}), inputs={"n": {"type": "integer"}}, output="${s}"
    )
    run = once(TOOLS, source, tmp_path / "s.db", inputs={"n": 4})
    assert isinstance(run, Run)
    assert isinstance(run.id, str)
    assert run.status == "succeeded"
    assert run.output == 8
    assert run.errors == ()
    assert run.digest.startswith("sha256:")
    assert run.plan == Plan.model_validate(source)
    assert dict(run.inputs) == {"n": 4}
    assert list(run.steps) == ["s"]
    assert run.usage["steps"] == 1
    assert run.parent is None
    step = run.steps["s"]
    assert (step.status, step.output, step.attempts, step.reused, step.cost) == ("succeeded", 8, 1, False, 0)
    assert step.started is not None
    assert step.finished is not None
    assert step.started <= step.finished
    assert (step.error, step.reason) == (None, None)


def test_steps_are_in_plan_order_each_followed_by_its_leaves(tmp_path: Path):
    """`run.steps`: in plan order (the list's), each step followed by its leaves (items, iterations, inner steps)."""
    source = plan(
        {"id": "last", "set": "${each}"},
        call("each", "double", args={"x": "${item}"}, for_each="${[len(subs), 2]}"),
        {"id": "subs", "plan": "inner", "for_each": [1, 2], "args": {"n": "${item}"}},
        call(
            "turns", "look", args={"x": "${first(prev, 1) + 1}"}, repeat={"until": "${turns >= 3}", "max": 4}
        ),
        call("off", "double", args={"x": 1}, when="${1 > 2}"),
        call("some", "double", args={"x": "${item}"}, for_each=[1, 2, 3], when="${item != 2}"),
        call("none", "double", args={"x": "${item}"}, for_each=[]),
        plans={"inner": INNER},
        output=["${last}", "${subs}", "${turns}", "${some}", "${none}"],
    )
    run = once(TOOLS, source, tmp_path / "s.db")
    run.raise_for_status()
    assert run.output == [[4, 4], [3, 5], 3, [2, 6], []]
    assert list(run.steps) == [
        "last",
        "each",
        "each[0]",
        "each[1]",
        "subs",
        "subs[0]",
        "subs[0]/one",
        "subs[0]/two",
        "subs[1]",
        "subs[1]/one",
        "subs[1]/two",
        "turns",
        "turns#0",
        "turns#1",
        "off",
        "some",
        "some[0]",
        "some[1]",
        "some[2]",
        "none",
    ]
    assert run.steps["off"].status == "skipped"
    assert run.steps["off"].reason == "when"
    assert run.steps["some[1]"].status == "skipped"
    assert run.steps["each"].output == [4, 4]
    assert run.steps["none"].output == []
    assert run.steps["subs[1]"].output == 5
    assert run.steps["turns"].attempts == 2


def test_a_run_whose_steps_fail_is_returned(tmp_path: Path):
    """A run whose steps fail is returned, not raised: `run.errors` (in plan order, each `step code message temporary`)."""
    source = plan(
        call("b", "double", args={"x": 300}),
        call("a", "double", args={"x": 100}),
        call("each", "double", args={"x": "${item}"}, for_each=[1, 101, 2, 102]),
        {"id": "sub", "plan": "inner", "args": {"n": 103}},
        call("handled", "double", args={"x": 104}, on_error="skip"),
        call("after_b", "double", args={"x": "${b}"}),
        {"id": "zero", "set": "${1 // (len(each_ok) - 2)}"},
        call("each_ok", "double", args={"x": "${item}"}, for_each=[1, 2]),
        plans={"inner": INNER},
        output="${each_ok}",
    )
    run = once(TOOLS, source, tmp_path / "s.db")
    assert run.status == "failed"
    assert run.output is None
    assert [(error.step, error.code, error.temporary) for error in run.errors][:5] == [
        ("b", "large", True),
        ("a", "large", False),
        ("each[1]", "large", False),
        ("each[3]", "large", False),
        ("sub/one", "large", False),
    ]
    assert [error.step for error in run.errors] == ["b", "a", "each[1]", "each[3]", "sub/one", "zero"]
    assert run.errors[0].message == "300 is too large"
    assert (run.steps["each"].status, run.steps["each[0]"].status) == ("failed", "succeeded")
    assert (run.steps["sub"].status, run.steps["sub/two"].status) == ("failed", "skipped")
    assert run.steps["sub/two"].reason == "dependency-failed"
    assert run.steps["a"].error is not None
    assert run.steps["a"].error.code == "large"


def test_raise_for_status(tmp_path: Path):
    """`run.raise_for_status()`."""
    good = once(TOOLS, plan({"id": "s", "set": 1}), tmp_path / "s.db")
    good.raise_for_status()
    bad = once(TOOLS, plan(call("s", "double", args={"x": 100})), tmp_path / "s.db")
    with pytest.raises(FirmplanError) as caught:
        bad.raise_for_status()
    assert "100 is too large" in str(caught.value)
    assert caught.value.code
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_no_output_is_null(tmp_path: Path):
    """No `output`: null."""
    run = once(TOOLS, plan({"id": "s", "set": 1}), tmp_path / "s.db")
    assert (run.status, run.output) == ("succeeded", None)
    assert once(TOOLS, plan(), tmp_path / "s.db").status == "succeeded"
    assert once(TOOLS, plan(output=[1, "a"]), tmp_path / "s.db").output == [1, "a"]


def test_output_that_refers_to_a_skipped_step_is_null(tmp_path: Path):
    """`output` that refers to a skipped step is null."""
    source = plan(call("s", "double", args={"x": 1}, when="${1 > 2}"), output={"a": "${s}", "b": 1})
    run = once(TOOLS, source, tmp_path / "s.db")
    assert (run.status, run.output) == ("succeeded", None)
    source["output"] = {"a": "${first(s, 0)}", "b": 1}
    assert once(TOOLS, source, tmp_path / "s.db").output == {"a": 0, "b": 1}


def test_an_output_that_faults_fails_the_run(tmp_path: Path):
    """A run-time fault .. fails: the run says so in its errors."""
    run = once(TOOLS, plan(call("s", "look", args={"x": 0}), output="${1 // s}"), tmp_path / "s.db")
    assert run.status == "failed"
    assert run.output is None
    assert len(run.errors) == 1


def test_the_digest_is_stable(tmp_path: Path):
    """`run.digest` covers plan digest, inputs, and every step's status and output digest; not timing, concurrency, .."""
    source = plan(
        call("s", "look", args={"x": "${item}"}, for_each="${range(inputs.n)}"),
        call("f", "double", args={"x": 500}, on_error="skip"),
        inputs={"n": {"type": "integer"}},
        output="${s}",
    )

    def digest_of(store: str, given: dict[str, Any] | None = None, n: int = 5, **options: Any) -> str:
        return once(TOOLS, given or source, tmp_path / store, inputs={"n": n}, **options).digest

    first = digest_of("a.db")
    assert digest_of("b.db", max_concurrency=1) == first
    assert digest_of("a.db", reuse="off") == first
    assert digest_of("a.db", seed=5) == first
    assert digest_of("a.db", {**source, "task": "words", "description": "more"}) == first
    reordered = {key: source[key] for key in reversed(list(source))}
    assert digest_of("a.db", reordered) == first
    assert digest_of("a.db", n=4) != first
    assert digest_of("a.db", {**source, "output": "${len(s)}"}) != first


def test_the_digest_changes_with_an_output(tmp_path: Path):
    """.. every step's status and output digest."""
    values = iter([1, 2, 1])

    @tool(effect="read")
    def world() -> int:
        """Look."""
        return next(values)

    digests = [once([world], plan(call("s", "world")), tmp_path / "s.db").digest for _ in range(3)]
    assert digests[0] != digests[1]
    assert digests[0] == digests[2]


def test_a_run_is_a_snapshot(tmp_path: Path):
    """A `Run` is a snapshot."""

    async def go() -> None:
        started, release = asyncio.Event(), asyncio.Event()

        async def slow() -> int:
            started.set()
            await release.wait()
            return 1

        made = tool(slow, effect="read", description="Wait.")
        async with Engine([made, double], store=tmp_path / "s.db") as engine:
            await engine.submit(
                plan(
                    call("s", "slow"),
                    call("t", "double", args={"x": "${s}"}),
                    call("e", "double", args={"x": "${item + s}"}, for_each=[1, 2]),
                    output="${t}",
                ),
                run_id="r",
            )
            await started.wait()
            early = await engine.get("r")
            assert early.status == "running"
            assert early.output is None
            assert statuses(early) == {"s": "running", "t": "pending", "e": "pending"}
            assert early.steps["s"].started is not None
            assert early.steps["s"].finished is None
            release.set()
            late = await engine.wait("r")
            assert early.status == "running"
            assert late.status == "succeeded"
            with pytest.raises((AttributeError, TypeError)):
                late.status = "failed"  # type: ignore[misc]  # what is tested

    within(go())


def test_attempts_count_calls(tmp_path: Path):
    """`attempts`."""

    @tool(effect="read", retries=3)
    def flaky(*, ctx: Context) -> int:
        """Fail twice."""
        if ctx.attempt < 3:
            raise ToolError("busy", temporary=True)
        return ctx.attempt

    run = once([flaky], plan(call("s", "flaky"), output="${s}"), tmp_path / "s.db")
    assert (run.output, run.steps["s"].attempts) == (3, 3)


def test_repeat_that_never_ends_is_exhausted(tmp_path: Path):
    """At `max` without success the step fails with `repeat-exhausted`."""
    source = plan(
        call("s", "double", args={"x": "${first(prev, 1)}"}, repeat={"until": "${s > 1000}", "max": 3}),
        call("t", "double", args={"x": "${s}"}),
    )
    run = once(TOOLS, source, tmp_path / "s.db")
    assert run.status == "failed"
    assert run.errors[0].code == "repeat-exhausted"
    assert run.errors[0].step == "s"
    assert list(run.steps) == ["s", "s#0", "s#1", "s#2", "t"]
    assert run.steps["t"].reason == "dependency-failed"


def test_every_action_repeats(tmp_path: Path):
    """`repeat`: in `until`, the step's own id is the value just made; `prev` is the previous iteration's value."""
    source = plan(
        {"id": "s", "set": "${first(prev, 0) + 1}", "repeat": {"until": "${s == 3}", "max": 5}},
        {
            "id": "each",
            "set": "${first(prev, item) * 2}",
            "for_each": [1, 5],
            "repeat": {"until": "${each > 10 and index >= 0}", "max": 9},
        },
        {
            "id": "seen",
            "set": "${[first(prev, 0), s]}",
            "repeat": {"until": "${prev != seen}", "max": 2},
            "on_error": "skip",
        },
        {
            "id": "sub",
            "plan": "inner",
            "args": {"n": "${first(prev, 1)}"},
            "repeat": {"until": "${sub > 9}", "max": 9},
        },
        plans={"inner": INNER},
        output=["${s}", "${each}", "${sub}"],
    )
    run = once(TOOLS, source, tmp_path / "s.db")
    run.raise_for_status()
    assert run.output == [3, [16, 20], 15]
    assert run.steps["s#2"].output == 3


def test_numbers_keep_their_kind_through_the_journal(tmp_path: Path):
    """Numbers keep their kind; every consumer, live or replayed, sees the parsed canonical form."""

    @tool(effect="pure")
    def floats() -> list[float]:
        """Give floats."""
        return [4.0, -0.0, 1e300, 0.1]

    source = plan(
        call("f", "floats"),
        {"id": "t", "set": "${str(f[0])}"},
        {"id": "i", "set": "${int(f[0])}"},
        output=["${f}", "${t}", "${i}"],
    )
    with Engine([floats], store=tmp_path / "s.db") as engine:
        run = engine.run_sync(source)
        again = engine.replay_sync(run.id)
    assert run.output == again.output == [[4.0, 0.0, 1e300, 0.1], "4.0", 4]
    assert [type(each) for each in run.output[0]] == [float] * 4


def test_values_that_are_not_json_fail_the_step(tmp_path: Path):
    """NaN, infinities, lone surrogates and integers past 64 bits are errors."""
    for number, value in enumerate([float("nan"), float("inf"), "\ud800", 2**63]):
        made = Tool.from_callable(
            partial(echo, value), name="give", parameters={"type": "object", "properties": {}}, effect="read"
        )
        run = once([made], plan(call("s", "give")), tmp_path / f"{number}.db")
        assert run.status == "failed", value
        assert run.errors[0].step == "s"


def test_to_dict_is_json(tmp_path: Path):
    """`--json` prints one JSON document: a run is JSON."""
    run = once(
        TOOLS, plan(call("s", "double", args={"x": 100}), call("t", "look", args={"x": 1})), tmp_path / "s.db"
    )
    made = json.loads(json.dumps(run.to_dict()))
    assert made["status"] == "failed"
    assert made["steps"]["s"]["error"]["code"] == "large"
