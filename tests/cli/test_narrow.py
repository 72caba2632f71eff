"""On a terminal of 60 columns nothing is broken inside a word, nothing is wider but what cannot be broken, and commands can be copied."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
from collections import Counter

import pytest
from firmplan.cli.app import app
from firmplan.cli.wrapping import table_text, wrapped
from firmplan.plans.render.width import columns
from forked import Program, read_terminal
from typer.main import get_command

WIDTH = 60
TOOLS = '''
from firmplan import OutcomeUnknown, ToolError, tool


@tool(effect="pure")
def add_up_many_numbers(first_number: int, second_number: int, third_number: int = 3) -> int:
    """Add several integers, whichever they are, and return the sum of all of them as one integer."""
    return first_number + second_number + third_number


@tool(effect="read", trust="untrusted")
def page(url: str) -> str:
    """Fetch the text of a page."""
    return "A long text that an author has written for nobody in particular, with many words in it. " * 4


@tool(effect="read")
def broken(url: str) -> str:
    """Fail."""
    raise ToolError("the remote service did not answer in time, although it was asked three times within a minute")


@tool(effect="write", approval="always", allow_untrusted=("text",), resource="mail")
def send_a_letter(recipient: str, text: str) -> str:
    """Send a letter to somebody who may or may not want to read it."""
    raise OutcomeUnknown("the connection was cut while the letter was being sent to the recipient's own server")
'''
PLAN = {
    "firmplan": 1,
    "task": "Add up {many} and then tell the result to everybody who might be interested in hearing about it",
    "inputs": {"many": {"type": "integer"}, "address_of_the_page": {"type": "string", "default": "http://x"}},
    "steps": [
        {
            "id": "the_sum_of_all",
            "tool": "add_up_many_numbers",
            "args": {"first_number": "${inputs.many}", "second_number": 2},
        },
        {"id": "text", "tool": "page", "args": {"url": "${inputs.address_of_the_page}"}},
        {"id": "fails", "tool": "broken", "args": {"url": "x"}, "on_error": "skip"},
        {
            "id": "letter",
            "tool": "send_a_letter",
            "args": {"recipient": "${'room ' + str(the_sum_of_all)}", "text": "${text}"},
        },
    ],
    "output": "${letter}",
    "left_out": ["the part about the weather, because there is no tool that knows anything about it"],
}
FAILING = {
    **PLAN,
    "steps": [{"id": "fails", "tool": "broken", "args": {"url": "x"}}],
    "output": "${fails}",
    "inputs": {},
    "task": "Fail in a way that takes a long time to explain to somebody who has never seen it",
}
FAULTY = {
    "firmplan": 1,
    "steps": [
        {"id": "one", "tool": "add_up_many_number", "args": {"first_number": "x", "nothing_like_it": 3}},
        {"id": "two", "set": "${one.field.of.something + nowhere}"},
    ],
}
STATE = (
    ("run", "plan.json", "-t", "tools.py", "-i", "many=1", "--run-id", "waits"),
    ("run", "failing.json", "-t", "tools.py", "--run-id", "fails"),
    ("run", "plan.json", "-t", "tools.py", "-i", "many=5", "--run-id", "unknown"),
    ("approve", "unknown", "letter", "--by", "ann"),
    ("resume", "unknown", "-t", "tools.py"),
    ("plans", "save", "a-plan-with-a-long-name", "plan.json", "-t", "tools.py"),
)
COMMANDS = (
    ("run", "plan.json", "-t", "tools.py", "-i", "many=2"),
    ("run", "failing.json", "-t", "tools.py"),
    ("run", "faulty.json", "-t", "tools.py"),
    ("run", "plan.json", "-t", "tools.py", "-i", "mony=2"),
    ("run", "no such task can be planned here, since no model is configured in this folder"),
    ("resume", "unknown", "-t", "tools.py"),
    ("resume", "fails", "-t", "tools.py"),
    ("watch", "waits"),
    ("show", "waits"),
    ("show", "fails"),
    ("show", "unknown"),
    ("check", "faulty.json", "-t", "tools.py"),
    ("check", "plan.json", "-t", "tools.py"),
    ("runs",),
    ("runs", "--tree"),
    ("plans",),
    ("plans", "history", "a-plan-with-a-long-name"),
    ("tools", "-t", "tools.py"),
    ("tools", "lint", "-t", "tools.py"),
    ("explain", "waits"),
    ("diff", "waits", "unknown"),
    ("verify", "waits", "-t", "tools.py"),
    ("replay", "fails"),
    ("replay", "waits"),
    ("fork", "waits", "--at", "text", "-t", "tools.py"),
    ("retry", "fails", "-t", "tools.py"),
    ("export", "fails", "-o", "a-bundle-with-a-long-name.bundle"),
    ("artifacts", "list", "waits"),
    ("artifacts", "get", "waits", "nothing", "-o", "x"),
    ("decide", "waits", "letter=nonsense"),
    ("deny", "waits", "the_sum_of_all", "--reason", "because"),
    ("approve", "waits", "letter", "--by", "ann"),
    ("cancel", "fails"),
    ("bisect", "waits", "unknown"),
    ("cache",),
    ("store",),
    ("doctor",),
    ("runs", "prune", "--older", "1d", "--dry-run"),
    ("keys", "list"),
    ("schedules", "list"),
    ("bisect", "one"),
    ("nonsense",),
    ("run", "--nonsense"),
    ("serve", "--server", "http://127.0.0.1:8000"),
    ("runs", "--server", "nonsense"),
)


def environment(**env):
    kept = {name: os.environ[name] for name in ("PATH", "HOME")}
    return {**kept, "PYTHONUTF8": "1", "TERM": "xterm-256color", "PAGER": "cat", **env}


def printed(home, words, width):
    """Return what a command prints on a terminal, without moves and colours; the last line that is drawn again and again is left out."""
    main, other = pty.openpty()
    env = environment(COLUMNS=str(width))
    with Program(["-m", "firmplan", *words], cwd=home, env=env, terminal=other) as child:
        os.close(other)
        text = read_terminal(main)
        child.wait()
    lines = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]
    plain = [re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", line) for line in lines]
    return [line for line in plain if not re.match(r"[\u2800-\u28ff] ", line)]


@pytest.fixture(scope="module")
def narrow_home(tmp_path_factory):
    """A folder with runs that wait, failed, and whose outcome is unknown, with long words everywhere."""
    home = tmp_path_factory.mktemp("narrow")
    (home / "tools.py").write_text(TOOLS)
    for name, plan in (("plan", PLAN), ("failing", FAILING), ("faulty", FAULTY)):
        (home / f"{name}.json").write_text(json.dumps(plan))
    for words in STATE:
        with Program(["-m", "firmplan", *words], cwd=home, env=environment()) as child:
            child.communicate(60)
    return home


def is_unbreakable(line):
    """Whether a line that is too wide is one word, behind the name of a column, a bullet or an indentation."""
    words = re.findall(r"(?:[^\s'\"]|'[^']*'|\"[^\"]*\")+", line)
    return max(map(columns, words), default=0) + len(line) - len(line.lstrip()) + 4 > WIDTH or len(words) == 1


STEADY = [
    words
    for words in COMMANDS
    if words[0] in ("show", "check", "runs", "plans", "tools", "explain", "diff", "replay", "store", "serve")
    or "nonsense" in words
]
"""Commands that print the same each time, but for a picture."""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_line_is_wider_and_no_word_is_broken_or_lost(narrow_home, words):
    """Every word of a wide terminal stands on the narrow one; the names of columns may come again."""
    narrow = printed(narrow_home, words, WIDTH)
    assert any(narrow)
    assert [line for line in narrow if columns(line) > WIDTH and not is_unbreakable(line)] == []
    if words not in STEADY:
        return
    wide = printed(narrow_home, words, 400)
    lost = Counter(word for line in wide for word in plain_words(line))
    lost.subtract(word for line in narrow for word in plain_words(line))
    assert {word for word, count in lost.items() if count > 0} == set()


def plain_words(line):
    """Return the words of a line without the marks of blocks; the arguments of a call have a line of their own only where they fit."""
    if line.startswith("  called with "):
        return []
    return [word.strip(":") for word in line.split() if word not in ("\\", "|", ":")]


def helps(group=None, above=()):
    for name, command in (group or get_command(app)).commands.items():
        yield (*above, name)
        if hasattr(command, "commands"):
            yield from helps(command, (*above, name))


@pytest.mark.parametrize("words", [(), *helps()], ids=" ".join)
def test_every_help_fits(firmplan, monkeypatch, words):
    """Also its example, which can be copied as it stands."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    text = firmplan(*words, "--help").out
    wide = [line for line in text.splitlines() if columns(line) > WIDTH and not is_unbreakable(line)]
    assert wide == []
    if words and "Example:" in text:
        example = text.rpartition("Example:\n")[2]
        assert shlex.split(example.replace("\\\n", ""))[: 1 + len(words)] == ["firmplan", *words]


def test_a_command_is_continued():
    """Its words stay whole, quoted ones too, and a shell reads one command."""
    line = "  firmplan decide run_be40097b6b473dae 'pay[0]=approve it' \"a b\" --by ann --store runs.db"
    told = wrapped(line, 40)
    assert max(map(len, told.split("\n"))) <= 40
    assert shlex.split(told.replace("\\\n", "")) == shlex.split(line)
    assert all(each.endswith(" \\") for each in told.split("\n")[:-1])


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_a_table_keeps_its_words(width):
    head = ("RUN", "STATUS", "TIME", "TASK OR PLAN")
    rows = [
        ("run_be40097b6b473dae", "succeeded", "2026-03-10", "many words of a task that nobody counts"),
        ("r", "", "", ""),
    ]
    told = table_text(head, rows, width)
    for row in rows:
        assert set(" ".join(row).split()) <= set(told.replace(":", " ").split())
    assert all(len(line) <= width or len(line.split()) == 1 for line in told.split("\n"))
    assert table_text(head, rows, None).split("\n")[1].endswith("nobody counts")


def test_what_is_no_terminal_gets_whole_lines(firmplan, home, monkeypatch):
    """A pipe and a file have one line for each row, however wide."""
    monkeypatch.setenv("COLUMNS", "20")
    firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=1", "--run-id", "a-run-with-a-rather-long-name")
    assert len(firmplan("runs").out.splitlines()) == 2
