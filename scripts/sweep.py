"""Try the laws with all their seeds: `make sweep`; `scripts/sweep.py tests/crash` only those there, `--seed 17` one case of each.

The tests try a sample of what is tried here: the law and its cases are the same (`tests/support/seeds.py`); laws of Hypothesis are tried with
all their examples. What fails is told at the end as the command that runs this one case again.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CASE = re.compile(r"(?P<law>.+)\[(?:.*-)?(?P<seed>\d+)\]")


class Failures:
    """Remembers which cases failed."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a case of which any part failed, and say so at once: a sweep takes long."""
        if report.failed and report.nodeid not in self.found:
            self.found.append(report.nodeid)
            sys.stderr.write(f"\nfailed: {again(report.nodeid)}\n")


def again(nodeid: str) -> str:
    """Return the command that tries one case again."""
    case = CASE.fullmatch(nodeid)
    return f"FIRMPLAN_SEED={case['seed']} pytest {case['law']}" if case else f"pytest {nodeid}"


def main() -> int:
    """Try the laws; the exit code is pytest's."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, help="try only the case of this number")
    parser.add_argument("tests", nargs="*", default=["tests"], help="files and folders of tests; all")
    given = parser.parse_args()
    os.chdir(ROOT)
    os.environ["FIRMPLAN_SWEEP"] = "1"
    if given.seed is not None:
        os.environ["FIRMPLAN_SEED"] = str(given.seed)
    failures = Failures()
    code = pytest.main(["-q", "--tb=short", "-m", "sweep or hypothesis", *given.tests], plugins=[failures])
    for nodeid in failures.found:
        sys.stdout.write(f"{again(nodeid)}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
