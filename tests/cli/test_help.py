"""The help of every command: an example that can be typed, and the options that the contract promises."""

from __future__ import annotations

import shlex
from importlib import import_module

import pytest
import typer
from firmplan.cli.app import COMMANDS as BY_MODULE
from firmplan.cli.app import app
from typer.main import get_command, get_group

ROOT = get_command(app)
# The contract's, section 4.
PROMISED = {
    *(
        "run",
        "plan",
        "check",
        "show",
        "replay",
        "verify",
        "fork",
        "diff",
        "bisect",
        "explain",
        "shadow",
        "record",
    ),
    *(
        "runs",
        "plans save",
        "plans show",
        "plans list",
        "plans learn",
        "approve",
        "deny",
        "resolve",
        "cancel",
    ),
    *("resume", "export", "cache stats", "cache gc", "cache clear", "tools list", "tools lint", "eval"),
    *("serve", "demo", "doctor", "store check", "store backup", "store upgrade"),
}
WITHOUT_JSON = {"serve", "worker", "mcp", "demo", "traffic"}
WITHOUT_STORE = {
    "completion",
    "demo",
    "learn",
    "traffic",
    "eval",
    "tools",
    "tools list",
    "tools lint",
    "tools login",
    "tools logout",
}


def commands(group=ROOT, above=""):
    """Yield path and command, groups included."""
    for name, command in group.commands.items():
        yield f"{above}{name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{above}{name} ")


COMMANDS = dict(commands())
CALLED = {path: each for path, each in COMMANDS.items() if getattr(each, "invoke_without_command", True)}
"""Those that do something; a group such as `artifacts` only lists its commands."""


@pytest.mark.parametrize("module", BY_MODULE)
def test_a_command_line_finds_every_command_of_a_module(module):
    """The table of commands, by which one module is imported for a command line, names all that the module declares."""
    part = typer.Typer()
    part.add_typer(import_module(f"firmplan.cli.commands.{module}").commands.app)
    assert tuple(get_group(part).commands) == tuple(BY_MODULE[module])


def test_every_promised_command_is_there():
    assert set(COMMANDS) >= PROMISED


@pytest.mark.parametrize("path", CALLED)
def test_every_help_ends_with_an_example_that_parses(firmplan, path):
    """The example stands in the help, and is a line that the command takes."""
    text = firmplan(*path.split(), "--help").out
    example = text.rpartition("\n  Example:\n    ")[2]
    assert example.startswith(f"firmplan {path}")
    words = shlex.split(example.replace("\\\n", ""))[1 + len(path.split()) :]
    context = COMMANDS[path].make_context(path, words)
    assert context.params


@pytest.mark.parametrize("path", CALLED)
def test_every_command_takes_json_and_store(path):
    """`--json` and `--store` are options of all that answer, and of all that use a store."""
    options = {option for parameter in COMMANDS[path].params for option in parameter.opts}
    assert ("--json" in options) == (path not in WITHOUT_JSON)
    assert ("--store" in options) == (path not in WITHOUT_STORE)


@pytest.mark.parametrize(
    "group", ["", *(path for path, command in COMMANDS.items() if hasattr(command, "commands"))]
)
def test_every_list_of_commands_says_what_they_do_in_a_line(firmplan, monkeypatch, group):
    """On the usual terminal of 80 columns no sentence is cut off."""
    monkeypatch.setenv("COLUMNS", "80")
    told = firmplan(*group.split(), "--help").out
    listed = told.partition("Commands:")[2]
    assert listed
    assert [line for line in listed.splitlines() if line.endswith("...")] == []


def test_an_option_before_its_command_is_told_where_it_belongs(firmplan):
    """A slip that everyone makes once."""
    answer = firmplan("--tools", "tools.py", "check", "plan.json")
    assert answer.code == 2
    assert "come after it: firmplan COMMAND --tools .." in answer.err
    assert "come after it" not in firmplan("check", "--tolls", "tools.py", "plan.json").err


def test_options_of_a_group_hold_for_its_commands(firmplan, home):
    """`plans --store S list` is `plans list --store S`; the command's own option wins."""
    firmplan("plans", "save", "adder", "plan.json", "-t", "tools.py", "--store", "kept.db")
    listed = firmplan("plans", "--store", "kept.db", "--json", "list")
    assert [plan["name"] for plan in listed.document["plans"]] == ["adder"]
    assert firmplan("plans", "--store", "other.db", "list", "--store", "kept.db").out
    assert "add" in firmplan("tools", "--tools", "tools.py", "list").out
    assert firmplan("cache", "--json", "--store", "kept.db", "stats").document["results"] == 0
    assert not (home / "firmplan.db").exists()


def test_lint_without_tools_says_what_to_do(firmplan):
    """As `tools` and `check` do."""
    for command in (("tools",), ("tools", "lint")):
        answer = firmplan(*command)
        assert answer.code == 0
        assert "name them with --tools, FIRMPLAN_TOOLS or firmplan.toml" in answer.err
    assert firmplan("tools", "lint", "--json").document == {"tools": [], "remarks": []}
