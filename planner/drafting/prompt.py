"""What a model is told: the format with worked examples, the tools, the task; after a bad draft, its faults.

What does not change comes first, so that endpoints can cache it. The model is shown signatures, the task and the types
of given inputs: no value, no output of a tool, ever. The texts are files beside this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Literal, TypeAlias

from ...plans.expressions.functions import FUNCTIONS, METHODS
from ...plans.format.property_order import text_in_order
from ...plans.problems import Problem
from ...plans.signature import Signature
from ...plans.values import Json, digest
from ...tools.models.completion import Message
from ..given import given_schemas
from ..saved import SavedPlan
from .incident import Incident
from .signatures import signature_line

Plea: TypeAlias = Literal["repair", "mend", "anew", "repatch"]

PROMPTS = ("adapt", "choose", "plan", "more", "given", "repair", "mend", "anew", "unread", "patch", "repatch")
"""The texts of plannings, by file name."""

UNTOLD = frozenset({"secret"})
"""Functions that the prompt leaves out: a planner has no need to know which secrets exist."""

PROBLEMS_MAX = 20
"""Faults of one draft that are sent back: models put few right at a time, and the check finds the rest again."""

NAMED_MAX = 10
"""Tools shown with faults that name them."""

CHOICE_CHARACTERS_MAX = 120
"""Of what a tool says of itself, where it is one of many to choose from."""

CHOICE_TASK_CHARACTERS_MAX = 8_000
"""Of a task, where tools are chosen: what comes after that is seldom what is asked for, and the plan's prompt has all of it."""

DRAFT_CHARACTERS_MAX = 60_000
"""Of a draft that is no JSON: more of it would not help to put it right."""


def planning_messages(
    task: str,
    tools: Sequence[Signature],
    inputs: Mapping[str, Json],
    examples: Sequence[SavedPlan] = (),
    count: int = 0,
) -> tuple[Message, ...]:
    """Return the messages that ask for a plan; saved plans for like tasks are shown as examples.

    Args:
        task: What is wanted.
        tools: Those that are shown.
        inputs: Of these, names and types are told.
        examples: Saved plans.
        count: How many tools there are; where not all are shown, the model is told how to ask for another.
    """
    given = "\n".join(f'- "{name}": {schema}' for name, schema in given_schemas(inputs).items())
    asked = [f"# Tools\n\n{_listed(tools)}"]
    if count > len(tools):
        asked.append(text_of("more").format(shown=len(tools), count=count))
    if examples:
        asked.append("\n\n".join(["# Plans for other tasks, with these tools", *map(_example, examples)]))
    if given:
        asked.append(f"# Given inputs\n\n{text_of('given')}\n{given}")
    asked.append(f"# Task\n\n{task}")
    return (Message("system", text_of("plan")), Message("user", "\n\n".join(asked)))


def choosing_messages(task: str, listed: Sequence[Signature]) -> tuple[Message, ...]:
    """Return the messages that ask which tools a task may need."""
    lines = "\n".join(choice_line(tool) for tool in listed)
    cut = ".." if len(task) > CHOICE_TASK_CHARACTERS_MAX else ""
    words = f"# Tools\n\n{lines}\n\n# Task\n\n{task[:CHOICE_TASK_CHARACTERS_MAX]}{cut}"
    return (Message("system", text_of("choose")), Message("user", words))


def adapting_messages(task: str, form: str) -> tuple[Message, ...]:
    """Return the messages that ask whether a saved plan fits a task, and for the values that it takes."""
    return (Message("system", text_of("adapt")), Message("user", f"# Form\n\n{form}\n\n# Task\n\n{task}"))


def choice_line(tool: Signature) -> str:
    """Return a tool as it is listed to choose from: its name, and how its description begins."""
    about = " ".join(tool.description.split())
    sentence = about.partition(". ")[0].rstrip(".")[:CHOICE_CHARACTERS_MAX]
    return f"- {tool.name}: {sentence}." if sentence else f"- {tool.name}"


def repair_messages(
    draft: str,
    faults: Iterable[Problem],
    unseen: Iterable[Signature] = (),
    plea: Plea = "repair",
) -> tuple[Message, ...]:
    """Return the messages that send a draft's faults back.

    Args:
        draft: As the model wrote it.
        faults: What is wrong with it.
        unseen: Tools that the model was not shown: those that a fault names are shown now.
        plea: What is asked for: the whole plan mended, its faulty steps, or the whole plan anew.
    """
    every = list(faults)
    listed = [fault_line(fault) for fault in every[:PROBLEMS_MAX]]
    if len(every) > PROBLEMS_MAX:
        listed.append(f"- and {len(every) - PROBLEMS_MAX} more")
    told = "\n".join(listed)
    named = [signature_line(tool) for tool in unseen if f"'{tool.name}'" in told][:NAMED_MAX]
    tools = ["\nTools that these faults name:", *named] if named else []
    return _again(draft, "\n".join([text_of(plea), told, *tools]))


def unread_messages(draft: str, fault: str, wanted: Literal["plan", "patch"] = "plan") -> tuple[Message, ...]:
    """Return the messages that ask again after an answer that was no plan, or no patch, at all."""
    return _again(draft, text_of("unread").format(wanted=wanted, fault=fault))


def patch_messages(incident: Incident, tools: Sequence[Signature]) -> tuple[Message, ...]:
    """Return the messages that ask for a patch of a plan that went wrong."""
    asked = [f"# Tools\n\n{_listed(tools)}", incident.told()]
    return (Message("system", text_of("patch")), Message("user", "\n\n".join(asked)))


def prompt_version() -> str:
    """Return the digest of all prompt texts: what was planned with others is not what would be planned now."""
    return digest("\n".join(text_of(name) for name in PROMPTS).encode())


def _listed(tools: Sequence[Signature]) -> str:
    return (
        "\n".join(signature_line(tool) for tool in tools) or "There are none: use `ask` and `set` steps only."
    )


def _example(saved: SavedPlan) -> str:
    """Return a saved plan as the prompt's worked examples are written."""
    told = saved.plan.to_dict()
    task = told.pop("task", None) or saved.name
    return f"Task: {task}\n\n```json\n{text_in_order(told)}\n```"


def fault_line(fault: Problem) -> str:
    """Return a fault as the model reads it."""
    hint = f" Hint: {fault.hint}" if fault.hint else ""
    return f"- [{fault.code}] at {fault.path}: {fault.message}{hint}"


def _again(draft: str, plea: str) -> tuple[Message, ...]:
    said = draft.strip()[:DRAFT_CHARACTERS_MAX]
    return (*((Message("assistant", said),) if said else ()), Message("user", plea))


@cache
def text_of(name: str) -> str:
    """Return the text of a prompt's file, with the language's function and method tables filled in."""
    folder = resources.files(__name__.rpartition(".")[0]).joinpath("prompts")
    text = folder.joinpath(f"{name}.md").read_text(encoding="utf-8").strip()
    functions = " ".join(each for each in FUNCTIONS if each not in UNTOLD)
    methods = " ".join(f".{each}()" for each in METHODS)
    return text.replace("<functions>", functions).replace("<methods>", methods)
