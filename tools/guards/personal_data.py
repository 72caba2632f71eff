"""Personal data in texts: e-mail addresses, phone numbers, IBANs, payment cards, national identity numbers.

Numbers count only if they are possible: phone numbers by the numbering plans of `phonenumbers`, the others by their check digits, with
`python-stdnum`. Neither library downloads anything. Nothing here finds names, addresses or birthdays: that takes a model.

Phone numbers are found in their international form (`+44 ..`), and in the national form of the `countries` that a guard names. National
identity numbers whose written form tells them apart are found for every country below; numbers that are bare digits are found only for named
countries, since a tenth of all numbers of that length would pass their check digit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final

from ...errors import ToolError
from ...plans.checker.ask import PERSONAL_DATA, missing_extra
from ...plans.values import Json
from .plain_text import plain_text

TEXT_MAX: Final = 200_000  # characters that are looked through: a hostile text of this length takes seconds
PACKAGES: Final = ("phonenumbers", "python-stdnum")  # distributions that decide what is found
_CARD_DIGITS: Final = (13, 19)
_IBAN_LENGTHS: Final = (15, 34)

_NAMES: Final[Mapping[str, str]] = {
    "email": "an e-mail address",
    "phone": "a phone number",
    "iban": "an IBAN",
    "credit_card": "the number of a payment card",
    "national_id": "a national identity number",
}

# The local part is only one character here, the rest of it decides nothing: so the pattern is linear.
_EMAIL: Final = re.compile(r"""(?<=[^\s@<>()\[\]",;:])@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,63}""")
_DIGIT_GROUPS: Final = re.compile(r"(?<![0-9A-Za-z])\d{1,19}(?:[ .-]\d{1,19})*(?![0-9A-Za-z])")
_CARD: Final = re.compile(
    r"3(?:[47]\d{13}|[0689]\d{12,17}|5\d{14,17})|4\d{12}(?:\d{3}){0,2}|5\d{15}|2[2-7]\d{14}|6\d{15,18}"
)
_IBAN: Final = re.compile(r"(?<![0-9A-Za-z])[A-Za-z]{2}[ -]?\d{2}(?=(?:[ -]?[0-9A-Za-z]){11})")
_PLUS: Final = re.compile(r"\+[\d ().\-/]{6,30}")


@dataclass(frozen=True, slots=True)
class NationalId:
    """A national identity number.

    Attributes:
        module: The module of `stdnum` that knows its check digits.
        pattern: Its written form.
        is_distinct: Whether the written form tells it apart from other numbers.
    """

    country: str
    module: str
    pattern: str
    is_distinct: bool = True


NATIONAL_IDS: Final = (
    NationalId("AT", "at.vnr", r"\d{4} ?\d{6}", is_distinct=False),
    NationalId("BE", "be.nn", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}"),
    NationalId("BE", "be.nn", r"\d{11}", is_distinct=False),
    NationalId("BG", "bg.egn", r"\d{10}", is_distinct=False),
    NationalId("BR", "br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}"),
    NationalId("BR", "br.cpf", r"\d{11}", is_distinct=False),
    NationalId("CA", "ca.sin", r"\d{3}[ -]?\d{3}[ -]?\d{3}", is_distinct=False),
    NationalId("CH", "ch.ssn", r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d{2}"),
    NationalId("CN", "cn.ric", r"\d{17}[\dX]"),
    NationalId("CZ", "cz.rc", r"\d{6}/\d{3,4}"),
    NationalId("DE", "de.idnr", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", is_distinct=False),
    NationalId("DK", "dk.cpr", r"\d{6}-?\d{4}", is_distinct=False),
    NationalId("EE", "ee.ik", r"\d{11}", is_distinct=False),
    NationalId("ES", "es.dni", r"\d{8}[ -]?[A-Z]"),
    NationalId("ES", "es.nie", r"[XYZ][ -]?\d{7}[ -]?[A-Z]"),
    NationalId("FI", "fi.hetu", r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Z]"),
    NationalId("FR", "fr.nir", r"[12] ?\d{2} ?\d{2} ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}"),
    NationalId("GB", "gb.nhs", r"\d{3}[ -]?\d{3}[ -]?\d{4}", is_distinct=False),
    NationalId("HR", "hr.oib", r"\d{11}", is_distinct=False),
    NationalId("IE", "ie.pps", r"\d{7}[A-W][A-IW]?"),
    NationalId("IL", "il.idnr", r"\d{8}-?\d", is_distinct=False),
    NationalId("IN", "in_.aadhaar", r"\d{4}[ -]?\d{4}[ -]?\d{4}", is_distinct=False),
    NationalId("IN", "in_.pan", r"[A-Z]{5}\d{4}[A-Z]"),
    NationalId("IT", "it.codicefiscale", r"[A-Z]{6}[0-9A-Z]{2}[A-EHLMPRST][0-9A-Z]{2}[A-Z][0-9A-Z]{3}[A-Z]"),
    NationalId("JP", "jp.in_", r"\d{4}[ -]?\d{4}[ -]?\d{4}", is_distinct=False),
    NationalId("KR", "kr.rrn", r"\d{6}-\d{7}"),
    NationalId("LT", "lt.asmens", r"\d{11}", is_distinct=False),
    NationalId("MX", "mx.curp", r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[0-9A-Z]\d"),
    NationalId("MY", "my.nric", r"\d{6}-\d{2}-\d{4}"),
    NationalId("NL", "nl.bsn", r"\d{9}", is_distinct=False),
    NationalId("NO", "no.fodselsnummer", r"\d{6} ?\d{5}"),
    NationalId("PL", "pl.pesel", r"\d{11}", is_distinct=False),
    NationalId("RO", "ro.cnp", r"\d{13}", is_distinct=False),
    NationalId("SE", "se.personnummer", r"\d{6}(?:\d{2})?[-+]\d{4}"),
    NationalId("TH", "th.pin", r"\d-?\d{4}-?\d{5}-?\d{2}-?\d", is_distinct=False),
    NationalId("TR", "tr.tckimlik", r"\d{11}", is_distinct=False),
    NationalId("US", "us.ssn", r"\d{3}-\d{2}-\d{4}"),
    NationalId("US", "us.ssn", r"\d{9}", is_distinct=False),
    NationalId("ZA", "za.idnr", r"\d{6} ?\d{4} ?\d{2} ?\d", is_distinct=False),
)


def find_personal_data(value: Json, kinds: Sequence[str], countries: Sequence[str] = ()) -> str | None:
    """Return which kinds of personal data a value holds and where, without the data itself; `None`: none.

    Args:
        value: The value; its texts, its numbers and the names of its fields are looked through.
        kinds: The kinds that are looked for, of `PERSONAL_DATA`.
        countries: The countries (ISO 3166) whose national numbers are looked for.

    Raises:
        ToolError: A library is not installed, or the texts are too long to be looked through (`guard-failed`).
    """
    if (missing := missing_extra("personal_data")) is not None:
        raise ToolError(f"the guard 'personal_data': {missing}", code="guard-failed")
    left = TEXT_MAX
    for place, text in _texts(value, ""):
        left -= len(text)
        if left < 0:
            return f"more than {TEXT_MAX} characters, which cannot be looked through for personal data"
        plain = " ".join(plain_text(text).split())  # a number may be broken over lines
        for kind in kinds:
            if _FINDERS[kind](plain, countries):
                return f"{place or 'the value'} holds {_NAMES[kind]}"
    return None


def package_versions() -> dict[str, str]:
    """Return the versions of the libraries that decide what is found; empty where they are not installed."""
    return {name: version(name) for name in PACKAGES} if missing_extra("personal_data") is None else {}


def _texts(value: Json, place: str) -> Iterator[tuple[str, str]]:
    """Yield the texts of a value with their places. A number may be a card's, so it counts as text."""
    match value:
        case bool() | None:
            return
        case list():
            for index, item in enumerate(value):
                yield from _texts(item, f"{place}[{index}]")
        case dict():
            for index, (name, item) in enumerate(value.items()):
                yield f"the name of field {index} of {place or 'the value'}", name
                # A name of a field may be personal data itself, so only plain names are told.
                inner = f"{place}.{name}" if name.isidentifier() else f"{place}.(field {index})"
                yield from _texts(item, inner.removeprefix("."))
        case _:
            yield place, str(value)


def _has_email(text: str, _countries: Sequence[str]) -> bool:
    return "@" in text and _EMAIL.search(text) is not None


def _has_phone(text: str, countries: Sequence[str]) -> bool:
    from phonenumbers import PhoneNumberMatcher  # noqa: PLC0415  # an extra, and only for this guard

    # Without a country only what follows a `+` can be a number: the matcher is slow, and looks at nothing else.
    for found in _PLUS.finditer(text):
        if PhoneNumberMatcher(found[0], None, max_tries=TEXT_MAX).has_next():
            return True
    return any(PhoneNumberMatcher(text, country, max_tries=TEXT_MAX).has_next() for country in countries)


def _has_card(text: str, _countries: Sequence[str]) -> bool:
    from stdnum import luhn  # noqa: PLC0415  # as above

    def is_card(digits: str) -> bool:
        return _CARD.fullmatch(digits) is not None and bool(luhn.is_valid(digits))

    for run in _DIGIT_GROUPS.finditer(text):
        groups = re.split(r"[ .-]", run[0])
        # A year or an amount may stand before or after the number: every row of groups is tried.
        longest = _CARD_DIGITS[1]
        if any(_begins_with(groups[at : at + longest], _CARD_DIGITS, is_card) for at in range(len(groups))):
            return True
    return False


def _has_iban(text: str, _countries: Sequence[str]) -> bool:
    from stdnum import iban  # noqa: PLC0415  # as above
    from stdnum.iso7064 import mod_97_10  # noqa: PLC0415  # as above

    def is_valid(compact: str) -> bool:
        # The check digits first: they are cheap, and rule out nearly every candidate.
        return bool(mod_97_10.is_valid(compact[4:] + compact[:4]) and iban.is_valid(compact))

    for start in _IBAN.finditer(text):
        groups = re.findall(r"[0-9A-Za-z]+", text[start.start() : start.start() + 80])
        if _begins_with(groups, _IBAN_LENGTHS, is_valid):
            return True
    return False


def _begins_with(groups: Sequence[str], lengths: tuple[int, int], is_number: Callable[[str], bool]) -> bool:
    """Whether some of the first groups make a number, written without the characters between them.

    Args:
        groups: Groups of digits or letters.
        lengths: The least and the greatest length of such a number.
        is_number: Whether characters of such a length are one.
    """
    compact = ""
    for group in groups:
        compact += group
        if len(compact) > lengths[1]:
            return False
        if len(compact) >= lengths[0] and is_number(compact):
            return True
    return False


def _has_national_id(text: str, countries: Sequence[str]) -> bool:
    for each in NATIONAL_IDS:
        if each.is_distinct or each.country in countries:
            for found in _pattern(each.pattern).finditer(text):
                if _stdnum(each.module).is_valid(found[0].upper()):
                    return True
    return False


@cache
def _pattern(form: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![0-9A-Za-z])(?:{form})(?![0-9A-Za-z])", re.IGNORECASE)


@cache
def _stdnum(module: str) -> Any:  # noqa: ANN401  # each module of `stdnum` has its own `is_valid`
    return import_module(f"stdnum.{module}")


_FINDERS: Final[Mapping[str, Callable[[str, Sequence[str]], bool]]] = {
    "email": _has_email,
    "phone": _has_phone,
    "iban": _has_iban,
    "credit_card": _has_card,
    "national_id": _has_national_id,
}
assert tuple(_FINDERS) == PERSONAL_DATA
