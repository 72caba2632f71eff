"""A law: a damaged trace is learnt from as far as it goes, or refused with a message; it never breaks the program."""

from __future__ import annotations

import json
from pathlib import Path

import firmplan
import pytest
from agent_traces import TOOLS, chat
from firmplan import InputRejected, learn_from_trace
from firmplan.planner.traces.learning import CALLS_MAX
from firmplan.planner.traces.places import NODES_MAX
from hypothesis import given
from hypothesis import strategies as st

VECTORS = Path(firmplan.__file__).parent / "tests" / "vectors" / "traces"
FILES = sorted(path for path in VECTORS.iterdir())
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5) | st.sampled_from(["", "{", "[1]", '{"error": 1}', "tool", "user", "${x}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "type", "content", "id", "name", "parts", "error", "x"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def documents(path):
    text = path.read_text()
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


def places(value, way=()):
    yield way
    for key, each in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from places(each, (*way, key))


@st.composite
def damaged(draw):
    """Return a trace of some format in which one or two parts are replaced, removed or repeated."""
    value = documents(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 2))):
        way = draw(st.sampled_from([way for way in places(value) if way]))
        holder = value
        for key in way[:-1]:
            holder = holder[key]
        match draw(st.sampled_from(["replace", "remove", "repeat"])):
            case "replace":
                holder[way[-1]] = draw(JUNK)
            case "remove":
                del holder[way[-1]]
            case _ if isinstance(holder, list):
                holder.insert(way[-1], json.loads(json.dumps(holder[way[-1]])))
            case _:
                pass
        if not isinstance(value, list | dict) or not value:
            break
    return value


def test_a_trace_of_very_many_calls_is_refused():
    """No agent makes so many calls for one task; a log of many tasks is no trace."""
    turns = [("remind", {"invoice_id": number}, "ok") for number in range(CALLS_MAX + 1)]
    with pytest.raises(InputRejected, match=f"expected at most {CALLS_MAX} calls, found {CALLS_MAX + 1}"):
        learn_from_trace(chat("Remind all", *turns), TOOLS)


def test_only_a_part_of_a_giant_result_is_looked_at():
    """A value that stands far behind explains nothing: the argument stays a constant, and the report says so."""
    rows = [100_000 + number for number in range(NODES_MAX + 10)]
    for number, kind in ((50, "selection"), (NODES_MAX + 5, "unexplained")):
        messages = chat(
            "Remind",
            ("find_customer", {"name": "A"}, {"rows": rows}),
            ("remind", {"invoice_id": 100_000 + number}, "ok"),
        )
        found = learn_from_trace(messages, TOOLS)
        assert [each.origin.kind for each in found.origins if each.step == "remind"] == [kind]


@given(damaged())
def test_a_damaged_trace_is_learnt_from_or_refused(trace):
    """Whatever is wrong: a plan with its report, or `InputRejected` with a message."""
    try:
        found = learn_from_trace(trace, TOOLS)
    except InputRejected:
        return
    assert found.plan.steps
    assert str(found)
    assert json.dumps(found.to_dict())
