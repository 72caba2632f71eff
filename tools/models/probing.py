"""Which of the four ways to ask for structure an endpoint can do: one tiny question in each, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...plans.values import Json
from .answer import Answer
from .clients import Clients
from .completion import Answered, Call, CutShort, Message, Refused, Unfit, complete
from .endpoint import MODES, Endpoint
from .outage import ModelError

TIMEOUT_S = 30.0

_SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {
        "word": {"type": "string"},
        "numbers": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["word", "numbers"],
    "additionalProperties": False,
}
_QUESTION = "Give the word 'seven' and the list of the numbers 7 and 8, in the form that is asked for."


@dataclass(frozen=True, slots=True)
class Probe:
    """One way of asking: whether it works, and what came where it does not."""

    mode: str
    works: bool
    found: str


async def probe(
    endpoint: Endpoint, clients: Clients | None = None, timeout_s: float = TIMEOUT_S
) -> tuple[Probe, ...]:
    """Return what comes of each of `MODES`, in their order; sends one request each."""
    shared = Clients() if clients is None else clients
    return tuple([await _probe(replace(endpoint, mode=mode), shared, timeout_s) for mode in MODES])


async def _probe(endpoint: Endpoint, clients: Clients, timeout_s: float) -> Probe:
    answer = Answer(_SCHEMA, name="probe", purpose="A word and some numbers.")
    call = Call(endpoint, (Message("user", _QUESTION),), answer, timeout_s)
    try:
        turn = await complete(call, clients)
    except ModelError as fault:
        return Probe(endpoint.mode, works=False, found=f"{fault.code}: {fault}")
    match turn.outcome:
        case Answered():
            return Probe(endpoint.mode, works=True, found="answers in the form that is asked for")
        case Unfit(why):
            return Probe(endpoint.mode, works=False, found=why)
        case Refused(text):
            return Probe(endpoint.mode, works=False, found=f"declines: {endpoint.quote(text)}")
        case CutShort():
            return Probe(endpoint.mode, works=False, found="the answer was cut off")
