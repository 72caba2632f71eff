"""What a run's calls leave for later ones: results that may stand for a call, and what each call was made from.

Both go into the store with the run's journal. A result that depends on more than its key says is not kept, and the record of the call
says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from ..stores.store import CallRecord, Reusable
from .reuse import Candidate

if TYPE_CHECKING:
    from ...plans.values import Json
    from ...tools import Used
    from ...tools.fingerprint.fingerprint import Fingerprint
    from ..journal.journal import Journal
    from ..sealed import Sealed

FAILED: Final = "it failed"
WRITE_OPEN: Final = "a write on its resource was in flight"
_NO_ENV: Final[Mapping[str, Json]] = {}
OFF: Final = "the run was started with reuse='off'"


class Harvest:
    """The results of one run on their way to the store."""

    def __init__(self, run_id: str, journal: Journal) -> None:
        self._run_id = run_id
        self._journal = journal
        self._named: set[str] = set()  # fingerprints whose parts are on their way

    def add(  # noqa: PLR0913  # one keyword for each thing that decides whether a result is kept
        self,
        candidate: Candidate,
        output: Sealed,
        *,
        started: float,
        at: float,
        epochs: Mapping[str, int] | None,
        used: Used | None,
        fingerprint: Fingerprint | None,
        is_kept: bool,
    ) -> Reusable | None:
        """Remember a result and what it was made from; return the entry if the result may stand for later calls.

        Args:
            candidate: The call.
            output: What it returned.
            started: Unix seconds.
            at: Unix seconds: its age is counted from here.
            epochs: Of a read: the write counts that it started with; `None`: a write was open.
            used: What the call took from its context.
            fingerprint: Of its tool.
            is_kept: Whether this run keeps results at all.
        """
        if not is_kept:
            lost = OFF
        elif epochs is None:
            lost = WRITE_OPEN
        else:
            lost = "" if used is None else _taken(used)
        key, made = candidate.key.key, None
        if not lost and key and epochs is not None:
            env = _NO_ENV if used is None else cast("Mapping[str, Json]", dict(used.env))
            made = Reusable(key, self._run_id, candidate.step, output.data, at, epochs, env)
        self.note(candidate, started, fingerprint, lost, made)
        return made

    def note(
        self,
        candidate: Candidate,
        started: float,
        fingerprint: Fingerprint | None,
        lost: str,
        made: Reusable | None = None,
    ) -> None:
        """Remember what a call was made from, and the entry that it made; a call without a key is explained by that alone."""
        key = candidate.key
        if not key.key:
            return
        call = CallRecord(
            self._run_id, candidate.step, key.subject, started, key.key, key.kept_parts(), key.code, lost
        )
        parts: dict[str, Mapping[str, str]] | None = None
        if key.code and key.code not in self._named and fingerprint is not None:
            self._named.add(key.code)
            parts = {key.code: fingerprint.parts}
        self._journal.leave(call, made, parts)


def _taken(used: Used) -> str:
    """Return what a call took from its context that its key does not name, as a sentence's end."""
    taken = (("the clock", used.now), ("random numbers", used.random), ("a new id", used.uuids))
    names = [name for name, was_taken in taken if was_taken]
    names += [f"the secret '{name}'" for name in used.secrets]
    return f"its result depends on {' and '.join(names)}" if names else ""
