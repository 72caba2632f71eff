"""What importing firmplan costs, and who may know whom."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import firmplan
import pytest

ROOT = Path(firmplan.__file__).parent
HEAVY = (
    "httpx2",
    "openai",
    "instructor",
    "networkx",
    "fastapi",
    "uvicorn",
    "structlog",
    "rich",
    "typer",
    "mcp",
)


def run_python(*words, **options):
    return subprocess.run(
        [sys.executable, *words], check=False, capture_output=True, text=True, timeout=60, **options
    )


@pytest.mark.parametrize(
    "statement",
    [
        "import firmplan",
        "from firmplan import tool, Tool, Toolset, Context, ToolError, OutcomeUnknown, agent",
        "from firmplan import Plan, PlanBuilder, check",
    ],
)
def test_light_imports(statement):
    """Declaring tools and plans loads no client of a model, no graph library and no web framework."""
    probe = f"import sys; {statement}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = run_python("-c", probe)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_help_loads_no_room():
    """`firmplan --help` loads neither the engine nor anything that plans, runs or serves."""
    probe = (
        "import sys\nfrom firmplan.cli import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "heavy = {'openai', 'instructor', 'networkx', 'fastapi', 'pydantic', 'firmplan.engine', 'rich'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    done = run_python("-c", probe)
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stderr


def test_an_engine_is_named_without_what_it_works_with():
    """`from firmplan import Engine` loads neither pydantic, nor the check, nor a store: they come with the first engine."""
    probe = (
        "import sys; from firmplan import Engine; "
        "print(sorted({'pydantic', 'sqlite3', 'firmplan.tools', 'firmplan.plans.plan', 'firmplan.planner'} & set(sys.modules)))"
    )
    assert run_python("-c", probe).stdout.strip() == "[]"


def test_an_import_on_first_use_is_not_scanned_for_garbage():
    """The collector pauses while a public name is imported, and runs again afterwards."""
    probe = (
        "import gc, firmplan; seen = []; gc.collect(); gc.callbacks.append(lambda *_: seen.append(1)); "
        "firmplan.Plan; gc.callbacks.clear(); print(len(seen), gc.isenabled(), gc.get_freeze_count())"
    )
    assert run_python("-c", probe).stdout.split() == ["0", "True", "0"]


def test_every_public_name_is_importable():
    """Every name of `__all__` comes from its room, and `dir()` shows it."""
    for name in firmplan.__all__:
        assert getattr(firmplan, name) is not None
        assert name in dir(firmplan)


def test_contract_names_are_public():
    """The names that the contract imports from `firmplan` are there."""
    named = "tool agent Tool Toolset Context ToolError OutcomeUnknown Artifact Plan PlanBuilder check CheckReport Engine Planner"
    errors = "PlanRejected PlanningFailed InputRejected RunNotFound Diverged StoreError ConfigError FirmplanError EngineBug"
    assert [name for name in (*named.split(), *errors.split()) if name not in firmplan.__all__] == []


def test_unknown_public_name_is_an_attribute_error():
    """A name that is not public is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = firmplan.Nonsense


def test_import_contracts_hold():
    """The rooms know each other in one direction only; each contract is a sentence in `.importlinter`."""
    words = ["-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = run_python(*words, cwd=ROOT)
    assert done.returncode == 0, done.stdout
