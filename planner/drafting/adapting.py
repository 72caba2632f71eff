"""A saved plan that is nearly what a task asks for: a small prompt fills its typed inputs, or says that it does not fit.

Asked only where no pattern answers the task, about the one saved plan that shares most words with it, once. What the model gives is
held to the inputs' schemas, and the plan to its check, like any other; whatever does not pass, a plan is written anew. The
model sees the saved task, its tools' names and the inputs' types and defaults: nothing of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...plans.inputs import fit_inputs
from ...plans.plan import Plan
from ...plans.types.standalone import self_contained
from ...plans.values import Json, canonical
from ...tools.models.answer import Answer
from ...tools.models.completion import Answered, Completion, Message
from ...tools.models.errors import ModelError
from ..given import with_defaults
from ..order import Order
from ..saved import SavedPlan
from .attempt import Attempt
from .choice import tools_in
from .choosing import fault_of, is_plan
from .conversation import Conversation
from .draft import parsed
from .nearest import near_template
from .prompt import adapting_messages
from .signatures import shown_schema

if TYPE_CHECKING:
    from ...tools.models.transport import Listener

NO_FIT = "the model says that it does not fit"


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked about a saved plan."""

    saved: SavedPlan
    messages: tuple[Message, ...]
    answer: Answer


@dataclass(frozen=True, slots=True)
class Adapted:
    """What came of the question.

    Attributes:
        filled: The saved plan, where it fits, with the values as defaults of its inputs: planned again, it is the same plan.
        draft: The answer, where it was a whole plan.
        declined: Whether the model looked at the saved plan and turned it down, or filled it in wrongly.
    """

    saved: SavedPlan
    filled: Plan | None = None
    draft: Completion | None = None
    declined: bool = False


async def adapt(conversation: Conversation, listener: Listener | None) -> Adapted | None:
    """Return what became of the saved plan that is nearest to a task; `None`: none is near.

    The question is one of the conversation's attempts, and ends no planning.
    """
    order = conversation.order
    question = question_of(order)
    if question is None:
        return None
    saved = question.saved
    turn = await conversation.ask_aside(question.messages, question.answer, listener)
    if isinstance(turn, Completion) and is_plan(turn):
        return Adapted(saved, draft=turn)
    filled, fault, declined = _read(turn, saved.plan, order)
    number, source = conversation.number, f"adapted:{saved.name}"
    attempt = Attempt(number, plan=filled, error=fault, source=source, approach="adapt")
    if isinstance(turn, Completion):
        attempt = replace(attempt, text=turn.raw, usage=turn.usage)
    conversation.attempts.append(attempt)
    return Adapted(saved, filled, declined=declined)


def question_of(order: Order) -> Question | None:
    """Return what is asked about the nearest saved plan; `None`: none is near."""
    saved = near_template(order)
    if saved is None:
        return None
    asked = [name for name in saved.plan.inputs if name not in order.inputs]
    messages = adapting_messages(order.task, form_of(saved, order))
    return Question(saved, messages, _answer(saved.plan, asked))


def form_of(saved: SavedPlan, order: Order) -> str:
    """Return a saved plan as the prompt shows it: its task, what it calls, its inputs."""
    plan = saved.plan
    called = sorted(tools_in(plan.to_dict()))
    marked = [f"{name} [{tool.effect}]" for name in called if (tool := order.tools.find(name)) is not None]
    about = [f"It says of itself: {' '.join(plan.description.split())}"] if plan.description else []
    lines = [_input(name, schema, plan) for name, schema in plan.inputs.items() if name not in order.inputs]
    task = " ".join((plan.task or "").split())
    return "\n".join([task, *about, f"It calls: {', '.join(marked) or 'no tool'}", *lines])


def _input(name: str, schema: Mapping[str, Json], plan: Plan) -> str:
    said = schema.get("description")
    about = f" ({' '.join(said.split())})" if isinstance(said, str) else ""
    default = f", default {canonical(schema['default']).decode()}" if "default" in schema else ""
    return f"- {name}: {shown_schema(self_contained(schema, plan.types))}{default}{about}"


def _answer(plan: Plan, asked: list[str]) -> Answer:
    """Return what is asked for: room to reason, then a verdict, then values typed as the plan's inputs are."""
    properties: Json = {name: dict(plan.inputs[name]) for name in asked}
    inputs = self_contained({"type": "object", "properties": properties}, plan.types)
    definitions = inputs.pop("$defs", None)
    told: dict[str, Json] = {
        "type": "object",
        "properties": {
            "reasoning": {"type": "string", "description": "Is the task more, less or other than the form?"},
            "fits": {"type": "boolean"},
            "inputs": inputs,
        },
        "required": ["reasoning", "fits", "inputs"],
        **({} if definitions is None else {"$defs": definitions}),
    }
    return Answer(
        {"type": "object"}, name="form", purpose="Whether the form fits, and its values.", shown_schema=told
    )


def _read(turn: Completion | ModelError, plan: Plan, order: Order) -> tuple[Plan | None, str | None, bool]:
    """Return the plan with the values in an answer, else why there is none, and whether that is the model's verdict."""
    if isinstance(turn, ModelError) or not isinstance(turn.outcome, Answered):
        return None, fault_of(turn), False
    said = turn.outcome.value
    inputs = parsed(said.get("inputs")) if isinstance(said, dict) else None
    match said, inputs:
        case {"fits": True}, dict(values):
            told = {name: value for name, value in values.items() if not _is_left_out(name, value, plan)}
            _, problems = fit_inputs(plan, {**told, **order.inputs})
            filled = with_defaults(plan, {name: told[name] for name in told if name not in order.inputs})
            faults = problems or list(order.check(filled).errors)
            return (None, "; ".join(map(str, faults)), True) if faults else (filled, None, False)
        case {"fits": False}, _:
            return None, NO_FIT, True
        case _:
            return None, 'expected {"fits": .., "inputs": {..}}', False


def _is_left_out(name: str, value: Json, plan: Plan) -> bool:
    """Whether a null stands for a value that was not given."""
    return value is None and "default" in plan.inputs.get(name, {})
