"""Tools that print, and start programs that do: with `--json` stdout is the document all the same."""

from __future__ import annotations

import json
import subprocess
import sys

TOOLS = '''
import os
import subprocess
import sys

from firmplan import tool


@tool(effect="read")
def noisy() -> int:
    """Print in every way there is."""
    print("by print")
    os.write(1, b"by its number\\n")
    subprocess.run([sys.executable, "-c", "print('by a program')"], check=True)
    return 7
'''
PLAN = {"firmplan": 1, "steps": [{"id": "n", "tool": "noisy"}], "output": "${n}"}


def test_only_the_document_stands_on_stdout(tmp_path):
    """What a tool prints by its name, by its number and through a program goes to stderr."""
    (tmp_path / "tools.py").write_text(TOOLS)
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    words = [sys.executable, "-m", "firmplan", "run", "plan.json", "--tools", "tools.py", "--json"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["output"] == 7
    assert sorted(done.stderr.splitlines()) == ["by a program", "by its number", "by print"]
