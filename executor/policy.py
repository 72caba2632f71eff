"""How calls are treated: effect, retries and approval of one tool, and how far earlier results stand in one run. Values, frozen with the run.

A run keeps the policies that it started with (its lock), so that a resume or a replay decides as the first process did.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from ..plans.signature import Effect
from ..plans.values import Json

ApprovalKind: TypeAlias = Literal["never", "always", "untrusted", "rule"]
ReuseMode: TypeAlias = Literal["auto", "off", "refresh", "only"]
REUSE_MODES: Final = ("auto", "off", "refresh", "only")

RETRY_FIRST_S: Final = 0.2  # the first pause: long enough for a dropped connection, short for a person
RETRY_MAX_S: Final = 60.0
# An idempotent write whose outcome stays unknown is called again this often, then a person decides.
LOST_RETRIES_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """What the machine needs to know of a tool.

    Attributes:
        retries: Further calls after a failed one, unless the step says otherwise.
        timeout_s: Limit of one call, unless the step says otherwise.
        defaults: Arguments that the tool takes where a call gives none.
    """

    effect: Effect = Effect.WRITE
    retries: int = 0
    timeout_s: float | None = None
    idempotent: bool = False
    can_reconcile: bool = False
    approval: ApprovalKind = "never"
    defaults: Mapping[str, Json] = field(default_factory=dict[str, Json], hash=False)


MODEL_POLICY: Final = CallPolicy(effect=Effect.MODEL)


def retry_pause_s(failed_count: int, *, seed: str, step: str) -> float:
    """Return the pause before the next attempt: exponential from 0.2 s to 60 s, with jitter from the run's seed.

    Deterministic, so that a resumed run waits as the first process would have. tenacity's own jitter draws from
    the global generator, which is why only its exponential part is used.
    """
    from tenacity import RetryCallState, Retrying, wait_exponential  # noqa: PLC0415  # only failing runs pay for it

    state = RetryCallState(Retrying(), fn=None, args=(), kwargs={})
    state.attempt_number = failed_count
    pause = wait_exponential(multiplier=RETRY_FIRST_S, max=RETRY_MAX_S)(state)
    draw = hashlib.sha256(f"{seed}\n{step}\n{failed_count}".encode()).digest()
    return pause * (0.5 + int.from_bytes(draw[:4], "big") / 2**33)
