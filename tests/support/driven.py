"""A machine without a driver, as tests move it: events in, calls and records out."""

from __future__ import annotations

from firmplan.executor import Header, ToolsetLock
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.commands import Record, StartModelCall, StartToolCall
from firmplan.executor.events import (
    CallStarted,
    CallSucceeded,
)
from firmplan.executor.journal.header import build_machine
from firmplan.tools import Tool, Toolset
from rig import plan_of

PARAMETERS = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
ONE = CanonicalValue.of(1)
TAKES_N = {"inputs": {"n": {"type": "integer"}}}


def tool(name, effect, **options):
    return Tool.from_callable(
        lambda x: x, name=name, parameters=PARAMETERS, effect=effect, version=1, **options
    )


TOOLS = Toolset(
    [
        tool("add", "pure"),
        tool("look", "read", resource="bank", retries=1),
        tool("pay", "write", resource="bank"),
        tool("note", "write", resource="book"),
        tool("again", "write", resource="book", idempotent=True, retries=1),
        tool("ask", "write", resource="bank", approval="always"),
        tool("found", "write", resource="bank", reconcile=lambda key, args: None, timeout=7.0),
        tool("ruled", "write", resource="bank", approval=lambda args: args["x"] > 5),
    ]
)


def step(name, called, x=1, **keys):
    return {"id": name, "tool": called, "args": {"x": x}, **keys}


class Driven:
    """A machine, and what it asked for at last."""

    def __init__(self, *steps, tools=TOOLS, inputs=None, plan=None, **header):
        plan = plan_of(*steps, **(plan or {}))
        lock = ToolsetLock.of([plan], tools)
        self.machine = build_machine(Header(plan, inputs or {}, "seed", lock, **header))
        self.asked = []

    def take(self, event, at=0.0):
        """Hand in an event; return the paths of the calls that it asks for."""
        self.asked = self.machine.handle(event, at)
        return [each.step for each in self.asked if isinstance(each, StartToolCall | StartModelCall)]

    def begin(self, path, at=0.0):
        return self.take(CallStarted(path, 1, ""), at)

    def end(self, path, at=0.0):
        return self.take(CallSucceeded(path, ONE), at)

    def state(self, path):
        return self.machine.iterations[path].state

    @property
    def records(self):
        return [each.event for each in self.asked if isinstance(each, Record)]

    @property
    def spent(self):
        return self.machine.budget.spent
