"""Tools and types in short form, as prompts show them.

A tool is one line of signature, with types in short form, then its description and the descriptions of its parameters and of its result:

    - bill(day: text (date), rate: number (EUR/h) = 1.5) -> {total: number, paid?: boolean}  [read]
        What a day costs.
        rate: Of one person.
        -> total: Before tax.

Short forms leave out what only a schema can say (patterns, bounds); the check tells a draft that breaks these. Everything is bounded: of a large
signature, deep types come short first, then optional fields and parameters. What several tools say alike is said once.

A type that is not declared, or that results have refuted, has beside it what results looked like (`plans/types/learnt.py`). Of a tool that is not trusted, only
fields with short identifiers for names are shown; of private results nothing, unless models are among their readers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, cast

from ...plans.checker.flow.secrecy import MODEL
from ...plans.signature import Signature, properties_of
from ...plans.types.learnt import LearntType, schema_of_shape
from ...plans.values import Json
from ...tools.provider import quoted
from ...tools.tool import Tool
from ...tools.types.schemas import is_loose

DEPTH_MAX: Final = 5
"""Nested objects whose fields are shown; a deeper object is shown as `object`."""
SIGNATURE_CHARACTERS_MAX: Final = 1_600
"""Characters of one signature: about 400 tokens, some thirty parameters."""
NOTES_CHARACTERS_MAX: Final = 1_200
"""Characters of the descriptions of all parameters and fields of one tool."""
NOTE_CHARACTERS_MIN: Final = 60
"""Characters of one such description that are worth their place."""
RESULT_NOTES_MAX: Final = 8
DESCRIPTION_CHARACTERS_MAX: Final = 600
ENUM_MAX: Final = 24
OPTION_CHARACTERS_MAX: Final = 200
"""Characters of one choice, constant or default: a longer one is no word to choose, and a prompt could be flooded with it."""
NAME_CHARACTERS_MAX: Final = 128
"""Characters of the name of a parameter or a field."""
EXAMPLE_CHARACTERS_MAX: Final = 300
CHOICE_CHARACTERS_MAX: Final = 120
"""Characters of a tool's description in a list to choose from."""
SHARED_BY_MIN: Final = 3
"""Tools that say the same, from which on it is said once."""

# Depth and fields of an object that are shown, from the most to the least.
_LEVELS: Final = ((DEPTH_MAX, 60), (3, 24), (2, 16), (1, 12), (1, 5))
_WORD: Final = re.compile(r"[\w.$@-]{1,64}")
_FORMAT: Final = re.compile(r"[a-z][a-z0-9-]{0,19}")
_UNIT: Final = re.compile(r"[\w%°/.^ -]{1,20}")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+")


# --- what tools say alike


@dataclass(frozen=True, slots=True)
class SharedWords:
    """What several tools of a list say alike, and what is said once.

    Attributes:
        sentences: Of the descriptions of all of them.
        notes: Name of a parameter -> its description in several of them.
    """

    sentences: tuple[str, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, tools: Sequence[Signature]) -> SharedWords:
        """Return what these tools say alike."""
        if len(tools) < SHARED_BY_MIN:
            return cls()
        said = [_sentences(words_of(tool)) for tool in tools]
        everywhere = tuple(each for each in dict.fromkeys(said[0]) if all(each in others for others in said))
        counts = Counter(note for tool in tools for note in set(_parameter_notes(tool)))
        often = tuple(sorted(note for note, count in counts.items() if count >= SHARED_BY_MIN))
        return cls(everywhere, often)

    def lines(self) -> list[str]:
        """Return it as lines, to stand before the tools."""
        about = [f"Of each of these tools: {one_line(' '.join(self.sentences))}"] if self.sentences else []
        return about + [f"Wherever it stands, {_name(name)}: {one_line(text)}" for name, text in self.notes]

    def without(self, text: str) -> str:
        """Return a description without what all tools say."""
        if not self.sentences:
            return text
        return " ".join(each for each in _sentences(text) if each not in self.sentences)


NOTHING_SHARED: Final = SharedWords()


def _sentences(text: str) -> list[str]:
    return _SENTENCE_END.split(" ".join(text.split())) if text.strip() else []


def words_of(tool: Signature) -> str:
    """Return the description of a tool, without the note that it is a provider's."""
    return provided_words_of(tool) or tool.description


def provided_words_of(tool: Signature) -> str:
    """Return the provider's description of a tool; empty if the user has described it, or if nobody else provides it."""
    return tool.provided.words if isinstance(tool, Tool) and tool.provided is not None else ""


# --- one tool


def signature_line(tool: Signature, shared: SharedWords = NOTHING_SHARED) -> str:
    """Return a tool as lines of the prompt: its signature, its description, and the descriptions of its parameters and its result."""
    description = shared.without(tool.description)
    about = [f"    {one_line(description)}"] if description.strip() else []
    notes = [f"    {note}" for note in notes_of(tool, shared)]
    return "\n".join([f"- {signature_of(tool)}  [{', '.join(marks_of(tool))}]", *about, *notes])


def signature_of(tool: Signature) -> str:
    """Return the signature of a tool: name, parameters, result."""
    made = ""
    for depth, fields in _LEVELS:
        made = _signature(tool, depth, fields)
        if len(made) <= SIGNATURE_CHARACTERS_MAX:
            return made
    return _signature(tool, 1, 0, room=SIGNATURE_CHARACTERS_MAX)


def _signature(tool: Signature, depth: int, fields: int, room: int | None = None) -> str:
    """Return a signature with types to a depth; with `room`, optional parameters that pass it are left out."""
    schema = tool.parameters
    required = cast("list[Json]", schema.get("required") or [])
    properties = properties_of(schema)
    short = _Short(schema, depth, fields)
    parts: list[str] = []
    size = 0
    # Required parameters first, as in a Python signature.
    for name in sorted(properties, key=lambda name: name not in required):
        part = short.parameter(name, properties[name], is_required=name in required)
        size += len(part)
        if room is not None and size > room and name not in required:
            parts.append(f".. {len(properties) - len(parts)} more that may be left out")
            break
        parts.append(part)
    return f"{tool.name}({', '.join(parts)}) -> {_result(tool, depth, fields)}"


def _result(tool: Signature, depth: int, fields: int) -> str:
    """Return the type of a tool's result: as it is declared, and as results looked like where that says more."""
    declared = None if tool.returns is None else _short(tool.returns, depth, fields)
    if (real := _tool_of(tool)) is None:
        return declared or "anything"
    learnt = _learnt_of(real)
    if learnt is None or not learnt.shape:
        # A type that is declared and not relied on is a guess, as long as no result has come.
        guess = real.types.returns
        return declared or (
            "anything" if guess is None else f"anything, perhaps {_short(guess, depth, fields)}"
        )
    seen = _seen(real, learnt, depth, fields)
    if declared is None or is_loose(tool.returns):
        return f"{declared or 'anything'}; in {_results(learnt.results)} {seen}"
    if learnt.unfit:
        return (
            f"{declared}; but {learnt.unfit} of {_results(learnt.results)} did not fit, and they were {seen}"
        )
    return declared


def _tool_of(tool: Signature) -> Tool[..., Any] | None:
    """Return a tool that is more than its signature; `None`: it is not."""
    return cast("Tool[..., Any]", tool) if isinstance(tool, Tool) else None


def _results(count: int) -> str:
    return "1 result" if count == 1 else f"{count} results"


def _learnt_of(tool: Tool) -> LearntType | None:
    """Return what a model may know of a tool's results: of private ones only a reader, since names of fields may be data, such as those of customers."""
    return None if tool.private and MODEL not in tool.readers else tool.learnt


def _seen(tool: Tool, learnt: LearntType, depth: int, fields: int) -> str:
    is_closed = tool.trust == "untrusted" or tool.private
    return _short(schema_of_shape(learnt.shape, plain_names=is_closed), depth, fields)


def shows_learnt(tools: Iterable[Signature]) -> bool:
    """Whether the signature of one of these tools shows what results looked like."""
    real = [_tool_of(tool) for tool in tools]
    return any(tool is not None and _learnt_of(tool) is not None for tool in real)


def marks_of(tool: Signature) -> list[str]:
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


# --- descriptions of parameters and fields


def notes_of(tool: Signature, shared: SharedWords = NOTHING_SHARED) -> list[str]:
    """Return the descriptions of a tool's parameters, required ones first, and of its result, all together bounded."""
    required = cast("list[Json]", tool.parameters.get("required") or [])
    own = [note for note in _parameter_notes(tool) if note not in shared.notes]
    own.sort(key=lambda note: note[0] not in required)
    every = [f"{_name(name)}: {one_line(text)}" for name, text in own]
    every += [f"-> {note}" for note in _result_notes(tool)]
    if isinstance(tool, Tool) and tool.example is not None:
        every.append(f"-> such as {quoted(tool.example, EXAMPLE_CHARACTERS_MAX)}")
    most = max(NOTE_CHARACTERS_MIN, NOTES_CHARACTERS_MAX // max(1, len(every)))
    if sum(map(len, every)) <= NOTES_CHARACTERS_MAX:
        return every
    return [_cut(note, most) for note in every[: NOTES_CHARACTERS_MAX // NOTE_CHARACTERS_MIN]]


def _parameter_notes(tool: Signature) -> list[tuple[str, str]]:
    """Return the parameters that are described, with their descriptions."""
    return [
        (name, text)
        for name, part in properties_of(tool.parameters).items()
        if isinstance(part, dict) and isinstance(text := part.get("description"), str) and text.strip()
    ]


def _result_notes(tool: Signature) -> list[str]:
    schema = tool.returns
    if schema is None:
        return []
    found: list[str] = []
    for path, text in _described(dict(schema), schema, "", 3):
        if len(found) == RESULT_NOTES_MAX:
            break
        found.append(f"{path}: {one_line(text)}" if path else one_line(text))
    return found


def _described(part: Json, root: Mapping[str, Json], path: str, room: int) -> Iterator[tuple[str, str]]:
    """Yield the places of a result that are described, with their descriptions."""
    if not isinstance(part, dict) or room == 0:
        return
    if isinstance(ref := part.get("$ref"), str):
        yield from _described(_target(ref, root), root, path, room - 1)
        return
    if isinstance(text := part.get("description"), str) and text.strip():
        yield path, text
    fields = part.get("properties")
    for name, inner in fields.items() if isinstance(fields, dict) else ():
        yield from _described(inner, root, f"{path}.{_name(name)}" if path else _name(name), room - 1)
    if "items" in part:
        yield from _described(part["items"], root, f"{path}[]", room)


# --- lists to choose from


def choice_lines(tools: Sequence[Signature]) -> list[str]:
    """Return tools in a list to choose from, each with what tells it apart from the others.

    That is the first sentence of its description that is not one of all, without the words with which all begin. Tools of which this says the same
    have a further sentence, or the names of their parameters.
    """
    shared = SharedWords.of(tools)
    said = [_sentences(shared.without(" ".join(words_of(tool).split()))) or [""] for tool in tools]
    cut = _common_beginning([each[0].split() for each in said])
    firsts = [" ".join(each[0].split()[cut:]) for each in said]
    counts = Counter(first for first in firsts if first)
    lines: list[str] = []
    for tool, first, sentences in zip(tools, firsts, said, strict=True):
        about = first.rstrip(".")[:CHOICE_CHARACTERS_MAX]
        line = f"- {tool.name}: {about}." if about else f"- {tool.name}"
        if first and counts[first] > 1:
            line += f" {_apart(tool, sentences[1:])}"
        lines.append(line.rstrip())
    return lines


def _apart(tool: Signature, rest: Sequence[str]) -> str:
    """Return what a tool has beside a sentence that others have, too."""
    if rest:
        return f"{rest[0].rstrip('.')[:CHOICE_CHARACTERS_MAX]}."
    names = ", ".join(map(_name, properties_of(tool.parameters)))
    return f"Takes {names[:CHOICE_CHARACTERS_MAX]}." if names else ""


def _common_beginning(said: Sequence[Sequence[str]]) -> int:
    """Return with how many words all sentences begin, if each has more than these; two words or fewer tell nothing and cost little."""
    if len(said) < SHARED_BY_MIN:
        return 0
    alike = [*takewhile(lambda words: len(set(words)) == 1, zip(*said, strict=False))]
    return len(alike) if len(alike) > 2 and all(len(words) > len(alike) for words in said) else 0


# --- types


def shown_schema(schema: Mapping[str, Json]) -> str:
    """Return a JSON Schema in short form: `{title: text, tags?: list of text}`."""
    return _short(schema, DEPTH_MAX, _LEVELS[0][1])


def _short(schema: Mapping[str, Json], depth: int, fields: int) -> str:
    return _Short(schema, depth, fields).shown(dict(schema), 0)


@dataclass(frozen=True, slots=True)
class _Short:
    """Shows the parts of a schema in short form.

    Attributes:
        root: The schema, which has the definitions.
        depth_max: Nested objects whose fields are shown.
        fields_max: Fields of one object that are shown.
    """

    root: Mapping[str, Json]
    depth_max: int
    fields_max: int

    def parameter(self, name: str, schema: Json, *, is_required: bool) -> str:
        """Return a parameter with its type and its default."""
        shown = self.shown(schema, 0)
        if is_required:
            return f"{_name(name)}: {shown}"
        if isinstance(schema, dict) and "default" in schema:
            return f"{_name(name)}: {shown} = {quoted(schema['default'], OPTION_CHARACTERS_MAX)}"
        return f"{_name(name)}?: {shown}"

    def shown(self, schema: Json, depth: int) -> str:
        """Return one schema in short form."""
        if not isinstance(schema, dict):
            return "anything"
        match schema:
            case {"$ref": str(ref)}:
                target = _target(ref, self.root)
                is_cut = target is None or depth >= self.depth_max
                shown = "object" if is_cut else self.shown(target, depth + 1)
            case {"const": value}:
                shown = quoted(value, OPTION_CHARACTERS_MAX)
            case {"enum": list(options)}:
                options_shown = [quoted(option, OPTION_CHARACTERS_MAX) for option in options[:ENUM_MAX]]
                shown = "|".join([*options_shown, ".."] if len(options) > ENUM_MAX else options_shown)
            case {"anyOf": list(branches)} | {"oneOf": list(branches)}:
                shown = " or ".join(dict.fromkeys(self.shown(branch, depth) for branch in branches))
            case {"type": list(kinds)}:
                shown = " or ".join(self.shown({**schema, "type": kind}, depth) for kind in kinds)
            case {"type": "array"}:
                items = schema.get("items")
                shown = f"list of {self.shown(items, depth + 1)}" if items else "list"
            case {"type": "object"} | {"properties": _}:
                shown = self._object(schema, depth)
            case {"type": str(kind)}:
                shown = f"{'text' if kind == 'string' else kind}{_measure(schema, kind)}"
            case _:
                shown = "anything"
        return shown

    def _object(self, schema: Mapping[str, Json], depth: int) -> str:
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties:
            values = schema.get("additionalProperties")
            is_table = isinstance(values, dict) and values
            return f"object of {self.shown(values, depth + 1)}" if is_table else "object"
        if depth >= self.depth_max:
            return "object"
        required = cast("list[Json]", schema.get("required") or [])
        names = list(properties)
        if len(names) > self.fields_max:  # what is always there comes first
            names = sorted(names, key=lambda name: name not in required)[: self.fields_max]
        fields = [
            f"{_name(name)}{'' if name in required else '?'}: {self.shown(properties[name], depth + 1)}"
            for name in names
        ]
        return "{" + ", ".join([*fields, ".."] if len(names) < len(properties) else fields) + "}"


def _measure(schema: Mapping[str, Json], kind: str) -> str:
    """Return the format of a text and the unit of a value, in parentheses. Other words of a schema may be anybody's, and are none of these."""
    form = schema.get("format") if kind == "string" else None
    unit = next((schema[key] for key in ("unit", "units", "x-unit") if key in schema), None)
    words = [form] if isinstance(form, str) and _FORMAT.fullmatch(form) else []
    words += [unit] if isinstance(unit, str) and _UNIT.fullmatch(unit) else []
    return f" ({', '.join(words)})" if words else ""


def _name(name: str) -> str:
    """Return the name of a parameter or field: quoted if it is not a word, since a schema may have any text there."""
    return name if _WORD.fullmatch(name) else quoted(name, NAME_CHARACTERS_MAX)


def _target(ref: str, root: Mapping[str, Json]) -> Json:
    value: Json = dict(root)
    for part in ref.removeprefix("#/").split("/"):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def one_line(text: str) -> str:
    """Return a text on one line, cut where it is long."""
    return _cut(" ".join(text.split()), DESCRIPTION_CHARACTERS_MAX)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}.."
