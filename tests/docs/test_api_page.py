"""Every public name stands in the docs with its parameters: in the generated page, and in the tables that people read first."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import firmplan
import pytest
from firmplan import Engine, Planner, Toolset, agent, tool

DOCS = Path(firmplan.__file__).parent / "docs"
API = (DOCS / "API.md").read_text(encoding="utf-8")
FEW = 2
"""So many parameters may be told by the first sentence alone."""
HANDED_OUT = ("Context", "Plan", "CheckReport", "Tool")
"""Classes that nobody calls: what they are made of is no parameter of anybody's."""
TABLES = {
    "setting": (Engine, "ENGINE.md"),
    "option": (Engine.run, "ENGINE.md"),
    "keyword": (tool, "TOOLS.md"),
    "setting of an agent": (agent, "AGENTS.md"),
}


def called():
    """Yield the name, and what is called, of all that can be: functions, classes that people make objects of, and methods."""
    for name in firmplan.__all__:
        made = getattr(firmplan, name)
        if not inspect.isclass(made):
            yield name, made
            continue
        is_made = name not in HANDED_OUT and "__init__" in vars(made) and not issubclass(made, Exception)
        if is_made and not hasattr(made, "__dataclass_fields__"):
            yield name, made
        for method, each in inspect.getmembers(
            made, lambda each: inspect.isfunction(each) or inspect.ismethod(each)
        ):
            if not method.startswith("_") and each.__module__.startswith("firmplan"):
                yield f"{name}.{method}", each


CALLED = dict(called())


def parameters(made):
    """Return name -> default of what a caller may hand in."""
    found = inspect.signature(made).parameters
    return {name: each for name, each in found.items() if name not in ("self", "cls")}


def section(name):
    """Return what the generated page says of a name."""
    found = re.search(rf"^##+ {re.escape(name)}\n(.*?)(?=^## |^### |\Z)", API, re.MULTILINE | re.DOTALL)
    return found[1] if found else None


def test_every_public_name_has_its_section():
    assert [name for name in firmplan.__all__ if section(name) is None] == []
    assert set(re.findall(r"^## (.*)$", API, re.MULTILINE)) == set(firmplan.__all__)


def test_there_is_something_to_compare():
    """Engine, planner, toolset and the functions are among what is called; results are not."""
    assert {
        "Engine",
        "Engine.run",
        "Engine.decide_sync",
        "Planner",
        "Toolset.load",
        "tool",
        "check",
        "PlanBuilder.call",
    } <= set(CALLED)
    assert not {"Run", "StepView", "InputRejected"} & set(CALLED)


@pytest.mark.parametrize("name", [name for name in CALLED if not name.endswith("_sync")])
def test_the_signature_is_as_told(name):
    """Name by name, in order, with which of them have to be named, and which may be left out."""
    told = section(name)
    assert told is not None, f"docs/API.md has no section on {name}"
    (line,) = re.findall(r"```python\n(?:await )?(.*)\n```", told)
    (call,) = ast.parse(f"def {line}: pass".replace("=...", "=None")).body
    arguments = call.args
    positional = [*arguments.posonlyargs, *arguments.args]
    optional = {each.arg for each in positional[len(positional) - len(arguments.defaults) :]}
    optional |= {
        each.arg for each, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value
    }
    found = {
        name: each
        for name, each in parameters(CALLED[name]).items()
        if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    }
    assert [each.arg for each in (*positional, *arguments.kwonlyargs)] == list(found)
    assert optional == {name for name, each in found.items() if each.default is not each.empty}
    assert {each.arg for each in arguments.kwonlyargs} == {
        name for name, each in found.items() if each.kind is each.KEYWORD_ONLY
    }


@pytest.mark.parametrize(
    "name",
    [name for name, made in CALLED.items() if len(parameters(made)) > FEW and not name.endswith("_sync")],
)
def test_what_each_parameter_means_is_told(name):
    """One line each; or the function whose parameters they are."""
    told = section(name)
    as_in = re.search(r"^Its parameters are those of `(\w+)`\.$", told, re.MULTILINE)
    if as_in is not None:
        other = CALLED[f"{name.partition('.')[0]}.{as_in[1]}"]
        assert list(parameters(CALLED[name])) == list(parameters(other))
        return
    lines = re.findall(r"^- `(\w+)`: \S", told, re.MULTILINE)
    assert [each for each in parameters(CALLED[name]) if each not in lines] == []


@pytest.mark.parametrize("name", [name for name in CALLED if name.endswith("_sync")])
def test_a_twin_takes_what_its_method_takes(name):
    if name != "Engine.aclose_sync":
        assert parameters(CALLED[name]) == parameters(CALLED[name.removesuffix("_sync")])


@pytest.mark.parametrize("head", TABLES)
def test_the_tables_have_every_parameter(head):
    """Those that people read first are whole, and name nothing else."""
    made, page = TABLES[head]
    text = (DOCS / page).read_text(encoding="utf-8")
    rows = re.search(rf"^\| {head} \|.*\n\|[ -|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    told = [name for row in rows[1].splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(told) == sorted(name for name in parameters(made) if name != "fn")


@pytest.mark.parametrize(
    ("made", "page"),
    [
        (Planner, "PLANNER.md"),
        (Toolset.from_mcp, "MCP.md"),
        (Engine.fork, "REUSE.md"),
        (Engine.approve, "ENGINE.md"),
    ],
)
def test_the_page_of_a_subject_names_every_parameter(made, page):
    text = (DOCS / page).read_text(encoding="utf-8")
    code = " ".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    assert [
        name for name in parameters(made) if name != "settings" and not re.search(rf"\b{name}\b", code)
    ] == []
