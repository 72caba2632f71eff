"""Fingerprints that are written down, for every version of Python: `tests/vectors/fingerprints/`.

Results that were kept under one Python are found again under the next. Made anew only where `fingerprint.FORMAT` was
raised: `python tests/tools/fingerprint/test_golden_fingerprints.py`.
"""

from __future__ import annotations

import asyncio
import decimal
import json
import os
import re
import threading
import zipfile
from pathlib import Path
from typing import Annotated

import pytest
from firmplan.tools import Toolset
from firmplan.tools.fingerprint.constants import ValueText
from firmplan.tools.fingerprint.fingerprint import FORMAT
from firmplan.tools.fingerprint.references import ProjectReferences

VECTORS = Path(__file__).parents[2] / "vectors" / "fingerprints"
WRITTEN = VECTORS / "fingerprints.json"

STANDARD = {
    "io.open": open,
    "pathlib.Path": Path,
    "asyncio.tasks.current_task": asyncio.current_task,
    "decimal.getcontext": decimal.getcontext,
    "decimal.localcontext": decimal.localcontext,
    "_thread.allocate_lock": threading.Lock,
    "re.error": re.error,
    "zipfile.Path": zipfile.Path,
    "posixpath.islink": os.path.islink,
    "posixpath.lexists": os.path.lexists,
    "posixpath.normpath": os.path.normpath,
    "typing.Annotated": Annotated,
}


def told():
    """What the fingerprints of the golden tools are here and now."""
    found = Toolset.load(VECTORS / "tools.py")
    return {
        "format": FORMAT,
        "tools": {
            tool.name: {"fingerprint": tool.fingerprint, "parts": dict(tool.fingerprint_parts)}
            for tool in found
        },
    }


def test_the_written_fingerprints_hold():
    """Part by part, so that what differs is named; and none of them is unseen."""
    found, written = told(), json.loads(WRITTEN.read_text(encoding="utf-8"))
    assert found["tools"].keys() == written["tools"].keys()
    for name, known in written["tools"].items():
        assert found["tools"][name]["parts"] == known["parts"], name
        assert known["fingerprint"] is not None, name
    assert found == written


@pytest.mark.parametrize("name", STANDARD)
def test_what_the_standard_library_moved_keeps_its_name(name):
    """Wherever this Python keeps it, it is told by the name that it had first."""
    assert ValueText(ProjectReferences({})).text(STANDARD[name]) == name


if __name__ == "__main__":
    WRITTEN.write_text(json.dumps(told(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
