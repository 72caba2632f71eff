"""The house in order: what is shipped, what a module says of itself, and what may stand in no file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import firmplan
import pytest

ROOT = Path(firmplan.__file__).parent
ROOMS = (
    "plans",
    "tools",
    "executor",
    "planner",
    "schedules",
    "webhooks",
    "backends",
    "client",
    "service",
    "telemetry",
    "training",
    "cli",
    "testing",
    "examples",
    "benchmarks",
    "scripts",
)
SHIPPED_AT_ROOT = {
    "__init__.py",
    "__main__.py",
    "engine.py",
    "errors.py",
    "lazy_imports.py",
    "run_planner.py",
    "scheduled_runs.py",
    "trace_rehearsal.py",
}
MODULES = sorted([*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))])
RUNTIME = [
    path for path in MODULES if path.relative_to(ROOT).parts[0] not in ("examples", "benchmarks", "scripts")
]
WITH_OTHERS = {"pydantic-core", "starlette"}
"""Parts of pydantic and of FastAPI: released with them, and versioned by them."""


def name_of(path):
    return str(path.relative_to(ROOT))


def test_no_stray_module_at_the_root():
    """The root is the package: every `.py` file there is shipped, so only the front door stands there."""
    assert {path.name for path in ROOT.glob("*.py")} == SHIPPED_AT_ROOT


def test_every_package_is_listed():
    """Packages are listed by name; one that is forgotten would be missing from the wheel."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = ROOMS[: ROOMS.index("examples")]
    found = {path.parent for room in rooms for path in (ROOT / room).rglob("__init__.py")}
    named = {
        "firmplan",
        "firmplan.demo",
        *(".".join(("firmplan", *p.relative_to(ROOT).parts)) for p in found),
    }
    assert set(settings["packages"]) == named


def test_every_data_file_is_shipped():
    """A file that is no module, in a room, is named in package-data; one that is forgotten would be missing."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped = {ROOT / "py.typed"}
    for package, patterns in settings["package-data"].items():
        folder = ROOT.joinpath(*package.split(".")[1:])
        shipped |= {path for pattern in patterns for path in folder.glob(pattern)}
    rooms = ROOMS[: ROOMS.index("examples")]
    files = {path for room in rooms for path in (ROOT / room).rglob("*") if path.is_file()}
    # The page ships as `make page` built it; its sources stay in the repository.
    sources = ROOT / "service" / "web"
    built = {path for path in files if sources / "built" in path.parents}
    kept = {
        path for path in files if path.suffix not in (".py", ".pyc") and sources not in path.parents
    } | built
    assert {name_of(path) for path in kept - shipped} == set()


def test_every_library_is_declared():
    """What the rooms import is a dependency of its own, not one that another happens to bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    declared = {plain(re.match(r"[\w.-]+", line)[0]) for line in lines} | WITH_OTHERS
    owners = packages_distributions()
    imported = {name for path in RUNTIME for name in libraries(path.read_text(encoding="utf-8"))}
    assert {
        name for name in imported if not {plain(owner) for owner in owners.get(name, [name])} & declared
    } == set()


def libraries(source):
    """Return the top-level names that a module imports from outside firmplan and the standard library."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
        for name in names:
            top = name.split(".")[0]
            if top not in sys.stdlib_module_names and top != "firmplan":
                yield top


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_says_what_it_is(path):
    """Every module opens with what it is."""
    text = path.read_text(encoding="utf-8")
    assert not text or ast.get_docstring(ast.parse(text)), f"{name_of(path)} has no docstring"


def test_modules_that_the_code_names_exist():
    """A docstring or a comment that sends the reader to a module names one that is there."""
    there = [name_of(path) for path in (*MODULES, *(ROOT / "tests").rglob("*.py"))]
    stray = {
        (name_of(path), named)
        for path in RUNTIME
        for named in re.findall(r"`([\w/]+\.py)`", path.read_text(encoding="utf-8"))
        if not any(f"/{each}".endswith(f"/{named}") for each in there)
    }
    assert stray == set()


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "manager", "misc"])
def test_modules_are_named_by_nouns_of_the_domain(name):
    """No module has a name that says nothing."""
    assert [name_of(path) for path in MODULES if path.stem == name] == []


def test_no_stubs_and_no_notes_to_self():
    """Nothing unfinished is left in the code."""
    note = re.compile(r"#\s*(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError")
    assert [name_of(path) for path in RUNTIME if note.search(path.read_text(encoding="utf-8"))] == []


def test_no_path_of_a_builder_is_left():
    """No file that is kept names a folder of the machine on which it was written."""
    forbidden = re.compile(r"/(root|work|home/\w+|opt/pypi\S*|Users/\w+)/")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    files = [ROOT / line for line in listed] or MODULES
    texts = {path: path.read_text(encoding="utf-8", errors="ignore") for path in files if path.is_file()}
    here = Path(__file__).name
    assert {
        name_of(path) for path, text in texts.items() if path.name != here and forbidden.search(text)
    } == set()
