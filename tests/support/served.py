"""A real server in a process of its own, and a client that speaks HTTP to it."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import httpx2
from forked import Program

TOOLS = '''
import time

from firmplan import tool


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@tool(effect="read", resource="clock")
def nap(seconds: float) -> float:
    """Sleep."""
    time.sleep(seconds)
    return seconds


@tool(effect="write", approval="always", resource="mail")
def send(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"
'''
PLAN = {
    "firmplan": 1,
    "task": "Add {a} and {b}",
    "inputs": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 2}},
    "steps": [{"id": "total", "tool": "add", "args": {"a": "${inputs.a}", "b": "${inputs.b}"}}],
    "output": "${total}",
}
MAIL = {
    "firmplan": 1,
    "steps": [{"id": "mail", "tool": "send", "args": {"to": "me"}}],
    "output": "${mail}",
}
END_S = 60.0  # a run of these plans takes milliseconds; a machine under load gets some patience


class Server:
    """`firmplan serve` in a folder, as another process."""

    def __init__(self, folder, *words, tools=TOOLS, **env):
        self.folder = folder
        (folder / "tools.py").write_text(tools)
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("FIRMPLAN_", "OPENAI_"))
        }
        self.process = Program(
            ["-m", "firmplan", "serve", "--tools", "tools.py", "--port", "0", *words],
            cwd=folder,
            env={**clean, "FIRMPLAN_DRAIN": "0", **env},  # no load balancer has to notice the end
        )
        self.said = []
        self.url = ""
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r' at (http://[^\s"]+)', line):
                self.url = found[1]
            if "Ctrl-C" in line:
                break
        self.client = httpx2.Client(base_url=self.url or "http://127.0.0.1:9", timeout=END_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop(signal.SIGTERM)

    def stop(self, number):
        """Stop the process by a signal; return its exit code."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(END_S)
        if not self.process.stderr.closed:
            self.said += self.process.stderr.readlines()
        self.process.close()
        return code

    def get(self, path, **options):
        return self.client.get(path, **options)

    def post(self, path, body=None, **options):
        return self.client.post(path, json={} if body is None else body, **options)

    def wait(self, run, *states):
        """Return the run once it is in one of these states."""
        until = time.monotonic() + END_S
        while time.monotonic() < until:
            found = self.get(f"/v1/runs/{run}").json()
            if found["status"] in (states or ("succeeded", "failed", "cancelled")):
                return found
            time.sleep(0.02)
        raise AssertionError(f"run {run} is still {found['status']}")

    def text_with(self, path, part):
        """Return an answer once it has a part: what counts the runs of the store follows what a run says of itself by one commit."""
        until = time.monotonic() + END_S
        while part not in (found := self.get(path).text):
            assert time.monotonic() < until, f"{part!r} is not in {found}"
            time.sleep(0.02)
        return found

    def events(self, run, **headers):
        """Return the run's events, as (id, document), until the stream ends."""
        with self.client.stream("GET", f"/v1/runs/{run}/events", headers=headers) as answer:
            text = "".join(answer.iter_text())
        blocks = [
            dict(line.split(": ", 1) for line in block.splitlines())
            for block in text.split("\n\n")
            if "data: " in block
        ]
        return [(int(block["id"]), json.loads(block["data"])) for block in blocks]
