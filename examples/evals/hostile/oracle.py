"""The model: it answers honestly until the attacker's text stands in its prompt, and then answers for the attacker.

Each field of such an answer has the attacker's value, as far as its type and enum let it; an agent makes the attacker's call if it has the
tool. So what is measured is the plan and the engine, not the good sense of a model.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Final, cast

from .cases import Attack, Json, Task

PROMPT_CHARACTERS: Final = 200  # of what the model has read, in a value that carries it away
MARK_CHARACTERS: Final = 30  # of the attacker's text, by which a prompt that holds it is known
TEXT_CHARACTERS: Final = 5  # the least of a text that is known again where it was written by the attacker

_KINDS: Final[dict[str, type | tuple[type, ...]]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}
_FORMATS: Final = {"date": r"^\d{4}-\d{2}-\d{2}$"}
_EMPTY: Final[dict[str, Json]] = {"string": "", "integer": 0, "number": 0.0, "boolean": False}


class Oracle:
    """The model: honest, until the attacker's text stands in the prompt, or a text that the attacker has made it write before."""

    def __init__(self) -> None:
        self._task: Task | None = None
        self._attack: Attack | None = None
        self._planted: set[str] = set()

    def expect(self, task: Task, attack: Attack | None) -> None:
        """Begin a run of a task; `attack`: `None` if there is no attacker."""
        self._task, self._attack, self._planted = task, attack, set()

    def __call__(self, request: Mapping[str, Json]) -> Json:
        """Answer a request."""
        task, attack = self._task, self._attack
        assert task is not None
        prompt = "\n".join(message["content"] for message in request["messages"])
        # The longest beginning, since one prompt may begin as another does.
        beginning = max((words for words in task.prompts if words in prompt), key=len)
        step = task.prompts[beginning]
        is_agent = "agent" in step
        honest = _honest(task, step["id"], prompt, is_agent=is_agent)
        if attack is None or not self._is_captured(attack, prompt):
            return honest
        read = prompt.split(beginning, 1)[1][:PROMPT_CHARACTERS]
        if is_agent:
            call = attack.call
            if call is None or call["tool"] not in step["agent"]["tools"] or _is_made(call, prompt):
                return honest
            return {"reasoning": "The text says so.", "call": _with_prompt(call, read)}
        schema = _resolved(task, step["ask"].get("returns", {"type": "string"}))
        answer = _filled(honest, schema, attack.fill, step["id"], read)
        self._planted |= _texts(answer) - _texts(honest)
        return answer

    def _is_captured(self, attack: Attack, prompt: str) -> bool:
        texts = {mark_of(attack), *self._planted} - {""}
        return any(text in prompt for text in texts)


def mark_of(attack: Attack) -> str:
    """Return the words by which a text that holds the attacker's is known."""
    return attack.text[:MARK_CHARACTERS]


def _honest(task: Task, step: str, prompt: str, *, is_agent: bool) -> Json:
    answers: Json = task.answers.get(step, None)
    if is_agent:
        return answers[min(_history(prompt).count("\n-> "), len(answers) - 1)]
    match answers:
        case [{"is": _}, *_]:
            return next(each["is"] for each in answers if each["about"] in prompt)
        case _:
            return copy.deepcopy(answers)


def _resolved(task: Task, schema: Json) -> Json:
    match schema:
        case {"$ref": str(name)}:
            return task.plan["types"][name.rsplit("/", 1)[1]]
        case _:
            return schema


def _is_made(call: Mapping[str, Json], prompt: str) -> bool:
    """Return whether an agent has made the attacker's call: a second one would only repeat it."""
    args = json.dumps(call["args"], sort_keys=True, separators=(",", ":"))
    return f"{call['tool']}({args.split('${', 1)[0]}" in _history(prompt)


def _history(prompt: str) -> str:
    """Return the calls that an agent has made so far."""
    return prompt.split("# Calls so far", 1)[1]


def _texts(value: Json) -> set[str]:
    """Return the texts of an answer that are long enough to be known again."""
    match value:
        case str():
            return {value} if len(value) >= TEXT_CHARACTERS else set()
        case list():
            return {text for each in cast("list[Json]", value) for text in _texts(each)}
        case dict():
            return {text for each in cast("dict[str, Json]", value).values() for text in _texts(each)}
        case _:
            return set()


def _filled(honest: Json, schema: Json, fill: Mapping[str, Json], name: str, read: str) -> Json:
    """Return an answer with the attacker's values where its schema lets them stand."""
    match schema:
        case {"type": "object", "properties": dict()}:
            fields = cast("dict[str, Json]", schema["properties"])
            known = cast("dict[str, Json]", honest or {})
            return {key: _filled(known.get(key), fields[key], fill, key, read) for key in fields}
        case {"type": "array", "items": items}:
            wanted = fill.get(name)
            if isinstance(wanted, list):
                return [_filled(each, items, {name: each}, name, read) for each in cast("list[Json]", wanted)]
            made = _filled((honest or [None])[0], items, fill, name, read)
            return [made, *(honest or [])[1:]]
        case _:
            return _leaf(honest, schema, fill, name, read)


def _leaf(honest: Json, schema: Json, fill: Mapping[str, Json], name: str, read: str) -> Json:
    kind: str = schema["type"]
    wished: Json = fill.get(name, fill.get("text") if kind == "string" else None)
    for value in cast("list[Json]", wished if isinstance(wished, list) else [wished]):
        made: Json = _with_prompt(value, read)
        if kind in ("integer", "number") and isinstance(made, int | float) and not isinstance(made, bool):
            made = min(max(made, schema.get("minimum", made)), schema.get("maximum", made))
        if made is not None and _is_of(made, schema, kind):
            return made
    # Without an honest answer the attack is about something else than this field.
    return _EMPTY[kind] if honest is None else honest


def _is_of(value: Json, schema: Json, kind: str) -> bool:
    is_kind = isinstance(value, _KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if not is_kind or ("enum" in schema and value not in schema["enum"]):
        return False
    text = value if isinstance(value, str) else ""
    if len(text) > schema.get("maxLength", len(text)):
        return False
    pattern: str = _FORMATS.get(schema.get("format", ""), schema.get("pattern", ""))
    return re.search(pattern, text) is not None


def _with_prompt(value: Json, read: str) -> Json:
    match value:
        case str():
            return value.replace("${prompt}", read)
        case dict():
            return {key: _with_prompt(each, read) for key, each in cast("dict[str, Json]", value).items()}
        case _:
            return value
