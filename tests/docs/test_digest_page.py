"""The page on digests names what the code leaves out."""

from __future__ import annotations

from pathlib import Path

import firmplan

PAGE = (Path(firmplan.__file__).parent / "docs" / "DIGEST.md").read_text(encoding="utf-8")


def test_the_page_names_every_default_and_every_key_that_may_be_left_out():
    for name in (
        "task", "description", "why", "inputs", "types", "plans", "output", "after", "on_error", "repeat", "retries", "timeout", "args",
        "returns", "guard", "model", "system", "examples", "temperature", "max_tokens", "tools", "max_steps", "budget",
    ):  # fmt: skip
        assert f"`{name}`" in PAGE, name
