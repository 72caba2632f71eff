"""`Explanation`: why a step ran, was reused, or did neither; for people as a sentence, for programs as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

if TYPE_CHECKING:
    from ...plans.values import Json
    from ..journal.decision_history import RecordedDecision
    from .key_changes import KeyChange

Verdict: TypeAlias = Literal["ran", "reused", "computed", "given", "ended", "waits", "parts"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a step ran or was reused; `str()` is the sentence.

    Attributes:
        verdict: `ran`, `reused`, `computed` (a `set` step), `given` (by a fork), `ended` (skipped, cancelled, failed before a
            call), `waits`, or `parts` (a step of several calls).
        because: The reason as a word: `changed`, `first`, `same`, `parent`, `write`, `no-reuse-for`, `unseen`, `secret`,
            `expired`, `written`, `env`, `off`, `refresh`, `afresh`, `not-kept`, or the reason of a skip.
        sentence: The reason as a sentence.
        changes: Where the key changed: what differs from the nearest earlier call.
        source: Run and step of the nearest earlier call, or of the result that was reused.
        parts: For a step of several calls: one explanation for each.
        decisions: What people decided about the call, oldest first: `decision`, `at`, `by`, `reason`, `edited`.
    """

    run_id: str
    step: str
    verdict: Verdict
    because: str
    sentence: str
    changes: tuple[KeyChange, ...] = ()
    source: tuple[str, str] | None = None
    parts: tuple[Explanation, ...] = ()
    decisions: tuple[RecordedDecision, ...] = ()

    def __str__(self) -> str:
        return self.sentence

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "run": self.run_id,
            "step": self.step,
            "verdict": self.verdict,
            "because": self.because,
            "sentence": self.sentence,
            "changes": [cast("Json", each.to_dict()) for each in self.changes],
            "source": {"run": self.source[0], "step": self.source[1]} if self.source else None,
            "parts": [cast("Json", part.to_dict()) for part in self.parts],
            "decisions": [cast("Json", each.to_dict()) for each in self.decisions],
        }
