"""Laws of pictures: what is drawn is the plan, nothing overlaps, and equal plans give equal pictures."""

import os
import re
import subprocess
import sys
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from firmplan import ConfigError, Plan, tool
from firmplan.plans.render.layout import GAP, LINE_GAP, Box, Edge, layout_of
from firmplan.plans.render.picture import picture_of
from firmplan.plans.render.text import Rails
from firmplan.plans.render.width import columns, cut, wrapped
from hypothesis import given
from hypothesis import strategies as st


@tool(effect="read")
def weather(city: str) -> dict[str, float]:
    """Tell the weather."""
    raise NotImplementedError


@tool(effect="read")
def geocode(name: str) -> list[float]:
    """Find a place."""
    raise NotImplementedError


@tool(effect="write")
def send_mail(to: str, body: str) -> str:
    """Send a mail."""
    raise NotImplementedError


TOOLS = [weather, geocode, send_mail]
RAW = {
    "firmplan": 1,
    "task": "Compare two cities' weather",
    "inputs": {"a": {"type": "string"}, "b": {"type": "string", "default": "Oslo"}},
    "steps": [
        {"id": "wa", "tool": "weather", "args": {"city": "${inputs.a}"}},
        {"id": "wb", "tool": "weather", "args": {"city": "${inputs.b}"}},
        {"id": "warmer", "set": "${inputs.a if wa.celsius >= wb.celsius else inputs.b}"},
        {"id": "note", "ask": {"prompt": "One sentence about ${warmer}."}},
        {"id": "spots", "tool": "geocode", "for_each": "${note.places}", "args": {"name": "${item}"}},
        {
            "id": "mail",
            "tool": "send_mail",
            "when": "${warmer == inputs.a}",
            "after": ["spots"],
            "args": {"to": "me@example.org", "body": "Hi! ${note}"},
        },
    ],
    "output": "${note}",
}
plan = Plan.model_validate(RAW)


@pytest.mark.parametrize("width", [10, 40, 60, 80, 100, 200])
def test_text_is_as_wide_as_wanted(width):
    """No line is longer than the terminal that it is for, and nothing is cut where there is room; 40 columns have to be there."""
    text = Plan.model_validate(RAW).render("text", TOOLS, width=width)
    assert max(map(columns, text.splitlines())) <= max(width, 40)
    assert ("…" in text) == (width < 80)


def test_text_reads_as_a_graph():
    """Stages, rails, effects, conditions: the whole picture."""
    assert (
        plan.render("text", TOOLS)
        == """\
Compare two cities' weather
inputs  a: string, b: string = "Oslo"

1 ●    wa      read   weather(city=inputs.a)
  │ ●  wb      read   weather(city=inputs.b)
2 ●─╯  warmer  set    inputs.a if wa.celsius >= wb.celsius else inputs.b
  │
3 ●    note    model  ask "One sentence about ${warmer}."
  │
4 ●    spots   read   geocode(name=item)
  │                   for each note.places
5 ◇    mail    write  send_mail(to="me@example.org", body="Hi! ${note}")
                      when warmer == inputs.a
                      after spots

output  note

◆ changes the world   ○ may be skipped"""
    )


def test_text_is_the_default_and_needs_no_tools():
    """Without a toolset, a step says what it is instead of what it does to the world."""
    assert plan.render() == plan.render("text")
    assert "wa      tool   weather(city=inputs.a)" in plan.render()


def test_inner_plans_are_drawn_too():
    outer = Plan.model_validate({
        "firmplan": 1,
        "plans": {"p": {
            "inputs": {"n": {"type": "integer"}},
            "steps": [{"id": "mail", "tool": "send_mail", "args": {"to": "x", "body": "${inputs.n}"}}],
            "output": "${mail}",
        }},
        "steps": [{"id": "a", "plan": "p", "args": {"n": 1}}],
        "output": "${a}",
    })  # fmt: skip
    text = outer.render("text", TOOLS)
    assert "1 ◆  a  write  plan p(n=1)" in text
    assert 'plan p(n: integer)\n  1 ◆  mail  write  send_mail(to="x", body=inputs.n)\n  output  mail' in text
    assert 'subgraph p0["plan p(n: integer)"]' in outer.render("mermaid", TOOLS)
    assert ">plan p<" in outer.render("svg", TOOLS)


@st.composite
def graphs(draw):
    """Waits of up to 12 steps, each for earlier ones."""
    count = draw(st.integers(1, 12))
    return [sorted(draw(st.sets(st.integers(0, at - 1), max_size=3))) if at else [] for at in range(count)]


def plan_of(waits) -> Plan:
    steps = [
        {"id": f"s{at}", "set": [f"${{s{other}}}" for other in others]} for at, others in enumerate(waits)
    ]
    return Plan.model_validate({"firmplan": 1, "steps": steps, "output": f"${{s{len(waits) - 1}}}"})


def read_rails(rows) -> set[tuple[int, int]]:
    """Follow the lines of drawn rails, as an eye would: (from, to) for each connection."""
    owners: dict[int, int] = {}
    found: set[tuple[int, int]] = set()
    for step, row in rows:
        at = row.at.ljust(80)
        mark = at.index("●")
        if mark in owners:
            found.add((owners[mark], step))
        for way in (-1, 1):
            column = mark
            while at[column + way] == "─":
                column += 2 * way
                if at[column] in "├┤┼┴╰╯":
                    found.add((owners[column], step))
        after = row.below.ljust(80)
        owners = {
            column: step if column == mark else owners[column]
            for column in range(0, 80, 2)
            if after[column] == "│"
        }
    return found


@given(graphs())
def test_rails_connect_what_waits_and_nothing_else(waits):
    """Whoever follows the lines finds every direct wait, and no other."""
    rails = Rails([sum(at in others for others in waits) for at in range(len(waits))])
    rows = [(at, rails.row(at, others, "●", has_more_lines=True)) for at, others in enumerate(waits)]
    assert read_rails(rows) == {(other, at) for at, others in enumerate(waits) for other in others}


@given(graphs())
def test_what_is_left_out_follows_from_what_is_drawn(waits):
    """Direct waits reach all that a step waits for, and none of them reaches another."""
    nodes = picture_of(plan_of(waits)).nodes

    def reach(at, direct):
        return {other for way in direct(at) for other in {way, *reach(way, direct)}}

    for at in range(len(nodes)):
        assert reach(at, lambda step: nodes[step].direct) == reach(at, lambda step: waits[step])
        for other in nodes[at].direct:
            assert all(other not in reach(way, lambda step: waits[step]) for way in nodes[at].direct)


@given(graphs(), st.randoms(use_true_random=False))
def test_nothing_overlaps(waits, random):
    """Boxes of a layer keep their distance from each other and from the lines that pass between them."""
    nodes = picture_of(plan_of(waits)).nodes
    boxes = [Box(random.uniform(10, 300), random.uniform(10, 90), node.stage - 1) for node in nodes]
    lines = [
        Edge(other, at, random.choice([0.1, 1, 3])) for at, others in enumerate(waits) for other in others
    ]
    layout = layout_of(boxes, lines)
    widths = [box.width for box in boxes] + [0.0] * (len(layout.x) - len(boxes))
    assert sorted(vertex for layer in layout.layers for vertex in layer) == list(range(len(layout.x)))
    for layer in layout.layers:
        for left, right in pairwise(layer):
            gap = GAP if max(left, right) < len(boxes) else LINE_GAP
            assert layout.x[right] - layout.x[left] >= (widths[left] + widths[right]) / 2 + gap - 1e-6
    for line, bends in zip(lines, layout.bends, strict=True):
        assert len(bends) == boxes[line.end].layer - boxes[line.start].layer - 1


def rectangles(svg: str, kind: str):
    """Yield each rectangle of a class with its place in the picture."""

    def walk(element, x, y):
        if move := re.match(r"translate\((\S+) (\S+)\)", element.get("transform", "")):
            x, y = x + float(move[1]), y + float(move[2])
        if element.tag.endswith("rect") and kind in element.get("class", "").split():
            left, top, width, height = (float(element.get(name, 0)) for name in ("x", "y", "width", "height"))
            yield x + left, y + top, width, height
        for part in element:
            yield from walk(part, x, y)

    yield from walk(ET.fromstring(svg), 0.0, 0.0)


@given(graphs())
def test_the_svg_is_well_formed_and_everything_is_inside(waits):
    svg = plan_of(waits).render("svg")
    (ground,) = rectangles(svg, "ground")
    cards = list(rectangles(svg, "card"))
    assert len(cards) == len(waits)
    for left, top, width, height in cards:
        assert left > 0
        assert top > 0
        assert left + width < ground[2]
        assert top + height < ground[3]
    for number, one in enumerate(cards):
        for other in cards[number + 1 :]:
            apart = any(
                one[axis] + one[axis + 2] <= other[axis] or other[axis] + other[axis + 2] <= one[axis]
                for axis in (0, 1)
            )
            assert apart, (one, other)


def test_the_svg_says_what_the_plan_says_on_light_and_dark_screens():
    svg = plan.render("svg", TOOLS)
    assert "prefers-color-scheme: dark" in svg
    said = [text for text in ET.fromstring(svg).itertext() if text.strip()]
    for expected in (
        "wa",
        "read",
        "model",
        "write",
        "for each",
        "when",
        "note.places",
        "Compare two cities' weather",
    ):
        assert any(expected in text for text in said), expected
    assert len(list(rectangles(svg, "conditional"))) == 1
    assert len(list(rectangles(svg, "read"))) == 5 + 3 + 3, (
        "three cards, two behind one of them, three bars and three pills"
    )


HOSTILE = '</text><script>alert("x")</script> & `a` #quot; ]] "\n\t\x00\x1b[31m \u202e 漢字 ${w}'


def test_hostile_text_stays_text():
    """Markup, quotes, control characters and line breaks of a plan break no format."""
    hostile = Plan.model_validate({
        "firmplan": 1,
        "task": HOSTILE,
        "inputs": {HOSTILE: {"type": "string", "default": HOSTILE}},
        "steps": [
            {"id": HOSTILE, "tool": HOSTILE, "args": {HOSTILE: HOSTILE}, "when": HOSTILE},
            {"id": "end", "set": HOSTILE, "for_each": [HOSTILE]},
        ],
        "output": {"x": HOSTILE},
    })  # fmt: skip
    root = ET.fromstring(hostile.render("svg"))
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    for line in hostile.render("mermaid").splitlines():
        assert MERMAID.fullmatch(line), line
    text = hostile.render("text")
    assert "\x1b" not in text
    assert "\x00" not in text
    assert all(columns(line) <= 130 for line in text.splitlines())


MERMAID = re.compile(
    r"""flowchart\ TD
    |\s+subgraph\ \w+\["[^"<>`]*"\]
    |\s+end
    |\s+\w+(?:\["[^"`]*"\]|\[\["[^"`]*"\]\]|\(\["[^"`]*"\]\)):::\w+
    |\s+\w+\ (?:-->|-\.->)\ \w+
    |\s+classDef\ \w+\ [\w:#,\-\ ]+
    |\s+class\ [\w,]+\ \w+
    |\s+linkStyle\ [\d,]+\ stroke-width:3px""",
    re.VERBOSE,
)


def test_mermaid_is_of_its_grammar():
    """Every line is one that Mermaid knows; names are ours, since `end` and the like are words of Mermaid."""
    chart = plan.render("mermaid", TOOLS)
    for line in chart.splitlines():
        assert MERMAID.fullmatch(line), line
    assert '  s0["<b>wa</b><br/>weather(city=inputs.a)"]:::read' in chart
    assert "  s4 -.-> s5" in chart
    assert '  s4[["<b>spots</b><br/>geocode(name=item)<br/>for each note.places"]]:::read' in chart
    assert "  class s5 conditional" in chart


def test_plans_with_faults_have_pictures():
    """Circles, unknown names, double ids and broken expressions are drawn as far as they go."""
    faulty = Plan.model_validate({
        "firmplan": 1,
        "steps": [
            {"id": "a", "set": "${b + nope}"},
            {"id": "b", "set": "${a + b}", "after": ["b", "zzz"]},
            {"id": "a", "set": "${1 +}"},
            {"id": "c", "plan": "nowhere"},
        ],
        "output": "${nope}",
    })  # fmt: skip
    for form in ("text", "mermaid", "svg"):
        assert faulty.render(form)
    assert Plan.model_validate({"firmplan": 1, "steps": []}).render("text") == ""
    assert ET.fromstring(Plan.model_validate({"firmplan": 1, "steps": []}).render("svg")) is not None


def test_unknown_formats_are_refused():
    with pytest.raises(ConfigError, match="text, mermaid, svg"):
        plan.render("png")


def test_wide_and_long_plans_name_what_steps_wait_for():
    """Where rails could not be followed, names stand."""
    steps = [{"id": f"s{at}", "set": at} for at in range(30)]
    wide = {"firmplan": 1, "steps": [*steps, {"id": "end", "set": [f"${{s{at}}}" for at in range(30)]}]}
    text = Plan.model_validate(wide).render("text")
    assert "│" not in text
    assert "<- s0, s1, s2" in text
    assert all(columns(line) <= 100 for line in text.splitlines())


def test_a_picture_has_a_limit_and_says_so():
    many = Plan.model_validate({"firmplan": 1, "steps": [{"id": f"s{at}", "set": at} for at in range(2_001)]})
    with pytest.raises(ConfigError, match="at most 2000 steps"):
        many.render("svg")
    assert len(many.render("text").splitlines()) == 2_001


def test_equal_plans_give_equal_pictures_in_every_process():
    code = (
        "import json, sys; from firmplan import Plan; plan = Plan.model_validate(json.loads(sys.stdin.read()));"
        "print([plan.render(form) for form in ('text', 'mermaid', 'svg')])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            input=plan.to_json(),
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


@given(st.text(alphabet="ab, é漢\u0301", max_size=60), st.integers(2, 20), st.integers(1, 4))
def test_text_fits_its_columns(text, width, lines_max):
    """Cut and wrapped text is never wider than asked, and loses nothing but spaces where it fits."""
    assert columns(cut(text, width)) <= width
    lines = wrapped(text, width, lines_max)
    assert len(lines) <= lines_max
    assert all(columns(line) <= width for line in lines)
    if len(wrapped(text, width, 1_000)) <= lines_max:
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
