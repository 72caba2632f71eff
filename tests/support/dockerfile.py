"""What `deploy/Dockerfile` says: its instructions, its stages, and the files that its build gets."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def instructions():
    """Return the instructions of the Dockerfile in order, as (name, rest); lines that continue are joined."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(" ", 1)) for line in joined.splitlines()]


def stages():
    """Return the instructions of each stage, after its FROM."""
    found = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        elif found:
            found[-1].append((name, rest))
    return found


def context():
    """Return the files that the build gets: those of the checkout that `.dockerignore` lets through, by docker's rules as far as it uses them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.splitlines()
    rules = [
        line
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    return [path for path in listed if not _is_ignored(path, rules) and (ROOT / path).exists()]


def _is_ignored(path, rules):
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!")
        form = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{form}(?:/.*)?", path):
            ignored = not rule.startswith("!")
    return ignored
