"""The page on digests shows what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import firmplan
from firmplan import Plan
from firmplan.plans.digest import canonical_form
from firmplan.plans.values import canonical

PAGE = (Path(firmplan.__file__).parent / "docs" / "DIGEST.md").read_text(encoding="utf-8")


def test_the_example_has_the_bytes_and_the_digest_that_the_page_shows():
    (given,) = re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL)
    shown, digest = re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)
    plan = Plan.model_validate(json.loads(given))
    assert canonical(canonical_form(plan)).decode() == shown
    assert plan.digest == digest


def test_the_page_names_every_default_and_every_key_that_may_be_left_out():
    for name in (
        "task", "description", "why", "inputs", "types", "plans", "output", "after", "on_error", "repeat", "retries", "timeout", "args",
        "returns", "guard", "model", "system", "examples", "temperature", "max_tokens", "tools", "max_steps", "budget",
    ):  # fmt: skip
        assert f"`{name}`" in PAGE, name
