"""Text as a reader sees it: two spellings that look the same become the same text, so that a guard cannot be passed by a look-alike.

Compatibility forms (full-width letters and digits, ligatures), digits of all scripts, typographic quotation marks and dashes become plain
ones. Characters without a width (zero-width spaces, soft hyphens, marks of direction) are removed. The caller folds case and white space.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_PLAIN: Final = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u2039\u203a\u0060\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63", "-"),
    }
)


def plain_text(text: str) -> str:
    """Return a text in its plain spelling; O(length)."""
    if text.isascii():
        return text.replace("`", "'")
    # The marks are translated before and after: NFKC takes apart some of them, and makes others.
    plain = unicodedata.normalize("NFKC", text.translate(_PLAIN)).translate(_PLAIN)
    return "".join(map(_plain, plain))


def _plain(character: str) -> str:
    if character.isascii():
        return character
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    # Cf: format characters, which have no width.
    return "" if unicodedata.category(character) == "Cf" else character
