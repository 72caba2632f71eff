"""What all tests share: the modules of `tests/support`, and how Hypothesis looks for examples."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "support"))

# How long an example takes says more of what else the machine does than of firmplan, whose speed `benchmarks` measures.
settings.register_profile("firmplan", deadline=None)
settings.load_profile("firmplan")


def pytest_configure(config: pytest.Config) -> None:
    """Know the marker of the laws that `make sweep` tries with all their seeds (`support/seeds.py`)."""
    config.addinivalue_line(
        "markers", "sweep: tried with a sample of its seeds, with all of them by `make sweep`"
    )
