"""`tools lint`: what is allowed in a tool, but will cost someone later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from ..tools.fingerprint.lint import lint
from . import screen
from .failure import Exit
from .session import NO_TOOLS, load_toolset, settings_of


def lint_command(flags: Mapping[str, object], *, as_json: bool) -> int:
    """Print the remarks on every tool. Remarks are advice: the exit code is 0 with them too."""
    toolset = load_toolset(settings_of(flags))
    remarks = lint(toolset)
    if as_json:
        screen.document({"tools": toolset.names, "remarks": [asdict(remark) for remark in remarks]})
        return Exit.OK
    if not len(toolset):
        screen.note(NO_TOOLS)
        return Exit.OK
    for remark in remarks:
        screen.answer(f"{remark.tool}: {remark.message} [{remark.code}]\n  hint: {remark.hint}")
    screen.note(f"{screen.plural(len(toolset.names), 'tool')}, {screen.plural(len(remarks), 'remark')}")
    return Exit.OK
