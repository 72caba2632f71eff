"""Runs with the functions of version 2 of expressions: outputs, replays, failures, and the labels of untrusted data."""

from __future__ import annotations

from firmplan import Engine, check, tool

EVENTS = [
    {"who": "ann", "start": "2026-03-28T23:00:00+01:00", "hours": 11, "note": "room #12"},
    {"who": "bob", "start": "2026-03-29T10:00:00+02:00", "hours": 2, "note": "no room"},
    {"who": "ann", "start": "2026-03-02T09:00:00Z", "hours": 1.5, "note": "room #7"},
]
EVENT = {
    "type": "object",
    "properties": {"who": {"type": "string"}, "start": {"type": "string", "format": "date-time"}, "hours": {"type": "number"}, "note": {"type": "string"}},
    "required": ["who", "start", "hours", "note"],
}  # fmt: skip
PLAN = {
    "firmplan": 1,
    "inputs": {"events": {"type": "array", "items": EVENT}, "today": {"type": "string", "format": "date"}},
    "steps": [
        {"id": "due", "set": "${date(inputs.today) + timedelta(days=30)}"},
        {"id": "left", "set": "${(date(due) - date(inputs.today)).days}"},
        {"id": "ends", "set": "${datetime(item.start) + timedelta(hours=item.hours)}", "for_each": "${inputs.events}"},
        {"id": "local", "set": "${[datetime(end, 'Europe/Rome').strftime('%a %d %b, %H:%M') for end in ends]}"},
        {"id": "next", "set": "${min(inputs.events, key=lambda e: (datetime(e.start), e.who)).who}"},
        {"id": "rooms", "set": "${[first(search(r'#(?P<n>[0-9]+)', e.note).n, 'none') for e in inputs.events]}"},
        {"id": "people", "set": "${count_by(inputs.events, key=lambda e: e.who)}"},
        {"id": "days", "set": "${group_by(inputs.events, key=lambda e: date(e.start))}"},
        {"id": "total", "set": "${format(sum(e.hours for e in inputs.events), '.1f')} hours until ${date(due).strftime('%d.%m.%Y')}"},
    ],
    "output": {
        "due": "${due}", "left": "${left}", "local": "${local}", "next": "${next}", "rooms": "${rooms}", "people": "${people}",
        "days": "${keys(days)}", "total": "${total}", "nobody": "${get(people, 'zoe', 0)}",
    },
}  # fmt: skip
OUTPUT = {
    "due": "2026-03-31",
    "left": 30,
    "local": ["Sun 29 Mar, 11:00", "Sun 29 Mar, 12:00", "Mon 02 Mar, 11:30"],
    "next": "ann",
    "rooms": ["12", "none", "7"],
    "people": {"ann": 2, "bob": 1},
    "days": ["2026-03-02", "2026-03-28", "2026-03-29"],
    "total": "14.5 hours until 31.03.2026",
    "nobody": 0,
}


def test_a_plan_that_computes_with_dates_runs_and_replays(tmp_path):
    """Values between steps are ISO text, and a replay from a bundle computes the same."""
    report = check(PLAN)
    assert (report.ok, [str(problem) for problem in report.problems]) == (True, [])
    with Engine([], store=tmp_path / "s.db") as engine:
        run = engine.run_sync(PLAN, inputs={"events": EVENTS, "today": "2026-03-01"})
        assert (run.output, list(run.errors)) == (OUTPUT, [])
        assert run.steps["ends[1]"].output == "2026-03-29T12:00:00+02:00"
        engine.export_sync(run.id, tmp_path / "run.bundle")
    with Engine([], store="memory:") as engine:
        assert engine.replay_sync(str(tmp_path / "run.bundle")).digest == run.digest


def test_a_date_that_cannot_be_read_fails_its_step_and_replays(tmp_path):
    """The message says what was expected and found, and is the same in the replay."""
    with Engine([], store=tmp_path / "s.db") as engine:
        run = engine.run_sync(
            PLAN, inputs={"events": [{**EVENTS[0], "start": "next Tuesday"}], "today": "2026-03-01"}
        )
        assert run.status == "failed"
        assert any(
            "'next Tuesday' is no date or time; expected ISO text" in error.message for error in run.errors
        )
        assert engine.replay_sync(run.id).digest == run.digest


@tool(effect="read", trust="untrusted")
def fetch() -> str:
    """Fetch a page."""
    return "2026-01-31 #7"


@tool(effect="write", version=1)
def pay(to: str) -> None:
    """Pay."""


FLOWS = [
    "${str(date(page[:10]) + timedelta(days=1))}",
    "${str(timedelta(days=len(page)))}",
    "${datetime('2026-01-31T00:00Z', page).isoformat()}",
    "${date('2026-01-31').strftime(page)}",
    "${format(7, page)}",
    "${format(page, '>20')}",
    "${first(search('#(?P<n>.)', page).n, '')}",
    "${first(search(page, 'ab').text, '')}",
    "${join(findall('[0-9]', page))}",
    "${keys(group_by(['a', 'b'], key=lambda x: x + page))[0]}",
    "${str(count_by(['a', 'b'], key=lambda x: x == page))}",
    "${unique_by(['a', 'b'], key=lambda x: x == page)[0]}",
    "${sorted(['a', 'b'], key=lambda x: (page == x, x))[0]}",
    "${min(['a', 'b'], key=lambda x: [len(page), x])}",
    "${str(get({'a': 1}, page, 0))}",
    "${get({'a': 'b'}, 'a', page)}",
]


def test_untrusted_data_keeps_its_label_in_every_argument_and_key():
    """As an argument, as a pattern, a form, a zone or a path, and in the lambda of a key: the result is untrusted."""
    for argument in FLOWS:
        plan = {
            "firmplan": 1,
            "steps": [
                {"id": "page", "tool": "fetch"},
                {"id": "paid", "tool": "pay", "args": {"to": argument}},
            ],
        }
        report = check(plan, [fetch, pay])
        errors = [problem.code for problem in report.problems if problem.severity == "error"]
        assert errors == ["unsafe-flow"], (argument, [str(problem) for problem in report.problems])
