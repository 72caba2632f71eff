"""The `ask` steps of a learnt plan: questions to a model for the arguments of a call that nothing explains. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from ...plans.checker.names import derived_id, numbered
from ...plans.values import Json
from .calls import Call
from .inputs import type_of
from .origins import Wanted

TASK: Final = "\x00task\x00"
"""The text in the place of the task's words in prompts, until the names of the inputs are known."""

_ID_CHARACTERS_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class Question:
    """One question for all texts of a call: they belong together, and a model that sees one writes the other better.

    Attributes:
        id: The id of the step.
        call: The call, or one of the calls.
        wanted: What is asked for.
        fields: The name of each in the answer.
    """

    id: str
    call: Call
    wanted: Sequence[Wanted]
    fields: Sequence[str]

    @classmethod
    def of(cls, id_: str, call: Call, wanted: Sequence[Wanted]) -> Question:
        """Make a question.

        Args:
            id_: The id of its step.
            call: The call, or one of the calls.
            wanted: What is asked for.
        """
        fields: list[str] = []
        for each in wanted:
            fields.append(numbered(derived_id(each.name), fields))
        return cls(id_, call, wanted, fields)

    @staticmethod
    def wish_for_id(step: str, wanted: Sequence[Wanted]) -> str:
        """Return an id for the question about the arguments of a step."""
        name = derived_id(wanted[0].name) if len(wanted) == 1 else "texts"
        return f"{step}_{name}"[:_ID_CHARACTERS_MAX]

    @property
    def answers(self) -> list[Json]:
        """What the model of the trace made, for each case."""
        if len(self.wanted) == 1:
            return list(self.wanted[0].values)
        rows = zip(*(each.values for each in self.wanted), strict=True)
        return [dict(zip(self.fields, row, strict=True)) for row in rows]

    def ask(self, seen: Sequence[str]) -> dict[str, Json]:
        """Return the `ask` of the step.

        Args:
            seen: The names whose values the model is shown.
        """
        places = ", ".join(f"'{each.place}'" for each in self.wanted)
        about = f"the argument{'' if len(self.wanted) == 1 else 's'} {places}"
        tool = self.call.tool
        purpose = f" ({_sentence(tool.description)})" if tool is not None and tool.description else ""
        lines = [f"Write {about} of the tool '{self.call.name}'{purpose}.", f"The task: {TASK}"]
        lines += [f"{name}: ${{{name}}}" for name in seen]
        returns = self._returns
        return {"prompt": "\n".join(lines), **({} if returns == {"type": "string"} else {"returns": returns})}

    def templates(self, base: str) -> dict[str, str]:
        """Return marker -> template.

        Args:
            base: The expression of the answer.
        """
        alone = len(self.wanted) == 1
        return {
            each.marker: f"${{{base}{'' if alone else f'.{name}'}}}"
            for name, each in zip(self.fields, self.wanted, strict=True)
        }

    @property
    def _returns(self) -> dict[str, Json]:
        types = [type_of(each.values[0], each.schema) for each in self.wanted]
        if len(types) == 1:
            return types[0]
        properties = dict(zip(self.fields, types, strict=True))
        return {
            "type": "object",
            "properties": cast("Json", properties),
            "required": cast("Json", list(self.fields)),
        }


def answer_prompt(seen: Sequence[str]) -> Mapping[str, Json]:
    """Return the `ask` for what the agent said at the end.

    Args:
        seen: The names whose values the model is shown.
    """
    lines = [
        "Answer the task from what is known.",
        f"The task: {TASK}",
        *(f"{name}: ${{{name}}}" for name in seen),
    ]
    return {"prompt": "\n".join(lines)}


def _sentence(text: str) -> str:
    """Return the first sentence of a description, without its full stop; `${` in it is escaped."""
    words = " ".join(text.split("\n\n", maxsplit=1)[0].split())
    return words.split(". ", maxsplit=1)[0].rstrip(".").replace("${", "$${")
