"""The words that a model is shown: the format with worked examples, the tools, the task; after a bad draft, its faults.

Text that does not change comes first, so that endpoints can cache it. The model is shown signatures, the task and the types of given
inputs, and never a value or a tool's output. The texts are files in `prompts/`.

A tool is one line of signature, with types in short form:

    - send_mail(to: text, body: text, copies: integer = 1) -> {id: text}  [write, a person approves]
        Send a mail.

Short forms leave out what only a schema can say (patterns, bounds); the check tells a draft that breaks these.

What somebody else provides (`tools/provider.py`) is described by a stranger: its signature, choices and words are bounded, and stand as data between
marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Literal, TypeAlias, cast

from ...plans.expressions.functions import FUNCTIONS, METHODS
from ...plans.format.property_order import text_in_order
from ...plans.problems import Problem
from ...plans.signature import Effect, Signature
from ...plans.values import Json, digest
from ...tools.models.completion import Message
from ...tools.models.marks import DATA_NOTE, Data, mark
from ...tools.provider import quoted, visible
from ...tools.tool import Tool
from ..library.library import SavedPlan
from ..request import input_schemas

Plea: TypeAlias = Literal["repair", "mend", "anew", "repatch"]

PROMPTS = (
    *("adapt", "choose", "plan", "more", "given", "servers", "untrusted"),
    *("repair", "mend", "anew", "unread", "patch", "repatch"),
)
"""The files of the texts that a planning sends."""

_WORD = re.compile(r"[\w.$@-]{1,64}")

NOT_SHOWN = frozenset({"secret", "isoformat", "isoweekday", "timestamp"})
"""Functions and methods that the prompt leaves out: a planner need not know that secrets exist, and a date is ISO text without being asked."""

PROBLEMS_MAX = 20
"""Faults of one draft that are sent back: models repair few at a time, and the check finds the rest again."""

NAMED_MAX = 10
"""Tools that are shown because a fault names them."""

CHOICE_CHARACTERS_MAX = 120
"""Characters of a tool's description in a list to choose from."""

CHOICE_TASK_CHARACTERS_MAX = 8_000
"""Characters of a task when tools are chosen: the rest is seldom the question, and the prompt for the plan has all of it."""

DRAFT_CHARACTERS_MAX = 60_000
"""Characters of a draft that are shown again: more would not help to repair it."""

DEPTH_MAX = 5
"""Nested objects whose fields are shown; a deeper object is shown as `object`."""

DESCRIPTION_CHARACTERS_MAX = 600
ENUM_MAX = 24
FAULT_CHARACTERS_MAX = 1_000
"""Characters of a fault that may repeat the names and choices of a stranger."""

OPTION_CHARACTERS_MAX = 200
"""Characters of one choice, constant or default: a longer one is no word to choose, and a prompt could be flooded with it."""

NAME_CHARACTERS_MAX = 128
"""Characters of the name of a parameter or a field."""

PROVIDED_CHARACTERS_MAX = 6_000
"""Characters of everything that a provider says of one tool: some twenty parameters with descriptions."""


def planning_messages(
    task: str,
    tools: Sequence[Signature],
    inputs: Mapping[str, Json],
    examples: Sequence[SavedPlan] = (),
    count: int = 0,
) -> tuple[Message, ...]:
    """Return the messages that ask for a plan.

    Args:
        task: The words.
        tools: The tools that are shown.
        inputs: The given inputs, of which names and types are shown.
        examples: Saved plans for similar tasks.
        count: The number of all tools; if some are not shown, the prompt says how to ask for another.
    """
    given = "\n".join(f'- "{name}": {schema}' for name, schema in input_schemas(inputs).items())
    parts: list[str | Data] = ["# Tools\n\n", *_listed(tools), "\n\n"]
    if count > len(tools):
        parts.append(f"{text_of('more').format(shown=len(tools), count=count)}\n\n")
    if shows_ways(tools):
        parts.append(f"# Untrusted results\n\n{text_of('untrusted')}\n\n")
    if examples:
        # A saved plan was once a model's answer to somebody's words, or learnt from a run: a model follows its form, and nothing that it says.
        parts.append(f"# Plans for other tasks, with these tools\n\n{DATA_NOTE}\n\n")
        parts += [part for each in examples for part in (Data("plan", _example(each)), "\n\n")]
    if given:
        parts.append(f"# Given inputs\n\n{text_of('given')}\n{given}\n\n")
    parts.append(f"# Task\n\n{task}")
    # The system message never changes, and the user's part ends with the task: endpoints cache the longest equal
    # beginning.
    return (Message("system", text_of("plan")), Message("user", mark(parts)))


def shows_ways(tools: Iterable[Signature]) -> bool:
    """Whether the ways around an unsafe flow are shown with these tools: one has an untrusted result, and one is a write that must not get it."""
    every = list(tools)
    return any(tool.trust == "untrusted" for tool in every) and any(map(_is_guarded, every))


def _is_guarded(tool: Signature) -> bool:
    """Whether a tool is a write with an argument that takes no untrusted value as it is."""
    properties = cast("dict[str, Json]", tool.parameters.get("properties") or {})
    return tool.effect is Effect.WRITE and any(name not in tool.allow_untrusted for name in properties)


def choosing_messages(task: str, listed: Sequence[Signature]) -> tuple[Message, ...]:
    """Return the messages that ask which tools a task may need."""
    own, provided = _by_author(listed)
    lines = "\n".join(map(choice_line, own))
    words = "\n".join(map(choice_line, provided))
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


def choice_line(tool: Signature) -> str:
    """Return a tool in a list to choose from: its name, and the first sentence of its description."""
    about = " ".join((_words_of(tool) or tool.description).split())
    sentence = about.partition(". ")[0].rstrip(".")[:CHOICE_CHARACTERS_MAX]
    return f"- {tool.name}: {sentence}." if sentence else f"- {tool.name}"


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
    """Return the messages that ask again after an answer that is not a plan, or not a patch, at all."""
    return _again(draft, text_of("unread").format(wanted=wanted, fault=fault))


def patch_messages(failure_report: Sequence[str | Data], tools: Sequence[Signature]) -> tuple[Message, ...]:
    """Return the messages that ask for a patch of a plan whose run failed, with the parts of the report of the failure."""
    words = mark(["# Tools\n\n", *_listed(tools), "\n\n", *failure_report])
    return (Message("system", f"{text_of('patch')}\n\n{DATA_NOTE}"), Message("user", words))


def prompt_version() -> str:
    """Return the digest of all prompt texts: other texts may lead to other plans, so that a plan of other texts is not reused."""
    return digest("\n".join([*map(text_of, PROMPTS), DATA_NOTE]).encode())


def _listed(tools: Iterable[Signature]) -> list[str | Data]:
    """Return tools as parts of a prompt: the user's own, then those of others, each of these as data after its name."""
    own, provided = _by_author(tools)
    parts: list[str | Data] = ["\n".join(map(signature_line, own))]
    if not own and not provided:
        return ["There are none: use `ask` and `set` steps only."]
    if provided:
        gap = "\n\n" if own else ""
        parts.append(f"{gap}{text_of('servers')} {DATA_NOTE}\n")
    for tool in provided:
        parts += [
            f"\n- {tool.name}  [{', '.join(_marks(tool))}]{_own_words(tool)}\n",
            Data("tool", _provided_text(tool)),
        ]
    return parts


def is_provided(tool: Signature) -> bool:
    """Whether somebody else describes a tool."""
    return getattr(tool, "provided", None) is not None


def _by_author(tools: Iterable[Signature]) -> tuple[list[Signature], list[Signature]]:
    every = list(tools)
    return [tool for tool in every if not is_provided(tool)], [tool for tool in every if is_provided(tool)]


def _words_of(tool: Signature) -> str:
    """Return the provider's description of a tool; empty if the user has described it, or if nobody else provides it."""
    return tool.provided.words if isinstance(tool, Tool) and tool.provided is not None else ""


def _own_words(tool: Signature) -> str:
    """Return the user's description of a tool that somebody else provides, as lines; empty if the provider describes it."""
    is_own = not _words_of(tool) and tool.description.strip()
    return f"\n    {_one_line(tool.description)}" if is_own else ""


def _provided_text(tool: Signature) -> str:
    """Return what a provider says of a tool, bounded: its signature first, which a plan needs most."""
    words = _words_of(tool)
    text = "\n".join([_signature(tool), *([_one_line(words)] if words else []), *_notes(tool)])
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


# --- tools and types in short form


def signature_line(tool: Signature) -> str:
    """Return a tool as lines of the prompt: its signature, its description, and the descriptions of its parameters."""
    about = [f"    {_one_line(tool.description)}"] if tool.description.strip() else []
    notes = [f"    {note}" for note in _notes(tool)]
    return "\n".join([f"- {_signature(tool)}  [{', '.join(_marks(tool))}]", *about, *notes])


def _signature(tool: Signature) -> str:
    schema = tool.parameters
    required = cast("list[Json]", schema.get("required") or [])
    properties = cast("dict[str, Json]", schema.get("properties") or {})
    parameters = [
        _parameter(name, properties[name], schema, is_required=name in required)
        # Required parameters first, as in a Python signature.
        for name in sorted(properties, key=lambda name: name not in required)
    ]
    result = "anything" if tool.returns is None else shown_schema(tool.returns)
    return f"{tool.name}({', '.join(parameters)}) -> {result}"


def _notes(tool: Signature) -> list[str]:
    """Return the descriptions of a tool's parameters."""
    properties = cast("dict[str, Json]", tool.parameters.get("properties") or {})
    return [
        f"{_name(name)}: {_one_line(text)}"
        for name, part in properties.items()
        if isinstance(part, dict) and isinstance(text := part.get("description"), str)
    ]


def _name(name: str) -> str:
    """Return the name of a parameter or field: quoted if it is not a word, since a schema may have any text there."""
    return name if _WORD.fullmatch(name) else quoted(name, NAME_CHARACTERS_MAX)


def shown_schema(schema: Mapping[str, Json]) -> str:
    """Return a JSON Schema in short form: `{title: text, tags?: list of text}`."""
    return _shown(dict(schema), schema, 0)


def _marks(tool: Signature) -> list[str]:
    """Return the properties of a call that matter for a plan."""
    marks = [str(tool.effect)]
    if tool.asks_approval:
        marks.append("a person approves")
    if tool.trust == "untrusted":
        marks.append("untrusted result")
    if tool.allow_untrusted:
        marks.append("takes untrusted values in " + ", ".join(map(_name, sorted(tool.allow_untrusted))))
    if tool.harmless:
        marks.append("harmless: " + ", ".join(map(_name, sorted(tool.harmless))))
    if tool.private:
        marks.append("private result, only for " + (", ".join(sorted(tool.readers)) or "the run's output"))
    if tool.egress:
        marks.append("sends to whom " + ", ".join(map(_name, sorted(tool.egress))) + " names")
    return marks


def _parameter(name: str, schema: Json, root: Mapping[str, Json], *, is_required: bool) -> str:
    shown = _shown(schema, root, 0)
    if is_required:
        return f"{_name(name)}: {shown}"
    if isinstance(schema, dict) and "default" in schema:
        return f"{_name(name)}: {shown} = {quoted(schema['default'], OPTION_CHARACTERS_MAX)}"
    return f"{_name(name)}?: {shown}"


def _shown(schema: Json, root: Mapping[str, Json], depth: int) -> str:
    """Return one schema in short form."""
    if not isinstance(schema, dict):
        return "anything"
    match schema:
        case {"$ref": str(ref)}:
            target = _target(ref, root)
            shown = "object" if target is None or depth >= DEPTH_MAX else _shown(target, root, depth + 1)
        case {"const": value}:
            shown = quoted(value, OPTION_CHARACTERS_MAX)
        case {"enum": list(options)}:
            options_shown = [quoted(option, OPTION_CHARACTERS_MAX) for option in options[:ENUM_MAX]]
            shown = "|".join([*options_shown, ".."] if len(options) > ENUM_MAX else options_shown)
        case {"anyOf": list(branches)} | {"oneOf": list(branches)}:
            shown = " or ".join(dict.fromkeys(_shown(branch, root, depth) for branch in branches))
        case {"type": list(kinds)}:
            shown = " or ".join(_shown({**schema, "type": kind}, root, depth) for kind in kinds)
        case {"type": "array"}:
            items = schema.get("items")
            shown = f"list of {_shown(items, root, depth + 1)}" if items else "list"
        case {"type": "object"} | {"properties": _}:
            shown = _object(schema, root, depth)
        case {"type": str(kind)}:
            shown = "text" if kind == "string" else kind
        case _:
            shown = "anything"
    return shown


def _object(schema: Mapping[str, Json], root: Mapping[str, Json], depth: int) -> str:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        values = schema.get("additionalProperties")
        return (
            f"object of {_shown(values, root, depth + 1)}"
            if isinstance(values, dict) and values
            else "object"
        )
    if depth >= DEPTH_MAX:
        return "object"
    required = cast("list[Json]", schema.get("required") or [])
    fields = [
        f"{_name(name)}{'' if name in required else '?'}: {_shown(part, root, depth + 1)}"
        for name, part in properties.items()
    ]
    return "{" + ", ".join(fields) + "}"


def _target(ref: str, root: Mapping[str, Json]) -> Json:
    value: Json = dict(root)
    for part in ref.removeprefix("#/").split("/"):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= DESCRIPTION_CHARACTERS_MAX else line[:DESCRIPTION_CHARACTERS_MAX] + ".."
