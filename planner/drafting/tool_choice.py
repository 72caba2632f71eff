"""Which tools a model is shown for a plan: all of a small toolset, of a large one those that the task needs.

Tools are chosen by words (BM25 over names, parameters and descriptions), or by a small question beside the plan, in which a model sees
names with one line each. Words find only tools that share words with a task; a model knows that a colleague who is `off` is on vacation.
It is asked only if it saves tokens: a list of small tools is shown whole. For the question, words choose the candidates if not all tools fit; for the plan, they choose if no good answer comes. The question is
asked once, within the budget of the planning, and its failure never ends the planning.

A tool that is not shown may still be used: the check knows all tools. If a draft did so and has faults, more tools are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ...plans.signature import Effect, Signature, properties_of
from ...plans.values import Json, canonical
from ...tools.models.answer import AnswerForm
from ...tools.models.completion import Completion
from ...tools.tool import Tool
from ..library.retrieval import ranked_by_words
from .conversation import Conversation, SideAnswer
from .draft import parsed
from .form import plan_answer
from .left_out import tools_of
from .prompt import choosing_messages, listed_text
from .signatures import choice_lines

if TYPE_CHECKING:
    from ...tools.models.transport import Listener

T = TypeVar("T", bound=Signature)

SHOWN_MAX = 30
"""Tools of a prompt: more cost attention and tokens, and models choose worse among them."""

SIMILAR_SHOWN = 5
"""Tools shown for each name that a draft made up: those nearest to the words of the name."""

WIDENED_MAX = 60
"""Tools of a prompt after a draft that used tools that were not shown."""

CHOSEN_USUAL = 8
"""Tools that are shown after a choice, as a rule: those that a task needs, and those nearest to its words. So many are reckoned with."""

CANDIDATES_MAX = 300
CANDIDATES_CHARACTERS_MAX = 24_000
"""Limits of the list to choose from, about 6,000 tokens. Of a longer list, the tools furthest from the task's words are left out."""

ALWAYS_SHOWN = 5
"""Tools nearest to the task's words that are shown for the plan, whatever the model chooses."""

WRITING_SHOWN = 3
"""Writing tools nearest to the task's words that are shown if no other tool that is shown writes."""

SOURCE = "choice"
"""The source of an attempt that chose tools."""

NOTHING = "it names no tool that was listed"


# --- by words


def choose_tools(task: str, tools: Iterable[T], most: int = SHOWN_MAX) -> list[T]:
    """Return the tools to show, by name: all, or those nearest to the words of the task.

    Args:
        task: The words.
        tools: All tools.
        most: The most tools to show.
    """
    every = by_name(tools)
    return every if len(every) <= most else by_name(nearest_tools(task, every)[:most])


def with_writing_tools(task: str, tools: Iterable[T], shown: Sequence[T]) -> list[T]:
    """Return the tools that are shown; if none of them writes, with the writing tools nearest to the task's words.

    A prompt without a writing tool would make a plan that leaves out what the task asks for, and would not say so.
    """
    if any(tool.effect is Effect.WRITE for tool in shown):
        return list(shown)
    writing = [tool for tool in nearest_tools(task, tools) if tool.effect is Effect.WRITE]
    return by_name([*shown, *writing[:WRITING_SHOWN]])


def nearest_tools(task: str, tools: Iterable[T], *, found_only: bool = False) -> list[T]:
    """Return tools, those first that share most words with the task.

    Args:
        task: The words.
        tools: All tools.
        found_only: Whether tools that share no word with the task are left out.
    """
    return ranked_by_words(task, tools, _searched_text, found_only=found_only)


def by_name(tools: Iterable[T]) -> list[T]:
    """Return tools in the order in which a model sees them."""
    return sorted(tools, key=lambda tool: tool.name)


def widened_tools(task: str, tools: Iterable[T], shown: Sequence[T], draft: Json) -> list[T]:
    """Return the tools to show after a draft.

    If the draft used tools that were not shown, these, tools with similar names and those nearest to the task's words are shown, too.

    Args:
        task: The words.
        tools: All tools.
        shown: The tools that were shown for the draft.
        draft: The draft, as JSON.
    """
    known = {tool.name for tool in shown}
    unseen = [name for name in tools_in(draft) if name not in known]
    if not unseen:
        return list(shown)
    every = list(tools)
    # A made-up name is a hint as well: `send_email` finds `mail.send` by its words.
    used = [tool for tool in every if tool.name in unseen]
    similar = [tool for name in unseen for tool in choose_tools(name, every, SIMILAR_SHOWN)]
    wanted = dict.fromkeys(tool.name for tool in (*shown, *used, *similar, *choose_tools(task, every)))
    names = list(wanted)[:WIDENED_MAX]
    return by_name(tool for tool in every if tool.name in names)


def tools_in(draft: Json) -> list[str]:
    """Return the names of the tools that a draft uses in steps, inner plans and agents, whatever its faults."""
    found: list[str] = []
    parts: list[Json] = [draft]
    while parts:
        match parts.pop():
            case dict() as fields:
                found += [name for name, _ in tools_of(fields)]
                parts += fields.values()
            case list() as items:
                parts += items
            case _:
                pass
    return list(dict.fromkeys(found))


def _searched_text(tool: Signature) -> str:
    """Return the text by which a tool is found; its name counts twice, since descriptions are longer."""
    parameters = " ".join(properties_of(tool.parameters))
    return f"{tool.name} {tool.name} {parameters} {tool.description}"


# --- by a model


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """The tools that are shown for the plan.

    Attributes:
        shown: The tools, by name.
        draft: The answer, if it was a complete plan instead of a choice: then it is the first draft.
    """

    shown: list[Tool]
    draft: Completion | None = None


async def ask_for_tools(
    conversation: Conversation, choose_over: int | None, listener: Listener | None
) -> ToolChoice:
    """Return the tools to show for the plan: the model's choice from a large toolset, otherwise the choice by words.

    Args:
        conversation: The planning; the question is one of its attempts.
        choose_over: A model chooses from a toolset of more tools than this; `None`: never.
        listener: Hears an answer that is a complete plan.
    """
    task, tools = conversation.request.task, conversation.request.tools
    if not is_choice_due(task, tools, choose_over):
        return ToolChoice(shown_without_choice(task, tools, choose_over))
    if not conversation.is_reachable:
        return ToolChoice(choose_tools(task, tools))
    ranked = nearest_tools(task, tools)
    listed = candidates(task, tools)
    answer = await conversation.ask_aside(choosing_messages(task, listed), choice_answer(listed), listener)
    if answer.plan is not None:
        return ToolChoice(by_name(ranked[:SHOWN_MAX]), answer.plan)
    names = _names_in(answer, listed)
    fault = None if names else answer.fault or NOTHING
    conversation.attempts.append(answer.attempt(conversation.number, SOURCE, "choose", fault))
    if not names:
        return ToolChoice(by_name(ranked[:SHOWN_MAX]))
    # A model overlooks tools in long lists, and words miss synonyms; a few by words beside the model's choice
    # cover both.
    always = [tool.name for tool in ranked[:ALWAYS_SHOWN]]
    wanted = {*names[: SHOWN_MAX - ALWAYS_SHOWN], *always}
    return ToolChoice(by_name(tool for tool in tools if tool.name in wanted))


def is_choice_due(task: str, tools: Iterable[Tool], choose_over: int | None) -> bool:
    """Whether a model chooses among these tools: there are more than `choose_over`, and the choice saves tokens, or they are too many to show.

    Args:
        task: The words.
        tools: All tools.
        choose_over: See `ask_for_tools`.
    """
    every = by_name(tools)
    if choose_over is None or len(every) <= choose_over:
        return False
    if len(every) > WIDENED_MAX:
        return True
    # Characters, of which tokens have some four each on either side.
    whole = _size(listed_text(every), plan_answer(every)[0])
    choice = sum(len(message.content) for message in choosing_messages(task, every))
    return choice + _size("", choice_answer(every)) + whole * CHOSEN_USUAL / len(every) < whole


def _size(text: str, answer: AnswerForm) -> int:
    return len(text) + len(canonical(answer.wire_schema))


def shown_without_choice(task: str, tools: Iterable[Tool], choose_over: int | None) -> list[Tool]:
    """Return the tools that are shown where a model does not choose: all if a choice would cost more, else those nearest to the task's words.

    Args:
        task: The words.
        tools: All tools.
        choose_over: See `ask_for_tools`.
    """
    every = by_name(tools)
    if choose_over is not None and choose_over < len(every) <= WIDENED_MAX:
        return every
    return choose_tools(task, every)


def shown_by_words(task: str, tools: Iterable[Tool], choose_over: int | None) -> list[Tool]:
    """Return the tools that are shown for the plan if no model is asked to choose, or none gives a good answer.

    Args:
        task: The words.
        tools: All tools.
        choose_over: See `ask_for_tools`.
    """
    every = by_name(tools)
    is_due = is_choice_due(task, every, choose_over)
    chosen = choose_tools(task, every) if is_due else shown_without_choice(task, every, choose_over)
    return with_writing_tools(task, every, chosen)


def candidates(task: str, tools: Iterable[Tool]) -> list[Tool]:
    """Return the tools to choose from, by name: all, or as many as the list has room for, the nearest to the task's words."""
    every = choose_tools(task, tools, CANDIDATES_MAX)
    lengths = [len(line) + 1 for line in choice_lines(every)]
    if sum(lengths) <= CANDIDATES_CHARACTERS_MAX:
        return every
    return choose_tools(task, every, CANDIDATES_CHARACTERS_MAX // max(lengths))


def choice_answer(listed: Sequence[Tool]) -> AnswerForm:
    """Return the answer that is asked for: room to reason, then names of listed tools."""
    names: list[Json] = [tool.name for tool in listed]
    schema: dict[str, Json] = {
        "type": "object",
        "properties": {
            "reasoning": {"type": "string", "description": "The parts of the task, and what each needs."},
            "tools": {"type": "array", "items": {"enum": names}},
        },
        "required": ["reasoning", "tools"],
    }
    return AnswerForm(
        {"type": "object"}, name="choice", purpose="The tools that may be needed.", shown_schema=schema
    )


def _names_in(answer: SideAnswer, listed: Sequence[Tool]) -> list[str]:
    """Return the names of listed tools in an answer; small models quote names, change their case, or add arguments."""
    named = parsed(answer.value.get("tools")) if isinstance(answer.value, dict) else None
    alike = {tool.name.casefold(): tool.name for tool in listed}
    exact = {tool.name: tool.name for tool in listed}
    texts = [each for each in named if isinstance(each, str)] if isinstance(named, list) else []
    # The exact name first: two tools may differ in case only.
    found = [exact.get(each) or alike.get(_bare_name(each)) for each in texts]
    return [name for name in found if name is not None]


def _bare_name(name: str) -> str:
    """Return a name without quotes, arguments, a description and capitals."""
    return name.partition("(")[0].partition(":")[0].strip(" `'\"").casefold()
