"""What a run asks of a person, asked through the client: elicitation of MCP.

A client that can show forms to its user is asked what `firmplan approve`, `deny` and `answer` would decide: whether a call is made, and
the answers to questions of a plan or of the planner. The person sees the same text as on the command line, with every argument in full.
The client's model takes no part in it. What cannot be asked by a form (a write of unknown outcome, an answer with nested values, a text
past `MESSAGE_MAX`) is left to the commands of `advice`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from mcp.types import ElicitRequestedSchema, ElicitResult

from ...engine import Engine
from ...executor import Run, Submitter
from ...executor.approvals.view import WaitingCall, WaitingCalls
from ...plans import Json
from ...tools.provider import plain
from ..screen import one_line
from .calls import Context

MESSAGE_MAX: Final = 20_000
"""Characters of a question. A longer one is not cut, since the person has to see everything; the command line shows it."""
QUESTIONS_MAX: Final = 50
"""Questions that one call of a client asks at most."""
WIDTH: Final = 100
ANSWER: Final = "answer"
PLAIN_KEYS: Final = frozenset(
    {
        "type",
        "title",
        "description",
        "minLength",
        "maxLength",
        "pattern",
        "minimum",
        "maximum",
        "default",
        "enum",
    }
)
"""The keywords that a form of MCP knows; the answer is validated against the complete schema when it is recorded."""
FORMATS: Final = frozenset({"email", "uri", "date", "date-time"})
PLAIN_TYPES: Final = frozenset({"string", "number", "integer", "boolean"})
DECISION: Final[ElicitRequestedSchema] = {
    "type": "object",
    "properties": {
        "decision": {"type": "string", "enum": ["approve", "deny"], "title": "Decision"},
        "reason": {"type": "string", "title": "Reason, if you deny"},
    },
    "required": ["decision"],
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One question for a person.

    Attributes:
        step: Path of the leaf; `None`: the planner asks.
        attempt: The attempt that the decision is about.
        message: What the person reads.
        form: The form of the answer.
        is_decision: Whether the person decides about a call; else the form has an answer.
        is_wrapped: Whether the answer is one field of the form; else it is the form.
    """

    step: str | None
    attempt: int | None
    message: str
    form: ElicitRequestedSchema
    is_decision: bool = False
    is_wrapped: bool = False

    def to_dict(self) -> dict[str, Json]:
        """Return what has to be known again when the answer comes with another request."""
        return {
            "step": self.step,
            "attempt": self.attempt,
            "is_decision": self.is_decision,
            "is_wrapped": self.is_wrapped,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Asked:
        """Read `to_dict` back, without the words."""
        return cls(data["step"], data["attempt"], "", {}, data["is_decision"], data["is_wrapped"])


def can_ask(context: Context) -> bool:
    """Whether the client can show a form to its user."""
    capabilities = context.session.client_capabilities
    elicits = None if capabilities is None else capabilities.elicitation
    # A client that names no mode means forms.
    return elicits is not None and (elicits.form is not None or elicits.url is None)


def next_question(run: Run, view: WaitingCalls | None) -> Asked | None:
    """Return the first question of a run that a form can ask, or `None`.

    Args:
        run: The run as it stands.
        view: The calls that wait for a person; `None`: none does.
    """
    if run.question is not None:
        text = f"run {run.id}: the planner asks before it plans:\n{one_line(str(run.question['text']))}"
        return _answer(None, None, text, cast("Mapping[str, Json]", run.question["returns"]))
    for call in view.calls if view is not None else ():
        if (asked := _of_call(run, call)) is not None:
            return asked
    return None


def _of_call(run: Run, call: WaitingCall) -> Asked | None:
    text = f"run {run.id}\n{call.text(WIDTH)}"
    match call.about:
        case "question":
            return _answer(call.step, call.attempt, text, call.returns or {})
        case "call":
            asked = Asked(call.step, call.attempt, text, DECISION, is_decision=True)
            return asked if len(text) <= MESSAGE_MAX else None
        case "outcome":
            return None


def _answer(step: str | None, attempt: int | None, text: str, returns: Mapping[str, Json]) -> Asked | None:
    """Return the question with the form of its answer; `None`: no form has such an answer, or the text is too long."""
    if len(text) > MESSAGE_MAX:
        return None
    field = _field(dict(returns))
    if field is not None:
        form: ElicitRequestedSchema = {"type": "object", "properties": {ANSWER: field}, "required": [ANSWER]}
        return Asked(step, attempt, text, form, is_wrapped=True)
    properties = returns.get("properties")
    if returns.get("type") != "object" or not isinstance(properties, Mapping):
        return None
    fields = {name: _field(each) for name, each in properties.items()}
    if not fields or any(each is None for each in fields.values()):
        return None
    form = {
        "type": "object",
        "properties": fields,
        "required": list(cast("list[str]", returns.get("required") or [])),
    }
    return Asked(step, attempt, text, form)


def _field(schema: Json) -> dict[str, Any] | None:
    """Return the field of a form for a schema; `None`: a form has no such field."""
    if not isinstance(schema, Mapping) or schema.get("type") not in PLAIN_TYPES:
        return None
    choices = schema.get("enum")
    if choices is not None and (schema["type"] != "string" or not isinstance(choices, list)):
        return None
    made: dict[str, Any] = {key: value for key, value in schema.items() if key in PLAIN_KEYS}
    if schema.get("format") in FORMATS:
        made["format"] = schema["format"]
    return made


async def decide(engine: Engine, run_id: str, asked: Asked, answer: ElicitResult, by: str) -> bool:
    """Record what the person has answered; return whether that decides anything.

    Args:
        engine: The engine that has the run.
        run_id: The run.
        asked: The question.
        answer: The person's answer; declined or dismissed, it decides nothing.
        by: Who answers.

    Raises:
        FirmplanError: The answer does not fit, this person may not decide, or another decision stands.
    """
    if answer.action != "accept":
        return False
    content = dict(answer.content or {})
    if not asked.is_decision:
        value = content.get(ANSWER) if asked.is_wrapped else content
        await engine.answer(run_id, asked.step, value, by=by, attempt=asked.attempt)
        return True
    step = str(asked.step)
    match content.get("decision"):
        case "approve":
            await engine.approve(run_id, step, by=by, attempt=asked.attempt)
        case "deny":
            await engine.deny(
                run_id, step, by=by, reason=str(content.get("reason") or ""), attempt=asked.attempt
            )
        case _:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Asker:
    """Who calls, where that is known: the key of an HTTP request.

    Attributes:
        name: The name of the key; decisions are recorded under it.
        submitter: Who submits the runs of its calls, and whether the name may approve their calls.
    """

    name: str
    submitter: Submitter


def person_of(context: Context) -> str:
    """Return the name under which the decisions of a client's user are recorded, where no key has a name."""
    known = context.session.client_params
    name = plain(known.client_info.name, 60) if known is not None else ""
    return f"the user of {name}" if name else "the user of an MCP client"
