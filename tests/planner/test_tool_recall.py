"""Of hundreds of tools, those that a task needs are among the ones shown."""

from __future__ import annotations

from firmplan.planner.choice import SHOWN_MAX, choose_tools
from tool_catalogue import TASKS, catalogue


def test_the_needed_tools_are_shown():
    """At least 95 in 100 over all tasks, of 240 tools, with at most thirty shown."""
    tools = catalogue()
    assert len(tools) == 240
    wanted = [(task, name) for task, names in TASKS.items() for name in names]
    shown = {task: [tool.name for tool in choose_tools(task, tools)] for task in TASKS}
    assert all(len(names) <= SHOWN_MAX for names in shown.values())
    assert {name for _, name in wanted} <= {tool.name for tool in tools}
    missed = [(task, name) for task, name in wanted if name not in shown[task]]
    assert len(missed) <= 0.05 * len(wanted), missed
