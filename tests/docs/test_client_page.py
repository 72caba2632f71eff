"""The page on the client: its program is run against a server, its tables are held against the code."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import firmplan
from firmplan import AsyncClient, Client
from served import Server

PAGE = (Path(firmplan.__file__).parent / "docs" / "CLIENT.md").read_text(encoding="utf-8")


def table(head):
    """Return the names in backquotes in the first cells of a table's rows."""
    rows = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_the_program_prints_what_the_page_says(tmp_path):
    program, printed = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL).groups()
    with Server(tmp_path) as server:
        (tmp_path / "program.py").write_text(program.replace("http://127.0.0.1:8000", server.url))
        done = subprocess.run(
            [sys.executable, "program.py"], check=False, cwd=tmp_path, capture_output=True, text=True
        )
    assert (done.stdout, done.returncode) == (printed, 0), done.stderr


def test_every_method_and_setting_is_told():
    public = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
    assert table("method") == public | {"aclose"}
    assert table("setting") == set(inspect.signature(AsyncClient).parameters)
