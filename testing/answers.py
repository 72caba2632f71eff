"""What stands in for calls when a run is rehearsed: the answers of a recorded run, or those that a test wrote down.

An answer is looked for among those of the same tool with the same arguments (the same prompt and form of answer), first at the
same step; several equal calls get their answers in the order of the recording. There is no answer for a call that was not
recorded: the step fails with code `not-recorded`, and says what differs from the nearest call that was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

from ..errors import OutcomeUnknown, ToolError
from ..executor.calls.invoke import Failed, Outcome, Returned
from ..plans.edit.differences import differences, shown
from ..plans.values import Json, canonical, parse
from ..tools.failures import ResultRefused

NOT_RECORDED: Final = "not-recorded"
PLACES_SHOWN: Final = 3


class Answerer(Protocol):
    """Whoever answers the calls of one tool, or the prompts of a run."""

    def give(self, step: str, asked: bytes) -> Json:
        """Return what the call comes to; `step` is empty where it is not known. Raises: ToolError, OutcomeUnknown."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        step: Where it was given; empty: anywhere.
        asked: The bound arguments, or the prompt, as canonical JSON; `None`: whatever it is.
    """

    step: str
    asked: bytes | None
    ended: Outcome


@dataclass(slots=True)
class Answers:
    """The answers for one tool, or for all prompts.

    Attributes:
        what: For messages: `call of 'search'`, `prompt`.
        later: Index of the next answer for each question that was asked more than once.
    """

    what: str
    answers: Sequence[Answer]
    later: dict[tuple[str, bytes], int] = field(default_factory=dict[tuple[str, bytes], int])

    def give(self, step: str, asked: bytes) -> Json:
        """Return what the call came to.

        Raises:
            ToolError: It failed, or was not recorded.
            OutcomeUnknown: Nobody knows what became of it.
        """
        fitting = [each for each in self.answers if each.asked in (None, asked)]
        here = [each for each in fitting if each.step == step and step] or fitting
        if not here:
            raise ToolError(self._missing(step, asked), code=NOT_RECORDED)
        key = (step if here[0].step == step else "", asked)
        at = self.later.get(key, 0)
        self.later[key] = at + 1
        return _told(here[min(at, len(here) - 1)].ended)

    def _missing(self, step: str, asked: bytes) -> str:
        nearest = self._nearest(step, asked)
        if nearest is None or nearest.asked is None:
            return f"no {self.what} was recorded"
        found = differences(parse(nearest.asked), parse(asked))[:PLACES_SHOWN]
        where = f" (at '{nearest.step}')" if nearest.step else ""
        return f"no such {self.what} was recorded; it differs from one that was{where}: " + "; ".join(
            map(str, found)
        )

    def _nearest(self, step: str, asked: bytes) -> Answer | None:
        """Return the recorded answer at the same step, else the one with the fewest differing places."""
        known = [each for each in self.answers if each.asked is not None]
        here = [each for each in known if each.step == step and step]
        value = parse(asked)
        return min(
            here or known,
            key=lambda each: len(differences(parse(each.asked or b"null"), value)),
            default=None,
        )


def _told(ended: Outcome) -> Json:
    match ended:
        case Returned(output):
            return parse(output.data)
        case Failed(code, message, took_effect=True):
            raise ResultRefused(message, code=code)
        case Failed(code, message, temporary):
            raise ToolError(message, code=code, temporary=temporary)
        case lost:
            raise OutcomeUnknown(lost.why)


@dataclass(frozen=True, slots=True)
class Written:
    """Answers that a test wrote down for one tool or one prompt: each for some arguments, or for any."""

    what: str
    entries: Sequence[Mapping[str, Json]]

    def give(self, step: str, asked: bytes) -> Json:
        """Return the first answer whose `args` all stand in the call. Raises: ToolError."""
        where = f" at '{step}'" if step else ""
        value = parse(asked)
        for entry in self.entries:
            wanted = entry.get("args", {})
            if isinstance(wanted, dict) and _stands_in(wanted, value):
                if "fails" in entry:
                    raise ToolError(str(entry["fails"]), code="failed")
                return entry.get("returns")
        raise ToolError(
            f"no answer is written for this {self.what}{where}: {shown(value)}", code=NOT_RECORDED
        )


def _stands_in(wanted: Mapping[str, Json], value: Json) -> bool:
    if not isinstance(value, dict):
        return not wanted
    return all(name in value and canonical(value[name]) == canonical(part) for name, part in wanted.items())


def written(what: str, given: Json) -> Written:
    """Return written answers: a list of `{"args", "returns"}` or `{"args", "fails"}`, or a value that answers every call."""
    return Written(what, tuple(_entries(given)))


def _entries(given: Json) -> Iterable[Mapping[str, Json]]:
    if isinstance(given, list) and given and all(_is_entry(each) for each in given):
        return [cast("dict[str, Json]", each) for each in given]
    return [{"returns": given}]


def _is_entry(given: Json) -> bool:
    return isinstance(given, dict) and ("returns" in given) != ("fails" in given) and set(given) <= _KEYS


_KEYS: Final = {"args", "returns", "fails"}
