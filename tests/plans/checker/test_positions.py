"""Where a fault is: the path of the text, the characters in it, the line of the plan's text in JSON and in YAML."""

from __future__ import annotations

import json

import pytest
from firmplan import check

TEXTS = {
    "${w.celsius + }": ("bad-expr", ""),
    "a ${ 1 + 'x' } b": ("bad-expr", "1 + 'x'"),
    "é${'é'}😀 ${wx.text}": ("unknown-ref", "wx"),
    "${w.text} and ${ w.txt }": ("unknown-field", "w.txt"),
    "${w.text} $${w.txt} ${w.txt}": ("unknown-field", "w.txt"),
    "${[x.y for x in [w]]}": ("unknown-field", "x.y"),
    "${inputs.nosuch}": ("unknown-ref", "inputs.nosuch"),
    "${w.celsius\n + w.text}": ("bad-expr", "w.celsius\n + w.text"),
    "${w.celsius and 1 // 0}": ("bad-expr", "1 // 0"),
    "${w['text'].__class__}": ("bad-expr", "w['text'].__class__"),
    "${'a' if w else item}": ("unknown-ref", "item"),
    "one ${": ("bad-expr", "${"),
    "one ${w.text": ("bad-expr", "${w.text"),
    "one ${ } two": ("bad-expr", "${ }"),
    "${(w.text]}": ("bad-expr", "]"),
    "${w.text!r}": ("bad-expr", "!"),
    "${'é' # no}": ("bad-expr", "#"),
    "see {{w.text}}": ("suspicious-text", "{{w.text}}"),
    "é $${x} ${w.text} costs $w.text now": ("suspicious-text", "$w.text"),
    "${w.text}{{ w }}": ("suspicious-text", "{{ w }}"),
}
WEATHER = {"id": "w", "tool": "weather", "args": {"city": "Rome"}}


@pytest.mark.parametrize("text", TEXTS)
def test_a_fault_is_told_to_the_character(text, tools):
    """`Problem.at` cuts out of the text at `path` exactly what is wrong, whatever stands around it."""
    code, wrong = TEXTS[text]
    plan = {"firmplan": 1, "steps": [WEATHER, {"id": "s", "set": {"a b": [0, text]}}], "output": "${s}"}
    (found,) = [problem for problem in check(plan, tools).problems if problem.code == code]
    assert found.path == '$.steps[1].set["a b"][1]'
    if wrong:
        assert found.at is not None
        assert text[slice(*found.at)] == wrong


JSON = """{
  "firmplan": 1,
  "steps": [
    {"id": "w", "tool": "weather",
     "args": {
       "city": "${nosuch}"
     }},
    {"id": "s",
     "set": [
       "ok",
       "see {{w.text}}"
     ],
     "after": ["x"]
    }
  ],
  "output": "${s}"
}"""
YAML = """\
firmplan: 1
steps:
  - id: w
    tool: weather
    args:
      # a remark
      city: ${nosuch}
  - {id: s, set: [ok,
      "see {{w.text}}"], after: [
      x]}
output: ${s}
"""


@pytest.mark.parametrize(("text", "lines"), [(JSON, (6, 13, 11)), (YAML, (7, 10, 9))])
def test_problems_have_the_line_of_the_plans_text(text, lines, tools):
    """JSON and YAML alike, also inside brackets and after remarks."""
    report = check(text, tools)
    found = {problem.path: problem.line for problem in report.problems if problem.code != "unused-step"}
    assert found == {
        "$.steps[0].args.city": lines[0],
        "$.steps[1].after[0]": lines[1],
        "$.steps[1].set[1]": lines[2],
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"firmplan": 1,\n "steps": [\n  nope]}', 3),
        ('{"firmplan": 1,\n "steps": [],\n "steps": []}', None),
        ("firmplan: 1\nsteps: [\n", 3),
        ("firmplan: 1\nsteps:\n  - id: a\n    id: b\n", 4),
        ("firmplan: 1\nsteps:\n  - &x {id: a}\n  - *y\n", 4),
        ("firmplan: 1\nsteps:\n - set: !!python/object:os.system x\n", 3),
        ("firmplan: 1\nsteps:\n - set: .inf\n", 3),
    ],
)
def test_texts_that_hold_no_plan_have_a_line_where_it_is_known(text, line):
    report = check(text)
    assert not report.ok
    if line is not None:
        assert report.problems[0].line == line


def test_a_report_as_json_has_positions(tools):
    plan = {"firmplan": 1, "steps": [{"id": "s", "set": "a ${1 +}"}], "output": "${s}"}
    (found,) = json.loads(check(json.dumps(plan), tools).to_json())["problems"]
    assert found["line"] == 1
    assert found["at"]
