"""The limits on the data of one run. A value that passes a limit is a failed step with a message, not a process without memory.

The limits on items and sub-plans are in `machine.py`, those on results of expressions in `plans/expressions`. Queues need no limit: a run has
as many events under way as it has calls, and `max_concurrency` bounds the calls.
"""

from __future__ import annotations

from typing import Final

from ..errors import ToolError

MIB: Final = 1024 * 1024
VALUE_BYTES_MAX: Final = 64 * MIB  # one value as canonical JSON: it is parsed, hashed and stored in one piece
INPUTS_BYTES_MAX: Final = 512 * MIB  # all inputs of a run, which are stored in one piece: see the next limit
ARTIFACT_BYTES_MAX: Final = 512 * MIB  # SQLite's own limit of a value is 1,000,000,000 bytes
ARTIFACT_FILE_BYTES_MAX: Final = (
    64 * 1024 * MIB
)  # of one that is saved as a file, and kept in parts: what a disk holds twice
MESSAGE_MAX: Final = (
    10_000  # characters of the message of a failed call, which journal, answers and logs hold
)
FRAMES_KEPT_MAX: Final = 100  # failed calls of which a process records the last frames for a run: failing items have the same ones again and again
LEASE_S: Final = 30.0  # how long the lease of an owner is, unless its engine says otherwise
PARK_AFTER: Final = 3  # deaths; the default of the engine's setting
PARK_GRACE_S: Final = 30.0  # how long a stopping process (unless its engine says otherwise), and a cancelled run, waits for its writes in flight
RUN_WORK_MAX: Final = 50_000_000  # operations of all expressions of a run: some ten seconds of a processor
SLICE_WORK: Final = 500_000  # operations after which a run lets others have a turn: about a tenth of a second
RUN_BYTES_MAX: Final = 1024 * MIB  # all results of a run, which are in memory as long as a process drives it


def bounded(message: str) -> str:
    """Return a message; of a long message the beginning, with the length of the complete message."""
    if len(message) <= MESSAGE_MAX:
        return message
    return f"{message[:MESSAGE_MAX]}.. ({len(message)} characters)"


def is_small_enough(size: int) -> bool:
    """Whether a value of that size may be kept."""
    return size <= VALUE_BYTES_MAX


def too_large(size: int, what: str) -> ToolError:
    """Return the refusal of a value of that size."""
    return ToolError(
        f"{what}: expected at most {VALUE_BYTES_MAX // MIB} MiB of JSON, found {size / MIB:.1f} MiB; keep bytes with "
        "ctx.save and return the Artifact",
        code="limit-exceeded",
    )


def check_artifact(size: int) -> None:
    """Refuse an artifact that is too large. Raises: ToolError: code `limit-exceeded`."""
    if size > ARTIFACT_BYTES_MAX:
        raise ToolError(
            f"an artifact: expected at most {ARTIFACT_BYTES_MAX // MIB} MiB, found {size / MIB:.1f} MiB; save it as a file, with "
            "ctx.save_file, or keep it elsewhere and pass its address on",
            code="limit-exceeded",
        )


def check_artifact_file(size: int) -> None:
    """Refuse an artifact that is too large to be saved as a file. Raises: ToolError: code `limit-exceeded`."""
    if size > ARTIFACT_FILE_BYTES_MAX:
        raise ToolError(
            f"an artifact: expected at most {ARTIFACT_FILE_BYTES_MAX // MIB} MiB as a file, found more; divide it, or keep it elsewhere and pass "
            "its address on",
            code="limit-exceeded",
        )


def run_too_large(size: int, more: int) -> ToolError:
    """Return the refusal of a result of `more` bytes by a run whose results have `size`."""
    return ToolError(
        f"the results of this run came to {size / MIB:.1f} MiB, and one of {more / MIB:.1f} MiB does not fit below "
        f"{RUN_BYTES_MAX // MIB} MiB; keep bytes with ctx.save, or divide the work over several runs",
        code="limit-exceeded",
    )
