"""The policies of a run: effect, retries and approval of each tool, and the modes of reuse.

A run keeps the policies with which it started, as its toolset lock has them. Therefore a resume or a replay decides as the first process did.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import field
from typing import Final, Literal, TypeAlias

from ..plans.immutable import immutable
from ..plans.plan import PERSON
from ..plans.signature import Effect
from ..plans.values import Json

ApprovalKind: TypeAlias = Literal["never", "always", "untrusted", "rule"]
ReuseMode: TypeAlias = Literal["auto", "off", "refresh", "only"]
REUSE_MODES: Final = ("auto", "off", "refresh", "only")

RETRY_FIRST_S: Final = (
    0.2  # the first pause: long enough for a dropped connection to recover, short for a person who waits
)
RETRY_MAX_S: Final = 60.0
# Further calls of an idempotent write whose outcome stays unknown; then a person decides.
LOST_RETRIES_MAX: Final = 5


@immutable
class CallPolicy:
    """The properties of a tool that the machine decides by.

    Attributes:
        retries: Further calls after a failed call, unless the step has its own number.
        timeout_s: Limit of one call, unless the step has its own limit.
        asks_model: Whether a call costs requests to a model: to answer, or to judge its result.
        approval_expires_s: How long a person is waited for, in seconds; `None`: as long as the run says.
        defaults: Argument -> the value that the tool uses if a call does not give the argument.
    """

    effect: Effect = Effect.WRITE
    retries: int = 0
    timeout_s: float | None = None
    idempotent: bool = False
    can_reconcile: bool = False
    approval: ApprovalKind = "never"
    asks_model: bool = False
    approval_expires_s: float | None = None
    defaults: Mapping[str, Json] = field(default_factory=dict[str, Json], hash=False)


MODEL_POLICY: Final = CallPolicy(effect=Effect.MODEL, asks_model=True)
_BY_PERSON: Final = CallPolicy(effect=Effect.PURE, approval="always")
_BY_RULE: Final = CallPolicy(effect=Effect.PURE, approval="rule")


def endorse_policy(by: str) -> CallPolicy:
    """Return how an `endorse` step is treated: like a call that changes nothing and always needs a person, or the policy that it names."""
    return _BY_PERSON if by == PERSON else _BY_RULE


def retry_pause_s(failed_count: int, *, seed: str, step: str) -> float:
    """Return the pause before the next attempt: exponential from 0.2 s to 60 s, with jitter from the run's seed.

    The pause is deterministic, so that a resumed run waits as the first process would have waited. The jitter of tenacity draws from the global
    random generator; therefore only its exponential part is used.

    Args:
        failed_count: Attempts so far, counted from 1.
        seed: The seed of the run.
        step: Path of the step, so that steps that fail together do not retry together.
    """
    from tenacity import RetryCallState, Retrying, wait_exponential  # noqa: PLC0415  # only failing runs pay for it

    state = RetryCallState(Retrying(), fn=None, args=(), kwargs={})
    state.attempt_number = failed_count
    pause = wait_exponential(multiplier=RETRY_FIRST_S, max=RETRY_MAX_S)(state)
    draw = hashlib.sha256(f"{seed}\n{step}\n{failed_count}".encode()).digest()
    return pause * (0.5 + int.from_bytes(draw[:4], "big") / 2**33)
