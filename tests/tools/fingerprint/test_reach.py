# ruff: noqa: PTH107, PTH118, PTH123, PTH208  # what the walk looks for
"""Laws of the reach: the code closure sees the networks, files and processes from which a tool gets data, however the code comes to them."""

from __future__ import annotations

import asyncio
import functools
import http
import json
import os
import random
import sqlite3
import subprocess
import time
import urllib.parse
import urllib.request
from os import listdir
from pathlib import Path

import httpx2
import pytest
from firmplan import Context, Tool, tool

CLIENT = httpx2.Client()
CONNECTION = sqlite3.connect(":memory:", check_same_thread=False)
HOME = Path("home")
HANDLERS = {"get": httpx2.get}
URL = {"type": "object", "properties": {"url": {"type": "string"}}}


class Fetcher:
    """A class of the project that has a client."""

    def __init__(self):
        self.client = CLIENT

    def get(self, x):
        return self.client.get(x).text

    @tool(effect="read")
    def method(self, x: str) -> str:
        """Use the client of the object."""
        return self.client.get(x).text


def helper(x):
    return urllib.request.urlopen(x).read().decode()


def by_helper(x: str) -> str:
    return helper(x)


def by_class(x: str) -> str:
    return Fetcher().get(x)


def by_global(x: str) -> str:
    return CLIENT.get(x).text


def by_table(x: str) -> str:
    return HANDLERS["get"](x).text


def by_import(x: str) -> str:
    import requests  # whether it is installed or not

    return requests.get(x).text


def by_name(x: str) -> str:
    return ",".join(listdir(x))


def by_database(x: str) -> str:
    return str(CONNECTION.execute(x).fetchone())


def by_path(x: str) -> str:
    return HOME.read_text()


def by_opened_path(x: str) -> str:
    with Path(x).open("rb") as file:
        return file.read().decode()


def by_open(x: str) -> str:
    with open(x) as file:
        return file.read()


def by_other_open(x: str) -> str:
    opened = open
    return opened(x).read()


def by_computed_mode(x: str) -> str:
    return open(x, x).read()


def by_system(x: str) -> str:
    return str(os.system(x))


async def by_process(x: str) -> str:
    await asyncio.create_subprocess_exec(x)
    return x


def captured(client):
    def by_captured(x: str) -> str:
        return client.get(x).text

    return by_captured


OUTSIDE = [
    (by_helper, "network"),
    (by_class, "network"),
    (by_global, "network"),
    (by_table, "network"),
    (by_import, "network"),
    (captured(CLIENT), "network"),
    (by_name, "files"),
    (by_database, "files"),
    (by_path, "files"),
    (by_opened_path, "files"),
    (by_open, "files"),
    (by_other_open, "files"),
    (by_computed_mode, "files"),
    (by_system, "processes"),
    (by_process, "processes"),
]


@pytest.mark.parametrize(("fn", "kind"), OUTSIDE, ids=lambda part: getattr(part, "__name__", part))
def test_what_brings_data_in_is_seen(fn, kind):
    """Through helpers, classes, captured and global objects, tables, imports and methods."""
    assert set(tool(fn, effect="read").reach.values()) == {kind}


def test_methods_and_foreign_functions_are_seen():
    """Of a bound tool, of a library's function, and of a function that a partial holds."""
    for fn in (CLIENT.get, httpx2.get, functools.partial(httpx2.get, timeout=1)):
        assert "network" in Tool.from_callable(fn, name="a", parameters=URL, effect="read").reach.values()
    assert "network" in Fetcher().method.reach.values()


def typed_in(text):
    names = {}
    exec(text, names)
    return names["f"]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (
            "import urllib.request\ndef f(x: str) -> str:\n return urllib.request.urlopen(x).read()",
            {"network"},
        ),
        ("def f(x: str) -> str:\n import requests\n return requests.get(x).text", {"network"}),
        (
            "def f(x: str) -> str:\n from urllib.request import urlopen\n return urlopen(x).read()",
            {"network"},
        ),
        (
            "import subprocess\ndef g(x):\n return subprocess.run(x)\ndef f(x: str) -> str:\n return g(x)",
            {"processes"},
        ),
        ("def f(x: str) -> str:\n return open(x).read()", {"files"}),
        ("from pathlib import Path\ndef f(x: str) -> str:\n return Path(x).read_text()", {"files"}),
        ("def f(x: str) -> str:\n with open(x, 'a') as g:\n  g.write(x)\n return x", set()),
        ("import os, time\ndef f(x: str) -> str:\n return os.path.join(x, str(time.time()))", set()),
    ],
)
def test_code_without_source_is_seen_too(text, kinds):
    """What was typed in, or made by `exec`, has names in its compiled code."""
    assert set(tool(typed_in(text), effect="read").reach.values()) == kinds


def appends(x: str) -> str:
    """Keep a log."""
    with open(x, "a") as file:
        file.write(x)
    with Path(x).open(mode="w") as file:
        file.write(x)
    Path(x).write_text(x)
    os.remove(x)
    return x


def computes(x: str) -> str:
    """Use names of such modules that bring nothing in."""
    quoted = urllib.parse.quote(x) + os.path.join(x, "a") + str(http.HTTPStatus.OK)
    return quoted + os.environ.get(x, "") + str(time.time()) + str(random.random())


def catches(x: str) -> str:
    """Name their exceptions."""
    try:
        return json.dumps(x)
    except (TimeoutError, httpx2.HTTPError, subprocess.CalledProcessError):
        return ""


def saves(x: str, *, ctx: Context) -> str:
    """Use the context."""
    return ctx.save(x.encode()).digest


@pytest.mark.parametrize("fn", [appends, computes, catches, saves])
def test_what_brings_nothing_in_is_not_seen(fn):
    """Writing, names of exceptions, paths, times and the context are no reach."""
    assert not tool(fn, effect="read").reach


def test_a_module_of_the_project_may_have_the_name_of_a_library(tmp_path, monkeypatch):
    """A project's own `redis.py` is project code, and is followed."""
    (tmp_path / "redis.py").write_text("def get(x):\n    return x\n")
    (tmp_path / "own_tools.py").write_text(
        "import redis\n\n\ndef look(x: str) -> str:\n    return redis.get(x)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import own_tools

    assert not tool(own_tools.look, effect="read").reach


def test_the_reach_is_no_part_of_the_fingerprint():
    """It is what the walk saw anyway: no digest changes by it."""
    found = tool(by_open, effect="read")
    assert not any("reach" in name or name == "open" for name in found.fingerprint_parts)


# --- unstated trust


def nothing(x: str) -> None:
    CLIENT.get(x)


@pytest.mark.parametrize(
    ("fn", "options", "said"),
    [
        (by_global, {"effect": "read"}, "reaches the network (httpx2.Client)"),
        (by_global, {}, "reaches the network (httpx2.Client)"),
        (by_open, {"effect": "read"}, "reads files (open)"),
        (by_system, {"effect": "read"}, "starts processes (os.system)"),
        (by_global, {"effect": "read", "trust": "trusted"}, None),
        (by_global, {"effect": "read", "trust": "untrusted"}, None),
        (by_global, {"effect": "pure"}, None),
        (nothing, {}, None),
        (computes, {"effect": "read"}, None),
    ],
)
def test_trust_is_unstated_where_results_come_from_outside(fn, options, said):
    """A stated trust, a pure tool, and a tool that returns nothing leave nothing to state."""
    assert tool(fn, **options).unstated_reach == said
