"""The saved plans that are most like a task: shown as examples, or adapted to the task.

`nearest_plans` finds worked examples for the prompt. `adapt` asks a model a small question about the nearest saved plan: does it fit the
task, and with which inputs? It is asked once, and only if no pattern answers the task. The values are held to the schemas of the inputs,
and the plan to its check; whatever does not pass is planned anew. The model sees the saved task, the names of its tools, and the types and
defaults of its inputs: nothing of a run.

Only plans that pass their check with the present tools are taken: an example that does not run teaches faults.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ...plans.inputs import fit_given
from ...plans.plan import Plan
from ...plans.types.standalone import self_contained
from ...plans.values import Json, canonical
from ...tools.models.answer import AnswerForm
from ...tools.models.completion import Completion, Message
from ..library.library import SavedPlan, find_matches
from ..library.pattern import TASK_CHARACTERS_MAX, own_words
from ..library.retrieval import ranked_by_words, search_terms
from ..request import PlanRequest, with_defaults
from .conversation import Conversation
from .draft import parsed
from .prompt import adapting_messages
from .signatures import shown_schema
from .tool_choice import tools_in

if TYPE_CHECKING:
    from ...tools.models.transport import Listener

EXAMPLES_MAX = 2
EXAMPLE_CHARACTERS_MAX = 6_000
"""Length of a plan that is shown as an example, as JSON: a longer one costs more tokens than it saves."""

CANDIDATES_MAX = 8
"""Plans that are checked, the nearest first, until enough have passed."""

SHARED_MIN = 2
SHARED_PART = 0.5
"""How many words of a saved task (at least, and as a share) must stand in a task for the plan to be near: each near plan costs a request."""

NO_FIT = "the model says that it does not fit"


# --- the nearest saved plans


def nearest_plans(request: PlanRequest) -> list[SavedPlan]:
    """Return up to `EXAMPLES_MAX` saved plans that share words with the task, the nearest first."""
    known = frozenset(search_terms(request.task))
    likely = [each for each in request.saved if not known.isdisjoint(search_terms(_searched_text(each)))]
    ranked = ranked_by_words(request.task, likely, _searched_text)[:CANDIDATES_MAX]
    short = (each for each in ranked if len(each.plan.to_json()) <= EXAMPLE_CHARACTERS_MAX)
    return list(islice(_passing(request, short), EXAMPLES_MAX))


def near_template(request: PlanRequest) -> SavedPlan | None:
    """Return the saved plan that may be adapted to a task: a plan whose pattern matches in doubt, else the nearest plan.

    The nearest plan counts only if most of its own words stand in the task. A task that is too long for a pattern has enough words to
    share some with any plan, so nothing is near it.
    """
    if len(request.task) > TASK_CHARACTERS_MAX:
        return None
    matches = find_matches(request.task, request.saved, request.inputs)
    doubted = [
        each.saved for each in matches if each.doubt is not None and _takes_inputs(each.saved, request)
    ]
    known = frozenset(search_terms(request.task))
    near: list[SavedPlan] = []
    for each in request.saved:
        own = search_terms(own_words(each.plan))
        # Both a number and a share: one common word proves nothing, and a long task shares some words with every
        # plan.
        shared, distinct = len(known.intersection(own)), len(frozenset(own))
        if _takes_inputs(each, request) and shared >= SHARED_MIN and shared >= SHARED_PART * distinct:
            near.append(each)
    # A plan whose pattern matched in doubt comes first: its words fit, and only a model can say whether they mean
    # the same.
    ranked = ranked_by_words(request.task, near, lambda each: own_words(each.plan))
    candidates = (*doubted[:CANDIDATES_MAX], *ranked[:CANDIDATES_MAX])
    return next(_passing(request, candidates), None)


def _passing(request: PlanRequest, saved: Iterable[SavedPlan]) -> Iterator[SavedPlan]:
    # These plans are only suggestions: one whose check takes long is passed over.
    return (each for each in saved if request.check_quickly(each.plan).ok)


def _takes_inputs(saved: SavedPlan, request: PlanRequest) -> bool:
    return all(name in saved.plan.inputs for name in request.inputs)


def _searched_text(saved: SavedPlan) -> str:
    return f"{saved.plan.task or ''} {saved.name} {saved.plan.description or ''}"


# --- the question about the nearest plan


@dataclass(frozen=True, slots=True)
class FitQuestion:
    """The question whether a saved plan fits a task, and with which inputs."""

    saved: SavedPlan
    messages: tuple[Message, ...]
    answer: AnswerForm


@dataclass(frozen=True, slots=True)
class AdaptedPlan:
    """The result of the question.

    Attributes:
        filled: The saved plan, if it fits, with the values as defaults of its inputs.
        draft: The answer, if it was a complete plan: then it is the first draft.
        declined: Whether the model turned the saved plan down, or filled it in wrongly.
    """

    saved: SavedPlan
    filled: Plan | None = None
    draft: Completion | None = None
    declined: bool = False


async def adapt(conversation: Conversation, listener: Listener | None) -> AdaptedPlan | None:
    """Return the saved plan that is nearest to a task, as a model adapts it; `None`: no plan is near.

    The question is one of the conversation's attempts, and its failure does not end the planning.
    """
    request = conversation.request
    question = fit_question(request)
    if question is None:
        return None
    saved = question.saved
    answer = await conversation.ask_aside(question.messages, question.answer, listener)
    if answer.plan is not None:
        return AdaptedPlan(saved, draft=answer.plan)
    filled, fault, declined = (
        (None, answer.fault, False)
        if answer.fault is not None
        else await _read(answer.value, saved.plan, request)
    )
    attempt = answer.attempt(conversation.number, f"adapted:{saved.name}", "adapt", fault, filled)
    conversation.attempts.append(attempt)
    return AdaptedPlan(saved, filled, declined=declined)


def fit_question(request: PlanRequest) -> FitQuestion | None:
    """Return the question about the nearest saved plan; `None`: no plan is near."""
    saved = near_template(request)
    if saved is None:
        return None
    wanted = [name for name in saved.plan.inputs if name not in request.inputs]
    return FitQuestion(
        saved, adapting_messages(request.task, form_of(saved, request)), _answer(saved.plan, wanted)
    )


def form_of(saved: SavedPlan, request: PlanRequest) -> str:
    """Return a saved plan as the prompt shows it: its task, the tools that it calls, its inputs."""
    plan = saved.plan
    called = sorted(tools_in(plan.to_dict()))
    marked = [f"{name} [{tool.effect}]" for name in called if (tool := request.tools.find(name)) is not None]
    about = [f"It says of itself: {' '.join(plan.description.split())}"] if plan.description else []
    lines = [_input(name, schema, plan) for name, schema in plan.inputs.items() if name not in request.inputs]
    task = " ".join((plan.task or "").split())
    about += [f"It leaves out: {' '.join(text.split())}" for text in plan.left_out]
    return "\n".join([task, *about, f"It calls: {', '.join(marked) or 'no tool'}", *lines])


def _input(name: str, schema: Mapping[str, Json], plan: Plan) -> str:
    description = schema.get("description")
    about = f" ({' '.join(description.split())})" if isinstance(description, str) else ""
    default = f", default {canonical(schema['default']).decode()}" if "default" in schema else ""
    return f"- {name}: {shown_schema(self_contained(schema, plan.types))}{default}{about}"


def _answer(plan: Plan, wanted: list[str]) -> AnswerForm:
    """Return the answer that is asked for: room to reason, then a verdict, then values of the types of the plan's inputs."""
    properties: Json = {name: dict(plan.inputs[name]) for name in wanted}
    inputs = self_contained({"type": "object", "properties": properties}, plan.types)
    definitions = inputs.pop("$defs", None)
    schema: dict[str, Json] = {
        "type": "object",
        "properties": {
            "reasoning": {"type": "string", "description": "Is the task more, less or other than the form?"},
            "fits": {"type": "boolean"},
            "inputs": inputs,
        },
        "required": ["reasoning", "fits", "inputs"],
        **({} if definitions is None else {"$defs": definitions}),
    }
    return AnswerForm(
        {"type": "object"}, name="form", purpose="Whether the form fits, and its values.", shown_schema=schema
    )


async def _read(value: Json, plan: Plan, request: PlanRequest) -> tuple[Plan | None, str | None, bool]:
    """Return the plan with the values in an answer, otherwise why there is none, and whether the model has declined the plan."""
    inputs = parsed(value.get("inputs")) if isinstance(value, dict) else None
    match value, inputs:
        case {"fits": True}, dict(values):
            # Models write null for an input that they leave at its default.
            filled_in = {name: each for name, each in values.items() if not _is_left_out(name, each, plan)}
            _, problems = fit_given(plan, {**filled_in, **request.inputs})
            # As defaults, the values make the plan runnable as it is, and planned again it is the same plan.
            filled = with_defaults(
                plan, {name: each for name, each in filled_in.items() if name not in request.inputs}
            )
            faults = problems or list((await request.check(filled)).errors)
            return (None, "; ".join(map(str, faults)), True) if faults else (filled, None, False)
        case {"fits": False}, _:
            return None, NO_FIT, True
        case _:
            return None, 'expected {"fits": .., "inputs": {..}}', False


def _is_left_out(name: str, value: Json, plan: Plan) -> bool:
    return value is None and "default" in plan.inputs.get(name, {})
