"""Whatever stands in a document, it is read or refused with a `ConfigError`, and what becomes a tool can be checked and called."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from firmplan import ConfigError, Toolset, check
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXCERPTS = Path(__file__).parent / "excerpts"
DOCUMENTS = [json.loads(file.read_text()) for file in sorted(EXCERPTS.glob("*.json"))]
WORDS = st.sampled_from(
    [
        "$ref",
        "type",
        "#/components/schemas/issue",
        "#/paths",
        "#",
        "object",
        "array",
        "../..",
        "{x}",
        "header",
        "a\r\nb",
        "\u202e",
        "",
    ]
)
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**65)
    | st.floats(allow_nan=False)
    | WORDS
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value, path=()):
    """Every place in a document."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from places(each, (*path, key))


PLACES = [(number, path) for number, made in enumerate(DOCUMENTS) for path in places(made) if path]


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("FIRMPLAN_LOG", "off")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(PLACES), ANY), min_size=1, max_size=3),
    st.sampled_from(["3.0.0", "3.1.0"]),
)
def test_any_change_of_a_document(changes, version):
    """A value somewhere is another: of another type, missing, a reference to anything, text that does harm elsewhere."""
    made = copy.deepcopy(DOCUMENTS[changes[0][0][0]])
    made["openapi"] = version
    for (number, path), value in changes:
        if number != changes[0][0][0]:
            continue
        at = made
        try:
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    try:
        tools = Toolset.from_openapi(made, base_url="http://127.0.0.1:9")
    except ConfigError:
        return
    for tool in tools:
        assert tool.fingerprint is not None
        check(
            {"firmplan": 1, "steps": [{"id": "a", "tool": tool.name, "args": {}}], "output": "${a}"}, [tool]
        )
