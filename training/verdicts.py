"""What people, checks or judges have said of runs, in a file beside the store: which runs are good enough to learn from.

    {"run": "run_be40097b6b473dae", "score": 0.9}
    {"run": "run_7d81f02c55e0a9b1", "good": false}

One JSON object a line: `score` is from 0 to 1, and `good` is 1 or 0. The last line about a run counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import cast

from ..errors import ConfigError
from ..plans.reports.nearest import did_you_mean, listing
from ..plans.values import Json

THRESHOLD = 0.5
"""The least score of a good run where the caller names none."""
_KEYS = ("run", "score", "good", "why", "by")
FAULTS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The scores of runs.

    Attributes:
        scores: Run -> score, from 0 to 1.
        source: Where they are from, for the data card.
    """

    scores: Mapping[str, float]
    source: str = "the caller"

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Verdicts:
        """Read a file of verdicts. Raises: ConfigError: lines are faulty; the message has the number of each."""
        file = Path(path)
        try:
            lines = file.read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError) as error:
            raise ConfigError(f"expected a file of verdicts, found {file}: {error}") from error
        scores: dict[str, float] = {}
        faults: list[str] = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            found = _read(line)
            if isinstance(found, str):
                faults.append(f"{file}: line {number}: {found}")
            else:
                scores[found[0]] = found[1]
        if faults:
            more = [f"and {len(faults) - FAULTS_SHOWN} more"] if len(faults) > FAULTS_SHOWN else []
            raise ConfigError("\n".join([*faults[:FAULTS_SHOWN], *more]))
        return cls(scores, file.name)


def _read(line: str) -> tuple[str, float] | str:
    """Return a run and its score; a text says what is wrong with the line."""
    try:
        value: Json = json.loads(line)
    except ValueError as error:
        return f"expected one JSON object, found no JSON: {error}"
    fields = value if isinstance(value, dict) else {}
    for key in fields:
        if key not in _KEYS:
            return f"found the unknown key '{key}'; {did_you_mean(key, _KEYS, f'known are {listing(_KEYS)}')}"
    match fields:
        case {"run": str(run), "score": int() | float() as score} if (
            not isinstance(score, bool) and 0 <= score <= 1
        ):
            return run, float(cast("float", score))
        case {"run": str(run), "good": bool(good)} if "score" not in fields:
            return run, float(good)
        case _:
            return f'expected {{"run": .., "score": 0 to 1}} or {{"run": .., "good": true}}, found {line.strip()[:80]}'
