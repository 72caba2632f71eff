"""What all tests share: the modules of `tests/support`, and how Hypothesis looks for examples."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "support"))

# How long an example takes says more of what else the machine does than of firmplan, whose speed `benchmarks` measures.
settings.register_profile("firmplan", deadline=None)
settings.load_profile("firmplan")
