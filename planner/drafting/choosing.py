"""A small question beside the plan: which of many tools it may need.

BM25 finds tools that share words with a task; a model knows that whoever is `off` is on vacation. So where there are many tools,
a model is shown their names and one line of each, and chooses; BM25 says which are shown to it where not all fit, and what is
shown for the plan where no good answer comes. It never ends a planning: it is asked once, out of the planning's budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...plans.values import Json
from ...tools.models.answer import Answer
from ...tools.models.completion import Answered, Completion, Invalid, Refused, Truncated
from ...tools.models.errors import ModelError
from ...tools.tool import Tool
from .attempt import CUT_OFF, Attempt
from .choice import SHOWN_MAX, by_name, choose_tools, nearest_tools
from .conversation import Conversation
from .draft import parsed, unwrapped
from .prompt import choice_line, choosing_messages

if TYPE_CHECKING:
    from ...tools.models.transport import Listener

CHOOSE_OVER = 20
"""Up to so many tools are all shown for the plan: a choice would cost a request and could only lose some."""

CANDIDATES_MAX = 300
CANDIDATES_CHARACTERS_MAX = 24_000
"""Of the list to choose from, about 6,000 tokens; of more tools BM25 leaves out those furthest from the task's words."""

SURE = 5
"""So many are shown for the plan whatever is chosen: those nearest to the task's words."""

SOURCE = "choice"
"""The source of an attempt that chose tools."""

NOTHING = "it names no tool that was listed"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is shown for the plan.

    Attributes:
        shown: The tools, by name.
        plan: The answer, where it was a whole plan: then it is the first draft.
    """

    shown: list[Tool]
    plan: Completion | None = None


async def choose(conversation: Conversation, choose_over: int | None, listener: Listener | None) -> Chosen:
    """Return the tools to show for the plan: the model's choice where there are many, else by words.

    Args:
        conversation: With the model; the question is one of its attempts.
        choose_over: A toolset of more tools than this is chosen from; `None`: words alone decide.
        listener: Hears an answer that is a whole plan.
    """
    task, tools = conversation.order.task, conversation.order.tools
    if not (is_choice_due(tools, choose_over) and conversation.is_reachable):
        return Chosen(choose_tools(task, tools))
    ranked = nearest_tools(task, tools)
    by_words = by_name(ranked[:SHOWN_MAX])
    listed = candidates(task, tools)
    turn = await conversation.ask_aside(choosing_messages(task, listed), choice_answer(listed), listener)
    if isinstance(turn, Completion) and is_plan(turn):
        return Chosen(by_words, turn)
    names, attempt = _read(turn, listed, conversation.number)
    conversation.attempts.append(attempt)
    if not names:
        return Chosen(by_words)
    sure = [tool.name for tool in ranked[:SURE]]
    wanted = dict.fromkeys([*names[: SHOWN_MAX - SURE], *sure])
    return Chosen(by_name(tool for tool in tools if tool.name in wanted))


def is_choice_due(tools: Iterable[Tool], choose_over: int | None) -> bool:
    """Whether a model chooses among these tools."""
    return choose_over is not None and sum(1 for _ in tools) > choose_over


def candidates(task: str, tools: Iterable[Tool]) -> list[Tool]:
    """Return the tools to choose from, by name: all, or as many as there is room for, the nearest to the task's words."""
    every = choose_tools(task, tools, CANDIDATES_MAX)
    lengths = [len(choice_line(tool)) + 1 for tool in every]
    if sum(lengths) <= CANDIDATES_CHARACTERS_MAX:
        return every
    return choose_tools(task, every, CANDIDATES_CHARACTERS_MAX // max(lengths))


def choice_answer(listed: Sequence[Tool]) -> Answer:
    """Return what is asked for: room to reason, then names of the tools that are listed."""
    names: list[Json] = [tool.name for tool in listed]
    told: dict[str, Json] = {
        "type": "object",
        "properties": {
            "reasoning": {"type": "string", "description": "The parts of the task, and what each needs."},
            "tools": {"type": "array", "items": {"enum": names}},
        },
        "required": ["reasoning", "tools"],
    }
    return Answer(
        {"type": "object"}, name="choice", purpose="The tools that may be needed.", shown_schema=told
    )


def is_plan(turn: Completion) -> bool:
    """Whether a small question was answered with a whole plan."""
    match turn.outcome:
        case Answered(dict(value)):
            return "steps" in unwrapped(value)
        case _:
            return False


def fault_of(turn: Completion | ModelError) -> str | None:
    """Return why a small question has no answer; `None`: it has one."""
    if isinstance(turn, ModelError):
        return str(turn)
    match turn.outcome:
        case Answered():
            return None
        case Truncated():
            return CUT_OFF
        case Invalid(fault):
            return fault
        case Refused(text):
            return f"the model declined to answer: {text[:500]}"


def _read(turn: Completion | ModelError, listed: Sequence[Tool], number: int) -> tuple[list[str], Attempt]:
    """Return the names in an answer, of those that were listed, and the attempt that it is."""
    alike = {tool.name.casefold(): tool.name for tool in listed}
    known = {**alike, **{tool.name: tool.name for tool in listed}}
    found = [known.get(each) or alike.get(_plain(each)) for each in _names(turn)]
    names = [name for name in found if name is not None]
    error = None if names else fault_of(turn) or NOTHING
    if isinstance(turn, ModelError):
        return [], Attempt(number, error=error, source=SOURCE, approach="choose")
    return names, Attempt(number, turn.raw, usage=turn.usage, error=error, source=SOURCE, approach="choose")


def _plain(name: str) -> str:
    """Return a name without what models put around it: quotes, arguments, what the tool does, capitals."""
    return name.partition("(")[0].partition(":")[0].strip(" `'\"").casefold()


def _names(turn: Completion | ModelError) -> list[str]:
    """Return the texts in an answer's list of tools."""
    if isinstance(turn, ModelError):
        return []
    match turn.outcome:
        case Answered({"tools": tools}):
            named = parsed(tools)
            return [each for each in named if isinstance(each, str)] if isinstance(named, list) else []
        case _:
            return []
