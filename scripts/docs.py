"""Make the generated pages of `docs/`: the Python API, the states of a step, the codes of the check, the command line; and the format's schema.

    python scripts/docs.py            # write them
    python scripts/docs.py --check    # exit with 1 if one is not up to date

Each page is made from the code that it tells of, so that it cannot say anything else.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import is_dataclass
from functools import cache
from io import StringIO
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
NOTE = "<!-- Made by scripts/docs.py from the code; `make docs` makes it again. -->"
COLUMNS = "110"
HANDED_OUT = ("Context", "Plan", "CheckReport", "Tool")
"""Classes whose objects firmplan hands out, or that are made by a method of theirs."""
MADE_BY_PEOPLE = ("Model", "ToolError")
"""Data classes and errors that people make themselves."""


def states() -> str:
    """Return the page that shows the legal moves of a step."""
    from firmplan.executor.states import MOVES, State  # noqa: PLC0415  # each page loads only its room

    lines = [
        "# The states of a step",
        "",
        NOTE,
        "",
        "Every change of a step's state is one of these moves; the machine asserts it.",
    ]
    lines += [
        "A run's status is the worst of its steps': indeterminate, waiting, over budget, running. A run is `parked`,"
    ]
    lines += ["whatever its steps are, after it lost its process again and again.", ""]
    lines += ["```mermaid", "stateDiagram-v2", "  [*] --> pending"]
    lines += [f"  {one.value} --> {other.value}" for one in State for other in State if other in MOVES[one]]
    lines += [f"  {state.value} --> [*]" for state in State if not MOVES[state]]
    return "\n".join([*lines, "```", ""])


def codes() -> str:
    """Return the page that explains every code of a check, each with a plan that has it."""
    from firmplan.plans.reports.codes import CODES, EXAMPLE_TOOLS  # noqa: PLC0415  # each page loads only its room

    lines = [
        "# The codes of the check",
        "",
        NOTE,
        "",
        "Errors stop a plan, warnings do not. Each stands with steps that have it;",
    ]
    lines += ["their tools are:", "", "```text", EXAMPLE_TOOLS, "```"]
    for name, code in CODES.items():
        lines += ["", f"## {name}", "", f"{code.severity.capitalize()}. {' '.join(code.meaning.split())}"]
        lines += ["", "```yaml", code.example, "```", "", f"Found at `{code.path}`."]
    return "\n".join([*lines, ""])


def commands() -> str:
    """Return the page with the help of every command, as the command line prints it."""
    lines = ["# The command line", "", NOTE, "", "```text", _help(), "```"]
    for name in _commands_in(_help()):
        lines += ["", f"## {name}", "", "```text", _help(name), "```"]
        for inner in _commands_in(_help(name)):
            lines += ["", f"### {name} {inner}", "", "```text", _help(name, inner), "```"]
    return "\n".join([*lines, ""])


def _commands_in(text: str) -> list[str]:
    """Return the names of the commands that a help lists."""
    listed = text.partition("Commands:\n")[2].partition("\n\n")[0]
    return [line.split()[0] for line in listed.splitlines() if line[2:3].isalpha()]


@cache
def _help(*words: str) -> str:
    from firmplan.cli.app import app  # noqa: PLC0415  # each page loads only its room
    from typer.main import get_command  # noqa: PLC0415  # each page loads only its room

    os.environ |= {"COLUMNS": COLUMNS, "NO_COLOR": "1"}
    with redirect_stdout(StringIO()) as said:
        get_command(app).main([*words, "--help"], "firmplan", standalone_mode=False)
    return said.getvalue().strip()


def api() -> str:
    """Return the page with every public name: its signature, and what each of its parameters means."""
    import firmplan  # noqa: PLC0415  # each page loads only its room

    lines = [
        "# The Python API",
        "",
        NOTE,
        "",
        "Every name that imports from `firmplan`, with its parameters, from the docstrings. Every coroutine method of `Engine` has a twin for",
        "programs without an event loop: `engine.run_sync(..)`. These pages describe their use: [The engine](ENGINE.md),",
        "[Tools](TOOLS.md), [Planner](PLANNER.md), [The plan format](PLAN_FORMAT.md), [Looking back](REUSE.md) and [Errors](ERRORS.md).",
    ]
    for name in firmplan.__all__:
        lines += ["", f"## {name}", "", *_entry(name, getattr(firmplan, name))]
        for method, made in _methods_of(getattr(firmplan, name)):
            lines += ["", f"### {name}.{method}", "", *_entry(method, made)]
    return "\n".join([*lines, ""])


def _methods_of(made: object) -> list[tuple[str, Callable[..., object]]]:
    """Return the public methods of a class that are firmplan's own, by name; a twin is told with its method."""
    if not inspect.isclass(made):
        return []
    found = inspect.getmembers(made, lambda each: inspect.isfunction(each) or inspect.ismethod(each))
    return [
        (name, each)
        for name, each in found
        if not name.startswith("_") and not name.endswith("_sync") and each.__module__.startswith("firmplan")
    ]


def _entry(name: str, made: object) -> Iterator[str]:
    """Yield the lines about one name: its signature, the first words of its docstring, and what its parameters mean."""
    from firmplan.cli.command import documented  # noqa: PLC0415  # each page loads only its room

    text = inspect.cleandoc(made.__doc__ or "")
    signature = signature_of(name, made)
    if signature:
        yield from ("```python", signature, "```", "")
    yield from text.split("\n\n")[0].split("\n")
    # Leave out constructor parameters of objects that only firmplan makes.
    for heading in ("Attributes", "Args") if signature or not inspect.isclass(made) else ("Attributes",):
        if told := documented(text, heading):
            yield ""
            yield from (f"- `{word}`: {meaning}" for word, (_, meaning) in told.items())
    if found := re.search(r"[Aa]rguments and errors are those of `(\w+)`", text):
        yield from ("", f"Its parameters are those of `{found[1]}`.")


def signature_of(name: str, made: object) -> str:
    """Return how something is called; empty for a class whose objects only firmplan makes."""
    is_made_here = inspect.isclass(made) and (
        made.__name__ in HANDED_OUT or is_dataclass(made) or issubclass(made, Exception)
    )
    if is_made_here and getattr(made, "__name__", "") not in MADE_BY_PEOPLE:
        return ""
    parameters = inspect.signature(made).parameters.values()  # type: ignore[arg-type]  # a class or a function
    shown = inspect.Signature(
        [
            each.replace(annotation=inspect.Parameter.empty, default=_Shown.of(each.default))
            for each in parameters
            if each.name != "self"
        ]
    )
    word = "await " if inspect.iscoroutinefunction(made) else ""
    return f"{word}{name}{shown}"


class _Shown(str):
    """A default as the page shows it: `...` for a sentinel that means that no value was given."""

    __slots__ = ()

    @classmethod
    def of(cls, default: object) -> object:
        """Return what stands for a default."""
        if default is inspect.Parameter.empty:
            return default
        if isinstance(default, str):
            return cls(json.dumps(default, ensure_ascii=False))
        if isinstance(default, type):
            return cls(default.__name__)
        return cls("..." if type(default) is object else repr(default))

    def __repr__(self) -> str:
        return str(self)


def schema() -> str:
    """Return the JSON Schema of the plan format, which the package carries for editors."""
    from firmplan.plans import Plan  # noqa: PLC0415  # each page loads only its room

    return json.dumps(Plan.json_schema(), indent=2, ensure_ascii=False) + "\n"


PAGES = {
    "API.md": api,
    "STATES.md": states,
    "CODES.md": codes,
    "COMMANDS.md": commands,
    "../plans/plan.schema.json": schema,
}


def main() -> int:
    """Write the pages, or only compare them; return the exit code."""
    stale: list[str] = []
    for name, page in PAGES.items():
        made, kept = page(), DOCS / name
        if "--check" in sys.argv[1:]:
            if not kept.is_file() or kept.read_text(encoding="utf-8") != made:
                stale.append(name)
        else:
            kept.write_text(made, encoding="utf-8")
    if stale:
        print(f"not up to date: {', '.join(stale)}; run `make docs`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
