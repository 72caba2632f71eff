"""Content keys: the parts that are stored for explanations."""

from __future__ import annotations

from typing import cast

from firmplan.executor.calls.identity import ContentKey
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.plans.values import LARGE_BYTES, canonical


def test_known_texts_have_the_digests_that_others_have() -> None:
    """Parts of large arguments are shortened alike, whether the texts in them are values of steps or not."""
    texts = ["ä" * LARGE_BYTES, "y" * 300, "z" * (LARGE_BYTES + 1)]
    known = [CanonicalValue.of(text) for text in texts]
    value = {"a": texts[0], "b": [texts[1], {"c": texts[2]}], "d": "ä" * LARGE_BYTES}
    data = canonical(value)
    given = CanonicalValue.known(data, value)
    given.texts = [known[0], known[2]]
    assert given.find_text(texts[0]) is known[0]
    assert given.find_text(cast("str", value["d"])) is None, "equal, but another text"
    plain = ContentKey("k", args=data).kept_parts()
    assert ContentKey("k", args=data, given=given).kept_parts() == plain
    assert len(plain) < 1000
    assert plain.count(b"$text") == 4
