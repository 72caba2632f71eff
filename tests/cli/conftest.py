"""The command line as a person uses it: words in, exit code, stdout and stderr out, in a folder of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from firmplan.cli.app import app
from typer.main import get_command

TOOLS = '''
from typing import Any

from firmplan import Context, tool


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@tool(effect="pure")
def half(n: int) -> int:
    """Halve an even number."""
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n // 2


@tool(effect="pure")
def lie(n: int) -> int:
    """Return what the annotation forbids."""
    return f"{n}"


@tool(effect="pure")
def dust(n: int) -> float:
    """Return no number."""
    return float("nan")


@tool(effect="pure", version="1")
def thing(n: int) -> Any:
    """Return what is no JSON."""
    return {1, 2} if n else object


@tool(effect="write", approval="always", resource="mail")
def send(to: str, *, ctx: Context) -> str:
    """Send a mail."""
    return f"sent to {to}"
'''
PLAN = {
    "firmplan": 1,
    "task": "Add {a} and {b}",
    "inputs": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 2}},
    "steps": [{"id": "total", "tool": "add", "args": {"a": "${inputs.a}", "b": "${inputs.b}"}}],
    "output": "${total}",
}
COMMAND = get_command(app)  # typer makes the parser of a command when the command is first used
SETTINGS = ("SERVER", "API_KEY", "TOOLS", "STORE", "MODEL", "BASE_URL", "CONCURRENCY", "FLOW", "API_KEYS")


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self):
        return json.loads(self.out)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with tools and a plan, in which commands run; no settings from outside."""
    monkeypatch.chdir(tmp_path)
    for name in SETTINGS:
        monkeypatch.delenv(f"FIRMPLAN_{name}", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "tools.py").write_text(TOOLS)
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    return tmp_path


@pytest.fixture
def firmplan(home, capsys):
    """Run one command line in `home`."""

    def run(*words):
        code = COMMAND.main([str(word) for word in words], standalone_mode=False)
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return run


@pytest.fixture
def plan_file(home):
    """Write a plan and return its path."""

    def write(name="other.json", **changes):
        path = home / name
        path.write_text(json.dumps({**PLAN, **changes}))
        return path

    return write
