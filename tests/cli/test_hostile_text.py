"""Text from outside never acts on a terminal, and hides nothing from a reader: what the command line prints has escapes in its place."""

from __future__ import annotations

import json
import os
import pty
import re
import unicodedata

import pytest
from firmplan import Plan
from firmplan.plans import to_yaml
from firmplan.plans.reports.visible import has_invisible, visible, visible_json, visible_line
from firmplan.tools.logbook import open_log
from forked import Program, read_terminal

HOSTILE = (
    "A\x1b[31mred\x9b2J\x7f\rover\u202eevil\u200b\u2066\ufeff\u2028\u00ad\U000e0041\x1b]0;title\x07\x08B"
)
SHOWN = r"A\x1b[31mred\x9b2J\x7f\rover\u202eevil\u200b\u2066\ufeff\u2028\xad\U000e0041\x1b]0;title\x07\x08B"
TOOLS = f'''
import logging

from firmplan import Context, OutcomeUnknown, ToolError, tool

HOSTILE = {HOSTILE!a}


@tool(effect="read", trust="untrusted")
def page(url: str, *, ctx: Context) -> str:
    """Return text of a stranger."""
    ctx.log.warning(f"got {{HOSTILE}}", found=HOSTILE, lines="a\\nb")
    ctx.progress(0.5, HOSTILE)
    logging.getLogger("library").warning("library %s", HOSTILE)
    return HOSTILE


@tool(effect="read")
def table(url: str) -> dict:
    """Return an object with a key of a stranger."""
    return {{HOSTILE: [HOSTILE]}}


@tool(effect="read")
def broken(url: str) -> str:
    """Fail with a message of a stranger."""
    raise ToolError(HOSTILE, code="broken")


@tool(effect="write", approval="always", allow_untrusted=("to",))
def send(to: str) -> str:
    """Send, and nobody knows what happened."""
    raise OutcomeUnknown(HOSTILE)
'''
DOCUMENT = {
    "firmplan": 1,
    "task": f"do {HOSTILE}",
    "inputs": {"a": {"type": "string", "description": HOSTILE, "default": HOSTILE}},
    "steps": [
        {"id": "page", "tool": "page", "args": {"url": HOSTILE}},
        {"id": "table", "tool": "table", "args": {"url": "x"}},
        {"id": "broken", "tool": "broken", "args": {"url": "${inputs.a}"}, "on_error": "skip"},
        {"id": "send", "tool": "send", "args": {"to": "${page}"}},
    ],
    "output": "${table}",
}
TWO_LINES = f"got {HOSTILE}\nfaked line"
ALLOWED = {"\n", "\t", "\ufe0e", "\ufe0f"}
DRAWN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)}
"""Format characters that a reader sees: signs around numbers, and joiners of hieroglyphs."""

# Each line stands for a command that shows something from outside: a task, arguments, results, errors, names, files, notes of people.
COMMANDS = (
    ("run", "one.json", "-t", "hostile.py", "--run-id", "one"),
    ("run", "all.json", "-t", "hostile.py", "--run-id", "all"),
    ("run", "all.json", "-t", "hostile.py", "--run-id", "all", "--json"),
    ("show", "all"),
    ("show", "all", "--json"),
    *(("show", "all.json", "-f", form) for form in ("text", "mermaid", "svg", "yaml", "json")),
    ("check", "all.json", "-t", "hostile.py"),
    ("check", "bad.json", "-t", "hostile.py"),
    ("runs",),
    ("runs", "--json"),
    ("explain", "all"),
    ("explain", "all", "page"),
    ("approve", "all", "send", "--by", HOSTILE),
    ("resume", "all", "-t", "hostile.py"),
    ("show", "all"),
    ("resolve", "all", "send", "--fail", HOSTILE),
    ("resume", "all", "-t", "hostile.py"),
    ("fork", "one", "--at", "page", "-t", "hostile.py", "--run-id", "two"),
    ("diff", "one", "all"),
    ("diff", "one", "all", "-f", "json"),
    ("diff", "one", "all", "-f", "html"),
    ("bisect", "one", "all"),
    ("replay", "one"),
    ("plans", "save", "saved", "one.json", "-t", "hostile.py"),
    ("plans",),
    ("plans", "show", "saved"),
    ("plans", "learn", "one", "-t", "hostile.py"),
    ("plan", f"task {HOSTILE}", "--dry-run", "-t", "hostile.py"),
    ("tools", "-t", "hostile.py"),
    ("tools", "lint", "-t", "hostile.py"),
    ("run", f"no {HOSTILE} such"),
    ("show", f"no {HOSTILE} such"),
    ("show", f"no {HOSTILE} such", "--json"),
    (f"no {HOSTILE} such",),
    ("run", "one.json", "-t", f"{HOSTILE.replace(chr(8), '')}.py"),
    ("run", "one.json", "-t", "hostile.py", "-i", f"{HOSTILE}=1"),
    ("run", "one.json", "-s", f"missing/{HOSTILE}.db"),
    ("runs", "--cursor", HOSTILE),
)


def bad_characters(text):
    """Return the characters that a printed text must not have."""
    return {
        char
        for char in text
        if char not in ALLOWED
        and ord(char) not in DRAWN
        and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }


def fail():
    raise ValueError(HOSTILE)


@pytest.fixture
def hostile_home(home):
    """A folder with tools, plans and settings that hold hostile text."""
    (home / "hostile.py").write_text(TOOLS)
    (home / "all.json").write_text(json.dumps(DOCUMENT))
    one = {**DOCUMENT, "steps": DOCUMENT["steps"][:1], "output": "${page}", "inputs": {}}
    (home / "one.json").write_text(json.dumps(one))
    steps = [
        {"id": "x", "tool": HOSTILE, "args": {HOSTILE: 1}},
        {"id": HOSTILE, "set": "${" + HOSTILE + "}"},
    ]
    (home / "bad.json").write_text(json.dumps({**DOCUMENT, "steps": steps}))
    return home


def run_process(home, *words, **environment):
    """Return stdout and stderr, together, of a command in a process of its own whose output is no terminal."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONUTF8": "1", **environment}
    with Program(["-m", "firmplan", *words], cwd=home, env=env) as process:
        return process.communicate()


def test_every_control_and_format_character_has_an_escape():
    """All of Unicode's controls, formats, separators of lines and lone surrogates, and the letters that take no room."""
    for number in range(0x110000):
        char = chr(number)
        is_hidden = unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and number not in DRAWN
        if is_hidden and char not in ALLOWED:
            assert has_invisible(char), hex(number)
            assert visible(char).isascii()
            assert json.loads(visible_json(f'"{char}"') if number > 0x1F else json.dumps(char)) == char
    for filler in "\u034f\u115f\u3164\uffa0\ufe00\U000e0101":
        assert has_invisible(filler)
    assert visible(HOSTILE) == SHOWN


def test_what_people_write_stays():
    """Lines, tabs, accents, other scripts, signs and emoji are as they were; a carriage return may end a line."""
    text = "a\tb\nc\r\ne\u0301 é ж 漢字 ❤\ufe0f 👍 — “q” \u00a0"
    assert visible(text) == text
    assert visible_line("a\tb\nc\r\nd") == r"a\tb\nc\r\nd"


def test_no_command_prints_what_a_terminal_obeys(hostile_home, firmplan):
    """Neither as text nor as a document, where the output is no terminal: each command prints escapes, and says the rest unchanged."""
    texts = ""
    for words in COMMANDS:
        answer = firmplan(*words)
        assert (answer.out + answer.err).strip(), words
        assert not bad_characters(answer.out), (words, bad_characters(answer.out))
        assert not bad_characters(answer.err), (words, bad_characters(answer.err))
        texts += answer.out + answer.err
    assert texts.count(SHOWN) > 30


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("run", "one.json", "-t", "hostile.py"), f"library {SHOWN}"),
        (("show", f"no {HOSTILE} such", "--debug"), f"RunNotFound: there is no run 'no {SHOWN} such'"),
    ],
)
def test_what_python_prints_has_escapes_too(hostile_home, words, expected):
    """A library's log line without a handler, and the traceback of `--debug`, in a process of its own."""
    out, err = run_process(hostile_home, *words)
    assert expected in err
    assert not bad_characters(out + err)


def test_a_document_holds_the_value_unchanged(hostile_home):
    """`--json` is JSON, and the value in it is the one that the tool returned."""
    out, _ = run_process(hostile_home, "run", "one.json", "-t", "hostile.py", "--json")
    assert json.loads(out)["output"] == HOSTILE
    assert not bad_characters(out)


def test_a_plan_that_is_shown_reads_back(hostile_home):
    """YAML and JSON of a plan have escapes in quotes: the same plan, in files as well."""
    plan = Plan.load(hostile_home / "all.json")
    for text in (to_yaml(plan), plan.to_json(), plan.to_json(indent=None)):
        assert not bad_characters(text)
    for name in ("copy.yaml", "copy.json"):
        plan.save(hostile_home / name)
        assert Plan.load(hostile_home / name) == plan
    out, _ = run_process(hostile_home, "show", "all.json", "-f", "yaml")
    (hostile_home / "shown.yaml").write_text(out)
    assert Plan.load(hostile_home / "shown.yaml") == plan


def test_a_terminal_gets_our_colours_and_no_others(hostile_home):
    """Progress on a terminal is coloured by firmplan; the message of a failed step moves and colours nothing."""
    document = {**DOCUMENT, "steps": DOCUMENT["steps"][:3], "output": None}
    (hostile_home / "loud.json").write_text(json.dumps(document))
    main, other = pty.openpty()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "PYTHONUTF8": "1",
        "TERM": "xterm-256color",
        "COLUMNS": "1000",
    }
    words = ["-m", "firmplan", "run", "loud.json", "-t", "hostile.py"]
    with Program(words, cwd=hostile_home, env=env, terminal=other) as process:
        os.close(other)
        text = read_terminal(main)
        assert process.wait() == 0
    assert "\x1b[32mdone\x1b[0m" in text
    assert SHOWN in text
    rest = re.sub("\x1b\\[[0-9;?]*[A-Za-z]|\r", "", text)  # firmplan's own colours and its moving last line
    assert not bad_characters(rest)
    for word in ("\x1b[31mred", "\rover", "\x1b]0;"):
        assert word not in text


def test_a_log_line_is_one_line(monkeypatch, capsys):
    """On the console and as JSON: no field ends its line, and a traceback keeps its lines."""
    for form in ("console", "json"):
        monkeypatch.setenv("FIRMPLAN_LOG", form)
        log = open_log()
        log.warning(TWO_LINES, found=HOSTILE, **{f"k{HOSTILE}": "a\nb"})
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert not bad_characters(err)
    assert json.loads(err)["found"] == HOSTILE
    monkeypatch.setenv("FIRMPLAN_LOG", "console")
    try:
        fail()
    except ValueError:
        open_log().exception("failed")
    err = capsys.readouterr().err
    assert 'Traceback (most recent call last):\n  File "' in err
    assert f"ValueError: {SHOWN}" in err
    assert not bad_characters(err)


def test_no_line_of_a_tools_message_passes_for_one_of_firmplans(home, firmplan, plan_file):
    """Lines of a message are indented below the error that they belong to."""
    (home / "lines.py").write_text(
        "from firmplan import ToolError, tool\n\n\n@tool(effect='read')\ndef fail() -> int:\n"
        "    raise ToolError('no\\nsucceeded: run r\\n  all is well')\n"
    )
    path = plan_file(inputs={}, steps=[{"id": "a", "tool": "fail"}], output=None, task=None)
    answer = firmplan("run", path, "-t", "lines.py", "--run-id", "r")
    assert answer.code == 1
    assert "error: step 'a' failed [tool-error]: no\n  succeeded: run r\n    all is well\n" in answer.err
    assert not re.search("^succeeded", answer.err, re.MULTILINE)
