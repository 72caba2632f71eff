"""The page on settings names what the code reads: settings, flags, variables, defaults."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import firmplan
import pytest
from firmplan import ConfigError, Planner
from firmplan.cli.app import app
from firmplan.cli.config import (
    CONCURRENCY_DEFAULT,
    FILE_NAME,
    STORE_DEFAULT,
    BudgetTable,
    Settings,
    read_settings,
)
from typer.main import get_command

ROOT = Path(firmplan.__file__).parent
PAGE = (ROOT / "docs" / "SETTINGS.md").read_text(encoding="utf-8")
ROOMS = ("cli", "executor", "plans", "planner", "service", "tools", "testing")
INTERNAL = {"FIRMPLAN_WORKER", "FIRMPLAN_LEASE_FD", "FIRMPLAN_COMPLETE"}
"""Variables that firmplan sets for its own processes, and the script of a shell for firmplan."""


def rows(head):
    """Return the cells of a table's rows."""
    lines = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_setting_of_the_file_is_told():
    """The table and the example have all of them, and no others."""
    assert {row[0].strip("`") for row in rows("setting")} == set(Settings.model_fields)
    example = re.search(r"```toml firmplan.toml\n(.*?)```", PAGE, re.DOTALL)[1]
    assert set(tomllib.loads(example)) == set(Settings.model_fields)


def test_the_example_is_read_as_the_page_says(tmp_path):
    """Every value arrives; relative paths are relative to the file; a flag wins over a variable, that over the file."""
    (tmp_path / FILE_NAME).write_text(re.search(r"```toml firmplan.toml\n(.*?)```", PAGE, re.DOTALL)[1])
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    found = read_settings({}, {}, inside)
    assert found.tools == (str(tmp_path / "tools.py"), "my_package.tools")
    assert found.store == str(tmp_path / "runs.db")
    assert (found.model, found.base_url) == ("gpt-5-mini", "http://127.0.0.1:8080/v1")
    assert (found.concurrency, found.flow, set(found.models)) == (64, "enforce", {"fast", "local", "lab"})
    told = {"small_model": "gpt-5-nano", "adapt": True, "choose_over": 20, "max_repairs": 3, "timeout": 60}
    told["profile"] = "full"
    assert found.planner.options() == told
    assert Planner(**found.planner.options())
    env = {"FIRMPLAN_STORE": "env.db", "FIRMPLAN_TOOLS": "a.py, b.py"}
    assert read_settings({}, env, inside).store == "env.db"
    assert read_settings({}, env, inside).tools == ("a.py", "b.py")
    assert read_settings({"store": "flag.db"}, env, inside).store == "flag.db"


def test_flags_and_variables_of_settings_work():
    """Each flag is one of `run`'s or of a worker's, each variable is read, and what the page says of defaults is what holds."""
    commands = [get_command(app).commands[name] for name in ("run", "worker")]
    flags = {flag for command in commands for parameter in command.params for flag in parameter.opts}
    values = {
        "concurrency": "7",
        "slots": "9",
        "flow": "warn",
        "default_trust": "untrusted",
        "results": "learn",
        "park_after": "5",
        "lease": "7.5",
        "telemetry": "off",
        "rate_limits": "process",
        "write_grace": "2.5",
        "drain": "0.5",
        "approval_expires": "24h",
        "budget": "steps=7",
        "budget_max": "usd=7.5",
        "server_budget": "usd=7.5,per=total",
    }
    for name, flag, variable, default in ([*row[:3], row[3]] for row in rows("setting")):
        setting = name.strip("`")
        if flag:
            assert re.search(r"`(--[\w-]+)`", flag)[1] in flags
        if variable:
            env = {re.search(r"`(\w+)`", variable)[1]: values.get(setting, "x")}
            read = getattr(read_settings({}, env, Path("/")), setting)
            if isinstance(read, BudgetTable):
                assert read.amounts() == {"budget": {"steps": 7}, "budget_max": {"usd": 7.5}}[setting]
                continue
            if setting == "server_budget":
                assert (read.usd, read.tokens, read.per) == (7.5, None, "total")
                continue
            assert str(read) == values.get(setting, "x") or read == ("x",)
        assert default
    nothing = read_settings({}, {}, Path("/"))
    assert f"`{STORE_DEFAULT}`" in PAGE
    assert nothing.store == STORE_DEFAULT
    assert f"{CONCURRENCY_DEFAULT} calls in flight" in PAGE
    assert (nothing.concurrency, nothing.flow, nothing.tools) == (CONCURRENCY_DEFAULT, "enforce", ())


def test_an_unknown_name_is_an_error(tmp_path):
    """As the page says, with the nearest name."""
    (tmp_path / FILE_NAME).write_text('stoer = "x.db"\n')
    with pytest.raises(ConfigError, match="did you mean 'store'"):
        read_settings({}, {}, tmp_path)
    for line, words in (
        ("adpat = false", "'planner.adpat'.*did you mean 'adapt'"),
        ("choose_over = -1", "planner.choose_over"),
        ("timeout = 0", "planner.timeout"),
        ('profile = "tiny"', "planner.profile"),
    ):
        (tmp_path / FILE_NAME).write_text(f"[planner]\n{line}\n")
        with pytest.raises(ConfigError, match=words):
            read_settings({}, {}, tmp_path)


def test_the_planners_table_turns_things_off(tmp_path):
    """`false` means that no model chooses tools, or fills in saved plans."""
    (tmp_path / FILE_NAME).write_text("[planner]\nadapt = false\nchoose_over = false\n")
    assert read_settings({}, {}, tmp_path).planner.options() == {"adapt": False, "choose_over": None}


def test_every_variable_that_is_read_is_told():
    """What the code calls FIRMPLAN_.. stands on the page, and nothing else does."""
    sources = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in [ROOT / "engine.py", *sources])
    # `cli/config.py` makes the names of settings' variables of the settings' names.
    made = {
        f"FIRMPLAN_{name.upper()}"
        for name in Settings.model_fields
        if name not in ("models", "openapi", "planner", "policies", "secrets", "webhooks")
    }
    read = set(re.findall(r"FIRMPLAN_[A-Z_]*[A-Z]\b", text)) | made
    assert set(re.findall(r"FIRMPLAN_[A-Z_]*[A-Z]\b", PAGE)) == read - INTERNAL
