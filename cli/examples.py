"""One example for each command, shown at the end of its help: a line that can be typed as it stands, but for its names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import typer

EXAMPLES: Final[Mapping[str, str]] = {
    "run": "plan.yaml --tools tools.py --input today=2026-03-10",
    "resume": "run_be40097b6b473dae --tools tools.py --budget usd=2",
    "retry": "run_be40097b6b473dae --tools tools.py --run-id invoices-second-try",
    "fork": "run_be40097b6b473dae --tools tools.py --at price --set rate=0.07",
    "replay": "run_be40097b6b473dae",
    "export": "run_be40097b6b473dae --output run.bundle",
    "approve": "run_be40097b6b473dae paid --by ann",
    "deny": "run_be40097b6b473dae paid --by ann --reason 'paid last week'",
    "decide": 'run_be40097b6b473dae \'paid[0]=approve\' \'paid[1]={"deny": true, "reason": "paid last week"}\' --by ann',
    "resolve": "run_be40097b6b473dae paid --done '{\"receipt\": 17}'",
    "cancel": "run_be40097b6b473dae",
    "verify": "run_be40097b6b473dae --tools tools.py",
    "explain": "run_be40097b6b473dae price",
    "diff": "run_be40097b6b473dae run_d2a00be355d318f9 --format html --output diff.html",
    "record": "run_be40097b6b473dae --output tests/golden/rome.bundle --plan plan.yaml",
    "bisect": "run_be40097b6b473dae run_d2a00be355d318f9 --output items[0].price",
    "shadow": "run_be40097b6b473dae --model gpt-5-mini --tools tools.py",
    "plan": "'Compare the weather in Rome and Oslo' --tools tools.py --output plan.yaml",
    "check": "plan.yaml --tools tools.py",
    "show": "plan.yaml --format mermaid",
    "traffic": "calls.jsonl run 'Compare the weather in Rome and Oslo' --tools tools.py",
    "eval": "tasks.yaml --model gpt-5-mini --samples 5",
    "runs": "--status failed --limit 5",
    "runs delete": "run_be40097b6b473dae",
    "runs prune": "--older 90d --keep-failed --dry-run",
    "serve": "--tools tools.py --port 8000",
    "mcp": "--tools tools.py --store runs.db",
    "demo": "--folder licences",
    "doctor": "--tools tools.py",
    "plans": "",
    "plans list": "--json",
    "plans save": "weather plan.yaml --tools tools.py",
    "plans learn": "run_be40097b6b473dae --name weather",
    "plans show": "weather --format yaml",
    "tools": "--tools tools.py",
    "tools list": "--tools tools.py --json",
    "tools lint": "--tools tools.py",
    "store": "",
    "store check": "--store runs.db",
    "store backup": "runs-monday.db --store runs.db",
    "store upgrade": "--store runs.db",
    "cache": "",
    "cache stats": "--store runs.db",
    "cache gc": "--max-age 30d --max-size 500MB",
    "cache clear": "--store runs.db",
}
"""Path of a command -> what stands behind it."""


def add_examples(app: typer.Typer, above: str = "") -> None:
    """End the help of every command and group with its example. Raises: KeyError: one has none."""
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        command.epilog = epilog_of(f"{above}{name}")
    for group in app.registered_groups:
        group.epilog = epilog_of(f"{above}{group.name}")
        if group.typer_instance is not None:
            add_examples(group.typer_instance, f"{above}{group.name} ")


def epilog_of(path: str) -> str:
    """Return what the help of a command ends with; the first character keeps its lines from being filled."""
    return f"\b\nExample:\n  {example_of(path)}"


def example_of(path: str) -> str:
    """Return a command's example as a line. Raises: KeyError: it has none."""
    return f"firmplan {path} {EXAMPLES[path]}".rstrip()
