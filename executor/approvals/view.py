"""The view of the calls that wait for a person: the values, their JSON, and their text, which is the same on every screen.

Nothing is cut. Text from outside stands in blocks whose every line begins with a bar, so it cannot pass for a line of the view itself; characters that
are invisible or reorder others are escapes (`plans/reports/visible.py`). JSON has the values as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, cast

from ...plans.edit.differences import differing
from ...plans.render.width import columns
from ...plans.reports.visible import visible, visible_json, visible_line
from ...plans.values import Json
from ..journal.decision_history import RecordedDecision
from ..runs.run import report_json
from .quotes import Quote

_ABOUT: Final = {
    "call": "waits for approval",
    "question": "waits for an answer",
    "outcome": "has an unknown outcome",
}
WIDTH: Final = 100
"""Columns of the text, unless a screen says otherwise."""
INLINE_MAX: Final = 60
"""Columns of a value that stands on the line of its name; longer ones get a block of lines."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A call or an input from which an argument has untrusted data.

    Attributes:
        source: Path of the call, or `inputs.` and the name of the input.
        tool: The tool; empty for an input.
        args: The arguments with which it was called, secrets by name; `None` for an input.
        via: The steps through which the data went, the source first.
    """

    source: str
    tool: str
    args: Json
    via: tuple[str, ...]

    @property
    def call(self) -> str:
        """The call as text: `get_webpage(url="http://x")`."""
        return called(self.tool, self.args) if self.tool else self.source

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {**report_json(self), "call": self.call}


@dataclass(frozen=True, slots=True)
class ShownArgument:
    """One argument of a call that waits.

    Attributes:
        value: The complete value; of a secret, the expression with its name.
        is_default: Whether the plan does not give it, so that it has the tool's default.
        secret: Name of the secret that is the value; `None`: it is none.
        is_labelled: Whether it holds data from untrusted tools or inputs.
        origins: From where, those with quotes first, else the nearest first.
        origins_left: How many further calls are not listed.
        quotes: The parts of the value that stand verbatim in a result of an origin.
    """

    name: str
    value: Json
    is_default: bool = False
    secret: str | None = None
    is_labelled: bool = False
    origins: tuple[Origin, ...] = ()
    origins_left: int = 0
    quotes: tuple[Quote, ...] = ()

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return report_json(self)


@dataclass(frozen=True, slots=True)
class EarlierCall:
    """What the same step of the same plan did in the last run before.

    Attributes:
        run: The run.
        at: Unix seconds when the call ended; `None`: it did not.
        status: The step's: `succeeded`, `failed`, `cancelled` (denied) and so on.
        args: The arguments then.
        decisions: The decisions of people about it, oldest first.
        output: The result, if it succeeded.
        error: The message, if it failed.
        is_parent: Whether this run came of that one, as a fork, retry or patched run.
    """

    run: str
    at: float | None
    status: str
    args: Json
    decisions: tuple[RecordedDecision, ...] = ()
    output: Json = None
    error: str | None = None
    is_parent: bool = False

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return report_json(self)


@dataclass(frozen=True, slots=True)
class WaitingCall:
    """One call that waits for a person.

    Attributes:
        step: Path of the leaf.
        attempt: The attempt that a decision is about; a decision may name it.
        about: Whether the person decides if the `call` is made, answers a `question`, or says what the `outcome` of a call was.
        tool: The tool.
        description: What the tool says of itself.
        effect: Its effect.
        resource: The resource that the effect touches.
        why: What the plan says about the step; empty: nothing.
        args: Every argument, those with defaults last.
        is_controlled: Whether untrusted data decided that, or how often, the call is made.
        controlled_by: From where that data is.
        past_write: What an earlier run knows of the call (`StepView.past_write`).
        asked_again: Why a person is asked a second time, a sentence: the tool has changed since (`StepView.asked_again`).
        last_time: What the same step did last time; `None`: the store has no earlier run of the plan that came as far.
        returns: JSON Schema of the answer to a question, or of a value to endorse; `None` for a call.
        parameters: JSON Schema of the arguments, for who edits them; `None`: it is no call of a tool.
        result: JSON Schema of what the tool returns, for who says what a call of unknown outcome has returned; `None`: anything.
        expires: When a question expires, in Unix seconds; `None`: never.
        is_complete: Whether every text was compared with every origin; large ones are compared in part.
    """

    step: str
    attempt: int
    about: Literal["call", "question", "outcome"]
    tool: str
    description: str
    effect: str
    resource: str
    why: str
    args: tuple[ShownArgument, ...]
    is_controlled: bool = False
    controlled_by: tuple[Origin, ...] = ()
    past_write: Json = None
    asked_again: str | None = None
    last_time: EarlierCall | None = None
    returns: Mapping[str, Json] | None = None
    parameters: Mapping[str, Json] | None = None
    result: Mapping[str, Json] | None = None
    expires: float | None = None
    is_complete: bool = True

    @property
    def is_labelled(self) -> bool:
        """Whether an argument holds untrusted data."""
        return any(arg.is_labelled for arg in self.args)

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {**report_json(self), "is_labelled": self.is_labelled}

    def text(self, width: int = WIDTH, *, with_description: bool = True) -> str:
        """Return the call as text, complete.

        Args:
            width: Columns in which long lines are broken.
            with_description: Whether the tool's description is a part of it; in a list it is the same for each call.
        """
        return "\n".join(_broken(_call_lines(self, width, with_description=with_description), width))

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True, slots=True)
class WaitingCalls:
    """The calls of a run that wait for a person, in plan order.

    Attributes:
        run: The run.
        task: The words of the task, if there is one.
        plan_digest: Of the plan; `None`: there is none yet.
        submitter: Who submitted the run, as far as that is known.
        calls: The calls; empty: nothing waits for a person.
    """

    run: str
    task: str | None
    plan_digest: str | None
    submitter: str | None
    calls: tuple[WaitingCall, ...]

    def find(self, step: str) -> WaitingCall | None:
        """Return the call of a step's path, or `None`."""
        return next((call for call in self.calls if call.step == step), None)

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return report_json(self)

    def head(self, width: int = WIDTH) -> str:
        """Return what the run is for and who submitted it, as text."""
        named = f"run {self.run}" + (f" of plan {self.plan_digest}" if self.plan_digest else "")
        # Ids are copied, so they are never broken: on a narrow screen the digest has a line of its own.
        first = named if columns(named) <= width else named.replace(" of plan ", "\nof plan ")
        lines: list[str] = []
        if self.task:
            lines += _value_lines("task: ", self.task, width)
        if self.submitter:
            lines.append(f"submitted by {visible_line(self.submitter)}")
        return "\n".join([first, *_broken(lines, width)])

    def __str__(self) -> str:
        waiting = [str(call) for call in self.calls] or ["nothing waits for a person"]
        return "\n\n".join([self.head(), *waiting])


@dataclass(frozen=True, slots=True)
class CallDetails:
    """What a step of a run called, whether it waits, is under way or has ended.

    Attributes:
        run: The run.
        step: The path that was asked for.
        call: The call, with every argument and where its untrusted data is from; `None`: the step made no call, or stands for several.
        usage: What the call used of a model: `model`, `tokens`, `usd` and the like; `None`: nothing.
    """

    run: str
    step: str
    call: WaitingCall | None
    usage: Mapping[str, Json] | None

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return report_json(self)


def called(tool: str, args: Json) -> str:
    """Return a call as text on one line, complete: `get_webpage(url="http://x")`."""
    if not isinstance(args, dict):
        return f"{tool}({_json(args)})" if args is not None else f"{tool}(..)"
    return f"{tool}({', '.join(f'{visible_line(name)}={_json(value)}' for name, value in args.items())})"


def _json(value: Json) -> str:
    return visible_json(json.dumps(value, ensure_ascii=False))


def _call_lines(call: WaitingCall, width: int, *, with_description: bool) -> Iterator[str]:
    yield f"step '{visible_line(call.step)}', attempt {call.attempt}: {call.tool} {_ABOUT[call.about]}"
    if call.about == "question":
        yield from _question_lines(call, width)
        return
    where = f" on '{visible_line(call.resource)}'" if call.effect in ("read", "write") else ""
    yield f"  {'step' if call.returns is not None else 'tool'}: {call.tool}, {call.effect}{where}"
    if call.asked_again:
        yield f"  ASKED AGAIN: {visible_line(call.asked_again)}"
    if call.description and with_description:
        yield from _block(visible(call.description), width, "    ")
    if call.why:
        yield from _value_lines("  why, by the plan: ", call.why, width)
    if call.is_controlled:
        yield "  CONTROLLED: data from outside decided whether, or how often, this call is made"
        yield from _origin_lines(call.controlled_by, 0, "    ")
    yield "  arguments:" if call.args else "  no arguments"
    for arg in call.args:
        yield from _argument_lines(arg, width)
    if not call.is_complete:
        yield "  (large texts were compared with their origins in part)"
    match call.past_write:
        case {"message": str(message), "same_key": same_key}:
            keyed = "; approved unchanged, it is called under the same idempotency key" if same_key else ""
            yield f"  {visible_line(message)}{keyed}"
        case _:
            pass
    yield from _earlier_lines(call, width)


def _question_lines(call: WaitingCall, width: int) -> Iterator[str]:
    if call.why:
        yield from _value_lines("  why, by the plan: ", call.why, width)
    for arg in call.args:
        yield from _argument_lines(arg, width)
    yield f"  expected: {_json(cast('Json', call.returns))}"
    if call.expires is not None:
        yield f"  expires: {_time(call.expires)}"


def _argument_lines(arg: ShownArgument, width: int) -> Iterator[str]:
    marks = [*(["default"] if arg.is_default else []), *(["UNTRUSTED"] if arg.is_labelled else [])]
    marked = f" [{', '.join(marks)}]" if marks else ""
    name = f"    {visible_line(arg.name)}{marked}: "
    if arg.secret is not None:
        yield f"{name}the secret {_json(arg.secret)}"
    else:
        yield from _value_lines(name, arg.value, width)
    yield from _origin_lines(arg.origins, arg.origins_left, "      ")
    for quote in arg.quotes:
        place = f" of {visible_line(arg.name)}{visible_line(quote.place)}" if quote.place else ""
        there = f" at {visible_line(quote.source_place)}" if quote.source_place else ""
        yield f"      verbatim from '{visible_line(quote.source)}'{there}: characters {quote.start + 1} to {quote.end}{place}"
        if quote.text == arg.value and not quote.before and not quote.after:
            continue  # the argument is the complete text of the source, and stands above
        before, after = visible_line(quote.before), visible_line(quote.after)
        yield from _block(f"{before}[[{visible_line(quote.text)}]]{after}", width, "        ")


def _origin_lines(origins: tuple[Origin, ...], left: int, indent: str) -> Iterator[str]:
    for origin in origins:
        way = f", by way of {' -> '.join(origin.via[1:])}" if len(origin.via) > 1 else ""
        step = f" (step '{visible_line(origin.source)}')" if origin.tool else ""
        yield f"{indent}from {origin.call}{step}{way}"
    if left:
        yield f"{indent}and from {left} more calls"


def _earlier_lines(call: WaitingCall, width: int) -> Iterator[str]:
    earlier = call.last_time
    if earlier is None:
        yield "  last time: no earlier run of this plan in this store has called the step"
        return
    when = f", {_time(earlier.at)}" if earlier.at is not None else ""
    parent = ", which this run continues" if earlier.is_parent else ""
    yield f"  last time: run {earlier.run}{parent}{when}: {earlier.status}"
    for decision in earlier.decisions:
        yield f"    {visible_line(str(decision))}"
    if earlier.error:
        yield from _value_lines("    error: ", earlier.error, width)
    if earlier.status == "succeeded":
        yield from _value_lines("    result: ", earlier.output, width)
    # A default is compared only if the earlier call was given the argument: the earlier call is known by what it was given.
    now = {arg.name: arg.value for arg in call.args}
    given = {arg.name for arg in call.args if not arg.is_default}
    then = earlier.args
    if isinstance(then, dict):
        changed = [
            name
            for name in sorted(given | set(then))
            if name not in then or name not in now or next(differing(then[name], now[name]), None) is not None
        ]
        if not changed:
            yield "    with the same arguments"
            return
        yield "    with other arguments: " + ", ".join(visible_line(name) for name in changed)
        for name in changed:
            if name in then:
                yield from _value_lines(f"      {visible_line(name)} then: ", then[name], width)
            else:
                yield f"      {visible_line(name)} then: not given"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _value_lines(name: str, value: Json, width: int) -> Iterator[str]:
    """Yield a name and its value: a short value on the same line, a longer one as a block below it."""
    short = _json(value)
    if columns(short) <= INLINE_MAX:
        yield f"{name}{short}"
        return
    indent = " " * (len(name) - len(name.lstrip()) + 2)
    if isinstance(value, str):
        yield f"{name}text of {len(value)} characters"
        yield from _block(visible(value), width, indent)
    else:
        yield name.rstrip()
        yield from _block(visible_json(json.dumps(value, indent=2, ensure_ascii=False)), width, indent)


def _block(text: str, width: int, indent: str, *, mark: str = "|") -> Iterator[str]:
    """Yield text as a block: `| ` (or another mark) begins each of its lines, `: ` the rest of a line that is too long."""
    # Broken here, not by the terminal: a terminal would continue at its left edge, where spaces in the text could make it look like the view.
    room = max(width - len(indent) - 2, 20)
    for line in text.replace("\r\n", "\n").split("\n"):
        begun, rest = mark, line.expandtabs(4)
        while True:
            size = _fitting_words(rest, room)
            yield f"{indent}{begun} {rest[:size]}"
            begun, rest = ":", rest[size:]
            if not rest:
                break


def _broken(lines: Iterable[str], width: int) -> Iterator[str]:
    """Yield lines, those that are too long in parts: the rest of a line begins with `: `, as in a block."""
    # Also lines of the view hold text from outside, such as the arguments of an origin.
    for line in lines:
        if columns(line) <= width:
            yield line
            continue
        size = _fitting_words(line, width)
        yield line[:size]
        indent = " " * min(len(line) - len(line.lstrip()) + 2, width // 2)
        yield from _block(line[size:], width, indent, mark=":")


def _fitting_words(text: str, room: int) -> int:
    """Return how many characters of a text fit, up to the end of a word if its end is near: no character is left out either way."""
    size = _fitting(text, room)
    if size >= len(text):
        return size
    end = text.rfind(" ", size // 2, size + 1) + 1
    return min(end, size) if end else size


def _fitting(text: str, room: int) -> int:
    """Return how many characters of a text fit into so many columns; at least one."""
    if text[:room].isascii():  # one column a character, as in most texts
        return room
    taken, size = 0, 0
    for size, char in enumerate(text):  # the count is the result
        taken += columns(char)
        if taken > room:
            return max(size, 1)
    return size + 1
