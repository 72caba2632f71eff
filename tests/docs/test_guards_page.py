"""The law of docs/GUARDS.md: each key of a guard is on the page."""

from __future__ import annotations

import re
from pathlib import Path

import firmplan
from firmplan.plans.checker import ask
from firmplan.tools.guards.personal_data import NATIONAL_IDS

PAGE = (Path(firmplan.__file__).parent / "docs" / "GUARDS.md").read_text()


def test_the_page_has_every_key_and_kind():
    """What a guard may say is what the page tells."""
    for key in (*ask.CONDITIONS, *ask.PERSONAL_DATA, *ask.TOXICITY):
        assert re.search(rf"[`\"]{key}[`\"]", PAGE), key
    countries = {each.country for each in NATIONAL_IDS}
    assert f"of {len(countries)} countries" in PAGE
