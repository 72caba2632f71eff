"""`bisect`: what puts recorded runs to the test, in words or as a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import screen
from .failure import Exit
from .session import drive, open_engine, settings_of


def bisect_command(
    run_ids: Sequence[str],
    step: str | None,
    output: str,
    flags: Mapping[str, object],
    *,
    exit_code: bool,
    as_json: bool,
) -> int:
    """Show where an output changed; that it changed is an answer, and a failure only if one asks for it."""
    settings = settings_of(flags)

    async def work() -> int:
        async with open_engine(settings) as engine:
            found = await engine.bisect(run_ids, step=step, output=output)
        if as_json:
            screen.document(found.to_dict())
        else:
            screen.answer(str(found))
        return Exit.FAILED if exit_code and found else Exit.OK

    return drive(work)
