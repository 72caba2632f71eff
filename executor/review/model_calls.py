"""What the model steps of a run asked, and the answers that were accepted: the prompts are made again from the journal, by the code that made them.

A journal holds digests of prompts, not their messages. A replay renders each prompt again and compares its digest, so what is returned here is
what was asked, but for the worked examples and system words of an `@agent` tool, whose code must be the same as then.

Labels are those of the plan's information flow, by the lock of the run and by the present tools; the stricter declarations count. Turns of agents are passed over: their
conversations are not small questions with one right answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ...errors import ConfigError, ToolError
from ...plans.plan import AskStep
from ...plans.values import Json
from ...tools.models.answer import AnswerForm
from ..calls.dispatch import Preparation
from ..calls.flow.secrecy_policy import labels_at, stricter_tool, trail_of
from ..commands import StartToolCall
from ..journal.toolset_lock import ToolsetLock
from .shadow import model_iterations, recorded_command

if TYPE_CHECKING:
    from ...plans.checker.survey import Survey
    from ...tools.models.completion import Message
    from ..calls.facilities import Facilities
    from ..execution_tree import Iteration
    from .recall import Recall

Label: TypeAlias = Literal["untrusted", "private"]
"""Why a value may not go everywhere: it is from outside, or only some may have it."""

AGENT_TURN: Final = "it is a turn of an agent"
CONVERSATION: Final = "its result is a conversation"
NO_TOOL: Final = "its tool is not loaded"
OTHER_TOOL: Final = "its tool has changed since"
HAD_SECRET: Final = "it was given a secret"  # noqa: S105  # a reason, no secret


@dataclass(frozen=True, slots=True)
class RecordedModelCall:
    """One question to a model, and the accepted answer.

    Attributes:
        step: Path of the leaf.
        messages: The messages that were sent; the answers that were sent back, if any, are not among them.
        schema: JSON Schema of the answer.
        output: The answer.
        answer: The answer as a model writes it.
        model: The name of the model that gave it; empty: it is not recorded, as of a reused answer.
        labels: The labels of the question and the answer.
    """

    step: str
    messages: tuple[Message, ...]
    schema: Mapping[str, Json]
    output: Json
    answer: str
    model: str
    labels: frozenset[Label]


@dataclass(frozen=True, slots=True)
class RecordedModelCalls:
    """The questions of one run.

    Attributes:
        calls: In plan order.
        unknown: Path -> why a question cannot be made again.
    """

    calls: tuple[RecordedModelCall, ...]
    unknown: Mapping[str, str]


def model_calls(recalled: Recall, facilities: Facilities) -> RecordedModelCalls:
    """Return the questions of a run whose answers were accepted.

    Args:
        recalled: The run.
        facilities: The present tools and models; nothing is called.
    """
    survey = _survey(recalled, facilities)
    found: list[RecordedModelCall] = []
    unknown: dict[str, str] = {}
    for iteration in model_iterations(recalled):
        view = recalled.run.steps.get(iteration.path)
        if view is None or view.status != "succeeded":
            continue
        made = _call(recalled, iteration, facilities)
        if isinstance(made, str):
            unknown[iteration.path] = made
        else:
            answer = AnswerForm(made.schema).written(view.output)
            labels = _labels(survey, iteration)
            found.append(replace(made, output=view.output, answer=answer, labels=labels))
    return RecordedModelCalls(tuple(found), unknown)


def _call(  # noqa: PLR0911  # one return for each reason
    recalled: Recall, iteration: Iteration, facilities: Facilities
) -> RecordedModelCall | str:
    """Return a question, still without answer and labels; a text: why it cannot be made again."""
    owner = iteration.item.node.frame.owner
    if owner is not None and owner.agent_loop is not None:
        return AGENT_TURN
    command = recorded_command(recalled, iteration, facilities)
    if command is None:
        return NO_TOOL
    # The prompt would have to be made with the value of the secret.
    if isinstance(command, StartToolCall) and command.secrets:
        return HAD_SECRET
    try:
        call = Preparation(facilities, recalled.run.id).prepare(command)
    except (ToolError, ConfigError) as fault:
        return f"its prompt cannot be made: {fault.code}"
    if isinstance(command, StartToolCall) and not _is_as_locked(recalled, command.tool, facilities):
        return OTHER_TOOL
    assert call.request is not None, "a model step asks a model"
    if call.request.finish is not None:
        return CONVERSATION
    model = (iteration.usage or {}).get("model")
    return RecordedModelCall(
        iteration.path,
        call.request.messages,
        call.request.schema,
        None,
        "",
        model if isinstance(model, str) else "",
        frozenset(),
    )


def _is_as_locked(recalled: Recall, name: str, facilities: Facilities) -> bool:
    """Whether a tool has the code that it had in the run, as far as that can be seen."""
    locked, now = recalled.header.lock.find(name), facilities.tools.find(name)
    return (
        locked is not None
        and now is not None
        and locked.fingerprint is not None
        and locked.fingerprint == now.fingerprint
    )


def _survey(recalled: Recall, facilities: Facilities) -> Survey:
    """Return the labels of a run's plan, by the stricter declarations of then and now."""
    from ...plans.checker.body import bodies_of  # noqa: PLC0415  # heavy, as of `secrecy_policy.py`
    from ...plans.checker.survey import survey_of  # noqa: PLC0415
    from ...plans.format.shape import Draft  # noqa: PLC0415

    header = recalled.header
    tools = [
        locked if (now := facilities.tools.find(name)) is None else stricter_tool(locked, now)
        for name, locked in header.lock.items()
    ]
    bodies = bodies_of(Draft(recalled.plan), recalled.plan, header.plans)
    bodies.every[0].written = frozenset(header.written)
    return survey_of(bodies, ToolsetLock(tools))


def _labels(survey: Survey, iteration: Iteration) -> frozenset[Label]:
    from ...plans.checker.flow.labels import UNTRUSTED, translated  # noqa: PLC0415

    *outer, position = trail_of(iteration)
    try:
        labels, meaning = labels_at(survey, outer)
    except LookupError:
        # A plan that was made in the run is not part of the run's plan, so that nothing is known of its labels.
        return frozenset({"untrusted", "private"})
    bits = labels.values[position]
    step = labels.body.steps[position]
    if isinstance(step, AskStep):
        # The question has labels of its own, also where the answer is endorsed or measured.
        for name in ("prompt", "system", "examples"):
            bits |= labels.of(step.templates.get(name), position)
    bits = translated(bits, meaning)
    found: set[Label] = set()
    if bits & UNTRUSTED:
        found.add("untrusted")
    if bits & survey.secrecy.mask:
        found.add("private")
    return frozenset(found)
