"""A law: a damaged trace is learnt from as far as it goes, or refused with a message; it never breaks the program."""

from __future__ import annotations

import json
from pathlib import Path

import firmplan
from agent_traces import TOOLS
from firmplan import InputRejected, learn_from_trace
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
