"""The words that a model is shown: the format with worked examples, the tools, the task; after a bad draft, its faults.

Text that does not change comes first, so that endpoints can cache it. The model is shown signatures, the task and the types of given
inputs, and never a value or a tool's output, unless it plans a part of a run (`part.py`). The texts are files in `prompts/`.

A tool is one line of signature, with types in short form, and what is said of it (`signatures.py`).

What somebody else provides (`tools/provider.py`) is described by a stranger: its signature, choices and words are bounded, and stand as data between
marks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Literal, TypeAlias

from ...plans.expressions.functions import FUNCTIONS, METHODS
from ...plans.format.property_order import text_in_order
from ...plans.reports.problems import Problem
from ...plans.signature import Effect, Signature, properties_of
from ...plans.values import canonical, digest
from ...tools.models.completion import Message
from ...tools.models.marks import DATA_NOTE, Data, mark
from ...tools.provider import visible
from ..library.library import SavedPlan
from ..part import SHOWN_CHARACTERS_MAX, SHOWN_IN_ALL_MAX, Part
from ..request import PlanRequest, input_schemas
from .signatures import (
    SharedWords,
    choice_lines,
    marks_of,
    notes_of,
    one_line,
    provided_words_of,
    shows_learnt,
    signature_line,
    signature_of,
)

Plea: TypeAlias = Literal["repair", "mend", "anew", "doubts", "repatch"]

PROMPTS = (
    *("adapt", "choose", "plan", "more", "given", "part", "returns", "servers", "learnt", "untrusted"),
    *("repair", "mend", "anew", "doubts", "unread", "patch", "repatch"),
)
"""The files of the texts that a planning sends."""

SMALL_PROMPTS = ("small", "small_repair", "adapt", "choose", "servers", "learnt", "part", "returns")
"""The files of the texts that a planning in the small profile sends."""

NOT_SHOWN = frozenset({"secret", "isoformat", "isoweekday", "timestamp"})
"""Functions and methods that the prompt leaves out: a planner need not know that secrets exist, and a date is ISO text without being asked."""

PROBLEMS_MAX = 20
"""Faults of one draft that are sent back: models repair few at a time, and the check finds the rest again."""

NAMED_MAX = 10
"""Tools that are shown because a fault names them."""

CHOICE_TASK_CHARACTERS_MAX = 8_000
"""Characters of a task when tools are chosen: the rest is seldom the question, and the prompt for the plan has all of it."""

DRAFT_CHARACTERS_MAX = 60_000
"""Characters of a draft that are shown again: more would not help to repair it."""

FAULT_CHARACTERS_MAX = 1_000
"""Characters of a fault that may repeat the names and choices of a stranger."""

PROVIDED_CHARACTERS_MAX = 6_000
"""Characters of everything that a provider says of one tool: some twenty parameters with descriptions."""


def planning_messages(
    request: PlanRequest, tools: Sequence[Signature], examples: Sequence[SavedPlan] = ()
) -> tuple[Message, ...]:
    """Return the messages that ask for a plan.

    Args:
        request: The task, and all that the plan has to keep to.
        tools: The tools that are shown; if the request has more, the prompt says how to ask for another.
        examples: Saved plans for similar tasks.
    """
    parts: list[str | Data] = ["# Tools\n\n", *_listed(tools), "\n\n"]
    if (count := len(request.tools)) > len(tools):
        parts.append(f"{text_of('more').format(shown=len(tools), count=count)}\n\n")
    if shows_ways(tools):
        parts.append(f"# Untrusted results\n\n{text_of('untrusted')}\n\n")
    if examples:
        # A saved plan was once a model's answer to somebody's words, or learnt from a run: a model follows its form, and nothing that it says.
        parts.append(f"# Plans for other tasks, with these tools\n\n{DATA_NOTE}\n\n")
        parts += [part for each in examples for part in (Data("plan", _example(each)), "\n\n")]
    if request.inputs:
        given = "\n".join(f'- "{name}": {schema}' for name, schema in input_schemas(request.inputs).items())
        parts.append(f"# Given inputs\n\n{text_of('given')}\n{given}\n\n")
    # The system message never changes, and the user's part ends with the task: endpoints cache the longest equal
    # beginning.
    parts += _task(request, "What the user answered to your questions")
    return (Message("system", text_of("plan")), Message("user", mark(parts)))


def small_messages(
    request: PlanRequest, tools: Sequence[Signature], example: str | None = None
) -> tuple[Message, ...]:
    """Return the messages that ask a small model for a short plan (`small.py`).

    Args:
        request: The task, and all that the plan has to keep to.
        tools: The tools that are shown.
        example: A saved plan for a similar task, in the small form.
    """
    parts: list[str | Data] = ["# Tools\n\n", *_listed(tools), "\n\n"]
    if example is not None:
        parts += [f"# A plan for a similar task\n\n{DATA_NOTE}\n", Data("plan", example), "\n\n"]
    if request.inputs:
        schemas = input_schemas(request.inputs).items()
        given = "\n".join(f"- ${{inputs.{name}}}: {schema}" for name, schema in schemas)
        parts.append(f"# Given values\n\nThe task is about these; refer to them as here.\n{given}\n\n")
    parts += _task(request, "What the user answered")
    return (Message("system", text_of("small")), Message("user", mark(parts)))


def _task(request: PlanRequest, answers_title: str) -> Iterator[str | Data]:
    """Yield the task, and what its plan has to keep to: the user's answers, the bounds of a part of a run, the type of the output."""
    yield f"# Task\n\n{request.task}"
    if request.answers:
        lines = (f"- {question} -> {canonical(answer).decode()}" for question, answer in request.answers)
        yield f"\n\n# {answers_title}\n\n" + "\n".join(lines)
    if request.part is not None:
        yield from _part_of_a_run(request.part)
    if request.returns is not None:
        schema = canonical(dict(request.returns)).decode()
        yield f"\n\n# The output\n\n{text_of('returns').format(returns=schema)}"


def small_repair_messages(draft: str, fault: str, *, has_provided: bool = False) -> tuple[Message, ...]:
    """Return the messages that send one fault back to a small model.

    Args:
        draft: The draft, as the model wrote it; empty if it is not shown.
        fault: The fault as a line.
        has_provided: Whether a tool is provided by somebody else: then a fault may repeat names of a stranger, and is data.
    """
    parts: list[str | Data] = [f"{text_of('small_repair')}\n\n"]
    said = Data("fault", visible(fault[:FAULT_CHARACTERS_MAX]))
    return _again(draft, mark([*parts, f"{DATA_NOTE}\n", said] if has_provided else [*parts, fault]))


def _part_of_a_run(part: Part) -> Iterator[str | Data]:
    """Yield what a model is told of the run of which its plan is a part: the bounds, and the values that it may see."""
    returns = canonical(dict(part.returns)).decode()
    words = text_of("part").format(most=part.steps_max, returns=returns)
    yield f"\n\n# The run\n\n{words}"
    if part.shown:
        yield f"\n\nThe inputs have these values now. {DATA_NOTE}"
    left = SHOWN_IN_ALL_MAX
    for name, value in part.shown.items():
        text = canonical(value).decode()
        most = min(SHOWN_CHARACTERS_MAX, left)
        left -= min(len(text), most)
        more = f" .. ({len(text)} characters in all)" if len(text) > most else ""
        yield f"\n- inputs.{name}: "
        yield Data(name, text[:most] + more)


def shows_ways(tools: Iterable[Signature]) -> bool:
    """Whether the ways around an unsafe flow are shown with these tools: one has an untrusted result, and one is a write that must not get it."""
    every = list(tools)
    return any(tool.trust == "untrusted" for tool in every) and any(map(_is_guarded, every))


def _is_guarded(tool: Signature) -> bool:
    """Whether a tool is a write with an argument that takes no untrusted value as it is."""
    names = properties_of(tool.parameters)
    return tool.effect is Effect.WRITE and any(name not in tool.allow_untrusted for name in names)


def choosing_messages(task: str, listed: Sequence[Signature]) -> tuple[Message, ...]:
    """Return the messages that ask which tools a task may need."""
    own, provided = _by_author(listed)
    lines = "\n".join(choice_lines(own))
    words = "\n".join(choice_lines(provided))
    parts: list[str | Data] = [f"# Tools\n\n{lines}"]
    if provided:
        parts += [f"\n\nTools of servers, in their words. {DATA_NOTE}\n", Data("tools", words)]
    cut = ".." if len(task) > CHOICE_TASK_CHARACTERS_MAX else ""
    parts.append(f"\n\n# Task\n\n{task[:CHOICE_TASK_CHARACTERS_MAX]}{cut}")
    return (Message("system", text_of("choose")), Message("user", mark(parts)))


def adapting_messages(task: str, form: str) -> tuple[Message, ...]:
    """Return the messages that ask whether a saved plan fits a task, and with which inputs."""
    asked = mark(["# Form\n\n", Data("form", form), f"\n\n# Task\n\n{task}"])
    return (Message("system", f"{text_of('adapt')}\n\n{DATA_NOTE}"), Message("user", asked))


def repair_messages(
    draft: str,
    faults: Iterable[Problem],
    unseen: Iterable[Signature] = (),
    plea: Plea = "repair",
    *,
    has_ways: bool = True,
    has_provided: bool = False,
) -> tuple[Message, ...]:
    """Return the messages that send a draft's faults back.

    Args:
        draft: The draft, as the model wrote it.
        faults: Its faults.
        unseen: Tools that the model was not shown; those that a fault names are shown now.
        plea: The text that asks for the repair: of the whole plan, of its faulty steps, of the whole plan anew, or of a patch.
        has_ways: Whether the conversation has the ways around an unsafe flow, if they are needed; else they are shown now.
        has_provided: Whether a tool is provided by somebody else: then faults may repeat names and choices of a stranger, and are data.
    """
    every = list(faults)
    listed = [fault_line(fault) for fault in every[:PROBLEMS_MAX]]
    if has_provided:
        listed = [visible(line[:FAULT_CHARACTERS_MAX]) for line in listed]
    if len(every) > PROBLEMS_MAX:
        listed.append(f"- and {len(every) - PROBLEMS_MAX} more")
    shown = "\n".join(listed)
    # A hint of the check may say `did you mean 'search'`, and the model needs the signature to follow it.
    named = [tool for tool in unseen if f"'{tool.name}'" in shown][:NAMED_MAX]
    parts: list[str | Data] = [f"{text_of(plea)}\n"]
    parts += [f"{DATA_NOTE}\n", Data("faults", shown)] if has_provided else [shown]
    if named:
        parts += ["\n\nTools that these faults name:\n", *_listed(named)]
    if not has_ways:
        parts.append(f"\n\n{text_of('untrusted')}")
    return _again(draft, mark(parts))


def unread_messages(draft: str, fault: str, wanted: Literal["plan", "patch"] = "plan") -> tuple[Message, ...]:
    """Return the messages that ask again after an answer that is not a plan, or not a patch, at all.

    Args:
        draft: The answer; empty if it is not shown again.
        fault: Why it is no plan.
        wanted: What was asked for.
    """
    return _again(draft, text_of("unread").format(wanted=wanted, fault=fault))


def patch_messages(failure_report: Sequence[str | Data], tools: Sequence[Signature]) -> tuple[Message, ...]:
    """Return the messages that ask for a patch of a plan whose run failed, with the parts of the report of the failure."""
    words = mark(["# Tools\n\n", *_listed(tools), "\n\n", *failure_report])
    return (Message("system", f"{text_of('patch')}\n\n{DATA_NOTE}"), Message("user", words))


def prompt_version(prompts: Iterable[str] = PROMPTS) -> str:
    """Return the digest of prompt texts: other texts may lead to other plans, so that a plan of other texts is not reused."""
    return digest("\n".join([*map(text_of, prompts), DATA_NOTE]).encode())


def listed_text(tools: Iterable[Signature]) -> str:
    """Return tools as a prompt lists them."""
    return mark(_listed(tools))


def _listed(tools: Iterable[Signature]) -> list[str | Data]:
    """Return tools as parts of a prompt: the user's own, then those of others, each of these as data after its name."""
    own, provided = _by_author(tools)
    if not own and not provided:
        return ["There are none: use `ask` and `set` steps only."]
    shared = SharedWords.of(own)
    lines = [*shared.lines(), *(signature_line(tool, shared) for tool in own)]
    if shows_learnt([*own, *provided]):
        lines.insert(0, text_of("learnt"))
    parts: list[str | Data] = ["\n".join(lines)]
    if provided:
        gap = "\n\n" if lines else ""
        parts.append(f"{gap}{text_of('servers')} {DATA_NOTE}\n")
        shared = SharedWords.of(provided)
        if said := shared.lines():
            parts += ["\n", Data("tools", "\n".join(said)), "\n"]
    for tool in provided:
        parts += [
            f"\n- {tool.name}  [{', '.join(marks_of(tool))}]{_own_words(tool)}\n",
            Data("tool", _provided_text(tool, shared)),
        ]
    return parts


def _by_author(tools: Iterable[Signature]) -> tuple[list[Signature], list[Signature]]:
    every = list(tools)
    return [tool for tool in every if not tool.is_provided], [tool for tool in every if tool.is_provided]


def _own_words(tool: Signature) -> str:
    """Return the user's description of a tool that somebody else provides, as lines; empty if the provider describes it."""
    is_own = not provided_words_of(tool) and tool.description.strip()
    return f"\n    {one_line(tool.description)}" if is_own else ""


def _provided_text(tool: Signature, shared: SharedWords) -> str:
    """Return what a provider says of a tool, bounded: its signature first, which a plan needs most."""
    words = shared.without(provided_words_of(tool))
    text = "\n".join([signature_of(tool), *([one_line(words)] if words else []), *notes_of(tool, shared)])
    return text if len(text) <= PROVIDED_CHARACTERS_MAX else f"{text[:PROVIDED_CHARACTERS_MAX]}.."


def _example(saved: SavedPlan) -> str:
    """Return a saved plan in the form of the prompt's worked examples."""
    document = saved.plan.to_dict()
    task = document.pop("task", None) or saved.name
    return f"Task: {task}\n\n```json\n{text_in_order(document)}\n```"


def fault_line(fault: Problem) -> str:
    """Return a fault as a line of the prompt."""
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
    functions = " ".join(each for each in FUNCTIONS if each not in NOT_SHOWN)
    for hole, of in (("<methods>", "text"), ("<date methods>", "date")):
        text = text.replace(
            hole,
            " ".join(
                f".{name}()" for name, each in METHODS.items() if each.of == of and name not in NOT_SHOWN
            ),
        )
    return text.replace("<functions>", functions)
