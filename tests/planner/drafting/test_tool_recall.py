"""Of hundreds of tools, those that a task needs are among the ones shown: how many by words alone, how many by a choice.

No model is asked here. A scripted one stands for it: it chooses what the task needs, of what is listed to it, and forgets every
tenth tool. So what is measured is what the two stages let through, and not how well a model chooses.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import firmplan
from firmplan import Planner
from firmplan.planner.drafting.tool_choice import SHOWN_MAX, choose_tools
from firmplan.testing import ScriptedModel
from tool_catalogue import OTHER_WORDS, TASKS, catalogue

PAGE = (Path(firmplan.__file__).parent / "docs" / "PLANNER.md").read_text(encoding="utf-8")
TOOLS = catalogue()
FORGETS = 10
NO_TOOLS = {"firmplan": 1, "steps": [{"id": "x", "set": 1}], "output": "${x}"}


def by_words(tasks):
    """Return the tools shown for each task without a choice."""
    return {task: {tool.name for tool in choose_tools(task, TOOLS)} for task in tasks}


def by_choice(tasks):
    """Return the tools shown for each task where a scripted model chooses."""
    count = 0

    def choice(request):
        nonlocal count
        if "choice" not in str(request["tools"][0]["function"]["name"]):
            return NO_TOOLS
        listed = request["tools"][0]["function"]["parameters"]["properties"]["tools"]["items"]["enum"]
        task = request["messages"][1]["content"].partition("# Task\n\n")[2]
        chosen = []
        for name in tasks[task]:
            count += 1
            if count % FORGETS and name in listed:
                chosen.append(name)
        return {"reasoning": "..", "tools": chosen}

    async def main():
        async with ScriptedModel(choice) as model:
            planner = Planner("m", base_url=model.base_url)
            for task in tasks:
                await planner.plan(task, TOOLS)
            lists = [
                request["messages"][1]["content"].partition("# Task")[0] for request in model.requests[1::2]
            ]
            return [
                {line[2:].partition("(")[0] for line in each.splitlines() if line[:2] == "- "}
                for each in lists
            ]

    return dict(zip(tasks, asyncio.run(main()), strict=True))


def recall(shown, tasks):
    """Return the share of needed tools that were shown."""
    found = [name in shown[task] for task, names in tasks.items() for name in names]
    return sum(found) / len(found)


def test_the_needed_tools_are_shown():
    """By words alone, of 240 tools with at most thirty shown: all where a task shares words with them, a fifth where not."""
    assert len(TOOLS) == 240
    wanted = {name for names in (*TASKS.values(), *OTHER_WORDS.values()) for name in names}
    assert wanted <= {tool.name for tool in TOOLS}
    assert all(len(names) <= SHOWN_MAX for names in by_words({**TASKS, **OTHER_WORDS}).values())
    assert recall(by_words(TASKS), TASKS) >= 0.95
    assert recall(by_words(OTHER_WORDS), OTHER_WORDS) < 0.3, "else the page's number is another"


def test_the_page_tells_what_is_measured():
    """Share of needed tools, and tools shown on average: by words, and with a choice that forgets a tenth."""
    rows = [
        line for line in PAGE.splitlines() if re.search(r"\| \d+ %, \d+ tools \| \d+ %, \d+ tools \|", line)
    ]
    assert len(rows) == 2
    for row, tasks in zip(rows, (TASKS, OTHER_WORDS), strict=True):
        told = [tuple(map(int, each)) for each in re.findall(r"(\d+) %, (\d+) tools", row)]
        measured = [
            (round(100 * recall(shown, tasks)), round(sum(map(len, shown.values())) / len(tasks)))
            for shown in (by_words(tasks), by_choice(tasks))
        ]
        assert told == measured
        assert measured[1][0] >= 89, "what is not forgotten is shown"
