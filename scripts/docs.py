"""Make the generated pages of `docs/`: the states of a step, the codes of the check, the command line; and the format's schema.

    python scripts/docs.py            # write them
    python scripts/docs.py --check    # exit with 1 if one is not up to date

Each page is made from the code that it tells of, so that it cannot say anything else.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
NOTE = "<!-- Made by scripts/docs.py from the code; `make docs` makes it again. -->"
COLUMNS = "110"


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
    from firmplan.plans.codes import CODES, EXAMPLE_TOOLS  # noqa: PLC0415  # each page loads only its room

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


def schema() -> str:
    """Return the JSON Schema of the plan format, which the package carries for editors."""
    from firmplan.plans import Plan  # noqa: PLC0415  # each page loads only its room

    return json.dumps(Plan.json_schema(), indent=2, ensure_ascii=False) + "\n"


PAGES = {
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
