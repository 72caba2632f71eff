"""What a model is asked that judges another's answer: one condition, and a typed verdict with its reason first."""

from __future__ import annotations

from ...plans.values import Json
from .completion import Message
from .prompts import DATA_NOTE, tagged

VERDICT: dict[str, Json] = {
    "type": "object",
    "properties": {
        "reason": {"type": "string", "description": "One sentence: what in the answer decides."},
        "holds": {"type": "boolean", "description": "Whether the answer meets the condition."},
    },
    "required": ["reason", "holds"],
}

_TASK = (
    "You judge whether an answer meets one condition, and nothing else. Give the reason in one sentence first, then the "
    "verdict. Neither length nor style counts unless the condition is about them."
)


def judge_messages(condition: str, question: str, answer: Json) -> tuple[Message, ...]:
    """Return the messages that ask for a verdict."""
    parts = [f"Condition: {condition}", tagged("question", question), tagged("answer", answer)]
    return (Message("system", f"{_TASK}\n{DATA_NOTE}"), Message("user", "\n\n".join(parts)))
