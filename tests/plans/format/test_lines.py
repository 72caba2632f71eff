"""Where the parts of a plan stand in its text."""

from __future__ import annotations

import pytest
from firmplan.plans.format.lines import lines_of

JSON = """{
  "a": {"b": [1,
    {"c, d": "x: \\"y\\" [", "e": 2}
  ]},
  "f": []
}"""
YAML = """\
a:
  b:
  - 1
  - "c, d": |
      x
      y
    e: {g: 2}
f: []
"""


@pytest.mark.parametrize(
    ("text", "is_json", "lines"),
    [
        (
            JSON,
            True,
            {"$": 1, "$.a": 2, "$.a.b": 2, "$.a.b[0]": 2, "$.a.b[1]": 3, '$.a.b[1]["c, d"]': 3, "$.f": 5},
        ),
        (
            YAML,
            False,
            {"$": 1, "$.a": 1, "$.a.b": 2, "$.a.b[0]": 3, "$.a.b[1].e": 7, "$.a.b[1].e.g": 7, "$.f": 8},
        ),
    ],
)
def test_a_path_has_the_line_of_its_key(text, is_json, lines):
    assert lines_of(text, lines, is_json=is_json) == lines


def test_what_is_missing_has_the_line_of_what_should_hold_it():
    assert lines_of(JSON, ["$.a.z.z", "$.gone"], is_json=True) == {"$.a.z.z": 2, "$.gone": 1}


@pytest.mark.parametrize("text", ["", "{", "[[[", "a: [", "}{", '{"a": "'])
def test_broken_text_has_a_line_too(text):
    assert lines_of(text, ["$.a"], is_json=True) == {"$.a": 1}
    assert lines_of(text, ["$.a"], is_json=False) == {"$.a": 1}
