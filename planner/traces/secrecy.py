"""Secrets in traces: values that look like keys, tokens or passwords. They never stand in a plan or in a report.

A value is a secret if its text has the form of a known kind of key, or if it stands under a name such as `api_key` and is no word of a language. What is a
secret at one place of a trace is one wherever else it stands. A false alarm costs a person one look at the plan; a missed secret would be in a file that
people share. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from typing import Final

from ...plans.checker.names import numbered
from ...plans.values import Json

MASK: Final = "***"

_FORMS: Final = re.compile(
    r"""(?x)
    \bsk-[A-Za-z0-9_-]{16,}            # OpenAI, Anthropic
  | \b[rs]k_(?:live|test)_[A-Za-z0-9]{10,} # Stripe
  | \bgh[pousr]_[A-Za-z0-9]{20,}       # GitHub
  | \bgithub_pat_[A-Za-z0-9_]{20,}
  | \bglpat-[A-Za-z0-9_-]{16,}
  | \bxox[abeposr]-[A-Za-z0-9-]{10,}    # Slack
  | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b      # AWS
  | \bAIza[A-Za-z0-9_-]{30,}           # Google
  | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}  # JSON web tokens
  | \b(?:Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{12,}
  | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----
  | (?<=://)[^\s:/@]+:[^\s/@]+(?=@)    # user and password in a URL
    """
)
_NAMES: Final = re.compile(
    r"(?i)(?:^|[_\-.])(?:(?:api|auth|private|access|secret|signing|encryption)[_-]?key|secret|token|password|passwd|pwd|passphrase|passcode|credentials?|authorization|pin|cvv|otp)s?$|apikey|accesstoken"
)
_TOKEN_COUNTS: Final = re.compile(
    r"(?i)(?:max|prompt|completion|total|input|output|page|next|continuation)[_-]?tokens?$"
)
"""Names that end like a secret's and are none: numbers of tokens, and cursors of lists."""
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
"""Where the next word of `clientSecret` begins."""
_TEXT_MIN: Final = 4
_SURE_MIN: Final = 8
"""A shorter secret, or one of letters alone, may stand in other texts by chance."""


def is_secret(name: str, value: Json) -> bool:
    """Whether a value is a secret.

    Args:
        name: The argument or the field that has it; empty if there is none.
        value: The value; only texts are secrets, and numbers under the name of one.
    """
    if isinstance(value, str):
        if _FORMS.search(value):
            return True
        return len(value) >= _TEXT_MIN and _is_secret_name(name) and " " not in value.strip()
    return isinstance(value, int) and not isinstance(value, bool) and _is_secret_name(name)


def _is_secret_name(name: str) -> bool:
    words = _WORD.sub("_", name)
    return _NAMES.search(words) is not None and _TOKEN_COUNTS.search(words) is None


def secrets_in(value: Json) -> Iterator[str]:
    """Yield the distinctive secrets in a value, which no other text holds by chance: texts of a known form, and long texts with letters and digits under a secret's name."""
    waiting: list[tuple[str, Json]] = [("", value)]
    while waiting:
        of, each = waiting.pop()
        match each:
            case str():
                yield from (found.group() for found in _FORMS.finditer(each))
                is_sure = len(each) >= _SURE_MIN and re.search(r"\d", each) and re.search(r"[^\W\d_]", each)
                if is_sure and is_secret(of, each):
                    yield each
            case dict():
                waiting += [("", key) for key in each]
                waiting += each.items()
            case list():
                waiting += [(of, inner) for inner in each]
            case _:
                pass


def holds_secret(text: str, known: Iterable[str] = ()) -> bool:
    """Whether a text holds a secret of a known form, or one of the given ones."""
    return _FORMS.search(text) is not None or any(secret in text for secret in known)


def masked(text: str, known: Iterable[str] = ()) -> str:
    """Return a text without secrets: without those of a known form, and without the given ones."""
    for secret in sorted(set(known), key=lambda each: (-len(each), each)):
        if secret:
            text = text.replace(secret, MASK)
    return _FORMS.sub(MASK, text)


def secret_name(argument: str, taken: Container[str]) -> str:
    """Return a name for the secret of an argument, such as `API_KEY`."""
    base = re.sub(r"[^A-Za-z0-9]+", "_", _WORD.sub("_", argument)).strip("_").upper() or "SECRET"
    return numbered(f"SECRET_{base}" if base[0].isdigit() else base, taken)
